# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Rows of every kind: those that `fit` trains on, and those that statistics are of.

A new kind is a line of a table: `WAYS` for `fit`, `KINDS_OF_ROWS` and `KINDS_OF_PAIRS`
for `update_bn` of one input and of two, `BAD_ROWS` for what must change nothing.
"""

import itertools

import numpy as np
import pytest
from support.callback_kit import (
    BATCH,
    BATCHES,
    CLASSES,
    CYCLIC,
    EPOCHS,
    FEATURES,
    ROWS,
    SAMPLED,
    STAY,
    assert_averaged,
    assert_moments,
    assert_rates,
    assert_statistics,
    at,
    batches_of,
    both_modes,
    build,
    data,
    data_set,
    equal,
    fit,
    new_models,
    recorder,
    refused,
    sequence,
    stop,
    two_inputs,
    used_models,
)

pytestmark = used_models

# What `fit` trains on

STEPS = 3  # batches an epoch, where the rows do not say


def pairs_of(kit, size=BATCH):
    """Batches of features and classes; the last one may be short."""
    x, y = data()
    return list(zip(batches_of(x, size), batches_of(y, size)))


def recorded_generator(size=None):
    """A generator without end over new rows, and the list of what it gave."""
    generator = np.random.RandomState(3)
    given = []

    def generate():
        while True:
            rows = size or generator.randint(5, 12)
            x = generator.randn(rows, FEATURES).astype("float32")
            given.append(x)
            yield x, generator.randint(0, CLASSES, rows)

    return generate(), given


def sequence_of(kit, size=BATCH):
    return sequence(kit, pairs_of(kit, size))


def weighted_sequence(kit):
    batches = [(x, y, np.ones(len(x))) for x, y in pairs_of(kit)]
    return sequence(kit, batches)


HELD_OUT = data(7, 20)[0] * 100, data(7, 20)[1]
# method of the model, kit -> what it gets, its options
WAYS = {
    "arrays": ("fit", lambda kit: data(), dict(batch_size=BATCH)),
    "class weights": (
        "fit",
        lambda kit: data(),
        dict(batch_size=BATCH, class_weight={0: 0.0, 1: 1.0, 2: 9.0}),
    ),
    "sample weights": (
        "fit",
        lambda kit: data(),
        dict(batch_size=BATCH, sample_weight=np.linspace(0, 9, ROWS)),
    ),
    "beside validation": (
        "fit",
        lambda kit: data(),
        dict(batch_size=BATCH, validation_data=HELD_OUT),
    ),
    # stock eager `fit` refuses a short last batch of a Sequence
    "Sequence": ("fit", lambda kit: [sequence_of(kit, 10)], dict(shuffle=False)),
    "Sequence, fit_generator": (
        "fit_generator",
        lambda kit: [sequence_of(kit)],
        dict(shuffle=False),
    ),
    "Sequence with weights": (
        "fit_generator",
        lambda kit: [weighted_sequence(kit)],
        dict(shuffle=False),
    ),
}
TF_WAYS = {
    "data set": ("fit", lambda kit: [data_set(data()).batch(BATCH)], {}),
    "data set without end": (
        "fit",
        lambda kit: [data_set(data()).batch(BATCH).repeat()],
        dict(steps_per_epoch=4),
    ),
    "data set of unknown length": (
        "fit",
        lambda kit: [data_set(data()).batch(BATCH).filter(lambda x, y: True)],
        {},
    ),
}


def assert_trains(kit, way):
    method, rows, options = way
    model = build(kit)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    train = getattr(model, method)
    train(*rows(kit), epochs=5, verbose=0, callbacks=[swa, seen], **options)
    assert_averaged(model, seen.weights[1:4:2], data()[0])
    # the last rate of an epoch does not depend on how many batches it has
    ends = list(swa.plan(5, BATCHES, 0.1).rates[:-1, -1])
    ends.append(0.1)  # given back with the last batch
    np.testing.assert_allclose(seen.end_rates, ends, rtol=5e-7)
    if not kit.is_eager:  # which asks for a batch too many
        batches = len(seen.rates) // 5
        # and so does the first epoch of a data set of unknown length
        assert_rates(seen.rates[-4 * batches :], swa, 5, batches, first=1)
    assert equal(seen.slots[-1], seen.slots[-2])


@both_modes
@pytest.mark.parametrize("name", WAYS)
def test_fit_with_swa_takes(kit, name):
    assert_trains(kit, WAYS[name])


@both_modes
@pytest.mark.parametrize("name", TF_WAYS)
def test_fit_of_tf_keras_with_swa_takes(tf_kit, name):
    assert_trains(tf_kit, TF_WAYS[name])


@pytest.mark.parametrize("kind", ["class_weight", "sample_weight"])
def test_weights_of_rows_weigh_in_training(tf_kit, kind):
    weights = {"class_weight": {0: 0.0, 1: 1.0, 2: 9.0}}
    weights["sample_weight"] = np.linspace(0, 9, ROWS)
    plain = build(tf_kit)
    weighted = build(tf_kit)
    weighted.set_weights(plain.get_weights())
    fit(plain, tf_kit.SWA(2))
    fit(weighted, tf_kit.SWA(2), **{kind: weights[kind]})
    assert not equal(weighted.get_weights(), plain.get_weights())


@both_modes
def test_sample_weights_that_first_come_in_a_second_fit(kit):
    model = build(kit)
    seen = recorder(kit)
    fit(model, kit.SWA(2), epochs=3)
    fit(model, kit.SWA(2), seen, sample_weight=np.linspace(0, 9, ROWS))
    assert_averaged(model, seen.weights[SAMPLED], data()[0])


@both_modes
@pytest.mark.parametrize("held_out", [None, HELD_OUT], ids=["alone", "with validation"])
def test_a_generator_gives_the_rows_of_the_batch_norm_epoch(kit, held_out):
    model = build(kit)
    seen = recorder(kit)
    rows, given = recorded_generator()
    model.fit_generator(
        rows,
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        verbose=0,
        validation_data=held_out,
        callbacks=[kit.SWA(2), seen],
    )
    last = slice((EPOCHS - 1) * STEPS, EPOCHS * STEPS)
    assert_averaged(model, seen.weights[SAMPLED], np.concatenate(given[last]))


@both_modes
def test_a_generator_through_fit(kit):
    model = build(kit)
    seen = recorder(kit)
    # stock eager fit wants batches of one length
    rows, given = recorded_generator(size=8)
    options = dict(steps_per_epoch=STEPS, epochs=EPOCHS, verbose=0)
    model.fit(rows, callbacks=[kit.SWA(2), seen], **options)
    assert_averaged(model, seen.weights[SAMPLED])
    weights = model.get_weights()
    if not kit.is_eager:
        last = slice((EPOCHS - 1) * STEPS, EPOCHS * STEPS)
        assert_statistics(weights, np.concatenate(given[last]))
        return
    # stock eager fit fetches ahead and drops rows, but gives them in their order
    runs = [np.concatenate(given[i : i + STEPS]) for i in range(len(given))]
    hidden = [np.maximum(run @ weights[0] + weights[1], 0).mean(0) for run in runs]
    nearest = np.argmin([np.abs(mean - weights[4]).max() for mean in hidden])
    assert_statistics(weights, runs[nearest])


@both_modes
def test_steps_that_are_no_whole_number(kit):
    model = build(kit, False)
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    rows, _ = recorded_generator()
    model.fit_generator(
        rows, steps_per_epoch=3.5, epochs=4, verbose=0, callbacks=[swa, seen]
    )
    assert_rates(seen.rates, swa, 4, batches=4)


# What statistics are of


class Matrix:
    """As Keras's HDF5Matrix: sliced, never read whole."""

    def __init__(self, x):
        self.x, self.shape = x, x.shape

    def __len__(self):
        return len(self.x)

    def __getitem__(self, rows):
        assert isinstance(rows, slice) and rows.stop - rows.start <= 16
        return self.x[rows]


