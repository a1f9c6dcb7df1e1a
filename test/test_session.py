# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The NPU's options, the choice of device, the session: without the fake adapter."""

import json
import os
import subprocess
import sys

import pytest
import tensorflow as tf
from launcher import hccn
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from swa.training import machine, npu_options, session
from swa.training.errors import UserError
from swa.training.flags import FLAGS
from swa.training.settings import parse
from swa.training.world import World

NPU = machine.Device("npu", "for a test", adapter="1.6")
CPU = machine.Device("cpu", "for a test")
ALWAYS = {
    "use_off_line": ("b", True),
    "precision_mode": ("s", b"allow_mix_precision"),
}


def make(**fields):
    """The Config of a command line with these flags."""
    return parse([f"--{name}={value}" for name, value in fields.items()])


def npu_entries(proto):
    return [
        entry
        for entry in proto.graph_options.rewrite_options.custom_optimizers
        if entry.name == "NpuOptimizer"
    ]


def parameters(proto):
    """{key: (field, value)} of the one entry."""
    (entry,) = npu_entries(proto)
    return {
        key: (value.WhichOneof("value"), getattr(value, value.WhichOneof("value")))
        for key, value in entry.parameter_map.items()
    }


# The parameter map


@pytest.mark.parametrize(
    "flags, options",
    [
        ({}, {}),
        ({"precision_mode": "force_fp16"}, {"precision_mode": ("s", b"force_fp16")}),
        (
            {"over_dump": "true"},
            {
                "enable_dump_debug": ("b", True),
                "dump_path": ("s", b"/d/overflow_dump"),
                "dump_debug_mode": ("s", b"all"),
            },
        ),
        (
            {"data_dump_flag": "1", "data_dump_step": "0|3-7"},
            {
                "enable_dump": ("b", True),
                "dump_path": ("s", b"/d/data_dump"),
                "dump_step": ("s", b"0|3-7"),
                "dump_mode": ("s", b"all"),
            },
        ),
        ({"data_dump_step": "3"}, {}),
        ({"over_dump": "False", "data_dump_flag": "0", "profiling": "FALSE"}, {}),
        ({"modify_mixlist": "/l.json"}, {"modify_mixlist": ("s", b"/l.json")}),
    ],
    ids=lambda value: " ".join(value) or "none",
)
def test_each_flag_sets_its_options_in_their_typed_fields(flags, options):
    config = make(data_save_path="/d", **flags)
    found = parameters(session.session_config(config, NPU))
    assert found == dict(ALWAYS, **options)


def test_profiling_names_both_points_and_its_directory():
    config = make(data_save_path="/d", profiling="True")
    found = parameters(session.session_config(config, NPU))
    field, text = found.pop("profiling_options")
    assert found == dict(ALWAYS, profiling_mode=("b", True))
    assert field == "s"
    assert json.loads(text.decode()) == {
        "output": "/d/profiling",
        "training_trace": "on",
        "task_trace": "on",
        "aicpu": "on",
        "fp_point": "",
        "bp_point": "",
        "aic_metrics": "PipeUtilization",
    }


def test_npu_session_has_the_vendors_rewriter_settings():
    proto = session.session_config(make(), NPU)
    rewriter = proto.graph_options.rewrite_options
    assert rewriter.remapping == RewriterConfig.OFF
    # what the vendor writes as OFF is MANUAL in this field's own enum
    assert rewriter.memory_optimization == RewriterConfig.MANUAL == RewriterConfig.OFF
    assert proto.allow_soft_placement
    unset = session.session_config(make(memory_optimization="unset"), NPU)
    default = RewriterConfig.DEFAULT_MEM_OPT
    assert unset.graph_options.rewrite_options.memory_optimization == default
    jit = proto.graph_options.optimizer_options.global_jit_level
    assert jit == tf.compat.v1.OptimizerOptions.OFF


def test_cpu_session_is_plain_whatever_the_npu_flags():
    config = make(over_dump="True", precision_mode="force_fp16")
    proto = session.session_config(config, CPU)
    assert proto == tf.compat.v1.ConfigProto(allow_soft_placement=True)


def test_describing_the_options_shows_fields_and_inserts_no_key():
    proto = session.session_config(make(data_save_path="/d", over_dump="True"), NPU)
    before = proto.SerializeToString(deterministic=True)
    assert session.describe_options(proto).splitlines() == [
        "NpuOptimizer:",
        "  dump_debug_mode.s = all",
        "  dump_path.s = /d/overflow_dump",
        "  enable_dump_debug.b = True",
        "  precision_mode.s = allow_mix_precision",
        "  use_off_line.b = True",
    ]
    assert proto.SerializeToString(deterministic=True) == before


