# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The weights that SWA puts into a model, and those that were there."""

import contextlib

import numpy as np

from swa.lending import Loan

__all__ = ["Weights"]


class Weights(Loan):
    """A model's weights, exchanged for the average.

        when                               what is put     given back afterwards
        the pass or the end of training    the average     the trained weights
        `apply`                            the average     what was there
        `average_applied`                  the average     at the end of the block
        `trained_weights`                  the trained     at the end of the block

    Values are lists of arrays in `get_weights()` order, or None for a weight that
    stays as it is.

    Args:
      mode: the model's `swa.graph.GraphMode` or `swa.eager.EagerMode`.
    """

    def __init__(self, mode):
        # copied, because a reference variable's array shares the variable's memory
        super().__init__(
            lambda: [np.array(array) for array in mode.read()], mode.put, _is_same
        )
        self._last_trained = []

    @property
    def trained(self):
        """List of arrays: the trained weights; empty while the model has them."""
        return self._last_trained or self.before or []

    def put_over_trained(self, arrays):
        """Puts the average over the last trained weights of the run."""
        self.is_open, self._last_trained = False, []
        self.put(arrays)
        self._last_trained = self.before

    def is_ours(self):
        """Whether the model has what SWA put in, or, after a Ctrl-C, a part of it."""
        return self._has([*self.ours, self.before])

    def is_average_there(self):
        """Whether the model has what SWA put in last, untouched."""
        return self._has(self.ours[-1:])

    def give_back(self):
        """Puts the weights from before back, unless the user has changed them."""
        if self.is_open and self.is_ours():
            self._last_trained = []  # else they can still be lent
        super().give_back()

    @contextlib.contextmanager
    def restored_after(self, keeps=False):
        """Afterwards the model has the weights that it had before, exactly.

        Args:
          keeps: bool, whether it keeps those put in meanwhile, unless the body raises.
        """
        weights, loan = self._read(), (self.is_open, self.before, self.ours)
        if not (self.is_open and self.is_ours()):
            self.is_open = False  # the user's weights of now are the ones to give back
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if not (keeps and is_done):
                self._write(weights)
                self.is_open, self.before, self.ours = loan

    def _has(self, candidates):
        """Whether each array of the model is the one of some candidate."""
        if not self.is_open or not self.ours:
            return False
        return all(
            any(_is_same(array, value) for value in values)
            for array, values in zip(self._read(), zip(*candidates))
        )


def _is_same(array, value):
    """Whether an array has this value; None stands for any."""
    return value is None or np.array_equal(array, value)
