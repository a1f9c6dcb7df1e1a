# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Files: what is written appears whole or not at all, and a failure is one line."""

import contextlib
import glob
import json
import os
import shutil

from swa.training.errors import BAD_INPUT, FAILED, UserError, reason, shortened, shown

TEMPORARY = ".tmp"  # the end of a file's name while it is written


@contextlib.contextmanager
def one_line_errors(path, kinds=(OSError,), advice=""):
    """Turns a failure to write into a UserError that names `path`."""
    try:
        yield
    except kinds as error:
        # TensorFlow's begins with a temporary file's name
        words = reason(error).split("; ")[-1]
        raise UserError(
            f"{shortened(path)} cannot be written: {words}.{advice}", FAILED
        ) from error


def read_json(name, path, status=BAD_INPUT):
    """What the JSON file `path` holds, which the flag or variable `name` names.

    Raises:
      UserError: of that status; there is no such file, or no JSON in it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{name} must be a readable JSON file, got {shown(path)}: {reason(error)}.",
            status,
        ) from None


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


def write_json(path, values):
    """Writes `values` as JSON to the file `path`. NaN and Inf become null.

    Raises:
      UserError: it cannot be written; an earlier file of that name stays.
    """
    finite = json.loads(json.dumps(values), parse_constant=lambda name: None)
    text = json.dumps(finite, indent=2, sort_keys=True) + "\n"
    write(path, text.encode())


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


@contextlib.contextmanager
def tensorflow_path(folder):
    """Makes `folder`, and gives it a path that TensorFlow takes literally.

    TensorFlow reads [, ] and \\ in a path as a pattern, and wants UTF-8. Linux shows a
    process its open files as paths of plain letters.

    Args:
      folder: str.

    Yields:
      str.
    """
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        path = f"/proc/self/fd/{descriptor}"
        yield path if os.path.isdir(path) else folder
    finally:
        os.close(descriptor)
