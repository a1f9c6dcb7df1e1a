# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Plants faults in a copy of the tree, one at a time, and notes which tests catch them.

usage: planted_faults.py RESULTS.json [--only TEXT] [--wide] [--tests TEST ...]

faults.txt lists the faults. Each is planted alone, and the tests named there run. With
--wide, all that are left are then planted together, and every test of the callback or
of the trainer runs; what fails runs again with each of these faults alone. What
RESULTS.json holds already is not run again. A table for readers is written beside it.

Exit status 1: a fault's text is no longer in its file, or a fault was not caught.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import List, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FAULTS = ROOT / "test" / "support" / "faults.txt"
LINKED = (".venv", ".git")
LEFT_OUT = shutil.ignore_patterns(*LINKED, "__pycache__", ".hypothesis", "output")
FIRST_SECONDS, WIDE_SECONDS = 900, 7200  # because a fault may make a test hang
WORKERS = 2  # processes at a time

# The files that test the trainer; files that test no product code, or run others again.
# All other test files are the callback's.
TRAINER = """checkpoint console dataset distributed errors evaluation faults
figures files fit flags machine npu_matrix npu_options npu_script output
ranks ranks_hccl results resume run saving script session settings stopping""".split()
OTHER = """benchmark check_npu eager env fake_npu launcher_ranks launchers packaging
readme""".split()


class Fault(NamedTuple):
    """One fault: where it is planted, and what is known to catch it."""

    name: str
    file: str
    behaviour: str  # what a user would see go wrong
    before: str
    after: str
    tests: List[str]  # names of tests that run first
    is_eager: bool  # whether those run in eager mode

    @property
    def is_of_trainer(self):
        return self.file.startswith("swa/training/")

    def is_plantable(self, tree):
        """Whether the text before stands just once in the file."""
        path = tree / self.file
        return path.exists() and path.read_text().count(self.before) == 1

    def plant(self, tree):
        path = tree / self.file
        path.write_text(path.read_text().replace(self.before, self.after))

    def remove(self, tree):
        """Makes the file what it is in the tree that is copied."""
        shutil.copy(str(ROOT / self.file), str(tree / self.file))


def read_faults():
    """The faults of faults.txt, which describes its format."""
    text = re.sub(r"^#.*\n", "", FAULTS.read_text(), flags=re.M)
    faults = []
    for entry in text.strip().split("\n\n"):
        first, *lines = entry.split("\n")
        parts = {mark: [line[2:] for line in lines if line[0] == mark] for mark in "-+"}
        tests = [name for line in lines if line[0] == "?" for name in line.split()[1:]]
        is_eager = tests[:1] == ["eager"]
        names = first[2:].split(" ", 2)
        texts = ["\n".join(parts[mark]) for mark in "-+"]
        faults.append(Fault(*names, *texts, tests[is_eager:], is_eager))
    return faults


def copy_of_tree(folder):
    """A copy of the tree below `folder`, with links to what is not copied."""
    tree = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "tree"
    shutil.copytree(str(ROOT), str(tree), symlinks=True, ignore=LEFT_OUT)
    for name in LINKED:
        (tree / name).symlink_to((ROOT / name).resolve())
    return tree


def failures(tree, tests, is_eager, *options, seconds=FIRST_SECONDS):
    """The ids of the tests that fail, in their order; empty where all pass.

    A run that does not end in time counts as one failure.
    """
    environment = dict(os.environ, SWA_DEVICE="cpu", PYTHONDONTWRITEBYTECODE="1")
    environment["SWA_TEST_MODE"] = "eager" if is_eager else ""
    command = [str(tree / ".venv/bin/python"), "-m", "pytest", "-q", "--tb=no"]
    command += ["-p", "no:cacheprovider", "--continue-on-collection-errors"]
    command += [*options, *tests]
    with tempfile.TemporaryFile() as report:
        process = subprocess.Popen(
            command,
            cwd=str(tree),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=report,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return [f"no end within {seconds} s"]
        report.seek(0)
        text = report.read().decode(errors="replace")
    if status in (0, 5):  # 5: no test was chosen
        return []
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+(?:\[.*?\])?)(?: - .*)?$", text, re.M)
    if not failed:
        raise RuntimeError(f"pytest ended with status {status}: {text[-300:]}")
    return failed


def tests_of_names(tree, names):
    """(pytest's arguments that choose these tests, names that no file has)."""
    files, missing = [], []
    for name in names:
        paths = sorted((tree / "test").glob("test_*.py"))
        paths = [p for p in paths if re.search(rf"^def {name}\(", p.read_text(), re.M)]
        files += [f"test/{path.name}" for path in paths]
        missing += [] if paths else [name]
    # by -k, because a file that is skipped has no test of that name
    arguments = [*dict.fromkeys(files), "-k", " or ".join(names)]
    return arguments if files else [], missing


