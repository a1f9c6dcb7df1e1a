# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Checkpoints: written while training, found again, and the weights of the end.

At the end of each epoch the training's variables are read in one call. What is
written goes through a graph of its own on the host, by TensorFlow's Saver: the graph
that trains, which a device may have compiled, gets no operation for it.
"""

import io
import json
import os
import re
import threading
from typing import NamedTuple

import h5py
import numpy as np
import tensorflow as tf

from swa.training import output, ranks
from swa.training.config import InputError

FORMAT = 1
FOLDER = "ckpt"
NAME = "model.ckpt"
META = "swa/training"  # JSON: all that is no array
AVERAGE = "swa/average/"  # and the weight's name
_FILE = re.compile(re.escape(NAME) + r"-(\d+)\.(index|data-\d+-of-\d+)$")
_SCRATCH = ".scratch"
_LEFT_BEHIND = ("*.tempstate*", "checkpoint.tmp*", "*" + output.TEMPORARY, _SCRATCH)
_ERRORS = (OSError, tf.errors.OpError)


class Snapshot(NamedTuple):
    """A training between two epochs."""

    epoch: int  # epochs trained
    weights: dict  # arrays by variable name, in `get_weights()` order
    optimizer: dict  # arrays by variable name: iterations and slots
    swa: dict  # as SWA.state gives it
    history: dict  # lists by name, one value for each epoch


class Found(NamedTuple):
    """A checkpoint that was read."""

    path: str
    snapshot: Snapshot
    run: dict  # what the run told of itself: settings, train_epochs, seconds


class Folder:
    """The folder `ckpt/` of an output directory: the only place that writes there.

    Args:
      output_dir: str.
      max_to_keep: int, checkpoints kept while training.
    """

    def __init__(self, output_dir, max_to_keep):
        self.path = os.path.join(output_dir, FOLDER)
        self._max_to_keep = max_to_keep
        self._host = None  # a HostGraph, made with the first save
        self._kept = []  # paths of earlier checkpoints, oldest first

    def clear(self):
        """Removes an earlier run's checkpoints."""
        output.remove(os.path.dirname(self.path), FOLDER)

    def clean(self):
        """Removes what writes that were cut off have left."""
        output.remove(self.path, *_LEFT_BEHIND)

    def find(self, warn):
        """The newest checkpoint that can be read whole.

        Args:
          warn: function of a line, told of each that cannot.

        Returns:
          Found, or None where there is no checkpoint at all.

        Raises:
          InputError: there are checkpoints, and none can be read.
        """
        files = self._files()
        epochs = sorted(files, reverse=True)
        for place, epoch in enumerate(epochs):
            path = os.path.join(self.path, f"{NAME}-{epoch}")
            try:
                found = _read(path)
            except _BadCheckpoint as error:
                warn(f"warning: {path} cannot be used: {error}")
                continue
            whole = [e for e in epochs[place:] if len(files[e]) > 1]
            self._kept = [os.path.join(self.path, f"{NAME}-{e}") for e in whole[::-1]]
            return found
        if epochs:
            raise InputError(
                f"resume needs a checkpoint that can be read, and none of the "
                f"{len(epochs)} in {self.path} can. Start anew without --resume, which "
                f"removes them."
            )
        return None

    def save(self, snapshot, run):
        """Writes a checkpoint; the oldest above max_to_keep goes.

        Args:
          snapshot: Snapshot.
          run: dict of plain values, given back by `find`.

        Raises:
          OutputError: it cannot be written; the earlier ones stay.
        """
        values = _values(snapshot, run)
        path = os.path.join(self.path, NAME)
        advice = " Earlier checkpoints are whole: make room, then use --resume."
        with output.one_line_errors(f"{path}-{snapshot.epoch}", _ERRORS, advice):
            try:
                os.makedirs(self.path, exist_ok=True)
                if self._host is None:
                    self._host = HostGraph(values, self._max_to_keep)
                    self._host.saver.recover_last_checkpoints(self._kept)
                self._host.save(values, path, snapshot.epoch)
            except BaseException:
                output.remove(self.path, f"{NAME}-{snapshot.epoch}.*")
                self.clean()
                raise
        self._remove_superseded()

    def save_weights(self, model, sets):
        """Writes the weights of the end, and the whole Keras model of the last set.

        `NAME.ckpt` can be loaded by variable name (a plain tf.train.Saver) and by
        `model.load_weights`.

        Args:
          model: a model of the host, of the same architecture and variable names.
          sets: dict, a list of arrays in `get_weights()` order by name.

        Raises:
          OutputError: they cannot be written.
        """
        with output.one_line_errors(self.path, _ERRORS):
            os.makedirs(self.path, exist_ok=True)
            host = None
            try:
                for name, weights in sets.items():
                    model.set_weights(weights)
                    values = self._object_based(model)
                    values.update(
                        (variable.op.name, array)
                        for variable, array in zip(model.weights, weights)
                    )
                    host = host or HostGraph(values)
                    host.save(values, os.path.join(self.path, name + ".ckpt"))
            finally:
                if host is not None:
                    host.close()
                self.clean()
        image = io.BytesIO()  # HDF5 may crash a process whose disk is full
        with h5py.File(image, "w") as file:
            model.save(file)
        path = os.path.join(self.path, f"{name}_model.h5")
        output.write(path, image.getvalue())

    def close(self):
        """Gives the host's session back."""
        if self._host is not None:
            self._host.close()

    def _object_based(self, model):
        """What `model.load_weights` looks for, by key."""
        scratch = os.path.join(self.path, _SCRATCH, "weights")
        model.save_weights(scratch, save_format="tf")
        return _arrays(scratch)

    def _files(self):
        """Names of the checkpoints' files, by epoch."""
        files = {}
        for name in os.listdir(self.path) if os.path.isdir(self.path) else []:
            match = _FILE.match(name)
            if match:
                files.setdefault(int(match.group(1)), []).append(name)
        return files

    def _remove_superseded(self):
        """Removes checkpoints that the manager does not know: broken ones."""
        known = {os.path.basename(p) for p in self._host.saver.last_checkpoints}
        for epoch, names in self._files().items():
            if f"{NAME}-{epoch}" not in known:
                output.remove(self.path, *names)


