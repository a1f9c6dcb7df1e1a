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
ERRORS = (OSError, tf.errors.OpError)


class Snapshot(NamedTuple):
    """A training between two epochs."""

    epoch: int  # epochs trained
    weights: dict  # arrays by variable name, in `get_weights()` order
    optimizer: dict  # arrays by variable name: iterations and slots
    swa: dict  # as SWA.state gives it
    history: dict  # lists by name, one value for each epoch
    run: dict  # settings, ranks and e2e_seconds of the run


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

    def path_of(self, epoch):
        """The path of an epoch's checkpoint, which is the beginning of its files'."""
        return os.path.join(self.path, f"{NAME}-{epoch}")

    def is_empty(self):
        """bool: whether it is absent, or holds only what interrupted writes left."""
        names = self._names()
        left = [fnmatch.filter(names, pattern) for pattern in output.CUT_OFF]
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
          Snapshot, or None where there is no checkpoint at all.

        Raises:
          UserError: there are checkpoints, and none can be read.
        """
        epochs = self._epochs()
        for epoch in reversed(epochs):
            path = self.path_of(epoch)
            try:
                snapshot = _read(path)
            except (*ERRORS, ValueError, KeyError, TypeError, RecursionError) as error:
                warn(f"warning: {path} cannot be used: {reason(error)}.")
            else:
                self._kept = [e for e in epochs if e <= epoch]
                return snapshot
        if epochs:
            raise UserError(
                "resume needs a checkpoint that can be read, and none of the "
                f"{len(epochs)} in {shown(self.path)} can. "
                "Start anew without --resume, which removes them."
            )
        return None

    def save(self, snapshot):
        """Writes a checkpoint, then removes the oldest above max_to_keep.

        Args:
          snapshot: Snapshot.

        Raises:
          UserError: it cannot be written; the earlier ones stay.
        """
        advice = " Earlier checkpoints are whole: make room, then use --resume."
        path = self.path_of(snapshot.epoch)
        with files.one_line_errors(path, ERRORS, advice * bool(self._epochs())):
            write_arrays(_values(snapshot), path)
        self._kept = [*self._kept, snapshot.epoch][-self._max_to_keep :]
        names = [f"{NAME}-{epoch}" for epoch in self._kept]
        generate = tf.compat.v1.train.generate_checkpoint_state_proto
        state = str(generate(self.path, names[-1], names))
        files.write(os.path.join(self.path, "checkpoint"), state.encode())
        for epoch in self._epochs():
            if epoch not in self._kept:
                files.remove(self.path, f"{NAME}-{epoch}.*")

    def _epochs(self):
        """The epochs of the checkpoints that have a file here, oldest first."""
        matches = map(_FILE.match, self._names())
        return sorted({int(match.group(1)) for match in matches if match})

    def _names(self):
        try:
            return os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(
                "output_dir must have a folder of checkpoints that can be listed, "
                f"got {shown(self.path)}: {reason(error)}."
            ) from None


def read_variables(model):
    """What a training is made of, by one call of Keras's session.

    The call is always of the same variables: a device compiles it once.

    Args:
      model: a compiled model whose optimizer has its slots.

    Returns:
      (weights, optimizer state): dicts of arrays by variable name.
    """
    session = tf.compat.v1.keras.backend.get_session()
    return session.run([_by_name(model.weights), _by_name(model.optimizer.weights)])


def write_variables(model, snapshot):
    """Gives a model's weights and optimizer state the values of a Snapshot."""
    saved = dict(snapshot.weights, **snapshot.optimizer)
    variables = _by_name(model.weights + model.optimizer.weights)
    pairs = [(variable, saved[name]) for name, variable in variables.items()]
    tf.compat.v1.keras.backend.batch_set_value(pairs)


def _by_name(variables):
    return {variable.op.name: variable for variable in variables}


def _values(snapshot):
    """A checkpoint's arrays by name."""
    values = dict(snapshot.weights, **snapshot.optimizer)
    state = dict(snapshot.swa)
    # SWA averages the weights of floating point
    floats = [n for n, array in snapshot.weights.items() if array.dtype.kind == "f"]
    values.update(zip([AVERAGE + name for name in floats], state.pop("average")))
    names = {"weights": list(snapshot.weights), "optimizer": list(snapshot.optimizer)}
    meta = snapshot._replace(swa=state, **names)._asdict()
    values[META] = json.dumps(dict(meta, format=FORMAT)).encode()
    return values


def _read(path):
    """Reads a checkpoint; TensorFlow compares each array with its checksum."""
    arrays = arrays_of(path)
    if META not in arrays:
        raise ValueError(f"this trainer did not write {os.path.basename(path)}")
    meta = json.loads(arrays[META].decode())
    if meta["format"] != FORMAT:
        raise ValueError(f"its format is {meta['format']}, not {FORMAT}")
    del meta["format"]
    snapshot = Snapshot(**meta)
    names = [AVERAGE + name for name in snapshot.weights]
    average = [arrays[name] for name in names if name in arrays]
    return snapshot._replace(
        weights={name: arrays[name] for name in snapshot.weights},
        optimizer={name: arrays[name] for name in snapshot.optimizer},
        swa=dict(snapshot.swa, average=average),
    )


def write_arrays(arrays, path):
    """Writes arrays as a TensorFlow checkpoint; the file appears whole or not at all.

    Args:
      arrays: dict of arrays and bytes by name.
      path: str, of the checkpoint; its folder is made.
    """
    folder, name = os.path.split(path)
    with files.tensorflow_path(folder) as place, tf.Graph().as_default():
        with tf.device("/cpu:0"):
            tensors = [
                tf.compat.v1.placeholder(np.asarray(array).dtype, np.shape(array))
                for array in arrays.values()
            ]
            save = tf.raw_ops.SaveV2(
                prefix=os.path.join(place, name),
                tensor_names=list(arrays),
                shape_and_slices=[""] * len(tensors),
                tensors=tensors,
            )
        try:
            with tf.compat.v1.Session() as session:
                session.run(save, dict(zip(tensors, arrays.values())))
        except BaseException:
            files.remove(folder, name + ".*")
            raise


def arrays_of(path):
    """All arrays of a TensorFlow checkpoint by name; strings are bytes."""
    folder, name = os.path.split(path)
    with files.tensorflow_path(folder) as place:
        reader = tf.train.load_checkpoint(os.path.join(place, name))
        names = reader.get_variable_to_shape_map()
        return {name: reader.get_tensor(name) for name in names}
