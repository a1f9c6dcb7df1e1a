# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Stands between TensorFlow's Python session and its runtime, as the adapter would.

`install` wraps the two ways into the runtime that graph mode has: a session call, and
the callable that Keras makes once and calls for each batch. A compile is what the
adapter would compile: one for each new set of fetches, feeds and targets of a session.
"""

import json
import os
import time
import weakref

import numpy as np
from tensorflow.python import pywrap_tensorflow as c_api
from tensorflow.python.client import session as session_module
from tensorflow.python.framework import dtypes, errors

from fake_device import exchange, graphs, record, references, settings
from fake_device import options as npu_options

OPERATOR_LIST = "framework/built-in/tensorflow/npu_supported_ops.json"
UNSUPPORTED = (dtypes.float64, dtypes.complex64, dtypes.complex128, dtypes.variant)

_process_wide = None  # the options the graph engine holds: the first run's
_hccl_is_up = False
_sessions = weakref.WeakKeyDictionary()
_host_graphs = weakref.WeakKeyDictionary()  # of host sessions: the calls looked at
_compiled = 0


def hccl_is_up():
    """Whether initialize_system has run in this process."""
    return _hccl_is_up


class NpuSession:
    """The adapter's side of one session that has an NpuOptimizer entry."""

    def __init__(self, maps):
        global _process_wide
        self.options, ignored = npu_options.read(maps)
        record.write(
            "options", options=self.options, entries=len(maps), ignored=ignored
        )
        npu_options.check(self.options, os.environ)
        wide = {key: self.options[key] for key in npu_options.PROCESS_WIDE}
        if _process_wide is None:
            _process_wide = wide
            _note_hccl()
        elif wide != _process_wide:
            record.write("frozen", kept=_process_wide, asked=wide)
            self.options.update(_process_wide)
        self.graphs = {}
        self.calls = 0
        self.read_before = {}  # by fetch, for the defect stale_reads
        self.leaked = []  # for the defect leak
        self.is_closed = False

    def compile(self, session, feeds, fetches, targets, kind):
        """Compiles a graph, whether or not it has seen the like."""
        global _compiled, _hccl_is_up
        graph = graphs.Graph(session, feeds, fetches, targets)
        graph.number, _compiled = _compiled, _compiled + 1
        listed = _operator_list() if self.options["use_off_line"] else set()
        if settings.has_defect("host"):
            listed = set()
        placement = graphs.Placement(graph.optimized, listed)
        graph.rewritten = references.Rewritten(session, graph, self.options)
        unsupported = sorted(
            operation.name
            for operation in graph.operations
            if any(
                tensor.dtype.base_dtype in UNSUPPORTED for tensor in operation.outputs
            )
        )
        collectives = graph.attributes(graphs.COLLECTIVE_ATTRIBUTE)
        record.write(
            "compile",
            number=graph.number,
            kind=kind,
            feeds=sorted(feeds),
            fetches=sorted(fetches),
            targets=sorted(targets),
            operations={
                operation.name: operation.type for operation in graph.operations
            },
            types=sorted({node.op for node in graph.optimized}),
            host_types=sorted({node.op for node in placement.host}),
            unsupported=unsupported,
            collectives=[value.decode() for value in collectives],
            unordered=graph.rewritten.unordered,
        )
        if placement.device:
            # The vendor's runtime leaves these where it stands.
            os.makedirs("kernel_meta", exist_ok=True)
            with open("fusion_result.json", "w") as file:
                file.write("{}\n")
        if os.environ.get("PRINT_MODEL") == "1":
            graphs.write_dump(graph.number, placement)
        if unsupported and self.options["use_off_line"]:
            record.fail_graph("float64, complex or variant in %s" % unsupported[:3])
        if placement.stranded:
            _fail_stranded(placement.stranded)
        for value in graph.attributes(graphs.SYSTEM_ATTRIBUTE):
            _hccl_is_up = value == b"initialize"
        return graph

    def graph_of_run(self, session, feeds, fetches, targets):
        """The graph of a session call, compiled where it is new."""
        key = (frozenset(feeds), frozenset(fetches), frozenset(targets))
        if key not in self.graphs:
            self.graphs[key] = self.compile(session, feeds, fetches, targets, "run")
        return self.graphs[key]

    def call(self, session, graph, values, execute):
        """Runs a compiled graph on the CPU, and leaves the files asked for."""
        shapes = [np.shape(value) for value in values]
        if graph.shapes is None:
            graph.shapes = shapes
        elif shapes != graph.shapes and not settings.since("1.3"):
            sets = (graph.feeds, graph.fetches, graph.targets)
            self.compile(session, *sets, kind="shape")
            graph.shapes = shapes
        elif shapes != graph.shapes and not self.options["dynamic_input"]:
            record.fail_graph("fed %s to a graph of %s" % (shapes, graph.shapes))
        if settings.has_defect("recompiles"):
            self.compile(session, graph.feeds, graph.fetches, graph.targets, "again")
        if settings.has_defect("slow"):
            time.sleep(0.05)
        record.write("call", number=graph.number)
        self._leave_files()
        self.calls += 1
        is_lost = settings.has_defect("lost_writes")
        is_lost |= settings.has_defect("exchange") and graph.has_run
        if is_lost and graph.writes_variables():
            return [np.zeros(())] * len(graph.fetches)
        graph.has_run = True
        results = execute()
        if settings.has_defect("wrong_numbers"):
            results = [_wrong(result) for result in results]
        if settings.has_defect("leak"):
            self.leaked.append(np.ones(500_000))
        if settings.has_defect("noisy_reads") and graph.reads_variables():
            graph.reads += 1
            towards = (-9, 9)[graph.reads % 2]
            results = [_off_by_a_bit(result, towards) for result in results]
        if settings.has_defect("stale_reads") and graph.reads_variables():
            for name, result in zip(graph.fetches, results):
                self.read_before.setdefault(name, np.copy(result))
            results = [self.read_before[name] for name in graph.fetches]
        return results

    def _leave_files(self):
        """One file for each diagnostic that is on; overflow is taken to happen."""
        options = self.options
        if options["enable_dump"] and npu_options.is_dumped(options, self.calls):
            if not settings.has_defect("no_data_dump"):
                _leave_file(options["dump_path"], "step_%d" % self.calls)
        if options["enable_dump_debug"] and not settings.has_defect("no_over_dump"):
            _leave_file(options["dump_path"], "Opdebug.Node_OpDebug.%d" % self.calls)
        if options["profiling_mode"] and not settings.has_defect("no_profile"):
            output = npu_options.profiling_output(options)
            with open(os.path.join(output, "PROF_000001"), "w") as file:
                file.write("profile\n")


