# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The network: Dense - BatchNormalization - Dense, compiled with SGD."""

import tensorflow as tf


def build(config, num_features, wrap_optimizer=None):
    """Returns the compiled model.

    Args:
      config: Config; `hidden_units`, `num_classes` (labels are integers: no one-hot
        rows), `learning_rate`, `momentum`.
      num_features: int, of the rows.
      wrap_optimizer: function of an optimizer that returns the one to compile, or
        None.
    """
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Dense(
                config.hidden_units, activation="relu", input_shape=(num_features,)
            ),
            layers.BatchNormalization(),
            layers.Dense(config.num_classes, activation="softmax"),
        ]
    )
    optimizer = tf.keras.optimizers.SGD(config.learning_rate, momentum=config.momentum)
    model.compile(
        wrap_optimizer(optimizer) if wrap_optimizer else optimizer,
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
