# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How SWA takes part in `fit` in graph mode: through the train function.

The session call of a batch also sets the rate of the next batch, or, in the batch-norm
epoch, fetches the batch's moments and trains nothing.
"""

import contextlib
import math
from collections import namedtuple

import tensorflow as tf
from tensorflow.python.keras.backend import get_session  # `tf.keras` warns of its own

from swa import moment_search, moments
from swa.layers import (
    batch_norms_of,
    check_training_mode,
    parts_of,
    statistics_of,
)
from swa.optimizer_rate import OptimizerRate
from swa.rows import check_shapes
from swa.running import is_array_loop_running
from swa.train_function import Forms, is_of_keras

__all__ = ["GraphMode"]

# The operations by which a batch sets the next one's rate: the rate that it used,
# negated; its updates, which end by setting the rate; the placeholder of that rate.
_RateOps = namedtuple("_RateOps", "negated_rate updates_op placeholder")
_NO_RATE_OPS = _RateOps(None, None, None)


class GraphMode:
    """A model's training in graph mode, and what SWA changes of it.

    `swa.eager.EagerMode` has the same methods.

    Args:
      keras: the binding's `swa.callback.Keras`.
      model: a `Model`.

    Attributes:
      model: as given.
      variables: list of the model's weights, in `get_weights()` order.
      rate: `swa.optimizer_rate.OptimizerRate` of the model's optimizer.
      reads_on_after_a_stop: bool, whether an epoch after one that was stopped in its
        midst reads on where that one ended, and not from the first row.
    """

    reads_on_after_a_stop = False

    def __init__(self, keras, model):
        self._keras, self.model = keras, model
        self.variables = keras.weights(model)
        backend = keras.module.backend
        self.rate = OptimizerRate(
            getattr(model, "optimizer", None),
            backend.get_value,
            lambda variable, value: _initialize([(variable, value)]),
        )
        self._calls = []  # of moment_search.BatchNormCall
        self._phase = backend.learning_phase()  # an int, where the user has fixed it
        self._function, self._forms = None, Forms(None)
        self._forms_of_other = Forms(None)  # of a train function beside that of `fit`
        self._next_rate = math.nan
        self._rate_ops = _NO_RATE_OPS  # others while the batches are fed the next rate
        self._receive = None  # of the pass

    def prepare(self, sets_rate):
        """Finds the trained batch-norm layers, and makes the operations of training.

        Args:
          sets_rate: bool, whether SWA sets the rate of training.

        Returns:
          List of the layers whose statistics training moves.

        Raises:
          ValueError: a layer whose moments cannot be proved, a train function of the
            user's own where there are such layers, or a finalized graph.
        """
        self.variables = self._keras.weights(self.model)
        if self.model.train_function is None:
            self.model._make_train_function()
        self._function = self.model.train_function
        self._forms = Forms(self._function)
        is_known = is_of_keras(self._function)
        layers = self._find_layers(
            [self._function.updates_op] if is_known else self._keras.updates(self.model)
        )
        check_training_mode(self.model, layers, self._runs_training())
        if layers and not is_known:
            raise ValueError(
                f"model.train_function must be Keras's own for a model with batch "
                f"normalization, whose last epoch SWA changes, got {self._function!r}. "
                f"Call model.compile() again, or freeze batch normalization."
            )
        # all operations are made here, so that none is added while the model trains
        if sets_rate and self._can_set_next_rate():
            self._rate_ops_of_function()
        if layers:
            self._pass_updates(self._function)
        if not self._feeds_initial_values():
            _check_not_finalized(self.variables[0].graph)
            self.put(self.read())  # Keras makes its assignments at the first `put`
        return layers

    def trained_batch_norms(self):
        """Finds the batch-norm layers that are trainable by their current flags.

        Returns:
          List of the layers whose statistics training would move.

        Raises:
          ValueError: a layer whose moments cannot be proved, or a model that cannot
            run in training mode.
        """
        trained = batch_norms_of(self.model, only_trainable=True)
        check_training_mode(self.model, trained, self._runs_training())
        return self._find_layers(self._keras.updates(self.model))

    def _find_layers(self, updates):
        """Finds the layers whose statistics some updates move, and their moments.

        Args:
          updates: list of operations.

        Returns:
          List of the layers.
        """
        outputs = tf.nest.flatten(getattr(self.model, "outputs", None) or ())
        ops = moment_search.leaves([*updates, *outputs])
        trained = batch_norms_of(self.model, only_trainable=True)
        moment_search.check_outside_functions(trained, ops)
        layers = batch_norms_of(self.model)
        self._calls = [
            call
            for call in moment_search.batch_norm_calls(updates, layers)
            # a phase that was fixed later is not fed: such a call trains nothing
            if not (call.follows_phase and isinstance(self._phase, int))
        ]
        return list(dict.fromkeys(call.layer for call in self._calls))

    def read(self):
        """The weights as a list of arrays, which may share the variables' memory."""
        return self._keras.module.backend.batch_get_value(self.variables)

    def put(self, arrays):
        """Sets the weights, in one session call.

        Args:
          arrays: list of arrays in the order of `variables`; None leaves one as it is.
        """
        pairs = [(v, a) for v, a in zip(self.variables, arrays) if a is not None]
        if self._feeds_initial_values():
            _initialize(pairs)
        else:
            self._keras.module.backend.batch_set_value(pairs)

    def is_usable(self):
        """Whether the session of this graph is still there."""
        session = get_session()
        is_ours = not self.variables or session.graph is self.variables[0].graph
        return is_ours and not getattr(session, "_closed", False)

    def start_training(self):
        """From now on each batch sets the next one's rate, if the function lets it."""
        self.give_back()
        self._take_new_function()
        if self._can_set_next_rate():
            ops = self._rate_ops_of_function()
            feed_dict = {ops.placeholder: 0.0}  # `begin_batch` sets the value
            self._forms.change([ops.negated_rate], ops.updates_op, feed_dict)
            self._rate_ops = ops

    def start_pass(self, receive):
        """From now on batches train nothing, and hand over their moments.

        A callback may train by another function than `fit`: it trains nothing either.

        Args:
          receive: function, as of `forward`.
        """
        self.give_back()
        self._take_new_function()
        self._receive = receive
        function, other = self._function, self.model.train_function
        updates = self._pass_updates(function)
        self._forms.change(self._fetches(), updates, function.feed_dict)
        if other is not function and is_of_keras(other):
            self._forms_of_other = Forms(other)
            self._forms_of_other.change([], self._pass_updates(other), other.feed_dict)

    def begin_batch(self, next_rate):
        """A batch begins.

        Args:
          next_rate: float, set once the batch has used its own; nan: the user sets it.
        """
        self._forms.values.clear()
        self._next_rate = next_rate
        if self._rate_ops is not _NO_RATE_OPS:
            self._function.feed_dict[self._rate_ops.placeholder] = next_rate

    def end_batch(self):
        """A batch has ended. In the pass its moments are handed over.

        Returns:
          float, the rate that it used; nan where it is not known.

        Raises:
          ValueError: the model was compiled anew in the midst of training.
        """
        values = dict(self._forms.values)
        self._forms.values.clear()
        self._hand_over_moments(values, self._receive)
        if self._rate_ops.negated_rate in values:
            return -float(values[self._rate_ops.negated_rate])
        if math.isnan(self._next_rate):
            return math.nan
        self._check_optimizer()
        rate = self.rate.value
        self.rate.value = self._next_rate
        return rate

    def _take_new_function(self):
        """Takes the train function that Keras has made anew, where `fit` runs it.

        Keras makes it for the first sample weights. Its loop over arrays goes on with
        the function that it began with.
        """
        self._check_optimizer()
        is_new = self.model.train_function is not self._function
        if is_new and not is_array_loop_running(self.model):
            layers = {call.layer for call in self._calls}
            if layers != set(self.prepare(sets_rate=False)):
                raise ValueError(
                    f"model {self.model.name!r} must train the same batch-norm layers "
                    f"while fit with SWA runs, got others. Call compile() before fit."
                )

    def _check_optimizer(self):
        if self.model.optimizer is not self.rate.optimizer:
            raise ValueError(
                f"model {self.model.name!r} must keep its optimizer while fit with SWA "
                f"runs, got {self.model.optimizer!r}. Call compile() before fit."
            )

    def give_back(self):
        """Gives the train function back as it was."""
        self._forms.give_back()
        self._forms_of_other.give_back()
        self._rate_ops = _NO_RATE_OPS

    def forward(self, batches, receive):
        """Runs the model on each batch in training mode; no weight changes.

        Args:
          batches: iterator of `swa.rows.Rows.batches`.
          receive: function (layer, count, mean, variance, is_unbiased), called for
            each call of a batch-norm layer in each batch.

        Raises:
          ValueError: on an NPU, a batch of other shapes than the first.
        """
        inputs, fetches = self.model._feed_inputs, self._fetches()
        for arrays in batches:
            check_shapes(get_session(), fetches, arrays)
            feeds = dict(zip(inputs, arrays))
            if not isinstance(self._phase, int):
                feeds[self._phase] = True
            values = get_session().run(fetches, feeds)
            self._hand_over_moments(dict(zip(fetches, values)), receive)

    # The operations of a form, made once for what the train function runs

    def _can_set_next_rate(self):
        """Whether the train function can be fed a rate: else the host sets each one.

        Keras sorts the keys of `feed_dict`. Two tensors cannot be compared, so SWA
        cannot add one to those of the user.
        """
        return is_of_keras(self._function) and not self._function.feed_dict

    def _rate_ops_of_function(self):
        function, rate = self._function, self.rate.variable
        # a metric may read the rate, so that all of these come before it changes
        fetched = [*function.outputs, *function.fetches]

        def make():
            placeholder = tf.compat.v1.placeholder(rate.dtype.base_dtype, ())
            # negated, because a plain read shares memory with a reference variable
            negated_rate = -rate.read_value()
            before = [function.updates_op, negated_rate, *fetched]
            with tf.control_dependencies(before):
                updates_op = rate.assign(placeholder, read_value=False)
            return _RateOps(negated_rate, updates_op, placeholder)

        return self._made_once(
            function, [moment_search.variable_op(rate), *fetched], make
        )

    def _pass_updates(self, function):
        """The operation of the pass's updates: the layers' own but for statistics."""
        parts = parts_of(self.model) + self.model.metrics
        layer_updates = [
            update for part in parts for update in getattr(part, "_updates", None) or ()
        ]
        layer_ops = set(moment_search.leaves(layer_updates))
        variable_op = moment_search.variable_op
        # stand-alone Keras has pairs of a variable and its new value too
        pairs = [update for update in layer_updates if isinstance(update, tuple)]
        layer_variables = {variable_op(variable) for variable, _ in pairs}
        statistics = {
            variable_op(variable)
            for call in self._calls
            for variable in statistics_of(call.layer)
        }

        def is_kept(update):
            assigned = set(moment_search.assignments_of(update))
            is_of_layer = update in layer_ops or not assigned.isdisjoint(
                layer_variables
            )
            return is_of_layer and assigned.isdisjoint(statistics)

        updates = moment_search.leaves([function.updates_op])
        kept = [update for update in updates if is_kept(update)]
        return self._made_once(function, self._fetches(), lambda: tf.group(*kept))

    def _made_once(self, function, key, make):
        """What `make` makes; kept with the train function that it is made for."""
        operations = vars(function).setdefault("_swa_operations", {})
        key = (function.updates_op, *key)
        if key not in operations:
            with self._building():
                operations[key] = make()
        return operations[key]

    # Moments

    def _fetches(self):
        """The tensors that `_hand_over_moments` needs, each once."""
        fetches = []
        for call in self._calls:
            shape = self._shape(call.inputs)
            fetches += [call.mean, call.variance]
            fetches += [shape] if isinstance(shape, tf.Tensor) else []
        return list(dict.fromkeys(fetches))

    def _shape(self, inputs):
        """The shape of a tensor: a list where it is known, else a tensor, made once."""
        shape = inputs.shape.as_list()
        if None not in shape:
            return shape
        if not hasattr(inputs, "_swa_shape"):
            with self._building():
                inputs._swa_shape = tf.shape(inputs, out_type=tf.int64)
        return inputs._swa_shape

    def _hand_over_moments(self, values, receive):
        """Hands over the moments of each call of a layer.

        Args:
          values: dict of arrays, by the tensor that was fetched; empty: no moments.
          receive: function, as of `forward`.
        """
        for call in self._calls:
            if call.mean not in values:
                continue
            shape = self._shape(call.inputs)
            if isinstance(shape, tf.Tensor):
                shape = values[shape]
            count = moments.values_per_channel(shape, call.axes)
            mean, variance = values[call.mean], values[call.variance]
            receive(call.layer, count, mean, variance, call.is_unbiased)

    # Small things

    def _runs_training(self):
        """Whether the model can run in training mode as it is now."""
        is_off = isinstance(self._phase, int) and not self._phase
        return bool(self.model.inputs) and not is_off  # without inputs it is not built

    def _feeds_initial_values(self):
        """Whether each weight has an initial value that can be fed for it alone."""
        values = [variable.initializer.inputs[1] for variable in self.variables]
        is_feedable = all(value.graph.is_feedable(value) for value in values)
        return is_feedable and len(set(values)) == len(values)

    @contextlib.contextmanager
    def _building(self):
        """Where operations are made, whatever scopes the caller is in."""
        graph = self.variables[0].graph
        _check_not_finalized(graph)
        with graph.as_default(), tf.control_dependencies(None), tf.name_scope("swa"):
            yield


def _check_not_finalized(graph):
    if graph.finalized:
        raise ValueError(
            f"graph must not be finalized before fit, because SWA adds operations to "
            f"it when training begins, got {graph!r}."
        )


def _initialize(pairs):
    """Sets variables: an initializer assigns what it is fed, no operation is added."""
    feeds = {variable.initializer.inputs[1]: value for variable, value in pairs}
    initializers = [variable.initializer for variable, _ in pairs]
    get_session().run(initializers, feeds)
