# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Held-out accuracy, loss and calibration: five arms on nine tasks, paired by seed.

Every arm has the same epochs and the settings that `choice` found for it, and is judged
with exact batch-norm statistics; those that `fit` leaves behind are judged too. On two
tasks SGD and SWA are tried with larger budgets of epochs as well.
"""

import os
import time

import numpy as np

from benchmarks import arms, choice, common, mlp, tasks, training, workloads

JUDGED = ("accuracy", "loss")  # the figures that verdicts are given on
LEFT = ("own_accuracy", "own_loss")  # with the statistics that `fit` leaves behind
CURVE_ARMS = ("sgd", "swa")
CURVE_TASK = tasks.TASKS[0]  # an MLP: `mlp` computes it in numpy


def run(options):
    """Prints the table; returns every seed's figures and their summary."""
    folder = common.peer_folder(options.peers)
    settings = common.read(choice.SETTINGS)["chosen"]
    runs = Runs(f"{options.json}.runs", options.seeds, folder)
    groups = [
        {"task": task.name, "arm": arm, "budget": budget, "settings": chosen}
        for task in tasks.TASKS
        for budget in (1.0, *arms.BUDGETS)
        for arm, chosen in settings.get(task.name, {}).items()
        if folder or arm != arms.PEER
        if budget == 1 or (task.name in tasks.LONGER and arm in CURVE_ARMS)
    ]
    runs.measure(groups)
    for group in groups:
        group.update(runs.figures_of(group))
    start = time.monotonic()
    summary = summed([group for group in groups if group["budget"] == 1])
    longer = [pair_of(groups, group) for group in groups if group["budget"] > 1]
    print_summary(summary)
    content = {"seeds": options.seeds, "groups": groups, "summary": summary}
    content["budgets"] = adjusted([row for row in longer if row["arm"] != arms.BASE])
    content["tasks"] = [task._asdict() for task in tasks.TASKS]
    if CURVE_TASK.name in settings:
        chosen = {arm: settings[CURVE_TASK.name][arm] for arm in CURVE_ARMS}
        content["curve"] = curves(chosen, options.seeds)
    content["workloads"] = workloads.run(folder, options.seeds < 5)
    runs.forget()
    # an ended measurement that went on has taken the time of all its parts
    content["seconds"] = runs.seconds + time.monotonic() - start
    return content


class Runs:
    """The figures of each seed, kept in a file so that an ended measurement goes on.

    Args:
      path: str, the file.
      seeds: int, how many runs a group has.
      peer_folder: folder with keras-swa, or None.
    """

    def __init__(self, path, seeds, peer_folder):
        self.path, self.seeds, self.peer_folder = path, seeds, peer_folder
        kept = common.read(path) if os.path.exists(path) else {}
        self.rows = kept.get("rows", {})  # of each group, a row a seed
        self.seconds = kept.get("seconds", 0.0)  # that all of them took

    def measure(self, groups):
        """Trains the seeds that are missing, the groups of a task at once."""
        for task in tasks.TASKS:
            missing = [
                (self._rows_of(group), self._job(task, group, seed))
                for group in groups
                if group["task"] == task.name
                for seed in range(len(self._rows_of(group)), self.seeds)
            ]
            if missing:
                start = time.monotonic()
                jobs = [job for _, job in missing]
                measured = training.many(jobs, task.name, self.peer_folder)
                for (rows, _), row in zip(missing, measured):
                    rows.append(row)
                self.seconds += time.monotonic() - start
                common.write(self.path, {"rows": self.rows, "seconds": self.seconds})

    def figures_of(self, group):
        """{figure: a list of one value a seed} of a group."""
        self.measure([group])
        rows = self._rows_of(group)[: self.seeds]
        return {kind: [row[kind] for row in rows] for kind in rows[0]}

    def _rows_of(self, group):
        names = ("task", "arm", "budget", "settings")
        key = common.json_text([group[name] for name in names])
        return self.rows.setdefault(key, [])

    def _job(self, task, group, seed):
        arm, settings, budget = group["arm"], group["settings"], group["budget"]
        return training.Job(task, arm, settings, seed, budget=budget)

    def forget(self):
        """Removes the file, because the whole measurement is done."""
        if os.path.exists(self.path):
            os.remove(self.path)


def summed(groups):
    """A row for each group: means, and paired differences to SGD on the same task."""
    rows = []
    for group in groups:
        row = {"task": group["task"], "arm": group["arm"]}
        base = group_of(groups, group["task"], arms.BASE)
        for kind in (*training.FIGURES, *LEFT):
            row[kind] = difference(group[kind], base[kind])
        rows.append(row)
    return adjusted(rows)


