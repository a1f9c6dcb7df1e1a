# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The launchers: their own work with a stub for the trainer, then the real one."""

import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FULL = "train_full_1p.sh"
PERFORMANCE = "train_performance_1p.sh"
SMALL = (
    "--num_samples=512 --batch_size=64 --train_epochs=4 --hidden_units=8"
    " --num_classes=3 --num_features=2 --device=cpu"
).split()
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
# Says what it was given; then does what the variables BAD_FLAG, STATUS, SLEEP ask for.
STUB = """
import json, os, signal, sys, time

def stop(number, frame):
    print("stopped by", number)
    print("last words")
    sys.exit(128 + number)

if "--check" in sys.argv:
    print("checked")
    if "BAD_FLAG" in os.environ:
        sys.exit(os.write(2, b"trainer: error: bad flag\\n") and 2)
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
names = ("ASCEND_DEVICE_ID", "RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE", "JOB_ID")
given = {name: os.environ.get(name) for name in names}
given.update(flags=sys.argv[1:], cwd=os.getcwd(), device=os.environ["SWA_DEVICE"])
print(json.dumps(given))
print("on stderr", file=sys.stderr)
sys.stdout.flush()
time.sleep(float(os.environ.get("SLEEP", "0")))
folder = [flag for flag in sys.argv if flag.startswith("--output_dir=")][-1]
with open(os.path.join(folder.split("=", 1)[1], "report.json"), "w") as file:
    file.write(os.environ["REPORT"])
sys.exit(int(os.environ.get("STATUS", "0")))
"""


