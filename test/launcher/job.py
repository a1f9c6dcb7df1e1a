# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The ranks of one run: they are started, watched, and ended together."""

import os
import signal
import time

from launcher.log import ERRORS, Log
from launcher.plan import merged
from launcher.process import GRACE_SECONDS, Process


class Job:
    """What is the same however the ranks are started.

    A kind of job has `run`, and `hand_on`, which sends a signal to the ranks.

    Args:
      plan: Plan.

    Attributes:
      failure: End of the first rank that failed, or None.
      has_begun: bool, whether rank 0 has passed its checks.
      signal_name: str, of the first signal that came, or "".
    """

    def __init__(self, plan):
        self.plan = plan
        self.failure = None
        self.has_begun = False
        self.signal_name = ""

    def on_signal(self, number, frame):
        """Hands a signal on to the ranks; the second one kills them."""
        is_first = not self.signal_name
        self.signal_name = self.signal_name or signal.Signals(number).name
        # a single process decides itself what a second signal means
        self.hand_on(number if is_first or self.plan.size == 1 else signal.SIGKILL)

    def note_end(self, end):
        """Takes the End of a rank."""
        if end.rank == self.plan.ranks[0].number:
            self.has_begun = end.has_begun
        if end.status and not self.failure:
            self.failure = end


class ChildJob(Job):
    """Ranks that are children of this process: one device, or each NPU of a server."""

    def __init__(self, plan):
        super().__init__(plan)
        self._running = {}  # Process by rank

    def run(self, command, environ):
        """Runs all ranks to their end."""
        for rank in self.plan.ranks:
            self._running[rank.number] = self._start(rank, command, environ)
        if self.signal_name:  # it came before all of them were there
            self.hand_on(signal.SIGTERM)
        deadline = None
        while self._running:
            self._take_ends()
            if self.failure and deadline is None:
                deadline = time.monotonic() + GRACE_SECONDS
                self.hand_on(signal.SIGTERM)
            if deadline and time.monotonic() > deadline:
                self.hand_on(signal.SIGKILL)
            time.sleep(0.05)

    def _start(self, rank, command, environ):
        """The Process of a rank. The first one's output is shown."""
        is_shown = rank is self.plan.ranks[0]
        return Process(
            command,
            rank.folder,
            environ=merged(environ, rank.variables),
            log=Log(rank, ERRORS.line, is_shown),
            on_terminal=is_shown and os.isatty(1),
        )

    def hand_on(self, number):
        """Sends a signal to every rank that still runs."""
        for process in list(self._running.values()):
            process.child.send_signal(number)

    def _take_ends(self):
        """Takes the End of each rank that has ended."""
        for number, process in list(self._running.items()):
            status = process.poll()
            if status is not None:
                del self._running[number]
                self.note_end(process.log.end(status))
