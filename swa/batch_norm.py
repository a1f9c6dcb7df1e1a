# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Batch-norm statistics of averaged weights: those of all rows, exactly.

The statistics kept while training describe weights that no longer exist. A
forward-only pass over the training rows finds the right ones by merging each
batch's count, mean and variance into those of the rows before it.
"""

import functools

import numpy as np
import tensorflow as tf

from swa.averaging import mean_dtype


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
    return count, mean, variance1 + (variance2 - variance1) * share + spread


def batch_moments(inputs, axes, dtype):
    """(count, mean, variance) of a layer's inputs over `axes`, as `dtype`."""
    inputs = tf.cast(inputs, dtype)
    mean = tf.reduce_mean(inputs, axes)
    centred = tf.math.squared_difference(
        inputs, tf.reduce_mean(inputs, axes, keepdims=True)
    )
    count = tf.cast(tf.size(inputs), dtype) / tf.cast(tf.size(mean), dtype)
    return count, mean, tf.reduce_mean(centred, axes)


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
            for variable in (self.count, self.mean, self.variance)
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
        before = (
            self.count.read_value(),
            self.mean.read_value(),
            self.variance.read_value(),
        )
        merged = [tf.identity(value) for value in merged_moments(before, batch)]
        with tf.control_dependencies(merged):
            updates = [
                variable.assign(value, read_value=False)
                for variable, value in zip(
                    (self.count, self.mean, self.variance), merged
                )
            ]
            return updates + self.set_layer(merged[1], merged[2])

    def set_layer(self, mean=None, variance=None):
        """Operations that give the layer its statistics."""
        values = (
            self.mean.read_value() if mean is None else mean,
            self.variance.read_value() if variance is None else variance,
        )
        return [
            variable.assign(tf.cast(value, variable.dtype.base_dtype), read_value=False)
            for variable, value in zip(
                (self.layer.moving_mean, self.layer.moving_variance), values
            )
        ]


def layers_of(model):
    """Every batch-norm layer of a model, however deep, each once."""
    found, seen, rest = [], set(), [model]
    while rest:
        item = rest.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if hasattr(item, "moving_mean") and hasattr(item, "moving_variance"):
            found.append(item)
        for name in ("_layers", "layers", "layer", "forward_layer", "backward_layer"):
            below = getattr(item, name, None) or ()
            rest.extend(below if isinstance(below, (list, tuple)) else [below])
    return found[::-1]


def check_supported(layer):
    """Raises ValueError for a layer whose statistics are of another kind."""
    for option in ("renorm", "virtual_batch_size", "adjustment"):
        if getattr(layer, option, None):
            raise ValueError(
                f"batch-norm layer {layer.name!r} must not use {option}: its "
                f"statistics cannot be re-estimated for averaged weights."
            )


def batches(x, batch_size):
    """The inputs of a model, batch by batch, as lists of arrays.

    Args:
      x: array, or list or dict of arrays (several inputs); a Sequence, a
        `tf.data.Dataset` or another iterable of batches, of which (x, y) tuples
        give x.
      batch_size: int >= 1, rows per batch where `x` is arrays.

    Raises:
      ValueError: `batch_size` below 1, or no rows in `x`.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be an integer above 0, got {batch_size!r}.")
    if isinstance(x, (np.ndarray, list, dict)):
        found = _sliced(_as_arrays(x), batch_size)
    else:
        found = (_as_arrays(_inputs_of(item)) for item in _items(x))
    is_empty = True
    for batch in found:
        is_empty = False
        yield batch
    if is_empty:
        raise ValueError("x must hold at least one row, got none.")


def _sliced(arrays, batch_size):
    for start in range(0, len(arrays[0]), batch_size):
        yield [array[start : start + batch_size] for array in arrays]


def _items(x):
    if isinstance(x, (tf.compat.v1.data.Dataset, tf.compat.v2.data.Dataset)):
        if tf.executing_eagerly():
            return iter(x)
        return _graph_items(x)
    if hasattr(x, "__getitem__"):
        return (x[index] for index in range(len(x)))
    return iter(x)


def _graph_items(dataset):
    iterator = tf.compat.v1.data.make_one_shot_iterator(dataset)
    following = iterator.get_next()
    with tf.compat.v1.Session() as session:
        while True:
            try:
                yield session.run(following)
            except tf.errors.OutOfRangeError:
                return


def _inputs_of(item):
    return item[0] if isinstance(item, tuple) else item


def _as_arrays(x):
    if isinstance(x, dict):
        x = [x[name] for name in sorted(x)]
    return [np.asarray(a) for a in (x if isinstance(x, (list, tuple)) else [x])]
