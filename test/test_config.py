# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Every rule on the flags is checked before anything begins."""

import os

import pytest

from swa.training.config import Config, InputError, checked


def test_the_defaults_are_the_published_ones():
    config = checked(Config())
    assert (config.train_epochs, config.batch_size, config.start_epoch) == (
        100,
        16384,
        75,
    )
    assert (config.lr_schedule, config.swa_lr, config.swa_lr2, config.swa_freq) == (
        "cyclic",
        0.001,
        0.003,
        3,
    )


@pytest.mark.parametrize("epochs, start", [(10, 7), (100, 75), (3, 2), (4, 3)])
def test_start_epoch_is_three_quarters_unless_given(epochs, start):
    assert checked(Config(train_epochs=epochs)).start_epoch == start
    assert checked(Config(train_epochs=epochs, start_epoch=2)).start_epoch == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(train_epochs=2), "train_epochs must be at least 3, got 2"),
        (dict(batch_size=0), "batch_size must be at least 1, got 0"),
        (dict(learning_rate=0.0), "learning_rate must be above 0, got 0.0"),
        (dict(learning_rate=float("nan")), "learning_rate must be above 0, got nan"),
        (dict(momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (dict(seed=-1), r"seed must be in \[0, 2\*\*32\), got -1"),
        (dict(verbose=3), "verbose must be 0, 1 or 2, got 3"),
        (dict(save_interval=-1), "save_interval must be at least 0, got -1"),
        (dict(max_to_keep=0), "max_to_keep must be at least 1, got 0"),
        (dict(num_classes=1), "num_classes must be at least 2, got 1"),
        (dict(device="gpu"), "device must be one of .*, got 'gpu'"),
        (dict(data_path="/no/such"), "data_path must be an existing path, got '/no/su"),
        (dict(start_epoch=100), "start_epoch must be below epochs.*100.*100"),
        (dict(start_epoch=1), "start_epoch must be an integer of at least 2, got 1"),
        (dict(swa_lr="low"), "swa_lr must be 'auto' or a number, got 'low'"),
        (dict(swa_lr=0.2, swa_lr2=0.3), "swa_lr must not be above the compiled.*0.2"),
        (dict(swa_freq=1), "swa_freq must be at least 2"),
        (dict(over_dump="maybe"), "over_dump must be True, False, 1 or 0, got 'maybe'"),
        (dict(precision_mode="fp8"), "precision_mode.*'fp8'"),
        (dict(data_dump_step="3-1"), "data_dump_step.*3-1"),
        (dict(over_dump="1", data_dump_flag="1"), "over_dump and data_dump_flag"),
        (dict(num_samples=100), "batch_size 16384 and 100 samples"),
        (dict(output_dir=os.path.join(__file__, "x")), "output_dir must be a director"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        checked(Config(**changes))
    assert "\n" not in str(caught.value)


def test_checking_twice_changes_nothing():
    once = checked(Config(over_dump="TRUE", swa_lr="auto", swa_lr2="auto"))
    assert once.over_dump is True
    assert checked(once) == once
