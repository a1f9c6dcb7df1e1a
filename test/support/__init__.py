# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What only the tests need: launchers of a stub, processes on the fake NPU, ranks."""

import pytest

pytest.register_assert_rewrite("support.callback_kit")
