# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the program says: it goes on where nobody listens any more."""

import logging
import os
import sys
import warnings

from swa.training.errors import one_line


class LastingStream:
    """A text stream whose reader may leave and whose disk may be full.

    Then the rest goes nowhere: a run of hours does not end for a line that is lost.

    Args:
      stream: text stream with a file descriptor.
    """

    def __init__(self, stream):
        self._stream = stream
        self.is_at_line_start = True

    def write(self, text):
        """Writes the text, or gives the stream up."""
        if text:
            self.is_at_line_start = text.endswith("\n")
        self._try(self._stream.write, text)
        return len(text)

    def flush(self):
        """Hands on what was written, or gives the stream up."""
        self._try(self._stream.flush)

    def _try(self, function, *arguments):
        try:
            function(*arguments)
        except OSError:  # what waits in the stream goes nowhere too, at exit as well
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def protect_streams():
    """Makes standard output and error last; they may also have been closed before."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # or the next file opened would take its number
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")
        stream.reconfigure(errors="backslashreplace")  # paths may be any bytes
        setattr(sys, name, LastingStream(stream))


def is_terminal():
    """bool: whether a progress bar may be drawn."""
    return sys.stdout.isatty()


def say(line):
    """Prints one line."""
    print(one_line(line, None), flush=True)


def say_apart(line):
    """Prints one line that begins a line, whatever stands before it."""
    if is_terminal() or not getattr(sys.stdout, "is_at_line_start", True):
        print()
    say(line)


def print_error(message):
    """Says on standard error what ends the program."""
    sys.stdout.flush()
    print(f"train-tf.keras-npu.py: error: {message}", file=sys.stderr, flush=True)


def _show_warning(message, *place, **options):
    """Prints a warning in one line, without the line of code that it comes from."""
    sys.stdout.flush()
    print(f"warning: {one_line(str(message), None)}", file=sys.stderr, flush=True)


def set_verbosity(verbose):
    """Keeps what TensorFlow says of itself out of a run's log.

    Comes before its first import, which would end the program where a user's
    PYTHONWARNINGS makes errors of warnings.

    Args:
      verbose: int; 2 shows them.
    """
    if verbose > 1:
        warnings.simplefilter("default")
    else:
        # 3: without a GPU, its search for one is logged as an error
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", "SWA: ", RuntimeWarning)
        warnings.showwarning = _show_warning
