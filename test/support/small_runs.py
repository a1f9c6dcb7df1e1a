# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Runs of the trainer that take a second, in this process."""

import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from swa.training import checkpoint, dataset, stopping
from swa.training import run as training
from swa.training.flags import Config
from swa.training.settings import checked

EPOCHS, BATCHES = 12, 4  # averaged: 9; the last epoch is the batch-norm epoch
TIMES = "samples_per_second compile_seconds train_seconds e2e_seconds".split()


def config_for(folder, **changes):
    """A checked configuration of a second; momentum, so that there are slots."""
    settings = dict(
        train_epochs=EPOCHS,
        batch_size=64,
        momentum=0.9,
        hidden_units=8,
        num_classes=3,
        num_features=2,
        num_samples=64 * BATCHES - 9,  # a short last batch
        data_path=str(folder),
        device="cpu",
        output_dir=str(folder / "out"),
        save_interval=2,
    )
    settings.update(changes)
    return checked(Config(**settings, typed=tuple(settings)))


def run(config, stop=None):
    # a graph's first seeds depend on whether Keras has made it anew before
    tf.compat.v1.keras.backend.clear_session()
    return training.run(config, stop or stopping.Stop(), time.monotonic(), {})


def run_until(config, monkeypatch, epoch, batch=1):
    """Runs until a signal in that batch, counted from zero; returns its Stop."""
    stop, batches = stopping.Stop(), dataset.batches

    def with_signal(*arguments, **options):
        for count, rows in enumerate(batches(*arguments, **options)):
            if count == epoch * BATCHES + batch:
                stop.number = signal.SIGTERM
            yield rows

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "batches", with_signal)
        with pytest.raises(stopping.Stopped):
            run(config, stop)
    return stop


def figures(told):
    told = dict(told, config=dict(told["config"]))
    for name in TIMES + ["commit"]:  # one may be made meanwhile
        del told[name]
    for name in ("output_dir", "data_path", "save_interval"):
        del told["config"][name]
    return told


def arrays(folder, name):
    return checkpoint.arrays_of(str(folder / "out" / "ckpt" / name))


def assert_equal_arrays(some, others):
    assert set(some) == set(others)
    for name in some:
        if not isinstance(some[name], bytes):
            np.testing.assert_array_equal(some[name], others[name], err_msg=name)
