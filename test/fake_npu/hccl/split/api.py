# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How gradients are grouped for reduction; the fake takes any strategy."""


def set_split_strategy_by_idx(idxList, group="hccl_world_group"):
    """By index."""


def set_split_strategy_by_size(dataSizeList, group="hccl_world_group"):
    """By size, in percent."""
    if sum(dataSizeList) != 100:
        raise ValueError("dataSizeList must add up to 100, got %r" % (dataSizeList,))
