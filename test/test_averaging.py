# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""The running mean of weights, against numpy's mean of all sets at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from swa.averaging import Average, is_averaged, is_finite

SHAPES = [(3, 4), (4,), (), (0, 2)]
FLOATS = [np.float16, np.float32, np.float64]
LARGE = 200_003  # elements: more than fit into one step of the mean


def weights(seed, shapes=SHAPES, dtype=np.float32):
    """One set of weights, a list of arrays."""
    generator = np.random.RandomState(seed)
    return [np.array(generator.normal(size=shape), dtype) for shape in shapes]


def sets_of(count, shapes=SHAPES, dtype=np.float32):
    """Some sets of weights, no two of them alike."""
    return [weights(number, shapes, dtype) for number in range(count)]


def averaged(sets, avg_fn=None):
    """The Average of some sets of weights."""
    average = Average(avg_fn)
    for weights_of_set in sets:
        assert average.add(weights_of_set)
    return average


def assert_means_equal(average, sets, rtol):
    """The mean is numpy's mean of the sets in float64."""
    expected = [np.mean(arrays, axis=0, dtype=np.float64) for arrays in zip(*sets)]
    assert len(average.mean) == len(expected)
    for mean, array in zip(average.mean, expected):
        assert mean.shape == array.shape
        assert_allclose(mean, array, rtol=rtol, atol=rtol)


@given(count=st.integers(1, 12), seed=st.integers(0, 1000))
def test_the_mean_is_that_of_all_sets(count, seed):
    sets = [weights(1000 * seed + number) for number in range(count)]
    average = averaged(sets)
    assert_means_equal(average, sets, rtol=1e-5)
    assert (average.n_averaged, average.n_skipped) == (count, 0)


@given(order=st.permutations(range(6)))
def test_the_order_of_the_sets_does_not_matter(order):
    sets = sets_of(6, [(5,)], np.float64)
    in_order, shuffled = averaged(sets), averaged([sets[number] for number in order])
    assert_allclose(in_order.mean[0], shuffled.mean[0], rtol=1e-12)


def test_the_mean_of_one_set_is_the_set_bit_for_bit():
    (array,) = weights(0, [(50,)])
    assert_array_equal(averaged([[array]]).mean[0], array)


def test_every_element_of_a_large_weight_is_averaged():
    sets = sets_of(3, [(LARGE,)], np.float64)
    assert_means_equal(averaged(sets), sets, rtol=1e-12)


