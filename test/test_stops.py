# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Training that stops early: which weights the model ends with, and what is said."""

import re
import warnings

import pytest
from support.callback_kit import (
    BATCHES,
    STAY,
    assert_averaged,
    at,
    both_modes,
    build,
    data,
    data_set,
    equal,
    fit,
    only_eager,
    rate_of,
    recorder,
    stop,
    used_models,
)

pytestmark = used_models

# Between two epochs


@both_modes
def test_without_batch_norm_the_average_is_set(kit):
    model = build(kit, False)
    swa = kit.SWA(3)
    seen = recorder(kit)
    fit(model, swa, seen, at(kit, "on_epoch_end", stop, 4), epochs=7)
    assert len(seen.weights) == 5
    assert_averaged(model, seen.weights[2:5])


@both_modes
def test_a_stop_before_swa_runs_the_batch_norm_epoch(kit):
    model = build(kit)
    swa = kit.SWA(3)
    seen = recorder(kit)
    fit(model, at(kit, "on_epoch_end", stop, 4), swa, seen, epochs=9)
    assert len(seen.weights) == 6
    assert swa.batch_norm_epoch == 6
    assert_averaged(model, seen.weights[2:5], data()[0])


@both_modes
def test_a_stop_after_swa_leaves_the_trained_weights_and_says_so(kit):
    model = build(kit)
    swa = kit.SWA(3)
    seen = recorder(kit)
    with pytest.warns(RuntimeWarning, match=STAY):
        fit(model, swa, seen, at(kit, "on_epoch_end", stop, 4), epochs=7)
    assert equal(model.get_weights(), seen.weights[4])
    swa.apply(data()[0])
    assert_averaged(model, seen.weights[2:5], data()[0])


@both_modes
def test_a_stop_before_any_sample_leaves_the_weights_and_warns(kit):
    model = build(kit)
    swa = kit.SWA(4)
    seen = recorder(kit)
    with pytest.warns(RuntimeWarning, match="no sample"):
        fit(model, at(kit, "on_epoch_end", stop, 1), swa, seen, epochs=7)
    assert len(seen.weights) == 2
    assert equal(model.get_weights(), seen.weights[1])


# Inside an epoch


@both_modes
def test_inside_an_epoch_without_batch_norm_the_average_is_set(tf_kit):
    model = build(tf_kit, False)
    seen = recorder(tf_kit)
    swa = tf_kit.SWA(3, "constant", 0.01)
    fit(model, seen, at(tf_kit, "on_batch_end", stop, 4, 1), swa, epochs=7)
    assert_averaged(model, seen.weights[2:5])
    assert rate_of(tf_kit, model) == pytest.approx(0.1)


def test_inside_an_epoch_a_stop_before_swa_runs_a_whole_batch_norm_epoch(tf_kit):
    """In graph mode, which begins the rows anew."""
    model = build(tf_kit)
    swa = tf_kit.SWA(3)
    seen = recorder(tf_kit)
    fit(model, seen, at(tf_kit, "on_batch_end", stop, 4, 1), swa, epochs=7)
    assert len(seen.rates) == 4 * BATCHES + 2 + BATCHES
    assert_averaged(model, seen.weights[2:5], data()[0])


@only_eager("goes on in the midst of its rows, so that some would come twice")
def test_after_a_stop_inside_an_eager_epoch_the_trained_weights_stay(tf_kit):
    model = build(tf_kit)
    swa = tf_kit.SWA(3)
    seen = recorder(tf_kit)
    with pytest.warns(RuntimeWarning, match=STAY):
        fit(model, seen, at(tf_kit, "on_batch_end", stop, 4, 1), swa, epochs=7)
    assert len(seen.weights) == 5
    assert equal(model.get_weights(), seen.weights[4])
    swa.apply(data()[0])
    assert_averaged(model, seen.weights[2:5], data()[0])


@both_modes
def test_inside_the_batch_norm_epoch_the_trained_weights_stay(kit):
    model = build(kit)
    seen = recorder(kit)
    swa = kit.SWA(2, "constant", 0.01)
    with pytest.warns(RuntimeWarning, match=STAY):
        fit(model, seen, at(kit, "on_batch_end", stop, 3, 1), swa)
    assert equal(model.get_weights(), seen.weights[2])
    assert rate_of(kit, model) == pytest.approx(0.1)


# Data that end

STEPS = 3  # batches an epoch
# how many batches there are, and how many epochs get some
ENDS = {
    "in an epoch": (13, 5),
    "between epochs": (15, 5),
    "before the batch-norm epoch": (18, 6),
    "in the batch-norm epoch": (20, 6),
}


def fit_until_the_data_end(model, batches, callbacks):
    """`fit` of seven epochs; the last is the batch-norm epoch."""
    import tensorflow as tf

    rows = data_set(data(rows=16 * batches)).batch(16)
    options = dict(epochs=7, steps_per_epoch=STEPS, verbose=0)
    tf.compat.v1.logging.set_verbosity("FATAL")  # Keras says that the data ran out
    try:
        model.fit(rows, callbacks=callbacks, **options)
    finally:
        tf.compat.v1.logging.set_verbosity("ERROR")


@both_modes
@pytest.mark.parametrize("name", ENDS)
def test_where_the_data_end_the_trained_weights_stay(tf_kit, name):
    batches, epochs = ENDS[name]
    model = build(tf_kit)
    seen = recorder(tf_kit)
    swa = tf_kit.SWA(3, "constant", 0.01)
    x = data(rows=16 * batches)[0]
    if tf_kit.is_eager and batches % STEPS == 0:  # eager fit fails without SWA too
        with pytest.raises(ValueError, match="Empty training data"):
            fit_until_the_data_end(model, batches, [swa, seen])
    else:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit_until_the_data_end(model, batches, [swa, seen])
        said = [str(w.message) for w in caught if "SWA" in str(w.message)]
        assert len(said) == 1 and re.search(STAY, said[0])
    assert equal(model.get_weights(), seen.weights[epochs - 1])
    assert rate_of(tf_kit, model) == pytest.approx(0.1)
    swa.apply(x)
    assert_averaged(model, seen.weights[2:epochs], x)


def test_an_epoch_without_data_is_no_sample(tf_kit):
    """In graph mode, which trains such an epoch: eager fit raises."""
    model = build(tf_kit, False)
    swa = tf_kit.SWA(2)
    seen = recorder(tf_kit)
    fit_until_the_data_end(model, 2 * STEPS, [swa, seen])
    assert swa.n_averaged == 1
    assert equal(model.get_weights(), seen.weights[1])
