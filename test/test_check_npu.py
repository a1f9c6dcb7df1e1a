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
    "moments",
    "step",
    "fused",
    "channels_first",
    "large_mean",
    "weights",
    "rate",
    "put",
    "pass",
    "memory",
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


@pytest.fixture(scope="module")
def passed(npu_forks, tmp_path_factory):
    """A whole check, also with variables that would move the dumps."""
    folder = tmp_path_factory.mktemp("passed")
    elsewhere, collected = str(folder / "elsewhere"), str(folder / "collected")
    moving = {"DUMP_GRAPH_PATH": elsewhere, "NPU_COLLECT_PATH": collected}
    result, found = forked(npu_forks, folder, None, moving)
    return result, found, (folder / "check_npu.txt").read_text().splitlines()


def test_check_passes_as_users_run_it(tmp_path):
    result, found = check_npu(tmp_path, "--only=device,placed")
    assert (result.returncode, found) == (0, {"device": "ok", "placed": "ok"})


def test_check_passes_on_the_fake(passed):
    result, found, written = passed
    assert found == {name: "ok" for name in CHECKS}, result.stdout
    assert result.returncode == 0
    assert set(written) <= set(result.stdout.splitlines())  # the file holds the table


def test_check_tells_what_float16_costs_moments(passed):
    (line,) = [line for line in passed[2] if line.startswith("moments")]
    for mode in ("allow_mix_precision", "force_fp16"):
        assert re.search(mode + r" off by [1-9]\S*e-04 \(a variance .* saturates", line)
    for mode in ("allow_fp32_to_fp16", "must_keep_origin_dtype"):
        assert re.search(mode + r" off by \S+(;|$)", line)


PRECISIONS = [name for name in CHECKS if name.startswith(("allow", "force", "must"))]
FUSED = ["fused", "channels_first"]


def defect(*names):
    return {"FAKE_NPU_DEFECT": ",".join(names)}


def forked(forks, folder, checks, variables, *options):
    """Runs some checks, or all, in forked processes; returns (result, findings).

    A defect spares none of them the import of TensorFlow.
    """
    environment = npu_fake.environment(os.devnull, **variables)
    only = ["--only=" + ",".join(checks)] if checks else []
    argv = [*SIZES, *only, *options]
    script = os.path.abspath(check.__file__)
    result = forks.result(folder, argv, environment, script=script, forks=True)
    return result, found_in(folder)


@pytest.mark.parametrize(
    "variables, checks",
    [
        (defect("library"), ["device"]),
        (defect("host"), ["placed"]),
        (defect("recompiles"), ["compiles"]),
        (
            defect("no_over_dump", "no_data_dump", "no_profile"),
            ["over_dump", "data_dump", "profiling"],
        ),
        (defect("wrong_numbers"), [*PRECISIONS, "moments", *FUSED, "large_mean"]),
        (defect("wrong_step"), ["step"]),
        (defect("half_moments"), [*FUSED, "large_mean"]),
        (defect("lost_inputs"), ["accuracy"]),
        (defect("slow"), ["speed"]),
        (defect("lost_writes"), ["weights", "put"]),
        (defect("exchange"), ["weights"]),
        (defect("stale_reads"), ["weights", "rate"]),
        (defect("noisy_reads"), ["put", "pass"]),
        (defect("leak"), ["memory"]),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else "",
)
def test_check_fails_on_a_broken_fake(npu_forks, tmp_path, variables, checks):
    options = []
    if variables in (defect("recompiles"), defect("slow")):  # every batch costs
        options.append("--train_epochs=6")
    result, found = forked(npu_forks, tmp_path, checks, variables, *options)
    assert found == {name: "FAILED" for name in checks}, result
    assert result.returncode == 1
    assert f"{len(checks)} failed: {', '.join(checks)}" in result.stdout


@pytest.mark.parametrize("divisor", ["n - 1", "n"])
def test_check_tells_what_a_fused_variance_is_divided_by(npu_forks, tmp_path, divisor):
    variables = {"FAKE_NPU_DIVISOR": divisor.replace(" ", "")}
    result, found = forked(npu_forks, tmp_path, FUSED, variables)
    assert found == dict.fromkeys(FUSED, "ok" if divisor == "n - 1" else "FAILED")
    told = f"the variance is divided by {divisor}; over numpy's "
    assert result.stdout.count(told) == 2, result


def test_variance_below_zero_on_the_device_stays_out_of_the_model(npu_forks, tmp_path):
    variables = {"FAKE_NPU_VARIANCE": "squares"}
    result, found = forked(npu_forks, tmp_path, ["large_mean"], variables)
    assert found == {"large_mean": "ok"}, result


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


@pytest.mark.parametrize("message", ["resource", "container", "run"])
def test_operation_outside_the_list_is_named(npu_forks, tmp_path, message):
    """Whichever of its three messages the adapter ends the run with."""
    with open(os.path.join(npu_fake.OPP, OPERATOR_LIST)) as file:
        listed = json.load(file)
    del listed["Rsqrt"]
    path = tmp_path / "opp" / OPERATOR_LIST
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(listed))
    opp = str(tmp_path / "opp")
    variables = {"ASCEND_OPP_PATH": opp, "FAKE_NPU_STRANDED": message}
    result, found = forked(npu_forks, tmp_path, CHECKS, variables)
    assert found == {"device": "FAILED"}
    assert result.returncode == 1
    sentence = f"Rsqrt is not in the operator list {path}, so the NPU cannot train it"
    (line,) = [one for one in result.stdout.splitlines() if sentence in one]
    assert line.startswith("device ")
    written = (tmp_path / "check_npu.txt").read_text()
    assert re.search("; remedy: .*is not in the operator list", written)
    assert "Traceback" not in written


def test_a_run_that_failed_otherwise_is_not_called_a_missing_operation(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ASCEND_OPP_PATH", npu_fake.OPP)
    run = check.Run(1, "GeOp3_0GEOP::::DoRunAsync Failed", str(tmp_path), None)
    assert check.refused_operation(run) == ""


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
