# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Operations of the device alone; the fake has none."""

npu_unary_ops = None
