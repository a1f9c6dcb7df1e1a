# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""How the rates of a run get into its optimizer, and how the rate is given back.

The first rate of an epoch is set here. The mode sets each following one, in graph mode
by the session call of the batch before.
"""

import math

from swa import schedules
from swa.lending import Loan
from swa.optimizer_rate import is_settable
from swa.rates import Rates, is_same_rate

__all__ = ["RateControl"]


class RateControl:
    """Sets the learning rate of each epoch's first batch, and gives the rate back.

    Args:
      settings: schedules.Settings.
      mode: the model's `swa.graph.GraphMode` or `swa.eager.EagerMode`.
      compiled_rate: float, the rate before any callback began, which is given back;
        nan: there is none that can be set.
      base_rate: float, the rate from which the schedule is computed; nan: it is the
        compiled one.

    Attributes:
      base_rate: float, as above, a number where there is a compiled rate.
      sets_rate: bool, whether SWA sets the rate of training, and not the user.
      rates: rates.Rates.
    """

    def __init__(self, settings, mode, compiled_rate, base_rate):
        self._settings, self._mode, self._compiled_rate = settings, mode, compiled_rate
        self.base_rate = compiled_rate if math.isnan(base_rate) else base_rate
        self.sets_rate = settings.lr_schedule != "manual"
        self.rates = Rates()
        self._loan = Loan(lambda: mode.rate.value, self._write, is_same_rate)

    def begin_epoch(self, epoch, batches):
        """Plans the rates of an epoch of training, and sets the first one.

        Args:
          epoch: int, counted from zero.
          batches: int; 0: their number is not known.
        """
        planned = schedules.epoch_rates(self._settings, self.base_rate, epoch, batches)
        self.rates.plan(planned)
        if self.sets_rate:
            self._put(self.rates.current)

    def begin_pass(self):
        """Sets the rate to 0, because nothing is trained."""
        if is_settable(self._mode.rate.optimizer):
            self.rates.plan([0.0])
            self._put(0.0)

    def give_back(self):
        """Sets the rate from before, unless the user or a callback has changed it."""
        self._loan.give_back(also_ours=self.rates.may_be_set)

    def end(self):
        """Gives the rate back after training.

        With a schedule the compiled rate is set even if another callback has changed
        it, because the rate of `fit` was SWA's.
        """
        if self.sets_rate:
            self._write(self._compiled_rate)
            self._loan.forget()
        else:
            self.give_back()

    def _put(self, rate):
        if self.sets_rate and not self._loan.is_open:
            # another callback may have set a rate since `compile`
            self._loan.open(self._compiled_rate)
        self._loan.put(rate)

    def _write(self, rate):
        self._mode.rate.value = rate
