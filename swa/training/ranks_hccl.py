# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Ranks on Ascend devices, joined by HCCL, on every release of the adapter."""

import numpy as np

from swa.training import session
from swa.training.ranks import SeveralRanks

_HALF = 2**24  # an int64 travels as two int32
_DTYPES = ("float16", "float32", "int32")  # what allreduce takes on every release


def sum_of_int64(vector, sum_vector):
    """The sum over the ranks of int64, by a sum of int32: value = high * 2^24 + low.

    Exact where the sum's magnitude is below 2**53 and there are at most 128 ranks.

    Args:
      vector: int64 array (length,).
      sum_vector: function of an int32 array (2 * length,).
    """
    halves = np.concatenate(np.divmod(vector, _HALF)).astype(np.int32)
    high, low = np.split(sum_vector(halves).astype(np.int64), 2)
    return high * _HALF + low


class HcclRanks(SeveralRanks):
    """Ranks of RANK_TABLE_FILE, each on a device of its own.

    Args:
      choice: session.Choice, of an NPU; its `world` is the ranks.
    """

    def __init__(self, choice):
        super().__init__(choice.world)
        self._choice = choice
        self._collectives = session.collectives(choice)

    def wrap_optimizer(self, optimizer):
        """By the vendor's wrapper where there is one (r1.6), which does the same."""
        if self._collectives.wrap_optimizer is not None:
            return self._collectives.wrap_optimizer(optimizer)
        return super().wrap_optimizer(optimizer)

    def sum_vector(self, vector):
        if vector.dtype == np.int64:
            return sum_of_int64(vector, super().sum_vector)
        if vector.dtype.name not in _DTYPES:
            raise TypeError(
                f"arrays must be of {', '.join(_DTYPES)} or int64 with HCCL, got "
                f"{vector.dtype.name}."
            )
        return super().sum_vector(vector)

    def sum_tensor(self, tensor):
        with session.keep_dtype_scope(self._choice):
            # no fusion: with the gradients it would wait for a step that never comes
            return self._collectives.allreduce(tensor, "sum", fusion=0)

    def mean_gradients(self, gradients):
        return [
            None
            if gradient is None
            else self._collectives.allreduce(gradient, "sum") / self.size
            for gradient in gradients
        ]