def install():
    """Wraps TensorFlow's session class; the import of npu_bridge does it once."""
    base = session_module.BaseSession
    run, make = base._call_tf_sessionrun, base._make_callable_from_options
    close = base.close

    def call_tf_sessionrun(self, options, feed_dict, fetches, targets, metadata):
        feed_names = [_tensor_name(tensor) for tensor in feed_dict]
        fetch_names = [_tensor_name(tensor) for tensor in fetches]
        target_names = [c_api.TF_OperationName(operation) for operation in targets]
        npu = _npu_session(self)
        if npu is None:
            _check_host_graph(self, feed_names, fetch_names, target_names)
            return run(self, options, feed_dict, fetches, targets, metadata)
        graph = npu.graph_of_run(self, feed_names, fetch_names, target_names)
        tensors, operations = graph.rewritten.tensors, graph.rewritten.operations
        if tensors or operations:
            fetches = [
                tensors[name]._as_tf_output() if name in tensors else fetch
                for name, fetch in zip(fetch_names, fetches)
            ]
            targets = [
                operations[name]._c_op if name in operations else target
                for name, target in zip(target_names, targets)
            ]
            self._extend_graph()
        return npu.call(
            self,
            graph,
            list(feed_dict.values()),
            lambda: run(self, options, feed_dict, fetches, targets, metadata),
        )

    def make_callable_from_options(self, callable_options):
        feeds, fetches, targets = (
            list(names)
            for names in (
                callable_options.feed,
                callable_options.fetch,
                callable_options.target,
            )
        )
        npu = _npu_session(self)
        if npu is None:
            _check_host_graph(self, feeds, fetches, targets)
            return make(self, callable_options)
        graph = npu.compile(self, feeds, fetches, targets, "callable")
        tensors, operations = graph.rewritten.tensors, graph.rewritten.operations
        callable_options.fetch[:] = [
            tensors[name].name if name in tensors else name for name in fetches
        ]
        callable_options.target[:] = [
            operations[name].name if name in operations else name for name in targets
        ]
        inner = make(self, callable_options)

        def call(*args, **kwargs):
            if settings.has_defect("lost_inputs"):
                args = [_lost(value) for value in args]
            return npu.call(self, graph, args, lambda: inner(*args, **kwargs))

        return call

    def close_session(self):
        npu = _sessions.get(self)
        if npu is not None and not npu.is_closed:
            npu.is_closed = True
            record.write("close")
        close(self)

    base._call_tf_sessionrun = call_tf_sessionrun
    base._make_callable_from_options = make_callable_from_options
    base.close = close_session
    record.write("import", adapter=settings.RELEASE)


