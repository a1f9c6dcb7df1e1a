# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""When the training is saved: at its epochs, and when a signal comes."""

import argparse
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from support.small_runs import BATCHES, EPOCHS, config_for, run

from swa.training import checkpoint, dataset, saving, stopping


def test_saving_adds_no_operation_to_the_graph(tmp_path, monkeypatch):
    counts, save = [], checkpoint.Folder.save

    def counted(folder, *arguments):
        save(folder, *arguments)
        counts.append(len(tf.compat.v1.get_default_graph().get_operations()))

    monkeypatch.setattr(checkpoint.Folder, "save", counted)
    run(config_for(tmp_path, save_interval=1))
    assert len(counts) == EPOCHS - 1
    assert len(set(counts)) == 1


def test_with_interval_0_only_the_end_is_saved(tmp_path):
    run(config_for(tmp_path, save_interval=0))
    names = {name.split(".index")[0] for name in os.listdir(str(tmp_path / "out/ckpt"))}
    assert {n for n in names if n.startswith("model.ckpt")} == {
        "model.ckpt-11",
        "model.ckpt-11.data-00000-of-00001",
    }


def test_a_run_that_diverges_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    batches = dataset.batches

    def broken(*arguments, **options):
        for count, (x, y) in enumerate(batches(*arguments, **options)):
            yield (x * np.nan if count == 5 * BATCHES + 1 else x), y

    monkeypatch.setattr(dataset, "batches", broken)
    with pytest.warns(RuntimeWarning, match="no sample was averaged"):
        told = run(config_for(tmp_path, save_interval=1))
    assert told["status"] == "diverged" and told["epochs"] == 6
    found = checkpoint.Folder(str(tmp_path / "out"), 5).find(pytest.fail)
    assert found.epoch == 5
    assert all(np.isfinite(w).all() for w in found.weights.values())


class TwoRanks:
    """The first of two ranks; to the other a signal has come, or none."""

    size = 2

    def __init__(self, number_of_other=0):
        self._number_of_other = number_of_other

    def gather(self, number):
        return np.array([number, self._number_of_other])


@pytest.fixture
def callback():
    """Function of ranks and a Stop: the callback of a run resumed after four epochs."""

    def of(ranks, stop):
        four_epochs = checkpoint.Snapshot(4, {}, {}, {}, {}, {})
        job = argparse.Namespace(ranks=ranks, snapshot=four_epochs)
        figures = argparse.Namespace(has_diverged=True)
        return saving.Checkpoints(job, stop, None, figures)

    return of


def test_one_of_several_ranks_does_not_leave_within_an_epoch(callback):
    stop = stopping.Stop()
    checkpoints = callback(TwoRanks(), stop)
    stop.number = signal.SIGTERM
    checkpoints.on_batch_end(0)
    assert stop.saved_epoch is None
    with pytest.raises(stopping.Stopped):
        checkpoints.on_epoch_end(0)
    assert stop.saved_epoch == 4


def test_a_signal_to_one_rank_stops_the_others_after_the_epoch(callback):
    stop = stopping.Stop()
    checkpoints = callback(TwoRanks(number_of_other=signal.SIGTERM), stop)
    with pytest.raises(stopping.Stopped):
        checkpoints.on_epoch_end(0)
    assert (stop.number, stop.saved_epoch) == (signal.SIGTERM, 4)


def test_without_a_signal_no_rank_leaves(callback):
    stop = stopping.Stop()
    checkpoints = callback(TwoRanks(), stop)
    checkpoints.on_epoch_end(0)
    assert (stop.number, stop.saved_epoch) == (None, None)
