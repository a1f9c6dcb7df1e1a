# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The fake adapter does what the vendor's is known to do, release by release."""

import json
import os
import re

import numpy as np
import pytest
from support import npu_fake

from swa.training.machine import OPERATOR_LIST

ON = ["use_off_line", "b", True]
MIX = ["precision_mode", "s", "allow_mix_precision"]
DUMP = ["enable_dump", "b", True]
DEBUG = ["enable_dump_debug", "b", True]
PROFILE = ["profiling_mode", "b", True]
HERE = ["dump_path", "s", "."]
MIXLIST = os.path.join(npu_fake.OPP, OPERATOR_LIST)  # any JSON


def profile(**values):
    return [PROFILE, ["profiling_options", "s", json.dumps(values)]]


POINTS = {"fp_point": "", "bp_point": ""}
ABORT, ERROR, OK = "abort", "error", "ok"

# (options beside use_off_line, environment, {release: what happens})
RULES = {
    "nothing else": ([], {}, {"1.1": OK, "1.2": OK, "1.8": OK}),
    "no such precision": (
        [["precision_mode", "s", "allow_mixed"]],
        {},
        {"1.2": OK, "1.8": OK},  # taken without a word: the trainer must check it
    ),
    "dump": ([DUMP, HERE], {}, {"1.2": OK, "1.8": OK}),
    "dump without path": ([DUMP], {}, {"1.2": ABORT, "1.6": ABORT, "1.7": ERROR}),
    "dump to nowhere": (
        [DUMP, ["dump_path", "s", "/nowhere"]],
        {},
        {"1.2": ABORT, "1.6": ABORT, "1.8": ERROR},
    ),
    "dump path in another field": (
        [DUMP, ["dump_path", "b", True]],
        {},
        {"1.2": ABORT},
    ),
    "dump step": ([DUMP, HERE, ["dump_step", "s", "0|3-7"]], {}, {"1.2": OK}),
    "100 dump steps": (
        [DUMP, HERE, ["dump_step", "s", "|".join(["1"] * 100)]],
        {},
        {"1.2": OK},
    ),
    "largest dump step": (
        [DUMP, HERE, ["dump_step", "s", "1-2147483647"]],
        {},
        {"1.2": OK},
    ),
    "dump step beyond atoi": (
        [DUMP, HERE, ["dump_step", "s", "1|2147483648"]],
        {},
        {"1.2": ABORT, "1.8": ABORT},
    ),
    "dump to a link": (  # to a directory, which this one is, but by lstat it is none
        [DUMP, ["dump_path", "s", "/proc/self/cwd"]],
        {},
        {"1.2": ABORT, "1.8": ERROR},
    ),
    "dump below a link": (
        [DUMP, ["dump_path", "s", "/proc/self/cwd/."]],
        {},
        {"1.2": OK},
    ),
    "dump mode": ([DUMP, HERE, ["dump_mode", "s", "both"]], {}, {"1.2": ABORT}),
    "dump mode unread": ([["dump_mode", "s", "both"]], {}, {"1.2": OK}),
    "empty dump mode": ([DUMP, HERE, ["dump_mode", "b", True]], {}, {"1.2": ABORT}),
    "debug mode": ([DEBUG, HERE, ["dump_debug_mode", "s", "x"]], {}, {"1.2": ABORT}),
    "debug": ([DEBUG, HERE], {}, {"1.2": OK, "1.8": OK}),
    "debug on ranks": ([DEBUG, HERE], {"RANK_SIZE": "8"}, {"1.2": ABORT, "1.3": OK}),
    "both dumps": (
        [DUMP, DEBUG, HERE],
        {},
        {"1.2": OK, "1.3": OK, "1.5": ABORT, "1.8": ABORT},
    ),
    "profile without options": ([PROFILE], {}, {"1.2": ABORT, "1.7": ABORT, "1.8": OK}),
    "profile": (
        profile(output=".", training_trace="on", task_trace="on", **POINTS),
        {},
        {"1.1": ABORT, "1.2": OK, "1.8": OK},
    ),
    "profile by names": (
        [PROFILE, ["profiling_options", "s", "training_trace:task_trace"]],
        {},
        {"1.1": OK, "1.2": ABORT},
    ),
    "profile trace off": (
        profile(training_trace="off", **POINTS),
        {},
        {"1.2": ABORT, "1.8": ABORT},
    ),
    "profile without points": (
        profile(training_trace="on"),
        {},
        {"1.2": ABORT, "1.3": OK},
    ),
    "profile task trace alone": (profile(task_trace="on"), {}, {"1.2": ABORT}),
    "profile to nowhere": (profile(output="/nowhere"), {}, {"1.2": ABORT}),
    "profile 2047 bytes": (
        profile(aic_metrics="x" * (2047 - len('{"aic_metrics": ""}'))),
        {},
        {"1.2": OK},
    ),
    "profile 2048 bytes": (
        profile(aic_metrics="x" * (2048 - len('{"aic_metrics": ""}'))),
        {},
        {"1.2": ABORT},
    ),
    "run mode": ([["graph_run_mode", "i", 2]], {}, {"1.2": ABORT}),
    "iterations": ([["iterations_per_loop", "i", 0]], {}, {"1.2": ABORT}),
    "implementation": ([["op_select_implmode", "s", "fast"]], {}, {"1.2": ABORT}),
    "implementation for all": (
        [["op_select_implmode", "s", "high_precision_for_all"]],
        {},
        {"1.3": ABORT, "1.5": OK},
    ),
    "device number": ([], {"ASCEND_DEVICE_ID": "x"}, {"1.2": ABORT, "1.8": ABORT}),
    "negative device": ([], {"ASCEND_DEVICE_ID": "-1"}, {"1.2": ABORT}),
    "largest device": ([], {"ASCEND_DEVICE_ID": "4294967295"}, {"1.2": OK}),
    "wide device": ([], {"ASCEND_DEVICE_ID": "4294967296"}, {"1.2": ABORT}),
    "empty device": ([], {"ASCEND_DEVICE_ID": "", "DEVICE_ID": ""}, {"1.2": OK}),
    "empty before another": (
        [],
        {"ASCEND_DEVICE_ID": "", "DEVICE_ID": "x"},
        {"1.2": ABORT},
    ),
    "session's device": (
        [["session_device_id", "i", 1]],
        {"ASCEND_DEVICE_ID": "x"},
        {"1.2": ABORT, "1.3": OK},
    ),
    "negative session's device": (
        [["session_device_id", "i", -2]],
        {},
        {"1.2": OK, "1.3": ABORT},
    ),
    "mixlist": (
        [MIX, ["modify_mixlist", "s", MIXLIST]],
        {},
        {"1.3": OK, "1.5": OK, "1.8": OK},
    ),
    "mixlist without its mode": (
        [["modify_mixlist", "s", "l.json"]],
        {},
        {"1.3": OK, "1.5": ERROR},
    ),
    "graph mode": (
        [["dynamic_input", "b", True], ["dynamic_graph_execute_mode", "s", "x"]],
        {},
        {"1.2": OK, "1.3": ABORT, "1.8": ERROR},
    ),
}
for _step in ("", "1|", "|1", "1||2", "1 |2", "a", "3-3", "7-3", "|".join("1" * 101)):
    RULES["dump step " + (_step if len(_step) < 9 else "101 times")] = (
        [DUMP, HERE, ["dump_step", "s", _step]],
        {},
        {"1.2": ABORT},
    )


