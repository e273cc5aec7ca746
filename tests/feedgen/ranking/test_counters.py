from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.counters import Counters, CounterSettings
from tests.feedgen.model_cases import assert_same

DAY = 86_400.0
RATE = 0.2
SLOW = CounterSettings(prior=5.0, half_life=60 * DAY)


def counters(**options):
    return Counters(8, CounterSettings(**options) if options else SLOW)


def learn(table, places, labels, *, weights=None, times=None, present=None):
    n = len(labels)
    return table.learn(
        np.array(places, np.int64).reshape(n, -1),
        np.array(labels, float),
        np.ones(n) if weights is None else np.array(weights, float),
        RATE,
        np.zeros(n) if times is None else np.array(times, float),
        present,
    )


def logit(p):
    return math.log(p / (1 - p))


def smoothed(opened, shown, prior=5.0):
    return logit((opened + prior * RATE) / (shown + prior)) - logit(RATE)


def rate_of(table, place):
    return table.rates(np.array([place]), RATE)[0]


def test_what_was_never_shown_is_as_all_are():
    assert abs(rate_of(counters(), 3)) < 1e-12


def test_a_rate_is_smoothed_towards_that_of_all():
    table = counters()
    learn(table, [3, 3, 3, 7], [1, 1, 0, 0])
    assert rate_of(table, 3) == pytest.approx(smoothed(2, 3))
    assert rate_of(table, 7) == pytest.approx(smoothed(0, 1))


def test_each_impression_of_a_batch_finds_what_those_before_it_left():
    found = learn(counters(), [3, 7, 3, 3], [1, 0, 0, 1])
    assert found[:, 0] == pytest.approx([0, 0, smoothed(1, 1), smoothed(1, 2)], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_split_into_batches_counts_the_same(data):
    n = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    cuts = data.draw(st.lists(st.integers(0, n), max_size=5))
    places = rng.integers(0, 6, (n, 3))
    labels, weights = rng.integers(0, 2, n), rng.choice([1.0, 1.0, 0.5, -1.0], n)
    times = rng.exponential(data.draw(st.sampled_from([10.0, 40 * DAY, 400 * DAY])), n).cumsum()
    present = rng.integers(0, 2, (n, 3)).astype(float) if data.draw(st.booleans()) else None
    whole, parts, single = counters(), counters(), counters()
    at_once = learn(whole, places, labels, weights=weights, times=times, present=present)
    for table, edges in (
        (parts, sorted({0, n, *cuts})),
        (single, range(n + 1)),
    ):
        found = [
            learn(
                table,
                places[a:b],
                labels[a:b],
                weights=weights[a:b],
                times=times[a:b],
                present=None if present is None else present[a:b],
            )
            for a, b in pairwise(edges)
        ]
        np.testing.assert_allclose(np.concatenate(found), at_once, atol=1e-9)
        every = np.arange(8)
        np.testing.assert_allclose(table.rates(every, RATE), whole.rates(every, RATE), atol=1e-9)


def test_counts_fade_by_half_in_a_half_life():
    table = counters(half_life=10 * DAY)
    learn(table, [3] * 8, [1] * 8)
    learn(table, [7], [0], times=[10 * DAY])
    assert rate_of(table, 3) == pytest.approx(smoothed(4, 4))


def test_within_a_batch_counts_fade_as_they_do_between_batches():
    table = counters(half_life=10 * DAY)
    learn(table, [3, 7], [1, 0], times=[0, 10 * DAY])
    assert rate_of(table, 3) == pytest.approx(smoothed(0.5, 0.5))
    assert rate_of(table, 7) == pytest.approx(smoothed(0, 1))


def test_what_was_seen_fades():
    table = counters(half_life=10 * DAY)
    learn(table, [3] * 8, [1] * 8)
    learn(table, [7], [0], times=[20 * DAY])
    assert table.seen(np.array([3, 7, 5])) == pytest.approx([2, 1, 0])


@pytest.mark.parametrize("odd", [-1e9, -math.inf, math.inf, math.nan, 0.0])
def test_a_clock_that_goes_back_or_is_no_number_is_held_still(odd):
    table = counters(half_life=10 * DAY)
    learn(table, [3] * 8, [1] * 8, times=[20 * DAY] * 8)
    before = rate_of(table, 3)
    learn(table, [7, 7], [0, 0], times=[odd, 20 * DAY])
    assert rate_of(table, 3) == before
    assert rate_of(table, 7) == pytest.approx(smoothed(0, 2))


def test_a_first_time_that_is_no_number_does_no_harm():
    table = counters()
    learn(table, [3], [1], times=[math.nan])
    learn(table, [3], [1], times=[1.7e9])
    assert math.isfinite(rate_of(table, 3))


@pytest.mark.parametrize("gap", [1e6 * DAY, 1e300])
def test_ages_later_old_counts_are_nothing_and_new_ones_count(gap):
    table = counters()
    learn(table, [3, 7], [1, 0], times=[0, gap])
    learn(table, [5], [1], times=[gap])
    assert rate_of(table, 3) == pytest.approx(0, abs=1e-9)
    assert rate_of(table, 7) == pytest.approx(smoothed(0, 1))
    assert rate_of(table, 5) == pytest.approx(smoothed(1, 1))


def test_years_do_not_overflow_what_is_counted():
    table = counters(half_life=DAY)
    for year in range(40):
        learn(table, [3, 3], [1, 0], times=[year * 365 * DAY] * 2)
    assert rate_of(table, 3) == pytest.approx(smoothed(1, 2))
    assert table.shown.max() < 1e60


def test_taking_back_and_learning_the_other_label_is_as_if_it_had_been_learned_at_once():
    corrected, right = counters(), counters()
    learn(corrected, [3, 3, 3], [0, 0, 1], weights=[1, -1, 1])
    learn(right, [3], [1])
    assert rate_of(corrected, 3) == pytest.approx(rate_of(right, 3))


@pytest.mark.parametrize("weight", [-1.0, -5.0, -5.0000001, -1e9])
def test_taking_back_more_than_was_ever_learned_leaves_a_number(weight):
    for label in (0, 1):
        table = counters()
        learn(table, [3], [label], weights=[weight])
        assert math.isfinite(rate_of(table, 3))


def test_a_feature_that_is_absent_is_not_counted():
    table = counters()
    learn(table, [[3, 0], [3, 0]], [1, 1], present=np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert table.shown[0] == 1
    assert table.shown[3] == 2


def test_rates_of_nothing_but_openings_stay_numbers():
    table = counters()
    learn(table, [3] * 100, [1] * 100, weights=[1e12] * 100)
    learn(table, [4] * 100, [0] * 100, weights=[1e12] * 100)
    assert 0 < rate_of(table, 3) < 20
    assert -20 < rate_of(table, 4) < 0


def test_a_restored_state_goes_on_as_if_there_had_been_no_stop():
    one, other = counters(), counters()
    learn(one, [3, 7, 3], [1, 0, 1], times=[0, 5 * DAY, 9 * DAY])
    learn(other, [5], [1])  # forgotten
    other.restore(one.state())
    for table in (one, other):
        learn(table, [7, 3], [1, 0], times=[30 * DAY, 31 * DAY])
    assert_same(one.state(), other.state())


def test_a_state_is_a_copy():
    table = counters()
    learn(table, [3], [1])
    state = table.state()
    learn(table, [3], [1])
    assert state["shown"].tolist() == [1.0]
