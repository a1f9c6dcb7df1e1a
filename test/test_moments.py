# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Moments merged over batches and ranks, against numpy's moments of all rows."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from swa.moments import Moments, merged, merged_over_ranks, sum_function

CHANNELS = 3
NO_ROWS = Moments(0, np.zeros(CHANNELS), np.zeros(CHANNELS))

splits = st.lists(st.integers(1, 50), min_size=1, max_size=8)  # rows of each batch
splits_with_none = st.lists(st.integers(0, 50), min_size=1, max_size=5)
offsets = st.sampled_from([0.0, 1.0, -1e3, 1e6])  # how far the mean is from zero


def batches(sizes, offset=0.0, seed=0):
    """Float64 arrays (rows, CHANNELS); each batch has a mean of its own."""
    generator = np.random.RandomState(seed)
    return [
        generator.normal(offset + number, 1.0 + number, (size, CHANNELS))
        for number, size in enumerate(sizes)
    ]


def moments(rows):
    """The moments of an array of rows, by numpy."""
    if not len(rows):
        return NO_ROWS
    return Moments(len(rows), rows.mean(axis=0), rows.var(axis=0))


def assert_moments_equal(merged_moments, rows, rtol=1e-9):
    """They are those that numpy has of all rows at once."""
    expected = moments(rows)
    assert merged_moments.count == expected.count
    scale = np.abs(rows).max(initial=1.0)
    assert_allclose(merged_moments.mean, expected.mean, rtol=rtol)
    assert_allclose(
        merged_moments.variance, expected.variance, rtol=rtol, atol=1e-15 * scale**2
    )


class OtherRanksMissing(Exception):
    """A sum needs the arrays of the other ranks."""


class SumOverRanks:
    """One rank's sum; it repeats known sums, and stops at the first unknown one.

    Args:
      known_sums: list of the results of the first calls.

    Attributes:
      arrays: list of arrays, this rank's terms of the first unknown sum.
    """

    def __init__(self, known_sums):
        self._known_sums = iter(known_sums)

    def __call__(self, arrays):
        for sums in self._known_sums:
            return sums
        self.arrays = [np.asarray(array) for array in arrays]
        raise OtherRanksMissing


def ranks_of(*lists_of_moments, dtype=None):
    """What `merged_over_ranks` returns on each rank, one list for each.

    Each of its three sums needs all ranks, so all of them run up to the first sum,
    then, with that, up to the second, and so on.

    Args:
      lists_of_moments: for each rank its list of Moments.
      dtype: of the sums of floats, where it is not that of the arrays.
    """
    sums = []
    for _ in range(3):
        ranks = [SumOverRanks(sums) for _ in lists_of_moments]
        for own, rank in zip(lists_of_moments, ranks):
            with pytest.raises(OtherRanksMissing):
                merged_over_ranks(own, rank)
        terms_of_each = zip(*(rank.arrays for rank in ranks))
        sums.append([sum_of(terms, dtype) for terms in terms_of_each])
    return [merged_over_ranks(own, SumOverRanks(sums)) for own in lists_of_moments]


def sum_of(terms, dtype):
    if dtype and terms[0].dtype.kind == "f":
        terms = [array.astype(dtype) for array in terms]
    return functools.reduce(np.add, terms)


@given(sizes=splits, offset=offsets, seed=st.integers(0, 100))
def test_merged_batches_have_the_moments_of_all_rows(sizes, offset, seed):
    parts = batches(sizes, offset, seed)
    together = functools.reduce(merged, map(moments, parts))
    assert_moments_equal(together, np.concatenate(parts), rtol=1e-8)


@given(sizes=splits, seed=st.integers(0, 100))
def test_the_order_of_the_batches_does_not_matter(sizes, seed):
    parts = list(map(moments, batches(sizes, 5.0, seed)))
    forwards = functools.reduce(merged, parts)
    backwards = functools.reduce(merged, parts[::-1])
    assert forwards.count == backwards.count
    assert_allclose(forwards.mean, backwards.mean, rtol=1e-12)
    assert_allclose(forwards.variance, backwards.variance, rtol=1e-9)


def test_no_rows_before_leave_the_moments_as_they_are():
    (rows,) = batches([9])
    second = moments(rows)
    assert merged(NO_ROWS, second) is second


def test_batches_of_one_row_have_a_variance_together():
    rows = np.array([[1.0, 0.0, 5.0], [3.0, 0.0, 1.0]])
    together = merged(*(moments(row[None]) for row in rows))
    assert together.variance.tolist() == [1.0, 0.0, 4.0]


def test_constant_rows_have_no_variance_far_from_zero():
    parts = [np.full((size, CHANNELS), 1e8) for size in (7, 1, 30)]
    together = functools.reduce(merged, map(moments, parts))
    assert together.variance.tolist() == [0.0] * CHANNELS
    assert together.mean.tolist() == [1e8] * CHANNELS


