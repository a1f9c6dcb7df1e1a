# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The command line: one table in which each flag is defined once.

Only the standard library is needed, so that a launcher and `--help` can read it with
any Python from 3.6 on.
"""

import difflib
import os
from collections import namedtuple
from typing import Any, NamedTuple, Tuple

from swa.training import console
from swa.training.errors import UserError, shortened, shown, wrong

# May a flag change when a run is resumed? FIXED: no, the result depends on it.
FIXED, FREE = "fixed", "free"
FIXED_FOR_SYNTHETIC = "fixed for synthetic rows"  # a file has its own
FIXED_ON_NPU = "fixed on an NPU"  # does nothing elsewhere

_MILLION = 10**6
_INT32 = 2**31 - 1
_RATES = (1e-37, 1e38)  # float32 holds them
_PRECISION_MODES = (
    "allow_fp32_to_fp16",
    "force_fp16",
    "must_keep_origin_dtype",
    "allow_mix_precision",
)
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


class Flag(NamedTuple):
    """One flag, which is a field of Config too."""

    name: str
    kind: str  # integer, number, rate (or auto), text, path or switch
    default: Any  # as the documents write it
    help: str
    rule: Tuple[Any, ...] = ()  # the least and the most, or the choices
    on_resume: str = FREE


# fmt: off
TRAINING = (
    Flag("train_epochs", "integer", 100, "epochs to train", (3, _MILLION)),
    Flag("batch_size", "integer", 16384, "samples per step, of all cards together",
         (1, _INT32), FIXED),
    Flag("learning_rate", "number", 0.1, "SGD's learning rate", _RATES, FIXED),
    Flag("momentum", "number", 0.0, "SGD's momentum", (0, 0.999999), FIXED),
    Flag("seed", "integer", 2, "of data, initial weights and order of rows",
         (0, 2**32 - 1), FIXED),
)
AVERAGING = (
    Flag("start_epoch", "integer", None,
         "first epoch averaged, counted from one; three quarters of train_epochs",
         (2, _MILLION), FIXED),
    Flag("lr_schedule", "text", "cyclic",  # swa.schedules knows its choices
         "manual, constant or cyclic", on_resume=FIXED),
    Flag("swa_lr", "rate", 0.001, "lowest rate, or auto", _RATES, FIXED),
    Flag("swa_lr2", "rate", 0.003, "highest rate of a cycle, or auto", _RATES, FIXED),
    Flag("swa_freq", "integer", 3, "epochs per cycle and per sample",
         (1, _MILLION), FIXED),
    Flag("verbose", "integer", 1,
         "0 only what went wrong, 1 stages and epochs, 2 session options too", (0, 2)),
)
MODEL_AND_DATA = (
    Flag("hidden_units", "integer", 108, "units of the hidden layer",
         (1, _MILLION), FIXED),
    Flag("num_classes", "integer", 108, "classes", (2, _MILLION), FIXED),
    Flag("num_features", "integer", 6, "features of synthetic rows",
         (1, _MILLION), FIXED_FOR_SYNTHETIC),
    Flag("num_samples", "integer", 131072,
         "synthetic training rows; an eighth as many are held out",
         (1, _INT32), FIXED_FOR_SYNTHETIC),
    # FREE, for the rows themselves are compared
    Flag("data_path", "path", "./",
         "a directory (synthetic data), or an .npz with x and y"),
)
DEVICE = (
    # FREE, for the device that was chosen is compared
    Flag("device", "text", "auto", "auto, npu or cpu", ("auto", "npu", "cpu")),
    Flag("precision_mode", "text", "allow_mix_precision",
         "the NPU's mixed precision, one of four", _PRECISION_MODES, FIXED_ON_NPU),
    Flag("modify_mixlist", "path", "", "JSON file of operators for mixed precision",
         on_resume=FIXED_ON_NPU),
    Flag("over_dump", "switch", "False", "True: dump operators that overflow"),
    Flag("data_dump_flag", "switch", "0", "1: dump operators' data"),
    Flag("data_dump_step", "text", "10", "steps to dump, such as 5 or 0|3-7"),
    Flag("profiling", "switch", "False", "True: profile the run"),
    Flag("data_save_path", "path", "/home/data",
         "directory for dumps and profiles; output_dir where it cannot be made"),
)
OUTPUT = (
    Flag("output_dir", "path", "", "results; output/$ASCEND_DEVICE_ID"),
    Flag("save_interval", "integer", 10,
         "epochs between two checkpoints; 0: at the end alone", (0, _MILLION)),
    Flag("max_to_keep", "integer", 5, "checkpoints kept", (1, _MILLION)),
    Flag("resume", "switch", False, "go on from the newest checkpoint of output_dir"),
    Flag("tensorboard", "switch", False, "write figures for TensorBoard"),
    Flag("check", "switch", False, "check flags, files and device, then stop"),
)
GROUPS = {"training": TRAINING, "SWA": AVERAGING, "model and data": MODEL_AND_DATA,
          "device": DEVICE, "output": OUTPUT}
# fmt: on
FLAGS = {flag.name: flag for group in GROUPS.values() for flag in group}


# The settings of one run; a field for each flag, and of its name.
Config = namedtuple("Config", FLAGS)
Config.__new__.__defaults__ = tuple(flag.default for flag in FLAGS.values())


def given(argv):
    """The flags of a command line, as typed: `--name=value` or `--name value`.

    A switch needs no value, and `--noname` turns it off. A flag given twice has the
    last value.

    Args:
      argv: list of str, without the program's name.

    Returns:
      dict of str by flag name.

    Raises:
      UserError: an unknown flag, one without its value, or a word that is no flag.
    """
    texts, words = {}, list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise wrong("flags begin with --", word, "See --help.")
        name, is_joined, text = word[2:].partition("=")
        following = words[0] if words else "--"
        if not is_joined and name.startswith("no") and _is_switch(name[2:]):
            name, text = name[2:], "False"
        elif not is_joined and _is_switch(name):
            text = words.pop(0) if following.lower() in _SWITCH else "True"
        elif name not in FLAGS:
            raise _unknown(name)
        elif not is_joined:
            if following.startswith("--"):
                raise UserError(f"--{name} needs a value: --{name}=value.")
            text = words.pop(0)
        texts[name] = text
    return texts


def help_text():
    """Each group's flags with their meanings and defaults, in many lines."""
    lines = []
    for title, group in GROUPS.items():
        lines += ["", f"{title}:"]
        for flag in group:
            told = "" if flag.default in ("", None) else f" [{flag.default!r}]"
            lines.append(f"  --{flag.name:<16} {flag.help}{told}")
    return "\n".join(lines[1:])


