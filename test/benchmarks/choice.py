# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Chooses the settings of `quality`, on validation rows and with seeds of its own.

Each arm has the same grid of rates and weight decays. Where a choice lies on an edge
of it, the grid grows there by its factor, for all arms of the task: a choice of SGD or
of SWA, on the tasks that are looked at more closely at first one of any arm. What has
been tried is in settings.json and is not tried again: delete the file to begin anew.
"""

import statistics

from benchmarks import common, tasks, training

SETTINGS = common.ROOT / "test" / "benchmarks" / "settings.json"
SEEDS = (100, 101, 102)
OURS = ("sgd", "swa constant")
ARMS = (*OURS, training.PEER_ARM)
FIRST_ARMS = ("swa cyclic", "swa three quarters")  # on the first task only
FACTOR = 2  # between the values of a grid
GROWTHS = 6  # of a grid, at most
WIDER = 4  # of these, at most, for the choices of other arms than SGD and SWA
CRITERIA = {"accuracy": max, "loss": min}
CLOSER = ("mnist1d mlp", "noisy mnist5k mlp")  # chosen by loss too, and wider


def arms_of(task):
    """The arms that are measured on a task."""
    return ARMS + FIRST_ARMS if task == tasks.TASKS[0] else ARMS


def choose(peer_folder):
    """Writes settings.json, task by task, and tells what was chosen.

    Args:
      peer_folder: folder with keras-swa, or None: it then keeps what it has chosen.
    """
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
        tried = try_all(task, grid, content, peer_folder)
        for growth in range(GROWTHS):
            is_wider = task.name in CLOSER and growth < WIDER
            found = edges(task, grid, tried, arms_of(task) if is_wider else OURS)
            if not found:
                break
            grow(grid, found)
            tried = try_all(task, grid, content, peer_folder)
        content["grids"][task.name] = grid
        told = content["chosen"].setdefault(task.name, {})
        for arm in dict.fromkeys(one["arm"] for one in tried):
            told[arm] = {}
            for by in criteria(task, arm):
                one = chosen(tried, arm, by)
                told[arm][by] = [one["rate"], one["decay"]]
                settings = f"rate {one['rate']:g}, decay {one['decay']:g}"
                print(f"{task.name}, {arm}: {settings}, {by} {one[by]:.4f}")
        for name, _ in sorted(edges(task, grid, tried, OURS)):
            print(f"{task.name}: still on an edge of its grid: {name}")
        common.write(SETTINGS, content)
    print(f"settings written to {SETTINGS}")


def try_all(task, grid, content, peer_folder):
    """The figures of the task's grid; what is not known yet is tried and written."""
    wanted = [
        {"task": task.name, "arm": arm, "rate": rate, "decay": decay}
        for arm in arms_of(task)
        if peer_folder or arm != training.PEER_ARM
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
    rows = training.many(jobs, task.name, peer_folder) if jobs else []
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


def criteria(task, arm):
    """What an arm's settings are chosen by: accuracy, on some tasks the loss too."""
    has_both = task.name in CLOSER and arm in OURS
    return [*CRITERIA][: 2 if has_both else 1]


def edges(task, grid, tried, arms):
    """The set of (name of the setting, 0 or -1) that a choice of some arms lies on."""
    arms = [arm for arm in arms if any(one["arm"] == arm for one in tried)]
    best = [chosen(tried, arm, by) for arm in arms for by in criteria(task, arm)]
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
