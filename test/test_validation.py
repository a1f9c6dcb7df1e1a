# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""`validation`: the average on held-out rows, in the history of `fit`."""

import itertools

import numpy as np
import pytest
from support.callback_kit import (
    BATCH,
    CYCLIC,
    STAY,
    assert_averaged,
    at,
    batches_of,
    best_keeper,
    both_modes,
    build,
    data,
    equal,
    fit,
    mean_of,
    new_models,
    recorder,
    refused,
    sequence,
    stop,
    twins,
    used_models,
)

pytestmark = used_models

HELD_OUT = data(7, 20)


@both_modes
def test_keras_validation_of_the_last_epoch_is_that_of_the_final_model(kit):
    model = build(kit)
    history = fit(model, kit.SWA(3), validation_data=HELD_OUT)
    loss, accuracy = model.evaluate(*HELD_OUT, batch_size=20, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)
    name = [key for key in history if key.startswith("val_acc")][0]
    assert history[name][-1] == pytest.approx(accuracy, rel=1e-6)


def results_of(kit, model, weights, *held_out):
    """What `evaluate` says of other weights, with statistics of the usual rows."""
    model.set_weights(weights)
    kit.update_bn(model, data()[0])
    results = model.evaluate(*held_out[:2], 25, 0, *held_out[2:])
    return [float(result) for result in results]


def logged(history, model):
    """The average's results, an array (epochs with an average, 1 + metrics)."""
    return np.transpose([history["swa_" + name] for name in model.metrics_names])


@both_modes
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "plain"])
def test_each_average_gets_what_evaluate_says_of_it(kit, batch_norm):
    (model, other) = twins(kit, batch_norm)
    seen = recorder(kit)
    swa = kit.SWA(2, swa_freq=2, validation=HELD_OUT, validation_rows=data()[0])
    history = fit(model, seen, swa, epochs=6, batch_size=25)
    # none for the first epoch, which has no average
    averages = [mean_of(seen.weights[1 : epoch + 1 : 2]) for epoch in range(1, 6)]
    if batch_norm:  # no sample of the last epoch: it is that of the final model
        averages[4] = averages[3]
    expected = [results_of(kit, other, weights, *HELD_OUT) for weights in averages]
    # rtol: float32 sums over 20 rows, statistics to 1e-5
    np.testing.assert_allclose(logged(history, model), expected, rtol=2e-5)


def test_validation_takes_sample_weights(tf_kit):
    (model, other) = twins(tf_kit, False)
    seen = recorder(tf_kit)
    held_out = HELD_OUT + (np.linspace(0, 2, 20),)
    swa = tf_kit.SWA(2, validation=held_out)
    history = fit(model, seen, swa, epochs=3, batch_size=25)
    expected = results_of(tf_kit, other, mean_of(seen.weights[1:]), *held_out)
    np.testing.assert_allclose(logged(history, model)[-1], expected, rtol=1e-5)


@both_modes
def test_validation_takes_a_sequence(kit):
    model = build(kit)
    x = data()[0]
    batches = list(zip(batches_of(HELD_OUT[0], 10), batches_of(HELD_OUT[1], 10)))
    held_out = sequence(kit, batches)
    swa = kit.SWA(2, validation=held_out, validation_rows=x)
    history = fit(model, swa, epochs=3)
    # not of arrays: Keras 2.3.1 takes the loss of the last batch of a Sequence
    expected = model.evaluate(held_out, verbose=0)
    np.testing.assert_allclose(logged(history, model)[-1], expected, rtol=1e-5)


def test_validation_takes_a_list(kit):
    model = build(kit, False)
    swa = kit.SWA(2, validation=list(HELD_OUT))
    for _ in range(2):  # none for the first epoch of the second fit either
        history = fit(model, swa, batch_size=np.int64(16))
        assert len(history["swa_loss"]) == 3


@new_models  # used ones differ in the last bit
@both_modes
def test_validation_changes_nothing_else(kit):
    first, second = twins(kit)
    options = dict(epochs=5, validation_data=HELD_OUT)
    plain = fit(first, kit.SWA(*CYCLIC), **options)
    swa = kit.SWA(*CYCLIC, validation=data(8, 20), validation_rows=data()[0])
    history = fit(second, swa, **options)
    assert equal(first.get_weights(), second.get_weights())
    assert set(history) - set(plain) == {f"swa_{n}" for n in first.metrics_names}
    for name in plain:  # Keras shuffles the rows of validation: roundings differ
        np.testing.assert_allclose(history[name], plain[name], rtol=1e-6)


