# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""`state`, `load_state`: a resumed run equals the unbroken one, others are refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from support.callback_kit import (
    BATCH,
    assert_averaged,
    assert_mean,
    at,
    both_modes,
    build,
    data,
    equal,
    fit,
    new_models,
    recorder,
    refused,
    spoil,
    twins,
    used_models,
)

from swa.averaging import Average
from swa.run import check_average

pytestmark = used_models


def round_trip(state, folder):
    """A state through files: plain values as JSON, arrays without pickle."""
    arrays = folder / "average.npz"
    plain = folder / "state.json"
    np.savez(str(arrays), *state["average"])
    plain.write_text(json.dumps({k: v for k, v in state.items() if k != "average"}))
    loaded = json.loads(plain.read_text())
    with np.load(str(arrays), allow_pickle=False) as file:
        loaded["average"] = [file[f"arr_{i}"] for i in range(len(state["average"]))]
    return loaded


@new_models
@both_modes
def test_a_resumed_run_equals_the_unbroken_one_bit_by_bit(kit, tmp_path):
    # before the first sample, between two, before the pass
    assert_resumed_runs_are_equal(kit, True, "cyclic", tmp_path, [1, 4, 6])


@new_models
@pytest.mark.parametrize(
    "batch_norm, schedule", [(True, "manual"), (False, "constant")]
)
def test_a_resumed_run_of_other_schedules_does_too(
    tf_kit, batch_norm, schedule, tmp_path
):
    assert_resumed_runs_are_equal(tf_kit, batch_norm, schedule, tmp_path, [4])


def assert_resumed_runs_are_equal(kit, batch_norm, schedule, tmp_path, epochs):
    # 'auto' rates are of the rate that training began with, which the state knows:
    # a model saved in mid-training has that of the moment
    settings = (4, schedule, "auto", "auto", 2)
    options = dict(epochs=8, batch_size=25)
    whole = build(kit, batch_norm)
    swa = kit.SWA(*settings)
    states = []
    save = kit.keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.h5"))
    keep = at(kit, "on_epoch_end", lambda model: states.append(swa.state))
    fit(whole, swa, save, keep, **options)
    again = kit.SWA(*settings)
    fit(build(kit, batch_norm), again, epochs=5)  # this must not be seen any more
    for epoch in epochs:
        resumed = kit.keras.models.load_model(str(tmp_path / f"{epoch + 1}.h5"))
        again.load_state(round_trip(states[epoch], tmp_path))
        history = fit(resumed, again, initial_epoch=epoch + 1, **options)
        assert equal(resumed.get_weights(), whole.get_weights()), epoch
        assert again.n_averaged == swa.n_averaged
        assert equal(again.state["average"], swa.state["average"]), epoch
        if schedule != "manual":
            planned = swa.plan(8, 2, 0.1).rates[epoch + 1 :].ravel()
            np.testing.assert_allclose(history["lr"], planned, rtol=1e-6)


def test_a_state_of_before_the_first_fit_changes_nothing(tf_kit):
    first, second = twins(tf_kit)
    fit(first, tf_kit.SWA(2, "constant", 0.01), epochs=3)
    swa = tf_kit.SWA(2, "constant", 0.01)
    swa.load_state(tf_kit.SWA(2, "constant", 0.01).state)
    fit(second, swa, epochs=3)
    assert equal(first.get_weights(), second.get_weights())


def test_a_state_counts_the_samples_left_out(tf_kit, tmp_path):
    model = build(tf_kit, False)
    swa = tf_kit.SWA(3)
    with pytest.warns(RuntimeWarning, match="NaN or Inf"):
        fit(model, at(tf_kit, "on_batch_begin", spoil, 3, 0), swa, epochs=5)
    again = tf_kit.SWA(3)
    healthy = build(tf_kit, False)
    again.load_state(round_trip(swa.state, tmp_path))
    fit(healthy, again, epochs=6, initial_epoch=5)
    assert (again.n_averaged, again.n_skipped) == (2, 2)


@both_modes
def test_a_state_with_no_epoch_left_can_be_applied(kit):
    model = build(kit)
    swa = kit.SWA(2)
    x = data()[0]
    fit(model, swa)
    final = model.get_weights()
    again = kit.SWA(2)
    again.load_state(swa.state)
    swa.restore()
    with pytest.warns(RuntimeWarning, match="before batch normalization"):
        fit(model, again, initial_epoch=4)
    again.apply(x, BATCH)
    assert_mean(model.get_weights(), [final])


