# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where a run begins: at nothing, or at a checkpoint that its settings fit."""

import os
import time
from typing import NamedTuple, Optional

from swa.training import checkpoint, console, dataset, files, flags, machine, output
from swa.training.errors import UserError, shown, wrong
from swa.training.ranks import Ranks
from swa.training.settings import check_schedule


class Job(NamedTuple):
    """What is to be done, where, and what it goes on from."""

    config: flags.Config
    device: machine.Device
    data: dataset.Data
    ranks: Ranks
    folder: checkpoint.Folder
    began: float  # `time.monotonic()` at the beginning, less the seconds before a stop
    settings: dict  # that the result depends on, as `settings_that_count` gives them
    snapshot: Optional[checkpoint.Snapshot]  # None where the run begins anew

    @property
    def epoch(self):
        """int: the epochs trained before."""
        return self.snapshot.epoch if self.snapshot else 0

    def seconds(self):
        """float: how long the run has taken, with what it took before a stop."""
        return time.monotonic() - self.began

    def say(self, line):
        """Prints a line, unless the run is to be silent."""
        if self.config.verbose:
            console.say(line)


def find_start(config, device, data, ranks, began):
    """Finds where the run begins; changes no file.

    Args:
      config: a checked Config.
      device: machine.Device.
      data: dataset.Data.
      ranks: Ranks.
      began: float, `time.monotonic()` when the program began.

    Returns:
      Job, whose config has the checkpoint's start_epoch if none was typed.

    Raises:
      UserError: settings that change the result, no checkpoint that can be read where
        there are results, or no epoch left to train.
    """
    folder = checkpoint.Folder(config.output_dir, config.max_to_keep)
    snapshot = folder.find(console.say) if config.resume else None
    if snapshot is None:
        if config.resume:
            _check_nothing_to_lose(config.output_dir, folder)
            console.say(f"warning: no checkpoint in {folder.path}: starting anew")
        settings = settings_that_count(config, device, data)
        return Job(config, device, data, ranks, folder, began, settings, None)
    if config.train_epochs <= snapshot.epoch:
        raise wrong(
            f"train_epochs must be above the {snapshot.epoch} epochs of the checkpoint",
            config.train_epochs,
        )
    saved = snapshot.run["settings"]
    if "start_epoch" not in config.typed:
        # the rates of the epochs trained follow from it, also if train_epochs changes
        config = config._replace(start_epoch=saved["start_epoch"])
        check_schedule(config)
    settings = settings_that_count(config, device, data)
    check_same_settings(settings, saved)
    then, now = snapshot.run.get("ranks", 1), device.world.size
    if then != now:  # each has its own batch norm
        console.say(f"the checkpoint is of {then} ranks, and now there are {now}")
    began -= snapshot.run["e2e_seconds"]
    return Job(config, device, data, ranks, folder, began, settings, snapshot)


def settings_that_count(config, device, data):
    """All that an equal result needs to be equal, but `train_epochs`.

    Args:
      config: a checked Config.
      device: machine.Device.
      data: dataset.Data.

    Returns:
      dict of plain values by name.
    """
    names = flags.FIXED + flags.FIXED_FOR_SYNTHETIC * data.is_synthetic
    names += flags.FIXED_ON_NPU * (device.name == "npu")
    values = {name: getattr(config, name) for name in names}
    return dict(values, device=device.name, data=data.sha256)


def check_same_settings(settings, saved):
    """Refuses settings that would give another result than the saved ones.

    Args:
      settings: dict, as `settings_that_count` gives it.
      saved: dict, the same of the run that saved the checkpoint.

    Raises:
      UserError: naming each setting, its value then and now.
    """
    changes = [
        f"{name} {shown(saved.get(name))}, got {shown(settings.get(name))}"
        for name in sorted({*saved, *settings})
        if saved.get(name) != settings.get(name)
    ]
    if changes:
        raise UserError(
            f"resume needs the settings of the checkpoint: {'; '.join(changes)}. "
            "Give these, or start anew without --resume."
        )


def read_complete_report(job):
    """The report of the run, if it is complete.

    A report beside the checkpoint that the run goes on from has the same settings,
    because a run that begins anew removes both.

    Returns:
      dict, or None where there are epochs to train.
    """
    if job.snapshot is None:
        return None
    path = os.path.join(job.config.output_dir, output.REPORT)
    try:
        report = files.read_json(output.REPORT, path)
        is_complete = report["status"] == "completed"
        is_whole = report["epochs"] == job.config.train_epochs
    except (UserError, KeyError, TypeError):
        return None  # absent, or no report
    return report if is_complete and is_whole else None


def take_over(job):
    """Makes the output folder this run's: removes earlier results, tells the launcher.

    Called when the training begins, after all checks, also those between ranks. So a
    run that is refused, or stopped before, removes nothing.

    Args:
      job: Job.

    Raises:
      UserError: the folder cannot be changed; then no result is removed.
    """
    output_dir = job.config.output_dir
    resumes = job.snapshot is not None
    if resumes:
        job.say(f"resuming after epoch {job.epoch}: {job.folder.path_of(job.epoch)}")
    elif output.results_in(output_dir):
        job.say(f"replacing the results of an earlier run in {output_dir}")
    if job.ranks.is_writer:
        if resumes:
            job.folder.check_writable()
        replaced = [output.REPORT] if resumes else output.RESULTS
        output.remove_results(output_dir, replaced)
        output.remove_leftovers(output_dir)
    output.tell_started(output_dir, resumes)


def _check_nothing_to_lose(output_dir, folder):
    """Refuses to begin anew if --resume was asked for and there are results."""
    report = os.path.join(output_dir, output.REPORT)
    if os.path.lexists(report) or not folder.is_empty():
        raise UserError(
            "resume needs a checkpoint where there are results of an earlier run, "
            f"got none in {shown(folder.path)}. "
            "Start anew without --resume, which removes them."
        )
