# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The callback among others: Keras's own callbacks, failures, resumed runs, ranks.

`test_eager.py` runs this file once more with SWA_TEST_MODE=eager.
"""

import csv
import json
import sys

import numpy as np
import pytest
from test_callback import (
    BATCH,
    BATCHES,
    STATISTICS,
    assert_mean,
    assert_statistics,
    build,
    data,
    equal,
    mean_of,
    rate_of,
    recorder,
    stopper,
)

pytestmark = pytest.mark.both_modes

either_order = pytest.mark.parametrize(
    "first", [True, False], ids=["swa first", "swa last"]
)
NEVER_BETTER = dict(monitor="loss", min_delta=1e9)  # but for the first epoch


def run(model, callbacks, **options):
    """`fit` on the usual rows in their order, so that two runs can be equal."""
    x, y = options.pop("data", None) or data()
    options = dict(dict(batch_size=BATCH, epochs=7, shuffle=False), **options)
    return model.fit(x, y, verbose=0, callbacks=callbacks, **options)


def in_order(swa, others, first):
    return [swa] + others if first else others + [swa]


def twins(kit, *args, **options):
    """Two models with the same weights."""
    first, second = build(kit, *args, **options), build(kit, *args, **options)
    second.set_weights(first.get_weights())
    return first, second


def slots_of(kit, model):
    return kit.keras.backend.batch_get_value(model.optimizer.weights)


# Keras's own callbacks


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


@either_order
def test_callbacks_that_only_watch_change_nothing(kit, first, tmp_path):
    alone, watched = twins(kit)
    held_out = dict(validation_data=data(7, 20), epochs=4)
    plain = run(alone, [kit.SWA(2, "constant", 0.01)], **held_out).history
    swa = kit.SWA(2, "constant", 0.01)
    history = run(
        watched, in_order(swa, watchers(kit, tmp_path), first), **held_out
    ).history
    assert equal(watched.get_weights(), alone.get_weights())
    for name in plain:  # Keras shuffles the rows of validation: roundings differ
        np.testing.assert_allclose(history[name], plain[name], rtol=1e-6)
    with open(str(tmp_path / "log.csv")) as file:
        logged = [float(row["loss"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(logged, plain["loss"], rtol=1e-6)
    assert list((tmp_path / "board").iterdir())


@either_order
def test_a_checkpoint_of_each_epoch_holds_the_weights_of_that_epoch(
    kit, first, tmp_path
):
    model, seen = build(kit), recorder(kit)
    save = kit.keras.callbacks.ModelCheckpoint(
        str(tmp_path / "{epoch}.h5"), save_weights_only=True
    )
    swa = kit.SWA(2, "cyclic", 0.01, 0.05, 2)
    run(model, [seen] + in_order(swa, [save], first), epochs=5)
    for epoch in range(1, 5):
        model.load_weights(str(tmp_path / f"{epoch}.h5"))
        assert equal(model.get_weights(), seen.weights[epoch - 1])


@either_order
def test_swas_rate_wins_over_reduce_on_plateau(kit, first):
    model, seen = build(kit), recorder(kit)
    swa = kit.SWA(3, "cyclic", 0.01, 0.05, 2)
    plateau = kit.keras.callbacks.ReduceLROnPlateau(patience=1, **NEVER_BETTER)
    history = run(model, in_order(swa, [plateau], first) + [seen], epochs=5).history
    planned = swa.plan(5, BATCHES).rates.ravel()
    # rtol: float32 holds the rate, after three roundings
    np.testing.assert_allclose(seen.rates, planned, rtol=5e-7)
    np.testing.assert_allclose(history["lr"], planned, rtol=1e-12)
    assert rate_of(kit, model) == pytest.approx(0.1)


@either_order
def test_manual_leaves_reduce_on_plateau_its_rate(kit, first):
    model, seen = build(kit), recorder(kit)
    plateau = kit.keras.callbacks.ReduceLROnPlateau(
        patience=1, factor=0.5, **NEVER_BETTER
    )
    callbacks = in_order(kit.SWA(3), [plateau], first) + [seen]
    history = run(model, callbacks, epochs=5, batch_size=50).history
    np.testing.assert_allclose(seen.rates, [0.1, 0.1, 0.05, 0.025, 0.0], rtol=1e-6)
    # its own: the pass gives the rate back before the last epoch ends
    ends = [0.1, 0.1, 0.05, 0.025, 0.0125]
    np.testing.assert_allclose(history["lr"], ends, rtol=1e-6)
    assert rate_of(kit, model) == pytest.approx(0.00625)  # set after the fifth epoch


def test_manual_leaves_a_scheduler_before_it_its_rate(tf_kit):
    model, seen = build(tf_kit), recorder(tf_kit)
    mine = tf_kit.keras.callbacks.LearningRateScheduler(
        lambda epoch: 0.01 * (epoch + 1)
    )
    run(model, [mine, tf_kit.SWA(3), seen], epochs=5, batch_size=50)
    np.testing.assert_allclose(seen.rates, [0.01, 0.02, 0.03, 0.04, 0.0], rtol=1e-6)
    assert rate_of(tf_kit, model) == pytest.approx(0.05)


def best_keeper(kit, patience):
    """Stops after 1 + patience epochs and restores the weights of the first."""
    return kit.keras.callbacks.EarlyStopping(
        mode="max", patience=patience, restore_best_weights=True, **NEVER_BETTER
    )


@either_order
def test_without_batch_norm_the_average_wins_over_the_best_weights(kit, first):
    model, seen, stop = build(kit, False), recorder(kit), best_keeper(kit, 3)
    swa = kit.SWA(3)
    run(model, [seen, swa, stop] if first else [stop, seen, swa])
    assert stop.stopped_epoch == 3
    # what EarlyStopping restores before SWA's turn is what SWA samples
    assert equal(seen.weights[3], seen.weights[0]) is not first
    assert_mean(model.get_weights(), seen.weights[2:4])


def test_with_batch_norm_the_average_wins_over_best_weights_before_it(kit):
    model, seen, stop, swa = build(kit), recorder(kit), best_keeper(kit, 3), kit.SWA(3)
    run(model, [stop, seen, swa])
    assert len(seen.weights) == 5 and swa.batch_norm_epoch == 5
    assert_mean(model.get_weights(), seen.weights[2:4], skip=STATISTICS)
    assert_statistics(model.get_weights(), data()[0])


def test_with_batch_norm_best_weights_after_swa_stay_until_apply(tf_kit):
    model, seen, stop, swa = (
        build(tf_kit),
        recorder(tf_kit),
        best_keeper(tf_kit, 3),
        tf_kit.SWA(3),
    )
    with pytest.warns(RuntimeWarning, match=r"trained weights stay.*swa.apply\(x\)"):
        run(model, [seen, swa, stop])
    assert equal(model.get_weights(), seen.weights[0])
    swa.apply(data()[0])
    assert_mean(model.get_weights(), seen.weights[2:4], skip=STATISTICS)
    assert_statistics(model.get_weights(), data()[0])


def spoiler(kit, epoch, batch):
    """Makes a weight NaN before a batch, so that its loss is NaN."""

    class Spoil(kit.keras.callbacks.Callback):
        def on_epoch_begin(self, now, logs=None):
            self.epoch = now

        def on_batch_begin(self, now, logs=None):
            if (self.epoch, now) == (epoch, batch):
                weights = self.model.get_weights()
                weights[0][0, 0] = np.nan
                self.model.set_weights(weights)

    return Spoil()


@either_order
def test_terminate_on_nan_leaves_the_average_of_the_finite_samples(kit, first):
    model, seen, swa = build(kit, False), recorder(kit), kit.SWA(3)
    nan = kit.keras.callbacks.TerminateOnNaN()
    with pytest.warns(RuntimeWarning, match="epoch 5 hold NaN or Inf"):
        run(model, [seen, spoiler(kit, 4, 1)] + in_order(swa, [nan], first))
    assert (len(seen.weights), swa.n_averaged, swa.n_skipped) == (5, 2, 1)
    assert_mean(model.get_weights(), seen.weights[2:4])


def test_terminate_on_nan_before_swa_ends_with_the_batch_norm_pass(tf_kit):
    model, seen, swa = build(tf_kit), recorder(tf_kit), tf_kit.SWA(3)
    nan = tf_kit.keras.callbacks.TerminateOnNaN()
    with pytest.warns(RuntimeWarning, match="epoch 5 hold NaN or Inf"):
        run(model, [seen, spoiler(tf_kit, 4, 3), nan, swa])
    assert len(seen.weights) == 6
    assert_mean(model.get_weights(), seen.weights[2:4], skip=STATISTICS)
    assert_statistics(model.get_weights(), data()[0])


def test_terminate_on_nan_after_swa_says_that_the_average_is_not_set(tf_kit):
    model, seen, swa = build(tf_kit), recorder(tf_kit), tf_kit.SWA(3)
    nan = tf_kit.keras.callbacks.TerminateOnNaN()
    with pytest.warns(RuntimeWarning, match=r"trained weights stay.*swa.apply\(x\)"):
        run(model, [seen, spoiler(tf_kit, 4, 1), swa, nan])
    swa.apply(data()[0])
    assert_mean(model.get_weights(), seen.weights[2:4], skip=STATISTICS)
    assert_statistics(model.get_weights(), data()[0])


# A stop inside an epoch, and data that end


def round_trip(state, folder):
    """A state through files: plain values as JSON, arrays without pickle."""
    arrays, plain = folder / "average.npz", folder / "state.json"
    np.savez(str(arrays), *state["average"])
    plain.write_text(json.dumps({k: v for k, v in state.items() if k != "average"}))
    loaded = json.loads(plain.read_text())
    with np.load(str(arrays), allow_pickle=False) as file:
        loaded["average"] = [file[f"arr_{i}"] for i in range(len(state["average"]))]
    return loaded


def saver(kit, swa):
    """Keeps what a caller saves at the end of each epoch; placed after SWA."""

    class Save(kit.keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.saved = []

        def on_epoch_end(self, epoch, logs=None):
            weights, slots = self.model.get_weights(), slots_of(kit, self.model)
            self.saved.append((swa.state, weights, slots))

    return Save()


@pytest.mark.parametrize(
    "batch_norm, schedule",
    [(True, "cyclic"), (True, "manual"), (False, "constant")],
    ids=["batch norm, cyclic", "batch norm, manual", "plain, constant"],
)
def test_a_resumed_run_equals_the_unbroken_one_bit_by_bit(
    kit, batch_norm, schedule, tmp_path
):
    settings, options = (4, schedule, "auto", "auto", 2), dict(epochs=8, batch_size=25)
    # 'auto' rates are of the rate that training began with, which the state knows:
    # a model saved in mid-training has that of the moment
    rate = 0.1 if schedule == "manual" else 0.03
    whole, resumed = build(kit, batch_norm), build(kit, batch_norm, learning_rate=rate)
    swa, again = kit.SWA(*settings), kit.SWA(*settings)
    save = saver(kit, swa)
    run(whole, [swa, save], **options)
    run(resumed, [again], epochs=5)  # what it learned must not be seen any more
    for epoch in (1, 4, 6):  # before the first sample, between two, before the pass
        state, weights, slots = save.saved[epoch]
        resumed.set_weights(weights)
        resumed.optimizer.set_weights(slots)
        again.load_state(round_trip(state, tmp_path))
        run(resumed, [again], initial_epoch=epoch + 1, **options)
        assert equal(resumed.get_weights(), whole.get_weights()), epoch
        assert again.n_averaged == swa.n_averaged
        assert equal(again.state["average"], swa.state["average"]), epoch


def test_a_state_of_before_the_first_fit_changes_nothing(tf_kit):
    first, second = twins(tf_kit)
    run(first, [tf_kit.SWA(2, "constant", 0.01)], epochs=3)
    swa = tf_kit.SWA(2, "constant", 0.01)
    swa.load_state(tf_kit.SWA(2, "constant", 0.01).state)
    run(second, [swa], epochs=3)
    assert equal(first.get_weights(), second.get_weights())


def test_a_state_counts_the_samples_left_out(tf_kit, tmp_path):
    model, swa = build(tf_kit, False), tf_kit.SWA(3)
    with pytest.warns(RuntimeWarning, match="NaN or Inf"):
        run(model, [spoiler(tf_kit, 3, 0), swa], epochs=5)
    again, healthy = tf_kit.SWA(3), build(tf_kit, False)
    again.load_state(round_trip(swa.state, tmp_path))
    run(healthy, [again], epochs=6, initial_epoch=5)
    assert (again.n_averaged, again.n_skipped) == (2, 2)


@pytest.mark.parametrize(
    "name, value",
    [("lr_schedule", "constant"), ("swa_lr", 0.02), ("swa_lr2", 0.06)]
    + [("swa_freq", 3), ("snapshot", "cycle_end")],
)
def test_a_state_of_another_setting_is_refused_by_its_name(tf_kit, name, value):
    mine = dict(start_epoch=3, lr_schedule="cyclic", swa_lr=0.01, swa_lr2=0.05)
    mine.update(swa_freq=2)
    state = tf_kit.SWA(**dict(mine, **{name: value})).state
    with pytest.raises(ValueError, match=f"state must have {name} .*, got {value!r}"):
        tf_kit.SWA(**mine).load_state(state)


def test_a_state_of_another_model_is_refused_when_training_begins(tf_kit):
    swa, model = tf_kit.SWA(2, "constant", 0.01), build(tf_kit, False)
    run(build(tf_kit), [swa], epochs=3)  # with batch norm: eight weights, not four
    again = tf_kit.SWA(2, "constant", 0.01)
    again.load_state(swa.state)
    with pytest.raises(ValueError, match="hold 4 averaged weights.*model, got 8"):
        run(model, [again], epochs=3)
    seen = recorder(tf_kit)
    run(model, [tf_kit.SWA(2), seen], epochs=3)  # the refusal left nothing behind
    assert_mean(model.get_weights(), seen.weights[1:])


def test_a_refused_fit_leaves_the_loaded_state(kit):
    model, swa, seen, later = build(kit), kit.SWA(2), recorder(kit), recorder(kit)
    run(model, [swa, seen], epochs=4)
    again = kit.SWA(2)
    again.load_state(swa.state)
    for _ in range(2):
        with pytest.raises(ValueError, match="start_epoch must be below epochs"):
            run(model, [again], epochs=1)
    with pytest.raises(ValueError, match="hold 4 averaged weights"):
        run(build(kit, False), [again], epochs=5)
    with_average = []

    class Begun(kit.keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            with again.average_applied():
                with_average.append(self.model.get_weights())

    run(model, [again, later, Begun()], initial_epoch=4, epochs=6)
    assert_mean(with_average[0], seen.weights[1:3], skip=STATISTICS)
    sampled = seen.weights[1:3] + later.weights[:1]
    assert again.n_averaged == 3
    assert_mean(model.get_weights(), sampled, skip=STATISTICS)


def test_a_state_with_no_epoch_left_can_be_applied(kit):
    model, swa, x = build(kit), kit.SWA(2), data()[0]
    run(model, [swa], epochs=4)
    final, again = model.get_weights(), kit.SWA(2)
    again.load_state(swa.state)
    swa.restore()
    with pytest.warns(RuntimeWarning, match="before batch normalization"):
        run(model, [again], initial_epoch=4, epochs=4)
    again.apply(x, BATCH)
    assert_mean(model.get_weights(), [final])


def test_a_loaded_state_is_told_until_a_fit_goes_on_from_it(kit):
    model, swa = build(kit, False), kit.SWA(2)
    run(model, [swa], epochs=4)
    saved, used = swa.state, kit.SWA(2)
    run(model, [used], epochs=7)
    for other in (kit.SWA(2), used):
        other.load_state(saved)
        told = other.state
        assert (other.n_averaged, other.n_skipped) == (3, 0)
        assert told["learning_rate"] == saved["learning_rate"]
        assert equal(told["average"], saved["average"])
        with pytest.raises(ValueError, match="fit must begin after load_state"):
            other.apply()
    for wrong in ({}, {"settings": {}}):
        with pytest.raises(ValueError, match="state must be what SWA.state gives"):
            used.load_state(wrong)


@pytest.mark.parametrize("every", ["batch", "epoch"])
@either_order
def test_a_callback_applies_and_restores(kit, every, first):
    """As one watches a moving average: apply, evaluate, restore."""
    (x, y), swa, seen = data(), kit.SWA(2, "cyclic", 0.01, 0.05, 2), recorder(kit)
    model, twin = twins(kit)

    class Watch(kit.keras.callbacks.Callback):
        def look(self, logs):
            if swa.n_averaged:
                swa.apply(x)
                self.model.evaluate(x, y, verbose=0)
                swa.restore()

        def on_batch_end(self, batch, logs=None):
            if every == "batch" and batch == 1:
                self.look(logs)

        def on_epoch_end(self, epoch, logs=None):
            if every == "epoch":
                self.look(logs)

    run(twin, [kit.SWA(2, "cyclic", 0.01, 0.05, 2), seen])
    rates = run(model, in_order(swa, [Watch()], first)).history["lr"]
    sampled = [seen.weights[epoch] for epoch in (1, 3, 5)]
    np.testing.assert_allclose(rates, swa.plan(7, 4, 0.1).rates.ravel(), rtol=1e-6)
    assert_mean(model.get_weights(), sampled, STATISTICS)
    assert_statistics(model.get_weights(), x)
    assert swa.batch_norm_epoch == 7
    assert equal(slots_of(kit, model), slots_of(kit, twin))
    assert rate_of(kit, model) == pytest.approx(0.1)
    with swa.trained_weights():
        assert not equal(model.get_weights(), twin.get_weights())


def test_the_average_in_the_history_is_that_of_the_final_model(kit):
    """Also where EarlyStopping puts its best weights into the pass."""
    x, y = data()
    options = dict(validation=(x, y), validation_rows=x, batch_size=BATCH)
    model, swa = build(kit), kit.SWA(2, **options)
    best = kit.keras.callbacks.EarlyStopping(
        patience=2, restore_best_weights=True, **NEVER_BETTER
    )
    told = run(model, [best, swa]).history["swa_loss"][-1]
    assert swa.batch_norm_epoch
    final = model.evaluate(x, y, batch_size=BATCH, verbose=0)
    assert told == pytest.approx(np.ravel(final)[0], rel=1e-5)
    with swa.trained_weights(), swa.average_applied():
        others = model.get_weights()
    assert equal(others, model.get_weights())


def test_a_callback_may_be_told_of_evaluate(tf_kit):
    (x, y), model, swa = data(), build(tf_kit), tf_kit.SWA(2)
    expected = model.evaluate(x, y, verbose=0)
    assert model.evaluate(x, y, verbose=0, callbacks=[swa]) == expected


def test_a_callback_given_twice_is_refused(kit):
    swa = kit.SWA(2)
    with pytest.raises(ValueError, match="callbacks must hold one SWA"):
        run(build(kit), [swa, swa])


def test_names_of_the_users_are_not_taken_for_keras(kit):
    class Settings:
        def __init__(self, callbacks):
            self.callbacks = callbacks

    swa, callbacks = kit.SWA(2), sys.modules["tensorflow"].keras  # has `callbacks`
    run(build(kit), [swa], epochs=4)
    callbacks = Settings([swa])
    run(build(kit), callbacks.callbacks, epochs=4)
    assert swa.n_averaged == 2


def test_a_checkpoint_inside_average_applied_holds_the_average(kit, tmp_path):
    model, x, path = build(kit), data()[0], str(tmp_path / "average.h5")
    swa, seen = kit.SWA(2), recorder(kit)

    class Save(kit.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                with swa.average_applied(x):
                    self.model.save_weights(path)

    run(model, [seen, swa, Save()], epochs=5)
    assert_mean(model.get_weights(), seen.weights[1:4], skip=STATISTICS)
    model.load_weights(path)
    assert_mean(model.get_weights(), seen.weights[1:3], skip=STATISTICS)
    assert_statistics(model.get_weights(), x)


# The average in the history


def results_of(kit, model, weights, *held_out):
    """What `evaluate` says of other weights, with statistics of the usual rows."""
    model.set_weights(weights)
    kit.update_bn(model, data()[0])
    results = model.evaluate(*held_out[:2], 25, 0, *held_out[2:])
    return [float(result) for result in results]


def logged(history, model):
    """The average's results, an array (epochs with an average, 1 + metrics)."""
    return np.transpose([history["swa_" + name] for name in model.metrics_names])


