# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What a run leaves at its end: figures of both sets of weights, files, the report."""

import io
import json
import os
import platform
import subprocess
import sys

import h5py
import numpy as np
import tensorflow as tf

import swa
from swa.training import checkpoint, output
from swa.training import model as network

REPORT = "report.json"
# of a figure of callbacks.FIGURES, the name of its last value
FINAL = {"losses": "loss", "accuracies": "accuracy", "learning_rates": "learning_rate"}


def finish(job, training, train_seconds):
    """Evaluates both sets of weights, and writes them and the report.

    After a loss of NaN or Inf there is the report alone.

    Args:
      job: run.Job.
      training: fit.Training.
      train_seconds: float.

    Returns:
      dict, what `report.json` holds; `status` is "completed" or "diverged".

    Raises:
      UserError: a file cannot be written, or the ranks' weights differ.
    """
    test = None
    if not training.figures.has_diverged:
        with training.swa.trained_weights():
            trained = training.checkpoints.weights()
        sets = {"sgd": trained, "swa": training.checkpoints.weights()}
        if job.ranks.size > 1:
            _check_equal(job.ranks, training, sets)
        test = evaluate(job, training)
        if job.ranks.is_writer:
            save_weights(job, sets)
        for tensorboard in training.tensorboard:
            tensorboard.write_test(test)
    report = _report(job, training, train_seconds, test=test)
    if job.ranks.is_writer:
        path = report_path(job.config)
        write_json(path, report)
        job.say(f"report: {path}")
    return report


def report_path(config):
    """The path of the report."""
    return os.path.join(config.output_dir, REPORT)


