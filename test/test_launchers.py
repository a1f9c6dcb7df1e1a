# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The launchers: their own work with a stub for the trainer, then the real one."""

import contextlib
import json
import os
import pathlib
import platform
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from launcher import log, plan
from support import launchers

from swa.training import flags
from swa.training.remedies import remedies

ROOT = pathlib.Path(__file__).resolve().parent.parent
FULL = "train_full_1p.sh"
PERFORMANCE = "train_performance_1p.sh"
SMALL = (
    "--num_samples=512 --batch_size=64 --train_epochs=4 --hidden_units=8"
    " --num_classes=3 --num_features=2 --device=cpu"
).split()
# Says what it was given; then does what the variables NO_LINE, STATUS, SLEEP ask for.
# Like the trainer it tells, with NO_LINE unset, when its checks are done.
STUB = """
config = settings.checked(flags.parse(sys.argv[1:]))
names = ("ASCEND_DEVICE_ID", "RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE", "JOB_ID")
given = {name: os.environ.get(name) for name in names}
given.update(flags=config._asdict(), cwd=os.getcwd(), device=os.environ["SWA_DEVICE"])
print(json.dumps(given))
print("on stderr", file=sys.stderr)
sys.stdout.flush()
if "NO_LINE" in os.environ:
    sys.exit(int(os.environ["NO_LINE"]))
output.tell_started(config.output_dir, config.resume)
print(os.environ.get("SAYS", ""))
print("on a terminal" if sys.stdout.isatty() else "on none", flush=True)
time.sleep(float(os.environ.get("SLEEP", "0")))
with open(os.path.join(config.output_dir, "report.json"), "w") as file:
    file.write(os.environ["REPORT"])
sys.exit(int(os.environ.get("STATUS", "0")))
"""


def environment(**variables):
    """This process's variables without Ascend's, on a machine without its software."""
    foreign = ("ASCEND", "RANK", "JOB_ID", "DEVICE_ID")
    ours = dict(PYTHON=sys.executable, SWA_FAKE_ROOT=os.devnull)
    ours.update(REPORT=json.dumps(launchers.REPORT))
    return launchers.environment(foreign, **dict(ours, **variables))


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
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def given(self, *arguments, **variables):
        """What the stub was given: its flags (the last of each counts), and more."""
        status, out, err = self.run(*arguments, **variables)
        assert status == 0, err
        (line,) = [line for line in out.splitlines() if line.startswith("{")]
        return json.loads(line)

    def output(self, device=0):
        return self.cwd / "output" / str(device)


@pytest.fixture
def launcher(tmp_path):
    """Launchers of a copy of the project with a stub for its trainer."""
    names = ["env.sh", "launch.py", FULL, PERFORMANCE]
    project = launchers.make_project(tmp_path, names, STUB)
    return Launcher(project, tmp_path / "the user's folder")


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize("script, epochs", [(FULL, 100), (PERFORMANCE, 40)])
def test_defaults(launcher, script, epochs):
    given = launcher.given(script=script)
    assert given["flags"]["train_epochs"] == epochs
    assert given["flags"]["data_path"] == str(launcher.cwd)
    assert given["flags"]["output_dir"] == str(launcher.output())
    assert given["device"] == "auto"


def test_the_users_flags_are_handed_through_and_win(launcher):
    given = launcher.given("--train_epochs=7", "--swa_lr", "0.002", "--batch=512")
    expected = {"train_epochs": 7, "swa_lr": 0.002, "batch_size": 512}
    assert given["flags"].items() >= expected.items()


@pytest.mark.parametrize("arguments", [["--device=cpu"], ["--device", "cpu"]])
def test_env_is_told_the_device(launcher, arguments):
    assert launcher.given(*arguments)["device"] == "cpu"


def test_relative_paths_are_those_of_the_caller(launcher):
    (launcher.cwd / "my data.npz").write_text("")
    (launcher.cwd / "mine.json").write_text("{}")
    flags = launcher.given(
        "--data_path=my data.npz",
        "--data_save_path",
        "dumps",
        "--modify_mixlist=mine.json",
        "--output_dir=results",
    )["flags"]
    assert flags["data_path"] == str(launcher.cwd / "my data.npz")
    assert flags["data_save_path"] == str(launcher.cwd / "dumps")
    assert flags["modify_mixlist"] == str(launcher.cwd / "mine.json")
    assert flags["output_dir"] == str(launcher.cwd / "results")


