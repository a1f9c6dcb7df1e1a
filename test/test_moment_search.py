# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where a graph has a layer's batch moments: assignments by hand, taken or refused."""

import pytest
from support.callback_kit import FEATURES


def plain(tf, x):
    return tf.nn.moments(x, [0])


def of_sums(tf, x):
    rows = tf.cast(tf.shape(x)[0], tf.float32)
    mean = tf.reduce_sum(x, 0) / rows
    return mean, tf.reduce_sum(tf.square(x - mean), 0) / rows


def of_squares(tf, x):
    mean = tf.reduce_mean(x, 0)
    return mean, tf.reduce_mean(tf.square(x), 0) - tf.square(mean)


def deviations(tf, x):
    mean, variance = tf.nn.moments(x, [0])
    return mean, tf.sqrt(variance)


def deviations_from_another_mean(tf, x):
    mean = tf.reduce_mean(x, 0)
    other = tf.reduce_mean(x, 1, True)
    return mean, tf.reduce_mean(tf.math.squared_difference(x, other), 0)


def deviations_not_squared(tf, x):
    mean = tf.reduce_mean(x, 0)
    return mean, tf.reduce_mean(x - mean, 0)


def mixed_with_the_features(tf, x):
    mean, variance = tf.nn.moments(x, [0])
    other, _ = tf.nn.moments(x, [1], keepdims=True)
    return 0.5 * mean + 0.5 * tf.reduce_mean(other), variance


def of_two_kernels(tf, x):
    images = tf.reshape(x, (-1, 1, 1, FEATURES))
    ones = tf.ones(FEATURES)
    kernels = [tf.nn.fused_batch_norm(images, ones, ones) for _ in range(2)]
    return kernels[0][1], kernels[1][2]


OTHERS = [
    of_sums,
    of_squares,
    deviations,
    deviations_from_another_mean,
    deviations_not_squared,
    mixed_with_the_features,
    of_two_kernels,
]


def search(kit, moments):
    """The tensor of the mean, and what the search finds of a layer moved by it."""
    import tensorflow as tf

    from swa.moment_search import batch_norm_calls

    norm = kit.keras.layers.BatchNormalization(name="moved")
    norm.build((None, FEATURES))
    mean, variance = moments(tf, tf.ones((4, FEATURES)))
    updates = []
    for variable, value in zip(
        (norm.moving_mean, norm.moving_variance), (mean, variance)
    ):
        step = (variable - value) * 0.1
        updates.append(variable.assign_sub(step, read_value=False))
    return mean, batch_norm_calls(updates, [norm])


def test_plain_moments_are_taken(tf_kit):
    mean, (call,) = search(tf_kit, plain)
    assert call.layer.name == "moved" and list(call.axes) == [0]
    assert call.mean.op.type == "Mean" and call.mean.shape.as_list() == [1, FEATURES]
    assert not call.is_unbiased


@pytest.mark.parametrize("moments", OTHERS, ids=lambda moments: moments.__name__)
def test_moments_by_another_rule_are_refused_by_name(tf_kit, moments):
    with pytest.raises(ValueError, match="'moved' must take its statistics from the"):
        search(tf_kit, moments)