# The values


@pytest.mark.parametrize(
    "text", ["5", "0", "0|3-7", "7|3", "1-2|2-9|5", "|".join(["8"] * 100)]
)
def test_dump_step_takes_the_vendors_grammar(text):
    npu_options.check_dump_step(text)


@pytest.mark.parametrize(
    "text, rule",
    [
        ("", "must be steps"),
        ("1|", "must be steps"),
        ("|1", "must be steps"),
        ("1||2", "must be steps"),
        ("1 | 2", "must be steps"),
        ("1,2", "must be steps"),
        ("-1", "must be steps"),
        ("1-", "must be steps"),
        ("1-2-3", "must be steps"),
        ("1.5", "must be steps"),
        ("1\n", "must be steps"),
        ("\u0661", "must be steps"),
        ("3-3", "need A below B"),
        ("0|7-3", "need A below B"),
        ("|".join(["8"] * 101), "at most 100 entries"),
    ],
)
def test_dump_step_refuses_the_rest(text, rule):
    with pytest.raises(UserError, match="data_dump_step.*" + rule):
        npu_options.check_dump_step(text)


@pytest.mark.parametrize("mode", FLAGS["precision_mode"].parser.enum_values)
def test_every_precision_mode_is_taken(mode):
    assert make(precision_mode=mode).precision_mode == mode


def test_profiling_json_may_fill_the_buffer_and_no_more():
    config = make(profiling="True", data_save_path="/")
    room = 2047 - len(npu_options.profiling_json(config))
    npu_options.check_values(config._replace(data_save_path="/" + "a" * (room - 1)))
    # one byte more is a slash too: "/aaa" + "/profiling" against "/" + "profiling"
    with pytest.raises(UserError, match="at most 2047 bytes, got 2048"):
        npu_options.check_values(config._replace(data_save_path="/" + "a" * room))


def test_options_module_imports_no_framework():
    code = (
        "import sys, swa.training.npu_options;"
        "assert not {'tensorflow', 'numpy', 'npu_bridge'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The adapter


@pytest.mark.parametrize("row", npu_options.ADAPTERS, ids=lambda row: row.version)
def test_adapter_rules_follow_the_table(row):
    """since: profiling JSON 1.2, mixlist 1.5; overflow dumps on ranks not with 1.2."""
    since = tuple(int(number) for number in row.version.split("."))
    allowed = [
        ({"profiling": "True"}, 1, since >= (1, 2)),
        ({"modify_mixlist": "/l.json"}, 1, since >= (1, 5)),
        ({"over_dump": "True"}, 1, True),
        ({"over_dump": "True"}, 8, since != (1, 2)),
        ({"data_dump_flag": "True"}, 8, True),
    ]
    for flags, ranks, is_allowed in allowed:
        if is_allowed:
            npu_options.check_adapter(make(**flags), row, ranks)
        else:
            (flag,) = flags
            with pytest.raises(UserError, match=f"{flag}.*r{row.version} "):
                npu_options.check_adapter(make(**flags), row, ranks)


# The choice of device


@pytest.fixture
def bare_machine(monkeypatch):
    """A machine without any sign of an NPU, whatever this one is."""
    monkeypatch.setattr(machine, "DEVICE_FILES", ())
    monkeypatch.setattr(machine, "CANN_FOLDERS", ())
    monkeypatch.setitem(sys.modules, "npu_bridge", None)
    monkeypatch.delitem(sys.modules, "npu_bridge.npu_init", raising=False)


@pytest.fixture
def npu_machine(bare_machine, monkeypatch, tmp_path):
    """A device file, an operator list and an importable npu_bridge; its environment."""
    (tmp_path / "davinci0").touch()
    monkeypatch.setattr(machine, "DEVICE_FILES", (str(tmp_path / "davinci*"),))
    operators = tmp_path / "opp" / machine.OPERATOR_LIST
    operators.parent.mkdir(parents=True)
    operators.write_text("{}")
    install(tmp_path, monkeypatch, init="def npu_clear_session(config=None): pass")
    yield {"ASCEND_OPP_PATH": str(tmp_path / "opp"), "ASCEND_DEVICE_ID": "0"}
    sys.modules.pop("npu_bridge", None)  # ours; monkeypatch puts the old entry back


def install(tmp_path, monkeypatch, package="", init=""):
    """Puts an npu_bridge of these sources on the path."""
    folder = tmp_path / "site" / "npu_bridge"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(package)
    # running npu_init is a mistake: it changes every later session of the process
    (folder / "npu_init.py").write_text(init + "\nraise SystemExit('npu_init has run')")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, "npu_bridge")


