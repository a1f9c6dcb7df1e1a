# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What only the tests need: processes on the fake NPU, processes of a trained rank."""
