# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The processes that train one model together, behind one small interface.

Each rank trains on its rows of every global batch, and the gradients are averaged over
the ranks before each step; so all ranks hold the same weights, bit for bit. Whoever
works with `Ranks` need not know what joins them: nothing (one process), Horovod (hosts)
or HCCL (Ascend devices).

What one rank does to all others it does through `sum`, which every rank has to call
equally often and in the same order: never below `if ranks.rank == 0`.
"""

import hashlib

import numpy as np

from swa.training.errors import FAILED, UserError

_DIGEST_WORDS = 4  # of 24 bits each: what the ranks compare of an array


class Ranks:
    """One process: it is every rank there is.

    Attributes:
      rank: int, from 0.
      size: int, the number of ranks.
      local_rank: int, among the ranks of this machine.
    """

    rank, size, local_rank = 0, 1, 0

    def wrap_optimizer(self, optimizer):
        """Returns the optimizer to compile: it averages gradients over the ranks."""
        return optimizer

    def callbacks(self):
        """Callbacks to be the first in `fit`'s list."""
        return []

    def sum(self, arrays):
        """The sums over the ranks of each array.

        Args:
          arrays: list of arrays of float16, float32, float64 (not with HCCL), int32
            or int64, as many and of the same shapes and dtypes on every rank.

        Returns:
          List of new arrays of those shapes and dtypes, equal on all ranks.
        """
        return [np.array(array) for array in arrays]

    def is_parting(self, error):
        """bool: whether an exception means that another rank has ended."""
        return False

    def close(self):
        """Parts from the other ranks."""


class SeveralRanks(Ranks):
    """What is the same whatever joins the ranks.

    Args:
      world: World.
    """

    def __init__(self, world):
        self.rank, self.size, self.local_rank = world[1:4]
        self._sums = {}  # (graph, dtype, length) -> (placeholder, its sum)

    def wrap_optimizer(self, optimizer):
        inner = optimizer.get_gradients

        def get_gradients(loss, params):
            return self.mean_gradients(inner(loss, params))

        # on the object itself: a new optimizer would not be the one whose rate SWA sets
        optimizer.get_gradients = get_gradients
        return optimizer

    def callbacks(self):
        return [_callback(self)]

    def sum(self, arrays):
        arrays = [np.asarray(array) for array in arrays]
        sums = [None] * len(arrays)
        for dtype in sorted({array.dtype.name for array in arrays}):
            chosen = [i for i, array in enumerate(arrays) if array.dtype.name == dtype]
            vector = np.concatenate([arrays[i].ravel() for i in chosen])
            total = self.sum_vector(vector) if vector.size else vector
            ends = np.cumsum([arrays[i].size for i in chosen])
            for i, part in zip(chosen, np.split(total, ends[:-1])):
                sums[i] = part.reshape(arrays[i].shape)
        return sums

    def sum_vector(self, vector):
        """The sum over the ranks of a vector, in one call of Keras's session.

        The operations are made once for each dtype and length.
        """
        import tensorflow as tf

        session = tf.compat.v1.keras.backend.get_session()
        key = (session.graph, vector.dtype.name, len(vector))
        if key not in self._sums:
            with session.graph.as_default(), tf.control_dependencies(None):
                with tf.name_scope("ranks"):
                    fed = tf.compat.v1.placeholder(vector.dtype, [len(vector)])
                    self._sums[key] = fed, self.sum_tensor(fed)
        fed, total = self._sums[key]
        return session.run(total, {fed: vector})

    def sum_tensor(self, tensor):
        """The sum over the ranks of a tensor, as a tensor."""
        raise NotImplementedError

    def mean_gradients(self, gradients):
        """The means over the ranks of a list of tensors; None stays None."""
        raise NotImplementedError


def broadcast(ranks, arrays):
    """Rank 0's arrays, on every rank: a list of new arrays.

    A sum in which the others are zero: exact, and no second kind of collective.
    """
    if ranks.rank:
        arrays = [np.zeros_like(array) for array in arrays]
    return ranks.sum(arrays)


