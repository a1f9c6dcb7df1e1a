# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Starts the ranks of one job on this machine, watches them, and ends them together.

usage: launch_ranks.py [--plan] [--resumes] --device=D --case=acc|perf
       [--rank_size=N] [--hosts=a:4,b:4] [--server_id=S] [--output_dir=DIR]
       -- trainer's flags

On NPUs each rank is a child of this process. On CPUs `horovodrun --gloo` starts, on
each host, this file once more with --worker, which runs one rank and tells how it ends.
SIGINT, SIGTERM and SIGHUP are handed on to the ranks, which agree on where to stop; the
second one ends them at once.
"""

import argparse
import collections
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEST = os.path.join(ROOT, "test")
TRAINER = os.path.join(ROOT, "train-tf.keras-npu.py")
sys.path.insert(0, ROOT)

from swa.training import output, rank_table, session  # noqa: E402
from swa.training.config import InputError, OutputError  # noqa: E402

GRACE_SECONDS = 5  # from asking the others to end to ending them
LAST_LINES = 20
MESSAGE = "@rank "  # begins a worker's own lines on its standard output
# HCCL's: the first step may have to wait for the others' compilers
CONNECT_SECONDS = "600"
GLOO_SECONDS = "120"  # a rank that writes files keeps the others waiting
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Rank:
    """One rank: what it is told, and what becomes of it.

    Args:
      number: int, the rank.
      folder: where it runs and writes its log.
      name: int, of the folder: its device on an NPU, else the rank.
      variables: dict, what its environment has beside this process's.
    """

    def __init__(self, number, folder, name, variables):
        self.number, self.folder, self.variables = number, folder, variables
        self.log = os.path.join(folder, "train_%d.log" % name)


class Plan:
    """All that is decided before anything starts."""

    def __init__(self, engine, size, ranks, results, hosts=None, table=None):
        self.engine, self.size, self.ranks = engine, size, ranks
        self.results = results  # the folder for rank 0's files
        self.hosts = hosts  # horovodrun's
        self.table = table  # (path, text) of a rank table to be written

    @property
    def is_named(self):
        """Whether the user named the folder, which may hold other things."""
        return self.results != self.ranks[0].folder


# ------------------------------------------------------------------------ plan


def read_options(argv):
    """The launcher's own options, and the trainer's flags."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.error = lambda message: fail(message)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--resumes", action="store_true")
    for name in ("device", "case", "rank_size", "hosts", "server_id", "output_dir"):
        parser.add_argument("--" + name)
    at = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:at]), argv[at + 1 :]


def make_plan(options, environ):
    """The Plan for these options on this machine.

    Raises:
      InputError: with the option or variable, the rule and the value given.
    """
    size = None
    if options.rank_size is not None:
        if not re.fullmatch("[1-9][0-9]{0,3}", options.rank_size):
            raise InputError(
                f"rank_size must be a number of processes, got {options.rank_size!r}."
            )
        size = int(options.rank_size)
    is_npu = options.device == "npu" or (
        options.device != "cpu" and session.npu_signs(environ)
    )
    if is_npu:
        if options.hosts:
            raise InputError(
                f"hosts is for CPUs, got {options.hosts!r}: on several servers of NPUs "
                "start this launcher on each, with one RANK_TABLE_FILE."
            )
        return _npu_plan(options, environ, size)
    if options.server_id:
        raise InputError(f"server_id is for NPUs, got {options.server_id!r}.")
    return _host_plan(options, environ, size)


def _npu_plan(options, environ, size):
    path, table = environ.get("RANK_TABLE_FILE"), None
    if path:
        devices = rank_table.read(path)
        if size not in (None, len(devices)):
            raise InputError(
                f"rank_size must be that of RANK_TABLE_FILE, {len(devices)}, got "
                f"{size}. Leave it out."
            )
        here = _this_server(devices, options.server_id)
        path = os.path.abspath(path)
    else:
        size = size or 8
        if size not in (2, 4, 8):
            raise InputError(
                f"rank_size must be 2, 4 or 8 on the NPUs of one server, got {size}."
            )
        here = [
            rank_table.Device(number, "server", number, ip)
            for number, ip in enumerate(_addresses(environ, size).values())
        ]
        devices = here
    folders = _Folders(options.output_dir, here[0].device_id)
    if not path:
        path = os.path.join(folders.of(here[0].device_id), "rank_table.json")
        ips = {device.device_id: device.device_ip for device in here}
        table = path, rank_table.text("server", ips)
    shared = {
        "RANK_SIZE": str(len(devices)),
        "RANK_TABLE_FILE": path,
        "JOB_ID": environ.get("JOB_ID") or "10087",
        "HCCL_CONNECT_TIMEOUT": environ.get("HCCL_CONNECT_TIMEOUT") or CONNECT_SECONDS,
        "HOROVOD_SIZE": None,
        "DEVICE_ID": None,  # the older name of the next one
    }
    ranks = []
    for device in here:
        name = device.device_id
        own = {"RANK_ID": str(device.rank), "ASCEND_DEVICE_ID": str(name)}
        ranks.append(Rank(device.rank, folders.of(name), name, dict(shared, **own)))
    return Plan("hccl", len(devices), ranks, folders.results, table=table)