def all_tests(tree, is_of_trainer):
    """All test files of the trainer, or of the callback."""
    names = sorted(path.stem[5:] for path in (tree / "test").glob("test_*.py"))
    names = [name for name in names if name not in OTHER]
    return [f"test/test_{n}.py" for n in names if (n in TRAINER) == is_of_trainer]


class Results:
    """The results so far, kept in a JSON file, with a table beside it."""

    def __init__(self, path):
        self._path = pathlib.Path(path)
        self.by_name = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._lock = threading.Lock()

    def note(self, fault, stage, caught_by):
        """Keeps what a stage says of a fault; an empty `caught_by`: not caught."""
        entry = {"file": fault.file, "behaviour": fault.behaviour, "stage": stage}
        print(f"{fault.name}: {caught_by or 'not caught'}", flush=True)
        temporary = self._path.with_suffix(".tmp")
        with self._lock:
            self.by_name[fault.name] = dict(entry, caught_by=caught_by)
            temporary.write_text(json.dumps(self.by_name, indent=1))
            temporary.replace(self._path)

    def caught_by(self, fault):
        """The test that catches the fault; empty: none is known."""
        return self.by_name.get(fault.name, {}).get("caught_by", "")

    def write_table(self, faults):
        """Writes the table; returns how many of the faults were not caught."""
        rows = ["| fault | file | what goes wrong | caught by |", "|-|-|-|-|"]
        for fault in faults:
            caught_by = self.caught_by(fault) or "NOT CAUGHT"
            cells = (fault.name, fault.file, fault.behaviour, caught_by)
            rows.append(f"| {' | '.join(cells)} |")
        missed = sum(not self.caught_by(fault) for fault in faults)
        total = f"{len(faults)} faults, {missed} of them not caught."
        self._path.with_suffix(".md").write_text("\n".join([total, "", *rows, ""]))
        print(total)
        return missed


def run_first(faults, results, tests, folder):
    """Plants each fault alone, and runs the tests named for it, or `tests`."""

    def run(fault):
        tree = copy_of_tree(folder)
        named, missing = tests_of_names(tree, fault.tests)
        for name in missing:
            print(f"{fault.name}: no test is named {name}")
        fault.plant(tree)
        chosen = tests or named
        failed = failures(tree, chosen, fault.is_eager, "-x") if chosen else []
        results.note(fault, "first", "".join(failed[:1]))
        shutil.rmtree(str(tree.parent))

    waiting = [fault for fault in faults if fault.name not in results.by_name]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(run, waiting))


def run_wide(faults, results, is_eager, folder):
    """Plants all faults together, and runs every test; then each alone with failures.

    A test that passes with all of them planted is not run with each.
    """
    tree = copy_of_tree(folder)
    tests = all_tests(tree, faults[0].is_of_trainer)
    options = ("-n", str(WORKERS))
    waiting = list(faults)
    while waiting:
        planted = []
        for fault in waiting:  # of two that change the same text, one comes later
            if fault.is_plantable(tree):
                fault.plant(tree)
                planted.append(fault)
        failed = failures(tree, tests, is_eager, *options, seconds=WIDE_SECONDS)
        for fault in planted:
            fault.remove(tree)
        waiting = [fault for fault in waiting if fault not in planted]
        always = failures(tree, failed, is_eager) if failed else []
        failed = [test for test in failed if test not in always]
        print(f"{len(planted)} faults at once: {len(failed)} tests fail", flush=True)
        for fault in planted if failed else []:
            fault.plant(tree)
            caught_by = failures(tree, failed, is_eager, "-x")
            fault.remove(tree)
            if caught_by:
                results.note(fault, "wide", caught_by[0])


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("results")
    parser.add_argument("--only", default="", help="a part of a fault's name or file")
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--tests", nargs="*", help="these, and not those of faults.txt")
    options = parser.parse_args()
    faults = [f for f in read_faults() if options.only in f"{f.name} {f.file}"]
    lost = [fault for fault in faults if not fault.is_plantable(ROOT)]
    for fault in lost:
        print(f"{fault.name}: its text is not just once in {fault.file}")
    faults = [fault for fault in faults if fault not in lost]
    results = Results(options.results)
    with tempfile.TemporaryDirectory() as folder:
        broken = failures(copy_of_tree(folder), ["test"], False, "--collect-only")
        if broken:  # else each fault would seem to be caught
            print(f"cannot be imported where no fault is planted: {' '.join(broken)}")
            return 1
        run_first(faults, results, options.tests, folder)
        for is_of_trainer, is_eager in [(False, False), (False, True), (True, False)]:
            missed = [fault for fault in faults if not results.caught_by(fault)]
            missed = [f for f in missed if f.is_of_trainer == is_of_trainer]
            if options.wide and missed:
                run_wide(missed, results, is_eager, folder)
    return int(bool(results.write_table(faults) or lost))


if __name__ == "__main__":
    sys.exit(main())
