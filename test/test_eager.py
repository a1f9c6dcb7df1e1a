# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The tests marked for eager mode, in processes of their own, one for each core of two.

A process has that mode or not.
"""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PROCESSES = 2


def files():
    """Those with a test that is marked for eager mode."""
    paths = sorted((ROOT / "test").glob("test_*.py"))
    marked = re.compile(r"both_modes|@only_eager")
    return [f"test/{path.name}" for path in paths if marked.search(path.read_text())]


def skips(report):
    """The reasons for which pytest's `-ra` summary says that tests were skipped."""
    return re.findall(r"^SKIPPED \[\d+\] \S+?:\d+: (.*)$", report, re.MULTILINE)


@pytest.mark.parametrize("process", range(PROCESSES))
def test_the_callback_does_the_same_in_eager_mode(process):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"]
        + ["-p", "no:cacheprovider", "-p", "no:xdist"]
        + files()[process::PROCESSES],
        cwd=str(ROOT),
        env=dict(os.environ, SWA_TEST_MODE="eager"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    report = run.stdout.decode()
    assert run.returncode == 0, report[-4000:]
    assert " passed" in report
    skipped = re.search(r"(\d+) skipped", report)
    assert bool(skipped) == bool(skips(report))
    unduly = [one for one in skips(report) if not one.startswith("only graph mode")]
    assert not unduly
