# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The train script, run as a process on the fake NPU: what reaches the device."""

import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from launcher import hccn
from support import npu_fake
from support.npu_fake import DIAGNOSTICS, MODES

from swa.training import machine, session
from swa.training.flags import parse
from swa.training.settings import checked

SCRIPT = os.path.join(npu_fake.ROOT, "train-tf.keras-npu.py")
EPOCHS, BATCHES = 4, 8
TINY = [
    "--num_samples=512",
    "--batch_size=64",
    f"--train_epochs={EPOCHS}",
    "--hidden_units=8",
    "--num_classes=3",
    "--num_features=2",
]
# One compile each: asking what is initialised, initialising, resetting the metrics,
# training, the batch-norm epoch, evaluation, and the callback's own steps; reading the
# weights and the optimizer's variables for a checkpoint, and reading the average.
MOST_COMPILES = 14
# Calls of a whole run beside its batches: once each, or once an epoch (as is the
# reading of what a checkpoint would hold). The weights of the pass and of the
# evaluation go by way of the host: read and put, each a call.
MOST_OTHER_CALLS = 35
# Sessions without the adapter: files are written on the host, one graph for the
# checkpoint, one for the model of the end, one for each of its two sets of weights.
HOST_SESSIONS = 4

ON = ["use_off_line", "b", True]
MIX = ["precision_mode", "s", "allow_mix_precision"]


def run_script(forks, folder, *flags, release="1.6", **variables):
    """Runs the script in `folder`; returns (its result, the fake's record)."""
    argv = [*TINY, "--output_dir=out", *flags]
    environment = npu_fake.environment(folder / "record", release, **variables)
    result = forks.result(folder, argv, environment)
    return result, npu_fake.read_record(folder / "record")


# Every flag takes effect

STEPS = ("10", "0|3-7")
WORDS = ("True", "1")
DEVICES = ("auto", "npu")
RELEASES = ("1.2", "1.3", "1.5", "1.6", "1.7", "1.8")


