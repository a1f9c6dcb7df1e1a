# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Trains an MLP with Stochastic Weight Averaging. Parses under any Python.

flags: swa/training/flags.py       the SWA callback: prepare in swa/training/fit.py
session: swa/training/session.py   network: swa/training/network.py
order of a run: swa/training/run.py
"""

import os
import sys
import time

BEGAN = time.monotonic()
ROOT = os.path.dirname(os.path.abspath(__file__))


def has(names):
    """Whether this Python is the right one, without importing what takes seconds."""
    if sys.version_info[:2] != (3, 7):
        return False
    from importlib.util import find_spec

    return all(find_spec(name) for name in names)


if __name__ == "__main__":
    if {"-h", "--h", "-help", "--help"} & set(sys.argv) and has(["absl"]):
        from swa.training.flags import print_help

        print_help()
    elif has(["absl", "numpy", "tensorflow_core"]):
        from swa.training.run import main

        sys.exit(main(sys.argv[1:], BEGAN))
    else:
        words = " ".join("'%s'" % w.replace("'", "'\\''") for w in sys.argv[1:])[:200]
        told = "error: this Python has no TensorFlow 1.15. Run: source '%s/test/env.sh'"
        told += " && \"$PYTHON\" '%s/train-tf.keras-npu.py' %s\n"
        sys.stderr.write("train-tf.keras-npu.py: " + told % (ROOT, ROOT, words))
        sys.exit(2)
