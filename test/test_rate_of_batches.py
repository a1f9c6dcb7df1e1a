# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The learning rate that each batch uses, is told, and that is given back.

The rates themselves, by hand: test_schedules.
"""

import numpy as np
import pytest
from support.callback_kit import (
    BATCHES,
    CYCLIC,
    FEATURES,
    SAMPLED,
    STAY,
    assert_averaged,
    assert_rates,
    at,
    both_modes,
    build,
    data,
    either_order,
    fit,
    in_order,
    new_models,
    rate_of,
    recorder,
    refused,
    stop,
    used_models,
)

pytestmark = used_models


@both_modes
@pytest.mark.parametrize("schedule", ["constant", "cyclic"])
def test_each_batch_uses_the_planned_rate(kit, schedule):
    model = build(kit)
    seen = recorder(kit)
    read = []
    swa = kit.SWA(3, schedule, 0.01, 0.05, 2)
    reader = at(kit, "on_batch_begin", lambda model: read.append(swa.lr))
    plans = []
    planner = at(
        kit, "on_epoch_end", lambda model: plans.append(swa.plan(7, BATCHES)), 4
    )
    history = fit(model, swa, seen, reader, planner, epochs=7)
    planned = swa.plan(7, BATCHES).rates
    np.testing.assert_array_equal(plans[0].rates, planned)
    assert_rates(seen.rates, swa, 7)
    np.testing.assert_allclose(history["lr"], planned.ravel(), rtol=1e-12)
    np.testing.assert_allclose(read, planned.ravel(), rtol=1e-12)
    # the last epoch gives the rate back with its last batch: a file saved can go on
    ends = list(planned[:-1, -1]) + [0.1]
    np.testing.assert_allclose(seen.end_rates, ends, rtol=5e-7)
    assert swa.lr == pytest.approx(0.1)


@both_modes
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "plain"])
def test_the_rate_is_given_back(kit, batch_norm):
    model = build(kit, batch_norm, learning_rate=0.2)
    fit(model, kit.SWA(*CYCLIC))
    assert rate_of(kit, model) == pytest.approx(0.2)


@both_modes
def test_the_history_holds_the_rate_of_each_batch_that_ran(tf_kit):
    model = build(tf_kit)
    swa = tf_kit.SWA(*CYCLIC)
    seen = recorder(tf_kit)
    stopper = at(tf_kit, "on_batch_end", stop, 4, 1)
    if tf_kit.is_eager:  # it cannot run the batch-norm epoch: see test_stops
        with pytest.warns(RuntimeWarning, match=STAY):
            history = fit(model, stopper, swa, seen, epochs=7)
    else:
        history = fit(model, stopper, swa, seen, epochs=7)
    planned = swa.plan(7, BATCHES).rates
    expected = list(planned[:4].ravel()) + list(planned[4][:2])
    expected += [] if tf_kit.is_eager else [0.0] * BATCHES
    np.testing.assert_allclose(history["lr"], expected, rtol=1e-12)
    np.testing.assert_allclose(seen.rates, expected, rtol=5e-7)


@both_modes
def test_the_history_of_manual_has_no_rates(tf_kit):
    swa = tf_kit.SWA(3)
    rates = []
    read = at(tf_kit, "on_epoch_end", lambda model: rates.append(swa.lr), 2)
    assert "lr" not in fit(build(tf_kit), swa, read)
    assert rates == [pytest.approx(0.1)]


@pytest.fixture
def float16(tf_kit):
    """float16 for all weights; a rate of it is one too."""
    before = tf_kit.keras.backend.floatx()
    tf_kit.keras.backend.set_floatx("float16")
    yield tf_kit
    tf_kit.keras.backend.set_floatx(before)


@new_models
@both_modes
def test_an_epoch_of_more_batches_than_float16_counts(float16):
    kit = float16
    model = kit.keras.Sequential([kit.keras.layers.Dense(1, input_shape=(FEATURES,))])
    model.compile(kit.keras.optimizers.SGD(0.05), "mse")
    x = data(rows=2060)[0].astype("float16")
    seen = recorder(kit)
    swa = kit.SWA(*CYCLIC, snapshot="cycle_end")
    options = dict(batch_size=1, initial_epoch=2, epochs=3)
    fit(model, swa, seen, rows=(x, x[:, :1]), **options)
    planned = swa.plan(3, 2060).rates[2]
    np.testing.assert_allclose(seen.rates, planned, rtol=2e-3)


@new_models
@both_modes
def test_a_metric_that_reads_the_rate_shows_the_batchs_own(kit):
    def rate(true, predicted):
        return optimizer.lr * 1.0

    model = build(kit)
    optimizer = model.optimizer
    model.compile(optimizer, model.loss, metrics=[rate])
    swa = kit.SWA(*CYCLIC)
    # batches of equal size, since Keras weighs a metric by rows
    history = fit(model, swa, epochs=6, batch_size=10)
    planned = swa.plan(6, 5).rates.mean(1)
    np.testing.assert_allclose(history["rate"], planned, rtol=1e-6, atol=1e-9)


# Other callbacks that set the rate


@both_modes
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_plan_before_fit_is_that_of_the_model(kit, batch_norm):
    swa = kit.SWA(2, "constant", 0.02)
    assert swa.plan(4, 1, 0.1).batch_norm_epoch is None  # there is no model yet
    swa.set_model(build(kit, batch_norm))
    plan = swa.plan(4, 1)
    assert (plan.batch_norm_epoch == 4) == batch_norm
    assert (plan.rates[-1, 0] == 0) == batch_norm


@both_modes
def test_the_base_rate_is_the_compiled_one(kit):
    def set_rate(model):
        kit.keras.backend.set_value(model.optimizer.lr, 0.01)

    model = build(kit, False)
    swa = kit.SWA(2, "constant", 0.02)
    history = fit(model, at(kit, "on_train_begin", set_rate), swa)
    planned = kit.SWA(2, "constant", 0.02).plan(4, 4, 0.1).rates
    np.testing.assert_allclose(history["lr"], planned.ravel(), rtol=1e-6)
    assert rate_of(kit, model) == pytest.approx(0.1)


def used_and_told_rates(kit, hook, first):
    """The rate of each batch, by a gradient of 1, and the history's, beside a setter.

    The setter sets a rate of its own in a hook of each batch.
    """

    def set_rate(model):
        kit.keras.backend.set_value(model.optimizer.lr, 0.5)

    dense = kit.keras.layers.Dense(1, use_bias=False, input_shape=(1,))
    model = kit.keras.Sequential([dense])
    model.compile(
        kit.keras.optimizers.SGD(0.1),
        lambda true, predicted: kit.keras.backend.mean(predicted - 0.0 * true),
    )
    weights = [model.get_weights()[0]]
    ones = np.ones((8, 1), "float32")
    swa = kit.SWA(2, "constant", 0.02)
    callbacks = in_order(swa, at(kit, hook, set_rate), first)
    keep = at(kit, "on_batch_end", lambda model: weights.append(model.get_weights()[0]))
    history = fit(model, *callbacks, keep, rows=(ones, ones), batch_size=2, epochs=3)
    return -np.diff(np.ravel(weights)), history["lr"]


@new_models
@both_modes
@pytest.mark.filterwarnings("ignore:SWA. another callback sets")
@pytest.mark.parametrize("hook", ["on_batch_begin", "on_batch_end"])
@either_order
def test_what_is_told_is_the_rate_that_was_used(kit, hook, first):
    if kit.is_eager and (hook, first) == ("on_batch_end", False):
        pytest.skip("only graph mode fetches the rate with the batch itself")
    used, told = used_and_told_rates(kit, hook, first)
    # atol: differences of float32 weights near 1
    np.testing.assert_allclose(told, used, atol=1e-6)


@new_models
@both_modes
def test_another_callback_that_sets_the_rate_is_named_once(kit):
    with pytest.warns(RuntimeWarning, match="another callback sets the") as caught:
        used_and_told_rates(kit, "on_batch_end", first=False)
    assert len([warning for warning in caught if "SWA" in str(warning.message)]) == 1


@new_models
@both_modes
@pytest.mark.filterwarnings("ignore:SWA. another callback sets")
def test_a_number_in_the_place_of_the_rate_stops_nothing(kit):
    """Stand-alone Keras trains on with the variable, which no one can find then."""

    def replace(model):
        model.optimizer.learning_rate = 0.03

    model = build(kit)
    swa = kit.SWA(2, "constant", 0.01)
    seen = []
    keep = at(kit, "on_epoch_end", lambda model: seen.append(model.get_weights()))
    fit(model, swa, at(kit, "on_epoch_end", replace), keep)
    assert swa.n_averaged == 2
    assert_averaged(model, seen[SAMPLED], data()[0])


# Rates that cannot be set


def assert_only_manual_works(kit, model):
    with refused("lr_schedule must be 'manual'"):
        fit(model, kit.SWA(2, "constant", 0.01))
    weights = []
    keep = at(kit, "on_epoch_end", lambda model: weights.append(model.get_weights()))
    fit(model, kit.SWA(2), keep)
    assert_averaged(model, weights[SAMPLED], data()[0])


@new_models
@both_modes
@pytest.mark.parametrize(
    "kind", ["schedule", "function", "variable's function", "tensor"]
)
def test_a_rate_that_cannot_be_set_is_for_manual_alone(tf_kit, kind):
    import tensorflow as tf

    if kind == "tensor" and tf_kit.is_eager:
        pytest.skip("only graph mode has a tensor without a value")
    optimizers = tf_kit.keras.optimizers
    variable = tf_kit.keras.backend.variable(0.1)
    make = {
        "schedule": lambda: optimizers.schedules.ExponentialDecay(0.1, 10, 0.9),
        "function": lambda: lambda: 0.1,
        "variable's function": lambda: lambda: variable,
        "tensor": lambda: tf.constant(0.1),
    }
    model = build(tf_kit, optimizer=optimizers.SGD(make[kind]()))
    assert_only_manual_works(tf_kit, model)


def optimizer_with_a_number(kit):
    """Of the user's own: its rate is a number, in the graph a constant."""
    backend = kit.keras.backend
    base = kit.keras.optimizers.Optimizer

    class OfKeras(base):
        learning_rate = 0.1

        def get_updates(self, loss, params):
            pairs = zip(params, self.get_gradients(loss, params))
            return [backend.update_sub(param, 0.1 * slope) for param, slope in pairs]

    class OfTensorFlow(base):
        learning_rate = 0.1
        _create_slots = get_config = lambda *arguments: None

        def _resource_apply_dense(self, gradient, variable):
            return variable.assign_sub(0.1 * gradient)

    return OfKeras() if kit.name == "keras" else OfTensorFlow("Own")


