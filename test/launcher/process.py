# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The process of one rank: it is started, listened to, and waited for."""

import ctypes
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import tty

LINGER_SECONDS = 5  # a process left behind may keep the rank's output open for ever


class Process:
    """A running rank.

    Args:
      command: list of str.
      folder: where it runs.
      environ: dict, its environment.
      log: Log of what it says.
      on_terminal: bool, whether it is to draw as on this program's terminal.
    """

    def __init__(self, command, folder, environ, log, on_terminal=False):
        self.log = log
        self._output, its_output = _terminal() if on_terminal else os.pipe()
        self._started, its_started = os.pipe()
        try:
            self.child = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environ, SWA_STARTED_FD=str(its_started)),
                stdin=subprocess.DEVNULL,
                stdout=its_output,
                stderr=subprocess.STDOUT,
                pass_fds=(its_started,),
                preexec_fn=end_with_parent,
            )
        finally:
            os.close(its_output)
            os.close(its_started)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def poll(self):
        """The exit status as a shell tells it, None while it runs."""
        status = self.child.poll()
        if status is None:
            return None
        self._listener.join(timeout=LINGER_SECONDS)
        return 128 - status if status < 0 else status

    def wait(self):
        """The exit status as a shell tells it, once it has ended."""
        self.child.wait()
        return self.poll()

    def send(self, number):
        """Sends a signal, if the process has not ended."""
        if self.child.poll() is None:
            self.child.send_signal(number)

    def _listen(self):
        """Reads both pipes to their ends."""
        line, open_ones = b"", [self._started, self._output]
        while open_ones:
            for one in select.select(open_ones, [], [])[0]:
                content = _read(one)
                if one == self._output:
                    self.log.add(content)
                else:
                    line += content
                    if line.endswith(b"\n"):
                        self.log.begin(json.loads(line.decode()))
                        line = b""
                if not content:
                    open_ones.remove(one)
                    os.close(one)


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # a terminal's end
        return b""


def _terminal():
    """A pseudo-terminal of this one's size, that changes nothing on its way."""
    ours, its = pty.openpty()
    tty.setraw(its)
    try:
        size = fcntl.ioctl(1, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(its, termios.TIOCSWINSZ, size)
    except OSError:
        pass
    return ours, its


def end_with_parent():
    """A child's first act: SIGTERM when this process is killed; a group of its own.

    A terminal's Ctrl-C would otherwise reach the ranks twice.
    """
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
