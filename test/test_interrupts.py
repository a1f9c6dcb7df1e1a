# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Exceptions and Ctrl-C in `fit`: what they leave, and that the user's later act wins.

The last of four epochs, and of three in one test, is the batch-norm epoch.
"""

import gc
import os
import signal
import sys

import numpy as np
import pytest
from conftest import ROOT
from support.callback_kit import (
    FEATURES,
    SAMPLED,
    assert_averaged,
    assert_statistics,
    at,
    both_modes,
    build,
    compiled,
    data,
    data_set,
    equal,
    fit,
    in_order,
    interrupted,
    new_models,
    rate_of,
    recorder,
    slots_of,
    twins,
    used_models,
)
from tensorflow.python.eager import def_function

from swa import eager

pytestmark = used_models

in_either_phase = pytest.mark.parametrize(
    "epoch", [2, 3], ids=["averaging", "batch-norm epoch"]
)
HOOKS = "on_epoch_begin on_batch_begin on_batch_end on_test_begin on_epoch_end".split()


def failing(kit, hook, epoch):
    """A callback that raises once in a hook, and the weights and slots of then."""
    kept = {}

    def fail(model):
        kept.update(weights=model.get_weights(), slots=slots_of(kit, model))
        raise OSError("disk full")

    return at(kit, hook, fail, epoch), kept


@new_models  # used ones differ in the last bit
@both_modes
@pytest.mark.parametrize(
    "epoch, first",
    [(2, True), (3, True), (3, False)],
    ids=["averaging", "batch-norm epoch, swa first", "batch-norm epoch, swa last"],
)
def test_after_an_exception_the_next_fit_goes_on_from_trained_weights(
    kit, epoch, first
):
    model, twin = twins(kit)
    options = dict(batch_size=25, validation_data=data(7, 20))
    swa = kit.SWA(2, "cyclic", 0.01, 0.05, 2)
    fit(twin, epochs=1)  # it has slots
    is_last = epoch == 3
    for hook in HOOKS + ["on_train_end"] * (is_last and not first):
        seen = recorder(kit)
        (fail, kept) = failing(kit, hook, epoch)
        with pytest.raises(OSError, match="disk full"):
            fit(model, seen, *in_order(swa, fail, first), **options)
        after = recorder(kit)
        fit(model, after, epochs=1, batch_size=25)
        twin.set_weights(seen.weights[2] if is_last else kept["weights"])
        twin.optimizer.set_weights(kept["slots"])
        fit(twin, epochs=1, batch_size=25)
        np.testing.assert_allclose(after.rates, 0.1, rtol=1e-6, err_msg=hook)
        assert equal(model.get_weights(), twin.get_weights()), hook


@both_modes
def test_an_exception_after_swas_end_leaves_the_average(tf_kit):
    model = build(tf_kit)
    seen = recorder(tf_kit)
    fail, _ = failing(tf_kit, "on_train_end", 3)
    with pytest.raises(OSError, match="disk full"):
        fit(model, seen, tf_kit.SWA(2), fail)
    assert_averaged(model, seen.weights[SAMPLED], data()[0])
    assert rate_of(tf_kit, model) == pytest.approx(0.1)


@both_modes
def test_a_weight_that_a_layer_moves_by_itself_does_not_keep_the_average(kit):
    """Its updates run in the batch-norm epoch too."""
    backend = kit.keras.backend

    class Counter(kit.keras.layers.Layer):
        def build(self, shape):
            options = dict(shape=(), dtype="float32", initializer="zeros")
            self.calls = self.add_weight("calls", trainable=False, **options)
            super().build(shape)

        def call(self, inputs):
            if kit.is_eager:
                self.add_update(lambda: self.calls.assign_add(1.0))
            else:
                self.add_update([backend.update_add(self.calls, 1.0)], inputs)
            return inputs + 0.0

        def compute_output_shape(self, shape):
            return shape

    inputs = kit.keras.layers.Input((FEATURES,))
    norm = kit.keras.layers.BatchNormalization()(Counter()(inputs))
    model = compiled(kit, inputs, kit.keras.layers.Dense(1)(norm))
    x = data()[0]
    seen = recorder(kit)
    swa = kit.SWA(2)
    interrupted(kit, model, swa, 3, seen, rows=(x, x[:, :1]))
    swa.restore()
    assert equal(model.get_weights(), seen.weights[2])


@both_modes
@in_either_phase
def test_ctrl_c_between_two_batches_is_undone_by_restore(kit, epoch):
    model = build(kit)
    seen = recorder(kit)
    kept = []
    swa = kit.SWA(2, "constant", 0.01)

    def press_ctrl_c(model):
        kept.extend(model.get_weights())
        os.kill(os.getpid(), signal.SIGINT)

    press = at(kit, "on_batch_end", press_ctrl_c, epoch, 1)
    with pytest.raises(KeyboardInterrupt, match="^$"):
        fit(model, seen, swa, press)
    swa.restore()
    assert equal(model.get_weights(), seen.weights[2] if epoch == 3 else kept)
    assert rate_of(kit, model) == pytest.approx(0.1)
    assert "fit" not in vars(model)


# At any line


class Interruption:
    """Raises KeyboardInterrupt before the n-th line that runs in `swa/`."""

    FOLDER = str(ROOT / "swa") + os.sep

    def __init__(self, at=None):
        self.at = at
        self.lines = 0
        self.place = None

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *error):
        sys.settrace(self._before)

    def _call(self, frame, event, argument):
        if frame.f_code.co_filename.startswith(self.FOLDER):
            return self._line

    def _line(self, frame, event, argument):
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._line


STRIDE = 26  # every line would take minutes
FIRST = {"tf.keras": 1, "keras": 14}  # so that the two Kerases have other lines


def rows_for_many_fits(kit, batch_size):
    """Arguments of `fit`; eager Keras else spends its time on making data sets."""
    x, y = data()
    if kit.is_eager:
        return dict(x=data_set((x, y)).batch(batch_size))
    return dict(x=x, y=y, batch_size=batch_size, shuffle=False)


@both_modes
def test_ctrl_c_at_any_line_leaves_trained_weights_or_the_whole_average(kit):
    model = build(kit)
    swa = kit.SWA(2, "cyclic", 0.01, 0.05, 2)
    start = model.get_weights()
    rows, after_rows = [rows_for_many_fits(kit, size) for size in (50, 25)]

    class Seen(kit.keras.callbacks.Callback):
        trained = (start,)  # by batch; a Ctrl-C may come before any hook

        def on_train_begin(self, logs=None):
            self.begun = self.model.get_weights()
            self.trained = [self.begun]
            self.rates = []

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_batch_begin(self, batch, logs=None):
            self.rates.append(rate_of(kit, self.model))

        def on_batch_end(self, batch, logs=None):
            if self.epoch < 2:  # the third epoch is the batch-norm epoch
                self.trained.append(self.model.get_weights())

    def train(at=None):
        model.set_weights(start)
        model.optimizer.set_weights(start_slots)
        seen = Seen()
        with Interruption(at) as interruption:
            try:
                model.fit(**rows, epochs=3, verbose=0, callbacks=[seen, swa])
            except KeyboardInterrupt:
                pass
        return seen, interruption

    model.fit(**rows, epochs=3, verbose=0, callbacks=[swa])  # makes slots and functions
    start_slots = slots_of(kit, model)
    unbroken = train()[0].trained
    average = model.get_weights()
    lines = train()[1].lines
    assert lines > 100
    for line in range(FIRST[kit.name], lines + 1, STRIDE):
        seen, interruption = train(line)
        after = Seen()
        model.fit(**after_rows, verbose=0, callbacks=[after])
        where = interruption.place
        # the step is done before the fetched values are handed on, in which a Ctrl-C
        # comes before the batch has ended
        done = len(seen.trained)
        expected = unbroken[done - 1 : done + 1] + [average]
        assert any(equal(after.begun, weights) for weights in expected), where
        np.testing.assert_allclose(after.rates, 0.1, rtol=1e-6, err_msg=where)
        assert not equal(after.begun, after.trained[-1]), where
        assert "fit" not in vars(model), where


def test_ctrl_c_at_any_line_leaves_functions_compiled():
    def hold_and_release(functions, holder):
        functions.hold(holder)
        functions.release(holder)

    with Interruption() as interruption:
        hold_and_release(eager.PythonFunctions(), eager.Attributes())
    assert interruption.lines > 5
    for line in range(1, interruption.lines + 1):
        functions, holder = eager.PythonFunctions(), eager.Attributes()
        try:
            with Interruption(line):
                hold_and_release(functions, holder)
        except KeyboardInterrupt:
            functions.release(holder)
        assert def_function.RUN_FUNCTIONS_EAGERLY is False, line
        hold_and_release(functions, holder)
        assert def_function.RUN_FUNCTIONS_EAGERLY is False, line


def test_functions_are_compiled_again_once_their_holder_is_gone():
    functions, holder = eager.PythonFunctions(), eager.Attributes()
    functions.hold(holder)
    assert def_function.RUN_FUNCTIONS_EAGERLY is True
    del holder
    gc.collect()
    assert def_function.RUN_FUNCTIONS_EAGERLY is False


# What the user does after an interrupt


@both_modes
def test_what_is_applied_after_an_interrupt_stays(kit):
    model = build(kit)
    swa = kit.SWA(2, "constant", 0.01)
    x = data()[0]
    for epoch in (2, 3):  # of training, and the batch-norm epoch
        interrupted(kit, model, swa, epoch)
        swa.apply(x)
        assert rate_of(kit, model) == pytest.approx(0.1)
        applied = model.get_weights()
        after = recorder(kit)
        assert_statistics(applied, x)
        fit(model, after, epochs=1)
        assert equal(after.begun, applied)


@both_modes
@in_either_phase
def test_a_rate_set_after_an_interrupt_stays(kit, epoch):
    model = build(kit)
    swa = kit.SWA(2, "constant", 0.01)
    seen = recorder(kit)
    interrupted(kit, model, swa, epoch)
    kit.keras.backend.set_value(model.optimizer.lr, 0.001)
    fit(model, seen, epochs=2)
    np.testing.assert_allclose(seen.rates, 0.001, rtol=1e-6)
    assert not equal(seen.weights[0], seen.weights[1])


@both_modes
def test_weights_set_after_an_interrupt_in_the_batch_norm_epoch_stay(kit):
    model = build(kit)
    swa = kit.SWA(2)
    interrupted(kit, model, swa, 3)
    mine = [weight + 1 for weight in model.get_weights()]
    model.set_weights(mine)
    swa.restore()
    assert equal(model.get_weights(), mine)


@new_models
@both_modes
@pytest.mark.parametrize(
    "epoch, anew",
    [(2, True), (3, False)],
    ids=["averaging, compiled anew", "batch-norm epoch"],
)
def test_train_on_batch_trains_after_an_interrupt(kit, epoch, anew):
    model = build(kit)
    swa = kit.SWA(2, "constant", 0.01)
    interrupted(kit, model, swa, epoch)
    if anew:
        model.compile(kit.keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    before = model.get_weights()
    model.train_on_batch(*data())
    assert not equal(before[:1], model.get_weights()[:1])
    assert rate_of(kit, model) == pytest.approx(0.05 if anew else 0.1)


@both_modes
def test_an_interrupted_callback_may_serve_another_model(kit):
    first = build(kit)
    second = build(kit)
    swa = kit.SWA(2)
    interrupted(kit, first, swa, 3)
    fit(second, swa)
    average = second.get_weights()
    before = first.get_weights()
    fit(first, epochs=1)
    assert equal(second.get_weights(), average)
    assert not equal(first.get_weights(), before)


@new_models
@both_modes
def test_a_cleared_session_after_an_interrupt_is_no_fault(kit):
    model = build(kit)
    swa = kit.SWA(2, "constant", 0.01)
    interrupted(kit, model, swa, 3)
    kit.keras.backend.clear_session()
    other = build(kit)
    seen = recorder(kit)
    swa.restore()
    fit(other, swa, seen)
    assert_averaged(other, seen.weights[SAMPLED], data()[0])


@new_models
def test_the_train_function_is_given_back_where_another_session_is(tf_kit):
    import tensorflow as tf

    model = build(tf_kit)
    swa = tf_kit.SWA(2)
    model._make_train_function()
    updates = model.train_function.updates_op
    interrupted(tf_kit, model, swa, 3)
    assert model.train_function.updates_op is not updates
    with tf.Graph().as_default(), tf.compat.v1.Session().as_default():
        swa.restore()
    assert model.train_function.updates_op is updates


@both_modes
def test_weights_set_in_a_layer_that_was_frozen_after_training_stay(kit):
    model = build(kit, False)
    swa = kit.SWA(2)
    fit(model, swa)
    layer = model.layers[0]
    layer.trainable = False
    layer.set_weights([weight + 1 for weight in layer.get_weights()])
    weights = model.get_weights()
    swa.restore()
    layer.trainable = True
    assert equal(model.get_weights(), weights)


@new_models
@both_modes
def test_a_fit_that_the_user_put_on_the_model_is_still_there(kit):
    model = build(kit)
    calls = []
    plain = model.fit

    def traced(*args, **options):
        calls.append(1)
        return plain(*args, **options)

    model.fit = traced
    for callbacks in ([kit.SWA(2)], []):
        fit(model, *callbacks)
    assert len(calls) == 2 and vars(model)["fit"] is traced
