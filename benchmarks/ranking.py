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

# ruff: noqa: E402 - see above
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
from harness import Report, Series, Verdict, parser, prepare, progress
from numpy.typing import NDArray
from ranked_fleet import CHANNELS, CLASSES, MODELS, REGIONS, START, ZONES, World, record

from feedgen.ranking.balance import Balance
from feedgen.ranking.balance import Settings as BalanceSettings
from feedgen.ranking.decisions import Admissions
from feedgen.ranking.diversity import DEFAULTS, diversify
from feedgen.ranking.features import Column, Impressions, encode
from feedgen.ranking.heads import Learners, Served
from feedgen.ranking.model import LogisticModel, ModelSettings
from feedgen.ranking.scorer import item_columns, item_tokens, moment_columns
from feedgen.ranking.settings import RankingSettings
from feedgen.ranking.tokens import token
from feedgen.store.decision_log import DecisionLog

MEAN_MS, SAMPLED_MS = 10.0, 25.0
"""Budgets of one item before 100 000 devices, features included."""
LEARNED = 500_000
"""Events a second that the model has to learn, in batches of 1 000."""
IMPORT_S = 0.3
"""Of the ranking's import beyond numpy's own, seconds."""
BATCH = 1000

_IMPORT = """
import numpy, time
begun = time.process_time()
import feedgen, feedgen.engine, feedgen.evaluate, feedgen.ranking.ranking
print(time.process_time() - begun)
"""


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
        line(report, f"item before the fleet, {how}", "ms", scored, 1e3)
        report.verdicts.append(
            Verdict(f"item before the fleet, {how}, ms", scored.median * 1e3, budget)
        )
        through_the_engine(report, world, how, rounds)
    connecting(report, world, rounds)
    heard, turned = world.hearing / world.events, world.turning / world.outcomes
    line(report, "event heard", "µs", Series([heard]), 1e6)
    line(report, "outcome predicted, learned and judged in a turn", "µs", Series([turned]), 1e6)


def through_the_engine(report: Report, world: World, how: str, rounds: int) -> None:
    """The same item through the engine, where few devices take it, and where nearly all do."""
    for _ in range(16):
        world.publish()

    def newer() -> float:
        world.now += 3600
        return world.publish()

    # Four hours older than what is held: within reach of a liking, and mostly below it.
    refused = measured(rounds, lambda: world.publish(4 * 3600.0))
    line(report, f"the same through the engine, refused, {how}", "ms", refused, 1e3)
    line(
        report, f"the same through the engine, admitted, {how}", "ms", measured(rounds, newer), 1e3
    )


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