def environment(**variables):
    """This process's variables without Ascend's, on a machine without its software."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not re.match("ASCEND|RANK|JOB_ID|DEVICE_ID", name)
    }
    ours.update(PYTHON=sys.executable, SWA_FAKE_ROOT=os.devnull)
    ours.update(REPORT=json.dumps(REPORT))
    ours.update(variables)
    return ours


class Launcher:
    """The launchers of a project, called from a folder elsewhere."""

    def __init__(self, project, cwd):
        self.project = project
        self.cwd = cwd
        cwd.mkdir()

    def start(self, *arguments, script=FULL, **variables):
        return subprocess.Popen(
            ["bash", str(self.project / "test" / script), *arguments],
            cwd=str(self.cwd),
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            start_new_session=True,
        )

    def run(self, *arguments, **variables):
        """Returns (status, stdout, stderr)."""
        process = self.start(*arguments, **variables)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def given(self, *arguments, **variables):
        """What the stub was given: its flags (the last of each counts), and more."""
        status, out, err = self.run(*arguments, **variables)
        assert status == 0, err
        (line,) = [line for line in out.splitlines() if line.startswith("{")]
        given = json.loads(line)
        given["flags"] = dict(f[2:].split("=", 1) for f in given["flags"])
        return given

    def output(self, device=0):
        return self.cwd / "output" / str(device)


@pytest.fixture
def launcher(tmp_path):
    """Launchers of a copy of the project with a stub for its trainer."""
    project = tmp_path / "a project"
    (project / "test").mkdir(parents=True)
    for name in ("env.sh", "common.sh", FULL, PERFORMANCE, "zoo_summary.py"):
        shutil.copy(str(ROOT / "test" / name), str(project / "test" / name))
    (project / "train-tf.keras-npu.py").write_text(STUB)
    return Launcher(project, tmp_path / "the user's folder")


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize("script, epochs", [(FULL, "100"), (PERFORMANCE, "40")])
def test_defaults(launcher, script, epochs):
    given = launcher.given(script=script)
    assert given["flags"] == {
        "train_epochs": epochs,
        "data_path": "{}/".format(launcher.cwd),
        "output_dir": str(launcher.output()),
    }
    assert given["device"] == "auto"


def test_the_users_flags_are_handed_through_and_win(launcher):
    given = launcher.given("--train_epochs=7", "--swa_lr", "auto", "--seed", "-1")
    expected = {"train_epochs": "7", "swa_lr": "auto", "seed": "-1"}
    assert given["flags"].items() >= expected.items()


@pytest.mark.parametrize("arguments", [["--batch=512"], ["--batch", "512"]])
def test_batch_is_the_batch_size(launcher, arguments):
    assert launcher.given(*arguments)["flags"]["batch_size"] == "512"


@pytest.mark.parametrize("arguments", [["--device=cpu"], ["--device", "cpu"]])
def test_env_is_told_the_device(launcher, arguments):
    assert launcher.given(*arguments)["device"] == "cpu"


def test_relative_paths_are_those_of_the_caller(launcher):
    flags = launcher.given(
        "--data_path=my data.npz",
        "--data_save_path",
        "dumps",
        "--modify_mixlist=/lists/mine.json",
        "--output_dir=results",
    )["flags"]
    assert flags["data_path"] == str(launcher.cwd / "my data.npz")
    assert flags["data_save_path"] == str(launcher.cwd / "dumps")
    assert flags["modify_mixlist"] == "/lists/mine.json"
    assert flags["output_dir"] == str(launcher.cwd / "results")


def test_the_zoos_other_options_are_named_and_not_handed_on(launcher):
    names = "--max_step --train_steps --modeldir --loss_scale --autotune --bind_core"
    arguments = [name + "=1" for name in names.split()[:-1]] + ["--bind_core"]
    status, out, _ = launcher.run(*arguments)
    assert status == 0
    (line,) = [line for line in out.splitlines() if "no effect" in line]
    assert line.endswith(names)
    assert not any(name + "=" in out for name in names.split())


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("script, epochs", [(FULL, 100), (PERFORMANCE, 40)])
def test_help_needs_no_python(launcher, option, script, epochs):
    status, out, err = launcher.run("--seed=3", option, script=script, PYTHON="nowhere")
    assert (status, err) == (0, "")
    assert "parameter explain:" in out
    assert "epochs to train, default is {}\n".format(epochs) in out
    assert not launcher.output().exists()


# ------------------------------------------------------------------ environment


def test_a_single_device_gets_its_variables(launcher):
    given = launcher.given(RANK_SIZE="8", RANK_ID="3", RANK_TABLE_FILE="/8p.json")
    expected = ["0", "0", "1", None, "10087"]
    names = ("ASCEND_DEVICE_ID", "RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE", "JOB_ID")
    assert [given[name] for name in names] == expected


def test_a_stray_rank_table_is_told_in_one_line(launcher):
    _, out, _ = launcher.run(RANK_TABLE_FILE="")
    assert len(re.findall("^RANK_TABLE_FILE", out, re.M)) == 1
    _, out, _ = launcher.run()
    assert not re.findall("^RANK_TABLE_FILE", out, re.M)


def test_the_users_job_id_stays(launcher):
    assert launcher.given(JOB_ID="mine")["JOB_ID"] == "mine"


def test_the_run_stands_in_its_output_folder(launcher):
    assert launcher.given(ASCEND_DEVICE_ID="3")["cwd"] == str(launcher.output(3))


@pytest.mark.parametrize("device", ["-1", "x", "1.5", "01", "../1"])
def test_a_bad_device_is_refused(launcher, device):
    status, out, err = launcher.run(ASCEND_DEVICE_ID=device)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and "ASCEND_DEVICE_ID" in err and device in err
    assert not (launcher.cwd / "output").exists()


# ----------------------------------------------------------------------- output


def test_the_log_holds_what_is_shown(launcher):
    status, out, _ = launcher.run()
    log = (launcher.output() / "train_0.log").read_text()
    assert status == 0
    assert "on stderr\n" in log and log in out
    assert "checked" not in out


def test_the_zoos_lines_and_files(launcher):
    _, out, _ = launcher.run()
    assert "Device ID: 0\n" in out
    summary = out[out.index("-" * 18 + " Final result " + "-" * 18) :].splitlines()[1:]
    assert summary == [
        "Final Performance images/sec : 64000.00",
        "Final Train Accuracy : 0.8750",
        "E2E Training Duration sec : 12.35",
        "Device = cpu",
    ]
    case = "SWA_ID0252_for_TensorFlow_bs256_1p_acc"
    assert (launcher.output() / (case + ".log")).read_text().splitlines() == [
        "Network = SWA_ID0252_for_TensorFlow",
        "RankSize = 1",
        "BatchSize = 256",
        "DeviceType = " + platform.machine(),
        "CaseName = " + case,
        "ActualFPS = 64000.00",
        "TrainingTime = 15.62",  # microseconds a sample: 1e6 / 64000 is 15.625
        "TrainAccuracy = 0.8750",
        "ActualLoss = 0.2500",
        "E2ETrainingTime = 12.35",
        "Device = cpu",
    ]
    losses = (launcher.output() / (case + "_loss.txt")).read_text()
    assert losses == "1.5000\n0.7500\n0.2500\n"


def test_the_performance_case_has_its_own_name(launcher):
    launcher.run(script=PERFORMANCE)
    assert [path.name for path in launcher.output().glob("*_perf.log")] == [
        "SWA_ID0252_for_TensorFlow_bs256_1p_perf.log"
    ]


def test_only_the_devices_folder_is_replaced(launcher):
    for device in (0, 1):
        (launcher.output(device) / "ckpt").mkdir(parents=True)
        (launcher.output(device) / "ckpt" / "old").write_text("")
    launcher.run(ASCEND_DEVICE_ID="1")
    assert (launcher.output(0) / "ckpt" / "old").exists()
    assert not (launcher.output(1) / "ckpt").exists()


def test_a_folder_of_the_users_keeps_what_else_is_there(launcher):
    mine = launcher.cwd / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("")
    launcher.run("--output_dir=mine")
    assert (mine / "thesis.txt").exists() and (mine / "train_0.log").exists()


def test_an_output_folder_may_be_a_link(launcher):
    disk = launcher.cwd / "disk"
    disk.mkdir()
    (disk / "old").write_text("")
    launcher.output().parent.mkdir()
    launcher.output().symlink_to(disk)
    launcher.run()
    assert (disk / "train_0.log").exists() and not (disk / "old").exists()


def earlier_run(launcher):
    """Leaves what an earlier run would; returns its checkpoint's path."""
    (launcher.output() / "ckpt").mkdir(parents=True)
    (launcher.output() / "train_0.log").write_text("earlier\n")
    checkpoint = launcher.output() / "ckpt" / "model.ckpt-10.index"
    checkpoint.write_text("")
    return checkpoint


