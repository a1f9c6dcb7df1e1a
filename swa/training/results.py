# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What a run leaves at its end: figures of both sets of weights, files, the report."""

import io
import os
import platform
import subprocess
import sys
import tempfile

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
      job: resume.Job.
      training: fit.Training.

    Returns:
      dict, what `report.json` holds; `status` is "completed" or "diverged".

    Raises:
      UserError: a file cannot be written, or the ranks' weights differ.
    """
    test = None
    if not training.figures.has_diverged:
        with training.swa.trained_weights():
            trained, _ = checkpoint.read_variables(training.model)
        averaged, _ = checkpoint.read_variables(training.model)
        sets = {"sgd": trained, "swa": averaged}
        of_trained = {f"trained {name}": array for name, array in trained.items()}
        job.ranks.check_equal(dict(averaged, **of_trained))
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
        job.say(
            f"{name} weights: test loss {figures['loss']:.4f}, "
            f"test accuracy {figures['accuracy']:.4f}"
        )
        return figures

    with training.swa.trained_weights():
        sgd = measured("SGD")
    averaged = measured("SWA")
    loss, accuracy = [averaged[name] - sgd[name] for name in ("loss", "accuracy")]
    job.say(f"SWA minus SGD: test loss {loss:+.4f}, test accuracy {accuracy:+.4f}")
    job.say(
        "One seed is a check that everything runs, not evidence: see docs/results.md."
    )
    return {"sgd": sgd, "swa": averaged}


def save_weights(job, sets):
    """Writes sets of weights, and the whole Keras model of the averaged, on the host.

    `NAME.ckpt` can be loaded by variable name (a plain tf.train.Saver) and by
    `model.load_weights`.

    Args:
      job: resume.Job.
      sets: {"sgd": dict of arrays by variable name, "swa": the same}.

    Raises:
      UserError: they cannot be written.
    """
    folder = os.path.join(job.config.output_dir, output.CHECKPOINTS)
    image = io.BytesIO()  # HDF5 may crash a process whose disk is full
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph):
        model = network.build(job.config, job.data.x.shape[1])
        with files.one_line_errors(folder, checkpoint.ERRORS):
            for name, weights in sets.items():
                model.set_weights(list(weights.values()))
                arrays = dict(_arrays_for_load_weights(model, folder), **weights)
                path = os.path.join(folder, f"{name}.ckpt")
                checkpoint.write_arrays(arrays, path)
        with h5py.File(image, "w") as file:
            model.save(file)
    files.write(os.path.join(folder, "swa_model.h5"), image.getvalue())


def _arrays_for_load_weights(model, folder):
    """A model's arrays by the names that `model.load_weights` looks for.

    They are written below `folder`, because a run needs no other place to write.
    """
    with files.tensorflow_path(folder) as place:
        with tempfile.TemporaryDirectory(suffix=files.TEMPORARY, dir=place) as scratch:
            path = os.path.join(scratch, "weights")
            model.save_weights(path, save_format="tf")
            return checkpoint.arrays_of(path)


def _report(job, training, test):
    history = training.figures.history
    compiled = _compiled_epochs(job.config, training.swa)
    speed, compile_seconds = rates(history["seconds"], training.rows, compiled)
    values = dict(job.config._asdict())
    for name in ("resume", "check", "typed"):  # how the result came about
        del values[name]
    return {
        "status": "diverged" if training.figures.has_diverged else "completed",
        "config": values,
        "device": job.device.name,
        "ranks": job.ranks.size,
        "epochs": len(history["losses"]),
        "train_seconds": sum(history["seconds"]),
        "e2e_seconds": job.seconds(),
        "test": test,
        "n_averaged": training.swa.n_averaged,
        "versions": versions(),
        "commit": commit(),
        "data": {"source": job.data.source, "sha256": job.data.sha256},
        "samples_per_second": speed,
        "compile_seconds": compile_seconds,
        **{f"epoch_{name}": history[name] for name in FINAL},
        **{f"final_{last}": history[name][-1] for name, last in FINAL.items()},
    }


def _compiled_epochs(config, swa_callback):
    """The epochs that build or compile something, counted from one."""
    rate = config.learning_rate
    plan = swa_callback.plan(
        config.train_epochs, 1, learning_rate=rate, batch_norm=True
    )
    return {1, *plan.sampled_epochs[:1], swa_callback.batch_norm_epoch}


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
    return {
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "swa": swa.__version__,
        "npu_bridge": getattr(sys.modules.get("npu_bridge"), "__version__", None),
        "python": platform.python_version(),
    }


def commit():
    """The commit of this checkout, or None where there is no checkout."""
    folder = os.path.dirname(os.path.abspath(swa.__file__))
    try:
        command = ["git", "-C", folder, "rev-parse", "HEAD"]
        line = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return line.decode().strip()
