from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgen.ranking.explore import (
    ALWAYS,
    LEAST,
    MOST,
    NEVER,
    decide,
    inverse_normal,
    normal,
    propensities,
    sampled,
)
from feedgen.ranking.scoring import Scores

STANDARD = NormalDist()
DRAWS = 40_000


def draws(count: int, seed: int = 1) -> np.ndarray:
    """Return draws in (0, 1), exact in float32."""
    rng = np.random.default_rng(seed)
    return ((rng.integers(0, 1 << 23, count) + 0.5) / (1 << 23)).astype(np.float32)


def test_the_inverse_normal_is_right_to_a_millionth_also_in_the_tails():
    tails = 10.0 ** -np.random.default_rng(2).uniform(1, 7, 5_000)
    u = np.concatenate((draws(20_000), tails, 1 - tails)).astype(np.float32)
    u = u[(u > 0) & (u < 1) & (u != 0.5)]
    exact = np.array([STANDARD.inv_cdf(each) for each in u.astype(float).tolist()])
    assert (np.abs(inverse_normal(u) / exact - 1)).max() < 1e-6


def test_the_inverse_normal_is_odd_about_one_half():
    u = draws(1_000)
    assert inverse_normal(np.float32([0.5]))[0] == 0
    assert np.allclose(inverse_normal(1 - u), -inverse_normal(u), rtol=1e-6)


def test_the_normal_distribution_is_right_to_three_tenths_of_a_millionth():
    x = np.linspace(-9, 9, 20_001).astype(np.float32)
    exact = np.array([STANDARD.cdf(each) for each in x.astype(float).tolist()])
    assert np.abs(normal(x) - exact).max() < 3e-7
    assert normal(np.float32([-2e9, 2e9])).tolist() == [0, 1]


def test_samples_have_the_mean_and_the_deviation_asked_for():
    u = draws(DRAWS)
    scores = Scores(np.full(DRAWS, 300, np.float32), np.full(DRAWS, 50, np.float32), u)
    ticks = sampled(scores, 10_000)
    assert abs(ticks.mean() - 300) < 4 * 50 / sqrt(DRAWS)
    assert abs(ticks.std() - 50) < 4 * 50 / sqrt(2 * DRAWS)


def test_samples_stay_within_the_bound():
    scores = Scores(np.full(100, 90, np.float32), np.full(100, 50, np.float32), draws(100))
    assert np.abs(sampled(scores, 100)).max() <= 100


def test_without_a_deviation_the_sample_is_the_mean():
    mean = np.float32([1, -2, 3])
    assert sampled(Scores(mean), 10).tolist() == mean.tolist()
    nothing = np.zeros(3, np.float32)
    assert sampled(Scores(mean, nothing, draws(3)), 10).tolist() == mean.tolist()


@pytest.mark.parametrize("margin", [-250, -200, -100, -30, 0, 30, 100, 200, 250])
def test_items_are_admitted_as_often_as_their_propensity_says(margin):
    """Chi-square with one degree of freedom, at one in ten thousand, for each margin."""
    u = draws(DRAWS, seed=abs(margin))
    decisions = decide(np.full(DRAWS, margin, np.float32), np.full(DRAWS, 100, np.float32), u)
    p = float(decisions.propensity[0])
    assert (decisions.propensity == p).all()
    assert decisions.explored.all()
    expected = DRAWS * p
    admitted = int(decisions.admitted.sum())
    chi_square = (admitted - expected) ** 2 / (expected * (1 - p))
    assert chi_square < 15.1


def test_the_propensity_is_the_probability_of_the_sample_clipped():
    margin = np.linspace(-257, 257, 101).astype(np.float32)
    decisions = decide(margin, np.full(101, 100, np.float32), draws(101))
    exact = [STANDARD.cdf(each / 100) for each in margin.tolist()]
    assert np.allclose(decisions.propensity, np.clip(exact, LEAST, MOST), atol=1e-6)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e5), st.floats(0.001, 0.999))
def test_beyond_the_edges_the_mean_decides_with_certainty(margin, sd, uniform):
    arrays = [np.float32([each]) for each in (margin, sd, uniform)]
    decisions = decide(*arrays)
    if decisions.explored[0]:
        assert NEVER - 1e-4 < STANDARD.cdf(margin / sd) < ALWAYS + 1e-4
        assert LEAST - 1e-6 <= decisions.propensity[0] <= MOST + 1e-6
    else:
        assert decisions.propensity[0] == 1
        assert decisions.admitted[0] == (arrays[0][0] > 0)


def test_the_same_draws_are_the_same_decisions():
    margin, sd, u = draws(500, 3) - np.float32(0.5), draws(500, 4), draws(500, 5)
    first, second = decide(margin, sd, u), decide(margin, sd, u)
    assert (first.admitted == second.admitted).all()
    assert (first.propensity == second.propensity).all()


def test_what_was_taken_against_all_odds_has_the_least_propensity():
    margin = np.float32([-1e6, -100, 0, 100, 1e6, -5])
    sd = np.float32([100, 100, 100, 100, 100, 0])
    expected = [LEAST, STANDARD.cdf(-1), 0.5, STANDARD.cdf(1), 1, 1]
    assert np.allclose(propensities(margin, sd), expected, atol=1e-6)
