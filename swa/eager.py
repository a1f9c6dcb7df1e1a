# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How the callback takes part in `fit` in eager mode.

Keras keeps one compiled step per model and fetches it before training begins, so it
cannot be exchanged. For the pass, functions run as Python: no gradient is taken then,
and batch-norm layers hand the moments of their inputs over instead of keeping them.
"""

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import def_function  # 1.15 sets the switch, has no getter
from tensorflow.python.keras import backend as private_backend

from swa.layers import batch_norms_of, check_supported, parts_of
from swa.rates import set_rate


class EagerStep:
    """A model's training step in eager mode, and what SWA hangs on it.

    It has the methods of `swa.graph.GraphStep`, where they are described.
    """

    sets_rate_by_batch = True
    repeats_rows = True

    def __init__(self, keras, model):
        self._keras, self.model = keras, model
        self.optimizer = getattr(model, "optimizer", None)
        self.variables = keras.weights(model)
        self._layers = []
        self._replaced = []  # (object, name, value before or _ABSENT, value of ours)
        self._was_eager = None

    def prepare(self, has_rate):
        del has_rate
        self.variables = self._keras.weights(self.model)
        trained = getattr(self.model, "_compiled_trainable_state", {})
        return self._found(lambda layer: trained.get(layer, layer.trainable))

    def find(self):
        return self._found(lambda layer: layer.trainable)

    def has_weights(self):
        return bool(self.model.built and self.model.weights)

    def read(self):
        return self._keras.backend.batch_get_value(self.variables)

    def put(self, arrays):
        pairs = [(v, a) for v, a in zip(self.variables, arrays) if a is not None]
        self._keras.backend.batch_set_value(pairs)

    def is_usable(self):
        return True

    @property
    def rate(self):
        return float(self._keras.backend.get_value(self.optimizer.lr))

    @rate.setter
    def rate(self, value):
        set_rate(self._keras, self.optimizer, value)

    def start_rates(self, rates, note):
        """Nothing to do: each rate is set before its batch."""

    def start_pass(self, statistics):
        self.stop()
        self._was_eager = def_function.RUN_FUNCTIONS_EAGERLY
        tf.config.experimental_run_functions_eagerly(True)
        # Keras calls it in the place of gradients and optimizer
        self._replace(self.model, "_backwards", lambda tape, loss: None)
        self._hook_layers(statistics)

    def stop(self):
        while self._replaced:
            owner, name, before, ours = self._replaced[-1]
            if vars(owner).get(name) is ours:
                if before is _ABSENT:
                    vars(owner).pop(name, None)
                else:
                    vars(owner)[name] = before
            self._replaced.pop()
        if self._was_eager is not None:
            tf.config.experimental_run_functions_eagerly(self._was_eager)
            self._was_eager = None

    def follow(self):
        """Nothing to do: all that is changed is on the model's parts."""

    def forward(self, batches, statistics):
        self._hook_layers(statistics)
        options = {"training": True} if self.model._expects_training_arg else {}
        try:
            with private_backend.eager_learning_phase_scope(1):
                for batch in batches:
                    self.model(self._inputs(batch), **options)
        finally:
            self.stop()

    def _found(self, is_trained):
        layers = [layer for layer in batch_norms_of(self.model) if is_trained(layer)]
        for layer in layers:
            check_supported(layer)
            _check_call(layer)
        self._layers = layers
        return layers

    def _inputs(self, batch):
        """A batch's rows as the model is called with them."""
        floatx = self._keras.backend.floatx()
        dtypes = [tensor.dtype.name for tensor in self.model.inputs or ()]

        def tensor(rows, dtype=None):
            rows = np.asarray(rows)
            is_float = np.issubdtype(rows.dtype, np.floating)
            return tf.constant(rows, dtype or (floatx if is_float else None))

        if isinstance(batch, dict):
            return {name: tensor(rows) for name, rows in batch.items()}
        dtypes = dtypes if len(dtypes) == len(batch) else [None] * len(batch)
        rows = [tensor(*pair) for pair in zip(batch, dtypes)]
        return rows if len(rows) > 1 else rows[0]

    def _hook_layers(self, statistics):
        for layer in self._layers:
            moments = {}
            note = _noting(layer, moments)
            self._replace(layer, "_assign_moving_average", note)
            self._replace(layer, "call", _handing_over(layer, moments, statistics))
        for part in parts_of(self.model):
            # a wrapper that would else be called twice with the first time step
            if hasattr(part, "_always_use_reshape"):
                self._replace(part, "_always_use_reshape", True)

    def _replace(self, owner, name, ours):
        # past Keras's __setattr__, which would track the method's variables
        self._replaced.append((owner, name, vars(owner).get(name, _ABSENT), ours))
        vars(owner)[name] = ours


_ABSENT = object()


def _noting(layer, moments):
    """In the place of `_assign_moving_average`: keeps the moments, moves nothing."""
    assign = layer._assign_moving_average

    def note(variable, value, momentum, inputs_size):
        if not hasattr(value, "numpy"):  # a graph is traced, to be saved for example
            return assign(variable, value, momentum, inputs_size)
        moments["mean" if variable is layer.moving_mean else "variance"] = value
        return None

    return note


def _handing_over(layer, moments, statistics):
    """In the place of `call`: the same, and the moments go to `statistics`."""
    call = layer.call

    def call_and_hand_over(inputs, *args, **options):
        moments.clear()
        outputs = call(inputs, *args, **options)
        if len(moments) == 2:
            shape = inputs.shape.as_list()
            channels = [axis % len(shape) for axis in layer.axis]
            sizes = [n for axis, n in enumerate(shape) if axis not in channels]
            statistics.add(
                layer,
                int(np.prod(sizes, dtype=np.int64)),
                moments["mean"].numpy(),
                moments["variance"].numpy(),
                bool(layer.fused and layer._bessels_correction_test_only),
            )
        return outputs

    return call_and_hand_over


def _check_call(layer):
    """Refuses a layer that does not leave its statistics to Keras's batch norm."""
    owners = [c for c in type(layer).__mro__ if "call" in vars(c)]
    own = [c for c in owners if not c.__module__.startswith("tensorflow")]
    is_handed_on = all("call" in vars(c)["call"].__code__.co_names for c in own)
    if not hasattr(layer, "_assign_moving_average") or not is_handed_on:
        raise ValueError(
            f"batch-norm layer {layer.name!r} must leave its moments to "
            f"BatchNormalization in eager mode, where SWA can see no others, got "
            f"{type(layer).__name__}. Freeze the layer, or train in graph mode."
        )
