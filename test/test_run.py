# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What a run leaves behind, also when it fails, and how its times are defined."""

import json
import os
import sys
import time

import pytest
import tensorflow as tf

from swa import training as package
from swa.training import dataset, figures, machine, network, session, stopping
from swa.training import run as training
from swa.training.errors import UserError
from swa.training.flags import Config
from swa.training.settings import checked


@pytest.fixture
def small(tmp_path):
    """A checked configuration of half a second, writing below `tmp_path`."""
    return checked(
        Config(
            train_epochs=3,
            batch_size=64,
            hidden_units=8,
            num_classes=3,
            num_features=2,
            num_samples=256,
            data_path=str(tmp_path),
            device="cpu",
            output_dir=str(tmp_path / "out"),
        )
    )


def run(config):
    return training.run(config, stopping.Stop(), time.monotonic(), {})


def test_the_checkpoints_give_the_reported_figures(small):
    told = run(small)
    rows = dataset.load(small)
    for name in ("sgd", "swa"):
        with session.opened(small, machine.choose(small, {})) as sess:
            built = network.build(small, 2)
            saver = tf.compat.v1.train.Saver(built.weights)
            built.get_weights()  # initialises, or Keras would do so afterwards
            saver.restore(sess, os.path.join(small.output_dir, "ckpt", name + ".ckpt"))
            loss, accuracy = built.evaluate(rows.x_test, rows.y_test, 64, verbose=0)
        # numpy's logarithm of float32 probabilities against TensorFlow's of logits
        assert told["test"][name]["loss"] == pytest.approx(loss, rel=1e-5)
        assert told["test"][name]["accuracy"] == pytest.approx(accuracy, rel=1e-6)


def test_the_report_is_the_file_and_all_flags_are_in_it(small):
    told = run(small)
    with open(os.path.join(small.output_dir, "report.json")) as file:
        assert json.load(file) == told
    # how a result came about is no part of it
    assert set(told["config"]) == set(Config._fields) - {"resume", "check", "typed"}
    assert sorted(os.listdir(small.output_dir)) == [".lock", "ckpt", "report.json"]


def test_each_epoch_tells_its_last_rate(small, capsys):
    run(small)
    rates = [
        line.split("lr: ")[1].split(" ")[0]
        for line in capsys.readouterr().out.splitlines()
        if "lr: " in line
    ]
    # compiled; a third down the cycle from 0.003 to 0.001; the batch-norm epoch
    assert rates == ["0.1", "0.00233333", "0"]


def test_a_crash_shows_no_earlier_result_and_closes_the_session(small, monkeypatch):
    run(small)
    opened = []

    def broken(*arguments, **options):
        opened.append(tf.compat.v1.keras.backend.get_session())
        raise KeyError("bug")

    monkeypatch.setattr(figures.Figures, "on_epoch_end", broken)
    with pytest.raises(KeyError, match="bug"):
        run(small)
    assert os.listdir(small.output_dir) == [".lock"]
    with pytest.raises(RuntimeError, match="closed"):
        opened[0].run(())


def test_what_fails_before_the_training_begins_leaves_earlier_results(
    small, monkeypatch
):
    run(small)

    def broken(*arguments, **options):
        raise KeyError("bug")

    monkeypatch.setattr(tf.keras.Model, "fit", broken)
    with pytest.raises(KeyError, match="bug"):
        run(small)
    assert sorted(os.listdir(small.output_dir)) == [".lock", "ckpt", "report.json"]


def test_a_refused_session_leaves_an_earlier_run_untouched(small, monkeypatch):
    run(small)

    def refused(*arguments):
        raise UserError("data_save_path cannot be made")

    monkeypatch.setattr(session, "opened", refused)
    with pytest.raises(UserError):
        run(small)
    assert sorted(os.listdir(small.output_dir)) == [".lock", "ckpt", "report.json"]


def test_a_tensorflow_that_cannot_be_imported_is_one_line(small, monkeypatch):
    """As where a process may not have the memory for its libraries."""
    monkeypatch.delattr(package, "fit")
    monkeypatch.setitem(sys.modules, "swa.training.fit", None)
    with pytest.raises(UserError, match="TensorFlow cannot be imported: .*fit") as info:
        run(small)
    assert info.value.status == 1 and "\n" not in str(info.value)


def test_the_launcher_is_told_when_a_run_has_begun_and_what_it_resumes(
    small, tmp_path, monkeypatch
):
    def told(config):
        reading, writing = os.pipe()
        monkeypatch.setenv("SWA_STARTED_FD", str(writing))
        run(config)
        if "SWA_STARTED_FD" in os.environ:  # nothing was begun
            os.close(writing)
        with open(reading) as file:
            return file.read()

    def line(resumes):
        real = os.path.realpath(small.output_dir)
        return json.dumps({"output_dir": real, "resumes": resumes}) + "\n"

    resumed = small._replace(resume=True)
    assert told(resumed) == line(False)  # nothing to go on from
    assert told(resumed) == ""  # complete already
    assert told(resumed._replace(check=True)) == ""
    os.unlink(os.path.join(small.output_dir, "report.json"))
    assert told(resumed) == line(True)
    assert told(small) == line(False)
