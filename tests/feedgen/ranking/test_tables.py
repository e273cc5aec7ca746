from __future__ import annotations

import numpy as np
import pytest

from feedgen.ranking.features import GROUPS, Group, encode, layout, stacked
from feedgen.ranking.tables import Tables
from feedgen.ranking.tokens import places
from tests.feedgen.model_cases import some, trained, untrained

BITS = 18


@pytest.fixture(scope="module")
def known():
    """A model, its tables, and impressions that it knows."""
    model, impressions = trained()
    return model, Tables.of(model), impressions


def added(tables, impressions, *, sampled=False):
    kinds = layout(impressions)
    families = [None] * len(kinds.groups)
    for place, family in zip(kinds.counted.tolist(), kinds.families, strict=True):
        families[place] = family
    slopes = tables.slopes_of(families)
    return tables.add(stacked(impressions), kinds.groups, slopes, sampled=sampled)


def test_tables_say_what_the_model_says(known):
    model, tables, impressions = known
    z, variance = added(tables, impressions)
    encoded = encode(impressions, BITS)
    np.testing.assert_allclose(z + tables.offset, model.logits(encoded), atol=1e-4)
    np.testing.assert_allclose(
        tables.probability(z + np.float32(tables.offset)), model.predict(encoded), atol=1e-5
    )
    assert variance is None


def test_the_variance_is_that_of_the_weights_of_features_that_are_there(known):
    model, tables, impressions = known
    _, variance = added(tables, impressions, sampled=True)
    encoded = encode(impressions, BITS)
    groups = encoded.layout.groups
    precision = (model.table.precision + model.table.curvature)[encoded.places]
    precision += np.array(model.settings.precision)[groups]
    expected = (model.trust[groups] ** 2 / precision * encoded.present).sum(axis=1)
    np.testing.assert_allclose(variance, expected, rtol=1e-4)


def test_what_is_new_is_less_certain_than_what_is_known(known):
    _, tables, impressions = known
    _, seen = added(tables, impressions, sampled=True)
    tokens = stacked(impressions)
    fresh = tokens.copy()
    fresh[1] += np.arange(len(fresh[1]), dtype=np.uint64)
    kinds = layout(impressions)
    slopes = np.zeros(len(kinds.groups), np.float32)
    _, unseen = tables.add(fresh, kinds.groups, slopes, sampled=True)
    assert unseen.mean() > seen.mean()


def test_tables_stay_as_they_are_when_the_model_goes_on():
    model, impressions = trained(n=500)
    tables = Tables.of(model)
    before = added(tables, impressions)[0]
    model.learn(encode(impressions, BITS), np.ones(500))
    np.testing.assert_array_equal(added(tables, impressions)[0], before)


def test_what_was_never_learned_adds_nothing(known):
    _, tables, _ = known
    strange = np.array([[123456789], [0]], np.uint64)
    assert tables.weights[places(strange[:1], BITS)] == 0
    z, variance = tables.add(
        strange,
        np.array([Group.DEVICE, Group.ITEM]),
        np.ones(2, np.float32),
        sampled=True,
    )
    assert z[0] == pytest.approx(0, abs=1e-6)
    assert variance[0] == pytest.approx(tables.trust[0] ** 2 / tables.prior[0])


def test_a_family_that_was_never_learned_has_no_slope(known):
    _, tables, _ = known
    found = tables.slopes_of([None, "item", "never"])
    assert found.tolist() == [0, pytest.approx(tables.slopes["item"]), 0]


def test_probabilities_of_any_logits_lie_between_0_and_1(known):
    _, tables, _ = known
    p = tables.probability(np.array([-1e9, -30, 0, 30, 1e9, -np.inf, np.inf], np.float32))
    assert ((p > 0) & (p <= 1)).all()
    assert (np.diff(p[:5]) >= 0).all()


def test_tables_that_know_nothing_say_the_rate():
    tables = untrained(10, (50.0,) * GROUPS, 0.07)
    impressions = some(np.random.default_rng(0), 5)
    z, variance = added(tables, impressions, sampled=True)
    np.testing.assert_allclose(tables.probability(z + np.float32(tables.offset)), 0.07, rtol=1e-5)
    present = (stacked(impressions) != 0).sum(axis=0)
    np.testing.assert_allclose(variance, present / 50, rtol=1e-5)