def test_thousands_of_batches_leave_no_trace_of_rounding():
    rows = np.random.RandomState(0).normal(1e4, 1.0, (8_000, CHANNELS))
    parts = (Moments(1, row, np.zeros(CHANNELS)) for row in rows)
    assert_moments_equal(functools.reduce(merged, parts), rows, rtol=1e-7)


@given(sizes=splits_with_none, offset=offsets, seed=st.integers(0, 100))
def test_ranks_together_have_the_moments_of_all_rows(sizes, offset, seed):
    parts = batches(sizes, offset, seed)
    rows = np.concatenate(parts)
    own = [[moments(part)] for part in parts]
    for (together,) in ranks_of(*own):
        assert_moments_equal(together, rows, rtol=1e-8)


def test_every_rank_has_the_same_bits():
    parts = batches([5, 0, 11, 2], 3.0)
    own = [[moments(part)] for part in parts]
    (first,), *others = ranks_of(*own)
    for (other,) in others:
        assert other.count == first.count
        assert_array_equal(other.mean, first.mean)
        assert_array_equal(other.variance, first.variance)


def test_ranks_have_the_moments_of_their_batches_merged_on_one():
    parts = batches([8, 3, 21], -2.0)
    on_one = functools.reduce(merged, map(moments, parts))
    own = [[moments(part)] for part in parts]
    (over_ranks,) = ranks_of(*own)[0]
    assert over_ranks.count == on_one.count
    assert_allclose(over_ranks.mean, on_one.mean, rtol=1e-12)
    assert_allclose(over_ranks.variance, on_one.variance, rtol=1e-12)


def test_each_layer_is_merged_for_itself():
    here, there = batches([6, 9]), batches([2, 7], 50.0, seed=1)
    own = [[moments(here[rank]), moments(there[rank])] for rank in range(2)]
    (first, second), _ = ranks_of(*own)
    assert_moments_equal(first, np.concatenate(here))
    assert_moments_equal(second, np.concatenate(there))


def test_a_layer_that_saw_no_row_on_any_rank_has_count_0():
    ((layer,), _) = ranks_of([NO_ROWS], [NO_ROWS])
    assert layer.count == 0
    assert np.isfinite([layer.mean, layer.variance]).all()


def test_what_the_ranks_sum_may_be_a_view_of_a_dict():
    (rows,) = batches([4])
    layers = {"layer": moments(rows)}
    (merged_layer,) = merged_over_ranks(layers.values(), lambda arrays: list(arrays))
    assert_moments_equal(merged_layer, rows)


def test_sums_in_float32_keep_a_variance_far_from_zero():
    # the square of the mean, 1e8, has steps of 8 in float32: the variance is 1
    parts = batches([4000, 4000], 1e4)
    rows = np.concatenate(parts)
    own = [[moments(part)] for part in parts]
    ((together,), _) = ranks_of(*own, dtype=np.float32)
    assert_allclose(together.mean, rows.mean(axis=0), rtol=1e-6)
    assert_allclose(together.variance, rows.var(axis=0), rtol=1e-2)
    assert together.mean.dtype == together.variance.dtype == np.float64


def test_float64_sums_keep_more_than_float32_can_hold():
    rows = np.array([[1e9, 0.0, 0.0], [1e9 + 1, 0.0, 0.0]])
    ((together,), _) = ranks_of([moments(rows[:1])], [moments(rows[1:])])
    assert together.mean[0] == 1e9 + 0.5
    assert together.variance[0] == 0.25


def test_counts_beyond_float32_are_exact():
    large = Moments(2**24 + 1, np.zeros(CHANNELS), np.ones(CHANNELS))
    ((together,), _) = ranks_of([large], [large])
    assert together.count == 2**25 + 2
    assert isinstance(together.count, int)


def test_the_sum_is_called_three_times_with_counts_of_int64():
    calls = []

    def sum_over_ranks(arrays):
        calls.append([array.dtype for array in arrays])
        return arrays

    (rows,) = batches([5])
    merged_over_ranks([moments(rows)] * 2, sum_over_ranks)
    assert calls == [[np.int64] * 2, [np.float64] * 2, [np.float64] * 2]


class Ranks:
    """An object whose method `sum` sums over ranks."""

    def sum(self, arrays):
        return arrays


def test_ranks_are_an_object_or_a_function_that_sums():
    def sum_over_ranks(arrays):
        return arrays

    ranks = Ranks()
    assert sum_function(None) is None
    assert sum_function(sum_over_ranks) is sum_over_ranks
    assert sum_function(ranks) == ranks.sum


@pytest.mark.parametrize("ranks", [4, "horovod", [sum], (), object()])
def test_ranks_that_cannot_sum_are_refused_by_name(ranks):
    with pytest.raises(ValueError, match="ranks must be a function that sums .*got"):
        sum_function(ranks)
