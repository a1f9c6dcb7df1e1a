# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Batch-norm statistics of averaged weights: those of all rows, exactly.

The statistics kept while training describe weights that no longer exist. A
forward-only pass over the training rows finds the right ones by merging each
batch's count, mean and variance into those of the rows before it.
"""

import functools
import itertools
import weakref

import numpy as np
import tensorflow as tf

from swa import eager, graph, runtime
from swa.averaging import mean_dtype
from swa.layers import batch_norms_of
from swa.rows import batches


def merged_moments(first, second):
    """The moments of two sets of rows together.

        n = n1 + n2,  d = mean2 - mean1,  w = n2 / n
        mean = mean1 + d * w
        variance = variance1 + (variance2 - variance1) * w + d^2 * w * (1 - w)

    Args:
      first: (count, mean, variance): a scalar and two arrays of shape
        (channels,); the variance is that of the population (divided by n1).
      second: likewise, with a count above 0.

    Returns:
      (count, mean, variance) of both.

    Reference:
      Chan, Golub and LeVeque, 1979, Updating formulae for computing variances.
    """
    count1, mean1, variance1 = first
    count2, mean2, variance2 = second
    count = count1 + count2
    share = count2 / count
    delta = mean2 - mean1
    mean = mean1 + delta * share
    spread = delta * delta * share * (1.0 - share)
    # one small step: added in two, float32 drifts three times as much over long passes
    return count, mean, variance1 + ((variance2 - variance1) * share + spread)


def batch_moments(inputs, axes, dtype):
    """(count, mean, variance) of a layer's inputs over `axes`, as `dtype`."""
    inputs = tf.cast(inputs, dtype)
    mean = tf.reduce_mean(inputs, axes)
    centred = tf.math.squared_difference(
        inputs, tf.reduce_mean(inputs, axes, keepdims=True)
    )
    count = tf.cast(tf.size(inputs), dtype) / tf.cast(tf.size(mean), dtype)
    return count, mean, tf.reduce_mean(centred, axes)


def moments_of_ranks(counts, means, variances, sum_over_ranks):
    """The moments of the rows of all ranks, from each rank's own.

        n = sum(n_r),  mean = sum(mean_r * n_r / n)
        variance = sum((variance_r + (mean_r - mean)^2) * n_r / n)

    Deviations are taken from the common mean, which float32 can hold; a sum of
    squares minus the square of a sum cannot be.

    Args:
      counts: list of this rank's counts, one for each layer.
      means, variances: lists of this rank's arrays of shape (channels,).
      sum_over_ranks: function of a list of arrays, the sum of each over all
        ranks. It is called three times; counts are int64.

    Returns:
      (counts, means, variances) of all ranks together.
    """
    counts = [np.asarray(np.rint(count), np.int64) for count in counts]
    totals = sum_over_ranks(counts)
    shares = [
        np.asarray(count / max(total, 1), mean.dtype)  # a layer may see no row
        for count, total, mean in zip(counts, totals, means)
    ]
    common = sum_over_ranks([mean * share for mean, share in zip(means, shares)])
    spreads = [
        (variance + np.square(mean - centre)) * share
        for variance, mean, centre, share in zip(variances, means, common, shares)
    ]
    return totals, common, sum_over_ranks(spreads)


def summing(ranks):
    """The function that sums arrays over `ranks`; None for one process.

    Raises:
      ValueError: `ranks` is neither None, a function, nor an object with `sum`.
    """
    function = getattr(ranks, "sum", ranks)
    if function is None or callable(function):
        return function
    raise ValueError(
        f"ranks must be a function that sums a list of arrays over all ranks, or an "
        f"object with such a method `sum`, got {ranks!r}."
    )


class LayerStatistics:
    """The moments of one layer's inputs, merged batch after batch."""

    def __init__(self, layer, runtime):
        self.layer = layer
        shape = tuple(layer.moving_mean.shape.as_list())
        self.dtype = mean_dtype(tf.as_dtype(layer.moving_mean.dtype).base_dtype)
        self.count = runtime.variable("count", (), self.dtype)
        self.mean = runtime.variable("batch_mean", shape, self.dtype)
        self.variance = runtime.variable("batch_variance", shape, self.dtype)

    def clear(self):
        """Operations that forget all rows."""
        return [
            variable.assign(tf.zeros_like(variable.read_value()), read_value=False)
            for variable in self.moments()
        ]

    def merge(self, uses):
        """Operations that merge a batch, and give the layer the result.

        Args:
          uses: list of (inputs, axes), one for each use of the layer.
        """
        batch = functools.reduce(
            merged_moments,
            [batch_moments(inputs, axes, self.dtype) for inputs, axes in uses],
        )
        before = [variable.read_value() for variable in self.moments()]
        merged = [tf.identity(value) for value in merged_moments(before, batch)]
        with tf.control_dependencies(merged):
            updates = [
                variable.assign(value, read_value=False)
                for variable, value in zip(self.moments(), merged)
            ]
            return updates + self.set_layer(merged[1], merged[2])

    def moments(self):
        """(count, mean, variance): the variables."""
        return self.count, self.mean, self.variance

    def set_layer(self, mean, variance):
        """Operations that give the layer these statistics."""
        return [
            variable.assign(tf.cast(value, variable.dtype.base_dtype), read_value=False)
            for variable, value in zip(
                (self.layer.moving_mean, self.layer.moving_variance), (mean, variance)
            )
        ]


