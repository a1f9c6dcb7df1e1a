# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Going on from a checkpoint: to the same end, or refused and nothing lost."""

import argparse
import json
import os
import re
import shutil
import time

import numpy as np
import pytest
from support.small_runs import (
    EPOCHS,
    arrays,
    assert_equal_arrays,
    config_for,
    figures,
    run,
    run_until,
)

from swa.training import checkpoint, dataset, machine, resume
from swa.training.errors import UserError
from swa.training.ranks import Ranks
from swa.training.world import World

# ------------------------------------------------------------------- going on


@pytest.mark.parametrize("epoch", [0, 8, 11])
def test_a_stopped_run_goes_on_to_the_same_end(unbroken, tmp_path, monkeypatch, epoch):
    """In the first epoch, in that of the first sample, in the batch-norm epoch."""
    stop = run_until(config_for(tmp_path), monkeypatch, epoch)
    assert stop.saved_epoch == epoch
    told = run(config_for(tmp_path, resume=True))
    assert figures(told) == figures(unbroken[1])
    for name in ("swa.ckpt", "sgd.ckpt", f"model.ckpt-{EPOCHS - 1}"):
        assert_equal_arrays(arrays(unbroken[0], name), arrays(tmp_path, name))


def test_the_seconds_before_a_stop_count(copy, monkeypatch):
    """Those of the epochs trained before, and all that the run took until then."""
    config = config_for(copy, resume=True, train_epochs=15)
    found = checkpoint.Folder(config.output_dir, 5).find(pytest.fail)
    device, data = machine.Device("cpu"), dataset.load(config)
    job = resume.find_start(config, device, data, Ranks(), began=1000.0)
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: 1010.0)
        assert job.seconds() == pytest.approx(10.0 + found.run["e2e_seconds"])
    assert found.run["e2e_seconds"] > sum(found.history["seconds"])
    assert run(config)["train_seconds"] > sum(found.history["seconds"])


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


def test_a_run_without_rates_and_slots_goes_on_as_well(tmp_path, monkeypatch):
    settings = dict(lr_schedule="manual", momentum=0.0)
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


def test_a_run_with_more_epochs_goes_on_by_the_same_command(
    copy, tmp_path, monkeypatch
):
    """What the advice after a signal says, given twice."""
    command = dict(resume=True, train_epochs=60)
    for batches in (20, 40):
        run_until(config_for(copy, **command), monkeypatch, batches // 4)
    told = run(config_for(copy, **command))
    assert told["config"]["start_epoch"] == 9
    assert told["epochs"] == 60
    assert run(config_for(copy, **command)) == told  # complete


def test_a_start_epoch_that_was_typed_is_compared_though_it_is_the_default(copy):
    config = config_for(copy, resume=True, train_epochs=16, start_epoch=12)
    with pytest.raises(UserError, match="start_epoch 9, got 12"):
        run(config)


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
        resume.check_same_settings(
            {"seed": 2, "device": "npu"}, {"seed": 1, "device": "cpu"}
        )


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
    data = dataset.load(config)
    for name, is_equal in (("cpu", True), ("npu", False)):
        device = machine.Device(name)
        some = resume.settings_that_count(config, device, data)
        assert (some == resume.settings_that_count(other, device, data)) is is_equal


def test_another_number_of_ranks_is_told_on_resume(copy, capsys):
    config = config_for(copy, resume=True)
    two = machine.Device("cpu", world=World(size=2, local_size=2))
    job = resume.find_start(config, two, dataset.load(config), None, 0.0)
    assert job.epoch == EPOCHS - 1
    told = "the checkpoint is of 1 ranks, and now there are 2"
    assert told in capsys.readouterr().out


# ------------------------------------------------------------ what may be lost


def state_of(folder):
    """Each path below a folder with the time of its last change."""
    paths = [path for path in folder.rglob("*") if path.name != ".lock"]
    return {str(path): os.lstat(str(path)).st_mtime_ns for path in paths}


def without_checkpoints(folder):
    for path in (folder / "ckpt").glob("model.ckpt-*"):
        path.unlink()


def without_the_folder(folder):
    shutil.rmtree(str(folder / "ckpt"))


def with_a_file_in_its_place(folder):
    without_the_folder(folder)
    (folder / "ckpt").write_text("")


def with_a_link_to_nothing(folder):
    without_the_folder(folder)
    (folder / "report.json").unlink()
    (folder / "ckpt").symlink_to("/no/such/disk")


def with_a_link_to_itself(folder):
    without_the_folder(folder)
    (folder / "ckpt").symlink_to("ckpt")


@pytest.mark.parametrize(
    "damage",
    [
        without_checkpoints,
        without_the_folder,
        with_a_file_in_its_place,
        with_a_link_to_nothing,
        with_a_link_to_itself,
    ],
)
def test_results_without_a_checkpoint_are_no_place_to_resume(
    unbroken, tmp_path, damage
):
    shutil.copytree(str(unbroken[0] / "out"), str(tmp_path / "out"))
    damage(tmp_path / "out")
    before = state_of(tmp_path / "out")
    with pytest.raises(UserError, match="ckpt") as caught:
        run(config_for(tmp_path, resume=True, seed=7))
    assert caught.value.status == 2 and "\n" not in str(caught.value)
    assert state_of(tmp_path / "out") == before


def test_a_checkpoint_folder_that_cannot_be_written_keeps_the_report(
    unbroken, tmp_path, monkeypatch
):
    shutil.copytree(str(unbroken[0] / "out"), str(tmp_path / "out"))
    before = state_of(tmp_path / "out")

    def refuse(folder):
        raise UserError(f"{folder.path} cannot be written: Permission denied.", 1)

    monkeypatch.setattr(checkpoint.Folder, "check_writable", refuse)
    with pytest.raises(UserError, match="ckpt cannot be written"):
        run(config_for(tmp_path, resume=True, train_epochs=15))
    assert state_of(tmp_path / "out") == before


def test_what_is_replaced_is_told_before_it_goes(unbroken, tmp_path, capsys):
    shutil.copytree(str(unbroken[0] / "out"), str(tmp_path / "out"))
    run(config_for(tmp_path, train_epochs=4, swa_freq=2))
    out = capsys.readouterr().out
    line = f"replacing the results of an earlier run in {tmp_path / 'out'}\n"
    assert out.index(line) < out.index("Epoch 1/4")
    assert not (tmp_path / "out" / "ckpt" / f"model.ckpt-{EPOCHS - 1}.index").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", "{}", '{"config": 3}'])
def test_a_report_that_is_none_is_no_complete_run(tmp_path, text):
    job = argparse.Namespace(config=config_for(tmp_path), snapshot="of 11 epochs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text(text)
    assert resume.read_complete_report(job) is None
