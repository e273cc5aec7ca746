from __future__ import annotations

from itertools import pairwise
from math import log

import pytest

from feedgen.ranking.value import TICKS_PER_SECOND, Baseline, Settings

HOUR = 3600 * TICKS_PER_SECOND


@pytest.fixture
def baseline() -> Baseline:
    return Baseline(Settings())


def test_each_literal_level_of_a_filter_adds_less_than_the_one_before(baseline):
    ticks = baseline.by_level
    steps = [after - before for before, after in pairwise(ticks)]
    assert ticks[0] == 0
    assert steps == sorted(steps, reverse=True)
    assert all(step > 0 for step in steps)


def test_a_value_e_times_as_high_counts_as_tau_later():
    settings = Settings(tau=1000, prior_rate=0.1, prior_shown=10, bound=100)
    ticks = Baseline(settings).popularity(1_000_000, 300_000, 0)
    assert ticks == pytest.approx(1000 * log(3) * TICKS_PER_SECOND, rel=1e-4)


def test_nothing_known_of_an_item_adds_nothing(baseline):
    assert baseline.popularity(0, 0, 0) == 0


def test_showing_without_opening_lowers_and_opening_raises(baseline):
    assert baseline.popularity(50, 0, 0) < 0 < baseline.popularity(50, 20, 0)


def test_a_dismissal_counts_against_an_opening(baseline):
    assert baseline.popularity(50, 5, 5) < baseline.popularity(50, 5, 0)


@pytest.mark.parametrize("counts", [(10**9, 0, 0), (0, 10**9, 0), (0, 0, 10**9), (1, 5, 9)])
def test_popularity_stays_within_its_bounds(baseline, counts):
    assert abs(baseline.popularity(*counts)) <= round(6 * HOUR * log(4))


def test_an_urgent_item_outranks_any_other_for_days(baseline):
    low, normal, high, urgent = baseline.by_priority
    assert low < normal < high
    best = high + baseline.by_level[-1] + baseline.popularity(0, 10**9, 0)
    worst = urgent - round(6 * HOUR * log(4))
    assert worst - best > 10 * 24 * HOUR
