# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the launchers do once there is a Python: options, plan, ranks, log, results."""