@pytest.mark.parametrize(
    "arguments",
    [["--resume"], ["--resume=True"], ["--resume", "1"], ["--resume", "--seed=2"]],
    ids=" ".join,
)
def test_resume_keeps_the_folder_and_appends_to_the_log(launcher, arguments):
    checkpoint = earlier_run(launcher)
    status, out, err = launcher.run(*arguments)
    assert status == 0, err
    assert checkpoint.exists()
    log = (launcher.output() / "train_0.log").read_text()
    assert log.startswith("earlier\n") and "on stderr\n" in log
    flags = json.loads([line for line in out.splitlines() if line[:1] == "{"][0])[
        "flags"
    ]
    assert any(flag.startswith("--resume") for flag in flags)


@pytest.mark.parametrize(
    "arguments", [["--resume=False"], ["--resume", "0"], ["--noresume"]], ids=" ".join
)
def test_resume_can_be_switched_off(launcher, arguments):
    checkpoint = earlier_run(launcher)
    assert launcher.run(*arguments)[0] == 0
    assert not checkpoint.exists()
    assert "earlier" not in (launcher.output() / "train_0.log").read_text()


def test_a_flag_file_can_ask_to_resume(launcher):
    checkpoint = earlier_run(launcher)
    (launcher.cwd / "flags").write_text("--resume\n")
    assert launcher.run("--flagfile=flags")[0] == 0
    assert checkpoint.exists()


def test_the_lock_of_the_folder_stays(launcher):
    launcher.output().mkdir(parents=True)
    lock = launcher.output() / ".lock"
    lock.write_text("")
    before = lock.stat().st_ino
    launcher.run()
    assert lock.stat().st_ino == before


