# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Collectives, as if every rank held what this one holds.

Each operation is marked, so that the record shows which graphs hold collectives, and
in which order they were made: on the device, ranks that differ wait for ever.
"""

import os

import tensorflow as tf
from fake_device import record, runtime, settings
from tensorflow.core.framework import attr_value_pb2

WORLD = "hccl_world_group"
# int64 is for broadcasts only.
DTYPES = ("int8", "int16", "int32", "float16", "float32")
_FUSION = (2, 0) if settings.since("1.3") else (0, -1)


def rank_size():
    """The number of ranks that the environment names."""
    return int(os.environ.get("RANK_SIZE", "1"))


def _collective(kind, tensor, dtypes=DTYPES):
    if tensor.dtype.base_dtype.name not in dtypes:
        raise TypeError("%s does not take %s" % (kind, tensor.dtype.name))
    tensor = tf.identity(tensor, name="Hcom" + kind)
    value = attr_value_pb2.AttrValue(s=kind.encode())
    tensor.op._set_attr(runtime.COLLECTIVE_ATTRIBUTE, value)
    record.write("collective", kind=kind, dtype=tensor.dtype.name, name=tensor.op.name)
    return tensor


def allreduce(tensor, reduction, fusion=1, fusion_id=-1, group=WORLD):
    """One tensor in, one tensor out."""
    return _reduced(_collective("AllReduce", tensor), reduction)


def _reduced(tensor, reduction):
    ranks = rank_size()
    if reduction not in ("sum", "prod", "max", "min"):
        raise ValueError("reduction is %r" % reduction)
    if ranks == 1 or reduction in ("max", "min"):
        return tensor
    return tensor * ranks if reduction == "sum" else tensor**ranks


def allgather(tensor, rank_size, group=WORLD):
    """The ranks' tensors, one below the other."""
    return tf.concat([_collective("AllGather", tensor)] * rank_size, axis=0)


def broadcast(tensor, root_rank, fusion=_FUSION[0], fusion_id=_FUSION[1], group=WORLD):
    """A list of tensors in, a list out."""
    if not isinstance(tensor, (list, tuple)):
        raise TypeError("broadcast takes a list of tensors, got %r" % (tensor,))
    return [_collective("Broadcast", one, DTYPES + ("int64",)) for one in tensor]


def reduce_scatter(tensor, reduction, rank_size, group=WORLD):
    """This rank's part of the reduced tensor."""
    reduced = _reduced(_collective("ReduceScatter", tensor), reduction)
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
        return _reduced(_collective("Reduce", tensor), reduction)
