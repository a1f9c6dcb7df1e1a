# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The learning rate of one run: what SWA sets, what was used, what is given back."""

import math
import numbers

import numpy as np

from swa import schedules


def has_rate(optimizer):
    """Whether the optimizer has a rate that can be read and set."""
    rate = getattr(optimizer, "lr", None)
    return isinstance(rate, numbers.Real) or hasattr(rate, "initializer")


def rate_of(keras, optimizer):
    """float: the optimizer's rate now; nan where there is none to read."""
    if not has_rate(optimizer):
        return math.nan
    return float(keras.backend.get_value(optimizer.lr))


def set_rate(keras, optimizer, rate):
    """Sets the optimizer's rate, whether its variable exists yet or not."""
    if isinstance(optimizer.lr, numbers.Real):
        optimizer.lr = rate
    else:
        keras.backend.set_value(optimizer.lr, rate)


class Rates:
    """The rates of a run, epoch by epoch, and their way into a step.

    Args:
      settings: schedules.Settings.
      step: the model's step, of `swa.steps`.
      compiled: float, the rate before any callback began; nan: there is none.
      base: float, the rate from which the schedule is reckoned.
      warn: function of a line.

    Attributes:
      base: float.
      history: list of floats, the rate of each batch that ran.
    """

    def __init__(self, settings, step, compiled, base, warn):
        self._settings, self._step = settings, step
        self._compiled, self.base, self._warn = compiled, base, warn
        self.history = []
        self._planned = np.full(1, math.nan)  # of the epoch, by batch
        self._used = {}  # where a batch used another one, by batch
        self._batch = 0
        self._left = math.nan  # the rate that SWA set last before this epoch
        self._before_pass = math.nan  # nan: no pass has put it aside
        self._has_warned = False

    @property
    def sets_rate(self):
        """Whether SWA sets the rate of training, and not the user."""
        return self._settings.lr_schedule != "manual"

    @property
    def now(self):
        """float: the rate of the current batch."""
        rate = self._of(self._batch)
        return self._step.rate if math.isnan(rate) else rate

    def begin_epoch(self, epoch, batches):
        """Plans an epoch of `batches` batches; 0: their number is not known."""
        self._left = self._of(self._batch)
        self._planned = schedules.epoch_rates(self._settings, self.base, epoch, batches)
        self._used, self._batch = {}, 0

    def start(self, batch=0):
        """Hands the rates from `batch` on to the step."""
        if self.sets_rate:
            self._step.start_rates(self._planned[self._index(batch) :], self._note)

    def begin_batch(self, batch):
        """Sets the rate of a batch, where the step cannot do so itself."""
        self._batch = batch
        rate = self._of(batch)
        if self._step.sets_rate_by_batch and not math.isnan(rate):
            self._step.rate = rate

    def insist(self):
        """The same once more, after all other callbacks and before the batch."""
        rate = self._of(self._batch)
        if self._step.sets_rate_by_batch and not math.isnan(rate):
            if not self._is_close(self._step.rate, rate):
                self._step.rate = rate

    def end_epoch(self, batches):
        """Writes the rates of the batches that ran into the history."""
        if self.sets_rate:
            self.history.extend(self._of(batch) for batch in range(batches))

    def begin_pass(self):
        """The rate becomes 0: nothing is trained."""
        self._left = self._of(self._batch)
        self._planned, self._used = np.full(1, math.nan), {}
        if has_rate(self._step.optimizer):
            self._before_pass = self._compiled if self.sets_rate else self._step.rate
            self._planned[0] = self._step.rate = 0.0

    def end_pass(self):
        """The rate is what it was, the compiled one where SWA set others."""
        if not math.isnan(self._before_pass):
            self.give_back()

    def give_back(self, is_certain=False):
        """Sets the rate from before, unless another than SWA has set it meanwhile.

        Args:
          is_certain: bool, whether to set it whoever has set another one.
        """
        before = self._compiled if self.sets_rate else self._before_pass
        if math.isnan(before):
            return
        following = self._planned[self._index(self._batch + 1)]
        own = [self._left, self._of(self._batch), following]
        now = self._step.rate
        if is_certain or any(self._is_close(now, rate) for rate in own):
            self._step.rate = before
        self._before_pass = math.nan

    def _of(self, batch):
        return float(self._used.get(batch, self._planned[self._index(batch)]))

    def _index(self, batch):
        return min(batch, len(self._planned) - 1)

    def _note(self, difference):
        """Takes down by how much the rate that was used lay above the planned one."""
        planned = self._of(self._batch)
        if self._is_close(planned + float(difference), planned):
            return
        self._used[self._batch] = planned + float(difference)
        if self._has_warned:
            return
        self._has_warned = True
        self._warn(
            f"another callback sets the learning rate beside lr_schedule "
            f"{self._settings.lr_schedule!r}: {self._used[self._batch]:.6g} was used "
            f"where {planned:.6g} was planned. history['lr'] tells what was used."
        )

    def _is_close(self, rate, other):
        # two roundings of the variable: float16 has 11 bits, float32 24
        dtype = getattr(self._step.optimizer.lr, "dtype", None)
        tolerance = 2e-3 if dtype is not None and dtype.size == 2 else 1e-6
        return abs(rate - other) <= tolerance * abs(other)
