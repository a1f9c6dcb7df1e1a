# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A run from the user's command line to the zoo's result files."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from launcher import hosts, options, plan, process, zoo
from launcher.job import ChildJob
from launcher.log import BY_SIGNAL, ERRORS, SCREEN
from swa.training import console, files, flags, output
from swa.training.errors import UserError
from swa.training.remedies import remedies

TEST = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRAINER = os.path.join(os.path.dirname(TEST), "train-tf.keras-npu.py")


def main(argv):
    """Runs what launch.py was asked for; returns the exit status."""
    console.protect_streams()
    if argv[:1] == ["--worker"]:
        return hosts.work(argv[1], argv[3:])
    name, case_suffix, devices, epochs = argv[:4]
    process.on_signals(process.raise_stopped)
    try:
        request = options.read(
            [f"--train_epochs={epochs}", *argv[4:]], has_ranks=devices != "1"
        )
        return _launch(request, name, case_suffix)
    except UserError as error:
        ERRORS.line(f"{name}: error: {error}")
        return error.status
    except process.Stopped as stopped:
        ERRORS.line(f"{name}: stopped by {stopped}")
        return 128 + stopped.number


def _launch(request, name, case_suffix):
    """The whole order of a run.

    Args:
      request: Request.
      name: str, of the launcher.
      case_suffix: "acc" or "perf".

    Returns:
      int, the exit status.
    """
    settings = request.settings
    with tempfile.TemporaryDirectory(prefix="launcher") as scratch:
        planned = plan.make(request, os.environ, scratch)
        output_dir = settings.output_dir or planned.ranks[0].folder
        trainer = _trainer(settings, output_dir)
        status = _check(trainer, planned, settings.check)
        if status or settings.check:
            return status
        _say_beginning(planned, settings)
        status, environ = _with_horovod(planned)
        if status:
            return status
        with _folders(planned.ranks):
            job = _run(trainer, planned, environ)
        if planned.table and job.has_begun:  # to be looked at
            shutil.copy(planned.table, planned.ranks[0].folder)
    if job.failure:
        for line in _explained(job, name):
            ERRORS.line(line)
        return job.failure.status
    if planned.ranks[0].number == 0:
        for line in zoo.write(output_dir, case_suffix):
            SCREEN.line(line)
    return 0


def _trainer(settings, output_dir):
    """The trainer's command. It runs in a folder of its own: all paths are absolute."""
    typed = {*settings.typed, "data_path", "output_dir"} - {"check"}
    settings = settings._replace(output_dir=output_dir, typed=typed)
    return [sys.executable, TRAINER, *flags.arguments(settings)]


def _check(trainer, planned, is_shown):
    """Finds what is wrong before anything starts.

    Args:
      trainer: list of str, its command.
      planned: Plan.
      is_shown: bool, whether the trainer's output is shown.

    Returns:
      int, the trainer's exit status.
    """
    for rank in planned.ranks:
        output.check_writable("output_dir", rank.folder)
    environ = plan.merged(os.environ, planned.ranks[0].variables)
    stdout = None if is_shown else subprocess.DEVNULL
    return process.run_helper([*trainer, "--check"], env=environ, stdout=stdout)[0]


def _say_beginning(planned, settings):
    for line in flags.without_effect(settings):
        SCREEN.line(line)
    first = planned.ranks[0]
    if planned.engine == plan.ONE:
        if "RANK_TABLE_FILE" in os.environ:
            SCREEN.line(
                "RANK_TABLE_FILE is unset: it would start HCCL, for one device too"
            )
        SCREEN.line(f"Device ID: {first.device_id}")
    else:
        SCREEN.line(
            f"Ranks: {planned.size}, joined by {planned.engine}; logs: "
            f"{os.path.relpath(first.log)} ..."
        )


def _with_horovod(planned):
    """Builds Horovod if it joins the ranks and is not there.

    Returns:
      (the build's exit status, environment in which Horovod can be imported).
    """
    if planned.engine != plan.HOROVOD:
        return 0, os.environ
    build = ["bash", os.path.join(TEST, "env_horovod.sh")]
    status, path = process.run_helper(build, stdout=subprocess.PIPE)
    return status, dict(os.environ, PYTHONPATH=os.fsdecode(path).rstrip("\n"))


@contextlib.contextmanager
def _folders(ranks):
    """Makes the ranks' folders; at its end removes those that stayed empty."""
    folders = [pathlib.Path(rank.folder) for rank in ranks]
    missing = {
        path
        for folder in folders
        for path in (folder, *folder.parents)
        if not path.is_dir()
    }
    try:
        for folder in folders:
            with files.one_line_errors(str(folder)):
                folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in sorted(missing, reverse=True):  # the inner ones first
            with contextlib.suppress(OSError):
                path.rmdir()


def _run(trainer, planned, environ):
    """Runs all ranks to their end; returns the Job."""
    kind = hosts.HorovodJob if planned.engine == plan.HOROVOD else ChildJob
    job = kind(planned)
    process.on_signals(job.on_signal)
    job.run(trainer, environ)
    return job


def _explained(job, name):
    """What to say on standard error of a job that has failed: a list of lines."""
    failure = job.failure
    if job.signal_name and job.plan.size > 1:
        return [f"{name}: stopped by {job.signal_name}"]
    if job.signal_name or failure.status in BY_SIGNAL:
        return []  # the run has said how to go on
    who = "the run" if job.plan.engine == plan.ONE else f"rank {failure.rank}"
    summary = f"{name}: {who} failed with status {failure.status};"
    is_shown = failure.rank == job.plan.ranks[0].number and SCREEN.is_open
    if not failure.has_begun:
        lines = failure.lines  # they say why
    elif is_shown and os.path.sameopenfile(1, 2):
        lines = [f"{summary} its log is {failure.log}"]
    else:
        lines = [f"{summary} the last lines of {failure.log}:", *failure.lines]
    return [*lines, *remedies("\n".join(failure.lines))]