@new_models
@both_modes
def test_a_number_as_the_rate_is_for_manual_alone(kit):
    model = build(kit, optimizer=optimizer_with_a_number(kit))
    assert_only_manual_works(kit, model)


# Train functions of the user's, which graph mode alone has


def wrap_train_function(model):
    model._make_train_function()
    inner = model.train_function
    model.train_function = lambda values: inner(values)


@new_models
@pytest.mark.parametrize("schedule", ["manual", "constant", "cyclic"])
def test_a_wrapped_train_function_without_batch_norm(kit, schedule):
    model = build(kit, False)
    seen = recorder(kit)
    wrap_train_function(model)
    swa = kit.SWA(2, schedule, 0.01, 0.05, 2)
    fit(model, swa, seen)
    if schedule != "manual":
        assert_rates(seen.rates, swa, 4)
    assert swa.n_averaged == 2
    assert_averaged(model, seen.weights[1::2])


@new_models
def test_values_that_the_user_feeds_are_fed_on(kit):
    import tensorflow as tf

    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    model._make_train_function()
    fed = {tf.compat.v1.placeholder(tf.float32, ()): 2.0}
    model.train_function.feed_dict = fed
    feeds = []
    read = at(
        kit,
        "on_batch_begin",
        lambda model: feeds.append(model.train_function.feed_dict),
    )
    fit(model, swa, seen, read)
    assert all(feed is fed for feed in feeds)
    assert_rates(seen.rates, swa, 4)
    assert_averaged(model, seen.weights[1:2], data()[0])
    assert model.train_function.feed_dict is fed
