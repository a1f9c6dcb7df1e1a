# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One run of `quality`: a task, an arm, its settings, a seed; and many of them."""

import functools
import multiprocessing.pool
import tempfile
import time
from typing import NamedTuple

import numpy as np

from benchmarks import common, mlp, tasks

PEER_ARM = "keras-swa constant"
PROCESSES = 2  # at once, of one thread each: nothing here is timed
JOBS_EACH = 18  # of a process, at most
FIGURES = ("accuracy", "loss", "calibration_error")


class Job(NamedTuple):
    """What one run is made of, as JSON can hold it."""

    task: list  # of a tasks.Task
    arm: str
    rate: float  # that the model is compiled with
    decay: float
    seed: int
    part: str = "test"  # or "validation": the rows that judge


def many(jobs, title, peer_folder=None):
    """A row of figures for each job, in their order, done by PROCESSES at once."""
    work = functools.partial(in_processes, peer_folder)
    peer = [job for job in jobs if job.arm == PEER_ARM]
    own = [job for job in jobs if job.arm != PEER_ARM]
    each = min(JOBS_EACH, -(-len(jobs) // PROCESSES))
    chunks = [
        some[i : i + each] for some in (own, peer) for i in range(0, len(some), each)
    ]
    rows, start = {}, time.monotonic()
    with multiprocessing.pool.ThreadPool(PROCESSES) as pool:
        for chunk, found in pool.imap_unordered(work, chunks):
            rows.update(zip(chunk, found))
            left = (time.monotonic() - start) * (len(jobs) / len(rows) - 1) / 60
            told = f"{len(rows)} of {len(jobs)} runs, about {left:.1f} minutes to go"
            print(f"  {title}: {told}", flush=True)
    return [rows[job] for job in jobs]


def in_processes(peer_folder, jobs):
    """(jobs, rows) of jobs of one package.

    keras-swa's process cannot see our `update_bn`: its weights are judged in ours.
    """
    if jobs[0].arm != PEER_ARM:
        spec = {"jobs": jobs}
        return jobs, common.in_process("training.work", spec, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        spec = {"jobs": jobs, "folder": folder}
        rows = common.in_process("training.work", spec, peer_folder, 1)
        exact = common.in_process("training.judge_work", spec, threads=1)
        for row, figures in zip(rows, exact):
            row.update(figures)
    return jobs, rows


def work(jobs, folder=None):
    """A row for each job; the weights go into `folder` if it is given."""
    data, rows = {}, []
    for index, job in enumerate(loaded(jobs, data)):
        model, row = trained(job, data[job.task.data])
        if folder is not None:
            np.savez(f"{folder}/{index}.npz", *model.get_weights())
        rows.append(row)
    return rows


def judge_work(jobs, folder):
    """The figures with exact statistics of the weights that `work` has kept."""
    data, rows = {}, []
    for index, job in enumerate(loaded(jobs, data)):
        parts = data[job.task.data]
        model = compiled(fresh(job.seed), job, parts["train"].x)
        with np.load(f"{folder}/{index}.npz") as kept:
            model.set_weights([kept[f"arr_{i}"] for i in range(len(kept.files))])
        rows.append(judged(model, job, parts))
    return rows


def loaded(jobs, data):
    """The jobs that JSON brought; `data` gets the rows of each before it is told."""
    for job in jobs:
        job = Job(*job)
        job = job._replace(task=tasks.Task(*job.task))
        if job.task.data not in data:
            data[job.task.data] = tasks.load(job.task.data)
        yield job


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


def compiled(keras, job, x):
    """The job's model; equal seeds have equal first weights."""
    model = tasks.network(keras, job.task, x.shape[1:], job.decay)
    optimizer = keras.optimizers.SGD(job.rate, momentum=tasks.MOMENTUM)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def trained(job, data, watch=()):
    """(model, row): one run, judged with Keras's own statistics and exact ones.

    Args:
      job: Job with a tasks.Task.
      data: as `tasks.load` gives it.
      watch: further callbacks.
    """
    keras, train = fresh(job.seed), data["train"]
    model = compiled(keras, job, train.x)
    epochs = epochs_of(job)
    callback = sgd(keras, job) if job.arm == "sgd" else swa(job)
    model.fit(
        *train,
        batch_size=job.task.batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[callback, *watch],
    )
    row = {f"own_{kind}": v for kind, v in figures(model, data[job.part]).items()}
    if job.arm != PEER_ARM:
        row.update(judged(model, job, data))
    return model, row


def epochs_of(job):
    """One arm has three quarters of the epochs."""
    is_short = job.arm == "swa three quarters"
    return job.task.epochs * 3 // 4 if is_short else job.task.epochs


def sgd(keras, job):
    """The paper's rate: held to half, linear to a hundredth at nine tenths."""

    def rate(epoch):
        t = epoch / job.task.epochs
        return job.rate * min(1, max(0.01, 1 - 0.99 * (t - 0.5) / 0.4))

    return keras.callbacks.LearningRateScheduler(rate)


def swa(job):
    """What makes the arm, from three quarters of its epochs on."""
    from swa.tfkeras import SWA

    start, batch_size = epochs_of(job) * 3 // 4, job.task.batch_size
    rate = job.rate
    if job.arm == PEER_ARM:
        rate *= 0.9999  # it takes the compiled rate, rounded, for lower than itself
    elif job.arm == "swa auto":
        rate = "auto"
    elif job.arm == "swa cyclic":
        rates = {"swa_lr": rate / 10, "swa_lr2": rate, "swa_freq": 3}
        return SWA(start, "cyclic", snapshot="cycle_end", **rates)
    return SWA(start, "constant", swa_lr=rate, swa_freq=1, batch_size=batch_size)


def judged(model, job, data):
    """The figures with the exact statistics of all training rows."""
    from swa.tfkeras import update_bn

    update_bn(model, data["train"].x, batch_size=job.task.batch_size)
    row = figures(model, data[job.part])
    if job.part == "test" and "more" in data:
        row["more_accuracy"] = figures(model, data["more"])["accuracy"]
        if job.task.network == "mlp" and job.arm in ("sgd", "swa constant"):
            parts = data["train"], data["test"]
            row["rise"] = mlp.rise(model.get_weights(), *parts)
    return row


def figures(model, rows):
    """Accuracy, cross entropy without the decay's penalty, calibration error."""
    predicted = model.predict(rows.x, batch_size=1000).astype(np.float64)
    of_right = np.maximum(predicted[np.arange(len(rows.y)), rows.y], 1e-7)
    return {
        "accuracy": float(np.mean(predicted.argmax(axis=1) == rows.y)),
        "loss": float(-np.mean(np.log(of_right))),
        "calibration_error": calibration_error(predicted, rows.y),
    }


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
