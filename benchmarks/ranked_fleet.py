"""A fleet whose ranking has learned from it: what `ranking.py` and `feedback.py` measure."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from time import process_time

import numpy as np

from feedgen.engine import SHELVES, Engine
from feedgen.items import Item, Record
from feedgen.ranking.ladder import Rung
from feedgen.ranking.ranking import Ranking
from feedgen.ranking.settings import RankingSettings

START = 1_800_000_000
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC", "-5", "+2")
CLASSES, MODELS, REGIONS, CHANNELS = 8, 20, 50, 20
_AT_ONCE = 2000
"""Impressions that are heard of before the ranking takes a turn."""
_NUMBERS = count(1)


def record(at: float, channel: int = 0) -> Record:
    """Return a new item, published at a time."""
    n = next(_NUMBERS)
    item = Item(f"news/c{channel}", f"i{n}", "x" * 100, tags=(f"t{n % 5}", f"t{5 + n % 7}"))
    return Record(n, 0, item, int(at * 1000), START + 10**6, b"", publisher=f"p{n % 10}")


def attributes(row: int) -> dict[str, str | int]:
    """Return what is known of a device."""
    return {
        "class": f"c{row % CLASSES}",
        "model": f"m{row % MODELS}",
        "region": f"r{row % REGIONS}",
        "tz": ZONES[row % len(ZONES)],
    }


class World:
    """An engine with a fleet, and a ranking that has learned from it.

    Args:
        devices: of the fleet.
        explore: share of the uncertainty that is sampled.
        learned: impressions that are learned first.

    Attributes:
        events: of feedback so far.
        hearing: CPU seconds in which they were taken in.
        outcomes: learned so far.
        turning: CPU seconds of the turns in which they were.
    """

    def __init__(self, devices: int, explore: float, learned: int) -> None:
        settings = replace(RankingSettings(), explore=explore, start=Rung.LIVE, holdout=0.01)
        self.ranking = Ranking(settings, shelves=len(SHELVES))
        self.engine = Engine(
            landmark=START, scoring=self.ranking, repeats=settings.repeats, settings=settings.value
        )
        self.random = np.random.default_rng(4)
        self.seats = [
            self.engine.seat(
                follow=("#",), attrs=attributes(row), k=8, capacity=200, device=f"device-{row}"
            )
            for row in range(devices)
        ]
        self.shelf = self.seats[0].shelf
        self.rows = np.array([seat.row for seat in self.seats], np.int32)
        self.now = float(START)
        self.work()
        self.events, self.hearing = 0, 0.0
        self.outcomes, self.turning = 0, 0.0
        self.learn(learned)

    def work(self) -> float:
        """Run the engine dry; return its CPU seconds."""
        begun = process_time()
        while self.engine.busy:
            self.engine.step(self.now)
        return process_time() - begun

    def learn(self, impressions: int) -> None:
        """Let devices report shown and opened items, and learn them."""
        records = [record(self.now, channel) for channel in range(CHANNELS)]
        liked = self.random.random((CLASSES, CHANNELS)) ** 2
        for start in range(0, impressions, _AT_ONCE):
            rows = self.random.integers(len(self.seats), size=min(_AT_ONCE, impressions - start))
            channel = self.random.integers(CHANNELS, size=len(rows))
            opened = self.random.random(len(rows)) < liked[rows % CLASSES, channel]
            begun = process_time()
            for row, at, well in zip(rows.tolist(), channel.tolist(), opened.tolist(), strict=True):
                self.hear("shown", records[at], row)
                if well:
                    self.hear("opened", records[at], row)
            self.hearing += process_time() - begun
            self.events += len(rows) + int(opened.sum())
            begun = process_time()
            self.ranking.turn(self.now)
            self.outcomes += self.ranking.turn(self.now + 700).learned
            self.turning += process_time() - begun
            self.now += 1000
        self.ranking.turn(self.now + 10)
        assert self.ranking.rung is Rung.LIVE

    def hear(self, kind: str, item: Record, row: int) -> None:
        """Let a device report something of now."""
        self.ranking.heard(kind, item, item.n, 0, self.now, self.now, self.shelf, row)

    def score(self) -> float:
        """Return CPU seconds of one new item's scores before the whole fleet."""
        item = record(self.now, int(self.random.integers(CHANNELS)))
        self.ranking.prepare([item])
        term = self.ranking.term(item)
        begun = process_time()
        scores = self.ranking.scores(item, term, self.shelf, self.rows, self.now)
        spent = process_time() - begun
        assert scores is not None
        assert len(scores.mean) == len(self.rows)
        return spent

    def publish(self, age: float = 0.0) -> float:
        """Return CPU seconds of the engine's work on a new item of that age."""
        item = record(self.now - age, int(self.random.integers(CHANNELS)))
        begun = process_time()
        self.ranking.prepare([item])
        self.engine.publish([item], [item.n])
        return process_time() - begun + self.work()
