# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A run, from its first check to its report: the order of everything."""

import contextlib
import os
from typing import NamedTuple

from swa.training import config as settings
from swa.training import console, flags, output, session, stopping
from swa.training import data as rows
from swa.training import device as devices
from swa.training.errors import UserError
from swa.training.ranks import Ranks, is_writer


class Job(NamedTuple):
    """What is to be done, and where."""

    config: flags.Config
    device: devices.Device
    data: rows.Data
    ranks: Ranks
    began: float  # `time.time()` when the program began

    def say(self, line):
        """Prints a line, unless the run is to be silent."""
        if self.config.verbose:
            console.say(line)


def main(argv, began):
    """Runs a command line.

    Args:
      argv: list of str, without the program's name.
      began: float, `time.time()` when the program began.

    Returns:
      int, the exit status.
    """
    console.protect_streams()
    stop = stopping.Stop()
    try:
        with stop:
            report = run(settings.parse(argv), stop, began)
            return int(report is not None and report["status"] != "completed")
    except stopping.Stopped:
        stop.tell()
        return stop.status
    except UserError as error:
        console.print_error(error)
        return error.status


def run(config, stop, began, environ=os.environ):
    """Trains as the configuration says; each stage takes what the one before returned.

    Args:
      config: a checked Config.
      stop: stopping.Stop.
      began: float, `time.time()` when the program began.
      environ: mapping of environment variables.

    Returns:
      dict, what `report.json` holds, or None where there was only to check.

    Raises:
      UserError: what the user asked for cannot be done, or not to the end.
      stopping.Stopped: a signal came; a checkpoint has been written.
    """
    console.set_verbosity(config.verbose)
    device = devices.choose(config, environ)
    data = rows.load(config)
    devices.check_batches(config, device, len(data.x))
    with output.locked(config.output_dir, config.check, is_writer(device.world)):
        if config.check:
            return console.say("checked: flags, files and device are in order")
        from swa.training import checkpoint, fit, results, resume  # TensorFlow: slow

        folder = checkpoint.Folder(config.output_dir, config.max_to_keep)
        with folder, device.join() as ranks:
            start = resume.find(config, device, data, folder=folder)
            job = Job(start.config, device, data, ranks=ranks, began=began)
            notes = [*device.notes, *flags.without_effect(config)]
            for line in (device.reason, str(data), *notes):
                job.say(line)
            if start.report:
                console.say(f"this run is complete: {results.report_path(config)}")
                return start.report
            with session.opened(job.config, device):
                with contextlib.closing(fit.prepare(job, start, folder)) as training:
                    resume.begin(job, start, folder)
                    train_seconds = fit.fit(job, training, stop)
                    return results.finish(job, training, train_seconds)
