# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Keras's session on the device of a run."""

import contextlib
import os

from swa.training import npu, npu_options
from swa.training.errors import FAILED, UserError, reason, shortened
from swa.training.remedies import remedies


def session_config(config, device):
    """The session's settings, from the configuration alone.

    Args:
      config: a checked Config.
      device: machine.Device.

    Returns:
      tf.ConfigProto; for an NPU with exactly one NpuOptimizer entry, because a second
      one would put precision_mode back to its default.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    proto = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    if device.name == "cpu":
        if device.world.size > 1:  # or each rank would take every core
            threads = max(1, len(os.sched_getaffinity(0)) // device.world.local_size)
            proto.intra_op_parallelism_threads = threads
            proto.inter_op_parallelism_threads = threads
        return proto
    optimizer = proto.graph_options.optimizer_options
    optimizer.global_jit_level = tf.compat.v1.OptimizerOptions.OFF
    rewriter = proto.graph_options.rewrite_options
    # Fused host kernels are no operators of the device.
    rewriter.remapping = RewriterConfig.OFF
    # As the vendor sets it from r1.6 on; the field is TensorFlow's, so older adapters
    # take it too. It is a MemOptType, whose 2 means MANUAL: the Toggle called OFF, also
    # 2, therefore asks for annotated swapping only, and ON, 1, for no optimisation.
    if config.memory_optimization == "vendor":
        rewriter.memory_optimization = RewriterConfig.OFF
    custom_op = rewriter.custom_optimizers.add()
    custom_op.name = "NpuOptimizer"
    for key, value in npu_options.wanted(config).items():
        if isinstance(value, bool):
            custom_op.parameter_map[key].b = value
        else:
            custom_op.parameter_map[key].s = os.fsencode(value)
    return proto


@contextlib.contextmanager
def opened(config, device):
    """Opens Keras's session in the default graph, and closes it whatever happens.

    To be entered before anything initialises a variable: Keras would open a session of
    its own, on the host. At the end Keras starts afresh, so this can be entered again.
    But an NPU keeps the precision_mode and the profiler's options of the process's
    first run.

    Args:
      config: a checked Config.
      device: machine.Device.

    Yields:
      The tf.Session.

    Raises:
      UserError: a directory for dumps or profiles cannot be made.
      UserError: an NPU failed in a way that has a known remedy.
    """
    import tensorflow as tf

    if device.name == "npu":
        npu.import_adapter()  # registers its graph passes: before the first session.run
        for path in npu_options.folders(config):  # which the adapter expects to find
            try:
                os.makedirs(path, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"data_save_path needs {path!r}, which cannot be made: "
                    f"{reason(error)}."
                ) from error
    proto = session_config(config, device)
    if device.name == "npu" and config.verbose >= 2:
        print(*proto.graph_options.rewrite_options.custom_optimizers)
    session = tf.compat.v1.Session(config=proto)
    try:
        tf.compat.v1.keras.backend.set_session(session)
        yield session
    except tf.errors.OpError as error:
        helps = remedies(error.message) if device.name == "npu" else []
        if not helps:
            raise
        words = shortened(" ".join(error.message.split())).rstrip(".")
        raise UserError(
            f"the NPU cannot run a graph: {words}; {helps[0]}.", FAILED
        ) from error
    finally:
        session.close()
        tf.compat.v1.keras.backend.clear_session()
