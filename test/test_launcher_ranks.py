# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The launchers of several ranks, with a stub for the trainer."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from launcher import options, plan
from support import launchers

from swa.training import rank_table
from swa.training.errors import UserError

LAUNCHERS = ["train_full_8p.sh", "train_performance_8p.sh"]
FILES = ["env.sh", "env_horovod.sh", "launch.py", "constraints.txt", *LAUNCHERS]
REPORT = dict(launchers.REPORT, device="npu", ranks=2)
# Says what it was given; then does what the variables FAIL and SLEEP ask for; before it
# fails there must be the file FAIL_AFTER.
STUB = """
names = "RANK_ID RANK_SIZE JOB_ID ASCEND_DEVICE_ID RANK_TABLE_FILE DEVICE_ID".split()
given = {name: os.environ.get(name) for name in names}
given["timeout"] = os.environ.get("HCCL_CONNECT_TIMEOUT")
print(json.dumps(dict(given, flags=sys.argv[1:], cwd=os.getcwd(), pid=os.getpid())))
print("on stderr", file=sys.stderr)
sys.stdout.flush()
folder = [flag for flag in sys.argv if flag.startswith("--output_dir=")][-1]
folder = folder.split("=", 1)[1]
rank = given["RANK_ID"] or os.environ["HOROVOD_RANK"]
if os.environ.get("FAIL_EARLY") in ("all", rank):
    sys.exit(2)
output.tell_started(folder, "--resume=True" in sys.argv)
end = time.monotonic() + float(os.environ.get("SLEEP", "0"))
if os.environ.get("FAIL") == rank:
    while time.monotonic() < end and not os.path.exists(os.environ["FAIL_AFTER"]):
        time.sleep(0.05)
    print("last words")
    sys.exit(7)
while time.monotonic() < end:
    time.sleep(0.05)
if rank == "0":
    with open(os.path.join(folder, "report.json"), "w") as file:
        file.write(os.environ["REPORT"])
"""


