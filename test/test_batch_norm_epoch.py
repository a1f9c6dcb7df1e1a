# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The batch-norm epoch, `fit`'s last: statistics of all rows, and nothing else moves.

Kinds of models: test_models. Kinds of rows: test_rows.
"""

import threading
import warnings

import numpy as np
import pytest
from support.callback_kit import (
    CYCLIC,
    SAMPLED,
    assert_averaged,
    assert_rates,
    assert_statistics,
    at,
    batches_of,
    both_modes,
    build,
    data,
    equal,
    fit,
    new_models,
    on_two_ranks,
    only_eager,
    recorder,
    refused,
    sequence,
    twins,
    used_models,
)

pytestmark = used_models


@both_modes
def test_the_average_gets_the_statistics_of_all_rows(kit):
    model = build(kit)
    swa = kit.SWA(3)
    seen = recorder(kit)
    fit(model, swa, seen, epochs=7, shuffle=True)
    assert_averaged(model, seen.weights[2:6], data()[0])
    assert swa.batch_norm_epoch == 7


@both_modes
@pytest.mark.parametrize("is_spoiled", [False, True], ids=["finite", "NaN"])
def test_the_ranks_sum_once_whatever_the_rows_hold(kit, is_spoiled):
    x, y = data()
    sums = []

    def spoil_rows(model):
        x[3, 0] = np.nan if is_spoiled else 0.0

    def counted(arrays):
        sums.append(1)
        return arrays

    model = build(kit, learning_rate=1e-30)
    swa = kit.SWA(2, ranks=counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        model.fit_generator(
            sequence(kit, list(zip(batches_of(x), batches_of(y)))),
            epochs=4,
            verbose=0,
            callbacks=[at(kit, "on_epoch_begin", spoil_rows, 3), swa],
            validation_data=data(seed=2),
            workers=0,
            shuffle=False,
        )
    assert (swa.batch_norm_epoch is None) == is_spoiled
    assert len(sums) == 3  # counts, means, variances


@both_modes
def test_afterwards_the_average_has_its_statistics(kit):
    model = build(kit)
    swa = kit.SWA(2)
    fit(model, swa)
    assert equal(swa.averaged_weights, model.get_weights())


@both_modes
def test_it_changes_no_slot_and_no_iterations(kit):
    model = build(kit)
    seen = recorder(kit)
    fit(model, kit.SWA(2), seen)
    assert equal(seen.slots[-1], seen.slots[-2])
    assert not equal(seen.slots[-2], seen.slots[-3])


def test_the_stages_are_announced(kit, capsys):
    fit(build(kit), kit.SWA(3, verbose=1), epochs=7, initial_epoch=4)
    lines = capsys.readouterr().out.split("\n")
    assert [line for line in lines if line.startswith("Epoch 0")] == [
        "Epoch 00005: starting stochastic weight averaging",
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


# What others do while `fit` runs


@both_modes
@pytest.mark.parametrize("weighted", ["none", "others", "fit"])
@pytest.mark.parametrize("settings", [CYCLIC, (2,)], ids=["cyclic", "manual"])
def test_others_that_train_in_between_change_nothing(kit, settings, weighted):
    """Sample weights that come, or go, in mid-fit make Keras a new train function."""
    (x, y) = data()
    model = build(kit)
    seen = recorder(kit)
    weights = np.ones(8, "float32") if weighted == "others" else None

    class Between(kit.keras.callbacks.Callback):
        def on_batch_end(self, batch, logs=None):
            if batch < 3:  # the batch-norm epoch ends with its last batch
                self.model.train_on_batch(3 * x[:8] + 1, y[:8], sample_weight=weights)

    swa = kit.SWA(*settings)
    of_fit = dict.fromkeys(range(3), 1.0) if weighted == "fit" else None
    history = fit(model, swa, Between(), seen, class_weight=of_fit)
    if settings == CYCLIC:
        assert_rates(history["lr"], swa, 4)
        assert_rates(seen.rates, swa, 4)
    assert equal(seen.slots[-2], seen.slots[-1])  # `iterations` among them
    assert_averaged(
        model, seen.weights[1:2] if settings == CYCLIC else seen.weights[SAMPLED], x
    )


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


@new_models
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


@only_eager("has a switch that models in two threads share")
def test_another_threads_fit_ends_within_it(tf_kit):
    first, second = twins(tf_kit)
    seen = recorder(tf_kit)
    has_ended = threading.Event()

    def train_the_second():
        fit(second, tf_kit.SWA(2))
        has_ended.set()

    thread = threading.Thread(target=train_the_second)

    def wait(model):
        thread.start()
        thread.join()

    fit(first, tf_kit.SWA(2), seen, at(tf_kit, "on_batch_end", wait, 3, 0))
    assert has_ended.is_set()
    for model in (first, second):
        assert_averaged(model, seen.weights[SAMPLED], data()[0])


# Mid-fit


@new_models
def test_a_model_that_trains_other_layers_in_mid_fit_is_refused(tf_kit):
    def compile_anew(model):
        model.layers[1].trainable = False
        model.compile(model.optimizer, model.loss)

    x, y = data()
    model = build(tf_kit)
    again = at(tf_kit, "on_epoch_end", compile_anew, 1)
    rows = sequence(tf_kit, list(zip(batches_of(x), batches_of(y))))
    with refused("must train the same batch-norm layers"):
        model.fit_generator(rows, epochs=4, verbose=0, callbacks=[tf_kit.SWA(2), again])


@new_models
def test_a_model_with_another_optimizer_in_mid_fit_is_refused(kit):
    """Graph mode: `fit` goes on with the function and the optimizer that it had."""

    def compile_anew(model):
        model.compile("sgd", "sparse_categorical_crossentropy")

    model = build(kit)
    again = at(kit, "on_epoch_end", compile_anew, 1)
    with pytest.raises(ValueError, match="must keep its optimizer while fit with SWA"):
        fit(model, kit.SWA(2, "constant", 0.01), again)