def learning(report: Report, warm: int, rounds: int) -> None:
    """Events learned: by the model itself from a log, and by three heads from what serving sees."""
    random = np.random.default_rng(5)
    bits = ModelSettings().bits
    model = LogisticModel(ModelSettings())
    batches = [log_like(random, START + 60.0 * at) for at in range(warm // BATCH)]
    encoded = [encode(batch, bits) for batch in batches]
    labels = (random.random(BATCH) < 0.3).astype(np.float64)

    def learn() -> float:
        begun = process_time()
        for each in encoded:
            model.learn(each, labels, now=START)
        return (process_time() - begun) / warm

    def encoding() -> float:
        begun = process_time()
        for each in batches:
            encode(each, bits)
        return (process_time() - begun) / warm

    progress("events learned")
    learned = measured(rounds, learn)
    line(report, "event learned, encoded, batches of 1 000", "µs", learned, 1e6)
    line(report, "event encoded", "µs", measured(rounds, encoding), 1e6)
    report.verdicts.append(
        Verdict("events learned a second", 1 / learned.median, LEARNED, at_least=True)
    )
    learners = Learners(RankingSettings())
    shown = [impressions(random, START + 60.0 * at) for at in range(warm // BATCH // 10)]
    ones = np.ones(BATCH)
    outcomes = [labels, (random.random(BATCH) < 0.03).astype(np.float64), labels]

    def heads() -> float:
        begun = process_time()
        for each in shown:
            learners.learn(each, outcomes, [ones] * len(outcomes), START)
        return (process_time() - begun) / (len(shown) * BATCH)

    def taking_over() -> float:
        begun = process_time()
        Served.of(learners, RankingSettings())
        return process_time() - begun

    line(report, "outcome encoded and learned by three heads", "µs", measured(rounds, heads), 1e6)
    line(report, "taking over what was learned", "ms", measured(rounds, taking_over), 1e3)


def log_like(random: np.random.Generator, at: float) -> Impressions:
    """Return a batch of a log: device, item, one field, hour, weekday and part of the day."""
    hours = int(at // 3600) + random.integers(2, size=BATCH)
    return Impressions(
        (column("device", random.zipf(1.3, BATCH) % 5000),),
        (column("item", random.zipf(1.2, BATCH) % 5000),),
        item_fields=(column("item.duration", random.integers(4, 16, BATCH)),),
        context=(
            column("context.hour", hours % 24),
            column("context.part", hours % 24 // 6),
            column("context.weekday", hours // 24 % 7),
        ),
    )


def impressions(random: np.random.Generator, at: float) -> Impressions:
    """Return a batch as a server has it."""
    known = [item_tokens(record(at, channel)) for channel in range(CHANNELS)]
    of_item, item_fields = item_columns(
        np.array([each.item for each in known], np.uint64).repeat(BATCH // CHANNELS),
        np.array([each.fields for each in known], np.uint64).repeat(BATCH // CHANNELS, axis=0),
    )
    device = random.integers(5000, size=BATCH)
    fields = (("class", CLASSES), ("model", MODELS), ("region", REGIONS))
    zone = (1 + device % len(ZONES)).astype(np.uint16)
    rank = random.integers(8, size=BATCH).astype(np.int8)
    return Impressions(
        (column("device", device),),
        of_item,
        tuple(column(f"device.{name}", device % values) for name, values in fields),
        item_fields,
        moment_columns(ZONES, zone, at + 10 * np.arange(BATCH), rank),
    )


def column(name: str, values: NDArray[np.int64]) -> Column:
    """Return values as a dense column of tokens."""
    distinct, codes = np.unique(values, return_inverse=True)
    return Column(name, np.array([token(name, str(v)) for v in distinct], np.uint64)[codes])


def windows(report: Report, rows: int, rounds: int) -> None:
    """Variety within windows, and balance between publishers."""
    random = np.random.default_rng(6)
    keys = -np.sort(-random.integers(0, 1 << 22, (rows, 16)), axis=1).astype(np.int32)
    kinds = [1 + random.integers(0, many, keys.shape).astype(np.int32) for many in (20, 10, 5, 7)]
    tau = RankingSettings().value.tau * 100

    def vary() -> float:
        begun = process_time()
        diversify(keys, kinds, DEFAULTS, tau)
        return (process_time() - begun) / rows

    balance, groups = Balance(BalanceSettings()), np.arange(1, 1001)

    def step() -> float:
        begun = process_time()
        balance.offered(groups, random.random(len(groups)))
        balance.exposed(groups.repeat(10))
        balance.step(0.0)
        return process_time() - begun

    line(report, "window of 16 varied", "µs", measured(rounds, vary), 1e6)
    line(
        report, "balance of 1 000 publishers, 10 000 impressions", "ms", measured(rounds, step), 1e3
    )


def decision_log(report: Report, rows: int, rounds: int) -> None:
    """Admissions written, in chunks as large as the engine's."""
    random = np.random.default_rng(7)
    chunk = Admissions(
        t=float(START),
        n=1,
        model=1,
        rung=0,
        how=0,
        device=random.integers(0, 1 << 63, rows).astype(np.uint64),
        mean=random.normal(0, 1e5, rows).astype(np.float32),
        sd=random.random(rows).astype(np.float32),
        propensity=random.random(rows).astype(np.float32),
        key=random.integers(0, 1 << 30, rows).astype(np.int32),
        bar=random.integers(0, 1 << 30, rows).astype(np.int32),
    )
    with TemporaryDirectory() as directory, DecisionLog(directory) as log:

        def append() -> float:
            begun = process_time()
            log.append([chunk])
            return (process_time() - begun) / rows

        line(report, "admission written to the decision log", "µs", measured(rounds, append), 1e6)
        size = log.counts["bytes"] / log.counts["rows"]
    report.notes.append(f"an admission takes {size:.1f} bytes of the decision log")


def importing(report: Report, rounds: int) -> None:
    """What importing costs, each time in a new process; the least, as reading from disk is noise."""
    spent = Series()
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True
        )
        spent.add(float(done.stdout))
    line(report, "import beyond numpy's own", "ms", spent, 1e3)
    report.verdicts.append(Verdict("import, s", min(spent.values), IMPORT_S))


def main() -> None:
    """Measure and print."""
    prepare()
    options = parser("What the learned ranking costs").parse_args()
    devices = 2000 if options.quick else 100_000
    rounds = options.rounds or (3 if options.quick else 9)
    report = Report("ranking", {"devices": devices, "rounds": rounds})
    fleets(report, devices, 4000 if options.quick else 40_000, rounds)
    learning(report, 20_000 if options.quick else 100_000, rounds)
    windows(report, devices // 10, rounds)
    decision_log(report, devices // 10, rounds)
    importing(report, rounds)
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
