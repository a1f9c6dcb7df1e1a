# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The output of a rank: kept back until its run has begun, then shown and logged."""

import collections
import contextlib
import json
import os
import signal
from typing import List, NamedTuple

from launcher import zoo
from swa.training import files
from swa.training.errors import UserError, one_line, reason

LAST_LINES = 20
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BY_SIGNAL = tuple(128 + number for number in SIGNALS)  # exit statuses


class End(NamedTuple):
    """How a rank has ended."""

    rank: int
    status: int
    log: str  # its path
    lines: List[str]  # its last lines
    has_begun: bool  # whether it passed its checks


class Screen:
    """Standard output or error. Once nobody reads it, nothing more is written.

    Args:
      descriptor: int.
    """

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self.is_open = True

    def show(self, content):
        """Shows bytes."""
        try:
            while content and self.is_open:
                content = content[os.write(self._descriptor, content) :]
        except OSError:  # a closed pipe or terminal, a full disk: the log has it all
            self.is_open = False

    def line(self, text):
        """Shows a line of text."""
        self.show((text + "\n").encode(errors="surrogateescape"))


SCREEN, ERRORS = Screen(1), Screen(2)


class Log:
    """The log of one rank: no file is touched before the trainer has passed its checks.

    A log that cannot be written ends no run: its first failure is a warning.

    Args:
      rank: Rank.
      warn: function of a line of text.
      is_shown: bool, whether the rank's output is shown on SCREEN as well.
    """

    def __init__(self, rank, warn, is_shown=False):
        self._rank = rank
        self._has_begun = False
        self._warn = warn
        self._has_warned = False
        self._is_shown = is_shown
        self._start = b""  # the trainer's line, as far as it has come
        self._held = b""  # all output, until the run has begun
        self._line = b""  # the log's last line, which has no end yet
        self._last = collections.deque(maxlen=LAST_LINES)

    def take_start(self, content):
        """Takes bytes of the line of JSON by which the trainer says that it begins."""
        self._start += content
        if content.endswith(b"\n"):
            self.begin(**json.loads(self._start.decode()))

    def begin(self, output_dir, resumes):
        """Opens the log and lets out what was kept back.

        Args:
          output_dir: str, whose files of earlier runs are removed.
          resumes: bool, whether to append to an earlier log.
        """
        try:
            files.remove(output_dir, *zoo.FILES)
        except UserError as error:
            self._warn(str(error))
        try:
            # unbuffered: nothing is left to fail when it is closed
            self._file = open(self._rank.log, "ab" if resumes else "wb", buffering=0)
        except OSError as error:
            self._fail(error)
            self._file = open(os.devnull, "wb")
        self._has_begun = True
        held, self._held = self._held, b""
        self.take(held)

    def take(self, content):
        """Takes bytes of the rank's output."""
        if not self._has_begun:
            self._held += content
            return
        if self._is_shown:
            SCREEN.show(content)
        *whole, self._line = (self._line + content).split(b"\n")
        self._write(whole)
        # a progress bar draws its line again and again: the last one is kept
        if len(self._line) > 4096:
            self._line = self._line[self._line.rfind(b"\r") :]

    def end(self, status):
        """Writes the last line and closes the log.

        Args:
          status: int, the rank's exit status.

        Returns:
          End.
        """
        if self._has_begun:
            self._write([self._line] if self._line else [])
            with contextlib.suppress(OSError):
                self._file.close()
        elif self._is_shown and status in (0, *BY_SIGNAL):
            SCREEN.show(self._held)  # it had nothing to do, or was stopped early
        lines = self._last or self._held.splitlines()[-LAST_LINES:]
        lines = [line.decode(errors="replace") for line in lines]
        return End(self._rank.number, status, self._rank.log, lines, self._has_begun)

    def _write(self, lines):
        lines = [_plain(line) for line in lines]
        self._last.extend(lines)
        content = b"".join(line + b"\n" for line in lines)
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            self._fail(error)

    def _fail(self, error):
        if not self._has_warned:
            self._has_warned = True
            self._warn(one_line(f"{self._rank.log} cannot be written: {reason(error)}"))


def _plain(line):
    """A line as a terminal shows it in the end: what was drawn over is gone."""
    parts = [part for part in line.replace(b"\b", b"").split(b"\r") if part]
    return parts[-1].rstrip() if parts else b""
