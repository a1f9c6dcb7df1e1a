# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The training itself: the model, the SWA callback and the others, and `fit`."""

import contextlib
from typing import List, NamedTuple

import numpy as np
import tensorflow as tf

from swa.tfkeras import SWA
from swa.training import console, dataset, figures, network, resume, saving, stopping
from swa.training.errors import FAILED, UserError
from swa.training.rank_callbacks import EqualRanks
from swa.training.settings import swa_settings


class Training(NamedTuple):
    """What is ready to be trained; to be closed."""

    model: tf.keras.Model
    swa: SWA
    figures: figures.Figures
    checkpoints: saving.Checkpoints
    tensorboard: List[figures.TensorBoard]  # one, or none
    steps: int  # of an epoch
    rows: int  # trained on in an epoch by all ranks

    def close(self):
        """Closes the file of TensorBoard's events."""
        for writer in self.tensorboard:
            writer.close()


def prepare(job, stop):
    """Makes the model and its callbacks; the session is open.

    Args:
      job: resume.Job.
      stop: stopping.Stop.

    Returns:
      Training.

    Raises:
      UserError: the ranks differ.
    """
    config, data, ranks = job.config, job.data, job.ranks
    np.random.seed(config.seed)
    tf.compat.v1.set_random_seed(config.seed)
    model = network.build(config, data.x.shape[1], ranks.wrap_optimizer)
    # operations made before the model's would have changed its initial weights
    ranks.check_same("epochs found by --resume", job.epoch)
    rows = len(data.x)
    dropped = rows % config.batch_size
    if dropped and job.device.drops_last_batch:
        rows -= dropped
        what = f"{dropped} rows of each epoch are dropped"
        job.say(f"{what}: a batch has one static shape on an NPU.")
    steps = -(-rows // config.batch_size)
    ranks.check_same("steps_per_epoch", steps)
    swa = SWA(*swa_settings(config), verbose=min(config.verbose, 1), ranks=ranks)
    own_figures = figures.Figures(job, swa, rows)
    if job.snapshot:
        swa.load_state(job.snapshot.swa)
    checkpoints = saving.Checkpoints(job, stop, swa, own_figures)
    tensorboard = []
    if config.tensorboard and ranks.is_writer:
        tensorboard.append(figures.TensorBoard(config.output_dir, own_figures))
    return Training(model, swa, own_figures, checkpoints, tensorboard, steps, rows)


def fit(job, training, stop):
    """Trains to the end, or until `stop` says so.

    Args:
      job: resume.Job.
      training: Training.
      stop: stopping.Stop.

    Raises:
      UserError: a file cannot be written, or another rank has ended.
      stopping.Stopped: a signal came; a checkpoint has been written.
    """
    config, data, ranks = job.config, job.data, job.ranks
    batches = dataset.batches(
        data.x,
        data.y,
        config.batch_size,
        seed=config.seed,
        first_epoch=job.epoch,
        rows=training.rows,
        rank=ranks.rank,
        size=ranks.size,
    )
    has_bar = config.verbose > 0 and console.is_terminal()
    with stop.deferred(), _leaving_lost_ranks(ranks, training.checkpoints, stop):
        # workers: the rows of a batch are a view, a thread would only cost
        training.model.fit(
            batches,
            steps_per_epoch=training.steps,
            epochs=config.train_epochs,
            initial_epoch=job.epoch,
            verbose=int(has_bar),
            callbacks=_callbacks(job, training),
            workers=0,
        )


def _callbacks(job, training):
    """All callbacks of `fit`, in the only right order.

    Equal weights before they are averaged; the average before the figures and
    checkpoints that it belongs to; the figures before all that read or decide by them;
    last what leaves on a signal, when everything of the epoch is done.
    """
    return [
        *[EqualRanks(job.ranks)] * (job.ranks.size > 1),
        training.swa,
        tf.keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: resume.take_over(job)
        ),
        training.figures,
        *training.tensorboard,
        training.checkpoints,
    ]


@contextlib.contextmanager
def _leaving_lost_ranks(ranks, checkpoints, stop):
    """Ends this rank when a step fails because another rank has ended.

    First it saves what was trained. If a signal came to all ranks, the run ends as
    stopped.
    """
    try:
        yield
    except Exception as error:
        if not ranks.is_lost(error):
            raise
        checkpoints.save_latest()
        stop.check()
        raise UserError(
            f"another rank has ended, so this one had to. {stopping.TO_GO_ON}", FAILED
        ) from error
