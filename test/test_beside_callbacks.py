# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Beside Keras's callbacks: schedules, checkpoints, EarlyStopping, TerminateOnNaN."""

import csv
import sys

import numpy as np
import pytest
from support.callback_kit import (
    CYCLIC,
    SAMPLED,
    STAY,
    assert_averaged,
    assert_rates,
    assert_statistics,
    at,
    best_keeper,
    both_modes,
    build,
    data,
    either_order,
    equal,
    fit,
    in_order,
    new_models,
    rate_of,
    recorder,
    refused,
    spoil,
    twins,
    used_models,
)

pytestmark = used_models

# Those that only watch


def watchers(kit, folder):
    """Callbacks that write what they see and change nothing."""
    keras = kit.keras.callbacks
    board = dict(histogram_freq=0 if kit.is_eager else 1, write_graph=False)
    if kit.name == "tf.keras":
        board.update(profile_batch=0)
    return [
        keras.CSVLogger(str(folder / "log.csv")),
        keras.TensorBoard(str(folder / "board"), **board),
        keras.ModelCheckpoint(str(folder / "{epoch}.h5")),
        keras.TerminateOnNaN(),
    ]


@new_models  # TensorBoard reads every histogram of the graph
@both_modes
def test_callbacks_that_only_watch_change_nothing(kit, tmp_path):
    (alone, watched) = twins(kit)
    held_out = dict(validation_data=data(7, 20))
    plain = fit(alone, kit.SWA(2, "constant", 0.01), **held_out)
    swa = kit.SWA(2, "constant", 0.01)
    others = watchers(kit, tmp_path)
    history = fit(watched, *others[:2], swa, *others[2:], **held_out)
    assert equal(watched.get_weights(), alone.get_weights())
    for name in plain:  # Keras shuffles the rows of validation: roundings differ
        np.testing.assert_allclose(history[name], plain[name], rtol=1e-6)
    with open(str(tmp_path / "log.csv")) as file:
        logged = [float(row["loss"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(logged, plain["loss"], rtol=1e-6)
    assert list((tmp_path / "board").iterdir())


@both_modes
def test_a_callback_may_be_told_of_evaluate(tf_kit):
    (x, y) = data()
    model = build(tf_kit)
    swa = tf_kit.SWA(2)
    expected = model.evaluate(x, y, verbose=0)
    assert model.evaluate(x, y, verbose=0, callbacks=[swa]) == expected


@both_modes
def test_names_of_the_users_are_not_taken_for_keras(kit):
    class Settings:
        def __init__(self, callbacks):
            self.callbacks = callbacks

    swa, callbacks = kit.SWA(2), sys.modules["tensorflow"].keras  # has `callbacks`
    fit(build(kit), swa)
    callbacks = Settings([swa])
    fit(build(kit), *callbacks.callbacks)
    assert swa.n_averaged == 2


# Checkpoints


@both_modes
@either_order
def test_a_checkpoint_of_each_epoch_holds_the_weights_of_that_epoch(
    kit, first, tmp_path
):
    model = build(kit)
    seen = recorder(kit)
    save = kit.keras.callbacks.ModelCheckpoint(
        str(tmp_path / "{epoch}.h5"), save_weights_only=True
    )
    fit(model, seen, *in_order(kit.SWA(*CYCLIC), save, first), epochs=5)
    final = model.get_weights()
    for epoch, weights in enumerate(seen.weights[:4] + [final], 1):
        model.set_weights([np.zeros_like(weight) for weight in final])
        model.load_weights(str(tmp_path / f"{epoch}.h5"))
        assert equal(model.get_weights(), weights)


@new_models
@both_modes
def test_a_file_saved_in_the_batch_norm_epoch_can_go_on(kit, tmp_path):
    path = str(tmp_path / "model.h5")
    seen = recorder(kit)
    save = kit.keras.callbacks.ModelCheckpoint(path)
    fit(build(kit), save, kit.SWA(2, "constant", 0.01))
    loaded = kit.keras.models.load_model(path)
    assert rate_of(kit, loaded) == pytest.approx(0.1)
    fit(loaded, seen, epochs=2)
    assert not equal(seen.weights[0], seen.weights[1])


@new_models
@both_modes
@either_order
def test_a_saved_model_of_every_epoch(tf_kit, tmp_path, first):
    """It traces the layers, whose updates then lie in graphs that are gone."""
    folders = [str(tmp_path / str(epoch)) for epoch in range(4)]

    def save(model):
        model.save(folders.pop(0), save_format="tf")

    model = build(tf_kit)
    seen = recorder(tf_kit)
    saver = at(tf_kit, "on_epoch_end", save)
    swa = tf_kit.SWA(2)
    fit(model, *in_order(swa, saver, first), seen)
    assert len(list(tmp_path.iterdir())) == 4
    assert_averaged(model, seen.weights[SAMPLED], data()[0])
    swa.apply(data()[0] + 1)
    assert_statistics(model.get_weights(), data()[0] + 1)


# Schedules


@both_modes
@either_order
def test_swas_rate_wins_over_a_scheduler(kit, first):
    model = build(kit, False)
    swa = kit.SWA(3, "constant", 0.01)
    seen = recorder(kit)
    other = kit.keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    fit(model, *in_order(swa, other, first), seen, batch_size=50, epochs=5)
    assert_rates(seen.rates, swa, 5, batches=1)


@both_modes
@either_order
def test_swas_rate_wins_over_reduce_on_plateau(kit, first):
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    other = plateau(kit)
    history = fit(model, *in_order(swa, other, first), seen, epochs=5)
    assert_rates(seen.rates, swa, 5)
    planned = swa.plan(5, 4).rates.ravel()
    np.testing.assert_allclose(history["lr"], planned, rtol=1e-12)
    assert rate_of(kit, model) == pytest.approx(0.1)


def plateau(kit):
    """Halves the rate after each epoch from the second on."""
    return kit.keras.callbacks.ReduceLROnPlateau(
        monitor="loss", min_delta=1e9, patience=1, factor=0.5
    )


@both_modes
@either_order
def test_manual_leaves_reduce_on_plateau_its_rate(kit, first):
    model = build(kit)
    seen = recorder(kit)
    callbacks = in_order(kit.SWA(3), plateau(kit), first)
    history = fit(model, *callbacks, seen, epochs=5, batch_size=50)
    np.testing.assert_allclose(seen.rates, [0.1, 0.1, 0.05, 0.025, 0.0], rtol=1e-6)
    # its own: the rate is given back before the last epoch ends
    ends = [0.1, 0.1, 0.05, 0.025, 0.0125]
    np.testing.assert_allclose(history["lr"], ends, rtol=1e-6)
    assert rate_of(kit, model) == pytest.approx(0.00625)  # set after the fifth epoch


@both_modes
@either_order
def test_manual_leaves_a_scheduler_its_rate(kit, first):
    model = build(kit)
    seen = recorder(kit)
    mine = kit.keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 * (epoch + 1))
    callbacks = in_order(kit.SWA(3), mine, first)
    history = fit(model, *callbacks, seen, batch_size=50, epochs=5)
    np.testing.assert_allclose(seen.rates, [0.01, 0.02, 0.03, 0.04, 0.0], rtol=1e-6)
    assert rate_of(kit, model) == pytest.approx(0.05)  # as the schedule last set it
    assert len(history["lr"]) == 5  # the scheduler's own, by epoch


# EarlyStopping that restores the weights of the first epoch, its best


@both_modes
@either_order
def test_in_the_batch_norm_epoch_best_weights_do_not_undo_the_average(kit, first):
    model = build(kit)
    swa = kit.SWA(2)
    seen = recorder(kit)
    early = best_keeper(kit, 3)  # the last epoch restores them
    fit(model, seen, *in_order(swa, early, first))
    assert early.stopped_epoch == 3
    assert_averaged(model, seen.weights[SAMPLED], data()[0])


@both_modes
@either_order
def test_without_batch_norm_the_average_wins_over_the_best_weights(kit, first):
    model = build(kit, False)
    seen = recorder(kit)
    early = best_keeper(kit, 3)
    swa = kit.SWA(3)
    fit(model, *([seen, swa, early] if first else [early, seen, swa]), epochs=7)
    assert early.stopped_epoch == 3
    # what EarlyStopping restores before SWA's turn is what SWA samples
    assert equal(seen.weights[3], seen.weights[0]) is not first
    assert_averaged(model, seen.weights[2:4])


@both_modes
def test_with_batch_norm_the_average_wins_over_best_weights_before_it(kit):
    model = build(kit)
    swa = kit.SWA(3)
    seen = recorder(kit)
    fit(model, best_keeper(kit, 3), seen, swa, epochs=7)
    assert len(seen.weights) == 5 and swa.batch_norm_epoch == 5
    assert_averaged(model, seen.weights[2:4], data()[0])


@both_modes
def test_with_batch_norm_best_weights_after_swa_stay_until_apply(tf_kit):
    model = build(tf_kit)
    swa = tf_kit.SWA(3)
    seen = recorder(tf_kit)
    with pytest.warns(RuntimeWarning, match=STAY):
        fit(model, seen, swa, best_keeper(tf_kit, 3), epochs=7)
    assert equal(model.get_weights(), seen.weights[0])
    with refused("x must be"):
        swa.apply()
    swa.apply(data()[0])
    assert_averaged(model, seen.weights[2:4], data()[0])


# TerminateOnNaN


@both_modes
@either_order
def test_terminate_on_nan_leaves_the_average_of_the_finite_samples(kit, first):
    model = build(kit, False)
    swa = kit.SWA(3)
    seen = recorder(kit)
    spoiler = at(kit, "on_batch_begin", spoil, 4, 1)
    callbacks = in_order(swa, kit.keras.callbacks.TerminateOnNaN(), first)
    with pytest.warns(RuntimeWarning, match="epoch 5 hold NaN or Inf"):
        fit(model, seen, spoiler, *callbacks, epochs=7)
    assert (len(seen.weights), swa.n_averaged, swa.n_skipped) == (5, 2, 1)
    assert_averaged(model, seen.weights[2:4])


@both_modes
def test_terminate_on_nan_before_swa_ends_with_the_batch_norm_epoch(tf_kit):
    model = build(tf_kit)
    swa = tf_kit.SWA(3)
    seen = recorder(tf_kit)
    spoiler = at(tf_kit, "on_batch_begin", spoil, 4, 3)
    terminate = tf_kit.keras.callbacks.TerminateOnNaN()
    with pytest.warns(RuntimeWarning, match="epoch 5 hold NaN or Inf"):
        fit(model, seen, spoiler, terminate, swa, epochs=7)
    assert len(seen.weights) == 6
    assert_averaged(model, seen.weights[2:4], data()[0])
