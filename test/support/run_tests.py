# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What run_tests.sh does once there is a Python: the test extra, ruff, pytest ...

usage: run_tests.py [--distributed | --distributed-if-built] [pytest's arguments]

PYTHON in the environment is the interpreter that test/env.sh has chosen.
"""

import contextlib
import fcntl
import glob
import os
import re
import shutil
import subprocess
import sys
import zlib

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
CONSTRAINTS = os.path.join(ROOT, "test", "constraints.txt")
MODULES = ("pytest", "xdist", "hypothesis", "keras", "ruff", "sklearn")
WORKERS = 4  # of pytest, at most: each has a TensorFlow of its own


class Failed(Exception):
    """The test extra cannot be installed here."""


def say(text, to=None):
    print(f"run_tests.sh: {text}", file=to or sys.stdout, flush=True)


def read(path):
    """The text of a file; none where there is no such file."""
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def output(*command):
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
    )
    return os.fsdecode(done.stdout)


def missing_modules(python):
    """Which of the test extra's modules an interpreter lacks."""
    code = (
        "import importlib.util, sys\n"
        "print(*(n for n in sys.argv[1:] if not importlib.util.find_spec(n)))"
    )
    return output(python, "-c", code, *MODULES).split()


@contextlib.contextmanager
def locked():
    """Holds the lock of env.sh; pip inherits it, and so holds it if we are killed."""
    with open(os.path.join(ROOT, ".venv.lock"), "a") as lock:
        os.set_inheritable(lock.fileno(), True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pip_install(environment, *arguments, **options):
    """pip, deaf to settings that would install elsewhere; says whether it worked."""
    deaf = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX")
    variables = {name: os.environ[name] for name in os.environ if name not in deaf}
    variables["PIP_USER"] = "0"
    pip = [os.path.join(environment, "bin", "python"), "-m", "pip", "install"]
    command = [*pip, "-qq", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, env=variables, close_fds=False, **options)
    return run.returncode == 0


def install_test_extra(environment, pinned):
    """Installs pyproject.toml's test extra, once for each set of pins.

    The extra's lines alone: swa itself is tested from the tree, never from a copy.
    """
    project = read(os.path.join(ROOT, "pyproject.toml"))
    extra = re.search(r"^test = \[$(.*?)^\]$", project, re.M | re.S)
    packages = re.findall(r'^ *"(.*)",$', extra.group(1), re.M)
    pins = f"{zlib.crc32(read(pinned).encode())} {' '.join(packages)}\n"
    stamp = os.path.join(environment, ".test-pins")
    if read(stamp) == pins:
        return
    say(f"installing the test extra into {environment}")
    if not pip_install(environment, "--retries", "1", *packages, "-c", pinned):
        raise Failed
    write(stamp, pins)


def make_overlay(environment, python):
    """Makes an environment over an interpreter of the system's or the user's.

    That one is left alone. Its packages stay as they are, whatever their versions.
    """
    pinned = os.path.join(environment, "constraints.txt")
    constraints = read(CONSTRAINTS)
    base = f"{python} {zlib.crc32(constraints.encode())}\n"
    if read(os.path.join(environment, ".base")) != base:
        say(f"making {environment} over {python}")
        shutil.rmtree(environment, ignore_errors=True)
        output(python, "-m", "venv", "--system-site-packages", environment)
        newer = ("--upgrade", "pip", "-c", CONSTRAINTS)
        pip_install(environment, *newer, stderr=subprocess.DEVNULL)
        (site,) = glob.glob(os.path.join(environment, "lib", "python*", "*-packages"))
        # where PYTHON is a virtual environment, the system's packages are not its own
        paths = output(python, "-c", "import sys; print(*sys.path, sep='\\n')")
        paths = [path for path in paths.split("\n") if path.endswith("-packages")]
        found = [f"{path}\n" for path in paths]
        write(os.path.join(site, "base.pth"), "".join(found))
        inside = os.path.join(environment, "bin", "python")
        listed = output(inside, "-m", "pip", "list", "--format=freeze").splitlines()
        have = {plain_name(line) for line in listed}
        lines = constraints.splitlines(True)
        write(pinned, "".join(line for line in lines if plain_name(line) not in have))
        write(os.path.join(environment, ".base"), base)
    install_test_extra(environment, pinned)


def plain_name(line):
    """The package of a line name==version."""
    return line.split("==")[0].strip().replace("_", "-").lower()


def choose_python():
    """An interpreter with the test extra, as far as it can be had."""
    python = os.environ["PYTHON"]
    venv = os.path.join(ROOT, ".venv")
    overlay = os.path.join(ROOT, ".venv-test")
    is_ours = python.startswith(venv + os.sep)
    if not is_ours and not missing_modules(python):
        return python
    try:
        with locked():
            if is_ours:
                install_test_extra(venv, CONSTRAINTS)
            else:
                make_overlay(overlay, python)
    except (Failed, OSError, subprocess.CalledProcessError):
        say("could not install the test extra")
    if is_ours or not os.path.exists(os.path.join(overlay, ".base")):
        return python
    return os.path.join(overlay, "bin", "python")


def lacking(missing):
    """pytest's arguments that pass over the files that import a missing module."""
    ignored = []
    for module in missing:
        for file in sorted(glob.glob("test/test_*.py")):
            if re.search(rf"^(import|from) {module}\b", read(file), re.M):
                say(f"skipped, {module} is not installed: {file}")
                ignored.append(f"--ignore={file}")
    return ignored


def check(name, *command):
    """Says a tool's name and runs it; whether it finds no fault."""
    say(name)
    return subprocess.run(command).returncode == 0


def check_style(python, missing):
    """ruff and shellcheck, where they are installed."""
    good = True
    if "ruff" in missing:
        say("skipped, not installed: ruff")
    else:
        ruff = [python, "-m", "ruff"]
        good = check("ruff check", *ruff, "check", "--quiet", ".")
        good = check("ruff format", *ruff, "format", "--check", "--quiet", ".") and good
    tool = shutil.which("shellcheck")
    if tool is None:
        say("skipped, not installed: shellcheck")
        return good
    scripts = glob.glob("test/*.sh") + glob.glob("test/*/*.sh") + [".ci/run"]
    return check("shellcheck", tool, "-x", *sorted(scripts)) and good


def whole(missing):
    """pytest's arguments for all tests: on several cores, the slowest ones told."""
    workers = min(len(os.sched_getaffinity(0)), WORKERS)
    spread = ["-n", str(workers), "--dist", "worksteal"]
    return ["--durations=10", *([] if "xdist" in missing else spread)]


def main(arguments):
    distributed = ""
    if arguments and arguments[0] in ("--distributed", "--distributed-if-built"):
        distributed, *arguments = arguments
    python = os.environ["PYTHON"] = choose_python()
    os.chdir(ROOT)
    if distributed:
        options = ["--if-built"] if distributed.endswith("if-built") else []
        build = ["bash", "test/env_horovod.sh", *options]
        done = subprocess.run(build, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if done.returncode:
            return done.returncode  # it has said why
        path = os.fsdecode(done.stdout).rstrip("\n")
        if path:
            os.environ["PYTHONPATH"] = path
    os.environ["PATH"] = os.path.dirname(python) + os.pathsep + os.environ["PATH"]
    missing = missing_modules(python)
    if "pytest" in missing:
        told = f"pytest is not installed for {python} and could not be fetched"
        say(told, sys.stderr)
        return 2
    ignored = lacking(missing)
    good = bool(arguments) or check_style(python, missing)
    pytest = [python, "-m", "pytest", *ignored, *(arguments or whole(missing))]
    status = subprocess.run(pytest, stdin=subprocess.DEVNULL).returncode
    return status or int(not good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
