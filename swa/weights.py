# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The weights that SWA puts into a model, and those that were there."""

import contextlib
import itertools

import numpy as np

from swa.layers import batch_norms_of, statistics_of
from swa.lending import Loan

__all__ = ["Weights"]


class Weights(Loan):
    """A model's weights, exchanged for the average.

        when                               what is put            given back
        the pass or the end of training    the average            the trained weights
        `apply`                            the average            what was there
        `average_applied`                  the average            at the block's end
        `trained_weights`                  the trained weights    at the block's end

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
        self._mode = mode
        # what training left; `before` is what this loan gives back, which `apply` over
        # weights of the user's changes
        self._last_trained = []
        self._compared = set()  # ids of the variables that tell whose weights these are

    @property
    def trained(self):
        """List of arrays: the last trained weights; empty where SWA put none over."""
        return self._last_trained or self.before or []

    def put_over_trained(self, arrays):
        """Notes the current weights as the trained ones, then puts the average.

        Args:
          arrays: list of arrays or None.
        """
        self.is_open, self._last_trained = False, []
        self.put(arrays)
        self._last_trained = self.before

    def is_ours(self):
        """Whether the model has what SWA put in.

        After a Ctrl-C within `put` some weights are still those from before.
        """
        return self._each_is_one_of([*self.ours, self.before])

    def is_average_there(self):
        """Whether the model has what SWA put in last, untouched."""
        return self._each_is_one_of(self.ours[-1:])

    def give_back(self):
        """Puts the weights from before back, unless the user has changed them."""
        if self.is_open and self.is_ours():
            self._write(self.before)
            # otherwise `trained_weights` still needs them
            self._last_trained = []
        self.forget()

    @contextlib.contextmanager
    def restored_after(self, keeps=False):
        """Afterwards the model has the weights that it had before, exactly.

        Args:
          keeps: bool, whether it keeps those put in meanwhile, unless the body raises.
        """
        weights, loan = self._read(), (self.is_open, self.before, self.ours)
        if not (self.is_open and self.is_ours()):
            self.is_open = False  # the next `put` notes the weights that the user set
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if not (keeps and is_done):
                self._write(weights)
                self.is_open, self.before, self.ours = loan

    def put(self, arrays):
        """Sets the weights; the first ones open the loan with what was there."""
        self._note_compared()
        super().put(arrays)

    def _note_compared(self):
        """Notes the weights that are trained now, and the statistics.

        Others are not compared, because a layer may move them by an update of its own.
        Those that the user freezes later still are.
        """
        model = self._mode.model
        statistics = map(statistics_of, batch_norms_of(model))
        compared = itertools.chain(model.trainable_weights, *statistics)
        self._compared.update(map(id, compared))

    def _each_is_one_of(self, candidates):
        """Whether each compared weight has the value of some candidate."""
        if not self.is_open or not self.ours:
            return False
        self._note_compared()
        return all(
            id(variable) not in self._compared
            or any(_is_same(array, value) for value in values)
            for variable, array, values in zip(
                self._mode.variables, self._read(), zip(*candidates)
            )
        )


def _is_same(array, value):
    """Whether an array has this value; None stands for any."""
    return value is None or np.array_equal(array, value)
