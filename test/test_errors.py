# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Messages: one line, not too long, with the value; and every raise has one."""

import ast

import pytest
from conftest import ROOT

from swa.training.errors import UserError, one_line, reason, shortened, wrong


def test_a_message_is_one_line_of_at_most_400_characters():
    error = UserError("a\tb\n" + "x" * 1000 + "the end", 1)
    assert str(error).startswith(r"a\tb\nxx") and str(error).endswith("xthe end")
    assert len(str(error)) == 400 and error.status == 1


def test_a_wrong_value_is_shown_with_its_rule_and_what_helps():
    error = wrong("seed must be an integer", "x", "Leave it out.")
    assert str(error) == "seed must be an integer, got 'x'. Leave it out."
    assert error.status == 2


@pytest.mark.parametrize("length", [10, 99, 100])
def test_a_long_text_keeps_both_ends(length):
    text = "b" * 60 + "e" * 40
    short = shortened(text, length)
    assert len(short) == length and short[0] == "b" and short[-1] == "e"
    assert ("..." in short) == (length < 100)


def test_control_characters_are_escaped():
    assert one_line("a\x1b[1m\r\n\udcff") == r"a\x1b[1m\r\n\udcff"


@pytest.mark.parametrize(
    "error, words",
    [
        (OSError(28, "No space left on device", "/a"), "No space left on device"),
        (ValueError("first.\nsecond"), "first"),
        (ValueError(), "ValueError"),
        (ValueError("in /proc/self/fd/12/model.ckpt-3: bad"), "in model.ckpt-3: bad"),
    ],
)
def test_the_reason_is_in_the_systems_words_and_the_users_paths(error, words):
    assert reason(error) == words


# `wrong` adds the value itself
RAISED = ("UserError", "ValueError", "TypeError", "KeyError")


def test_no_raise_of_the_trainer_has_a_message_without_a_value():
    for path in sorted((ROOT / "swa" / "training").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            call = getattr(node, "exc", None)
            if getattr(getattr(call, "func", None), "id", "") in RAISED:
                is_constant = isinstance(call.args[0], ast.Str)
                assert not is_constant, f"{path.name}:{node.lineno}"
