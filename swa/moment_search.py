# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where a graph computes the batch moments that a batch-norm layer learns from.

Keras's layer moves its statistics by assignments such as

    moving_mean -= (moving_mean - mean) * (1 - momentum)

The search follows the assigned value to its origin. The origin of the mean must be a
`Mean` or an output of a fused kernel. The origin of the variance must be made of the
same inputs: the `Mean` of the squared deviations from that mean, or an output of the
same kernel.
A layer for which this does not hold is refused by name when training begins.
"""

from collections import namedtuple

import tensorflow as tf

from swa.layers import check_supported, statistics_of

__all__ = [
    "BatchNormCall",
    "assignments_of",
    "batch_norm_calls",
    "check_outside_functions",
    "leaves",
    "variable_op",
]

# The moments of one call of a layer.
#   mean, variance: tensors with one value for each channel
#   inputs: the tensor that has these moments over the dimensions `axes`
#   is_unbiased: whether the variance is divided by count - 1 instead of count
#   follows_phase: whether they are computed only while Keras's learning phase is 1
BatchNormCall = namedtuple(
    "BatchNormCall", "layer mean variance inputs axes is_unbiased follows_phase"
)

# The tensor of a moment, the tensor to fetch it by, and `follows_phase` as above.
_Origin = namedtuple("_Origin", "tensor fetch follows_phase")

# a `tf.function`, and control flow v2, whose bodies are graphs of their own
_HIDING = ("PartitionedCall", "If", "While", "Case")
# they lead from an update to its assignment
_UPDATE_PATH = ("NoOp", "Merge", "Switch", "Identity", "ReadVariableOp")
# they keep the elements of their first input where they are
_SAME_ELEMENTS = ("Identity", "Switch", "RefSwitch", "Enter", "Cast", "StopGradient")
# they lead from an assigned value to the moment that Keras makes it of
_MOMENT_PATH = _SAME_ELEMENTS + ("Merge", "Squeeze", "Sub", "Mul")


def variable_op(variable):
    """The operation that creates a variable in its graph."""
    return variable.handle.op if hasattr(variable, "handle") else variable.op


def leaves(updates):
    """The operations that updates consist of: groups are taken apart.

    Args:
      updates: list of operations and tensors. Left out are pairs of a variable and its
        value, as stand-alone Keras has them, and operations of a graph that is gone,
        as Keras leaves them in a layer that was saved as a SavedModel.

    Returns:
      List of operations, each once.
    """
    start = [
        getattr(update, "op", update)
        for update in updates
        if getattr(update, "graph", None) is not None
    ]
    ops = _walk(start, lambda op: op.control_inputs if op.type == "NoOp" else ())
    return [op for op in ops if op.type != "NoOp"]


def assignments_of(update):
    """The assignments that an update leads to.

    Args:
      update: operation.

    Returns:
      Dict of assignments, by the operation of the variable that is assigned.
    """
    ops = _walk([update], lambda op: _inputs_of(op) if op.type in _UPDATE_PATH else ())
    return {
        _skip_back(op.inputs[0]).op: op for op in ops if op.type.startswith("Assign")
    }


def batch_norm_calls(updates, layers):
    """The calls of batch-norm layers whose statistics some updates move.

    Args:
      updates: list of operations, groups among them. Pairs of a variable and its
        value, as stand-alone Keras has them, are left out.
      layers: list of layers with `moving_mean` and `moving_variance`.

    Returns:
      List of BatchNormCall in the order of `layers`. A layer whose statistics no update
      assigns is frozen and has none.

    Raises:
      ValueError: a layer of another kind, or a statistic that is not provably made of
        the moments of one tensor, in every batch of training.
    """
    assignments = {}
    for update in leaves(updates):
        for variable, assignment in assignments_of(update).items():
            assignments.setdefault(variable, []).append(assignment)
    calls = []
    for layer in layers:
        ops = map(variable_op, statistics_of(layer))
        of_mean, of_variance = [assignments.get(op, []) for op in ops]
        if of_mean or of_variance:
            check_supported(layer)
            calls += _calls_of(layer, of_mean, of_variance)
    return calls


def check_outside_functions(layers, ops):
    """Refuses layers whose moments are hidden in a function of the graph.

    Args:
      layers: list of layers as for `batch_norm_calls`.
      ops: list of operations that training runs.

    Raises:
      ValueError: one of `ops` depends on a `tf.function`, or on a branch or loop of
        control flow v2, that uses a layer's statistics.
    """
    for layer in layers:
        handles = [
            variable_op(variable).outputs[0] for variable in statistics_of(layer)
        ]
        users = [op for handle in handles for op in handle.consumers()]
        functions = [op for op in users if op.type.endswith(_HIDING)]
        if functions and not set(functions).isdisjoint(_walk(ops, _inputs_of)):
            raise ValueError(
                f"batch-norm layer {layer.name!r} must be called outside of "
                f"tf.function and control flow v2 in graph mode, where its moments "
                f"cannot be fetched, got a {functions[0].type}. Call it without, or "
                f"freeze it."
            )


def _calls_of(layer, of_mean, of_variance):
    """Pairs each assignment of a layer's mean with that of the same call's variance."""
    means = filter(None, map(_origin, of_mean))
    variances = list(filter(None, map(_origin, of_variance)))
    candidates = [
        _call_of(layer, mean, variance) for mean in means for variance in variances
    ]
    calls = [call for call in candidates if call is not None]
    # each assignment must belong to exactly one pair
    if len(calls) != max(len(of_mean), len(of_variance)):
        raise ValueError(
            f"batch-norm layer {layer.name!r} must take its statistics from the plain "
            f"moments of its inputs, outside of loops and of conditions other than "
            f"Keras's learning phase, got others. Freeze the layer, or train without "
            f"SWA."
        )
    return calls


def _origin(assignment):
    """The _Origin of the one moment that an assigned value is made of, or None."""
    walked = _walk(
        [assignment.inputs[1]],
        lambda t: t.op.inputs if t.op.type in _MOMENT_PATH else (),
    )
    moment_tensors = [tensor for tensor in walked if _is_moment(tensor.op)]
    if len(moment_tensors) != 1:
        return None
    (tensor,) = moment_tensors
    # a tensor in a branch cannot be fetched, but the `Merge` behind the branch can
    merges = [
        merged
        for merged in walked
        if merged.op.type == "Merge" and tensor in map(_skip_back, merged.op.inputs)
    ]
    fetches = [fetch for fetch in [tensor] + merges if not _branches(fetch.op)]
    branches = _branches(assignment) + _branches(tensor.op)
    if not fetches or not all(map(_is_of_training, branches)):
        return None
    return _Origin(tensor, fetches[0], bool(branches))


def _call_of(layer, mean, variance):
    """The BatchNormCall of two origins; None if they are not of the same call."""
    op, is_fused = mean.tensor.op, mean.tensor.op.type != "Mean"
    find_axes = _fused_axes if is_fused else _plain_axes
    axes = find_axes(op, variance.tensor.op)
    if axes is None:
        return None
    return BatchNormCall(
        layer,
        mean.fetch,
        variance.fetch,
        _skip_back(op.inputs[0]),
        list(axes),
        is_unbiased=is_fused,
        follows_phase=mean.follows_phase or variance.follows_phase,
    )


def _fused_axes(op, variance_op):
    """The axes of the fused kernel's moments; None where it is not one kernel."""
    if variance_op is not op:
        return None
    return [0, 2, 3] if op.get_attr("data_format") == b"NCHW" else [0, 1, 2]