def pairwise_rows():
    """Sixteen rows in which any two values of two flags meet; releases take turns."""
    rows = []
    for number, (mode, diagnostic) in enumerate(itertools.product(MODES, DIAGNOSTICS)):
        first, second = divmod(number, 4)
        rows.append(
            {
                "precision_mode": mode,
                "diagnostic": diagnostic,
                "data_dump_step": STEPS[(first + second) % 2],
                "word": WORDS[(first // 2 + second) % 2],
                "device": DEVICES[(first + second // 2) % 2],
                "release": RELEASES[number % len(RELEASES)],
            }
        )
    return rows


ROWS = pairwise_rows()


def row_id(row):
    return "-".join(value for value in row.values() if value)


def flags_of(row, save_path):
    """A row's settings, by the flags' names."""
    flags = {"data_save_path": str(save_path)}
    for name in ("precision_mode", "data_dump_step", "device"):
        flags[name] = row[name]
    if row["diagnostic"]:
        flags[row["diagnostic"]] = row["word"]
    return flags


def expected_options(row, save_path):
    """What the adapter is to read, beside its defaults."""
    options = {"use_off_line": True, "precision_mode": row["precision_mode"]}
    if row["diagnostic"] == "over_dump":
        path = f"{save_path}/overflow_dump"
        options.update(enable_dump_debug=True, dump_path=path, dump_debug_mode="all")
    if row["diagnostic"] == "data_dump_flag":
        path, steps = f"{save_path}/data_dump", row["data_dump_step"]
        options.update(
            enable_dump=True, dump_path=path, dump_step=steps, dump_mode="all"
        )
    if row["diagnostic"] == "profiling":
        options.update(profiling_mode=True)
    return options


def assert_options_are_read(events, row, save_path):
    (options,) = npu_fake.only(events, "options")
    expected = expected_options(row, save_path)
    read = options["options"]
    assert {key: read[key] for key in expected} == expected
    assert (options["entries"], options["ignored"]) == (1, [])
    switches = ("enable_dump", "enable_dump_debug", "profiling_mode")
    assert [key for key in switches if read[key]] == [
        key for key in switches if expected.get(key)
    ]


def test_any_two_values_of_two_flags_meet():
    factors = ("precision_mode", "diagnostic", "data_dump_step", "word", "device")
    values = dict(zip(factors, (MODES, DIAGNOSTICS, STEPS, WORDS, DEVICES)))
    for one, other in itertools.combinations(factors, 2):
        met = {(row[one], row[other]) for row in ROWS}
        assert met == set(itertools.product(values[one], values[other])), (one, other)


# each precision, diagnosis, word and device once
WHOLE_RUNS = ROWS[::5]


@pytest.mark.parametrize("row", WHOLE_RUNS, ids=row_id)
def test_flags_of_a_whole_run_reach_the_device(npu_forks, tmp_path, row):
    save_path = tmp_path / "save data"
    flags = [f"--{name}={value}" for name, value in flags_of(row, save_path).items()]
    result, events = run_script(npu_forks, tmp_path, *flags, release=row["release"])
    assert result.returncode == 0, result.stderr
    assert_options_are_read(events, row, save_path)
    folders = {"over_dump": "overflow_dump", "data_dump_flag": "data_dump"}
    folder = folders.get(row["diagnostic"], row["diagnostic"])
    if folder:
        assert os.listdir(str(save_path)) == [folder]
        assert os.listdir(str(save_path / folder))
    else:
        assert not save_path.exists()
    names = [event["event"] for event in events]
    assert names.count("host_session") == HOST_SESSIONS
    assert names.count("close") == 1
    assert "device npu: " in result.stdout
    with open(str(tmp_path / "out" / "report.json")) as file:
        assert json.load(file)["device"] == "npu"


def test_on_every_release_the_flags_of_every_row_reach_the_device(npu_forks, tmp_path):
    """The session alone, for the product of releases and rows."""
    cases, products = [], list(itertools.product(RELEASES, ROWS))
    for release, row in products:
        flags = flags_of(row, tmp_path).items()
        config = checked(parse([f"--{name}={value}" for name, value in flags]))
        proto = session.session_config(config, machine.Device("npu"))
        (entry,) = proto.graph_options.rewrite_options.custom_optimizers
        options = [
            [key, value.WhichOneof("value"), getattr(value, value.WhichOneof("value"))]
            for key, value in entry.parameter_map.items()
        ]
        text = [
            [key, field, value.decode() if field == "s" else value]
            for key, field, value in options
        ]
        cases.append({"release": release, "sessions": [[text]]})
    for folder in ("overflow_dump", "data_dump", "profiling"):
        (tmp_path / folder).mkdir()
    outcomes = npu_fake.trial(npu_forks, cases, tmp_path)
    for (_, row), case, outcome in zip(products, cases, outcomes):
        assert outcome["status"] == "ok", (case, outcome["stderr"])
        assert_options_are_read(outcome["events"], row, tmp_path)


def test_launcher_hands_its_documented_flags_on(tmp_path):
    flags = {
        "data_path": "./",
        "precision_mode": "force_fp16",
        "over_dump": "False",
        "data_dump_flag": "True",
        "data_dump_step": "0|3-4",
        "profiling": "True",
        "data_save_path": "./save",
    }
    result = subprocess.run(
        [
            "bash",
            os.path.join(npu_fake.ROOT, "test", "train_performance_1p.sh"),
            *TINY,
            *(f"--{name}={value}" for name, value in flags.items()),
        ],
        cwd=str(tmp_path),
        env=npu_fake.environment(
            tmp_path / "record", "1.2", PYTHON=sys.executable, RANK_TABLE_FILE="/stray"
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert result.returncode == 0, result.stdout
    events = npu_fake.read_record(tmp_path / "record")
    (options,) = npu_fake.only(events, "options")
    read = options["options"]
    assert read["precision_mode"] == "force_fp16"
    assert (read["enable_dump"], read["enable_dump_debug"]) == (True, False)
    assert (read["dump_step"], read["profiling_mode"]) == ("0|3-4", True)
    dumped = tmp_path / "save" / "data_dump"
    found = sorted(name for _, _, names in os.walk(str(dumped)) for name in names)
    assert found == ["step_0", "step_3", "step_4"]
    assert os.listdir(str(tmp_path / "save" / "profiling"))
    assert not npu_fake.only(events, "hccl")  # the launcher drops a stray rank table


def test_mixlist_reaches_the_device(npu_forks, tmp_path):
    (tmp_path / "list.json").write_text("{}")
    result, events = run_script(
        npu_forks, tmp_path, "--modify_mixlist=list.json", release="1.5"
    )
    assert result.returncode == 0, result.stderr
    (options,) = npu_fake.only(events, "options")
    assert options["options"]["modify_mixlist"] == str(tmp_path / "list.json")


# What must not reach it is refused

DUMP = [["enable_dump", "b", True], ["dump_path", "s", "."]]
DEBUG = [["enable_dump_debug", "b", True], ["dump_path", "s", "."]]
STEP = DUMP + [["dump_step", "s", "3-1"]]
TRACE = ["profiling_mode", "b", True]
LONG = json.dumps({"aic_metrics": "x" * 2040})
# name: (release, flags, variables, part of the message,
#        the options in a session without the trainer, what then happens)
REFUSED = {
    "no such precision": (
        "1.6",
        ["--precision_mode=fp16"],
        {},
        "precision_mode must be one of",
        [["precision_mode", "s", "fp16"]],
        "ok",  # and this is why: the adapter says nothing
    ),
    "dump steps": (
        "1.6",
        ["--data_dump_flag=1", "--data_dump_step=3-1"],
        {},
        "data_dump_step must be at most",
        STEP,
        "abort",
    ),
    "both dumps": (
        "1.5",
        ["--data_dump_flag=1", "--over_dump=1"],
        {},
        "over_dump=True, data_dump_flag=True: these exclude each other",
        DUMP + DEBUG,
        "abort",
    ),
    "switch": (
        "1.6",
        ["--over_dump=maybe"],
        {},
        "over_dump must be True, False, 1 or 0",
        [["enable_dump_debug", "s", "maybe"]],
        "ok",  # read from the wrong field, hence as False
    ),
    "long profiling options": (
        "1.6",
        ["--profiling=1", "--data_save_path=/" + "a/" * 1000],
        {},
        "at most 2047 bytes",
        [TRACE, ["profiling_options", "s", LONG]],
        "abort",
    ),
    "directory": (
        "1.6",
        ["--data_dump_flag=1", "--data_save_path=record"],
        {},
        "data_save_path must be a directory",
        [["enable_dump", "b", True], ["dump_path", "s", "record/data_dump"]],
        "abort",
    ),
    "device id": (
        "1.6",
        [],
        {"ASCEND_DEVICE_ID": "first"},
        "ASCEND_DEVICE_ID must be an integer from 0 to 4294967295, got 'first'",
        [],
        "abort",
    ),
    "operator list": (
        "1.6",
        [],
        {"ASCEND_OPP_PATH": "/nowhere"},
        "ASCEND_OPP_PATH must hold",
        [],
        "host",
    ),
    "rank table": (
        "1.6",
        [],
        {"RANK_TABLE_FILE": "/t.json"},
        "RANK_TABLE_FILE must be unset",
        [],
        "hccl",
    ),
    "overflow dump on ranks": (
        "1.2",
        ["--over_dump=1"],
        {
            "RANK_SIZE": "8",
            "RANK_ID": "0",
            "JOB_ID": "10087",
            "RANK_TABLE_FILE": "table.json",
        },
        "over_dump on adapter r1.2 (CANN 20.2) needs a single rank",
        DEBUG,
        "abort",
    ),
    "mixlist before 1.5": (
        "1.3",
        ["--modify_mixlist=list.json"],
        {},
        "modify_mixlist needs adapter r1.5 (CANN 5.0.2) or newer, this one is r1.3",
        [MIX, ["modify_mixlist", "s", "list.json"]],
        "ignored",
    ),
    "mixlist without its mode": (
        "1.6",
        ["--modify_mixlist=list.json", "--precision_mode=force_fp16"],
        {},
        "modify_mixlist needs precision_mode allow_mix_precision",
        [["precision_mode", "s", "force_fp16"], ["modify_mixlist", "s", "list.json"]],
        "error",
    ),
    "profiling on 1.1": (
        "1.1",
        ["--profiling=1"],
        {},
        "profiling needs adapter r1.2 (CANN 20.2) or newer, this one is r1.1",
        [TRACE, ["profiling_options", "s", '{"output": "."}']],
        "abort",
    ),
    "broken library": (
        "1.6",
        [],
        {"FAKE_NPU_DEFECT": "library"},
        "ImportError: libge_runner.so: cannot open shared object file",
        None,
        None,
    ),
}


@pytest.fixture(scope="module")
def direct(npu_forks, tmp_path_factory):
    """{name: outcome} of the refused settings in sessions that nobody checked."""
    cases = {
        name: {"release": release, "environ": variables, "sessions": [[[ON] + options]]}
        for name, (release, _, variables, _, options, _) in REFUSED.items()
        if options is not None
    }
    folder = tmp_path_factory.mktemp("direct")
    return dict(zip(cases, npu_fake.trial(npu_forks, list(cases.values()), folder)))


@pytest.mark.parametrize("name", REFUSED)
def test_trainer_refuses(npu_forks, tmp_path, name):
    release, flags, variables, message, _, _ = REFUSED[name]
    (tmp_path / "list.json").write_text("{}")
    (tmp_path / "record").write_text("")
    ips = {device: "10.0.0.1" for device in range(8)}
    (tmp_path / "table.json").write_text(hccn.rank_table("server", ips))
    flags = ["--device=npu", "--data_save_path=save", *flags]
    result, events = run_script(
        npu_forks, tmp_path, *flags, release=release, **variables
    )
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("train-tf.keras-npu.py: error: ")
    assert message in lines[0]
    assert not npu_fake.only(events, "options")  # no session ran
    assert sorted(os.listdir(str(tmp_path))) == ["list.json", "record", "table.json"]


@pytest.mark.parametrize("name", [name for name in REFUSED if REFUSED[name][-1]])
def test_refused_settings_would_have_gone_wrong(direct, name):
    outcome, status = direct[name], REFUSED[name][-1]
    events = outcome["events"]
    if status in ("abort", "error"):
        assert outcome["status"] == status, outcome["stderr"]
        assert "FAKE NPU FATAL" in outcome["stderr"]
        return
    assert outcome["status"] == "ok", outcome["stderr"]
    (compiled,) = npu_fake.only(events, "compile")
    (options,) = npu_fake.only(events, "options")
    assert (compiled["host_types"] == compiled["types"]) == (status == "host")
    assert bool(npu_fake.only(events, "hccl")) == (status == "hccl")
    assert bool(options["ignored"]) == (status == "ignored")


def test_cpu_overrides_a_broken_npu(npu_forks, tmp_path):
    variables = {"FAKE_NPU_DEFECT": "library", "ASCEND_OPP_PATH": "/nowhere"}
    result, events = run_script(npu_forks, tmp_path, "--device=cpu", **variables)
    assert result.returncode == 0, result.stderr
    assert events == []  # npu_bridge was not even imported
    with open(str(tmp_path / "out" / "report.json")) as file:
        assert json.load(file)["device"] == "cpu"


@pytest.mark.parametrize(
    "stranded, words",
    [
        ("resource", "Trying to access resource"),
        ("container", "Container localhost does not exist"),
        ("run", "GeOp1_0GEOP::::DoRunAsync Failed"),
    ],
)
def test_a_missing_operation_is_one_line_with_the_remedy(tmp_path, stranded, words):
    """Whichever of its three messages the adapter ends the run with."""
    with open(os.path.join(npu_fake.OPP, machine.OPERATOR_LIST)) as file:
        listed = json.load(file)
    del listed["Rsqrt"]
    path = tmp_path / "opp" / machine.OPERATOR_LIST
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(listed))
    variables = dict(ASCEND_OPP_PATH=str(tmp_path / "opp"), FAKE_NPU_STRANDED=stranded)
    # a process of its own, as a user has it: the trainer chooses TensorFlow's log level
    environment = npu_fake.environment(
        tmp_path / "record", "1.6", TF_CPP_MIN_LOG_LEVEL=None, **variables
    )
    result = subprocess.run(
        [sys.executable, SCRIPT, *TINY],
        cwd=str(tmp_path),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("train-tf.keras-npu.py: error: the NPU cannot run a graph: ")
    assert len(line) < 430 and words in line
    assert re.search("; remedy: .*is not in the operator list.*check_npu.sh", line)


# What the device has to do

PLAIN = """
layers, K = tf.keras.layers, tf.keras.backend
with session_of([[["use_off_line", "b", True]]]) as opened:
    K.set_session(opened)
    x, y = np.zeros((64, 2), "float32"), np.zeros(64, "int32")
    for momentum in (0.0, 0.9):
        model = tf.keras.Sequential([
            layers.Dense(8, activation="relu", input_shape=(2,)),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax"),
        ])
        sgd = tf.keras.optimizers.SGD(0.1, momentum=momentum)
        model.compile(sgd, "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=32, epochs=2, verbose=0, validation_data=(x, y))
        model.evaluate(x, y, batch_size=32, verbose=0)
        model.set_weights(model.get_weights())
        K.set_value(sgd.lr, K.get_value(sgd.lr) / 2)
        model.save_weights("weights")
        model.load_weights("weights")
"""


@pytest.fixture(scope="module")
def plain(npu_forks, tmp_path_factory):
    """The record of plain Keras training: no SWA, nothing of this project."""
    cases = [{"release": "1.6", "code": PLAIN}]
    (outcome,) = npu_fake.trial(npu_forks, cases, tmp_path_factory.mktemp("plain"))
    assert outcome["status"] == "ok", outcome["stderr"]
    return outcome["events"]


@pytest.fixture(scope="module")
def trained(npu_forks, tmp_path_factory):
    """The record of a whole run of the script."""
    folder = tmp_path_factory.mktemp("trained")
    result, events = run_script(npu_forks, folder, "--verbose=2")
    assert result.returncode == 0, result.stderr
    return result.stdout, events


def types_of(events, key="types"):
    return set().union(*(event[key] for event in npu_fake.only(events, "compile")))


def test_plain_keras_leaves_the_device_to_save_alone(plain):
    saving = {"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"}
    assert saving <= types_of(plain, "host_types")
    for graph in npu_fake.only(plain, "compile"):
        assert saving & set(graph["types"]) or not graph["host_types"]


def test_no_operation_leaves_the_device(trained):
    assert types_of(trained[1], "host_types") == set()


def test_nothing_is_float64(trained):
    assert types_of(trained[1], "unsupported") == set()


def test_few_graphs_are_compiled(trained):
    graphs = npu_fake.only(trained[1], "compile")
    kept = {
        (tuple(g["feeds"]), tuple(g["fetches"]), tuple(g["targets"])) for g in graphs
    }
    assert len(kept) == len(graphs)  # none twice
    assert len(graphs) <= MOST_COMPILES


@pytest.mark.parametrize(
    "page, sentence",
    [("docs/ascend.md", "compiles {} graphs"), ("docs/zh/ascend.md", "编译 {} 个图")],
)
def test_the_documents_tell_how_many_graphs(trained, page, sentence):
    with open(os.path.join(npu_fake.ROOT, page), encoding="utf-8") as file:
        text = file.read()
    count = len(npu_fake.only(trained[1], "compile"))
    assert sentence.format(count) in text
    assert len(re.findall(r"\b(?!%d)\d+ (?:graphs|个图)" % count, text)) == 0


def test_batch_costs_one_call(npu_forks, trained, tmp_path):
    """Twice as many batches, of half the size, cost as many calls more."""
    result, events = run_script(npu_forks, tmp_path, f"--batch_size={256 // BATCHES}")
    assert result.returncode == 0, result.stderr
    batches = EPOCHS * BATCHES + 2  # the held-out batch is evaluated twice
    calls = len(npu_fake.only(trained[1], "call"))
    assert calls - batches <= MOST_OTHER_CALLS, calls - batches
    assert len(npu_fake.only(events, "call")) - calls == batches
    compiles = len(npu_fake.only(trained[1], "compile"))
    assert len(npu_fake.only(events, "compile")) == compiles


def test_every_held_out_row_counts(npu_forks, tmp_path):
    """Of 70 held-out rows six are alone in the last batch of 64."""
    generator = np.random.RandomState(0)
    y = generator.randint(3, size=582)
    x = generator.normal(y[:, None], size=(582, 2)).astype(np.float32)
    path = tmp_path / "mine.npz"
    np.savez(str(path), x=x[:512], y=y[:512], x_test=x[512:], y_test=y[512:])
    figures = {}
    for device in ("npu", "cpu"):
        folder = tmp_path / device
        folder.mkdir()
        flags = [f"--data_path={path}", f"--device={device}"]
        # else the fake's training differs from the CPU's
        plain = {"FAKE_NPU_FLOATS": "float32", "FAKE_NPU_READS": "gated"}
        result, _ = run_script(npu_forks, folder, *flags, release="1.6", **plain)
        assert result.returncode == 0, result.stderr
        report = json.loads((folder / "out" / "report.json").read_text())
        figures[device] = report["test"]["swa"]
    assert figures["npu"]["loss"] == pytest.approx(figures["cpu"]["loss"], rel=1e-5)
    assert figures["npu"]["accuracy"] == figures["cpu"]["accuracy"]
    assert (figures["npu"]["accuracy"] * 70) == pytest.approx(
        round(figures["npu"]["accuracy"] * 70)
    )


def test_no_value_depends_on_an_unforced_order(trained):
    graphs = npu_fake.only(trained[1], "compile")
    assert [graph["unordered"] for graph in graphs] == [[]] * len(graphs)


def test_verbose_prints_the_map_as_the_adapter_reads_it(trained):
    printed = trained[0].replace("\n", "").replace(" ", "")
    assert 'name:"NpuOptimizer"' in printed
    assert 'key:"precision_mode"value{s:"allow_mix_precision"}' in printed
    assert 'key:"use_off_line"value{b:true}' in printed
