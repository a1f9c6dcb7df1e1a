# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the last epoch does to the accuracy, by the number of batches in an epoch.

The trainer's default workload with batch normalization, in our package and keras-swa.
"""

import tempfile

import numpy as np

from benchmarks import common, training

SAMPLES, CLASSES, FEATURES, UNITS = 131072, 108, 6, 108
EPOCHS = {8: 100, 128: 12, 512: 12, 2048: 12}  # {batches an epoch: epochs}
SEEDS = (2, 3, 4)


def work(batches, epochs, seed, path):
    """Test accuracy "before" the last epoch, of the trained weights, and "after" it."""
    from swa.tfkeras import SWA

    with np.load(path) as file:
        x, y, x_test, y_test = (file[name] for name in ("x", "y", "x_test", "y_test"))
    keras = training.fresh(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Dense(UNITS, "relu", input_shape=x.shape[1:]),
            layers.BatchNormalization(),
            layers.Dense(CLASSES, "softmax"),
        ]
    )
    sgd, loss = keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy"
    model.compile(sgd, loss, metrics=["accuracy"])
    before = []

    def last_trained(epoch, logs):
        if epoch == epochs - 2:
            before.append(model.evaluate(x_test, y_test, 16384, verbose=0)[1])

    batch_size, start_epoch = len(x) // batches, epochs * 3 // 4
    swa = SWA(start_epoch, "cyclic", 0.001, 0.003, 3, batch_size=batch_size)
    watch = keras.callbacks.LambdaCallback(on_epoch_end=last_trained)
    model.fit(x, y, batch_size, epochs, verbose=0, callbacks=[swa, watch])
    after = model.evaluate(x_test, y_test, 16384, verbose=0)[1]
    return {"before": float(before[0]), "after": float(after)}


def rows_work(path):
    """Writes the workload's rows, as the trainer makes them, to an `.npz`."""
    from swa.training import dataset

    made = dataset.blobs(SAMPLES, CLASSES, FEATURES, SEEDS[0])
    x, y, x_test, y_test = (
        a.astype(np.float32 if a.dtype.kind == "f" else np.int32) for a in made
    )
    np.savez(path, x=x, y=y, x_test=x_test, y_test=y_test)


def run(peer_folder, is_quick):
    """A row for each number of batches and package, a value a seed in each."""
    packages = {"this": common.ROOT, "keras-swa": peer_folder}
    rows = [
        {"batches": batches, "epochs": 8 if is_quick else epochs, "package": package}
        for batches, epochs in EPOCHS.items()
        for package, folder in packages.items()
        if folder is not None
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.npz"
        common.in_process("workloads.rows_work", {"path": path})
        calls = []
        for row in rows:
            for seed in SEEDS:
                spec = {"batches": row["batches"], "epochs": row["epochs"]}
                spec.update(seed=seed, path=path)
                calls.append(("workloads.work", spec, packages[row["package"]], 1))
        measured = training.at_once(calls)
    for index, row in enumerate(rows):
        own = measured[index * len(SEEDS) :][: len(SEEDS)]
        row.update({kind: [figures[kind] for figures in own] for kind in own[0]})
    return rows
