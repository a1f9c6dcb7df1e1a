# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Every rule on the flags is checked before anything begins."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from swa.training import flags, memory
from swa.training.config import checked, parse
from swa.training.errors import UserError
from swa.training.flags import FLAGS, Config, arguments, given


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
        (dict(learning_rate=0.0), "learning_rate must be at least 1e-37, got 0.0"),
        (dict(learning_rate=float("nan")), "must be at most 1e.38, got nan"),
        (dict(momentum=1.0), "momentum must be at most 0.999999, got 1.0"),
        (dict(seed=-1), "seed must be at least 0, got -1"),
        (dict(verbose=3), "verbose must be at most 2, got 3"),
        (dict(save_interval=-1), "save_interval must be at least 0, got -1"),
        (dict(max_to_keep=0), "max_to_keep must be at least 1, got 0"),
        (dict(num_classes=1), "num_classes must be at least 2, got 1"),
        (dict(device="gpu"), "device must be one of .*, got 'gpu'"),
        (dict(data_path="/no/such"), "data_path must be an existing path, got '/no/su"),
        (dict(start_epoch=100), "start_epoch must be below epochs.*100.*100"),
        (dict(start_epoch=1), "start_epoch must be at least 2, got 1"),
        (dict(swa_lr="low"), "swa_lr must be 'auto' or a number, got 'low'"),
        (dict(swa_lr=0.2, swa_lr2=0.3), "swa_lr must not be above the compiled.*0.2"),
        (dict(swa_freq=1), "swa_freq must be at least 2"),
        (dict(over_dump="maybe"), "over_dump must be True, False, 1 or 0, got 'maybe'"),
        (dict(precision_mode="fp8"), "precision_mode.*'fp8'"),
        (dict(data_dump_step="3-1"), "data_dump_step.*3-1"),
        (dict(over_dump="1", data_dump_flag="1"), "over_dump and data_dump_flag"),
        (dict(num_samples=100), "batch_size 16384 and 100 samples"),
        (dict(num_samples=2**31), "num_samples must be at most 2147483647, got 21474"),
        (dict(num_features=2**63), "num_features must be at most 1000000, got 9223"),
        (dict(hidden_units=2**32), "hidden_units must be at most 1000000, got 4294967"),
        (dict(swa_freq=2**63), "swa_freq must be at most 1000000, got 922337203685477"),
        (dict(max_to_keep=2**31), "max_to_keep must be at most 1000000, got 21474836"),
        (dict(train_epochs=10**30), "train_epochs must be at most 1000000, got 1000"),
        (dict(learning_rate=1e39), r"learning_rate must be at most 1e\+38, got 1e\+39"),
        (dict(learning_rate=1e-46), "learning_rate must be at least 1e-37, got 1e-46"),
        (dict(swa_lr=1e-50), "swa_lr must be at least 1e-37, got 1e-50"),
        (dict(num_classes=200000), "num_classes must not be above num_samples, got 2"),
        (dict(data_dump_step="2147483648"), "steps of at most 2147483647, got '2147"),
        (dict(data_path=""), "data_path must be a path, got ''"),
        (dict(data_path=os.devnull), "must be a directory or an .npz file"),
        (dict(output_dir="/proc/nope"), "output_dir must be writable, got '/proc/no"),
        (dict(profiling="1", data_save_path="/tmp/\udcff"), "must be a path in UTF-8"),
        (dict(output_dir=os.path.join(__file__, "x")), "output_dir must be a director"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        checked(Config(**changes))
    assert "\n" not in str(caught.value)


def test_checking_twice_changes_nothing():
    once = checked(Config(over_dump="TRUE", swa_lr="auto", swa_lr2="auto"))
    assert once.over_dump is True
    assert checked(once) == once


def test_dumps_go_beside_the_results_where_the_default_cannot_be_made(monkeypatch):
    monkeypatch.setitem(
        FLAGS, "data_save_path", FLAGS["data_save_path"]._replace(default="/proc/data")
    )
    config = checked(Config(data_save_path="/proc/data", output_dir="/tmp/results"))
    assert config.data_save_path == "/tmp/results"


# The command line


def test_every_way_to_write_a_flag():
    argv = "--seed=3 --batch_size 64 --resume --nocheck --over_dump True --seed=4"
    assert given(argv.split()) == {
        "seed": "4",
        "batch_size": "64",
        "resume": "True",
        "check": "False",
        "over_dump": "True",
    }


@pytest.mark.parametrize(
    "words, message",
    [
        (["-resume"], "flags begin with --, got '-resume'"),
        (["-help"], "flags begin with --, got '-help'"),
        (["-data_path=x"], "flags begin with --, got '-data_path=x'"),
        (["word"], "flags begin with --, got 'word'"),
        (["--"], "flags begin with --, got '--'"),
        (["--flagfile=x"], "Unknown command line flag 'flagfile'"),
        (["--undefok=x"], "Unknown command line flag 'undefok'"),
        (["--batchsize=3"], "'batchsize'. Did you mean --batch_size?"),
        (["--seed"], "--seed needs a value"),
        (["--seed", "--resume"], "--seed needs a value"),
        (["--" + "x" * 3000], "Unknown command line flag 'xxx"),
        (["--a\nb=1"], r"flag 'a\nb'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_flag_is_refused_in_one_short_line(words, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        given(words)
    told = str(caught.value)
    assert told.isprintable() and len(told) <= 400 and caught.value.status == 2


def test_arguments_give_the_same_configuration_elsewhere(tmp_path, monkeypatch):
    config = parse(["--seed=5", "--output_dir=out", "--over_dump=1", "--resume"], {})
    monkeypatch.chdir(tmp_path)
    assert parse(arguments(config), {"ASCEND_DEVICE_ID": "7"}) == config


def test_a_removed_working_directory_is_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(UserError, match="working directory has been removed"):
        parse([], {})


def test_the_default_output_is_the_devices():
    assert parse([], {"ASCEND_DEVICE_ID": "3"}).output_dir.endswith("/output/3")
    assert parse([], {"ASCEND_DEVICE_ID": ""}).output_dir.endswith("/output/0")


def test_every_flag_says_what_resume_does():
    kinds = {flags.FIXED, flags.FREE, flags.FIXED_FOR_SYNTHETIC, flags.FIXED_ON_NPU}
    assert {flag.on_resume for flag in FLAGS.values()} == kinds


def test_reading_the_flags_needs_the_standard_library_alone():
    code = "import sys; from swa.training import flags; flags.help_text()"
    code += "; assert not {'numpy', 'tensorflow', 'absl'} & set(sys.modules)"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=str(ROOT), check=True)


# Messages


def test_a_message_is_one_line_of_at_most_400_characters():
    error = UserError("a\tb\n" + "x" * 1000 + "the end", 1)
    assert str(error).startswith(r"a\tb\nxx") and str(error).endswith("xthe end")
    assert len(str(error)) == 400 and error.status == 1


# Memory


def test_a_run_that_does_not_fit_names_the_flag_that_counts_most(monkeypatch):
    config = checked(Config(num_samples=2**31 - 1))
    monkeypatch.setattr(memory, "free_bytes", lambda: 10 * 2**30)
    with pytest.raises(UserError, match="num_samples must fit in memory, got 21474836"):
        memory.check(config, config.num_samples, 6, is_drawn=True)
    memory.check(checked(Config()), 131072, 6, is_drawn=True)  # the default one does
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    memory.check(config, config.num_samples, 6, is_drawn=True)  # nobody can tell
