# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The plan of a run's rates, in plain numbers: planned, used, written down."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swa.rates import Rates, is_same_rate


def planned(*rates):
    plan = Rates()
    plan.plan(rates)
    return plan


def test_before_a_plan_the_rate_is_the_users():
    plan = Rates()
    assert math.isnan(plan.current) and math.isnan(plan.following)


def test_each_batch_has_its_rate_and_the_last_one_holds_on():
    plan = planned(0.3, 0.2, 0.1)
    assert [plan.of(batch) for batch in range(5)] == [0.3, 0.2, 0.1, 0.1, 0.1]


def test_current_and_following_are_those_of_the_batch():
    plan = planned(0.3, 0.2, 0.1)
    plan.batch = 1
    assert (plan.current, plan.following) == (0.2, 0.1)


def test_a_plan_begins_with_its_first_batch():
    plan = planned(0.3, 0.2)
    plan.batch = 1
    plan.plan([0.5])
    assert (plan.batch, plan.current) == (0, 0.5)


def test_the_rates_that_may_be_left_are_of_this_plan_and_the_one_before():
    plan = planned(0.3, 0.2)
    plan.batch = 1
    plan.plan([0.5, 0.4])
    assert plan.may_be_set == [0.2, 0.5, 0.4]


def test_the_history_has_the_rates_of_the_batches_that_ran():
    plan = planned(0.3, 0.2, 0.1)
    plan.end_epoch(2)
    plan.plan([0.5])
    plan.end_epoch(1)
    assert plan.history == [0.3, 0.2, 0.5]


def test_a_used_rate_stands_in_the_place_of_the_planned_one():
    plan = planned(0.3, 0.2, 0.1)
    plan.batch = 1
    assert plan.is_as_planned
    plan.note_used(0.7)
    assert plan.current == 0.7 and not plan.is_as_planned
    plan.end_epoch(3)
    assert plan.history == [0.3, 0.7, 0.1]


def test_a_run_that_left_its_plan_stays_so():
    plan = planned(0.3)
    plan.note_used(0.7)
    plan.plan([0.3])
    plan.note_used(0.3)
    assert plan.current == 0.3 and not plan.is_as_planned


@pytest.mark.parametrize("used", [math.nan, 0.3, float(np.float32(0.3))])
def test_an_unknown_rate_and_the_planned_one_change_nothing(used):
    plan = planned(0.3)
    plan.note_used(used)
    assert plan.current == 0.3 and plan.is_as_planned


@given(st.floats(1e-6, 1e3))
def test_a_planned_rate_is_the_same_after_rounding_to_float32_and_float16(rate):
    assert is_same_rate(float(np.float32(rate)), rate)
    assert is_same_rate(float(np.float16(rate)), rate)
    assert is_same_rate(float(np.float16(np.float32(rate))), rate)


@pytest.mark.parametrize("rate", [0.1001, 0.09, 0.0, math.nan])
def test_another_rate_is_not_the_same(rate):
    assert not is_same_rate(rate, 0.1)


def test_a_rate_of_the_users_is_no_planned_one():
    assert not is_same_rate(0.1, math.nan)
