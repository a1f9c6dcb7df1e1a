# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The output folder: who may write there, and what becomes of earlier results."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import time

from swa.training import files
from swa.training.errors import UserError, reason, shown

LOCK = ".lock"
REPORT = "report.json"
CHECKPOINTS = "ckpt"
TENSORBOARD = "tensorboard"
RESULTS = (REPORT, CHECKPOINTS, TENSORBOARD)
CUT_OFF = ("*.tempstate*", "*" + files.TEMPORARY)  # files of writes that were cut off
_ASIDE = ".earlier"  # the beginning of a folder's name
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TRIES = 5  # another program's --check holds the lock for a moment


@contextlib.contextmanager
def locked(path, only_check=False, is_writer=True):
    """Keeps other runs out of the directory `path`, which it makes.

    The lock belongs to this process and goes with it, however it ends. Its file stays,
    and holds the process's number.

    Args:
      path: str.
      only_check: bool, whether to make nothing, and only look if a run holds it.
      is_writer: bool, whether it is this rank that writes the files.

    Raises:
      UserError: another run holds it, or it cannot be made or written in.
    """
    lock = os.path.join(path, LOCK)
    if not is_writer or (only_check and not os.path.exists(lock)):
        yield
        return
    with files.one_line_errors(lock):
        os.makedirs(path, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, path)
        if not only_check:
            with contextlib.suppress(OSError):  # a full disk: only the number is lost
                os.ftruncate(handle, 0)
                os.write(handle, b"%d\n" % os.getpid())
        yield
    finally:
        os.close(handle)


def _take(handle, path):
    for _ in range(_TRIES):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:  # a file system without locks: better unguarded than not at all
            return print(f"{path} cannot be locked: start no second run on it.")
    holder = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
    raise UserError(
        "output_dir must not be in use by another run, "
        f"got {shown(path)}: process {holder} writes there."
    )


def check_writable(flag, path):
    """Refuses a path that is no writable directory and cannot become one.

    A directory is made there for a moment, because `os.access` says yes to root, even
    in /proc.

    Raises:
      UserError: with the flag and the path.
    """
    there = path
    while not os.path.lexists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise UserError(
            f"{flag} must be a directory, got {shown(path)}: {shown(there)} is not."
        )
    try:
        with tempfile.TemporaryDirectory(dir=there) as folder:
            below = os.path.relpath(path, there)
            os.makedirs(os.path.join(folder, below), exist_ok=True)
    except OSError as error:
        if error.errno in _FULL:  # no bad input; removing earlier results makes room
            return
        raise UserError(
            f"{flag} must be writable, "
            f"got {shown(path)}: {reason(error)} in {shown(there)}."
        ) from None


def results_in(path):
    """Those of RESULTS that are in the directory `path`: a list of str."""
    return [name for name in RESULTS if os.path.lexists(os.path.join(path, name))]


def remove_results(path, names=RESULTS):
    """Removes an earlier run's results of these names, all of them or none.

    They are first moved into a folder of their own. Where one cannot be moved, those
    that were moved go back to their places.

    Raises:
      UserError: the directory `path` or a result cannot be changed.
    """
    with files.one_line_errors(path), contextlib.ExitStack() as undo:
        aside = tempfile.mkdtemp(prefix=_ASIDE, dir=path)
        undo.callback(os.rmdir, aside)
        for name in set(results_in(path)) & set(names):
            result, moved = os.path.join(path, name), os.path.join(aside, name)
            os.rename(result, moved)
            undo.callback(os.rename, moved, result)
        undo.pop_all()
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(path):
    """Removes what a run that was killed has left in the directory `path`."""
    for folder in (path, os.path.join(path, CHECKPOINTS)):
        files.remove(folder, *CUT_OFF, _ASIDE + "*")


def tell_started(path, resumes):
    """Tells the launcher, if one asked, that every check has passed.

    The launcher names an open file descriptor in SWA_STARTED_FD. One line of JSON is
    written there, and it is closed. Until then the launcher leaves an earlier run's
    files alone.

    Args:
      path: str, the output directory.
      resumes: bool, whether the run goes on from a checkpoint.
    """
    descriptor = os.environ.pop("SWA_STARTED_FD", "")
    line = json.dumps({"output_dir": os.path.realpath(path), "resumes": resumes})
    # no number, not open, or nobody reads it any more
    with contextlib.suppress(ValueError, OSError):
        with open(int(descriptor), "w") as file:
            file.write(line + "\n")
