# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The fake's npu_init: each section exists from its release on (see __init__)."""
# ruff: noqa: E402, F401, F811, I001

# since 1.1
from npu_bridge.estimator import npu_ops, npu_unary_ops
from npu_bridge.estimator.npu import keras_to_npu, npu_scope
from npu_bridge.estimator.npu.npu_config import (
    DumpConfig,
    NPURunConfig,
    ProfilingConfig,
)
from npu_bridge.estimator.npu.npu_loss_scale_manager import (
    ExponentialUpdateLossScaleManager,
    FixedLossScaleManager,
)
from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer, NPUOptimizer
from npu_bridge.hccl import hccl_ops
from hccl.manage.api import (
    create_group,
    destroy_group,
    get_group_rank_from_world_rank,
    get_local_rank_id,
    get_local_rank_size,
    get_rank_id,
    get_rank_size,
    get_world_rank_from_group_rank,
)
from hccl.split.api import set_split_strategy_by_idx, set_split_strategy_by_size
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

# since 1.2
from npu_bridge.estimator.npu.npu_config import DynamicInputConfig

# since 1.3
import os
import tensorflow as tf
from tensorflow.python.client import session
from npu_bridge.estimator.npu.npu_hook import NPUBroadcastGlobalVariablesHook
from npu_bridge.estimator.npu.npu_optimizer import KerasDistributeOptimizer
from fake_device import runtime, settings

_resource_is_up = False


def npu_config_proto(config_proto=None):
    """The configuration with the vendor's settings.

    r1.3 always appends a bare entry; later releases use the one that is there.
    """
    proto = config_proto or tf.compat.v1.ConfigProto()
    proto.allow_soft_placement = True
    proto.log_device_placement = False
    optimizer = proto.graph_options.optimizer_options
    optimizer.global_jit_level = tf.compat.v1.OptimizerOptions.OFF
    rewriter = proto.graph_options.rewrite_options
    rewriter.remapping = RewriterConfig.OFF
    if settings.since("1.6"):
        rewriter.memory_optimization = RewriterConfig.OFF
    has_entry = any(one.name == "NpuOptimizer" for one in rewriter.custom_optimizers)
    if not has_entry or not settings.since("1.5"):
        rewriter.custom_optimizers.add().name = "NpuOptimizer"
    return proto


def set_keras_session_npu_config(config=None):
    """Makes Keras's session one of the NPU's, and returns it."""
    keras_session = session.Session(config=npu_config_proto(config))
    tf.compat.v1.keras.backend.set_session(keras_session)
    return keras_session


def init_resource():
    """Brings HCCL up, with the built-in options."""
    return _init_resource(None)


def _init_resource(config):
    global _resource_is_up
    system = session.Session(config=npu_config_proto(config))
    system.run(npu_ops.initialize_system())
    _resource_is_up = True
    return system, npu_ops.shutdown_system()


def shutdown_resource(sess, npu_shutdown):
    """Takes HCCL down."""
    global _resource_is_up
    sess.run(npu_shutdown)
    _resource_is_up = False


def close_session(sess):
    """Closes the session of init_resource."""
    sess.close()


def _need_resource():
    if not _resource_is_up:
        raise NameError("init_resource has not run")


def get_npu_rank_id():
    """This process's rank."""
    _need_resource()
    return get_rank_id()


def get_npu_local_rank_id():
    """This process's rank on its server."""
    _need_resource()
    return get_local_rank_id()


def get_npu_rank_size():
    """The number of ranks."""
    _need_resource()
    return get_rank_size()


def npu_keras_optimizer(opt):
    """The optimizer with reduced gradients; it has no lr."""
    return KerasDistributeOptimizer(opt)


def npu_tf_optimizer(opt):
    """A tf.train optimizer with reduced gradients."""
    return NPUDistributedOptimizer(opt)


# since 1.5
def init_resource(config=None):
    """Brings HCCL up, with the training's options."""
    return _init_resource(config)


# since 1.6
from npu_bridge.estimator.npu.npu_callbacks import NPUBroadcastGlobalVariablesCallback
from npu_bridge.estimator.npu.npu_optimizer import (
    npu_allreduce,
    npu_distributed_optimizer_wrapper,
)


def npu_callbacks_append(callbacks_list=None):
    """The list itself, the broadcast appended; of what is no list, nothing is kept."""
    if not isinstance(callbacks_list, list):
        callbacks_list = []
    callbacks_list.append(NPUBroadcastGlobalVariablesCallback(0))
    return callbacks_list


def npu_clear_session(config=None):
    """Keras's clear_session, with an NPU session afterwards."""
    tf.compat.v1.keras.backend.clear_session()
    set_keras_session_npu_config(config)


# since 1.8
def get_npu_local_rank_size():
    """The number of ranks on this server."""
    _need_resource()
    return get_local_rank_size()
