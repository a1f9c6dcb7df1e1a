# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A copy of the launchers beside a stub for the trainer."""

import os
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPORT = {
    "status": "completed",
    "config": {"batch_size": 256},
    "device": "cpu",
    "ranks": 1,
    "samples_per_second": 64000.0,
    "e2e_seconds": 12.345,
    "final_loss": 0.25,
    "final_accuracy": 0.875,
    "epoch_losses": [1.5, 0.75, 0.25],
}
# How every stub begins: it checks as the trainer does, and heeds signals. The variables
# BAD_FLAG and STUBBORN ask it for what goes wrong. With CHECKING its check writes its
# process number to that file and does not end.
BEGINNING = """
import json, os, signal, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from swa.training import flags, output, settings

for stream in (sys.stdout, sys.stderr):  # the log has the lines as they come
    stream.reconfigure(line_buffering=True)

def stop(number, frame):
    print("stopped by", number, flush=True)
    if "STUBBORN" not in os.environ:
        print("last words", flush=True)
        sys.exit(128 + number)

signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
if "--check" in sys.argv:
    if "CHECKING" in os.environ:
        with open(os.environ["CHECKING"] + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(file.name, os.environ["CHECKING"])
        time.sleep(600)
    print("checked")
    table = os.environ.get("RANK_TABLE_FILE")
    assert not table or json.load(open(table))["version"] == "1.0", table
    if "BAD_FLAG" in os.environ:
        sys.exit(os.write(2, b"trainer: error: bad flag\\n") and 2)
    sys.exit(0)
"""


def make_project(folder, names, trainer):
    """Makes a project of these files of test/ with a stub: BEGINNING, then `trainer`.

    Args:
      folder: pathlib.Path.
      names: list of str.
      trainer: str, code.

    Returns:
      pathlib.Path of the project.
    """
    project = folder / "a project"
    (project / "test").mkdir(parents=True)
    for name in names:
        shutil.copy(str(ROOT / "test" / name), str(project / "test" / name))
    shutil.copytree(str(ROOT / "test/launcher"), str(project / "test/launcher"))
    (project / "swa").symlink_to(ROOT / "swa")
    (project / "train-tf.keras-npu.py").write_text(BEGINNING + trainer)
    return project


def environment(foreign, **variables):
    """This process's variables but those that begin with one of `foreign`, and more."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(tuple(foreign))}
    return dict(ours, **variables)
