# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA's last epoch does to the held-out accuracy of synthetic rows, once."""

import multiprocessing.pool
import tempfile
from typing import NamedTuple

import numpy as np

from benchmarks import common, training

SEED = 2


class Workload(NamedTuple):
    """Synthetic rows in the trainer's way, with its default rates."""

    name: str
    units: int
    classes: int
    features: int
    epochs: int


WORKLOADS = [
    Workload("default", 108, 108, 6, 100),
    Workload("reference", 50, 3, 2, 40),
]


def workload_work(workload, path):
    """Held-out loss and accuracy before the batch-norm epoch and after training."""
    from swa.tfkeras import SWA

    workload = Workload(*workload)
    with np.load(path) as file:
        x, y, x_test, y_test = (file[name] for name in ("x", "y", "x_test", "y_test"))
    keras = training.fresh(SEED)
    model = keras.Sequential(
        [
            keras.layers.Dense(workload.units, "relu", input_shape=x.shape[1:]),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(workload.classes, "softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    before = []

    def last_trained(epoch, logs):
        if epoch == workload.epochs - 2:
            before.extend(model.evaluate(x_test, y_test, 16384, verbose=0))

    model.fit(
        x,
        y,
        16384,
        epochs=workload.epochs,
        verbose=0,
        callbacks=[
            SWA(workload.epochs * 3 // 4, "cyclic", 0.001, 0.003, 3, batch_size=16384),
            keras.callbacks.LambdaCallback(on_epoch_end=last_trained),
        ],
    )
    after = model.evaluate(x_test, y_test, 16384, verbose=0)
    return {
        "before": {"loss": float(before[0]), "accuracy": float(before[1])},
        "after": {"loss": float(after[0]), "accuracy": float(after[1])},
    }


def rows_work(workload, path):
    """Writes the workload's rows, as the trainer makes them, to an `.npz`."""
    from swa.training import dataset

    workload = Workload(*workload)
    made = dataset.blobs(131072, workload.classes, workload.features, SEED)
    x, y, x_test, y_test = (
        a.astype(np.float32 if a.dtype.kind == "f" else np.int32) for a in made
    )
    np.savez(path, x=x, y=y, x_test=x_test, y_test=y_test)


def run(folder, is_quick):
    """A row for each workload and package."""
    rows, calls = [], []
    with tempfile.TemporaryDirectory() as parts:
        for work in WORKLOADS:
            if is_quick:
                work = work._replace(epochs=8)
            spec = {"workload": work, "path": f"{parts}/{work.name}.npz"}
            common.in_process("workloads.rows_work", spec)
            for package, where in (("this", common.ROOT), ("keras-swa", folder)):
                if where is not None:
                    rows.append({"workload": work.name, "package": package})
                    rows[-1]["epochs"] = work.epochs
                    calls.append(("workloads.workload_work", spec, where, 1))
        with multiprocessing.pool.ThreadPool(training.PROCESSES) as pool:
            measured = pool.starmap(common.in_process, calls)
    for row, figures in zip(rows, measured):
        row.update(figures)
    return rows
