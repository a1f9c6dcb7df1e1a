# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Several ranks, each a process on the fake NPU, on every release of the adapter."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from launcher import hccn
from support import npu_fake, rank_program

from swa.training import dataset

# 1.3 to 1.7 are alike here; SWA_TEST_NPU=all has them all in test_npu_matrix
RELEASES = ("1.2", "1.5", "1.8")
STEPS = rank_program.EPOCHS * rank_program.ROWS // rank_program.BATCH


def variables(folder, release, rank, size):
    """What a launcher gives a rank, and what the fake reads."""
    table = folder / "table.json"
    ips = {device: f"10.0.0.{device}" for device in range(size)}
    table.write_text(hccn.rank_table("server", ips))
    given = {
        "RANK_ID": str(rank),
        "RANK_SIZE": str(size),
        "JOB_ID": "10087",
        "ASCEND_DEVICE_ID": str(rank),
        "HCCL_CONNECT_TIMEOUT": "60",
        "HCCL_EXEC_TIMEOUT": "60",
        "FAKE_NPU_ADAPTER": release,
        "FAKE_NPU_RECORD": str(folder / "record.{rank}"),
        "FAKE_NPU_HCCL": str(folder / "hccl"),
        "FAKE_NPU_FLOATS": "float32",  # two ranks are compared with one
        "FAKE_NPU_READS": "gated",
    }
    return dict(given, **({"RANK_TABLE_FILE": str(table)} if size > 1 else {}))


class Outcome:
    """What the ranks of one case left behind."""

    def __init__(self, folder, size, statuses):
        self.folder, self.size, self.statuses = folder, size, statuses

    def arrays(self, rank=0):
        assert set(self.statuses) == {0}, self.said(rank)
        with np.load(str(self.folder / f"{rank}.npz")) as file:
            return dict(file)

    def said(self, rank):
        return (self.folder / f"{rank}.err").read_text()

    def events(self, rank, name):
        return npu_fake.only(npu_fake.read_record(self.folder / f"record.{rank}"), name)


# name: (release, ranks that there are, ranks that start, what `train` is told)
CASES = {"one": ("1.6", 1, 1, {})}
CASES.update((release, (release, 2, 2, {})) for release in RELEASES)
CASES.update(
    batch_norm=("1.6", 4, 4, {"has_batch_norm": True}),
    damaged=("1.6", 2, 2, {"damage": 1}),
    fewer_steps=("1.2", 2, 2, {"fewer_steps": 1}),
    missing=("1.6", 2, 1, {}),
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """{name of a case: Outcome}; one slow import of TensorFlow for all."""
    cases, folders = [], []
    for release, size, present, told in CASES.values():
        folder = pathlib.Path(str(tmp_path_factory.mktemp("ranks")))
        (folder / "hccl").mkdir()
        given = [variables(folder, release, rank, size) for rank in range(present)]
        if present < size:
            given[0]["HCCL_CONNECT_TIMEOUT"] = "1"
        cases.append(dict(told, ranks=given, out=str(folder), on="npu"))
        folders.append(folder)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", rank_program.__file__],
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        universal_newlines=True,
        env=npu_fake.environment("/dev/null"),
        check=True,
    )
    return {
        name: Outcome(folder, CASES[name][1], statuses)
        for name, folder, statuses in zip(CASES, folders, json.loads(done.stdout))
    }


@pytest.mark.parametrize("release", RELEASES)
def test_two_ranks_train_as_one(outcomes, release):
    one, two = outcomes["one"].arrays(), outcomes[release].arrays()
    assert one.keys() == two.keys()
    for name in one:  # float32's rounding over 48 steps
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", RELEASES + ("batch_norm",))
def test_ranks_end_with_the_same_bits(outcomes, name):
    outcome = outcomes[name]
    first = outcome.arrays()
    for rank in range(1, outcome.size):
        for key, array in outcome.arrays(rank).items():
            np.testing.assert_array_equal(array, first[key], err_msg=key)


@pytest.mark.parametrize("name", RELEASES + ("batch_norm",))
def test_ranks_run_the_same_collectives_in_the_same_order(outcomes, name):
    outcome = outcomes[name]
    first = [event["what"] for event in outcome.events(0, "exchange")]
    made = [event["name"] for event in outcome.events(0, "collective")]
    assert len(set(made)) == len(made)
    for rank in range(1, outcome.size):
        assert [event["what"] for event in outcome.events(rank, "exchange")] == first
        assert [event["name"] for event in outcome.events(rank, "collective")] == made


@pytest.mark.parametrize("release", RELEASES)
def test_collectives_are_as_few_as_can_be(outcomes, release):
    """Each step one a gradient; else step counts, weights, means and hashes."""
    gradients = 4  # kernel and bias of two layers
    step_counts = hashes = 1
    weights = 2  # float32, and the optimizer's count of steps
    means = rank_program.EPOCHS  # of losses
    expected = STEPS * gradients + step_counts + weights + means + hashes
    assert len(outcomes[release].events(1, "exchange")) == expected


@pytest.mark.parametrize("release", RELEASES)
def test_every_rank_starts_hccl_and_keeps_to_the_device(outcomes, release):
    for rank in range(2):
        (started,) = outcomes[release].events(rank, "hccl")
        assert started["ranks"] == 2
        for graph in outcomes[release].events(rank, "compile"):
            assert (graph["host_types"], graph["unsupported"]) == ([], [])


def test_statistics_are_those_of_all_rows(outcomes):
    arrays = outcomes["batch_norm"].arrays()
    x, _, _, _ = dataset.blobs(
        rank_program.ROWS, rank_program.CLASSES, rank_program.FEATURES, seed=3
    )
    hidden = np.maximum(x @ arrays["dense/kernel:0"] + arrays["dense/bias:0"], 0)
    mean, variance = (
        arrays[f"batch_normalization/moving_{name}:0"] for name in ("mean", "variance")
    )
    np.testing.assert_allclose(mean, hidden.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variance, hidden.var(axis=0), rtol=1e-4, atol=1e-5)


def test_a_rank_that_differs_is_found_and_what_differs_named(outcomes):
    outcome = outcomes["damaged"]
    assert 0 not in outcome.statuses
    for rank in range(2):
        assert "dense_1/kernel:0, dense_1/bias:0 must be equal" in outcome.said(rank)
        assert "rank 1 differs from rank 0" in outcome.said(rank)


def test_unequal_steps_are_refused_before_the_first(outcomes):
    outcome = outcomes["fewer_steps"]
    assert 0 not in outcome.statuses
    for rank in range(2):
        assert "steps_per_epoch must be the same on all ranks" in outcome.said(rank)
        assert "got 8, 7" in outcome.said(rank)


def test_a_rank_that_never_starts_is_named(outcomes):
    outcome = outcomes["missing"]
    assert outcome.statuses != [0]
    (event,) = outcome.events(0, "abort")
    assert "rank 1 did not come" in event["message"]
