# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The training and held-out rows: seeded blobs, or a user's `.npz`."""

import hashlib
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
            got = f"{config.num_classes} and {config.num_samples}"
            raise UserError(f"num_classes must not be above num_samples, got {got}.")
        memory.check(config, config.num_samples, config.num_features, is_drawn=True)
        return _synthetic(config)
    if not os.path.isfile(config.data_path):  # a pipe would be waited for
        rule = "data_path must be a directory or an existing .npz file"
        raise wrong(rule, config.data_path)
    data = _from_file(config)
    _check_batch_size(config, len(data.x))
    memory.check(config, *data.x.shape)
    return data


def _check_batch_size(config, num_samples):
    if config.batch_size > num_samples:
        rule = "batch_size must not be above the number of training samples"
        got = f"batch_size {config.batch_size} and {num_samples} samples"
        raise UserError(f"{rule}, got {got}.")


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
    sizes = np.full(len(centres), num_samples // len(centres))
    sizes[: num_samples % len(centres)] += 1
    pairs, draw = zip(centres, sizes), generator.normal
    parts = [draw(centre, CLUSTER_STD, (size, len(centre))) for centre, size in pairs]
    y = np.repeat(np.arange(len(centres)), sizes)
    order = generator.permutation(num_samples)
    return np.concatenate(parts)[order], y[order]


def epoch_order(num_samples, seed, epoch):
    """The order of the rows in an epoch: int64 (num_samples,), from these alone."""
    return np.random.RandomState([seed, epoch]).permutation(num_samples)


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


def batches(x, y, batch_size, seed, first_epoch=0, drop_last=False, rank=0, size=1):
    """Yields (x, y) batches for ever, each epoch in its own order.

    Args:
      x: array (samples, features).
      y: array (samples,).
      batch_size: int, of all ranks together.
      seed: int, orders the rows together with the epoch.
      first_epoch: int >= 0, the epoch of the first batch.
      drop_last: bool, whether a short last batch is left out.
      rank: int from 0, whose part of each batch it is.
      size: int >= 1, the ranks; it divides every batch.
    """
    epoch = first_epoch
    rows = batches_per_epoch(len(x), batch_size, drop_last) * batch_size
    own = batch_size // size
    while True:
        order = epoch_order(len(x), seed, epoch)[:rows]
        order = rows_of_rank(order, batch_size, rank, size=size)
        # one gather, by what is fastest for it; the batches are views
        x_now, y_now = x.take(order, axis=0), y.take(order, axis=0)
        for start in range(0, len(order), own):
            part = slice(start, start + own)
            yield x_now[part], y_now[part]
        epoch += 1


def batches_per_epoch(num_samples, batch_size, drop_last=False):
    """int: the batches that an epoch has."""
    return num_samples // batch_size if drop_last else -(-num_samples // batch_size)


def _synthetic(config):
    sizes = (config.num_samples, config.num_classes, config.num_features)
    arrays = zip(blobs(*sizes, config.seed), (np.float32, np.int32) * 2)
    rows = [array.astype(dtype, copy=False) for array, dtype in arrays]
    return Data(*rows, config.num_classes, SYNTHETIC)


def _from_file(config):
    path = config.data_path
    arrays = _arrays(path)
    x, y = _checked_rows(path, arrays, "x", "y", None)
    if "x_test" in arrays:
        x_test, y_test = _checked_rows(path, arrays, "x_test", "y_test", x.shape[1])
    else:
        order = np.random.RandomState(config.seed).permutation(len(x))
        count = held_out(len(x))
        if count == len(x):
            raise wrong("data_path must hold at least 2 rows", 1, place=path)
        x_test, y_test = x[order[:count]], y[order[:count]]
        x, y = x[order[count:]], y[order[count:]]
    _check_classes(config, np.concatenate([y, y_test]))
    return Data(x, y, x_test, y_test, num_classes=config.num_classes, source=path)


def _check_classes(config, y):
    most = config.num_classes - 1
    if y.max() > most:
        is_from_one = y.min() == 1 and y.max() == config.num_classes
        advice = "Take 1 from each" if is_from_one else "Set --num_classes"
        place = f"{y.min()} to {y.max()} in {shown(config.data_path)}"
        raise UserError(
            f"data_path must hold classes from 0 to num_classes - 1 = {most}, "
            f"got {place}: classes count from 0. {advice}."
        )


def _arrays(path):
    """The arrays of an `.npz` that are of use, by name."""
    try:
        # first, for np.load prints on stderr by itself where this fails
        zipfile.ZipFile(path).close()
        with np.load(path, allow_pickle=False) as file:
            names = sorted(file.files)
            arrays = {name: file[name] for name in NAMES if name in names}
    except MemoryError:
        raise
    except Exception as error:  # a broken file may raise anything, zlib.error too
        raise UserError(
            "data_path must be a directory or a readable .npz file, "
            f"got {shown(path)}: {reason(error)}"
        ) from None
    got = f"got {shown(names)} in {shown(path)}"
    for name in ("x", "y"):
        if name not in arrays:
            raise UserError(
                f"data_path must hold the arrays x and y, {got}: {name} is missing."
            )
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise UserError(f"data_path must hold x_test and y_test or neither, {got}.")
    for name, array in arrays.items():  # numpy gives a member that is none as bytes
        if not isinstance(array, np.ndarray):
            got = f"got {name} in {shown(path)}, which is none"
            raise UserError(f"data_path must hold arrays, {got}.")
    return arrays


def _checked_rows(path, arrays, x_name, y_name, num_features):
    x, y = arrays[x_name], arrays[y_name]

    def check(is_right, rule, value):
        if not is_right:
            raise UserError(f"data_path: {rule}, got {value} in {shown(path)}.")

    check(x.dtype.kind == "f", f"{x_name} must be floating point", x.dtype)
    check(y.dtype.kind in "iu", f"{y_name} must be integer classes", y.dtype)
    check(x.ndim == 2, f"{x_name} must have the shape (samples, features)", x.shape)
    check(len(x) > 0, f"{x_name} must hold at least one row", "none")
    shapes = f"shapes {x.shape} and {y.shape}"
    rule = f"{y_name} must have one class for each row of {x_name}"
    check(y.shape == x.shape[:1], rule, shapes)
    width = x.shape[1]
    check(width > 0, f"{x_name} must have features", x.shape)
    rule = f"{x_name} must have as many features as x, {num_features}"
    check(num_features in (None, width), rule, width)
    check(y.min() >= 0, f"{y_name} must not be negative", y.min())
    # before the cast, which would make another class of it
    largest = np.iinfo(np.int32).max
    check(y.max() <= largest, f"{y_name} must be at most {largest}", y.max())
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf
        x = x.astype(np.float32, copy=False)
    check(np.isfinite(x).all(), f"{x_name} must be finite in float32", "NaN or Inf")
    return x, y.astype(np.int32, copy=False)
