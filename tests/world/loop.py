"""A feed in a few lines: people look, a policy fills their windows, what they do is learned later.

Independent of the engine, and of how a model works inside. A step is ten minutes: new items arrive, some people look,
each of these gets the k best of what is live and was not shown to them yet. The key of an item is
`ln(value) + correction - age / tau`, forward decay as in the engine. What happened is learned when its window has
closed. The truth is known, so that regret is exact and has no noise of its own: expected opens that the best k would
have had, minus those of the k that were shown.
"""

# ruff: noqa: ARG002 - hooks are told more than the empty ones need
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields
from math import inf
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.draws import Floats, Ints
from simulator.interests import Strengths
from simulator.offerings import Items, Market, Stream
from simulator.offerings import Settings as StreamSettings
from simulator.people import Fatigue, People, best
from simulator.people import Settings as PeopleSettings

HOUR = 3600.0


class Scores(NamedTuple):
    """Values of items for people, float64 [people, items].

    Attributes:
        mean: ln of the predicted chance to open; any constant may be added.
        sd: Its standard deviation; None: the policy is certain.
    """

    mean: Floats
    sd: Floats | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """Impressions as columns [n], with what became of them once that is known.

    Attributes:
        at: Unix seconds, of all.
        who: People.
        items: n items.
        rank: Places in the window.
        predicted: exp(mean) of the policy that served.
        opened: Within the window of labels.
        dismissed: Within the window of labels.
        dwell: Seconds.
        truth: The chance to open, had it been looked at for certain.
    """

    at: float
    who: Ints
    items: Items
    rank: Ints
    predicted: Floats
    opened: NDArray[np.bool_]
    dismissed: NDArray[np.bool_]
    dwell: Floats
    truth: Floats


class Policy(Protocol):
    """Whatever can fill windows.

    Attributes:
        tau: Seconds after which an item is worth e times less; inf where `scores` know the age already.
    """

    tau: float

    def scores(self, who: Ints, items: Items, now: float) -> Scores:
        """Return the values of m items for n people; never learns."""

    def learn(self, shown: Shown) -> None:
        """Learn from impressions whose window has closed."""


class Hooks:
    """What may be put around a policy. Each does nothing by itself."""

    def serve(self, policy: Policy, now: float) -> Policy:
        """Return who serves now: the ladder."""
        return policy

    def explore(self, scores: Scores, who: Ints, items: Items, now: float) -> Floats:
        """Return the values that decide, [people, items]: draws from the posterior."""
        return scores.mean

    def correct(self, publisher: Ints, now: float) -> Floats | float:
        """Return what is added to the ln of the value, per item: fairness."""
        return 0.0

    def offered(
        self, who: Ints, items: Items, scores: Scores, fresh: NDArray[np.bool_], now: float
    ) -> None:
        """See what was eligible: `fresh` [people, items] is False where it was shown before."""

    def shown(self, shown: Shown) -> None:
        """See what was shown, labels included, although nobody can know them yet: for measures only."""

    def learned(self, shown: Shown) -> None:
        """See what the policy learns, as it does: monitors, and models in the shadow."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The size of a world.

    Attributes:
        people: How many.
        steps: How many.
        step: Seconds.
        k: Places in a window.
        ttl: Seconds that items live.
        window: Seconds after which what was not opened counts as not opened.
        young: Impressions below which an item counts as new.
    """

    people: int = 1_000
    steps: int = 300
    step: float = 600.0
    k: int = 8
    ttl: float = 6 * HOUR
    window: float = 600.0
    young: int = 30
    market: Market = field(default_factory=Market)
    stream: StreamSettings = field(default_factory=StreamSettings)
    habits: PeopleSettings = field(default_factory=PeopleSettings)


LONG_LIVED = Settings(
    steps=80,
    ttl=24 * HOUR,
    stream=StreamSettings(rate=6.0, quality=1.2, strength=0.0),
    habits=PeopleSettings(base=-2.5, interests=Strengths(0.4, 0.2, 0.2), fades=1e9, tires=0.0),
)
"""More than a hundred items that stay worth what they are worth, some of them much better than others: who
does not explore keeps to what was opened first."""


