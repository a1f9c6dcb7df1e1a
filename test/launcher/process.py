# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Processes: a helper that runs to its end, and a rank that is listened to."""

import contextlib
import ctypes
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import tty

from launcher.log import SIGNALS

GRACE_SECONDS = 5  # from asking processes to end to killing them
LINGER_SECONDS = 5  # a process left behind may keep the rank's output open for ever


class Stopped(Exception):
    """A signal ends this program, because no rank has been started yet.

    Attributes:
      number: int, of the signal.
    """

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


def raise_stopped(number, frame):
    """A signal handler that raises Stopped."""
    raise Stopped(number)


def on_signals(handler):
    """Gives the signals that end a run to `handler`; those that are ignored stay so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def run_helper(command, **options):
    """Runs a program to its end; if Stopped is raised, ends it and its children first.

    Args:
      command: list of str.
      **options: of `subprocess.Popen`.

    Returns:
      (exit status as a shell gives it, its standard output if that is a pipe).
    """
    helper = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=end_with_parent,
        **options,
    )
    try:
        output, _ = helper.communicate()
    except Stopped as stopped:
        _end_group(helper, stopped.number)
        raise
    return shell_status(helper.returncode), output


def _end_group(leader, number):
    """Sends a signal to a process and its children; kills those that do not end."""
    for signal_number in (number, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(leader.pid, signal_number)
            leader.wait(timeout=GRACE_SECONDS)


def shell_status(returncode):
    """The exit status as a shell gives it: 128 + N for signal N."""
    return 128 - returncode if returncode < 0 else returncode


class Process:
    """A running rank.

    Args:
      command: list of str.
      folder: where it runs.
      environ: dict, its environment.
      log: Log of its output.
      on_terminal: bool, whether it is to draw as on this program's terminal.
    """

    def __init__(self, command, folder, environ, log, on_terminal=False):
        self.log = log
        output, its_output = _terminal() if on_terminal else os.pipe()
        started, its_started = os.pipe()
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
        takers = {started: log.take_start, output: log.take}
        self._listener = threading.Thread(target=_listen, args=(takers,), daemon=True)
        self._listener.start()

    def poll(self):
        """The exit status as a shell gives it, None while it runs."""
        status = self.child.poll()
        if status is None:
            return None
        self._listener.join(timeout=LINGER_SECONDS)
        return shell_status(status)


def _listen(takers):
    """Hands on what comes from each pipe, until all of them are at their end.

    Args:
      takers: dict from descriptor to a function of bytes.
    """
    while takers:
        for pipe in select.select(list(takers), [], [])[0]:
            content = _read(pipe)
            takers[pipe](content)
            if not content:
                del takers[pipe]
                os.close(pipe)


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # a terminal's end
        return b""


def _terminal():
    """A pseudo-terminal of this one's size, that changes nothing on its way."""
    ours, its = pty.openpty()
    tty.setraw(its)
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(1, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(its, termios.TIOCSWINSZ, size)
    return ours, its


def end_with_parent():
    """A child's first act: a group of its own, and SIGTERM when this process is killed.

    A terminal's Ctrl-C would otherwise reach the ranks twice.
    """
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
