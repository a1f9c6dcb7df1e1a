# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The command line: how a flag is written, and what is refused."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from absl import flags as absl_flags
from conftest import ROOT

from swa import schedules
from swa.training import flags
from swa.training.errors import UserError
from swa.training.flags import Config, arguments, parse

FREE = {
    *("train_epochs", "verbose", "data_path", "device", "memory_optimization"),
    *("over_dump", "data_dump_flag", "data_dump_step", "profiling", "data_save_path"),
    *("output_dir", "save_interval", "max_to_keep", "resume", "tensorboard", "check"),
}


def test_every_way_to_write_a_flag():
    argv = "--seed=3 --batch_size 64 --resume --nocheck --over_dump=True --seed=4"
    config = parse(argv.split())
    assert (config.seed, config.batch_size) == (4, 64)
    assert (config.resume, config.check, config.over_dump) == (True, False, True)
    assert set(config.typed) == {"seed", "batch_size", "resume", "check", "over_dump"}


def test_a_flag_that_was_not_typed_is_at_its_default_again():
    parse(["--seed=3", "--resume"])
    assert parse([]) == Config(
        data_path=os.getcwd(), data_save_path="/home/data", typed=()
    )


@pytest.mark.parametrize("text", ["True", "true", "TRUE", "1"])
def test_a_switch_takes_every_word_for_yes(text):
    assert parse([f"--over_dump={text}"]).over_dump is True


@pytest.mark.parametrize("text", ["False", "false", "FALSE", "0"])
def test_a_switch_takes_every_word_for_no(text):
    assert parse([f"--over_dump={text}"]).over_dump is False


@pytest.mark.parametrize("text", ["", "yes", "2", "on", " True", "None"])
def test_a_switch_refuses_other_words(text):
    with pytest.raises(UserError, match="over_dump must be True, False, 1 or 0"):
        parse([f"--over_dump={text}"])


def test_a_default_that_is_typed_counts_as_typed():
    assert parse(["--seed=2"]).typed == ("seed",)


@pytest.mark.parametrize(
    "word, name, value",
    [
        ("--batch=64", "batch_size", 64),
        ("--train_batch_size=64", "batch_size", 64),
        ("--output_path=/a", "output_dir", "/a"),
    ],
)
def test_the_zoos_other_names_set_the_same_flag(word, name, value):
    config = parse([word])
    assert getattr(config, name) == value
    assert name in config.typed
    assert arguments(config) == [f"--{name}={value}"]


def test_the_zoos_flags_for_other_models_are_named_in_one_line():
    config = parse(["--npu_loss_scale=1", "--Autotune", "True", "--seed=5"])
    (line,) = flags.without_effect(config)
    assert line == "These options have no effect here: --npu_loss_scale --Autotune"
    assert arguments(config) == ["--seed=5"]
    assert flags.without_effect(parse([])) == []


