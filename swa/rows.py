# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The inputs of a model, batch by batch, from whatever `fit` takes."""

import contextlib
import itertools
import weakref

import numpy as np
import tensorflow as tf
from tensorflow.python.keras.backend import get_session  # `tf.keras` warns of its own
from tensorflow.python.keras.engine import training_utils

from swa.schedules import check_count

__all__ = ["Rows", "check_shapes", "has_static_shapes", "is_endless"]

_ENDLESS = (itertools.cycle, itertools.repeat, itertools.count)
_SPARSE = (
    tf.SparseTensor,
    tf.RaggedTensor,
    tf.compat.v1.SparseTensorValue,
    tf.compat.v1.ragged.RaggedTensorValue,
)

# For each session the shapes that each set of fetches was first run with
_FIRST_SHAPES = weakref.WeakKeyDictionary()


class Rows:
    """Rows that a model can be run on.

    Args:
      x: array (rows x features...), frame, scipy matrix, HDF5 matrix or tensor; list,
        tuple or dict of such where there are several inputs; a Sequence, a
        `tf.data.Dataset` or another iterable of batches. Of (x, y) and
        (x, y, sample_weight) tuples x is taken.
      batch_size: int >= 1, rows per batch where `x` is arrays.
      steps: int >= 1, batches to take, or None for all; needed where they never end.
      name: str, what messages call `x`.

    Attributes:
      is_spent_once_read: bool, whether they can be read only once.

    Raises:
      ValueError: `batch_size` or `steps` below 1, or rows without end and no `steps`.
    """

    def __init__(self, x, batch_size=32, steps=None, name="x"):
        check_count("batch_size", batch_size, 1)
        if steps is not None:
            check_count("steps", steps, 1)
        elif is_endless(x):
            raise ValueError(
                f"steps must be given for rows without end, got None for {name} of "
                f"type {type(x).__name__}."
            )
        self._x = x
        self._batch_size = int(batch_size)
        self._steps = steps
        self._name = name
        self.is_spent_once_read = hasattr(x, "__next__")

    def batches(self, model):
        """The batches, as Keras gives them to a model.

        What can be told without reading is refused by this call, the rest while the
        batches are read.

        Args:
          model: its inputs say how many arrays a batch has, and their order.

        Returns:
          Iterator of lists of arrays, one for each input, in the order of
          `tf.nest.flatten(model.inputs)`; for a subclassed model that has no inputs
          yet, lists or dicts, as the rows are.

        Raises:
          ValueError: sparse or ragged rows or inputs; arrays of unequal length; on an
            NPU, arrays that do not fill their last batch; while the batches are read:
            none at all, or one that does not fit the inputs.
        """
        names = getattr(model, "_feed_input_names", ())
        for tensor in model.inputs or []:
            self._refuse_sparse(tensor)
        batches = itertools.islice(self._batches(len(names)), self._steps)
        return self._standardized(batches, model, names)

    def _standardized(self, batches, model, names):
        is_empty = True
        for batch in batches:
            is_empty = False
            arrays = tf.nest.map_structure(_dense, self._parts(batch))
            if names and isinstance(arrays, list) and len(arrays) != len(names):
                raise ValueError(  # Keras would use the first arrays alone
                    f"{self._name} must hold {len(names)} array(s), one for each input "
                    f"of the model, got {len(arrays)}."
                )
            if names:
                shapes = model._feed_input_shapes if model._is_graph_network else None
                arrays = training_utils.standardize_input_data(
                    arrays,
                    names,
                    shapes,
                    check_batch_axis=False,
                    exception_prefix="input",
                )
            yield arrays
        if is_empty:
            raise ValueError(
                f"{self._name} must hold at least one row, got none in a "
                f"{type(self._x).__name__}."
            )

    def _batches(self, input_count):
        """Iterates over the batches; `input_count` is 0 where it is not known yet."""
        x = self._x
        if _is_tuple(x):
            x = self._x_of_tuple(x, input_count)
        if isinstance(x, tf.compat.v2.data.Dataset) and not tf.executing_eagerly():
            items = _graph_items(x)
        elif _is_symbolic(x):
            session = get_session()
            items = (session.run(x) for _ in itertools.count())
        elif hasattr(x, "shape") or isinstance(x, (list, tuple, dict)):
            items = self._slices(x)
        else:  # a Sequence, or another iterable
            items = iter(x)
        return (item[0] if _is_tuple(item) else item for item in items)

    def _slices(self, x):
        """Iterates over the batches of arrays."""
        arrays = self._parts(x)
        size = self._batch_size
        counts = [int(array.shape[0]) for array in tf.nest.flatten(arrays)]
        count = max(counts, default=0)
        if len(set(counts)) > 1:
            raise ValueError(
                f"{self._name} must hold arrays with equally many rows, got {counts}."
            )
        starts = range(0, count, size)[: self._steps]
        is_last_short = len(starts) > 1 and starts[-1] + size > count
        if is_last_short and has_static_shapes():
            _refuse_unequal_batches(self._name, f"{count} rows for batch_size {size}")
        return (_slice_of(arrays, start, start + size) for start in starts)

    def _parts(self, x):
        """The parts of `x` as things to slice: dict of a dict's, else list."""
        if isinstance(x, dict):
            return dict(zip(x, self._parts(list(x.values()))))
        if not (isinstance(x, list) or _is_tuple(x)):
            x = [x]
        parts = []
        for part in x:
            self._refuse_sparse(part)
            part = getattr(part, "values", part)  # of a frame
            if hasattr(part, "tocsr"):
                part = part.tocsr()  # the one of scipy's that has row slices
            elif not hasattr(part, "shape"):
                part = np.asarray(part)
            parts.append(part)
        return parts

    def _refuse_sparse(self, part):
        if isinstance(part, _SPARSE):
            raise ValueError(
                f"{self._name} must be dense rows for dense inputs, got a "
                f"{type(part).__name__}. Make both dense; only fit takes others."
            )

    def _x_of_tuple(self, x, input_count):
        """Of (x, y) or (x, y, sample_weight) the rows; else a tuple of inputs."""
        is_nested = bool(x) and isinstance(x[0], (list, tuple, dict))
        if len(x) == input_count and not is_nested:
            return x
        if len(x) in (2, 3) and (input_count == 1 or is_nested):
            return x[0]
        raise ValueError(
            f"{self._name} must be the model's inputs or (x, y), got a tuple of "
            f"{len(x)} that could be either. Give inputs as a list."
        )


