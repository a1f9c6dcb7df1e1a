# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Puts options into sessions as they are, without the trainer, and says what happens.

    python -m fake_device.trial < cases.json > outcomes.json

Each case runs in a process of its own, forked after TensorFlow's slow import:

  release   the adapter's
  environ   variables to set
  code      Python to run instead of what follows; it may write(event, **facts)
  sessions  list of sessions, opened one after the other; each is a list of NpuOptimizer
            entries, each of which is a list of [key, field, value]
  dtype     of the tensor that is fed and fetched (float32)
  shapes    what is fed, one call each ([[2]])

Its outcome holds `status` ("ok", "abort": ended by SIGABRT, "error": an exception),
`stderr`, and `events`, the fake's record.
"""

import json
import os
import signal
import sys
import tempfile

import numpy as np
import tensorflow as tf


def session_of(entries):
    """A session with these NpuOptimizer entries."""
    proto = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    for entry in entries:
        custom_op = proto.graph_options.rewrite_options.custom_optimizers.add()
        custom_op.name = "NpuOptimizer"
        for key, field, value in entry:
            typed = value.encode() if field == "s" else value
            setattr(custom_op.parameter_map[key], field, typed)
    return tf.compat.v1.Session(config=proto)


def run(case):
    """The child's part."""
    import npu_bridge

    from fake_device import record

    if "code" in case:
        names = {"npu_bridge": npu_bridge, "tf": tf, "np": np, "write": record.write}
        exec(case["code"], dict(names, session_of=session_of))
        return
    fed = tf.compat.v1.placeholder(case.get("dtype", "float32"))
    result = tf.identity(fed)
    for entries in case["sessions"]:
        with session_of(entries) as opened:
            for shape in case.get("shapes", [[2]]):
                opened.run(result, {fed: np.ones(shape)})


def attempt(case, folder):
    """Forks, runs the case in the child, and returns its outcome."""
    folder = tempfile.mkdtemp(dir=folder)
    record, stderr = os.path.join(folder, "record"), os.path.join(folder, "stderr")
    child = os.fork()
    if not child:
        status = 1
        try:
            os.chdir(folder)
            os.environ.update(case.get("environ", {}))
            os.environ["FAKE_NPU_ADAPTER"] = case["release"]
            os.environ["FAKE_NPU_RECORD"] = record
            os.dup2(os.open(stderr, os.O_CREAT | os.O_WRONLY), 2)
            run(case)
            status = 0
        except Exception as error:  # the parent tells it from the status
            os.write(2, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    aborted = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT
    with open(stderr) as file:
        written = file.read()
    with open(record) as file:
        events = [json.loads(line) for line in file]
    return {
        "status": "abort" if aborted else "error" if status else "ok",
        "stderr": written,
        "events": events,
    }


def main():
    """From standard input to standard output."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [attempt(case, folder) for case in json.load(sys.stdin)]
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main()
