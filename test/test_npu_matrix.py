# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The whole trainer on every release of the fake adapter saves what the CPU saves.

One rank and two, reads by value and by reference, the NPU's flags pairwise, all in
float32 and with the host's gradients. A few cases
run always, all of them with SWA_TEST_NPU=all (a minute).
"""

import itertools
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from launcher import hccn
from support import npu_fake
from support.npu_fake import DIAGNOSTICS, MODES

from swa.training import ranks_hccl

IS_WHOLE = os.environ.get("SWA_TEST_NPU") == "all"
FLAGS = [
    "--num_samples=512",
    "--batch_size=64",
    "--train_epochs=6",
    "--hidden_units=8",
    "--num_classes=3",
    "--num_features=2",
    "--momentum=0.9",
    "--save_interval=2",
    "--output_dir=out",
]
READS = ("gated", "value")  # what a program can order
SIZES = (1, 2)
# Two orthogonal Latin squares: every two columns hold every pair of their values.
CASES = [
    (release, size, reads, MODES[column ^ row % 4], DIAGNOSTICS[column ^ turn])
    for row, (release, turn) in enumerate(zip(npu_fake.RELEASES, (0, 2, 3, 1) * 2))
    for column, (size, reads) in enumerate(itertools.product(SIZES, READS))
]
WITH_MIXLIST = ("1.6", "1.8")  # two of the releases that know modify_mixlist
ALWAYS = (("1.1", 1), ("1.2", 2), ("1.8", 2))
# Horovod's names in the place of an installed one: tests need no build of it, and
# sums, by the fake's exchange of files, have the order that they have on the fake NPU.
HOROVOD = """
import functools, sys, types
import numpy as np
import tensorflow as tf
from fake_device import exchange

def allreduce(tensor, op, name):
    total = tf.compat.v1.py_func(lambda array: functools.reduce(
        np.add, exchange.all_ranks("Sum", name, array)), [tensor], tensor.dtype)
    total.set_shape(tensor.shape)
    return total

def module(name, **names):
    made = types.ModuleType(name)
    vars(made).update(names, __path__=[])
    sys.modules[name] = made
    return made

nothing = lambda *arguments: None
module("horovod")
module("horovod.tensorflow", init=nothing, shutdown=nothing, allreduce=allreduce, Sum=0)
client = module("http_client", put_data_into_kvstore=nothing,
    read_data_from_kvstore=nothing)
module("horovod.runner")
module("horovod.runner.http", http_client=client)
"""


def train(forks, folder, size, flags, first="", **variables):
    """Runs the ranks to their end; each must end well."""
    (folder / "hccl").mkdir()
    table = folder / "table.json"
    table.write_text(
        hccn.rank_table("server", {rank: "10.0.0.1" for rank in range(size)})
    )
    ranks = []
    for rank in range(size):
        given = dict(variables, FAKE_NPU_RECORD=str(folder / "record.{rank}"))
        if size > 1:
            given.update(
                ASCEND_DEVICE_ID=str(rank),
                FAKE_NPU_HCCL=str(folder / "hccl"),
                HCCL_CONNECT_TIMEOUT="60",
                HCCL_EXEC_TIMEOUT="60",
                HOROVOD_GLOO_RENDEZVOUS_ADDR="here",
                HOROVOD_GLOO_RENDEZVOUS_PORT="1",
                JOB_ID="10087",
                RANK_ID=str(rank),
                RANK_SIZE=str(size),
            )
        set_variables = f"import os\nos.environ.update({given!r})\n"
        log = folder / f"log.{rank}"
        process = forks.ask(
            argv=FLAGS + flags(rank),
            cwd=str(folder),
            log=str(log),
            first=set_variables + first,
        )
        ranks.append((process, log))
    statuses = [forks.ask(wait=process) for process, _ in ranks]
    assert statuses == [0] * size, [log.read_text()[-2000:] for _, log in ranks]


@pytest.fixture(scope="module")
def on_cpu(npu_forks, tmp_path_factory):
    """{number of ranks: what they save}."""
    found = {}
    for size in (1, 2):
        folder = tmp_path_factory.mktemp("cpu")
        train(
            npu_forks,
            folder,
            size,
            lambda rank: ["--device=cpu"],
            ""
            if size == 1
            else "os.environ.update(HOROVOD_SIZE='2', "
            "HOROVOD_RANK=os.environ['RANK_ID'])\n" + HOROVOD,
        )
        found[size] = saved(folder)
    return found


def saved(folder):
    """{(file, name): array} of all that a run has saved, and the report's figures."""
    arrays, checkpoints = {}, folder / "out" / "ckpt"
    for index in sorted(checkpoints.glob("*.index")):
        reader = tf.train.load_checkpoint(str(index)[: -len(".index")])
        for name in reader.get_variable_to_shape_map():
            array = reader.get_tensor(name)
            if not isinstance(array, bytes):  # times, and the settings
                arrays[index.stem, name] = array
    report = json.loads((folder / "out" / "report.json").read_text())
    for name in ("epoch_losses", "epoch_accuracies", "epoch_learning_rates"):
        arrays["report", name] = np.array(report[name])
    for weights, figures in report["test"].items():
        arrays["report", weights] = np.array(sorted(figures.values()))
    return arrays


