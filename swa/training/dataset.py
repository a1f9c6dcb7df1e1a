# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The training and held-out rows: seeded blobs, or a user's `.npz`."""

import hashlib
import itertools
import os
import zipfile
from typing import NamedTuple

import numpy as np

from swa.training import memory
from swa.training.errors import UserError, reason, shown, wrong

CLUSTER_STD = 2.0
CENTRE_RANGE = (-10.0, 10.0)
SYNTHETIC = "synthetic"
NAMES = ("x", "y", "x_test", "y_test")  # of an .npz; others are left unread


class Data(NamedTuple):
    """Rows to train on and rows held out."""

    x: np.ndarray  # float32 (samples, features)
    y: np.ndarray  # int32 (samples,)
    x_test: np.ndarray  # float32 (held-out samples, features)
    y_test: np.ndarray  # int32 (held-out samples,)
    num_classes: int
    source: str  # SYNTHETIC or the file's path

    @property
    def is_synthetic(self):
        """bool: whether the rows were made here."""
        return self.source == SYNTHETIC

    @property
    def sha256(self):
        """Hexadecimal hash of all four arrays."""
        digest = hashlib.sha256()
        for array in (self.x, self.y, self.x_test, self.y_test):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __str__(self):
        kind = "synthetic Gaussian blobs" if self.is_synthetic else self.source
        return (
            f"data: {kind}, {len(self.x)} training and {len(self.x_test)} held-out "
            f"rows of {self.x.shape[1]} features, {self.num_classes} classes"
        )


def load(config):
    """The data that `config.data_path` names: a file, or blobs for a directory.

    Raises:
      UserError: a file that cannot be read or trained on, or sizes that do not fit.
    """
    if os.path.isdir(config.data_path):
        _check_batch_size(config, config.num_samples)
        if config.num_classes > config.num_samples:
            raise UserError(
                "num_classes must not be above num_samples, "
                f"got {config.num_classes} and {config.num_samples}."
            )
        memory.check(config, config.num_samples, config.num_features, is_drawn=True)
        return _synthetic(config)
    if not os.path.isfile(config.data_path):  # a pipe would be waited for
        raise wrong(
            "data_path must be a directory or an existing .npz file", config.data_path
        )
    data = _from_file(config)
    _check_batch_size(config, len(data.x))
    memory.check(config, *data.x.shape)
    return data


def _check_batch_size(config, num_samples):
    if config.batch_size > num_samples:
        raise UserError(
            "batch_size must not be above the number of training samples, "
            f"got batch_size {config.batch_size} and {num_samples} samples."
        )