def check_supported(layer):
    """Raises ValueError for a layer whose statistics are of another kind."""
    for option in ("renorm", "virtual_batch_size", "adjustment"):
        if getattr(layer, option, None):
            raise ValueError(
                f"batch-norm layer {layer.name!r} must not use {option}: its "
                f"statistics cannot be re-estimated for averaged weights."
            )


class Statistics:
    """The batch-norm statistics of a model, and how to re-estimate them.

    Args:
      keras: the binding's `swa.core.Keras`.
      model: a built model.
      where: the runtime in which they live.

    Raises:
      ValueError: a layer whose statistics are of another kind.
    """

    def __init__(self, keras, model, where):
        layers = batch_norms_of(model)
        if where.graph is None:
            layers = [layer for layer in layers if layer.trainable]
        else:
            found = graph.uses(keras.updates(model), layers)
            layers = [layer for layer, inputs in zip(layers, found) if inputs]
        for layer in layers:
            check_supported(layer)
        self._keras, self._model, self._where = keras, model, where
        self._forward = self._clear = self._load = None  # made at their first use
        self.entries = [LayerStatistics(layer, where) for layer in layers]

    def __bool__(self):
        return bool(self.entries)

    def re_estimate(self, x, batch_size, sum_over_ranks=None):
        """Makes them those of the rows `x`; a forward pass, no weight changes."""
        found = batches(x, batch_size, getattr(self._model, "input_names", None))
        first = next(found)  # bad rows are refused before anything changes
        if self._forward is None:
            self._forward = self._made_forward()
            self._clear = self._where.function(lambda: tf.group(self.clear()))
        self._clear()
        self._forward.run(itertools.chain([first], found))
        self.merge_ranks(sum_over_ranks)

    def prepare_ranks(self):
        """Makes what `merge_ranks` needs, so that no later epoch makes operations."""
        if self._load is None:
            dtypes = [v.dtype.base_dtype for v in self._moments()]
            self._load = self._where.function(self._loaded, *dtypes)

    def merge_ranks(self, sum_over_ranks):
        """Makes them those of the rows of all ranks; see `moments_of_ranks`.

        Args:
          sum_over_ranks: function of a list of arrays, or None for one rank.
        """
        if sum_over_ranks is None or not self.entries:
            return
        self.prepare_ranks()
        values = self._where.read(self._moments())
        merged = moments_of_ranks(
            values[0::3], values[1::3], values[2::3], sum_over_ranks
        )
        self._load(*[value for moments in zip(*merged) for value in moments])

    def clear(self):
        """Operations that forget all rows."""
        return [operation for entry in self.entries for operation in entry.clear()]

    def set_layers(self):
        """Operations that give the layers their statistics."""
        return self._set_layers([v.read_value() for v in self._moments()])

    def _set_layers(self, values):
        operations = []
        for entry, count, *moments in zip(
            self.entries, values[0::3], values[1::3], values[2::3]
        ):
            # in eager mode a layer may see no row (the model calls it for inference
            # only): it keeps its own; a graph has no updates of such a layer
            if self._where.graph is not None or count.numpy() > 0:
                operations.extend(entry.set_layer(*moments))
        return operations

    def _moments(self):
        """The variables of all entries: count, mean, variance, count, ..."""
        return [variable for entry in self.entries for variable in entry.moments()]

    def _loaded(self, *values):
        updates = [
            variable.assign(value, read_value=False)
            for variable, value in zip(self._moments(), values)
        ]
        return tf.group(updates + self._set_layers(values))

    def _made_forward(self):
        backend, model = self._keras.backend, self._model
        if self._where.graph is None:
            return eager.ForwardPass(model, backend, self.entries)
        return graph.ForwardPass(
            model.inputs,
            self._keras.updates(model),
            backend.learning_phase(),
            self.entries,
            self._where,
        )


_STATISTICS = weakref.WeakKeyDictionary()  # model -> (place, Statistics)


def update_bn(keras, model, x, batch_size=32, ranks=None):
    """Re-estimates a model's batch-norm statistics; see the bindings."""
    sum_over_ranks = summing(ranks)
    where = runtime.of(keras)
    place, statistics = _STATISTICS.get(model, (None, None))
    if statistics is None or place is not where.graph:
        statistics = Statistics(keras, model, where)
        _STATISTICS[model] = where.graph, statistics
    if statistics:
        statistics.re_estimate(x, batch_size, sum_over_ranks)
