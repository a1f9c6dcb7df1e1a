# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Saves the training: when it is time, and when a signal comes."""

import threading

import numpy as np
import tensorflow as tf

from swa.training import checkpoint


class Checkpoints(tf.keras.callbacks.Callback):
    """Keeps the training of each epoch's end; saves it when it is time, or on a signal.

    Args:
      job: resume.Job.
      stop: stopping.Stop, which learns what was saved.
      swa: the SWA callback; where a run goes on, it has loaded its state.
      figures: Figures.
    """

    def __init__(self, job, stop, swa, figures):
        super().__init__()
        self._job, self._stop, self._swa, self._figures = job, stop, swa, figures
        self._latest = self._saved = job.snapshot
        self._lock = threading.Lock()  # the thread of `Stop` may save as well

    def on_train_begin(self, logs=None):
        if self._latest is None:
            self._keep(0)
        else:
            checkpoint.write_variables(self.model, self._latest)
        self._stop.on_timeout = self.save_latest

    def on_batch_end(self, batch, logs=None):
        """Leaves within the epoch; the checkpoint is that of its beginning."""
        if self._job.ranks.size == 1:  # several have to leave together
            self._leave_if_stopped()

    def on_epoch_end(self, epoch, logs=None):
        if not self._figures.has_diverged and self._swa.batch_norm_epoch is None:
            self._keep(epoch + 1)
            # more epochs can be added to what was saved before the batch-norm epoch
            is_last = epoch + 1 == self.params["epochs"] - 1
            interval = self._job.config.save_interval
            if is_last or interval > 0 and (epoch + 1) % interval == 0:
                self.save_latest()
        # the signal may have come to one rank only, or before and after its step
        numbers = self._job.ranks.gather(np.int64(self._stop.number or 0))
        self._stop.number = self._stop.number or int(numbers.max()) or None
        self._leave_if_stopped()

    def save_latest(self):
        """Saves the training as it was at the last epoch's end, unless it is saved."""
        with self._lock:
            if self._saved is not self._latest:
                if self._job.ranks.is_writer:
                    self._job.folder.save(self._latest)
                self._saved = self._latest
            self._stop.saved_epoch = self._saved.epoch

    def _leave_if_stopped(self):
        if self._stop.number is not None:
            self.save_latest()
            self._stop.check()

    def _keep(self, trained):
        weights, optimizer = checkpoint.read_variables(self.model)
        arrays = [*weights.values(), *optimizer.values()]
        if not all(np.isfinite(array).all() for array in arrays):
            return  # the next epoch's loss is NaN too
        self._latest = checkpoint.Snapshot(
            epoch=trained,
            weights=weights,
            optimizer=optimizer,
            swa=self._swa.state,
            history={name: [*v] for name, v in self._figures.history.items()},
            run={
                "settings": self._job.settings,
                "ranks": self._job.ranks.size,
                "e2e_seconds": self._job.seconds(),
            },
        )
