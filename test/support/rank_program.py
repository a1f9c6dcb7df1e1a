# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""A small training for tests of several ranks: one rank, or several by forking.

usage: rank_program.py JSON    one rank, as horovodrun or the environment says
       rank_program.py < JSON  a list of cases; each forks a process for each of its
                               "ranks", dicts of variables, and writes their statuses

A case holds what `train` takes. Every rank leaves out/N.npz; what a forked one says on
its standard error goes to out/N.err.
"""

import contextlib
import json
import os
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from swa.tfkeras import SWA  # noqa: E402
from swa.training import dataset, machine, session  # noqa: E402
from swa.training.flags import Config  # noqa: E402
from swa.training.rank_callbacks import EqualRanks  # noqa: E402
from swa.training.settings import checked  # noqa: E402

BATCH, ROWS, CLASSES, FEATURES, EPOCHS = 64, 512, 3, 2, 6


def train(out, on="cpu", has_batch_norm=False, fewer_steps=None, damage=None):
    """Trains one rank.

    Args:
      out: folder for the results.
      on: "cpu" or "npu".
      has_batch_norm: bool, of the model.
      fewer_steps: int, a rank that makes one step less, or None.
      damage: int, a rank whose weights are changed before the last check, or None.
    """
    tf.compat.v1.logging.set_verbosity("ERROR")
    folder = os.path.join(out, "unused")
    config = checked(Config(device=on, batch_size=BATCH, output_dir=folder))
    chosen = machine.choose(config, os.environ)
    with contextlib.closing(chosen.join()) as ranks, session.opened(config, chosen):
        results = fitted(ranks, has_batch_norm, fewer_steps, damage)
    np.savez(os.path.join(out, f"{ranks.rank}.npz"), **results)


def fitted(ranks, has_batch_norm, fewer_steps, damage):
    """The arrays that a rank is left with, by name."""
    x, y, _, _ = dataset.blobs(ROWS, CLASSES, FEATURES, seed=3)
    steps = ROWS // BATCH - (ranks.rank == fewer_steps)
    # other weights on every rank, until they are handed out
    tf.compat.v1.set_random_seed(ranks.rank)
    layers = tf.keras.layers
    norm = [layers.BatchNormalization()] if has_batch_norm else []
    model = tf.keras.Sequential(
        [
            layers.Dense(8, activation="relu", input_shape=(FEATURES,)),
            *norm,
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    sgd = tf.keras.optimizers.SGD(0.05, momentum=0.9)
    sgd = ranks.wrap_optimizer(sgd)
    model.compile(sgd, "sparse_categorical_crossentropy")
    # not before the model: operations made earlier would change its seeds
    ranks.check_same("steps_per_epoch", steps)
    swa = SWA(3, "cyclic", 0.01, 0.02, 2, ranks=ranks)
    batches = dataset.batches(
        x.astype(np.float32), y, BATCH, seed=3, rank=ranks.rank, size=ranks.size
    )
    history = model.fit(
        batches,
        steps_per_epoch=steps,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[EqualRanks(ranks)] * (ranks.size > 1) + [swa],
        workers=0,
    ).history
    losses = [ranks.mean([loss])[0] for loss in history["loss"]]
    names = [weight.name for weight in model.weights]
    if ranks.rank == damage:
        model.layers[-1].set_weights([w + 1 for w in model.layers[-1].get_weights()])
    weights = dict(zip(names, model.get_weights()))
    average = {f"average of {n}": a for n, a in zip(names, swa.averaged_weights)}
    ranks.check_equal(dict(weights, **average))
    rates = np.array(history["lr"])
    return dict(weights, losses=np.array(losses), rates=rates, **average)


def forked(case):
    """Runs the ranks of a case; returns the statuses of their processes."""
    children = []
    for number, variables in enumerate(case.pop("ranks")):
        child = os.fork()
        if not child:
            status = 1
            try:
                os.environ.update(variables)
                os.chdir(case["out"])
                os.dup2(os.open(f"{number}.err", os.O_CREAT | os.O_WRONLY), 2)
                train(**case)
                status = 0
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                sys.stderr.flush()
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(**json.loads(sys.argv[1]))
    else:
        json.dump([forked(case) for case in json.load(sys.stdin)], sys.stdout)
