# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Whether a run may go on from a checkpoint: the settings that make its result."""

import json
from typing import NamedTuple

from swa import schedules
from swa.training.config import (
    Config,
    InputError,
    default_start_epoch,
    swa_settings,
)

_TRAINING = ("batch_size", "learning_rate", "momentum", "seed")
_SWA = ("start_epoch", "lr_schedule", "swa_lr", "swa_lr2", "swa_freq")
_MODEL = ("hidden_units", "num_classes")
_SYNTHETIC = ("num_features", "num_samples")  # a file has its own
_NPU = ("precision_mode", "modify_mixlist")


class MadeOf(NamedTuple):
    """What a result is made of besides the flags."""

    device: str  # "npu" or "cpu"
    data_sha256: str  # hash of the rows
    is_synthetic: bool  # whether the rows were made here


def settings(config, made_of):
    """All that an equal result needs to be equal, by name, but `train_epochs`.

    Args:
      config: a checked Config.
      made_of: MadeOf.

    Returns:
      dict of plain values.
    """
    names = _TRAINING + _SWA + _MODEL
    names += _SYNTHETIC if made_of.is_synthetic else ()
    names += _NPU if made_of.device == "npu" else ()
    told = {name: getattr(config, name) for name in names}
    told.update(device=made_of.device, data=made_of.data_sha256)
    return told


def continued(config, made_of, found):
    """The configuration with which a run goes on.

    Where neither run was given a start_epoch, the saved one stays although
    train_epochs changes, for the rates of the epochs trained follow from it.

    Args:
      config: a checked Config.
      made_of: MadeOf.
      found: checkpoint.Found, all its epochs before the batch-norm epoch.

    Raises:
      InputError: train_epochs leave no epoch to train, or none after start_epoch; a
        setting that would give another result than the saved one, by name.
    """
    trained_epochs, saved = found.snapshot.epoch, found.run
    saved_start_epoch = saved["settings"]["start_epoch"]
    if config.train_epochs <= trained_epochs:
        raise InputError(
            f"train_epochs must be above the {trained_epochs} epochs of the "
            f"checkpoint, got {config.train_epochs}."
        )
    was_default = saved_start_epoch == default_start_epoch(saved["train_epochs"])
    is_default = config.start_epoch == default_start_epoch(config.train_epochs)
    if was_default and is_default:
        config = config._replace(start_epoch=saved_start_epoch)
        try:
            schedules.check_run(
                swa_settings(config), config.train_epochs, config.learning_rate
            )
        except ValueError as error:
            raise InputError(str(error)) from None
    check(settings(config, made_of), saved["settings"])
    return config


def completed(path, config, made_of):
    """The report at `path` if it is of a run completed with these settings, or None."""
    try:
        with open(path) as file:
            told = json.load(file)
        then = Config(**told["config"])
        of_then = made_of._replace(
            device=told["device"], data_sha256=told["data"]["sha256"]
        )
        is_whole = told["status"] == "completed" and told["epochs"] == then.train_epochs
        is_equal = settings(then, of_then) == settings(config, made_of)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or not one of these
    if is_whole and is_equal and then.train_epochs == config.train_epochs:
        return told
    return None


def check(now, saved):
    """Refuses settings that would give another result than the saved ones.

    Args:
      now: dict, as `settings` gives it.
      saved: dict, the same of the run that saved the checkpoint.

    Raises:
      InputError: naming each setting, its value then and now.
    """
    changed = [
        f"{name} {saved.get(name)!r}, got {now.get(name)!r}"
        for name in sorted(set(now) | set(saved))
        if now.get(name) != saved.get(name)
    ]
    if changed:
        raise InputError(
            f"resume needs the settings of the checkpoint: {'; '.join(changed)}. Give "
            f"these, or start anew without --resume."
        )
