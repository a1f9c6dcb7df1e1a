# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The rate of each batch and the epochs sampled, against hand-written formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swa import schedules


def settings(**changes):
    values = dict(start_epoch=5, lr_schedule="cyclic", swa_lr=0.01, swa_lr2=0.05)
    values.update(swa_freq=3)
    values.update(changes)
    return schedules.checked(**values)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(start_epoch=1), "start_epoch must be an integer of at least 2, got 1"),
        (dict(start_epoch=2.5), "start_epoch must be an integer.*got 2.5"),
        (dict(start_epoch=True), "start_epoch must be an integer.*got True"),
        (dict(lr_schedule="linear"), "lr_schedule must be one of.*got 'linear'"),
        (dict(swa_freq=0), "swa_freq must be an integer of at least 1.*got 0"),
        (dict(swa_freq=True), "swa_freq must be an integer of at least 1.*got True"),
        (dict(swa_freq=1), "swa_freq must be at least 2.*'cyclic', got 1"),
        (dict(swa_lr=0.0), "swa_lr must be 'auto' or a number above 0, got 0.0"),
        (dict(swa_lr="low"), "swa_lr must be 'auto' or a number above 0, got 'low'"),
        (dict(swa_lr=True), "swa_lr must be 'auto' or a number above 0, got True"),
        (dict(swa_lr2=math.inf), "swa_lr2 must be 'auto' or a number above 0, got inf"),
        (dict(swa_lr2=math.nan), "swa_lr2 must be 'auto' or a number above 0, got nan"),
        (dict(swa_lr="auto"), "swa_lr2 must be 'auto' when swa_lr is 'auto', got 0.05"),
        (dict(swa_lr=0.1), "swa_lr must not be above swa_lr2.*0.1 and swa_lr2 0.05"),
        (dict(snapshot="middle"), "snapshot must be one of.*got 'middle'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_unsound_settings_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    "changes, epochs, message",
    [
        ({}, 5, "start_epoch must be below epochs, got start_epoch 5 and epochs 5"),
        (
            dict(lr_schedule="constant", swa_lr=0.2, swa_lr2=0.3),
            9,
            "swa_lr must not be above the compiled learning rate 0.1, got 0.2",
        ),
        (
            dict(snapshot="cycle_end", swa_freq=6),
            9,
            "swa_freq must leave an epoch to be sampled.*got 6 with snapshot "
            "'cycle_end', start_epoch 5 and epochs 9",
        ),
    ],
)
def test_settings_that_contradict_the_run_are_refused(changes, epochs, message):
    with pytest.raises(ValueError, match=message):
        schedules.check_run(settings(**changes), epochs, 0.1)


def test_the_batch_norm_epoch_cannot_be_the_only_one_to_be_sampled():
    chosen = settings(snapshot="cycle_end", swa_freq=5)  # samples epoch 9
    schedules.check_run(chosen, 9, 0.1)
    with pytest.raises(ValueError, match="sampled before the batch-norm epoch, got 5"):
        schedules.check_run(chosen, 9, 0.1, batch_norm=True)


def test_a_run_that_goes_on_needs_no_further_sample():
    chosen = settings(snapshot="cycle_end", swa_freq=6)
    schedules.check_run(chosen, 9, 0.1, n_averaged=1)


def test_a_plan_needs_a_batch():
    message = "batches_per_epoch must be an integer of at least 1, got 0"
    with pytest.raises(ValueError, match=message):
        schedules.plan(settings(), 12, 0, 0.1)


def test_a_plan_refuses_what_the_run_would_refuse():
    with pytest.raises(ValueError, match="start_epoch must be below epochs"):
        schedules.plan(settings(), 5, 2, 0.1)


def test_a_swa_lr_above_the_compiled_rate_is_no_matter_for_manual():
    schedules.check_run(settings(lr_schedule="manual", swa_lr=0.2), 9, 0.1)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.003])
def test_a_swa_lr_equal_to_the_compiled_rate_is_sound(rate):
    compiled = float(np.float32(rate))  # as the optimizer's variable gives it back
    for schedule in ("constant", "cyclic"):
        chosen = settings(lr_schedule=schedule, swa_lr=rate, swa_lr2="auto")
        schedules.check_run(chosen, 9, compiled)


def test_auto_rates_are_the_references():
    # swa_lr = 0.1 * lr0; swa_lr2 = swa_lr + 0.25 * (lr0 - swa_lr)
    rates = schedules.resolved_rates(settings(swa_lr="auto", swa_lr2="auto"), 0.4)
    assert rates == pytest.approx((0.04, 0.04 + 0.25 * 0.36))


@pytest.mark.parametrize("schedule", ["constant", "cyclic"])
def test_the_rate_anneals_before_the_start(schedule):
    chosen = settings(start_epoch=11, lr_schedule=schedule)
    rates = [schedules.epoch_rates(chosen, 0.1, epoch, 3)[0] for epoch in range(10)]
    # t = epoch / 10: lr0 up to 0.5, a line down to swa_lr at 0.9, then swa_lr
    line = [0.1 - 0.09 * step / 4 for step in (1, 2, 3)]
    assert rates == pytest.approx([0.1] * 6 + line + [0.01])


def test_constant_stays_at_swa_lr():
    chosen = settings(lr_schedule="constant")
    for epoch in (4, 7, 20):
        assert schedules.epoch_rates(chosen, 0.1, epoch, 2) == pytest.approx([0.01] * 2)


