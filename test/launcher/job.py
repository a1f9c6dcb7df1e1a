# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The ranks of one run: they are started, watched, and ended together."""

import collections
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import List, NamedTuple, Optional

from launcher.log import LAST_LINES, Log, Screen
from launcher.plan import HOROVOD, Rank, merged
from launcher.process import Process, end_with_parent

GRACE_SECONDS = 5  # from asking the others to end to ending them
MESSAGE = "@rank "  # begins a worker's own lines on its standard output
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BY_SIGNAL = tuple(128 + number for number in SIGNALS)


class Failure(NamedTuple):
    """How the first rank to fail has ended."""

    rank: Optional[int]  # None: what starts the ranks failed itself
    status: int
    log: str  # its path
    lines: List[str]  # its last words
    has_begun: bool = True  # whether it passed its checks


class Job:
    """What is the same however the ranks are started.

    Args:
      plan: Plan.
      screen: Screen for rank 0's words.
    """

    def __init__(self, plan, screen):
        self.plan, self.screen = plan, screen
        self.failure = None
        self.has_begun = False  # whether rank 0 has passed its checks
        self.signal_name = None  # of the first signal that came

    def on_signal(self, number, frame):
        """Hands a signal on to the ranks; the second one ends them at once."""
        is_first = self.signal_name is None
        self.signal_name = self.signal_name or signal.Signals(number).name
        # one process answers for itself, as often as it is asked
        self.hand_on(number if is_first or self.plan.size == 1 else signal.SIGKILL)


class ChildJob(Job):
    """Ranks that are children of this process: one device, or each NPU of a server."""

    def __init__(self, plan, screen):
        super().__init__(plan, screen)
        self.running = {}  # Process by rank

    def run(self, command, environ):
        """Runs all ranks to their end."""
        self._start(command, environ)
        if self.signal_name:  # it came before all of them were there
            self.hand_on(signal.SIGTERM)
        deadline = None
        while self.running:
            for number in list(self.running):
                if self._has_failed(number) and deadline is None:
                    deadline = time.monotonic() + GRACE_SECONDS
                    self.hand_on(signal.SIGTERM)
            if deadline and time.monotonic() > deadline:
                self.hand_on(signal.SIGKILL)
            time.sleep(0.05)

    def _start(self, command, environ):
        is_terminal = os.isatty(1)
        for rank in self.plan.ranks:
            is_shown = rank is self.plan.ranks[0]
            log = Log(rank.log, self.screen if is_shown else None)
            self.running[rank.number] = Process(
                command,
                rank.folder,
                environ=merged(environ, rank.variables),
                log=log,
                on_terminal=is_shown and is_terminal,
            )

    def hand_on(self, number):
        """Sends a signal to every rank that still runs."""
        for process in list(self.running.values()):
            process.send(number)

    def _has_failed(self, number):
        """Whether a rank has ended, and not well."""
        process = self.running[number]
        status = process.poll()
        if status is None:
            return False
        del self.running[number]
        log = process.log
        held = log.close()
        if number == self.plan.ranks[0].number:
            self.has_begun = log.has_begun
            if status in (0, *BY_SIGNAL):
                self.screen.show(held)  # it had nothing to do, or was stopped early
        if status and not self.failure:
            self.failure = Failure(
                number, status, log.path, log.last_lines(), log.has_begun
            )
        return bool(status)


class HorovodJob(Job):
    """Ranks that horovodrun starts, on this host and others."""

    def __init__(self, plan, screen):
        super().__init__(plan, screen)
        self.pids = {}  # process on this host, by rank
        self.starter = None  # horovodrun

    def run(self, command, environ):
        """Runs all ranks to their end."""
        said = collections.deque(maxlen=LAST_LINES)  # horovodrun's own words
        here = [sys.executable, os.path.abspath(sys.argv[0])]
        base = os.path.dirname(self.plan.ranks[0].folder)
        start = [sys.executable, "-m", "horovod.runner.launch", "--gloo"]
        start += ["-np", str(self.plan.size), "-H", self.plan.hosts]
        variables = dict(self.plan.ranks[0].variables)
        for name in ("HOROVOD_SIZE", "HOROVOD_RANK", "ASCEND_DEVICE_ID"):
            variables[name] = None  # horovodrun gives each rank its own
        self.starter = subprocess.Popen(
            start + here + ["--worker", base, "--"] + command,
            env=merged(environ, variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
        if self.signal_name:  # it came before there was a starter
            self.hand_on(signal.SIGTERM)
        for line in self.starter.stdout:
            self._read(line.decode(errors="replace").rstrip("\r\n"), said)
        status = self.starter.wait()
        if status and not self.failure:
            status = 128 - status if status < 0 else status
            self.failure = Failure(None, status, "horovodrun", list(said))

    def hand_on(self, number):
        """Sends a signal to the ranks of this host, which tell the others."""
        if number == signal.SIGKILL or not self.pids:
            if self.starter:
                self.starter.send_signal(signal.SIGTERM)
            return
        for pid in list(self.pids.values()):
            try:
                os.kill(pid, number)
            except OSError:
                pass  # it has just ended

    def _read(self, line, said):
        match = re.match(r"\[([0-9]+)\]<(stdout|stderr)>:(.*)", line)
        if not match:
            said.append(line)
        elif match.group(3).startswith(MESSAGE):
            self._hear(json.loads(match.group(3)[len(MESSAGE) :]))
        elif match.group(1) == "0" and match.group(2) == "stdout":
            self.screen.line(match.group(3))
        else:
            said.append(line)

    def _hear(self, told):
        """Takes a worker's message: where its rank runs, or how it has ended."""
        if "failure" not in told:
            if told["host"] == socket.gethostname():
                self.pids[told["rank"]] = told["pid"]
            return
        failure = Failure(*told["failure"])
        self.pids.pop(failure.rank, None)
        if failure.rank == 0:
            self.has_begun = failure.has_begun
        if failure.status and not self.failure:
            self.failure = failure


def job(plan, screen):
    """The Job that runs this Plan."""
    return (HorovodJob if plan.engine == HOROVOD else ChildJob)(plan, screen)


def work(base, command):
    """One rank that horovodrun has started: runs it, and tells how it ends."""
    number = int(os.environ["HOROVOD_RANK"])
    rank = Rank(number, os.path.join(base, str(number)), number, {})
    os.makedirs(rank.folder, exist_ok=True)
    screen = Screen()
    log = Log(rank.log, screen if number == 0 else None)
    environ = dict(os.environ, ASCEND_DEVICE_ID=str(number))
    process = Process(command, rank.folder, environ=environ, log=log)
    for one in SIGNALS:
        signal.signal(one, lambda number, frame: process.send(number))
    told = {"rank": number, "pid": process.child.pid, "host": socket.gethostname()}
    screen.line(MESSAGE + json.dumps(told))
    status = process.wait()
    held = log.close()
    if number == 0 and status in (0, *BY_SIGNAL):
        screen.show(held)
    failure = Failure(
        number, status, rank.log, log.last_lines() if status else [], log.has_begun
    )
    screen.line(MESSAGE + json.dumps({"failure": failure}))
    return status
