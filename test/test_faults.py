# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Faults done to real processes: kills, signals, full disks, two runs at once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from support import fork_server

EPOCHS = 120  # averaged from 90 on; the last is the batch-norm epoch
SMALL = (
    "--device=cpu --num_samples=1000 --batch_size=128 --hidden_units=64 --momentum=0.9 "
    f"--num_classes=3 --num_features=2 --train_epochs={EPOCHS} --save_interval=1"
).split()
TIMES = "samples_per_second compile_seconds train_seconds e2e_seconds".split()
PATIENCE = 600  # seconds that a test waits for what must come, on a slow machine too
# faults, run in the process before the script
SLEEP_IN_EPOCH_4 = """
import itertools, time
from swa.training import dataset
batches = dataset.batches
def slow(*arguments, **options):
    for count, rows in enumerate(batches(*arguments, **options)):
        if count == 3 * 8 + 2:
            print("sleeping", flush=True)
            time.sleep(600)
        yield rows
dataset.batches = slow
"""
SLEEP_BEFORE = """
import time
from swa.training import dataset
def load(config):
    print("sleeping", flush=True)
    time.sleep(600)
dataset.load = load
"""
SLEEP_BEFORE_FIT = """
import time
from swa.training import fit
prepare = fit.prepare
def slow(*arguments):
    training = prepare(*arguments)
    print("sleeping", flush=True)
    time.sleep(600)
    return training
fit.prepare = slow
"""
LITTLE_MEMORY = """
import resource
from swa.training import memory
memory.check = lambda *arguments, **options: None
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""
SMALL_FILES_ONLY = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
"""


class Runs(fork_server.Client):
    """Runs of the script, in processes forked from one that has TensorFlow."""

    def start(self, folder, *flags, first=""):
        """Starts a run whose output goes to `log` in the folder; returns its id."""
        argv = SMALL + ["--output_dir=out"] + list(flags)
        log = str(folder / "log")
        return self.ask(argv=argv, cwd=str(folder), log=log, first=first)

    def wait(self, process):
        return self.ask(wait=process)

    def run(self, folder, *flags, **options):
        """Returns the exit status."""
        return self.wait(self.start(folder, *flags, **options))