def held_out(num_samples):
    """int: the rows held out beside, or of, so many: an eighth."""
    return max(1, num_samples // 8)


def blobs(num_samples, num_classes, num_features, seed):
    """Gaussian blobs, the same training rows as scikit-learn's `make_blobs`.

    centres ~ U(-10, 10)^features, x ~ N(centre of y, 2^2 I), classes of equal
    size (the first ones get the rest), all shuffled. The held-out eighth is drawn
    from the same centres afterwards.

    Args:
      num_samples: int, rows to train on.
      num_classes: int.
      num_features: int.
      seed: int in [0, 2**32).

    Returns:
      (x, y, x_test, y_test): float64 and int64 arrays.
    """
    generator = np.random.RandomState(seed)
    centres = generator.uniform(*CENTRE_RANGE, size=(num_classes, num_features))
    train = _drawn(generator, centres, num_samples)
    return train + _drawn(generator, centres, held_out(num_samples))


def _drawn(generator, centres, num_samples):
    y = np.sort(np.arange(num_samples) % len(centres))
    x = generator.normal(centres[y], CLUSTER_STD)
    order = generator.permutation(num_samples)
    return x[order], y[order]


def batches(x, y, batch_size, seed, first_epoch=0, rows=None, rank=0, size=1):
    """Yields (x, y) batches for ever, each epoch in its own order.

    The order of an epoch follows from `seed` and the epoch alone. An epoch's rows are
    put in order at once, and its batches are views: rows that are taken batch by batch
    cost a small batch five times as much.

    Args:
      x: array (samples, features).
      y: array (samples,).
      batch_size: int, of all ranks together.
      seed: int, orders the rows together with the epoch.
      first_epoch: int >= 0, the epoch of the first batch.
      rows: int, those of an epoch; None: all. The others are left out of it.
      rank: int from 0, whose part of each batch it is.
      size: int >= 1, the ranks; it divides every batch.
    """
    for epoch in itertools.count(first_epoch):
        order = np.random.RandomState([seed, epoch]).permutation(len(x))[:rows]
        order = rows_of_rank(order, batch_size, rank, size)
        x_now, y_now = x.take(order, axis=0), y.take(order, axis=0)
        for start in range(0, len(order), batch_size // size):
            part = slice(start, start + batch_size // size)
            yield x_now[part], y_now[part]


def rows_of_rank(order, batch_size, rank, size):
    """Those of an epoch's rows that one of several ranks trains on.

    Every batch is cut into `size` equal parts, and rank r gets part r of each.

    Args:
      order: array (rows,), of which `batch_size` make a batch.
      batch_size: int, rows of all ranks in a step; a multiple of `size`, as are the
        rows of a short last batch.
      rank: int from 0.
      size: int >= 1, the ranks.

    Returns:
      Array (rows / size,), of which batch_size / size make the rank's batch.
    """
    whole = len(order) // batch_size * batch_size
    parts = order[:whole].reshape(-1, size, batch_size // size)[:, rank].ravel()
    last = order[whole:].reshape(size, -1)[rank]
    return np.concatenate([parts, last])


def _synthetic(config):
    sizes = (config.num_samples, config.num_classes, config.num_features)
    arrays = zip(blobs(*sizes, config.seed), (np.float32, np.int32) * 2)
    rows = [array.astype(dtype, copy=False) for array, dtype in arrays]
    return Data(*rows, config.num_classes, SYNTHETIC)


def _from_file(config):
    path = config.data_path
    arrays = _arrays(path)
    x, y = _checked_rows(path, arrays, "x", "y")
    if "x_test" in arrays or "y_test" in arrays:
        x_test, y_test = _checked_rows(path, arrays, "x_test", "y_test", x.shape[1])
    else:
        order = np.random.RandomState(config.seed).permutation(len(x))
        if len(x) < 2:
            raise UserError(
                f"data_path must hold at least 2 rows, got {len(x)} in {shown(path)}."
            )
        test, train = np.split(order, [held_out(len(x))])
        x_test, y_test = x[test], y[test]
        x, y = x[train], y[train]
    _check_classes(config, np.concatenate([y, y_test]))
    return Data(x, y, x_test, y_test, config.num_classes, path)


def _check_classes(config, y):
    most = config.num_classes - 1
    if y.max() > most:
        is_from_one = y.min() == 1 and y.max() == config.num_classes
        advice = "Take 1 from each" if is_from_one else "Set --num_classes"
        raise UserError(
            f"data_path must hold classes from 0 to num_classes - 1 = {most}, "
            f"got {y.min()} to {y.max()} in {shown(config.data_path)}: "
            f"classes count from 0. {advice}."
        )


def _arrays(path):
    """What an `.npz` holds, by name; None in place of what is of no use."""
    try:
        # first, because np.load prints on stderr where this fails
        zipfile.ZipFile(path).close()
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] if name in NAMES else None for name in file.files}
    except MemoryError:
        raise
    except Exception as error:  # a broken file may raise anything, zlib.error too
        raise UserError(
            "data_path must be a directory or a readable .npz file, "
            f"got {shown(path)}: {reason(error)}"
        ) from None


def _checked_rows(path, arrays, x_name, y_name, num_features=None):
    def check(is_right, rule, value):
        if not is_right:
            raise UserError(f"data_path: {rule}, got {value} in {shown(path)}.")

    for name in (x_name, y_name):
        names = f"{shown(sorted(arrays))}: {name} is missing"
        check(name in arrays, f"it must hold {x_name} and {y_name}", names)
        is_array = isinstance(arrays[name], np.ndarray)  # of another member, bytes
        check(is_array, f"{name} must be an array", "none")
    x, y = arrays[x_name], arrays[y_name]
    check(x.dtype.kind == "f", f"{x_name} must be floating point", x.dtype)
    check(y.dtype.kind in "iu", f"{y_name} must be integer classes", y.dtype)
    check(x.ndim == 2, f"{x_name} must have the shape (samples, features)", x.shape)
    check(x.size > 0, f"{x_name} must hold rows with features", x.shape)
    rule = f"{y_name} must have one class for each row of {x_name}"
    check(y.shape == x.shape[:1], rule, f"shapes {x.shape} and {y.shape}")
    rule = f"{x_name} must have as many features as x, {num_features}"
    check(num_features in (None, x.shape[1]), rule, x.shape[1])
    check(y.min() >= 0, f"{y_name} must not be negative", y.min())
    # before the cast, which would make another class of it
    check(y.max() < 2**31, f"{y_name} must be at most 2**31 - 1", y.max())
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf
        x = x.astype(np.float32, copy=False)
    check(np.isfinite(x).all(), f"{x_name} must be finite in float32", "NaN or Inf")
    return x, y.astype(np.int32, copy=False)
