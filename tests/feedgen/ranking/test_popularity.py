"""One rate per item: what serves where the model is wrong."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import pytest

from feedgen.ranking.popularity import Popularity
from feedgen.ranking.value import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOUND = 100 * 6 * 3600 * log(4.0)


def nothing(count: int) -> NDArray[np.float32]:
    """Return predictions that were not made."""
    return np.full(count, np.nan, np.float32)


def counted(counts: dict[int, tuple[int, int, int]]) -> Popularity:
    """Return popularity after each item was shown, opened and dismissed so often."""
    popularity = Popularity(Settings())
    for n, (shown, opened, dismissed) in counts.items():
        at = np.arange(shown)
        popularity.count([n] * shown, at < opened, at >= shown - dismissed, nothing(shown))
    return popularity


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_items_differ_by_how_they_do_against_all_others_whatever_the_rate(rate: float) -> None:
    shown = 20_000
    usual, better = round(rate * shown), round(min(1.5 * rate, (1 + rate) / 2) * shown)
    popularity = counted({1: (shown, usual, 0), 2: (shown, better, 0), 3: (shown, usual // 2, 0)})
    one, two, three, unknown = (popularity.ticks(n, rate) for n in (1, 2, 3, 4))
    assert unknown == 0
    assert abs(one) < 0.01 * BOUND
    assert three < one < two
    assert two < BOUND


@pytest.mark.parametrize("rate", [1e-6, 1 - 1e-6])
@pytest.mark.parametrize("counts", [(1, 0, 1), (1, 1, 0), (500, 500, 0), (500, 0, 500)])
def test_ticks_stay_within_the_bound(rate: float, counts: tuple[int, int, int]) -> None:
    assert abs(counted({1: counts}).ticks(1, rate)) <= BOUND + 1


def test_an_item_without_outcomes_is_predicted_the_rate_of_all() -> None:
    popularity = Popularity(Settings())
    assert popularity.rates([2], 0.2)[0] == np.float32(0.2)
    popularity.count([1] * 100, np.arange(100) < 10, np.zeros(100, np.bool_), nothing(100))
    rates = popularity.rates([1, 2], 0.2) / popularity.level
    np.testing.assert_allclose(rates, [14 / 120, 0.2], 1e-6)


def test_items_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedgen.ranking.popularity._ITEMS", 64)
    popularity = Popularity(Settings())
    for n in range(1000):
        popularity.count([n], np.ones(1, np.bool_), np.zeros(1, np.bool_), nothing(1))
    assert len(popularity.state()["n"]) <= 64
    assert popularity.ticks(999, 0.1) > 0


def test_what_was_counted_outlives_a_restart() -> None:
    before, after = counted({1: (9, 5, 2), 7: (3, 0, 0)}), Popularity(Settings())
    after.restore(before.state())
    for n in (1, 7, 8):
        assert after.ticks(n, 0.3) == before.ticks(n, 0.3)
    after.count([1], np.ones(1, np.bool_), np.zeros(1, np.bool_), nothing(1))
    assert after.ticks(1, 0.3) > before.ticks(1, 0.3)
