# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the program prints. A run goes on if its output cannot be written any more."""

import logging
import os
import sys
import warnings

from swa.training.errors import one_line


class LastingStream:
    """A text stream that drops its text if the reader has left or the disk is full.

    A run of hours does not end because a line is lost.

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
        except OSError:  # also drops what the stream would write at exit
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
    print(one_line(line), flush=True)


def say_apart(line):
    """Prints one line that begins a line, whatever stands before it."""
    if is_terminal() or not getattr(sys.stdout, "is_at_line_start", True):
        print()
    say(line)


def print_error(message):
    """Prints on standard error why the program ends."""
    sys.stdout.flush()
    print(f"train-tf.keras-npu.py: error: {message}", file=sys.stderr, flush=True)


def _format_warning(message, *place, **options):
    """One line, without the line of code that the warning comes from."""
    return f"warning: {one_line(str(message))}\n"


def set_verbosity(verbose):
    """Keeps TensorFlow's own messages out of a run's log.

    To be called before its first import: that ends the program if the user's
    PYTHONWARNINGS turns warnings into errors.

    Args:
      verbose: int; 2 shows them.
    """
    if verbose > 1:
        warnings.simplefilter("default")
    else:
        # 3: TensorFlow logs the search for a GPU as an error if there is no GPU
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", "SWA: ", RuntimeWarning)
        warnings.formatwarning = _format_warning