@pytest.fixture(scope="module")
def runs():
    server = Runs(dict(os.environ, ASCEND_DEVICE_ID="0"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def unbroken(runs, tmp_path_factory):
    """The figures and the weights of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert runs.run(folder) == 0, (folder / "log").read_text()
    return result(folder)


def result(folder):
    """What must not depend on how often a run was stopped."""
    report = json.loads((folder / "out" / "report.json").read_text())
    for name in TIMES + ["commit"]:  # one may be made meanwhile
        del report[name]
    for name in ("output_dir", "data_path"):
        del report["config"][name]
    weights = [
        (folder / "out" / "ckpt" / (name + ".ckpt.data-00000-of-00001")).read_bytes()
        for name in ("sgd", "swa")
    ]
    return report, weights


def rests(folder):
    """Files that a write has not finished with."""
    return [
        p.name
        for p in (folder / "out").rglob("*")
        if "temp" in p.name or ".tmp" in p.name
    ]


def files_below(folder):
    """The bytes of every file below a folder, but of the lock."""
    paths = [path for path in folder.rglob("*") if path.name != ".lock"]
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def wait_for(is_so):
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.002)


def has_line(folder, text):
    return lambda: (folder / "log").exists() and text in (folder / "log").read_text()


# ------------------------------------------------------------------------- kills


def test_killed_a_dozen_times_a_run_ends_as_if_it_never_was(runs, unbroken, tmp_path):
    """While it starts, somewhere in an epoch, and while a checkpoint is written."""
    generator = random.Random(1)
    ckpt, log = tmp_path / "out" / "ckpt", tmp_path / "log"

    def epochs_told():
        return log.read_text().count("samples/s") if log.exists() else 0

    def is_saving():
        return ckpt.exists() and any("temp" in name for name in os.listdir(str(ckpt)))

    def await_moment(kind, told_before, rests_before):
        if kind == "start":
            time.sleep(generator.uniform(0.0, 0.5))
        elif kind == "epoch":
            epochs = generator.randint(1, 4)
            wait_for(lambda: epochs_told() >= told_before + epochs)
            time.sleep(generator.uniform(0.0, 0.03))
        else:
            wait_for(lambda: not rests_before & set(rests(tmp_path)))  # cleaned away
            wait_for(is_saving)

    caught = 0
    for kind in ("start", "epoch", "write") * 4:
        before = epochs_told(), set(rests(tmp_path))
        process = runs.start(tmp_path, "--resume")
        await_moment(kind, *before)
        os.kill(process, signal.SIGKILL)
        assert runs.wait(process) == -signal.SIGKILL
        assert len(rests(tmp_path)) <= 2  # of one write, not of many
        caught += bool(rests(tmp_path))
    assert caught  # a kill came in the midst of a write
    assert runs.run(tmp_path, "--resume") == 0, log.read_text()
    assert result(tmp_path) == unbroken
    assert rests(tmp_path) == []
    lines = log.read_text().splitlines()
    warnings = [line for line in lines if "cannot be used" in line]
    # a kill may come between the two files of a checkpoint; no other is broken
    assert all(line.endswith("removed or never written.") for line in warnings)


# ----------------------------------------------------------------------- signals


@pytest.mark.parametrize("name, status", [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_saves_and_says_how_to_go_on(runs, unbroken, tmp_path, name, status):
    process = runs.start(tmp_path, "--save_interval=0")
    wait_for(has_line(tmp_path, "Epoch 4/"))
    os.kill(process, getattr(signal, name))
    assert runs.wait(process) == status
    log = (tmp_path / "log").read_text()
    last = log.splitlines()[-1]
    assert last.startswith(f"stopped by {name}; saved after epoch ")
    assert last.endswith("--resume.") and "Traceback" not in log
    assert len(list((tmp_path / "out" / "ckpt").glob("model.ckpt-*.index"))) == 1
    assert runs.run(tmp_path, "--resume") == 0
    assert result(tmp_path) == unbroken


def test_a_call_that_does_not_return_is_left_with_the_epochs_beginning(
    runs, unbroken, tmp_path
):
    """Python sees a signal when the call returns; a compile may take minutes."""
    process = runs.start(tmp_path, "--save_interval=0", first=SLEEP_IN_EPOCH_4)
    wait_for(has_line(tmp_path, "sleeping"))
    os.kill(process, signal.SIGTERM)
    assert runs.wait(process) == 143
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("stopped by SIGTERM; saved after epoch 3. ")
    assert runs.run(tmp_path, "--resume") == 0
    assert result(tmp_path) == unbroken


def test_a_second_signal_ends_the_run_at_once(runs, tmp_path):
    process = runs.start(tmp_path, "--save_interval=0", first=SLEEP_IN_EPOCH_4)
    wait_for(has_line(tmp_path, "sleeping"))
    os.kill(process, signal.SIGTERM)
    time.sleep(0.2)  # equal signals that come together count once
    os.kill(process, signal.SIGINT)
    assert runs.wait(process) == 130
    assert "stopped by" not in (tmp_path / "log").read_text()
    assert not (tmp_path / "out" / "ckpt").exists()


def test_a_signal_before_training_is_one_line(runs, tmp_path):
    process = runs.start(tmp_path, first=SLEEP_BEFORE)
    wait_for(has_line(tmp_path, "sleeping"))
    os.kill(process, signal.SIGTERM)
    assert runs.wait(process) == 143
    assert (tmp_path / "log").read_text() == (
        "sleeping\nstopped by SIGTERM before an epoch began.\n"
    )


def test_a_signal_before_the_first_epoch_keeps_earlier_results(runs, tmp_path):
    assert runs.run(tmp_path) == 0
    before = files_below(tmp_path / "out")
    os.unlink(str(tmp_path / "log"))
    process = runs.start(tmp_path, first=SLEEP_BEFORE_FIT)
    wait_for(has_line(tmp_path, "sleeping"))
    os.kill(process, signal.SIGTERM)
    assert runs.wait(process) == 143
    assert "before an epoch began" in (tmp_path / "log").read_text()
    assert files_below(tmp_path / "out") == before


def test_memory_that_is_limited_is_one_line(runs, tmp_path):
    big = ("--num_samples=100000000", "--num_features=6")
    assert runs.run(tmp_path, *big, first=LITTLE_MEMORY) == 1
    assert_one_line_error(tmp_path, "memory")


def test_through_the_launcher_a_stopped_run_goes_on(unbroken, tmp_path):
    """The real thing: terminal, launcher, trainer; and the log is appended."""
    folder = tmp_path / "output" / "0"
    environment = dict(os.environ, PYTHON=sys.executable, SWA_FAKE_ROOT=os.devnull)
    environment.update(ASCEND_DEVICE_ID="0")
    command = ["bash", str(ROOT / "test" / "train_full_1p.sh")] + SMALL

    def launch(*flags):
        return subprocess.Popen(
            command + list(flags),
            cwd=str(tmp_path),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            start_new_session=True,
        )

    process = launch()
    for line in process.stdout:
        if line.startswith("Epoch 4/"):
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "stopped by SIGINT; saved after epoch" in out and err == ""
    (folder / "mine").write_text("")
    process = launch("--resume")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "Final Train Accuracy" in out
    log = (folder / "train_0.log").read_text()
    assert log.index("stopped by SIGINT") < log.index("resuming after epoch")
    assert (folder / "mine").exists()
    os.rename(str(tmp_path / "output" / "0"), str(tmp_path / "out"))
    assert result(tmp_path) == unbroken


# ------------------------------------------------------------------ what is full


def stopped_early(runs, folder):
    """Starts a run and stops it with a few checkpoints; returns these files."""
    process = runs.start(folder)
    wait_for(has_line(folder, "Epoch 8/"))
    os.kill(process, signal.SIGTERM)
    assert runs.wait(process) == 143
    (folder / "log").unlink()
    return checkpoints(folder)


def checkpoints(folder):
    files = (folder / "out" / "ckpt").glob("model.ckpt-*")
    return {path.name: path.read_bytes() for path in files}


def assert_one_line_error(folder, *words):
    errors = [
        line
        for line in (folder / "log").read_text().splitlines()
        if line.startswith("train-tf.keras-npu.py: error: ")
    ]
    assert len(errors) == 1 and all(word in errors[0] for word in words), errors
    assert "Traceback" not in (folder / "log").read_text()


def assert_goes_on(runs, folder, unbroken):
    assert runs.run(folder, "--resume") == 0, (folder / "log").read_text()
    assert result(folder) == unbroken


def test_files_that_may_not_grow_end_the_run_with_the_earlier_checkpoints(
    runs, unbroken, tmp_path
):
    before = stopped_early(runs, tmp_path)
    assert runs.run(tmp_path, "--resume", first=SMALL_FILES_ONLY) == 1
    assert_one_line_error(tmp_path, "model.ckpt-", "File too large")
    assert checkpoints(tmp_path) == before and rests(tmp_path) == []
    assert_goes_on(runs, tmp_path, unbroken)


def test_events_for_tensorboard_that_cannot_be_written_end_the_run_in_one_line(
    runs, tmp_path
):
    """The file of events grows above the largest size before a checkpoint is due."""
    # without lines of epochs, or the log would grow above it first
    flags = ["--tensorboard", "--save_interval=0", "--verbose=0"]
    assert runs.run(tmp_path, *flags, first=SMALL_FILES_ONLY) == 1
    assert_one_line_error(tmp_path, "tensorboard cannot be written", "File too large")


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own; the folder for logs above it."""
    (tmp_path / "out").mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "test", str(tmp_path / "out")]
        return subprocess.call(command, stderr=subprocess.DEVNULL)

    if not shutil.which("mount") or mount("size=512k"):
        pytest.skip("a small disk needs the right to mount one")
    yield mount
    subprocess.check_call(["umount", str(tmp_path / "out")])


def test_a_full_disk_ends_the_run_with_the_earlier_checkpoints(
    runs, unbroken, tmp_path, disk
):
    before = stopped_early(runs, tmp_path)
    filler = tmp_path / "out" / "filler"
    with pytest.raises(OSError):
        filler.write_bytes(b"x" * 600000)
    assert runs.run(tmp_path, "--resume") == 1
    assert_one_line_error(tmp_path, "model.ckpt-", "No space left", "--resume")
    assert checkpoints(tmp_path) == before and rests(tmp_path) == []
    filler.unlink()
    assert_goes_on(runs, tmp_path, unbroken)


def test_a_read_only_disk_ends_the_run_with_the_earlier_checkpoints(
    runs, unbroken, tmp_path, disk
):
    before = stopped_early(runs, tmp_path)
    assert disk("remount,ro") == 0
    for flags in (["--resume"], []):
        assert runs.run(tmp_path, *flags) == 2
        assert_one_line_error(tmp_path, "output_dir", "writable", "Read-only")
        (tmp_path / "log").unlink()
    assert checkpoints(tmp_path) == before
    assert disk("remount,rw") == 0
    assert_goes_on(runs, tmp_path, unbroken)


# ----------------------------------------------------------- two at once, and loss


def test_a_second_run_on_one_folder_is_refused_until_the_first_is_gone(
    runs, unbroken, tmp_path
):
    first = runs.start(tmp_path, first=SLEEP_IN_EPOCH_4)
    wait_for(has_line(tmp_path, "sleeping"))
    os.rename(str(tmp_path / "log"), str(tmp_path / "log of the first"))
    before = checkpoints(tmp_path)
    for flags in ([], ["--resume"], ["--check"]):
        assert runs.run(tmp_path, *flags) == 2
        assert_one_line_error(tmp_path, "output_dir", f"process {first}")
        (tmp_path / "log").unlink()
    assert checkpoints(tmp_path) == before
    os.kill(first, signal.SIGKILL)
    runs.wait(first)
    assert_goes_on(runs, tmp_path, unbroken)


def test_with_all_checkpoints_broken_nothing_is_deleted(runs, tmp_path):
    stopped_early(runs, tmp_path)
    for path in (tmp_path / "out" / "ckpt").glob("model.ckpt-*.data*"):
        path.write_bytes(path.read_bytes()[:-1])
    before = checkpoints(tmp_path)
    assert runs.run(tmp_path, "--resume") == 2
    assert_one_line_error(tmp_path, "resume", str(tmp_path / "out" / "ckpt"))
    assert (tmp_path / "log").read_text().count("warning: ") == 5
    assert checkpoints(tmp_path) == before