def _addresses(environ, size):
    path = environ.get("SWA_HCCN_CONF") or rank_table.HCCN_CONF
    found = rank_table.addresses(path)
    missing = [str(device) for device in range(size) if device not in found]
    if missing:
        raise InputError(
            f"{path} must give the addresses (address_N=...) of devices 0 to "
            f"{size - 1}, got none for {', '.join(missing)}. Set them with the "
            "vendor's hccn_tool, or provide RANK_TABLE_FILE."
        )
    return {device: found[device] for device in range(size)}


def _this_server(devices, server_id):
    """The devices of the server that this machine is in a rank table."""
    names = list(dict.fromkeys(device.server_id for device in devices))
    if server_id is None and len(names) == 1:
        server_id = names[0]
    if server_id is None:
        mine = [name for name in names if name in _own_addresses()]
        server_id = mine[0] if len(mine) == 1 else None
    if server_id not in names:
        raise InputError(
            f"server_id must be one of RANK_TABLE_FILE's, {', '.join(names)}, got "
            f"{server_id!r}."
        )
    return [device for device in devices if device.server_id == server_id]


def _own_addresses():
    """This machine's name and addresses."""
    found = {socket.gethostname()}
    try:
        told = subprocess.run(["hostname", "-I"], stdout=subprocess.PIPE, timeout=10)
        found.update(told.stdout.decode().split())
    except (OSError, subprocess.SubprocessError):
        pass
    return found


def _host_plan(options, environ, size):
    hosts = options.hosts or f"localhost:{size or 8}"
    parts = [re.fullmatch("([A-Za-z0-9._-]+):([1-9][0-9]{0,3})", one)
             for one in hosts.split(",")]  # fmt: skip
    if not all(parts):
        raise InputError(
            f"hosts must be host:processes, joined by commas, such as a:4,b:4, got "
            f"{hosts!r}."
        )
    total = sum(int(part.group(2)) for part in parts)
    if size not in (None, total):
        raise InputError(
            f"rank_size must be the sum of hosts' processes, {total}, got {size}. "
            "Leave it out."
        )
    folders = _Folders(options.output_dir, 0)
    shared = {
        "HOROVOD_SIZE": str(total),
        "HOROVOD_GLOO_TIMEOUT_SECONDS": environ.get("HOROVOD_GLOO_TIMEOUT_SECONDS")
        or GLOO_SECONDS,
        "RANK_SIZE": None,
        "RANK_TABLE_FILE": None,
    }
    ranks = [
        Rank(
            rank,
            folders.of(rank),
            rank,
            dict(shared, HOROVOD_RANK=str(rank), ASCEND_DEVICE_ID=str(rank)),
        )
        for rank in range(total)
    ]
    return Plan("horovod", total, ranks, folders.results, hosts=hosts)


class _Folders:
    """output/N for each rank; a folder that the user named has the ranks' below it."""

    def __init__(self, output_dir, first):
        self.base = os.path.abspath(output_dir or "output")
        self.results = self.base if output_dir else self.of(first)

    def of(self, name):
        return os.path.join(self.base, str(name))


# ------------------------------------------------------------------- beginning


def command_of(plan, flags):
    """The trainer's command line, the same for all ranks."""
    flags = [flag for flag in flags if not flag.startswith("--output_dir")]
    return [sys.executable, TRAINER, *flags, f"--output_dir={plan.results}"]


