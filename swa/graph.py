# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How the callback takes part in `fit` in graph mode: through the train function.

Keras runs one function a batch. Its public `fetches`, `fetch_callbacks`, `updates_op`
and `feed_dict` let the rate's next value be set, or the batch moments fetched, in the
same session call. Each set of these is a form of the call, built once. What is made
lives as long as what it was made for: the function, a tensor.
"""

import contextlib
import functools
from collections import namedtuple

import numpy as np
import tensorflow as tf

from swa import moment_search
from swa.layers import batch_norms_of, parts_of, statistics_of
from swa.rates import OptimizerRate
from swa.rows import check_shapes

# What Keras keeps of a call that it has built, names of 1.15; what tells it that the
# call is another one comes last.
_CALL = "_callable_fn _feed_arrays _feed_symbols _symbol_vals _session _fetches".split()

# What a call of the train function fetches besides, its `updates_op`, and the
# placeholder of the next rate, or None.
_Form = namedtuple("_Form", "fetches updates_op fed")
# A train function that has a form of SWA's now, what it had before, and what `_hook`
# was given.
_Hooked = namedtuple("_Hooked", "function form updates_op feed_dict given")


class GraphStep:
    """A model's training step in graph mode, and what SWA hangs on it.

    `swa.eager.EagerStep` has the same methods.

    Args:
      keras: the binding's `swa.callback.Keras`.
      model: a built model.

    Attributes:
      model, optimizer: the model's, as when the step was made.
      variables: list of the model's weights, in `get_weights()` order.
      sets_rate_by_batch: bool, whether each rate must be set before its batch.
      rate: swa.rates.OptimizerRate.
      repeats_rows: bool, whether rows of an epoch cut short come in the next one.
      runs_training: bool, whether the model can run in training mode as it is now.
    """

    repeats_rows = False

    def __init__(self, keras, model):
        self._keras, self.model = keras, model
        self.optimizer = getattr(model, "optimizer", None)
        self.variables = keras.weights(model)
        self.sets_rate_by_batch = True  # until `prepare` knows better
        self.rate = OptimizerRate(
            self.optimizer,
            keras.module.backend.get_value,
            lambda variable, value: _initialize(keras, [(variable, value)]),
        )
        self._next_rate, self._is_open = 0.0, False
        self._uses = []  # of moment_search.Use
        self._functions, self._hooked = [], []  # train functions; of _Hooked
        self._phase = keras.module.backend.learning_phase()  # an int: the user fixed it

    @property
    def runs_training(self):
        is_off = isinstance(self._phase, int) and not self._phase
        return bool(self.model.inputs) and not is_off  # else it is not yet built here

    def prepare(self, sets_rate):
        """Finds the batch-norm layers that are trained, and makes all operations.

        Args:
          sets_rate: bool, whether the rate of training is to be set.

        Returns:
          List of the layers whose statistics training moves.

        Raises:
          ValueError: a layer whose moments cannot be proved, or a train function of
            the user's own where there are such layers.
        """
        self.variables = self._keras.weights(self.model)
        if self.model.train_function is None:
            self.model._make_train_function()
        function = self.model.train_function
        is_own = hasattr(function, "fetch_callbacks")  # Keras's, not a user's
        layers = self.find([function.updates_op] if is_own else None)
        if layers and not is_own:
            raise ValueError(
                f"model.train_function must be Keras's own for a model with batch "
                f"normalization, whose last epoch SWA changes, got {function!r}. Call "
                f"model.compile() again, or freeze batch normalization."
            )
        # Keras can order the keys of a user's `feed_dict` and ours only if we have none
        self.sets_rate_by_batch = not is_own or bool(function.feed_dict)
        self._functions = [function]
        names = ["rate"] * (sets_rate and not self.sets_rate_by_batch)
        for name in names + ["pass"] * bool(layers):
            self._form(name, function)
        if not self._feeds_initial_values():
            self.put(self.read())  # Keras makes its operations at the first use
        return layers

    def find(self, updates=None):
        """Finds where updates get the moments of batch-norm layers.

        Args:
          updates: list of operations; None: those of the layers that the flags of
            now call trainable.

        Returns:
          List of the layers.
        """
        updates = self._keras.updates(self.model) if updates is None else updates
        outputs = tf.nest.flatten(getattr(self.model, "outputs", None) or ())
        ops = moment_search.leaves([*updates, *outputs])
        moment_search.check_calls(batch_norms_of(self.model, trained=True), ops)
        self._uses = moment_search.uses(updates, batch_norms_of(self.model))
        return list(dict.fromkeys(use.layer for use in self._uses))

    def read(self):
        """The weights as arrays, which may share memory with the variables."""
        return self._keras.module.backend.batch_get_value(self.variables)

    def put(self, arrays):
        """Sets the weights, in one session call; None leaves one as it is."""
        pairs = [(v, a) for v, a in zip(self.variables, arrays) if a is not None]
        if not self._feeds_initial_values():
            return self._keras.module.backend.batch_set_value(pairs)
        _initialize(self._keras, pairs)

    def is_usable(self):
        """Whether the session of this graph is still there."""
        session = self._session()
        is_ours = not self.variables or session.graph is self.variables[0].graph
        return is_ours and not getattr(session, "_closed", False)

    def start_rates(self, note):
        """From now on each batch sets the next one's rate once it has used its own.

        Args:
          note: function that is told, after each batch, the rate that it used.
        """
        self._hook("rate", lambda values: note(-float(*values.values())))

    def begin_batch(self, next_rate):
        """What is fetched next is the batch's.

        Args:
          next_rate: float, what the batch is to set once it has used its own rate.
        """
        self._next_rate, self._is_open = next_rate, True
        for one in self._hooked:
            self._feed(one)

    def start_pass(self, statistics):
        """From now on batches train nothing; their moments go to `statistics`."""
        self._hook("pass", lambda values: self._merge(values, statistics))

    def stop(self):
        """Gives the train functions back as they were."""
        while self._hooked:
            function, form, updates_op, feed_dict, _ = self._hooked[-1]
            function.feed_dict = feed_dict
            for fetch in form.fetches:
                function.fetch_callbacks.pop(fetch, None)
            others = [one for one in function.fetches if one not in form.fetches]
            _exchange_call(function, others, updates_op)
            self._hooked.pop()

    def follow(self):
        """Takes hold of a train function that Keras has made beside the old one.

        `fit` goes on with that which it had when it began, other methods take the new.
        """
        function = self.model.train_function
        is_own = hasattr(function, "fetch_callbacks")
        if is_own and self._hooked and function not in self._functions:
            self._functions[1:] = [function]
            self._hook(*self._hooked[0].given)

    def forward(self, batches, statistics):
        """Runs the model on each batch in training mode; no weight changes.

        Args:
          batches: iterator of `swa.rows.Rows.batches`.
          statistics: `swa.batch_norm.Statistics` that gets the moments.

        Raises:
          ValueError: on an NPU, a batch of other shapes than the first.
        """
        inputs, fetches = self.model._feed_inputs, self._fetches()
        for arrays in batches:
            check_shapes(self._session(), fetches, arrays)
            feeds = dict(zip(inputs, arrays))
            if not isinstance(self._phase, int):
                feeds[self._phase] = True
            values = self._session().run(fetches, feeds)
            self._merge(dict(zip(fetches, values)), statistics)

    # The forms of the train function

    def _form(self, name, function):
        """A _Form, made once for what the function runs now."""
        forms = vars(function).setdefault("_swa_forms", {})
        make, place = self._pass_form, None
        if name == "rate":
            make, place = self._rate_form, moment_search.place_of(self.rate.variable)
        key = function.updates_op, place, self._phase
        if key not in forms:
            with self._building():
                forms[key] = make(function.updates_op)
        return forms[key]

    def _rate_form(self, updates_op):
        """Each batch sets the next one's rate after its own was used."""
        rate = self.rate.variable
        fed = tf.compat.v1.placeholder(rate.dtype.base_dtype, ())
        # computed: else it shares a reference variable's memory
        used = -rate.read_value()
        with tf.control_dependencies([updates_op, used]):
            return _Form([used], rate.assign(fed, read_value=False), fed)

    def _pass_form(self, updates_op):
        """Of the updates only those neither the optimizer's nor re-estimated run."""
        parts = parts_of(self.model) + self.model.metrics
        given = [u for part in parts for u in getattr(part, "_updates", None) or ()]
        own, place_of = set(moment_search.leaves(given)), moment_search.place_of
        places = {place_of(update[0]) for update in given if isinstance(update, tuple)}
        pairs, kept = [statistics_of(use.layer) for use in self._uses], []
        statistics = {place_of(variable) for pair in pairs for variable in pair}
        for update in moment_search.leaves([updates_op]):
            assigned = set(moment_search.assignments_of(update))
            if (update in own or assigned & places) and not assigned & statistics:
                kept.append(update)
        return _Form(self._fetches(), tf.group(*kept), None)

    def _hook(self, name, receive):
        """Gives the train functions a form.

        Args:
          name: "rate" or "pass".
          receive: function that is given what one batch has fetched, by tensor: the
            first time after `begin_batch`, and not when others train in between.
        """
        self.stop()
        for function in self._functions:
            form, values = self._form(name, function), {}

            def take(fetch, value, last=form.fetches[-1], values=values):
                values[fetch] = value
                if fetch is last and self._is_open:
                    self._is_open = False
                    receive(values)

            before = function.updates_op, function.feed_dict
            one = _Hooked(function, form, *before, (name, receive))
            self._hooked.append(one)
            takers = {fetch: functools.partial(take, fetch) for fetch in form.fetches}
            function.fetch_callbacks.update(takers)
            _exchange_call(function, function.fetches + form.fetches, form.updates_op)
            self._feed(one)

    def _feed(self, hooked):
        if hooked.form.fed is not None:  # an array would be shared with the variable
            hooked.function.feed_dict = {hooked.form.fed: self._next_rate}

    # Moments

    def _fetches(self):
        """Mean, variance and, where open, shape and conditions of uses, each once."""
        found = []
        for use in self._uses:
            found += [use.mean, use.variance, self._shape(use)]
            found += [tensor for tensor, _ in self._conditions(use)]
        return list(dict.fromkeys(one for one in found if one is not None))

    def _shape(self, use):
        """The tensor of a use's shape; None where the shape is known."""
        inputs = use.inputs
        if None not in [inputs.shape.as_list()[axis] for axis in use.axes]:
            return None
        return self._made(tf.shape, inputs, out_type=tf.int64)

    def _conditions(self, use):
        """(tensor, its value where a use counts) pairs; the learning phase is fed."""
        given = [(p, v) for p, v, source in use.conditions if source is not self._phase]
        # a copy: what a user feeds cannot be fetched
        return [(self._made(tf.identity, p), value) for p, value in given]

    def _made(self, make, tensor, **options):
        """What a function makes of a tensor, made once."""
        name = f"_swa_{make.__name__}"
        if not hasattr(tensor, name):
            with self._building():
                setattr(tensor, name, make(tensor, **options))
        return getattr(tensor, name)

    def _merge(self, values, statistics):
        """Hands the moments of a batch on; `values` are by tensor."""
        for use in self._uses:
            shape = values.get(self._shape(use), use.inputs.shape.as_list())
            count = int(np.prod([shape[axis] for axis in use.axes], dtype=np.int64))
            count *= all(values[one] == value for one, value in self._conditions(use))
            moments = values[use.mean], values[use.variance]
            statistics.add(use.layer, count, *moments, use.is_unbiased)

    # Small things

    def _feeds_initial_values(self):
        """Whether each weight has an initial value of its own to be fed."""
        values = [variable.initializer.inputs[1] for variable in self.variables]
        is_feedable = all(value.graph.is_feedable(value) for value in values)
        return is_feedable and len(set(values)) == len(values)

    def _session(self):
        return self._keras.module.backend.get_session()

    @contextlib.contextmanager
    def _building(self):
        """Where operations are made: outside of all that surrounds the call."""
        with self.variables[0].graph.as_default(), tf.control_dependencies(None):
            with tf.name_scope("swa"):
                yield


def _initialize(keras, pairs):
    """Sets variables: an initializer assigns what it is fed, no operation is added."""
    feeds = {variable.initializer.inputs[1]: value for variable, value in pairs}
    initializers = [variable.initializer for variable, _ in pairs]
    keras.module.backend.get_session().run(initializers, feeds)


def _exchange_call(function, fetches, updates_op):
    """Makes a train function run these; keeps the call that Keras built for the others.

    To build one costs seconds on a deep network, on an NPU a compilation. Keras still
    compares inputs, fetches and session with those it was built for.
    """
    kept = vars(function).setdefault("_swa_calls", {})
    built = {name: getattr(function, name, None) for name in _CALL}
    kept[(function.updates_op, *function.fetches)] = built
    function._fetches = None  # if a Ctrl-C comes now, Keras builds its call anew
    function.fetches, function.updates_op = fetches, updates_op
    for name in _CALL:
        setattr(function, name, kept.get((updates_op, *fetches), {}).get(name))
