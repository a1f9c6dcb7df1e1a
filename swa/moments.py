# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Count, mean and variance of rows, merged over batches and over ranks, in numpy."""

from collections import namedtuple

import numpy as np

__all__ = [
    "Moments",
    "merged",
    "merged_over_ranks",
    "sum_function",
    "values_per_channel",
]

# count: int, values of each channel; mean, variance: float64 arrays, one value for each
# channel; the variance is that of the population, divided by count
Moments = namedtuple("Moments", "count mean variance")


def values_per_channel(shape, axes) -> int:
    """The count of values of which the moments of a tensor are taken.

        n = product of shape[axis] over the axes

    Args:
      shape: sequence of int, the tensor's dimensions.
      axes: sequence of int, the dimensions over which the moments are taken.
    """
    return int(np.prod([shape[axis] for axis in axes], dtype=np.int64))


def merged(first, second: Moments) -> Moments:
    """The moments of two sets of rows together.

        n = n1 + n2,  d = mean2 - mean1,  s = n2 / n
        mean = mean1 + d * s
        variance = variance1 + (variance2 - variance1) * s + d^2 * s * (1 - s)

    A mean of batch variances would lack the last term, which is their spread.

    Args:
      first: Moments; a count of 0 where there were no rows.
      second: Moments of at least one row.

    Returns:
      Moments of float64.

    Reference:
      Chan, Golub and LeVeque, 1979, Updating formulae for computing variances.
    """
    if not first.count:
        return second
    count = first.count + second.count
    share, delta = second.count / count, second.mean - first.mean
    spread = delta * delta * share * (1.0 - share)
    variance = first.variance + (second.variance - first.variance) * share + spread
    return Moments(count, first.mean + delta * share, variance)


def merged_over_ranks(own, sum_over_ranks):
    """The moments of the rows of all ranks, from each rank's own.

        n = sum(n_r),  mean = sum(mean_r * n_r / n)
        variance = sum((variance_r + (mean_r - mean)^2) * n_r / n)

    Deviations are taken from the common mean, because ranks may sum in float32, in
    which the difference of a sum of squares and a squared sum would lose its digits.

    Args:
      own: list or dict view of Moments, one for each layer; a count may be 0.
      sum_over_ranks: function of a list of arrays that returns the sum of each over
        all ranks. It is called three times; counts are int64.

    Returns:
      List of Moments of all ranks together.
    """
    totals = sum_over_ranks([np.asarray(layer.count, np.int64) for layer in own])
    shares = [
        layer.count / max(int(total), 1)  # 0 where no rank's layer has seen a row
        for layer, total in zip(own, totals)
    ]
    means = sum_over_ranks([layer.mean * share for layer, share in zip(own, shares)])
    means = [np.asarray(mean, np.float64) for mean in means]
    variances = sum_over_ranks(
        [
            (layer.variance + np.square(layer.mean - mean)) * share
            for layer, mean, share in zip(own, means, shares)
        ]
    )
    return [
        Moments(int(count), mean, np.asarray(variance, np.float64))
        for count, mean, variance in zip(totals, means, variances)
    ]


def sum_function(ranks):
    """The function that sums arrays over `ranks`.

    Args:
      ranks: None for one process; a function of a list of arrays that returns the sum
        of each over all processes; or an object with such a method `sum`.

    Returns:
      The function, or None for one process.

    Raises:
      ValueError: `ranks` is neither None, a function, nor an object with `sum`.
    """
    function = getattr(ranks, "sum", ranks)
    if function is None or callable(function):
        return function
    raise ValueError(
        f"ranks must be a function that sums lists of arrays over all "
        f"ranks, or have such a method `sum`, got {ranks!r}."
    )