class HostGraph:
    """A graph and a session on the host that hold arrays and save them.

    Args:
      values: dict of arrays and bytes by name; later ones have the same names and
        shapes.
      max_to_keep: int; 1 without a `checkpoint` state file.
    """

    def __init__(self, values, max_to_keep=1):
        with tf.Graph().as_default() as graph, tf.device("/cpu:0"):
            feeds = {
                name: tf.compat.v1.placeholder(_dtype(value), np.shape(value))
                for name, value in values.items()
            }
            variables = {
                name: tf.compat.v1.Variable(
                    feed, trainable=False, use_resource=True, name="value"
                )
                for name, feed in feeds.items()
            }
            self._feeds = feeds
            self._set = tf.group([v.initializer for v in variables.values()])
            self.saver = tf.compat.v1.train.Saver(
                variables, max_to_keep=max_to_keep, save_relative_paths=True
            )
        graph.finalize()
        self._session = tf.compat.v1.Session(graph=graph)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def save(self, values, path, epoch=None):
        """Saves under `path`, or `path-epoch` and in the state file."""
        self._session.run(
            self._set, {self._feeds[name]: value for name, value in values.items()}
        )
        self.saver.save(
            self._session,
            path,
            global_step=epoch,
            write_meta_graph=False,
            write_state=epoch is not None,
        )

    def close(self):
        """Closes the session."""
        self._session.close()


