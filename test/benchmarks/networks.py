# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA costs on networks that people train: a first `fit`, memory, operations.

Each measurement is a process of its own, which trains twice for six epochs: first of
two batches each, then of more; the arms take turns. With SWA the last epoch is the
batch-norm pass, where there is batch norm. keras-swa runs in the first round alone, for
the first fit only.
"""

import resource
import statistics
import time

import numpy as np

from benchmarks import common

EPOCHS, ROWS, BATCH = 6, 16, 8
ROUNDS = 3  # at most
PATIENCE = 100  # seconds for keras-swa: a hundred batch norms take it longer
RATE = 1e-6  # a hundred batch norms on eight rows diverge at usual ones
ARMS = ("plain", "this", "plain again")  # of each round
FIRST_ARMS = ("keras-swa",)  # of the first, besides
NETWORKS = {  # and the rows of the second fit
    "MobileNetV2": 128,
    "ResNet50": 48,
    "100 x (Dense, BatchNormalization)": 1024,
    "LSTM": 512,
}


def built(name):
    """The network, uncompiled, and its rows: (model, x, y)."""
    import tensorflow as tf

    keras, generator = tf.keras, np.random.RandomState(0)
    layers = keras.layers
    if name == "LSTM":
        model = keras.Sequential(
            [
                layers.Embedding(1000, 32, input_length=20),
                layers.LSTM(32),
                layers.Dense(2, activation="softmax"),
            ]
        )
        words = generator.randint(0, 1000, (ROWS, 20))
        return model, words, generator.randint(0, 2, ROWS)
    if name.startswith("100"):
        model = keras.Sequential([layers.InputLayer((16,))])
        for _ in range(100):
            model.add(layers.Dense(16, activation="relu"))
            model.add(layers.BatchNormalization())
        model.add(layers.Dense(2, activation="softmax"))
        return model, generator.rand(ROWS, 16), generator.randint(0, 2, ROWS)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(32, 32, 3), classes=10)
    return model, generator.rand(ROWS, 32, 32, 3), generator.randint(0, 10, ROWS)


def peak_mb():
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fit_work(name, arm):
    """Seconds of the fits, peak memory, operations and forms of calls of one arm."""
    import tensorflow as tf
    from tensorflow.python.client import session

    forms, make = [], session.BaseSession._make_callable_from_options

    def counted(self, options):
        forms.append(options)
        return make(self, options)

    session.BaseSession._make_callable_from_options = counted
    tf.compat.v1.set_random_seed(0)
    model, x, y = built(name)
    optimizer = tf.keras.optimizers.SGD(RATE, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    callbacks = []
    if not arm.startswith("plain"):
        from swa.tfkeras import SWA

        options = dict(swa_lr=RATE / 10, swa_lr2=RATE / 3, swa_freq=2, batch_size=BATCH)
        callbacks = [SWA(3, "cyclic", **options)]
    figures = {"weights_mb": model.count_params() * 4 / 2**20}
    for fit in ("first", "second")[: 1 if arm == "keras-swa" else 2]:
        tf.keras.backend.set_value(optimizer.lr, RATE)  # keras-swa leaves 0 behind
        options = dict(batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks)
        rows = np.arange(ROWS if fit == "first" else NETWORKS[name]) % ROWS
        start = time.perf_counter()
        history = model.fit(x[rows], y[rows], **options).history
        figures[fit] = time.perf_counter() - start
        if not np.isfinite(history["loss"]).all():
            raise ValueError(f"{name} must train without NaN, got {history['loss']}.")
        if fit == "first":
            graph = tf.compat.v1.get_default_graph()
            figures["operations"] = len(graph.get_operations())
            figures["forms"] = len(forms)
    names = [layer.__class__.__name__ for layer in model.layers]
    figures["batch_norms"] = sum("BatchNormalization" in name for name in names)
    figures["peak_mb"] = peak_mb()
    return figures


def run(options):
    """Prints the table; returns the figures of every process."""
    peer = common.peer_folder(options.peers)
    rounds = min(options.rounds, ROUNDS)
    measured, rows, late = {}, [], []
    for name in NETWORKS:
        figures = measured[name] = {}
        for turn in range(rounds):
            arms = ARMS[::-1] if turn % 2 else ARMS
            for arm in arms if turn else (*arms, *FIRST_ARMS):
                found = measure(name, arm, peer)
                if found:
                    figures.setdefault(arm, []).append(found)
                elif peer:
                    print(f"  {name}, {arm}: left out, over {PATIENCE} seconds")
                    late.append([name, arm])
            print(f"  {name}: round {turn + 1} of {rounds}", flush=True)
        rows.extend(rows_of(name, figures))
    heads = "network,arm,first fit s,ratio,second fit s,ratio,peak MB,operations,forms"
    common.print_table(heads.split(","), rows)
    return {"rounds": rounds, "networks": measured, "late": late}


def measure(name, arm, peer_folder):
    """The figures of one process; None where keras-swa is not there or takes long."""
    spec = {"name": name, "arm": arm}
    if arm != "keras-swa":
        return common.in_process("networks.fit_work", spec)
    if peer_folder is None:
        return None
    return common.in_process("networks.fit_work", spec, peer_folder, seconds=PATIENCE)


def median(figures, key):
    """The median of one figure over the rounds."""
    return statistics.median(one[key] for one in figures)


def more_seconds(figures, arm):
    """How many seconds longer the first `fit` of a network takes with a callback."""
    return median(figures[arm], "first") - median(figures["plain"], "first")


def ratio(figures, arm, key):
    """The median of the ratios to plain, round by round."""
    pairs = zip(figures[arm], figures["plain"])
    return statistics.median(one[key] / plain[key] for one, plain in pairs)


def rows_of(name, figures):
    """The table's rows of one network, as text."""
    rows = []
    for arm, found in figures.items():
        row = [name, arm]
        for fit in ("first", "second"):
            has_run = fit in found[0]
            row.append(f"{median(found, fit):.2f}" if has_run else "–")
            row.append(f"{ratio(figures, arm, fit):.2f}" if has_run else "–")
        keys = "peak_mb", "operations", "forms"
        rows.append(row + [f"{median(found, key):.0f}" for key in keys])
    return rows
