# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Checkpoints: what they hold, going on from them, and the broken ones."""

import json
import os
import random
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from swa.training import (
    checkpoint,
    data,
    model,
    output,
    resume,
    stopping,
)
from swa.training import run as training
from swa.training.config import checked
from swa.training.errors import UserError
from swa.training.flags import Config
from swa.training.ranks import Ranks

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
    return training.run(config, stop or stopping.Stop(), time.time(), {})


def run_until(config, monkeypatch, epoch, batch=1):
    """Runs until a signal in that batch, counted from zero; returns its Stop."""
    stop, batches = stopping.Stop(), data.batches

    def with_signal(*arguments, **options):
        for count, rows in enumerate(batches(*arguments, **options)):
            if count == epoch * BATCHES + batch:
                stop.number = signal.SIGTERM
            yield rows

    with monkeypatch.context() as patch:
        patch.setattr(data, "batches", with_signal)
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


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that nothing stopped: its folder, and what it reported."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run(config_for(folder))


@pytest.fixture
def copy(unbroken, tmp_path):
    """A copy of the unbroken run's files, without its report."""
    shutil.copytree(str(unbroken[0] / "out"), str(tmp_path / "out"))
    os.unlink(str(tmp_path / "out" / "report.json"))
    return tmp_path


def folder_of(path):
    return checkpoint.Folder(str(path / "out"), 5)


# ------------------------------------------------------------------- going on


@pytest.mark.parametrize("epoch", [0, 2, 7, 8, 9, 11])
def test_a_stopped_run_goes_on_to_the_same_end(unbroken, tmp_path, monkeypatch, epoch):
    """In the first epoch, before, in and after the first sample, in batch norm's."""
    stop = run_until(config_for(tmp_path), monkeypatch, epoch)
    assert stop.saved_epoch == epoch
    told = run(config_for(tmp_path, resume=True))
    assert figures(told) == figures(unbroken[1])
    for name in ("swa.ckpt", "sgd.ckpt", f"model.ckpt-{EPOCHS - 1}"):
        assert_equal_arrays(arrays(unbroken[0], name), arrays(tmp_path, name))


