# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Chooses the settings of `quality`, on validation rows and with seeds of its own.

Every arm of a task has the same number of trials, however many settings it has. DRAWS
settings are drawn at random from `arms.SETTINGS`, the same rates and weight decays for
all arms, and each is trained with one seed. The KEPT with the lowest loss are trained
with two seeds more. Chosen is the lowest mean loss of the three. The exponential
average has the settings that SWA chose. What has been tried is in settings.json and is
not tried again: delete the file to begin anew.
"""

import statistics

import numpy as np

from benchmarks import arms, common, tasks, training

SETTINGS = common.ROOT / "test" / "benchmarks" / "settings.json"
DRAWS, KEPT = 14, 3
FIRST_SEED, SEEDS = 100, (101, 102)


def draws(task_index):
    """The settings that are tried on a task: {arm: a list of DRAWS dicts}.

    Every value of a setting is drawn as often as any other, but for a remainder.
    """
    generator, drawn = np.random.RandomState(task_index), {}
    for name, values in arms.SETTINGS.items():
        rounds = [
            generator.permutation(values) for _ in range(-(-DRAWS // len(values)))
        ]
        drawn[name] = generator.permutation(np.concatenate(rounds)[:DRAWS]).tolist()
    return {
        arm: [{name: drawn[name][i] for name in names} for i in range(DRAWS)]
        for arm, names in arms.ARMS.items()
        if arm not in arms.SETTINGS_FROM
    }


def choose(peer_folder):
    """Writes settings.json, task by task, and prints what was chosen.

    Args:
      peer_folder: folder with keras-swa, or None: its arm is left out.
    """
    content = common.read(SETTINGS) if SETTINGS.exists() else {}
    content.setdefault("trials", {})
    content.setdefault("chosen", {})
    for index, task in enumerate(tasks.TASKS):
        trials = content["trials"].setdefault(task.name, {})
        drawn = draws(index)
        tried_arms = [arm for arm in drawn if peer_folder or arm != arms.PEER]
        for arm in tried_arms:
            unknown = [dict(s, losses={}, accuracies={}) for s in drawn[arm]]
            trials.setdefault(arm, unknown)
        # the first stage tries all, the second those that did best in it
        tried = {arm: trials[arm] for arm in tried_arms}
        try_all(task, tried, [FIRST_SEED], peer_folder)
        common.write(SETTINGS, content)
        kept = {arm: best(trials[arm], [FIRST_SEED])[:KEPT] for arm in tried_arms}
        try_all(task, kept, SEEDS, peer_folder)
        for arm in tried_arms:
            trial = best(kept[arm], (FIRST_SEED, *SEEDS))[0]
            settings = settings_of(arm, trial)
            content["chosen"].setdefault(task.name, {})[arm] = settings
            loss = mean_loss(trial, (FIRST_SEED, *SEEDS))
            print(f"{task.name}, {arm}: {settings}, loss {loss:.4f}", flush=True)
        for arm, other in arms.SETTINGS_FROM.items():
            chosen = content["chosen"][task.name]
            chosen[arm] = chosen[other]
        common.write(SETTINGS, content)
    print(f"settings written to {SETTINGS}")


def try_all(task, trials, seeds, peer_folder):
    """Puts loss and accuracy of each seed into the trials that lack them."""
    missing = [
        (trial, training.Job(task, arm, settings_of(arm, trial), seed, "validation"))
        for arm, own in trials.items()
        for trial in own
        for seed in seeds
        if str(seed) not in trial["losses"]
    ]
    if not missing:
        return
    jobs = [job for _, job in missing]
    rows = training.many(jobs, f"{task.name}, choice", peer_folder)
    for (trial, job), row in zip(missing, rows):
        trial["losses"][str(job.seed)] = row["loss"]
        trial["accuracies"][str(job.seed)] = row["accuracy"]


def settings_of(arm, trial):
    """A trial's settings, without its figures."""
    return {name: trial[name] for name in arms.ARMS[arm]}


def best(trials, seeds):
    """The trials, the lowest mean loss first."""
    return sorted(trials, key=lambda trial: mean_loss(trial, seeds))


def mean_loss(trial, seeds):
    return statistics.mean(trial["losses"][str(seed)] for seed in seeds)


def is_at_an_end(name, value):
    """Whether a setting's value is the least or the greatest of those drawn from."""
    values = arms.SETTINGS[name]
    return value in (min(values), max(values))
