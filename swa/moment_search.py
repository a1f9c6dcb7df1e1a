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

from typing import Any, Dict, List, NamedTuple

import numpy as np
import tensorflow as tf

from swa.layers import check_supported

__all__ = ["Use", "assigned_places", "leaves", "place_of", "uses"]

_ASSIGNMENTS = (
    "AssignVariableOp AssignSubVariableOp AssignAddVariableOp Assign AssignSub "
    "AssignAdd"
).split()
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# from an update to its assignment
_LEADING = ("NoOp", "Merge", "Switch", "Identity", "ReadVariableOp")
# these pass their first input on, with no other value
_PASSING = "Identity Switch RefSwitch Squeeze Reshape Cast StopGradient".split()
# these pass one of several inputs on; the first of a Select is its condition
_CHOOSING = {"Merge": 0, "Select": 1, "SelectV2": 1}
# these combine all of their inputs
_COMBINING = "Add AddV2 Sub Mul RealDiv Prod Pack".split()
# these tell of shapes and constants alone
_NEUTRAL = "Const Range Shape Size ZerosLike Fill StridedSlice".split()


class Use(NamedTuple):
    """The moments of one use of a layer, for each batch."""

    mean: Any  # tensor with one value for each channel
    variance: Any  # tensor likewise
    inputs: Any  # tensor of which they are the moments
    axes: List[int]  # of `inputs`, over which they are taken
    is_unbiased: bool  # whether the variance is divided by count - 1


class _Origin(NamedTuple):
    """A batch statistic, and where its value can be fetched."""

    tensor: Any  # the output of `Mean`, or of a fused kernel
    fetch: Any  # the same value outside of any branch


def place_of(variable):
    """The operation that stands for a variable in its graph."""
    return variable.handle.op if hasattr(variable, "handle") else variable.op


def leaves(updates: List[Any]) -> List[Any]:
    """The operations that updates consist of, groups taken apart, each once."""
    rest = [getattr(update, "op", update) for update in updates]
    seen, found = set(rest), []
    for op in rest:  # grows while it is walked
        if op.type != "NoOp":
            found.append(op)
            continue
        for above in op.control_inputs:
            if above not in seen:
                seen.add(above)
                rest.append(above)
    return found


def assigned_places(update: Any) -> Dict[Any, Any]:
    """The assignment that an operation leads to, by the variable's place.

    An `If` of the newer control flow hides its assignments: then None, for each
    variable that it is given.
    """
    rest, seen, found = [update], {update}, {}
    for op in rest:  # grows while it is walked
        if op.type in _ASSIGNMENTS:
            found[_source(op.inputs[0]).op] = op
        elif op.type in ("If", "StatelessIf"):
            found.update((t.op, None) for t in op.inputs if t.op.type == "VarHandleOp")
        elif op.type in _LEADING:
            for above in [tensor.op for tensor in op.inputs] + list(op.control_inputs):
                if above not in seen:
                    seen.add(above)
                    rest.append(above)
    return found


def uses(updates: List[Any], layers: List[Any]) -> Dict[Any, List[Use]]:
    """The uses of batch-norm layers whose statistics some updates move.

    Args:
      updates: list of operations, from `leaves`.
      layers: list of layers with `moving_mean` and `moving_variance`.

    Returns:
      dict of lists of Use by layer, in the order of `layers`, without those layers
      whose moving mean no update assigns: they are frozen.

    Raises:
      ValueError: a statistic that is not provably a moment of one tensor.
    """
    assignments = {}
    for update in updates:
        for place, assignment in assigned_places(update).items():
            assignments.setdefault(place, []).append(assignment)
    found = {}
    for layer in layers:
        means = assignments.get(place_of(layer.moving_mean), [])
        variances = assignments.get(place_of(layer.moving_variance), [])
        if means or variances:
            found[layer] = _uses_of(layer, means, variances)
    return found


