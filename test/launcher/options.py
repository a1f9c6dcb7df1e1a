# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The launchers' command line: the trainer's flags, and those of several ranks."""

from typing import NamedTuple, Optional

from absl import flags

from swa.training import flags as trainer_flags

MOST_RANKS = 256

WITH_RANKS = flags.FlagValues()
flags.DEFINE_integer(
    "rank_size", None, "processes", 1, MOST_RANKS, flag_values=WITH_RANKS
)
flags.DEFINE_string("hosts", "", "host:processes,...", flag_values=WITH_RANKS)
flags.DEFINE_string("server_id", "", "in the rank table", flag_values=WITH_RANKS)
WITH_RANKS.append_flag_values(trainer_flags.FLAGS)


class Request(NamedTuple):
    """What the user asks a launcher for.

    Attributes:
      settings: Config, the trainer's flags.
      has_ranks: bool, whether it asks for several ranks.
      rank_size: int, or None to take what is there.
      hosts: str, "" for this host.
      server_id: str, "" for this server.
    """

    settings: trainer_flags.Config
    has_ranks: bool
    rank_size: Optional[int]
    hosts: str
    server_id: str


def read(argv, has_ranks):
    """Reads a launcher's command line.

    Args:
      argv: list of str, without the program's name.
      has_ranks: bool, whether the launcher is one of several ranks.

    Returns:
      Request.

    Raises:
      UserError: with the flag, the rule and the value.
    """
    flag_values = WITH_RANKS if has_ranks else trainer_flags.FLAGS
    settings = trainer_flags.parse(argv, flag_values)
    own = {name: WITH_RANKS[name].value for name in ("rank_size", "hosts", "server_id")}
    return Request(settings, has_ranks, **own)
