# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""One run of `quality`: a task, an arm, its settings, a seed; and many of them."""

import functools
import multiprocessing.pool
import tempfile
import time
from typing import NamedTuple

import numpy as np

from benchmarks import arms, common, tasks

PROCESSES = 2  # at once, of one thread each: nothing here is timed
JOBS_EACH = 24  # of a process, at most
FIGURES = ("accuracy", "loss", "calibration_error")


class Job(NamedTuple):
    """What one run is made of, as JSON can hold it."""

    task: tasks.Task
    arm: str  # of arms.ARMS
    settings: dict  # of the arm: {"rate": ..., "decay": ..., ...}
    seed: int
    part: str = "test"  # or "validation": the rows that judge
    budget: float = 1.0  # times the task's epochs

    @classmethod
    def from_json(cls, values):
        job = cls(*values)
        return job._replace(task=tasks.Task(*job.task))


def at_once(calls):
    """What each call of `common.in_process` returns, PROCESSES of them at once.

    Args:
      calls: list of tuples of its arguments.
    """
    with multiprocessing.pool.ThreadPool(PROCESSES) as pool:
        return pool.starmap(common.in_process, calls)


def many(jobs, title, peer_folder=None):
    """A row of figures for each job, in their order, PROCESSES at once."""
    work = functools.partial(in_process, jobs, peer_folder)
    for name in {job.task.data for job in jobs}:
        tasks.saved(name)  # before the threads, each of which would make it
    chunks = []
    for is_peer in (False, True):
        own = [i for i, job in enumerate(jobs) if (job.arm == arms.PEER) == is_peer]
        size = max(1, min(JOBS_EACH, -(-len(own) // PROCESSES)))
        chunks += [own[i : i + size] for i in range(0, len(own), size)]
    rows, start = {}, time.monotonic()
    with multiprocessing.pool.ThreadPool(PROCESSES) as pool:
        for indexes, figures in pool.imap_unordered(work, chunks):
            rows.update(zip(indexes, figures))
            left = (time.monotonic() - start) * (len(jobs) / len(rows) - 1) / 60
            progress = f"{len(rows)} of {len(jobs)} runs"
            print(f"  {title}: {progress}, about {left:.1f} minutes to go", flush=True)
    return [rows[index] for index in range(len(jobs))]


def in_process(jobs, peer_folder, indexes):
    """(indexes, rows) of some jobs, all of keras-swa or none.

    keras-swa's process cannot see our `update_bn`: its weights are judged in ours.
    """
    chunk = [jobs[index] for index in indexes]
    paths = {job.task.data: tasks.saved(job.task.data) for job in chunk}
    spec = {"jobs": chunk, "paths": paths}
    if chunk[0].arm != arms.PEER:
        return indexes, common.in_process("training.work", spec, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        spec["folder"] = folder
        rows = common.in_process("training.work", spec, peer_folder, 1)
        exact = common.in_process("training.judge_work", spec, threads=1)
        for row, figures_of_row in zip(rows, exact):
            row.update(figures_of_row)
    return indexes, rows


def work(jobs, paths, folder=None):
    """A row for each job; the weights go into `folder` if it is given.

    Args:
      jobs: Jobs as JSON has them.
      paths: {name of a data set: its file}, of `tasks.saved`.
    """
    rows = []
    for index, (job, data) in enumerate(loaded(jobs, paths)):
        model, row = trained(job, data)
        if folder is not None:
            np.savez(f"{folder}/{index}.npz", *model.get_weights())
        rows.append(row)
    return rows


def judge_work(jobs, paths, folder):
    """The figures with exact statistics of the weights that `work` has kept."""
    rows = []
    for index, (job, data) in enumerate(loaded(jobs, paths)):
        model = compiled(fresh(job.seed), job, data["train"].x)
        with np.load(f"{folder}/{index}.npz") as kept:
            model.set_weights([kept[f"arr_{i}"] for i in range(len(kept.files))])
        rows.append(judged(model, job, data))
    return rows


def loaded(jobs, paths):
    """(job, rows) of each job that came as JSON."""
    data = {name: tasks.read(path) for name, path in paths.items()}
    for job in map(Job.from_json, jobs):
        yield job, data[job.task.data]


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
    rate, decay = job.settings["rate"], job.settings["decay"]
    model = tasks.network(keras, job.task, x.shape[1:], decay)
    optimizer = keras.optimizers.SGD(rate, momentum=tasks.MOMENTUM)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def trained(job, data, watch=()):
    """(model, row): one run, judged with Keras's own statistics and exact ones.

    Args:
      job: Job.
      data: as `tasks.load` gives it.
      watch: further callbacks.
    """
    keras, train = fresh(job.seed), data["train"]
    model = compiled(keras, job, train.x)
    model.fit(
        *train,
        batch_size=job.task.batch_size,
        epochs=arms.epochs_of(job),
        verbose=0,
        callbacks=[arms.callback(keras, job), *watch],
    )
    row = {f"own_{kind}": v for kind, v in figures(model, data[job.part]).items()}
    if job.arm != arms.PEER:
        row.update(judged(model, job, data))
    return model, row


def judged(model, job, data):
    """The figures with the exact statistics of all training rows."""
    from swa.tfkeras import update_bn

    update_bn(model, data["train"].x, batch_size=500)
    return figures(model, data[job.part])


def figures(model, rows):
    """Accuracy, cross entropy without the decay's penalty, calibration error."""
    predicted = model.predict(rows.x, batch_size=1000).astype(np.float64)
    of_right = predicted[np.arange(len(rows.y)), rows.y]
    # a run that diverged predicts NaN: it has the loss of the least probability
    of_right = np.maximum(np.nan_to_num(of_right), 1e-7)
    return {
        "accuracy": float(np.mean(predicted.argmax(axis=1) == rows.y)),
        "loss": float(-np.mean(np.log(of_right))),
        "calibration_error": calibration_error(np.nan_to_num(predicted), rows.y),
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
