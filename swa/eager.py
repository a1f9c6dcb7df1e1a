# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How the callback takes part in `fit` in eager mode.

Keras keeps one compiled step per model and fetches it before training begins, so it
cannot be exchanged. For a pass, functions run as Python: no gradient is taken then,
and batch-norm layers hand the moments of their inputs over instead of keeping them.
"""

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import def_function  # 1.15 sets the switch, has no getter
from tensorflow.python.keras.backend import eager_learning_phase_scope
from tensorflow.python.keras.engine import training_utils

from swa.exchange import Replaced
from swa.layers import batch_norms_of, check_supported, parts_of
from swa.rates import OptimizerRate


class EagerStep:
    """A model's training step in eager mode, and what SWA hangs on it.

    It has the methods of `swa.graph.GraphStep`, where they are described, but not
    `start_rates`: here each rate is set before its batch.
    """

    sets_rate_by_batch, repeats_rows, runs_training = True, True, True

    def __init__(self, keras, model):
        self._keras, self.model = keras, model
        self.optimizer = getattr(model, "optimizer", None)
        self.variables, self._layers = keras.weights(model), []
        read = keras.module.backend.get_value
        self.rate = OptimizerRate(self.optimizer, read, _assign)
        self._replaced, self._is_open = Replaced(), False

    def prepare(self, sets_rate):
        self.variables = self._keras.weights(self.model)
        return self.find(getattr(self.model, "_compiled_trainable_state", {}))

    def find(self, flags=None):
        """As in graph mode; `flags`: whether layers are trained, where not as now."""
        is_trained, layers = (flags or {}).get, batch_norms_of(self.model)
        self._layers = [one for one in layers if is_trained(one, one.trainable)]
        for layer in self._layers:
            check_supported(layer)
            own = [
                c.call
                for c in type(layer).__mro__
                if "call" in vars(c) and not c.__module__.startswith("tensorflow")
            ]
            # a class of the user's must hand its inputs on to Keras's own `call`
            is_handed_on = all("call" in _names_in(call) for call in own)
            if not (hasattr(layer, "_assign_moving_average") and is_handed_on):
                raise ValueError(
                    f"batch-norm layer {layer.name!r} must leave its moments to "
                    f"BatchNormalization in eager mode, where SWA can see no others, "
                    f"got {type(layer).__name__}. Freeze it, or train in graph mode."
                )
        return self._layers

    def read(self):
        return tf.keras.backend.batch_get_value(self.variables)

    def put(self, arrays):
        pairs = [(v, a) for v, a in zip(self.variables, arrays) if a is not None]
        tf.keras.backend.batch_set_value(pairs)

    def is_usable(self):
        return True

    def begin_batch(self, next_rate):
        self._is_open = True

    def start_pass(self, statistics):
        inputs = tf.nest.flatten(self.model.inputs or [])
        if any(one.shape.ndims == 1 for one in inputs):
            # run as Python, Keras would make such an input a column
            self._replaced.put(self.model, "_run_eagerly", self.model.run_eagerly)
        # Keras calls it in the place of gradients and optimizer
        self._replaced.put(self.model, "_backwards", self._end_batch)
        self._hook_layers(self._replaced, statistics)

    def _end_batch(self, tape, loss):
        self._is_open = False  # others may call the layers before the next one

    def stop(self):
        self._replaced.give_back()

    def follow(self):
        """Nothing to do: all that is changed is on the model's parts."""

    def forward(self, batches, statistics):
        options = {"training": True} if self.model._expects_training_arg else {}
        # a pass may be under way: its hooks stay, its batch is open or not as before
        replaced, was_open, self._is_open = Replaced(), self._is_open, True
        try:
            self._hook_layers(replaced, statistics)
            with eager_learning_phase_scope(1):
                for batch in batches:
                    self.model(self._tensors(batch), **options)
        finally:
            replaced.give_back()
            self._is_open = was_open

    def _tensors(self, batch):
        """A batch as Keras gives it to the model in `fit`, of the inputs' types."""
        if self.model.inputs:
            batch = tf.nest.pack_sequence_as(self.model.inputs, batch)
            batch = training_utils.cast_to_model_input_dtypes(batch, self.model)
        else:
            batch = training_utils.cast_if_floating_dtype(batch)
        is_single = isinstance(batch, list) and len(batch) == 1
        return batch[0] if is_single else batch

    def _hook_layers(self, replaced, statistics):
        # what tf.config.experimental_run_functions_eagerly sets
        replaced.put(def_function, "RUN_FUNCTIONS_EAGERLY", True)
        for layer in self._layers:
            self._hook_layer(layer, replaced, statistics)
        for part in parts_of(self.model):
            # a wrapper that would else be called twice with the first time step
            if hasattr(part, "_always_use_reshape"):
                replaced.put(part, "_always_use_reshape", True)

    def _hook_layer(self, layer, replaced, statistics):
        """The moments of each call go to `statistics`, and move nothing."""
        moments, assign, call = {}, layer._assign_moving_average, layer.call

        def note(variable, value, *options):
            if not hasattr(value, "numpy"):  # a graph is traced, as for a saved model
                return assign(variable, value, *options)
            is_mean = variable is layer.moving_mean
            moments["mean" if is_mean else "variance"] = value.numpy()
            return None

        def call_and_hand_over(inputs, *args, **options):
            moments.clear()
            outputs = call(inputs, *args, **options)
            if self._is_open and len(moments) == 2:
                shape = inputs.shape.as_list()
                channels = np.prod([shape[axis] for axis in layer.axis], dtype=np.int64)
                count = int(np.prod(shape, dtype=np.int64) // max(channels, 1))
                is_unbiased = bool(layer.fused and layer._bessels_correction_test_only)
                statistics.add(layer, count, is_unbiased=is_unbiased, **moments)
            return outputs

        replaced.put(layer, "_assign_moving_average", note)
        replaced.put(layer, "call", call_and_hand_over)


def _names_in(call):
    """What a function or a `tf.function` names; nothing where it is another thing."""
    is_function = isinstance(call, def_function.Function)
    code = getattr(call.python_function if is_function else call, "__code__", None)
    return getattr(code, "co_names", ())


def _assign(variable, value):
    """Sets a variable, as each batch does: Keras's own way takes five times as long."""
    value = np.asarray(value, variable.dtype.as_numpy_dtype)
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
