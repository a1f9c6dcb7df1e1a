# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The network: Dense - BatchNormalization - Dense, compiled with SGD."""

import tensorflow as tf


def build(config, num_features, wrap_optimizer=lambda optimizer: optimizer):
    """Returns the compiled model.

    Args:
      config: Config; `hidden_units`, `num_classes` (labels are integers: no one-hot
        rows), `learning_rate`, `momentum`.
      num_features: int, of the rows.
      wrap_optimizer: function of an optimizer that returns the one to compile.
    """
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Dense(config.hidden_units, "relu", input_shape=(num_features,)),
            layers.BatchNormalization(),
            layers.Dense(config.num_classes, "softmax"),
        ]
    )
    optimizer = tf.keras.optimizers.SGD(config.learning_rate, momentum=config.momentum)
    optimizer = wrap_optimizer(optimizer)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
