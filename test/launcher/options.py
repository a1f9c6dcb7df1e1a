# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The launchers' own options, apart from the trainer's flags."""

from typing import NamedTuple, Optional, Tuple

from swa.training.errors import UserError

# The zoo's flags for other models: they do nothing here, and a harness passes them.
IGNORED = (
    "--max_step",
    "--train_steps",
    "--modeldir",
    "--loss_scale",
    "--autotune",
    "--bind_core",
    "--ckpt_path",
    "--conda_name",
    "--ffts",
)
OF_RANKS = ("--rank_size", "--hosts", "--server_id")


class Options(NamedTuple):
    """What the user asked the launcher for."""

    flags: Tuple[str, ...]  # the trainer's, as typed
    ignored: Tuple[str, ...] = ()  # names of the zoo's flags that do nothing here
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
    rest, ignored, own, words = [], [], {}, list(argv)
    while words:
        word = words.pop(0)
        name, is_joined, value = word.partition("=")
        if name in IGNORED:
            ignored.append(name)
        elif has_ranks and name in OF_RANKS:
            own[name[2:]] = value if is_joined else _next_value(words)
            if not own[name[2:]]:
                raise UserError(f"{name} needs a value: {name}=value.")
            continue
        else:
            rest.append("--batch_size" + word[7:] if name == "--batch" else word)
            continue
        if not is_joined:
            _next_value(words)
    return Options(tuple(rest), tuple(ignored), **own)


def _next_value(words):
    """Takes the value of `--name value`; None where another flag or nothing follows."""
    return words.pop(0) if words and not words[0].startswith("--") else None
