# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The settings of one training run, and every check that needs no machine."""

import math
import os
from typing import NamedTuple, Optional, Union

from swa import schedules
from swa.training import npu_options

_SWITCHES = ("over_dump", "data_dump_flag", "profiling")
_COUNTS = ("train_epochs", "batch_size", "hidden_units", "num_samples", "num_features")


class InputError(ValueError):
    """A user's mistake; its text is the one line to show."""

    status = 2  # of the program that ends with it


class OutputError(Exception):
    """What cannot be written, on a full disk for example; its text is one line."""

    status = 1


class Config(NamedTuple):
    """Settings of one training run; a field is a flag of the same name."""

    train_epochs: int = 100
    batch_size: int = 16384  # samples per step
    learning_rate: float = 0.1
    momentum: float = 0.0
    seed: int = 2
    start_epoch: Optional[int] = None  # one-based; None: three quarters of the epochs
    lr_schedule: str = "cyclic"
    swa_lr: Union[float, str] = 0.001
    swa_lr2: Union[float, str] = 0.003
    swa_freq: int = 3  # epochs
    verbose: int = 1
    hidden_units: int = 108
    num_classes: int = 108
    num_features: int = 6
    num_samples: int = 131072  # training samples; an eighth as many are held out
    data_path: str = "./"
    device: str = "auto"
    precision_mode: str = "allow_mix_precision"
    modify_mixlist: str = ""
    over_dump: Union[bool, str] = "False"
    data_dump_flag: Union[bool, str] = "0"
    data_dump_step: str = "10"
    profiling: Union[bool, str] = "False"
    data_save_path: str = "/home/data"
    output_dir: str = ""
    save_interval: int = 10  # epochs; 0: only the end
    max_to_keep: int = 5  # checkpoints
    resume: bool = False
    tensorboard: bool = False


def checked(config: Config) -> Config:
    """Returns the settings with what they imply filled in.

    Raises:
      InputError: naming the flag, the rule and the value.
      OutputError: output_dir cannot be written in.
    """
    try:
        return _checked(config)
    except ValueError as error:
        raise InputError(str(error)) from None


def _checked(config):
    for name in _COUNTS:
        _check(getattr(config, name) >= 1, name, "at least 1", getattr(config, name))
    _check(config.train_epochs >= 3, "train_epochs", "at least 3", config.train_epochs)
    _check(config.num_classes >= 2, "num_classes", "at least 2", config.num_classes)
    rate = config.learning_rate
    _check(math.isfinite(rate) and rate > 0, "learning_rate", "above 0", rate)
    _check(0 <= config.momentum < 1, "momentum", "in [0, 1)", config.momentum)
    _check(0 <= config.seed < 2**32, "seed", "in [0, 2**32)", config.seed)
    _check(config.verbose in (0, 1, 2), "verbose", "0, 1 or 2", config.verbose)
    interval, kept = config.save_interval, config.max_to_keep
    _check(interval >= 0, "save_interval", "at least 0", interval)
    _check(kept >= 1, "max_to_keep", "at least 1", kept)
    devices = ("auto", "npu", "cpu")
    _check(config.device in devices, "device", f"one of {devices}", config.device)
    path = os.path.abspath(config.data_path)
    _check(os.path.exists(path), "data_path", "an existing path", config.data_path)
    config = config._replace(
        start_epoch=_start_epoch(config),
        swa_lr=_rate("swa_lr", config.swa_lr),
        swa_lr2=_rate("swa_lr2", config.swa_lr2),
        data_path=path,
        data_save_path=os.path.abspath(config.data_save_path),
        modify_mixlist=config.modify_mixlist and os.path.abspath(config.modify_mixlist),
        output_dir=os.path.abspath(config.output_dir or "output/0"),
        **{
            name: npu_options.parse_switch(name, getattr(config, name))
            for name in _SWITCHES
        },
    )
    schedules.check_run(swa_settings(config), config.train_epochs, rate)
    npu_options.check_values(config)
    if os.path.isdir(path):  # synthetic data, whose size is a flag
        check_batch_size(config, config.num_samples)
    _check_writable(config.output_dir)
    return config


def swa_settings(config: Config) -> schedules.Settings:
    """The SWA settings among the flags."""
    return schedules.checked(
        config.start_epoch,
        config.lr_schedule,
        config.swa_lr,
        config.swa_lr2,
        config.swa_freq,
    )


def check_batch_size(config: Config, num_samples: int) -> None:
    """Raises InputError if one batch is more than all training samples."""
    if config.batch_size > num_samples:
        raise InputError(
            f"batch_size must not be above the number of training samples, got "
            f"batch_size {config.batch_size} and {num_samples} samples."
        )


def _check(is_right, name, rule, value):
    if not is_right:
        raise InputError(f"{name} must be {rule}, got {value!r}.")


def _start_epoch(config):
    if config.start_epoch is not None:
        return config.start_epoch
    return default_start_epoch(config.train_epochs)


def default_start_epoch(train_epochs: int) -> int:
    """Three quarters of the epochs."""
    return max(2, train_epochs * 3 // 4)


def _rate(name, value):
    if value == "auto":
        return value
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name} must be 'auto' or a number, got {value!r}.") from None


def _check_writable(path):
    """An output directory is made later: now its nearest parent must allow it."""
    there = path
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise InputError(f"output_dir must be a directory, got {path}: {there} is not.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"output_dir must be writable, got {path}: {there} is not.")