class World:
    """People, a stream and what has happened so far, all from one seed."""

    def __init__(self, seed: int, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        market = self.settings.market
        self.people = People(seed, self.settings.people, market, self.settings.habits)
        self.stream = Stream(seed, market, self.settings.stream)
        self.fatigue = Fatigue(self.people)
        # The first to look find a full shop.
        self.start = self.stream.start + self.settings.ttl
        self.end = self.start + self.settings.steps * self.settings.step
        count = len(self.stream.between(self.stream.start, self.end))
        self.seen = np.zeros((self.settings.people, count), np.bool_)
        self.impressions = np.zeros(count, np.int64)

    def chance(self, who: Ints, items: Items, now: float) -> Floats:
        """Return the truth, [people, items]."""
        tired = self.fatigue.level(who[:, None], items, now)
        return self.people.probability(who[:, None], items, now, tired=tired)


@dataclass(slots=True)
class History:
    """What happened, a row per step.

    Attributes:
        looks: How many people looked.
        impressions: How many items came onto a screen.
        opens: How many were opened.
        expected: Opens that were to be expected of what was shown.
        possible: Opens that were to be expected of the best choice.
        exposure: [steps, publishers], impressions.
        merit: [steps, publishers], the chance to open, summed over all that was eligible.
        young: The part of `expected` that new items had.
        young_possible: The part of `possible` that new items would have had.
        seconds: Unix seconds.
    """

    looks: Floats
    impressions: Floats
    opens: Floats
    expected: Floats
    possible: Floats
    exposure: Floats
    merit: Floats
    young: Floats
    young_possible: Floats
    seconds: Floats

    @classmethod
    def empty(cls, steps: int, publishers: int) -> History:
        wide = ("exposure", "merit")
        return cls(
            **{
                each.name: np.zeros((steps, publishers) if each.name in wide else steps)
                for each in fields(cls)
            }
        )

    @property
    def regret(self) -> Floats:
        """Return the expected opens that were missed in each step."""
        return self.possible - self.expected

    def share_missed(self, begin: int = 0, end: int | None = None) -> float:
        """Return regret over what was possible, in some steps: 0 is perfect."""
        return float(self.regret[begin:end].sum() / self.possible[begin:end].sum())

    def per_look(self, begin: int = 0, end: int | None = None) -> float:
        """Return expected opens per look in some steps."""
        return float(self.expected[begin:end].sum() / self.looks[begin:end].sum())

    def young_found(self) -> float:
        """Return the expected opens of new items over those that they would have had at best.

        Above 1 for who shows too many of them, as newest first does.
        """
        return float(self.young.sum() / self.young_possible.sum())

    def exposure_over_merit(self, begin: int = 0, end: int | None = None) -> Floats:
        """Return the share of exposure over the share of merit for each publisher; nan without merit."""
        exposure, merit = (each[begin:end].sum(axis=0) for each in (self.exposure, self.merit))
        offered = np.where(merit > 0, merit, np.nan)
        return np.asarray((exposure / exposure.sum()) / (offered / merit.sum()))


def run(world: World, policy: Policy, hooks: Hooks | None = None) -> History:
    """Let a policy serve a world to its end. A world can be used once."""
    hooks = hooks or Hooks()
    settings = world.settings
    history = History.empty(settings.steps, settings.market.publishers)
    waiting: deque[Shown] = deque()
    for step in range(settings.steps):
        now = history.seconds[step] = world.start + step * settings.step
        while waiting and waiting[0].at + settings.window <= now:
            due = waiting.popleft()
            policy.learn(due)
            hooks.learned(due)
        who = world.people.looking(now, settings.step)
        items = world.stream.between(now - settings.ttl, now)
        if not len(who) or not len(items):
            continue
        serving = hooks.serve(policy, now)
        look = _look(world, serving, hooks, who, items, now)
        _measure(world, look, history, step)
        shown = _respond(world, look)
        history.impressions[step] = len(shown.who)
        history.opens[step] = shown.opened.sum()
        history.exposure[step] = np.bincount(
            shown.items.publisher, minlength=settings.market.publishers
        )
        hooks.shown(shown)
        if len(shown.who):
            waiting.append(shown)
    return history


@dataclass(frozen=True, slots=True)
class _Look:
    """Some people looking at once: n people, m items, windows of at most k places.

    Attributes:
        now: Unix seconds.
        who: [n].
        items: m items.
        fresh: [n, m], not shown before.
        value: [n, m], as predicted.
        truth: [n, m]; 0 where not fresh.
        places: [n, k], of items, best first.
    """

    now: float
    who: Ints
    items: Items
    fresh: NDArray[np.bool_]
    value: Floats
    truth: Floats
    places: Ints


def _look(world: World, policy: Policy, hooks: Hooks, who: Ints, items: Items, now: float) -> _Look:
    fresh = ~world.seen[who[:, None], items.number]
    scores = policy.scores(who, items, now)
    hooks.offered(who, items, scores, fresh, now)
    keys = hooks.explore(scores, who, items, now) + hooks.correct(items.publisher, now)
    keys = np.where(fresh, keys - (now - items.published) / policy.tau, -inf)
    truth = np.where(fresh, world.chance(who, items, now), 0.0)
    value = np.exp(np.broadcast_to(scores.mean, fresh.shape))
    return _Look(now, who, items, fresh, value, truth, best(keys, world.settings.k))


def _measure(world: World, look: _Look, history: History, step: int) -> None:
    """Note what is to be expected of the windows, and of the best ones."""
    rank = np.arange(look.places.shape[1])
    reached = world.people.on_screen(look.who[:, None], rank) * world.people.examination(rank)
    young = world.impressions[look.items.number] < world.settings.young
    ideal = best(look.truth, world.settings.k)
    chosen, possible = (
        reached * np.take_along_axis(look.truth, places, 1) for places in (look.places, ideal)
    )
    history.looks[step] = len(look.who)
    history.expected[step] = chosen.sum()
    history.possible[step] = possible.sum()
    history.young[step] = chosen[young[look.places]].sum()
    history.young_possible[step] = possible[young[ideal]].sum()
    history.merit[step] = np.bincount(
        look.items.publisher, look.truth.sum(axis=0), world.settings.market.publishers
    )


def _respond(world: World, look: _Look) -> Shown:
    """Ask the people, and note in the world what they have seen."""
    rows, rank = np.divmod(np.arange(look.places.size), look.places.shape[1])
    flat = look.places.ravel()
    # A window may have more places than there are fresh items.
    there = look.fresh[rows, flat]
    rows, rank, flat = rows[there], rank[there], flat[there]
    who, items, now = look.who[rows], look.items.take(flat), look.now
    done = world.people.respond(who, items, now, rank, world.fatigue.level(who, items, now))

    at = done.shown
    who, items, rows, flat = who[at], items.take(at), rows[at], flat[at]
    world.seen[who, items.number] = True
    np.add.at(world.impressions, items.number, 1)
    world.fatigue.exposed(who, items, now)
    in_time = done.delay[at] <= world.settings.window
    return Shown(
        at=now,
        who=who,
        items=items,
        rank=rank[at],
        predicted=look.value[rows, flat],
        opened=done.opened[at] & in_time,
        dismissed=done.dismissed[at] & in_time,
        dwell=np.where(in_time, done.dwell[at], 0.0),
        truth=look.truth[rows, flat],
    )