@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "plain"])
def test_validation_logs_what_evaluate_says_of_each_average(kit, batch_norm):
    model, other = twins(kit, batch_norm)
    held_out, seen = data(7, 20), recorder(kit)
    swa = kit.SWA(2, swa_freq=2, validation=held_out, validation_rows=data()[0])
    history = run(model, [seen, swa], epochs=6, batch_size=25).history
    found = logged(history, model)
    averages = [mean_of(seen.weights[1 : e + 1 : 2]) for e in range(1, 6)]
    if batch_norm:  # no sample of the last epoch: it is that of the final model
        averages[4] = averages[3]
    expected = [results_of(kit, other, weights, *held_out) for weights in averages]
    # none for the first epoch, which has no average; then
    # rtol: float32 sums over 20 rows, statistics to 1e-5
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_validation_takes_sample_weights(tf_kit):
    model, other = twins(tf_kit, False)
    weights = np.linspace(0, 2, 20)
    held_out, seen = data(7, 20) + (weights,), recorder(tf_kit)
    swa = tf_kit.SWA(2, validation=held_out)
    history = run(model, [seen, swa], epochs=3, batch_size=25).history
    expected = results_of(tf_kit, other, mean_of(seen.weights[1:]), *held_out)
    np.testing.assert_allclose(logged(history, model)[-1], expected, rtol=1e-5)


