# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Every rule on the flags is checked before anything begins."""

import os
import resource

import pytest

from swa.training import memory
from swa.training.errors import UserError
from swa.training.flags import Config
from swa.training.settings import checked


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
        (dict(start_epoch=100), "start_epoch must be below epochs.*100.*100"),
        (dict(swa_lr=0.2, swa_lr2=0.3), "swa_lr must not be above the compiled.*0.2"),
        (dict(swa_freq=1), "swa_freq must be at least 2"),
        (dict(data_dump_step="3-1"), "data_dump_step.*3-1"),
        (dict(data_dump_step="2147483648"), "data_dump_step .*2147483647.*got '2147"),
        (dict(output_dir="/proc/nope"), "output_dir must be writable, got '/proc/no"),
        (
            dict(
                profiling=True, data_save_path="/tmp/\udcff", typed=["data_save_path"]
            ),
            "must be a path in UTF-8",
        ),
        (dict(output_dir=os.path.join(__file__, "x")), "output_dir must be a director"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        checked(Config(**changes))
    assert "\n" not in str(caught.value)


def test_checking_twice_changes_nothing():
    once = checked(Config(over_dump=True, swa_lr="auto", swa_lr2="auto"))
    assert checked(once) == once


def test_dumps_go_beside_the_results_where_the_default_cannot_be_made():
    config = Config(data_save_path="/proc/data", output_dir="/tmp/results")
    assert checked(config).data_save_path == "/tmp/results"
    typed = config._replace(typed=("data_save_path",))
    assert checked(typed).data_save_path == "/proc/data"  # an NPU refuses it by name


def test_the_default_output_is_the_devices():
    for device_id, number in (("3", 3), ("", 0)):
        config = checked(Config(), {"ASCEND_DEVICE_ID": device_id})
        assert config.output_dir == os.path.abspath(f"output/{number}")


# Memory


def test_a_run_that_does_not_fit_names_the_flag_that_counts_most(monkeypatch):
    config = checked(Config(num_samples=2**31 - 1))
    monkeypatch.setattr(memory, "free_bytes", lambda: 10 * 2**30)
    with pytest.raises(UserError, match="num_samples must fit in memory, got 21474836"):
        memory.check(config, config.num_samples, 6, is_drawn=True)
    memory.check(checked(Config()), 131072, 6, is_drawn=True)  # the default one does
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2 * 2**30, -1))
    with pytest.raises(UserError, match="ulimit -v must be at least .*, got 2.0 GiB"):
        memory.check(checked(Config()), 131072, 6, is_drawn=True)
    monkeypatch.undo()
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    memory.check(config, config.num_samples, 6, is_drawn=True)  # nobody can tell