def _uses_of(layer, means, variances):
    """A Use for each pair of assignments to the statistics of one layer."""
    check_supported(layer)
    if len(means) != len(variances) or None in means + variances:
        _refuse(layer)
    means = [_origin(one, layer.moving_mean) for one in means]
    variances = [_origin(one, layer.moving_variance) for one in variances]
    if None in means + variances:
        _refuse(layer)
    found = [
        _proved(mean, variance)
        for mean in means
        for variance in variances
        if _proved(mean, variance)
    ]
    if len(found) != len(means):
        _refuse(layer)
    return found


def _proved(mean, variance):
    """The Use whose moments two origins provably are, or None."""
    op = mean.tensor.op
    if op.type in _FUSED:
        outputs = mean.tensor.value_index, variance.tensor.value_index
        is_proved = variance.tensor.op is op and outputs == (1, 2)
        axes = [0, 2, 3] if op.get_attr("data_format") == b"NCHW" else [0, 1, 2]
    else:
        is_proved = op.type == "Mean" and _is_variance(variance.tensor, op)
        axes = is_proved and _axes(op)
    if not is_proved or axes is None:
        return None
    inputs = _source(op.inputs[0])
    return Use(mean.fetch, variance.fetch, inputs, axes, op.type in _FUSED)


def _refuse(layer):
    raise ValueError(
        f"batch-norm layer {layer.name!r} must take its statistics from the plain "
        f"moments of its inputs, outside of loops; SWA found others and cannot "
        f"re-estimate them. Freeze the layer, or average without SWA."
    )


def _origin(assignment, variable):
    """The one batch statistic that an assigned value depends on, or None."""
    rest, seen, found = [_Origin(assignment.inputs[1], None)], set(), []
    for tensor, fetch in rest:  # grows while it is walked
        op = tensor.op
        if tensor in seen or _is_read(op, variable) or op.type in _NEUTRAL:
            continue
        seen.add(tensor)
        if op.type in _COMBINING:
            rest.extend(_Origin(above, None) for above in op.inputs)
            continue
        if fetch is None and op._get_control_flow_context() is None:
            fetch = tensor
        if op.type in _PASSING:
            rest.append(_Origin(op.inputs[0], fetch))
        elif op.type in _CHOOSING:
            values = op.inputs[_CHOOSING[op.type] :]
            rest.extend(_Origin(above, fetch) for above in values)
        elif op.type not in _FUSED or op.get_attr("is_training"):
            found.append(_Origin(tensor, fetch))
    if len(found) != 1 or found[0].fetch is None:
        return None
    return found[0]


def _is_variance(tensor, mean):
    """Whether it is the mean square of what the operation `mean` takes the mean of."""
    if tensor.op.type != "Mean" or _axes(tensor.op) != _axes(mean):
        return False
    square = _past(tensor.op.inputs[0]).op
    if square.type == "Square":
        square = _past(square.inputs[0]).op
        if square.type != "Sub":
            return False
    elif square.type != "SquaredDifference":
        return False
    values, centre = square.inputs
    centre = _past(centre).op
    return (
        centre.type == "Mean"
        and _axes(centre) == _axes(mean)
        and _source(values) is _source(mean.inputs[0])
        and _source(centre.inputs[0]) is _source(mean.inputs[0])
    )


def _is_read(op, variable):
    """Whether an operation reads the variable, or is it."""
    if op.type == "ReadVariableOp":
        op = _source(op.inputs[0]).op
    return op is place_of(variable)


def _past(tensor):
    """The tensor before the operations that only pass it on, whatever its shape."""
    while tensor.op.type in _PASSING:
        tensor = tensor.op.inputs[0]
    return tensor


def _source(tensor):
    """The tensor before what keeps its elements where they are."""
    while tensor.op.type in _PASSING and tensor.op.type not in ("Squeeze", "Reshape"):
        tensor = tensor.op.inputs[0]
    return tensor


def _axes(mean):
    """The axes over which a `Mean` is taken."""
    rank = mean.inputs[0].shape.rank
    axes = tf.get_static_value(mean.inputs[1])
    if rank is None or axes is None:
        return None
    return sorted(int(axis) % rank for axis in np.ravel(axes))
