# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The launchers' own options, apart from the trainer's flags."""

from typing import NamedTuple, Optional, Tuple

from swa.training.errors import UserError

OF_RANKS = ("--rank_size", "--hosts", "--server_id")


class Options(NamedTuple):
    """What the user asked the launcher for."""

    flags: Tuple[str, ...]  # the trainer's, as typed
    rank_size: Optional[str] = None
    hosts: Optional[str] = None
    server_id: Optional[str] = None


def read(argv, has_ranks):
    """Takes the launcher's own options out of a command line.

    Args:
      argv: list of str, without the program's name.
      has_ranks: bool, whether the options about ranks are among them.

    Returns:
      Options.

    Raises:
      UserError: an option about ranks has no value.
    """
    rest, own, words = [], {}, list(argv)
    while words:
        word = words.pop(0)
        name, is_joined, value = word.partition("=")
        if has_ranks and name in OF_RANKS:
            own[name[2:]] = value if is_joined else _next_value(words)
            if not own[name[2:]]:
                raise UserError(f"{name} needs a value: {name}=value.")
        else:
            rest.append(word)
    return Options(tuple(rest), **own)


def _next_value(words):
    """Takes the value of `--name value`; None where another flag or nothing follows."""
    return words.pop(0) if words and not words[0].startswith("--") else None
