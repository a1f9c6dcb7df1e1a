# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The handle of the adapter's shared library."""

version = "v1.15.0"
npu_bridge_handle = object()


def get_gen_ops():
    """The generated operations; the fake has none."""
    return npu_bridge_handle
