# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The trainer's own callbacks, one duty each; `fit.fit` lists them in their order."""

import contextlib
import functools
import os
import threading
import time

import numpy as np
import tensorflow as tf

from swa.layers import batch_norms_of
from swa.training import checkpoint, console, output

TENSORBOARD = "tensorboard"  # the folder of its events
FIGURES = ("seconds", "losses", "accuracies", "learning_rates")

_Callback = tf.keras.callbacks.Callback
_backend = tf.compat.v1.keras.backend


class _OfRanks(_Callback):
    """What has to know the Ranks."""

    def __init__(self, ranks):
        super().__init__()
        self._ranks = ranks


class EqualRanks(_OfRanks):
    """What averaged gradients do not do: equal beginnings, and equal moving statistics.

    Args:
      ranks: Ranks.
    """

    def on_train_begin(self, logs=None):
        """Hands out rank 0's weights and optimizer state, before the first batch.

        Otherwise that step's gradients would be means over different weights.
        """
        model = self.model
        if not model.built:
            raise ValueError("model must be built before several ranks train it.")
        model._make_train_function()  # makes the optimizer's slots
        variables = model.weights + model.optimizer.weights
        values = self._ranks.broadcast(_backend.batch_get_value(variables))
        _backend.batch_set_value(list(zip(variables, values)))
        layers = [layer for layer in batch_norms_of(model) if layer.trainable]
        self._statistics = [layer.moving_mean for layer in layers]
        self._statistics += [layer.moving_variance for layer in layers]

    def on_epoch_end(self, epoch, logs=None):
        """Takes the means of the moving statistics, each rank's own till then.

        So whatever is averaged, saved or measured after an epoch is the same on all
        ranks, and a run that is resumed is the run that was not interrupted.
        """
        if self._statistics:
            totals = self._ranks.sum(_backend.batch_get_value(self._statistics))
            means = [total / total.dtype.type(self._ranks.size) for total in totals]
            _backend.batch_set_value(list(zip(self._statistics, means)))