@pytest.mark.parametrize("resumes", [True, False])
def test_where_the_ranks_differ_nothing_is_lost(
    unbroken, tmp_path, monkeypatch, resumes
):
    """As where each host has an output folder of its own."""
    shutil.copytree(str(unbroken[0] / "out"), str(tmp_path / "out"))

    def differ(ranks, name, number):
        raise UserError(f"{name} must be the same on all ranks")

    monkeypatch.setattr(Ranks, "check_same", differ)
    before = {path: path.stat() for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(UserError, match="epochs found by --resume must be the same"):
        run(config_for(tmp_path, train_epochs=EPOCHS + 3, resume=resumes))
    for path, status in before.items():
        assert path.name == ".lock" or path.stat().st_mtime == status.st_mtime


@pytest.mark.parametrize(
    "settings",
    [dict(lr_schedule="manual"), dict(lr_schedule="constant", momentum=0.0)],
    ids=["manual", "constant"],
)
def test_other_schedules_go_on_as_well(tmp_path, monkeypatch, settings):
    whole = run(config_for(tmp_path, **settings))
    shutil.rmtree(str(tmp_path / "out"))
    run_until(config_for(tmp_path, **settings), monkeypatch, 10)
    told = run(config_for(tmp_path, resume=True, **settings))
    assert figures(told) == figures(whole)


def test_a_run_stopped_again_and_again_ends_the_same(unbroken, tmp_path, monkeypatch):
    for epoch in (3, 4, 9):
        first = {3: 0, 4: 3, 9: 4}[epoch]
        run_until(config_for(tmp_path, resume=True), monkeypatch, epoch - first)
    assert figures(run(config_for(tmp_path, resume=True))) == figures(unbroken[1])


def test_a_pattern_as_path_goes_on(unbroken, tmp_path, monkeypatch):
    folder = tmp_path / "a[1]\\b"
    folder.mkdir()
    run_until(config_for(folder), monkeypatch, 9)
    told = run(config_for(folder, resume=True))
    assert figures(told) == figures(unbroken[1])
    kept = [name for name in os.listdir(str(folder / "out/ckpt")) if "index" in name]
    assert len(kept) == 5 + 2  # the oldest are removed; swa and sgd


def test_without_a_checkpoint_a_run_starts_anew_and_says_so(unbroken, tmp_path, capsys):
    told = run(config_for(tmp_path, resume=True))
    ckpt = tmp_path / "out" / "ckpt"
    assert f"no checkpoint in {ckpt}: starting anew" in capsys.readouterr().out
    assert figures(told) == figures(unbroken[1])


def test_without_resume_a_run_starts_anew(unbroken, copy):
    (copy / "out" / "ckpt" / "model.ckpt-900.index").write_text("")
    told = run(config_for(copy))
    assert figures(told) == figures(unbroken[1])
    assert "model.ckpt-900.index" not in os.listdir(str(copy / "out" / "ckpt"))


def test_a_complete_run_is_left_as_it_is(unbroken, capsys):
    path = unbroken[0] / "out" / "report.json"
    before = path.read_bytes()
    told = run(config_for(unbroken[0], resume=True))
    assert "complete" in capsys.readouterr().out
    assert told == json.loads(before.decode())
    assert path.read_bytes() == before


def test_more_epochs_give_the_run_that_had_them_from_the_start(copy, tmp_path):
    more = dict(train_epochs=15)
    told = run(config_for(copy, resume=True, **more))  # start_epoch 9 stays
    whole = run(config_for(copy, start_epoch=9, **more))
    assert figures(told) == figures(whole)


# ------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "name, value, then",
    [
        ("batch_size", 32, 64),
        ("learning_rate", 0.2, 0.1),
        ("momentum", 0.5, 0.9),
        ("seed", 3, 2),
        ("start_epoch", 8, 9),
        ("lr_schedule", "constant", "cyclic"),
        ("swa_lr", 0.002, 0.001),
        ("swa_lr2", 0.004, 0.003),
        ("swa_freq", 2, 3),
        ("hidden_units", 9, 8),
        ("num_classes", 4, 3),
        ("num_features", 3, 2),
        ("num_samples", 300, 247),
    ],
)
def test_a_setting_that_changes_the_result_is_refused(copy, name, value, then):
    before = sorted(os.listdir(str(copy / "out" / "ckpt")))
    message = f"{name} {then!r}, got {value!r}"
    with pytest.raises(UserError, match=re.escape(message)):
        run(config_for(copy, resume=True, **{name: value}))
    assert sorted(os.listdir(str(copy / "out" / "ckpt"))) == before


def test_other_rows_are_refused(tmp_path, monkeypatch):
    def write(seed):
        generator = np.random.RandomState(seed)
        y = np.arange(200) % 3
        x = generator.normal(size=(200, 2)).astype("float32")
        np.savez(str(tmp_path / "mine.npz"), x=x, y=y)

    write(0)
    path = str(tmp_path / "mine.npz")
    run_until(config_for(tmp_path, data_path=path), monkeypatch, 2)
    write(1)
    with pytest.raises(UserError, match="data '"):
        run(config_for(tmp_path, data_path=path, resume=True))


def test_each_changed_setting_is_named():
    with pytest.raises(UserError, match=r"device 'cpu', got 'npu'; seed 1, got 2"):
        resume.check({"seed": 2, "device": "npu"}, {"seed": 1, "device": "cpu"})


def test_fewer_epochs_than_trained_are_refused(copy):
    with pytest.raises(UserError, match="above the 11 epochs .*, got 10"):
        run(config_for(copy, resume=True, train_epochs=10))


