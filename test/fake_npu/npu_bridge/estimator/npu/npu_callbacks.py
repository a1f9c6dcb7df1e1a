# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback that hands out rank 0's weights; there from r1.6 on."""

import tensorflow as tf
from fake_device import settings
from npu_bridge.hccl import hccl_ops

if not settings.since("1.6"):
    raise ModuleNotFoundError("No module named %r" % __name__)


class NPUBroadcastGlobalVariablesCallback(tf.keras.callbacks.Callback):
    """Acts once, at the first batch, with several ranks; its root is always 0."""

    def __init__(self, root_rank):
        super().__init__()
        self._done = False

    def on_batch_begin(self, batch, logs=None):
        if self._done or hccl_ops.rank_size() == 1:
            return
        self._done = True
        variables = self.model.variables
        sent = hccl_ops.broadcast([variable.value() for variable in variables], 0)
        tf.compat.v1.keras.backend.get_session().run(
            [one.assign(value) for one, value in zip(variables, sent)]
        )
