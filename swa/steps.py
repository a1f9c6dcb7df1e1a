# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Graph or eager: the one place that asks."""

from swa.eager import EagerStep
from swa.graph import GraphStep


def step_of(keras, model):
    """The step of a built model in the mode that Keras is in now."""
    return EagerStep(keras, model) if keras.is_eager() else GraphStep(keras, model)
