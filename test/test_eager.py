# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback's tests once more in eager mode, which a process has or has not."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PATTERNS = ("test_callback.py", "test_callback_*.py", "test_peers*.py", "test_*rows.py")


def files():
    """All that the two Kerases are tested with in graph mode."""
    return sorted(p.name for one in PATTERNS for p in (ROOT / "test").glob(one))


def skips(report):
    """The reasons for which pytest's `-ra` summary says that tests were skipped."""
    return re.findall(r"^SKIPPED \[\d+\] \S+?:\d+: (.*)$", report, re.MULTILINE)


@pytest.mark.parametrize("name", files())
def test_the_callback_does_the_same_in_eager_mode(name):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p"]
        + ["no:xdist", f"test/{name}"],
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
