# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The running mean of a model's weights, in numpy, on the host.

    mean = mean + (weights - mean) / n_averaged

Izmailov et al., 2018, Algorithm 1 (arXiv:1803.05407).
"""

import numpy as np

__all__ = ["Average", "is_averaged", "is_finite"]

BLOCK = 1 << 16  # elements: the step of one block stays in a core's cache


def is_averaged(dtype) -> bool:
    """Whether weights of a numpy dtype are averaged: floating point ones are."""
    return np.issubdtype(dtype, np.floating)


def is_finite(array) -> bool:
    """Whether no element of an array is NaN or Inf."""
    blocks = (array.reshape(-1)[i : i + BLOCK] for i in range(0, array.size, BLOCK))
    return all(np.isfinite(block).all() for block in blocks)


class Average:
    """The mean of the sets of weights that were added.

    Args:
      avg_fn: function (mean, weights, n_averaged) -> new mean of one array, where
        `n_averaged` counts the sets before; None: equal weights,
        mean + (weights - mean) / (n_averaged + 1).

    Attributes:
      mean: list of arrays of at least float32, one for each floating-point weight.
      n_averaged: int, sets in the mean.
      n_skipped: int, sets left out because they held NaN or Inf.
    """

    def __init__(self, avg_fn=None):
        self.mean, self.n_averaged, self.n_skipped = [], 0, 0
        self._avg_fn = avg_fn

    def add(self, weights) -> bool:
        """Folds one more set into the mean, or leaves all of it out.

        Args:
          weights: list of arrays, with the same shapes at every call; those that
            are not floating point are passed over. Not modified.

        Returns:
          False if one of them holds NaN or Inf: the mean is then unchanged.

        Raises:
          ValueError: `avg_fn` returns another shape than the mean's, NaN or Inf.
        """
        weights = [array for array in weights if is_averaged(array.dtype)]
        if not all(is_finite(array) for array in weights):
            self.n_skipped += 1
            return False
        if not self.n_averaged:
            # the mean of a single set is the set
            self.mean = [_as_mean(array) for array in weights]
        elif self._avg_fn is None:
            for mean, array in zip(self.mean, weights):
                _fold(mean.reshape(-1), array.reshape(-1), self.n_averaged + 1)
        else:
            self.mean = [
                self._by_avg_fn(mean, array) for mean, array in zip(self.mean, weights)
            ]
        self.n_averaged += 1
        return True

    def arrays(self, dtypes):
        """The mean, one array for each of a model's weights.

        Args:
          dtypes: list of numpy dtypes, those of the weights, in their order.

        Returns:
          List of arrays of these dtypes, not to be modified; None for each weight
          that is not floating point.
        """
        means = iter(self.mean)
        return [
            next(means).astype(dtype, copy=False) if is_averaged(dtype) else None
            for dtype in dtypes
        ]

    def load(self, mean, n_averaged, n_skipped):
        """Replaces the mean.

        Args:
          mean: list of arrays, one for each floating-point weight. They are copied.
          n_averaged: int, sets in it.
          n_skipped: int, sets left out of it.
        """
        self.mean = [_as_mean(np.asarray(array)) for array in mean]
        self.n_averaged, self.n_skipped = n_averaged, n_skipped

    def _by_avg_fn(self, mean, weights):
        """The new mean of one array by the rule of the user's."""
        new = np.array(self._avg_fn(mean, weights, self.n_averaged), mean.dtype)
        if new.shape != mean.shape:
            raise ValueError(
                f"avg_fn must return an array of the mean's shape {mean.shape}, got "
                f"{new.shape}."
            )
        if not is_finite(new):
            raise ValueError(
                f"avg_fn must return finite numbers, got NaN or Inf for an array of "
                f"shape {mean.shape}."
            )
        return new


def _as_mean(array):
    return np.array(array, np.result_type(array.dtype, np.float32), order="C")


def _fold(mean, weights, n_after):
    """mean += (weights - mean) / n_after, in place, block by block."""
    for start in range(0, mean.size, BLOCK):
        part = mean[start : start + BLOCK]
        step = weights[start : start + BLOCK] - part
        step /= n_after
        part += step
