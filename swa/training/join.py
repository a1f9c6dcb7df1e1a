# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Joins this process to the other ranks, by what the machine has for it."""

from swa.training.ranks import Ranks


def join(choice):
    """Waits for the other ranks, and returns what speaks for all.

    To be closed at the end. With HCCL it is the first `sum` that waits.

    Args:
      choice: session.Choice, whose `world` says which ranks there are.

    Returns:
      Ranks.

    Raises:
      UserError: what joins the ranks is not installed.
      UserError: a rank did not come in time; the message names it.
    """
    if choice.world.engine == "horovod":
        from swa.training.ranks_horovod import HorovodRanks

        return HorovodRanks(choice.world)
    if choice.world.engine == "hccl":
        from swa.training.ranks_hccl import HcclRanks

        return HcclRanks(choice)
    return Ranks()
