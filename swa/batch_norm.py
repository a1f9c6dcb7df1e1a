# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Batch-norm statistics of averaged weights: those of all rows, exactly.

The statistics kept while training describe weights that no longer exist. A
forward-only pass over the training rows finds the right ones: each batch's count,
mean and variance are merged with those of the rows before it.
"""

from typing import Any, Optional

import numpy as np

from swa import moments
from swa.layers import statistics_of, warn_of_unknown_statistics
from swa.rows import Rows

__all__ = ["Statistics", "re_estimated", "update_bn_of"]


class Statistics:
    """The moments of what some batch-norm layers see, merged batch after batch.

    Args:
      layers: list of batch-norm layers.
    """

    def __init__(self, layers):
        self.layers = list(layers)
        zeros = [np.zeros(layer.moving_mean.shape.as_list()) for layer in self.layers]
        self._moments = {
            layer: moments.Moments(0, zero, zero)
            for layer, zero in zip(self.layers, zeros)
        }

    def add(self, layer, count, mean, variance, is_unbiased):
        """Merges the moments of one batch.

        Args:
          layer: one of `layers`.
          count: int, values of each channel in the batch; 0 changes nothing.
          mean, variance: arrays with one value for each channel.
          is_unbiased: bool, whether the variance is divided by count - 1, as the
            fused kernel's is, and not by count.
        """
        if count == 0:
            return
        shape = self._moments[layer].mean.shape
        mean = np.asarray(mean, np.float64).reshape(shape)
        variance = np.asarray(variance, np.float64).reshape(shape)
        if is_unbiased:
            variance = variance * ((count - 1) / count)
        # a device that computes E[x^2] - E[x]^2 can round to less than zero
        batch = moments.Moments(count, mean, np.maximum(variance, 0.0))
        self._moments[layer] = moments.merged(self._moments[layer], batch)

    def merge_ranks(self, sum_over_ranks):
        """Replaces the moments by those of the rows of all ranks.

        Args:
          sum_over_ranks: function of a list of arrays, or None for one rank.
        """
        if sum_over_ranks is not None and self.layers:
            merged = moments.merged_over_ranks(self._moments.values(), sum_over_ranks)
            self._moments = dict(zip(self.layers, merged))

    def has_batches(self):
        """Whether any layer saw a batch."""
        return any(merged.count for merged in self._moments.values())

    def non_finite_layers(self):
        """List of the layers that saw NaN or Inf."""
        return [
            layer
            for layer, (_, mean, variance) in self._moments.items()
            if not np.isfinite([mean, variance]).all()
        ]

    def with_statistics(self, arrays, weights):
        """The arrays of a model's weights, the layers' statistics among them.

        Args:
          arrays: list of arrays or None, one for each of `weights`.
          weights: list of the model's variables, which may contain one twice.

        Returns:
          New list; layers that saw no row keep what `arrays` has for them.

        Raises:
          ValueError: rows with NaN or Inf, by the layer that saw them.
        """
        spoiled = self.non_finite_layers()
        if spoiled:
            raise ValueError(
                f"x must be finite rows where batch-norm layer "
                f"{spoiled[0].name!r} sees them, got NaN or Inf."
            )
        values = {}
        for layer, (count, mean, variance) in self._moments.items():
            if count:
                moving_mean, moving_variance = statistics_of(layer)
                values[id(moving_mean)] = mean
                values[id(moving_variance)] = variance
        return [
            values[id(weight)].astype(weight.dtype.as_numpy_dtype)
            if id(weight) in values
            else array
            for weight, array in zip(weights, arrays)
        ]


def re_estimated(mode, layers, arrays, *, batches, sum_over_ranks):
    """The statistics that a model's layers have on some rows, by a forward pass.

    Args:
      mode: the model's GraphMode or EagerMode, after `trained_batch_norms`.
      layers: list of batch-norm layers.
      arrays: list of arrays or None, as `Statistics.with_statistics` takes them.
      batches: iterator of `rows.Rows.batches` for the mode's model.
      sum_over_ranks: function of a list of arrays, or None.

    Returns:
      List of arrays, the statistics among them; the model is as before.

    Raises:
      ValueError: rows that cannot be used.
    """
    statistics = Statistics(layers)
    mode.forward(batches, statistics.add)
    statistics.merge_ranks(sum_over_ranks)
    return statistics.with_statistics(arrays, mode.variables)


def update_bn_of(keras):
    """Makes the function `update_bn`.

    Args:
      keras: the binding's `swa.callback.Keras`.

    Returns:
      `update_bn` for the models of this Keras.
    """

    def update_bn(
        model: Any,
        x: Any,
        batch_size: int = 32,
        ranks: Any = None,
        steps: Optional[int] = None,
    ) -> None:
        """Gives every trainable batch-norm layer the statistics of all rows of `x`.

            moving_mean = sum(z) / n,  moving_variance = sum((z - moving_mean)^2) / n

        Here z are a layer's inputs in a forward pass in training mode, n of them in
        each channel, however the rows are split into batches. No other weight changes.
        Frozen layers keep their statistics.

        Args:
          model: a built model, with weights from anywhere.
          x: array (rows x features...), frame, HDF5 matrix, scipy matrix or tensor;
            list, tuple or dict of such; a `Sequence`, a data set, or an iterable of
            batches. Of (x, y) and (x, y, sample_weight) tuples x is taken.
          batch_size: int >= 1, rows per batch where `x` is arrays.
          ranks: as of `SWA`: the statistics are those of all processes' rows.
          steps: int >= 1, batches to take of `x`; needed where `x` has no end. A
            generator cannot be asked: one without end would be read for ever.

        Raises:
          ValueError: `x` without rows, with NaN or Inf, without end and no `steps`,
            not as the model's inputs, or sparse or ragged; on an NPU, batches of
            other shapes than the first that the session ran; `batch_size` below 1; a
            layer whose statistics are of another kind; a model that cannot run in
            training mode. The model is then as before.

        Reference:
          Izmailov et al., 2018, section 3.2 (arXiv:1803.05407).
        """
        sum_over_ranks = moments.sum_function(ranks)
        rows = Rows(x, batch_size, steps)
        mode = keras.make_mode(keras, model)
        layers = mode.trained_batch_norms()
        warn_of_unknown_statistics(model)
        if layers:
            arrays = re_estimated(
                mode,
                layers,
                [None] * len(mode.variables),
                batches=rows.batches(model),
                sum_over_ranks=sum_over_ranks,
            )
            mode.put(arrays)

    return update_bn
