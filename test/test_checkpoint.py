# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Checkpoints: what they hold, how they are written, and the broken ones."""

import os
import random

import numpy as np
import pytest
import tensorflow as tf
from support.small_runs import (
    EPOCHS,
    arrays,
    assert_equal_arrays,
    config_for,
    figures,
    run,
)

from swa.training import checkpoint, dataset, network
from swa.training.errors import UserError
from swa.training.flags import Config


def folder_of(path):
    return checkpoint.Folder(str(path / "out"), 5)


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
    assert found.epoch == 10
    assert len(told) == 1 and name in told[0] and told[0].startswith("warning: ")


def test_no_flipped_bit_passes_unseen(copy):
    """A random bit of each 16 bytes: refused, or without effect on any value."""
    generator = random.Random(0)
    name = f"model.ckpt-{EPOCHS - 1}"
    sound = folder_of(copy).find(pytest.fail)
    for suffix in (".index", ".data-00000-of-00001"):
        path = copy / "out" / "ckpt" / (name + suffix)
        content = path.read_bytes()
        for start in range(0, len(content) - 16, 16):
            flipped = bytearray(content)
            flipped[start + generator.randrange(16)] ^= 1 << generator.randrange(8)
            path.write_bytes(bytes(flipped))
            found = folder_of(copy).find(lambda line: None)
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
    folder.save(snapshot(3))
    strange = tmp_path / "out" / "ckpt" / "model.ckpt-4"
    checkpoint.write_arrays({"weights": np.zeros(3)}, str(strange))
    told = []
    assert folder_of(tmp_path).find(told.append).epoch == 3
    assert len(told) == 1 and str(strange) in told[0]


# -------------------------------------------------------------------- writing

STATE = {"n_averaged": 0, "average": []}


def snapshot(epoch):
    weights = {"kernel": np.full((20, 30), epoch, np.float32)}
    history = {"losses": [0.5] * epoch}
    return checkpoint.Snapshot(epoch, weights, {}, STATE, history, {})


def test_the_newest_are_kept(tmp_path):
    folder = checkpoint.Folder(str(tmp_path), 3)
    for epoch in range(1, 6):
        folder.save(snapshot(epoch))
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
        epoch=7,
        weights=weights,
        optimizer={"SGD/iter": np.int64(2**40)},
        swa=state,
        history={"losses": [0.1, 1e-300]},
        run={"seed": 5},
    )
    folder = checkpoint.Folder(str(tmp_path), 3)
    folder.save(saved)
    found = folder.find(pytest.fail)
    assert found.run == {"seed": 5}
    assert found.history == saved.history
    assert found.optimizer["SGD/iter"] == 2**40
    assert found.weights["kernel"].tobytes() == weights["kernel"].tobytes()
    (average,) = found.swa.pop("average")
    assert average.tobytes() == mean.tobytes()
    assert found.swa == {"n_averaged": 2, "settings": {"swa_lr": 0.1}}


def test_a_failed_write_leaves_the_earlier_ones_and_no_rest(tmp_path, monkeypatch):
    folder = checkpoint.Folder(str(tmp_path), 3)
    folder.save(snapshot(1))
    before = sorted(os.listdir(str(tmp_path / "ckpt")))

    def full(session, *arguments):
        for name in ("index.tempstate1", "data-00000-of-00001"):
            (tmp_path / "ckpt" / f"model.ckpt-2.{name}").write_text("")
        raise tf.errors.ResourceExhaustedError(None, None, "file; No space left\n[[x")

    monkeypatch.setattr(tf.compat.v1.Session, "run", full)
    with pytest.raises(UserError, match="ckpt-2 cannot be written: No space left. E"):
        folder.save(snapshot(2))
    assert sorted(os.listdir(str(tmp_path / "ckpt"))) == before