# --------------------------------------------------------------------- failures


def test_a_bad_flag_leaves_an_earlier_run_alone(launcher):
    launcher.output().mkdir(parents=True)
    (launcher.output() / "report.json").write_text("earlier")
    status, out, err = launcher.run(BAD_FLAG="1")
    assert (status, out, err) == (2, "", "trainer: error: bad flag\n")
    assert (launcher.output() / "report.json").read_text() == "earlier"


def test_a_failed_run_gives_its_status_and_last_lines(launcher):
    status, out, err = launcher.run(STATUS="3")
    assert status == 3
    assert "status 3" in err and err.endswith("on stderr\n")
    assert "Final" not in out


def test_without_python_nothing_is_touched(launcher):
    launcher.output().mkdir(parents=True)
    (launcher.output() / "report.json").write_text("earlier")
    status, _, err = launcher.run(PYTHON="nowhere")
    assert status == 2 and "PYTHON=nowhere" in err
    assert (launcher.output() / "report.json").exists()


@pytest.mark.parametrize("group", [False, True], ids=["launcher", "process group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_signals_reach_the_run_and_its_status_comes_back(launcher, number, group):
    process = launcher.start(SLEEP="60")
    assert process.stdout.readline() == "Device ID: 0\n"
    assert "flags" in process.stdout.readline()  # its handlers are set
    if group:  # as a terminal and `timeout` do
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert out.endswith("stopped by {}\nlast words\n".format(int(number)))
    assert (launcher.output() / "train_0.log").read_text().endswith("last words\n")


def test_a_closed_terminal_does_not_stop_the_run(launcher):
    process = launcher.start(SLEEP="0.5")
    process.stdout.readline()
    process.stdout.close()
    log = launcher.output() / "train_0.log"
    report = launcher.output() / "report.json"
    deadline = time.monotonic() + 30
    while not report.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.wait(timeout=30)
    assert report.exists() and "on stderr" in log.read_text()
    process.stderr.close()


# ------------------------------------------------------------- the real trainer


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The launchers with the real trainer, all from one folder."""
    return Launcher(ROOT, tmp_path_factory.mktemp("real") / "the user's folder")


@pytest.mark.parametrize("script, suffix", [(FULL, "acc"), (PERFORMANCE, "perf")])
def test_a_real_run_reports_its_figures(real, script, suffix):
    status, out, err = real.run(*SMALL, script=script)
    assert status == 0, err
    report = json.loads((real.output() / "report.json").read_text())
    assert report["config"]["train_epochs"] == 4 and report["device"] == "cpu"
    case = "SWA_ID0252_for_TensorFlow_bs64_1p_" + suffix
    losses = (real.output() / (case + "_loss.txt")).read_text().split()
    assert losses == ["{:.4f}".format(loss) for loss in report["epoch_losses"]]
    rate = "{:.2f}".format(report["samples_per_second"])
    assert "Final Performance images/sec : {}\n".format(rate) in out
    log = (real.output() / "train_0.log").read_text()
    assert re.findall(r"loss: (\d+\.\d+)", log)[:4] == losses
    assert "\r" not in log and "\b" not in log
    assert list((real.output() / "ckpt").iterdir())


def test_a_real_unknown_flag_is_refused_and_the_earlier_run_stays(real):
    report = real.output() / "report.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    before = report.read_bytes() if report.exists() else b"earlier"
    report.write_bytes(before)
    status, out, err = real.run("--no_such_flag=1")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and "no_such_flag" in err
    assert report.read_bytes() == before


def test_help_lists_every_flag_of_the_trainer(launcher):
    script = str(ROOT / "train-tf.keras-npu.py")
    of_trainer = subprocess.check_output([sys.executable, script, "--help"])
    flags = set(re.findall(r"^\s+--(?:\[no\])?([a-z_0-9]+)", of_trainer.decode(), re.M))
    _, out, _ = launcher.run("--help")
    assert "train_epochs" in flags
    assert flags - {"help", "helpfull", "helpshort", "check"} <= set(
        re.findall(r"--([a-z_0-9]+)", out)
    )
