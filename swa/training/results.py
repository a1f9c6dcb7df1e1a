# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What a run leaves at its end: figures of both sets of weights, files, the report."""

import io
import os
import platform
import subprocess
import sys

import h5py
import numpy as np
import tensorflow as tf

import swa
from swa.training import checkpoint, files, network, output
from swa.training.evaluation import held_out_figures

# of a figure of figures.NAMES, the name of its last value
FINAL = {"losses": "loss", "accuracies": "accuracy", "learning_rates": "learning_rate"}


def finish(job, training):
    """Evaluates both sets of weights, and writes them and the report.

    After a loss of NaN or Inf there is the report alone.

    Args:
      job: run.Job.
      training: fit.Training.

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
    report = _report(job, training, test)
    if job.ranks.is_writer:
        path = os.path.join(job.config.output_dir, output.REPORT)
        files.write_json(path, report)
        job.say(f"report: {path}")
    return report


def evaluate(job, training):
    """Measures the trained and the averaged weights, and says what the figures mean.

    Returns:
      {"sgd": {"loss": float, "accuracy": float}, "swa": the same}, held-out figures.
    """

    def measured(name):
        size = job.config.batch_size
        figures = held_out_figures(training.model, job.data, size, job.ranks)
        loss, accuracy = f"{figures['loss']:.4f}", f"{figures['accuracy']:.4f}"
        job.say(f"{name} weights: test loss {loss}, test accuracy {accuracy}")
        return figures

    with training.swa.trained_weights():
        sgd = measured("SGD")
    swa_figures = measured("SWA")
    gains = {name: swa_figures[name] - sgd[name] for name in sgd}
    loss, accuracy = f"{gains['loss']:+.4f}", f"{gains['accuracy']:+.4f}"
    job.say(f"SWA minus SGD: test loss {loss}, test accuracy {accuracy}")
    job.say(
        "One seed is a check that everything runs, not evidence: see docs/results.md."
    )
    return {"sgd": sgd, "swa": swa_figures}


def save_weights(job, sets):
    """Writes sets of weights, and the whole Keras model of the averaged, on the host.

    `NAME.ckpt` can be loaded by variable name (a plain tf.train.Saver) and by
    `model.load_weights`.

    Args:
      job: run.Job.
      sets: dict, a list of arrays in `get_weights()` order by name; "swa" is the last.

    Raises:
      UserError: they cannot be written.
    """
    folder = os.path.join(job.config.output_dir, output.CHECKPOINTS)
    image = io.BytesIO()  # HDF5 may crash a process whose disk is full
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph):
        model = network.build(job.config, job.data.x.shape[1])
        with files.one_line_errors(folder, checkpoint.ERRORS):
            try:
                for name, weights in sets.items():
                    model.set_weights(weights)
                    arrays = _arrays_by_both_names(model, weights, folder)
                    path = os.path.join(folder, f"{name}.ckpt")
                    checkpoint.write_arrays(arrays, path)
            finally:
                files.remove(folder, *checkpoint.LEFT_BEHIND)
        with h5py.File(image, "w") as file:
            model.save(file)
    files.write(os.path.join(folder, "swa_model.h5"), image.getvalue())


def _arrays_by_both_names(model, weights, folder):
    """A model's arrays as `model.load_weights` looks for them, and by variable name."""
    scratch = os.path.join(folder, checkpoint.SCRATCH)
    with files.tensorflow_path(scratch) as path:
        model.save_weights(os.path.join(path, "weights"), save_format="tf")
    arrays = checkpoint.arrays_of(os.path.join(scratch, "weights"))
    arrays.update(zip([variable.op.name for variable in model.weights], weights))
    return arrays


def _check_equal(ranks, training, sets):
    """Refuses to end with results that differ, in any bit, between ranks."""
    names = [weight.op.name for weight in training.model.weights]
    arrays = dict(zip(names, sets["swa"]))
    arrays.update(zip([f"trained {name}" for name in names], sets["sgd"]))
    ranks.check_equal(arrays)


def _report(job, training, test):
    config, history, swa_callback = job.config, training.figures.history, training.swa
    rate, epochs = config.learning_rate, config.train_epochs
    plan = swa_callback.plan(epochs, 1, learning_rate=rate, batch_norm=True)
    compiled = {1, *plan.sampled_epochs[:1], swa_callback.batch_norm_epoch}
    speed, compile_seconds = rates(history["seconds"], training.rows, compiled)
    values = dict(config._asdict())
    for name in ("resume", "check", "typed"):  # how the result came about
        del values[name]
    return {
        "status": "diverged" if training.figures.has_diverged else "completed",
        "config": values,
        "device": job.device.name,
        "ranks": job.ranks.size,
        "epochs": len(history["losses"]),
        **job.clock.seconds(),
        "test": test,
        "n_averaged": swa_callback.n_averaged,
        "versions": versions(),
        "commit": commit(),
        "data": {"source": job.data.source, "sha256": job.data.sha256},
        "samples_per_second": speed,
        "compile_seconds": compile_seconds,
        **{f"epoch_{name}": history[name] for name in FINAL},
        **{f"final_{last}": history[name][-1] for name, last in FINAL.items()},
    }


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
    numbers = {n: getattr(m, "__version__", None) for n, m in modules.items()}
    return dict(numbers, python=platform.python_version())


def commit():
    """The commit of this checkout, or None where there is no checkout."""
    folder = os.path.dirname(os.path.abspath(swa.__file__))
    try:
        command = ["git", "-C", folder, "rev-parse", "HEAD"]
        line = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return line.decode().strip() or None
