# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Optimizers that reduce their gradients over the ranks."""

import os

import tensorflow as tf
from fake_device import settings
from npu_bridge.hccl import hccl_ops


def _mean(tensor):
    """The mean over the ranks; the vendor's cannot do without JOB_ID."""
    if os.environ.get("JOB_ID") is None:
        raise AttributeError("'NoneType' object has no attribute 'encode' (JOB_ID)")
    ranks = hccl_ops.rank_size()
    return tensor if ranks == 1 else hccl_ops.allreduce(tensor, "sum") / ranks


def _means(tensors):
    return [None if tensor is None else _mean(tensor) for tensor in tensors]


class _Wrapping(tf.compat.v1.train.Optimizer):
    """A tf.train optimizer around another."""

    def __init__(self, optimizer, name):
        super().__init__(use_locking=False, name=name or type(self).__name__)
        self._optimizer = optimizer

    def compute_gradients(self, *args, **kwargs):
        pairs = self._optimizer.compute_gradients(*args, **kwargs)
        return list(zip(_means([pair[0] for pair in pairs]), [p[1] for p in pairs]))

    def apply_gradients(self, *args, **kwargs):
        return self._optimizer.apply_gradients(*args, **kwargs)


class NPUOptimizer(_Wrapping):
    """Without its loss scale."""

    def __init__(
        self,
        opt,
        loss_scale_manager=None,
        is_distributed=False,
        is_loss_scale=False,
        is_tailing_optimization=False,
        name=None,
    ):
        super().__init__(opt, name)


if settings.since("1.3"):

    class NPUDistributedOptimizer(_Wrapping):
        """The mean over the ranks."""

        def __init__(self, optimizer, is_weight_update_sharding=False, name=None):
            super().__init__(optimizer, name)

    def allreduce(tensor, average=True):
        """Sum or mean over the ranks."""
        return _mean(tensor) if average else hccl_ops.allreduce(tensor, "sum")

    class KerasDistributeOptimizer(tf.keras.optimizers.Optimizer):
        """A Keras optimizer around another. It has no lr, as the vendor's has none."""

        def __init__(self, optimizer, name="NpuKerasOptimizer", **kwargs):
            super().__init__(name, **kwargs)
            self._inner = optimizer

        def get_gradients(self, loss, params):
            return _means(self._inner.get_gradients(loss, params))

        def apply_gradients(self, grads_and_vars, name=None):
            return self._inner.apply_gradients(grads_and_vars, name)

        def get_config(self):
            return self._inner.get_config()

else:

    class NPUDistributedOptimizer(_Wrapping):
        """The mean over the ranks."""

        def __init__(self, optimizer, name=None):
            super().__init__(optimizer, name)

    def allreduce(tensor, var, average=True):
        """Sum or mean over the ranks."""
        return _mean(tensor) if average else hccl_ops.allreduce(tensor, "sum")


if settings.since("1.6"):

    def npu_distributed_optimizer_wrapper(optimizer):
        """Patches the optimizer in place; does nothing for a single rank."""
        if isinstance(optimizer, str):
            optimizer = tf.keras.optimizers.get(optimizer)
        if hccl_ops.rank_size() > 1 and hasattr(optimizer, "get_gradients"):
            inner = optimizer.get_gradients
            optimizer.get_gradients = lambda loss, params: _means(inner(loss, params))
        return optimizer

    def npu_allreduce(
        values, reduction="mean", fusion=1, fusion_id=-1, group=hccl_ops.WORLD
    ):
        """Reduces one tensor or a list of them."""
        if isinstance(values, (list, tuple)):
            return [npu_allreduce(value, reduction) for value in values]
        if reduction == "mean":
            return _mean(values)
        return hccl_ops.allreduce(values, reduction)