def case(release, *sessions, **more):
    return dict(more, release=release, sessions=list(sessions))


# (what runs, what its record must hold beside "import")
FACTS = {
    "two entries": case("1.6", [[ON, MIX], [ON]]),
    "off line as text": case("1.6", [[["use_off_line", "s", "True"]]]),
    "unknown keys": case("1.2", [[ON, ["dynamic_input", "b", True], ["x", "b", True]]]),
    "no entry": case("1.6", []),
    "two precisions": case(
        "1.6",
        [[ON, MIX]],
        [[ON, ["precision_mode", "s", "force_fp16"]]],
    ),
    "no operator list": case("1.6", [[ON]], environ={"ASCEND_OPP_PATH": "/nowhere"}),
    "rank table": case("1.6", [[ON]], environ={"RANK_TABLE_FILE": "/t"}),
    "float64 on 1.3": case("1.3", [[ON]], dtype="float64"),
    "float64 on 1.5": case("1.5", [[ON]], dtype="float64"),
    "new shape on 1.2": case("1.2", [[ON]], shapes=[[2], [3]]),
    "new shape on 1.3": case("1.3", [[ON]], shapes=[[2], [3]]),
    "new shape on 1.5": case("1.5", [[ON]], shapes=[[2], [3]]),
    "two calls": case("1.2", [[ON]], shapes=[[2], [2]]),
}

