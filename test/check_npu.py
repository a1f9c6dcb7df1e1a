# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What test/check_npu.sh runs: one check for each claim about NPUs, and a table.

Every run is a process of the train script, or of this file for a few bare steps or the
callback alone; so a process that the adapter ends costs one line of the table, and not
the check.
"""

import argparse
import collections
import contextlib
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
from launcher.remedies import remedies

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.join(ROOT, "train-tf.keras-npu.py")
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
STEPS = 5
TOLERANCES = {
    "allow_mix_precision": 2e-2,
    "allow_fp32_to_fp16": 2e-2,
    "force_fp16": 2e-2,
    "must_keep_origin_dtype": 5e-3,
}
# The vendor's documents: unusable where an operator has no float32 version.
MAY_BE_UNUSABLE = ("must_keep_origin_dtype",)
SLOWEST = 0.1  # of the CPU's rate; a graph that is compiled again and again falls below
LONGEST_RUN = 300  # seconds
# They would move the dumps that the checks read.
MOVES_DUMPS = ("DUMP_GRAPH_PATH", "NPU_COLLECT_PATH")
CALLBACK_EPOCHS = 8

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

    def steps(self, device, mode):
        """A few bare steps from fixed weights: (run, probabilities or None)."""
        run = self._run(f"{device}-{mode}", [__file__, "--steps", device, mode])
        path = os.path.join(run.folder, "probabilities.npy")
        return run, np.load(path) if run.status == 0 else None

    def _run(self, name, command):
        if name not in self._runs:
            folder = os.path.join(self.folder, name)
            os.mkdir(folder)
            self._runs[name] = _execute(command, folder)
        return self._runs[name]

    def callback(self):
        """A run of the callback on the NPU: {check: [whether it is right, figures]}."""
        run = self._run("callback", [__file__, "--callback"])
        if run.status != 0:
            told = [False, f"exit status {run.status}: {_reason(run)}"]
            return {"weights": told, "rate": told}
        with open(os.path.join(run.folder, "callback.json")) as file:
            return json.load(file)

    def failures(self):
        """The last lines of every run that failed, and what is known to help."""
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
    """One sentence where an operation that the NPU lacks ended a run, else None."""
    if "Trying to access resource" not in run.output:
        return None
    path = os.path.join(
        os.environ.get("ASCEND_OPP_PATH", "/usr/local/Ascend/opp"),
        "framework/built-in/tensorflow/npu_supported_ops.json",
    )
    with open(path) as file:
        listed = set(json.load(file))
    missing = sorted(set().union(*device_graphs(run.folder)) - listed)
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
    run, found = lab.steps("npu", mode)
    _, expected = lab.steps("cpu", "allow_mix_precision")
    if found is None and mode in MAY_BE_UNUSABLE:
        return Verdict(True, f"unusable here: exit status {run.status}")
    if found is None or expected is None:
        return Verdict(False, f"exit status {run.status}")
    difference = float(np.max(np.abs(found - expected)))
    measured = f"largest difference {difference:.1e}, at most {TOLERANCES[mode]:.0e}"
    return Verdict(difference <= TOLERANCES[mode], measured)


def check_weights(lab):
    return Verdict(*lab.callback()["weights"])


def check_rate(lab):
    return Verdict(*lab.callback()["rate"])


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
        ("weights", check_weights),
        ("rate", check_rate),
        ("accuracy", check_accuracy),
        ("speed", check_speed),
    ]
)


@contextlib.contextmanager
def opened_model(device, mode):
    """(config, the trainer's model) in a session of the trainer's on that device."""
    sys.path.insert(0, ROOT)
    from swa.training import machine, network, session
    from swa.training.flags import Config
    from swa.training.settings import checked

    config = checked(
        Config(device=device, precision_mode=mode, num_samples=256, batch_size=256)
    )
    with session.opened(config, machine.choose(config, os.environ)):
        yield config, network.build(config, config.num_features)


def take_steps(device, mode):
    """STEPS training steps from fixed weights; leaves the probabilities in a file."""
    generator = np.random.RandomState(0)
    with opened_model(device, mode) as (config, network):
        y = generator.randint(config.num_classes, size=256).astype(np.int32)
        centres = generator.uniform(-3, 3, (config.num_classes, config.num_features))
        x = (centres[y] + generator.randn(256, config.num_features)).astype(np.float32)
        # from numpy: the devices' random generators differ
        weights = [
            0.3 * generator.randn(*array.shape) if array.ndim == 2 else array
            for array in network.get_weights()
        ]
        network.set_weights(weights)
        for _ in range(STEPS):
            network.train_on_batch(x, y)
        np.save("probabilities.npy", network.predict_on_batch(x))


def try_callback():
    """Trains with SWA; leaves in a file what it says, and what the NPU holds."""
    import tensorflow as tf

    backend = tf.compat.v1.keras.backend
    by_epoch, rates = [], []

    class Before(tf.keras.callbacks.Callback):
        """Before SWA: the weights as an epoch of training left them."""

        def on_epoch_end(self, epoch, logs=None):
            by_epoch.append(self.model.get_weights())

    class After(tf.keras.callbacks.Callback):
        """After SWA: the rate that the card has for the batch, and SWA's."""

        def on_batch_begin(self, batch, logs=None):
            read = float(backend.get_value(self.model.optimizer.lr))
            rates.append((read, swa.lr))

    generator = np.random.RandomState(0)
    with opened_model("npu", "allow_mix_precision") as (config, network):
        from swa.tfkeras import SWA

        y = generator.randint(config.num_classes, size=256).astype(np.int32)
        x = generator.randn(256, config.num_features).astype(np.float32)
        swa = SWA(3, "cyclic", 0.01, 0.04, 2)
        callbacks = [Before(), swa, After()]
        network.fit(x, y, 64, CALLBACK_EPOCHS, verbose=0, callbacks=callbacks)
        told = {
            "weights": judge_weights(network, swa, by_epoch, x),
            "rate": judge_rates(swa, rates, config.learning_rate),
        }
    with open("callback.json", "w") as file:
        json.dump(told, file)


def judge_weights(model, swa, by_epoch, x):
    """Whether trained and averaged weights are what they should be, and where.

    Args:
      model: it has the averaged weights, with statistics of the last epoch.
      swa: the callback.
      by_epoch: list of lists of arrays, the weights at the end of each epoch.
      x: array, training rows.

    Returns:
      [bool, str]: whether all is right, and what was measured.
    """
    plan = swa.plan(CALLBACK_EPOCHS, 1)
    trained = by_epoch[plan.batch_norm_epoch - 2]  # of the epoch before the pass
    sets = [by_epoch[epoch - 1] for epoch in plan.sampled_epochs]
    mean = [np.mean(arrays, axis=0, dtype=np.float64) for arrays in zip(*sets)]
    is_trained = [weight.trainable for weight in model.weights]  # no statistics

    def is_near(arrays, expected):
        pairs = zip(arrays, expected, is_trained)
        return all(np.allclose(a, b, 0, 1e-5) for a, b, counts in pairs if counts)

    def are_same(arrays, expected):
        return all(np.array_equal(a, b) for a, b in zip(arrays, expected))

    at_end = model.get_weights()
    apart = max(float(np.max(np.abs(a - b))) for a, b in zip(mean, trained))
    wrong = []

    def expect(what, is_right):
        if not is_right:
            wrong.append(what)

    average = swa.averaged_weights
    expect("average is not the mean of the samples", is_near(average, mean))
    expect("average is not the model's at the end", is_near(at_end, mean))
    expect("average and trained weights cannot be told apart", apart > 1e-3)
    with swa.trained_weights():
        expect("trained weights not put in", are_same(model.get_weights(), trained))
    expect("average not given back", are_same(model.get_weights(), at_end))
    swa.restore()
    expect("trained weights not restored", are_same(model.get_weights(), trained))
    with swa.average_applied(x, 64):
        expect("average not put in", is_near(model.get_weights(), mean))
    expect("trained weights not given back", are_same(model.get_weights(), trained))
    measured = f"{len(sets)} samples; average and trained differ by up to {apart:.1e}"
    return [not wrong, "; ".join(wrong + [measured])]


def judge_rates(swa, rates, learning_rate):
    """Whether the card had the planned rate in every batch: [bool, str].

    Args:
      swa: the callback.
      rates: list of (the card's, SWA's), by batch.
      learning_rate: float, the compiled rate.
    """
    batches = len(rates) // CALLBACK_EPOCHS
    plan = swa.plan(CALLBACK_EPOCHS, batches, learning_rate)
    planned = np.nan_to_num(plan.rates.ravel())
    read, told = np.array(rates).T
    cycle = slice((CALLBACK_EPOCHS - 3) * batches, (CALLBACK_EPOCHS - 1) * batches)
    differences = [float(np.max(np.abs(a - planned))) for a in (read, told)]
    measured = (
        f"one cycle on the card: {read[cycle].max():.4f} to {read[cycle].min():.4f}; "
        f"largest difference from the plan {differences[0]:.1e}, "
        f"of what SWA tells {differences[1]:.1e}"
    )
    return [max(differences) <= 1e-6, measured]  # float32 at 0.04


def _reason(run):
    """Why a run failed, in one line."""
    lines = [line for line in run.output.splitlines() if line.strip()]
    return refused_operation(run) or (lines[-1] if lines else "no output")


def has_npu():
    """Whether there is any sign of an NPU."""
    sys.path.insert(0, ROOT)
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
    parser.add_argument("--steps", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--callback", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps:
        return take_steps(*args.steps)
    if args.callback:
        return try_callback()
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
    print(f"written to {os.path.abspath(args.output)}: please send it back")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
