# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The batch-norm epoch, `fit`'s last: statistics of all rows, and nothing else moves.

Kinds of models: test_models. Kinds of rows: test_rows.
"""

import numpy as np
import pytest
from support.callback_kit import (
    BATCH,
    CYCLIC,
    FEATURES,
    SAMPLED,
    assert_averaged,
    assert_moments,
    assert_rates,
    assert_statistics,
    at,
    both_modes,
    build,
    compiled,
    data,
    equal,
    fit,
    on_two_ranks,
    recorder,
)


@both_modes
def test_the_average_gets_the_statistics_of_all_rows(kit):
    model = build(kit)
    swa = kit.SWA(3)
    seen = recorder(kit)
    fit(model, swa, seen, epochs=7, shuffle=True)
    assert_averaged(model, seen.weights[2:6], data()[0])
    assert swa.batch_norm_epoch == 7


@both_modes
def test_it_changes_no_slot_and_no_iterations(kit):
    model = build(kit)
    seen = recorder(kit)
    fit(model, kit.SWA(2), seen)
    assert equal(seen.slots[-1], seen.slots[-2])
    assert not equal(seen.slots[-2], seen.slots[-3])


def test_the_stages_are_announced(kit, capsys):
    fit(build(kit), kit.SWA(3, verbose=1), epochs=7)
    lines = capsys.readouterr().out.split("\n")
    assert [line for line in lines if line.startswith("Epoch 0")] == [
        "Epoch 00003: starting stochastic weight averaging",
        "Epoch 00007: final model weights set to stochastic weight average",
        "Epoch 00007: reinitializing batch normalization layers",
        "Epoch 00007: running forward pass to adjust batch normalization",
    ]


@both_modes
def test_on_two_ranks_it_gives_the_statistics_of_all_rows(tf_kit):
    model = build(tf_kit, learning_rate=1e-30)  # ranks whose gradients would differ
    start = model.get_weights()
    (x, y) = data()
    parts = (x[:32], y[:32]), (x[32:], y[32:])
    acting = [None]
    weights = {}
    swa = tf_kit.SWA(2, ranks=lambda arrays: acting[0].sum(arrays))

    def work(rank, ranks):
        model.set_weights(start)
        acting[0] = ranks
        fit(model, swa, rows=parts[rank], epochs=3, batch_size=(16, 9)[rank])
        weights[rank] = model.get_weights()

    assert on_two_ranks(work) > 0
    assert equal(weights[0][4:6], weights[1][4:6])
    assert_statistics(weights[0], x)


def test_a_phase_fixed_after_the_model_was_built_holds_the_statistics(tf_kit):
    """In graph mode, as in plain training, which does not feed it; `apply` does."""
    layers = tf_kit.keras.layers
    inputs = tf_kit.keras.Input((FEATURES,))
    norm = layers.BatchNormalization()
    images = norm(layers.Reshape((2, 1, 3))(inputs))  # which the fused kernel takes
    model = compiled(tf_kit, inputs, layers.Dense(1)(layers.Flatten()(images)))
    x = data()[0]
    swa = tf_kit.SWA(2)
    rows = x, x[:, :1]
    fit(model, swa, rows=rows)
    tf_kit.keras.backend.set_learning_phase(0)
    swa.apply(x + 2)
    assert_moments(norm, (x + 2).reshape(-1, 3))
    before = norm.get_weights()[2:]
    fit(model, swa, rows=rows)
    np.testing.assert_allclose(norm.get_weights()[2], before[0], rtol=1e-6)
    np.testing.assert_allclose(norm.get_weights()[3], before[1], rtol=1e-6)


# What others do while `fit` runs


@both_modes
@pytest.mark.parametrize("weighted", ["none", "others", "fit"])
def test_others_that_train_in_between_change_nothing(kit, weighted):
    """Sample weights that come, or go, in mid-fit make Keras a new train function."""
    (x, y) = data()
    model = build(kit)
    seen = recorder(kit)
    weights = np.ones(8, "float32") if weighted == "others" else None

    class Between(kit.keras.callbacks.Callback):
        def on_batch_end(self, batch, logs=None):
            if batch < 3:  # the batch-norm epoch ends with its last batch
                self.model.train_on_batch(3 * x[:8] + 1, y[:8], sample_weight=weights)

    swa = kit.SWA(*CYCLIC)
    of_fit = dict.fromkeys(range(3), 1.0) if weighted == "fit" else None
    history = fit(model, swa, Between(), seen, class_weight=of_fit)
    assert_rates(history["lr"], swa, 4)
    assert_rates(seen.rates, swa, 4)
    assert equal(seen.slots[-2], seen.slots[-1])  # `iterations` among them
    assert_averaged(model, seen.weights[1:2], x)


@both_modes
@pytest.mark.parametrize("hook", ["on_batch_begin", "on_batch_end"])
@pytest.mark.parametrize("name", ["average_applied", "apply"])
def test_rows_read_within_it_leave_it_whole(kit, name, hook):
    model = build(kit)
    swa = kit.SWA(2)
    seen = recorder(kit)
    x = data()[0]
    statistics = []

    def read(model):
        if name == "apply":
            swa.apply(x + 1)
        with swa.average_applied(None if name == "apply" else x + 1):
            statistics.append(model.get_weights())

    fit(model, swa, seen, at(kit, hook, read, 3, 1))
    assert_statistics(statistics[0], x + 1)
    assert_averaged(model, seen.weights[SAMPLED], x)
    assert equal(seen.slots[2], seen.slots[3])


def test_moments_that_are_taken_away_leave_the_trained_weights(kit):
    """In graph mode, which fetches them."""

    def clear(model):
        model.train_function.fetches = []

    model = build(kit)
    swa = kit.SWA(2)
    seen = recorder(kit)
    with pytest.warns(RuntimeWarning, match="before batch normalization could be"):
        fit(model, swa, at(kit, "on_batch_begin", clear), seen)
    assert swa.batch_norm_epoch is None
    assert equal(model.get_weights(), seen.weights[2])


# Falls: a model compiled anew in mid-fit, in graph mode


def test_a_model_compiled_anew_in_mid_fit_goes_on_as_before(kit):
    """As Keras does: `fit` keeps the train function that it had when it began."""

    def compile_anew(model):
        model.compile("sgd", "sparse_categorical_crossentropy")

    model = build(kit)
    again = at(kit, "on_epoch_end", compile_anew, 1)
    fit(model, kit.SWA(2, "constant", 0.01), again)
    assert_statistics(model.get_weights(), data()[0])


# Falls: batch norm whose training mode is a flag of the user's, in graph mode


def test_a_batch_whose_flag_is_off_moves_no_statistics(tf_kit):
    import tensorflow as tf

    keras = tf_kit.keras
    layers = tf_kit.keras.layers
    flag = keras.backend.variable(True, dtype="bool")
    phase = tf.cast(keras.backend.learning_phase(), "bool")
    inputs = keras.Input((FEATURES,))
    norm = layers.BatchNormalization()
    outputs = norm(inputs, training=tf.logical_and(phase, flag))
    model = compiled(tf_kit, inputs, layers.Dense(1)(outputs))

    class Sets(keras.callbacks.Callback):
        def on_batch_begin(self, batch, logs=None):
            keras.backend.set_value(flag, batch in trained)

    x = data()[0] + 3
    for trained in (range(4), range(1), ()):
        before = norm.get_weights()[2:]
        swa = tf_kit.SWA(2)
        fit(model, swa, Sets(), rows=(x, x[:, :1]))
        assert swa.batch_norm_epoch == 4
        if trained:
            assert_moments(
                norm, np.concatenate([x[i * BATCH :][:BATCH] for i in trained])
            )
        else:
            np.testing.assert_allclose(norm.get_weights()[2], before[0], rtol=1e-5)
            np.testing.assert_allclose(norm.get_weights()[3], before[1], rtol=1e-5)


def test_a_flag_that_the_user_feeds(tf_kit):
    import tensorflow as tf

    shape = (2, 1, 3)
    for value in (False, True):
        flag = tf.compat.v1.placeholder_with_default(False, ())
        norm = tf_kit.keras.layers.BatchNormalization()
        inputs = tf_kit.keras.Input(shape)
        outputs = tf_kit.keras.layers.Flatten()(norm(inputs, training=flag))
        model = tf_kit.keras.Model(inputs, tf_kit.keras.layers.Dense(1)(outputs))
        model.compile("sgd", "mse", feed_dict={flag: value})
        x = np.float64(data()[0]).reshape((-1, *shape))
        fit(model, tf_kit.SWA(2), rows=(x, x[:, 0, 0, :1]))
        mean = x.mean((0, 1, 2)) if value else np.zeros(3)
        np.testing.assert_allclose(norm.get_weights()[2], mean, atol=1e-6)