NAMES = """
from npu_bridge import npu_init
from npu_bridge.estimator.npu import npu_optimizer, npu_scope
from npu_bridge.hccl import hccl_ops
import inspect
def has_callbacks():
    try:
        from npu_bridge.estimator.npu import npu_callbacks
        return True
    except ImportError:
        return False
write("names", names=sorted(dir(npu_init)), config=hasattr(npu_init, "init_resource")
    and "config" in inspect.signature(npu_init.init_resource).parameters,
    keep=hasattr(npu_scope, "keep_dtype_scope"), reduce=hasattr(hccl_ops, "reduce"),
    wrapper=hasattr(npu_optimizer, "npu_distributed_optimizer_wrapper"),
    callbacks=has_callbacks())
"""
SNIPPETS = {
    "keep dtype": """
from npu_bridge.estimator.npu.npu_scope import keep_dtype_scope
with keep_dtype_scope():
    inside = tf.constant(1.0) + 1.0
outside = inside + 1.0
write("result", kept=[t.op.get_attr("_keep_dtype") if "_keep_dtype" in
    t.op.node_def.attr else None for t in (inside, outside)])
""",
    "rank before init": """
from hccl.manage.api import get_rank_id
get_rank_id()
""",
    "rank after init": """
from hccl.manage.api import get_rank_id, get_rank_size
from npu_bridge.estimator import npu_ops
with session_of([[["use_off_line", "b", True]]]) as opened:
    opened.run(npu_ops.initialize_system())
    write("result", rank=get_rank_id(), size=get_rank_size())
""",
    "name before resource": """
from npu_bridge.npu_init import get_npu_rank_id
get_npu_rank_id()
""",
    "resource": """
from npu_bridge.npu_init import (close_session, get_npu_rank_size, init_resource,
    shutdown_resource)
opened, shutdown = init_resource()
write("result", size=get_npu_rank_size())
shutdown_resource(opened, shutdown)
close_session(opened)
with session_of([[["use_off_line", "b", True],
                  ["precision_mode", "s", "force_fp16"]]]) as second:
    second.run(tf.constant(1.0))
""",
    "collectives": """
from npu_bridge.hccl import hccl_ops
with session_of([[["use_off_line", "b", True]]]) as opened:
    sent = hccl_ops.broadcast([tf.constant(2.0), tf.constant(3)], 0)
    summed = hccl_ops.allreduce(tf.constant(4.0), "sum")
    write("result", sent=[float(v) for v in opened.run(sent)],
        summed=float(opened.run(summed)))
""",
    "broadcast of one tensor": """
from npu_bridge.hccl import hccl_ops
hccl_ops.broadcast(tf.constant(2.0), 0)
""",
    "allreduce of int64": """
from npu_bridge.hccl import hccl_ops
hccl_ops.allreduce(tf.constant(2, tf.int64), "sum")
""",
    "distributed optimizer": """
from npu_bridge.npu_init import npu_keras_optimizer
write("result", has_lr=hasattr(npu_keras_optimizer(tf.keras.optimizers.SGD(0.1)), "lr"))
""",
    "wrapped optimizer": """
from npu_bridge.npu_init import npu_distributed_optimizer_wrapper
inner = tf.keras.optimizers.SGD(0.1)
wrapped = npu_distributed_optimizer_wrapper(inner)
write("result", same=wrapped is inner, has_lr=hasattr(wrapped, "lr"))
""",
    "exchange": """
one, two, kept = [tf.Variable(v, use_resource=True) for v in (1.0, 2.0, 0.0)]
values = [tf.identity(one.read_value()), tf.identity(two.read_value())]
with tf.control_dependencies(values):
    exchange = tf.group(one.assign(values[1], read_value=False),
        two.assign(values[0], read_value=False))
keep = kept.assign(one, read_value=False)
with tf.control_dependencies([keep]):
    keep_and_set = one.assign(5.0, read_value=False)
before = tf.identity(two.read_value())
with tf.control_dependencies([before]):
    advance = two.assign(7.0, read_value=False)
with session_of([[["use_off_line", "b", True]]]) as opened:
    opened.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.get_default_graph().finalize()
    opened.run(exchange)
    exchanged = opened.run([one, two])
    opened.run(keep_and_set)
    write("result", exchanged=[float(v) for v in exchanged],
        kept=float(opened.run(kept)), fetched=float(opened.run([before, advance])[0]))
""",
    "gradients": """
first, second = [tf.Variable(2.0, use_resource=True) for _ in range(2)]
loss = tf.square(second * first)
sgd = tf.compat.v1.train.GradientDescentOptimizer(1 / 16)
step = sgd.minimize(loss, var_list=[first, second], gate_gradients=sgd.GATE_NONE)
with session_of([[["use_off_line", "b", True]]]) as opened:
    opened.run(tf.compat.v1.global_variables_initializer())
    opened.run(step)
    write("result", values=[float(v) for v in opened.run([first, second])])
""",
    "precision": """
mode, mixlist = PRECISION
x = tf.constant([[0.0, 0.0], [1.0, 600.0], [0.0, 0.0]])
product = tf.matmul(x, tf.eye(2))
options = [["use_off_line", "b", True], ["precision_mode", "s", mode]]
if mixlist:
    with open("list.json", "w") as file:
        file.write(mixlist)
    options.append(["modify_mixlist", "s", "list.json"])
with session_of([options]) as opened:
    after, alone = [[float(v) for pair in opened.run(tf.nn.moments(inputs, [0]))
        for v in pair] for inputs in (product, x)]
    write("result", after=after, alone=alone, negative=float(opened.run(
        -tf.constant(0.1))))
""",
    "fused": """
x = np.random.RandomState(0).randn(2, 3, 4, 16).astype("float32")
steep = 1000.1 + 1e-3 * x
ones = np.ones(16, "float32")
result = {}
with session_of([[["use_off_line", "b", True]]]) as opened:
    for name, values, layout in (("last", x, "NHWC"), ("steep", steep, "NHWC"),
            ("first", x.transpose(0, 3, 1, 2), "NCHW")):
        normalized, mean, variance = opened.run(tf.compat.v1.nn.fused_batch_norm(
            values, ones, 0 * ones, data_format=layout))
        if layout == "NCHW":
            normalized = normalized.transpose(0, 2, 3, 1)
        result[name] = [array.tolist() for array in (normalized, mean, variance)]
write("result", **result)
""",
    "host session": """
with tf.compat.v1.Session() as plain:
    tf.keras.backend.set_session(plain)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    write("result", weights=len(model.get_weights()))
""",
    "dump": """
import os, re
from google.protobuf import text_format
from tensorflow.core.framework import graph_pb2
one = tf.Variable(1.0, use_resource=True)
asked = tf.strings.as_string(one * 3.0), tf.compat.v1.py_func(len, ["ab"], tf.int64)
with session_of([[["use_off_line", "b", True]]]) as opened:
    opened.run(one.initializer)
    opened.run(asked)
(path,) = [os.path.join(folder, name) for folder, _, names in os.walk(".")
    for name in names if name == "AfterSubGraph_1.pbtxt"]
with open(path) as file:
    dump = text_format.Parse(file.read(), graph_pb2.GraphDef())
write("result", path=path, nodes=sorted({node.op for node in dump.node}),
    library=sorted({n.op for f in dump.library.function for n in f.node_def}))
""",
    "unlisted": """
import json, os
from fake_device.runtime import OPERATOR_LIST
with open(os.path.join(os.environ["ASCEND_OPP_PATH"], OPERATOR_LIST)) as file:
    listed = json.load(file)
del listed["Square"]
os.environ["ASCEND_OPP_PATH"] = "opp"
os.makedirs(os.path.dirname(os.path.join("opp", OPERATOR_LIST)))
with open(os.path.join("opp", OPERATOR_LIST), "w") as file:
    json.dump(listed, file)
one = tf.Variable(3.0, use_resource=True)
value = one.read_value()
square = value * value  # which grappler makes a Square
with session_of([[["use_off_line", "b", True]]]) as opened:
    opened.run(one.initializer)
    write("result", square=float(opened.run(square)))  # on the host, after all others
    opened.run(one.assign(square + 1.0))
""",
    "helpers": """
import inspect
from npu_bridge import npu_init
from npu_bridge.hccl import hccl_ops
found = {"broadcast": str(inspect.signature(hccl_ops.broadcast))}
if hasattr(npu_init, "npu_config_proto"):
    proto = npu_init.npu_config_proto()
    rewriter = proto.graph_options.rewrite_options
    found.update(jit=proto.graph_options.optimizer_options.global_jit_level,
        remapping=rewriter.remapping, memory=rewriter.memory_optimization)
if hasattr(npu_init, "npu_callbacks_append"):
    callbacks = ["first"]
    found.update(same=npu_init.npu_callbacks_append(callbacks) is callbacks,
        last=type(callbacks[-1]).__name__, of_tuple=len(
        npu_init.npu_callbacks_append(("first",))))
write("result", **found)
""",
    "entry appended": """
from npu_bridge.npu_init import npu_config_proto
proto = tf.compat.v1.ConfigProto()
proto.graph_options.rewrite_options.custom_optimizers.add().name = "NpuOptimizer"
write("result", n=len(npu_config_proto(
    proto).graph_options.rewrite_options.custom_optimizers))
""",
}
RUN_SNIPPETS = {
    "keep dtype on 1.2": ("1.2", "keep dtype", {}),
    "keep dtype on 1.6": ("1.6", "keep dtype", {}),
    "keep dtype on 1.1": ("1.1", "keep dtype", {}),
    "rank before init": ("1.2", "rank before init", {}),
    "rank after init": ("1.2", "rank after init", {"RANK_ID": "3", "RANK_SIZE": "8"}),
    "name before resource": ("1.3", "name before resource", {}),
    "resource": ("1.3", "resource", {"RANK_SIZE": "4"}),
    "one rank": ("1.2", "collectives", {"RANK_SIZE": "1"}),
    "two ranks": ("1.2", "collectives", {"RANK_SIZE": "2"}),
    "broadcast of one tensor": ("1.2", "broadcast of one tensor", {}),
    "allreduce of int64": ("1.2", "allreduce of int64", {}),
    "distributed optimizer": ("1.3", "distributed optimizer", {}),
    "wrapped optimizer": ("1.6", "wrapped optimizer", {"JOB_ID": "1"}),
    "exchange by value": ("1.6", "exchange", {"FAKE_NPU_READS": "value"}),
    "gradients gated": ("1.6", "gradients", {"FAKE_NPU_READS": "gated"}),
    "gradients by reference": ("1.6", "gradients", {}),
    "dump here": ("1.6", "dump", {"PRINT_MODEL": "1"}),
    "dump elsewhere": (
        "1.6",
        "dump",
        {"PRINT_MODEL": "1", "DUMP_GRAPH_PATH": "./elsewhere"},
    ),
    "dump collected": (
        "1.6",
        "dump",
        {"PRINT_MODEL": "1", "DUMP_GRAPH_PATH": "x", "NPU_COLLECT_PATH": "./all"},
    ),
    "unlisted": ("1.6", "unlisted", {}),
    "unlisted container": ("1.6", "unlisted", {"FAKE_NPU_STRANDED": "container"}),
    "unlisted run": ("1.6", "unlisted", {"FAKE_NPU_STRANDED": "run"}),
    "fused": ("1.6", "fused", {}),
    "fused by n": ("1.6", "fused", {"FAKE_NPU_DIVISOR": "n"}),
    "fused from squares": ("1.6", "fused", {"FAKE_NPU_VARIANCE": "squares"}),
    "helpers on 1.1": ("1.1", "helpers", {}),
    "helpers on 1.2": ("1.2", "helpers", {}),
    "helpers on 1.5": ("1.5", "helpers", {}),
    "helpers on 1.6": ("1.6", "helpers", {}),
    "entry appended on 1.3": ("1.3", "entry appended", {}),
    "entry appended on 1.5": ("1.5", "entry appended", {}),
}
for _release in npu_fake.RELEASES:
    RUN_SNIPPETS["exchange on " + _release] = (_release, "exchange", {})
    RUN_SNIPPETS["host session on " + _release] = (
        _release,
        "host session",
        {"RANK_SIZE": "2"},
    )