def test_weights_in_column_order_are_averaged_by_place():
    sets = [[np.asfortranarray(array) for array in weights(n)] for n in range(3)]
    assert_means_equal(averaged(sets), sets, rtol=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_mean_is_kept_in_float32_at_least(dtype):
    sets = sets_of(5, [(64,)], dtype)
    average = averaged(sets)
    assert average.mean[0].dtype == np.promote_types(dtype, np.float32)
    rtol = 1e-12 if dtype is np.float64 else 1e-6
    assert_means_equal(average, sets, rtol=rtol)


def test_a_hundred_float16_sets_lose_nothing():
    # in float16 the mean would not move any more: 1 + 1 / 2048 is 1
    low, high = np.array([1.0, 1.001], np.float16)
    average = averaged([[low]] * 50 + [[high]] * 50)
    assert average.mean[0] == pytest.approx((float(low) + float(high)) / 2, abs=1e-6)


def test_the_weights_added_stay_as_they_are():
    sets = sets_of(4)
    before = [[array.copy() for array in arrays] for arrays in sets]
    averaged(sets)
    for arrays, copies in zip(sets, before):
        for array, copy in zip(arrays, copies):
            assert_array_equal(array, copy)


def test_the_mean_shares_no_memory_with_the_weights():
    array = np.zeros(5, np.float32)
    average = averaged([[array]])
    array += 1.0
    assert_array_equal(average.mean[0], np.zeros(5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_set_with_a_value_that_is_not_finite_is_left_out_and_counted(dtype, bad):
    sets = sets_of(3, dtype=dtype)
    average = averaged(sets)
    before = [mean.copy() for mean in average.mean]
    spoiled = weights(9, dtype=dtype)
    spoiled[1][-1] = bad
    assert not average.add(spoiled)
    assert (average.n_averaged, average.n_skipped) == (3, 1)
    for mean, array in zip(average.mean, before):
        assert_array_equal(mean, array)


def test_a_first_set_with_nan_begins_no_mean():
    average = Average()
    assert not average.add([np.array([np.nan], np.float32)])
    assert (average.mean, average.n_averaged, average.n_skipped) == ([], 0, 1)
    assert average.add([np.array([2.0], np.float32)])
    assert average.mean[0].tolist() == [2.0]


@pytest.mark.parametrize("place", [0, LARGE // 2, LARGE - 1])
def test_a_nan_anywhere_in_a_large_weight_is_seen(place):
    array = np.zeros(LARGE, np.float32)
    assert is_finite(array)
    array[place] = np.nan
    assert not is_finite(array)
    average = Average()
    assert not average.add([array])


@pytest.mark.parametrize("dtype", FLOATS)
def test_finite_values_whose_sum_overflows_are_finite(dtype):
    array = np.full(10, np.finfo(dtype).max)
    assert is_finite(array)
    assert Average().add([array])


def test_integer_and_boolean_weights_are_passed_over():
    step, is_on = np.array(7, np.int64), np.array([True])
    arrays = [weights(number, [(4,)])[0] for number in range(3)]
    average = averaged([[step, array, is_on] for array in arrays])
    assert len(average.mean) == 1
    first, mean, last = average.arrays([np.int64, np.float32, np.bool_])
    assert first is None and last is None
    assert_array_equal(mean, average.mean[0])


@pytest.mark.parametrize(
    "dtype, expected",
    [
        (np.float16, True),
        (np.float32, True),
        (np.float64, True),
        (np.int32, False),
        (np.uint8, False),
        (np.bool_, False),
    ],
)
def test_floating_point_weights_have_a_mean(dtype, expected):
    assert is_averaged(np.dtype(dtype)) is expected


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_mean_comes_in_the_dtypes_of_the_weights(dtype):
    average = averaged(sets_of(3, dtype=dtype))
    arrays = average.arrays([np.dtype(dtype)] * len(SHAPES))
    assert [array.dtype for array in arrays] == [dtype] * len(SHAPES)
    for array, mean in zip(arrays, average.mean):
        assert_array_equal(array, mean.astype(dtype))


def test_avg_fn_gets_mean_weights_and_the_count_before():
    calls = []

    def keep(mean, array, n_averaged):
        calls.append((float(mean), float(array), n_averaged))
        return mean

    averaged([[np.array(value, np.float32)] for value in (1, 2, 3)], keep)
    assert calls == [(1.0, 2.0, 1), (1.0, 3.0, 2)]  # the first set is its own mean


def test_avg_fn_replaces_the_mean():
    def decayed(mean, array, n_averaged):
        return 0.75 * mean + 0.25 * array

    sets = sets_of(6, [(5,)], np.float64)
    expected = sets[0][0]
    for (array,) in sets[1:]:
        expected = 0.75 * expected + 0.25 * array
    assert_allclose(averaged(sets, decayed).mean[0], expected, rtol=1e-12)


def test_what_avg_fn_returns_becomes_the_means_dtype():
    average = averaged([[np.ones(3, np.float16)]] * 2, lambda mean, array, n: [4, 5, 6])
    assert average.mean[0].dtype == np.float32
    assert average.mean[0].tolist() == [4.0, 5.0, 6.0]


@pytest.mark.parametrize("shape", [(4, 3), (12,), (1, 3, 4), (3, 1)])
def test_avg_fn_of_another_shape_is_refused_and_the_mean_stays(shape):
    average = Average(lambda mean, array, n_averaged: np.zeros(shape))
    first = weights(0, [(3, 4)])
    average.add(first)
    with pytest.raises(ValueError, match=r"avg_fn must return .*\(3, 4\), got \("):
        average.add(weights(1, [(3, 4)]))
    assert_array_equal(average.mean[0], first[0])
    assert average.n_averaged == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_avg_fn_that_is_not_finite_is_refused_and_the_mean_stays(value):
    average = Average(lambda mean, array, n_averaged: mean * value)
    first = weights(0, [(3, 4)])
    average.add(first)
    with pytest.raises(ValueError, match="avg_fn must return finite numbers"):
        average.add(weights(1, [(3, 4)]))
    assert_array_equal(average.mean[0], first[0])


def test_a_loaded_average_goes_on_as_the_one_it_was():
    sets = sets_of(6)
    half = averaged(sets[:3])
    resumed = Average()
    resumed.load(half.mean, half.n_averaged, 2)
    assert (resumed.n_averaged, resumed.n_skipped) == (3, 2)
    for arrays in sets[3:]:
        half.add(arrays)
        resumed.add(arrays)
    assert (resumed.n_averaged, resumed.n_skipped) == (6, 2)
    for mean, other in zip(half.mean, resumed.mean):
        assert_array_equal(mean, other)


def test_load_copies_the_arrays():
    loaded = [np.zeros(3, np.float32)]
    average = Average()
    average.load(loaded, 1, 0)
    average.add([np.full(3, 2.0, np.float32)])
    assert average.mean[0].tolist() == [1.0] * 3
    assert loaded[0].tolist() == [0.0] * 3
