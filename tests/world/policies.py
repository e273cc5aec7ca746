"""Policies to compare with: the truth, chance, newest first, popularity, a table of tastes; and any ranker of events."""

# ruff: noqa: ARG002 - a policy is told more than each needs
from __future__ import annotations

from math import inf
from time import gmtime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from simulator import draws
from simulator.draws import Floats, Ints
from simulator.offerings import Items
from tests.world.loop import HOUR, Scores, Shown, World

if TYPE_CHECKING:
    from collections.abc import Sequence

_RANDOM, _SAMPLE = 901, 902


class Ranker(Protocol):
    """What `feedgen.evaluate` calls a ranker."""

    def predict(self, events: Sequence[dict[str, Any]]) -> Floats: ...

    def learn(self, events: Sequence[dict[str, Any]], labels: Any) -> None: ...


class Truth:
    """Knows everything, fatigue included."""

    tau = inf

    def __init__(self, world: World) -> None:
        self._world = world

    def scores(self, who: Ints, items: Items, now: float) -> Scores:
        return Scores(np.log(self._world.chance(who, items, now)))

    def learn(self, shown: Shown) -> None:
        pass


class Chance:
    """Knows nothing, and does not even look at the time."""

    tau = inf

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def scores(self, who: Ints, items: Items, now: float) -> Scores:
        return Scores(
            np.log(draws.uniform(self._seed, _RANDOM, int(now), who[:, None], items.number))
        )

    def learn(self, shown: Shown) -> None:
        pass


class Newest:
    """Newest first."""

    tau = 6 * HOUR

    def scores(self, who: Ints, items: Items, now: float) -> Scores:
        return Scores(np.zeros((len(who), len(items))))

    def learn(self, shown: Shown) -> None:
        pass


class Popularity:
    """How often an item was opened, smoothed towards the rate of all; with forward decay."""

    def __init__(self, prior: float = 20.0, *, tau: float = 6 * HOUR) -> None:
        self.tau = tau
        self._prior = prior
        self._opened = np.zeros(0)
        self._shown = np.zeros(0)

    def scores(self, who: Ints, items: Items, now: float) -> Scores:
        self._grow(items)
        rate, n = self._rate(items.number)
        sd = np.sqrt((1 - rate) / (rate * (n + self._prior)))
        shape = (len(who), len(items))
        return Scores(np.broadcast_to(np.log(rate), shape), np.broadcast_to(sd, shape))

    def learn(self, shown: Shown) -> None:
        self._grow(shown.items)
        np.add.at(self._shown, shown.items.number, 1.0)
        np.add.at(self._opened, shown.items.number, shown.opened)

    def _rate(self, number: Ints) -> tuple[Floats, Floats]:
        overall = (self._opened.sum() + 1.0) / (self._shown.sum() + 10.0)
        shown = self._shown[number]
        return (self._opened[number] + overall * self._prior) / (shown + self._prior), shown

    def _grow(self, items: Items) -> None:
        if (most := int(items.number.max(initial=0)) + 1) > len(self._shown):
            more = (0, 2 * most - len(self._shown))
            self._shown, self._opened = np.pad(self._shown, more), np.pad(self._opened, more)


class Tastes:
    """Popularity, and each person's own rate in each channel: the least that is personal."""

    tau = 6 * HOUR

    def __init__(self, world: World, prior: float = 4.0) -> None:
        shape = (world.settings.people, world.settings.market.channels)
        self._popularity = Popularity()
        self._prior = prior
        self._opened = np.zeros(shape)
        self._expected = np.zeros(shape)

    def scores(self, who: Ints, items: Items, now: float) -> Scores:
        popular = self._popularity.scores(who, items, now)
        relative = (self._opened + self._prior) / (self._expected + self._prior)
        return Scores(popular.mean + np.log(relative)[who[:, None], items.channel], popular.sd)

    def learn(self, shown: Shown) -> None:
        # What the item alone would have got is no evidence of a taste.
        expected = np.exp(self._popularity.scores(shown.who[:1], shown.items, shown.at).mean[0])
        np.add.at(self._expected, (shown.who, shown.items.channel), expected)
        np.add.at(self._opened, (shown.who, shown.items.channel), shown.opened)
        self._popularity.learn(shown)


class Events:
    """Any ranker of events as a policy. It sees what a server would: ids and fields, never the truth.

    The rank stands in the context: the true one when an impression is learned, the topmost when windows are filled.
    """

    def __init__(self, world: World, ranker: Ranker, *, tau: float = 6 * HOUR) -> None:
        self.tau = tau
        self.ranker = ranker
        people = world.people
        self._devices = [(f"d{i}", people.fields(i)) for i in range(people.size)]
        self._zones = people.zone.tolist()
        self._items: dict[int, tuple[str, dict[str, str]]] = {}

    def scores(self, who: Ints, items: Items, now: float) -> Scores:
        events = self.events(
            np.repeat(who, len(items)), items, np.tile(np.arange(len(items)), len(who)), now, None
        )
        p = np.asarray(self.ranker.predict(events))
        return Scores(np.log(np.maximum(p, 1e-6)).reshape(len(who), len(items)))

    def learn(self, shown: Shown) -> None:
        if not len(shown.who):
            return
        places = np.arange(len(shown.who))
        events = self.events(shown.who, shown.items, places, shown.at, shown.rank)
        self.ranker.learn(events, shown.opened.astype(np.float64))

    def events(
        self, who: Ints, items: Items, places: Ints, now: float, rank: Ints | None
    ) -> list[dict[str, Any]]:
        """Return an event for each pair of a person and the item at a place."""
        known = [self._item(items, place) for place in range(len(items))]
        contexts: dict[tuple[int, int], dict[str, str]] = {}
        ranks = [0] * len(who) if rank is None else rank.tolist()
        events = []
        for person, place, at in zip(who.tolist(), places.tolist(), ranks, strict=True):
            device, device_fields = self._devices[person]
            item, item_fields = known[place]
            situation = self._zones[person], at
            if (context := contexts.get(situation)) is None:
                context = contexts[situation] = _context(now, *situation)
            events.append(
                {
                    "t": now,
                    "device": device,
                    "item": item,
                    "list": f"{device}@{now:.0f}",
                    "device_fields": device_fields,
                    "item_fields": item_fields,
                    "context": context,
                }
            )
        return events

    def _item(self, items: Items, place: int) -> tuple[str, dict[str, str]]:
        number = int(items.number[place])
        if (known := self._items.get(number)) is None:
            known = self._items[number] = (f"i{number}", items.fields(place))
        return known


def _context(now: float, zone: int, rank: int) -> dict[str, str]:
    local = gmtime(now + zone * HOUR)
    return {"hour": str(local.tm_hour), "weekday": str(local.tm_wday), "rank": str(rank)}


def sampled(seed: int, scores: Scores, who: Ints, items: Items, now: float) -> Floats:
    """Return draws from scores that know their deviation: posterior sampling, for `Hooks.explore`."""
    if scores.sd is None:
        return scores.mean
    return scores.mean + scores.sd * draws.normal(
        seed, _SAMPLE, int(now), who[:, None], items.number
    )
