# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How long a run took: not by a clock that can be set."""

import time

import pytest

from swa.training.clock import Clock


@pytest.fixture
def now(monkeypatch):
    """A list whose last number is the time."""
    numbers = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: numbers[-1])
    monkeypatch.setattr(time, "time", lambda: -numbers[-1])  # set back all the time
    return numbers


def test_the_training_is_a_part_of_the_whole(now):
    clock = Clock(90.0)
    clock.begin_training()
    now.append(107.0)
    assert clock.seconds() == {"train_seconds": 7.0, "e2e_seconds": 17.0}


def test_before_the_training_no_second_of_it_has_passed(now):
    assert Clock(90.0).seconds() == {"train_seconds": 0.0, "e2e_seconds": 10.0}


def test_what_comes_after_the_training_is_no_part_of_it(now):
    clock = Clock(100.0)
    clock.begin_training()
    now.append(103.0)
    clock.end_training()
    now.append(110.0)
    assert clock.seconds() == {"train_seconds": 3.0, "e2e_seconds": 10.0}


def test_what_a_run_took_before_it_was_stopped_counts(now):
    clock = Clock(100.0)
    clock.add_earlier({"train_seconds": 5.0, "e2e_seconds": 6.0})
    clock.begin_training()
    now.append(102.0)
    assert clock.seconds() == {"train_seconds": 7.0, "e2e_seconds": 8.0}
