# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The training itself: its initial weights, its rows, the order of its callbacks."""

import argparse
import signal

import numpy as np
import pytest
import tensorflow as tf
from support.small_runs import arrays, config_for, run

from swa.training import dataset, fit, rank_callbacks, stopping
from swa.training.errors import FAILED, UserError


def test_the_seed_changes_the_initial_weights(tmp_path):
    """Seen in the trained weights of a run whose rate is next to nothing."""
    x, y = np.zeros((20, 2), np.float32), np.arange(20) % 3
    rows = str(tmp_path / "rows.npz")
    np.savez(rows, x=x, y=y, x_test=x, y_test=y)

    def first_kernel(seed):
        settings = dict(lr_schedule="manual", learning_rate=1e-30, momentum=0.0)
        run(
            config_for(
                tmp_path,
                train_epochs=3,
                data_path=rows,
                batch_size=20,
                seed=seed,
                **settings,
            )
        )
        return arrays(tmp_path, "sgd.ckpt")["dense/kernel"]

    kernel = first_kernel(1)
    np.testing.assert_array_equal(first_kernel(1), kernel)
    assert (first_kernel(2) != kernel).all()


def test_the_model_trains_on_the_rows_of_each_epoch_once(tmp_path, monkeypatch):
    config = config_for(tmp_path, train_epochs=3, num_samples=256)
    fed, batches = [], dataset.batches

    def watched(*arguments, **options):
        for x, y in batches(*arguments, **options):
            fed.append(x)
            yield x, y

    monkeypatch.setattr(dataset, "batches", watched)
    run(config)
    assert {x.shape for x in fed} == {(64, 2)}  # one static shape
    rows = np.sort(dataset.load(config).x, axis=0)
    for epoch in np.concatenate(fed).reshape(3, 256, 2):
        np.testing.assert_array_equal(np.sort(epoch, axis=0), rows)


@pytest.fixture
def callbacks(tmp_path, monkeypatch):
    """Function of a configuration: the names of the classes that `fit` gets."""
    names = []

    def watched(model, batches, callbacks, **options):
        names.extend(type(callback).__name__ for callback in callbacks)
        raise KeyError("seen")

    def of(**changes):
        monkeypatch.setattr(tf.keras.Model, "fit", watched)
        with pytest.raises(KeyError, match="seen"):
            run(config_for(tmp_path, **changes))
        return names

    return of


def test_what_belongs_to_an_epoch_comes_before_what_saves_it(callbacks):
    assert callbacks(tensorboard=True) == [
        "SWA",
        "LambdaCallback",
        "Figures",
        "TensorBoard",
        "Checkpoints",
    ]


class TwoRanks:
    """Two ranks, the other of which has ended."""

    size = 2

    def is_lost(self, error):
        return "connection closed" in str(error)


class Checkpoints:
    """Notes that it saves."""

    has_saved = False

    def save_latest(self):
        self.has_saved = True


def step_that_fails(message, number=None):
    """Runs a step that fails."""
    stop, checkpoints = stopping.Stop(), Checkpoints()
    stop.number = number
    try:
        with fit._leaving_lost_ranks(TwoRanks(), checkpoints, stop):
            raise RuntimeError(message)
    finally:
        assert checkpoints.has_saved == ("connection closed" in message)


def test_a_step_without_the_other_rank_saves_and_is_one_line():
    with pytest.raises(UserError, match="another rank has ended.* --resume") as caught:
        step_that_fails("connection closed")
    assert caught.value.status == FAILED


def test_a_step_that_a_signal_to_all_ranks_cut_off_ends_as_stopped():
    with pytest.raises(stopping.Stopped):
        step_that_fails("connection closed", signal.SIGTERM)


def test_another_error_of_a_step_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="^a bug$"):
        step_that_fails("a bug")


class FakeTraining:
    """What `fit` trains with, by name."""

    swa, figures, checkpoints, tensorboard = "swa", "figures", "checkpoints", []


def test_of_several_ranks_all_begin_with_the_weights_of_the_first():
    class Ranks:
        size = 2

    job = argparse.Namespace(ranks=Ranks)
    order = fit._callbacks(job, FakeTraining)
    assert isinstance(order[0], rank_callbacks.EqualRanks)
    assert order[1] == "swa"  # which averages the weights
