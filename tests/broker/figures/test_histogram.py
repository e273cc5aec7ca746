"""Histograms: every value is counted once, in a bucket that holds it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.figures.histogram import BOUNDS, BUCKETS, NOTHING, Histogram

durations = st.floats(0, 1e6, allow_nan=False)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add_many(np.array(values))
    return histogram


@given(durations)
def test_a_value_is_counted_in_the_bucket_between_whose_bounds_it_lies(value: float) -> None:
    (at,) = np.flatnonzero(filled([value]).read().counts)
    assert (BOUNDS[at - 1] if at else 0.0) <= value
    assert value < (BOUNDS[at] if at < len(BOUNDS) else float("inf"))


@given(st.lists(durations, max_size=600))
@settings(max_examples=50)
def test_one_by_one_counts_as_all_at_once(values: list[float]) -> None:
    single = Histogram()
    for value in values:
        single.add(value)
    one, all_ = single.read(), filled(values).read()
    assert (one.counts == all_.counts).all()
    assert one.sum == pytest.approx(all_.sum)
    assert one.count == len(values)


@given(st.lists(st.floats(1e-5, 500.0), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_a_quarter_of_the_true_one(values: list[float], share: float) -> None:
    true = float(np.quantile(values, share, method="inverted_cdf"))
    assert filled(values).read().quantile(share) == pytest.approx(true, rel=0.25)


def test_quantiles_of_nothing_are_0() -> None:
    assert NOTHING.quantile(0.99) == 0.0
    assert Histogram().read().count == 0


def test_values_beyond_the_highest_bound_count_as_being_there() -> None:
    assert filled([1e9]).read().quantile(0.5) == BOUNDS[-1]


def test_a_clock_that_was_set_back_counts_as_0() -> None:
    found = filled([-5.0]).read()
    assert (found.count, found.sum, int(found.counts[0])) == (1, 0.0, 1)


@given(st.lists(durations, max_size=50), st.lists(durations, max_size=50))
@settings(max_examples=50)
def test_what_came_since_is_what_was_added_since(before: list[float], after: list[float]) -> None:
    histogram = filled(before)
    earlier = histogram.read()
    histogram.add_many(np.array(after))
    since = histogram.read().since(earlier)
    assert (since.counts == filled(after).read().counts).all()
    assert earlier.count == len(before)


@given(st.lists(durations, max_size=100))
@settings(max_examples=50)
def test_the_cumulative_form_counts_what_lies_below_each_bound(values: list[float]) -> None:
    found = filled(values).read().cumulative()
    assert found[-1] == (float("inf"), len(values))
    assert [count for _, count in found] == [
        sum(value < bound for value in values) for bound, _ in found
    ]


def test_bounds_rise_and_there_is_one_bucket_more() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert len(BOUNDS) == BUCKETS - 1


@given(st.floats(-1.0, 1e6), st.integers(1, 1000))
def test_durations_that_are_alike_count_as_one_by_one(value: float, count: int) -> None:
    together, singly = Histogram(), Histogram()
    together.add_alike(value, count)
    singly.add_many(np.full(count, value))
    assert together.read().counts.tolist() == singly.read().counts.tolist()
    assert together.read().sum == pytest.approx(singly.read().sum)
