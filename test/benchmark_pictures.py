# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Draws the documents' pictures from the benchmark's figures, in two languages.

usage: benchmark_pictures.py [--json FILE] [--folder FOLDER]
"""

import argparse
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402, the backend comes first
import numpy as np  # noqa: E402
from benchmarks import arms, common, gains, networks, readme  # noqa: E402

FOLDER = common.ROOT / "test" / "benchmarks" / "pictures"
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#d9772b", "#3a8f4f", "#8a8a8a"
PACKAGES = {"this": BLUE, "keras-swa": ORANGE}  # whose cost is drawn
RATE, SWA_LR = 0.1, 0.05  # of the schedule: the setting that the front page recommends
LABELS = {  # English, Chinese
    "epoch": ("epoch", "epoch（轮）"),
    "learning rate": ("learning rate", "学习率"),
    "sample": ("sample of the weights", "对权重采样"),
    "batch-norm epoch": ("forward-only epoch", "只有前向的一轮"),
    "accuracy": ("test accuracy, %", "测试准确率，%"),
    "sgd": ("SGD, decayed rate", "SGD，学习率衰减"),
    "raw": ("SWA: weights of the epoch", "SWA：当轮的权重"),
    "averaged": ("SWA: their average", "SWA：其平均"),
    "points": ("SWA minus SGD: accuracy, points", "SWA 与 SGD 之差：准确率，百分点"),
    "loss": ("SWA minus SGD: loss", "SWA 与 SGD 之差：损失"),
    "once": ("added once by the first fit, s", "首次 fit 增加的时间（仅一次），秒"),
    "each": ("added to each training epoch, %", "训练一轮增加的时间，%"),
    "over": ("over {} s", "超过 {} 秒"),
}


def schedule(results, say):
    """The rate of each batch and the epochs sampled, from `swa.plan`."""
    sys.path.insert(0, str(common.ROOT))
    from swa import schedules

    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
    for axis, kind, swa_freq in zip(axes, ("constant", "cyclic"), (1, 3)):
        settings = schedules.checked(30, kind, SWA_LR, RATE, swa_freq)
        plan = schedules.plan(settings, 40, 10, RATE, batch_norm=True)
        epochs = 1 + np.arange(plan.rates.size) / plan.rates.shape[1]
        axis.plot(epochs, plan.rates.ravel(), color=BLUE)
        ends = np.array(plan.sampled_epochs)
        rates_at_ends = plan.rates[ends - 1, -1]
        axis.plot(ends + 1, rates_at_ends, "o", ms=4, color=ORANGE, label=say("sample"))
        axis.axvspan(40, 41, color=GREY, alpha=0.4, label=say("batch-norm epoch"))
        axis.axvline(30, color=GREY, lw=0.8, ls="--", label="start_epoch")
        axis.set_title(f"lr_schedule='{kind}'", fontsize=10)
        axis.set_xlabel(say("epoch"))
    axes[0].set_ylabel(say("learning rate"))
    axes[0].set_ylim(0)
    axes[0].legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def gain(results, say):
    """SWA minus SGD on each task, with intervals; full dots are verdicts after Holm."""
    tasks = gains.measured_tasks(results)[::-1]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for axis, kind, scale, name in zip(
        axes, ("accuracy", "loss"), (100, 1), ("points", "loss")
    ):
        for place, task in enumerate(tasks):
            row = gains.summary_row(results, task, "swa")[kind]
            ends = [scale * row["low"], scale * row["high"]]
            axis.plot(ends, [place, place], color=BLUE)
            fill = BLUE if row["holm"] < gains.LEVEL else "white"
            axis.plot(scale * row["minus_sgd"], place, "o", color=BLUE, mfc=fill)
        axis.axvline(0, color="black", lw=0.8)
        axis.set_xlabel(say(name))
    axes[0].set_yticks(range(len(tasks)))
    axes[0].set_yticklabels([say.of(gains.TASKS[task]) for task in tasks], fontsize=8)
    return figure


def curve(results, say):
    """Test accuracy by epoch: SGD with its decay, SWA's weights, their average."""
    measured = results["quality"]["curve"]
    figure, axis = plt.subplots(figsize=(6, 3.2))
    start = measured["start_epoch"]
    lines = [
        ("sgd", measured[arms.BASE]["raw"], 1, GREY),
        ("raw", measured["swa"]["raw"], 1, ORANGE),
        ("averaged", measured["swa"]["averaged"], start, BLUE),
    ]
    for name, values, first, color in lines:
        low, middle, high = 100 * np.percentile(values, [10, 50, 90], axis=0)
        epochs = first + np.arange(len(middle))
        axis.plot(epochs, middle, color=color, label=say(name))
        axis.fill_between(epochs, low, high, color=color, alpha=0.2, lw=0)
    axis.axvline(start, color=GREY, lw=0.8, ls="--")
    least = 100 * np.percentile(measured[arms.BASE]["raw"], 10, axis=0)[3:].min()
    axis.set_ylim(least - 2)
    axis.set(xlabel=say("epoch"), ylabel=say("accuracy"))
    axis.set_title(say.of(gains.TASKS[measured["task"]]), fontsize=10)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def cost(results, say):
    """Seconds that a first fit takes longer, and per cent that an epoch does."""
    figure, (once, each) = plt.subplots(1, 2, figsize=(8, 3))
    _draw_first_fits(once, results["networks"]["networks"], say)
    _draw_epochs(each, results["overhead"]["rows"], say)
    return figure


