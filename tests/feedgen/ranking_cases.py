"""A small fleet before a real engine and a real ranking that learns from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.engine import SHELVES, Engine, Seat
from feedgen.items import Item, Record
from feedgen.ranking.labelled import Settings as LabelSettings
from feedgen.ranking.ladder import Rung
from feedgen.ranking.model import ModelSettings
from feedgen.ranking.ranking import Ranking
from feedgen.ranking.settings import RankingSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from feedgen.ranking.learning import Turn

START = 1_800_000_000.0
WINDOW = 10.0
CHANNELS = ("good", "middling", "bad")
CLASSES = ("tv", "watch")
LIKES = {"good": 0.8, "middling": 0.4, "bad": 0.05}
SETTINGS = RankingSettings(
    start=Rung.LIVE,
    holdout=0.0,
    explore=0.0,
    model=ModelSettings(bits=12),
    labels=LabelSettings(window=WINDOW, per_hour=1e6, burst=10**6, max_share=1.0),
)
"""The model serves from the first minute, nothing is drawn, nobody is held out, nobody limited."""


def limited(**limits: Any) -> RankingSettings:
    """Return the settings with the limits that a server has."""
    return replace(SETTINGS, labels=LabelSettings(window=WINDOW, **limits))


def record(n: int, at: float = START, channel: str = "good", **options: Any) -> Record:
    """Return an item; `options` are those of `Item`, `id`, `publisher` and `version`."""
    publisher = options.pop("publisher", f"p{n % 3}")
    version = options.pop("version", 0)
    name = options.pop("id", f"i{n}")
    item = Item(channel, name, "x", **{"tags": (f"t{n % 4}",), **options})
    return Record(n, version, item, int(at * 1000), int(at) + 10**6, b"", publisher=publisher)


class Fleet:
    """Devices with seats, the items that are live, and what they report.

    Args:
        devices: how many; those of odd number are watches and follow on a larger shelf.
        settings: of the ranking.
        ranking: one that goes on; None: one that knows nothing.
    """

    def __init__(
        self,
        devices: int = 8,
        settings: RankingSettings = SETTINGS,
        ranking: Ranking | None = None,
    ) -> None:
        self.settings = settings
        self.ranking = ranking or Ranking(settings, shelves=len(SHELVES))
        self.engine = Engine(
            landmark=START,
            settings=settings.value,
            scoring=self.ranking,
            repeats=settings.repeats,
            record_decisions=True,
        )
        self.now = START
        self.live: dict[int, Record] = {}
        self.names = [f"d{number}" for number in range(devices)]
        self.seats: dict[str, Seat] = {}
        for name in self.names:
            self.seat(name)

    def seat(self, name: str, attrs: Mapping[str, str | int] | None = None) -> None:
        """Give a device a window."""
        number = int(name[1:])
        known = {"class": CLASSES[number % 2], "tz": "Europe/Berlin" if number % 3 else "UTC"}
        self.seats[name] = self.engine.seat(
            follow=("#",) if number % 4 else ("good", "+"),
            attrs=known if attrs is None else attrs,
            k=8 if number % 5 else 16,
            capacity=100,
            device=name,
        )

    def work(self) -> None:
        """Let the engine do all there is to do."""
        while self.engine.busy:
            self.engine.step(self.now)

    def publish(self, *records: Record) -> None:
        """Publish items, and let the engine work."""
        self.live |= {each.n: each for each in records}
        self.engine.publish(records, [each.n << 8 | 1 for each in records])
        self.work()

    def hear(self, kind: str, n: int, name: str, value: float = 0.0, age: float = 0.0) -> None:
        """Let a device report something."""
        seat = self.seats[name]
        self.ranking.heard(
            kind, self.live.get(n), n, value, self.now - age, self.now, seat.shelf, seat.row
        )

    def turn(self, seconds: float = 0.0) -> Turn:
        """Let time pass, and the ranking take its turn."""
        self.now += seconds
        return self.ranking.turn(self.now)

    def follow(self, turn: Turn) -> None:
        """Do what a turn asks for."""
        if turn.events:
            self.engine.refresh_all()
        self.engine.reterm(self.live if turn.all_terms else turn.reterm)
        self.work()

    def rank_anew(self) -> None:
        """Rank everything by what the ranking says now."""
        self.ranking.forget_computed()
        self.engine.refresh_all()
        self.work()

    def teach(self, rounds: int, seed: int = 0, *, inverted: bool = False) -> list[Any]:
        """Let all devices see one new item per channel each round; returns changes of the rung."""
        random, events = np.random.default_rng(seed), []
        for turn in range(rounds):
            first = 10**6 + 10 * turn + 10**5 * seed
            for place, channel in enumerate(CHANNELS):
                shown = record(first + place, self.now, channel)
                for name in self.names:
                    self.ranking.items.of(shown)
                    self.hear("shown", shown.n, name, place)
                    liked = LIKES[channel]
                    if random.random() < (1 - liked if inverted else liked):
                        self.hear("opened", shown.n, name)
            self.turn()
            events += self.turn(2 * WINDOW).events
        return events

    def window(self, name: str) -> list[int]:
        """Return what a device shows."""
        return self.engine.window(self.seats[name])

    def held(self, name: str) -> dict[int, int]:
        """Return the keys of what is held for a device, the reserve included."""
        seat = self.seats[name]
        held = self.engine.held(seat.shelf, np.array([seat.row], np.int32))
        numbers = held.numbers[0].tolist()
        return {n: key for n, key in zip(numbers, held.keys[0].tolist(), strict=True) if n}

    def newest(self, name: str) -> list[int]:
        """Return what a device shows that stays on newest first."""
        keys = self.by_time(name)
        k = 8 if int(name[1:]) % 5 else 16
        return sorted(keys, key=lambda n: (-keys[n], -n))[:k]

    def by_time(self, name: str) -> dict[int, int]:
        """Return the keys of all items by time, priority and filter."""
        levels = self.engine._state.baseline.by_level
        offsets = self.settings.value.offsets
        exact = 1 if int(name[1:]) % 4 == 0 else 0
        return {
            each.n: (each.published_ms - 1000 * int(START)) // 10
            + round(100 * offsets[each.item.priority])
            + levels[exact if each.item.channel == "good" else 0]
            for each in self.live.values()
        }


def pinned(fleet: Fleet, rung: Rung | None) -> None:
    """Hold a rung and rank by it."""
    fleet.ranking.ladder.pin(rung, fleet.now)
    fleet.rank_anew()


def rows_of(fleet: Fleet, names: Iterable[str], shelf: int) -> np.ndarray[Any, Any]:
    """Return the rows of devices on a shelf."""
    seats = (fleet.seats[name] for name in names)
    return np.array([seat.row for seat in seats if seat.shelf == shelf], np.int32)
