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
    """Whether weights of this numpy dtype have a mean: floating point ones do."""
    return np.issubdtype(dtype, np.floating)


def is_finite(array) -> bool:
    """Whether no element is NaN or Inf, whatever the sum of them would be."""
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
      n_skipped: int, sets left out since they held NaN or Inf.
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
        """
        weights = [array for array in weights if is_averaged(array.dtype)]
        if not all(is_finite(array) for array in weights):
            self.n_skipped += 1
            return False
        if not self.n_averaged:
            self.mean = [_as_mean(array) for array in weights]  # one set is its mean
        elif self._avg_fn is None:
            for mean, array in zip(self.mean, weights):
                _fold(mean.reshape(-1), array.reshape(-1), self.n_averaged + 1)
        else:
            means = [
                np.array(self._avg_fn(m, w, self.n_averaged), m.dtype)
                for m, w in zip(self.mean, weights)
            ]
            for before, mean in zip(self.mean, means):
                if mean.shape != before.shape:
                    raise ValueError(
                        f"avg_fn must return an array of the mean's shape "
                        f"{before.shape}, got {mean.shape}."
                    )
            self.mean = means
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
        """Goes on from a mean of `n_averaged` sets; the arrays are copied."""
        self.mean = [_as_mean(np.asarray(array)) for array in mean]
        self.n_averaged, self.n_skipped = n_averaged, n_skipped


def _as_mean(array):
    return np.array(array, np.result_type(array.dtype, np.float32), order="C")


def _fold(mean, weights, n_after):
    """mean += (weights - mean) / n_after, in place, block by block."""
    for start in range(0, mean.size, BLOCK):
        part = mean[start : start + BLOCK]
        step = weights[start : start + BLOCK] - part
        step /= n_after
        part += step
