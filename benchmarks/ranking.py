"""What the learned ranking costs: per item and fleet, per event, per window; what importing it costs.

`python benchmarks/ranking.py [--json] [--quick] [--rounds 9]`

All times are CPU time on one thread. The fleet has classes, models, regions and time zones, items have
channels, publishers and tags, and the ranking has learned from the fleet's feedback before anything is
measured, so that no look-up finds an empty table.
"""

from __future__ import annotations

import os

# Before numpy is imported: what is measured is one thread.
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_pool] = "1"

import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from itertools import count  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402
from time import process_time  # noqa: E402

import numpy as np  # noqa: E402
from harness import Report, Series, Verdict, parser, prepare, progress  # noqa: E402

from feedgen.engine import SHELVES, Engine  # noqa: E402
from feedgen.items import Item, Record  # noqa: E402
from feedgen.ranking.balance import Balance  # noqa: E402
from feedgen.ranking.balance import Settings as BalanceSettings  # noqa: E402
from feedgen.ranking.decisions import Admissions  # noqa: E402
from feedgen.ranking.diversity import DEFAULTS, diversify  # noqa: E402
from feedgen.ranking.features import Column, Encoded, Impressions, encode  # noqa: E402
from feedgen.ranking.heads import Learners, Served  # noqa: E402
from feedgen.ranking.ladder import Rung  # noqa: E402
from feedgen.ranking.model import LogisticModel, ModelSettings  # noqa: E402
from feedgen.ranking.ranking import Ranking  # noqa: E402
from feedgen.ranking.scorer import item_columns, item_tokens, moment_columns  # noqa: E402
from feedgen.ranking.settings import RankingSettings  # noqa: E402
from feedgen.store.decision_log import DecisionLog  # noqa: E402

MEAN_MS, SAMPLED_MS = 10.0, 25.0
"""Budgets of one item before 100 000 devices, features included."""
LEARNED = 500_000
"""Events a second that the model has to learn, in batches of 1 000."""
IMPORT_S = 0.3
"""Of `import feedgen` and the ranking, beyond numpy's own."""

START = 1_800_000_000
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC", "-5", "+2")
CLASSES, MODELS, REGIONS = 8, 20, 50
NUMBERS = count(1)

_IMPORTS = """
import numpy, time
begun = time.process_time()
import feedgen, feedgen.engine, feedgen.evaluate, feedgen.ranking.ranking
print(time.process_time() - begun)
"""


def record(at: float, channel: int = 0) -> Record:
    """Return a new item, published at a time."""
    n = next(NUMBERS)
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
        records = [record(self.now, channel) for channel in range(20)]
        liked = self.random.random((CLASSES, 20)) ** 2
        for start in range(0, impressions, 2000):
            rows = self.random.integers(len(self.seats), size=min(2000, impressions - start))
            heard = []
            for row in rows.tolist():
                channel = int(self.random.integers(20))
                heard.append((row, records[channel], self.random.random() < liked[row % CLASSES, channel]))
            begun = process_time()
            for row, item, opened in heard:
                at = self.now
                self.ranking.heard("shown", item, item.n, 0, at, at, self.shelf, row)
                if opened:
                    self.ranking.heard("opened", item, item.n, 0, at, at, self.shelf, row)
                self.events += 1 + opened
            self.hearing += process_time() - begun
            begun = process_time()
            self.ranking.turn(self.now)
            turn = self.ranking.turn(self.now + 700)
            self.turning += process_time() - begun
            self.outcomes += turn.learned
            self.now += 1000
        self.ranking.turn(self.now + 10)
        assert self.ranking.rung is Rung.LIVE

    def score(self) -> float:
        """Return CPU seconds of one new item's terms and scores before the whole fleet."""
        item = record(self.now, int(self.random.integers(20)))
        begun = process_time()
        self.ranking.prepare([item])
        term = self.ranking.term(item)
        scores = self.ranking.scores(item, term, self.shelf, self.rows, self.now)
        spent = process_time() - begun
        assert scores is not None
        assert len(scores.mean) == len(self.rows)
        return spent

    def publish(self, age: float) -> float:
        """Return CPU seconds of the engine's work on a new item of that age."""
        item = record(self.now - age, int(self.random.integers(20)))
        begun = process_time()
        self.ranking.prepare([item])
        self.engine.publish([item], [item.n])
        return process_time() - begun + self.work()


def measured(rounds: int, once: Callable[[], float]) -> Series:
    """Return the series of a figure; the first round warms up."""
    once()
    series = Series()
    for _ in range(rounds):
        series.add(once())
    return series


def fleets(report: Report, devices: int, learned: int, rounds: int) -> None:
    """One item before a whole fleet, scored and taken through the engine; and what feedback costs."""
    for explore, how, budget in ((0.0, "mean", MEAN_MS), (0.3, "sampled", SAMPLED_MS)):
        progress(f"{devices} devices, {how}")
        world = World(devices, explore, learned)
        scored = measured(rounds, world.score)
        line(report, f"one item x {devices} devices, {how}", "ms", scored, 1e3)
        scale = 100_000 / devices
        report.verdicts.append(
            Verdict(f"100 000 devices, {how}, ms", scored.median * 1e3 * scale, budget)
        )
        for _ in range(16):
            world.publish(0.0)
        # Within reach of a window's last item and yet mostly below it; then above nearly all.
        line(report, f"the same refused by the engine, {how}", "ms", measured(rounds, lambda: world.publish(4 * 3600)), 1e3)
        line(report, f"the same admitted by the engine, {how}", "ms", measured(rounds, lambda: rising(world)), 1e3)
    connecting(report, world, rounds)
    heard = Series([world.hearing / world.events])
    line(report, "feedback heard", "µs an event", heard, 1e6)
    line(report, "turn: predicted, learned and judged", "µs an outcome", Series([world.turning / world.outcomes]), 1e6)


