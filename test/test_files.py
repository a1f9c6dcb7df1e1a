# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Files appear whole or not at all; what cannot be read is one line."""

import json
import math
import os

import pytest

from swa.training import files
from swa.training.errors import UserError


def test_json_that_cannot_be_made_leaves_the_earlier_file(tmp_path):
    path = str(tmp_path / "report.json")
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        files.write_json(path, {"a": object()})
    assert os.listdir(str(tmp_path)) == ["report.json"]
    assert files.read_json("it", path) == {"a": 1}


def test_a_write_that_fails_leaves_the_earlier_file_and_no_rest(tmp_path, monkeypatch):
    path = str(tmp_path / "a")
    files.write(path, b"before")

    def fail(old, new):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="/a cannot be written: No space") as caught:
        files.write(path, b"after")
    assert caught.value.status == 1
    assert os.listdir(str(tmp_path)) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def test_what_json_has_not_becomes_null(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(str(path), {"a": [math.nan, math.inf, 0.5]})
    assert json.loads(path.read_text()) == {"a": [None, None, 0.5]}


@pytest.mark.parametrize(
    "content",
    [None, "{", "[" * 100_000, b"\xff"],
    ids=["absent", "cut", "deep", "bytes"],
)
def test_what_is_no_json_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="TABLE must be a readable JSON file, got '/"):
        files.read_json("TABLE", str(path))


def test_a_folder_with_pattern_letters_is_emptied_literally(tmp_path):
    for name in ("[a]", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.tmp").write_text("")
    files.remove(str(tmp_path / "[a]"), "*.tmp")
    assert not (tmp_path / "[a]" / "x.tmp").exists()
    assert (tmp_path / "a" / "x.tmp").exists()


def test_a_link_goes_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    files.remove(str(tmp_path), "link")
    assert os.listdir(str(tmp_path)) == ["kept"]


def test_the_path_for_tensorflow_leads_to_the_folder_it_makes(tmp_path):
    folder = tmp_path / "a[1]\\b"
    with files.tensorflow_path(str(folder)) as path:
        with open(os.path.join(path, "x"), "w"):
            pass
    assert os.listdir(str(folder)) == ["x"]
