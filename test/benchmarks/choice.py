# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Chooses the settings of `quality`, on validation rows and with seeds of its own.

Each arm has the same grid of rates and weight decays. Where a choice lies on an edge
of it, the grid grows there by its factor, for all arms of the task. What has been
tried is in settings.json and is not tried again: delete the file to begin anew.
"""

import statistics

from benchmarks import common, tasks, training

SETTINGS = common.ROOT / "test" / "benchmarks" / "settings.json"
SEEDS = (100, 101, 102)
ARMS = ("sgd", "swa constant")
FACTOR = 2  # between the values of a grid
GROWTHS = 4  # of a grid, at most
CRITERIA = {"accuracy": max, "loss": min}
BY_LOSS_TOO = ("mnist1d mlp", "noisy mnist5k mlp")  # the others by accuracy alone


def choose():
    """Writes settings.json, task by task, and tells what was chosen."""
    content = common.read(SETTINGS) if SETTINGS.exists() else {}
    content.setdefault("tried", [])
    content.setdefault("grids", {})
    content.setdefault("chosen", {})
    content["seeds"] = SEEDS
    for task in tasks.TASKS:
        grid = {
            name: [middle / FACTOR, middle, middle * FACTOR]
            for name, middle in (("rate", task.rate), ("decay", task.decay))
        }
        tried = try_all(task, grid, content)
        for _ in range(GROWTHS):
            found = edges(task, grid, tried)
            if not found:
                break
            grow(grid, found)
            tried = try_all(task, grid, content)
        content["grids"][task.name] = grid
        told = content["chosen"][task.name] = {arm: {} for arm in ARMS}
        for arm in ARMS:
            for by in criteria(task):
                one = chosen(tried, arm, by)
                told[arm][by] = [one["rate"], one["decay"]]
                settings = f"rate {one['rate']:g}, decay {one['decay']:g}"
                print(f"{task.name}, {arm}: {settings}, {by} {one[by]:.4f}")
        for name, _ in sorted(edges(task, grid, tried)):
            print(f"{task.name}: still on an edge of its grid: {name}")
        common.write(SETTINGS, content)
    print(f"settings written to {SETTINGS}")


def try_all(task, grid, content):
    """The figures of the task's grid; what is not known yet is tried and written."""
    wanted = [
        {"task": task.name, "arm": arm, "rate": rate, "decay": decay}
        for arm in ARMS
        for rate in grid["rate"]
        for decay in grid["decay"]
    ]
    known = {key(one): one for one in content["tried"]}
    missing = [one for one in wanted if key(one) not in known]
    jobs = [
        training.Job(task, one["arm"], one["rate"], one["decay"], seed, "validation")
        for one in missing
        for seed in SEEDS
    ]
    rows = training.many(jobs, task.name) if jobs else []
    for index, one in enumerate(missing):
        own = rows[index * len(SEEDS) :][: len(SEEDS)]
        for kind in CRITERIA:
            one[kind] = statistics.mean(row[kind] for row in own)
        content["tried"].append(one)
        known[key(one)] = one
    common.write(SETTINGS, content)
    return [known[key(one)] for one in wanted]


def key(one):
    """What tells one candidate from the others."""
    return one["task"], one["arm"], f"{one['rate']:.5g}", f"{one['decay']:.5g}"


def chosen(tried, arm, by):
    """The best of an arm's candidates: highest accuracy or lowest loss."""
    own = [one for one in tried if one["arm"] == arm]
    return CRITERIA[by](own, key=lambda one: one[by])


def criteria(task):
    """What the task's settings are chosen by."""
    return [*CRITERIA][: 2 if task.name in BY_LOSS_TOO else 1]


def edges(task, grid, tried):
    """The set of (name of the setting, 0 or -1) that a choice lies on."""
    best = [chosen(tried, arm, by) for arm in ARMS for by in criteria(task)]
    return {
        (name, end)
        for name, values in grid.items()
        for end in (0, -1)
        if any(one[name] == values[end] for one in best)
    }


def grow(grid, found):
    """Adds a value to the grid beyond each edge that was found."""
    for name, end in found:
        values = grid[name]
        if end == 0:
            values.insert(0, values[0] / FACTOR)
        else:
            values.append(values[-1] * FACTOR)
