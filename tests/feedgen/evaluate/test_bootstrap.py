from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgen.evaluate.bootstrap import Draws, interval


def mean_interval(values, clusters, seed=0):
    draws, ones = Draws.of(clusters, 200, seed), np.ones(len(values))
    return interval(float(values.mean()), draws.sums(values) / draws.sums(ones))


def test_a_draw_takes_as_many_devices_as_there_are_each_with_all_its_events():
    clusters = np.array([7, 7, 3, 9, 3, 7], np.int32)
    draws = Draws.of(clusters, 50, seed=1)
    assert draws.times.shape == (50, 3)
    assert set(draws.times.sum(axis=1).tolist()) == {3}
    for weights in draws.weights():
        assert weights[0] == weights[1] == weights[5]
        assert weights[2] == weights[4]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-9, 9)), min_size=1, max_size=40))
def test_sums_of_draws_are_those_of_weighted_events(rows):
    clusters, values = np.array([c for c, _ in rows], np.int32), np.array([v for _, v in rows])
    draws = Draws.of(clusters, 5, seed=2)
    groups = np.arange(len(rows)) % 3
    expected = [
        [weights[groups == g] @ values[groups == g] for g in range(3)]
        for weights in draws.weights()
    ]
    assert np.allclose(draws.sums_by(values, groups, 3), expected)
    assert np.allclose(draws.sums(values), np.sum(expected, axis=1))


def test_the_same_seed_draws_the_same_and_another_does_not():
    clusters = np.arange(100, dtype=np.int32)
    one, same, other = (Draws.of(clusters, 3, seed).times for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_events_of_one_device_are_no_independent_witnesses():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=50), 40)  # every device says the same 40 times
    by_event = mean_interval(values, np.arange(2000, dtype=np.int32))
    by_device = mean_interval(values, np.repeat(np.arange(50), 40).astype(np.int32))
    assert by_device.width > 4 * by_event.width


def test_nineteen_of_twenty_intervals_hold_the_truth():
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        clusters = rng.integers(60, size=600).astype(np.int32)
        values = rng.normal(size=60)[clusters] + rng.normal(size=600)
        found = mean_interval(values, clusters, seed)
        held += found.low <= 0 <= found.high
    assert held >= 86


def test_an_interval_undoes_the_bias_of_its_draws_stays_in_range_and_holds_the_estimate():
    drawn = np.linspace(0.3, 0.5, 1001)  # noise adds 0.2 to what is 0.2
    found = interval(0.2, drawn, (0.0, 1.0))
    assert (found.low, found.high) == (0.0, 0.2)
    assert interval(0.4, drawn).low == pytest.approx(0.305, abs=1e-3)


def test_without_draws_there_is_no_interval_and_draws_without_a_value_do_not_count():
    assert isnan(interval(0.5, np.zeros(0)).low)
    assert isnan(interval(float("nan"), np.array([0.5])).low)
    assert interval(0.5, np.array([np.nan, 0.4, 0.6])).width == pytest.approx(0.19, abs=0.01)
    assert Draws.of(np.zeros(0, np.int32), 3, 0).sums(np.zeros(0)).tolist() == [0, 0, 0]