@pytest.mark.parametrize(
    "word, message",
    [
        ("--train_epochs=2", "train_epochs must be an integer in the range [3, 100000"),
        (
            "--batch_size=0",
            "batch_size must be an integer in the range [1, 2147483647]",
        ),
        ("--batch_size=many", "batch_size must be an integer in the range [1, 2147483"),
        ("--learning_rate=0.0", "learning_rate must be a number in the range [1e-37, "),
        ("--learning_rate=nan", "flag --learning_rate=nan: must be a number"),
        ("--momentum=1.0", "momentum must be a number in the range [0, 0.999999], got"),
        ("--seed=-1", "seed must be an integer in the range [0, 4294967295], got '-1'"),
        ("--verbose=3", "verbose must be an integer in the range [0, 2], got '3'."),
        ("--save_interval=-1", "save_interval must be an integer in the range [0, 10"),
        ("--max_to_keep=0", "max_to_keep must be an integer in the range [1, 1000000]"),
        ("--num_classes=1", "num_classes must be an integer in the range [2, 1000000]"),
        ("--device=gpu", "device must be one of auto, npu, cpu, got 'gpu'."),
        ("--start_epoch=1", "start_epoch must be an integer in the range [2, 1000000]"),
        ("--swa_lr=low", "swa_lr must be 'auto' or a number in the range [1e-37, 1e+3"),
        ("--over_dump=maybe", "over_dump must be True, False, 1 or 0, got 'maybe'."),
        ("--precision_mode=fp8", "precision_mode must be one of allow_fp32_to_fp16, "),
        ("--lr_schedule=linear", "lr_schedule must be one of manual, constant, cyclic"),
        ("--num_samples=2147483648", "num_samples must be an integer in the range [1,"),
        ("--num_features=10000000", "num_features must be an integer in the range [1,"),
        ("--hidden_units=4294967296", "hidden_units must be an integer in the range ["),
        ("--swa_freq=9223372036854775808", "swa_freq must be an integer in the range "),
        ("--max_to_keep=2147483648", "max_to_keep must be an integer in the range [1,"),
        ("--train_epochs=1" + 30 * "0", "train_epochs must be an integer in the range"),
        ("--learning_rate=1e39", "learning_rate must be a number in the range [1e-37,"),
        ("--learning_rate=1e-46", "learning_rate must be a number in the range [1e-37"),
        ("--swa_lr=1e-50", "swa_lr must be 'auto' or a number in the range [1e-37, 1e"),
        ("--swa_lr=nan", "flag --swa_lr=nan: must be a number"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(word, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        parse([word])
    value = word.partition("=")[2]
    assert value in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.status == 2


@pytest.mark.parametrize(
    "words, message",
    [
        (["word"], "flags begin with --, got 'word'"),
        (["--seed=3", "word"], "flags begin with --, got 'word'"),
        (["--profiling", "True"], "got 'True'. Write --profiling=True."),
        (["--nocheck=1"], "--nocheck=1 does not take an argument"),
        (["--"], "Unknown command line flag ''"),
        (["-help"], "Unknown command line flag 'help'"),
        (["--flagfile=x"], "Unknown command line flag 'flagfile'"),
        (["--flagfile", "x"], "Unknown command line flag 'flagfile'"),
        (["-flagfile=x"], "Unknown command line flag 'flagfile'"),
        (["--undefok=x"], "Unknown command line flag 'undefok'"),
        (["--batchsize=3"], "'batchsize'. Did you mean: batch_size ?"),
        (["--seed"], "Missing value for flag --seed"),
        (["--seed", "--resume"], "seed must be an integer"),
        (["--output_dir", "--resume"], "--output_dir=--resume: a value is missing"),
        (["--bind_core", "--seed=5"], "--bind_core=--seed=5: a value is missing"),
        (["--over_dump", "--data_dump_flag"], "data_dump_flag=True: these exclude"),
        (["--" + "x" * 3000], "Unknown command line flag 'xxx"),
        (["--a\nb=1"], r"flag 'a\nb'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_flag_is_refused_in_one_short_line(words, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        parse(words)
    told = str(caught.value)
    assert told.isprintable() and len(told) <= 400 and caught.value.status == 2


def test_a_seed_that_numpy_does_not_take_is_refused():
    assert parse([f"--seed={2**32 - 1}"]).seed == 2**32 - 1
    with pytest.raises(UserError, match="seed must be .*got '4294967296'"):
        parse([f"--seed={2**32}"])


def test_the_callers_own_flags_are_read_in_the_same_pass():
    own = absl_flags.FlagValues()
    absl_flags.DEFINE_string("hosts", "", "of the caller", flag_values=own)
    own.append_flag_values(flags.FLAGS)
    config = parse(["--hosts=a:1", "--seed=3"], own)
    assert (own["hosts"].value, config.seed) == ("a:1", 3)
    assert arguments(config) == ["--seed=3"]
    with pytest.raises(UserError, match="'hosts'"):
        parse(["--hosts=a:1"])


def test_arguments_give_the_same_configuration_elsewhere(tmp_path, monkeypatch):
    words = "--seed=5 --output_dir=out --over_dump=1 --resume --swa_lr=auto"
    config = parse([*words.split(), "--data_path=.", "--learning_rate=0.1"])
    monkeypatch.chdir(tmp_path)
    assert parse(arguments(config)) == config


def test_a_removed_working_directory_is_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(UserError, match="working directory is removed"):
        parse([])


def test_every_flag_says_what_resume_does():
    kinds = [flags.FIXED, flags.FIXED_FOR_SYNTHETIC, flags.FIXED_ON_NPU, FREE]
    names = [name for kind in kinds for name in kind]
    assert sorted(names) == sorted({*Config._fields} - {"typed"})


def test_the_schedules_are_those_of_the_callback():
    choices = flags.FLAGS["lr_schedule"].parser.enum_values
    assert tuple(choices) == schedules.LR_SCHEDULES


def test_the_help_shows_each_default_as_it_is_typed():
    text = flags.help_text()
    assert re.search("^  --lr_schedule .*, default is cyclic$", text, re.M)
    assert re.search("^  --resume .*, default is False$", text, re.M)
    assert re.search(
        r"^  --output_dir +results; output/\$ASCEND_DEVICE_ID$", text, re.M
    )
    assert "[" not in text and "--batch " not in text and "--Autotune" not in text


@pytest.mark.parametrize("flag", ["-h", "--h", "-help", "--help"])
def test_help_needs_absl_and_no_other_package(tmp_path, flag):
    absl = os.path.dirname(find_spec("absl").origin)
    (tmp_path / "absl").symlink_to(absl)
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "train-tf.keras-npu.py"), flag, "--seed=x"],
        env=dict(os.environ, PYTHONPATH=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    for group in flags.GROUPS:
        assert f"\n{group}:\n".encode() in done.stdout
    for name in set(Config._fields) - {"typed"}:
        assert f"\n  --{name} ".encode() in done.stdout
