# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The trainer behind `train-tf.keras-npu.py`: settings, device, data, model, run."""
