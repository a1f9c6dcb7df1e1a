# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Draws the documents' pictures from the benchmark's figures.

usage: benchmark_pictures.py [--json FILE] [--folder FOLDER]
"""

import argparse
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402, the backend comes first
import numpy as np  # noqa: E402
from benchmarks import common, gains, mlp, networks, quality, readme  # noqa: E402

FOLDER = common.ROOT / "test" / "benchmarks" / "pictures"
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#d9772b", "#3a8f4f", "#8a8a8a"


def schedule(results):
    """The rate of each batch and the epochs sampled, from `swa.plan`."""
    sys.path.insert(0, str(common.ROOT))
    from swa import schedules

    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
    for axis, kind in zip(axes, ("constant", "cyclic")):
        settings = schedules.checked(15, kind, 0.01, 0.05, 3)
        plan = schedules.plan(settings, 31, 10, 0.1, batch_norm=True)
        epochs = np.arange(plan.rates.size) / plan.rates.shape[1]
        axis.plot(epochs, plan.rates.ravel(), color=BLUE)
        ends = np.array(plan.sampled_epochs)
        axis.plot(ends, plan.rates[ends - 1, -1], "o", color=ORANGE, label="snapshot")
        axis.axvspan(30, 31, color=GREY, alpha=0.4, label="batch-norm epoch")
        axis.axvline(14, color=GREY, lw=0.8, ls="--", label="start_epoch")
        axis.set_title(f"lr_schedule='{kind}'", fontsize=10)
        axis.set_xlabel("epoch")
    axes[0].set_ylabel("learning rate")
    axes[1].legend(fontsize=8, frameon=False)
    return figure


def titled(axis, title, place):
    """Gives a diagram its title, and its legend at a place."""
    axis.set_title(title, fontsize=10)
    axis.legend(fontsize=8, frameon=False, loc=place)


def curve(results):
    """Test accuracy of the weights and of their running average."""
    told = results["quality"]["curve"]
    figure, axis = plt.subplots(figsize=(5, 3))
    raw = 100 * np.array(told["raw"])
    axis.plot(np.arange(len(raw)) + 1, raw, color=GREY, label="weights of the epoch")
    averaged = np.array(told["averaged"])
    axis.plot(averaged[:, 0], 100 * averaged[:, 1], color=BLUE, label="their average")
    axis.axvline(told["start_epoch"], color=GREY, lw=0.8, ls="--")
    axis.set_ylim(raw[3:].min() - 0.5, 100 * averaged[:, 1].max() + 0.5)
    axis.set(xlabel="epoch", ylabel="test accuracy, %")
    titled(axis, "MNIST-1D, MLP, constant rate, one seed", "lower right")
    return figure


def overhead(results):
    """What `fit` takes with a callback over what it takes without, by batch size."""
    figure, axis = plt.subplots(figsize=(5, 3))
    arms = [
        ("this", "null arm", "null arm", GREY),
        ("this", "with / without", "SWA", BLUE),
        ("keras-swa", "with / without", "keras-swa 0.1.7", ORANGE),
    ]
    sizes = (32, 512, 16384)
    for index, (package, fit, label, color) in enumerate(arms):
        found = {
            row["batch_size"]: row["wall"]
            for row in results["overhead"]["rows"]
            if (row["package"], row["fit"], row["model"])
            == (package, fit, "SGD, batch norm")
        }
        at = [i for i, size in enumerate(sizes) if size in found]
        walls = [found[sizes[i]] for i in at]
        medians = np.array([wall["median"] for wall in walls])
        spread = [
            medians - [wall["low"] for wall in walls],
            [wall["high"] for wall in walls] - medians,
        ]
        places = np.array(at) + 0.27 * (index - 1)
        axis.bar(places, medians, 0.25, yerr=spread, color=color, label=label)
    axis.axhline(1, color="black", lw=0.8)
    axis.set_xticks(range(len(sizes)))
    axis.set_xticklabels([f"batch {size}" for size in sizes])
    axis.set_ylabel("time of fit, with / without")
    axis.legend(fontsize=8, frameon=False)
    return figure


def surface(results):
    """The plane through the first sample, the last weights and their average."""
    told = results["quality"]["curve"]["surface"]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    panels = (("train_loss", "train loss"), ("test_error", "test error, %"))
    for axis, (name, title) in zip(axes, panels):
        values = np.array(told[name]) * (100 if name == "test_error" else 1)
        low, high = values.min(), np.percentile(values, 90)
        levels = low + (high - low) * np.linspace(0, 1, 12) ** 2
        drawn = axis.contourf(
            told["a"], told["b"], values, levels, cmap="viridis", extend="max"
        )
        figure.colorbar(drawn, ax=axis, format="%.2g")
        for (a, b), mark, label in zip(
            told["points"],
            ("^", "s", "*"),
            ("first sample", "last SGD weights", "SWA"),
        ):
            axis.plot(a, b, mark, color="white", mec="black", ms=9, label=label)
        axis.set_title(title, fontsize=10)
    axes[0].legend(fontsize=8)
    return figure


def width(results):
    """By how much the train loss rises under noise, around SGD's weights and SWA's."""
    figure, axis = plt.subplots(figsize=(5, 3))
    for arm, label, color in (
        ("sgd", "SGD", GREY),
        ("swa constant", "SWA", BLUE),
    ):
        groups = results["quality"]["groups"]
        found = quality.group_of(groups, gains.FIRST, arm, "accuracy")["rise"]
        noise = [0, *mlp.NOISE]
        low, middle, high = (
            [0, *values] for values in np.percentile(found, [10, 50, 90], axis=0)
        )
        axis.plot(noise, middle, color=color, label=f"{label}, median of the seeds")
        axis.fill_between(noise, low, high, color=color, alpha=0.25, lw=0)
    noise_label = "noise over the length of a unit's weights"
    axis.set(xlabel=noise_label, ylabel="rise of the train loss")
    titled(axis, "MNIST-1D, MLP: the width of the optimum", "upper left")
    return figure


def first_fit(results):
    """Seconds of a first `fit` of each network."""
    figure, axis = plt.subplots(figsize=(8, 3))
    arms = (
        ("plain", "plain", GREY),
        ("this", "SWA", BLUE),
        ("keras-swa", "keras-swa 0.1.7", ORANGE),
    )
    measured = results["networks"]["networks"]
    for index, (arm, label, color) in enumerate(arms):
        found = {i: m[arm] for i, m in enumerate(measured.values()) if arm in m}
        if not found:
            continue
        seconds = [networks.median(figures, "first") for figures in found.values()]
        places = np.array([*found]) + 0.27 * (index - 1)
        axis.bar(places, seconds, 0.25, color=color, label=label)
        for place, value in zip(places, seconds):
            axis.annotate(f"{value:.1f}", (place, value), ha="center", fontsize=7)
    axis.set_xticks(range(len(measured)))
    axis.set_xticklabels([*measured], fontsize=8)
    axis.set_ylabel("seconds of the first fit")
    axis.legend(fontsize=8, frameon=False)
    return figure


PICTURES = {
    "schedule": schedule,
    "curve": curve,
    "overhead": overhead,
    "surface": surface,
    "width": width,
    "networks": first_fit,
}


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
    for name, draw in PICTURES.items():
        if name == "networks" and name not in results:
            print("networks.png: left out, they are not measured yet")
            continue
        figure = draw(results)
        figure.tight_layout()
        path = folder / f"{name}.png"
        # no version in the file: the same figures give the same picture
        figure.savefig(str(path), dpi=100, metadata={"Software": None})
        plt.close(figure)
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
