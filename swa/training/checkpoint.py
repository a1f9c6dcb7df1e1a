# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Checkpoints: what is in them, how they are written, and how found again.

At the end of each epoch the training's variables are read in one call. What is
written goes through a graph of its own on the host, in TensorFlow's format: the graph
that trains, which a device may have compiled, gets no operation for it.
"""

import fnmatch
import json
import os
import re
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from swa.training import files, output
from swa.training.errors import UserError, reason, shown

FORMAT = 1
NAME = "model.ckpt"
META = "swa/training"  # JSON: all that is no array
AVERAGE = "swa/average/"  # and the weight's name
_FILE = re.compile(re.escape(NAME) + r"-(\d+)\.(index|data-\d+-of-\d+)$")
SCRATCH = ".scratch"
LEFT_BEHIND = ("*.tempstate*", "checkpoint.tmp*", "*" + files.TEMPORARY, SCRATCH)
ERRORS = (OSError, tf.errors.OpError)


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
    run: dict  # of the run that saved it: settings, train_epochs, ranks, seconds


class Folder:
    """The folder `ckpt/` of an output directory.

    Args:
      output_dir: str.
      max_to_keep: int, checkpoints kept while training.
    """

    def __init__(self, output_dir, max_to_keep):
        self.path = os.path.join(output_dir, output.CHECKPOINTS)
        self._max_to_keep = max_to_keep
        self._kept = []  # epochs of the checkpoints that stay, oldest first

    def remove_leftovers(self):
        """Removes what writes that were cut off have left."""
        files.remove(self.path, *LEFT_BEHIND)

    def is_empty(self):
        """bool: whether nothing is there but what a write that was cut off has left."""
        names = self._names()
        left = [fnmatch.filter(names, pattern) for pattern in LEFT_BEHIND]
        is_folder = os.path.isdir(self.path) or not os.path.lexists(self.path)
        return is_folder and set(names) == set().union(*left)

    def check_writable(self):
        """Raises UserError unless files can be made there; leaves none."""
        with files.one_line_errors(self.path):
            os.rmdir(tempfile.mkdtemp(dir=self.path))

    def find(self, warn):
        """The newest checkpoint that can be read whole.

        Args:
          warn: function of a line, called for each that cannot.

        Returns:
          Found, or None where there is no checkpoint at all.

        Raises:
          UserError: there are checkpoints, and none can be read.
        """
        by_epoch = self._files()
        whole = [epoch for epoch in sorted(by_epoch) if len(by_epoch[epoch]) > 1]
        for epoch in sorted(by_epoch, reverse=True):
            path = os.path.join(self.path, f"{NAME}-{epoch}")
            try:
                found = _read(path)
                self._kept = [e for e in whole if e <= epoch]
                return found
            except (*ERRORS, ValueError, KeyError, RecursionError) as error:
                warn(f"warning: {path} cannot be used: {reason(error)}.")
        if by_epoch:
            none = f"none of the {len(by_epoch)} in {shown(self.path)} can"
            raise UserError(
                f"resume needs a checkpoint that can be read, and {none}. "
                "Start anew without --resume, which removes them."
            )
        return None

    def save(self, snapshot, run):
        """Writes a checkpoint, then removes the oldest above max_to_keep.

        Args:
          snapshot: Snapshot.
          run: dict of plain values, given back by `find`.

        Raises:
          UserError: it cannot be written; the earlier ones stay.
        """
        name = f"{NAME}-{snapshot.epoch}"
        advice = " Earlier checkpoints are whole: make room, then use --resume."
        path = os.path.join(self.path, name)
        with files.one_line_errors(path, ERRORS, advice * bool(self._files())):
            try:
                write_arrays(_values(snapshot, run), path)
            except BaseException:
                files.remove(self.path, name + ".*")
                self.remove_leftovers()
                raise
        earlier = [epoch for epoch in self._kept if epoch != snapshot.epoch]
        self._kept = [*earlier, snapshot.epoch][-self._max_to_keep :]
        self._write_state()
        for epoch, names in self._files().items():
            if epoch not in self._kept:
                files.remove(self.path, *names)

    def _write_state(self):
        """Writes TensorFlow's list of the checkpoints."""
        names = [f"{NAME}-{epoch}" for epoch in self._kept]
        lines = [f'model_checkpoint_path: "{names[-1]}"']
        lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
        state = "".join(line + "\n" for line in lines)
        files.write(os.path.join(self.path, "checkpoint"), state.encode())

    def _files(self):
        """Names of the checkpoints' files, by epoch."""
        by_epoch = {}
        for name in self._names():
            match = _FILE.match(name)
            if match:
                by_epoch.setdefault(int(match.group(1)), []).append(name)
        return by_epoch

    def _names(self):
        try:
            return os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            rule = "output_dir must have a folder of checkpoints that can be listed"
            got = f"{shown(self.path)}: {reason(error)}"
            raise UserError(f"{rule}, got {got}.") from None


