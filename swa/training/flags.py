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
    "allow_fp32_to_fp16", "force_fp16", "must_keep_origin_dtype", "allow_mix_precision"
)
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


class Flag(NamedTuple):
    """One flag, which is a field of Config too."""

    name: str
    kind: str  # integer, number, rate (or auto), text, path or switch
    default: Any  # as the documents write it
    rule: Tuple[Any, ...]  # the least and the most, or the choices, or ()
    on_resume: str
    help: str


# fmt: off
GROUPS = (
    ("training", (
        Flag("train_epochs", "integer", 100, (3, _MILLION), FREE, "epochs to train"),
        Flag("batch_size", "integer", 16384, (1, _INT32), FIXED,
             "samples per step, of all cards together"),
        Flag("learning_rate", "number", 0.1, _RATES, FIXED, "SGD's learning rate"),
        Flag("momentum", "number", 0.0, (0, 0.999999), FIXED, "SGD's momentum"),
        Flag("seed", "integer", 2, (0, 2**32 - 1), FIXED,
             "of data, initial weights and order of rows"),
    )),
    ("SWA", (
        Flag("start_epoch", "integer", None, (2, _MILLION), FIXED,
             "first epoch averaged, counted from one; three quarters of train_epochs"),
        Flag("lr_schedule", "text", "cyclic", (), FIXED,  # swa.schedules knows them
             "manual, constant or cyclic"),
        Flag("swa_lr", "rate", 0.001, _RATES, FIXED, "lowest rate, or auto"),
        Flag("swa_lr2", "rate", 0.003, _RATES, FIXED,
             "highest rate of a cycle, or auto"),
        Flag("swa_freq", "integer", 3, (1, _MILLION), FIXED,
             "epochs per cycle and per sample"),
        Flag("verbose", "integer", 1, (0, 2), FREE,
             "0 only what went wrong, 1 stages and epochs, 2 session options too"),
    )),
    ("model and data", (
        Flag("hidden_units", "integer", 108, (1, _MILLION), FIXED,
             "units of the hidden layer"),
        Flag("num_classes", "integer", 108, (2, _MILLION), FIXED, "classes"),
        Flag("num_features", "integer", 6, (1, _MILLION), FIXED_FOR_SYNTHETIC,
             "features of synthetic rows"),
        Flag("num_samples", "integer", 131072, (1, _INT32), FIXED_FOR_SYNTHETIC,
             "synthetic training rows; an eighth as many are held out"),
        # FREE, for the rows themselves are compared
        Flag("data_path", "path", "./", (), FREE,
             "a directory (synthetic data), or an .npz with x and y"),
    )),
    ("device", (
        # FREE, for the device that was chosen is compared
        Flag("device", "text", "auto", ("auto", "npu", "cpu"), FREE,
             "auto, npu or cpu"),
        Flag("precision_mode", "text", "allow_mix_precision", _PRECISION_MODES,
             FIXED_ON_NPU, "the NPU's mixed precision, one of four"),
        Flag("modify_mixlist", "path", "", (), FIXED_ON_NPU,
             "JSON file of operators for mixed precision"),
        Flag("over_dump", "switch", "False", (), FREE,
             "True: dump operators that overflow"),
        Flag("data_dump_flag", "switch", "0", (), FREE, "1: dump operators' data"),
        Flag("data_dump_step", "text", "10", (), FREE,
             "steps to dump, such as 5 or 0|3-7"),
        Flag("profiling", "switch", "False", (), FREE, "True: profile the run"),
        Flag("data_save_path", "path", "/home/data", (), FREE,
             "directory for dumps and profiles; output_dir where it cannot be made"),
    )),
    ("output", (
        Flag("output_dir", "path", "", (), FREE, "results; output/$ASCEND_DEVICE_ID"),
        Flag("save_interval", "integer", 10, (0, _MILLION), FREE,
             "epochs between two checkpoints; 0: at the end alone"),
        Flag("max_to_keep", "integer", 5, (1, _MILLION), FREE, "checkpoints kept"),
        Flag("resume", "switch", False, (), FREE,
             "go on from the newest checkpoint of output_dir"),
        Flag("tensorboard", "switch", False, (), FREE, "write figures for TensorBoard"),
        Flag("check", "switch", False, (), FREE,
             "check flags, files and device, then stop"),
    )),
)
# fmt: on
FLAGS = {flag.name: flag for _, group in GROUPS for flag in group}


class Config(namedtuple("Config", FLAGS)):
    """The settings of one run; a field for each flag, and of its name."""

    __slots__ = ()


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
        if name.startswith("no") and _is_switch(name[2:]) and not is_joined:
            name, is_joined, text = name[2:], True, "False"
        _check_known(name)
        if not is_joined and _is_switch(name):
            has_value = bool(words) and words[0].lower() in _SWITCH
            text = words.pop(0) if has_value else "True"
        elif not is_joined:
            if not words or words[0].startswith("--"):
                raise UserError(f"--{name} needs a value: --{name}=value.")
            text = words.pop(0)
        texts[name] = text
    return texts


def wants_help(argv):
    """bool: whether the command line asks for the flags."""
    return bool({"-h", "--h", "--help"} & set(argv))


def help_text(defaults=Config()):  # noqa: B008 (immutable)
    """Each group's flags with their meanings and defaults.

    Args:
      defaults: Config, the value of a flag that is not given.

    Returns:
      str of many lines, the last without its end.
    """
    lines = []
    for title, group in GROUPS:
        lines += ["", f"{title}:"]
        for flag in group:
            default = getattr(defaults, flag.name)
            told = "" if default in ("", None) else f" [{default!r}]"
            lines.append(f"  --{flag.name:<16} {flag.help}{told}")
    return "\n".join(lines[1:])


def print_help():
    """Prints what the train script says of itself."""
    console.keep_going()
    print("usage: train-tf.keras-npu.py [--flag=value ...]\n")
    print(help_text())


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
    return Config(*map(_read, FLAGS.values(), config))


def _check_known(name):
    if name in FLAGS:
        return
    close = difflib.get_close_matches(shortened(name, 40), FLAGS, n=1)
    advice = f"Did you mean --{close[0]}?" if close else "See --help."
    raise UserError(f"Unknown command line flag {shown(name)}. {advice}")


def _is_switch(name):
    return name in FLAGS and FLAGS[name].kind == "switch"


def _read(flag, value):
    return _KINDS[flag.kind](flag, value)


def _integer(flag, value):
    return None if value is None else _number(flag, value, int, "an integer")


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
    if not value:
        return value
    try:
        return os.path.abspath(value)
    except FileNotFoundError:
        rule = "an absolute path where the working directory has been removed"
        raise _wrong(flag, rule, value, "Change to another directory.") from None


_KINDS = dict(
    integer=_integer, number=_number, rate=_rate, switch=_switch, text=_text, path=_path
)


def _wrong(flag, rule, value, fix=""):
    return wrong(f"{flag.name} must be {rule}", value, fix)
