# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How the callback takes part in `fit` in graph mode: through the train function.

Keras runs one function a batch. Its public `fetches` and `updates_op` let the
rate's next value be computed, or the batch-norm statistics merged, in the same
session call. Nothing is added to a batch but operations.
"""

import tensorflow as tf

from swa.averaging import mean_dtype

ASSIGNMENTS = ("AssignVariableOp", "AssignSubVariableOp", "AssignAddVariableOp")
MOMENTS = ("Mean", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
PASSING_ON = ("Switch", "RefSwitch", "Identity", "Enter")

# What Keras keeps of a call that it has built (names of 1.15; absent ones do no harm).
_BUILT = (
    "_callable_fn",
    "_feed_arrays",
    "_feed_symbols",
    "_symbol_vals",
    "_fetches",
    "_session",
)


class TrainFunction:
    """The hooks on a model's train function, and their removal.

    Args:
      model: a compiled and built model.
      model_updates: function of a model, its updates without the optimizer's.
      learning_rate: the optimizer's rate variable; None if it has none.
      statistics: list of `batch_norm.LayerStatistics` to merge in a pass.
      runtime: `swa.runtime.GraphRuntime`.
    """

    def __init__(self, model, model_updates, learning_rate, statistics, runtime):
        self._model = model
        self._model_updates = model_updates
        self._learning_rate = learning_rate
        self._statistics = statistics
        self._runtime = runtime
        self._function = None  # the train function that is hooked
        self._token = None  # the fetch that hooks it
        self._mode = "plain"
        self._tokens = {}  # the fetch that stands for a function's hook
        self._built = {}  # by function and mode: the call that Keras built for it
        if learning_rate is None:
            return
        # rate = last + remaining * slope, so that an epoch's last rate is exact
        dtype = mean_dtype(learning_rate.dtype.base_dtype)  # float16 ends at 2048
        self._last, self._slope, self._remaining, self._before = [
            runtime.variable(name, (), dtype)
            for name in ("last", "slope", "remaining", "before")
        ]
        self._start_ramp = runtime.function(self._set_ramp, dtype, dtype, dtype)

    def ramp(self, rates):
        """From now on each batch uses the next of `rates`, linear in the batch."""
        steps = len(rates) - 1
        slope = (rates[0] - rates[-1]) / steps if steps else 0.0
        self._start_ramp(rates[-1], slope, steps)

    def stop(self):
        """Operations that put the rate aside and make it 0."""
        if self._learning_rate is None:
            return []
        rate = self._learning_rate
        before = tf.cast(rate.read_value(), self._before.dtype.base_dtype)
        keep = self._before.assign(before, read_value=False)
        with tf.control_dependencies([keep]):
            return [self._assign_rate(0.0)]

    def rate_before_stop(self):
        """float: the rate that `stop` put aside."""
        return float(self._runtime.read([self._before])[0])

    def hook(self, mode):
        """Hooks the train function for the mode "plain", "ramp" or "pass"."""
        self.unhook()
        self._mode = mode
        function = self._model.train_function
        if function is None or mode == "plain":
            return
        self._function = function
        self._updates_before = function.updates_op
        if (function, mode) not in self._tokens:
            with self._runtime.building():
                make = self._merge if mode == "pass" else self._advance
                self._tokens[function, mode] = make(function)
        self._token = self._tokens[function, mode]
        if mode == "pass":
            function.updates_op = self._token.op
        # A changed fetch is what makes Keras build its call anew.
        function.fetches = function.fetches + [self._token]
        self._exchange_calls(function, "plain", mode)

    def unhook(self):
        """Gives the train function back as it was."""
        if self._function is not None:
            others = [f for f in self._function.fetches if f is not self._token]
            self._function.fetches = others
            self._function.updates_op = self._updates_before
            self._exchange_calls(self._function, self._mode, "plain")
            self._function = None
        self._mode = "plain"

    def follow(self):
        """Hooks the function that Keras has made in the place of the old one."""
        if self._mode != "plain" and self._model.train_function is not self._function:
            self.hook(self._mode)

    def prepare(self, mode):
        """Makes the operations of a mode, so that no later epoch makes any."""
        self.hook(mode)
        self.unhook()

    def _exchange_calls(self, function, before, after):
        """Keeps the call built for one mode, gives back the one for the other.

        To build one costs tens of milliseconds, on an NPU a compilation. Keras still
        compares inputs, fetches and session with those it was built for.
        """
        self._built[function, before] = {
            name: getattr(function, name, None) for name in _BUILT
        }
        for name, value in self._built.get((function, after), {}).items():
            setattr(function, name, value)

    def _set_ramp(self, last, slope, remaining):
        return tf.group(
            self._last.assign(last, read_value=False),
            self._slope.assign(slope, read_value=False),
            self._remaining.assign(remaining, read_value=False),
            self._assign_rate(last + remaining * slope),
        )

    def _assign_rate(self, rate):
        rate = tf.cast(rate, self._learning_rate.dtype.base_dtype)
        return self._learning_rate.assign(rate, read_value=False)

    def _advance(self, function):
        """Sets the next batch's rate once the optimizer has read this one's."""
        with tf.control_dependencies([function.updates_op]):
            remaining = tf.maximum(self._remaining.read_value() - 1.0, 0.0)
            rate = self._last.read_value() + remaining * self._slope.read_value()
        updates = [
            self._remaining.assign(remaining, read_value=False),
            self._assign_rate(rate),
        ]
        with tf.control_dependencies(updates):
            return tf.identity(rate)

    def _merge(self, function):
        """Merges the batch's moments in the place of every update of training."""
        del function
        updates = forward_updates(self._model_updates(self._model), self._statistics)
        with tf.control_dependencies(updates):
            return tf.zeros([])


