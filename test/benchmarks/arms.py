# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The arms of `quality`: five ways to train, and the settings that each one has.

Every arm has SGD with momentum, the same epochs and the same batches.
"""

SETTINGS = {  # and the values that `choice` draws from
    "rate": [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4],
    "decay": [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032],
    "fraction": [1.0, 0.5, 0.2, 0.1],  # swa_lr / rate
}
ARMS = {  # and the settings of each
    "sgd": ["rate", "decay"],
    "sgd constant": ["rate", "decay"],
    "swa": ["rate", "decay", "fraction"],
    "ema": ["rate", "decay", "fraction"],
    "keras-swa": ["rate", "decay", "fraction"],
}
SETTINGS_FROM = {"ema": "swa"}  # it has no trials of its own
EMA_DECAY = 0.9  # of the average, by epoch
BASE = "sgd"  # that the others are compared with
PEER = "keras-swa"  # needs a process of its own: its import name is `swa` too
BUDGETS = (1.25, 1.5)  # of the usual epochs, besides 1


def epochs_of(job):
    """The epochs of a run: the task's, times the run's budget."""
    return int(job.task.epochs * job.budget)


def start_epoch(task):
    """The first epoch averaged, from one: after three quarters of the usual epochs.

    It is the same for every budget, as in the paper.
    """
    return task.epochs * 3 // 4


def callback(keras, job):
    """What makes the arm: the callback of its `fit`."""
    rate = job.settings["rate"]
    if job.arm == "sgd":
        return decayed(keras, rate, epochs_of(job))
    if job.arm == "sgd constant":
        return keras.callbacks.Callback()
    from swa.tfkeras import SWA

    swa_lr = rate * job.settings["fraction"]
    if job.arm == PEER and swa_lr == rate:
        swa_lr *= 0.9999  # it takes the compiled rate, rounded, for lower than itself
    averaging = {"avg_fn": exponential} if job.arm == "ema" else {}
    return SWA(
        start_epoch(job.task),
        "constant",
        swa_lr=swa_lr,
        swa_freq=1,
        batch_size=job.task.batch_size,
        **averaging,
    )


def decayed(keras, rate, epochs):
    """The paper's rate: held to half, then linear to a hundredth at nine tenths."""

    def rate_of(epoch):
        done = epoch / epochs
        return rate * min(1, max(0.01, 1 - 0.99 * (done - 0.5) / 0.4))

    return keras.callbacks.LearningRateScheduler(rate_of)


def exponential(mean, weights, n_averaged):
    """An exponential average of the epochs, for `avg_fn`."""
    return EMA_DECAY * mean + (1 - EMA_DECAY) * weights