def print_help():
    """Prints what the train script says of itself."""
    console.protect_streams()
    print(f"usage: train-tf.keras-npu.py [--flag=value ...]\n\n{help_text()}")


def arguments(config):
    """The command line that gives this configuration, in whatever directory.

    Args:
      config: Config, of `read` or later.

    Returns:
      List of str, one `--name=value` for each flag that is not at its default.
    """
    pairs = zip(config._asdict().items(), read(Config()))
    return [f"--{name}={value}" for (name, value), default in pairs if value != default]


def read(config):
    """Each setting as its kind, within its bounds, paths absolute.

    Args:
      config: Config whose fields are texts, as typed, or values.

    Returns:
      Config; read again it is the same.

    Raises:
      UserError: with the flag, the rule and the value given.
    """
    pairs = zip(FLAGS.values(), config)
    return Config(*(_KINDS[flag.kind](flag, value) for flag, value in pairs))


def _unknown(name):
    close = difflib.get_close_matches(shortened(name, 40), FLAGS, n=1)
    advice = f"Did you mean --{close[0]}?" if close else "See --help."
    return UserError(f"Unknown command line flag {shown(name)}. {advice}")


def _is_switch(name):
    return name in FLAGS and FLAGS[name].kind == "switch"


def _integer(flag, value):
    return None if value is None else _number(flag, value, int, rule="an integer")


def _rate(flag, value):
    return value if value == "auto" else _number(flag, value, rule="'auto' or a number")


def _number(flag, value, kind=float, rule="a number"):
    try:
        number = kind(value)
    except ValueError:
        raise _wrong(flag, rule, value) from None
    least, most = flag.rule
    if number < least:
        raise _wrong(flag, f"at least {least}", number)
    if not number <= most:  # NaN neither
        raise _wrong(flag, f"at most {most}", number)
    return number


def _switch(flag, value):
    switch = _SWITCH.get(str(value).lower())
    if switch is None:
        raise _wrong(flag, "True, False, 1 or 0", value)
    return switch


def _text(flag, value):
    if flag.rule and value not in flag.rule:
        raise _wrong(flag, f"one of {', '.join(flag.rule)}", value)
    return str(value)


def _path(flag, value):
    if "\0" in value:
        raise _wrong(flag, "a path", value)
    try:
        return value and os.path.abspath(value)
    except FileNotFoundError:
        rule = "an absolute path where the working directory has been removed"
        raise _wrong(flag, rule, value, fix="Change to another directory.") from None


_KINDS = dict(
    integer=_integer, number=_number, rate=_rate, switch=_switch, text=_text, path=_path
)


def _wrong(flag, rule, value, fix=""):
    return wrong(f"{flag.name} must be {rule}", value, fix)
