# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Ranks that horovodrun starts, on this host and others, and what they report.

horovodrun starts a worker for each rank, `launch.py --worker FOLDER -- COMMAND`,
which runs the trainer. horovodrun passes on what workers write, each line behind
"[RANK]<stdout>:" or "[RANK]<stderr>:". There is no other way from another host to the
launcher, so that a worker reports by lines of JSON on its standard error:

    @rank ["started", 1, "host", 123]     rank 1's trainer runs there, as process 123
    @rank ["warning", "a line"]           to be shown on standard error
    @rank ["ended", 1, 0, ...]            the fields of an End

Rank 0's standard output is its trainer's, to be shown. The last of all other lines are
kept, because they say why horovodrun itself has failed.
"""

import collections
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

from launcher.job import Job
from launcher.log import ERRORS, LAST_LINES, SCREEN, End, Log
from launcher.plan import Rank, merged
from launcher.process import Process, end_with_parent, on_signals, shell_status

REPORT = "@rank "


class HorovodJob(Job):
    """Ranks that horovodrun starts, on this host and others."""

    def __init__(self, plan):
        super().__init__(plan)
        self._pids = {}  # process on this host, by rank
        self._starter = None  # horovodrun
        self._other_lines = collections.deque(maxlen=LAST_LINES)

    def run(self, command, environ):
        """Runs all ranks to their end."""
        first = self.plan.ranks[0]
        # every rank would keep this HOROVOD_RANK; PYTHONWARNINGS may make errors of
        # horovodrun's own warnings
        unset = dict(HOROVOD_RANK=None, PYTHONWARNINGS=None)
        self._starter = subprocess.Popen(
            self._start_command(os.path.dirname(first.folder), command),
            env=merged(environ, {**first.variables, **unset}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
        if self.signal_name:  # it came before there was a starter
            self.hand_on(signal.SIGTERM)
        with self._starter:
            for line in self._starter.stdout:
                self._take(line.decode(errors="replace").rstrip("\r\n"))
        status = shell_status(self._starter.returncode)
        if status and not self.failure:
            lines = [
                f"horovodrun failed with status {status}; its last lines:",
                *self._other_lines,
            ]
            self.failure = End(0, status, "", lines, has_begun=False)

    def _start_command(self, base, command):
        """horovodrun's command, which has the workers' and the trainer's in it."""
        start = [sys.executable, "-m", "horovod.runner.launch", "--gloo"]
        start += ["-np", str(self.plan.size), "-H", self.plan.hosts]
        start += [sys.executable, os.path.abspath(sys.argv[0])]
        return [*start, "--worker", base, "--", *command]

    def hand_on(self, number):
        """Sends a signal to the ranks of this host, which tell the others."""
        if number != signal.SIGKILL and self._pids:
            for pid in list(self._pids.values()):
                with contextlib.suppress(OSError):  # it has just ended
                    os.kill(pid, number)
        elif self._starter:
            self._starter.send_signal(signal.SIGTERM)

    def _take(self, line):
        """Takes a line of horovodrun's."""
        match = re.match(r"\[([0-9]+)\]<(stdout|stderr)>:(.*)", line)
        rank, stream, text = match.groups() if match else ("", "", line)
        if text.startswith(REPORT):
            self._hear(*json.loads(text[len(REPORT) :]))
        elif (rank, stream) == ("0", "stdout"):
            SCREEN.line(text)
        else:
            self._other_lines.append(line)

    def _hear(self, kind, *content):
        """Takes a worker's report: see the list at the top."""
        if kind == "warning":
            ERRORS.line(*content)
        elif kind == "ended":
            end = End(*content)
            self._pids.pop(end.rank, None)
            self.note_end(end)
        else:
            rank, host, pid = content
            if host == socket.gethostname():
                self._pids[rank] = pid


def work(base, command):
    """Runs one rank, which horovodrun has started, and reports on it.

    Args:
      base: str, the folder of the ranks' folders.
      command: list of str, the trainer's.

    Returns:
      int, the rank's exit status.
    """
    number = int(os.environ["HOROVOD_RANK"])
    rank = Rank(number, number, os.path.join(base, str(number)), {})
    os.makedirs(rank.folder, exist_ok=True)
    log = Log(rank, lambda text: _report("warning", text), is_shown=number == 0)
    environ = dict(os.environ, ASCEND_DEVICE_ID=str(number))
    process = Process(command, rank.folder, environ=environ, log=log)
    on_signals(lambda number, frame: process.child.send_signal(number))
    _report("started", number, socket.gethostname(), process.child.pid)
    process.child.wait()
    status = process.poll()
    _report("ended", *log.end(status))
    return status


def _report(*report):
    ERRORS.line(REPORT + json.dumps(report))
