# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What a run tells: its times, its versions, and `report.json`."""

import json
import os
import platform
import subprocess
import sys

import numpy as np

import swa
from swa.training import output


def write_json(path, values):
    """Writes `values` as JSON to `path`; the file appears whole or not at all.

    NaN and Inf, which JSON has not, become null.

    Raises:
      UserError: it cannot be written; an earlier one stays.
    """
    text = json.dumps(_finite(values), indent=2, sort_keys=True) + "\n"
    output.write(path, text.encode())


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(below) for name, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(below) for below in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def rates(seconds, samples, first_snapshot, batch_norm_epoch):
    """The speed of training from the wall seconds of each epoch.

    samples_per_second = median of samples / seconds over the epochs of training
    without the first, the first with a snapshot and the batch-norm epoch, all of
    which build or compile something; over all where that leaves none.
    compile_seconds = the first epoch's seconds above the median of those epochs.

    Args:
      seconds: list of float, one per epoch.
      samples: int, rows trained on in each epoch.
      first_snapshot: int counted from one, or None.
      batch_norm_epoch: int counted from one, or None.

    Returns:
      (samples_per_second, compile_seconds).
    """
    left_out = {1, first_snapshot, batch_norm_epoch}
    steady = [s for epoch, s in enumerate(seconds, 1) if epoch not in left_out]
    usual = float(np.median(steady or seconds))
    return samples / usual, max(0.0, seconds[0] - usual)


def versions():
    """dict: what ran. `npu_bridge` is None where there is none."""
    import tensorflow as tf

    adapter = sys.modules.get("npu_bridge")
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "swa": swa.__version__,
        "npu_bridge": getattr(adapter, "__version__", None),
    }


def commit():
    """The commit of this checkout, or None where there is none to be told."""
    folder = os.path.dirname(os.path.abspath(swa.__file__))
    try:
        told = subprocess.run(
            ["git", "-C", folder, "rev-parse", "HEAD"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.decode().strip() or None if told.returncode == 0 else None
