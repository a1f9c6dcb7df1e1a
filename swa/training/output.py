# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Files: one run at a time in a folder, and what is written appears whole or not."""

import contextlib
import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
import time

from swa.training.errors import FAILED, UserError, reason, shortened, shown

LOCK = ".lock"
TEMPORARY = ".tmp"  # the end of a file's name while it is written
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TRIES = 5  # another program's --check holds the lock for a moment


@contextlib.contextmanager
def locked(path, only_check=False, is_writer=True):
    """Keeps other runs out of the directory `path`, which it makes.

    The lock belongs to this process and goes with it, however it ends; its file
    stays, and tells the process's number.

    Args:
      path: str.
      only_check: bool, whether only to see that no run holds it, and make nothing.
      is_writer: bool, whether it is this rank that writes the files.

    Raises:
      UserError: another run holds it, or it cannot be made or written in.
    """
    lock = os.path.join(path, LOCK)
    if not is_writer or (only_check and not os.path.exists(lock)):
        yield
        return
    with one_line_errors(path):
        os.makedirs(path, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, path)
        if not only_check:
            os.ftruncate(handle, 0)
            with contextlib.suppress(OSError):  # a full disk: only the number is lost
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
    rule = "output_dir must not be in use by another run"
    raise UserError(f"{rule}, got {shown(path)}: process {holder} writes there.")


@contextlib.contextmanager
def one_line_errors(path, kinds=(OSError,), advice=""):
    """Within it a failure to write is a UserError that names `path`."""
    try:
        yield
    except kinds as error:
        # TensorFlow's begins with a temporary file's name
        told = reason(error).split("; ")[-1]
        place = shortened(path)
        message = f"{place} cannot be written: {told}.{advice}"
        raise UserError(message, FAILED) from error


def check_writable(flag, path):
    """Refuses a directory that is none to write in, or cannot become one.

    It is tried by making another one there, which is removed at once: `os.access` says
    yes to root, even in /proc.

    Raises:
      UserError: with the flag and the path.
    """
    there = path
    while not os.path.lexists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        got = f"{shown(path)}: {shown(there)} is not"
        raise UserError(f"{flag} must be a directory, got {got}.")
    try:
        os.rmdir(tempfile.mkdtemp(dir=there))
    except OSError as error:
        if error.errno in _FULL:  # no bad input, and an earlier run's files may go
            return
        got = f"{shown(path)}: {reason(error)} in {shown(there)}"
        raise UserError(f"{flag} must be writable, got {got}.") from None


class Resource(contextlib.AbstractContextManager):
    """What is to be closed, or used as a context."""

    def __exit__(self, *error):
        self.close()


class TensorFlowPath(Resource):
    """A path to a folder, which it makes, that TensorFlow takes literally.

    TensorFlow reads [, ] and \\ in a path as a pattern, and wants UTF-8. Where the
    system shows a process its open files as paths, there is one of plain letters.

    Args:
      folder: str.

    Attributes:
      path: str, good until `close`.
    """

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self._descriptor = os.open(folder, os.O_RDONLY)
        path = f"/proc/self/fd/{self._descriptor}"
        self.path = path if os.path.isdir(path) else folder

    def close(self):
        """Gives the open folder back."""
        os.close(self._descriptor)


def tell_started(path, resumes):
    """Tells the launcher, if one asked, that every check has passed.

    It has named an open file descriptor in SWA_STARTED_FD, which gets one line of JSON
    and is closed; until then it leaves an earlier run's files alone.

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


def read_json(name, path):
    """What the JSON file `path` holds, which the flag or variable `name` names.

    Raises:
      UserError: there is no such file, or no JSON in it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        got = f"{shown(path)}: {reason(error)}"
        raise UserError(f"{name} must be a readable JSON file, got {got}.") from None


def write(path, content):
    """Writes bytes to the file `path`, which appears whole or not at all.

    Raises:
      UserError: it cannot be written; an earlier file of that name stays.
    """
    temporary = path + TEMPORARY
    with one_line_errors(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def remove(folder, *patterns):
    """Removes what in `folder` matches: files, and folders with all they hold.

    Raises:
      UserError: it cannot be removed.
    """
    for pattern in patterns:
        for path in glob.glob(os.path.join(glob.escape(folder), pattern)):
            with one_line_errors(path):
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