def tensor(kit, x):
    import tensorflow as tf

    return tf.constant(x) if kit.is_eager else x


def shuffled_generator(kit, x):
    """A data set with a state that its iterator must be given."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_generator(lambda: iter(x), tf.float32, (FEATURES,))
    return rows.shuffle(ROWS, seed=1).batch(16)


# kit, features, classes -> rows and, in a dict, options of `update_bn`
KINDS_OF_ROWS = {
    "float64": lambda kit, x, y: (np.float64(x), {}),
    "matrix": lambda kit, x, y: (Matrix(x), {"batch_size": 16}),
    "numpy integers": lambda kit, x, y: (x, {"batch_size": np.int64(16)}),
    "tensor": lambda kit, x, y: (tensor(kit, x), {}),
    "list of one": lambda kit, x, y: ([x], {}),
    "tuple with labels": lambda kit, x, y: ((x, y), {}),
    "tuple with weights": lambda kit, x, y: ((x, y, np.ones(ROWS)), {}),
    "iterator": lambda kit, x, y: (iter(batches_of(x, 30)), {}),
    "iterator of pairs": lambda kit, x, y: (iter(pairs_of(kit, 30)), {}),
    "Sequence of pairs": lambda kit, x, y: (sequence_of(kit, 30), {}),
    "endless, with steps": lambda kit, x, y: (
        itertools.cycle(batches_of(x, 25)),
        {"steps": 2},
    ),
    "data set of pairs": lambda kit, x, y: (data_set((x, y)).batch(30), {}),
    "data set without end": lambda kit, x, y: (
        data_set(x).batch(25).repeat(),
        {"steps": 2},
    ),
    "data set of a generator": lambda kit, x, y: (shuffled_generator(kit, x), {}),
}


@both_modes
@pytest.mark.parametrize("kind", KINDS_OF_ROWS)
def test_statistics_are_read_of_rows_of_the_kind(kit, kind):
    model = build(kit)
    (x, y) = data()
    rows, options = KINDS_OF_ROWS[kind](kit, x, y)
    kit.update_bn(model, rows, **options)
    assert_statistics(model.get_weights(), x)


def named(pair):
    return {"z": pair[0], "a": pair[1]}


def in_batches(pair):
    return [list(batch) for batch in zip(*[batches_of(rows) for rows in pair])]


def with_targets(pairs):
    return [(pair, np.zeros(len(pair[0]))) for pair in pairs]


# kit, the rows of both inputs -> rows for `update_bn`
KINDS_OF_PAIRS = {
    "list": lambda kit, pair: pair,
    "tuple": lambda kit, pair: tuple(pair),
    "list and labels": lambda kit, pair: (pair, np.zeros(ROWS)),
    "dict": lambda kit, pair: named(pair),
    "Sequence of lists": lambda kit, pair: sequence(kit, in_batches(pair)),
    "Sequence with targets": lambda kit, pair: sequence(
        kit, with_targets(in_batches(pair))
    ),
    "generator of dicts": lambda kit, pair: (named(b) for b in in_batches(pair)),
    "generator with weights": lambda kit, pair: (
        (named(batch), 0, 1) for batch in in_batches(pair)
    ),
    "data set with targets": lambda kit, pair: data_set(
        (tuple(pair), np.zeros(ROWS))
    ).batch(16),
    "data set of dicts": lambda kit, pair: data_set(named(pair)).batch(16),
    "data set of dicts with targets": lambda kit, pair: data_set(
        (named(pair), np.zeros(ROWS))
    ).batch(16),
}


@both_modes
@pytest.mark.parametrize("kind", KINDS_OF_PAIRS)
def test_statistics_are_read_of_pairs_of_the_kind(kit, kind):
    model, norms = two_inputs(kit)
    pair = [data(1)[0], data(2)[0] + 2]
    kit.update_bn(model, KINDS_OF_PAIRS[kind](kit, pair), batch_size=16)
    for norm, x in zip(norms, pair):
        assert_moments(norm, x)


@both_modes
def test_rows_that_could_be_inputs_or_labels_are_refused(kit):
    model = two_inputs(kit)[0]
    x = data()[0]
    with refused("could be either"):
        kit.update_bn(model, (x, x, x, x))


@new_models
@both_modes
def test_images_of_other_types(kit):
    layers = kit.keras.layers
    images = np.random.RandomState(3).randint(0, 255, (24, 4, 4, 1))
    for dtype in ("uint8", "float64"):
        norm = layers.BatchNormalization(input_shape=(4, 4, 1))
        model = kit.keras.Sequential([norm, layers.Flatten(), layers.Dense(1)])
        model.compile("sgd", "mse")
        kit.update_bn(model, images.astype(dtype), batch_size=8)
        np.testing.assert_allclose(norm.get_weights()[2], [images.mean()], rtol=1e-5)
        np.testing.assert_allclose(norm.get_weights()[3], [images.var()], rtol=1e-4)


# Rows that cannot be used


def breaking_off(x):
    yield x[:16]
    raise OSError("the disk is gone")


def not_finite(x):
    rows = x.copy()
    rows[-1] = np.inf
    return rows


# features -> rows, and what the error says
BAD_ROWS = {
    "none": (lambda x: x[:0], "x must hold at least one row"),
    "no batch": (lambda x: iter([]), "x must hold at least one row"),
    # TensorFlow's or Keras's own words
    "too wide": (lambda x: np.zeros((8, FEATURES + 1), "float32"), "7|shape"),
    "breaking off": (breaking_off, "the disk is gone"),
    "not finite": (not_finite, "NaN or Inf"),
    "two inputs": (lambda x: [x, x], "x must|input"),
    "endless": (lambda x: itertools.cycle([x]), "steps"),
    "endless data set": (
        lambda x: data_set(x).batch(25).repeat(),
        "^steps must be given for rows without end",
    ),
}


@both_modes
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_rows_that_cannot_be_used_leave_the_model_as_it_was(kit, kind):
    rows, message = BAD_ROWS[kind]
    model = build(kit)
    swa = kit.SWA(2)
    x = data()[0]
    with pytest.warns(RuntimeWarning, match=STAY):
        fit(model, swa, at(kit, "on_epoch_end", stop, 2), epochs=6)
    before = model.get_weights()

    def apply_for_a_while(rows):
        with swa.average_applied(rows):
            pass

    for use in (swa.apply, lambda rows: kit.update_bn(model, rows), apply_for_a_while):
        with pytest.raises(Exception, match=message):
            use(rows(x))
        assert equal(model.get_weights(), before)
    fit(model, epochs=1)
    assert not equal(model.get_weights(), before)


@both_modes
def test_rows_with_nan_leave_the_trained_weights(tf_kit):

    model = build(tf_kit, learning_rate=1e-30)
    swa = tf_kit.SWA(2)
    items = pairs_of(tf_kit, 25)

    def spoil_rows(model):
        items[0][0][3] = np.nan

    trained = []
    callbacks = [
        at(tf_kit, "on_epoch_end", spoil_rows, 2),
        at(tf_kit, "on_epoch_end", stop, 2),
        swa,
        at(tf_kit, "on_epoch_begin", lambda m: trained.extend(m.get_weights()), 3),
    ]
    with pytest.warns(RuntimeWarning, match="batch-norm epoch hold NaN or Inf"):
        model.fit_generator(
            sequence(tf_kit, items),
            epochs=7,
            verbose=0,
            callbacks=callbacks,
            workers=0,
            shuffle=False,
        )
    assert equal(model.get_weights(), trained)
    assert model.history.epoch == [0, 1, 2, 3]  # no more than the stop asked for
