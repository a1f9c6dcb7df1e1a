# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The end of a run: its figures, what it says of them, its speed, its commit."""

import argparse
import contextlib

import pytest
from support import small_runs

import swa as package
from swa.training import results


class Swa:
    trained_weights = contextlib.nullcontext


def said(monkeypatch, sgd, swa):
    """What is said of two sets of figures: a list of lines."""
    lines, sets = [], iter([sgd, swa])
    monkeypatch.setattr(results, "held_out_figures", lambda *arguments: next(sets))
    job = argparse.Namespace(
        config=argparse.Namespace(batch_size=4), data=None, ranks=None, say=lines.append
    )
    training = argparse.Namespace(model=None, swa=Swa)
    assert results.evaluate(job, training) == {"sgd": sgd, "swa": swa}
    return lines


def test_the_two_sets_of_figures_are_told_with_their_difference(monkeypatch):
    sgd, swa = {"loss": 0.5, "accuracy": 0.75}, {"loss": 0.5125, "accuracy": 0.7}
    lines = said(monkeypatch, sgd, swa)
    assert lines[:3] == [
        "SGD weights: test loss 0.5000, test accuracy 0.7500",
        "SWA weights: test loss 0.5125, test accuracy 0.7000",
        "SWA minus SGD: test loss +0.0125, test accuracy -0.0500",
    ]


def test_the_last_line_says_what_one_seed_is_worth(monkeypatch):
    figures = {"loss": 0.5, "accuracy": 0.75}
    *_, last = said(monkeypatch, figures, figures)
    assert "not evidence" in last and "docs/results.md" in last


@pytest.mark.parametrize(
    "seconds, compiled_epochs, usual",
    [
        ([9.0, 1.0, 2.0, 7.0, 3.0, 8.0], {1, 4, 6}, 2.0),  # left: 1, 2, 3
        ([9.0, 1.0, 3.0], {1, None}, 2.0),  # left: 1, 3
        ([4.0, 5.0, 6.0], {1, 2, 3}, 5.0),  # none left: all
    ],
    ids=["steady epochs", "no snapshot", "too short"],
)
def test_rates(seconds, compiled_epochs, usual):
    samples_per_second, compile_seconds = results.rates(seconds, 100, compiled_epochs)
    assert samples_per_second == 100 / usual
    assert compile_seconds == max(0.0, seconds[0] - usual)


def test_the_speed_leaves_out_the_epochs_that_compile(tmp_path, monkeypatch):
    compiled = []

    def rates(seconds, samples, compiled_epochs):
        compiled.append(compiled_epochs)
        return 0.0, 0.0

    monkeypatch.setattr(results, "rates", rates)
    changes = dict(train_epochs=6, start_epoch=3, swa_freq=2)
    small_runs.run(small_runs.config_for(tmp_path, **changes))
    # the first epoch, the first with a sample, the batch-norm epoch
    assert compiled == [{1, 3, 6}]


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(package, "__file__", str(tmp_path / "__init__.py"))
    assert results.commit() is None