def test_free_settings_may_change(unbroken, copy):
    config = config_for(
        copy, resume=True, save_interval=0, max_to_keep=1, verbose=0, tensorboard=True
    )
    told, expected = figures(run(config)), figures(unbroken[1])
    del told["config"], expected["config"]
    assert told == expected


def test_precision_counts_on_an_npu_alone(tmp_path):
    config = config_for(tmp_path)
    other = config._replace(precision_mode="force_fp16")
    for device, is_equal in (("cpu", True), ("npu", False)):
        made_of = resume.MadeOf(device, "hash", True)
        some = resume.fixed(config, made_of)
        assert (some == resume.fixed(other, made_of)) is is_equal


# ------------------------------------------------------------ broken checkpoints


def break_by(kind, path):
    if kind == "deleted":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-60])
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("kind", ["deleted", "empty", "truncated", "flipped"])
def test_the_checkpoint_before_a_broken_one_is_used(copy, kind, suffix):
    name = f"model.ckpt-{EPOCHS - 1}"
    break_by(kind, copy / "out" / "ckpt" / (name + suffix))
    told = []
    found = folder_of(copy).find(told.append)
    assert found.snapshot.epoch == 10
    assert len(told) == 1 and name in told[0] and told[0].startswith("warning: ")


def test_no_flipped_bit_passes_unseen(copy):
    """A random bit of each 16 bytes: refused, or without effect on any value."""
    generator = random.Random(0)
    name = f"model.ckpt-{EPOCHS - 1}"
    sound = folder_of(copy).find(pytest.fail).snapshot
    for suffix in (".index", ".data-00000-of-00001"):
        path = copy / "out" / "ckpt" / (name + suffix)
        content = path.read_bytes()
        for start in range(0, len(content) - 16, 16):
            flipped = bytearray(content)
            flipped[start + generator.randrange(16)] ^= 1 << generator.randrange(8)
            path.write_bytes(bytes(flipped))
            found = folder_of(copy).find(lambda line: None).snapshot
            assert found.epoch in (10, 11)
            if found.epoch == 11:
                assert_equal_arrays(sound.weights, found.weights)
                assert_equal_arrays(sound.optimizer, found.optimizer)
                assert found.history == sound.history
        path.write_bytes(content)


def test_a_run_goes_on_from_before_a_broken_one_and_replaces_it(unbroken, copy, capsys):
    name = f"model.ckpt-{EPOCHS - 1}"
    break_by("flipped", copy / "out" / "ckpt" / (name + ".data-00000-of-00001"))
    (copy / "out" / "ckpt" / "model.ckpt-77.index").write_text("of no run")
    (copy / "out" / "ckpt" / "checkpoint").write_text("nonsense")
    told = run(config_for(copy, resume=True))
    assert figures(told) == figures(unbroken[1])
    out = capsys.readouterr().out
    assert out.count("warning: ") == 2 and "resuming after epoch 10" in out
    assert_equal_arrays(arrays(unbroken[0], name), arrays(copy, name))
    for folder in (unbroken[0], copy):
        names = sorted(os.listdir(str(folder / "out" / "ckpt")))
    assert names == sorted(os.listdir(str(unbroken[0] / "out" / "ckpt")))
    state = tf.train.get_checkpoint_state(str(copy / "out" / "ckpt"))
    assert os.path.basename(state.model_checkpoint_path) == name


def test_all_broken_is_one_error_and_nothing_goes(copy):
    for path in (copy / "out" / "ckpt").glob("model.ckpt-*.index"):
        break_by("truncated", path)
    before = sorted(os.listdir(str(copy / "out" / "ckpt")))
    with pytest.raises(UserError, match="none of the 5 in") as caught:
        run(config_for(copy, resume=True))
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(str(copy / "out" / "ckpt"))) == before


