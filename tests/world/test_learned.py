"""The learned ranking in a world whose truth is known: ten seeds, paired intervals of 95 %."""

from __future__ import annotations

import numpy as np
import pytest

from feedgen.ranking.rungs import Reason, Rung
from tests.world.episodes import (
    CHANGE,
    SMALL,
    WINNING,
    baseline,
    drift,
    exploration,
    fairness,
    served,
)
from tests.world.measures import SEEDS, interval
from tests.world.policies import Newest, Popularity

FIRST, LAST = SMALL.steps // 3, 2 * SMALL.steps // 3


@pytest.fixture(scope="module")
def episodes():
    return [served(seed, ranking=WINNING) for seed in SEEDS]


@pytest.fixture
def learned(episodes):
    return [history for history, _ in episodes]


def test_the_model_wins_its_place_and_nothing_falls_below_popularity(episodes) -> None:
    won = [
        any(event.to is Rung.LIVE and event.reason is Reason.WON_SHADOW for event in each.events)
        for _, each in episodes
    ]
    assert sum(won) >= 9
    assert not any(event.to is Rung.NEWEST for _, each in episodes for event in each.events)


def test_the_model_is_calibrated_in_the_feed_that_it_fills(episodes) -> None:
    # Most of what is shown stands far from the top: judged by what it expects of the first place,
    # the model would be wrong by two fifths.
    readings = [each.ranking.learning.monitor.report()["all"] for _, each in episodes]
    assert all(0.85 < reading.calibration < 1.15 for reading in readings)


def test_regret_falls_while_the_ranking_learns(learned) -> None:
    falls = [each.share_missed(0, FIRST) - each.share_missed(LAST) for each in learned]
    assert interval(falls).low > 0.02


@pytest.mark.parametrize("policy", [Popularity, Newest])
def test_in_the_end_it_misses_less_than_popularity_and_newest_first(learned, policy) -> None:
    others = [baseline(seed, policy) for seed in SEEDS]
    pairs = list(zip(learned, others, strict=True))
    assert interval([b.share_missed(LAST) - a.share_missed(LAST) for a, b in pairs]).low > 0.02
    assert interval([b.share_missed() - a.share_missed() for a, b in pairs]).low > 0


def test_exploration_finds_new_items_and_misses_no_more_for_it() -> None:
    pairs = [exploration(seed) for seed in SEEDS]
    assert interval([b.young_found() - a.young_found() for a, b in pairs]).low > 0
    assert interval([a.share_missed() - b.share_missed() for a, b in pairs]).low > 0


def test_exposure_comes_near_merit_for_two_percent_of_opens() -> None:
    made = [fairness(seed) for seed in SEEDS]

    def inside(way: str) -> np.ndarray:
        ratios = np.array([each[way] for each in made])
        return np.mean((ratios >= 0.8) & (ratios <= 1.25), axis=1)

    assert interval(inside("corrected") - inside("uncorrected")).low > 0.2
    assert inside("corrected").mean() > 0.75
    worst = [
        [np.abs(np.log(each[way])).max() for each in made] for way in ("uncorrected", "corrected")
    ]
    assert interval(np.subtract(*worst)).low > 0.2
    # The budget of 2 % is kept as the balance measures it; by truth it is a tenth of a point more.
    assert interval([each["said"][0] for each in made]).mean <= 0.02
    assert interval([each["cost"][0] for each in made]).mean <= 0.025


def test_after_a_drift_the_ladder_falls_and_the_model_wins_its_place_back() -> None:
    before, after, falls = [], [], 0
    for seed in SEEDS:
        episode = drift(seed)
        fell = (episode["from"] == Rung.LIVE) & (episode["steps"] >= CHANGE)
        falls += bool(fell.any())  # one may relearn before two windows are judged
        assert set(episode["reason"][fell].tolist()) <= {"miscalibrated", "drift"}
        assert episode["rung"][CHANGE - 1] == episode["rung"][-1] == Rung.LIVE, seed
        before.append(episode["missed"][CHANGE - 20 : CHANGE].mean())
        after.append(episode["missed"][-20:].mean())
    assert falls >= len(SEEDS) - 1
    # The world after the change is another one, and may be easier or harder to know.
    assert interval(np.subtract(after, before)).high < 0.08
