# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The learning rates of one run: planned before each batch, and corrected after it.

Pure numbers: how a rate gets into an optimizer stands in `swa.graph` and `swa.eager`.
"""

import math

import numpy as np

__all__ = ["Rates", "is_same_rate"]


class Rates:
    """The learning rate of each batch. Batches count from zero in each epoch.

    Attributes:
      history: list of floats, the rate that each finished batch used.
      batch: int, the current batch.
      is_as_planned: bool, whether every batch so far has used the planned rate.
    """

    def __init__(self):
        self.history, self.batch = [], 0
        self._planned = [math.nan]  # by batch; the last one holds for all that follow
        self._used = {}  # by batch, for those that did not use the planned rate
        self._last_of_epoch_before = math.nan
        self.is_as_planned = True

    @property
    def current(self):
        """float: the rate of the current batch; nan: the user sets it."""
        return self.of(self.batch)

    @property
    def following(self):
        """float: the rate of the batch after the current one."""
        return self.of(self.batch + 1)

    @property
    def may_be_set(self):
        """List of floats: the rates of which an optimizer may hold any now.

        A Ctrl-C may come between the plan of an epoch and its first rate.
        """
        return [self._last_of_epoch_before, self.current, self.following]

    def of(self, batch):
        """float: the rate of a batch, the used one where it is known."""
        planned = self._planned[min(batch, len(self._planned) - 1)]
        return self._used.get(batch, planned)

    def plan(self, rates):
        """Plans an epoch.

        Args:
          rates: sequence of floats, at least one, by batch; nan: the user sets it.
        """
        self._last_of_epoch_before = self.current
        self._planned, self._used, self.batch = [float(rate) for rate in rates], {}, 0

    def note_used(self, rate):
        """Records the rate that the current batch used.

        Args:
          rate: float; nan: it is not known.
        """
        if not math.isnan(rate) and not is_same_rate(rate, self.current):
            self._used[self.batch] = rate
            self.is_as_planned = False

    def end_epoch(self, batches):
        """Writes the rates of the batches that ran into the history.

        Args:
          batches: int, how many they are.
        """
        self.history.extend(self.of(batch) for batch in range(batches))


def is_same_rate(rate, planned):
    """Whether a rate that was read back is a planned one, rounded.

    An optimizer holds its rate in float32, and an NPU may compute with it in float16.

    Args:
      rate: float, as read back.
      planned: float.

    Returns:
      bool; False where one of them is nan.
    """
    if abs(rate - planned) <= 1e-6 * abs(planned):  # float32 has rounded it twice
        return True
    if math.isnan(rate) or math.isnan(planned):
        return False
    rounded = np.float16(planned)
    is_float16 = np.float16(rate) == rate
    is_neighbour = abs(rate - float(rounded)) <= np.spacing(rounded)
    return is_float16 and is_neighbour
