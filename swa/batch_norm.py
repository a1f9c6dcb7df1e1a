# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Batch-norm statistics of averaged weights: those of all rows, exactly.

The statistics kept while training describe weights that no longer exist. A
forward-only pass over the training rows finds the right ones: each batch's count,
mean and variance are merged with those of the rows before it.
"""

import numpy as np

from swa import moments, rows
from swa.steps import step_of

__all__ = ["Statistics", "re_estimate", "update_bn"]


class Statistics:
    """The moments of what some batch-norm layers see, merged batch after batch.

    Args:
      layers: list of batch-norm layers.
    """

    def __init__(self, layers):
        self.layers = list(layers)
        self._moments = {}  # moments.Moments by layer, of those that saw rows

    def add(self, layer, count, mean, variance, is_unbiased):
        """Merges the moments of one batch.

        Args:
          layer: one of `layers`.
          count: int, values of each channel in the batch.
          mean, variance: arrays with one value for each channel.
          is_unbiased: bool, whether the variance is divided by count - 1, as the
            fused kernel's is, and not by count.
        """
        if not count:
            return
        shape = tuple(layer.moving_mean.shape.as_list())
        mean, variance = [np.float64(one).reshape(shape) for one in (mean, variance)]
        if is_unbiased:
            variance = variance * ((count - 1) / count)
        batch = moments.Moments(count, mean, variance)
        self._moments[layer] = moments.merged(self._moments.get(layer), batch)

    def merge_ranks(self, sum_over_ranks):
        """Makes them those of the rows of all ranks, in the order of `layers`.

        Args:
          sum_over_ranks: function of a list of arrays, or None for one rank.
        """
        if sum_over_ranks is None or not self.layers:
            return
        own = [self._moments.get(layer) or _nothing(layer) for layer in self.layers]
        merged = moments.merged_over_ranks(own, sum_over_ranks)
        self._moments = {
            layer: one for layer, one in zip(self.layers, merged) if one.count
        }

    @property
    def are_finite(self):
        """Whether no row held NaN or Inf where a layer saw it."""
        return not self._spoiled()

    def filled_in(self, arrays, variables):
        """The arrays of a model's weights, the layers' statistics among them.

        Args:
          arrays: list of arrays or None, one for each of `variables`.
          variables: list of the model's weights.

        Returns:
          New list; layers that saw no row keep what `arrays` has for them.

        Raises:
          ValueError: rows with NaN or Inf, by the layer that saw them.
        """
        for layer in self._spoiled():
            raise ValueError(
                f"the rows must be finite where batch-norm layer {layer.name!r} sees "
                f"them, got NaN or Inf."
            )
        places = {id(variable): index for index, variable in enumerate(variables)}
        filled = list(arrays)
        for layer, (_, mean, variance) in self._moments.items():
            found = (layer.moving_mean, mean), (layer.moving_variance, variance)
            for variable, value in found:
                dtype = variable.dtype.as_numpy_dtype
                filled[places[id(variable)]] = value.astype(dtype)
        return filled

    def _spoiled(self):
        return [
            layer
            for layer, (_, mean, variance) in self._moments.items()
            if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(variance)))
        ]


def _nothing(layer):
    zeros = np.zeros(tuple(layer.moving_mean.shape.as_list()))
    return moments.Moments(0, zeros, zeros)


def re_estimate(step, layers, arrays, *, given, sum_over_ranks=None):
    """Gives a model's layers the statistics of some rows, by a forward pass.

    Args:
      step: the model's step, of `swa.steps`, which has found the layers.
      layers: list of batch-norm layers.
      arrays: list of arrays or None, as `Statistics.filled_in` takes them.
      given: rows.Rows.
      sum_over_ranks: function of a list of arrays, or None.

    Returns:
      List of arrays: what was put into the model, None where nothing was.

    Raises:
      ValueError: rows that cannot be used; the model is then as before.
    """
    statistics = Statistics(layers)
    step.forward(given.batches(step.model), statistics)
    statistics.merge_ranks(sum_over_ranks)
    filled = statistics.filled_in(arrays, step.variables)
    step.put(filled)
    return filled


def update_bn(keras, model, x, *, batch_size=32, ranks=None, steps=None):
    """Re-estimates a model's batch-norm statistics; see the bindings."""
    sum_over_ranks = moments.summing(ranks)
    given = rows.Rows(x, batch_size, steps)
    step = step_of(keras, model)
    layers = step.find()
    if layers:
        nothing = [None] * len(step.variables)
        re_estimate(step, layers, nothing, given=given, sum_over_ranks=sum_over_ranks)
