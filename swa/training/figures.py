# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The figures of each epoch: kept, printed, drawn, and whether they are numbers."""

import contextlib
import os
import time

import numpy as np
import tensorflow as tf

from swa.training import checkpoint, console, files, output

NAMES = ("seconds", "losses", "accuracies", "learning_rates")


class Figures(tf.keras.callbacks.Callback):
    """Keeps each epoch's figures, prints them on one plain line, and judges them.

    After a loss of NaN or Inf it ends the training.

    Args:
      job: resume.Job; its ranks train on equally many rows each.
      swa: the SWA callback, which knows the rate without a session call.
      rows: int, trained on in an epoch by all ranks.

    Attributes:
      history: dict of lists by the names NAMES, a value for each epoch.
    """

    def __init__(self, job, swa, rows):
        super().__init__()
        self._job, self._swa, self._rows = job, swa, rows
        earlier = job.snapshot.history if job.snapshot else dict.fromkeys(NAMES, ())
        self.history = {name: [*earlier[name]] for name in NAMES}

    @property
    def has_diverged(self):
        """bool: whether the last loss is NaN or Inf."""
        return not np.isfinite(self.history["losses"][-1:]).all()

    def on_train_begin(self, logs=None):
        self._last = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        loss, accuracy = self._job.ranks.mean([logs["loss"], logs["acc"]])
        rate = self._swa.lr
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        for name, value in zip(NAMES, (seconds, loss, accuracy, rate)):
            self.history[name].append(value)
        if not console.is_terminal():
            self._job.say(
                f"Epoch {epoch + 1}/{self._job.config.train_epochs} - "
                f"loss: {loss:.4f} - accuracy: {accuracy:.4f} - lr: {rate:.6g} - "
                f"samples/s: {self._rows / seconds:.0f}"
            )
        if self.has_diverged:
            self.model.stop_training = True
            console.say_apart(f"epoch {epoch + 1}: the loss is {loss}; stopped.")


class TensorBoard(tf.keras.callbacks.Callback):
    """Writes each epoch's figures for TensorBoard, with no operation in any graph.

    To be closed.

    Args:
      output_dir: str; the events go into its folder `tensorboard`.
      figures: Figures.
    """

    def __init__(self, output_dir, figures):
        super().__init__()
        self._folder = os.path.join(output_dir, output.TENSORBOARD)
        self._history = figures.history
        self._open = contextlib.ExitStack()

    def on_train_begin(self, logs=None):
        # TensorFlow's FileWriter writes in a thread, which dies of a full disk
        name = f"events.out.tfevents.{time.time():.6f}"
        with files.one_line_errors(self._folder, checkpoint.ERRORS):
            path = self._open.enter_context(files.tensorflow_path(self._folder))
            self._writer = tf.io.TFRecordWriter(os.path.join(path, name))
            self._open.callback(self._writer.close)
        self._add(0, file_version="brain.Event:2")
        # epochs that an earlier run wrote and this one trains again are left out
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._add(len(self._history["losses"]) + 1, session_log=start)

    def on_epoch_end(self, epoch, logs=None):
        names = {"loss": "losses", "accuracy": "accuracies", "rate": "learning_rates"}
        self._write({name: self._history[key][-1] for name, key in names.items()})

    def write_test(self, test):
        """Writes the held-out figures of both sets of weights.

        Args:
          test: {"sgd": {"loss": float, "accuracy": float}, "swa": the same}.
        """
        for weights, figures in test.items():
            self._write({f"{weights}_{name}": figures[name] for name in figures})

    def close(self):
        """Closes the file of events."""
        with files.one_line_errors(self._folder, checkpoint.ERRORS):
            self._open.close()

    def _write(self, values):
        summary = tf.compat.v1.Summary()
        for name, value in values.items():
            summary.value.add(tag=name, simple_value=value)
        self._add(len(self._history["losses"]), summary=summary)

    def _add(self, step, **content):
        event = tf.compat.v1.Event(wall_time=time.time(), step=step, **content)
        with files.one_line_errors(self._folder, checkpoint.ERRORS):
            self._writer.write(event.SerializeToString())
            self._writer.flush()
