# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A run from the user's command line to the zoo's result files."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile

from launcher import job, options, plan, zoo
from launcher.log import Screen
from launcher.remedies import remedies
from swa.training import config, flags, output
from swa.training.errors import FAILED, UserError, reason, shown

TEST = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRAINER = os.path.join(os.path.dirname(TEST), "train-tf.keras-npu.py")


def main(argv):
    """Runs what launch.py was asked for; returns the exit status."""
    _keep_descriptors()
    if argv[:1] == ["--worker"]:
        return job.work(argv[1], argv[3:])
    name, case_suffix, ranks, epochs = argv[:4]
    try:
        return _launch(name, case_suffix, ranks != "1", [epochs, *argv[4:]])
    except UserError as error:
        sys.stderr.write(f"{name}: error: {error}\n")
        return error.status


def _launch(name, case_suffix, has_ranks, argv):
    """The whole order of a run.

    Args:
      name: str, of the launcher.
      case_suffix: "acc" or "perf".
      has_ranks: bool, whether it is a launcher of several ranks.
      argv: list of str: the default number of epochs, then what the user typed.

    Returns:
      int, the exit status.
    """
    screen = Screen()
    asked = options.read(argv[1:], has_ranks)
    settings = flags.parse([f"--train_epochs={argv[0]}", *asked.flags])
    planned = _plan(asked, settings, has_ranks)
    environ = plan.merged(os.environ, planned.ranks[0].variables)
    settings = config.checked(settings, environ)
    if not planned.output_dir:
        settings = settings._replace(output_dir=planned.ranks[0].folder)
    command = [sys.executable, TRAINER, *_arguments(settings)]
    with _rank_table(planned) as planned:
        status = _check(command, planned, settings.check)
        if status or settings.check:
            return status
        _tell_beginning(screen, planned)
        for line in flags.without_effect(settings):
            screen.line(line)
        environ = _with_horovod(planned)
        with _folders(planned):
            running = job.job(planned, screen)
            for number in job.SIGNALS:
                signal.signal(number, running.on_signal)
            running.run(command, environ)
        _keep_rank_table(planned, running)
    if running.failure:
        sys.stderr.write(_told_of(name, running, screen))
        if not running.signal_name:
            for line in remedies("\n".join(running.failure.lines)):
                sys.stderr.write(line + "\n")
        return running.failure.status
    if running.has_begun and planned.ranks[0].number == 0:
        for line in zoo.write(settings.output_dir, case_suffix):
            screen.line(line)
    return 0


def _arguments(settings):
    """The trainer's command line; the working directory is not the user's there."""
    command = flags.arguments(settings._replace(check=False))
    paths = ("data_path", "output_dir")
    return [*command, *(f"--{name}={getattr(settings, name)}" for name in paths)]


def _plan(asked, settings, has_ranks):
    """The Plan for what was typed."""
    named = settings.output_dir or None
    try:
        if not has_ranks:
            return plan.of_one(os.environ, named)
        return plan.of_ranks(asked, settings.device, os.environ, named)
    except FileNotFoundError:
        raise UserError(
            "the working directory has been removed. Change to another directory."
        ) from None


@contextlib.contextmanager
def _rank_table(planned):
    """Within it the job's own rank table is there, outside of every output folder."""
    if not planned.table:
        yield planned
        return
    with tempfile.TemporaryDirectory(prefix="rank_table") as folder:
        path = os.path.join(folder, "rank_table.json")
        output.write(path, planned.table.encode())
        ranks = [
            rank._replace(variables=dict(rank.variables, RANK_TABLE_FILE=path))
            for rank in planned.ranks
        ]
        yield planned._replace(ranks=ranks)


def _keep_rank_table(planned, running):
    """Puts the job's own rank table beside its results, to be looked at."""
    if planned.table and running.has_begun:
        path = os.path.join(planned.ranks[0].folder, "rank_table.json")
        output.write(path, planned.table.encode())


def _check(command, planned, is_shown):
    """Lets the trainer find what is wrong before anything starts."""
    done = subprocess.run(
        [*command, "--check"],
        env=plan.merged(os.environ, planned.ranks[0].variables),
        stdin=subprocess.DEVNULL,
        stdout=None if is_shown else subprocess.DEVNULL,
    )
    return 128 - done.returncode if done.returncode < 0 else done.returncode


def _tell_beginning(screen, planned):
    first = planned.ranks[0]
    if planned.engine == plan.ONE:
        if "RANK_TABLE_FILE" in os.environ:
            screen.line(
                "RANK_TABLE_FILE is unset: it would start HCCL, for one device too"
            )
        screen.line(f"Device ID: {first.name}")
    else:
        log = os.path.relpath(first.log)
        screen.line(
            f"Ranks: {planned.size}, joined by {planned.engine}; logs: {log} ..."
        )


def _with_horovod(planned):
    """The environment, in which Horovod can be imported if it joins the ranks."""
    environ = dict(os.environ)
    if planned.engine == plan.HOROVOD:
        build = ["bash", os.path.join(TEST, "env_horovod.sh")]
        done = subprocess.run(build, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if done.returncode:
            sys.exit(done.returncode)  # it has said why
        environ["PYTHONPATH"] = os.fsdecode(done.stdout).rstrip("\n")
    return environ


@contextlib.contextmanager
def _folders(planned):
    """Makes the ranks' folders; those in which nothing came to be go in the end."""
    made = []
    try:
        for rank in planned.ranks:
            folder = rank.folder
            missing = []
            while not os.path.isdir(folder):
                missing.append(folder)
                folder = os.path.dirname(folder)
            made = missing + made
            os.makedirs(rank.folder, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{shown(rank.folder)} cannot be made: {reason(error)}.", FAILED
        ) from None
    try:
        yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _told_of(name, running, screen):
    """What to say on standard error of a job that did not come to its end."""
    failure = running.failure
    if running.signal_name or failure.status in job.BY_SIGNAL:
        # the run has said how to go on
        is_one = running.plan.size == 1 or not running.signal_name
        return "" if is_one else f"{name}: stopped by {running.signal_name}\n"
    if not failure.has_begun and failure.rank is not None:
        return "".join(line + "\n" for line in failure.lines)
    who = "the job" if failure.rank is None else f"rank {failure.rank}"
    who = "the run" if running.plan.engine == plan.ONE else who
    told = f"{name}: {who} failed with status {failure.status}; "
    was_shown = failure.rank == running.plan.ranks[0].number and screen.is_open
    if was_shown and _is_one_place():
        return f"{told}its log is {failure.log}\n"
    lines = [f"{told}the last lines of {failure.log}:", *failure.lines, ""]
    return "\n".join(lines)


def _is_one_place():
    """Whether standard output and standard error go to the same place."""
    return os.path.sameopenfile(1, 2)


def _keep_descriptors():
    """Standard input, output and error may be closed: no file may take their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