class Checkpoints(tf.keras.callbacks.Callback):
    """Keeps the training of each epoch's end, and saves it when it is time.

    Comes after SWA and the log: what they hold of an epoch belongs to it.

    Args:
      folder: Folder.
      swa: the SWA callback; its state must have been loaded where `start` is given.
      log: what has `history`, a dict of lists with a value for each epoch.
      run: function without arguments, what the run tells of itself.
      save_interval: int, epochs; 0: only at the end.
      stop: stopping.Stop, or None.
      start: Snapshot to go on from, or None.
      joined: ranks.Ranks; rank 0 alone writes, and all stop after the same epoch.
    """

    def __init__(
        self, folder, swa, log, run, save_interval, stop, start=None, joined=None
    ):
        super().__init__()
        self._folder = folder
        self._swa = swa
        self._log = log
        self._run = run
        self._save_interval = save_interval
        self._stop = stop
        self._joined = joined or ranks.Ranks()
        self._latest = start
        self._saved_epoch = start.epoch if start else None
        self._lock = threading.Lock()  # the thread of `stop` may save as well

    def on_train_begin(self, logs=None):
        self._weights = {v.op.name: v for v in self.model.weights}
        self._optimizer = {v.op.name: v for v in self.model.optimizer.weights}
        if self._latest is not None:
            self._restore(self._latest)
        else:
            self._keep(0)
        if self._stop is not None:
            self._stop.last_resort = self.save_latest

    def on_batch_end(self, batch, logs=None):
        """Leaves the epoch if the run is to stop: its beginning is kept."""
        if self._joined.size == 1:  # several have to leave together
            self._leave_if_stopped()

    def _leave_if_stopped(self):
        if self._stop is not None and self._stop.number is not None:
            self.save_latest()
            self._stop.check()

    def on_epoch_end(self, epoch, logs=None):
        if np.isfinite(logs["loss"]) and self._swa.batch_norm_epoch is None:
            self._keep(epoch + 1)
            if self._is_due(epoch + 1):
                self.save_latest()
        if self._stop is not None and self._joined.size > 1:
            # the signal may have come to one of them only, or before and after its step
            numbers = ranks.gather(self._joined, np.int64(self._stop.number or 0))
            self._stop.number = self._stop.number or int(numbers.max()) or None
        self._leave_if_stopped()

    def save_latest(self):
        """Saves the training as it was at the last epoch's end."""
        with self._lock:
            latest = self._latest
            if self._saved_epoch != latest.epoch:
                if self._joined.rank == 0:
                    self._folder.save(latest, self._run())
                self._saved_epoch = latest.epoch
            if self._stop is not None:
                self._stop.saved_epoch = latest.epoch

    def weights(self):
        """The model's weights, list of arrays, by the call that reads them always."""
        return list(self._read()[0].values())

    def _is_due(self, trained):
        # the last before the batch-norm epoch is where more epochs can be added
        if trained == self.params["epochs"] - 1:
            return True
        return self._save_interval > 0 and trained % self._save_interval == 0

    def _keep(self, trained):
        weights, optimizer = self._read()
        for value in list(weights.values()) + list(optimizer.values()):
            if not np.all(np.isfinite(value)):
                return  # the next epoch's loss will tell
        history = {name: list(values) for name, values in self._log.history.items()}
        self._latest = Snapshot(trained, weights, optimizer, self._swa.state, history)

    def _read(self):
        session = tf.compat.v1.keras.backend.get_session()
        return session.run([self._weights, self._optimizer])

    def _restore(self, snapshot):
        saved = dict(snapshot.weights, **snapshot.optimizer)
        feeds, assignments = {}, []
        for name, variable in dict(self._weights, **self._optimizer).items():
            if name not in saved:
                raise InputError(f"resume needs {name} in the checkpoint: not there.")
            feed = tf.compat.v1.placeholder(variable.dtype.base_dtype, variable.shape)
            assignments.append(variable.assign(feed, read_value=False))
            feeds[feed] = saved[name]
        tf.compat.v1.keras.backend.get_session().run(assignments, feeds)


class _BadCheckpoint(Exception):
    """A checkpoint that is not whole; its text says why, in one line."""


def _values(snapshot, run):
    """A checkpoint's arrays by name."""
    state = dict(snapshot.swa)
    average = state.pop("average")
    meta = {
        "format": FORMAT,
        "epoch": snapshot.epoch,
        "weights": list(snapshot.weights),
        "optimizer": list(snapshot.optimizer),
        "swa": state,
        "history": snapshot.history,
        "run": run,
    }
    values = dict(snapshot.weights, **snapshot.optimizer)
    # one layout from the first save on: zeros until there is an average
    floats = _averaged(snapshot.weights)
    means = average or [np.zeros_like(array) for array in floats.values()]
    for name, mean in zip(floats, means):
        values[AVERAGE + name] = np.asarray(mean, _mean_dtype(floats[name]))
    values[META] = json.dumps(meta).encode()
    return values


def _read(path):
    """Reads a checkpoint; TensorFlow compares each array with its checksum."""
    if not os.path.exists(path + ".index"):  # which is written last
        raise _BadCheckpoint("there is no .index of it, removed or never written.")
    try:
        arrays = _arrays(path)
        meta = json.loads(arrays[META].decode())
        if meta["format"] != FORMAT:
            raise _BadCheckpoint(f"its format is {meta['format']}, not {FORMAT}.")
        state = dict(meta["swa"], average=[])
        if state["n_averaged"]:
            weights = {name: arrays[name] for name in meta["weights"]}
            state["average"] = [arrays[AVERAGE + name] for name in _averaged(weights)]
        snapshot = Snapshot(
            meta["epoch"],
            {name: arrays[name] for name in meta["weights"]},
            {name: arrays[name] for name in meta["optimizer"]},
            state,
            meta["history"],
        )
        return Found(path, snapshot, meta["run"])
    except (OSError, tf.errors.OpError, ValueError, KeyError) as error:
        told = str(error).splitlines() or [type(error).__name__]
        raise _BadCheckpoint(told[0]) from error


def _arrays(path):
    """All arrays of a TensorFlow checkpoint by name; strings are bytes."""
    reader = tf.train.load_checkpoint(path)
    return {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }


def _averaged(weights):
    """The weights of which there are averages: those of floating point."""
    return {name: array for name, array in weights.items() if array.dtype.kind == "f"}


def _mean_dtype(array):
    return np.result_type(array.dtype, np.float32)  # as the average is kept


def _dtype(value):
    return tf.string if isinstance(value, bytes) else tf.as_dtype(value.dtype)
