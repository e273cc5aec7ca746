"""What the learned ranking does in the world of `loop`, episode by episode, and the figures that are told of it.

`python -m tests.world.episodes` prints a table: ten seeds, paired differences with their intervals. Pictures are drawn
from what `fairness` and `drift` return.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from feedgen.ranking.balance import Settings as Balance
from feedgen.ranking.rungs import Rung
from simulator.drift import Kind
from simulator.offerings import Market
from simulator.offerings import Settings as StreamSettings
from tests.world.learned import PLAIN, Learned
from tests.world.loop import HOUR, LONG_LIVED, History, Settings, World, run
from tests.world.measures import SEEDS, interval
from tests.world.policies import Newest, Popularity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from feedgen.ranking.settings import RankingSettings
    from simulator.draws import Floats
    from tests.world.loop import Policy

Series: TypeAlias = "dict[str, Floats]"

SMALL = Settings(people=400, steps=100)
LIVELY = replace(LONG_LIVED, people=400, steps=60)
MANY_ITEMS = Settings(
    people=400,
    steps=95,
    step=0.5 * HOUR,
    market=Market(publishers=6),
    stream=StreamSettings(rate=20.0, weights=(1.0,) * 6),
)
"""Six publishers with twenty live items each: with few, a single good one is all that exposure depends on."""
AFTER = 20_000
"""Impressions after which exposure is to be fair."""
UNSETTLED = Settings(people=600, steps=160)
CHANGE = 60
"""The step at which people change their minds in an unsettled world."""

WINNING = replace(PLAIN, start=Rung.POPULARITY)
"""As the product starts: the model has to win its place."""
FAIR = replace(PLAIN, publishers=Balance())


def served(
    seed: int,
    settings: Settings = SMALL,
    ranking: RankingSettings = PLAIN,
    *,
    pinned: Rung | None = None,
    tau: float | None = None,
) -> tuple[History, Learned]:
    """Let the learned ranking serve a world; return what happened, and the ranking."""
    world = World(seed, settings)
    learned = Learned(world, ranking, pinned=pinned, tau=tau)
    return run(world, learned, learned), learned


def baseline(seed: int, policy: Callable[[], Policy], settings: Settings = SMALL) -> History:
    """Let a policy that needs nothing serve a world."""
    return run(World(seed, settings), policy())


# ---- Episodes


def exploration(seed: int) -> tuple[History, History]:
    """Return a world of long-lived items served without exploration, and with the product's."""
    greedy, curious = (
        served(seed, LIVELY, replace(PLAIN, explore=share), pinned=Rung.LIVE, tau=inf)[0]
        for share in (0.0, 0.3)
    )
    return greedy, curious


def fairness(seed: int, settings: Settings = MANY_ITEMS) -> Series:
    """Serve a world with and without a balance of publishers.

    Returns:
        `impressions` [steps], so far; `corrected` and `uncorrected` [publishers], exposure over merit once `AFTER`
        impressions were made; `merit` [publishers], shares by truth, since then; `exposure_corrected` and
        `exposure_uncorrected` [publishers], shares; `cost` [1], the share of expected opens given up since then;
        `said` [1], what the balance takes it for.
    """
    free, _ = served(seed, settings, pinned=Rung.LIVE)
    fair, learned = served(seed, settings, FAIR, pinned=Rung.LIVE)
    impressions = np.cumsum(fair.impressions)
    begin = int(impressions.searchsorted(AFTER))
    merit, corrected, uncorrected = (
        each[begin:].sum(axis=0) / each[begin:].sum()
        for each in (fair.merit, fair.exposure, free.exposure)
    )
    return {
        "impressions": impressions,
        "corrected": fair.exposure_over_merit(begin),
        "uncorrected": free.exposure_over_merit(begin),
        "merit": merit,
        "exposure_corrected": corrected,
        "exposure_uncorrected": uncorrected,
        "cost": np.array([1 - fair.expected[begin:].sum() / free.expected[begin:].sum()]),
        "said": np.array([learned.ranking.publishers.cost() or 0.0]),
    }


