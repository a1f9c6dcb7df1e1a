# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which ranks train together, as the environment tells; nothing is joined here."""

import re
from typing import NamedTuple

from swa.training import rank_table
from swa.training.errors import UserError


class World(NamedTuple):
    """Which ranks there are, and which of them this process is."""

    engine: str = ""  # what joins them: "", "horovod" or "hccl"
    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those of this machine
    local_size: int = 1


def read_world(environ, device):
    """The ranks that the environment tells of; joins nothing.

    Args:
      environ: mapping of environment variables.
      device: "npu" or "cpu".

    Returns:
      World: with several ranks if HOROVOD_SIZE says so, or RANK_SIZE on an NPU.

    Raises:
      UserError: a variable that is missing, or out of its range.
    """
    size = _number(environ, "HOROVOD_SIZE", 1, 1)
    if size > 1:
        if device == "npu":
            raise UserError(
                f"HOROVOD_SIZE must be 1 on an NPU, got {size}: HCCL joins NPUs "
                "(RANK_SIZE). Use test/train_full_8p.sh, or --device=cpu."
            )
        local_size = _number(environ, "HOROVOD_LOCAL_SIZE", 1, 1, size)
        return World(
            "horovod",
            _number(environ, "HOROVOD_RANK", None, 0, size - 1),
            size,
            _number(environ, "HOROVOD_LOCAL_RANK", 0, 0, local_size - 1),
            local_size,
        )
    size = _number(environ, "RANK_SIZE", 1, 1) if device == "npu" else 1
    return _hccl_world(environ, size) if size > 1 else World()


def check_batches(config, world, num_samples, drop_last):
    """Checks that every rank gets equally many rows of every batch.

    Args:
      config: a checked Config.
      world: World.
      num_samples: int, training rows.
      drop_last: bool, whether a short last batch is left out.

    Raises:
      UserError: with the flag, the rule and the value given.
    """
    if config.batch_size % world.size:
        raise UserError(
            f"batch_size, the rows of all {world.size} ranks in a step, must divide by "
            f"{world.size}, got {config.batch_size}."
        )
    last = 0 if drop_last else num_samples % config.batch_size
    if last % world.size:
        raise UserError(
            f"the last batch of an epoch must divide by the {world.size} ranks, got "
            f"{last} rows ({num_samples} samples, batch_size {config.batch_size}). "
            "Choose another batch_size or another number of samples."
        )


def _hccl_world(environ, size):
    rank = _number(environ, "RANK_ID", None, 0, size - 1)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", environ.get("JOB_ID", "")):
        raise UserError(
            "JOB_ID must be letters, digits, - and _ with RANK_SIZE above 1, got "
            f"{environ.get('JOB_ID', '')!r}. Use test/train_full_8p.sh."
        )
    if not environ.get("RANK_TABLE_FILE"):
        raise UserError(
            f"RANK_TABLE_FILE must name a rank table for {size} ranks, got none. Use "
            "test/train_full_8p.sh, which writes one."
        )
    devices = rank_table.read(environ["RANK_TABLE_FILE"])
    if len(devices) != size:
        raise UserError(
            f"RANK_TABLE_FILE must hold RANK_SIZE = {size} devices, got {len(devices)} "
            f"in {environ['RANK_TABLE_FILE']}."
        )
    here = [device.rank for device in rank_table.of_server(devices, rank)]
    return World("hccl", rank, size, here.index(rank), len(here))


def _number(environ, name, default, least, most=None):
    """The integer that a variable holds; None as default: it must be set."""
    text = environ.get(name, default)
    if text is None:
        raise UserError(f"{name} must be set where there are several ranks.")
    if not re.fullmatch("[0-9]+", str(text)) or int(text) < least:
        raise UserError(f"{name} must be an integer >= {least}, got {text!r}.")
    if most is not None and int(text) > most:
        raise UserError(f"{name} must be at most {most}, got {text!r}.")
    return int(text)