class MeanOverRanks(_OfRanks):
    """Makes an epoch's loss and accuracy those of all ranks' rows.

    Args:
      ranks: Ranks.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._rows = 0

    def on_batch_end(self, batch, logs=None):
        self._rows += logs["size"]

    def on_epoch_end(self, epoch, logs=None):
        names = ["loss", _accuracy_name(logs)]
        means = self._ranks.mean([logs[name] for name in names], self._rows)
        logs.update(zip(names, means))


class Figures(_Callback):
    """Keeps each epoch's figures, and prints them on one plain line.

    Args:
      config: Config.
      swa: the SWA callback, which knows the rate without a session call.
      rows: int, trained on in an epoch by all ranks.
      is_printed: bool.

    Attributes:
      swa: the callback.
      history: dict of lists by the names FIGURES, a value for each epoch.
    """

    def __init__(self, config, swa, rows, is_printed):
        super().__init__()
        self._epochs, self._is_printed = config.train_epochs, is_printed
        self.swa, self._rows = swa, rows
        self.history = {name: [] for name in FIGURES}

    @property
    def has_diverged(self):
        """bool: whether the last loss is NaN or Inf."""
        return not np.isfinite(self.history["losses"][-1])

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        loss, accuracy, rate = logs["loss"], logs[_accuracy_name(logs)], self.swa.lr
        for name, value in zip(FIGURES, (seconds, loss, accuracy, rate)):
            self.history[name].append(value)
        if self._is_printed:
            speed = f"lr: {rate:.6g} - samples/s: {self._rows / seconds:.0f}"
            fitted = f"loss: {loss:.4f} - accuracy: {accuracy:.4f}"
            console.say(f"Epoch {epoch + 1}/{self._epochs} - {fitted} - {speed}")


class TensorBoard(_Callback):
    """Writes each epoch's figures for TensorBoard, with no operation in any graph.

    To be closed.

    Args:
      output_dir: str; the events go into its folder `tensorboard`.
      figures: Figures.
    """

    def __init__(self, output_dir, figures):
        super().__init__()
        self._folder = os.path.join(output_dir, TENSORBOARD)
        self._history = figures.history
        self._open = contextlib.ExitStack()

    def on_train_begin(self, logs=None):
        path = self._open.enter_context(output.TensorFlowPath(self._folder)).path
        writer = tf.compat.v1.summary.FileWriter(path)
        self._writer = self._open.enter_context(writer)
        # epochs that an earlier run wrote and this one trains again are left out
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        next_epoch = len(self._history["losses"]) + 1
        self._writer.add_session_log(start, global_step=next_epoch)

    def on_epoch_end(self, epoch, logs=None):
        names = {"loss": "losses", "accuracy": "accuracies", "rate": "learning_rates"}
        self._write({name: self._history[key][-1] for name, key in names.items()})

    def write_test(self, test):
        """Writes the held-out figures of both sets of weights.

        Args:
          test: {"sgd": {"loss": float, "accuracy": float}, "swa": the same}.
        """
        for name, figures in test.items():
            self._write({f"{name}_{figure}": one for figure, one in figures.items()})

    def close(self):
        """Closes the file of events."""
        self._open.close()

    def _write(self, values):
        summary = tf.compat.v1.Summary()
        for name, value in values.items():
            summary.value.add(tag=name, simple_value=value)
        self._writer.add_summary(summary, global_step=len(self._history["losses"]))
        self._writer.flush()


class StopOnDivergence(_Callback):
    """Ends the training after an epoch whose loss is NaN or Inf."""

    def on_epoch_end(self, epoch, logs=None):
        if not np.isfinite(logs["loss"]):
            self.model.stop_training = True


class Checkpoints(_Callback):
    """Keeps the training of each epoch's end, and saves it when it is time.

    Args:
      job: run.Job.
      start: resume.Start.
      folder: checkpoint.Folder.
      figures: Figures; where a run goes on, its SWA callback has loaded its state.

    Attributes:
      describe: function without arguments, what the run tells of itself by now.
      saved_epoch: int, the epochs trained at the last save, or None.
    """

    def __init__(self, job, start, folder, figures):
        super().__init__()
        self._folder, self._swa, self._history = folder, figures.swa, figures.history
        self.describe = functools.partial(start.describe, job, time.time())
        self._save_interval = job.config.save_interval
        self._latest = start.snapshot
        self._is_writer = job.ranks.is_writer
        self.saved_epoch = start.epoch if start.snapshot else None
        self._lock = threading.Lock()  # the thread of `Stop` may save as well

    def on_train_begin(self, logs=None):
        self._variables = checkpoint.Variables(self.model)
        if self._latest is not None:
            self._variables.write(self._latest)
        else:
            self._keep(0)

    def on_epoch_end(self, epoch, logs=None):
        if np.isfinite(logs["loss"]) and self._swa.batch_norm_epoch is None:
            self._keep(epoch + 1)
            if self._is_due(epoch + 1):
                self.save_latest()

    def save_latest(self):
        """Saves the training as it was at the last epoch's end."""
        with self._lock:
            if self.saved_epoch != self._latest.epoch:
                if self._is_writer:
                    self._folder.save(self._latest, self.describe())
                self.saved_epoch = self._latest.epoch

    def weights(self):
        """The model's weights, list of arrays, by the call that reads them always."""
        return list(self._variables.read()[0].values())

    def _is_due(self, trained):
        # the last before the batch-norm epoch is where more epochs can be added
        is_last = trained == self.params["epochs"] - 1
        return is_last or self._save_interval > 0 and trained % self._save_interval == 0

    def _keep(self, trained):
        weights, optimizer = self._variables.read()
        arrays = [*weights.values(), *optimizer.values()]
        if not all(np.isfinite(array).all() for array in arrays):
            return  # the next epoch's loss will tell
        history = {name: list(values) for name, values in self._history.items()}
        more = dict(swa=self._swa.state, history=history)
        self._latest = checkpoint.Snapshot(trained, weights, optimizer, **more)


class StopOnSignal(_OfRanks):
    """Saves and leaves when a signal has come.

    Args:
      stop: stopping.Stop.
      checkpoints: Checkpoints.
      ranks: Ranks; several leave after the same epoch.
    """

    def __init__(self, stop, checkpoints, ranks):
        super().__init__(ranks)
        self._stop, self._checkpoints = stop, checkpoints

    def on_train_begin(self, logs=None):
        self._stop.on_timeout = self.save

    def on_batch_end(self, batch, logs=None):
        """Leaves the epoch: its beginning is kept."""
        if self._ranks.size == 1:  # several have to leave together
            self._leave_if_stopped()

    def on_epoch_end(self, epoch, logs=None):
        if self._ranks.size > 1:
            # the signal may have come to one of them only, or before and after its step
            numbers = self._ranks.gather(np.int64(self._stop.number or 0))
            self._stop.number = self._stop.number or int(numbers.max()) or None
        self._leave_if_stopped()

    def save(self):
        """Saves what was trained, and notes it where the stop is told of."""
        self._checkpoints.save_latest()
        self._stop.saved_epoch = self._checkpoints.saved_epoch

    def _leave_if_stopped(self):
        if self._stop.number is not None:
            self.save()
            self._stop.check()


def _accuracy_name(logs):
    return "acc" if "acc" in logs else "accuracy"
