# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The output folder: one run at a time, and earlier results go whole or not at all."""

import os

import pytest

from swa.training import output
from swa.training.errors import UserError


def make_results(folder):
    """An earlier run's results; returns their paths."""
    (folder / "ckpt").mkdir()
    (folder / "ckpt" / "model.ckpt-3.index").write_text("")
    (folder / "tensorboard").mkdir()
    (folder / "report.json").write_text("{}")
    return contents(folder)


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_second_run_on_the_folder_is_refused(tmp_path):
    path = str(tmp_path / "out")
    with output.locked(path):
        for only_check in (False, True):
            with pytest.raises(UserError, match=f"process {os.getpid()} writes there"):
                with output.locked(path, only_check):
                    pass
    with output.locked(path):  # free again
        pass


def test_looking_for_a_lock_makes_nothing(tmp_path):
    with output.locked(str(tmp_path / "out"), only_check=True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_writes_nothing_takes_no_lock(tmp_path):
    with output.locked(str(tmp_path / "out"), is_writer=False):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("only_check", [False, True])
def test_a_lock_that_is_a_folder_is_one_line(tmp_path, only_check):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match=r"\.lock cannot be written: Is a directory"):
        with output.locked(str(tmp_path), only_check):
            pass


def test_a_lock_that_is_a_pipe_locks_all_the_same(tmp_path):
    os.mkfifo(str(tmp_path / ".lock"))
    with output.locked(str(tmp_path)):
        pass


@pytest.mark.parametrize("below", ["x" * 300, "a/b/" + "x" * 300, "x" * 300 + "/a"])
def test_a_name_that_is_too_long_is_bad_input(tmp_path, below):
    path = str(tmp_path / below)
    with pytest.raises(UserError, match="output_dir must be writable.*too long") as bad:
        output.check_writable("output_dir", path)
    assert bad.value.status == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "new", "a/b/new"])
def test_a_folder_that_can_be_made_is_taken_and_not_made(tmp_path, below):
    output.check_writable("output_dir", str(tmp_path / below))
    assert list(tmp_path.iterdir()) == []


def test_earlier_results_are_named_and_removed(tmp_path):
    make_results(tmp_path)
    (tmp_path / "mine.txt").write_text("")
    assert output.results_in(str(tmp_path)) == ["report.json", "ckpt", "tensorboard"]
    output.remove_results(str(tmp_path))
    assert contents(tmp_path) == ["mine.txt"]


def test_a_dangling_link_is_a_result_too(tmp_path):
    (tmp_path / "ckpt").symlink_to("/no/such/disk")
    assert output.results_in(str(tmp_path)) == ["ckpt"]
    output.remove_results(str(tmp_path))
    assert contents(tmp_path) == []


@pytest.mark.parametrize("stuck", ["report.json", "ckpt", "tensorboard"])
def test_where_one_result_cannot_be_moved_none_is(tmp_path, monkeypatch, stuck):
    before = make_results(tmp_path)
    rename = os.rename

    def stubborn(old, new):
        if os.path.basename(old) == stuck:
            raise PermissionError(1, "Operation not permitted")
        rename(old, new)

    monkeypatch.setattr(os, "rename", stubborn)
    with pytest.raises(UserError, match="cannot be written: Operation not permitted"):
        output.remove_results(str(tmp_path))
    assert contents(tmp_path) == before


def test_where_no_folder_can_be_made_no_result_goes(tmp_path, monkeypatch):
    before = make_results(tmp_path)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output.tempfile, "mkdtemp", full)
    with pytest.raises(UserError, match="No space left on device"):
        output.remove_results(str(tmp_path))
    assert contents(tmp_path) == before


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".earlier123").mkdir()
    (tmp_path / ".earlier123" / "report.json").write_text("{}")
    (tmp_path / "report.json.tmp").write_text("")
    (tmp_path / "report.json").write_text("{}")
    output.remove_leftovers(str(tmp_path))
    assert contents(tmp_path) == ["report.json"]


def test_the_launcher_is_told_once(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setenv("SWA_STARTED_FD", str(writing))
    output.tell_started(str(tmp_path), resumes=True)
    output.tell_started(str(tmp_path), resumes=True)
    with open(reading) as file:
        (line,) = file.read().splitlines()
    real = os.path.realpath(str(tmp_path))
    assert line == f'{{"output_dir": "{real}", "resumes": true}}'


@pytest.mark.parametrize("descriptor", ["", "x", "987654"])
def test_nobody_to_tell_is_no_error(tmp_path, monkeypatch, descriptor):
    monkeypatch.setenv("SWA_STARTED_FD", descriptor)
    output.tell_started(str(tmp_path), resumes=False)