def _plain_axes(op, variance_op):
    """The axes of a mean; None where the variance is not about this mean."""
    deviations = variance_op.inputs[0].op
    if deviations.type != "SquaredDifference":
        return None
    is_about_mean = _skip_back(deviations.inputs[1]).op is op
    return tf.get_static_value(op.inputs[1]) if is_about_mean else None


def _branches(op):
    """The branches and loops around an operation."""
    contexts, context = [], op._get_control_flow_context()
    while context is not None:
        contexts.append(context)
        context = context.outer_context
    return contexts


def _is_of_training(context):
    """Whether a context is the branch that is taken while the learning phase is 1."""
    return getattr(context, "branch", None) == 1 and _is_phase(context.pred)


def _is_phase(predicate):
    """Whether a predicate is Keras's learning phase, or that and a true constant."""
    op = _skip_back(predicate).op
    if op.type == "LogicalAnd":
        return all(tf.get_static_value(t) or _is_phase(t) for t in op.inputs)
    return op.type == "PlaceholderWithDefault" and "keras_learning_phase" in op.name


def _skip_back(tensor):
    """The tensor before the operations that keep its elements."""
    while tensor.op.type in _SAME_ELEMENTS:
        tensor = tensor.op.inputs[0]
    return tensor


def _is_moment(op):
    """Whether an operation computes moments of its inputs."""
    return (
        op.type == "Mean"
        or op.type.startswith("FusedBatchNorm")
        and op.get_attr("is_training")
    )


def _inputs_of(op):
    return [tensor.op for tensor in op.inputs] + list(op.control_inputs)


def _walk(start, following):
    """List of the items of `start` and all that follow them, each once.

    `following`: function of an item -> list of items.
    """
    waiting, seen = list(start), {}
    while waiting:
        item = waiting.pop()
        if item not in seen:
            seen[item] = True  # dictionaries keep their order
            waiting.extend(following(item))
    return list(seen)
