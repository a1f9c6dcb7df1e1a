# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the program prints: whole lines, also where nobody reads them."""

import io
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from swa.training import console


def run(code, stdout=subprocess.PIPE, **options):
    """Runs code in a process; returns (status, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-c", f"from swa.training import console\n{code}"],
        cwd=str(ROOT),
        stdout=stdout,
        stderr=subprocess.PIPE,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_full_disk_loses_lines_and_ends_nothing():
    code = "console.protect_streams(); console.say('lost'); print('lost too')"
    with open("/dev/full", "w") as full:
        assert run(code, stdout=full) == (0, None, b"")


def test_a_reader_that_has_left_ends_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    code = "console.protect_streams(); console.say('lost')"
    assert run(code, stdout=writing) == (0, None, b"")
    os.close(writing)


def test_closed_streams_take_no_other_files_place():
    code = (
        "import os; os.close(1); console.protect_streams()\n"
        "assert os.open(os.devnull, os.O_RDONLY) > 2; console.say('lost')"
    )
    assert run(code) == (0, b"", b"")


def test_any_bytes_of_a_path_can_be_printed():
    code = "import os; console.protect_streams(); console.say(os.fsdecode(b'/a\\xff'))"
    status, out, err = run(code)
    assert (status, out, err) == (0, b"/a\\udcff\n", b"")


def test_a_line_stays_one_line(capsys):
    console.say("a\nb\x1b[1m")
    assert capsys.readouterr().out == "a\\nb\\x1b[1m\n"


@pytest.mark.parametrize("before, expected", [("", "x\n"), ("half", "half\nx\n")])
def test_a_line_apart_begins_a_line(monkeypatch, before, expected):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console.LastingStream(stream))
    if before:
        sys.stdout.write(before)
    console.say_apart("x")
    assert stream.getvalue() == expected


def test_a_warning_has_no_line_of_code():
    code = (
        "import warnings; console.set_verbosity(1)\n"
        "warnings.warn('SWA: no sample\\nwas averaged', RuntimeWarning)\n"
        "warnings.warn('of a library', DeprecationWarning)"
    )
    assert run(code) == (0, b"", b"warning: SWA: no sample\\nwas averaged\n")


def test_verbose_2_shows_the_warnings_of_libraries():
    code = (
        "import warnings; console.set_verbosity(2); warnings.warn('x', FutureWarning)"
    )
    assert b"FutureWarning: x" in run(code)[2]
