# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Starts the train script in many real processes, and imports TensorFlow once.

Reads requests, one JSON object a line, and answers each with a number:

  {"argv": [...], "cwd": path, "log": path, "first": code}  -> the process's id; the
      code is run in it before the script, to bring a fault about
  {"wait": id}  -> its exit status, negative for a signal
"""

import json
import os
import pathlib
import runpy
import sys
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "train-tf.keras-npu.py")


def run_script(request):
    """In a new process: becomes the script; does not return."""
    status = 1
    try:
        os.chdir(request["cwd"])
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for target, source in (
            (0, os.open(os.devnull, os.O_RDONLY)),
            (1, log),
            (2, log),
        ):
            os.dup2(source, target)
        sys.argv = [SCRIPT] + request["argv"]
        exec(request.get("first") or "", {})
        runpy.run_path(SCRIPT, run_name="__main__")
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def answer(request):
    if "wait" in request:
        _, status = os.waitpid(request["wait"], 0)
        return (
            -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        )
    process = os.fork()
    if not process:
        run_script(request)
    return process


def main():
    sys.path.insert(0, str(ROOT))
    from swa.training import console

    console.set_verbosity(1)
    from swa.training import fit, results  # noqa: F401 (no session yet: may be forked)

    for line in iter(sys.stdin.readline, ""):
        print(answer(json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
