# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback's tests once more in eager mode, which a process has or has not."""

import os
import subprocess
import sys

from conftest import ROOT


def test_the_callback_does_the_same_in_eager_mode():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [str(ROOT / "test" / "test_callback.py")],
        cwd=str(ROOT),
        env=dict(os.environ, SWA_TEST_MODE="eager"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    report = run.stdout.decode()
    assert run.returncode == 0, report[-4000:]
    assert " passed" in report and " skipped" not in report
