# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where a run begins: at nothing, or at a checkpoint that its settings fit."""

import json
import os
from typing import NamedTuple, Optional

from swa.training import checkpoint, console, flags, output
from swa.training.errors import UserError, shown, wrong
from swa.training.settings import check_schedule


class Start(NamedTuple):
    """Where a run begins."""

    config: flags.Config
    settings: dict  # that the result depends on, as `settings_that_count` gives them
    path: str = ""  # of the checkpoint
    snapshot: Optional[checkpoint.Snapshot] = None  # what is in it
    run: dict = {}  # what the run that saved it said of itself
    report: dict = {}  # of the run, if it is complete

    @property
    def epoch(self):
        """int: the epochs trained before."""
        return self.snapshot.epoch if self.snapshot else 0


def find_start(config, device, data, folder):
    """Finds where the run begins; changes no file.

    Args:
      config: a checked Config.
      device: machine.Device.
      data: dataset.Data.
      folder: checkpoint.Folder.

    Returns:
      Start, whose config has the checkpoint's start_epoch if none was typed.

    Raises:
      UserError: settings that change the result, no checkpoint that can be read where
        there are results, or no epoch left to train.
    """
    found = folder.find(console.say) if config.resume else None
    if found is None:
        if config.resume:
            _check_nothing_to_lose(config.output_dir, folder)
            console.say(f"warning: no checkpoint in {folder.path}: starting anew")
        return Start(config, settings_that_count(config, device, data))
    if config.train_epochs <= found.snapshot.epoch:
        epochs = f"the {found.snapshot.epoch} epochs of the checkpoint"
        raise wrong(f"train_epochs must be above {epochs}", config.train_epochs)
    saved = found.run["settings"]
    if "start_epoch" not in config.typed:
        # the rates of the epochs trained follow from it, also if train_epochs changes
        config = config._replace(start_epoch=saved["start_epoch"])
        check_schedule(config)
    settings = settings_that_count(config, device, data)
    check_same_settings(settings, saved)
    then, now = found.run.get("ranks", 1), device.world.size
    if then != now:  # each has its own batch norm
        console.say(f"the checkpoint is of {then} ranks, and now there are {now}")
    report = read_complete_report(config, settings)
    return Start(
        config, settings, found.path, found.snapshot, run=found.run, report=report
    )


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
        needed = f"resume needs the settings of the checkpoint: {'; '.join(changes)}"
        raise UserError(f"{needed}. Give these, or start anew without --resume.")


def read_complete_report(config, settings):
    """The report of a run completed with these settings, or an empty dict.

    Args:
      config: a checked Config.
      settings: dict, as `settings_that_count` gives it.
    """
    try:
        with open(os.path.join(config.output_dir, output.REPORT)) as file:
            report = json.load(file)
        now = dict(settings, train_epochs=config.train_epochs)
        then = dict(report["config"], device=report["device"])
        then["data"] = report["data"]["sha256"]
        is_same = all(then[name] == now[name] for name in now)
        is_complete = report["status"] == "completed"
        is_whole = report["epochs"] == config.train_epochs
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}  # absent, or no report
    return report if is_same and is_complete and is_whole else {}


def take_over(job, start, folder):
    """Makes the output folder this run's: removes earlier results, tells the launcher.

    Called when the training begins, after all checks, also those between ranks. So a
    run that is refused, or stopped before, removes nothing.

    Args:
      job: run.Job.
      start: Start.
      folder: checkpoint.Folder.

    Raises:
      UserError: the folder cannot be changed; then no result is removed.
    """
    output_dir = job.config.output_dir
    is_new = start.snapshot is None
    if not is_new:
        job.say(f"resuming after epoch {start.epoch}: {start.path}")
    elif output.results_in(output_dir):
        job.say(f"replacing the results of an earlier run in {output_dir}")
    if job.ranks.is_writer:
        if not is_new:
            folder.check_writable()
            folder.remove_leftovers()
        output.remove_results(output_dir, output.RESULTS if is_new else [output.REPORT])
        output.remove_leftovers(output_dir)
    output.tell_started(output_dir, resumes=not is_new)


def _check_nothing_to_lose(output_dir, folder):
    """Refuses to begin anew if --resume was asked for and there are results."""
    report = os.path.join(output_dir, output.REPORT)
    if os.path.lexists(report) or not folder.is_empty():
        rule = "resume needs a checkpoint where there are results of an earlier run"
        fix = "Start anew without --resume, which removes them."
        raise UserError(f"{rule}, got none in {shown(folder.path)}. {fix}")