def drift(seed: int, settings: Settings = UNSETTLED) -> Series:
    """Let everybody's interests change at step `CHANGE`, and half of all openings go.

    Returns:
        `hours` [steps] since the beginning; `missed` [steps], regret over what was possible, as the ladder serves;
        `popularity` [steps], the same under popularity alone; `rung` [steps], that serves; `steps`, `from`, `to`
        and `reason` [switches], the last as strings.
    """

    def world() -> World:
        changing = World(seed, settings)
        at = changing.start + CHANGE * settings.step
        changing.people.drift(Kind.SUDDEN, 1.0, at)
        changing.people.drift(Kind.DROP, 1.0, at, by=0.5)
        return changing

    here, there = world(), world()
    learned = Learned(here, WINNING)
    history, popular = run(here, learned, learned), run(there, Popularity())
    switched = np.array([(each.t - here.start) / settings.step for each in learned.events])
    rung = np.full(settings.steps, int(WINNING.start), np.float64)
    for step, event in zip(switched, learned.events, strict=True):
        rung[round(step) :] = event.to
    return {
        "hours": (history.seconds - here.start) / HOUR,
        "missed": history.regret / np.maximum(history.possible, 1e-9),
        "popularity": popular.regret / np.maximum(popular.possible, 1e-9),
        "rung": rung,
        "steps": switched,
        "from": np.array([each.from_ for each in learned.events], np.float64),
        "to": np.array([each.to for each in learned.events], np.float64),
        "reason": np.array([each.reason.value for each in learned.events]),
    }


# ---- The table


def _regret() -> Iterator[tuple[str, Floats]]:
    learned = [served(seed, ranking=WINNING)[0] for seed in SEEDS]
    popular = [baseline(seed, Popularity) for seed in SEEDS]
    newest = [baseline(seed, Newest) for seed in SEEDS]
    last = 2 * SMALL.steps // 3
    for name, histories in (("learned", learned), ("popularity", popular), ("newest", newest)):
        yield f"missed, {name}", np.array([each.share_missed() for each in histories])
        yield "  last third", np.array([each.share_missed(last) for each in histories])
    fall = [each.share_missed(0, SMALL.steps // 3) - each.share_missed(last) for each in learned]
    yield "learned: first third less last", np.array(fall)
    for name, others in (("popularity", popular), ("newest", newest)):
        less = [
            b.share_missed(last) - a.share_missed(last)
            for a, b in zip(learned, others, strict=True)
        ]
        yield f"last third: {name} less learned", np.array(less)


def _exploration() -> Iterator[tuple[str, Floats]]:
    pairs = [exploration(seed) for seed in SEEDS]
    yield "young found, greedy", np.array([one.young_found() for one, _ in pairs])
    yield (
        "young found, exploring less greedy",
        np.array([b.young_found() - a.young_found() for a, b in pairs]),
    )
    yield "missed, greedy", np.array([one.share_missed() for one, _ in pairs])
    yield (
        "missed, greedy less exploring",
        np.array([a.share_missed() - b.share_missed() for a, b in pairs]),
    )


def _fairness() -> Iterator[tuple[str, Floats]]:
    made = [fairness(seed) for seed in SEEDS]
    for way in ("uncorrected", "corrected"):
        yield f"least exposure over merit, {way}", np.array([each[way].min() for each in made])
        yield f"most exposure over merit, {way}", np.array([each[way].max() for each in made])
    yield "cost in expected opens", np.array([each["cost"][0] for each in made])
    yield "cost as the balance says", np.array([each["said"][0] for each in made])


def _drift() -> Iterator[tuple[str, Floats]]:
    made = [drift(seed) for seed in SEEDS]
    spans = (
        ("before", CHANGE - 20, CHANGE),
        ("after", CHANGE, CHANGE + 20),
        ("at the end", -20, None),
    )
    for name, begin, end in spans:
        yield f"missed {name}", np.array([each["missed"][begin:end].mean() for each in made])
        yield "  by popularity", np.array([each["popularity"][begin:end].mean() for each in made])
    yield "hours until the fall", np.array([_first(each, fell=True) for each in made]) / 6
    yield (
        "hours until the model serves again",
        np.array([_first(each, fell=False) for each in made]) / 6,
    )


def _first(episode: Series, *, fell: bool) -> float:
    """Return the steps from the change to the first fall, or to the last return of the live model."""
    switched = episode["steps"] - CHANGE
    which = (episode["from"] == Rung.LIVE) if fell else (episode["to"] == Rung.LIVE)
    found = switched[which & (switched > 0)]
    return float(found[0 if fell else -1]) if found.size else inf


def main() -> None:
    """Print the table."""
    for part in (_regret, _exploration, _fairness, _drift):
        for name, values in part():
            mean, low, high = interval(values)
            sys.stdout.write(f"{name:42} {mean:8.4f}  [{low:.4f}, {high:.4f}]\n")


if __name__ == "__main__":
    main()
