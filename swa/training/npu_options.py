# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What an Ascend NPU session can be asked for, by release of the adapter; its checks.

The adapter ignores a key it does not know, reads a key in the wrong typed field as
zero, and ends the whole process at the first training step on a value it dislikes.
So every value is checked here, in plain Python, before TensorFlow is even imported.
"""

import json
import os
import re
from typing import NamedTuple

from swa.training.errors import UserError, wrong

_MIXLIST_MODE = "allow_mix_precision"  # the adapter refuses a mixlist with any other
_MOST_ENTRIES = 100
_LARGEST_STEP = 2**31 - 1  # the adapter reads them by atoi
_STEP_ENTRY = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_LONGEST_JSON = 2047  # bytes; a longer text is cut, and no JSON any more


class Adapter(NamedTuple):
    """One release of the TensorFlow adapter, and where it differs from the others."""

    version: str
    cann: str  # the CANN release it came with
    probe: str  # a name, or name(argument), that npu_init has from this release on
    profiling: bool  # reads profiling_options as JSON
    modify_mixlist: bool  # reads the option of that name
    over_dump_on_ranks: bool  # takes enable_dump_debug with RANK_SIZE above 1
    wraps_optimizer: bool  # has npu_distributed_optimizer_wrapper

    def __str__(self):
        return f"r{self.version} (CANN {self.cann})"


# Release 1.7 adds no name of its own and nothing that matters here: it counts as 1.6.
ADAPTERS = (
    Adapter("1.1", "before 20.2", "NPURunConfig", False, False, True, False),
    Adapter("1.2", "20.2", "DynamicInputConfig", True, False, False, False),
    Adapter("1.3", "5.0.1", "set_keras_session_npu_config", True, False, True, False),
    Adapter("1.5", "5.0.2", "init_resource(config)", True, True, True, False),
    Adapter("1.6", "5.0.3/5.0.4", "npu_clear_session", True, True, True, True),
    Adapter("1.8", "5.1.RC1 on", "get_npu_local_rank_size", True, True, True, True),
)


# Each flag's directory stands below data_save_path and is made only when asked for.
DIRECTORIES = dict(
    over_dump="overflow_dump", data_dump_flag="data_dump", profiling="profiling"
)


def check_dump_step(text):
    """Checks the adapter's grammar of steps to dump.

    Entries `N` or `A-B` with A < B, joined by `|`; at most 100, no spaces.

    Args:
      text: such as "5" or "0|3-7".

    Raises:
      UserError: if the adapter would end the process on it.
    """
    matches = [_STEP_ENTRY.fullmatch(entry) for entry in text.split("|")]
    entries = [[int(n) for n in match.groups() if n] for match in matches if match]
    is_right = all(matches) and len(matches) <= _MOST_ENTRIES
    is_right &= all(entry == sorted(set(entry)) for entry in entries)
    if not is_right or max(map(max, entries)) > _LARGEST_STEP:
        raise wrong(
            f"data_dump_step must be at most {_MOST_ENTRIES} steps N or ranges A-B "
            f"(A below B, both at most {_LARGEST_STEP}), joined by '|' without spaces, "
            "such as 0|3-7",
            text,
        )


def check_values(config):
    """Checks everything about the NPU's flags that needs no environment.

    Args:
      config: its switches as bools, its paths absolute.

    Raises:
      UserError: with the flag, the rule and the value given.
    """
    check_dump_step(config.data_dump_step)
    if config.modify_mixlist and config.precision_mode != _MIXLIST_MODE:
        raise wrong(
            f"modify_mixlist needs precision_mode {_MIXLIST_MODE}",
            config.precision_mode,
        )
    if folders(config):
        try:
            config.data_save_path.encode()
        except UnicodeEncodeError:
            raise wrong(
                "data_save_path must be a path in UTF-8", config.data_save_path
            ) from None
    if config.profiling:
        size = len(profiling_json(config).encode())
        if size > _LONGEST_JSON:
            raise wrong(
                "data_save_path makes profiling options of at most "
                f"{_LONGEST_JSON} bytes",
                size,
                "Use a shorter path.",
            )


def check_adapter(config, adapter, rank_size):
    """Checks that this release of the adapter honours every flag asked for.

    Args:
      config: its switches as bools.
      adapter: row of ADAPTERS.
      rank_size: int >= 1, the number of devices that train together.

    Raises:
      UserError: with the flag and the adapter's version.
    """
    for flag in ("profiling", "modify_mixlist"):
        if getattr(config, flag) and not getattr(adapter, flag):
            first = next(row for row in ADAPTERS if getattr(row, flag))
            raise UserError(
                f"{flag} needs adapter {first} or newer, this one is {adapter}."
            )
    if config.over_dump and rank_size > 1 and not adapter.over_dump_on_ranks:
        raise UserError(
            f"over_dump on adapter {adapter} needs a single rank, "
            f"got RANK_SIZE={rank_size}."
        )


def folder(config, flag):
    """The directory, below data_save_path, where `flag` leaves its files.

    Without links: the adapter refuses one at its end.
    """
    return os.path.realpath(os.path.join(config.data_save_path, DIRECTORIES[flag]))


def folders(config):
    """The directories that the flags asked for need, in the table's order."""
    return [folder(config, flag) for flag in DIRECTORIES if getattr(config, flag)]


def profiling_json(config):
    """The profiler's options as JSON.

    Both points are there although empty: with training_trace on, older runtimes end
    the process without them. "off" is no value of training_trace; it is left out.
    """
    options = {"output": folder(config, "profiling")}
    options.update(dict.fromkeys(("training_trace", "task_trace", "aicpu"), "on"))
    options.update(fp_point="", bp_point="", aic_metrics="PipeUtilization")
    return json.dumps(options)


def wanted(config):
    """The entries of the adapter's parameter map that the configuration asks for.

    Returns:
      dict by key: a bool for the field `b` of AttrValue, a str for `s`.
    """
    options = dict(use_off_line=True, precision_mode=config.precision_mode)
    if config.modify_mixlist:
        options.update(modify_mixlist=config.modify_mixlist)
    if config.over_dump:
        path = folder(config, "over_dump")
        options.update(enable_dump_debug=True, dump_path=path, dump_debug_mode="all")
    if config.data_dump_flag:
        options.update(enable_dump=True, dump_path=folder(config, "data_dump_flag"))
        options.update(dump_step=config.data_dump_step, dump_mode="all")
    if config.profiling:
        options.update(profiling_mode=True, profiling_options=profiling_json(config))
    return options