def rising(world: World) -> float:
    """Publish an item that is newer than all before."""
    world.now += 3600
    return world.publish(0.0)


def connecting(report: Report, world: World, rounds: int) -> None:
    """One device before all that it may show."""
    records = [record(world.now, at % 20) for at in range(256)]
    world.ranking.prepare(records)
    terms = [world.ranking.term(each) for each in records]

    def once() -> float:
        row = np.array([world.random.integers(len(world.rows))], np.int32)
        begun = process_time()
        assert world.ranking.table(records, terms, world.shelf, row, world.now) is not None
        return process_time() - begun

    line(report, "one connecting device x 256 items", "ms", measured(3 * rounds, once), 1e3)


def line(report: Report, what: str, unit: str, series: Series, scale: float) -> None:
    """Add a row."""
    report.row(what=what, unit=unit, **series.spread(scale))



def models(report: Report, events: int, rounds: int) -> None:
    """Events learned: the model by itself on a log, and the three heads on what serving sees."""
    random = np.random.default_rng(5)
    times = START + np.sort(random.integers(0, 14 * 86_400, events)).astype(np.float64)
    log = encode(log_like(random, times), ModelSettings().bits)
    labels = (random.random(events) < 0.3).astype(np.float64)
    progress("events learned")
    learned = measured(rounds, lambda: learn(log, labels, times) / events)
    line(report, "an event learned, batches of 1 000, encoded", "µs", learned, 1e6)
    report.verdicts.append(
        Verdict("events learned a second", 1 / learned.median, LEARNED, at_least=True)
    )
    encoded = measured(rounds, lambda: encoding(random, times) / events)
    line(report, "encoding it from its tokens", "µs", encoded, 1e6)
    shown = impressions(random, times)
    outcomes = [labels, (random.random(events) < 0.03).astype(np.float64), labels]
    heads = measured(rounds, lambda: three_heads(shown, outcomes) / events)
    line(report, "an outcome learned by three heads, not encoded", "µs", heads, 1e6)
    served = measured(rounds, taking_over)
    line(report, "taking over what was learned", "ms", served, 1e3)


def log_like(random: np.random.Generator, times: NDArray[np.float64]) -> Impressions:
    """Return the columns of a log: device, item, one field, hour, weekday and part of the day."""
    hours = (times // 3600).astype(np.int64)
    return Impressions(
        (some("device", random.zipf(1.3, len(times)) % 5000),),
        (some("item", random.zipf(1.2, len(times)) % 5000),),
        item_fields=(some("item.duration", random.integers(4, 16, len(times))),),
        context=(
            some("context.hour", hours % 24),
            some("context.part", hours % 24 // 6),
            some("context.weekday", hours // 24 % 7),
        ),
    )


def some(name: str, values: NDArray[np.int64]) -> Column:
    """Return values as a column of tokens."""
    distinct, codes = np.unique(values, return_inverse=True)
    return Column(name, np.array([token(name, str(v)) for v in distinct], np.uint64)[codes])


def learn(log: Encoded, labels: NDArray[np.float64], times: NDArray[np.float64]) -> float:
    """Return CPU seconds in which a model that has seen half of a log learns the other half, twice."""
    model = LogisticModel(ModelSettings())
    half = len(labels) // 2
    model.learn(log.part(0, half), labels[:half], now=times[:half])
    parts = [
        (log.part(at, at + 1000), labels[at : at + 1000], times[at : at + 1000])
        for at in (*range(half, len(labels), 1000),) * 2
    ]
    begun = process_time()
    for part, outcomes, when in parts:
        model.learn(part, outcomes, now=when)
    return process_time() - begun


def encoding(random: np.random.Generator, times: NDArray[np.float64]) -> float:
    """Return CPU seconds from tokens to places."""
    log = log_like(random, times)
    begun = process_time()
    encode(log, ModelSettings().bits)
    return process_time() - begun


def impressions(random: np.random.Generator, times: NDArray[np.float64]) -> Impressions:
    """Return impressions as a server has them."""
    known = [item_tokens(record(START, channel)) for channel in range(20)]
    item = random.integers(len(known), size=len(times))
    of_item, item_fields = item_columns(
        np.array([each.item for each in known], np.uint64)[item],
        np.array([each.fields for each in known], np.uint64)[item],
    )
    device = random.integers(5000, size=len(times))
    fields = (("class", CLASSES), ("model", MODELS), ("region", REGIONS))
    return Impressions(
        (some("device", device),),
        of_item,
        tuple(some(f"device.{name}", device % count) for name, count in fields),
        item_fields,
        moment_columns(
            ZONES,
            (device % len(ZONES)).astype(np.uint16),
            times,
            random.integers(8, size=len(times)).astype(np.int8),
        ),
    )


def three_heads(shown: Impressions, outcomes: list[NDArray[np.float64]]) -> float:
    """Return CPU seconds in which the heads learn all of it."""
    learners = Learners(RankingSettings())
    count = len(outcomes[0])
    begun = process_time()
    for at in range(0, count, 1000):
        part = cut(shown, slice(at, at + 1000))
        labels = [each[at : at + 1000] for each in outcomes]
        learners.learn(part, labels, [np.ones(len(labels[0]))] * 3, START + at)
    return process_time() - begun