def evaluate(job, training):
    """Held-out loss and accuracy of the trained and of the averaged weights.

    Each rank measures its part of the rows; the figures are those of all. A rank
    without rows measures one that does not count: all ranks run the same graphs.

    Returns:
      {"sgd": {"loss": float, "accuracy": float}, "swa": the same}.
    """
    ranks, data = job.ranks, job.data
    least = len(data.x_test) // ranks.size  # rows of the rank that has fewest
    batch_size = max(1, min(job.config.batch_size // ranks.size, least))
    count = len(data.x_test[ranks.rank :: ranks.size])
    if job.device.drops_last_batch:
        count -= count % batch_size
    end = ranks.rank + count * ranks.size
    rows = slice(ranks.rank, end, ranks.size) if count else slice(1)
    x_test, y_test = data.x_test[rows], data.y_test[rows]

    def measured(name):
        values = training.model.evaluate(x_test, y_test, batch_size, verbose=0)
        loss, accuracy = ranks.mean(values, count)
        job.say(f"{name} weights: test loss {loss:.4f}, test accuracy {accuracy:.4f}")
        return {"loss": loss, "accuracy": accuracy}

    with training.swa.trained_weights():
        trained = measured("SGD")
    return {"sgd": trained, "swa": measured("SWA")}


def save_weights(job, sets):
    """Writes sets of weights, and the whole Keras model of the last, on the host.

    `NAME.ckpt` can be loaded by variable name (a plain tf.train.Saver) and by
    `model.load_weights`.

    Args:
      job: run.Job.
      sets: dict, a list of arrays in `get_weights()` order by name.

    Raises:
      UserError: they cannot be written.
    """
    folder = os.path.join(job.config.output_dir, checkpoint.FOLDER)
    image = io.BytesIO()  # HDF5 may crash a process whose disk is full
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph):
        model = network.build(job.config, job.data.x.shape[1])
        with output.one_line_errors(folder, checkpoint.ERRORS):
            with output.TensorFlowPath(folder) as place:
                try:
                    _save_sets(model, sets, place.path)
                finally:
                    output.remove(folder, *checkpoint.LEFT_BEHIND)
        with h5py.File(image, "w") as file:
            model.save(file)
    output.write(os.path.join(folder, f"{list(sets)[-1]}_model.h5"), image.getvalue())


def _save_sets(model, sets, path):
    names = [variable.op.name for variable in model.weights]
    values = {}
    for name, weights in sets.items():
        model.set_weights(weights)
        # what `model.load_weights` looks for
        scratch = os.path.join(path, checkpoint.SCRATCH, "weights")
        model.save_weights(scratch, save_format="tf")
        values[name] = {**checkpoint.arrays_of(scratch), **dict(zip(names, weights))}
    (first, *_) = values.values()  # all have the same names and shapes
    with checkpoint.HostGraph(first) as host:
        for name, arrays in values.items():
            host.save(arrays, os.path.join(path, name + ".ckpt"))


def _check_equal(ranks, training, sets):
    """Refuses to end with results that differ, in any bit, between ranks."""
    named = {"": sets["swa"], "trained ": sets["sgd"]}
    if training.swa.n_averaged:
        named["averaged "] = training.swa.averaged_weights
    names = [weight.op.name for weight in training.model.weights]
    arrays = {}
    for kind, values in named.items():
        arrays.update(zip([kind + name for name in names], values))
    ranks.check_equal(arrays)


def _report(job, training, train_seconds, test):
    config, history, swa_callback = job.config, training.figures.history, training.swa
    rate, epochs = config.learning_rate, config.train_epochs
    plan = swa_callback.plan(epochs, 1, learning_rate=rate, batch_norm=True)
    compiled = {1, *plan.sampled_epochs[:1], swa_callback.batch_norm_epoch}
    speed, compile_seconds = rates(history["seconds"], training.rows, compiled)
    settings = dict(config._asdict())
    for name in ("resume", "check", "typed"):  # how the result came about
        del settings[name]
    return {
        "status": "diverged" if training.figures.has_diverged else "completed",
        "config": settings,
        "device": job.device.name,
        "ranks": job.ranks.size,
        "epochs": len(history["losses"]),
        "train_seconds": train_seconds,
        "e2e_seconds": training.checkpoints.describe()["e2e_seconds"],
        "test": test,
        "n_averaged": swa_callback.n_averaged,
        "versions": versions(),
        "commit": commit(),
        "data": {"source": job.data.source, "sha256": job.data.sha256},
        "samples_per_second": speed,
        "compile_seconds": compile_seconds,
        **{f"epoch_{name}": history[name] for name in FINAL},
        **{f"final_{one}": history[name][-1] for name, one in FINAL.items()},
    }


def write_json(path, values):
    """Writes `values` as JSON to `path`; the file appears whole or not at all.

    NaN and Inf, which JSON has not, become null.

    Raises:
      UserError: it cannot be written; an earlier one stays.
    """
    finite = json.loads(json.dumps(values), parse_constant=lambda name: None)
    text = json.dumps(finite, indent=2, sort_keys=True) + "\n"
    output.write(path, text.encode())


def rates(seconds, samples, compiled_epochs):
    """The speed of training from the wall seconds of each epoch.

    samples_per_second = median of samples / seconds over the epochs of training
    without those that build or compile something; over all where that leaves none.
    compile_seconds = the first epoch's seconds above the median of those epochs.

    Args:
      seconds: list of float, one per epoch.
      samples: int, rows trained on in each epoch.
      compiled_epochs: set of int counted from one: the first, the first with a
        sample and the batch-norm epoch.

    Returns:
      (samples_per_second, compile_seconds).
    """
    steady = [s for epoch, s in enumerate(seconds, 1) if epoch not in compiled_epochs]
    usual = float(np.median(steady or seconds))
    return samples / usual, max(0.0, seconds[0] - usual)


def versions():
    """dict: what ran. `npu_bridge` is None where there is none."""
    adapter = sys.modules.get("npu_bridge")
    modules = {"tensorflow": tf, "numpy": np, "swa": swa, "npu_bridge": adapter}
    found = {name: getattr(one, "__version__", None) for name, one in modules.items()}
    return dict(found, python=platform.python_version())


def commit():
    """The commit of this checkout, or None where there is none to be told."""
    folder = os.path.dirname(os.path.abspath(swa.__file__))
    try:
        command = ["git", "-C", folder, "rev-parse", "HEAD"]
        told = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.decode().strip() or None
