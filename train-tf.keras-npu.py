# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Trains an MLP with SWA. Parses under any Python, to tell a wrong one the right."""

from __future__ import print_function

import contextlib
import os
import sys
import time

BEGAN = time.time()
ROOT = os.path.dirname(os.path.abspath(__file__))


def fail(message, status=2):
    sys.stderr.write("train-tf.keras-npu.py: error: %s\n" % message)
    sys.exit(status)


def require_tensorflow():
    """Names the command to run instead where this Python has no TensorFlow 1.15."""
    if sys.version_info[:2] == (3, 7):
        from importlib.util import find_spec

        if all(find_spec(name) for name in ("tensorflow_core", "absl", "numpy")):
            return
    words = " ".join("'%s'" % w.replace("'", "'\\''") for w in sys.argv[1:])
    told = "this Python has no TensorFlow 1.15. Run: source '%s/test/env.sh' && "
    fail((told + "\"$PYTHON\" '%s/train-tf.keras-npu.py' %s") % (ROOT, ROOT, words))


def train(argv, stop):
    """Reads the flags and runs; returns the exit status."""
    from swa.training import config as settings
    from swa.training import data, errors, flags, join, output, quieten, session, world

    if flags.wants_help(argv[1:]):
        print("usage: train-tf.keras-npu.py [--flag=value ...]\n")
        return print(flags.help_text())
    try:
        config = settings.parse(argv[1:])
        choice = session.choose_device(config, os.environ)
        rows = data.load(config)
        drop_last = choice.device == "npu"
        world.check_batches(config, choice.world, len(rows.x), drop_last)
        with output.locked(config.output_dir, config.check, choice.world.rank):
            if config.check:
                return print("checked: flags, files and device are in order")
            quieten.tensorflow(config.verbose)
            from swa.training import trainer

            with contextlib.closing(join.join(choice)) as joined:
                told = trainer.run(
                    config, choice, rows, sys.stdout.isatty(), BEGAN, stop, joined
                )
        return int(told["status"] != "completed")
    except errors.UserError as error:
        fail(error, error.status)


def main(argv):
    from swa.training import stopping

    stop = stopping.Stop()
    try:
        with stop:
            status = train(argv, stop)
    except stopping.Stopped:
        stop.tell()
        status = stop.status
    sys.exit(status)


if __name__ == "__main__":
    require_tensorflow()
    main(sys.argv)
