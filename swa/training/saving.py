# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Callbacks that save the training: when it is time, and when a signal comes."""

import threading

import numpy as np
import tensorflow as tf

from swa.training import checkpoint


class Checkpoints(tf.keras.callbacks.Callback):
    """Keeps the training of each epoch's end, and saves it when it is time.

    Args:
      job: run.Job.
      start: resume.Start.
      folder: checkpoint.Folder.
      swa: the SWA callback; where a run goes on, it has loaded its state.
      figures: Figures.

    Attributes:
      saved_epoch: int, the epochs trained at the last save, or None.
    """

    def __init__(self, job, start, folder, swa, figures):
        super().__init__()
        self._job, self._settings, self._folder = job, start.settings, folder
        self._swa, self._figures = swa, figures
        self._latest = start.snapshot
        self.saved_epoch = start.epoch if start.snapshot else None
        self._lock = threading.Lock()  # the thread of `Stop` may save as well

    def on_train_begin(self, logs=None):
        self._job.clock.begin_training()
        self._variables = checkpoint.Variables(self.model)
        if self._latest is not None:
            self._variables.write(self._latest)
        else:
            self._keep(0)

    def on_epoch_end(self, epoch, logs=None):
        if not self._figures.has_diverged and self._swa.batch_norm_epoch is None:
            self._keep(epoch + 1)
            # more epochs can be added to what was saved before the batch-norm epoch
            is_last = epoch + 1 == self.params["epochs"] - 1
            interval = self._job.config.save_interval
            if is_last or interval > 0 and (epoch + 1) % interval == 0:
                self.save_latest()

    def on_train_end(self, logs=None):
        self._job.clock.end_training()

    def save_latest(self):
        """Saves the training as it was at the last epoch's end."""
        job = self._job
        with self._lock:
            if self.saved_epoch != self._latest.epoch:
                if job.ranks.is_writer:
                    run = {
                        "settings": self._settings,
                        "train_epochs": job.config.train_epochs,
                        "ranks": job.ranks.size,
                        **job.clock.seconds(),
                    }
                    self._folder.save(self._latest, run)
                self.saved_epoch = self._latest.epoch

    def weights(self):
        """The model's weights, list of arrays, by the call that reads them always."""
        return list(self._variables.read()[0].values())

    def _keep(self, trained):
        weights, optimizer = self._variables.read()
        arrays = [*weights.values(), *optimizer.values()]
        if not all(np.isfinite(array).all() for array in arrays):
            return  # the next epoch's loss is NaN too
        history = {name: list(v) for name, v in self._figures.history.items()}
        self._latest = checkpoint.Snapshot(
            trained, weights, optimizer, swa=self._swa.state, history=history
        )


class StopOnSignal(tf.keras.callbacks.Callback):
    """Saves and leaves when a signal has come.

    Args:
      stop: stopping.Stop.
      checkpoints: Checkpoints.
      ranks: Ranks; several leave after the same epoch.
    """

    def __init__(self, stop, checkpoints, ranks):
        super().__init__()
        self._stop, self._checkpoints, self._ranks = stop, checkpoints, ranks

    def on_train_begin(self, logs=None):
        self._stop.on_timeout = self.save

    def on_batch_end(self, batch, logs=None):
        """Leaves within the epoch; the checkpoint is that of its beginning."""
        if self._ranks.size == 1:  # several have to leave together
            self._leave_if_stopped()

    def on_epoch_end(self, epoch, logs=None):
        if self._ranks.size > 1:
            # the signal may have come to one of them only, or before and after its step
            numbers = self._ranks.gather(np.int64(self._stop.number or 0))
            self._stop.number = self._stop.number or int(numbers.max()) or None
        self._leave_if_stopped()

    def save(self):
        """Saves what was trained, and sets `saved_epoch` of the Stop."""
        self._checkpoints.save_latest()
        self._stop.saved_epoch = self._checkpoints.saved_epoch

    def _leave_if_stopped(self):
        if self._stop.number is not None:
            self.save()
            self._stop.check()
