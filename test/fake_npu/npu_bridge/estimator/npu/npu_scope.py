# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Scopes that mark the operations made in them."""

import contextlib

import tensorflow as tf
from fake_device import settings
from tensorflow.core.framework import attr_value_pb2


def _marked(name, value):
    return tf.compat.v1.get_default_graph()._attr_scope({name: value})


def without_npu_compile_scope():
    """Operations for the host; it counts with mix_compile_mode only."""
    return _marked("_without_npu_compile", attr_value_pb2.AttrValue(b=True))


@contextlib.contextmanager
def npu_variable_scope(placement):
    """Where variables stand."""
    value = attr_value_pb2.AttrValue(s=placement.encode())
    with _marked("_variable_placement", value):
        yield


if settings.since("1.2"):

    def keep_dtype_scope():
        """Operations that keep their dtype; the mark is an int from r1.6 on."""
        as_int = settings.since("1.6")
        value = dict(i=1) if as_int else dict(b=True)
        return _marked("_keep_dtype", attr_value_pb2.AttrValue(**value))