def test_the_zoos_other_options_are_named_and_not_handed_on(launcher):
    names = (
        "--max_step --train_steps --modeldir --loss_scale --autotune --ckpt_path "
        "--conda_name --ffts --bind_core --npu_loss_scale --Autotune"
    )
    status, out, err = launcher.run(*[name + "=1" for name in names.split()])
    assert status == 0, err
    (line,) = [line for line in out.splitlines() if "no effect" in line]
    assert set(names.split()) < set(line.split())


@pytest.mark.parametrize(
    "argument",
    "-help --flagfile=f --undefok=x --bogus".split(),
)
def test_what_is_no_flag_is_refused_and_deletes_nothing(launcher, argument):
    checkpoint = earlier_run(launcher)
    status, out, err = launcher.run(argument)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(FULL + ": error: ") and len(err) <= 400 + len(FULL)
    assert argument.lstrip("-").partition("=")[0] in err
    assert checkpoint.exists()


def test_check_checks_and_deletes_nothing(launcher):
    checkpoint = earlier_run(launcher)
    assert launcher.run("--check") == (0, "checked\n", "")
    assert checkpoint.exists()
    assert (launcher.output() / "train_0.log").read_text() == "earlier\n"


@pytest.mark.parametrize("option", ["-h", "--h", "--help"])
def test_help_needs_no_python(launcher, option):
    status, out, err = launcher.run("--seed=3", option, PYTHON="nowhere")
    assert (status, err) == (0, "")
    assert "parameter explain:" in out
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


@pytest.mark.parametrize("device", ["-1", "9" * 30])
def test_a_bad_device_is_refused(launcher, device):
    status, out, err = launcher.run(ASCEND_DEVICE_ID=device)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and "ASCEND_DEVICE_ID" in err and device in err
    assert not (launcher.cwd / "output").exists()


def test_an_empty_device_is_device_0(launcher):
    assert launcher.given(ASCEND_DEVICE_ID="")["ASCEND_DEVICE_ID"] == "0"


