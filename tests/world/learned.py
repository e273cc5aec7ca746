"""The learned ranking of the product as a policy: the same object that serves a fleet, in the world of `loop`."""

# ruff: noqa: ARG002 - a policy is told more than this one needs
from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np

from feedgen.items import Item, Record
from feedgen.ranking import balance, explore
from feedgen.ranking.model import ModelSettings
from feedgen.ranking.ranking import Ranking
from feedgen.ranking.rungs import Event, Rung
from feedgen.ranking.scoring import Scores as Ticks
from feedgen.ranking.settings import RankingSettings
from feedgen.ranking.value import TICKS_PER_SECOND
from feedgen.windows import EMPTY, Held
from simulator.people import best
from tests.world.loop import Hooks, Scores, Shown, World

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.draws import Floats, Ints
    from simulator.offerings import Items

OFF = balance.Settings(cap=0.0, boost=0.0)
"""Exposure is not balanced."""

PLAIN = RankingSettings(
    fields=("class",),
    holdout=0.0,
    explore=0.0,
    start=Rung.LIVE,
    model=ModelSettings(bits=16),
    publishers=OFF,
    channels=OFF,
)
"""The model alone: what it says serves from the first minute, nothing is drawn, nothing corrected."""

_SHELF = 0


class Learned(Hooks):
    """Both policy and hooks: `run(world, learned, learned)`.

    Person i is device `d<i>` in row i; items are records with channel, tags and publisher. What is shown is
    reported at once, what became of it when its window has closed. Every step is a turn.

    Args:
        world: To be served.
        settings: Of the ranking.
        pinned: The rung that serves whatever happens; None leaves it to the ladder.
        tau: Seconds after which an item is worth e times less; None: as in the settings.
    """

    def __init__(
        self,
        world: World,
        settings: RankingSettings = PLAIN,
        *,
        pinned: Rung | None = None,
        tau: float | None = None,
    ) -> None:
        self.ranking = Ranking(settings, shelves=1)
        self.tau = tau or settings.value.tau
        self.events: list[Event] = []
        self._ticks = settings.value.tau * TICKS_PER_SECOND
        self._first = 0
        self._records: dict[int, Record] = {}
        self._drawn: Ticks | None = None
        self._fresh = np.empty((0, 0), np.bool_)
        self._balanced = settings.publishers is not OFF or settings.channels is not OFF
        self._k = world.settings.k
        self._everyone = np.arange(world.settings.people)
        for person in range(world.settings.people):
            known = world.people.fields(person)
            attrs = {"class": known["class"], "tz": known["zone"]}
            self.ranking.seat(_SHELF, person, f"d{person}", attrs)
        if pinned is not None:
            self.ranking.ladder.pin(pinned, world.start)

    # ---- As a policy

    def scores(self, who: Ints, items: Items, now: float) -> Scores:
        ranking = self.ranking
        turn = ranking.turn(now)
        self.events += turn.events
        while turn.more:
            turn = ranking.turn(now)
            self.events += turn.events
        records = self._published(items)
        self._expire(items)
        ranking.prepare(records)
        terms = [ranking.term(record) for record in records]
        personal = self._drawn = ranking.table(records, terms, _SHELF, who, now)
        ticks = np.broadcast_to(np.array(terms, np.float64), (len(who), len(records)))
        if personal is None:
            return Scores(ticks / self._ticks)
        sd = None if personal.sd is None else personal.sd / self._ticks
        return Scores((ticks + personal.mean) / self._ticks, sd)

    def learn(self, shown: Shown) -> None:
        for kind, who in (("opened", shown.opened), ("dismissed", shown.dismissed)):
            self._report(kind, shown, np.flatnonzero(who), 0.0)
        self._report("dwell", shown, np.flatnonzero(shown.dwell), shown.dwell)

    # ---- As hooks

    def explore(self, scores: Scores, who: Ints, items: Items, now: float) -> Floats:
        values = scores.mean
        if self._drawn is not None and self._drawn.sd is not None:
            drawn = explore.sampled(self._drawn, self.ranking.bound)
            values = values + (drawn - self._drawn.mean) / self._ticks
        if self._balanced:
            self._compare(values, who, items, now)
        return values

    def offered(
        self, who: Ints, items: Items, scores: Scores, fresh: NDArray[np.bool_], now: float
    ) -> None:
        self._fresh = fresh

    def shown(self, shown: Shown) -> None:
        self._report("shown", shown, np.arange(len(shown.who)), shown.rank)

    # ---- What a server does between

    def _published(self, items: Items) -> list[Record]:
        records = []
        for place, number in enumerate(items.number.tolist()):
            record = self._records.get(number)
            if record is None:
                record = self._records[number] = _record(items, place)
                if self._balanced:
                    self._offer(record)
            records.append(record)
        return records

    def _expire(self, items: Items) -> None:
        """Let go of what is over: items come and go in the order of their numbers."""
        first = int(items.number[0]) if len(items) else 0
        self.ranking.forget_items(range(self._first + 1, first + 1))
        self._first = first

    def _offer(self, record: Record) -> None:
        """Rank an item for everybody as it is published, as an engine does."""
        ranking, now = self.ranking, record.published_ms / 1000
        ranking.scores(record, ranking.term(record), _SHELF, self._everyone, now)

    def _compare(self, values: Floats, who: Ints, items: Items, now: float) -> None:
        """Let the ranking see windows and as many places below them, to know what its corrections cost."""
        keys = np.where(self._fresh, values - (now - items.published) / self.tau, -inf)
        places = best(keys, 2 * self._k)
        keys = np.take_along_axis(keys, places, axis=1)
        there = keys > -inf
        held = Held(
            np.where(there, items.number[places] + 1, 0),
            np.where(there, np.rint(np.where(there, keys, 0.0) * self._ticks), EMPTY).astype(
                np.int32
            ),
            np.full(len(who), self._k, np.uint8),
        )
        records = [self._records[number] for number in items.number.tolist()]
        self.ranking.compare(held, {each.n: each for each in records}, _SHELF, who, now)

    def _report(self, kind: str, shown: Shown, which: Ints, value: Floats | Ints | float) -> None:
        values = np.broadcast_to(value, len(shown.who))
        for at in which.tolist():
            record = self._records[int(shown.items.number[at])]
            who = int(shown.who[at])
            self.ranking.heard(
                kind, record, record.n, float(values[at]), shown.at, shown.at, _SHELF, who
            )


def _record(items: Items, place: int) -> Record:
    fields = items.fields(place)
    tags = tuple(fields[name] for name in ("tag", "tag2") if name in fields)
    number, published = int(items.number[place]), float(items.published[place])
    return Record(
        n=number + 1,
        version=1,
        item=Item(fields["channel"], str(number), "", tags=tags),
        published_ms=round(1000 * published),
        expires=round(published) + 86_400,
        digest=b"",
        publisher=fields["publisher"],
    )
