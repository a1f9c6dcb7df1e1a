# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How the callback takes part in `fit` in graph mode: through the train function.

Keras runs one function a batch. Its public `fetches`, `fetch_callbacks` and
`updates_op` let the rate's next value be computed, or the batch moments fetched, in
the same session call. Each set of these is a form of the call, built once.
"""

import contextlib
from typing import Any, List, NamedTuple

import numpy as np
import tensorflow as tf

from swa import moment_search
from swa.layers import batch_norms_of, parts_of
from swa.rates import set_rate

# What Keras keeps of a call that it has built, names of 1.15; what tells it that the
# call is another one comes last.
_BUILT = "_callable_fn _feed_arrays _feed_symbols _symbol_vals _session".split()
_BUILT.append("_fetches")


class GraphStep:
    """A model's training step in graph mode, and what SWA hangs on it.

    `swa.eager.EagerStep` has the same methods.

    Args:
      keras: the binding's `swa.callback.Keras`.
      model: a compiled and built model.

    Attributes:
      variables: list of the model's weights, in `get_weights()` order.
      sets_rate_by_batch: bool, whether `before_batch` must set each rate.
      repeats_rows: bool, whether an epoch cut short may go on into the next one.
    """

    repeats_rows = False

    def __init__(self, keras, model):
        self._keras, self.model = keras, model
        self.optimizer = getattr(model, "optimizer", None)
        self.variables = keras.weights(model)
        self.sets_rate_by_batch = True  # until `prepare` knows better
        self._uses = {}  # list of moment_search.Use by layer
        self._hooked = None  # the form that the train function has now
        self._start = None  # (function of an epoch's rates, note) in force

    def prepare(self, has_rate):
        """Finds the batch-norm layers that are trained, and makes all operations.

        Args:
          has_rate: bool, whether the optimizer's rate can be set.

        Returns:
          List of the layers whose statistics training moves.

        Raises:
          ValueError: a layer whose moments cannot be proved, or a train function of
            the user's own where there are such layers.
        """
        model = self.model
        self.variables = self._keras.weights(model)
        if model.train_function is None:
            model._make_train_function()
        function = model.train_function
        is_own = hasattr(function, "fetch_callbacks")  # Keras's, not a user's
        updates = [function.updates_op] if is_own else self._keras.updates(model)
        self._uses = self._find(updates)
        self.sets_rate_by_batch = not is_own
        if not is_own and self._uses:
            raise ValueError(
                f"model.train_function must be Keras's own for a model with batch "
                f"normalization, whose last epoch SWA changes, got {function!r}. Call "
                f"model.compile() again, or freeze batch normalization."
            )
        if has_rate:
            self._ramp()
            if is_own:
                self._form("rate")
        if self._uses:
            self._form("pass")
        if not self._can_feed_initial_values():
            self.put(self.read())  # Keras makes its operations at the first use
        return list(self._uses)

    def find(self):
        """Finds the batch-norm layers that the flags of now call trainable."""
        self._uses = self._find(self._keras.updates(self.model))
        return list(self._uses)

    # Weights

    def has_weights(self):
        """Whether the model is built: else its first batch builds it."""
        return bool(self.model.built and self.model.weights)

    def read(self):
        """The weights as arrays, which may share memory with the variables."""
        return self._keras.backend.batch_get_value(self.variables)

    def put(self, arrays):
        """Sets the weights, in one session call; None leaves one as it is."""
        pairs = [(v, a) for v, a in zip(self.variables, arrays) if a is not None]
        if not self._can_feed_initial_values():
            return self._keras.backend.batch_set_value(pairs)
        # an initializer assigns what it is fed: no operation is added for it
        feeds = {v.initializer.inputs[1]: array for v, array in pairs}
        self._session().run([v.initializer for v, _ in pairs], feeds)

    def is_usable(self):
        """Whether the session of this graph is still there."""
        session = self._session()
        is_closed = getattr(session, "_closed", False)
        is_ours = not self.variables or session.graph is self._graph()
        return is_ours and not is_closed

    # The learning rate

    @property
    def rate(self):
        """float: the optimizer's learning rate."""
        return float(self._keras.backend.get_value(self.optimizer.lr))

    @rate.setter
    def rate(self, value):
        if "_swa_ramp" in vars(self.optimizer.lr):
            self._ramp().start(self._session(), [value])
        else:
            set_rate(self._keras, self.optimizer, value)

    def start_rates(self, rates, note):
        """From now on each batch uses the next of `rates`, linear in the batch.

        Args:
          rates: array of the rates of the batches that follow.
          note: function that is told, after each batch, how far the rate that was
            used lay above the one of `rates`.
        """
        self._ramp().start(self._session(), rates)
        if not self.sets_rate_by_batch:
            self._start = lambda: self._hook("rate", [note])
            self._start()

    # The pass

    def start_pass(self, statistics):
        """From now on batches train nothing; their moments go to `statistics`."""
        fetches = self._moment_fetches()
        values = {}

        def receive(tensor):
            def store(value):
                values[tensor] = value
                if tensor is fetches[-1]:
                    self._merge(values, statistics)

            return store

        self._start = lambda: self._hook("pass", [receive(t) for t in fetches])
        self._start()

    def stop(self):
        """Gives the train function back as it was."""
        self._start = None
        self._unhook()

    def follow(self):
        """Takes hold of a train function that Keras made in the place of the old."""
        hooked = self._hooked
        if hooked is not None and self.model.train_function is not hooked.function:
            self._start()

    def forward(self, batches, statistics):
        """Runs the model on each batch in training mode; no weight changes.

        Args:
          batches: iterable of lists of arrays, in the order of `model.inputs`.
          statistics: `swa.batch_norm.Statistics` that gets the moments.
        """
        inputs = tf.nest.flatten(self.model.inputs)
        phase = self._keras.backend.learning_phase()
        with self._building():
            fetches = self._moment_fetches()
        for batch in batches:
            feeds = {
                tensor: np.asarray(rows, tensor.dtype.as_numpy_dtype)
                for tensor, rows in zip(inputs, batch)
            }
            if not isinstance(phase, int):  # an int was fixed by the user
                feeds[phase] = True
            values = self._session().run(fetches, feeds)
            self._merge(dict(zip(fetches, values)), statistics)

    # The forms of the train function

    def _form(self, name):
        """(fetches, updates_op) of a form, made once for what the function runs."""
        function = self.model.train_function
        made = vars(function).setdefault("_swa_forms", {})
        rate = self.optimizer.lr if name == "rate" else None
        key = name, function.updates_op, id(rate)
        if key not in made:
            with self._building():
                if name == "rate":
                    fetches = [self._ramp().advance(function.updates_op)]
                    made[key] = fetches, function.updates_op
                else:
                    updates_op = tf.group(*self._forward_updates(function))
                    made[key] = self._moment_fetches(), updates_op
        return made[key]

    def _hook(self, name, receivers):
        self._unhook()
        function = self.model.train_function
        plain, (fetches, updates_op) = function.updates_op, self._form(name)
        self._hooked = _Hooked(function, name, fetches, plain)
        function.fetches = function.fetches + fetches
        function.updates_op = updates_op
        function.fetch_callbacks.update(zip(fetches, receivers))
        _exchange_calls(function, ("plain", plain), (name, plain))

    def _unhook(self):
        if self._hooked is None:
            return
        function, name, fetches, plain = self._hooked
        function.fetches = [f for f in function.fetches if f not in fetches]
        function.updates_op = plain
        for fetch in fetches:
            function.fetch_callbacks.pop(fetch, None)
        _exchange_calls(function, (name, plain), ("plain", plain))
        self._hooked = None

    def _forward_updates(self, function):
        """What the function runs that is neither the optimizer's nor re-estimated."""
        own, places = set(), set()
        raw = [u for part in parts_of(self.model) for u in _updates_of(part)]
        for update in raw + self._keras.metric_updates(self.model):
            if isinstance(update, tuple):  # (variable, new value)
                places.add(moment_search.place_of(update[0]))
            else:
                own.update(moment_search.leaves([update]))
        statistics = {
            moment_search.place_of(variable)
            for layer in self._uses
            for variable in (layer.moving_mean, layer.moving_variance)
        }
        kept = []
        for update in moment_search.leaves([function.updates_op]):
            assigned = set(moment_search.assigned_places(update))
            if (update in own or assigned & places) and not assigned & statistics:
                kept.append(update)
        return kept

    # Moments

    def _find(self, updates):
        updates = [update for update in updates if not isinstance(update, tuple)]
        layers = batch_norms_of(self.model)
        return moment_search.uses(moment_search.leaves(updates), layers)

    def _moment_fetches(self):
        """Mean, variance and shape of each use, each tensor once."""
        tensors = []
        for use in self._all_uses():
            tensors += [use.mean, use.variance]
            if _count(use, use.inputs.shape.as_list()) is None:
                tensors.append(_shape_of(use.inputs))
        return list(dict.fromkeys(tensors))

    def _merge(self, values, statistics):
        for layer, uses in self._uses.items():
            for use in uses:
                shape = use.inputs.shape.as_list()
                if _count(use, shape) is None:
                    shape = values[_shape_of(use.inputs)]
                moments = values[use.mean], values[use.variance]
                statistics.add(layer, _count(use, shape), *moments, use.is_unbiased)

    def _all_uses(self):
        return [use for uses in self._uses.values() for use in uses]

    # Small things

    def _ramp(self):
        """The operations on the rate, which live as long as its variable."""
        rate = self.optimizer.lr
        if "_swa_ramp" not in vars(rate):
            with self._building():
                rate._swa_ramp = _Ramp(rate)
        return rate._swa_ramp

    def _can_feed_initial_values(self):
        """Whether each weight has an initial value of its own to be fed."""
        values = [variable.initializer.inputs[1] for variable in self.variables]
        is_feedable = all(value.graph.is_feedable(value) for value in values)
        return is_feedable and len(set(values)) == len(values)

    def _session(self):
        return self._keras.backend.get_session()

    def _graph(self):
        return self.variables[0].graph

    @contextlib.contextmanager
    def _building(self):
        """Where operations are made: outside of all that surrounds the call."""
        with self._graph().as_default(), tf.control_dependencies(None):
            with tf.name_scope("swa"):
                yield


