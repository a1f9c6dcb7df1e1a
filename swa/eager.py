# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How SWA takes part in `fit` in eager mode.

Keras keeps one compiled step for each model and fetches it before training begins, so
that SWA cannot exchange it. In the batch-norm epoch every `tf.function` runs as Python
instead. The step then calls a method of SWA's in the place of gradients and optimizer,
and the batch-norm layers hand over the moments of their inputs.
"""

import math
import threading
import weakref

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import def_function  # 1.15 sets the switch, has no getter
from tensorflow.python.keras.backend import eager_learning_phase_scope
from tensorflow.python.keras.engine import training_utils

from swa.layers import batch_norms_of, check_supported, parts_of
from swa.lending import Attributes
from swa.moments import values_per_channel
from swa.optimizer_rate import OptimizerRate
from swa.running import is_array_loop_running

__all__ = ["EagerMode"]

RNN = tf.keras.layers.RNN


class PythonFunctions:
    """The process's switch by which every `tf.function` runs as Python.

    `tf.config.experimental_run_functions_eagerly` sets it too. It is on while it has
    any holder, because models in several threads may need it at once.
    """

    def __init__(self):
        self._lock = threading.RLock()  # a finalizer may run within `hold`
        self._holders = set()  # ids
        self._before = False

    def hold(self, holder):
        """Switches it on.

        Args:
          holder: object; once it is gone it holds the switch no more.
        """
        with self._lock:
            weakref.finalize(holder, self._release, id(holder))
            if not self._holders:
                self._before = def_function.RUN_FUNCTIONS_EAGERLY
            self._holders.add(id(holder))
            def_function.RUN_FUNCTIONS_EAGERLY = True

    def release(self, holder):
        """Restores the switch if `holder` is the last one."""
        self._release(id(holder))

    def _release(self, holder_id):
        with self._lock:
            if self._holders == {holder_id}:
                def_function.RUN_FUNCTIONS_EAGERLY = self._before
            self._holders.discard(holder_id)  # last, because a Ctrl-C may come before


_python_functions = PythonFunctions()


class EagerMode:
    """A model's training in eager mode, and what SWA changes of it.

    The methods of `swa.graph.GraphMode` are described there.
    """

    reads_on_after_a_stop = True

    def __init__(self, keras, model):
        self._keras, self.model = keras, model
        self.variables, self._layers = keras.weights(model), []
        self.rate = OptimizerRate(getattr(model, "optimizer", None), _read, _assign)
        self._next_rate = math.nan
        self._attributes = Attributes()  # exchanged in the pass
        self._receive = None  # of the pass
        self._is_in_batch = False  # whether a layer's call belongs to the batch

    def prepare(self, sets_rate):
        self.variables = self._keras.weights(self.model)
        flags = getattr(self.model, "_compiled_trainable_state", {})
        layers = self._find_layers(flags)
        if layers and not self.model.run_eagerly:
            self._check_step()
        return layers

    def _check_step(self):
        """Refuses what Keras trains by a compiled step that SWA cannot reach."""
        model = self.model
        if not model._experimental_run_tf_function:
            raise ValueError(
                f"experimental_run_tf_function must be left on in eager mode with "
                f"batch normalization when model {model.name!r} is compiled, got "
                f"False, as Keras sets it with an optimizer of tf.train, "
                f"sample_weight_mode or target_tensors. Use run_eagerly=True, or leave "
                f"them out."
            )
        if is_array_loop_running(model):
            raise ValueError(
                f"x must be arrays, tensors, a Sequence or a data set in eager mode "
                f"with batch normalization, because Keras trains model {model.name!r} "
                f"on other rows by a function that SWA cannot change. Of a DataFrame "
                f"give x.values, or compile the model with run_eagerly=True."
            )

    def trained_batch_norms(self):
        return self._find_layers({})

    def _find_layers(self, flags):
        """Finds the batch-norm layers that are trained.

        Args:
          flags: dict of layer -> whether it is trained. A layer that is not in it is
            trained if it is trainable.
        """
        is_trained = flags.get
        self._layers = [
            layer
            for layer in batch_norms_of(self.model)
            if is_trained(layer, layer.trainable)
        ]
        for layer in self._layers:
            check_supported(layer)
        self._check_cells()
        return self._layers

    def _check_cells(self):
        """Refuses a cell whose batch norm would see its first time step twice.

        Keras calls a cell once more to know what it returns, unless its RNN unrolls it.
        Only the `call` of RNN itself does.
        """
        for part in parts_of(self.model):
            if isinstance(part, RNN) and type(part).call is not RNN.call:
                norms = set(batch_norms_of(part.cell)).intersection(self._layers)
                for norm in norms:
                    raise ValueError(
                        f"batch-norm layer {norm.name!r} must be in a cell of "
                        f"tf.keras.layers.RNN in eager mode, got {part.name!r} of "
                        f"{type(part).__name__}. Freeze it before compile()."
                    )

    def read(self):
        return tf.keras.backend.batch_get_value(self.variables)

    def put(self, arrays):
        pairs = [(v, a) for v, a in zip(self.variables, arrays) if a is not None]
        tf.keras.backend.batch_set_value(pairs)

    def is_usable(self):
        return True

    def start_training(self):
        """Nothing to change: the host sets each rate."""

    def begin_batch(self, next_rate):
        self._next_rate, self._is_in_batch = next_rate, True

    def end_batch(self):
        self._is_in_batch = False
        rate = math.nan
        if not math.isnan(self._next_rate):
            rate = self.rate.value
            # an assignment costs 1 % of a small batch
            if np.float32(self._next_rate) != np.float32(rate):
                self.rate.value = self._next_rate
        return rate

    def start_pass(self, receive):
        self._receive = receive
        # Keras calls it in the place of gradients and optimizer
        self._attributes.put(self.model, "_backwards", self._end_forward)
        self._hook_model(self._attributes, self._receive_in_batch)
        _python_functions.hold(self)

    def _end_forward(self, tape, loss):
        self._is_in_batch = False  # others may call the layers before the next batch

    def give_back(self):
        self._attributes.give_back()
        _python_functions.release(self)

    def forward(self, batches, receive):
        options = {"training": True} if self.model._expects_training_arg else {}
        attributes = Attributes()
        weights = [np.array(array) for array in self.read()]
        try:
            self._hook_model(attributes, receive)
            _python_functions.hold(attributes)
            with eager_learning_phase_scope(1):
                for batch in batches:
                    self.model(self._tensors(batch), **options)
        finally:
            _python_functions.release(attributes)
            attributes.give_back()
            self.put(weights)  # a layer of the user's may count its calls

    def _tensors(self, batch):
        """A batch as Keras gives it to the model in `fit`, of the inputs' types."""
        if self.model.inputs:
            batch = tf.nest.pack_sequence_as(self.model.inputs, batch)
            batch = training_utils.cast_to_model_input_dtypes(batch, self.model)
        else:
            batch = training_utils.cast_if_floating_dtype(batch)
        is_single = isinstance(batch, list) and len(batch) == 1
        return batch[0] if is_single else batch

    def _hook_model(self, attributes, receive):
        """Has the layers hand over the moments of their inputs.

        Their own statistics do not move meanwhile.

        Args:
          attributes: Attributes, which gives the layers back.
          receive: function (layer, count, mean, variance, is_unbiased), called for
            each call of a layer.
        """
        for layer in self._layers:
            _hook_layer(layer, attributes, receive)
        for part in parts_of(self.model):
            # otherwise TimeDistributed calls its layer once more for the shape
            if hasattr(part, "_always_use_reshape"):
                attributes.put(part, "_always_use_reshape", True)
            # otherwise RNN calls its cell once more for the shape
            if hasattr(part, "cell") and batch_norms_of(part.cell):
                attributes.put(part, "unroll", True)

    def _receive_in_batch(self, *moments):
        if self._is_in_batch:
            self._receive(*moments)


def _hook_layer(layer, attributes, receive):
    """Has a layer hand over the moments of its inputs, as `_hook_model` says.

    Keras's `call` computes them in one of two methods, which get the inputs. It assigns
    the mean first, then the variance.
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
        else:
            is_unbiased = bool(layer.fused and layer._bessels_correction_test_only)
            receive(layer, seen["count"], seen["mean"], value.numpy(), is_unbiased)
        return None

    attributes.put(layer, "_assign_moving_average", hand_over)
    for name in ("_moments", "_fused_batch_norm"):
        attributes.put(layer, name, counting(getattr(layer, name)))


def _read(variable):
    """The value of a variable, each batch: Keras's own way takes four times as long."""
    dtype = variable.dtype.base_dtype
    return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=dtype).numpy()


def _assign(variable, value):
    """Sets a variable, as each batch does: Keras's own way takes five times as long."""
    value = np.asarray(value, variable.dtype.as_numpy_dtype)
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
