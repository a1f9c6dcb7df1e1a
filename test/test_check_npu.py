# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""check_npu.sh passes on the fake, and fails on one that is broken in a point."""

import argparse
import json
import os
import re
import subprocess
import sys

import check_npu as check
import pytest
from support import npu_fake

from swa.training.machine import OPERATOR_LIST

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
    "weights",
    "rate",
    "accuracy",
    "speed",
)


SIZES = ["--num_samples=2048", "--batch_size=256", "--train_epochs=12"]


def check_npu(folder, *options, **variables):
    """Runs the check; returns (its result, {check: "ok" or "FAILED"} of its file)."""
    result = subprocess.run(
        [
            "bash",
            os.path.join(npu_fake.ROOT, "test", "check_npu.sh"),
            *SIZES,
            *options,
        ],
        cwd=str(folder),
        env=npu_fake.environment(os.devnull, PYTHON=sys.executable, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    return result, found_in(folder)


def found_in(folder):
    """{check: "ok" or "FAILED"} of the check's file."""
    table = folder / "check_npu.txt"
    lines = table.read_text().splitlines() if table.exists() else []
    rows = (re.match(r"(\w+) +(ok|FAILED) ", line) for line in lines)
    return dict(row.groups() for row in rows if row)


def test_check_passes_on_the_fake(tmp_path):
    """Also with variables that would move the dumps, and with gradients unordered."""
    result, found = check_npu(
        tmp_path,
        FAKE_NPU_READS="gradients",
        DUMP_GRAPH_PATH=str(tmp_path / "elsewhere"),
        NPU_COLLECT_PATH=str(tmp_path / "collected"),
    )
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
        ("lost_writes", ["weights"]),
        ("exchange", ["weights"]),
        ("stale_reads", ["weights", "rate"]),
    ],
)
def test_check_fails_on_a_broken_fake(npu_forks, tmp_path, defect, checks):
    """Its processes are forked, for a defect spares none of them the import."""
    options = ["--only=" + ",".join(checks)]
    if defect in ("recompiles", "slow"):  # every batch costs
        options.append("--train_epochs=6")
    environment = npu_fake.environment(os.devnull, FAKE_NPU_DEFECT=defect)
    argv, script = SIZES + options, os.path.abspath(check.__file__)
    result = npu_forks.result(tmp_path, argv, environment, script=script, forks=True)
    assert found_in(tmp_path) == {name: "FAILED" for name in checks}, result
    assert result.returncode == 1
    assert f"{len(checks)} failed: {', '.join(checks)}" in result.stdout


@pytest.mark.parametrize(
    "option, message",
    [
        ("--only=luck", "--only takes device, placed"),
        ("--batch_size=x", "argument --batch_size: invalid int value: 'x'"),
        ("--bogus", "unrecognized arguments: --bogus"),
    ],
)
def test_a_bad_option_is_refused_in_one_line(tmp_path, option, message):
    result, found = check_npu(tmp_path, option)
    assert (result.returncode, found) == (2, {})
    assert result.stdout.startswith(f"check_npu.sh: error: {message}")
    assert result.stdout.count("\n") == 1


def test_operation_outside_the_list_is_named(tmp_path):
    with open(os.path.join(npu_fake.OPP, OPERATOR_LIST)) as file:
        listed = json.load(file)
    del listed["Rsqrt"]
    path = tmp_path / "opp" / OPERATOR_LIST
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(listed))
    result, found = check_npu(tmp_path, ASCEND_OPP_PATH=str(tmp_path / "opp"))
    assert found == {"device": "FAILED"}
    assert result.returncode == 1
    sentence = f"Rsqrt is not in the operator list {path}, so the NPU cannot train it"
    (line,) = [one for one in result.stdout.splitlines() if sentence in one]
    assert line.startswith("device ")


def test_check_without_an_npu_leaves_nothing(tmp_path):
    result, found = check_npu(tmp_path, PYTHONPATH=None, ASCEND_OPP_PATH=None)
    assert (result.returncode, found) == (2, {})
    assert result.stdout.startswith("check_npu.sh: error: found no NPU to check")
    assert result.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('not needed')")
    result = subprocess.run(
        [sys.executable, check.__file__, "--help"],
        env=npu_fake.environment(os.devnull, PYTHONPATH=str(tmp_path)),
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    assert result.returncode == 0
    assert "--only" in result.stdout


def test_failed_runs_get_the_published_remedies(tmp_path):
    lab = check.Lab(str(tmp_path), argparse.Namespace(num_samples=8, batch_size=4))
    lab._runs["one"] = check.Run(1, "EJ0001: busy\nra rdev init failed", "", None)
    lab._runs["another"] = check.Run(0, "EJ0001", "", None)
    ((name, lines),) = lab.failures()
    assert (name, lines[:2]) == ("one", ["EJ0001: busy", "ra rdev init failed"])
    assert [line.startswith("remedy: ") for line in lines[2:]] == [True, True]
    assert "hccn_tool" in lines[2] and "ten seconds" in lines[3]


def test_only_entries_of_the_host_are_read(tmp_path):
    path = tmp_path / "AfterSubGraph_1.pbtxt"
    path.write_text(
        'node {\n  name: "a"\n  op: "GeOp"\n}\nnode {\n  op: "PyFunc"\n}\n'
        'library {\n  function {\n    node_def {\n      op: "MatMul"\n    }\n  }\n}\n'
    )
    assert check.host_types(str(path)) == {"GeOp", "PyFunc"}
