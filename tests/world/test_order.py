"""Ten seeds: who knows more misses less, and the world punishes and rewards what it should."""

# ruff: noqa: ARG002, ARG005 - hooks and policies are told more than each needs
from __future__ import annotations

import time
from math import inf

import numpy as np
import pytest

from simulator.drift import Kind
from tests.world.loop import HOUR, LONG_LIVED, History, Hooks, Scores, Settings, World, run
from tests.world.measures import SEEDS, interval
from tests.world.policies import Chance, Newest, Popularity, Tastes, Truth, sampled

SMALL = Settings(people=400, steps=100)


class Sampling(Hooks):
    """Posterior sampling, with the deviation scaled.

    The scale is well below 1: each person draws on their own, and the best of hundreds of draws is
    mostly luck (Chapelle and Li, NIPS 2011, temper the posterior as well).
    """

    def __init__(self, seed: int, scale: float = 0.3) -> None:
        self._seed = seed
        self._scale = scale

    def explore(self, scores, who, items, now):
        return sampled(self._seed, Scores(scores.mean, self._scale * scores.sd), who, items, now)


def histories(policy, settings: Settings = SMALL, hooks=lambda seed: Hooks()) -> list[History]:
    worlds = [World(seed, settings) for seed in SEEDS]
    return [
        run(world, policy(world), hooks(seed)) for seed, world in zip(SEEDS, worlds, strict=True)
    ]


@pytest.fixture(scope="module")
def by_policy() -> dict[str, list[History]]:
    return {
        "truth": histories(Truth),
        "tastes": histories(Tastes),
        "popularity": histories(lambda world: Popularity()),
        "newest": histories(lambda world: Newest()),
        "chance": histories(lambda world: Chance(7)),
    }


@pytest.mark.parametrize(
    ("better", "worse"),
    [("truth", "tastes"), ("tastes", "popularity"), ("popularity", "newest"), ("newest", "chance")],
)
def test_who_knows_more_misses_less(by_policy, better, worse) -> None:
    pairs = zip(by_policy[better], by_policy[worse], strict=True)
    less = interval([bad.share_missed() - good.share_missed() for good, bad in pairs])
    assert less.low > 0, less
    opens = zip(by_policy[better], by_policy[worse], strict=True)
    more = interval([good.opens.sum() - bad.opens.sum() for good, bad in opens])
    assert more.low > 0, more


def test_nobody_is_better_than_the_truth(by_policy) -> None:
    for known in by_policy["truth"]:
        assert np.abs(known.regret).max() < 1e-9
    for others in by_policy.values():
        assert all(history.regret.min() > -1e-9 for history in others)


def test_who_learns_tastes_misses_less_and_less(by_policy) -> None:
    falls = [each.share_missed(0, 33) - each.share_missed(67) for each in by_policy["tastes"]]
    assert interval(falls).low > 0.02
    stays = [each.share_missed(0, 33) - each.share_missed(67) for each in by_policy["newest"]]
    assert abs(interval(stays).mean) < 0.03


def test_opens_are_as_many_as_the_truth_expects(by_policy) -> None:
    for history in (each for made in by_policy.values() for each in made):
        expected = history.expected.sum()
        assert abs(history.opens.sum() - expected) < 4 * np.sqrt(expected) + 0.01 * expected


def test_what_has_more_merit_is_shown_more_by_who_knows_it(by_policy) -> None:
    def agreement(history: History) -> float:
        totals = (each.sum(axis=0) for each in (history.exposure, history.merit))
        return float(np.corrcoef(*totals)[0, 1])

    knowing, blind = ([agreement(each) for each in by_policy[who]] for who in ("truth", "newest"))
    assert min(knowing) > 0.9
    assert interval(np.subtract(knowing, blind)).low > 0


def test_after_a_sudden_drift_what_was_learned_is_wrong(by_policy) -> None:
    rises = []
    for seed, without in zip(SEEDS, by_policy["tastes"], strict=True):
        world = World(seed, SMALL)
        world.people.drift(Kind.SUDDEN, 0.8, at=world.start + 60 * SMALL.step)
        drifted = run(world, Tastes(world))
        assert np.array_equal(without.opens[:60], drifted.opens[:60])
        rises.append(drifted.share_missed(60) - without.share_missed(60))
    assert interval(rises).low > 0.01


def test_a_drop_takes_opens_but_no_knowledge(by_policy) -> None:
    kept, risen = [], []
    for seed, without in zip(SEEDS, by_policy["newest"], strict=True):
        world = World(seed, SMALL)
        world.people.drift(Kind.DROP, 1.0, at=world.start + 60 * SMALL.step, by=0.4)
        dropped = run(world, Newest())
        assert np.array_equal(without.opens[:60], dropped.opens[:60])
        kept.append(dropped.opens[60:].sum() / without.opens[60:].sum())
        risen.append(dropped.share_missed(60) - without.share_missed(60))
    assert interval(kept).mean == pytest.approx(0.6, abs=0.02)
    assert abs(interval(risen).mean) < 0.01


def test_where_items_live_long_exploring_misses_less_above_all_of_the_new() -> None:
    greedy = histories(lambda world: Popularity(10.0, tau=inf), LONG_LIVED)
    curious = histories(lambda world: Popularity(10.0, tau=inf), LONG_LIVED, Sampling)
    pairs = list(zip(greedy, curious, strict=True))
    assert interval([one.share_missed() - other.share_missed() for one, other in pairs]).low > 0
    young = [other.young_found() - one.young_found() for one, other in pairs]
    assert interval(young).low > 0


def test_a_correction_gives_a_publisher_more_exposure(by_policy) -> None:
    class Favour(Hooks):
        def correct(self, publisher, now):
            return np.where(publisher == 3, 0.5, 0.0)

    gains = [
        other.exposure_over_merit()[3] / one.exposure_over_merit()[3]
        for one, other in zip(
            by_policy["truth"], histories(Truth, hooks=lambda seed: Favour()), strict=True
        )
    ]
    assert interval(gains).low > 1.1


@pytest.mark.slow
def test_ten_seeds_of_full_size_take_less_than_a_minute() -> None:
    began = time.process_time()
    world = World(1)
    history = run(world, Popularity())
    assert time.process_time() - began < 6
    assert history.impressions.sum() > 50_000
    assert history.seconds[-1] - history.seconds[0] > HOUR
