# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Ranks on Ascend devices, joined by HCCL, on every release of the adapter."""

import functools
import re

import numpy as np

from swa.training import npu, rank_table
from swa.training.errors import UserError, shown, wrong
from swa.training.ranks import Ranks
from swa.training.world import World, number_in

_DTYPES = ("float16", "float32", "int32")  # what allreduce takes on every release


def read_world(environ):
    """The ranks that RANK_SIZE and the rank table describe.

    Raises:
      UserError: a variable that is missing or out of its range, or a bad table.
    """
    size = number_in(environ, "RANK_SIZE", 1, least=1)
    table = environ.get("RANK_TABLE_FILE")
    if size == 1:
        if table:
            rule = "RANK_TABLE_FILE must be unset for a single card (RANK_SIZE 1)"
            raise wrong(rule, table, "Unset it, or HCCL would start.")
        return World()
    rank = number_in(environ, "RANK_ID", None, least=0, most=size - 1)
    job_id = environ.get("JOB_ID", "")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", job_id):
        rule = "JOB_ID must be letters, digits, - and _ with RANK_SIZE above 1"
        raise wrong(rule, job_id, "Use test/train_full_8p.sh.")
    if not table:
        raise UserError(
            f"RANK_TABLE_FILE must name a rank table for {size} ranks, got none. "
            "Use test/train_full_8p.sh, which writes one."
        )
    devices = rank_table.read(table)
    if len(devices) != size:
        raise UserError(
            f"RANK_TABLE_FILE must hold RANK_SIZE = {size} devices, "
            f"got {len(devices)} in {shown(table)}."
        )
    return World("hccl", rank, size)


def sum_of_wide(vector, rank, size, sum_vector):
    """The sum over the ranks of int64 or float64, by a sum of int32 of their bits.

    Each rank adds the terms in the order of the ranks: the sums are equal, bit for bit.

    Args:
      vector: int64 or float64 array (length,).
      rank, size: int, this rank and their number.
      sum_vector: function of an int32 array (size * 4 * length,).
    """
    bits = np.zeros((size, 4 * len(vector)), np.int32)
    bits[rank] = vector.view(np.uint16)
    bits = sum_vector(bits.ravel()).reshape(bits.shape)  # the others' are zeros
    return functools.reduce(np.add, bits.astype(np.uint16).view(vector.dtype))


class HcclRanks(Ranks):
    """Ranks of RANK_TABLE_FILE, each on a device of its own.

    It is the first `sum` that waits for the others.

    Args:
      world: World.
      adapter: row of npu_options.ADAPTERS.
    """

    def __init__(self, world, adapter):
        super().__init__(world)
        self._allreduce, self._wrap_optimizer = npu.collectives(adapter)

    def wrap_optimizer(self, optimizer):
        """By the vendor's wrapper where there is one (r1.6), which does the same."""
        if self._wrap_optimizer is not None:
            return self._wrap_optimizer(optimizer)
        return super().wrap_optimizer(optimizer)

    def sum_vector(self, vector):
        if vector.dtype in (np.int64, np.float64):
            return sum_of_wide(vector, self.rank, self.size, super().sum_vector)
        if vector.dtype.name not in _DTYPES:
            raise TypeError(
                f"arrays must be of {', '.join(_DTYPES)}, int64 or float64 with HCCL, "
                f"got {vector.dtype.name}."
            )
        return super().sum_vector(vector)

    def sum_tensor(self, tensor):
        # no fusion: with the gradients it would wait for a step that never comes
        return self._allreduce(tensor, "sum", fusion=0)

    def mean_gradients(self, gradients):
        return [self._allreduce(g, "sum") / self.size for g in gradients]
