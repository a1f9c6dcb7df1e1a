# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The operations that bring the system up and down."""

import tensorflow as tf
from fake_device import graphs
from tensorflow.core.framework import attr_value_pb2


def _system(what, name):
    operation = tf.no_op(name=name or what + "_system")
    value = attr_value_pb2.AttrValue(s=what.encode())
    operation._set_attr(graphs.SYSTEM_ATTRIBUTE, value)
    return operation


def initialize_system(name=None):
    """Returns the operation that, run in an NPU session, brings HCCL up."""
    return _system("initialize", name)


def shutdown_system(name=None):
    """Returns the operation that takes HCCL down."""
    return _system("shutdown", name)


def dropout(x, keep_prob, noise_shape=None, seed=None, name=None):
    """TensorFlow's own."""
    return tf.nn.dropout(x, rate=1 - keep_prob, noise_shape=noise_shape, seed=seed)


def LARSV2(*args, **kwargs):
    """Not faked."""
    raise NotImplementedError("the fake has no LARSV2")
