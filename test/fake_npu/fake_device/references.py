# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Variables are read by reference: who uses a value finds what has been assigned since.

The adapter's runtime takes ReadVariableOp for an Identity, and deletes Identities
beside no control flow. So a read and a later assignment of the same variable in one
call see each other, unless the order of the assignment and of the value's use is
forced. Where it is not, the device may take either order; here the assignment comes
first wherever it can, so that what depends on luck goes wrong at once.

The operations concerned are copied, for one call alone, with their order forced. So
are those whose numbers are the device's own, by `kernels`. No program can order the
gradients of Keras's own training step; FAKE_NPU_READS=gated leaves them as they are.
"""

import contextlib

import tensorflow as tf

from fake_device import graphs, kernels, settings

WRITERS = ("Assign", "ResourceApply", "ResourceScatter", "ResourceSparseApply")


class Rewritten:
    """A call, so that each use of a variable comes as late as it may.

    Args:
      session: the call's.
      graph: graphs.Graph.
      options: dict, the session's.

    Attributes:
      tensors: {name of a fetch: the tensor to fetch in its place}.
      operations: {name of a target: the operation to run in its place}.
      unordered: list of (variable, what uses its value, what assigns it), names; of
        what a program can order.
    """

    def __init__(self, session, graph, options):
        self._graph = session.graph
        self._calls = _Order(graph.all)
        self.tensors, self.operations, self.unordered = {}, {}, []
        late = {}
        if settings.READS != "value":
            late = self._late_uses(graph.all, graph.fetches)
        self._changed = kernels.changed(graph.not_fed(), options)
        self._outputs = {}  # by operation: the tensors in the place of its outputs
        if not late and not self._changed:
            return
        with _opened(self._graph):
            copies = self._copies(late)
            for name in graph.fetches:
                tensor = self._graph.get_tensor_by_name(name)
                if (None, name) in late:
                    read, writers = late[None, name]
                    self.tensors[name] = _read_after(
                        read, [copies.get(op, op) for op in writers + [tensor.op]]
                    )
                else:
                    self.tensors[name] = self._in_place_of(tensor)
            for name in graph.targets:
                operation = self._graph.get_operation_by_name(name)
                self.operations[name] = copies.get(operation, operation)

    def _late_uses(self, operations, fetches):
        """{(operation, input) or (None, fetch): (read, assignments before it)}."""
        writers = {}
        for operation in operations:
            if operation.type.startswith(WRITERS) and not _in_control_flow(operation):
                for variable in _variables(operation):
                    writers.setdefault(variable, []).append(operation)
        late = {}
        for read in operations:
            if read.type != "ReadVariableOp" or _in_control_flow(read):
                continue
            (variable,) = _variables(read) or [None]
            for writer in writers.get(variable, ()):
                if self._calls.reaches(writer, read):
                    continue  # it reads what was assigned, by value too
                for use in self._uses(read, fetches):
                    if self._is_late(use[0], writer):
                        late.setdefault(use, (read, []))[1].append(writer)
                        user = use[0].name if use[0] else "fetch"
                        if "gradients/" not in user:
                            self.unordered.append((variable, user, writer.name))
        return late

    def _is_late(self, user, writer):
        """Whether the device may use the value after the assignment."""
        if user is None:  # what is fetched is copied when all has run
            return True
        if user is writer or self._calls.reaches(user, writer):
            return False
        if "gradients/" in user.name and settings.READS == "gated":
            return False
        self._calls.add(writer, user)
        return True

    def _uses(self, read, fetches):
        """Who uses the value, behind Identities: (operation, input), (None, fetch)."""
        waiting, found = [read], []
        for operation in waiting:  # grows while it is walked
            found += [(None, name) for name in fetches if _name_of(operation) == name]
            for other in self._calls.after.get(operation, ()):
                inputs = [tensor.op for tensor in other.inputs]
                if operation not in inputs or _in_control_flow(other):
                    continue
                if _is_identity(other):
                    waiting.append(other)
                else:
                    places = [i for i, op in enumerate(inputs) if op is operation]
                    found += [(other, place) for place in places]
        return found

    def _copies(self, late):
        """{operation: its copy} of all that depends on a late use or own numbers."""
        first = [operation for operation, _ in late if operation is not None]
        concerned = self._calls.all_after(first + list(self._changed))
        copies = {}
        for operation in self._calls.sorted(concerned):
            inputs = [self._in_place_of(tensor) for tensor in operation.inputs]
            control = [copies.get(op, op) for op in operation.control_inputs]
            control += [copies.get(op, op) for op in self._calls.added(operation)]
            for index in range(len(inputs)):
                if (operation, index) in late:
                    read, _ = late[operation, index]
                    before = control + [tensor.op for tensor in inputs]
                    inputs[index] = _read_after(read, before)
            copies[operation] = self._copied(operation, inputs, control)
        return copies

    def _copied(self, operation, inputs, control):
        """The copy of an operation; notes what stands in the place of its outputs."""
        if operation not in self._changed:
            copy = _copy(operation, inputs, control)
            self._outputs[operation] = copy.outputs
            return copy
        is_first = kernels.is_channels_first(operation)
        with self._graph.control_dependencies(None):
            attributes = None
            if is_first:
                inputs, attributes = kernels.channels_last(operation, inputs)
            copy = _copy(operation, inputs, control, attributes)
            make = self._changed[operation]
            outputs = make(operation, inputs, list(copy.outputs))
            if is_first:
                outputs[0] = tf.transpose(outputs[0], (0, 3, 1, 2))
        self._outputs[operation] = outputs
        return copy

    def _in_place_of(self, tensor):
        outputs = self._outputs.get(tensor.op)
        return outputs[tensor.value_index] if outputs else tensor


class _Order:
    """Which operations of a call come before which, by data, control or `add`."""

    def __init__(self, operations):
        self._before = {
            operation: [tensor.op for tensor in operation.inputs]
            + list(operation.control_inputs)
            for operation in operations
        }
        self.after = {}
        for operation, before in self._before.items():
            for other in before:
                self.after.setdefault(other, []).append(operation)
        self._added = {}

    def add(self, first, second):
        """From now on `first` comes before `second`."""
        self._before[second].append(first)
        self.after.setdefault(first, []).append(second)
        self._added.setdefault(second, []).append(first)

    def added(self, operation):
        """What `add` has put before it."""
        return self._added.get(operation, [])

    def reaches(self, first, second):
        """Whether `first` surely comes before `second`."""
        return second in self.all_after([first]) and first is not second

    def all_after(self, operations):
        """These, and all that surely come after one of them."""
        waiting, seen = list(operations), set(operations)
        while waiting:
            for other in self.after.get(waiting.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return seen

    def sorted(self, operations):
        """These, each after all that come before it."""
        done, result = set(), []
        for start in operations:
            waiting = [start]
            while waiting:
                operation = waiting[-1]
                left = [
                    other
                    for other in self._before.get(operation, ())
                    if other in operations and other not in done
                ]
                if left and operation not in done:
                    waiting.extend(left)
                    continue
                waiting.pop()
                if operation not in done:
                    done.add(operation)
                    result.append(operation)
        return result


def _in_control_flow(operation):
    context = operation._get_control_flow_context()
    return context is not None or operation.type in graphs.CONTROL_FLOW


def _is_identity(operation):
    is_collective = graphs.COLLECTIVE_ATTRIBUTE in operation.node_def.attr
    return operation.type == "Identity" and not is_collective


def _variables(operation):
    """The names of the variables whose handles the operation takes."""
    names = []
    for tensor in operation.inputs:
        source = tensor.op
        while source.type == "Identity":
            source = source.inputs[0].op
        if tensor.dtype == tf.resource and source.type == "VarHandleOp":
            names.append(source.name)
    return names


def _name_of(operation):
    return operation.outputs[0].name


def _copy(operation, inputs, control, attributes=None):
    graph = operation.graph
    with graph.control_dependencies(None), graph.control_dependencies(control):
        copy = graph.create_op(
            operation.type,
            inputs,
            [tensor.dtype for tensor in operation.outputs],
            name="fake_npu/" + operation.name,
            attrs=attributes or dict(operation.node_def.attr),
            op_def=operation.op_def,
        )
    copy._set_device(operation.device)
    return copy


def _read_after(read, operations):
    """The variable's value once these have run."""
    return _copy(read, list(read.inputs), operations).outputs[0]


@contextlib.contextmanager
def _opened(graph):
    """Where operations are made, even if the graph was finalized."""
    was_finalized = graph.finalized
    graph._unsafe_unfinalize()
    try:
        with graph.as_default():
            yield
    finally:
        if was_finalized:
            graph.finalize()
