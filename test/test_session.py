# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The session's settings, and Keras's session on the device of a run."""

import json
import os

import pytest
import tensorflow as tf
from support.machines import make
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from swa.training import machine, session
from swa.training.errors import UserError
from swa.training.world import World

NPU = machine.Device("npu", "for a test")
CPU = machine.Device("cpu", "for a test")
ALWAYS = {
    "use_off_line": ("b", True),
    "precision_mode": ("s", b"allow_mix_precision"),
}


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


def test_a_dump_directory_is_no_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    config = make(data_save_path=str(tmp_path / "link"), over_dump="1")
    found = parameters(session.session_config(config, NPU))
    assert found["dump_path"] == ("s", bytes(tmp_path / "real" / "overflow_dump"))


def test_ranks_on_one_host_share_the_cores():
    world = World("horovod", rank=3, size=4, local_size=2)
    proto = session.session_config(make(), machine.Device("cpu", world=world))
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert proto.intra_op_parallelism_threads == threads
    assert proto.inter_op_parallelism_threads == threads


def test_one_process_has_every_core():
    proto = session.session_config(make(), CPU)
    assert proto.intra_op_parallelism_threads == 0  # as many as there are


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
    assert ('name: "NpuOptimizer"' in printed) == is_printed
    assert ('s: "allow_mix_precision"' in printed) == is_printed
