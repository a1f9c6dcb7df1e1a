# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Loops of the user's own, which call SWA's hooks, and what an exception leaves."""

import contextlib

import pytest
from support.callback_kit import (
    BATCH,
    BATCHES,
    CYCLIC,
    EPOCHS,
    ROWS,
    SAMPLED,
    STAY,
    assert_averaged,
    assert_rates,
    at,
    both_modes,
    build,
    data,
    equal,
    fit,
    interrupt,
    interrupted,
    new_models,
    only_eager,
    rate_of,
    recorder,
    refused,
    used_models,
)

pytestmark = used_models


def train_by_hand(model, members, epochs, first_batch=0, announced=None):
    """As in a GAN's: `train_on_batch`, and each hook called by the user.

    `set_params` is called with the announced epochs, if they are not those that run.
    """
    x, y = data()
    starts = range(0, ROWS, BATCH)

    def call(hook, *arguments):
        for member in members:
            getattr(member, hook)(*arguments)

    call("set_model", model)
    call("set_params", {"epochs": announced or epochs, "steps": len(starts)})
    call("on_train_begin")
    for epoch in range(epochs):
        call("on_epoch_begin", epoch)
        for batch, start in enumerate(starts, first_batch):
            call("on_batch_begin", batch, {})
            rows = slice(start, start + BATCH)
            model.train_on_batch(x[rows], y[rows])
            call("on_batch_end", batch, {})
        call("on_epoch_end", epoch, {})
    call("on_train_end")


@both_modes
def test_a_loop_by_hand_calls_the_hooks(kit):
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    train_by_hand(model, (swa, seen), epochs=6)
    assert_averaged(model, [seen.weights[1], seen.weights[3]], data()[0])
    assert rate_of(kit, model) == pytest.approx(0.1)
    assert_rates(seen.rates, swa, 6)


@both_modes
def test_a_loop_by_hand_may_count_its_batches_from_one(kit):
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    train_by_hand(model, (swa, seen), epochs=4, first_batch=1)
    assert_averaged(model, seen.weights[1:2], data()[0])
    assert_rates(seen.rates, swa, 4)


@new_models
@both_modes
def test_a_loop_by_hand_may_compile_after_set_model(kit):
    model = build(kit, learning_rate=0.5)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    swa.set_model(model)
    optimizer = kit.keras.optimizers.SGD(0.1)

    class Compiling(kit.keras.callbacks.Callback):
        def set_model(self, model):
            model.compile(optimizer, "sparse_categorical_crossentropy")

    train_by_hand(model, (swa, Compiling(), seen), epochs=4)
    assert_rates(seen.rates, swa, 4)
    assert rate_of(kit, model) == pytest.approx(0.1)


@both_modes
def test_a_loop_by_hand_that_trains_again_begins_at_the_rate_of_then(kit):
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    train_by_hand(model, [swa], epochs=4)
    kit.keras.backend.set_value(model.optimizer.lr, 0.2)
    swa.on_train_begin()
    assert swa.state["learning_rate"] == pytest.approx(0.2)
    swa.restore()
    assert rate_of(kit, model) == pytest.approx(0.2)


@both_modes
def test_a_loop_by_hand_leaves_the_history_of_an_earlier_fit(kit):
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    rates = list(fit(model, swa)["lr"])
    history = model.history
    train_by_hand(model, [kit.SWA(*CYCLIC)], epochs=6)
    assert history.history["lr"] == rates


@both_modes
def test_a_loop_by_hand_that_goes_on_after_the_pass_trains_at_swas_rates(kit):
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    with pytest.warns(RuntimeWarning, match=STAY):
        train_by_hand(model, (swa, seen), epochs=5, announced=4)
    planned = swa.plan(4, BATCHES, 0.1).rates.ravel()
    assert seen.rates[: 4 * BATCHES] == pytest.approx(list(planned), rel=5e-7)
    assert min(seen.rates[4 * BATCHES :]) > 0
    assert not equal(seen.weights[4][:1], seen.weights[3][:1])


@both_modes
def test_a_loop_by_hand_must_tell_its_epochs(kit):
    swa = kit.SWA(2)
    swa.set_model(build(kit))
    with refused("set_params must be called with the number of epochs"):
        swa.on_train_begin()


@both_modes
def test_a_loop_by_hand_that_was_ended_does_not_go_on(kit):
    model = build(kit)
    swa, other = kit.SWA(2), kit.SWA(2)
    for callback in (swa, other):
        callback.set_model(model)
        callback.set_params({"epochs": EPOCHS, "steps": BATCHES})
        callback.on_train_begin()
    with refused("on_train_begin must be called before on_epoch_begin"):
        swa.on_epoch_begin(0)
    other.on_epoch_begin(0)
    other.restore()
    with refused("restore.. or another SWA has ended the training"):
        other.on_epoch_begin(1)


@both_modes
def test_an_except_clause_in_the_batch_norm_epoch_leaves_the_trained_weights(kit):
    model = build(kit)
    swa = kit.SWA(2)
    seen = recorder(kit)
    breaker = at(kit, "on_batch_end", interrupt, 3, 1)
    with contextlib.suppress(KeyboardInterrupt):
        train_by_hand(model, (swa, seen, breaker), EPOCHS)
    with pytest.warns(RuntimeWarning, match=STAY):
        swa.on_train_end()
    assert equal(model.get_weights(), seen.weights[2])
    assert rate_of(kit, model) == pytest.approx(0.1)
    assert swa.batch_norm_epoch is None


