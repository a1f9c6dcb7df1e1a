# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The processes that train one model together, behind one small interface.

Each rank trains on its rows of every global batch, and the gradients are averaged over
the ranks before each step; so all ranks hold the same weights, bit for bit. Whoever
works with `Ranks` need not know what joins them: nothing (one process), Horovod (hosts)
or HCCL (Ascend devices).

All communication is `sum`. Every rank must call it the same number of times and in the
same order, so never inside `if ranks.is_writer`.
"""

import hashlib
import itertools

import numpy as np

from swa.training.errors import FAILED, UserError
from swa.training.world import World


class Ranks:
    """The ranks, seen from one of them; one process is every rank there is.

    To be closed. A subclass joins several ranks. It has two more
    methods: `sum_tensor`, the sum over the ranks of a tensor, and `mean_gradients`, the
    means of a list of tensors.

    Args:
      world: World.

    Attributes:
      rank: int, from 0.
      size: int, the number of ranks.
      is_writer: bool, whether this rank writes the files.
    """

    def __init__(self, world=World()):  # noqa: B008 (immutable)
        self.rank = world.rank
        self.size = world.size
        self.is_writer = world.is_writer
        self._sums = {}  # (graph, dtype, length) -> (placeholder, its sum)

    def wrap_optimizer(self, optimizer):
        """Returns the optimizer to compile: it averages gradients over the ranks."""
        if self.size == 1:
            return optimizer
        inner = optimizer.get_gradients
        # on the object itself: a new optimizer would not be the one whose rate SWA sets
        optimizer.get_gradients = lambda *args: self.mean_gradients(inner(*args))
        return optimizer

    def sum(self, arrays):
        """The sums over the ranks of each array.

        Args:
          arrays: list of arrays of float16, float32, float64, int32
            or int64, as many and of the same shapes and dtypes on every rank.

        Returns:
          List of new arrays of those shapes and dtypes, equal on all ranks.
        """
        arrays = [np.array(array) for array in arrays]
        if self.size == 1:
            return arrays
        for dtype in sorted({array.dtype.name for array in arrays}):
            of_dtype = [array for array in arrays if array.dtype.name == dtype]
            vector = np.concatenate([array.ravel() for array in of_dtype])
            total = self.sum_vector(vector) if vector.size else vector
            ends = np.cumsum([array.size for array in of_dtype])
            for array, part in zip(of_dtype, np.split(total, ends)):
                array[...] = part.reshape(array.shape)
        return arrays

    def sum_vector(self, vector):
        """The sum over the ranks of a vector, in one call of Keras's session.

        The operations are made once for each dtype and length.
        """
        import tensorflow as tf

        session = tf.compat.v1.keras.backend.get_session()
        key = (session.graph, vector.dtype.name, len(vector))
        if key not in self._sums:
            with session.graph.as_default(), tf.control_dependencies(None):
                fed = tf.compat.v1.placeholder(vector.dtype, [len(vector)])
                self._sums[key] = fed, self.sum_tensor(fed)
        fed, total = self._sums[key]
        return session.run(total, {fed: vector})

    def broadcast(self, arrays):
        """Rank 0's arrays, on every rank: a list of new arrays.

        A sum in which the others are zero: exact, and no second kind of collective.
        """
        if self.rank:
            arrays = [np.zeros_like(array) for array in arrays]
        return self.sum(arrays)

    def gather(self, array):
        """The arrays of all ranks: shape (size, *array.shape), equal on every rank."""
        array = np.asarray(array)
        rows = np.zeros((self.size,) + array.shape, array.dtype)
        rows[self.rank] = array
        return self.sum([rows])[0]

    def mean(self, values):
        """The means over the ranks, which have equally many rows, of each value.

        Args:
          values: list of float.

        Returns:
          List of float, equal on every rank.
        """
        (totals,) = self.sum([np.array(values, np.float64)])
        return list(totals / self.size)

    def check_same(self, name, number):
        """Raises UserError unless all ranks have the same integer.

        A rank that makes fewer steps would leave the others waiting, or its gradients
        would be averaged with those of another step.

        Args:
          name: str, what the number is.
          number: int.
        """
        numbers = self.gather(np.int64(number))
        if len(set(numbers.tolist())) > 1:
            raise UserError(
                f"{name} must be the same on all ranks, "
                f"got {', '.join(map(str, numbers))} on ranks 0 to {self.size - 1}.",
                FAILED,
            )

    def check_equal(self, arrays):
        """Raises UserError, naming what differs, unless all ranks hold the same bits.

        Args:
          arrays: dict of arrays by name, with the same names on every rank.
        """
        if self.size == 1:  # a hash of all weights takes a while
            return
        digests = self.gather([_digest(array) for array in arrays.values()])
        differs = digests != digests[0]  # (ranks, names)
        if differs.any():
            names = itertools.compress(arrays, differs.any(axis=0))
            others = ", ".join(map(str, np.flatnonzero(differs.any(axis=1))))
            raise UserError(
                f"{', '.join(names)} must be equal on all ranks, "
                f"but rank {others} differs from rank 0.",
                FAILED,
            )

    def is_lost(self, error):
        """bool: whether an exception means that another rank has ended."""
        return False

    def close(self):
        """Leaves the other ranks."""


def _digest(array):
    """48 bits of a hash of an array: an int that a sum of int64 holds."""
    kind = f"{array.dtype.str}{array.shape}"
    return int(hashlib.sha256(kind.encode() + array.tobytes()).hexdigest()[:12], 16)
