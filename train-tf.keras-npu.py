# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Trains an MLP with SWA. Parses under any Python, to tell a wrong one the right."""

from __future__ import print_function

import contextlib
import os
import sys
import time

BEGAN = time.time()
DEVICE_ID = os.environ.get("ASCEND_DEVICE_ID") or "0"
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
    from swa.training import data, flags, join, output, quieten, ranks, session, world

    defaults = settings.Config()._asdict()
    if {"-h", "--help", "-help"} & set(argv[1:]):
        return flags.print_help(defaults)
    try:
        values, only_check = flags.read(defaults, argv)
        values["output_dir"] = values["output_dir"] or os.path.join("output", DEVICE_ID)
        config = settings.checked(settings.Config(**values))
        choice = session.choose_device(config, os.environ)
        rows = data.load(config)
        drop_last = choice.device == "npu"
        world.check_batches(config, choice.world, len(rows.x), drop_last)
        with output.locked(config.output_dir, only_check, choice.world.rank):
            if only_check:
                return print("checked: flags, files and device are in order")
            quieten.tensorflow(config.verbose)
            from swa.training import trainer

            with contextlib.closing(join.join(choice)) as joined:
                told = trainer.run(
                    config, choice, rows, sys.stdout.isatty(), BEGAN, stop, joined
                )
        return int(told["status"] != "completed")
    except (settings.InputError, settings.OutputError, ranks.RankError) as error:
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
