# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the adapter makes of the graph of a call: which part of it the device gets.

TensorFlow's own optimizer (grappler) works on a graph before the adapter sees it. Of
what it leaves, the adapter gives the device one cluster of listed operations, which
becomes one GeOp; the rest stays on the host, where the device's variables cannot be
read.
"""

import collections
import os

from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer

# Both stay with the operation, so that they are found in any graph it is part of.
COLLECTIVE_ATTRIBUTE = "_fake_collective"
SYSTEM_ATTRIBUTE = "_fake_system"
HOST_ATTRIBUTE = "_fake_transport"  # no operation of the device's, but the fake's own
CONTROL_FLOW = ("Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch")


def between(graph, feeds, fetches, targets):
    """The operations that a call with these names runs."""
    fed = {name.rpartition(":")[0] or name for name in feeds}
    names = [name.rpartition(":")[0] or name for name in list(fetches) + list(targets)]
    waiting, found = [graph.get_operation_by_name(name) for name in set(names)], []
    seen = set(waiting)
    while waiting:
        operation = waiting.pop()
        found.append(operation)
        if operation.name in fed:
            continue
        before = [tensor.op for tensor in operation.inputs]
        for other in before + list(operation.control_inputs):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return found


class Graph:
    """One compiled graph: what is fed, fetched and run between."""

    def __init__(self, session, feeds, fetches, targets):
        self.feeds, self.fetches, self.targets = feeds, fetches, targets
        self.all = between(session.graph, feeds, fetches, targets)
        self.operations = [
            operation
            for operation in self.all
            if HOST_ATTRIBUTE not in operation.node_def.attr
        ]
        self.optimized = _optimized(session, self.all, feeds, fetches, targets)
        self.rewritten = None  # references.Rewritten
        self.shapes = None  # of the feeds, static from the first call on
        self.number, self.has_run, self.reads = -1, False, 0

    def not_fed(self):
        """The operations that the device runs."""
        fed = {name.rpartition(":")[0] or name for name in self.feeds}
        return [operation for operation in self.operations if operation.name not in fed]

    def attributes(self, name):
        """The values of this attribute on the operations that have it."""
        found = []
        for operation in self.operations:
            try:
                found.append(operation.get_attr(name))
            except ValueError:
                pass
        return found

    def writes_variables(self):
        """Whether it does nothing but assign what is fed."""
        types = {operation.type for operation in self.not_fed()}
        is_writing = "AssignVariableOp" in types and types <= _OF_WRITING
        return bool(self.feeds) and is_writing

    def reads_variables(self):
        """Whether it does nothing but fetch variables."""
        types = {operation.type for operation in self.operations}
        return types <= _OF_READING and "ReadVariableOp" in types


_OF_READING = {"VarHandleOp", "ReadVariableOp", "Identity"}
_OF_WRITING = _OF_READING | {"AssignVariableOp", "NoOp"}


class Placement:
    """Where the operations of a graph run.

    Args:
      nodes: the NodeDefs that grappler leaves.
      listed: set of types that the device has; empty: all stay on the host.

    Attributes:
      device, host: lists of NodeDefs.
      stranded: name of a variable that the host would have to read; None if none.
    """

    def __init__(self, nodes, listed):
        flow = _Flow(nodes)
        on_device = {
            name
            for name, node in flow.nodes.items()
            if node.op in listed or (listed and HOST_ATTRIBUTE in node.attr)
        }
        left = _left_by_the_largest_cluster(flow, on_device)
        self.device = [n for n in nodes if n.name in on_device and n.name not in left]
        self.host = [n for n in nodes if n.name not in on_device or n.name in left]
        self.stranded = None
        for node in self.host if self.device else []:
            handles = [flow.handle(name) for name in flow.inputs[node.name]]
            if node.op != "VarHandleOp" and any(handles):
                self.stranded = next(filter(None, handles))


class _Flow:
    """Which node depends on which."""

    def __init__(self, nodes):
        self.nodes = collections.OrderedDict((node.name, node) for node in nodes)
        self.inputs = {
            node.name: [_node_name(text) for text in node.input] for node in nodes
        }
        self.forward = {
            name: [
                other
                for other in inputs
                # the way back in a loop
                if other in self.nodes and self.nodes[other].op != "NextIteration"
            ]
            for name, inputs in self.inputs.items()
        }
        self.backward = {name: [] for name in self.nodes}
        for name, inputs in self.forward.items():
            for other in inputs:
                self.backward[other].append(name)

    def handle(self, name):
        """The variable whose handle this node passes on, or None."""
        node = self.nodes.get(name)
        while node is not None and node.op in ("Identity", "Enter", "Switch"):
            node = self.nodes.get(self.inputs[node.name][0])
        return node.name if node is not None and node.op == "VarHandleOp" else None


def _left_by_the_largest_cluster(flow, on_device):
    """The listed operations that cannot be in one cluster with most others.

    One that stands between listed ones, but on the host, divides those before it from
    those after it. What has no input (constants, handles) goes with its users.
    """
    inner = {name for name in on_device if flow.forward[name]}
    has_before = _reached(flow, flow.forward, inner)
    has_after = _reached(flow, flow.backward, inner)
    dividing = (set(flow.nodes) - on_device) & has_before & has_after
    earliest = _most_passed(flow.forward, dividing)
    latest = _most_passed(flow.backward, dividing)
    last = max([earliest[name] for name in inner], default=0)
    clusters = [
        {name for name in inner if earliest[name] <= number <= last - latest[name]}
        for number in range(last + 1)
    ]
    return inner - max(clusters, key=len)


def _reached(flow, before, starts):
    """The nodes that have one of `starts` before them."""
    counts = _most_passed(before, starts)
    return {name for name in flow.nodes if counts[name]}


def _most_passed(before, counted):
    """By node: the most of `counted` on a way that leads to it."""
    most = {}
    for start in before:
        waiting = [start]
        while waiting:
            name = waiting[-1]
            unknown = [other for other in before[name] if other not in most]
            if unknown and name not in most:
                waiting.extend(unknown)
                continue
            waiting.pop()
            most[name] = max(
                [most[other] + (other in counted) for other in before[name]], default=0
            )
    return most


def _node_name(text):
    """The node's, from a NodeDef's input."""
    return text.lstrip("^").partition(":")[0]


def _optimized(session, operations, feeds, fetches, targets):
    """The NodeDefs that grappler leaves of a call's operations."""
    meta = meta_graph_pb2.MetaGraphDef()
    definition = meta.graph_def
    definition.versions.CopyFrom(session.graph.graph_def_versions)
    fed = {name.rpartition(":")[0] or name for name in feeds}
    for operation in operations:
        node = definition.node.add()
        if operation.name in fed:
            (tensor,) = operation.outputs
            node.name, node.op = operation.name, "Placeholder"
            node.attr["dtype"].type = tensor.dtype.as_datatype_enum
            node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())
        else:
            node.CopyFrom(operation.node_def)
    if session.graph._functions:
        library = session.graph.as_graph_def().library
        definition.library.CopyFrom(library)
    wanted = meta.collection_def["train_op"].node_list.value
    wanted.extend(sorted(set(fetches) | set(targets)))
    if not wanted:
        return list(definition.node)
    return list(tf_optimizer.OptimizeGraph(session._config, meta).node)


def write_dump(number, placement):
    """Writes a graph as the adapter leaves it, with the device's part as its library.

    It stands where the process does, unless two variables say otherwise.
    """
    dump = graph_pb2.GraphDef()
    dump.node.extend(placement.host)
    if placement.device:
        name = "geop_%d" % number
        dump.node.add(name=name, op="GeOp").attr["function"].func.name = name
        function = dump.library.function.add()
        function.signature.name = name
        function.node_def.extend(placement.device)
    folder = os.environ.get("DUMP_GRAPH_PATH") or os.curdir
    if os.environ.get("NPU_COLLECT_PATH"):
        folder = os.path.join(os.environ["NPU_COLLECT_PATH"], "extra-info", "graph")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "AfterSubGraph_%d.pbtxt" % number), "w") as file:
        file.write(str(dump))