@both_modes
def test_a_loop_by_hand_may_end_in_an_except_clause(kit):
    model = build(kit, False)
    swa = kit.SWA(2)
    seen = recorder(kit)

    breaker = at(kit, "on_batch_end", interrupt, 4)
    try:
        train_by_hand(model, (swa, seen, breaker), epochs=6)
    except KeyboardInterrupt:
        swa.on_train_end()
    assert swa.n_averaged == 3
    assert_averaged(model, seen.weights[1:])


@both_modes
def test_fit_may_run_in_an_except_clause(kit):
    model = build(kit, False)
    seen = recorder(kit)
    try:
        raise OSError("no saved model")
    except OSError:
        fit(model, kit.SWA(2), seen)
    assert_averaged(model, seen.weights[1:])


@both_modes
def test_a_loop_by_hand_after_an_interrupt_begins_on_the_trained_weights(kit):
    model = build(kit)
    seen, after = recorder(kit), recorder(kit)
    interrupted(kit, model, kit.SWA(2), 3, seen)
    train_by_hand(model, (kit.SWA(2), after), epochs=4)
    assert equal(after.begun, seen.weights[2])


@both_modes
def test_a_callback_list_of_the_users_is_given_back(kit):
    from tensorflow.python.keras import callbacks as tf_callbacks  # not in tf.keras

    kinds = kit.keras.callbacks if kit.name == "keras" else tf_callbacks
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    model = build(kit)
    callbacks = kinds.CallbackList([swa, seen])
    for _ in range(2):
        train_by_hand(model, [callbacks], epochs=4)
        assert callbacks.callbacks == [swa, seen]
    assert_rates(seen.rates, swa, 4)


# What an exception leaves


def by_hand(kit, model, swa, breaker):
    train_by_hand(model, [swa, breaker], EPOCHS)


def inside_another_callback(kit, model, swa, breaker):
    """A callback of an outer `fit` trains by hand in one of its hooks."""
    inner = at(kit, "on_epoch_end", lambda _: by_hand(kit, model, swa, breaker), 0)
    fit(build(kit), inner, epochs=1)


@both_modes
@pytest.mark.parametrize("train", [by_hand, inside_another_callback])
@pytest.mark.parametrize("epoch", [2, 3], ids=["averaging", "batch-norm epoch"])
@pytest.mark.parametrize(
    "follows", ["fit", "fit with SWA", "loop", "loop of another SWA"]
)
def test_a_fit_after_a_loop_cut_off_trains_at_the_users_rate(
    kit, train, epoch, follows
):
    model = build(kit)
    swa = kit.SWA(2, "constant", 0.01)
    breaker = at(kit, "on_batch_end", interrupt, epoch, 1)
    with contextlib.suppress(KeyboardInterrupt):
        train(kit, model, swa, breaker)
    after = recorder(kit)
    if follows == "fit":
        fit(model, after, epochs=1)
        assert after.rates == pytest.approx([0.1] * BATCHES)
        assert not equal(after.begun[:1], after.weights[0][:1])
        return
    swa = kit.SWA(2, "constant", 0.05) if follows == "loop of another SWA" else swa
    if follows == "fit with SWA":
        fit(model, swa, after)
    else:
        train_by_hand(model, (swa, after), EPOCHS)
    assert_averaged(model, after.weights[SAMPLED], data()[0])
    assert_rates(after.rates, swa, EPOCHS)
    assert rate_of(kit, model) == pytest.approx(0.1)


# The forward-only epoch


@both_modes
def test_is_forward_only_tells_the_batch_norm_epoch(kit):
    model = build(kit)
    swa = kit.SWA(2)
    values = [swa.is_forward_only]
    fit(
        model,
        swa,
        at(kit, "on_batch_begin", lambda model: values.append(swa.is_forward_only)),
    )
    assert values == [False] * (1 + 3 * BATCHES) + [True] * BATCHES
    assert not swa.is_forward_only


def train_by_tape(model, swa, epochs, fail_at=None):
    """A GradientTape loop, which leaves its step out in the forward-only epoch."""
    import tensorflow as tf

    x, y = data()
    optimizer = tf.keras.optimizers.SGD(0.1)
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy()
    swa.set_model(model)
    swa.set_params({"epochs": epochs, "steps": BATCHES})
    swa.on_train_begin()
    sampled = []
    try:
        for epoch in range(epochs):
            swa.on_epoch_begin(epoch)
            for batch, start in enumerate(range(0, ROWS, BATCH)):
                swa.on_batch_begin(batch)
                if (epoch, batch) == fail_at:
                    raise OSError("disk full")
                rows = slice(start, start + BATCH)
                with tf.GradientTape() as tape:
                    loss = loss_of(y[rows], model(x[rows], training=True))
                if not swa.is_forward_only:
                    weights = model.trainable_variables
                    steps = zip(tape.gradient(loss, weights), weights)
                    optimizer.apply_gradients(steps)
                swa.on_batch_end(batch)
            swa.on_epoch_end(epoch)
            sampled.append(model.get_weights())
        swa.on_train_end()
    except OSError:
        swa.restore()
    return sampled


@only_eager("has loops of a GradientTape")
def test_a_loop_of_a_gradient_tape_leaves_its_step_out(tf_kit):
    model = build(tf_kit)
    swa = tf_kit.SWA(2)
    sampled = train_by_tape(model, swa, EPOCHS)
    assert swa.batch_norm_epoch == EPOCHS
    assert_averaged(model, sampled[SAMPLED], data()[0])


@only_eager("has loops of a GradientTape")
def test_restore_gives_a_loop_of_a_gradient_tape_its_weights_back(tf_kit):
    model = build(tf_kit)
    swa = tf_kit.SWA(2)
    sampled = train_by_tape(model, swa, EPOCHS, fail_at=(3, 1))
    assert equal(model.get_weights(), sampled[2])
    assert not swa.is_forward_only