def test_a_cycle_falls_from_near_swa_lr2_to_exactly_swa_lr():
    cycle = [schedules.epoch_rates(settings(), 0.1, epoch, 4) for epoch in (4, 5, 6)]
    steps = np.arange(1, 13) / 12.0
    expected = (1 - steps) * 0.05 + steps * 0.01
    np.testing.assert_allclose(np.concatenate(cycle), expected, rtol=1e-12)
    assert cycle[-1][-1] == 0.01


def test_cycles_repeat():
    first = schedules.epoch_rates(settings(), 0.1, 4, 7)
    np.testing.assert_array_equal(schedules.epoch_rates(settings(), 0.1, 7, 7), first)


def test_an_epoch_of_unknown_length_has_the_rate_of_its_middle():
    whole = schedules.epoch_rates(settings(), 0.1, 5, 1001)
    assert schedules.epoch_rates(settings(), 0.1, 5, 0) == pytest.approx(
        [np.median(whole)], rel=1e-3
    )


@given(
    low=st.floats(1e-6, 1.0),
    factor=st.floats(1.0, 1e3),
    frequency=st.integers(2, 9),
    epoch=st.integers(0, 60),
    batches=st.integers(1, 50),
)
def test_a_rate_stays_within_its_bounds_and_never_rises_in_an_epoch(
    low, factor, frequency, epoch, batches
):
    chosen = schedules.checked(5, "cyclic", low, low * factor, frequency)
    rates = schedules.epoch_rates(chosen, low * factor, epoch, batches)
    assert np.all(rates >= low * (1 - 1e-12))
    assert np.all(rates <= low * factor * (1 + 1e-12))
    assert np.all(np.diff(rates) <= 1e-12 * low * factor)


@given(
    start=st.integers(2, 30),
    share=st.floats(0.01, 1.0),
    schedule=st.sampled_from(["constant", "cyclic"]),
)
def test_before_the_start_the_rate_never_rises_and_stays_within_its_bounds(
    start, share, schedule
):
    compiled, low = 0.4, 0.4 * share
    chosen = schedules.checked(start, schedule, low, low, 2)
    epochs = [schedules.epoch_rates(chosen, compiled, e, 3) for e in range(start - 1)]
    rates = np.concatenate(epochs)
    assert rates[0] == compiled
    assert np.all(np.diff(rates) <= 0.0)
    assert np.all((rates >= low * (1 - 1e-12)) & (rates <= compiled))


@given(
    start=st.integers(2, 12),
    frequency=st.integers(2, 6),
    more=st.integers(7, 20),
    snapshot=st.sampled_from(schedules.SNAPSHOTS),
    batch_norm=st.booleans(),
)
def test_the_plan_is_what_each_epoch_is_told(
    start, frequency, more, snapshot, batch_norm
):
    epochs = start + more
    chosen = schedules.checked(start, "cyclic", 0.01, 0.05, frequency, snapshot)
    table = schedules.plan(chosen, epochs, 3, 0.1, batch_norm)
    trained = epochs - 1 if batch_norm else epochs
    first = start if snapshot == "cycle_start" else start + frequency - 1
    assert table.sampled_epochs == list(range(first, trained + 1, frequency))
    sampled = [e + 1 for e in range(trained) if schedules.is_sampled(chosen, e)]
    assert table.sampled_epochs == sampled
    assert table.batch_norm_epoch == (epochs if batch_norm else None)
    assert table.rates.shape == (epochs, 3)
    for epoch in range(trained):
        told = schedules.epoch_rates(chosen, 0.1, epoch, 3)
        np.testing.assert_array_equal(table.rates[epoch], told)
    assert batch_norm == (table.rates[-1] == 0.0).all()


def test_manual_has_no_rates_of_its_own():
    table = schedules.plan(settings(lr_schedule="manual"), 12, 2, 0.1)
    assert table.rates.shape == (12, 2) and np.isnan(table.rates).all()
    assert table.sampled_epochs == [5, 8, 11]


@pytest.mark.parametrize("schedule", ["manual", "constant"])
def test_without_cycles_each_epoch_may_be_sampled(schedule):
    chosen = settings(lr_schedule=schedule, swa_freq=1)
    for snapshot in schedules.SNAPSHOTS:
        chosen = chosen._replace(snapshot=snapshot)
        assert schedules.sampled_epochs(chosen, 8) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    "snapshot, expected", [("cycle_start", [5, 8, 11]), ("cycle_end", [7, 10])]
)
def test_samples_are_taken_once_a_cycle(snapshot, expected):
    table = schedules.plan(settings(snapshot=snapshot), 12, 2, 0.1)
    assert table.sampled_epochs == expected


def test_the_batch_norm_epoch_has_no_rate_and_no_sample():
    table = schedules.plan(settings(), 11, 2, 0.1, batch_norm=True)
    assert (table.sampled_epochs, table.batch_norm_epoch) == ([5, 8], 11)
    assert table.rates[-1].tolist() == [0.0, 0.0]


def test_an_unknown_base_rate_leaves_only_the_cycles_known():
    rates = schedules.plan(settings(), 6, 2).rates
    assert np.isnan(rates[3]).all() and np.isfinite(rates[4:]).all()
