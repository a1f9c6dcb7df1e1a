# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Each epoch's figures: kept for the report, printed where no bar is drawn."""

import time

import numpy as np
import tensorflow as tf

from swa.training import ranks


class EpochLog(tf.keras.callbacks.Callback):
    """Keeps each epoch's figures, those of all ranks together.

    Off a terminal it prints them on one plain line.
    """

    def __init__(self, epochs, is_terminal, swa, joined):
        super().__init__()
        self._swa = swa  # knows the rate without a session call
        self._joined = joined
        self._epochs = epochs
        self._is_terminal = is_terminal
        names = ("seconds", "losses", "accuracies", "learning_rates")
        self.history = {name: [] for name in names}  # a value for each epoch

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._rows = 0

    def on_batch_end(self, batch, logs=None):
        self._rows += logs["size"]

    def on_epoch_end(self, epoch, logs=None):
        accuracy = logs["acc" if "acc" in logs else "accuracy"]
        loss, accuracy = ranks.mean(self._joined, [logs["loss"], accuracy], self._rows)
        logs["loss"] = loss  # for those after this one: all ranks decide alike
        now = time.perf_counter()
        told = {
            "seconds": now - self._last,
            "losses": loss,
            "accuracies": accuracy,
            "learning_rates": self._swa.lr,
        }
        self._last = now
        for name, value in told.items():
            self.history[name].append(value)
        if not np.isfinite(told["losses"]):
            self.model.stop_training = True
        if not self._is_terminal:
            print(
                f"Epoch {epoch + 1}/{self._epochs} - loss: {told['losses']:.4f} - "
                f"accuracy: {told['accuracies']:.4f} - "
                f"lr: {told['learning_rates']:.6g} - "
                f"samples/s: {self._joined.size * self._rows / told['seconds']:.0f}",
                flush=True,
            )
