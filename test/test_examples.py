# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The scripts of docs/examples run, in one process, on a tiny setting."""

import glob
import re
import runpy
import sys

import numpy as np
import pytest
from conftest import IS_EAGER, ROOT
from support import one_rank

pytestmark = pytest.mark.skipif(IS_EAGER, reason="the examples are of graph mode")
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@pytest.fixture
def run(tf_kit, tmp_path, monkeypatch, capsys):
    """Runs an example in an empty folder: (its names, what it printed)."""
    monkeypatch.chdir(tmp_path)

    def run_one(name, *arguments):
        path = str(ROOT / "docs" / "examples" / name)
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        names = runpy.run_path(path, run_name="__main__")
        return names, capsys.readouterr().out

    return run_one


def figures(told, name):
    """(loss, accuracy) of a line that an example prints."""
    found = re.search(rf"^{name}: loss (\S+), accuracy (\S+)$", told, re.MULTILINE)
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_named_in_both_readmes(path):
    text = path.read_text()
    assert len(text.splitlines()) < 60
    assert f"usage: {'horovodrun -np 2 --gloo ' * ('horovod' in text)}python" in text
    for page in ("README.md", "README.zh.md"):
        assert f"(docs/examples/{path.name})" in (ROOT / page).read_text()


def test_there_are_the_six_examples():
    names = "fine_tune horovod_ranks loop_by_hand noisy_labels own_training transfer"
    assert [path.stem for path in EXAMPLES] == names.split()


def test_own_training_keeps_the_best_average_and_draws_its_loss(run, tf_kit):
    import tensorflow as tf

    names, told = run("own_training.py", "8")
    assert names["swa"].n_averaged >= 2
    best = min(names["model"].history.history["swa_loss"])
    assert figures(told, "best average")[0] == pytest.approx(best, abs=1e-3)
    tags = set()
    for name in glob.glob("logs/*tfevents*"):
        if not name.endswith("profile-empty"):
            for event in tf.compat.v1.train.summary_iterator(name):
                tags |= {value.tag for value in event.summary.value}
    assert {"epoch_loss", "epoch_val_loss", "epoch_swa_loss"} <= tags


def test_a_stop_of_own_training_comes_after_a_sample(run, tf_kit, monkeypatch):
    kind = tf_kit.keras.callbacks.EarlyStopping
    # no epoch is better than the first: it stops as early as it can
    monkeypatch.setattr(
        tf_kit.keras.callbacks,
        "EarlyStopping",
        lambda patience: kind(patience=patience, baseline=0),
    )
    names, _ = run("own_training.py", "16")
    assert names["early"].stopped_epoch > 0
    assert names["swa"].n_averaged >= 1 and names["swa"].batch_norm_epoch < 16


def test_transfer_keeps_the_base_and_saves_the_average(run, tf_kit):
    names, told = run("transfer.py", "6")
    assert names["swa"].n_averaged == 2 and names["swa"].batch_norm_epoch == 6
    loaded = tf_kit.keras.models.load_model("transferred.h5")
    averaged = names["swa"].averaged_weights
    for weight, mean in zip(loaded.get_weights()[:6], averaged[:6]):
        np.testing.assert_allclose(weight, mean, rtol=1e-6)
    # the base normalises as it did when it was trained
    x = names["x"]
    hidden = np.maximum(x.dot(averaged[0]) + averaged[1], 0)
    gamma, beta, mean, variance = averaged[2:6]
    expected = gamma * (hidden - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(names["base"].predict(x), expected, atol=1e-4)
    assert figures(told, "their average")[1] > 0.9


def test_transfer_does_not_train_the_base(tf_kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", "4"])
    text = (ROOT / "docs" / "examples" / "transfer.py").read_text()
    before, after = text.split("base.trainable = False")
    names = {}
    exec(before, names)
    kept = names["base"].get_weights()
    exec("base.trainable = False" + after, names)
    for weight, now in zip(kept, names["base"].get_weights()):
        np.testing.assert_array_equal(weight, now)


def test_fine_tune_averages_from_the_second_epoch_on(run, tf_kit):
    names, told = run("fine_tune.py", "5")
    swa = names["swa"]
    assert swa.n_averaged == 3 and swa.batch_norm_epoch == 5
    after = figures(told, "average of 3 epochs")
    assert after[0] < figures(told, "before")[0] + 0.05
    tuned = tf_kit.keras.models.load_model("fine_tuned.h5")
    loss = tuned.evaluate(*names["held_out"], verbose=0)[0]
    assert loss == pytest.approx(after[0], abs=1e-3)


def test_the_loop_by_hand_saves_the_average_and_restores_the_weights(run, tf_kit):
    names, told = run("loop_by_hand.py", "8")
    swa, model = names["swa"], names["model"]
    assert swa.n_averaged == 2 and swa.batch_norm_epoch == 8
    saved = tf_kit.keras.models.load_model("average.h5").get_weights()
    np.testing.assert_allclose(saved[0], swa.averaged_weights[0], rtol=1e-6)
    assert np.abs(model.get_weights()[0] - saved[0]).max() > 1e-4
    assert tf_kit.keras.backend.get_value(model.optimizer.lr) == np.float32(0.05)
    assert figures(told, "average") != figures(told, "last weights")


def test_after_an_error_in_the_loop_by_hand_the_model_trains_on(tf_kit, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", "8"])
    text = (ROOT / "docs" / "examples" / "loop_by_hand.py").read_text()
    line = "            swa.on_batch_end(batch, {})\n"
    failing = text.replace(line, f"{line}            assert (epoch, batch) != (7, 3)\n")
    assert failing != text
    names = {}
    with pytest.raises(AssertionError, match="^$"):
        exec(failing, names)
    model = names["model"]
    before = model.get_weights()[0]
    model.train_on_batch(names["x"][:50], names["y"][:50])
    assert np.abs(model.get_weights()[0] - before).max() > 1e-6


def test_noisy_labels_tells_both_arms_by_seed_and_their_means(run):
    _, told = run("noisy_labels.py", "2", "4", "300")
    row = r"^(S..), rate (\S+), (\S+): loss (\S+), accuracy (\S+)$"
    rows = re.findall(row, told, re.MULTILINE)
    assert [(arm, name) for arm, _, name, _, _ in rows] == [
        (arm, name) for arm in ("SGD", "SWA") for name in ("0", "1", "mean")
    ]
    for arm in (rows[:3], rows[3:]):
        accuracies = [float(row[4]) for row in arm]
        assert accuracies[2] == pytest.approx(np.mean(accuracies[:2]), abs=1e-4)
        assert len({rate for _, rate, *_ in arm}) == 1


def test_horovod_ranks_sums_the_statistics_of_all_rows(run, tf_kit, monkeypatch):
    hvd = one_rank.install(monkeypatch, tf_kit.keras)
    names, told = run("horovod_ranks.py", "4")
    assert (64,) in hvd.summed  # of the batch-norm layer's 64 units
    assert names["swa"].n_averaged == 1 and names["swa"].batch_norm_epoch == 4
    assert figures(told, "average")[1] > 0.5
