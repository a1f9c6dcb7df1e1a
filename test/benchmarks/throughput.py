# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The trainer's samples per second beside the bare train step's and another way's.

bare step: the compiled train function on one batch again and again, no data.
fit: the trainer's rows, order and SWA, in turns with the bare step in one process.
resident fit: `fit` on that one batch; what it lacks is what Keras does around a step.
one-hot fit: one-hot labels, shuffled by `fit`, as the original script does it.
trainer: `train-tf.keras-npu.py`, SWA included, as its report says.
2 processes: two trainers at once, each on half of the cores; their sum.
2 ranks: the same two synchronised by Horovod, where it is installed.
"""

import importlib.util
import itertools
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import common

ROUNDS = 3  # at most: each starts four processes
EPOCHS = 12
PAIRS = 9  # of the bare step and `fit`
IN_TURNS = ("bare step", "fit", "plain fit", "resident fit")
TRAINER = common.ROOT / "train-tf.keras-npu.py"
SHOWN = (
    "bash test/train_performance_1p.sh --num_samples=4096 --batch_size=64 "
    "--momentum=0.9 --lr_schedule=constant --swa_lr=0.1"
)


def fit_work(epochs, pairs):
    """Samples per second of the bare train step and of `fit`, in turns.

    Returns:
      dict of lists of `pairs` numbers, "bare step", "fit" with SWA, "plain fit"
      without, "resident fit" on one batch; and those of a one-hot shuffled `fit`.
    """
    import tensorflow as tf

    from swa.tfkeras import SWA
    from swa.training import dataset, flags, network
    from swa.training.settings import checked, swa_settings

    config = checked(flags.parse(["--device=cpu", f"--train_epochs={epochs}"]))
    rows, size = dataset.load(config), config.batch_size
    model = network.build(config, config.num_features)
    steps = len(rows.x) // size
    options = dict(steps_per_epoch=steps, epochs=epochs, verbose=0, workers=0)

    def bare_step():
        feeds = [rows.x[:size], rows.y[:size, None], True]  # the learning phase last
        for _ in range(epochs * steps):
            model.train_function(feeds)

    def fit(*callbacks):
        batches = dataset.batches(rows.x, rows.y, size, seed=config.seed)
        model.fit(batches, callbacks=[*callbacks], **options)

    def fit_with_swa():
        fit(SWA(*swa_settings(config)))

    def resident_fit():
        one = rows.x[:size], rows.y[:size]
        model.fit((one for _ in itertools.count()), **options)

    def one_hot_fit():
        model.fit(rows.x, one_hot, size, epochs=epochs, verbose=0, shuffle=True)

    def rate(work):
        start = time.perf_counter()
        work()
        return epochs * len(rows.x) / (time.perf_counter() - start)

    arms = dict(zip(IN_TURNS, (bare_step, fit_with_swa, fit, resident_fit)))
    fit()  # makes the train function
    for work in arms.values():
        work()  # warm
    rates = {name: [] for name in [*arms, "one-hot fit"]}
    for _ in range(pairs):
        for name, work in arms.items():
            rates[name].append(rate(work))
    tf.keras.backend.clear_session()
    model = network.build(config, config.num_features)
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    one_hot = tf.keras.utils.to_categorical(rows.y, config.num_classes)
    one_hot_fit()  # warm
    rates["one-hot fit"] = [rate(one_hot_fit) for _ in range(pairs)]
    return rates


def trainer_rate(processes, epochs):
    """The sum of the samples per second that so many trainers report at once."""
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // processes)
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for index in range(processes):
            own = cores[index * share : (index + 1) * share] or cores
            command = [sys.executable, str(TRAINER), "--device=cpu", "--verbose=0"]
            command += [f"--train_epochs={epochs}", f"--output_dir={folder}/{index}"]
            running.append(
                subprocess.Popen(
                    ["taskset", "-c", ",".join(map(str, own))] + command,
                    env=common.clean_environ(),
                    stdout=subprocess.DEVNULL,
                )
            )
        failed = [process.wait() for process in running]
        if any(failed):
            raise RuntimeError(f"a trainer ended with a status among {failed}.")
        return sum(
            common.read(f"{folder}/{index}/report.json")["samples_per_second"]
            for index in range(processes)
        )


def ranks_rate(epochs):
    """The samples per second of two Horovod ranks, as rank 0 reports them."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["bash", str(common.ROOT / "test" / "train_performance_8p.sh")]
        command += ["--rank_size=2", "--device=cpu", "--verbose=0"]
        command += [f"--train_epochs={epochs}", f"--output_dir={folder}"]
        subprocess.run(
            command,
            env=dict(common.clean_environ(), PYTHON=sys.executable),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return common.read(f"{folder}/report.json")["samples_per_second"]


def shown():
    """The figures that the run on the front page prints, and what it says of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = shlex.split(SHOWN)
        command[1] = str(common.ROOT / command[1])
        environ = dict(common.clean_environ(), PYTHON=sys.executable)
        done = subprocess.run(
            command + ["--device=cpu"],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            universal_newlines=True,
            check=True,
        )
    return re.findall("^(?:SGD|SWA|One seed) .*$", done.stdout, re.MULTILINE)


def over(rates, name, base):
    """The median ratio: of pairs where both were taken in turns, else of medians."""
    if {name, base} <= {*IN_TURNS}:
        return statistics.median(a / b for a, b in zip(rates[name], rates[base]))
    return statistics.median(rates[name]) / statistics.median(rates[base])


def run(options):
    """Prints the table of rates; returns its figures."""
    epochs = EPOCHS if options.rounds >= 5 else 4
    spec = {"epochs": epochs, "pairs": min(PAIRS, options.rounds)}
    rates = common.in_process("throughput.fit_work", spec)
    print("  throughput: the step and fit are done", flush=True)
    rates.update({"trainer": [], "2 processes": []})
    if importlib.util.find_spec("horovod") is None:
        print("2 ranks: skipped, horovod is not installed.")
    else:
        rates["2 ranks"] = []
    count = min(ROUNDS, options.rounds)
    for turn in range(count):
        print(f"  throughput: round {turn + 1} of {count}", flush=True)
        rates["trainer"].append(trainer_rate(1, epochs))
        rates["2 processes"].append(trainer_rate(2, epochs))
        if "2 ranks" in rates:
            rates["2 ranks"].append(ranks_rate(epochs))
    rows = []
    for name in rates:
        row = {"name": name, "samples_per_second": statistics.median(rates[name])}
        for base in ("bare step", "one-hot fit"):
            row["over " + base] = over(rates, name, base)
        rows.append(row)
    common.print_table(
        ("", "samples/s", "over bare step", "over one-hot fit"),
        [
            (
                row["name"],
                f"{row['samples_per_second']:,.0f}",
                f"{row['over bare step']:.2f}",
                f"{row['over one-hot fit']:.2f}",
            )
            for row in rows
        ],
    )
    return {"rates": rates, "rows": rows, "shown": shown()}