def test_auto_without_an_npu_is_the_cpu(bare_machine):
    choice = machine.choose(make(), {})
    assert choice == machine.Device(
        "cpu", "device cpu: found no NPU, no CANN and no npu_bridge"
    )


def test_npu_without_an_npu_is_refused(bare_machine):
    with pytest.raises(UserError, match="device=npu needs an Ascend NPU"):
        machine.choose(make(device="npu"), {})


@pytest.mark.parametrize("asked", ["auto", "npu"])
def test_npu_is_chosen_where_there_is_one(npu_machine, asked):
    choice = machine.choose(make(device=asked), npu_machine)
    assert (choice.name, choice.adapter, choice.notes) == ("npu", "1.6", ())
    assert "device id 0, adapter r1.6 (CANN 5.0.3/5.0.4)" in choice.reason
    assert "\n" not in choice.reason


def test_cpu_can_be_had_beside_a_broken_npu(npu_machine):
    choice = machine.choose(make(device="cpu"), {"RANK_TABLE_FILE": "/t.json"})
    assert choice == machine.Device("cpu", "device cpu: as --device=cpu asks")


@pytest.mark.parametrize("variable", machine.CANN_VARIABLES + ("HOME",))
def test_auto_stays_off_the_cpu_where_cann_is(bare_machine, tmp_path, variable):
    folder = tmp_path / "Ascend"
    (folder / "opp").mkdir(parents=True)
    environ = {variable: str(tmp_path if variable == "HOME" else folder)}
    with pytest.raises(UserError, match="ASCEND_OPP_PATH must hold"):
        machine.choose(make(), environ)


def test_cpu_names_the_flags_it_does_not_honour(bare_machine):
    config = make(over_dump="True", precision_mode="force_fp16", data_dump_step="3")
    (note,) = machine.choose(config, {}).notes
    assert "--precision_mode, --over_dump, --data_dump_step:" in note


def test_a_flag_that_was_not_typed_is_not_named(bare_machine):
    assert machine.choose(make(), {}).notes == ()


def test_unset_device_id_is_noted(npu_machine):
    del npu_machine["ASCEND_DEVICE_ID"]
    (note,) = machine.choose(make(), npu_machine).notes
    assert "device 0" in note


def test_an_empty_device_id_counts_as_unset(npu_machine):
    (note,) = machine.choose(make(), dict(npu_machine, ASCEND_DEVICE_ID="")).notes
    assert "device 0" in note


def test_horovod_is_refused_on_an_npu(npu_machine):
    environ = {"HOROVOD_SIZE": "4", "HOROVOD_RANK": "0"}
    with pytest.raises(UserError, match="HOROVOD_SIZE must be 1 on an NPU, got 4"):
        machine.choose(make(), dict(npu_machine, **environ))


def test_a_dump_directory_is_no_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    config = make(data_save_path=str(tmp_path / "link"), over_dump="1")
    found = parameters(session.session_config(config, NPU))
    assert found["dump_path"] == ("s", bytes(tmp_path / "real" / "overflow_dump"))


def test_importing_the_adapter_leaves_keras_as_it_was(
    npu_machine, tmp_path, monkeypatch
):
    """Releases 1.3 and 1.5 replace the function."""
    backend = tf.keras.backend
    backend = sys.modules[backend.get_session.__module__.replace("_core", "")]
    before = backend._initialize_variables
    monkeypatch.setitem(sys.modules, "npu_bridge", None)
    install(
        tmp_path,
        monkeypatch,
        package="from tensorflow.python.keras import backend\n"
        "backend._initialize_variables = print",
        init="def npu_clear_session(config=None): pass",
    )
    machine.choose(make(), npu_machine)
    assert backend._initialize_variables is before


def test_older_variable_gives_the_device_id(npu_machine):
    del npu_machine["ASCEND_DEVICE_ID"]
    choice = machine.choose(make(), dict(npu_machine, DEVICE_ID="5"))
    assert "device id 5" in choice.reason


