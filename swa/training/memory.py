# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A rough comparison of the memory that a run needs with what there is."""

import resource

from swa.training.errors import UserError

_FLOAT = 4  # bytes
_GIB = 2**30
# that TensorFlow takes for itself; with less C++ ends the process
_ADDRESS_SPACE = 2.5 * _GIB
_WEIGHT_COPIES = 6  # weights, gradients, average, trained, a snapshot, the last one
_UNIT_COPIES = 6  # of a batch's hidden units: dense, relu, batch norm, and gradients
_CLASS_COPIES = 3  # of a batch's classes: logits, softmax, and their gradients
_DRAWN_BYTES = 24  # of a synthetic number while it is drawn: float64, its shuffled copy


def check(config, num_samples, num_features, is_drawn=False):
    """Refuses a run that needs more than is free.

    Args:
      config: Config.
      num_samples: int, training rows.
      num_features: int.
      is_drawn: bool, whether the rows have still to be made.

    Raises:
      UserError: naming the flag that the largest part depends on, or `ulimit -v`.
    """
    row = num_features * (_DRAWN_BYTES if is_drawn else _FLOAT) + 6 * _FLOAT
    units, classes = config.hidden_units, config.num_classes
    batch = config.batch_size * (_UNIT_COPIES * units + _CLASS_COPIES * classes)
    parts = {
        "num_samples": num_samples * row,
        "hidden_units": _WEIGHT_COPIES * _FLOAT * units * (num_features + classes),
        "batch_size": _FLOAT * batch,
    }
    needed, free = sum(parts.values()), free_bytes()
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < needed + _ADDRESS_SPACE:
        raise UserError(
            f"ulimit -v must be at least {(needed + _ADDRESS_SPACE) / _GIB:.1f} GiB "
            f"for this run, got {limit / _GIB:.1f} GiB."
        )
    if free is not None and needed > free:
        name = max(parts, key=parts.get)
        raise UserError(
            f"{name} must fit in memory, got {getattr(config, name)}: with the other "
            f"settings it needs about {needed / _GIB:.1f} GiB, "
            f"and {free / _GIB:.1f} GiB are free."
        )


def free_bytes():
    """int: the memory that can be had, or None where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None