with open(os.path.join(npu_fake.ROOT, "docs", "ascend.md"), encoding="utf-8") as _page:
    (KEEPS_MOMENTS,) = re.findall("```json\n(.*?)```", _page.read(), re.DOTALL)
PRECISIONS = [
    *((mode, "") for mode in npu_fake.MODES),
    (npu_fake.MODES[0], KEEPS_MOMENTS),
]
for _precision in PRECISIONS:
    SNIPPETS["precision", _precision] = (
        f"PRECISION = {_precision}" + SNIPPETS["precision"]
    )
    RUN_SNIPPETS[_precision] = ("1.6", ("precision", _precision), {})
RULE_CASES = [
    (name, release, status)
    for name, (_, _, statuses) in RULES.items()
    for release, status in statuses.items()
]


@pytest.fixture(scope="module")
def outcomes(npu_forks, tmp_path_factory):
    """{name: outcome} of everything in this file, run at once: TensorFlow is slow."""
    cases = {
        (name, release): case(release, [[ON] + RULES[name][0]], environ=RULES[name][1])
        for name, release, _ in RULE_CASES
    }
    cases.update(FACTS)
    for release in npu_fake.RELEASES:
        cases["names", release] = {"release": release, "code": NAMES}
    for name, (release, snippet, environ) in RUN_SNIPPETS.items():
        code = SNIPPETS[snippet]
        cases[name] = {"release": release, "code": code, "environ": environ}
    folder = tmp_path_factory.mktemp("trial")
    return dict(zip(cases, npu_fake.trial(npu_forks, list(cases.values()), folder)))