@both_modes
def test_the_average_in_the_history_is_that_of_the_final_model(kit):
    """Also where EarlyStopping puts its best weights into the batch-norm epoch.

    Its statistics are those of the rows that it was trained on.
    """
    x, y = data()
    model = build(kit)
    swa = kit.SWA(2, validation=(x, y), validation_rows=x + 1, batch_size=BATCH)
    history = fit(model, best_keeper(kit, 2), swa, epochs=7)
    assert swa.batch_norm_epoch
    final = model.evaluate(x, y, batch_size=BATCH, verbose=0)
    assert history["swa_loss"][-1] == pytest.approx(np.ravel(final)[0], rel=1e-5)
    with swa.trained_weights(), swa.average_applied():
        weights = model.get_weights()
    assert equal(weights, model.get_weights())


# Stopping on it


@both_modes
def test_validation_does_not_undo_a_stop(kit):
    model = build(kit, False)
    seen = recorder(kit)
    swa = kit.SWA(2, validation=HELD_OUT)
    fit(model, at(kit, "on_epoch_end", stop, 3), swa, seen, epochs=7)
    assert len(seen.weights) == 4
    assert_averaged(model, seen.weights[1:])


@pytest.mark.filterwarnings("ignore:Early stopping conditioned")  # Keras 2.3.1's
def test_early_stopping_waits_for_the_first_average(kit):
    swa = kit.SWA(6, validation=HELD_OUT)
    # the first epoch with an average is the best; three more, then it stops
    early = kit.keras.callbacks.EarlyStopping("swa_loss", min_delta=1e9, patience=3)
    history = fit(build(kit, False), swa, early, epochs=12)
    assert len(history["loss"]) == 6 + 3
    assert len(history["swa_loss"]) == 1 + 3


@both_modes
def test_a_way_to_stop_on_the_average_with_batch_norm(tf_kit):
    model = build(tf_kit)
    seen = recorder(tf_kit)
    x = data()[0]
    swa = tf_kit.SWA(3, validation=HELD_OUT, validation_rows=x)
    early = tf_kit.keras.callbacks.EarlyStopping("swa_loss", min_delta=1e9, patience=2)
    with pytest.warns(RuntimeWarning, match=STAY):
        fit(model, seen, swa, early, epochs=12)
    swa.apply(x)
    assert_averaged(model, seen.weights[2:5], x)


# What is refused


@both_modes
def test_with_batch_norm_rows_are_needed(tf_kit):
    swa = tf_kit.SWA(3, validation=HELD_OUT)
    with refused("validation_rows must be given"):
        fit(build(tf_kit), swa)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(validation=(x for x in [1])), "validation must be rows that end"),
        (dict(validation_rows=HELD_OUT[0]), "validation must be given with"),
        (dict(validation=[1, 2, 3, 4]), r"validation must be \(x, y\).*got 4 items"),
        (
            dict(validation=HELD_OUT, validation_rows=(x for x in [1])),
            "validation_rows must be rows",
        ),
        (
            dict(validation=HELD_OUT, validation_rows=itertools.cycle([HELD_OUT[0]])),
            "validation_rows must be rows that end",
        ),
    ],
    ids=[
        "generator",
        "rows alone",
        "four items",
        "rows of a generator",
        "endless rows",
    ],
)
def test_rows_that_cannot_be_read_again_are_refused_at_once(tf_kit, options, message):
    with refused(message):
        tf_kit.SWA(2, **options)


def unusable_rows():
    import tensorflow as tf

    x = data()[0]
    return {
        "ragged": (
            tf.compat.v1.ragged.constant_value([[1.0], [2.0, 3.0]]),
            "validation_rows must be dense rows .* RaggedTensorValue",
        ),
        "too narrow": (x[:, :2], r"to have shape \(6,\) but got"),
        "none": (x[:0], "validation_rows must hold at least one row"),
    }


@both_modes
@pytest.mark.parametrize("name", ["ragged", "too narrow", "none"])
def test_rows_for_the_statistics_are_refused_before_training(kit, name):
    rows, sentence = unusable_rows()[name]
    model = build(kit)
    before = model.get_weights()
    with refused(sentence):
        fit(model, kit.SWA(2, validation=HELD_OUT, validation_rows=rows))
    assert equal(model.get_weights(), before)


@both_modes
def test_rows_for_the_statistics_are_read_once_for_each_sample(kit):
    batches = batches_of(data()[0], 10)
    reads = []

    class Batches(kit.keras.utils.Sequence):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            reads.append(index)
            return batches[index]

    swa = kit.SWA(2, validation=HELD_OUT, validation_rows=Batches())
    fit(build(kit), swa)
    assert swa.n_averaged == 2
    # the first batch before training, to see whether the model can take it
    assert reads == [0] + 2 * list(range(5))