class _Hooked(NamedTuple):
    """What a train function was given, and what it had."""

    function: Any
    name: str  # of the form
    fetches: List[Any]  # of the form
    plain: Any  # the function's own `updates_op`


class _Ramp:
    """The operations that move a rate along a line, batch by batch.

    rate = last + remaining * slope, so that an epoch's last rate is exact.

    Args:
      rate: the optimizer's rate variable.
    """

    def __init__(self, rate):
        self._rate = rate
        # float16 counts no further than 2048
        dtype = tf.float32 if rate.dtype.size < 4 else rate.dtype.base_dtype
        self._last, self._slope, self._remaining = [
            tf.compat.v1.Variable(
                lambda: tf.zeros((), dtype),
                trainable=False,
                collections=[],  # a user's Saver must not look for it
                use_resource=True,
                name=name,
            )
            for name in ("last", "slope", "remaining")
        ]
        self._feeds = [tf.compat.v1.placeholder(dtype, ()) for _ in range(3)]
        last, slope, remaining = self._feeds
        self._begin = tf.group(
            self._last.assign(last, read_value=False),
            self._slope.assign(slope, read_value=False),
            self._remaining.assign(remaining, read_value=False),
            self._assign(last + remaining * slope),
        )

    def start(self, session, rates):
        """Sets the first of `rates`; each batch that advances takes the next."""
        steps = len(rates) - 1
        slope = (rates[0] - rates[-1]) / steps if steps else 0.0
        session.run(self._begin, dict(zip(self._feeds, (rates[-1], slope, steps))))

    def advance(self, updates_op):
        """Sets the next batch's rate once the optimizer has read this one's.

        Returns:
          Tensor: the rate that the batch used, less the one planned for it.
        """
        with tf.control_dependencies([updates_op]):
            last, slope = self._last.read_value(), self._slope.read_value()
            remaining = self._remaining.read_value()
            used = tf.cast(self._rate.read_value(), last.dtype)
            difference = used - (last + remaining * slope)
        after = tf.maximum(remaining - 1.0, 0.0)
        # no value may be read that the same call assigns, unless it is used before
        with tf.control_dependencies([difference, after]):
            updates = [
                self._remaining.assign(after, read_value=False),
                self._assign(last + after * slope),
            ]
        with tf.control_dependencies(updates):
            return tf.identity(difference)

    def _assign(self, rate):
        rate = tf.cast(rate, self._rate.dtype.base_dtype)
        return self._rate.assign(rate, read_value=False)


def _exchange_calls(function, before, after):
    """Keeps the call that Keras built for one form, gives back that of the other.

    To build one costs seconds on a deep network, on an NPU a compilation. Keras still
    compares inputs, fetches and session with those it was built for.
    """
    kept = vars(function).setdefault("_swa_calls", {})
    kept[before] = {name: getattr(function, name, None) for name in _BUILT}
    function._fetches = None  # if a Ctrl-C comes now, Keras builds its call anew
    for name in _BUILT:
        setattr(function, name, kept.get(after, {}).get(name))


def _updates_of(part):
    return list(getattr(part, "_updates", None) or ())


def _count(use, shape):
    """Values of each channel in a batch of inputs of this shape; None if open."""
    sizes = [shape[axis] for axis in use.axes]
    return None if None in sizes else int(np.prod(sizes, dtype=np.int64))


def _shape_of(tensor):
    """The tensor's shape as a tensor, made once."""
    if not hasattr(tensor, "_swa_shape"):
        tensor._swa_shape = tf.shape(tensor, out_type=tf.int64)
    return tensor._swa_shape
