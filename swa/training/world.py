# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Which ranks train together, as the environment says before any of them is joined."""

import re
from typing import NamedTuple

from swa.training.errors import wrong

MOST_RANKS = 4096


class World(NamedTuple):
    """The ranks, and which of them this process is."""

    engine: str = ""  # what joins them: "", "horovod" or "hccl"
    rank: int = 0
    size: int = 1
    local_size: int = 1  # how many of them share this machine's cores

    @property
    def is_writer(self):
        """bool: whether this rank writes the files."""
        return self.rank == 0


def number_in(environ, name, default, least, most=MOST_RANKS):
    """The integer that a variable holds.

    Args:
      environ: mapping of environment variables.
      name: str, of the variable.
      default: int where it is not set or empty; None, which is refused, if it has to
        be set.
      least: int.
      most: int.

    Raises:
      UserError: naming the variable, the rule and the value.
    """
    text = environ.get(name) or default
    is_number = re.fullmatch("[0-9]{1,10}", str(text))
    if not is_number or not least <= int(text) <= most:
        raise wrong(f"{name} must be an integer from {least} to {most}", text)
    return int(text)
