# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The inputs of a model, batch by batch, from whatever `fit` takes."""

import inspect
import itertools
import numbers

import numpy as np
import tensorflow as tf

__all__ = ["Rows"]

_DATA_SETS = (tf.compat.v1.data.Dataset, tf.compat.v2.data.Dataset)
_ENDLESS = (itertools.cycle, itertools.repeat, itertools.count)


class Rows:
    """Rows that a model can be run on.

    Args:
      x: array, frame, HDF5 matrix or tensor; list, tuple or dict of such where there
        are several inputs; a Sequence, a `tf.data.Dataset` or another iterable of
        batches. Of tuples (x, y) or (x, y, sample_weight) x is taken.
      batch_size: int >= 1, rows per batch where `x` is arrays.
      steps: int >= 1, batches to take, or None for all; needed where they never end.

    Raises:
      ValueError: `batch_size` or `steps` below 1, or rows without end and no `steps`.
    """

    def __init__(self, x, batch_size=32, steps=None):
        _check_count("batch_size", batch_size)
        if steps is not None:
            _check_count("steps", steps)
        elif _is_endless(x):
            raise ValueError(
                f"steps must be given for rows without end, got None with x "
                f"{type(x).__name__}."
            )
        self._x, self._batch_size, self._steps = x, int(batch_size), steps

    @property
    def is_spent_once_read(self):
        """Whether they can be read one time only."""
        return inspect.isgenerator(self._x) or hasattr(self._x, "__next__")

    def batches(self, model):
        """Yields the inputs of each batch.

        Args:
          model: it says how many inputs there are, and the order of named ones.

        Yields:
          List of arrays, or the dict itself for a model that is called with one.

        Raises:
          ValueError: no rows, or not as many arrays as the model has inputs.
        """
        names = getattr(model, "input_names", None)
        if tf.executing_eagerly() and not getattr(model, "_is_graph_network", True):
            names = None  # a subclassed model is called with what it is given
        count = len(names) if names else None
        is_empty = True
        for batch in itertools.islice(self._found(count), self._steps):
            inputs = _named(batch, names)
            if isinstance(inputs, list) and count not in (None, len(inputs)):
                raise ValueError(
                    f"x must hold {count} arrays, one for each input of the model, "
                    f"got {len(inputs)}."
                )
            is_empty = False
            yield inputs
        if is_empty:
            raise ValueError("x must hold at least one row, got none.")

    def _found(self, count):
        """Iterates over the batches, as the user has them."""
        x = self._x
        if isinstance(x, tuple):
            x = _inputs_of_tuple(x, count)
        if isinstance(x, _DATA_SETS):
            items = iter(x) if tf.executing_eagerly() else _graph_items(x)
        elif _is_tensor(x):
            items = (tf.keras.backend.get_session().run(x) for _ in itertools.count())
        elif hasattr(x, "shape") or isinstance(x, (list, dict)):
            return _sliced(x, self._batch_size)
        elif hasattr(x, "__getitem__"):  # a Sequence
            items = (x[index] for index in range(len(x)))
        else:
            items = iter(x)
        return (item[0] if isinstance(item, tuple) else item for item in items)


def _check_count(name, value):
    is_count = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_count or value < 1:
        raise ValueError(f"{name} must be an integer above 0, got {value!r}.")


def _is_tensor(x):
    """Whether it is a tensor without a value of its own: one batch for each run."""
    return isinstance(x, tf.Tensor) and not hasattr(x, "numpy")


def _is_endless(x):
    if not isinstance(x, _DATA_SETS):
        return isinstance(x, _ENDLESS) or _is_tensor(x)
    cardinality = tf.data.experimental.cardinality(x)
    if not tf.executing_eagerly():
        with tf.compat.v1.Session(graph=cardinality.graph) as session:
            cardinality = session.run(cardinality)
    return cardinality == tf.data.experimental.INFINITE_CARDINALITY


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


def _inputs_of_tuple(x, count):
    """Of (x, y) or (x, y, sample_weight) the rows; else a tuple of inputs."""
    is_nested = isinstance(x[0], (list, tuple, dict))
    if count == len(x) > 1 and not is_nested:
        return list(x)
    if count is not None and len(x) in (2, 3) and (count == 1 or is_nested):
        return list(x[0]) if isinstance(x[0], tuple) else x[0]
    raise ValueError(
        f"x must be the model's inputs, or (x, y), got a tuple of {len(x)} that could "
        f"be either. Give the inputs as a list."
    )


def _sliced(x, batch_size):
    arrays = list(x.values()) if isinstance(x, dict) else x
    arrays = arrays if isinstance(arrays, list) else [arrays]
    arrays = [_as_rows(array) for array in arrays]
    for start in range(0, len(arrays[0]) if arrays else 0, batch_size):
        batch = [np.asarray(array[start : start + batch_size]) for array in arrays]
        yield dict(zip(x, batch)) if isinstance(x, dict) else batch


def _as_rows(array):
    """Something to be sliced, row by row."""
    if hasattr(array, "iloc"):  # a frame
        array = array.values
    if not hasattr(array, "shape"):
        array = np.asarray(array)
    if hasattr(array, "numpy"):  # an eager tensor
        array = array.numpy()
    return array


def _named(batch, names):
    """A batch's inputs in the order of the model's."""
    if isinstance(batch, dict):
        if names is None:
            return {name: np.asarray(rows) for name, rows in batch.items()}
        batch = [batch[name] for name in names]
    batch = batch if isinstance(batch, (list, tuple)) else [batch]
    arrays = [np.asarray(rows) for rows in batch]
    # as Keras does with rows of one number
    return [rows[:, None] if rows.ndim == 1 else rows for rows in arrays]
