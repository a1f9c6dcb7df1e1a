# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Epochs of `fit` with SWA over those without, beside a null arm and keras-swa 0.1.7.

Compared are the epochs that train. The forward-only epoch has a row of its own.
"""

import contextlib
import gc
import time
from typing import NamedTuple

import numpy as np

from benchmarks import common

LEARNING_RATE = 0.1
CLASSES, UNITS, FEATURES = 108, 108, 6
PEER_ROUNDS = 3  # at most: its differences are large


class Case(NamedTuple):
    """One kind of work for `fit`."""

    mode: str  # "graph" or "eager"
    optimizer: str  # "sgd" or "adam"
    batch_norm: bool
    batch_size: int
    batches: int  # per epoch
    epochs: int
    rounds: int  # at most

    @property
    def start_epoch(self):
        return max(2, self.epochs * 3 // 4)

    @property
    def label(self):
        kind = {"sgd": "SGD", "adam": "Adam"}[self.optimizer]
        return kind + (", batch norm" if self.batch_norm else "")


# the first is the default model's at a batch that makes every call felt; `fit` is long
# enough that what it costs once (well below 0.1 s) does not hide what a batch costs
CASES = [
    Case("graph", "sgd", True, 32, 256, 20, 15),
    Case("graph", "sgd", False, 32, 128, 20, 5),
    Case("graph", "adam", True, 32, 128, 20, 5),
    Case("graph", "adam", False, 32, 128, 20, 5),
    Case("graph", "sgd", True, 512, 32, 20, 7),
    Case("graph", "sgd", True, 16384, 8, 10, 7),
]
# for a first look (--rounds below 5): too short to tell small costs
QUICK = {32: (16, 5), 512: (8, 5), 16384: (2, 5)}
EAGER_CASE = Case("eager", "sgd", True, 32, 64, 6, 7)


class Arm:
    """A model in a graph and session of its own, and its callback if any."""

    def __init__(self, case, swa_class=None):
        import tensorflow as tf

        self._case = case
        self._keras = tf.keras
        if case.mode == "graph":
            self._graph = tf.Graph()
            self._session = tf.compat.v1.Session(graph=self._graph)
        self._callback = None
        if swa_class is not None:
            self._callback = swa_class(
                case.start_epoch,
                "cyclic",
                swa_lr=0.001,
                swa_lr2=0.003,
                swa_freq=3,
                batch_size=case.batch_size,
            )
        with self._entered():
            self._model = default_model(tf.keras, case)

    def fit(self, x, y, initial_epoch=0, watch=None):
        """Trains; returns the seconds of each epoch."""
        with self._entered():
            # keras-swa leaves 0 behind, with which nothing would be learnt
            self._keras.backend.set_value(self._model.optimizer.lr, LEARNING_RATE)
            callbacks = [] if self._callback is None else [self._callback]
            callbacks += [] if watch is None else [watch]
            starts = []
            clock = self._keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: starts.append(time.perf_counter())
            )
            gc.collect()
            self._model.fit(
                x,
                y,
                batch_size=self._case.batch_size,
                epochs=self._case.epochs,
                initial_epoch=initial_epoch,
                verbose=0,
                callbacks=[clock, *callbacks],
            )
            return np.diff([*starts, time.perf_counter()]).tolist()

    def close(self):
        """Frees what the session holds."""
        if self._case.mode == "graph":
            self._session.close()

    @contextlib.contextmanager
    def _entered(self):
        if self._case.mode == "eager":
            yield
            return
        with self._graph.as_default(), self._session.as_default():
            yield


def default_model(keras, case):
    """The trainer's default network, made here: keras-swa's process has no trainer."""
    layers = [keras.layers.Dense(UNITS, activation="relu", input_shape=(FEATURES,))]
    if case.batch_norm:
        layers.append(keras.layers.BatchNormalization())
    layers.append(keras.layers.Dense(CLASSES, activation="softmax"))
    model = keras.Sequential(layers)
    optimizers = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
    model.compile(
        optimizers[case.optimizer](LEARNING_RATE),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


@contextlib.contextmanager
def counted_calls():
    """Within it every call into a session adds one to the list's first number."""
    from tensorflow.python.client import session

    calls = [0]
    kept = session.BaseSession.run, session.BaseSession._Callable.__call__

    def counting(function):
        def counted(*args, **kwargs):
            calls[0] += 1
            return function(*args, **kwargs)

        return counted

    session.BaseSession.run = counting(kept[0])
    session.BaseSession._Callable.__call__ = counting(kept[1])
    try:
        yield calls
    finally:
        session.BaseSession.run, session.BaseSession._Callable.__call__ = kept


def calls_by_epoch(arm, case, x, y):
    """The session calls of each epoch of averaging; the last has the forward pass."""
    import tensorflow as tf

    seen = []
    with counted_calls() as calls:
        watch = tf.keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(calls[0])
        )
        arm.fit(x, y, initial_epoch=case.start_epoch - 1, watch=watch)
    return np.diff(seen).tolist()


