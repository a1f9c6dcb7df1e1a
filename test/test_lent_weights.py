# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""`apply`, `restore`, `average_applied`, `trained_weights`: which weights are there."""

import numpy as np
import pytest
from support.callback_kit import (
    CYCLIC,
    assert_averaged,
    assert_statistics,
    at,
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
    slots_of,
    twins,
    used_models,
)

pytestmark = used_models


def trained(kit):
    """A model after training, its callback, and the last trained weights."""
    model = build(kit)
    swa = kit.SWA(3)
    seen = recorder(kit)
    fit(model, swa, seen, epochs=5, batch_size=25)
    return model, swa, seen.weights[3]


# After training


@both_modes
def test_swapping_twice_is_the_identity(kit):
    model, swa, last = trained(kit)
    average = model.get_weights()
    for _ in range(2):
        with swa.trained_weights():
            assert equal(model.get_weights(), last)
            assert not equal(last, average)
        assert equal(model.get_weights(), average)
    swa.restore()
    with swa.average_applied():
        assert equal(model.get_weights(), average)


@both_modes
def test_restore_gives_the_trained_weights_back_once(kit):
    kit.SWA(2).restore()  # before any training it does nothing
    model, swa, last = trained(kit)
    swa.restore()
    swa.restore()
    assert equal(model.get_weights(), last)
    mine = [weight + 1 for weight in model.get_weights()]
    model.set_weights(mine)
    swa.restore()
    assert equal(model.get_weights(), mine)


@both_modes
def test_swaps_nest(tf_kit):
    model, swa, last = trained(tf_kit)
    x = data()[0]
    swa.restore()
    with swa.average_applied(x):
        average = model.get_weights()
        with swa.trained_weights():
            assert equal(model.get_weights(), last)
        assert equal(model.get_weights(), average)
        with swa.average_applied(x):  # it is already
            assert equal(model.get_weights(), average)
        assert equal(model.get_weights(), average)
    assert equal(model.get_weights(), last)


@both_modes
def test_a_failure_within_a_swap_swaps_back(tf_kit):
    model, swa, last = trained(tf_kit)
    swa.restore()
    with pytest.raises(OSError, match="disk full"):
        with swa.average_applied(data()[0]):
            assert not equal(model.get_weights(), last)
            raise OSError("disk full")
    assert equal(model.get_weights(), last)


@both_modes
def test_rows_given_to_average_applied_are_used(kit):
    model, swa, _ = trained(kit)
    x = data()[0]
    final = model.get_weights()
    with swa.average_applied(x + 1):
        assert_statistics(model.get_weights(), x + 1)
    assert equal(model.get_weights(), final)


@both_modes
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "plain"])
def test_after_other_training_the_average_is_still_that_of_the_run(kit, batch_norm):
    model = build(kit, batch_norm)
    swa = kit.SWA(2)
    seen = recorder(kit)
    fit(model, swa, seen)
    average = model.get_weights()
    x = data()[0]
    fit(model, epochs=2)
    on = model.get_weights()
    rows = x if batch_norm else None
    with swa.average_applied(rows):
        np.testing.assert_allclose(model.get_weights()[0], average[0], rtol=1e-6)
        if batch_norm:
            assert_statistics(model.get_weights(), x)
    assert equal(model.get_weights(), on)
    with swa.trained_weights():
        assert equal(model.get_weights(), seen.weights[2 if batch_norm else 3])
    assert equal(model.get_weights(), on)
    swa.apply(rows)
    np.testing.assert_allclose(model.get_weights()[0], average[0], rtol=1e-6)
    swa.restore()
    assert equal(model.get_weights(), on)


# In mid-training


@both_modes
def test_average_applied_in_mid_training_is_undone_exactly(kit):
    model = build(kit)
    swa = kit.SWA(2)
    seen = recorder(kit)
    x = data()[0]

    def peek(model):
        before = model.get_weights()
        with swa.average_applied(x):
            assert_averaged(model, seen.weights[1:3], x)
        assert equal(model.get_weights(), before)

    fit(model, swa, seen, at(kit, "on_epoch_end", peek, 2), epochs=5)
    assert_averaged(model, seen.weights[1:4], x)


@both_modes
@pytest.mark.parametrize("hook", ["on_batch_end", "on_epoch_end"])
@either_order
def test_a_callback_applies_and_restores(kit, hook, first):
    """As one watches a moving average: apply, evaluate, restore."""
    (x, y) = data()
    swa = kit.SWA(*CYCLIC)
    seen = recorder(kit)
    model, twin = twins(kit)

    def watch(model):
        if swa.n_averaged:
            swa.apply(x)
            model.evaluate(x, y, verbose=0)
            swa.restore()

    watcher = at(kit, hook, watch, batch=1 if hook == "on_batch_end" else None)
    fit(twin, kit.SWA(*CYCLIC), seen, epochs=5)
    rates = fit(model, *in_order(swa, watcher, first), epochs=5)["lr"]
    planned = swa.plan(5, 4, 0.1).rates
    np.testing.assert_allclose(rates, planned.ravel(), rtol=1e-6)
    assert_averaged(model, seen.weights[1:4:2], x)
    assert swa.batch_norm_epoch == 5
    assert equal(slots_of(kit, model), slots_of(kit, twin))
    assert rate_of(kit, model) == pytest.approx(0.1)
    with swa.trained_weights():
        assert not equal(model.get_weights(), twin.get_weights())


# In files


@new_models
@both_modes
def test_a_file_of_the_average_in_mid_training_is_as_it_was_evaluated(kit, tmp_path):
    model = build(kit)
    swa = kit.SWA(3)
    path = str(tmp_path / "model.h5")
    x = data()[0]
    held_out = data(7, 20)
    results = []

    def save(model):
        with swa.average_applied(x):
            results.extend(model.evaluate(*held_out, verbose=0))
            model.save(path)

    seen = recorder(kit)
    fit(model, seen, swa, at(kit, "on_epoch_end", save, 3), epochs=6)
    assert_averaged(model, seen.weights[2:5], x)
    loaded = kit.keras.models.load_model(path)
    assert_averaged(loaded, seen.weights[2:4], x)
    np.testing.assert_allclose(
        loaded.evaluate(*held_out, verbose=0), results, rtol=1e-6
    )


@new_models
@both_modes
def test_a_file_of_the_final_model_works_as_the_model_did(kit, tmp_path):
    model = build(kit)
    path = str(tmp_path / "model.h5")
    (x, y) = data(7, 20)
    fit(model, kit.SWA(*CYCLIC))
    model.save(path)
    loaded = kit.keras.models.load_model(path)
    assert equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_allclose(loaded.predict(x), model.predict(x), rtol=1e-6)
    results = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), results, rtol=1e-6)
    seen = recorder(kit)
    fit(loaded, seen, epochs=1)  # it trains on, at its rate
    np.testing.assert_allclose(seen.rates, 0.1, rtol=1e-6)
