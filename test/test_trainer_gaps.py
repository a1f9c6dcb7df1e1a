# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Parts of the trainer that no other test looks at, one by one."""

import itertools
import os
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from swa.training import (
    checkpoint,
    dataset,
    figures,
    machine,
    rank_callbacks,
    results,
    resume,
    saving,
    stopping,
)
from swa.training import run as training
from swa.training.clock import Clock
from swa.training.errors import UserError
from swa.training.flags import Config, parse
from swa.training.settings import checked
from swa.training.world import World


def config_for(folder, **changes):
    """A checked configuration of half a second, writing below `folder`."""
    settings = dict(
        train_epochs=3,
        batch_size=64,
        hidden_units=8,
        num_classes=3,
        num_features=2,
        num_samples=256,
        data_path=str(folder),
        device="cpu",
        output_dir=str(folder / "out"),
    )
    settings.update(changes)
    return checked(Config(**settings))


def run(config):
    # a graph's first seeds depend on whether Keras has made it anew before
    tf.compat.v1.keras.backend.clear_session()
    return training.run(config, stopping.Stop(), Clock(time.monotonic()), {})


def npz(folder, **changes):
    """A file of twenty training and four held-out rows; returns its path."""
    arrays = dict(
        x=np.zeros((20, 2), np.float32),
        y=np.arange(20) % 3,
        x_test=np.zeros((4, 2), np.float32),
        y_test=np.arange(4) % 3,
    )
    arrays.update(changes)
    path = str(folder / "rows.npz")
    np.savez(path, **arrays)
    return path


def test_the_seed_changes_the_initial_weights(tmp_path):
    """Seen in the trained weights of a run whose rate is next to nothing."""
    rows = npz(tmp_path)

    def first_kernel(seed):
        config = config_for(
            tmp_path,
            data_path=rows,
            batch_size=20,
            seed=seed,
            lr_schedule="manual",
            learning_rate=1e-30,
        )
        run(config)
        path = os.path.join(config.output_dir, "ckpt", "sgd.ckpt")
        return tf.train.load_checkpoint(path).get_tensor("dense/kernel")

    kernel = first_kernel(1)
    np.testing.assert_array_equal(first_kernel(1), kernel)
    assert (first_kernel(2) != kernel).all()


@pytest.mark.parametrize(
    "changes",
    [
        dict(x=np.ones((20, 2), np.float32)),
        dict(y=np.zeros(20, int)),
        dict(x_test=np.ones((4, 2), np.float32)),
        dict(y_test=np.zeros(4, int)),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_hash_of_the_rows_covers_each_array(tmp_path, changes):
    def sha256(**arrays):
        rows = npz(tmp_path, **arrays)
        return dataset.load(config_for(tmp_path, data_path=rows, batch_size=4)).sha256

    assert sha256() == sha256()
    assert sha256(**changes) != sha256()


def test_each_epoch_has_its_own_seconds(tmp_path, monkeypatch):
    class Swa:
        lr = 0.1

    callback = figures.Figures(config_for(tmp_path, verbose=0), Swa, 100)
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    callback.on_train_begin()
    for epoch in range(3):
        callback.on_epoch_end(epoch, {"loss": 1.0, "accuracy": 0.5})
    assert callback.history["seconds"] == [1.0, 1.0, 1.0]


def test_the_speed_leaves_out_the_epochs_that_compile(tmp_path, monkeypatch):
    compiled = []

    def rates(seconds, samples, compiled_epochs):
        compiled.append(compiled_epochs)
        return 0.0, 0.0

    monkeypatch.setattr(results, "rates", rates)
    run(config_for(tmp_path, train_epochs=6, start_epoch=3, swa_freq=2))
    # the first epoch, the first with a sample, the batch-norm epoch
    assert compiled == [{1, 3, 6}]


class TwoRanks:
    """The first of two ranks; to the other a signal has come, or none."""

    size = 2

    def __init__(self, number_of_other=0):
        self._number_of_other = number_of_other

    def gather(self, number):
        return np.array([number, self._number_of_other])


class Checkpoints:
    """Keeps nothing; the last whole epoch is the fourth."""

    saved_epoch = None

    def save_latest(self):
        self.saved_epoch = 4


def test_one_of_several_ranks_does_not_leave_within_an_epoch():
    stop = stopping.Stop()
    callback = saving.StopOnSignal(stop, Checkpoints(), TwoRanks())
    stop.number = signal.SIGTERM
    callback.on_batch_end(0)
    assert stop.saved_epoch is None
    with pytest.raises(stopping.Stopped):
        callback.on_epoch_end(0)
    assert stop.saved_epoch == 4


def test_a_signal_to_one_rank_stops_the_others_after_the_epoch():
    stop = stopping.Stop()
    other = TwoRanks(number_of_other=signal.SIGTERM)
    callback = saving.StopOnSignal(stop, Checkpoints(), other)
    with pytest.raises(stopping.Stopped):
        callback.on_epoch_end(0)
    assert (stop.number, stop.saved_epoch) == (signal.SIGTERM, 4)


def test_without_a_signal_no_rank_leaves():
    stop = stopping.Stop()
    callback = saving.StopOnSignal(stop, Checkpoints(), TwoRanks())
    callback.on_epoch_end(0)
    assert (stop.number, stop.saved_epoch) == (None, None)


def test_an_epochs_figures_weigh_each_rank_by_all_its_rows():
    class Ranks:
        def mean(self, values, rows):
            return [value * rows for value in values]

    callback, logs = rank_callbacks.MeanOverRanks(Ranks()), {}
    for epoch in range(2):  # the second begins anew
        callback.on_epoch_begin(epoch)
        for batch, size in enumerate([4, 4, 2]):
            callback.on_batch_end(batch, {"size": size})
        logs = {"loss": 2.0, "accuracy": 0.5}
        callback.on_epoch_end(epoch, logs)
    assert logs == {"loss": 20.0, "accuracy": 5.0}


def test_another_number_of_ranks_is_told_on_resume(tmp_path, capsys):
    run(config_for(tmp_path))
    config = config_for(tmp_path, resume=True)
    world = World("", rank=0, size=2, local_rank=0, local_size=2)
    folder = checkpoint.Folder(config.output_dir, config.max_to_keep)
    two = machine.Device("cpu", world=world)
    start = resume.find_start(config, two, dataset.load(config), folder)
    assert start.epoch == 2
    told = "the checkpoint is of 1 ranks, and now there are 2"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("changes", [dict(batch_size=256), dict(num_classes=256)])
def test_a_flag_may_be_as_large_as_the_number_of_samples(tmp_path, changes):
    config_for(tmp_path, **changes)


def test_a_seed_that_numpy_does_not_take_is_refused():
    assert parse([f"--seed={2**32 - 1}"]).seed == 2**32 - 1
    with pytest.raises(UserError, match="seed must be .*got '4294967296'"):
        parse([f"--seed={2**32}"])
