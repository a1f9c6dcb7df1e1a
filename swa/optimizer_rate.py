# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The learning rate of an optimizer: whether it can be set, read and written."""

import math
from numbers import Real

__all__ = ["OptimizerRate", "is_settable"]


class OptimizerRate:
    """An optimizer's learning rate, on the host.

    An optimizer of `tf.keras` holds a number until it first trains, and then a
    variable with that value.

    Args:
      optimizer: a Keras optimizer, or None.
      read: function of a variable -> its value.
      assign: function (variable, value).

    Attributes:
      optimizer: as given.
    """

    def __init__(self, optimizer, read, assign):
        self.optimizer, self._read, self._assign = optimizer, read, assign
        self._holder = 0.0  # the variable, once it is there

    @property
    def variable(self):
        """The variable, or still the number."""
        if isinstance(self._holder, Real):  # kept, because the look-up is slow
            self._holder = self.optimizer.lr
        return self._holder

    @property
    def value(self):
        """float: the rate, where it is settable."""
        rate = self.variable
        return float(rate if isinstance(rate, Real) else self._read(rate))

    @value.setter
    def value(self, value):
        rate = self.variable
        if isinstance(rate, Real):
            self.optimizer.lr = value
        else:
            self._assign(rate, value)

    def value_or_nan(self):
        """float: the rate; nan where it is not settable."""
        return self.value if is_settable(self.optimizer) else math.nan


def is_settable(optimizer):
    """Whether the rate of an optimizer, or of None, can be read and set.

    That of a `LearningRateSchedule` cannot.
    """
    rate = getattr(optimizer, "lr", None)
    # a LossScaleOptimizer wraps the one that has the rate
    inner = getattr(optimizer, "_optimizer", optimizer)
    initial = getattr(inner, "_hyper", {}).get("learning_rate")
    if callable(initial):  # a schedule or a function, which a read would call
        return False
    is_number = isinstance(rate, Real) and isinstance(initial, Real)
    return hasattr(rate, "load") or is_number