class Project:
    """The launchers beside a stub for the trainer, and a folder to start them in."""

    def __init__(self, folder):
        self.here = folder / "started here"
        self.here.mkdir()
        self.project = launchers.make_project(folder, FILES, STUB)
        self.hccn = folder / "hccn.conf"
        lines = [f"address_{n}=10.0.{n}.1\nnetmask_{n}=255.255.255.0\n" for n in (0, 1)]
        self.hccn.write_text("".join(lines))

    def environment(self, **variables):
        foreign = ("RANK_", "ASCEND_", "JOB_ID", "DEVICE_ID", "HCCL_", "HOROVOD_")
        known = dict(PYTHON=sys.executable, SWA_HCCN_CONF=str(self.hccn))
        known.update(REPORT=json.dumps(REPORT), SWA_DEVICE="npu")
        return launchers.environment(foreign, **dict(known, **variables))

    def command(self, *flags):
        script = str(self.project / "test" / "launch.py")
        own = ["train_full_8p.sh", "acc", "8", "100", f"--data_path={self.here}"]
        own += ["--device=npu", f"--data_save_path={self.here}"]
        return [sys.executable, script, *own, *flags]

    def run(self, *flags, **variables):
        return subprocess.run(
            self.command(*flags),
            cwd=str(self.here),
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )

    def begin(self, *flags, **variables):
        """Starts it, and returns it with the ranks' process numbers."""
        process = subprocess.Popen(
            self.command(*flags),
            cwd=str(self.here),
            env=self.environment(**variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        for _ in range(2400):
            try:
                return process, [self.given(name)["pid"] for name in (0, 1)]
            except (OSError, ValueError, IndexError):
                time.sleep(0.05)
        process.kill()
        raise AssertionError(process.communicate())

    def flags(self, folder):
        """What the trainer is given: what was typed, and the results' folder."""
        paths = {"data_path": self.here, "data_save_path": self.here}
        paths["output_dir"] = self.here / folder
        paths = [f"--{name}={path}" for name, path in paths.items()]
        return sorted(["--train_epochs=100", "--device=npu", *paths])

    def log(self, name):
        return (self.here / f"output/{name}/train_{name}.log").read_text()

    def given(self, name):
        """What the stub says it was given."""
        return json.loads(self.log(name).splitlines()[0])

    def table(self, servers):
        """A rank table of servers: {name: their device ids}."""
        rank, rows = 0, []
        for server, devices in servers.items():
            told = []
            for device in devices:
                one = {"device_id": str(device), "device_ip": "10.1.1.1"}
                told.append(dict(one, rank_id=str(rank)))
                rank += 1
            rows.append({"server_id": server, "device": told})
        path = self.here / "mine.json"
        path.write_text(json.dumps({"version": "1.0", "server_list": rows}))
        return str(path)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# What each rank is given


def test_each_rank_has_its_device_its_folder_and_its_log(project):
    done = project.run("--rank_size=2")
    assert done.returncode == 0, done.stderr
    table = str(project.here / "output/0/rank_table.json")
    for rank in (0, 1):
        given = project.given(rank)
        del given["pid"]
        assert not os.path.exists(given.pop("RANK_TABLE_FILE"))  # the job's own
        given["flags"].sort()
        assert given == {
            "RANK_ID": str(rank),
            "RANK_SIZE": "2",
            "JOB_ID": "10087",
            "ASCEND_DEVICE_ID": str(rank),
            "DEVICE_ID": None,
            "timeout": "600",
            "flags": project.flags("output/0"),
            "cwd": f"{project.here}/output/{rank}",
        }
        assert "on stderr" in project.log(rank)
    assert rank_table.read(table) == [
        rank_table.Device(0, "server", 0, "10.0.0.1"),
        rank_table.Device(1, "server", 1, "10.0.1.1"),
    ]


def test_rank_0s_words_and_the_summary_are_shown(project):
    done = project.run("--rank_size=2")
    assert '"RANK_ID": "0"' in done.stdout and '"RANK_ID": "1"' not in done.stdout
    assert done.stdout.splitlines()[-1] == "E2E Training Duration sec : 12"
    assert (project.here / "output/0/report.json").exists()
    assert (
        project.here / "output/0/SWA_ID0252_for_TensorFlow_bs256_2p_acc.log"
    ).exists()


def test_the_users_variables_are_kept(project):
    variables = {"JOB_ID": "mine", "HCCL_CONNECT_TIMEOUT": "200", "DEVICE_ID": "3"}
    assert project.run("--rank_size=2", **variables).returncode == 0
    given = project.given(1)
    assert (given["JOB_ID"], given["timeout"]) == ("mine", "200")
    assert given["DEVICE_ID"] is None  # the older name of ASCEND_DEVICE_ID


def test_the_users_rank_table_is_kept(project):
    table = project.table({"a": [2, 3]})
    assert project.run(RANK_TABLE_FILE=table).returncode == 0
    assert [project.given(name)["RANK_ID"] for name in (2, 3)] == ["0", "1"]
    assert project.given(3)["RANK_TABLE_FILE"] == table
    assert sorted(project.given(3)["flags"]) == project.flags("output/2")
    assert not (project.here / "output/2/rank_table.json").exists()


def test_each_server_starts_its_ranks_of_the_table(project):
    table = project.table({"10.9.9.1": [0, 1], "10.9.9.2": [0, 1]})
    done = project.run("--server_id=10.9.9.2", RANK_TABLE_FILE=table)
    assert done.returncode == 0, done.stderr
    assert [project.given(name)["RANK_ID"] for name in (0, 1)] == ["2", "3"]
    assert project.given(0)["RANK_SIZE"] == "4"
    assert "Final result" not in done.stdout  # rank 0's files are elsewhere


def test_a_server_knows_itself_by_its_address(project):
    import socket

    table = project.table({"10.9.9.1": [0, 1], socket.gethostname(): [2, 3]})
    assert project.run(RANK_TABLE_FILE=table).returncode == 0
    assert project.given(2)["RANK_ID"] == "2"


def test_a_named_folder_gets_the_results_and_the_ranks_folders(project):
    (project.here / "mine/1").mkdir(parents=True)
    for name in ("other", "1/other", "1/train_1.log"):
        (project.here / "mine" / name).write_text("earlier")
    done = project.run("--rank_size=2", f"--output_dir={project.here}/mine")
    assert done.returncode == 0, done.stderr
    found = sorted(os.listdir(str(project.here / "mine")))
    assert {"0", "1", "other", "report.json"} <= set(found)
    assert (project.here / "mine/1/other").exists()
    assert not (project.here / "mine/1/train_1.log").read_text().startswith("earlier")


@pytest.mark.parametrize("flags, is_kept", [([], False), (["--resume"], True)])
def test_a_resumed_runs_logs_go_on(project, flags, is_kept):
    for name in ("0/train_0.log", "1/train_1.log"):
        path = project.here / "output" / name
        path.parent.mkdir(parents=True)
        path.write_text("earlier\n")
    assert project.run("--rank_size=2", *flags).returncode == 0
    for rank in (0, 1):
        assert project.log(rank).startswith("earlier") == is_kept


def test_a_rank_that_does_not_begin_leaves_its_log(project):
    (project.here / "output/1").mkdir(parents=True)
    (project.here / "output/1/train_1.log").write_text("earlier\n")
    done = project.run("--rank_size=2", FAIL_EARLY="1", SLEEP="60")
    assert done.returncode == 2 and done.stderr.endswith("on stderr\n")
    assert project.log(1) == "earlier\n"


@pytest.mark.parametrize("launcher, epochs", zip(LAUNCHERS, (100, 40)))
def test_launchers_differ_in_values_only(project, launcher, epochs):
    done = subprocess.run(
        ["bash", str(project.project / "test" / launcher)]
        + ["--device=npu", "--rank_size", "2", "--batch=64", "--data_path=./"],
        cwd=str(project.here),
        env=project.environment(SWA_FAKE_ROOT=str(project.project)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert done.returncode == 0, done.stderr
    flags = project.given(1)["flags"]
    assert {f"--train_epochs={epochs}", "--batch_size=64"} < set(flags)
    assert not any(flag.startswith("--rank_size") for flag in flags)
    case = "acc" if epochs == 100 else "perf"
    assert list((project.here / "output/0").glob(f"*_2p_{case}.log"))


def test_help_tells_of_the_ranks_and_of_the_flags(project):
    done = subprocess.run(
        ["bash", str(project.project / "test/train_full_8p.sh"), "--help"],
        cwd=str(project.here),
        env=project.environment(),
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    assert done.returncode == 0
    for flag in ("--rank_size", "--hosts", "--server_id", "--swa_freq"):
        assert flag in done.stdout


# What is refused


@pytest.mark.parametrize(
    "flags, variables, message",
    [
        (["--rank_size=3"], {}, "rank_size must be 2, 4 or 8 on the NPUs"),
        (["--rank_size=two"], {}, "in the range [1, 256], got 'two'"),
        (["--rank_size=9999"], {}, "in the range [1, 256], got '9999'"),
        (["--rank_size"], {}, "Missing value for flag --rank_size"),
        (["--server_id=a"], {}, "server_id needs RANK_TABLE_FILE, got 'a'"),
        (["--rank_size=4"], {}, "must give the addresses (address_N=...) of devices"),
        ([], {"SWA_HCCN_CONF": "/none"}, "several ranks need RANK_TABLE_FILE"),
        ([], {"RANK_TABLE_FILE": "/none"}, "RANK_TABLE_FILE must be a readable JSON"),
        (["--rank_size=2"], {"BAD_FLAG": "1"}, "trainer: error: bad flag"),
    ],
)
def test_what_is_wrong_is_told_before_an_earlier_output_goes(
    project, flags, variables, message
):
    (project.here / "output/0").mkdir(parents=True)
    (project.here / "output/0/old").write_text("")
    done = project.run(*flags, **variables)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    assert os.listdir(str(project.here / "output/0")) == ["old"]


def test_a_file_in_place_of_a_ranks_folder_is_refused_and_makes_nothing(project):
    (project.here / "output").mkdir()
    (project.here / "output/1").write_text("mine")
    done = project.run("--rank_size=2")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "output_dir must be a directory" in done.stderr
    assert os.listdir(str(project.here / "output")) == ["1"]


def test_a_table_of_other_servers_is_refused(project):
    table = project.table({"10.9.9.1": [0, 1], "10.9.9.2": [0, 1]})
    done = project.run(RANK_TABLE_FILE=table)
    assert done.returncode == 2
    assert "server_id must be one of RANK_TABLE_FILE's, 10.9.9.1, 10.9.9.2" in (
        done.stderr
    )


def test_a_table_of_another_size_is_refused(project):
    table = project.table({"a": [0, 1]})
    done = project.run("--rank_size=8", RANK_TABLE_FILE=table)
    assert done.returncode == 2
    assert "rank_size must be that of RANK_TABLE_FILE, 2, got 8" in done.stderr


def plan_of(*flags, **environ):
    return plan.make(options.read(flags, has_ranks=True), environ, scratch="none")


def test_hosts_are_ranks_of_horovod():
    made = plan_of("--device=cpu", "--hosts=a:4,b:2")
    assert (made.engine, made.size, made.hosts) == ("horovod", 6, "a:4,b:2")
    assert plan_of("--device=cpu").hosts == "localhost:8"
    assert plan_of("--device=cpu", "--rank_size=3").hosts == "localhost:3"


def test_ranks_of_hosts_get_no_table_and_the_users_timeout():
    environ = {"HOROVOD_GLOO_TIMEOUT_SECONDS": "7", "RANK_TABLE_FILE": "/stray"}
    rank = plan_of("--device=cpu", "--rank_size=2", **environ).ranks[1]
    given = plan.merged(environ, rank.variables)
    assert given["HOROVOD_GLOO_TIMEOUT_SECONDS"] == "7"
    assert "RANK_TABLE_FILE" not in given


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--device=cpu", "--hosts=a"], "hosts must be host:processes.* got 'a'"),
        (["--device=cpu", "--hosts=a:0"], "hosts must be host:processes"),
        (["--device=cpu", "--hosts=a;b:2"], "hosts must be host:processes"),
        (["--device=cpu", "--hosts=a:2", "--rank_size=4"], "sum of hosts'.* 2, got 4"),
        (["--device=cpu", "--server_id=a"], "server_id is for NPUs, got 'a'"),
        (["--device=npu", "--hosts=a:2"], "hosts is for CPUs, got 'a:2'"),
        (["--device=cpu", "--rank_size=0"], "rank_size must be an integer"),
        (["--device=cpu", "--hosts=a:9,b:999"], "at most 256 processes.* got 1008"),
    ],
)
def test_options_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        plan_of(*flags)


def test_a_timeout_of_horovods_that_is_no_number_is_refused():
    variables = {"HOROVOD_GLOO_TIMEOUT_SECONDS": "x"}
    with pytest.raises(
        UserError, match="must be an integer from 1 to 1000000, got 'x'"
    ):
        plan_of("--device=cpu", **variables)


# Starts the ranks as horovodrun does, and marks what they say.
HOROVODRUN = """
import os, subprocess, sys, threading
if "STARTER_FAILS" in os.environ:
    name = os.environ["STARTER_FAILS"]
    print(f"{name} is {os.environ.get(name)}")
    sys.exit(3)
command = sys.argv[sys.argv.index("-H") + 2:]

def hand_on(rank, name, stream):
    for line in stream:
        os.write(1, b"[%d]<%s>:%s" % (rank, name, line))

ranks, threads = [], []
for rank in range(int(sys.argv[sys.argv.index("-np") + 1])):
    own = {"HOROVOD_RANK": str(rank), "HOROVOD_SIZE": "2"}
    ranks.append(subprocess.Popen(
        command, env=dict(os.environ, **own),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    for stream in ((b"stdout", ranks[-1].stdout), (b"stderr", ranks[-1].stderr)):
        threads.append(threading.Thread(target=hand_on, args=(rank, *stream)))
        threads[-1].start()
for thread in threads:
    thread.join()
sys.exit(max(process.wait() for process in ranks))
"""


@pytest.fixture
def hosts(project):
    """Runs the launcher on hosts, with a stand-in for Horovod."""
    package = project.here / "packages/horovod"
    for name in ("", "runner/", "tensorflow/"):
        (package / name).mkdir(parents=True, exist_ok=True)
        (package / name / "__init__.py").write_text("")
    (package / "runner/launch.py").write_text(HOROVODRUN)

    def run(*flags, **variables):
        path = str(package.parent)
        flags = ("--device=cpu", "--rank_size=2", *flags)
        variables.update(PYTHONPATH=path, SWA_FAKE_ROOT="/dev/null")
        return project.run(*flags, **variables)

    return run


def test_ranks_of_hosts_have_their_logs_and_results(project, hosts):
    done = hosts()
    assert done.returncode == 0, done.stderr
    assert "on stderr" in project.log(0) and "on stderr" in project.log(1)
    assert project.given(1)["flags"] == project.given(0)["flags"]
    assert done.stdout.count('"pid"') == 1  # rank 0's words alone
    assert done.stdout.splitlines()[-1] == "E2E Training Duration sec : 12"


def test_horovodrun_is_spared_the_users_warnings(hosts):
    done = hosts(PYTHONWARNINGS="error", STARTER_FAILS="PYTHONWARNINGS")
    assert done.stderr.endswith("its last lines:\nPYTHONWARNINGS is None\n")


def test_a_host_run_that_did_not_begin_leaves_the_logs(project, hosts):
    (project.here / "output/0").mkdir(parents=True)
    (project.here / "output/0/train_0.log").write_text("earlier\n")
    done = hosts(FAIL_EARLY="all")
    assert done.returncode == 2 and done.stderr.endswith("on stderr\n")
    assert project.log(0) == "earlier\n"


def test_a_log_of_a_host_that_cannot_be_written_is_told(project, hosts):
    (project.here / "output/1/train_1.log").mkdir(parents=True)
    done = hosts()
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "train_1.log cannot be written: Is a directory" in done.stderr


def test_a_rank_of_a_host_that_fails_has_the_last_word(project, hosts):
    done = hosts(FAIL="1")
    lines = done.stderr.splitlines()
    log = f"{project.here}/output/1/train_1.log"
    assert done.returncode == 7
    assert lines[0].endswith(f"rank 1 failed with status 7; the last lines of {log}:")
    assert lines[-1] == "last words"


def test_what_horovodrun_says_is_shown_where_it_fails_itself(project, hosts):
    done = hosts(STARTER_FAILS="ROUTE")
    assert done.returncode == 3
    message = "horovodrun failed with status 3; its last lines:\nROUTE is None\n"
    assert done.stderr == message


BUILD = """
sleep 600 &
echo $! >"$BUILDING.new"
mv "$BUILDING.new" "$BUILDING"
wait
"""


def test_a_signal_ends_a_launcher_that_builds_horovod_and_the_build(project):
    (project.project / "test/env_horovod.sh").write_text(BUILD)
    building = project.here / "building"
    process = subprocess.Popen(
        project.command("--device=cpu"),
        cwd=str(project.here),
        env=project.environment(BUILDING=str(building)),
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    while not building.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "train_full_8p.sh: stopped by SIGINT\n"
    assert process.returncode == 130
    assert not is_running(int(building.read_text()))
    assert not (project.here / "output").exists()


# The ranks end together


def test_the_first_rank_to_fail_ends_all_and_has_the_last_word(project):
    other = str(project.here / "output/0/train_0.log")  # it must have begun
    done = project.run("--rank_size=2", FAIL="1", FAIL_AFTER=other, SLEEP="60")
    assert done.returncode == 7
    lines = done.stderr.splitlines()
    log = f"{project.here}/output/1/train_1.log"
    assert lines[0].endswith(f"rank 1 failed with status 7; the last lines of {log}:")
    assert lines[-1] == "last words"
    assert "stopped by 15" in project.log(0)
    assert "Final result" not in done.stdout


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_rank_ends_all(project, killed):
    process, pids = project.begin("--rank_size=2", SLEEP="600", STUBBORN="1")
    os.kill(pids[killed], signal.SIGKILL)
    _, stderr = process.communicate(timeout=600)  # the other one is killed as well
    assert process.returncode == 137
    assert f"rank {killed} failed with status 137" in stderr
    assert not any(is_running(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_rank(project, number):
    process, pids = project.begin("--rank_size=2", SLEEP="60")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 128 + number
    assert stderr == f"train_full_8p.sh: stopped by {number.name}\n"
    for rank in (0, 1):
        assert f"stopped by {int(number)}" in project.log(rank)
    assert not any(is_running(pid) for pid in pids)


def test_a_second_signal_ends_ranks_that_do_not_listen(project):
    process, pids = project.begin("--rank_size=2", SLEEP="60", STUBBORN="1")
    process.send_signal(signal.SIGTERM)
    while "stopped by 15" not in project.log(1):
        time.sleep(0.05)
    assert all(is_running(pid) for pid in pids)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=600)
    assert process.returncode == 137
    assert not any(is_running(pid) for pid in pids)


def test_a_signal_that_is_ignored_stays_so(project):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process, _ = project.begin("--rank_size=2", SLEEP="2")
    finally:
        signal.signal(signal.SIGHUP, before)
    for _ in range(2):  # the second one would kill the ranks
        process.send_signal(signal.SIGHUP)
    assert (process.communicate()[1], process.returncode) == ("", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's prctl")
def test_no_rank_outlives_a_killed_launcher(project):
    process, pids = project.begin("--rank_size=2", SLEEP="60")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)
