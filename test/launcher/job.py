# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The ranks of one run: they are started, watched, and ended together."""

import os
import signal
import time

from launcher.log import Log
from launcher.plan import merged
from launcher.process import GRACE_SECONDS, Process


class Job:
    """What is the same however the ranks are started.

    Args:
      plan: Plan.
      screen: Screen for rank 0's output.
      errors: Screen for warnings.

    Attributes:
      failure: End of the first rank that failed, or None.
      has_begun: bool, whether rank 0 has passed its checks.
      signal_name: str, of the first signal that came, or "".
    """

    def __init__(self, plan, screen, errors):
        self.plan, self.screen, self.errors = plan, screen, errors
        self.failure = None
        self.has_begun = False
        self.signal_name = ""

    def on_signal(self, number, frame):
        """Hands a signal on to the ranks; the second one kills them."""
        is_first = not self.signal_name
        self.signal_name = self.signal_name or signal.Signals(number).name
        # a single process decides itself what a second signal means
        self.hand_on(number if is_first or self.plan.size == 1 else signal.SIGKILL)

    def hand_on(self, number):
        """Sends a signal to the ranks."""
        raise NotImplementedError

    def note_end(self, end):
        """Takes the End of a rank."""
        if end.rank == self.plan.ranks[0].number:
            self.has_begun = end.has_begun
        if end.status and not self.failure:
            self.failure = end


class ChildJob(Job):
    """Ranks that are children of this process: one device, or each NPU of a server."""

    def __init__(self, plan, screen, errors):
        super().__init__(plan, screen, errors)
        self.running = {}  # Process by rank

    def run(self, command, environ):
        """Runs all ranks to their end."""
        for rank in self.plan.ranks:
            self.running[rank.number] = self._start(rank, command, environ)
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

    def _start(self, rank, command, environ):
        """The Process of a rank. The first one's output is shown."""
        is_shown = rank is self.plan.ranks[0]
        log = Log(rank, self.errors.line, self.screen if is_shown else None)
        return Process(
            command,
            rank.folder,
            environ=merged(environ, rank.variables),
            log=log,
            on_terminal=is_shown and os.isatty(1),
        )

    def hand_on(self, number):
        """Sends a signal to every rank that still runs."""
        for process in list(self.running.values()):
            process.child.send_signal(number)

    def _has_failed(self, number):
        """Whether a rank has just ended with a status other than 0."""
        status = self.running[number].poll()
        if status is None:
            return False
        self.note_end(self.running.pop(number).log.end(status))
        return status != 0
