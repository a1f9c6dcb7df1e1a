# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""An epoch's figures: kept, printed on one line, and judged."""

import argparse
import math
import time

import numpy as np
import pytest
import tensorflow as tf
from support.small_runs import EPOCHS, config_for, run

from swa.training.figures import Figures
from swa.training.ranks import Ranks
from swa.training.resume import Job


def make_figures(verbose=1, ranks=None):
    config = argparse.Namespace(train_epochs=3, verbose=verbose)
    job = Job(config, None, None, ranks or Ranks(), None, 0.0, {}, None)
    figures = Figures(job, argparse.Namespace(lr=0.25), rows=100)
    figures.set_model(argparse.Namespace(stop_training=False))
    return figures


@pytest.fixture
def now(monkeypatch):
    """A list whose last number is the time; the clock of the wall is set back."""
    numbers = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: numbers[-1])
    monkeypatch.setattr(time, "time", lambda: -numbers[-1])
    return numbers


def test_each_epoch_adds_a_value_to_every_list(now):
    figures = make_figures()
    figures.on_train_begin()
    now.append(12.0)
    figures.on_epoch_end(0, {"loss": 0.5, "acc": 0.75})
    assert figures.history == {
        "seconds": [2.0],
        "losses": [0.5],
        "accuracies": [0.75],
        "learning_rates": [0.25],
    }


def test_an_epochs_figures_are_the_means_over_the_ranks(now):
    class OneOfTwo:
        def mean(self, values):
            return [value + 0.25 for value in values]

    figures = make_figures(ranks=OneOfTwo())
    figures.on_train_begin()
    now.append(12.0)
    figures.on_epoch_end(0, {"loss": 0.5, "acc": 0.25})
    assert (figures.history["losses"], figures.history["accuracies"]) == ([0.75], [0.5])


def test_each_epoch_has_its_own_seconds(now):
    figures = make_figures()
    figures.on_train_begin()
    for epoch, time_of_end in enumerate([11.0, 13.0, 16.0]):
        now.append(time_of_end)
        figures.on_epoch_end(epoch, {"loss": 1.0, "acc": 0.5})
    assert figures.history["seconds"] == [1.0, 2.0, 3.0]


def test_the_line_has_the_epoch_and_the_speed(now, capsys):
    figures = make_figures()
    figures.on_train_begin()
    now.append(12.0)
    figures.on_epoch_end(1, {"loss": 0.5, "acc": 0.75})
    assert capsys.readouterr().out == (
        "Epoch 2/3 - loss: 0.5000 - accuracy: 0.7500 - lr: 0.25 - samples/s: 50\n"
    )


def test_verbose_0_prints_no_epoch(now, capsys):
    figures = make_figures(verbose=0)
    figures.on_train_begin()
    now.append(12.0)
    figures.on_epoch_end(0, {"loss": 0.5, "acc": 0.75})
    assert capsys.readouterr().out == ""


def test_before_the_first_epoch_nothing_has_diverged():
    assert not make_figures().has_diverged


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_training(now, capsys, loss):
    figures = make_figures(verbose=0)
    figures.on_train_begin()
    now.append(12.0)
    figures.on_epoch_end(0, {"loss": 0.5, "acc": 0.75})
    assert not figures.has_diverged and not figures.model.stop_training
    now.append(14.0)
    figures.on_epoch_end(1, {"loss": loss, "acc": 0.75})
    assert figures.has_diverged and figures.model.stop_training
    assert f"epoch 2: the loss is {loss}; stopped." in capsys.readouterr().out


def test_the_figures_for_tensorboard(tmp_path):
    told = run(config_for(tmp_path, tensorboard=True))
    (path,) = (tmp_path / "out" / "tensorboard").iterdir()
    values = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            values.setdefault(value.tag, []).append((event.step, value.simple_value))
    steps = range(1, EPOCHS + 1)
    names = {"loss": "losses", "accuracy": "accuracies", "rate": "learning_rates"}
    for tag, name in names.items():
        expected = np.float32(told["epoch_" + name])
        assert values[tag] == list(zip(steps, expected))
    assert values["swa_accuracy"] == [
        (EPOCHS, np.float32(told["test"]["swa"]["accuracy"]))
    ]
