# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The learning rate of every batch and the epochs whose weights are averaged.

Pure functions of epoch and batch, so that the callback, a plot and a resumed
run cannot disagree. Epochs and batches count from zero in here; what a user
types or reads (`start_epoch`, `Plan.sampled_epochs`) counts from one.
"""

import math
import numbers
from typing import List, NamedTuple, Optional, Union

import numpy as np

__all__ = [
    "LR_SCHEDULES",
    "SNAPSHOTS",
    "Plan",
    "Settings",
    "check_run",
    "checked",
    "epoch_rates",
    "is_sampled",
    "plan",
    "resolved_rates",
    "sampled_epochs",
]

LR_SCHEDULES = ("manual", "constant", "cyclic")
SNAPSHOTS = ("cycle_start", "cycle_end")

Rate = Union[float, str]  # a number, or "auto"


class Settings(NamedTuple):
    """What the user asked for, as typed; `checked` returns it after the checks."""

    start_epoch: int  # one-based
    lr_schedule: str = "manual"  # one of LR_SCHEDULES
    swa_lr: Rate = "auto"  # the rate of averaging, the lowest of a cycle
    swa_lr2: Rate = "auto"  # the highest rate of a cycle
    swa_freq: int = 1  # epochs per cycle, and between two samples
    snapshot: str = "cycle_start"  # one of SNAPSHOTS


class Plan(NamedTuple):
    """What a run does, epoch by epoch, known without training."""

    rates: np.ndarray  # (epochs, batches_per_epoch); nan where SWA does not know
    sampled_epochs: List[int]  # one-based
    batch_norm_epoch: Optional[int]  # one-based; None without batch norm


def checked(*values, **named) -> Settings:
    """Makes `Settings`, if the values are sound together.

    Args:
      *values, **named: the fields of `Settings`.

    Returns:
      Settings.

    Raises:
      ValueError: naming the argument, the rule and the value.
    """
    settings = Settings(*values, **named)
    start_epoch, lr_schedule, swa_lr, swa_lr2, swa_freq, snapshot = settings
    check_count("start_epoch", start_epoch, 2)
    _check_choice("lr_schedule", lr_schedule, LR_SCHEDULES)
    _check_rate("swa_lr", swa_lr)
    _check_rate("swa_lr2", swa_lr2)
    check_count("swa_freq", swa_freq, 1)
    _check_choice("snapshot", snapshot, SNAPSHOTS)
    if swa_lr == "auto" and swa_lr2 != "auto":
        raise ValueError(
            f"swa_lr2 must be 'auto' when swa_lr is 'auto', got "
            f"{swa_lr2!r}. Give swa_lr too."
        )
    if lr_schedule == "cyclic":
        if swa_freq < 2:
            raise ValueError(
                f"swa_freq must be at least 2 (epochs) with lr_schedule "
                f"'cyclic', got {swa_freq!r}."
            )
        if "auto" not in (swa_lr, swa_lr2):
            _check_cycle(swa_lr, swa_lr2)
    return settings


def check_run(settings, epochs, learning_rate, batch_norm=False, n_averaged=0):
    """Checks the settings against the run that is about to begin.

    Args:
      settings: Settings, from `checked`.
      epochs: int, the last epoch of the run, counted from one.
      learning_rate: float, the compiled rate; nan: it is not known, and is not
        compared with `swa_lr`.
      batch_norm: bool; if so the last epoch takes no sample.
      n_averaged: int, samples taken before, of a run that is continued.

    Raises:
      ValueError: naming the argument, the rule and the value.
    """
    if settings.start_epoch >= epochs:
        raise ValueError(
            f"start_epoch must be below epochs, got start_epoch "
            f"{settings.start_epoch!r} and epochs {epochs!r}."
        )
    if not n_averaged and not sampled_epochs(settings, epochs, batch_norm):
        before = "before the batch-norm epoch, " if batch_norm else ""
        raise ValueError(
            f"swa_freq must leave an epoch to be sampled {before}got "
            f"{settings.swa_freq!r} with snapshot {settings.snapshot!r}, start_epoch "
            f"{settings.start_epoch!r} and epochs {epochs!r}."
        )
    if settings.lr_schedule == "manual":
        return
    low, high = resolved_rates(settings, learning_rate)
    # the optimizer holds its rate in float32: 0.02 reads back as 0.0199999996
    if np.float32(low) > np.float32(learning_rate):
        raise ValueError(
            f"swa_lr must not be above the compiled learning rate "
            f"{learning_rate:.6g}, got {low:.6g}."
        )
    if settings.lr_schedule == "cyclic":
        _check_cycle(float(np.float32(low)), float(np.float32(high)))


def resolved_rates(settings: Settings, learning_rate: float):
    """The two rates of averaging as numbers.

        swa_lr 'auto' = 0.1 * learning_rate
        swa_lr2 'auto' = swa_lr + 0.25 * (learning_rate - swa_lr)

    Args:
      settings: Settings, from `checked`.
      learning_rate: float, the compiled rate.

    Returns:
      (float, float): swa_lr and swa_lr2.
    """
    low = 0.1 * learning_rate if settings.swa_lr == "auto" else float(settings.swa_lr)
    if settings.swa_lr2 == "auto":
        return low, low + 0.25 * (learning_rate - low)
    return low, float(settings.swa_lr2)


def epoch_rates(settings, learning_rate, epoch, batches_per_epoch) -> np.ndarray:
    """The learning rate of each batch of one epoch.

    With lr0 the compiled rate, e the epoch, s = start_epoch - 1, b the batch,
    n = batches_per_epoch:

      all schedules before epoch s, 'constant' also from s on: t = e / s,
        rate = lr0                                      for t <= 0.5
               lr0 * (1 - (1 - swa_lr/lr0) * (t-0.5)/0.4)   for t <= 0.9
               swa_lr                                   after
      'cyclic' from s on: u = (((e-s) mod swa_freq) * n + b + 1) / (swa_freq * n),
        rate = (1 - u) * swa_lr2 + u * swa_lr
      'manual': nan, the rate is the user's.

    Args:
      settings: Settings, from `checked`.
      learning_rate: float, the compiled rate lr0.
      epoch: int >= 0, counted from zero.
      batches_per_epoch: int >= 1; 0: the length is not known, and all batches get the
        rate of the middle of the epoch.

    Returns:
      float64 array of shape (batches_per_epoch,), or (1,) at unknown length. It is
      linear in the batch, and does not rise. A rate has no unit.
    """
    batches = max(batches_per_epoch, 1)
    if settings.lr_schedule == "manual":
        return np.full(batches, np.nan)
    low, high = resolved_rates(settings, learning_rate)
    start = settings.start_epoch - 1
    if settings.lr_schedule == "cyclic" and epoch >= start:
        batches_done = np.arange(1.0, batches + 1) if batches_per_epoch else 0.5
        epochs_done = (epoch - start) % settings.swa_freq
        progress = (epochs_done * batches + np.atleast_1d(batches_done)) / (
            settings.swa_freq * batches
        )
        return (1.0 - progress) * high + progress * low
    return np.full(batches, np.interp(epoch / start, [0.5, 0.9], [learning_rate, low]))


def is_sampled(settings: Settings, epoch: int) -> bool:
    """Whether the weights at the end of an epoch are averaged.

        e >= s  and  (e - s) mod swa_freq == phase

    with e the epoch, s = start_epoch - 1, and phase 0 for 'cycle_start' and
    swa_freq - 1 for 'cycle_end'.

    Args:
      settings: Settings, from `checked`.
      epoch: int, counted from zero.

    Returns:
      bool.
    """
    since_start = epoch - (settings.start_epoch - 1)
    phase = 0 if settings.snapshot == "cycle_start" else settings.swa_freq - 1
    return since_start >= 0 and since_start % settings.swa_freq == phase


def sampled_epochs(settings: Settings, epochs: int, batch_norm: bool = False):
    """The epochs that a run samples, counted from one.

    Args:
      settings: Settings, from `checked`.
      epochs: int, of the run.
      batch_norm: bool; if so the last epoch is the forward-only one, and not sampled.

    Returns:
      List of int.
    """
    last = epochs - 1 if batch_norm else epochs
    return [epoch + 1 for epoch in range(last) if is_sampled(settings, epoch)]


def plan(
    settings, epochs, batches_per_epoch, learning_rate=math.nan, batch_norm=False
) -> Plan:
    """The table that a run of `epochs` epochs follows.

    Args:
      settings: Settings, from `checked`.
      epochs: int above `start_epoch`.
      batches_per_epoch: int >= 1.
      learning_rate: float, the compiled rate; nan leaves what depends on it nan.
      batch_norm: bool; if so the last epoch has rate 0 and is not sampled.

    Returns:
      Plan.

    Raises:
      ValueError: if `batches_per_epoch` is below 1, or for what `check_run` refuses.
    """
    check_count("batches_per_epoch", batches_per_epoch, 1)
    check_run(settings, epochs, learning_rate, batch_norm)
    rates = np.stack(
        [
            epoch_rates(settings, learning_rate, epoch, batches_per_epoch)
            for epoch in range(epochs)
        ]
    )
    if batch_norm:
        rates[-1] = 0.0
    sampled = sampled_epochs(settings, epochs, batch_norm)
    return Plan(rates, sampled, epochs if batch_norm else None)


def check_count(name, value, least):
    """Refuses a value that is no integer, or too small.

    Args:
      name: str, what the message calls it.
      value: of any type.
      least: int, the smallest that is allowed.

    Raises:
      ValueError: naming the argument, the rule and the value.
    """
    is_count = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_count or value < least:
        rule = f"must be an integer of at least {least}"
        raise ValueError(f"{name} {rule}, got {value!r}.")


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}.")


def _check_rate(name, value):
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if value != "auto" and not (is_number and math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be 'auto' or a number above 0, got {value!r}.")


def _check_cycle(low, high):
    if low > high:
        raise ValueError(
            f"swa_lr must not be above swa_lr2 with lr_schedule 'cyclic', "
            f"got swa_lr {low:.6g} and swa_lr2 {high:.6g}."
        )
