"""Interests: as strong as they are said to be, shared where they are, and moved by drifts."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.drift import Drift, Kind
from simulator.interests import Interests, Strengths
from simulator.offerings import Market, Stream

MARKET = Market(channels=20, tags=20, publishers=20)
KINDS = np.arange(600) % 3


def matrix(strengths: Strengths, seed: int = 1) -> np.ndarray:
    return Interests(seed, KINDS, MARKET, strengths).matrix(0.0)


def test_interests_that_are_all_shared_have_few_dimensions() -> None:
    def dimensions(interests: np.ndarray) -> int:
        return np.linalg.matrix_rank(interests, tol=1e-2)

    assert dimensions(matrix(Strengths(shared=1.0))) == 6
    assert dimensions(matrix(Strengths(shared=0.0))) == MARKET.groups


def test_where_the_class_decides_all_of_a_class_are_alike() -> None:
    interests = matrix(Strengths(shared=1.0, by_class=1.0))
    for kind in range(3):
        assert np.ptp(interests[kind::3], axis=0).max() < 1e-6
    assert np.ptp(interests, axis=0).min() > 1e-3


def test_who_is_interested_in_nothing_in_particular_likes_everything_the_same() -> None:
    assert not matrix(Strengths(0.0, 0.0, 0.0)).any()


def test_an_item_gets_what_its_channel_publisher_and_both_tags_get() -> None:
    interests = Interests(1, KINDS, MARKET, Strengths())
    items = Stream(1, MARKET).items(np.arange(50))
    logits, whole = interests.of(np.arange(600)[:, None], items, 0.0), interests.matrix(0.0)
    for place in range(50):
        one, other = items.tags[place]
        columns = [items.channel[place], 20 + items.publisher[place], 40 + one, 40 + other]
        assert logits[:, place] == pytest.approx(whole[:, columns].sum(axis=1), abs=1e-5)


def test_interests_come_back_when_a_recurring_drift_ends_its_turn() -> None:
    interests = Interests(1, KINDS, MARKET, Strengths())
    interests.change(Drift(Kind.RECURRING, 1.0, at=100.0, over=50.0))
    before, during, after = (interests.matrix(at).copy() for at in (99.0, 101.0, 126.0))
    assert np.array_equal(before, after)
    assert not np.allclose(before, during)
