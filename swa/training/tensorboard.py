# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Figures for TensorBoard, written without an operation in any graph."""

import os

import tensorflow as tf

FOLDER = "tensorboard"


class Events(tf.keras.callbacks.Callback):
    """Writes each epoch's figures; comes after the log whose history it reads.

    Args:
      output_dir: str; the events go into its folder `tensorboard`.
      log: what has `history`, a dict of lists with a value for each epoch.
    """

    def __init__(self, output_dir, log):
        super().__init__()
        self._path = os.path.join(output_dir, FOLDER)
        self._log = log
        self._writer = None

    def on_train_begin(self, logs=None):
        self._writer = tf.compat.v1.summary.FileWriter(self._path)
        # epochs that an earlier run wrote and this one trains again are left out
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        trained = len(self._log.history["losses"])
        self._writer.add_session_log(start, global_step=trained + 1)

    def on_epoch_end(self, epoch, logs=None):
        history = self._log.history
        names = {"loss": "losses", "accuracy": "accuracies", "rate": "learning_rates"}
        self._write({name: history[names[name]][-1] for name in names}, epoch + 1)

    def write_test(self, test):
        """Writes the held-out figures of both sets of weights, and ends.

        Args:
          test: {"sgd": {"loss": float, "accuracy": float}, "swa": the same}.
        """
        values = {
            f"{name}_{figure}": value
            for name, figures in test.items()
            for figure, value in figures.items()
        }
        self._write(values, len(self._log.history["losses"]))
        self._writer.close()

    def _write(self, values, step):
        told = [
            tf.compat.v1.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
        self._writer.add_summary(tf.compat.v1.Summary(value=told), global_step=step)
        self._writer.flush()
