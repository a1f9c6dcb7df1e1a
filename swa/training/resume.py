# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Whether a run may go on from a checkpoint: the settings that make its result."""

import json
import time
from typing import NamedTuple, Optional

from swa.training import callbacks, checkpoint, console, flags, output, results
from swa.training import config as settings
from swa.training.errors import UserError, shown, wrong


class MadeOf(NamedTuple):
    """What a result is made of besides the flags."""

    device: str  # "npu" or "cpu"
    data_sha256: str  # hash of the rows
    is_synthetic: bool  # whether the rows were made here


class Start(NamedTuple):
    """Where a run begins: at nothing, or at what a checkpoint gives."""

    config: flags.Config
    made_of: MadeOf
    path: str = ""  # of the checkpoint
    snapshot: Optional[checkpoint.Snapshot] = None
    train_seconds: float = 0.0  # spent before
    e2e_seconds: float = 0.0
    report: Optional[dict] = None  # of the run, if it is complete

    @property
    def epoch(self):
        """int: the epochs trained before."""
        return self.snapshot.epoch if self.snapshot else 0

    def describe(self, job, began_training):
        """What a run tells of itself by now, dict of plain values.

        Args:
          job: run.Job.
          began_training: float, `time.time()` then.
        """
        now = time.time()
        return {
            "settings": fixed(job.config, self.made_of),
            "train_epochs": job.config.train_epochs,
            "ranks": job.ranks.size,
            "train_seconds": now - began_training + self.train_seconds,
            "e2e_seconds": now - job.began + self.e2e_seconds,
        }


def find(config, device, data, folder):
    """Where the run begins; changes no file.

    Args:
      config: a checked Config.
      device: device.Device.
      data: data.Data.
      folder: checkpoint.Folder.

    Returns:
      Start.

    Raises:
      UserError: settings that change the result, or checkpoints of which none can be
        read.
    """
    made_of = MadeOf(device.name, data.sha256, data.is_synthetic)
    found = folder.find(console.say) if config.resume else None
    if found is None:
        if config.resume:
            console.say(f"warning: no checkpoint in {folder.path}: starting anew")
        return Start(config, made_of)
    config = continued(config, made_of, found)
    then, now = found.run.get("ranks", 1), device.world.size
    if then != now:  # each has its own batch norm
        console.say(f"the checkpoint is of {then} ranks, and now there are {now}")
    more = {name: found.run[name] for name in ("train_seconds", "e2e_seconds")}
    report = completed(results.report_path(config), config, made_of)
    more.update(snapshot=found.snapshot, report=report)
    return Start(config, made_of, found.path, **more)


def begin(job, start, folder):
    """Removes what of an earlier run would pass for this one's, and tells the launcher.

    Comes when everything that can be refused has been, by what the ranks compare as
    well: nothing is lost before.

    Raises:
      UserError: it cannot be removed.
    """
    output_dir = job.config.output_dir
    if start.snapshot:
        job.say(f"resuming after epoch {start.epoch}: {start.path}")
    if job.ranks.is_writer:
        output.remove(output_dir, results.REPORT, "*" + output.TEMPORARY)
        folder.clean()
        if not start.snapshot:
            output.remove(output_dir, checkpoint.FOLDER, callbacks.TENSORBOARD)
    output.tell_started(output_dir, resumes=start.snapshot is not None)


def fixed(config, made_of):
    """All that an equal result needs to be equal, by name, but `train_epochs`.

    Args:
      config: a checked Config.
      made_of: MadeOf.

    Returns:
      dict of plain values.
    """
    names = flags.FIXED + flags.FIXED_FOR_SYNTHETIC * made_of.is_synthetic
    names += flags.FIXED_ON_NPU * (made_of.device == "npu")
    values = {name: getattr(config, name) for name in names}
    return dict(values, device=made_of.device, data=made_of.data_sha256)


def continued(config, made_of, found):
    """The configuration with which a run goes on.

    A start_epoch that was not typed is the saved one, also where train_epochs changes,
    because the rates of the epochs trained follow from it.

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
    trained, saved = found.snapshot.epoch, found.run
    if config.train_epochs <= trained:
        rule = f"train_epochs must be above the {trained} epochs of the checkpoint"
        raise wrong(rule, config.train_epochs)
    if "start_epoch" not in config.typed:
        config = config._replace(start_epoch=saved["settings"]["start_epoch"])
        settings.check_schedule(config)
    check(fixed(config, made_of), saved["settings"])
    return config


def completed(path, config, made_of):
    """The report at `path` if it is of a run completed with these settings, or None."""
    try:
        with open(path) as file:
            report = json.load(file)
        then = flags.Config(**report["config"])
        rows = report["data"]["sha256"]
        of_then = MadeOf(report["device"], rows, made_of.is_synthetic)
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
    changed = sorted(n for n in {*saved, *now} if saved.get(n) != now.get(n))
    if changed:
        told = [f"{n} {shown(saved.get(n))}, got {shown(now.get(n))}" for n in changed]
        needed = f"resume needs the settings of the checkpoint: {'; '.join(told)}"
        raise UserError(f"{needed}. Give these, or start anew without --resume.")
