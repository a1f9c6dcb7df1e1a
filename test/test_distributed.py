# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Several ranks on this host, joined by Horovod: numbers, and what goes wrong.

Skipped without Horovod: `bash test/run_tests.sh --distributed` builds it.
"""

import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support import rank_program

if importlib.util.find_spec("horovod") is None:
    reason = "Horovod is not built: run_tests.sh --distributed builds it"
    pytest.skip(reason, allow_module_level=True)

PATIENCE = 600  # seconds that a test waits for what must come, on a slow machine too
ROOT = pathlib.Path(__file__).resolve().parent.parent
# Some seconds long, so that there is an epoch to be interrupted.
LONG = (
    "--device=cpu --num_samples=8192 --batch_size=64 --train_epochs=7"
    " --hidden_units=8 --num_classes=3 --num_features=2 --save_interval=1"
).split()


def environment(**more):
    foreign = ("HOROVOD_", "RANK_", "ASCEND_", "SWA_")
    known = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    known.update(PYTHON=sys.executable, TF_CPP_MIN_LOG_LEVEL="3")
    return dict(known, **more)


def left_running(folder):
    """The processes that have `folder` in their command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has ended
    return found


# Numbers


def trained(folder, size, **told):
    """Runs rank_program on `size` ranks; returns (status, output)."""
    folder.mkdir(parents=True)
    program = [sys.executable, "-W", "ignore", rank_program.__file__]
    program.append(json.dumps(dict(told, out=str(folder))))
    if size > 1:
        hosts = ["-np", str(size), "-H", f"localhost:{size}"]
        program = [sys.executable, "-m", "horovod.runner.launch", "--gloo"] + (
            hosts + program
        )
    done = subprocess.run(
        program,
        env=environment(HOROVOD_GLOO_TIMEOUT_SECONDS="60"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    return done.returncode, done.stdout


def arrays_of(folder, rank=0):
    with np.load(str(folder / f"{rank}.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """{number of ranks: folder with what each is left with}, without batch norm."""
    folder = pathlib.Path(str(tmp_path_factory.mktemp("plain")))
    for size in (1, 2, 4):
        status, output = trained(folder / str(size), size)
        assert status == 0, output
    return {size: folder / str(size) for size in (1, 2, 4)}


@pytest.mark.parametrize("size", [2, 4])
def test_several_ranks_train_as_one(plain, size):
    one, several = arrays_of(plain[1]), arrays_of(plain[size])
    assert one.keys() == several.keys()
    for name in one:  # float32's rounding over 48 steps
        np.testing.assert_allclose(several[name], one[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_end_with_the_same_bits(plain, size):
    first = arrays_of(plain[size])
    for rank in range(1, size):
        for name, array in arrays_of(plain[size], rank).items():
            np.testing.assert_array_equal(array, first[name], err_msg=name)


def test_averages_and_statistics_are_the_same_bits(tmp_path):
    status, output = trained(tmp_path / "2", 2, has_batch_norm=True)
    assert status == 0, output
    first, second = (arrays_of(tmp_path / "2", rank) for rank in (0, 1))
    assert any("moving_mean" in name for name in first)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize(
    "told, message",
    [
        ({"fewer_steps": 1}, "steps_per_epoch must be the same on all ranks, got 8, 7"),
        ({"damage": 1}, "dense_1/kernel:0, dense_1/bias:0 must be equal on all ranks"),
    ],
)
def test_ranks_that_part_ways_are_refused(tmp_path, told, message):
    status, output = trained(tmp_path / "2", 2, **told)
    assert status != 0 and message in output


# The whole trainer


class Launch:
    """The launcher, started in a folder."""

    def __init__(self, folder, *flags, **variables):
        self.folder = folder
        self.process = subprocess.Popen(
            ["bash", str(ROOT / "test/train_full_8p.sh"), *flags],
            cwd=str(folder),
            env=environment(**variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )

    def end(self):
        """Returns (status, what it said on its standard error)."""
        _, stderr = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, stderr

    def log(self, rank):
        path = self.folder / f"output/{rank}/train_{rank}.log"
        return path.read_text() if path.exists() else ""

    def wait_for(self, text):
        deadline = time.monotonic() + PATIENCE
        while text not in self.log(0) and self.process.poll() is None:
            assert time.monotonic() < deadline, self.log(0)
            time.sleep(0.02)

    def pid(self, rank):
        """The process of a rank: the trainer's, by its working folder."""
        at = str(self.folder / f"output/{rank}")
        for process in left_running(self.folder):
            try:
                if os.readlink(f"/proc/{process}/cwd") == at:
                    return process
            except OSError:
                pass
        raise AssertionError(self.log(rank))


def report_of(folder):
    """What must be equal of two runs."""
    told = json.loads((folder / "output/0/report.json").read_text())
    names = ("epoch_losses", "epoch_accuracies", "test", "ranks", "n_averaged")
    return {name: told[name] for name in names}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run of two ranks that nothing interrupted."""
    folder = pathlib.Path(str(tmp_path_factory.mktemp("unbroken")))
    status, stderr = Launch(folder, "--rank_size=2", *LONG).end()
    assert status == 0, stderr
    return folder


def test_two_ranks_report_as_one_run(unbroken):
    told = report_of(unbroken)
    assert told["ranks"] == 2 and told["n_averaged"] > 0
    lines = [
        re.findall(
            "loss: [0-9.]+", (unbroken / f"output/{n}/train_{n}.log").read_text()
        )
        for n in (0, 1)
    ]
    assert lines[0] == lines[1]  # each rank tells the figures of all rows
    assert (unbroken / "output/0/ckpt").is_dir()
    assert sorted(os.listdir(str(unbroken / "output/1"))) == ["train_1.log"]


def test_batch_norm_differs_by_the_replicas_own_moments_alone(tmp_path):
    """Each rank normalises with the moments of its own 8192 rows of 16384."""
    flags = ["--device=cpu", "--train_epochs=6"]
    status, stderr = Launch(tmp_path, "--rank_size=2", *flags).end()
    assert status == 0, stderr
    subprocess.run(
        ["bash", str(ROOT / "test/train_full_1p.sh"), *flags, "--output_dir=one"],
        cwd=str(tmp_path),
        env=environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    one = json.loads((tmp_path / "one/report.json").read_text())
    two = json.loads((tmp_path / "output/0/report.json").read_text())
    np.testing.assert_allclose(two["epoch_losses"], one["epoch_losses"], rtol=5e-4)
    for weights in ("sgd", "swa"):
        found = two["test"][weights]["accuracy"], one["test"][weights]["accuracy"]
        assert abs(found[0] - found[1]) < 0.005


def test_a_batch_that_does_not_divide_is_refused_before_anything_starts(tmp_path):
    launch = Launch(tmp_path, "--rank_size=2", "--device=cpu", "--batch_size=63")
    status, stderr = launch.end()
    assert status == 2 and len(stderr.splitlines()) == 1
    assert "must divide by 2, got 63" in stderr
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_all_and_the_run_can_be_resumed(tmp_path, killed):
    launch = Launch(tmp_path, "--rank_size=2", *LONG)
    launch.wait_for("Epoch 2/")
    os.kill(launch.pid(killed), signal.SIGKILL)
    status, stderr = launch.end()
    assert (status, left_running(tmp_path)) == (137, [])
    assert f"rank {killed} failed with status 137" in stderr
    resumed = Launch(tmp_path, "--rank_size=2", "--resume", *LONG)
    assert resumed.end()[0] == 0
    assert "resuming after epoch" in resumed.log(0)


def test_sigterm_ends_all_with_a_checkpoint_to_go_on_from(tmp_path, unbroken):
    launch = Launch(tmp_path, "--rank_size=2", *LONG)
    launch.wait_for("Epoch 3/")
    launch.process.terminate()
    status, stderr = launch.end()
    assert (status, left_running(tmp_path)) == (143, []), stderr
    saved = int(re.search("saved after epoch ([0-9]+)", launch.log(0)).group(1))
    assert (tmp_path / f"output/0/ckpt/model.ckpt-{saved}.index").exists()
    assert Launch(tmp_path, "--rank_size=2", "--resume", *LONG).end()[0] == 0
    assert report_of(tmp_path) == report_of(unbroken)


def test_a_rank_that_never_starts_is_named_within_the_timeout(tmp_path):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, time\n"
        "told = open('/proc/self/cmdline').read()\n"
        "if os.environ.get('HOROVOD_RANK') == '1' and '--check' not in told:\n"
        "    if 'worker' not in told and 'train-tf' in told: time.sleep(600)\n"
    )
    path = os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")]))
    variables = {"HOROVOD_GLOO_TIMEOUT_SECONDS": "3", "PYTHONPATH": path}
    status, stderr = Launch(tmp_path, "--rank_size=2", *LONG, **variables).end()
    assert (status, left_running(tmp_path)) == (1, [])
    assert "rank 1 of 2 did not start within 3 s" in stderr