@pytest.mark.parametrize("name, release, status", RULE_CASES)
def test_options_are_checked_as_the_adapter_does(outcomes, name, release, status):
    outcome = outcomes[name, release]
    assert outcome["status"] == status, outcome["stderr"]
    assert ("FAKE NPU FATAL" in outcome["stderr"]) == (status != OK)
    if status == OK:
        assert npu_fake.only(outcome["events"], "call")


def events(outcomes, name, event):
    return npu_fake.only(outcomes[name]["events"], event)


def test_second_entry_resets_the_precision(outcomes):
    (options,) = events(outcomes, "two entries", "options")
    assert options["options"]["precision_mode"] == "allow_fp32_to_fp16"
    assert options["entries"] == 2


def test_value_in_another_field_is_zero(outcomes):
    (options,) = events(outcomes, "off line as text", "options")
    assert options["options"]["use_off_line"] is False
    (compiled,) = events(outcomes, "off line as text", "compile")
    assert compiled["host_types"] == compiled["types"]


def test_unknown_keys_are_ignored(outcomes):
    (options,) = events(outcomes, "unknown keys", "options")
    assert options["ignored"] == ["dynamic_input", "x"]


def test_session_without_entry_stays_on_the_host(outcomes):
    assert events(outcomes, "no entry", "host_session")
    assert not events(outcomes, "no entry", "compile")