def case_params():
    """The cases to run, without the flags that a release refuses."""
    for release, size, reads, mode, diagnostic in CASES:
        is_always = (release, size) in ALWAYS and reads == "gated"
        if IS_WHOLE or is_always:
            if diagnostic == "profiling" and release == "1.1":
                diagnostic = ""  # refused
            if diagnostic == "over_dump" and (release, size) == ("1.2", 2):
                diagnostic = ""  # refused
            yield release, size, reads, mode, diagnostic


def test_the_cases_hold_every_pair():
    values = npu_fake.RELEASES, SIZES, READS, MODES, DIAGNOSTICS
    for one, other in itertools.combinations(range(len(values)), 2):
        pairs = {(case[one], case[other]) for case in CASES}
        assert pairs == set(itertools.product(values[one], values[other]))


@pytest.mark.parametrize("release, size, reads, mode, diagnostic", case_params())
def test_npu_saves_what_the_cpu_saves(
    npu_forks, on_cpu, tmp_path, release, size, reads, mode, diagnostic
):
    def flags(rank):
        flags = ["--device=npu", f"--precision_mode={mode}"]
        if mode == "allow_mix_precision" and release in WITH_MIXLIST:
            flags.append(f"--modify_mixlist={mixlist}")
        if diagnostic:
            flags += [f"--{diagnostic}=True", f"--data_save_path=save{rank}"]
        return flags

    mixlist = tmp_path / "mixlist.json"
    mixlist.write_text("{}")
    variables = {"FAKE_NPU_ADAPTER": release, "FAKE_NPU_READS": reads}
    variables["FAKE_NPU_FLOATS"] = "float32"
    if size > 1:
        variables["RANK_TABLE_FILE"] = str(tmp_path / "table.json")
    train(npu_forks, tmp_path, size, flags, **variables)
    found, expected = saved(tmp_path), on_cpu[size]
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        if reads == "value":
            np.testing.assert_array_equal(found[name], array, err_msg=str(name))
        else:  # float32 rounds at 6e-8 of the value, over 48 steps
            np.testing.assert_allclose(found[name], array, 1e-5, 1e-6, err_msg=name[1])
    for rank in range(size):
        events = npu_fake.read_record(tmp_path / f"record.{rank}")
        for graph in npu_fake.only(events, "compile"):
            assert (graph["unordered"], graph["host_types"]) == ([], [])


def test_sum_of_float64_by_int32_is_exact():
    generator = np.random.RandomState(0)
    own = generator.randn(3, 5) * 10.0 ** generator.randint(-300, 300, (3, 5))
    sent = np.zeros((3, 3, 20), np.int32)

    def gathered(vector):
        sent[len(totals)] = vector.reshape(3, 20)
        return vector

    totals = []
    for rank in range(3):  # what each sends, the others' places being zero
        totals.append(ranks_hccl.sum_of_wide(own[rank], rank, 3, gathered))
        np.testing.assert_array_equal(totals[rank], own[rank])
    together = sent.sum(axis=0).ravel()
    total = ranks_hccl.sum_of_wide(own[0], 0, 3, lambda bits: together)
    np.testing.assert_array_equal(total, own[0] + own[1] + own[2])
