# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The inputs of a model, batch by batch, from whatever a user trains on."""

import numpy as np
import tensorflow as tf


def batches(x, batch_size, names=None):
    """The inputs of a model, batch by batch, as lists of arrays.

    Args:
      x: array, or list or dict of arrays (several inputs); a Sequence, a
        `tf.data.Dataset` or another iterable of batches, of which (x, y) tuples
        give x.
      batch_size: int >= 1, rows per batch where `x` is arrays.
      names: the model's input names, in which order a dict is taken; None: sorted.

    Raises:
      ValueError: `batch_size` below 1, or no rows in `x`.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be an integer above 0, got {batch_size!r}.")
    if isinstance(x, (np.ndarray, list, dict)):
        found = _sliced(_as_arrays(x, names), batch_size)
    else:
        found = (_as_arrays(_inputs_of(item), names) for item in _items(x))
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
    # no `with`: while this generator waits, Keras would take its session
    session = tf.compat.v1.Session()
    try:
        while True:
            yield session.run(following)
    except tf.errors.OutOfRangeError:
        return
    finally:
        session.close()


def _inputs_of(item):
    return item[0] if isinstance(item, tuple) else item


def _as_arrays(x, names):
    if isinstance(x, dict):
        x = [x[name] for name in names or sorted(x)]
    return [np.asarray(a) for a in (x if isinstance(x, (list, tuple)) else [x])]