@pytest.mark.parametrize(
    "environ, message",
    [
        ({"ASCEND_DEVICE_ID": "x"}, "ASCEND_DEVICE_ID must be an integer.*got 'x'"),
        ({"ASCEND_DEVICE_ID": "-1"}, "ASCEND_DEVICE_ID must be.*got '-1'"),
        ({"ASCEND_DEVICE_ID": "4294967296"}, "ASCEND_DEVICE_ID must be.*got '4294967"),
        ({"ASCEND_DEVICE_ID": "1" * 5000}, "ASCEND_DEVICE_ID must be.*got '111"),
        ({"ASCEND_DEVICE_ID": None, "DEVICE_ID": "1a"}, "DEVICE_ID must be.*got '1a'"),
        ({"ASCEND_OPP_PATH": "/nowhere"}, "ASCEND_OPP_PATH must hold.*got '/nowhere'"),
        ({"RANK_TABLE_FILE": "/t"}, "RANK_TABLE_FILE must be unset.*got '/t'"),
        (
            {"RANK_TABLE_FILE": "/t", "RANK_SIZE": "1"},
            "RANK_TABLE_FILE must be unset.*got '/t'",
        ),
        ({"RANK_SIZE": "two"}, "RANK_SIZE must be an integer >= 1, got 'two'"),
        ({"RANK_SIZE": "0"}, "RANK_SIZE must be an integer >= 1, got '0'"),
    ],
)
def test_environment_is_checked(npu_machine, environ, message):
    merged = {**npu_machine, **environ}
    present = {name: value for name, value in merged.items() if value is not None}
    with pytest.raises(UserError, match=message):
        machine.choose(make(), present)


def test_device_id_is_checked_on_the_cpu_too(bare_machine):
    with pytest.raises(UserError, match="ASCEND_DEVICE_ID must be.*got '../x'"):
        machine.choose(make(device="cpu"), {"ASCEND_DEVICE_ID": "../x"})


def test_ranks_on_npus_are_those_of_the_rank_table(npu_machine, tmp_path):
    table = tmp_path / "table.json"
    table.write_text(hccn.rank_table("here", {0: "10.0.0.1", 1: "10.0.0.2"}))
    environ = {"RANK_TABLE_FILE": str(table), "RANK_SIZE": "2", "RANK_ID": "1"}
    choice = machine.choose(make(), dict(npu_machine, JOB_ID="10087", **environ))
    assert choice.name == "npu"
    assert choice.world == World("hccl", 1, 2, 1, 2)
    assert choice.reason.endswith("; rank 1 of 2")


def test_ranks_on_hosts_share_the_cores(bare_machine):
    environ = {"HOROVOD_SIZE": "4", "HOROVOD_RANK": "3", "HOROVOD_LOCAL_SIZE": "2"}
    choice = machine.choose(make(), environ)
    assert choice.world == World("horovod", 3, 4, 0, 2)
    assert choice.reason.endswith("; rank 3 of 4")
    proto = session.session_config(make(), choice)
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert proto.intra_op_parallelism_threads == threads
    assert proto.inter_op_parallelism_threads == threads


def test_one_process_has_every_core(bare_machine):
    proto = session.session_config(make(), machine.choose(make(), {}))
    assert proto.intra_op_parallelism_threads == 0  # as many as there are


@pytest.mark.parametrize("flag", sorted(npu_options.DIRECTORIES))
def test_directories_are_checked_and_not_made(npu_machine, tmp_path, flag):
    parent = tmp_path / "new"
    config = make(data_save_path=str(parent / "save"), **{flag: "True"})
    machine.choose(config, npu_machine)
    assert not parent.exists()
    parent.touch()  # a file in the way
    with pytest.raises(UserError, match="data_save_path must be"):
        machine.choose(config, npu_machine)
    machine.choose(config._replace(**{flag: False}), npu_machine)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
def test_directory_is_tried_since_root_may_write_anywhere(npu_machine):
    config = make(data_save_path="/proc/save", profiling="True")
    with pytest.raises(UserError, match="data_save_path must be writable.*in '/proc'"):
        machine.choose(config, npu_machine)


@pytest.mark.parametrize("content", [None, "{", ""], ids=["absent", "broken", "empty"])
def test_mixlist_must_be_a_json_file(npu_machine, tmp_path, content):
    path = tmp_path / "list.json"
    if content is not None:
        path.write_text(content)
    config = make(modify_mixlist=str(path))
    with pytest.raises(UserError, match="modify_mixlist must be a readable JSON file"):
        machine.choose(config, npu_machine)


