# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback that makes several ranks train one model."""

import tensorflow as tf

from swa.layers import batch_norms_of

_backend = tf.compat.v1.keras.backend


class EqualRanks(tf.keras.callbacks.Callback):
    """What averaged gradients do not do: equal beginnings, and equal moving statistics.

    Args:
      ranks: Ranks.
    """

    def __init__(self, ranks):
        super().__init__()
        self._ranks = ranks

    def on_train_begin(self, logs=None):
        """Hands out rank 0's weights and optimizer state, before the first batch.

        Otherwise that step's gradients would be means over different weights.
        """
        model = self.model
        model._make_train_function()  # makes the optimizer's slots
        variables = model.weights + model.optimizer.weights
        values = self._ranks.broadcast(_backend.batch_get_value(variables))
        _backend.batch_set_value(list(zip(variables, values)))
        layers = [layer for layer in batch_norms_of(model) if layer.trainable]
        self._statistics = [layer.moving_mean for layer in layers]
        self._statistics += [layer.moving_variance for layer in layers]

    def on_epoch_end(self, epoch, logs=None):
        """Takes the means of the moving statistics, which each rank had for itself.

        So whatever is averaged, saved or measured after an epoch is the same on all
        ranks, and a run that is resumed is the run that was not interrupted.
        """
        totals = self._ranks.sum(_backend.batch_get_value(self._statistics))
        means = [total / self._ranks.size for total in totals]
        _backend.batch_set_value(list(zip(self._statistics, means)))