def check(plan, command, environ):
    """Lets the trainer find what is wrong, before an earlier run's output goes."""
    variables = dict(plan.ranks[0].variables)
    with tempfile.TemporaryDirectory() as folder:
        if plan.table:  # not in its place yet
            variables["RANK_TABLE_FILE"] = os.path.join(folder, "rank_table.json")
            with open(variables["RANK_TABLE_FILE"], "w") as file:
                file.write(plan.table[1])
        done = subprocess.run(
            command[:2] + ["--check"] + command[2:],
            env=merged(environ, variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    if done.returncode:
        sys.stderr.buffer.write(done.stderr)
        sys.exit(done.returncode)


def prepare(plan, resumes):
    """Makes the folders, empty unless a run is to be resumed, and the rank table.

    In a folder that the user named only the logs go. A lock stays: of two jobs that
    start at once, both must meet the same file.
    """
    for rank in plan.ranks:
        os.makedirs(rank.folder, exist_ok=True)
        found = os.listdir(rank.folder)
        if plan.is_named:
            found = [name for name in found if name == os.path.basename(rank.log)]
        for name in [] if resumes else found:
            path = os.path.join(rank.folder, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif name != ".lock":
                os.unlink(path)
    if plan.table:
        path, text = plan.table
        output.write(path, text.encode())


def merged(environ, variables):
    """The environment with these variables; None unsets one."""
    both = dict(environ, **{k: v for k, v in variables.items() if v is not None})
    return {name: both[name] for name in both if variables.get(name, "") is not None}


# --------------------------------------------------------------------- running


class Job:
    """What is the same however the ranks are started."""

    def __init__(self, plan):
        self.plan = plan
        self.failed = None  # (rank, status, log, last lines): the first to fail
        self.signals = 0
        self.signal_name = None  # the first's

    def on_signal(self, number, frame):
        self.signals += 1
        self.signal_name = self.signal_name or signal.Signals(number).name
        self.hand_on(number, self.signals > 1)

    def note_end(self, rank, status, log, lines):
        """Remembers the first rank that failed; returns whether this is it."""
        if status == 0 or self.failed:
            return False
        self.failed = rank, status, log, lines
        return True


class ChildJob(Job):
    """Ranks that are children of this process: one for each NPU of this server."""

    def run(self, command, environ):
        self.children = {}
        for rank in self.plan.ranks:
            self.children[rank.number] = started(
                rank,
                command,
                merged(environ, rank.variables),
                is_shown=rank is self.plan.ranks[0],
            )
        tee = threading.Thread(target=self.show, args=(self.plan.ranks[0],))
        tee.start()
        running = dict(self.children)
        deadline = None
        while running:
            for rank in [one for one in self.plan.ranks if one.number in running]:
                status = running[rank.number].poll()
                if status is None:
                    continue
                del running[rank.number]
                if rank is self.plan.ranks[0]:
                    tee.join(timeout=5)
                status = exit_status(status)
                if self.note_end(rank.number, status, rank.log, last_lines(rank.log)):
                    deadline = time.monotonic() + GRACE_SECONDS
                    self.hand_on(signal.SIGTERM, False)
            if deadline and time.monotonic() > deadline:
                self.hand_on(signal.SIGKILL, True)
            time.sleep(0.05)

    def show(self, rank):
        copy(self.children[rank.number].stdout, rank.log)

    def hand_on(self, number, at_once):
        for child in self.children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGKILL if at_once else number)


class HorovodJob(Job):
    """Ranks that horovodrun starts, on this host and others."""

    def run(self, command, environ):
        self.pids = {}  # rank -> process on this host
        said = collections.deque(maxlen=LAST_LINES)  # horovodrun's own words
        here = [sys.executable, os.path.abspath(__file__)]
        base = os.path.dirname(self.plan.ranks[0].folder)
        size = str(self.plan.size)
        start = [sys.executable, "-m", "horovod.runner.launch", "--gloo"]
        start += ["-np", size, "-H", self.plan.hosts]
        variables = dict(self.plan.ranks[0].variables)
        for name in ("HOROVOD_SIZE", "HOROVOD_RANK", "ASCEND_DEVICE_ID"):
            variables[name] = None  # horovodrun gives each rank its own
        self.starter = subprocess.Popen(
            start + here + ["--worker", base, "--"] + command,
            env=merged(environ, variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
        for line in self.starter.stdout:
            self.read(line.decode(errors="replace").rstrip("\r\n"), said)
        status = self.starter.wait()
        if status and not self.failed:
            self.failed = None, exit_status(status), "horovodrun", list(said)

    def read(self, line, said):
        match = re.match(r"\[([0-9]+)\]<(stdout|stderr)>:(.*)", line)
        if not match:
            said.append(line)
        elif match.group(3).startswith(MESSAGE):
            told = json.loads(match.group(3)[len(MESSAGE) :])
            if "status" in told:
                self.pids.pop(told["rank"], None)
                self.note_end(told["rank"], told["status"], told["log"], told["lines"])
            elif told["host"] == socket.gethostname():
                self.pids[told["rank"]] = told["pid"]
        elif match.group(1) == "0" and match.group(2) == "stdout":
            print_line(match.group(3))
        else:
            said.append(line)

    def hand_on(self, number, at_once):
        if at_once or not self.pids:
            self.starter.send_signal(signal.SIGTERM)
            return
        for pid in list(self.pids.values()):
            try:
                os.kill(pid, number)
            except OSError:
                pass  # it has just ended


def work(base, command):
    """One rank that horovodrun has started: runs it, and tells how it ends."""
    number = int(os.environ["HOROVOD_RANK"])
    rank = Rank(number, os.path.join(base, str(number)), number, {})
    os.makedirs(rank.folder, exist_ok=True)
    environ = dict(os.environ, ASCEND_DEVICE_ID=str(number))
    child = started(rank, command, environ, is_shown=number == 0)
    for one in SIGNALS:
        signal.signal(one, lambda number, frame: child.send_signal(number))
    tell(rank=number, pid=child.pid, host=socket.gethostname())
    if number == 0:
        copy(child.stdout, rank.log)
    status = exit_status(child.wait())
    lines = last_lines(rank.log) if status else []
    tell(rank=number, status=status, log=rank.log, lines=lines)
    return status


def started(rank, command, environ, is_shown):
    """The process of a rank: what it says goes to its log, or to a pipe if shown."""
    with open(rank.log, "ab") as log:
        return subprocess.Popen(
            command,
            cwd=rank.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if is_shown else log,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )


def exit_status(returncode):
    """A process's status as a shell tells it: 128 and the number of a signal."""
    return 128 - returncode if returncode < 0 else returncode


def tell(**facts):
    print_line(MESSAGE + json.dumps(facts))


def copy(stream, path):
    """Copies a rank's output to its log and to this process's output."""
    with open(path, "ab") as log:
        for line in stream:
            log.write(line)
            log.flush()
            print_line(line.decode(errors="replace").rstrip("\n"))


def print_line(line):
    try:
        print(line, flush=True)
    except BrokenPipeError:
        pass  # whoever listened has gone; the log has it all


def last_lines(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in collections.deque(file, LAST_LINES)]


def end_with_parent():
    """A child's first act: SIGTERM when this process is killed; a group of its own.

    A terminal's Ctrl-C would otherwise reach the ranks twice.
    """
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def told_of_failure(job):
    """What to say of a job that did not come to its end."""
    rank, status, log, lines = job.failed
    if job.signals:  # the ranks have said how to go on
        return f"launch_ranks.py: stopped by {job.signal_name}\n"
    who = "the job" if rank is None else f"rank {rank}"
    told = f"{who} failed with status {status}; the last lines of {log}"
    return "\n".join([f"launch_ranks.py: {told}:", *lines, ""])


def fail(message, status=2):
    sys.stderr.write("launch_ranks.py: error: %s\n" % message)
    sys.exit(status)


def main(argv):
    if argv[:1] == ["--worker"]:
        sys.exit(work(argv[1], argv[3:]))
    options, flags = read_options(argv)
    try:
        plan = make_plan(options, os.environ)
    except InputError as error:
        fail(error)
    if options.plan:
        return print(plan.engine)
    command = command_of(plan, flags)
    check(plan, command, os.environ)
    try:
        prepare(plan, options.resumes)
    except OutputError as error:
        fail(error, error.status)
    names = [os.path.relpath(rank.log) for rank in plan.ranks]
    print_line(f"Ranks: {plan.size}, joined by {plan.engine}; logs: {names[0]} ...")
    job = {"hccl": ChildJob, "horovod": HorovodJob}[plan.engine](plan)
    for number in SIGNALS:
        signal.signal(number, job.on_signal)
    job.run(command, os.environ)
    if job.failed:
        sys.stderr.write(told_of_failure(job))
        sys.exit(job.failed[1])
    if plan.ranks[0].number == 0:
        summary = os.path.join(TEST, "zoo_summary.py")
        sys.exit(subprocess.call([sys.executable, summary, plan.results, options.case]))


if __name__ == "__main__":
    main(sys.argv[1:])
