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
from swa.layers import batch_norms_of, statistics_of
from swa.rows import Rows


class Statistics:
    """The moments of what some batch-norm layers see, merged batch after batch.

    Args:
      layers: list of batch-norm layers.
    """

    def __init__(self, layers):
        self.layers = list(layers)
        zeros = [np.zeros(layer.moving_mean.shape.as_list()) for layer in self.layers]
        none = [moments.Moments(0, zero, zero) for zero in zeros]
        self._moments, self._is_given = dict(zip(self.layers, none)), False

    def add(self, layer, count, mean, variance, is_unbiased):
        """Merges the moments of one batch.

        Args:
          layer: one of `layers`.
          count: int, values of each channel in the batch; 0: they do not count.
          mean, variance: arrays with one value for each channel.
          is_unbiased: bool, whether the variance is divided by count - 1, as the
            fused kernel's is, and not by count.
        """
        self._is_given = True
        if not count:
            return
        shape = self._moments[layer].mean.shape
        mean, variance = [np.asarray(m, "f8").reshape(shape) for m in (mean, variance)]
        variance = variance * ((count - 1) / count) if is_unbiased else variance
        batch = moments.Moments(count, mean, variance)
        self._moments[layer] = moments.merged(self._moments[layer], batch)

    def merge_ranks(self, sum_over_ranks):
        """Makes them those of the rows of all ranks, in the order of `layers`.

        Args:
          sum_over_ranks: function of a list of arrays, or None for one rank.
        """
        if sum_over_ranks is not None and self.layers:
            merged = moments.merged_over_ranks(self._moments.values(), sum_over_ranks)
            self._moments = dict(zip(self.layers, merged))

    def saw_rows(self):
        """Whether any layer saw a row, be it one that does not count."""
        return self._is_given or any(one.count for one in self._moments.values())

    def spoiled(self):
        """List of the layers that saw NaN or Inf."""
        return [
            layer
            for layer, (_, *moments_of) in self._moments.items()
            if not np.isfinite(moments_of).all()
        ]

    def filled_in(self, arrays, weights):
        """The arrays of a model's weights, the layers' statistics among them.

        Args:
          arrays: list of arrays or None, one for each of `weights`.
          weights: list of the model's variables.

        Returns:
          New list; layers that saw no row keep what `arrays` has for them.

        Raises:
          ValueError: rows with NaN or Inf, by the layer that saw them.
        """
        for layer in self.spoiled():
            raise ValueError(
                f"x must be finite rows where batch-norm layer "
                f"{layer.name!r} sees them, got NaN or Inf."
            )
        places = {id(variable): index for index, variable in enumerate(weights)}
        filled = list(arrays)
        for layer, (count, *values) in self._moments.items():
            for variable, value in zip(statistics_of(layer), values if count else ()):
                dtype = variable.dtype.as_numpy_dtype
                filled[places[id(variable)]] = value.astype(dtype)
        return filled


def re_estimated(step, layers, arrays, *, batches, sum_over_ranks):
    """The statistics that a model's layers have on some rows, by a forward pass.

    Args:
      step: the model's step, of `swa.steps`, which has found the layers.
      layers: list of batch-norm layers.
      arrays: list of arrays or None, as `Statistics.filled_in` takes them.
      batches: of rows.Rows for the step's model.
      sum_over_ranks: function of a list of arrays, or None.

    Returns:
      List of arrays, the statistics among them; the model is as before.

    Raises:
      ValueError: rows that cannot be used.
    """
    statistics = Statistics(layers)
    step.forward(batches, statistics.add)
    statistics.merge_ranks(sum_over_ranks)
    return statistics.filled_in(arrays, step.variables)


def update_bn_of(keras):
    """The function `update_bn` for the models of a binding's Keras."""

    def update_bn(
        model: Any,
        x: Any,
        batch_size: int = 32,
        ranks: Any = None,
        steps: Optional[int] = None,
    ) -> None:
        """Gives every trainable batch-norm layer the statistics of all rows of `x`.

        mean and (population) variance of each layer's inputs, whatever the batches;
        one forward pass in training mode, no other weight changes. Frozen layers are
        left as they are.

        Args:
          model: a built model, with weights from anywhere.
          x: array (rows x features...), frame, HDF5 matrix or tensor; list, tuple or
            dict of such; a `Sequence`, a data set, or an iterable of batches. Of
            (x, y) and (x, y, sample_weight) tuples x is taken.
          batch_size: int >= 1, rows per batch where `x` is arrays.
          ranks: as of `SWA`: the statistics are those of all processes' rows.
          steps: int >= 1, batches to take of `x`; needed where `x` has no end (a
            generator, which cannot be asked, would be read for ever).

        Raises:
          ValueError: `x` without rows, with NaN or Inf, without end and no `steps`,
            not as the model's inputs or, on an NPU, with batches of unequal size;
            `batch_size` below 1; a layer whose statistics are of another kind; a
            model that cannot run in training mode. The model is then as before.

        Reference:
          Izmailov et al., 2018, section 3.2 (arXiv:1803.05407).
        """
        sum_over_ranks, rows = moments.sum_function(ranks), Rows(x, batch_size, steps)
        step = keras.mode(keras, model)
        layers, arrays = step.trained_batch_norms(), [None] * len(step.variables)
        if layers:
            options = dict(batches=rows.batches(model), sum_over_ranks=sum_over_ranks)
            arrays = re_estimated(step, layers, arrays, **options)
            step.put(arrays)
        is_idle = all(array is None for array in arrays) and not step.runs_training
        trained = batch_norms_of(model, trained=True)
        if is_idle and trained:
            raise ValueError(
                f"model must run batch normalization in training mode, got "
                f"{model.name!r}, whose {trained[0].name!r} does not. Call predict() "
                f"once if it is subclassed, fix no learning phase, or freeze it."
            )

    return update_bn
