# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A run from the user's command line to the zoo's result files."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

from launcher import hosts, options, plan, process, zoo
from launcher.job import ChildJob
from launcher.log import BY_SIGNAL, Screen
from launcher.remedies import remedies
from swa.training import console, flags, output
from swa.training.errors import UserError

TEST = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRAINER = os.path.join(os.path.dirname(TEST), "train-tf.keras-npu.py")


def main(argv):
    """Runs what launch.py was asked for; returns the exit status."""
    console.protect_streams()
    if argv[:1] == ["--worker"]:
        return hosts.work(argv[1], argv[3:])
    name, case_suffix, devices, epochs = argv[:4]
    errors = Screen(2)
    process.on_signals(process.raise_stopped)
    try:
        flags_with_epochs = [f"--train_epochs={epochs}", *argv[4:]]
        request = options.read(flags_with_epochs, has_ranks=devices != "1")
        return _launch(request, name, case_suffix, Screen(1), errors)
    except UserError as error:
        errors.line(f"{name}: error: {error}")
        return error.status
    except process.Stopped as stopped:
        errors.line(f"{name}: stopped by {stopped}")
        return 128 + stopped.number


def _launch(request, name, case_suffix, screen, errors):
    """The whole order of a run.

    Args:
      request: Request.
      name: str, of the launcher.
      case_suffix: "acc" or "perf".
      screen: Screen for what the run prints.
      errors: Screen for errors and warnings.

    Returns:
      int, the exit status.
    """
    with tempfile.TemporaryDirectory(prefix="launcher") as scratch:
        planned = plan.make(request, os.environ, scratch)
        output_dir = request.settings.output_dir or planned.ranks[0].folder
        trainer = _trainer(request.settings, output_dir)
        status = _check(trainer, planned, request.settings.check)
        if status or request.settings.check:
            return status
        _say_beginning(screen, planned, request.settings)
        status, environ = _with_horovod(planned)
        if status:
            return status
        with _folders(planned.ranks):
            job = _run(trainer, planned, environ, screen, errors)
        if planned.table and job.has_begun:  # to be looked at
            shutil.copy(planned.table, planned.ranks[0].folder)
    if job.failure:
        for line in _explained(job, name):
            errors.line(line)
        return job.failure.status
    if planned.ranks[0].number == 0:
        for line in zoo.write(output_dir, case_suffix):
            screen.line(line)
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
    return process.run_helper([*trainer, "--check"], environ, stdout)[0]


def _say_beginning(screen, planned, settings):
    for line in flags.without_effect(settings):
        screen.line(line)
    first = planned.ranks[0]
    if planned.engine == plan.ONE:
        if "RANK_TABLE_FILE" in os.environ:
            screen.line(
                "RANK_TABLE_FILE is unset: it would start HCCL, for one device too"
            )
        screen.line(f"Device ID: {first.device_id}")
    else:
        ranks = f"Ranks: {planned.size}, joined by {planned.engine}"
        screen.line(f"{ranks}; logs: {os.path.relpath(first.log)} ...")


def _with_horovod(planned):
    """Builds Horovod if it joins the ranks and is not there.

    Returns:
      (the build's exit status, environment in which Horovod can be imported).
    """
    environ = dict(os.environ)
    if planned.engine != plan.HOROVOD:
        return 0, environ
    build = ["bash", os.path.join(TEST, "env_horovod.sh")]
    status, path = process.run_helper(build, stdout=subprocess.PIPE)
    return status, dict(environ, PYTHONPATH=os.fsdecode(path).rstrip("\n"))


@contextlib.contextmanager
def _folders(ranks):
    """Makes the ranks' folders; at its end removes those that stayed empty."""
    missing = {folder for rank in ranks for folder in _missing_folders(rank.folder)}
    try:
        for rank in ranks:
            with output.one_line_errors(rank.folder):
                os.makedirs(rank.folder, exist_ok=True)
        yield
    finally:
        for folder in sorted(missing, key=len, reverse=True):  # the inner ones first
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _missing_folders(folder):
    while not os.path.isdir(folder):
        yield folder
        folder = os.path.dirname(folder)


def _run(trainer, planned, environ, screen, errors):
    """Runs all ranks to their end; returns the Job."""
    kind = hosts.HorovodJob if planned.engine == plan.HOROVOD else ChildJob
    job = kind(planned, screen, errors)
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
    summary = f"{name}: {_who(job)} failed with status {failure.status};"
    if not failure.has_begun:
        lines = failure.lines  # why the rank refuses to begin
    elif _is_shown(job) and os.path.sameopenfile(1, 2):
        lines = [f"{summary} its log is {failure.log}"]
    else:
        lines = [f"{summary} the last lines of {failure.log}:", *failure.lines]
    return [*lines, *remedies("\n".join(failure.lines))]


def _is_shown(job):
    """Whether the lines of the rank that failed are on the screen."""
    return job.failure.rank == job.plan.ranks[0].number and job.screen.is_open


def _who(job):
    if job.plan.engine == plan.ONE:
        return "the run"
    rank = job.failure.rank
    return "the job" if rank == hosts.NO_RANK else f"rank {rank}"