def has_static_shapes():
    """Whether Keras's session is that of an Ascend NPU.

    Its compiler fixes the shapes of a graph at the first call.
    """
    if tf.executing_eagerly():
        return False
    session = get_session()
    config = getattr(session, "_config", None) or tf.compat.v1.ConfigProto()
    optimizers = config.graph_options.rewrite_options.custom_optimizers
    maps = [item.parameter_map for item in optimizers if item.name == "NpuOptimizer"]
    # `in` first, because reading a missing key of a protobuf map would add it
    return any("dynamic_input" not in m or not m["dynamic_input"].b for m in maps)


def check_shapes(session, fetches, arrays):
    """Refuses a batch whose shapes an NPU's graph cannot take.

    Args:
      session: the `tf.compat.v1.Session` that is to run the batch.
      fetches: list of the tensors that it is to fetch.
      arrays: list of the batch's arrays.

    Raises:
      ValueError: on an NPU, other shapes than this session first ran `fetches` with.
    """
    names = tuple(tensor.name for tensor in fetches)
    shapes = [array.shape for array in arrays]
    first = _FIRST_SHAPES.setdefault(session, {}).setdefault(names, shapes)
    if shapes != first and has_static_shapes():
        _refuse_unequal_batches("x", f"{shapes} after {first}")


def _refuse_unequal_batches(name, batches):
    raise ValueError(
        f"{name} must give batches of equal size on an NPU, got {batches}. "
        f"Choose a batch_size that divides the rows, the same at each call, or leave "
        f"some out."
    )


def _slice_of(arrays, start, end):
    return tf.nest.map_structure(lambda array: array[start:end], arrays)


def _dense(array):
    return array.toarray() if hasattr(array, "toarray") else array


def _is_symbolic(x):
    """Whether it is a tensor of a graph, of which each session call yields a batch."""
    return isinstance(x, tf.Tensor) and not hasattr(x, "numpy")


def is_endless(x):
    """Whether rows are known to have no end."""
    if not isinstance(x, tf.compat.v2.data.Dataset):
        return isinstance(x, _ENDLESS) or _is_symbolic(x)
    cardinality = tf.data.experimental.cardinality(x)
    if not tf.executing_eagerly():
        with tf.compat.v1.Session(graph=cardinality.graph) as session:
            cardinality = session.run(cardinality)
    return int(cardinality) == tf.data.experimental.INFINITE_CARDINALITY


def _graph_items(dataset):
    following = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
    ended = contextlib.suppress(tf.errors.OutOfRangeError)
    # not `with session`, because Keras would use it while this generator waits
    with ended, contextlib.closing(tf.compat.v1.Session()) as session:
        while True:
            yield session.run(following)


def _is_tuple(x):
    """Whether it is a plain tuple: sparse values are named tuples."""
    return isinstance(x, tuple) and not isinstance(x, _SPARSE)
