# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Whether a run may go on from a checkpoint: the settings that make its result."""

import json
from typing import NamedTuple

from swa.training import config as settings
from swa.training import flags
from swa.training.errors import UserError, shown


class MadeOf(NamedTuple):
    """What a result is made of besides the flags."""

    device: str  # "npu" or "cpu"
    data_sha256: str  # hash of the rows
    is_synthetic: bool  # whether the rows were made here


def fixed(config, made_of):
    """All that an equal result needs to be equal, by name, but `train_epochs`.

    Args:
      config: a checked Config.
      made_of: MadeOf.

    Returns:
      dict of plain values.
    """
    kinds = {flags.FIXED}
    kinds |= {flags.FIXED_FOR_SYNTHETIC} if made_of.is_synthetic else set()
    kinds |= {flags.FIXED_ON_NPU} if made_of.device == "npu" else set()
    values = {
        name: getattr(config, name)
        for name, flag in flags.FLAGS.items()
        if flag.on_resume in kinds
    }
    return dict(values, device=made_of.device, data=made_of.data_sha256)


def continued(config, made_of, found):
    """The configuration with which a run goes on.

    Where neither run was given a start_epoch, the saved one stays although
    train_epochs changes, for the rates of the epochs trained follow from it.

    Args:
      config: a checked Config.
      made_of: MadeOf.
      found: checkpoint.Found, all its epochs before the batch-norm epoch.

    Returns:
      Config.

    Raises:
      UserError: train_epochs leave no epoch to train, or none after start_epoch; a
        setting that would give another result than the saved one, by name.
    """
    trained_epochs, saved = found.snapshot.epoch, found.run
    saved_start_epoch = saved["settings"]["start_epoch"]
    if config.train_epochs <= trained_epochs:
        raise UserError(
            f"train_epochs must be above the {trained_epochs} epochs of the "
            f"checkpoint, got {config.train_epochs}."
        )
    default = settings.default_start_epoch
    was_default = saved_start_epoch == default(saved["train_epochs"])
    if was_default and config.start_epoch == default(config.train_epochs):
        config = config._replace(start_epoch=saved_start_epoch)
        settings.check_schedule(config)
    check(fixed(config, made_of), saved["settings"])
    return config


def completed(path, config, made_of):
    """The report at `path` if it is of a run completed with these settings, or None."""
    try:
        with open(path) as file:
            report = json.load(file)
        then = flags.Config(**report["config"])
        of_then = made_of._replace(
            device=report["device"], data_sha256=report["data"]["sha256"]
        )
        is_whole = report["epochs"] == then.train_epochs == config.train_epochs
        is_equal = fixed(then, of_then) == fixed(config, made_of)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or not one of these
    is_same = is_whole and is_equal and report.get("status") == "completed"
    return report if is_same else None


def check(now, saved):
    """Refuses settings that would give another result than the saved ones.

    Args:
      now: dict, as `fixed` gives it.
      saved: dict, the same of the run that saved the checkpoint.

    Raises:
      UserError: naming each setting, its value then and now.
    """
    changed = [
        f"{name} {shown(saved.get(name))}, got {shown(now.get(name))}"
        for name in sorted(set(now) | set(saved))
        if now.get(name) != saved.get(name)
    ]
    if changed:
        raise UserError(
            f"resume needs the settings of the checkpoint: {'; '.join(changed)}. Give "
            f"these, or start anew without --resume."
        )
