from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feedgen.ranking.features import GROUPS, encode
from feedgen.ranking.heads import NAMES, Learners, Served
from feedgen.ranking.scorer import lay_out
from feedgen.ranking.settings import RankingSettings, Worth
from feedgen.ranking.tables import Tables
from feedgen.ranking.tokens import device_token
from feedgen.ranking.value import TICKS_PER_SECOND
from tests.feedgen.model_cases import assert_same, column, some, untrained

DEFAULTS = RankingSettings()
TAU = DEFAULTS.value.tau * TICKS_PER_SECOND
BOUND = TAU * np.log(DEFAULTS.bound)


def taught(n=6000, seed=0, rates=(0.3, 0.05, 0.2), factors=(2, 2, 2), **options):
    """Learners of a world where device a differs from the others, in each head by a factor."""
    rng = np.random.default_rng(seed)
    learners = Learners(replace(DEFAULTS, **options))
    impressions = some(rng, n)
    first = impressions.device[0].tokens == column("device", ["a"]).tokens[0]
    labels = [
        (rng.random(n) < rate * np.where(first, factor, 1)).astype(float)
        for rate, factor in zip(rates, factors, strict=True)
    ]
    weights = [np.ones(n), np.ones(n), labels[0]]  # dwell is known of what was opened
    learners.learn(impressions, labels, weights, 1.7e9)
    return learners, impressions


def flat(opened, dismissed, dwelt, **options):
    """What is served where every impression has the same probabilities."""
    tables = [untrained(10, (50.0,) * GROUPS, rate) for rate in (opened, dismissed, dwelt)]
    return Served(tables, replace(DEFAULTS, **options))


# ---- Learning


def test_every_head_learns_its_own_rate():
    learners, impressions = taught()
    device_a = impressions.device[0].tokens == column("device", ["a"]).tokens[0]
    for model, rate in zip(learners.models, (0.3, 0.05, 0.2), strict=True):
        assert model.rate.now == pytest.approx(rate * (1 + device_a.mean()), rel=0.25)
    assert len(learners.models) == len(NAMES)


def test_what_says_nothing_to_a_head_is_not_learned_by_it():
    learners = Learners(DEFAULTS)
    impressions = some(np.random.default_rng(0), 4)
    ones = np.ones(4)
    before = learners.models[1].state()
    learners.learn(impressions, [ones, ones, ones], [ones, 0 * ones, np.eye(4)[2]], 0.0)
    assert [model.learned for model in learners.models] == [4, 0, 1]
    assert_same(learners.models[1].state(), before)


def test_how_many_outcomes_of_a_device_were_learned_is_known_by_and_large():
    learners, impressions = taught(n=800)
    tokens = impressions.device[0].tokens
    for who in np.unique(tokens):
        seen = learners.seen(np.array([who]))[0]
        assert seen == pytest.approx((tokens == who).sum(), rel=0.1)
    assert learners.seen(np.array([device_token("nobody")], np.uint64))[0] == 0


# ---- Values


def test_an_average_impression_is_worth_no_ticks():
    valued = flat(0.2, 0.01, 0.1).each(some(np.random.default_rng(0), 6))
    np.testing.assert_allclose(valued.ticks, 0, atol=1)
    np.testing.assert_allclose(valued.opened, 0.2, rtol=1e-5)


def test_values_are_openings_less_dismissals_and_dwell_in_logarithms():
    learners, impressions = taught()
    served = Served.of(learners, DEFAULTS)
    valued = served.each(impressions)
    worth = DEFAULTS.worth
    opened, dismissed, dwelt = (
        head.tables.probability(
            head.each(lay_out(impressions, DEFAULTS.model.bits), sampled=False)[0]
        )
        for head in served.heads
    )
    rates = [model.rate.now for model in learners.models]
    value, average = (
        worth.open * o - worth.dismiss * d + worth.dwell * w
        for o, d, w in ((opened, dismissed, dwelt), rates)
    )
    expected = TAU * np.log(np.clip(value / average, 1 / DEFAULTS.bound, DEFAULTS.bound))
    np.testing.assert_allclose(valued.ticks, expected, atol=2e-3 * TAU)
    np.testing.assert_array_equal(valued.opened, opened)
    assert np.ptp(valued.ticks) > 0.5 * TAU