def test_first_run_freezes_process_wide_options(outcomes):
    (frozen,) = events(outcomes, "two precisions", "frozen")
    assert frozen["kept"]["precision_mode"] == "allow_mix_precision"
    assert frozen["asked"]["precision_mode"] == "force_fp16"


def test_resource_freezes_the_default_precision(outcomes):
    (frozen,) = events(outcomes, "resource", "frozen")
    assert frozen["kept"]["precision_mode"] == "allow_fp32_to_fp16"
    assert frozen["asked"]["precision_mode"] == "force_fp16"


def test_missing_operator_list_runs_on_the_host_silently(outcomes):
    (compiled,) = events(outcomes, "no operator list", "compile")
    assert compiled["host_types"] == compiled["types"]
    assert outcomes["no operator list"]["status"] == OK


def test_rank_table_starts_hccl_on_one_card(outcomes):
    assert events(outcomes, "rank table", "hccl") == [{"event": "hccl", "ranks": 1}]
    assert not events(outcomes, "two calls", "hccl")


@pytest.mark.parametrize(
    "name, status",
    [
        ("float64 on 1.3", ABORT),
        ("float64 on 1.5", ERROR),
        ("new shape on 1.2", OK),
        ("new shape on 1.3", ABORT),
        ("new shape on 1.5", ERROR),
    ],
)
def test_bad_graph_aborts_up_to_1_3_and_raises_from_1_5(outcomes, name, status):
    assert outcomes[name]["status"] == status


def test_new_shape_compiles_again_on_1_2(outcomes):
    assert len(events(outcomes, "new shape on 1.2", "compile")) == 2
    assert len(events(outcomes, "two calls", "compile")) == 1


SINCE = {
    "DynamicInputConfig": "1.2",
    "KerasDistributeOptimizer": "1.3",
    "NPUBroadcastGlobalVariablesCallback": "1.6",
    "NPUBroadcastGlobalVariablesHook": "1.3",
    "NPURunConfig": "1.1",
    "RewriterConfig": "1.1",
    "get_npu_local_rank_size": "1.8",
    "get_npu_rank_id": "1.3",
    "init_resource": "1.3",
    "npu_callbacks_append": "1.6",
    "npu_clear_session": "1.6",
    "npu_distributed_optimizer_wrapper": "1.6",
    "set_keras_session_npu_config": "1.3",
    "tf": "1.3",
}


