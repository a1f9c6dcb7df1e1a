# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What a rank says: held back until its run has begun, then shown and logged."""

import collections
import os
import sys

from launcher import zoo
from swa.training.errors import UserError, one_line, reason

LAST_LINES = 20


class Screen:
    """This program's standard output. Once nobody reads it, nothing more is shown."""

    def __init__(self, descriptor=1):
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


class Log:
    """The log of one rank: nothing is touched before the trainer says it has begun.

    Args:
      path: of the log.
      screen: Screen where its words are shown as well, or None.
    """

    def __init__(self, path, screen=None):
        self.path = path
        self._screen = screen
        self._file = None
        self._held = b""  # all of it, until the run has begun
        self._line = b""  # the log's last line, which has no end yet
        self._last = collections.deque(maxlen=LAST_LINES)

    @property
    def has_begun(self):
        return self._file is not None

    def begin(self, started):
        """Opens the log and lets out what was held back.

        Args:
          started: dict, the trainer's line: `output_dir` and `resumes`.
        """
        try:
            zoo.remove(started["output_dir"])
            self._file = open(self.path, "ab" if started["resumes"] else "wb")
        except (OSError, UserError) as error:  # the run is worth more than its log
            told = one_line(f"no log in {self.path}: {reason(error)}")
            sys.stderr.write(told + "\n")
            self._file = open(os.devnull, "wb")
        held, self._held = self._held, b""
        self.add(held)

    def add(self, content):
        """Takes bytes that the rank has said."""
        if not self.has_begun:
            self._held += content
            return
        if self._screen:
            self._screen.show(content)
        *whole, self._line = (self._line + content).split(b"\n")
        self._write(whole)
        # a progress bar draws its line again and again: the last one is kept
        if len(self._line) > 4096:
            self._line = self._line[self._line.rfind(b"\r") :]

    def close(self):
        """Writes the last line; returns what was held back to the end."""
        if self.has_begun:
            if self._line:
                self._write([self._line])
            self._file.close()
        return self._held

    def last_lines(self):
        """List of str: the last lines of what the rank has said."""
        lines = self._last or self._held.splitlines()[-LAST_LINES:]
        return [line.decode(errors="replace") for line in lines]

    def _write(self, lines):
        for line in map(_plain, lines):
            self._last.append(line)
            try:
                self._file.write(line + b"\n")
            except OSError:  # a full disk is the trainer's to tell
                pass
        try:
            self._file.flush()
        except OSError:
            pass


def _plain(line):
    """A line as a terminal shows it in the end: what was drawn over is gone."""
    parts = [part for part in line.replace(b"\b", b"").split(b"\r") if part]
    return parts[-1].rstrip() if parts else b""
