# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Messages for the user if a run cannot begin or go on: one line, no traceback."""

import re

LONGEST_MESSAGE = 400  # characters
LONGEST_VALUE = 120
BAD_INPUT, FAILED = 2, 1


class UserError(Exception):
    """Ends the program; its text is one line of at most LONGEST_MESSAGE characters.

    Args:
      message: str: what is wrong (the flag, the rule, the value), and what helps.
      status: BAD_INPUT, or FAILED where the input was good: a disk is full, another
        rank has ended.

    Attributes:
      status: int, the exit status of the program.
    """

    def __init__(self, message, status=BAD_INPUT):
        super().__init__(shortened(one_line(message), LONGEST_MESSAGE))
        self.status = status


def wrong(rule, value, fix=""):
    """The UserError of a value that breaks a rule.

    Args:
      rule: str, the argument and its rule: "seed must be an integer".
      value: the value, shown as Python writes it.
      fix: str, the sentence that says what helps.
    """
    return UserError(f"{rule}, got {shown(value)}. {fix}".rstrip())


def shown(value):
    """A value as a message shows it: as Python writes it, not too long."""
    return shortened(repr(value))


def one_line(text):
    """The text with control characters escaped."""
    safe = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(safe)


def shortened(text, length=LONGEST_VALUE):
    """The text, without its middle if it is longer than `length` characters."""
    if len(text) <= length:
        return text
    end = length // 3
    return text[: length - end - 3] + "..." + text[-end:]


def reason(error):
    """What an exception says, in one line: the system's words where it has them."""
    text = str(getattr(error, "strerror", None) or error)
    lines = re.sub("/proc/self/fd/[0-9]+/", "", text).splitlines()  # tensorflow_path's
    return lines[0].rstrip(".") if lines else type(error).__name__
