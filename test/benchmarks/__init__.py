# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The parts of `test/benchmark.py`: one file for each measurement."""
