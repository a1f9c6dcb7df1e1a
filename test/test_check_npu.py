# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""check_npu.sh passes on the fake, and fails on one that is broken in a point."""

import os
import re
import subprocess
import sys

import npu_fake
import pytest

CHECKS = (
    "device",
    "placed",
    "compiles",
    "over_dump",
    "data_dump",
    "profiling",
    "allow_mix_precision",
    "allow_fp32_to_fp16",
    "force_fp16",
    "must_keep_origin_dtype",
    "accuracy",
    "speed",
)


def check_npu(folder, *options, **variables):
    """Runs the check; returns (its result, {check: "ok" or "FAILED"} of its file)."""
    result = subprocess.run(
        [
            "bash",
            os.path.join(npu_fake.ROOT, "test", "check_npu.sh"),
            "--num_samples=2048",
            "--batch_size=256",
            "--train_epochs=12",
            *options,
        ],
        cwd=str(folder),
        env=npu_fake.environment(os.devnull, PYTHON=sys.executable, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    table = folder / "check_npu.txt"
    lines = table.read_text().splitlines() if table.exists() else []
    rows = (re.match(r"(\w+) +(ok|FAILED) ", line) for line in lines)
    return result, dict(row.groups() for row in rows if row)


def test_check_passes_on_the_fake(tmp_path):
    result, found = check_npu(tmp_path)
    assert found == {name: "ok" for name in CHECKS}, result.stdout
    assert result.returncode == 0
    written = (tmp_path / "check_npu.txt").read_text().splitlines()
    assert set(written) <= set(result.stdout.splitlines())  # the file holds the table


@pytest.mark.parametrize(
    "defect, checks",
    [
        ("library", ["device"]),
        ("host", ["placed"]),
        ("recompiles", ["compiles"]),
        (
            "no_over_dump,no_data_dump,no_profile",
            ["over_dump", "data_dump", "profiling"],
        ),
        (
            "wrong_numbers",
            [name for name in CHECKS if name.startswith(("allow", "force", "must"))],
        ),
        ("lost_inputs", ["accuracy"]),
        ("slow", ["speed"]),
    ],
)
def test_check_fails_on_a_broken_fake(tmp_path, defect, checks):
    options = ["--only=" + ",".join(checks)]
    if defect in ("recompiles", "slow"):  # every batch costs
        options.append("--train_epochs=6")
    result, found = check_npu(tmp_path, *options, FAKE_NPU_DEFECT=defect)
    assert found == {name: "FAILED" for name in checks}, result.stdout
    assert result.returncode == 1
    assert f"{len(checks)} failed: {', '.join(checks)}" in result.stdout


def test_unknown_check_is_refused(tmp_path):
    result, found = check_npu(tmp_path, "--only=luck")
    assert (result.returncode, found) == (2, {})
    assert "--only takes device, placed" in result.stdout