def measure_case(case, rounds, has_null):
    """Interleaved rounds of all arms on the same rows.

    Returns:
      dict; "seconds" has, for each arm and round, those of all epochs but the last, and
      those of the last.
    """
    from swa.tfkeras import SWA

    generator = np.random.RandomState(0)
    rows = case.batch_size * case.batches
    y = generator.randint(CLASSES, size=rows).astype(np.int32)
    centres = generator.uniform(-10, 10, (CLASSES, FEATURES))
    x = generator.normal(centres[y], 2.0).astype(np.float32)
    arms = {"without": Arm(case), "with": Arm(case, SWA)}
    if has_null:
        arms["null"] = Arm(case)
    for arm in arms.values():  # warm: sampling and batch-norm epoch included
        arm.fit(x, y, initial_epoch=case.start_epoch - 1)
    calls = {}
    if case.mode == "graph":
        for name in ("without", "with"):
            calls[name] = calls_by_epoch(arms[name], case, x, y)
    seconds = {name: [] for name in arms}
    names = list(arms)
    rounds = min(rounds, case.rounds)
    for round_ in range(rounds):
        shift = round_ % len(names)  # no arm is always the first
        for name in names[shift:] + names[:shift]:
            *first, last = arms[name].fit(x, y)
            seconds[name].append([sum(first), last])
    for arm in arms.values():
        arm.close()
    return {
        "case": case._asdict(),
        "seconds": seconds,
        "session_calls": calls,
    }


def work(cases, rounds, has_null):
    """Measures the cases, in this process's `swa`."""
    cases = [Case(**case) for case in cases]
    if cases[0].mode == "eager":
        import tensorflow as tf

        tf.compat.v1.enable_eager_execution()
    measured = []
    for index, case in enumerate(cases):
        measured.append(measure_case(case, rounds, has_null))
        told = f"{index + 1} of {len(cases)} cases"
        print(f"  overhead, {case.mode}: {told}", flush=True)
    return measured


def run(options):
    """Prints the table of overheads; returns its figures."""
    cases = CASES
    if options.rounds < 5:
        cases = [
            case._replace(
                batches=QUICK[case.batch_size][0], epochs=QUICK[case.batch_size][1]
            )
            for case in CASES
        ]
    spec = {"cases": [case._asdict() for case in cases], "rounds": options.rounds}
    eager = {
        "cases": [EAGER_CASE._asdict()],
        "rounds": options.rounds,
        "has_null": True,
    }
    packages = {
        "this": common.in_process("overhead.work", dict(spec, has_null=True)),
        "this, eager": common.in_process("overhead.work", eager),
    }
    folder = common.peer_folder(options.peers)
    if folder is not None:
        own = [case for case in cases if case.label == "SGD, batch norm"]
        spec["cases"] = [case._asdict() for case in own]
        spec["rounds"] = min(options.rounds, PEER_ROUNDS)
        packages["keras-swa"] = common.in_process(
            "overhead.work", dict(spec, has_null=False), folder
        )
    rows = []
    for package, measured in packages.items():
        for one in measured:
            rows.extend(ratios(package, Case(**one["case"]), one))
    heads = ("package", "batch", "model", "epochs", "wall", "95%", "best", "calls")
    common.print_table(heads, [cells(row) for row in rows])
    print("calls: of the session, per epoch: without, with, with in the last.")
    return {"rounds": options.rounds, "rows": rows, "measured": packages}


def ratios(package, case, measured):
    """One row for each ratio of a measured case."""
    seconds = measured["seconds"]
    # with batch normalization the last epoch of SWA trains nothing
    trained = slice(1 if case.batch_norm else 2)
    last = slice(1, 2)

    def row(kind, arm, part, calls=None):
        with_arm, without = (
            [sum(parts[part]) for parts in seconds[name]] for name in (arm, "without")
        )
        return {
            "package": package,
            "batch_size": case.batch_size,
            "batches": case.batches,
            "epochs": case.epochs,
            "model": case.label,
            "fit": kind,
            "wall": common.compared(with_arm, without),
            "session_calls": calls,
        }

    calls = measured["session_calls"]
    if calls:
        calls = [max(calls["without"]), max(calls["with"][:-1]), calls["with"][-1]]
    rows = [row("training epochs", "with", trained, calls or None)]
    if "null" in seconds:
        rows.append(row("null arm", "null", trained))
    if case.batch_norm:
        rows.append(row("batch-norm epoch", "with", last))
    return rows


def cells(row):
    """A row as text."""
    wall, calls = row["wall"], row["session_calls"]
    return (
        row["package"],
        str(row["batch_size"]),
        row["model"],
        row["fit"],
        f"{wall['median']:.3f}",
        f"{wall['low']:.3f}..{wall['high']:.3f}",
        f"{wall['best']:.3f}",
        "" if calls is None else ", ".join(map(str, calls)),
    )