def _npu_session(session):
    """The adapter's side of a session; None where it has no NpuOptimizer entry."""
    if session not in _sessions:
        maps = npu_options.entries(session._config)
        if not maps:
            record.write("host_session")
        _sessions[session] = NpuSession(maps) if maps else None
    return _sessions[session]


def _check_host_graph(session, feeds, fetches, targets):
    """The host's kernels of collectives do nothing: who needs their output fails."""
    key = (frozenset(feeds), frozenset(fetches), frozenset(targets))
    if key in _host_graphs.setdefault(session, set()):
        return
    for operation in graphs.between(session.graph, feeds, fetches, targets):
        if graphs.COLLECTIVE_ATTRIBUTE in operation.node_def.attr:
            message = "Missing 0-th output from node %s" % operation.name
            record.write("error", message=message)
            raise errors.InternalError(None, None, message)
    _host_graphs[session].add(key)


def _fail_stranded(variable):
    """The host cannot read what the device holds."""
    kind, message = _STRANDED[settings.STRANDED]
    message = message.format(variable=variable)
    record.write("error", message=message)
    raise kind(None, None, message)


_STRANDED = {
    "resource": (
        errors.InvalidArgumentError,
        "Trying to access resource {variable} located in device "
        "/job:localhost/replica:0/task:0/device:NPU:0",
    ),
    "container": (
        errors.FailedPreconditionError,
        "Error while reading resource variable {variable} from Container: localhost. "
        "This could mean that the variable was uninitialized. Not found: "
        "Container localhost does not exist.",
    ),
    "run": (errors.InternalError, "GeOp1_0GEOP::::DoRunAsync Failed"),
}


def _note_hccl():
    """A rank table starts HCCL, even for a single card."""
    ranks = int(os.environ.get("RANK_SIZE", "1"))
    if os.environ.get("RANK_TABLE_FILE") and ranks > 0:
        record.write("hccl", ranks=ranks)
        if exchange.is_on():
            exchange.check_rank_table()


def _operator_list():
    """The types of operation that run on the device; none without the file."""
    root = os.environ.get("ASCEND_OPP_PATH", "/usr/local/Ascend/opp")
    try:
        with open(os.path.join(root, OPERATOR_LIST)) as file:
            return set(json.load(file))
    except OSError:
        return set()


def _leave_file(root, name):
    """Writes into root/<time>/<device>/."""
    device = os.environ.get("ASCEND_DEVICE_ID") or "0"
    folder = os.path.join(root, "20210101000000", device)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as file:
        file.write("dump\n")


def _tensor_name(tensor):
    """The name of a tensor that TensorFlow's C interface holds."""
    return "%s:%d" % (c_api.TF_OperationName(tensor.oper), tensor.index)


def _lost(value):
    """Zeros, if it has several columns: Keras feeds labels as one column of floats."""
    array = np.asarray(value)
    return np.zeros_like(array) if array.ndim == 2 and array.shape[1] > 1 else value


def _wrong(result):
    """A fifth too large, if it is a float."""
    array = np.asarray(result)
    if array.dtype != np.float32:
        return result
    return array.dtype.type(1.2) * result


def _off_by_a_bit(result, towards):
    """The next float in the direction of `towards`; other numbers as they are."""
    array = np.asarray(result)
    if array.dtype != np.float32:
        return result
    return np.nextafter(array, np.float32(towards))
