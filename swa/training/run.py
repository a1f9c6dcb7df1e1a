# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A run, from its first check to its report: the order of everything."""

import contextlib
import os

from swa.training import (
    console,
    dataset,
    flags,
    machine,
    output,
    session,
    settings,
    stopping,
)
from swa.training.errors import FAILED, UserError, reason


def main(argv, began):
    """Runs a command line.

    Args:
      argv: list of str, without the program's name.
      began: float, `time.monotonic()` when the program began.

    Returns:
      int, the exit status.
    """
    console.protect_streams()
    stop = stopping.Stop()
    try:
        with stop:
            report = run(settings.checked(flags.parse(argv)), stop, began)
            return int(report is not None and report["status"] != "completed")
    except stopping.Stopped:
        stop.tell()
        return stop.status
    except UserError as error:
        console.print_error(error)
        return error.status
    except MemoryError:
        console.print_error("the memory that this process may use is not enough.")
        return FAILED


def run(config, stop, began, environ=os.environ):
    """Trains as the configuration says; each stage takes what the one before returned.

    Args:
      config: a checked Config.
      stop: stopping.Stop.
      began: float, `time.monotonic()` when the program began.
      environ: mapping of environment variables.

    Returns:
      dict, what `report.json` holds, or None where there was only to check.

    Raises:
      UserError: what the user asked for cannot be done, or not to the end.
      stopping.Stopped: a signal came; a checkpoint has been written.
    """
    console.set_verbosity(config.verbose)
    device = machine.choose(config, environ)
    data = dataset.load(config)
    machine.check_batches(config, device, len(data.x))
    with output.locked(config.output_dir, config.check, device.world.is_writer):
        if config.check:
            return console.say("checked: flags, files and device are in order")
        fit, results, resume = _modules_with_tensorflow()
        with contextlib.closing(device.join()) as ranks:
            job = resume.find_start(config, device, data, ranks, began)
            lines = [device.reason, str(data), *device.notes]
            for line in lines + flags.without_effect(config):
                job.say(line)
            report = resume.read_complete_report(job)
            if report:
                path = os.path.join(config.output_dir, output.REPORT)
                console.say(f"this run is complete: {path}")
                return report
            with session.opened(job.config, device):
                with contextlib.closing(fit.prepare(job, stop)) as training:
                    fit.fit(job, training, stop)
                    return results.finish(job, training)


def _modules_with_tensorflow():
    """The modules whose import takes seconds, after all quick checks."""
    try:
        from swa.training import fit, results, resume
    except (ImportError, OSError) as error:
        cause = reason(error.__context__ or error)  # TensorFlow's own is a traceback
        raise UserError(f"TensorFlow cannot be imported: {cause}.", FAILED) from error
    return fit, results, resume