def test_a_checkpoint_of_another_make_is_not_used(tmp_path):
    folder = folder_of(tmp_path)
    folder.save(checkpoint.Snapshot(3, {}, {}, STATE, {}), {})
    folder.close()
    strange = tmp_path / "out" / "ckpt" / "model.ckpt-4"
    with checkpoint.HostGraph({"weights": np.zeros(3)}) as host:
        host.save({"weights": np.zeros(3)}, str(strange))
    told = []
    assert folder_of(tmp_path).find(told.append).snapshot.epoch == 3
    assert len(told) == 1 and str(strange) in told[0]


# -------------------------------------------------------------------- writing

STATE = {"n_averaged": 0, "average": []}


def snapshot(epoch):
    weights = {"kernel": np.full((20, 30), epoch, np.float32)}
    return checkpoint.Snapshot(epoch, weights, {}, STATE, {"losses": [0.5] * epoch})


def test_the_newest_are_kept(tmp_path):
    folder = checkpoint.Folder(str(tmp_path), 3)
    for epoch in range(1, 6):
        folder.save(snapshot(epoch), {"told": epoch})
    folder.close()
    path = tmp_path / "ckpt"
    assert sorted(p.name for p in path.glob("*.index")) == [
        f"model.ckpt-{epoch}.index" for epoch in (3, 4, 5)
    ]
    state = tf.train.get_checkpoint_state(str(path))
    assert state.model_checkpoint_path == str(path / "model.ckpt-5")
    assert len(state.all_model_checkpoint_paths) == 3


def test_what_was_saved_is_found(tmp_path):
    mean = np.array([1e-40, 1 / 3], np.float32)
    state = {"n_averaged": 2, "average": [mean], "settings": {"swa_lr": 0.1}}
    weights = {"kernel": np.array([np.pi, -0.0], np.float32)}
    saved = checkpoint.Snapshot(
        7, weights, {"SGD/iter": np.int64(2**40)}, state, {"losses": [0.1, 1e-300]}
    )
    folder = checkpoint.Folder(str(tmp_path), 3)
    folder.save(saved, {"seed": 5})
    folder.close()
    found = folder.find(pytest.fail)
    assert found.run == {"seed": 5}
    assert found.snapshot.history == saved.history
    assert found.snapshot.optimizer["SGD/iter"] == 2**40
    assert found.snapshot.weights["kernel"].tobytes() == weights["kernel"].tobytes()
    (average,) = found.snapshot.swa.pop("average")
    assert average.tobytes() == mean.tobytes()
    assert found.snapshot.swa == {"n_averaged": 2, "settings": {"swa_lr": 0.1}}


def test_a_failed_write_leaves_the_earlier_ones_and_no_rest(tmp_path, monkeypatch):
    folder = checkpoint.Folder(str(tmp_path), 3)
    folder.save(snapshot(1), {})
    before = sorted(os.listdir(str(tmp_path / "ckpt")))

    def full(host, values, path, epoch):
        for name in (f"model.ckpt-{epoch}.index.tempstate1", "checkpoint.tmp2"):
            (tmp_path / "ckpt" / name).write_text("")
        raise tf.errors.ResourceExhaustedError(None, None, "file; No space left\n[[x")

    monkeypatch.setattr(checkpoint.HostGraph, "save", full)
    with pytest.raises(UserError, match="ckpt-2 cannot be written: No space left. E"):
        folder.save(snapshot(2), {})
    folder.close()
    assert sorted(os.listdir(str(tmp_path / "ckpt"))) == before