def pair_of(groups, group):
    """A row for a group of a larger budget, compared with SGD of the same budget."""
    base = group_of(groups, group["task"], arms.BASE, group["budget"])
    usual = group_of(groups, group["task"], arms.BASE)
    row = {name: group[name] for name in ("task", "arm", "budget")}
    for kind in JUDGED:
        row[kind] = difference(group[kind], base[kind])
        row[f"usual_{kind}"] = float(np.mean(usual[kind]))
        row[f"base_{kind}"] = float(np.mean(base[kind]))
    return row


def group_of(groups, task, arm, budget=1):
    """The group of an arm on a task."""
    wanted = task, arm, budget
    return next(g for g in groups if (g["task"], g["arm"], g["budget"]) == wanted)


def difference(own, base):
    """Mean and spread of `own`; the paired difference to `base`, interval and p."""
    values, base = np.array(own), np.array(base)
    mean, low, high = common.mean_interval(values - base)
    return {
        "mean": float(values.mean()),
        "spread": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "minus_sgd": mean,
        "low": low,
        "high": high,
        "p": common.paired_p(values, base),
    }


def adjusted(rows):
    """The rows with "holm", p corrected for all comparisons of these rows with SGD."""
    compared = [row[kind] for row in rows if row["arm"] != arms.BASE for kind in JUDGED]
    for figures, p in zip(compared, common.holm([f["p"] for f in compared])):
        figures["holm"] = p
    return rows


def print_summary(summary):
    """The figures of each arm as a table."""
    heads, rows = ["task", "arm"], []
    for kind in JUDGED:
        heads += [kind, "spread", "minus sgd, 95%", "p, Holm"]
    for row in summary:
        cells = [row["task"], row["arm"]]
        for kind in JUDGED:
            figures = row[kind]
            cells += [f"{figures['mean']:.4f}", f"{figures['spread']:.4f}"]
            has_interval = row["arm"] != arms.BASE and figures["low"] is not None
            ends = "{low:+.4f}..{high:+.4f}" if has_interval else ""
            cells.append(ends.format(**figures))
            cells.append(f"{figures['holm']:.3f}" if "holm" in figures else "")
        rows.append(cells)
    common.print_table(heads, rows)
    print("spread: standard deviation over the seeds.")


def curves(settings, seeds):
    """Test accuracy by epoch, and the width of the optimum, of CURVE_ARMS.

    Returns:
      {arm: {"raw": (seeds, epochs), "averaged": (seeds, epochs from the first
      sample on), "rise": (seeds, len(mlp.NOISE))}}, and "start_epoch".
    """
    path = tasks.saved(CURVE_TASK.data)
    specs = [
        {"arm": arm, "settings": own, "seed": seed, "path": path}
        for arm, own in settings.items()
        for seed in range(seeds)
    ]
    measured = training.at_once(
        [("quality.curve_work", spec, common.ROOT, 1) for spec in specs]
    )
    start_epoch = arms.start_epoch(CURVE_TASK)
    content = {"task": CURVE_TASK.name, "start_epoch": start_epoch}
    for spec, figures in zip(specs, measured):
        of_arm = content.setdefault(spec["arm"], {})
        for name, values in figures.items():
            of_arm.setdefault(name, []).append(values)
    return content


def curve_work(arm, settings, seed, path):
    """One run's test accuracies, statistics exact, computed in numpy."""
    import tensorflow as tf

    data, samples = tasks.read(path), []

    class Watch(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            samples.append(self.model.get_weights())

    job = training.Job(CURVE_TASK, arm, settings, seed)
    model, row = training.trained(job, data, [Watch()])
    rows = data["train"], data["test"]
    final, averaged = model.get_weights(), []
    if arm != arms.BASE:
        samples.pop()  # of the epoch that trains nothing
        start = arms.start_epoch(CURVE_TASK)
        for end in range(start, len(samples) + 1):
            mean = [np.mean(w, axis=0) for w in zip(*samples[start - 1 : end])]
            averaged.append(mlp.figures(mean, *rows)[1])
    # the numpy network is the trained one: a row between two classes may turn
    np.testing.assert_allclose(
        mlp.figures(final, *rows)[1], row["accuracy"], atol=2 / len(data["test"].y)
    )
    raw = [mlp.figures(weights, *rows)[1] for weights in samples]
    return {"raw": raw, "averaged": averaged, "rise": mlp.rise(final, *rows)}
