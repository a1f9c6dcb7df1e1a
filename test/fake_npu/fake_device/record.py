# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The fake's diary, and its two ways to fail."""

import json
import os
import sys

from fake_device import settings

FATAL = "FAKE NPU FATAL"


def write(event, **facts):
    """Appends one event to FAKE_NPU_RECORD, in which {rank} is the rank."""
    path = os.environ.get("FAKE_NPU_RECORD")
    if path:
        path = path.replace("{rank}", os.environ.get("RANK_ID", "0"))
        with open(path, "a") as file:
            file.write(json.dumps(dict(facts, event=event), sort_keys=True) + "\n")


def abort(message):
    """Ends the process by SIGABRT, as the adapter does; Python cannot catch it."""
    write("abort", message=message)
    sys.stdout.flush()
    sys.stderr.write("%s: %s\n" % (FATAL, message))
    sys.stderr.flush()
    os.abort()


def error(message):
    """Fails the session call with an exception."""
    from tensorflow.python.framework import errors

    write("error", message=message)
    raise errors.InternalError(None, None, "%s: %s" % (FATAL, message))


def fail_graph(message):
    """A graph that does not build or run: fatal up to r1.3, an error from r1.5 on."""
    if settings.since("1.5"):
        error(message)
    abort(message)
