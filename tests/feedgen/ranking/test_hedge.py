from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.hedge import Hedge, log_loss

RATE = 0.1


def stream(n, skill, seed=0):
    """Predictions, of which `skill` is how much of the truth they know, and labels."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(0.5, 4.5, n)
    noise = rng.beta(0.5, 4.5, n)
    return skill * truth + (1 - skill) * noise, (rng.random(n) < truth).astype(float)


def observe(hedge, p, labels, weights=None):
    hedge.observe(p, RATE, labels, np.ones(len(p)) if weights is None else weights)


def mixed_losses(hedge, p, labels):
    losses = []
    for at in range(len(p)):
        losses.append(log_loss(hedge.mix(p[at : at + 1], RATE), labels[at : at + 1])[0])
        observe(hedge, p[at : at + 1], labels[at : at + 1])
    return np.array(losses)


def test_who_has_learned_nothing_is_not_trusted():
    assert Hedge().share < 0.01
    assert Hedge().mix(np.array([0.9]), RATE)[0] == pytest.approx(RATE, abs=0.01)


def test_a_model_that_knows_more_than_the_rate_is_trusted_soon():
    hedge = Hedge()
    observe(hedge, *stream(1000, 0.8))
    assert hedge.share > 0.99


def test_a_model_that_fits_noise_is_not_trusted():
    hedge = Hedge()
    observe(hedge, *stream(1000, 0.0))
    assert hedge.share < 0.01


@pytest.mark.parametrize("skill", [0.0, 0.5, 1.0])
def test_the_mixture_loses_a_few_nats_against_the_better_of_both_and_no_more(skill):
    for seed in range(5):
        p, labels = stream(3000, skill, seed)
        mixture = mixed_losses(Hedge(), p, labels).sum()
        best = min(log_loss(each, labels).sum() for each in (p, np.full(len(p), RATE)))
        assert mixture - best < 10


def test_trust_returns_after_a_bad_time():
    hedge = Hedge(memory=1000)
    observe(hedge, *stream(2000, 0.0))
    assert hedge.share < 0.01
    observe(hedge, *stream(3000, 0.9))
    assert hedge.share > 0.9


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(0, 60), max_size=4), st.integers(0, 99))
def test_any_split_into_batches_says_the_same(n, cuts, seed):
    p, labels = stream(n, 0.5, seed)
    weights = np.random.default_rng(seed).choice([1.0, 0.3, -1.0], n)
    one, other = Hedge(memory=20), Hedge(memory=20)
    observe(one, p, labels, weights)
    for part in np.split(np.arange(n), sorted(cut for cut in cuts if cut < n)):
        observe(other, p[part], labels[part], weights[part])
    assert other.lead == pytest.approx(one.lead, abs=1e-9)


def test_an_outcome_counts_by_its_weight():
    p, labels = np.array([0.5]), np.array([1.0])
    leads = []
    for weight in (0.0, 0.5, 1.0):
        hedge = Hedge()
        observe(hedge, p, labels, np.array([weight]))
        leads.append(hedge.lead + 5)
    assert leads == pytest.approx([0, 0.5 * np.log(5), np.log(5)])


@pytest.mark.parametrize("p", [0.0, 1.0, 1e-300])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_certainty_costs_much_but_never_everything(p, label):
    hedge = Hedge()
    observe(hedge, np.full(100_000, p), np.full(100_000, label))
    assert 0 < hedge.share < 1
    mixed = hedge.mix(np.array([p]), RATE)[0]
    assert 0 < mixed < 1


def test_a_restored_hedge_goes_on():
    one, other = Hedge(), Hedge()
    observe(one, *stream(100, 0.5))
    other.restore(one.state())
    for each in (one, other):
        observe(each, *stream(100, 0.5, seed=1))
    assert one.lead == other.lead