class ForwardPass:
    """A pass over given rows that merges the moments of what the layers see.

    Args:
      inputs: list of the model's input placeholders.
      updates: list of the model's updates without the optimizer's.
      learning_phase: Keras's placeholder, or an int where a user fixed it.
      statistics: list of `batch_norm.LayerStatistics`.
      runtime: `swa.runtime.GraphRuntime`.
    """

    def __init__(self, inputs, updates, learning_phase, statistics, runtime):
        self._inputs = inputs
        self._phase = learning_phase
        self._runtime = runtime
        with runtime.building():
            self._fetch = tf.group(forward_updates(updates, statistics))

    def run(self, batches):
        """Runs the model on each batch, a list of arrays, in training mode."""
        for batch in batches:
            feeds = dict(zip(self._inputs, batch))
            if not isinstance(self._phase, int):
                feeds[self._phase] = True
            self._runtime.session().run(self._fetch, feeds)


def forward_updates(updates, statistics):
    """Operations of a forward pass of training, batch norm re-estimated.

    Args:
      updates: operations or tensors, the model's updates without the optimizer's.
      statistics: list of `batch_norm.LayerStatistics`; the updates of their
        layers are replaced by a merge of their inputs' moments.
    """
    merged = {
        variable.handle.op
        for entry in statistics
        for variable in (entry.layer.moving_mean, entry.layer.moving_variance)
    }
    kept = [
        update
        for update in updates
        if not any(_assigned(op) in merged for op in _assignments(update))
    ]
    inputs = uses(updates, [entry.layer for entry in statistics])
    for entry, inputs_of_layer in zip(statistics, inputs):
        kept.extend(entry.merge(inputs_of_layer))
    return kept


def uses(updates, layers):
    """The inputs and the axes of each use of batch-norm layers in training.

    Returns:
      For each layer a list of (tensor, axes). Empty if no update is the layer's:
      it is frozen.
    """
    assignments = {}  # by the operation of the variable's handle
    for update in updates:
        for op in _assignments(update):
            assignments.setdefault(_assigned(op), []).append(op)
    return [
        [_moments_source(op, layer) for op in assignments.get(handle, ())]
        for layer, handle in [(one, one.moving_mean.handle.op) for one in layers]
    ]


def _moments_source(assignment, layer):
    """(tensor, axes) of which an assignment to a moving mean takes the mean."""
    for op in _upstream(assignment.inputs[1].op):
        if op.type in MOMENTS:
            return _source(op.inputs[0]), _axes(op)
    raise ValueError(
        f"batch-norm layer {layer.name!r} must take its statistics from the moments "
        f"of its inputs; SWA found none."
    )


def _assignments(update):
    """The assignments that `update` runs, without those they depend on."""
    start = getattr(update, "op", update)
    return [op for op in _upstream(start, ASSIGNMENTS) if op.type in ASSIGNMENTS]


def _assigned(assignment):
    """The operation of the handle of the variable that is assigned."""
    return _source(assignment.inputs[0]).op


def _upstream(start, ends=()):
    """`start` and the operations upstream, nearest first; not beyond types `ends`."""
    rest, seen = [start], {start}
    for op in rest:  # grows while it is walked
        yield op
        if op.type in ends:
            continue
        for above in [tensor.op for tensor in op.inputs] + list(op.control_inputs):
            if above not in seen:
                seen.add(above)
                rest.append(above)


def _source(tensor):
    """The tensor before the operations that only pass it on."""
    while tensor.op.type in PASSING_ON:
        tensor = tensor.op.inputs[0]
    return tensor


def _axes(moments):
    """The axes over which an operation takes the moments of its input."""
    if moments.type == "Mean":
        return [int(axis) for axis in tf.get_static_value(moments.inputs[1]).ravel()]
    is_channels_first = moments.get_attr("data_format") == b"NCHW"
    return [0, 2, 3] if is_channels_first else [0, 1, 2]