class Variables:
    """What a training is made of in Keras's session: weights and optimizer state.

    Each call is one of the session's, always of the same variables: a device compiles
    it once.

    Args:
      model: a compiled model whose optimizer has its slots.
    """

    def __init__(self, model):
        self._weights = {v.op.name: v for v in model.weights}
        self._optimizer = {v.op.name: v for v in model.optimizer.weights}

    def read(self):
        """(weights, optimizer state): dicts of arrays by variable name."""
        session = tf.compat.v1.keras.backend.get_session()
        return session.run([self._weights, self._optimizer])

    def write(self, snapshot):
        """Gives the variables the values of a Snapshot."""
        saved = dict(snapshot.weights, **snapshot.optimizer)
        feeds, assignments = {}, []
        for name, variable in dict(self._weights, **self._optimizer).items():
            feed = tf.compat.v1.placeholder(variable.dtype.base_dtype, variable.shape)
            assignments.append(variable.assign(feed, read_value=False))
            feeds[feed] = saved[name]
        tf.compat.v1.keras.backend.get_session().run(assignments, feeds)


def _values(snapshot, run):
    """A checkpoint's arrays by name."""
    state = dict(snapshot.swa)
    average = state.pop("average")
    meta = {"format": FORMAT, "epoch": snapshot.epoch, "swa": state, "run": run}
    names = {"weights": list(snapshot.weights), "optimizer": list(snapshot.optimizer)}
    meta.update(names, history=snapshot.history)
    values = dict(snapshot.weights, **snapshot.optimizer)
    names = [AVERAGE + name for name in _averaged(snapshot.weights)]
    values.update(zip(names, average))  # of which there may be none yet
    values[META] = json.dumps(meta).encode()
    return values


def _read(path):
    """Reads a checkpoint; TensorFlow compares each array with its checksum."""
    arrays = arrays_of(path)
    if META not in arrays:
        raise ValueError(f"this trainer did not write {os.path.basename(path)}")
    meta = json.loads(arrays[META].decode())
    if meta["format"] != FORMAT:
        raise ValueError(f"its format is {meta['format']}, not {FORMAT}")
    state = dict(meta["swa"], average=[])
    weights = {name: arrays[name] for name in meta["weights"]}
    optimizer = {name: arrays[name] for name in meta["optimizer"]}
    if state["n_averaged"]:
        state["average"] = [arrays[AVERAGE + name] for name in _averaged(weights)]
    snapshot = Snapshot(meta["epoch"], weights, optimizer, state, meta["history"])
    return Found(path, snapshot, meta["run"])


def write_arrays(arrays, path):
    """Writes arrays as a TensorFlow checkpoint; the file appears whole or not at all.

    Args:
      arrays: dict of arrays and bytes by name.
      path: str, of the checkpoint; its folder is made.
    """
    folder, name = os.path.split(path)
    with files.tensorflow_path(folder) as place, tf.Graph().as_default():
        with tf.device("/cpu:0"):
            tensors = {
                key: tf.compat.v1.placeholder(np.asarray(array).dtype, np.shape(array))
                for key, array in arrays.items()
            }
            save = tf.raw_ops.SaveV2(
                prefix=os.path.join(place, name),
                tensor_names=list(tensors),
                shape_and_slices=[""] * len(tensors),
                tensors=list(tensors.values()),
            )
        with tf.compat.v1.Session() as session:
            session.run(save, {tensors[key]: arrays[key] for key in arrays})


def arrays_of(path):
    """All arrays of a TensorFlow checkpoint by name; strings are bytes."""
    folder, name = os.path.split(path)
    with files.tensorflow_path(folder) as place:
        reader = tf.train.load_checkpoint(os.path.join(place, name))
        names = reader.get_variable_to_shape_map()
        return {name: reader.get_tensor(name) for name in names}


def _averaged(weights):
    """The weights that SWA averages: those of floating point."""
    return {name: array for name, array in weights.items() if array.dtype.kind == "f"}
