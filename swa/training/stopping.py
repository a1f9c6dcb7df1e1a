# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""SIGINT, SIGTERM and SIGHUP end a run in order, a second one ends it at once."""

import contextlib
import os
import select
import signal
import threading

from swa.training import console

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TO_GO_ON = "To go on, give the same command with --resume."
GRACE_SECONDS = 3.0  # until a run that does not come to its end is left


class Stopped(BaseException):
    """A signal ends the run. No code that catches errors catches this."""


class Stop:
    """A context in which the signals stop the run.

    Outside of `deferred`, a signal raises Stopped at once. Within, it only sets
    `number`, and the run looks at `number` at a good moment. Python handles a signal
    when its current call returns, which takes minutes if a device compiles. So a
    thread watches too: it ends the process after GRACE_SECONDS, and at once when a
    second signal comes. Signals that were ignored stay ignored.

    Attributes:
      number: int, the signal that came, or None.
      on_timeout: function without arguments, called by the thread before it ends the
        process after GRACE_SECONDS.
      saved_epoch: int, the epochs that the last checkpoint holds, or None.
    """

    def __init__(self):
        self.number = None
        self.on_timeout = lambda: None
        self.saved_epoch = None
        self._is_deferred = False

    def __enter__(self):
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._fd_before = signal.set_wakeup_fd(self._write_end)
        heeded = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        self._handlers_before = {n: signal.signal(n, self._handle) for n in heeded}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        os.close(self._write_end)  # which ends the thread
        self._thread.join()
        os.close(self._read_end)

    @contextlib.contextmanager
    def deferred(self):
        """Until the block ends a signal is only noted; then it raises Stopped."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        self.check()

    def check(self):
        """Raises Stopped if a signal has come."""
        if self.number is not None:
            raise Stopped

    @property
    def status(self):
        """int: the exit status of a program that this signal ended."""
        return 128 + self.number

    def tell(self):
        """Prints which signal stopped the run and how to go on.

        The caller must exit right after this.
        """
        when = " before an epoch began."
        if self.saved_epoch is not None:
            when = f"; saved after epoch {self.saved_epoch}. {TO_GO_ON}"
        console.say_apart(f"stopped by {signal.Signals(self.number).name}{when}")

    def _handle(self, number, frame):
        self.number = number
        if not self._is_deferred:
            raise Stopped

    def _watch(self):
        first = self._next_signal(None)
        second = first and self._next_signal(GRACE_SECONDS)
        if second is None:
            return
        self.number = self.number or first
        try:
            if not second:
                self.on_timeout()
                self.tell()
        except Exception as error:
            console.say_apart(f"stopped, and not saved: {error}")
        finally:
            os._exit(128 + (second or first))

    def _next_signal(self, seconds):
        """The next signal's number; 0 if none comes in time; None: the end."""
        if not select.select([self._read_end], [], [], seconds)[0]:
            return 0
        got = os.read(self._read_end, 1)
        return got[0] if got else None