def test_validation_takes_a_sequence(kit):
    class HeldOut(kit.keras.utils.Sequence):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            x, y = data(7, 20)
            return x[index * 10 : index * 10 + 10], y[index * 10 : index * 10 + 10]

    model = build(kit)
    swa = kit.SWA(2, validation=HeldOut(), validation_rows=data()[0])
    history = run(model, [swa], epochs=3).history
    # not of arrays: Keras 2.3.1 takes the loss of the last batch of a Sequence
    expected = model.evaluate(HeldOut(), verbose=0)
    np.testing.assert_allclose(logged(history, model)[-1], expected, rtol=1e-5)


def test_validation_changes_nothing_else(kit):
    first, second = twins(kit)
    options = dict(epochs=5, validation_data=data(7, 20))
    plain = run(first, [kit.SWA(2, "cyclic", 0.01, 0.05, 2)], **options).history
    swa = kit.SWA(
        2, "cyclic", 0.01, 0.05, 2, validation=data(8, 20), validation_rows=data()[0]
    )
    history = run(second, [swa], **options).history
    assert equal(first.get_weights(), second.get_weights())
    assert set(history) - set(plain) == {f"swa_{n}" for n in first.metrics_names}
    for name in plain:  # Keras shuffles the rows of validation: roundings differ
        np.testing.assert_allclose(history[name], plain[name], rtol=1e-6)


