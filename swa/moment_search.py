# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where a graph computes the batch moments that a batch-norm layer learns from.

A layer moves its statistics by an assignment such as

    moving_mean -= (moving_mean - mean) * (1 - momentum)

whose value depends on one batch statistic. That one is followed from the assignment
to its origin, and accepted where it provably is what it should be: the `Mean` of a
tensor, the `Mean` of its squared deviations from just that mean, or both outputs of a
fused kernel. What cannot be proved is refused by name when training begins.
"""

from collections import namedtuple

import numpy as np
import tensorflow as tf

from swa.layers import check_supported, statistics_of

# The moments of one use of a layer: mean, variance, tensors with one value for each
# channel; inputs, the tensor of which they are the moments over `axes`; is_unbiased,
# whether the variance is divided by count - 1; conditions, which all hold in a batch
# whose moments count, else a kernel may have left them unfilled: a set of (predicate,
# its value, the tensor that it is a copy of).
Use = namedtuple("Use", "layer mean variance inputs axes is_unbiased conditions")

_KINDS = "AssignVariableOp AssignSubVariableOp AssignAddVariableOp"
_ASSIGNMENTS = f"{_KINDS} Assign AssignSub AssignAdd".split()
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# from an update to its assignment
_LEADING = ("NoOp", "Merge", "Switch", "Identity", "ReadVariableOp")
# these keep the elements of their first input where they are; these may reshape it
_KEEPING = ("Identity", "Switch", "RefSwitch", "Cast", "StopGradient")
_PASSING = _KEEPING + ("Squeeze", "Reshape")
# these combine all of their inputs; these tell of shapes and constants alone
_COMBINING = "Add AddV2 Sub Mul RealDiv Prod Pack".split()
_NEUTRAL = "Const Range Shape Size ZerosLike Fill StridedSlice".split()
# the inputs that a value may come from; the first of a Select is its condition
_SOURCES = dict.fromkeys(_PASSING, slice(1))
_SOURCES.update(dict.fromkeys([*_COMBINING, "Merge"], slice(None)))
_SOURCES.update(dict.fromkeys(["Select", "SelectV2"], slice(1, None)))


def place_of(variable):
    """The operation that stands for a variable in its graph."""
    return variable.handle.op if hasattr(variable, "handle") else variable.op


def leaves(updates):
    """The operations that updates consist of, groups taken apart, each once.

    Pairs of a variable and its value, as stand-alone Keras has them, are none.
    """
    rest = [getattr(one, "op", one) for one in updates if not isinstance(one, tuple)]
    return [
        op
        for op in _walk(rest, lambda op: op.type == "NoOp" and op.control_inputs)
        if op.type != "NoOp"
    ]


def assignments_of(update):
    """The assignments that an operation leads to, by the variable's place.

    An `If` of the newer control flow hides its assignments: then None, for each
    variable that it is given.
    """
    found = {}
    for op in _walk([update], lambda op: op.type in _LEADING and _above(op)):
        if op.type in _ASSIGNMENTS:
            found[_past(op.inputs[0], _KEEPING + ("Enter",)).op] = op
        elif op.type in ("If", "StatelessIf"):
            found.update((t.op, None) for t in op.inputs if t.op.type == "VarHandleOp")
    return found


def uses(updates, layers):
    """The uses of batch-norm layers whose statistics some updates move.

    Args:
      updates: list of operations, groups among them, or of pairs, which have none.
      layers: list of layers with `moving_mean` and `moving_variance`.

    Returns:
      List of Use in the order of `layers`, without those layers whose statistics no
      update assigns: they are frozen.

    Raises:
      ValueError: a statistic that is not provably a moment of one tensor.
    """
    assigned = {}
    for update in leaves(updates):
        for place, assignment in assignments_of(update).items():
            assigned.setdefault(place, []).append(assignment)
    found = []
    for layer in layers:
        given = [assigned.get(place_of(v), []) for v in statistics_of(layer)]
        if any(given):
            check_supported(layer)
            own = _uses_of(layer, given)
            if not own or len(own) != max(map(len, given)):
                raise ValueError(
                    f"batch-norm layer {layer.name!r} must take its statistics from "
                    f"the plain moments of its inputs, outside of loops; SWA found "
                    f"others. Freeze the layer, or average without SWA."
                )
            found += own
    return found


def check_calls(layers, ops):
    """Raises ValueError for a layer that a `tf.function` run by some operations calls.

    Args:
      layers: list of layers as for `uses`.
      ops: list of operations.
    """
    for layer in layers:
        handles = [place_of(variable).outputs[0] for variable in statistics_of(layer)]
        calls = {
            op
            for handle in handles
            for op in handle.consumers()
            if op.type.endswith("PartitionedCall")
        }
        if calls and not calls.isdisjoint(_walk(ops, _above)):
            raise ValueError(
                f"batch-norm layer {layer.name!r} must be called outside of "
                f"tf.function in graph mode, where its moments cannot be fetched, got "
                f"a {next(iter(calls)).type}. Call it without, or freeze it."
            )


def _uses_of(layer, assignments):
    """A Use for each pair of assignments that provably are of the same moments."""
    means, variances = [
        [_origin(one, variable) for one in given if one is not None]
        for variable, given in zip(statistics_of(layer), assignments)
    ]
    pairs = [(m, v) for m in means if m for v in variances if v]
    found = [_proved(layer, mean, variance) for mean, variance in pairs]
    return [use for use in found if use]


def _origin(assignment, variable):
    """(statistic, tensor to fetch, conditions) of the one value that is assigned.

    None: there are others.
    """
    place, found, rest = place_of(variable), [], [assignment.inputs[1]]
    # by tensor: where its value can be fetched, outside of any branch; conditions
    known = {rest[0]: (None, _conditions(assignment))}
    for tensor in rest:  # grows while it is walked
        op, (fetch, conditions) = tensor.op, known[tensor]
        conditions = conditions | _conditions(op)
        read = _past(op.inputs[0], _KEEPING).op if op.type == "ReadVariableOp" else op
        if read is place or op.type in _NEUTRAL:
            continue
        if op.type in _COMBINING:
            fetch = None
        elif fetch is None and op._get_control_flow_context() is None:
            fetch = tensor
        if op.type in _SOURCES:
            sources = op.inputs[_SOURCES[op.type]]
            new = [one for one in sources if one not in known]
            rest.extend(new)
            known.update(dict.fromkeys(new, (fetch, conditions)))
        elif op.type not in _FUSED or op.get_attr("is_training"):
            found.append((tensor, fetch, conditions))
    return found[0] if len(found) == 1 and found[0][1] is not None else None


def _conditions(op):
    """The condition of the branch that an operation is in, if it is in one."""
    context = op._get_control_flow_context()
    if not hasattr(context, "pred"):
        return set()
    predicate = context.pred.op.inputs[0]  # what it copies; it cannot be fetched itself
    return {(predicate, context.branch, _past(predicate))}


def _proved(layer, of_mean, of_variance):
    """The Use whose moments these origins provably are, or None."""
    mean, mean_fetch, conditions = of_mean
    variance, variance_fetch, others = of_variance
    conditions = conditions | others
    op, is_fused = mean.op, mean.op.type in _FUSED
    if is_fused:
        axes = [0, 2, 3] if op.get_attr("data_format") == b"NCHW" else [0, 1, 2]
        outputs = mean.value_index, variance.value_index
        is_proved = variance.op is op and outputs == (1, 2)
    else:
        axes = _axes(op)
        is_proved = axes is not None and _is_variance(variance.op, op)
    contexts = [one.op._get_control_flow_context() for one, *_ in conditions]
    if not is_proved or any(contexts):  # a predicate in a branch cannot be fetched
        return None
    inputs = _past(op.inputs[0], _KEEPING)
    return Use(layer, mean_fetch, variance_fetch, inputs, axes, is_fused, conditions)


def _is_variance(op, mean):
    """Whether it is the mean square of what the operation `mean` takes the mean of."""
    if _axes(op) != _axes(mean):
        return False
    square, expected = _past(op.inputs[0]).op, "SquaredDifference"
    if square.type == "Square":
        square, expected = _past(square.inputs[0]).op, "Sub"
    if square.type != expected:
        return False
    values, centre = square.inputs[0], _past(square.inputs[1]).op
    if _axes(centre) != _axes(mean):
        return False
    given = values, centre.inputs[0], mean.inputs[0]
    return len({_past(tensor, _KEEPING) for tensor in given}) == 1


def _axes(op):
    """The axes over which a `Mean` is taken; None: it is none, or they are open."""
    axes = tf.get_static_value(op.inputs[1]) if op.type == "Mean" else None
    rank = op.inputs[0].shape.rank if axes is not None else None
    return None if rank is None else sorted(int(a) % rank for a in np.ravel(axes))


def _past(tensor, types=_PASSING):
    """The tensor before the operations of these types."""
    while tensor.op.type in types:
        tensor = tensor.op.inputs[0]
    return tensor


def _above(op):
    return [tensor.op for tensor in op.inputs] + list(op.control_inputs)


def _walk(start, above):
    """`start` and, one after the other, what `above` gives for each, each once."""
    rest, seen = list(dict.fromkeys(start)), set(start)
    for op in rest:  # grows while it is walked
        yield op
        for one in above(op) or ():
            if one not in seen:
                seen.add(one)
                rest.append(one)
