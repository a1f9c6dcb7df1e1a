# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""What the measurements share: statistics, processes, packages, files.

Every measurement runs in a process of its own: keras-swa's import name is `swa`
too, so no process may see both.
"""

import contextlib
import importlib
import json
import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "test" / "benchmark.py"
PEER = "keras-swa==0.1.7"
LINE = 320  # characters of a line of JSON that holds more than plain values
# what TensorFlow 1.15 provokes under Python 3.7; the callbacks' own are shown
QUIET = "ignore::FutureWarning,ignore::DeprecationWarning"


# Statistics


def median_interval(values, seed=0):
    """(median, low, high): the 95% percentile bootstrap of the median."""
    values = np.asarray(values)
    draws = np.random.RandomState(seed).randint(len(values), size=(10000, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def mean_interval(values):
    """(mean, low, high) with Student's t at 95%; None for one value's interval."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None, None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - half, mean + half


def paired_p(values, base):
    """The p-value of Student's paired t-test, two-sided; 1 where nothing differs."""
    from scipy import stats

    if len(values) < 2 or np.array_equal(values, base):
        return 1.0
    return float(stats.ttest_rel(values, base).pvalue)


def holm(p_values):
    """Holm's correction: p-values that may be compared with one level together.

    In rising order, adjusted[i] = max over j <= i of min(1, (m - j) * p[j]), j from 0,
    where m is their number (Holm, 1979).
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def compared(times, base):
    """The ratio of paired seconds: median, its 95% interval, that of the best."""
    median, low, high = median_interval(np.asarray(times) / np.asarray(base))
    return {"median": median, "low": low, "high": high, "best": min(times) / min(base)}


# Tables


def print_table(heads, rows):
    """Prints rows of text under their heads, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    for row in [heads, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths)]
        cells[0] = row[0].ljust(widths[0])
        print("  ".join(cells).rstrip(), flush=True)


def markdown_table(heads, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


# Processes


def in_process(work, spec, path=ROOT, threads=None, seconds=None):
    """Runs `module.function` of this package with `path` first on the module path.

    Args:
      work: str, "module.function".
      spec: dict, the function's arguments, as JSON can hold them.
      path: folder with the `swa` to be measured.
      threads: int, of numpy's and TensorFlow's; None: as many as they like.
      seconds: float, after which the process is ended; None: it is waited for.

    Returns:
      What the function returned, as JSON can hold it; None where it was ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        environ = clean_environ()
        if threads is not None:
            environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        command = [sys.executable, str(SCRIPT), "--worker", work, json.dumps(spec)]
        command += [str(path), result]
        try:
            subprocess.run(command, check=True, env=environ, timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        with open(result) as file:
            return json.load(file)


def clean_environ():
    """The environment of a measured process."""
    environ = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONWARNINGS=QUIET)
    environ.pop("PYTHONPATH", None)  # it could bring the other `swa`
    return environ


def worker(work, spec, path, result):
    """The other end of `in_process`."""
    sys.path.insert(0, path)
    import tensorflow as tf

    import swa

    tf.compat.v1.logging.set_verbosity("ERROR")
    if pathlib.Path(swa.__file__).parent.parent != pathlib.Path(path).resolve():
        raise RuntimeError("another package named swa comes first on the path.")
    module, function = work.split(".")
    module = importlib.import_module("benchmarks." + module)
    measured = getattr(module, function)(**json.loads(spec))
    with open(result, "w") as file:
        json.dump(measured, file)


# Packages


def peer_folder(folder):
    """The folder that holds keras-swa alone; None, with a printed reason."""
    folder = pathlib.Path(folder).expanduser().resolve()
    target = folder / PEER.replace("==", "-")
    if (target / "swa" / "tfkeras.py").is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=str(folder)) as parts:
            made = os.path.join(parts, "made")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run(
                command + ["--disable-pip-version-check", "--target", made, PEER],
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                universal_newlines=True,
            )
            shutil.rmtree(str(target), ignore_errors=True)
            os.replace(made, str(target))
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"keras-swa: skipped, pip could not install {PEER}: {reason}")
        return None
    except OSError as error:
        print(f"keras-swa: skipped, {error}")
        return None
    return target


def environment():
    """Versions and machine class; no host names, no paths."""
    return {
        "versions": in_process("common.versions_work", {}),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "processor": processor(),
            "architecture": platform.machine(),
            "system": platform.system(),
        },
    }


def processor():
    """The processor's model as it names itself, or None."""
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return " ".join(line.split(":", 1)[1].split())
    return None


def versions_work():
    """Versions of what is measured."""
    import pkg_resources

    versions = {"python": platform.python_version(), "keras-swa": PEER.split("==")[1]}
    for name in ("swa", "tensorflow", "numpy", "sklearn", "mlxtend"):
        with contextlib.suppress(ImportError):
            versions[name] = importlib.import_module(name).__version__
    with contextlib.suppress(pkg_resources.DistributionNotFound):
        versions["mnist1d"] = pkg_resources.get_distribution("mnist1d").version
    return versions


# Files


def read(path):
    """The JSON of a file."""
    with open(str(path)) as file:
        return json.load(file)


def write(path, content):
    """Writes figures as JSON, as a whole or not at all: few lines, five digits."""
    write_text(path, json_text(content))


def json_text(content, indent=""):
    """JSON with all on one line that fits there, and innermost arrays however long.

    Args:
      content: dict, list, text, number, bool or None; numbers that are no integers
        are rounded to five significant digits.
      indent: str, what the lines after the first begin with.

    Returns:
      str.

    Raises:
      ValueError: a number is NaN or Inf.
    """
    if isinstance(content, float):
        content = float(f"{content:.5g}")
    if not isinstance(content, (dict, list, tuple)):
        return json.dumps(content, allow_nan=False)
    is_dict = isinstance(content, dict)
    items = sorted(content.items()) if is_dict else [("", value) for value in content]
    texts = [
        (json.dumps(name) + ": " if is_dict else "") + json_text(value, indent + " ")
        for name, value in items
    ]
    begin, end = "{}" if is_dict else "[]"
    line = begin + ", ".join(texts) + end
    is_innermost = not any(isinstance(v, (dict, list, tuple)) for _, v in items)
    if is_innermost or ("\n" not in line and len(line) <= LINE):
        return line
    return f"{begin}\n{indent} " + f",\n{indent} ".join(texts) + f"\n{indent}{end}"


def write_text(path, text):
    """Writes text that ends in a newline, as a whole or not at all."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text.rstrip("\n") + "\n")
    os.replace(temporary, str(path))
