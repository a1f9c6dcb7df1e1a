# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What a run leaves behind, also when it fails, and how its times are defined."""

import argparse
import contextlib
import json
import os
import time

import numpy as np
import pytest
import tensorflow as tf

import swa as package
from swa.training import data, device, model, ranks, results, session, stopping
from swa.training import run as training
from swa.training.config import checked
from swa.training.errors import UserError
from swa.training.flags import Config


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
    return training.run(config, stopping.Stop(), time.time(), {})


def test_the_checkpoints_give_the_reported_figures(small):
    told = run(small)
    rows = data.load(small)
    for name in ("sgd", "swa"):
        with session.opened(small, device.choose(small, {})) as sess:
            network = model.build(small, 2)
            saver = tf.compat.v1.train.Saver(network.weights)
            network.get_weights()  # initialises, or Keras would do so afterwards
            saver.restore(sess, os.path.join(small.output_dir, "ckpt", name + ".ckpt"))
            loss, accuracy = network.evaluate(rows.x_test, rows.y_test, 64, verbose=0)
        # the same batch through the same kernels: equal to the bit
        assert told["test"][name] == {"loss": loss, "accuracy": accuracy}


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

    monkeypatch.setattr(tf.keras.Model, "fit", broken)
    with pytest.raises(KeyError, match="bug"):
        run(small)
    assert os.listdir(small.output_dir) == [".lock"]
    with pytest.raises(RuntimeError, match="closed"):
        opened[0].run(())


def test_a_refused_session_leaves_an_earlier_run_untouched(small, monkeypatch):
    run(small)

    def refused(*arguments):
        raise UserError("data_save_path cannot be made")

    monkeypatch.setattr(session, "opened", refused)
    with pytest.raises(UserError):
        run(small)
    assert sorted(os.listdir(small.output_dir)) == [".lock", "ckpt", "report.json"]


def test_the_model_trains_on_the_rows_of_each_epoch_once(small, monkeypatch):
    fed = []
    batches = data.batches

    def watched(*arguments, **options):
        for x, y in batches(*arguments, **options):
            fed.append(x)
            yield x, y

    monkeypatch.setattr(data, "batches", watched)
    run(small)
    assert {x.shape for x in fed} == {(64, 2)}  # one static shape
    epochs = np.concatenate(fed).reshape(3, 256, 2)
    rows = np.sort(data.load(small).x, axis=0)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch, axis=0), rows)


@pytest.mark.parametrize(
    "seconds, compiled_epochs, usual",
    [
        ([9.0, 1.0, 2.0, 7.0, 3.0, 8.0], {1, 4, 6}, 2.0),  # left: 1, 2, 3
        ([9.0, 1.0, 3.0], {1, None}, 2.0),  # left: 1, 3
        ([4.0, 5.0, 6.0], {1, 2, 3}, 5.0),  # none left: all
    ],
    ids=["steady epochs", "no snapshot", "too short"],
)
def test_rates(seconds, compiled_epochs, usual):
    samples_per_second, compile_seconds = results.rates(seconds, 100, compiled_epochs)
    assert samples_per_second == 100 / usual
    assert compile_seconds == max(0.0, seconds[0] - usual)


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(tmp_path):
    path = str(tmp_path / "report.json")
    results.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        results.write_json(path, {"a": object()})
    assert os.listdir(str(tmp_path)) == ["report.json"]
    with open(path) as file:
        assert json.load(file) == {"a": 1}


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(package, "__file__", str(tmp_path / "__init__.py"))
    assert results.commit() is None


@pytest.mark.parametrize("held_out, shapes", [(1, [1, 1]), (5, [2, 2])])
def test_every_rank_evaluates_the_same_graph(small, held_out, shapes):
    """A rank without rows too, whose figures do not count."""
    rows = data.load(small)
    rows = rows._replace(x_test=rows.x_test[:held_out], y_test=rows.y_test[:held_out])
    asked, told = [], []

    class Halves(ranks.Ranks):
        def mean(self, values, count):
            told.append(count)
            return values

    class Network:
        def evaluate(self, x, y, batch_size, verbose):
            asked.append((len(x), batch_size))
            return [0.5, 0.25]

    class Swa:
        trained_weights = contextlib.nullcontext

    for rank in range(2):
        world = ranks.World("", rank, 2, rank, 2)
        job = training.Job(small, device.Device("npu"), rows, Halves(world), 0.0)
        fake = argparse.Namespace(model=Network(), swa=Swa)
        assert results.evaluate(job, fake)["swa"] == {"loss": 0.5, "accuracy": 0.25}
    assert [size for _, size in asked[::2]] == shapes
    assert {count for count, size in asked} == {shapes[0]}
    assert told[::2] == [1, 0] if held_out == 1 else [2, 2]


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