@pytest.mark.parametrize("script", sorted(ROOT.glob("test/train_*.sh")), ids=str)
def test_a_shell_that_is_not_bash_is_told_so(script):
    shell = shutil.which("dash") or pytest.skip("needs dash")
    done = subprocess.run([shell, str(script)], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"this is a bash script. Run: bash " in done.stderr


def test_a_checkout_with_crlf_keeps_the_launchers_line_ends(tmp_path):
    git = shutil.which("git") or pytest.skip("needs git")
    (tmp_path / "source").mkdir()
    for path in (ROOT / ".gitattributes", ROOT / "test" / FULL):
        shutil.copy(str(path), str(tmp_path / "source"))
    config = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=true"]
    for command in ("init -q", "add .", "commit -qm all", "clone -q . ../copy"):
        whole = [git, *config, *command.split()]
        subprocess.run(whole, cwd=str(tmp_path / "source"), check=True)
    assert b"\r" in (tmp_path / "copy/.gitattributes").read_bytes()
    assert b"\r" not in (tmp_path / "copy" / FULL).read_bytes()


def test_cdpath_changes_nothing(launcher):
    decoy = launcher.cwd / "decoy"
    (decoy / "test").mkdir(parents=True)
    done = subprocess.run(
        ["bash", "test/" + FULL],
        cwd=str(launcher.project),
        env=environment(CDPATH="{}:.".format(decoy)),
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 0 and b"Final result" in done.stdout


def test_a_launcher_may_be_a_link(launcher):
    link = launcher.cwd / "mine.sh"
    link.symlink_to(launcher.project / "test" / FULL)
    done = subprocess.run(
        ["bash", "mine.sh"],
        cwd=str(launcher.cwd),
        env=environment(),
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 0 and b"Final result" in done.stdout


def test_a_working_directory_that_is_gone_is_told(launcher):
    script = launcher.project / "test" / FULL
    done = subprocess.run(
        ["bash", "-c", 'rmdir "$PWD" && exec bash "$0"', str(script)],
        cwd=str(launcher.cwd),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    # bash itself says so before it reads the script
    lines = [one for one in done.stderr.splitlines() if "shell-init:" not in one]
    assert len(lines) == 1 and "working directory has been removed" in lines[0]


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
        "E2E Training Duration sec : 12",
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
        "E2ETrainingTime = 12",
    ]
    losses = (launcher.output() / (case + "_loss.txt")).read_text()
    assert losses == "1.5000\n0.7500\n0.2500\n"


def test_only_the_logs_and_results_of_the_launchers_go(launcher):
    for name in ("_bs1_1p_acc.log", "_bs1_1p_perf.log", "_bs1_1p_acc_loss.txt"):
        for device in (0, 1):
            path = launcher.output(device) / ("SWA_ID0252_for_TensorFlow" + name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("earlier")
    (launcher.output(1) / "train_1.log").write_text("earlier")
    (launcher.output(1) / "notes.txt").write_text("mine")
    assert launcher.run(ASCEND_DEVICE_ID="1")[0] == 0
    assert len(list(launcher.output(0).iterdir())) == 3
    assert not list(launcher.output(1).glob("*_bs1_*"))
    assert "earlier" not in (launcher.output(1) / "train_1.log").read_text()
    assert (launcher.output(1) / "notes.txt").exists()  # the trainer's to judge


def test_a_folder_of_the_users_keeps_what_else_is_there(launcher):
    mine = launcher.cwd / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("")
    launcher.run("--output_dir=mine")
    assert (mine / "thesis.txt").exists() and (mine / "train_0.log").exists()


def test_an_output_folder_may_be_a_link(launcher):
    disk = launcher.cwd / "disk"
    disk.mkdir()
    launcher.output().parent.mkdir()
    launcher.output().symlink_to(disk)
    launcher.run()
    assert (disk / "train_0.log").exists() and launcher.output().is_symlink()


def earlier_run(launcher):
    """Leaves what an earlier run would; returns its checkpoint's path."""
    (launcher.output() / "ckpt").mkdir(parents=True)
    (launcher.output() / "train_0.log").write_text("earlier\n")
    checkpoint = launcher.output() / "ckpt" / "model.ckpt-10.index"
    checkpoint.write_text("")
    return checkpoint


def test_resume_keeps_the_folder_and_appends_to_the_log(launcher):
    checkpoint = earlier_run(launcher)
    status, out, err = launcher.run("--resume", "--seed=2")
    assert status == 0, err
    assert checkpoint.exists()
    log = (launcher.output() / "train_0.log").read_text()
    assert log.startswith("earlier\n") and "on stderr\n" in log
    (line,) = [line for line in out.splitlines() if line[:1] == "{"]
    assert json.loads(line)["flags"]["resume"] is True


def test_resume_can_be_switched_off(launcher):
    earlier_run(launcher)
    assert launcher.run("--resume", "--noresume")[0] == 0
    assert "earlier" not in (launcher.output() / "train_0.log").read_text()


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


def test_a_run_that_did_not_begin_leaves_all_as_it_was(launcher):
    earlier_run(launcher)
    status, out, err = launcher.run(NO_LINE="2")
    assert (status, out) == (2, "Device ID: 0\n")
    assert err.endswith("on stderr\n") and "last lines" not in err
    assert (launcher.output() / "train_0.log").read_text() == "earlier\n"


def test_a_run_that_did_not_begin_leaves_no_folder(launcher):
    assert launcher.run(NO_LINE="2")[0] == 2
    assert not (launcher.cwd / "output").exists()


def test_a_run_with_nothing_to_do_leaves_the_log_and_writes_the_results(launcher):
    earlier_run(launcher)
    (launcher.output() / "report.json").write_text(json.dumps(launchers.REPORT))
    status, out, err = launcher.run("--resume", NO_LINE="0")
    assert (status, err) == (0, "")
    assert "on stderr\n" in out and "Final result" in out
    assert (launcher.output() / "train_0.log").read_text() == "earlier\n"
    assert list(launcher.output().glob("*_acc.log"))


def test_a_report_that_cannot_be_read_is_told_in_one_line(launcher):
    """The input was good and the training done: a failure."""
    status, _, err = launcher.run(REPORT="{")
    assert (status, err.count("\n")) == (1, 1)
    assert "error: report.json must be a readable JSON file" in err


def test_a_failed_run_gives_its_status_and_last_lines(launcher):
    status, out, err = launcher.run(STATUS="3")
    assert status == 3
    assert "status 3; the last lines of" in err and err.endswith("on none\n")
    assert "Final" not in out


@pytest.mark.parametrize(
    "says, remedy",
    [
        ("Trying to access resource dense located in device", "check_npu.sh names it"),
        ("Container localhost does not exist.", "check_npu.sh names it"),
        ("GeOp1_0GEOP::::DoRunAsync Failed", "the cause is in the lines above it"),
        ("ra rdev init failed, ret 328", "compare hccn_tool -i N -ip -g"),
        ("EJ0001: Failed to initialize the HCCP process", "wait ten seconds, repeat"),
        ("*** in memory_optimizer", "repeat with --memory_optimization=unset"),
        ("see HCCL_CONNECT_TIMEOUT", "export HCCL_CONNECT_TIMEOUT=1200"),
        ("bind failed, see HCCL_IF_BASE_PORT", "ports 60000 to 60015 must be free"),
    ],
)
def test_a_failed_run_gets_the_published_remedy(launcher, says, remedy):
    status, _, err = launcher.run(STATUS="1", SAYS=says)
    lines = err.splitlines()
    assert (status, lines[-1].startswith("remedy: ")) == (1, True)
    assert remedy in lines[-1]
    assert not any(line.startswith("remedy: ") for line in lines[:-1])


def test_a_remedy_that_the_run_has_told_is_not_repeated(launcher):
    told = f"DoRunAsync Failed; {remedies('DoRunAsync Failed')[0]}."
    status, _, err = launcher.run(STATUS="1", SAYS=told)
    assert (status, err.count("remedy: ")) == (1, 1)


def test_a_failed_runs_lines_are_not_shown_twice_in_one_place(launcher):
    done = subprocess.run(
        ["bash", str(launcher.project / "test" / FULL)],
        cwd=str(launcher.cwd),
        env=environment(STATUS="3"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert done.returncode == 3 and done.stdout.count("on stderr\n") == 1
    assert done.stdout.endswith("its log is {}/train_0.log\n".format(launcher.output()))


def test_on_a_terminal_the_run_has_one_too(launcher):
    ours, its = pty.openpty()
    process = subprocess.Popen(
        ["bash", str(launcher.project / "test" / FULL)],
        cwd=str(launcher.cwd),
        env=environment(),
        stdout=its,
        stderr=its,
    )
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        for content in iter(lambda: os.read(ours, 4096), b""):
            shown += content
    os.close(ours)
    assert process.wait(timeout=600) == 0
    assert b"on a terminal\r\n" in shown and b"\r\r" not in shown
    log = (launcher.output() / "train_0.log").read_bytes()
    assert b"on a terminal\n" in log and b"\r" not in log


def test_the_log_keeps_a_bars_last_state(tmp_path):
    rank = plan.Rank(0, 0, str(tmp_path), variables={})
    kept = log.Log(rank, warn=pytest.fail)
    kept.take(b"Epoch 1\n1/2 [..]\b\b\r")
    kept.begin(str(tmp_path), resumes=False)
    kept.take(b"2/2 [==] - loss: 1\nend")
    lines = ["Epoch 1", "2/2 [==] - loss: 1", "end"]
    assert kept.end(0).lines == lines
    assert (tmp_path / "train_0.log").read_text().splitlines() == lines


def full_device():
    """A file that refuses all that is written."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    return "/dev/full"


def test_a_log_on_a_full_disk_ends_no_run(launcher):
    launcher.output().mkdir(parents=True)
    log = launcher.output() / "train_0.log"
    log.symlink_to(full_device())
    status, out, err = launcher.run()
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith(f"{log} cannot be written: No space left on device")
    assert "on stderr\n" in out and "Final result" in out
    assert list(launcher.output().glob("*_acc.log"))


def test_a_log_that_cannot_be_opened_ends_no_run(launcher):
    (launcher.output() / "train_0.log").mkdir(parents=True)
    status, out, err = launcher.run()
    assert (status, err.count("\n")) == (0, 1)
    assert "train_0.log cannot be written: Is a directory" in err
    assert "on stderr\n" in out and "Final result" in out


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full"])
def test_a_refusal_that_cannot_be_said_has_its_status(launcher, end):
    full_device()
    script = launcher.project / "test" / FULL
    command = ["bash", "-c", f'exec bash "$0" --bogus {end}', str(script)]
    done = subprocess.run(command, cwd=str(launcher.cwd), env=environment())
    assert done.returncode == 2


def test_a_folder_whose_name_is_too_long_is_refused(launcher):
    status, _, err = launcher.run("--output_dir=" + 300 * "x")
    assert (status, err.count("\n")) == (2, 1)
    assert "File name too long" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_launcher_that_checks_and_the_check(launcher, number):
    checking = launcher.cwd / "checking"
    process = launcher.start(CHECKING=str(checking))
    while not checking.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (128 + number, "")
    assert err == f"{FULL}: stopped by {number.name}\n"
    assert not os.path.exists(f"/proc/{checking.read_text()}")
    assert not launcher.output().exists()


# A Ctrl-C comes while the launcher imports its modules.
INTERRUPTED = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "launcher.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


def test_ctrl_c_during_the_imports_leaves_no_traceback(launcher):
    (launcher.cwd / "sitecustomize.py").write_text(INTERRUPTED)
    result = launcher.run(PYTHONPATH=str(launcher.cwd))
    assert result == (130, "", "")


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
    out, err = process.communicate(timeout=600)
    assert process.returncode == 128 + number
    assert out.endswith("stopped by {}\nlast words\n".format(int(number)))
    assert (launcher.output() / "train_0.log").read_text().endswith("last words\n")


def test_a_closed_terminal_does_not_stop_the_run(launcher):
    process = launcher.start(SLEEP="0.5")
    process.stdout.readline()
    process.stdout.close()
    log = launcher.output() / "train_0.log"
    report = launcher.output() / "report.json"
    deadline = time.monotonic() + 120
    while not report.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.wait(timeout=600)
    assert report.exists() and "on stderr" in log.read_text()
    process.stderr.close()


def test_the_help_of_check_npu_sets_nothing_up(launcher):
    script = shutil.copy(str(ROOT / "test/check_npu.sh"), str(launcher.cwd))
    done = subprocess.run(
        ["bash", script, "--help"],
        env=environment(PYTHON="nowhere"),
        stdout=subprocess.PIPE,
    )
    assert done.returncode == 0
    told = set(re.findall(r"^    --(\w+)", done.stdout.decode(), re.M))
    source = (ROOT / "test/check_npu.py").read_text()
    known = set(re.findall(r'add_argument\("--(\w+)", (?!.*SUPPRESS)', source))
    assert known and told == known
    assert [path.name for path in launcher.cwd.iterdir()] == ["check_npu.sh"]


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


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--data_path=", "data_path must be a directory or an existing .npz file, got"),
        ("--start_epoch=101", "start_epoch must be"),
    ],
)
def test_a_real_bad_flag_is_refused_and_the_earlier_run_stays(real, flag, message):
    report = real.output() / "report.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    before = report.read_bytes() if report.exists() else b"earlier"
    report.write_bytes(before)
    status, out, err = real.run(flag)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and message in err
    assert report.read_bytes() == before


@pytest.mark.parametrize("script, epochs", [(FULL, 100), (PERFORMANCE, 40)])
def test_help_tells_every_flag_with_its_default(launcher, script, epochs):
    _, out, _ = launcher.run("--help", script=script)
    told = re.findall(r"^    --(\w+)(.*(?:\n {20,}.*)*)", out, re.M)
    told = {name: " ".join(text.split()) for name, text in told}
    assert set(told) == set(flags.Config._fields) - {"typed"}
    assert told["verbose"].startswith(flags.FLAGS["verbose"].help)
    for name, default in flags.Config(train_epochs=epochs)._asdict().items():
        if name in told and default not in ("", None, False, ()):
            assert told[name].endswith("default is {}".format(default))
