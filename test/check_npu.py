# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What test/check_npu.sh runs: one check for each claim about NPUs, and a table.

Every run is a process of the train script, or of a program of npu_programs.py; so a
process that the adapter ends costs one line of the table, and not the check.
"""

import argparse
import collections
import glob
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
SCRIPT = os.path.join(ROOT, "train-tf.keras-npu.py")
PROGRAMS = os.path.join(ROOT, "test", "npu_programs.py")
OPERATOR_LIST = "framework/built-in/tensorflow/npu_supported_ops.json"
SMALL = [
    "--num_samples=512",
    "--batch_size=64",
    "--train_epochs=4",
    "--hidden_units=16",
    "--num_classes=3",
    "--num_features=2",
]
# Largest difference of a probability after STEPS steps. A float16 keeps 11 bits, about
# 5e-4 of the value, and sums of 108 products and the steps multiply that; with float32
# remain the device's own exponential, its order of summation, and that a gradient may
# read a weight that is already updated: 1.2e-3 was seen of that.
STEPS = "5"
TOLERANCES = {
    "allow_mix_precision": 2e-2,
    "allow_fp32_to_fp16": 2e-2,
    "force_fp16": 2e-2,
    "must_keep_origin_dtype": 5e-3,
}
# The vendor's documents: unusable where an operator has no float32 version.
MAY_BE_UNUSABLE = ("must_keep_origin_dtype",)
# Largest relative error of the moments of an unfused layer, and of a step's change, on
# numbers that a float16 holds too: its 11 bits leave 5e-4 of a moment, more where a
# rounded mean is deviated from.
ROUNDING = {
    "allow_mix_precision": 5e-3,
    "allow_fp32_to_fp16": 5e-3,
    "force_fp16": 5e-3,
    "must_keep_origin_dtype": 1e-5,
}
RATE_ERROR = 1e-6  # of what SWA tells of a rate, relative
SLOWEST = 0.1  # of the CPU's rate; a graph that is compiled again and again falls below
LONGEST_RUN = 300  # seconds
# They would move the dumps that the checks read.
MOVES_DUMPS = ("DUMP_GRAPH_PATH", "NPU_COLLECT_PATH")
# What the adapter says where a part of the graph that is left on the host needs a
# variable of the device's. The last one it says of other failures too.
STRANDED = (
    "Trying to access resource",
    "Container localhost does not exist",
    "DoRunAsync Failed",
)

Run = collections.namedtuple("Run", "status output folder report")
Verdict = collections.namedtuple("Verdict", "is_ok measured")


class Lab:
    """Runs what the checks ask for, each thing once."""

    def __init__(self, folder, args):
        self.folder = folder
        self._runs = {}
        self.args = args
        self.main_flags = [
            f"--num_samples={args.num_samples}",
            f"--batch_size={args.batch_size}",
            "--hidden_units=50",
            "--num_classes=3",
            "--num_features=2",
        ]

    def train(self, name, *flags):
        """A run of the train script in a folder of that name."""
        return self._run(name, [SCRIPT, *flags, "--output_dir=out"])

    def main(self, device):
        """The long run, on either device."""
        epochs = f"--train_epochs={self.args.train_epochs}"
        return self.train(device, *self.main_flags, epochs, f"--device={device}")

    def program(self, name, *arguments):
        """A run of a program: (run, its facts, {} if it left none)."""
        run = self._run("-".join((name, *arguments)), [PROGRAMS, name, *arguments])
        path = os.path.join(run.folder, "facts.json")
        if not os.path.exists(path):
            return run, {}
        with open(path) as file:
            return run, json.load(file)

    def _run(self, name, command):
        if name not in self._runs:
            folder = os.path.join(self.folder, name)
            os.mkdir(folder)
            self._runs[name] = _execute(command, folder)
        return self._runs[name]

    def failures(self):
        """The last lines of every run that failed, and what is known to help."""
        from swa.training.remedies import remedies

        return [
            (name, run.output.splitlines()[-15:] + remedies(run.output))
            for name, run in self._runs.items()
            if run.status != 0
        ]


def _execute(command, folder):
    """Runs Python on `command` in `folder`."""
    # PRINT_MODEL=1: the adapter writes each graph, as it leaves it, where it stands.
    environ = dict(os.environ, PRINT_MODEL="1", PYTHONUNBUFFERED="1")
    for name in MOVES_DUMPS:
        environ.pop(name, None)
    try:
        result = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONGEST_RUN,
        )
        status, output = result.returncode, result.stdout
    except subprocess.TimeoutExpired as error:
        status, output = 124, error.stdout or b""
    report = None
    path = os.path.join(folder, "out", "report.json")
    if status == 0 and os.path.exists(path):
        with open(path) as file:
            report = json.load(file)
    return Run(status, output.decode(errors="replace"), folder, report)


def host_types(path):
    """The types of operation that a dumped graph leaves on the host.

    They are those of its `node` entries; its library holds the device's.
    """
    types, section = set(), ""
    with open(path, errors="replace") as file:
        for line in file:
            if not line.startswith((" ", "}")):
                section = line.split()[0]
            found = re.match(r'  op: "(\w+)"', line)
            if found and section == "node":
                types.add(found.group(1))
    return types


def device_graphs(folder):
    """Types of operation left on the host, for each graph that has a part on the NPU.

    That part is one operation of type GeOp; dumps of earlier stages have none.
    """
    paths = glob.glob(os.path.join(folder, "*.pbtxt"))
    graphs = [host_types(path) for path in paths]
    return [types - {"GeOp"} for types in graphs if "GeOp" in types]


def refused_operation(run):
    """One sentence where an operation that the NPU lacks ended a run, else ""."""
    signs = [sign for sign in STRANDED if sign in run.output]
    if not signs:
        return ""
    opp = os.environ.get("ASCEND_OPP_PATH", "/usr/local/Ascend/opp")
    path = os.path.join(opp, OPERATOR_LIST)
    with open(path) as file:
        listed = set(json.load(file))
    missing = sorted(set().union(*device_graphs(run.folder)) - listed)
    if not missing and signs == list(STRANDED[-1:]):
        return ""
    named = ", ".join(missing) or "an operation of the graph"
    return f"{named} is not in the operator list {path}, so the NPU cannot train it"


def files_below(folder):
    """The number of files in it."""
    return sum(len(files) for _, _, files in os.walk(folder))


# The checks: each takes the lab and returns its verdict.


def check_device(lab):
    run = lab.main("npu")
    if run.report is None:
        return Verdict(False, f"exit status {run.status}: {_reason(run)}")
    line = next(line for line in run.output.splitlines() if line.startswith("device "))
    return Verdict(run.report["device"] == "npu", line)


def check_placed(lab):
    run = lab.main("npu")
    graphs = device_graphs(run.folder)
    if not graphs:
        has_traces = os.path.isdir(os.path.join(run.folder, "kernel_meta"))
        # an adapter that dumps no graphs still leaves its kernels where it stands
        dumps = glob.glob(os.path.join(run.folder, "*.pbtxt"))
        is_ok = has_traces and not dumps
        return Verdict(is_ok, f"no graph on the NPU; kernel_meta: {has_traces}")
    refused = refused_operation(run)
    if refused:
        return Verdict(False, refused)
    left = set().union(*graphs)
    shown = ", ".join(sorted(left)) or "none"
    return Verdict("MatMul" not in left, f"{len(graphs)} graphs; on the host: {shown}")


def check_compiles(lab):
    epochs = lab.args.train_epochs // 2
    half = lab.train(
        "half", *lab.main_flags, f"--train_epochs={epochs}", "--device=npu"
    )
    counts = [len(device_graphs(run.folder)) for run in (half, lab.main("npu"))]
    measured = f"{counts[0]} in {epochs} epochs, {counts[1]} in {lab.args.train_epochs}"
    return Verdict(half.status == 0 and 0 < counts[0] == counts[1], measured)


def check_over_dump(lab):
    # Beyond float16's largest number, 65504, so that there is an overflow to dump;
    # batch norm brings the values back.
    generator = np.random.RandomState(0)
    y = generator.randint(3, size=512)
    x = (1e5 * (generator.randn(512, 2) + 3 * y[:, None])).astype(np.float32)
    path = os.path.join(lab.folder, "large.npz")
    np.savez(path, x=x, y=y)
    return _check_files(lab, "over_dump", "overflow_dump", f"--data_path={path}")


def check_data_dump(lab):
    return _check_files(lab, "data_dump_flag", "data_dump", "--data_dump_step=0|2-3")


def check_profiling(lab):
    return _check_files(lab, "profiling", "profiling")


def _check_files(lab, flag, folder, *flags):
    run = lab.train(
        flag, *SMALL, "--device=npu", f"--{flag}=True", "--data_save_path=save", *flags
    )
    count = files_below(os.path.join(run.folder, "save", folder))
    measured = f"{count} files in {folder}, exit status {run.status}"
    return Verdict(run.status == 0 and count > 0, measured)


def check_agreement(lab, mode):
    run, on_npu = lab.program("probabilities", "npu", mode, STEPS)
    _, on_cpu = lab.program("probabilities", "cpu", "allow_mix_precision", STEPS)
    if not on_npu and mode in MAY_BE_UNUSABLE:
        return Verdict(True, f"unusable here: exit status {run.status}")
    if not on_npu or not on_cpu:
        return Verdict(False, f"exit status {run.status}: {_reason(run)}")
    pairs = on_npu["probabilities"], on_cpu["probabilities"]
    difference = float(np.max(np.abs(np.subtract(*pairs))))
    measured = f"largest difference {difference:.1e}, at most {TOLERANCES[mode]:.0e}"
    return Verdict(difference <= TOLERANCES[mode], measured)


def check_moments(lab):
    def judge(mode, facts):
        moments = facts["moments"]
        share = moments["saturated"]
        told = f"{mode} off by {moments['error']:.1e}"
        if share < 1 - 10 * ROUNDING[mode]:
            told += f" (a variance of 87000 saturates at {share:.0%} of it)"
        return Verdict(moments["error"] <= ROUNDING[mode], told)

    return _check_modes(lab, judge)


def check_step(lab):
    def judge(mode, facts):
        step = facts["step"]
        off = abs(step["told"] / step["planned"] - 1)
        is_ok = step["error"] <= ROUNDING[mode] and off <= RATE_ERROR
        told = f"{mode} rate {step['used']:.7f}, SWA tells {step['told']:.7f}"
        return Verdict(is_ok, f"{told}, weights off by {step['error']:.1e}")

    return _check_modes(lab, judge)


def _check_modes(lab, judge):
    """What `judge` says of each precision mode's facts, in one verdict."""
    verdicts = []
    for mode in ROUNDING:
        run, facts = lab.program("mode", mode)
        if run.status == 0:
            verdicts.append(judge(mode, facts))
        else:
            told = f"{mode} exit status {run.status}: {_reason(run)}"
            verdicts.append(Verdict(mode in MAY_BE_UNUSABLE, told))
    measured = "; ".join(verdict.measured for verdict in verdicts)
    return Verdict(all(verdict.is_ok for verdict in verdicts), measured)