def test_who_dismisses_more_is_served_as_less_worth_by_what_a_dismissal_costs():
    learners, impressions = taught(n=12_000, rates=(0.3, 0.03, 0.2), factors=(1, 5, 1))
    often = impressions.device[0].tokens == column("device", ["a"]).tokens[0]
    leads = []
    for cost in (0.0, 0.5, 1.0):
        served = Served.of(learners, replace(DEFAULTS, worth=Worth(dismiss=cost)))
        ticks = served.each(impressions).ticks
        leads.append((ticks[often].mean() - ticks[~often].mean()) / TAU)
    assert abs(leads[0]) < 0.1
    assert leads[0] - 0.1 > leads[1] > leads[2] + 0.1


@pytest.mark.parametrize("rates", [(0.001, 0.9, 0.0001), (0.999, 1e-6, 0.999), (1e-6, 0.5, 1e-6)])
def test_no_value_is_beyond_the_bound_whatever_is_predicted(rates):
    valued = flat(*rates).each(some(np.random.default_rng(0), 6))
    assert (np.abs(valued.ticks) <= BOUND * 1.0001).all()
    assert np.isfinite(valued.ticks).all()
    assert ((valued.sd >= 0) & (valued.sd <= BOUND * 1.0001)).all()


def test_where_nothing_is_explored_there_is_no_uncertainty():
    learners, impressions = taught(n=500)
    served = Served.of(learners, replace(DEFAULTS, explore=0.0))
    assert served.each(impressions).sd is None
    assert not served.sampled


def test_uncertainty_grows_with_how_much_is_explored():
    learners, impressions = taught(n=500)
    half, whole = (
        Served.of(learners, replace(DEFAULTS, explore=share)).each(impressions).sd
        for share in (0.5, 1.0)
    )
    np.testing.assert_allclose(whole, np.minimum(2 * half, BOUND), rtol=1e-4)


def test_uncertainty_falls_as_more_is_learned():
    little, impressions = taught(n=3000)
    much, _ = taught(n=30_000)
    assert min(each.models[0].hedge.share for each in (little, much)) > 0.9
    few, many = (Served.of(each, DEFAULTS).each(impressions).sd.mean() for each in (little, much))
    assert many < 0.6 * few


def test_a_model_that_the_hedge_does_not_trust_explores_little():
    untrusted, impressions = taught(n=300)
    trusted, _ = taught(n=3000)
    assert untrusted.models[0].hedge.share < 0.5
    few, many = (
        Served.of(each, DEFAULTS).each(impressions).sd.mean() for each in (untrusted, trusted)
    )
    assert few < 0.5 * many


def test_what_is_served_stays_as_it_was_when_learning_goes_on():
    learners, impressions = taught(n=500)
    served = Served.of(learners, DEFAULTS)
    before = served.each(impressions).ticks
    labels = [np.ones(500)] * 3
    learners.learn(impressions, labels, labels, 1.7e9)
    np.testing.assert_array_equal(served.each(impressions).ticks, before)


def test_the_rarer_heads_have_no_features_of_the_device_with_others():
    learners, impressions = taught(n=300)
    whole, *rare = (set(model.families) for model in learners.models)
    assert any(name.startswith("device x ") for name in whole)
    for families in rare:
        assert not any(name.startswith("device x ") for name in families)
    served = Served.of(learners, DEFAULTS)
    for head, model in zip(served.heads, learners.models, strict=True):
        z, _ = head.each(lay_out(impressions, DEFAULTS.model.bits), sampled=False)
        expected = model.logits(encode(impressions, model.settings.bits, head.blocks))
        np.testing.assert_allclose(z, expected, atol=1e-4)
        assert isinstance(head.tables, Tables)
