# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Synthetic rows, users' files, and the order of the rows."""

import itertools
import os
import zipfile

import numpy as np
import pytest

from swa.training import dataset
from swa.training.errors import UserError
from swa.training.flags import Config
from swa.training.settings import checked


def config(path, **changes):
    values = dict(batch_size=4, num_classes=3, num_features=2, num_samples=64)
    values.update(changes)
    return checked(Config(data_path=str(path), **values))


def test_the_reference_rows_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.make_blobs(
        n_samples=1001, centers=3, n_features=2, cluster_std=2, random_state=2
    )
    ours = dataset.blobs(1001, 3, 2, seed=2)
    np.testing.assert_array_equal(ours[0], x)
    np.testing.assert_array_equal(ours[1], y)


def test_held_out_rows_have_the_same_centres():
    x, y, x_test, y_test = dataset.blobs(4000, 3, 2, seed=1)
    assert len(x_test) == 500
    for label in range(3):
        # about 167 rows of deviation 2: their mean is within 5 of 0.15
        difference = x[y == label].mean(0) - x_test[y_test == label].mean(0)
        assert np.abs(difference).max() < 0.8


def test_a_directory_means_synthetic_data(tmp_path):
    loaded = dataset.load(config(tmp_path))
    assert loaded.source == "synthetic"
    assert (loaded.x.dtype, loaded.y.dtype) == (np.float32, np.int32)
    assert loaded.x.shape == (64, 2) and loaded.x_test.shape == (8, 2)


def test_another_seed_gives_other_rows(tmp_path):
    first, again, other = [
        dataset.load(config(tmp_path, seed=seed)).sha256 for seed in (1, 1, 2)
    ]
    assert first == again != other


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(batch_size=65),
            "batch_size must not be above .*65 and 64 sam",
        ),
        (dict(num_classes=65), "num_classes must not be above num_samples, got 65 and"),
    ],
)
def test_a_flag_may_be_as_large_as_the_number_of_samples(tmp_path, changes, message):
    dataset.load(config(tmp_path, **dict.fromkeys(changes, 64)))
    with pytest.raises(UserError, match=message):
        dataset.load(config(tmp_path, **changes))


@pytest.mark.parametrize("path", ["/no/such", "", os.devnull])
def test_a_path_that_is_neither_directory_nor_file_is_refused(path):
    rule = "data_path must be a directory or an existing .npz file"
    with pytest.raises(UserError, match=f"{rule}, got {path!r}"):
        dataset.load(config(path))


def rows(count=20, features=5):
    generator = np.random.RandomState(0)
    x = generator.randn(count, features)
    return dict(x=x, y=np.arange(count) % 3)


def test_an_npz_gives_an_eighth_to_the_held_out_rows(tmp_path):
    np.savez(tmp_path / "d.npz", **rows())
    loaded = dataset.load(config(tmp_path / "d.npz"))
    assert (len(loaded.x), len(loaded.x_test)) == (18, 2)
    together = np.concatenate([loaded.x, loaded.x_test])
    np.testing.assert_array_equal(
        np.sort(together, 0), np.sort(rows()["x"].astype("float32"), 0)
    )


def test_an_npz_may_bring_its_held_out_rows(tmp_path):
    held_out = rows(4)
    np.savez(tmp_path / "d.npz", x_test=held_out["x"], y_test=held_out["y"], **rows())
    loaded = dataset.load(config(tmp_path / "d.npz"))
    assert (len(loaded.x), len(loaded.x_test)) == (20, 4)


def without(name):
    values = rows()
    del values[name]
    return values


@pytest.mark.parametrize(
    "values, message",
    [
        (without("y"), "x and y, got .*'x'.*y is missing"),
        (without("x"), "x and y, got .*'y'.*x is missing"),
        (
            dict(rows(), x_test=rows()["x"]),
            "x_test and y_test, got .* y_test is miss",
        ),
        (dict(rows(), x=np.zeros(20)), "x must have the shape"),
        (dict(rows(), x=np.zeros((20, 2), int)), "x must be floating point, got int64"),
        (dict(rows(), y=np.zeros(20)), "y must be integer classes, got float64"),
        (dict(rows(), y=np.zeros(19, int)), "y must have one class for each row"),
        (dict(rows(), y=np.full(20, -1)), "y must not be negative, got -1"),
        (dict(rows(), y=np.full(20, 3)), "classes from 0 to .* = 2, got 3 to 3.* Set"),
        (dict(rows(), x=np.full((20, 2), np.nan)), "finite in float32, got NaN or Inf"),
        (dict(rows(), x=np.full((20, 2), 1e300)), "finite in float32, got NaN or Inf"),
        (
            dict(rows(), x=np.zeros((20, 0))),
            "x must hold rows with features, got .20, 0.*",
        ),
        # 2**32 is 0 in int32
        (dict(rows(), y=np.full(20, 2**32)), "y must be at most .*, got 4294967296"),
        (dict(rows(), x=np.array([object()] * 20)), "readable .npz file"),
        (
            dict(rows(), x_test=np.zeros((2, 9)), y_test=np.zeros(2, int)),
            "as many features as x, 5, got 9",
        ),
        (
            dict(rows(), y=np.arange(20) % 3 + 1),
            "got 1 to 3 .*classes count from 0. Take 1 from each",
        ),
        (
            dict(rows(), x_test=np.zeros((0, 5)), y_test=np.zeros(0, int)),
            "x_test must hold rows with features, got \\(0, 5\\)",
        ),
        (rows(2), "batch_size 4 and 1 samples"),
        (rows(1), "must hold at least 2 rows, got 1"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:20],
)
def test_a_malformed_npz_is_refused_in_one_line(tmp_path, values, message):
    np.savez(tmp_path / "d.npz", **values)
    with pytest.raises(UserError, match=message) as caught:
        dataset.load(config(tmp_path / "d.npz"))
    assert "\n" not in str(caught.value)


def test_other_arrays_of_a_file_are_left_unread(tmp_path):
    np.savez(tmp_path / "d.npz", notes=np.array([object()]), **rows())
    assert len(dataset.load(config(tmp_path / "d.npz")).x) == 18


def test_a_member_that_is_no_array_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x=rows()["x"])
    with zipfile.ZipFile(str(tmp_path / "d.npz"), "a") as file:
        file.writestr("y", "plain text")
    with pytest.raises(UserError, match="y must be an array, got none in .*d.npz"):
        dataset.load(config(tmp_path / "d.npz"))


