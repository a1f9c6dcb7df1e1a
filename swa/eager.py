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

from swa.exchange import Replaced
from swa.layers import batch_norms_of, check_supported, parts_of
from swa.moments import values_per_channel
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
        return self.trained_batch_norms(
            getattr(self.model, "_compiled_trainable_state", {})
        )

    def trained_batch_norms(self, flags=None):
        """As in graph mode.

        Args:
          flags: dict of layer -> whether it is trained, where not as `trainable` says.
        """
        is_trained, layers = (flags or {}).get, batch_norms_of(self.model)
        self._layers = [one for one in layers if is_trained(one, one.trainable)]
        for layer in self._layers:
            check_supported(layer)
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
        before = self.read()  # a user's layer may change its weights
        # a pass may be under way: its hooks stay, its batch is open or not as before
        replaced, was_open, self._is_open = Replaced(), self._is_open, True
        try:
            self._hook_layers(replaced, statistics)
            with eager_learning_phase_scope(1):
                for batch in batches:
                    self.model(self._tensors(batch), **options)
        finally:
            replaced.give_back()
            self.put(before)
            self._is_open = was_open

    def _tensors(self, batch):
        """A batch's rows as the model is called with them, of the types it wants."""
        inputs = tf.nest.flatten(self.model.inputs)
        names = [one.dtype.name for one in inputs if one is not None]
        rows = list(batch.values()) if isinstance(batch, dict) else batch
        if self.model._is_graph_network:  # a column may be for an input of one axis
            ranks = [one.shape.ndims for one in inputs]
            rows = [a.reshape(len(a)) if n == 1 else a for a, n in zip(rows, ranks)]
        if len(names) != len(rows) or isinstance(batch, dict):
            is_float = [np.issubdtype(one.dtype, np.floating) for one in rows]
            names = [tf.keras.backend.floatx() if f else None for f in is_float]
        tensors = [tf.constant(one, dtype) for one, dtype in zip(rows, names)]
        if isinstance(batch, dict):
            return dict(zip(batch, tensors))
        return tensors if len(tensors) > 1 else tensors[0]

    def _hook_layers(self, replaced, statistics):
        # what tf.config.experimental_run_functions_eagerly sets
        replaced.put(def_function, "RUN_FUNCTIONS_EAGERLY", True)
        for layer in self._layers:
            self._hook_layer(layer, replaced, statistics)
        for part in parts_of(self.model):
            # a wrapper that would else be called twice with the first time step
            if hasattr(part, "_always_use_reshape"):
                replaced.put(part, "_always_use_reshape", True)
            # so would a cell, unless its time steps are unrolled
            if batch_norms_of(getattr(part, "cell", None)):
                replaced.put(part, "unroll", True)

    def _hook_layer(self, layer, replaced, statistics):
        """The moments of each call go to `statistics`, and move nothing.

        Keras's `call` computes them in one of two methods, which get the inputs. It
        assigns the mean first, then the variance.
        """
        seen, assign = {}, layer._assign_moving_average

        def counting(compute):
            def compute_and_count(inputs, *args, **options):
                axes = set(range(len(inputs.shape))) - set(layer.axis)
                seen["count"] = values_per_channel(inputs.shape.as_list(), axes)
                return compute(inputs, *args, **options)

            return compute_and_count

        def hand_over(variable, value, *options):
            if not hasattr(value, "numpy"):  # a graph is traced, as for a saved model
                return assign(variable, value, *options)
            if variable is layer.moving_mean:
                seen["mean"] = value.numpy()
            elif self._is_open:
                is_unbiased = bool(layer.fused and layer._bessels_correction_test_only)
                statistics.add(
                    layer, variance=value.numpy(), is_unbiased=is_unbiased, **seen
                )
            return None

        replaced.put(layer, "_assign_moving_average", hand_over)
        for name in ("_moments", "_fused_batch_norm"):
            replaced.put(layer, name, counting(getattr(layer, name)))


def _assign(variable, value):
    """Sets a variable, as each batch does: Keras's own way takes five times as long."""
    value = np.asarray(value, variable.dtype.as_numpy_dtype)
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