def test_what_a_killed_write_left_is_removed(copy):
    ckpt = copy / "out" / "ckpt"
    before = sorted(os.listdir(str(ckpt)))
    for name in ("model.ckpt-9.index.tempstate123", "checkpoint.tmp456", "x.h5.tmp"):
        (ckpt / name).write_text("")
    (ckpt / ".scratch").mkdir()
    (copy / "out" / "report.json.tmp").write_text("")
    run(config_for(copy, resume=True))
    assert sorted(os.listdir(str(ckpt))) == before
    assert sorted(os.listdir(str(copy / "out"))) == [".lock", "ckpt", "report.json"]


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
    batches = data.batches

    def broken(*arguments, **options):
        for count, (x, y) in enumerate(batches(*arguments, **options)):
            yield (x * np.nan if count == 5 * BATCHES + 1 else x), y

    monkeypatch.setattr(data, "batches", broken)
    with pytest.warns(RuntimeWarning, match="no sample was averaged"):
        told = run(config_for(tmp_path, save_interval=1))
    assert told["status"] == "diverged" and told["epochs"] == 6
    found = folder_of(tmp_path).find(pytest.fail)
    assert found.snapshot.epoch == 5
    assert all(np.isfinite(w).all() for w in found.snapshot.weights.values())


def test_a_second_run_on_the_folder_is_refused(tmp_path):
    path = str(tmp_path / "out")
    with output.locked(path):
        for only_check in (False, True):
            with pytest.raises(UserError, match=f"process {os.getpid()} writes there"):
                with output.locked(path, only_check):
                    pytest.fail("locked twice")
    with output.locked(path):  # free again
        pass


def test_looking_for_a_lock_makes_nothing(tmp_path):
    with output.locked(str(tmp_path / "out"), only_check=True):
        pass
    assert os.listdir(str(tmp_path)) == []


# ------------------------------------------------------------------ the weights


@pytest.fixture
def network():
    """The model of these runs, in a session of its own."""
    tf.compat.v1.keras.backend.clear_session()
    built = model.build(Config(hidden_units=8, num_classes=3, momentum=0.9), 2)
    built.get_weights()  # initialises, or Keras would do so afterwards
    yield built
    tf.compat.v1.keras.backend.clear_session()


def evaluated(network, folder):
    rows = data.load(config_for(folder))
    loss, accuracy = network.evaluate(rows.x_test, rows.y_test, 64, verbose=0)
    return {"loss": loss, "accuracy": accuracy}


@pytest.mark.parametrize("name", ["sgd", "swa"])
@pytest.mark.parametrize("way", ["Saver", "load_weights"])
def test_the_weights_of_the_end_can_be_loaded(unbroken, network, name, way):
    path = str(unbroken[0] / "out" / "ckpt" / f"{name}.ckpt")
    if way == "Saver":
        session = tf.compat.v1.keras.backend.get_session()
        tf.compat.v1.train.Saver(network.weights).restore(session, path)
    else:
        network.load_weights(path)
    # the same batch through the same kernels: equal to the bit
    assert evaluated(network, unbroken[0]) == unbroken[1]["test"][name]


def test_the_whole_model_can_be_loaded_and_trained_on(unbroken):
    tf.compat.v1.keras.backend.clear_session()
    path = str(unbroken[0] / "out" / "ckpt" / "swa_model.h5")
    loaded = tf.keras.models.load_model(path)
    assert evaluated(loaded, unbroken[0]) == unbroken[1]["test"]["swa"]
    optimizer = loaded.optimizer.get_config()
    assert optimizer["learning_rate"] == pytest.approx(0.1)
    assert optimizer["momentum"] == pytest.approx(0.9)
    loaded.fit(np.zeros((4, 2)), np.zeros(4), verbose=0)
    tf.compat.v1.keras.backend.clear_session()


def test_the_figures_for_tensorboard(tmp_path):
    told = run(config_for(tmp_path, tensorboard=True))
    (path,) = (tmp_path / "out" / "tensorboard").iterdir()
    values = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            values.setdefault(value.tag, []).append((event.step, value.simple_value))
    steps = range(1, EPOCHS + 1)
    names = {"loss": "losses", "accuracy": "accuracies", "rate": "learning_rates"}
    for tag, name in names.items():
        expected = np.float32(told["epoch_" + name])
        assert values[tag] == list(zip(steps, expected))
    assert values["swa_accuracy"] == [
        (EPOCHS, np.float32(told["test"]["swa"]["accuracy"]))
    ]
