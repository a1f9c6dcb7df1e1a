# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Starts a script in many real processes, and imports TensorFlow once.

`Client` starts this file and asks it. Each request is one JSON object a line, answered
with a number:

  {"argv": [...], "cwd": path, "log": path} -> the process's id; more that it may hold:
      "script": path, of the train script if not given
      "err": path for standard error, else it goes to the log as well
      "environ": all of the variables, else the server's
      "first": code that is run before the script, to bring a fault about
      "forks": bool, whether what the script runs in this Python is forked too
  {"wait": id} -> its exit status, negative for a signal

Tests of the start, of imports and of what a shell sees need no such short cut: they run
the script as users do.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "train-tf.keras-npu.py")
run_started = subprocess.run


class Client:
    """The tests' end of a server.

    Args:
      environment: dict, the server's variables.
      *options: str, options of its Python.
    """

    def __init__(self, environment, *options):
        self._server = subprocess.Popen(
            [sys.executable, *options, os.path.abspath(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
            env=environment,
        )

    def ask(self, **request):
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def result(self, folder, argv, environment, **more):
        """Runs a script to its end, in `folder`; returns a CompletedProcess."""
        with tempfile.TemporaryDirectory() as apart:
            out, err = os.path.join(apart, "out"), os.path.join(apart, "err")
            request = dict(argv=argv, cwd=str(folder), environ=environment, **more)
            status = self.ask(wait=self.ask(log=out, err=err, **request))
            told = pathlib.Path(out).read_text(), pathlib.Path(err).read_text()
        return subprocess.CompletedProcess(argv, status, *told)

    def close(self):
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=60)


def open_to_append(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def become(script, argv, cwd, streams, environ=None, first="", forks=False):
    """In a new process: becomes the script; does not return."""
    status = 1
    try:
        os.chdir(cwd)
        for target, source in enumerate(streams):
            os.dup2(source, target)
        if environ is not None:
            os.environ.clear()
            os.environ.update(environ)
        # one forked by a script that forks has the other function
        subprocess.run = run_forked if forks else run_started
        sys.argv = [script] + argv
        sys.path.insert(0, os.path.dirname(script))  # as Python does
        exec(first, {})
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def start(argv, cwd, log, script=SCRIPT, err=None, **more):
    """A new process that runs the script; returns its id."""
    process = os.fork()
    if not process:
        out = open_to_append(log)
        streams = (
            os.open(os.devnull, os.O_RDONLY),
            out,
            open_to_append(err) if err else out,
        )
        become(script, argv, cwd, streams, **more)
    return process


def wait(process):
    """The exit status of a process, negative for a signal."""
    _, status = os.waitpid(process, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def run_forked(command, cwd=None, env=None, **options):
    """subprocess.run, forked where it is [this Python, script, ...] into one pipe."""
    python, script, *argv = command
    if python != sys.executable:
        return run_started(command, cwd=cwd, env=env, **options)
    assert options["stderr"] == subprocess.STDOUT, command
    sys.stdout.reconfigure(line_buffering=True)  # what aborts has said its lines
    with tempfile.NamedTemporaryFile() as log:
        status = wait(start(argv, cwd, log.name, script, environ=env))
        return subprocess.CompletedProcess(command, status, log.read())


def main():
    sys.path.insert(0, str(ROOT))
    from swa.training import console

    console.set_verbosity(1)
    from swa.training import fit, results  # noqa: F401 (no session yet: may be forked)

    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        is_end = "wait" in request
        print(wait(request["wait"]) if is_end else start(**request), flush=True)


if __name__ == "__main__":
    main()
