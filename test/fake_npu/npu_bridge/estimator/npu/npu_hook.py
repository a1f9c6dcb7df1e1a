# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Hooks of the Estimator interface, which Keras does not use: names only."""

import tensorflow as tf


class NPUBroadcastGlobalVariablesHook(tf.estimator.SessionRunHook):
    """Does nothing."""

    def __init__(self, root_rank=None, index=None):
        self.root_rank = root_rank


class NPUCheckpointSaverHook(tf.estimator.CheckpointSaverHook):
    """TensorFlow's own."""


class NPUOutputTensorHook(tf.estimator.LoggingTensorHook):
    """TensorFlow's own."""