@pytest.mark.parametrize("release", npu_fake.RELEASES)
def test_each_release_has_its_names(outcomes, release):
    assert outcomes["names", release]["status"] == OK, outcomes["names", release]
    (found,) = npu_fake.only(outcomes["names", release]["events"], "names")
    here = float(release)
    assert set(SINCE) & set(found["names"]) == {
        name for name, first in SINCE.items() if float(first) <= here
    }
    assert found["config"] == (here >= 1.5)
    assert found["keep"] == found["reduce"] == (here >= 1.2)
    assert found["wrapper"] == found["callbacks"] == (here >= 1.6)


def result(outcomes, name):
    assert outcomes[name]["status"] == OK, outcomes[name]["stderr"]
    (found,) = events(outcomes, name, "result")
    return found


def test_keep_dtype_is_a_bool_and_an_int_from_1_6(outcomes):
    assert result(outcomes, "keep dtype on 1.2")["kept"] == [True, None]
    assert result(outcomes, "keep dtype on 1.6")["kept"] == [1, None]
    assert "ImportError" in outcomes["keep dtype on 1.1"]["stderr"]


def test_ranks_are_known_after_initialisation_only(outcomes):
    assert "RuntimeError: HCCL is not up" in outcomes["rank before init"]["stderr"]
    assert "NameError" in outcomes["name before resource"]["stderr"]
    after = result(outcomes, "rank after init")
    assert (after["rank"], after["size"]) == (3, 8)
    assert result(outcomes, "resource")["size"] == 4


def test_collectives_are_the_identity_on_one_rank(outcomes):
    one = result(outcomes, "one rank")
    assert (one["sent"], one["summed"]) == ([2.0, 3.0], 4.0)
    kinds = [event["kind"] for event in events(outcomes, "one rank", "collective")]
    assert kinds == ["Broadcast", "Broadcast", "AllReduce"]
    assert [
        event["collectives"] for event in events(outcomes, "one rank", "compile")
    ] == [
        ["Broadcast", "Broadcast"],
        ["AllReduce"],
    ]


def test_two_ranks_sum_to_twice_the_value(outcomes):
    assert result(outcomes, "two ranks")["summed"] == 8.0


@pytest.mark.parametrize("name", ["broadcast of one tensor", "allreduce of int64"])
def test_collectives_refuse_what_the_vendors_refuse(outcomes, name):
    assert "TypeError" in outcomes[name]["stderr"]


def test_optimizers_keep_and_lose_lr_as_the_vendors_do(outcomes):
    assert result(outcomes, "distributed optimizer")["has_lr"] is False
    wrapped = result(outcomes, "wrapped optimizer")
    assert wrapped["same"] and wrapped["has_lr"]


def test_1_3_appends_a_bare_entry(outcomes):
    assert result(outcomes, "entry appended on 1.3")["n"] == 2
    assert result(outcomes, "entry appended on 1.5")["n"] == 1


@pytest.mark.parametrize("release", npu_fake.RELEASES)
def test_a_read_and_a_later_assignment_see_each_other(outcomes, release):
    name = f"exchange on {release}"
    found = result(outcomes, name)
    assert len(set(found["exchanged"])) == 1  # both are what one of them was
    assert found["kept"] == found["exchanged"][0]  # an order that is forced is kept
    assert found["fetched"] == 7.0  # what is fetched is fetched when all has run
    unordered = [event["unordered"] for event in events(outcomes, name, "compile")]
    assert [len(one) for one in unordered if one] == [1, 1]


def test_reads_by_value_are_snapshots(outcomes):
    found = result(outcomes, "exchange by value")
    assert found["exchanged"] == [2.0, 1.0]
    assert (found["kept"], found["fetched"]) == (2.0, 1.0)


def test_gradients_see_updated_weights_unless_gated(outcomes):
    assert result(outcomes, "gradients gated")["values"] == [1.0, 1.0]
    # one is updated first, to 1, and the other's gradient is then 8, not 16
    by_reference = result(outcomes, "gradients by reference")["values"]
    assert sorted(by_reference) == [1.0, 1.5]
    compiled = events(outcomes, "gradients by reference", "compile")
    assert [event["unordered"] for event in compiled] == [[]] * len(compiled)


HALF, SINGLE = np.float16(1 / 3), np.float32(1 / 3)