def _draw_first_fits(axis, measured, say):
    """A group of bars for each network; a dashed one where a package was ended."""
    names = {"100 x (Dense, BatchNormalization)": "100 x Dense,\nBN"}
    for index, (package, color) in enumerate(PACKAGES.items()):
        for place, figures in enumerate(measured.values()):
            at = place + 0.4 * (index - 0.5)
            if package in figures:
                height = networks.more_seconds(figures, package)
                text, style = f"{height:.1f}", {"color": color}
            else:
                height = networks.PATIENCE
                text = say("over").format(height)
                style = {"color": "white", "ec": color, "ls": "--"}
            axis.bar(at, max(height, 0), 0.38, **style)
            axis.annotate(text, (at, height), ha="center", fontsize=7)
    axis.set_xticks(range(len(measured)))
    axis.set_xticklabels([names.get(name, name) for name in measured], fontsize=8)
    axis.set_ylabel(say("once"))


def _draw_epochs(axis, rows, say):
    """A group of bars for each batch size, with intervals."""
    bars = [("this", "null arm", "plain again", GREY)]
    bars += [(name, "training epochs", name, color) for name, color in PACKAGES.items()]
    for index, (package, fit, label, color) in enumerate(bars):
        walls = {
            row["batch_size"]: row["wall"]
            for row in rows
            if (row["package"], row["fit"], row["model"])
            == (package, fit, "SGD, batch norm")
        }
        low, middle, high = (
            np.array([100 * (wall[name] - 1) for wall in walls.values()])
            for name in ("low", "median", "high")
        )
        axis.bar(
            np.arange(len(walls)) + 0.27 * (index - 1),
            middle,
            0.25,
            yerr=[middle - low, high - middle],
            color=color,
            label=say.of(readme.PACKAGES[label]),
        )
    axis.axhline(0, color="black", lw=0.8)
    axis.set_xticks(range(len(walls)))
    axis.set_xticklabels([f"batch {size}" for size in walls])
    axis.set_ylabel(say("each"))
    axis.legend(fontsize=8, frameon=False)


PICTURES = {"schedule": schedule, "gain": gain, "curve": curve, "cost": cost}


class Say:
    """The words of one language."""

    def __init__(self, is_chinese):
        self._is_chinese = is_chinese

    def __call__(self, name):
        return self.of(LABELS[name])

    def of(self, pair):
        """The text of a pair (English, Chinese)."""
        return pair[self._is_chinese]


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", default=str(readme.RESULTS), help="the figures")
    parser.add_argument("--folder", default=str(FOLDER), help="for the pictures")
    options = parser.parse_args(argv)
    folder = pathlib.Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    results = common.read(options.json)
    # letters stay letters, in the reader's font; equal figures give equal files
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "swa"})
    for name, draw in PICTURES.items():
        for language, is_chinese in (("", False), (".zh", True)):
            figure = draw(results, Say(is_chinese))
            figure.tight_layout()
            path = folder / f"{name}{language}.svg"
            figure.savefig(str(path), metadata={"Date": None, "Creator": None})
            plt.close(figure)
            print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
