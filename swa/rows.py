# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The inputs of a model, batch by batch, from whatever `fit` takes."""

import contextlib
import itertools

import numpy as np
import tensorflow as tf

from swa.schedules import check_count

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
      name: str, what messages call `x`.

    Attributes:
      is_spent_once_read: bool, whether they can be read one time only.

    Raises:
      ValueError: `batch_size` or `steps` below 1, or rows without end and no `steps`.
    """

    def __init__(self, x, batch_size=32, steps=None, name="x"):
        check_count("batch_size", batch_size, 1)
        if steps is not None:
            check_count("steps", steps, 1)
        elif _is_endless(x):
            raise ValueError(
                f"steps must be given for rows without end, got None for "
                f"x of type {type(x).__name__}."
            )
        self._x, self._batch_size, self._steps = x, int(batch_size), steps
        self._name = name
        self.is_spent_once_read = hasattr(x, "__next__")

    def batches(self, model):
        """The inputs of each batch.

        Args:
          model: it says how many inputs there are, and the order of named ones.

        Returns:
          Iterator of lists of arrays, or of dicts for a subclassed model in eager mode.

        Raises:
          ValueError: on an NPU, arrays that do not fill their last batch; while it is
            read: no rows, not as many arrays as the model has inputs or, on an NPU, a
            batch of other size than the first.
        """
        names = getattr(model, "input_names", None)
        if tf.executing_eagerly() and not getattr(model, "_is_graph_network", True):
            names = None  # it is called with what it is given
        found = itertools.islice(self._found(len(names or ())), self._steps)
        inputs = enumerate(tf.nest.flatten(getattr(model, "inputs", None) or ()))
        scalars = {i for i, one in inputs if one.shape.rank == 1}
        return self._inputs(found, names, scalars)

    def _inputs(self, found, names, scalars):
        """Yields each batch found as a model with inputs of these names takes it.

        `scalars` are the places of the inputs with one value a row, without an axis.
        """
        batch, size = None, None
        for batch in found:
            if isinstance(batch, dict) and names:
                batch = [batch[name] for name in names]
            if isinstance(batch, dict):
                yield {name: np.asarray(rows) for name, rows in batch.items()}
                continue
            batch = batch if isinstance(batch, (list, tuple)) else [batch]
            if names and len(batch) != len(names):
                raise ValueError(
                    f"x must hold {len(names)} arrays, one for each input "
                    f"of the model, got {len(batch)}."
                )
            arrays = [np.asarray(rows) for rows in batch]
            size = size or len(arrays[0])
            if len(arrays[0]) != size and has_static_shapes():
                self._refuse(f"batches of {size} and {len(arrays[0])}")
            yield [
                a[:, None] if a.ndim == 1 and i not in scalars else a
                for i, a in enumerate(arrays)
            ]  # as Keras does
        if batch is None:
            kind = type(self._x).__name__
            raise ValueError(f"x must hold at least one row, got none in a {kind}.")

    def _found(self, inputs):
        """Iterates over the batches of a model of so many inputs; 0: not known."""
        x = _rows_of_tuple(self._x, inputs) if isinstance(self._x, tuple) else self._x
        if isinstance(x, _DATA_SETS):
            items = iter(x) if tf.executing_eagerly() else _graph_items(x)
        elif _is_symbolic(x):
            items = (tf.keras.backend.get_session().run(x) for _ in itertools.count())
        elif hasattr(x, "shape") or isinstance(x, (list, dict)):
            items = self._sliced(x)
        else:  # a Sequence, or an iterable
            is_indexed = hasattr(x, "__getitem__")
            items = (x[i] for i in range(len(x))) if is_indexed else iter(x)
        return (item[0] if isinstance(item, tuple) else item for item in items)

    def _sliced(self, x):
        """Iterates over the batches of arrays."""
        parts = list(x.values()) if isinstance(x, dict) else x
        parts = parts if isinstance(parts, list) else [parts]
        parts = [getattr(part, "values", part) for part in parts]  # of frames
        parts = [part if hasattr(part, "shape") else np.asarray(part) for part in parts]
        size, count = self._batch_size, len(parts[0]) if parts else 0
        is_last_short = 0 < count // size < (self._steps or count) and count % size
        if is_last_short and has_static_shapes():
            self._refuse(f"{count} rows for batch_size {size}")
        slices = [slice(start, start + size) for start in range(0, count, size)]
        batches = ([np.asarray(part[one]) for part in parts] for one in slices)
        return (dict(zip(x, b)) if isinstance(x, dict) else b for b in batches)

    def _refuse(self, got):
        raise ValueError(
            f"{self._name} must give batches of equal size on an NPU, got "
            f"{got}. Choose a batch_size that divides the rows, or leave "
            f"some out."
        )


def has_static_shapes():
    """Whether Keras's session is an NPU's: a graph has the shapes of its first call."""
    session = None if tf.executing_eagerly() else tf.keras.backend.get_session()
    config = getattr(session, "_config", None) or tf.compat.v1.ConfigProto()
    optimizers = config.graph_options.rewrite_options.custom_optimizers
    maps = [one.parameter_map for one in optimizers if one.name == "NpuOptimizer"]
    # to read a key that is not there would make an entry of it
    return any("dynamic_input" not in m or not m["dynamic_input"].b for m in maps)


def _is_symbolic(x):
    """Whether it is a tensor without a value of its own: a batch for each run."""
    return isinstance(x, tf.Tensor) and not hasattr(x, "numpy")


def _is_endless(x):
    if not isinstance(x, _DATA_SETS):
        return isinstance(x, _ENDLESS) or _is_symbolic(x)
    cardinality = tf.data.experimental.cardinality(x)
    if not tf.executing_eagerly():
        with tf.compat.v1.Session(graph=cardinality.graph) as session:
            cardinality = session.run(cardinality)
    return cardinality == tf.data.experimental.INFINITE_CARDINALITY


def _graph_items(dataset):
    following = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
    ended = contextlib.suppress(tf.errors.OutOfRangeError)
    # `closing`: while this generator waits, Keras would take a session that is entered
    with ended, contextlib.closing(tf.compat.v1.Session()) as session:
        while True:
            yield session.run(following)


def _rows_of_tuple(x, inputs):
    """Of (x, y) or (x, y, sample_weight) the rows; else a tuple of inputs."""
    is_nested = isinstance(x[0], (list, tuple, dict))
    if inputs == len(x) > 1 and not is_nested:
        return list(x)
    if len(x) in (2, 3) and inputs and (inputs == 1 or is_nested):
        return list(x[0]) if isinstance(x[0], tuple) else x[0]
    raise ValueError(
        f"x must be the model's inputs or (x, y), got a tuple of {len(x)} "
        f"that could be either. Give inputs as a list."
    )
