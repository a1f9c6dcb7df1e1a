# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Held-out accuracy, loss and calibration with SWA beside plain SGD.

Every arm has the same epochs and the same grid of settings (`choice`), and is judged
with exact batch-norm statistics; differences are paired by seed. The settings are
those with the best validation accuracy; on two tasks those with the lowest loss are
tried too. What the paper claims beside accuracy is tried on the first task.
"""

import numpy as np

from benchmarks import choice, common, mlp, tasks, training, workloads

COMPARED = (*training.FIGURES, "own_accuracy", "own_loss", "more_accuracy")
RATE_SEEDS = 3  # for the grid of rates
CURVE_SEED = 2


def run(options):
    """Prints the table of accuracies and losses; returns every seed's figures."""
    settings = common.read(choice.SETTINGS)
    folder = common.peer_folder(options.peers)
    found, skipped = [], {}
    for task in tasks.TASKS:
        try:
            tasks.load(task.data)
            settings["chosen"][task.name]
        except ImportError as error:
            skipped[task.name] = str(error)
        except KeyError:
            skipped[task.name] = "its settings are not chosen yet: quality --choose"
        else:
            found.append(task)
    for name, reason in skipped.items():
        print(f"{name}: skipped, {reason}")
    groups = [
        group
        for task in found
        for arm in choice.arms_of(task)
        if folder or arm != training.PEER_ARM
        for group in groups_of(task, arm, settings["chosen"][task.name])
    ]
    measure(groups, options.seeds, folder)
    summary = [
        summed(task.name, arm, groups)
        for task in found
        for arm in dict.fromkeys(g["arm"] for g in groups if g["task"] == task.name)
    ]
    print_summary(summary)
    content = {"seeds": options.seeds, "tasks": [t._asdict() for t in found]}
    content.update(settings=settings["chosen"], groups=groups, summary=summary)
    content["grids"] = settings["grids"]
    content["skipped"] = skipped
    if tasks.TASKS[0] in found:
        seeds = min(options.seeds, RATE_SEEDS)
        content["rates"] = rates(settings, seeds)
        content["curve"] = common.in_process("quality.curve_work", {}, threads=1)
    content["workloads"] = workloads.run(folder, options.seeds < 5)
    return content


def groups_of(task, arm, chosen):
    """The runs of one arm: {"task", "arm", "by", "rate", "decay"}, one or two.

    `by` holds the criteria that chose these settings.
    """
    groups = []
    for by, (rate, decay) in sorted(chosen[arm].items()):
        if groups and (groups[0]["rate"], groups[0]["decay"]) == (rate, decay):
            groups[0]["by"].append(by)
        else:
            group = {"task": task.name, "arm": arm, "by": [by]}
            groups.append(dict(group, rate=rate, decay=decay))
    return groups


def measure(groups, seeds, folder=None):
    """Puts the figures of each seed into the groups, a list for each kind."""
    named = {task.name: task for task in tasks.TASKS}
    jobs = [
        training.Job(named[g["task"]], g["arm"], g["rate"], g["decay"], seed)
        for g in groups
        for seed in range(seeds)
    ]
    rows = training.many(jobs, "quality", folder)
    for index, group in enumerate(groups):
        own = rows[index * seeds :][:seeds]
        kinds = [kind for kind in (*COMPARED, "rise") if kind in own[0]]
        group.update({kind: [row[kind] for row in own] for kind in kinds})


def group_of(groups, task, arm, by):
    """The group of an arm that `by` chose, or None."""
    own = (g for g in groups if (g["task"], g["arm"]) == (task, arm))
    return next((g for g in own if by in g["by"]), None)


