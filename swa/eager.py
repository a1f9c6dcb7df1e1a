# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How the callback takes part in `fit` in eager mode.

Keras keeps one compiled step per model and fetches it before training begins,
so it cannot be exchanged. For the batch-norm pass, functions run as Python:
the optimizer of this model then applies nothing, and its batch-norm layers
merge the moments of their inputs.
"""

import math

import tensorflow as tf
from tensorflow.python.eager import def_function  # 1.15 sets the switch, has no getter

from swa.layers import parts_of


class EagerStep:
    """The hooks on a model's eager training step, and their removal.

    It has the methods of `swa.graph.TrainFunction`.

    Args:
      model: a compiled model.
      learning_phase: function that tells whether a layer is training.
      has_rate: bool, whether the optimizer's rate can be set.
      statistics: list of `batch_norm.LayerStatistics` to merge in a pass.
    """

    def __init__(self, model, learning_phase, has_rate, statistics):
        self._model = model
        self._learning_phase = learning_phase
        self._has_rate = has_rate
        self._statistics = statistics
        self._wrappers = [
            p for p in parts_of(model) if hasattr(p, "_always_use_reshape")
        ]
        self._before = math.nan  # the rate that was put aside
        self._hooked = []  # (object, name of the method in its place)
        self._was_eager = None

    def ramp(self, rates):
        """The rate of the first batch; `set_rate` sets the others."""
        self.set_rate(rates[0])

    def set_rate(self, rate):
        """Sets the optimizer's rate, whether its variable exists yet or not."""
        self._model.optimizer.lr = rate

    def stop(self):
        """Puts the rate aside and makes it 0; no operations are left to run."""
        if self._has_rate:
            rate = self._model.optimizer.lr
            self._before = float(tf.keras.backend.get_value(rate))
            self.set_rate(0.0)
        return []

    def rate_before_stop(self):
        """float: the rate that `stop` put aside."""
        return self._before

    def hook(self, mode):
        """Hooks the step for the mode "plain", "ramp" or "pass"."""
        self.unhook()
        if mode != "pass":
            return
        self._was_eager = def_function.RUN_FUNCTIONS_EAGERLY
        tf.config.experimental_run_functions_eagerly(True)
        self._replace(self._model.optimizer, "apply_gradients", _apply_nothing)
        self.hook_layers()

    def hook_layers(self):
        """From now on the batch-norm layers merge what they are trained on."""
        for entry in self._statistics:
            self._replace(entry.layer, "call", self._merging_call(entry))
        for wrapper in self._wrappers:  # else called twice with the first time step
            self._replace(wrapper, "_always_use_reshape", True)

    def unhook(self):
        """Gives everything back as it was."""
        for owner, name, before in self._hooked[::-1]:
            vars(owner).pop(name, None)
            vars(owner).update(before)
        self._hooked = []
        if self._was_eager is not None:
            tf.config.experimental_run_functions_eagerly(self._was_eager)
            self._was_eager = None

    def follow(self):
        """Nothing to do: eager hooks are on the model's parts."""

    def prepare(self, mode):
        """Nothing to do: eager mode makes its operations as it runs."""

    def _replace(self, owner, name, method):
        # past Keras's __setattr__, which would track the method's variables
        before = {name: vars(owner)[name]} if name in vars(owner) else {}
        self._hooked.append((owner, name, before))
        vars(owner)[name] = method

    def _merging_call(self, entry):
        call = entry.layer.call

        def merging_call(inputs, training=None):
            outputs = call(inputs, training=training)
            if self._learning_phase() if training is None else training:
                channel = [
                    axis % inputs.shape.rank for axis in _as_list(entry.layer.axis)
                ]
                axes = [a for a in range(inputs.shape.rank) if a not in channel]
                entry.merge([(inputs, axes)])
            return outputs

        return merging_call


class ForwardPass:
    """A pass over given rows that merges the moments of what the layers see.

    Args:
      model: a built model.
      backend: its Keras's backend module.
      statistics: list of `batch_norm.LayerStatistics`.
    """

    def __init__(self, model, backend, statistics):
        self._model = model
        self._backend = backend
        self._step = EagerStep(model, backend.learning_phase, False, statistics)

    def run(self, batches):
        """Runs the model on each batch, a list of arrays, in training mode."""
        phase = self._backend.learning_phase()
        self._step.hook_layers()
        self._backend.set_learning_phase(1)
        try:
            for batch in batches:
                rows = [tf.convert_to_tensor(array) for array in batch]
                self._model(rows if len(rows) > 1 else rows[0])
        finally:
            self._backend.set_learning_phase(phase)
            self._step.unhook()


def _apply_nothing(grads_and_vars, name=None):
    del grads_and_vars, name


def _as_list(axis):
    return list(axis) if isinstance(axis, (list, tuple)) else [axis]