def gather(ranks, array):
    """The arrays of all ranks: shape (size, *array.shape), equal on every rank."""
    array = np.asarray(array)
    rows = np.zeros((ranks.size,) + array.shape, array.dtype)
    rows[ranks.rank] = array
    return ranks.sum([rows])[0]


def is_any(ranks, flag):
    """bool: whether `flag` is true on any rank; every rank gets the same answer."""
    return bool(ranks.sum([np.array([bool(flag)], np.int64)])[0][0])


def mean(ranks, values, rows):
    """The mean over all rows of values that are means over each rank's rows.

        mean = sum over ranks of value * rows / sum over ranks of rows

    Args:
      ranks: Ranks.
      values: list of float.
      rows: int, the rows of this rank; on some rank above 0.

    Returns:
      List of float, equal on every rank.
    """
    if ranks.size == 1:
        return [float(value) for value in values]
    totals, count = ranks.sum(
        [
            # an empty rank's value is a mean of nothing, often NaN
            np.array([value * rows if rows else 0.0 for value in values], np.float32),
            np.array([rows], np.int64),
        ]
    )
    return [float(total) / int(count[0]) for total in totals]


def check_same(ranks, name, number):
    """Raises UserError unless all ranks have the same integer.

    One that makes fewer steps would leave the others waiting, or pair its gradients
    with those of another step.

    Args:
      ranks: Ranks.
      name: str, what the number is.
      number: int.
    """
    numbers = gather(ranks, np.int64(number))
    if len(set(numbers.tolist())) > 1:
        raise UserError(
            f"{name} must be the same on all ranks, got {', '.join(map(str, numbers))} "
            f"on ranks 0 to {ranks.size - 1}.",
            FAILED,
        )


def check_equal(ranks, arrays):
    """Raises UserError, which names what differs, unless all ranks hold the same bits.

    Args:
      ranks: Ranks.
      arrays: dict of arrays by name, with the same names on every rank.
    """
    digests = np.array([_digest(array) for array in arrays.values()], np.int64)
    found = gather(ranks, digests.reshape(len(arrays), _DIGEST_WORDS))
    is_different = (found != found[0]).any(axis=2)  # (rank, name)
    names = [name for name, one in zip(arrays, is_different.any(axis=0)) if one]
    if names:
        others = [str(rank) for rank in np.flatnonzero(is_different.any(axis=1))]
        raise UserError(
            f"{', '.join(names)} must be equal on all ranks, but rank "
            f"{', '.join(others)} differs from rank 0.",
            FAILED,
        )


def _digest(array):
    array = np.ascontiguousarray(array)
    told = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return np.frombuffer(told.digest(), np.uint32)[:_DIGEST_WORDS] >> 8


def _callback(ranks):
    import tensorflow as tf

    from swa.layers import batch_norms_of

    backend = tf.compat.v1.keras.backend

    class Together(tf.keras.callbacks.Callback):
        """What gradients do not do: equal beginnings, and equal moving statistics."""

        def on_train_begin(self, logs=None):
            """Hands out rank 0's weights and optimizer state, before the first batch.

            Otherwise that step's gradients would be means over different weights.
            """
            model = self.model
            if not model.built:
                raise ValueError("model must be built before several ranks train it.")
            model._make_train_function()  # makes the optimizer's slots
            variables = model.weights + model.optimizer.weights
            values = broadcast(ranks, backend.batch_get_value(variables))
            backend.batch_set_value(list(zip(variables, values)))
            self._statistics = [
                variable
                for layer in batch_norms_of(model)
                if layer.trainable
                for variable in (layer.moving_mean, layer.moving_variance)
            ]

        def on_epoch_end(self, epoch, logs=None):
            """Takes the means of the moving statistics, each rank's own till then.

            So whatever is averaged, saved or measured after an epoch is the same on all
            ranks, and a run that is resumed is the run that was not interrupted.
            """
            if self._statistics:
                totals = ranks.sum(backend.batch_get_value(self._statistics))
                means = [total / total.dtype.type(ranks.size) for total in totals]
                backend.batch_set_value(list(zip(self._statistics, means)))

    return Together()
