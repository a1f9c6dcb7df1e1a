# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""`train-tf.keras-npu.py` as users run it: a process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

SCRIPT = str(ROOT / "train-tf.keras-npu.py")
SMALL = (
    "--device=cpu --num_samples=512 --batch_size=64 --train_epochs=4 --swa_freq=2 "
    "--hidden_units=8 --num_classes=3 --num_features=2"
).split()


def run(folder, *flags, **environment):
    done = subprocess.run(
        [sys.executable, SCRIPT] + list(flags),
        cwd=str(folder),
        env=dict(os.environ, **dict({"ASCEND_DEVICE_ID": "0"}, **environment)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=600,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One small run: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("run with space")
    status, out, err = run(folder, *SMALL, ASCEND_DEVICE_ID="3")
    assert status == 0, err
    return folder / "output" / "3", out, err


def test_the_report_holds_what_a_launcher_reads(finished):
    report = report_of(finished[0])
    assert report["status"] == "completed"
    assert (report["device"], report["ranks"], report["epochs"]) == ("cpu", 1, 4)
    assert report["config"]["start_epoch"] == 3
    assert report["n_averaged"] == 1
    assert len(report["epoch_losses"]) == 4
    assert report["final_loss"] == report["epoch_losses"][-1]
    assert report["samples_per_second"] > 0
    assert report["e2e_seconds"] >= report["train_seconds"] > 0
    assert set(report["test"]) == {"sgd", "swa"}
    assert report["versions"]["tensorflow"].startswith("1.15")


def test_off_a_terminal_each_epoch_is_one_plain_line(finished):
    out = finished[1]
    assert "\r" not in out and "\b" not in out
    lines = [line for line in out.split("\n") if line.startswith("Epoch ")]
    epochs = [line for line in lines if " - loss: " in line]
    assert [line.split(" ")[1] for line in epochs] == ["1/4", "2/4", "3/4", "4/4"]
    assert "Epoch 00004: final model weights set to stochastic weight average" in lines


def test_the_run_says_which_device_and_which_data(finished):
    out = finished[1]
    assert "device cpu" in out
    assert "synthetic" in out
    assert "SGD weights: test loss" in out and "SWA weights: test loss" in out


def test_a_good_run_is_silent_on_stderr(finished):
    assert finished[2] == ""


def test_the_checkpoints_hold_both_sets_of_weights(finished):
    import tensorflow as tf

    sets = {}
    for name in ("sgd", "swa"):
        reader = tf.train.load_checkpoint(str(finished[0] / "ckpt" / (name + ".ckpt")))
        sets[name] = {
            key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()
        }
    assert set(sets["sgd"]) == set(sets["swa"])
    by_name = [key for key in sets["swa"] if "ATTRIBUTES" not in key]
    assert len(by_name) == 8 + 1  # and the object graph for load_weights
    # of one sample, the average is the last weights: their statistics tell
    mean = [key for key in sets["swa"] if key.endswith("moving_mean")][0]
    assert not np.array_equal(sets["sgd"][mean], sets["swa"][mean])


def test_the_same_command_gives_the_same_report(finished, tmp_path):
    status, _, err = run(tmp_path, *SMALL, ASCEND_DEVICE_ID="3")
    assert status == 0, err
    first, second = report_of(finished[0]), report_of(tmp_path / "output" / "3")
    times = "samples_per_second compile_seconds train_seconds e2e_seconds".split()
    for report in (first, second):
        for name in times:
            del report[name]
        for path in ("output_dir", "data_path"):
            del report["config"][path]
    assert first == second


def test_a_short_last_batch_is_trained_on(tmp_path):
    flags = [flag for flag in SMALL if "num_samples" not in flag]
    status, out, err = run(tmp_path, "--num_samples=500", *flags)
    assert (status, err) == (0, "")
    assert "500 training and 62 held-out rows" in out


def test_digits_from_an_npz_are_learned(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    np.savez(str(tmp_path / "digits.npz"), x=(x / 16).astype("float32"), y=y)
    status, out, err = run(
        tmp_path,
        "--data_path=digits.npz",
        "--output_dir=out",
        "--num_classes=10",
        "--batch_size=64",
        "--train_epochs=12",
        "--device=cpu",
    )
    assert (status, err) == (0, "")
    report = report_of(tmp_path / "out")
    assert report["data"]["source"].endswith("digits.npz")
    assert report["test"]["swa"]["accuracy"] > 0.9
    assert report["test"]["swa"]["accuracy"] >= report["test"]["sgd"]["accuracy"] - 0.02


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--no_such=1"], "Unknown command line flag 'no_such'"),
        (["--batch_size=many"], "batch_size must be an integer in the range [1, 2147"),
        (["--profiling", "True"], "got 'True'. Write --profiling=True."),
        (["--" + "x" * 3000], "Unknown command line flag 'xxxx"),
        (["--output_dir=/proc/nope"], "output_dir must be writable, got '/proc/nope'"),
        (["word"], "flags begin with --, got 'word'"),
        (["--start_epoch=4"], "start_epoch must be below epochs"),
        (["--batch_size=1024"], "batch_size 1024 and 512 samples"),
        (["--data_path=missing.npz"], "data_path must be a directory or an exist"),
        (["--device=npu"], "device=npu needs an Ascend NPU"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_an_earlier_run(finished, flags, message):
    folder = finished[0]
    before = (folder / "report.json").read_bytes()
    status, out, err = run(
        folder, *(SMALL + ["--output_dir=" + str(folder)] + flags), ASCEND_HOME=""
    )
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and message in err
    assert err.startswith("train-tf.keras-npu.py: error: ")
    assert (folder / "report.json").read_bytes() == before


def test_a_run_that_diverges_ends_with_status_1_and_says_where(tmp_path):
    status, out, err = run(tmp_path, "--learning_rate=1e30", *SMALL)
    assert status == 1
    assert "the loss is nan; stopped." in out
    assert err == "warning: SWA: no sample was averaged; the trained weights stay.\n"
    report = report_of(tmp_path / "output" / "0")
    assert (report["status"], report["final_loss"]) == ("diverged", None)
    assert not (tmp_path / "output" / "0" / "ckpt").exists()


def test_check_changes_nothing(tmp_path):
    status, out, err = run(tmp_path, "--check", *SMALL)
    assert (status, err) == (0, "")
    assert "in order" in out
    assert list(tmp_path.iterdir()) == []


def test_another_python_is_told_what_to_run(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    # -S: no site-packages, so that this Python has no TensorFlow
    done = subprocess.run(
        [sys.executable, "-S", SCRIPT, "--seed=3"],
        cwd=str(empty),
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    err = done.stderr.decode()
    assert done.returncode == 2
    assert err.count("\n") == 1
    assert 'test/env.sh\' && "$PYTHON"' in err and "'--seed=3'" in err


def test_a_programming_error_shows_its_traceback(tmp_path):
    code = (
        "import runpy, sys; from swa.training import dataset\n"
        "def broken(config): raise KeyError('bug')\n"
        "dataset.load = broken\n"
        "sys.argv = [%r] + %r\n"
        "runpy.run_path(%r, run_name='__main__')\n" % (SCRIPT, SMALL, SCRIPT)
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr.decode() and "bug" in done.stderr.decode()


def test_a_strange_path_warnings_and_a_reader_that_leaves(tmp_path):
    """Brackets are patterns to TensorFlow, and it wants UTF-8; all in one run."""
    folder = os.fsencode(str(tmp_path)) + b"/a[1]\\b\xff"
    told, started = os.pipe()
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *SMALL, b"--output_dir=" + folder, "--tensorboard"],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONWARNINGS="error", SWA_STARTED_FD=str(started)),
        pass_fds=[started],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(started)
    assert process.stdout.readline().startswith(b"device cpu")
    process.stdout.close()  # as `| head -1` does
    stderr = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), stderr) == (0, b"")
    with open(told) as file:
        real = os.path.realpath(os.fsdecode(folder))
        assert json.loads(file.read()) == {"output_dir": real, "resumes": False}
    assert {b"report.json", b"ckpt", b"tensorboard"} < set(os.listdir(folder))
    assert b"swa_model.h5" in os.listdir(folder + b"/ckpt")
    assert len(os.listdir(folder + b"/tensorboard")) == 1


def test_verbose_0_says_only_what_went_wrong_and_a_full_disk_is_not(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, SCRIPT, *SMALL, "--output_dir=full"],
            cwd=str(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    status, out, err = run(tmp_path, "--verbose=0", "--output_dir=quiet", *SMALL)
    assert (status, out, err) == (0, "", "")


def test_a_pipe_as_data_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    status, out, err = run(tmp_path, *SMALL, "--data_path=pipe")
    assert (status, out) == (
        2,
        "",
    ) and "must be a directory or an existing .npz file" in err