def test_names_in_a_message_are_shortened(tmp_path):
    np.savez(tmp_path / "d.npz", **{f"array_{i}": np.zeros(1) for i in range(500)})
    with pytest.raises(UserError, match="x is missing") as caught:
        dataset.load(config(tmp_path / "d.npz"))
    assert len(str(caught.value)) <= 400


@pytest.mark.parametrize(
    "changes",
    [
        dict(x=np.ones((20, 5))),
        dict(y=np.zeros(20, int)),
        dict(x_test=np.ones((4, 5))),
        dict(y_test=np.zeros(4, int)),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_hash_of_the_rows_covers_each_array(tmp_path, changes):
    def sha256(**changes):
        arrays = rows()
        arrays.update(x_test=np.zeros((4, 5)), y_test=np.arange(4) % 3)
        np.savez(str(tmp_path / "rows.npz"), **dict(arrays, **changes))
        return dataset.load(config(tmp_path / "rows.npz")).sha256

    assert sha256() == sha256()
    assert sha256(**changes) != sha256()


class Loaded(dict):
    """What `np.load` gives for an .npz."""

    files = ("x", "y", "x_test", "y_test")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def test_rows_of_the_right_type_take_their_memory_once(tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", **rows())
    x, y = np.zeros((8, 5), np.float32), np.arange(8, dtype=np.int32) % 3
    given = Loaded(x=x, y=y, x_test=x[:4], y_test=y[:4])
    monkeypatch.setattr(np, "load", lambda path, allow_pickle: given)
    loaded = dataset.load(config(tmp_path / "d.npz"))
    assert all(getattr(loaded, name) is given[name] for name in given)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"plain text"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(UserError, match="readable .npz file"):
        dataset.load(config(tmp_path / "d.npz"))


def test_no_damage_to_a_file_gets_past_the_check(tmp_path, capfd):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, **rows())
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        for damaged in (
            whole[:place],
            whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :],
        ):
            path.write_bytes(damaged)
            try:
                dataset.load(config(path))  # a date or an attribute may be damaged
            except UserError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > len(whole) // 7  # each of the cut ones at least
    assert capfd.readouterr().err == ""


def test_more_rows_than_memory_are_refused(tmp_path):
    with pytest.raises(UserError, match="num_samples must fit in memory, got 2147483"):
        dataset.load(config(tmp_path, num_samples=2**31 - 1, num_features=10**6))


def test_an_epoch_has_every_row_once_and_its_last_batch_short():
    x = np.arange(10)
    found = dataset.batches(x[:, None], x, 4, seed=3)
    epoch = list(itertools.islice(found, 3))
    assert [len(y) for _, y in epoch] == [4, 4, 2]
    assert sorted(np.concatenate([y for _, y in epoch])) == list(range(10))
    for x_now, y_now in epoch:
        np.testing.assert_array_equal(x_now[:, 0], y_now)


def test_the_rows_of_an_epoch_depend_on_seed_and_epoch_alone():
    x = np.arange(12)

    def epochs(first, seed=3):
        found = dataset.batches(x[:, None], x, 4, seed, first_epoch=first)
        rows = np.concatenate([y for _, y in itertools.islice(found, 6)])
        return rows.reshape(2, 12).tolist()

    assert epochs(0)[1] == epochs(1)[0]
    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0) != epochs(0, seed=4)


def test_an_epoch_of_fewer_rows_drops_the_short_batch():
    x = np.arange(10)
    found = dataset.batches(x[:, None], x, 4, seed=3, rows=8)
    assert [len(y) for _, y in itertools.islice(found, 5)] == [4] * 5