def check_fact(lab, program, name):
    """A check that the program has made itself."""
    run, facts = lab.program(program)
    if name not in facts:
        return Verdict(False, f"exit status {run.status}: {_reason(run)}")
    return Verdict(*facts[name])


def check_accuracy(lab):
    runs = lab.main("npu"), lab.main("cpu")
    if any(run.report is None for run in runs):
        return Verdict(False, f"exit statuses {runs[0].status}, {runs[1].status}")
    npu, cpu = (
        [run.report["test"][weights]["accuracy"] for weights in ("sgd", "swa")]
        for run in runs
    )
    # half a point, and the standard error of an accuracy measured on so many rows
    room = 0.005 + 0.5 / math.sqrt(lab.args.num_samples // 8)
    # the devices draw different initial weights: two points for that
    is_ok = npu[1] >= npu[0] - room and min(npu) >= min(cpu) - room - 0.02
    measured = "NPU: SGD {:.4f}, SWA {:.4f}; CPU: SGD {:.4f}, SWA {:.4f}"
    return Verdict(is_ok, measured.format(*npu, *cpu))


def check_speed(lab):
    runs = lab.main("npu"), lab.main("cpu")
    if any(run.report is None for run in runs):
        return Verdict(False, f"exit statuses {runs[0].status}, {runs[1].status}")
    npu, cpu = (run.report["samples_per_second"] for run in runs)
    compiling = runs[0].report["compile_seconds"]
    measured = f"NPU {npu:.0f}, CPU {cpu:.0f} samples/s; compiling {compiling:.0f} s"
    return Verdict(npu >= SLOWEST * cpu, measured)


CHECKS = collections.OrderedDict(
    [
        ("device", check_device),
        ("placed", check_placed),
        ("compiles", check_compiles),
        ("over_dump", check_over_dump),
        ("data_dump", check_data_dump),
        ("profiling", check_profiling),
        *(
            (mode, lambda lab, mode=mode: check_agreement(lab, mode))
            for mode in TOLERANCES
        ),
        ("moments", check_moments),
        ("step", check_step),
        *(
            (name, lambda lab, name=name: check_fact(lab, "fused", name))
            for name in ("fused", "channels_first", "large_mean")
        ),
        *(
            (name, lambda lab, name=name: check_fact(lab, "callback", name))
            for name in ("weights", "rate", "put", "pass", "memory")
        ),
        ("accuracy", check_accuracy),
        ("speed", check_speed),
    ]
)


def _reason(run):
    """Why a run failed, in one line."""
    lines = [line for line in run.output.splitlines() if line.strip()]
    return refused_operation(run) or (lines[-1] if lines else "no output")


def has_npu():
    """Whether there is any sign of an NPU."""
    from swa.training import machine

    return bool(machine.npu_signs(os.environ))


def describe_machine():
    """What a reader of the table needs to know of the machine."""
    names = sorted(name for name in os.environ if name.startswith("ASCEND_"))
    return [
        f"date: {time.strftime('%Y-%m-%d %H:%M:%S')}",
        f"machine: {platform.machine()}, {os.cpu_count()} cores",
        f"python: {platform.python_version()}, numpy {np.__version__}",
        *(f"{name}={os.environ[name]}" for name in names),
    ]


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, without the usage before it."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def main():
    """Parses the options, checks, prints and writes; returns the exit status."""
    parser = Parser(
        prog="check_npu.sh",
        description="Tries one NPU; see docs/ascend.md.",
        allow_abbrev=False,
    )
    parser.add_argument("--output", default="check_npu.txt", help="file for the table")
    parser.add_argument("--only", default=",".join(CHECKS), help="checks, by commas")
    parser.add_argument("--num_samples", type=int, default=131072)
    parser.add_argument("--batch_size", type=int, default=16384)
    parser.add_argument("--train_epochs", type=int, default=40)
    args = parser.parse_args()
    names = args.only.split(",")
    if not set(names) <= set(CHECKS):
        parser.error(f"--only takes {', '.join(CHECKS)}, got {args.only!r}")
    if not has_npu():
        parser.error("found no NPU to check: no /dev/davinci*, no CANN, no npu_bridge")
    lines = describe_machine()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(folder, args)
        print("\n".join(lines), flush=True)
        for name in names:
            verdict = CHECKS[name](lab)
            if not verdict.is_ok:
                failed.append(name)
            line = (
                f"{name:<24}{'ok' if verdict.is_ok else 'FAILED':<8}{verdict.measured}"
            )
            print(line, flush=True)
            lines.append(line)
            if name == "device" and failed:
                break  # nothing else can pass, and each try takes its time
        last = f"{len(failed)} failed: {', '.join(failed)}" if failed else "all ok"
        print(last)
        lines.append(last)
        for name, tail in lab.failures():
            lines += ["", f"last lines of the run {name}:", *tail]
    with open(args.output, "w") as file:
        file.write("\n".join(lines) + "\n")
    path = os.path.abspath(args.output)
    print(f"written to {path}: please attach it to an issue of the repository")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