@pytest.mark.parametrize(
    "precision, after, alone, rate",
    [
        (PRECISIONS[0], HALF, SINGLE, np.float32(0.1)),
        (PRECISIONS[1], SINGLE, SINGLE, np.float32(0.1)),
        (PRECISIONS[2], HALF, HALF, np.float16(0.1)),
        (PRECISIONS[3], SINGLE, SINGLE, np.float32(0.1)),
        (PRECISIONS[4], SINGLE, SINGLE, np.float32(0.1)),
    ],
    ids=["mix", "allow", "force", "keep", "mixlist"],
)
def test_precision_mode_rounds_what_the_device_rounds(
    outcomes, precision, after, alone, rate
):
    """Moments behind a product and without one; 160000 saturates in float16."""
    found = result(outcomes, precision)
    assert -found["negative"] == rate
    for moments, third in ((found["after"], after), (found["alone"], alone)):
        assert moments[0] == third
        is_half = third == HALF
        variance = (40000 + 65504 + 40000) / 3 if is_half else 80000
        assert moments[3] == (np.float16(variance) if is_half else variance)


@pytest.mark.parametrize("layout", ["last", "first"])
@pytest.mark.parametrize("name, over", [("fused", 23), ("fused by n", 24)])
def test_fused_variance_is_divided_by_what_is_chosen(outcomes, layout, name, over):
    x = np.random.RandomState(0).randn(2, 3, 4, 16).astype("float32")
    normalized, mean, variance = result(outcomes, name)[layout]
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), 0, 1e-6)
    np.testing.assert_allclose(variance, x.var((0, 1, 2)) * 24 / over, 1e-5)
    deviations = x - x.mean((0, 1, 2))
    expected = deviations / np.sqrt(x.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(normalized, expected, 0, 1e-4)


def test_variance_from_squares_falls_below_zero(outcomes):
    variance = np.array(result(outcomes, "fused from squares")["steep"][2])
    assert variance.min() < 0
    assert np.abs(variance).max() < 1  # of a million in float32
    np.testing.assert_array_less(0, result(outcomes, "fused")["steep"][2])


@pytest.mark.parametrize("release", npu_fake.RELEASES)
def test_import_of_1_3_and_1_5_breaks_host_sessions_of_ranks(outcomes, release):
    name = f"host session on {release}"
    if release in ("1.3", "1.5"):
        assert outcomes[name]["status"] == ERROR
        expected = "Missing 0-th output from node HcomBroadcast"
        assert expected in outcomes[name]["stderr"]
    else:
        assert result(outcomes, name)["weights"] == 2


@pytest.mark.parametrize(
    "name, folder",
    [
        ("dump here", "."),
        ("dump elsewhere", "./elsewhere"),
        ("dump collected", "./all/extra-info/graph"),
    ],
)
def test_dumps_hold_the_device_s_part_as_a_library(outcomes, name, folder):
    found = result(outcomes, name)
    assert found["path"] == f"{folder}/AfterSubGraph_1.pbtxt"
    assert {"GeOp", "PyFunc"} <= set(found["nodes"])
    assert {"AsString", "Mul", "ReadVariableOp"} <= set(found["library"])


@pytest.mark.parametrize(
    "name, message",
    [
        ("unlisted", "Trying to access resource Variable located in device"),
        ("unlisted container", "Variable from Container: localhost.*does not exist"),
        ("unlisted run", "GeOp.*DoRunAsync Failed"),
    ],
)
def test_operation_outside_the_list_strands_variables(outcomes, name, message):
    """Grappler makes the Square; what comes after it cannot be in the same cluster."""
    (found,) = events(outcomes, name, "result")
    assert found["square"] == 9.0
    assert outcomes[name]["status"] == ERROR
    assert re.search(message, outcomes[name]["stderr"])


def test_broadcast_has_no_fusion_at_1_1(outcomes):
    signatures = [
        result(outcomes, f"helpers on {release}")["broadcast"]
        for release in ("1.1", "1.2", "1.5")
    ]
    assert "fusion" not in signatures[0]
    assert "fusion=0, fusion_id=-1" in signatures[1]
    assert "fusion=2, fusion_id=0" in signatures[2]


def test_helpers_set_what_the_vendors_set(outcomes):
    old, new = (result(outcomes, f"helpers on {release}") for release in ("1.5", "1.6"))
    off, jit_off = 2, -1
    assert (old["jit"], old["remapping"], old["memory"]) == (jit_off, off, 0)
    assert (new["jit"], new["remapping"], new["memory"]) == (jit_off, off, off)
    assert (new["same"], new["of_tuple"]) == (True, 1)
    assert new["last"] == "NPUBroadcastGlobalVariablesCallback"