def test_a_first_write_that_fails_does_not_speak_of_earlier_ones(tmp_path, monkeypatch):
    def full(arrays, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_arrays", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        checkpoint.Folder(str(tmp_path), 3).save(snapshot(1))
    assert "Earlier" not in str(caught.value)


def test_a_checkpoint_of_another_make_is_named_in_plain_words(tmp_path):
    path = str(tmp_path / "ckpt" / "model.ckpt-4")
    checkpoint.write_arrays({"weights": np.zeros(3)}, path)
    lines = []
    with pytest.raises(UserError, match="none of the 1 in"):
        checkpoint.Folder(str(tmp_path), 3).find(lines.append)
    reason = "this trainer did not write model.ckpt-4."
    assert lines == [f"warning: {path} cannot be used: {reason}"]


def test_a_broken_one_is_named_by_its_own_path(tmp_path):
    folder = checkpoint.Folder(str(tmp_path), 3)
    folder.save(snapshot(1))
    data = tmp_path / "ckpt" / "model.ckpt-1.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    lines = []
    with pytest.raises(UserError, match="none of the 1 in"):
        folder.find(lines.append)
    assert "/proc/self/fd" not in lines[0] and str(tmp_path) in lines[0]


@pytest.mark.parametrize(
    "name", ["model.ckpt-1.index", "sgd.ckpt.index", "swa_model.h5"]
)
def test_a_folder_with_a_result_is_not_empty(tmp_path, name):
    folder = checkpoint.Folder(str(tmp_path), 3)
    assert folder.is_empty()
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "model.ckpt-9.index.tempstate12").write_text("")
    assert folder.is_empty()
    (tmp_path / "ckpt" / name).write_text("")
    assert not folder.is_empty()


def test_what_a_killed_write_left_is_removed(copy):
    ckpt = copy / "out" / "ckpt"
    before = sorted(os.listdir(str(ckpt)))
    for name in ("model.ckpt-9.index.tempstate123", "checkpoint.tmp", "x.h5.tmp"):
        (ckpt / name).write_text("")
    (copy / "out" / "report.json.tmp").write_text("")
    run(config_for(copy, resume=True))
    assert sorted(os.listdir(str(ckpt))) == before
    assert sorted(os.listdir(str(copy / "out"))) == [".lock", "ckpt", "report.json"]


@pytest.fixture
def model():
    """The model of these runs, in a session of its own."""
    tf.compat.v1.keras.backend.clear_session()
    built = network.build(Config(hidden_units=8, num_classes=3, momentum=0.9), 2)
    built.get_weights()  # initialises, or Keras would do so afterwards
    yield built
    tf.compat.v1.keras.backend.clear_session()


def evaluated(model, folder):
    rows = dataset.load(config_for(folder))
    loss, accuracy = model.evaluate(rows.x_test, rows.y_test, 64, verbose=0)
    return {"loss": loss, "accuracy": accuracy}


@pytest.mark.parametrize("name", ["sgd", "swa"])
@pytest.mark.parametrize("way", ["Saver", "load_weights"])
def test_the_weights_of_the_end_can_be_loaded(unbroken, model, name, way):
    path = str(unbroken[0] / "out" / "ckpt" / f"{name}.ckpt")
    if way == "Saver":
        session = tf.compat.v1.keras.backend.get_session()
        tf.compat.v1.train.Saver(model.weights).restore(session, path)
    else:
        model.load_weights(path)
    # numpy's logarithm of float32 probabilities against TensorFlow's of logits
    expected = pytest.approx(unbroken[1]["test"][name], rel=1e-5)
    assert evaluated(model, unbroken[0]) == expected


def test_the_whole_model_can_be_loaded_and_trained_on(unbroken):
    tf.compat.v1.keras.backend.clear_session()
    path = str(unbroken[0] / "out" / "ckpt" / "swa_model.h5")
    loaded = tf.keras.models.load_model(path)
    expected = pytest.approx(unbroken[1]["test"]["swa"], rel=1e-5)
    assert evaluated(loaded, unbroken[0]) == expected
    optimizer = loaded.optimizer.get_config()
    assert optimizer["learning_rate"] == pytest.approx(0.1)
    assert optimizer["momentum"] == pytest.approx(0.9)
    loaded.fit(np.zeros((4, 2)), np.zeros(4), verbose=0)
    tf.compat.v1.keras.backend.clear_session()
