# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Where a `fit` is: its epochs and batches, counted from zero."""

import math

__all__ = ["Progress"]


class Progress:
    """Counts the epochs and batches of one `fit`.

    Args:
      params: dict, Keras's: epochs and, as far as known, steps, samples, batch_size.
      batches_of_first_epoch: int, of a run that is continued; 0: not known.

    Attributes:
      params: dict, Keras's of now.
      epoch: int, -1 before the first.
      last_epoch: int, the epoch that ends training; an early stop moves it forward.
      batches_announced: int, batches of this epoch by Keras's params; 0: not known.
      batches_done: int, batches of this epoch that ran.
      batches_of_first_epoch: int, 0 until it has ended.
      stopped_in_batch: bool, whether `stop_training` was set after the last batch.
    """

    def __init__(self, params, batches_of_first_epoch):
        self.params, self.epoch = params, -1
        self.last_epoch = params["epochs"] - 1
        self.batches_of_first_epoch = batches_of_first_epoch
        self.batches_announced = self.batches_done = 0
        self.stopped_in_batch = False

    @property
    def batches_expected(self):
        """int: batches of an epoch; 0: not known before the first has ended."""
        return self.batches_announced or self.batches_of_first_epoch

    @property
    def is_whole(self):
        """Whether every batch of the current epoch ran; any number, if not known."""
        return self.batches_done > 0 and self.batches_done >= self.batches_expected

    @property
    def is_last_batch(self):
        """Whether it is known that no batch follows in this epoch."""
        return 0 < self.batches_announced == self.batches_done

    @property
    def is_last_for_keras(self):
        """Whether Keras ends `fit` after this epoch in any case."""
        return self.epoch >= self.params["epochs"] - 1

    def begin_epoch(self, epoch, params):
        """Begins an epoch.

        Args:
          epoch: int, counted from zero.
          params: dict, Keras's, which may tell more than before.
        """
        self.params, self.epoch, self.batches_done = params, epoch, 0
        samples, batch_size = params.get("samples"), params.get("batch_size")
        steps = params.get("steps")
        if not steps and samples and batch_size:
            steps = samples / batch_size
        self.batches_announced = math.ceil(steps or 0)

    def end_batch(self, is_stopping):
        """Counts a batch; `is_stopping` is the model's `stop_training` after it."""
        self.batches_done += 1
        self.stopped_in_batch = is_stopping

    def end_epoch(self):
        """Notes how many batches the first epoch had."""
        if not self.batches_of_first_epoch:
            self.batches_of_first_epoch = self.batches_done