@pytest.mark.parametrize("state", [None, "swa.npz", [1, 2]])
def test_a_state_is_a_dict(tf_kit, state):
    with refused("state must be what SWA.state gives, got "):
        tf_kit.SWA(2).load_state(state)


def test_any_average_is_taken_while_the_model_has_no_weights():
    average = Average(None)
    average.add([np.ones(2, "float32")])
    check_average(average, SimpleNamespace(variables=[]))  # its first batch may make it
    assert average.n_averaged == 1


def test_a_loaded_state_brings_the_rate_of_its_plan(tf_kit):
    swa = tf_kit.SWA(2, "constant")
    fit(build(tf_kit, learning_rate=0.2), swa)
    again = tf_kit.SWA(2, "constant")
    again.load_state(swa.state)
    again.set_model(build(tf_kit, learning_rate=0.01))  # as a run may have left it
    planned = again.plan(6, 4, batch_norm=True).rates
    np.testing.assert_array_equal(planned, swa.plan(6, 4).rates)


@both_modes
def test_a_loaded_state_is_told_until_a_fit_goes_on_from_it(kit):
    model = build(kit, False)
    swa = kit.SWA(2)
    fit(model, swa)
    saved = swa.state
    used = kit.SWA(2)
    fit(model, used, epochs=7)
    for other in (kit.SWA(2), used):
        other.load_state(saved)
        assert (other.n_averaged, other.n_skipped) == (3, 0)
        assert other.state["learning_rate"] == saved["learning_rate"]
        assert equal(other.state["average"], saved["average"])
        with refused("fit must begin after load_state"):
            other.apply()


# States that are refused


@pytest.mark.parametrize("missing", ["settings", "average", "n_averaged"])
def test_what_is_no_state_is_refused(tf_kit, missing):
    state = tf_kit.SWA(2).state
    del state[missing]
    for wrong in ({}, state):
        with refused("state must be what SWA.state gives"):
            tf_kit.SWA(2).load_state(wrong)


@pytest.mark.parametrize(
    "name, value",
    [("start_epoch", 4), ("lr_schedule", "constant"), ("swa_lr", 0.02)]
    + [("swa_lr2", 0.06), ("swa_freq", 3), ("snapshot", "cycle_end")],
)
def test_a_state_of_another_setting_is_refused_by_its_name(tf_kit, name, value):
    mine = dict(start_epoch=3, lr_schedule="cyclic", swa_lr=0.01, swa_lr2=0.05)
    mine.update(swa_freq=2)
    state = tf_kit.SWA(**dict(mine, **{name: value})).state
    with refused(f"state must have {name} .*, got {value!r}"):
        tf_kit.SWA(**mine).load_state(state)


@both_modes
def test_a_state_of_other_shapes_is_refused_by_the_weights_name(kit):
    swa = kit.SWA(3)
    model = build(kit)
    fit(model, swa)
    state = swa.state
    state["average"][0] = np.zeros((2, 2), "float32")
    with refused(r"shape \(6, 8\) for weight '.*kernel"):
        swa.load_state(state)


@both_modes
def test_a_state_of_another_model_is_refused_when_training_begins(tf_kit):
    swa = tf_kit.SWA(2, "constant", 0.01)
    model = build(tf_kit, False)
    fit(build(tf_kit), swa, epochs=3)  # with batch norm: eight weights, not four
    again = tf_kit.SWA(2, "constant", 0.01)
    again.load_state(swa.state)
    with refused("hold 4 averaged weights.*model, got 8"):
        fit(model, again, epochs=3)
    seen = recorder(tf_kit)
    fit(model, tf_kit.SWA(2), seen, epochs=3)  # the refusal left nothing behind
    assert_averaged(model, seen.weights[1:])


# Refused


def test_a_refused_fit_leaves_the_loaded_state(kit):
    model = build(kit)
    swa = kit.SWA(2)
    seen = recorder(kit)
    later = recorder(kit)
    fit(model, swa, seen)
    again = kit.SWA(2)
    again.load_state(swa.state)
    for _ in range(2):
        with refused("start_epoch must be below epochs"):
            fit(model, again, epochs=1)
    with refused("hold 4 averaged weights"):
        fit(build(kit, False), again, epochs=5)
    averages = []

    def keep(model):
        with again.average_applied():
            averages.append(model.get_weights())

    keeper = at(kit, "on_train_begin", keep)
    fit(model, again, later, keeper, initial_epoch=4, epochs=6)
    skipped = (4, 5)  # batch norm's statistics
    assert_mean(averages[0], seen.weights[1:3], skipped)
    assert again.n_averaged == 3
    assert_averaged(model, seen.weights[1:3] + later.weights[:1])
