# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Questions about ranks; HCCL must be up."""

import os

from fake_device import runtime

_groups = {}


def _ask(name, default):
    if not runtime.hccl_is_up():
        raise RuntimeError("HCCL is not up: run initialize_system in an NPU session")
    return int(os.environ.get(name, default))


def get_rank_size(group="hccl_world_group"):
    """The number of ranks."""
    return len(_groups[group]) if group in _groups else _ask("RANK_SIZE", "1")


def get_rank_id(group="hccl_world_group"):
    """This process's rank."""
    return _ask("RANK_ID", "0")


def get_local_rank_size(group="hccl_world_group"):
    """The number of ranks on this server: the fake has one server."""
    return get_rank_size(group)


def get_local_rank_id(group="hccl_world_group"):
    """This process's rank on its server."""
    return get_rank_id(group)


def create_group(group, rank_num, rank_ids):
    """Names a group of ranks."""
    if len(rank_ids) != rank_num:
        raise ValueError("rank_num is %r, rank_ids %r" % (rank_num, rank_ids))
    _ask("RANK_SIZE", "1")
    _groups[group] = list(rank_ids)


def destroy_group(group):
    """Forgets it."""
    del _groups[group]


def get_world_rank_from_group_rank(group, group_rank_id):
    """A member's rank in the world."""
    return _groups[group][group_rank_id]


def get_group_rank_from_world_rank(world_rank_id, group):
    """A rank's place in the group."""
    return _groups[group].index(world_rank_id)