def summed(task, arm, groups):
    """For each figure mean, spread and the interval of the paired difference to SGD."""
    told = {"task": task, "arm": arm}
    own, base = (group_of(groups, task, name, "accuracy") for name in (arm, "sgd"))
    for kind in COMPARED:
        if kind in own:
            told[kind] = difference(own, base, kind)
    if "rise" in own:
        told["rise"] = np.mean(own["rise"], axis=0).tolist()
    own, base = (group_of(groups, task, name, "loss") for name in (arm, "sgd"))
    if own and base:
        told["by_loss"] = {k: difference(own, base, k) for k in training.FIGURES}
    return told


def difference(own, base, kind):
    """Mean and spread of `own`; its paired difference to `base`, with interval."""
    values, mean, low, high = np.array(own[kind]), None, None, None
    if own is not base:
        mean, low, high = common.mean_interval(values - base[kind])
    return {
        "mean": float(values.mean()),
        "spread": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "minus_sgd": mean,
        "low": low,
        "high": high,
    }


def print_summary(summary):
    """The figures of each arm as a table."""
    heads, rows = ["task", "arm"], []
    for kind in training.FIGURES:
        heads += [kind.split("_")[0], "spread", "minus sgd, 95%"]
    for one in summary:
        row = [one["task"], one["arm"]]
        for kind in training.FIGURES:
            found = one[kind]
            row += [f"{found['mean']:.4f}", f"{found['spread']:.4f}"]
            has_interval = found["low"] is not None
            ends = "{low:+.4f}..{high:+.4f}" if has_interval else ""
            row.append(ends.format(**found))
        rows.append(row)
    common.print_table(heads, rows)
    print("spread: standard deviation; calibration: expected calibration error.")


def rates(settings, seeds):
    """SWA's gain on the first task for each rate of the grid, the decays as chosen.

    SWA's rate is once that of the model, once 'auto', a tenth of it.
    """
    task = tasks.TASKS[0].name
    chosen = settings["chosen"][task]
    decay = {arm: found["accuracy"][1] for arm, found in chosen.items()}
    decay["swa auto"] = decay["swa constant"]
    groups = [
        {"task": task, "arm": arm, "by": [rate], "rate": rate, "decay": decay[arm]}
        for rate in settings["grids"][task]["rate"]
        for arm in ("sgd", "swa constant", "swa auto")
    ]
    measure(groups, seeds)
    told = []
    for group in groups:
        base = group_of(groups, task, "sgd", group["rate"])
        figures = {"rate": group["rate"], "arm": group["arm"], "seeds": seeds}
        told.append(dict(difference(group, base, "accuracy"), **figures))
    return told


def curve_work():
    """Test accuracy by epoch of the weights and of their running average; a surface."""
    import tensorflow as tf

    task, samples = tasks.TASKS[0], []
    chosen = common.read(choice.SETTINGS)["chosen"][task.name]["swa constant"]
    rate, decay = chosen["accuracy"]

    class Watch(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            samples.append(self.model.get_weights())

    data = tasks.load(task.data)
    rows = data["train"], data["test"]
    job = training.Job(task, "swa constant", rate, decay, CURVE_SEED)
    _, row = training.trained(job, data, [Watch()])
    start = task.epochs * 3 // 4
    *samples, average = samples  # the last epoch's weights are the average
    raw = [mlp.figures(weights, *rows)[1] for weights in samples]
    averaged = []
    for epoch in range(start, task.epochs):
        mean = [np.mean(w, axis=0) for w in zip(*samples[start - 1 : epoch])]
        averaged.append([epoch, mlp.figures(mean, *rows)[1]])
    for index in mlp.KERNELS:
        np.testing.assert_allclose(mean[index], average[index], atol=1e-6)
    # the sides' roundings may turn a row that is undecided
    accuracy, one_row = mlp.figures(average, *rows)[1], 1 / len(data["test"].y)
    np.testing.assert_allclose(accuracy, row["accuracy"], atol=1.5 * one_row)
    told = {"task": task.name, "rate": rate, "decay": decay, "start_epoch": start}
    told.update(raw=raw, averaged=averaged)
    told["surface"] = mlp.surface(samples[start - 1], samples[-1], average, *rows)
    return told
