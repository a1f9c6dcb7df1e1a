# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The choice of device, and all that is checked of a machine before the first step."""

import os
import sys

import pytest
import tensorflow as tf
from launcher import hccn
from support.machines import install, make

from swa.training import machine, npu_options
from swa.training.errors import UserError
from swa.training.world import World


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
    assert (choice.name, choice.adapter.version, choice.notes) == ("npu", "1.6", ())
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
        (
            {"RANK_SIZE": "two"},
            "RANK_SIZE must be an integer from 1 to 4096, got 'two'",
        ),
        ({"RANK_SIZE": "0"}, "RANK_SIZE must be an integer from 1 to 4096, got '0'"),
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
    assert choice.world == World("hccl", 1, 2)
    assert choice.reason.endswith("; rank 1 of 2")


def test_ranks_on_hosts_are_horovodruns(bare_machine):
    environ = {"HOROVOD_SIZE": "4", "HOROVOD_RANK": "3", "HOROVOD_LOCAL_SIZE": "2"}
    choice = machine.choose(make(), environ)
    assert choice.world == World("horovod", 3, 4, 2)
    assert choice.reason.endswith("; rank 3 of 4")


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
    assert choice.adapter.version == version


def test_unknown_adapter_counts_as_the_oldest_supported(
    npu_machine, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "npu_bridge", None)
    install(tmp_path, monkeypatch, init="")
    choice = machine.choose(make(), npu_machine)
    assert choice.adapter.version == "1.2"
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
