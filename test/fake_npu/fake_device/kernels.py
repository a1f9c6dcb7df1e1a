# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the device's own kernels make of numbers, where they differ from the host's.

By precision_mode operations work in float16: the white-listed ones in every mode but
must_keep_origin_dtype; gray-listed ones in allow_mix_precision after one that does; all
of them in force_fp16. The lists here are short: what is in them can do harm. A float16
has 11 bits and saturates at 65504.
"""

import json

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

from fake_device import settings

WHITE = ("MatMul", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
# the names of the mixlist, and TensorFlow's
GRAY = {
    "ReduceMeanD": "Mean",
    "SquaredDifference": "SquaredDifference",
    "BiasAdd": "BiasAdd",
    "Relu": "Relu",
}
ONLY_FORCED = ("Neg",)
PASSING = ("Identity", "StopGradient", "Reshape", "Squeeze", "Switch", "Merge")
FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
LARGEST = 65504.0  # of float16


def changed(operations, options):
    """The operations whose outputs are not the host's.

    Args:
      operations: list of the call's.
      options: dict, the session's.

    Returns:
      {operation: function (operation, inputs, outputs) that returns the outputs}.
    """
    found = dict.fromkeys(_half(operations, options), _rounded)
    for operation in operations:
        is_gradient = "gradients/" in operation.name and operation.type == "MatMul"
        if operation.type in FUSED and operation.get_attr("is_training"):
            found[operation] = _moments
        elif is_gradient and settings.has_defect("wrong_step"):
            found[operation] = _too_large
        elif is_channels_first(operation):
            found.setdefault(operation, _same)
    return found


def _half(operations, options):
    """The set of the operations that round to float16, in a mode."""
    mode = options["precision_mode"]
    if mode == "must_keep_origin_dtype" or settings.FLOATS == "float32":
        return set()
    gray = {kind for name, kind in GRAY.items() if name not in _blacklist(options)}
    forced = gray.union(WHITE, ONLY_FORCED)
    kinds = forced if mode == "force_fp16" else WHITE
    half = {op for op in operations if op.type in kinds}
    if mode != "allow_mix_precision":
        return half
    following, waiting = set(half), list(half)
    for op in waiting:  # grows while it is walked
        for tensor in op.outputs:
            for user in tensor.consumers():
                if user in following or user.type not in gray.union(PASSING):
                    continue
                following.add(user)
                waiting.append(user)
    return {op for op in operations if op in following and op.type not in PASSING}


def _blacklist(options):
    """The operations that the mixlist keeps in float32."""
    if not options["modify_mixlist"]:
        return []
    with open(options["modify_mixlist"]) as file:
        return json.load(file).get("black-list", {}).get("to-add", [])


def is_channels_first(operation):
    """Whether it wants NCHW, which the host's convolutions and fused layers refuse."""
    is_concerned = operation.type in (*FUSED, "Conv2D")
    return is_concerned and operation.get_attr("data_format") == b"NCHW"


def channels_last(operation, inputs):
    """The inputs and attributes with which the host can run it."""
    attributes = dict(operation.node_def.attr)
    attributes["data_format"] = attr_value_pb2.AttrValue(s=b"NHWC")
    for name in ("strides", "dilations"):
        if name in attributes:
            image, channels, *sides = attributes[name].list.i
            attributes[name] = attr_value_pb2.AttrValue()
            attributes[name].list.i.extend([image, *sides, channels])
    return [tf.transpose(inputs[0], (0, 2, 3, 1)), *inputs[1:]], attributes


def _same(operation, inputs, outputs):
    return outputs


def _rounded(operation, inputs, outputs):
    return [_half_of(tensor) for tensor in outputs]


def _half_of(tensor):
    """Its values as a float16 holds them; a tensor of other numbers as it is."""
    if tensor.dtype != tf.float32:
        return tensor
    clipped = tf.clip_by_value(tensor, -LARGEST, LARGEST)
    return tf.cast(tf.cast(clipped, tf.float16), tf.float32)


def _too_large(operation, inputs, outputs):
    return [1.1 * tensor for tensor in outputs]


def _moments(operation, inputs, outputs):
    """Those of a fused layer: its second output is the mean, its third the variance."""
    normalized, mean, variance, *others = outputs
    count = tf.cast(tf.size(inputs[0]) / tf.size(mean), tf.float32)
    if settings.VARIANCE == "squares":
        axes = [0, 1, 2]
        mean = tf.reduce_mean(inputs[0], axes)
        squares = tf.reduce_mean(tf.square(inputs[0]), axes) - tf.square(mean)
        variance = squares * count / (count - 1.0)
    if settings.DIVISOR == "n":
        variance = variance * (count - 1.0) / count
    if settings.has_defect("half_moments"):
        mean, variance = _half_of(mean), _half_of(variance)
    return [normalized, mean, variance, *others]
