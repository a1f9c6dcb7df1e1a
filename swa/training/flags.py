# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The command line: one table in which each flag is defined once.

Only the standard library is needed, so that a launcher and `--help` can read it with
any Python from 3.6 on.
"""

import difflib
import os
from collections import namedtuple
from typing import Any, NamedTuple, Optional, Tuple

from swa.training import console
from swa.training.errors import UserError, shortened, shown

# May a flag change when a run is resumed? FIXED: no, the result depends on it.
FIXED, FREE = "fixed", "free"
FIXED_FOR_SYNTHETIC = "fixed for synthetic rows"  # a file has its own
FIXED_ON_NPU = "fixed on an NPU"  # does nothing elsewhere

_MILLION = 10**6
_LARGEST_INT32 = 2**31 - 1
_SMALLEST_RATE, _LARGEST_RATE = 1e-37, 1e38  # float32 holds them
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


class Flag(NamedTuple):
    """One flag, which is a field of Config too."""

    name: str
    kind: str  # integer, number, rate (or auto), text, path or switch
    default: Any  # as the documents write it
    help: str
    least: Optional[float] = None
    most: Optional[float] = None
    choices: Tuple[str, ...] = ()
    on_resume: str = FIXED


GROUPS = (
    (
        "training",
        (
            Flag(
                "train_epochs", "integer", 100, "epochs to train", 3, _MILLION,
                on_resume=FREE,
            ),
            Flag(
                "batch_size", "integer", 16384, "samples per step, of all cards "
                "together", 1, _LARGEST_INT32,
            ),
            Flag(
                "learning_rate", "number", 0.1, "SGD's learning rate",
                _SMALLEST_RATE, _LARGEST_RATE,
            ),
            Flag("momentum", "number", 0.0, "SGD's momentum, below 1", 0, 1 - 1e-7),
            Flag(
                "seed", "integer", 2, "of data, initial weights and order of rows",
                0, 2**32 - 1,
            ),
        ),
    ),
    (
        "SWA",
        (
            Flag(
                "start_epoch", "integer", None, "first epoch averaged, counted from "
                "one; three quarters of train_epochs", 2, _MILLION,
            ),
            Flag(
                "lr_schedule", "text", "cyclic", "manual, constant or cyclic",
                choices=("manual", "constant", "cyclic"),
            ),
            Flag(
                "swa_lr", "rate", 0.001, "lowest rate, or auto",
                _SMALLEST_RATE, _LARGEST_RATE,
            ),
            Flag(
                "swa_lr2", "rate", 0.003, "highest rate of a cycle, or auto",
                _SMALLEST_RATE, _LARGEST_RATE,
            ),
            Flag(
                "swa_freq", "integer", 3, "epochs per cycle and per sample",
                1, _MILLION,
            ),
            Flag(
                "verbose", "integer", 1, "0 only what went wrong, 1 the run's stages "
                "and epochs, 2 session options too", 0, 2, on_resume=FREE,
            ),
        ),
    ),
    (
        "model and data",
        (
            Flag(
                "hidden_units", "integer", 108, "units of the hidden layer",
                1, _MILLION,
            ),
            Flag("num_classes", "integer", 108, "classes", 2, _MILLION),
            Flag(
                "num_features", "integer", 6, "features of synthetic rows",
                1, _MILLION, on_resume=FIXED_FOR_SYNTHETIC,
            ),
            Flag(
                "num_samples", "integer", 131072, "synthetic training rows; an eighth "
                "as many are held out", 1, _LARGEST_INT32,
                on_resume=FIXED_FOR_SYNTHETIC,
            ),
            Flag(  # the rows themselves are compared
                "data_path", "path", "./", "a directory (synthetic data), or an .npz "
                "with x and y", on_resume=FREE,
            ),
        ),
    ),
    (
        "device",
        (
            Flag(  # the device that was chosen is compared
                "device", "text", "auto", "auto, npu or cpu",
                choices=("auto", "npu", "cpu"), on_resume=FREE,
            ),
            Flag(
                "precision_mode", "text", "allow_mix_precision", "the NPU's mixed "
                "precision, one of four",
                choices=(
                    "allow_fp32_to_fp16", "force_fp16", "must_keep_origin_dtype",
                    "allow_mix_precision",
                ),
                on_resume=FIXED_ON_NPU,
            ),
            Flag(
                "modify_mixlist", "path", "", "JSON file of operators for mixed "
                "precision", on_resume=FIXED_ON_NPU,
            ),
            Flag(
                "over_dump", "switch", "False", "True: dump operators that overflow",
                on_resume=FREE,
            ),
            Flag(
                "data_dump_flag", "switch", "0", "1: dump operators' data",
                on_resume=FREE,
            ),
            Flag(
                "data_dump_step", "text", "10", "steps to dump, such as 5 or 0|3-7",
                on_resume=FREE,
            ),
            Flag(
                "profiling", "switch", "False", "True: profile the run",
                on_resume=FREE,
            ),
            Flag(
                "data_save_path", "path", "/home/data", "directory for dumps and "
                "profiles; output_dir where it cannot be made", on_resume=FREE,
            ),
        ),
    ),
    (
        "output",
        (
            Flag(
                "output_dir", "path", "", "results; output/$ASCEND_DEVICE_ID",
                on_resume=FREE,
            ),
            Flag(
                "save_interval", "integer", 10, "epochs between two checkpoints; 0: at "
                "the end alone", 0, _MILLION, on_resume=FREE,
            ),
            Flag(
                "max_to_keep", "integer", 5, "checkpoints kept", 1, _MILLION,
                on_resume=FREE,
            ),
            Flag(
                "resume", "switch", False, "go on from the newest checkpoint of "
                "output_dir", on_resume=FREE,
            ),
            Flag(
                "tensorboard", "switch", False, "write figures for TensorBoard",
                on_resume=FREE,
            ),
            Flag(
                "check", "switch", False, "check flags, files and device, then stop",
                on_resume=FREE,
            ),
        ),
    ),
)  # fmt: skip
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
            raise UserError(f"flags begin with --, got {shown(word)}. See --help.")
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
    return [
        f"--{name}={value}"
        for name, value in config._asdict().items()
        if value != _read(FLAGS[name], FLAGS[name].default)
    ]


def read(config):
    """Each setting as its kind, within its bounds, paths absolute.

    Args:
      config: Config whose fields are texts, as typed, or values.

    Returns:
      Config; read again it is the same.

    Raises:
      UserError: with the flag, the rule and the value given.
    """
    return Config(
        **{name: _read(FLAGS[name], value) for name, value in config._asdict().items()}
    )


def _check_known(name):
    if name in FLAGS:
        return
    close = difflib.get_close_matches(shortened(name, 40), FLAGS, n=1)
    advice = f"Did you mean --{close[0]}?" if close else "See --help."
    raise UserError(f"Unknown command line flag {shown(name)}. {advice}")


def _is_switch(name):
    return name in FLAGS and FLAGS[name].kind == "switch"


def _read(flag, value):
    value = _KINDS[flag.kind](flag, value)
    if flag.choices and value not in flag.choices:
        rule = f"one of {', '.join(flag.choices)}"
        raise _wrong(flag, rule, value)
    return value


def _integer(flag, value):
    return None if value is None else _number(flag, value, int, "an integer")


def _number(flag, value, kind=float, rule="a number"):
    try:
        number = kind(value)
    except ValueError:
        raise _wrong(flag, rule, value) from None
    if number < flag.least:
        raise _wrong(flag, f"at least {flag.least}", number)
    if not number <= flag.most:  # NaN neither
        raise _wrong(flag, f"at most {flag.most}", number)
    return number


def _rate(flag, value):
    if value == "auto":
        return value
    return _number(flag, value, rule="'auto' or a number")


def _switch(flag, value):
    switch = _SWITCH.get(str(value).lower())
    if switch is None:
        raise _wrong(flag, "True, False, 1 or 0", value)
    return switch


def _text(flag, value):
    return str(value)


def _path(flag, value):
    if "\0" in value:
        raise _wrong(flag, "a path", value)
    if not value:
        return value
    try:
        return os.path.abspath(value)
    except FileNotFoundError:
        raise UserError(
            f"{flag.name} must be an absolute path where the working directory has "
            f"been removed, got {shown(value)}. Change to another directory."
        ) from None


_KINDS = {
    "integer": _integer,
    "number": _number,
    "rate": _rate,
    "switch": _switch,
    "text": _text,
    "path": _path,
}


def _wrong(flag, rule, value):
    return UserError(f"{flag.name} must be {rule}, got {shown(value)}.")