def test_validation_does_not_undo_a_stop(kit):
    model, seen = build(kit, False), recorder(kit)
    swa = kit.SWA(2, validation=data(7, 20))
    run(model, [stopper(kit, 3), swa, seen])
    assert len(seen.weights) == 4
    assert_mean(model.get_weights(), seen.weights[1:])


@pytest.mark.filterwarnings("ignore:Early stopping conditioned")  # Keras 2.3.1's
def test_early_stopping_waits_for_the_first_average(kit):
    model = build(kit, False)
    swa = kit.SWA(6, validation=data(7, 20))
    # the first epoch with an average is the best; three more, then it stops
    stop = kit.keras.callbacks.EarlyStopping("swa_loss", min_delta=1e9, patience=3)
    history = run(model, [swa, stop], epochs=12).history
    assert len(history["loss"]) == 6 + 3
    assert len(history["swa_loss"]) == 1 + 3


def test_a_way_to_stop_on_the_average_with_batch_norm(tf_kit):
    model, seen, (x, _) = build(tf_kit), recorder(tf_kit), data()
    swa = tf_kit.SWA(3, validation=data(7, 20), validation_rows=x)
    stop = tf_kit.keras.callbacks.EarlyStopping("swa_loss", min_delta=1e9, patience=2)
    with pytest.warns(RuntimeWarning, match=r"trained weights stay.*swa.apply\(x\)"):
        run(model, [seen, swa, stop], epochs=12)
    swa.apply(x)
    assert_mean(model.get_weights(), seen.weights[2:5], skip=STATISTICS)
    assert_statistics(model.get_weights(), x)


