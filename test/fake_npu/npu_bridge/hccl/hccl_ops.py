# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Collectives: with other processes, or as if every rank held what this one holds.

Each operation is marked, so that the record shows which graphs hold collectives, and
in which order they were made: on the device, ranks that differ wait for ever.
"""

import functools
import os

import numpy as np
import tensorflow as tf
from fake_device import exchange, graphs, record, settings
from tensorflow.core.framework import attr_value_pb2

WORLD = "hccl_world_group"
# int64 is for broadcasts only.
DTYPES = ("int8", "int16", "int32", "float16", "float32")
REDUCTIONS = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}

_latest = []  # the collective made last: [(operation, the placeholders above it)]


def rank_size():
    """The number of ranks that the environment names."""
    return exchange.size()


def _collective(kind, tensor, dtypes=DTYPES, combine=None):
    """The tensor marked; with other processes, what `combine` makes of all ranks'."""
    if tensor.dtype.base_dtype.name not in dtypes:
        raise TypeError("%s does not take %s" % (kind, tensor.dtype.name))
    tensor = tf.identity(tensor, name="Hcom" + kind)
    value = attr_value_pb2.AttrValue(s=kind.encode())
    tensor.op._set_attr(graphs.COLLECTIVE_ATTRIBUTE, value)
    record.write("collective", kind=kind, dtype=tensor.dtype.name, name=tensor.op.name)
    return _exchanged(kind, tensor, combine) if exchange.is_on() else tensor


def _exchanged(kind, tensor, combine):
    """The device runs the collectives of a graph in one order; so does the host here.

    Those below one placeholder are of one graph.
    """
    name = tensor.op.name
    feeds = {
        operation
        for operation in graphs.between(tensor.graph, [], [tensor.name], [])
        if operation.type.startswith("Placeholder")
    }
    before = [operation for operation, others in _latest if feeds & others]
    with tf.control_dependencies(before):
        result = tf.compat.v1.py_func(
            lambda array: combine(exchange.all_ranks(kind, name, array)),
            [tensor],
            tensor.dtype.base_dtype,
        )
    result.op._set_attr(graphs.HOST_ATTRIBUTE, attr_value_pb2.AttrValue(b=True))
    result.set_shape(tensor.shape)
    _latest[:] = [(result.op, feeds)]
    return result


def allreduce(tensor, reduction, fusion=1, fusion_id=-1, group=WORLD):
    """One tensor in, one tensor out."""
    return _reduced("AllReduce", tensor, reduction)


def _reduced(kind, tensor, reduction):
    if reduction not in REDUCTIONS:
        raise ValueError("reduction is %r" % reduction)
    reduce_two, ranks = REDUCTIONS[reduction], rank_size()
    tensor = _collective(
        kind, tensor, combine=lambda arrays: functools.reduce(reduce_two, arrays)
    )
    if ranks == 1 or exchange.is_on() or reduction in ("max", "min"):
        return tensor
    return tensor * ranks if reduction == "sum" else tensor**ranks


def allgather(tensor, rank_size, group=WORLD):
    """The ranks' tensors, one below the other."""
    if exchange.is_on():
        raise NotImplementedError("the fake gathers nothing between processes")
    return tf.concat([_collective("AllGather", tensor)] * rank_size, axis=0)


def _broadcast(tensor, root_rank):
    """A list of tensors in, a list out."""
    if not isinstance(tensor, (list, tuple)):
        raise TypeError("broadcast takes a list of tensors, got %r" % (tensor,))
    dtypes, sent = DTYPES + ("int64",), []
    for one in tensor:
        with tf.control_dependencies(sent[-1:]):  # in the same order on every rank
            sent.append(
                _collective("Broadcast", one, dtypes, lambda arrays: arrays[root_rank])
            )
    return sent


if settings.since("1.2"):
    _FUSION = (2, 0) if settings.since("1.3") else (0, -1)

    def broadcast(
        tensor, root_rank, fusion=_FUSION[0], fusion_id=_FUSION[1], group=WORLD
    ):
        """A list of tensors in, a list out."""
        return _broadcast(tensor, root_rank)

else:

    def broadcast(tensor, root_rank, group=WORLD):
        """A list of tensors in, a list out."""
        return _broadcast(tensor, root_rank)


def reduce_scatter(tensor, reduction, rank_size, group=WORLD):
    """This rank's part of the reduced tensor."""
    reduced = _reduced("ReduceScatter", tensor, reduction)
    return tf.split(reduced, rank_size)[int(os.environ.get("RANK_ID", "0"))]


def send(tensor, sr_tag, dest_rank, group=WORLD):
    """Not faked: ranks of the fake are not connected."""
    raise NotImplementedError("the fake does not send")


def receive(shape, data_type, sr_tag, src_rank, group=WORLD):
    """Not faked: ranks of the fake are not connected."""
    raise NotImplementedError("the fake does not receive")


if settings.since("1.2"):

    def reduce(tensor, reduction, root_rank, fusion=0, fusion_id=-1, group=WORLD):
        """As allreduce; only the root's result counts."""
        return _reduced("Reduce", tensor, reduction)