@pytest.mark.parametrize(
    "probe, version",
    [
        ("from x import NPURunConfig", "1.1"),
        ("from x import NPURunConfig, DynamicInputConfig", "1.2"),
        ("def set_keras_session_npu_config(config=None): pass", "1.3"),
        ("def init_resource(): pass\ndef set_keras_session_npu_config(): pass", "1.3"),
        ("def init_resource(config=None): pass", "1.5"),
        ("def npu_clear_session(config=None): pass", "1.6"),
        ("def get_npu_local_rank_size(): pass", "1.8"),
        ("try:\n    from x import get_npu_local_rank_size\nfinally:\n    pass", "1.8"),
    ],
)
def test_names_tell_the_adapter(npu_machine, tmp_path, monkeypatch, probe, version):
    monkeypatch.setitem(sys.modules, "npu_bridge", None)
    install(tmp_path, monkeypatch, init=probe)
    choice = machine.choose(make(), npu_machine)
    assert choice.adapter == version


def test_unknown_adapter_counts_as_the_oldest_supported(
    npu_machine, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "npu_bridge", None)
    install(tmp_path, monkeypatch, init="")
    choice = machine.choose(make(), npu_machine)
    assert choice.adapter == "1.2"
    assert "taken for r1.2" in choice.notes[0]


def test_broken_library_is_shown_with_its_cause(
    npu_machine, tmp_path, monkeypatch, capsys
):
    cause = "libge_runner.so: cannot open shared object file"
    monkeypatch.setitem(sys.modules, "npu_bridge", None)
    install(
        tmp_path,
        monkeypatch,
        package=f"print({cause!r})\nraise ImportError('no npu_bridge_handle')",
    )
    with pytest.raises(UserError) as caught:
        machine.choose(make(), npu_machine)
    message = str(caught.value)
    assert f"ImportError: {cause} no npu_bridge_handle." in message
    assert "--device=cpu" in message
    assert "\n" not in message
    assert capsys.readouterr().out == ""


def test_device_without_npu_bridge_is_refused(npu_machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "npu_bridge", None)
    with pytest.raises(UserError, match="npu_bridge must be importable.*davinci0"):
        machine.choose(make(), npu_machine)


# The session


@pytest.fixture
def keras():
    backend = tf.compat.v1.keras.backend
    backend.clear_session()
    yield backend
    backend.clear_session()


def test_session_is_keras_own_and_closed_at_the_end(keras):
    with session.opened(make(), CPU) as opened:
        variable = keras.variable(3.0)
        assert keras.get_session() is opened
        assert keras.get_value(variable) == 3.0
    with pytest.raises(RuntimeError, match="closed"):
        opened.run([])


def test_session_is_closed_on_an_error(keras):
    with pytest.raises(KeyError, match="the body's own"):
        with session.opened(make(), CPU) as opened:
            raise KeyError("the body's own")
    with pytest.raises(RuntimeError, match="closed"):
        opened.run([])


def test_session_can_be_opened_twice(keras):
    values = []
    for value in (1.0, 2.0):
        with session.opened(make(), CPU):
            values.append(keras.get_value(keras.variable(value, name="one")))
    assert values == [1.0, 2.0]


def test_npu_session_makes_its_directories_first(npu_machine, tmp_path, keras):
    config = make(data_save_path=str(tmp_path / "save"), data_dump_flag="1")
    with session.opened(config, NPU) as opened:
        assert os.listdir(str(tmp_path / "save")) == ["data_dump"]
        assert npu_entries(opened._config)


def test_directory_that_cannot_be_made_is_an_input_error(npu_machine, tmp_path, keras):
    (tmp_path / "save").touch()
    config = make(data_save_path=str(tmp_path / "save"), over_dump="1")
    with pytest.raises(UserError, match="data_save_path needs .*overflow_dump"):
        with session.opened(config, NPU):
            pass


@pytest.mark.parametrize("verbose, is_printed", [(1, False), (2, True)])
def test_verbose_prints_the_map(npu_machine, keras, capsys, verbose, is_printed):
    with session.opened(make(verbose=verbose), NPU):
        pass
    printed = capsys.readouterr().out
    assert ("precision_mode.s = allow_mix_precision" in printed) == is_printed
