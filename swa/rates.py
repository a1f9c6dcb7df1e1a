# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The learning rate of one run: what SWA sets, what was used, what is given back."""

import math
from numbers import Real

from swa import schedules


def has_rate(optimizer):
    """Whether the optimizer has a rate that can be read and set: a variable.

    One of `tf.keras` has the number at first from which it makes its variable.
    """
    rate = getattr(optimizer, "lr", None)
    inner = getattr(optimizer, "_optimizer", optimizer)  # of a LossScaleOptimizer
    given = getattr(inner, "_hyper", {}).get("learning_rate")
    if callable(given):  # called by each read
        return False
    return hasattr(rate, "load") or isinstance(rate, Real) and isinstance(given, Real)


def rate_of(keras, optimizer):
    """float: the optimizer's rate now; nan where there is none to read."""
    is_there = has_rate(optimizer)
    return float(keras.module.backend.get_value(optimizer.lr)) if is_there else math.nan


class OptimizerRate:
    """An optimizer's rate, by its variable, which is looked for until it is there.

    One of `tf.keras` has a number at first, from which it makes the variable.

    Args:
      optimizer: the optimizer, with a rate as `has_rate` asks for.
      read: function of a variable that returns its value.
      assign: function (variable, value).
    """

    def __init__(self, optimizer, read, assign):
        self._optimizer, self._read, self._assign = optimizer, read, assign
        self._found = 0.0

    @property
    def variable(self):
        """The variable, or still the number."""
        if isinstance(self._found, Real):  # to look it up takes as long as to read it
            self._found = self._optimizer.lr
        return self._found

    @property
    def value(self):
        """float: the rate; set, it is the variable's or what that is made from."""
        rate = self.variable
        return float(rate if isinstance(rate, Real) else self._read(rate))

    @value.setter
    def value(self, value):
        rate = self.variable
        if isinstance(rate, Real):
            self._optimizer.lr = value
        else:
            self._assign(rate, value)


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
      sets_rate: bool, whether SWA sets the rate of training, and not the user.
      history: list of floats, the rate of each batch that ran.
    """

    def __init__(self, settings, step, compiled, *, base, warn):
        self._settings, self._step, self._warn = settings, step, warn
        self.base, self.history = base, []
        self.sets_rate = settings.lr_schedule != "manual"
        # what is given back; 'manual' puts it aside in the pass alone
        self._before = compiled if self.sets_rate else math.nan
        self._planned = [math.nan]  # of the epoch, by batch
        self._used = {}  # where a batch used another one, by batch
        self._batch = 0
        self._left = math.nan  # the rate that SWA set last before this epoch

    @property
    def now(self):
        """float: the rate of the current batch."""
        rate = self._of(self._batch)
        return self._step.rate.value if math.isnan(rate) else rate

    def begin_epoch(self, epoch, batches):
        """Plans an epoch of `batches` batches; 0: their number is not known."""
        self._plan(schedules.epoch_rates(self._settings, self.base, epoch, batches))

    def start(self, batch):
        """Leaves the rates from `batch` on to the step, where it can set them."""
        if self.sets_rate and not self._step.sets_rate_by_batch:
            self._step.rate.value = self._of(batch)
            self._step.start_rates(self._note)

    def begin_batch(self, batch):
        """Sets the rate of a batch, or tells the step the one to set after it."""
        self._batch = batch
        self._step.begin_batch(self._of(batch + 1))
        self.insist()

    def insist(self):
        """Sets the rate of the batch that begins: others may have set theirs."""
        rate = self._of(self._batch)
        if self._step.sets_rate_by_batch and not math.isnan(rate):
            self._step.rate.value = rate

    def end_epoch(self, batches):
        """Writes the rates of the batches that ran into the history."""
        self.history.extend(self._of(batch) for batch in range(batches))

    def begin_pass(self):
        """The rate becomes 0: nothing is trained."""
        if has_rate(self._step.optimizer):
            self._before = self._before if self.sets_rate else self._step.rate.value
            self._plan([0.0])
            self._step.rate.value = 0.0

    def give_back(self, is_certain=False):
        """Sets the rate from before, unless another than SWA has set it meanwhile.

        Args:
          is_certain: bool, whether to set it whoever has set another one.
        """
        if math.isnan(self._before):
            return
        own = [self._left, self._of(self._batch), self._of(self._batch + 1)]
        now = math.nan if is_certain else self._step.rate.value
        if is_certain or any(self._is_close(now, rate) for rate in own):
            self._step.rate.value = self._before
        if not self.sets_rate:
            self._before = math.nan

    def _plan(self, rates):
        self._left = self._of(self._batch)
        self._planned, self._used, self._batch = list(map(float, rates)), {}, 0

    def _of(self, batch):
        planned = self._planned[min(batch, len(self._planned) - 1)]
        return self._used.get(batch, planned)

    def _note(self, used):
        """Takes down the rate that a batch used, where it is not the planned one."""
        if not self._is_close(used, self._of(self._batch)):
            self._used[self._batch] = used
            self._warn(
                "another callback sets the learning rate too: history['lr'] and "
                "swa.lr tell what was used."
            )

    def _is_close(self, rate, other):
        error, size = abs(rate - other), abs(other)
        # two roundings of the variable: float32 has 24 bits, float16 has 11
        if error <= 1e-6 * size or not error <= 2e-3 * size:
            return error <= 1e-6 * size
        return getattr(getattr(self._step.optimizer.lr, "dtype", None), "size", 4) == 2