def test_validation_with_batch_norm_needs_rows(tf_kit):
    model, swa = build(tf_kit), tf_kit.SWA(3, validation=data(7, 20))
    with pytest.raises(ValueError, match="validation_rows must be given") as error:
        run(model, [swa])
    assert len(str(error.value).splitlines()) == 1


# Several ranks


class FakeRank:
    """One rank's `sum`, where the sums agreed so far are known."""

    def __init__(self, agreed):
        self.agreed, self.own = agreed, []

    def sum(self, arrays):
        # a card's collectives know no float64
        own = [np.asarray(a, "int64" if a.dtype.kind == "i" else "f4") for a in arrays]
        self.own.append(own)
        calls = len(self.own)
        return own if calls > len(self.agreed) else self.agreed[calls - 1]


def on_two_ranks(work):
    """Runs `work(rank, ranks)` for two ranks, as if at once.

    What a rank gives to its n-th `sum` follows from the sums before: these are
    found one by one, each from a run of both ranks.
    """
    agreed = []
    while True:
        ranks = FakeRank(agreed), FakeRank(agreed)
        for rank in (0, 1):
            work(rank, ranks[rank])
        first, second = [[[a.shape for a in call] for call in r.own] for r in ranks]
        assert first == second, "ranks must ask for the same sums in the same order"
        if len(first) == len(agreed):
            return len(agreed)
        given = [r.own[len(agreed)] for r in ranks]
        agreed.append([a + b for a, b in zip(*given)])


def test_swa_on_two_ranks_ends_with_the_statistics_of_all_rows(tf_kit):
    model = build(tf_kit, learning_rate=1e-30)  # ranks whose gradients would differ
    start, x = model.get_weights(), data()[0]
    parts = [tuple(a[rows] for a in data()) for rows in (slice(32), slice(32, 50))]
    found = {}

    acting = [None]
    swa = tf_kit.SWA(2, ranks=lambda arrays: acting[0].sum(arrays))

    def work(rank, ranks):
        model.set_weights(start)
        acting[0] = ranks
        run(model, [swa], epochs=3, batch_size=(16, 9)[rank], data=parts[rank])
        found[rank] = model.get_weights()

    assert on_two_ranks(work) > 0
    assert equal(found[0][4:6], found[1][4:6])
    assert_statistics(found[0], x)


def test_ranks_must_be_able_to_sum(tf_kit):
    swa, update_bn = tf_kit.SWA, tf_kit.update_bn
    for make in (lambda: swa(3, ranks=2), lambda: update_bn(None, 1, ranks=2)):
        with pytest.raises(ValueError, match="ranks must be.*got 2") as error:
            make()
        assert len(str(error.value).splitlines()) == 1
