"""What the engine costs: nanoseconds per candidate, per admission and per push; longest step; memory.

`python benchmarks/engine.py` prints a table, `--json` one JSON object. All times are CPU time, that
of a step too: on a busy machine the wall time of the longest of many steps is that of a neighbour.
"""

from __future__ import annotations

import argparse
import json
import resource
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from statistics import median
from time import process_time
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from feedgen.engine import Engine
from feedgen.items import Item, Record
from feedgen.ranking.diversity import DEFAULTS
from feedgen.ranking.scoring import Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from feedgen.attributes import Value
    from feedgen.windows import Rows

LANDMARK = 1_700_000_000
NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; `budget` is None where none is set."""

    name: str
    value: float
    unit: str
    budget: float | None = None


class Opinions:
    """A ranking that costs nearly nothing: what is measured with it is the engine's part."""

    bound = 10_000
    version = rung = 0

    def __init__(self, *, sd: float = 0.0) -> None:
        random = np.random.default_rng(3)
        self.means = random.uniform(-1000, 1000, 1 << 16).astype(np.float32)
        self.uniform = random.uniform(1e-6, 1 - 1e-6, 1 << 16).astype(np.float32)
        self.sd = np.full(1 << 16, sd, np.float32) if sd else None

    def seat(self, shelf: int, row: int, device: str, attrs: Mapping[str, Value]) -> None:
        """Not of interest."""

    def change(self, shelf: int, row: int, attrs: Mapping[str, Value]) -> None:
        """Not of interest."""

    def unseat(self, shelf: int, row: int) -> None:
        """Not of interest."""

    def prepare(self, records: Sequence[Record]) -> None:
        """Not of interest."""

    def plain(self, _shelf: int, _rows: Rows) -> None:
        """Return that no row is held out."""

    def term(self, _record: Record) -> int:
        """Return that no item is better than others."""
        return 0

    def scores(self, record: Record, _term: int, _shelf: int, rows: Rows, _now: float) -> Scores:
        """Return numbers that depend on row and item."""
        return self._at((rows + 977 * record.n) & 0xFFFF)

    def table(
        self,
        records: Sequence[Record],
        _terms: Sequence[int],
        _shelf: int,
        rows: Rows,
        _now: float,
    ) -> Scores:
        """Return the same numbers, of several items."""
        ns = np.array([record.n for record in records])
        return self._at((rows[:, None] + 977 * ns) & 0xFFFF)

    def _at(self, places: NDArray[np.int64]) -> Scores:
        if self.sd is None:
            return Scores(self.means[places])
        return Scores(self.means[places], self.sd[places], self.uniform[places])

    def tokens(self, _shelf: int, rows: Rows) -> NDArray[np.uint64]:
        """Return the rows themselves."""
        return rows.astype(np.uint64)

    def groups(self, record: Record) -> Sequence[int]:
        """Return a channel, one of five publishers and one of three tags."""
        return 1, 1 + record.n % 5, 1 + record.n % 3


def records(channel: str, seconds: Sequence[float]) -> list[Record]:
    """Return new items on a channel, published so many seconds after the landmark."""
    made = []
    for when in seconds:
        n = next(NUMBERS)
        ms = int((LANDMARK + when) * 1000)
        made.append(Record(n, 0, Item(channel, f"i{n}", "x" * 100), ms, LANDMARK + 10**6, b""))
    return made


def publish(engine: Engine, items: list[Record]) -> None:
    """Hand over items; the engine has not worked on them yet."""
    engine.publish(items, [item.n for item in items])


def work(engine: Engine) -> tuple[float, float, int]:
    """Run dry; return CPU seconds, those of the longest step, and the rows changed."""
    longest, rows = 0.0, 0
    begun = process_time()
    while engine.busy:
        start = process_time()
        for change in engine.step(LANDMARK):
            rows += len(change.rows)
        longest = max(longest, process_time() - start)
    return process_time() - begun, longest, rows


def fleet(rows: int, follow: Callable[[int], Sequence[str]], k: int = 8) -> Engine:
    """Return an engine with that many devices and no items."""
    engine = Engine(landmark=LANDMARK)
    for row in range(rows):
        engine.seat(follow=follow(row), attrs={}, k=k, capacity=200)
    work(engine)
    return engine


def crowded(rows: int, k: int = 8) -> Engine:
    """Return a fleet that follows one channel, with full windows."""
    engine = fleet(rows, lambda _: ("a/b",), k)
    publish(engine, records("a/b", [float(i) for i in range(2 * k)]))
    work(engine)
    return engine


def candidates(rows: int, repeats: int) -> list[Figure]:
    """Score and admission test, and what an admission costs more, with full windows."""
    figures = []
    for k in (8, 64):
        engine = crowded(rows, k)
        refused, admitted = [], []
        for turn in range(repeats):
            publish(engine, records("a/b", [-1000.0]))
            refused.append(work(engine)[0] / rows * 1e9)
            publish(engine, records("a/b", [1000.0 + turn]))
            admitted.append(work(engine)[0] / rows * 1e9)
        more = median(admitted) - median(refused)
        figures += [
            Figure(f"candidate refused, k={k}", median(refused), "ns", 150),
            Figure(f"admission, more than that, k={k}", more, "ns", 400 if k == 8 else None),
        ]
    return figures


def personal(rows: int, repeats: int) -> list[Figure]:
    """The same with a ranking, by the mean and sampled, and with every decision recorded."""
    figures = []
    for name, opinions, recorded in (
        ("by the mean", Opinions(), False),
        ("sampled", Opinions(sd=300.0), False),
        ("sampled and recorded", Opinions(sd=300.0), True),
    ):
        engine = Engine(landmark=LANDMARK, scoring=opinions, record_decisions=recorded)
        for _ in range(rows):
            engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
        publish(engine, records("a/b", [0.0] * 16))
        work(engine)
        out_of_reach, refused, admitted = [], [], []
        # One of the 16 stays the last, within 20 seconds of 0.
        for turn in range(min(repeats, 15)):
            for when, times in (
                (-1000.0, out_of_reach),
                (-40.0, refused),
                (100.0 + 40 * turn, admitted),
            ):
                publish(engine, records("a/b", [when]))
                begun = process_time()
                work(engine)
                engine.take_decisions()
                times.append((process_time() - begun) / rows * 1e9)
        more = median(admitted) - median(refused)
        if not recorded:
            figures.append(
                Figure(f"candidate out of reach, {name}", median(out_of_reach), "ns", 150)
            )
            budget = 300 if opinions.sd is not None else 150
            figures.append(Figure(f"candidate refused, {name}", median(refused), "ns", budget))
        figures.append(Figure(f"admission, more than that, {name}", more, "ns", 400))
    return figures


def personal_windows(rows: int, repeats: int) -> list[Figure]:
    """Windows ranked one by one: of devices that connect, of all rows, and their variety."""
    random = Random(2)
    channels = [f"c/{index}" for index in range(200)]
    engine = Engine(landmark=LANDMARK, scoring=Opinions(sd=300.0), repeats=DEFAULTS)
    for channel in channels:
        publish(engine, records(channel, [random.random() * 1000 for _ in range(60)]))
    work(engine)
    times = []
    for _ in range(repeats):
        begun = process_time()
        for _ in range(100):
            engine.seat(follow=random.sample(channels, 5), attrs={}, k=8, capacity=200)
        work(engine)
        times.append((process_time() - begun) / 100 * 1e6)
    engine = Engine(landmark=LANDMARK, scoring=Opinions(sd=300.0), repeats=DEFAULTS)
    publish(engine, records("a", [random.random() * 1000 for _ in range(300)]))
    for _ in range(rows):
        engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    work(engine)
    engine.refresh_all()
    refreshed, longest, _ = work(engine)
    shown = []
    some = np.arange(10_000, dtype=np.int32)
    for _ in range(repeats):
        begun = process_time()
        engine.slots(0, some)
        shown.append((process_time() - begun) / len(some) * 1e6)
    return [
        Figure("device connects, ranks 128 items by itself", median(times), "µs", 300),
        Figure("row refreshed among others, 128 items", refreshed / rows * 1e6, "µs"),
        Figure("longest step of refreshing", longest * 1e3, "ms", 20),
        Figure("what a row shows, varied", median(shown), "µs"),
    ]


def conditions(rows: int, repeats: int) -> list[Figure]:
    """What is asked besides the key: attributes, size, a collapse key; and taking out again."""
    engine = Engine(landmark=LANDMARK)
    for row in range(rows):
        attrs = {"region": f"r{row % 50}", "model": f"m{row % 7}"}
        engine.seat(follow=("a/b", "#"), attrs=attrs, k=8, capacity=100 + row % 200)
    publish(engine, records("a/b", [float(i) for i in range(40)]))
    work(engine)
    where = (("model", ("m1", "m2", "m3")), ("region", tuple(f"r{i}" for i in range(0, 50, 2))))
    wide: list[float] = []
    collapse: list[float] = []
    gone: list[float] = []
    for turn in range(repeats):
        for changes, times in (({"where": where}, wide), ({"collapse": "key"}, collapse)):
            (record,) = records("a/b", [1000.0 + turn])
            publish(engine, [replace(record, item=replace(record.item, **changes))])
            times.append(work(engine)[0] / rows * 1e9)
            publish(engine, [replace(record, retracted=True)])
            gone.append(work(engine)[0] / rows * 1e9)
    return [
        Figure("candidate with where, 21% admitted", median(wide), "ns"),
        Figure("candidate with a collapse key, admitted", median(collapse), "ns"),
        Figure("row that an item is taken out of", median(gone), "ns"),
    ]


def small_jobs(repeats: int) -> list[Figure]:
    """Items that 100 of 10 000 devices follow, alone and several at a time."""
    engine = fleet(10_000, lambda row: (f"c/{row % 100}",))
    for channel in range(100):
        publish(engine, records(f"c/{channel}", [float(i) for i in range(16)]))
    work(engine)
    figures = []
    for together in (1, 5, 20, 100):
        times = []
        for turn in range(repeats):
            begun = process_time()
            for index in range(together):
                publish(engine, records(f"c/{index}", [100.0 + turn]))
            work(engine)
            times.append((process_time() - begun) / together * 1e6)
        budget = 100 if together == 1 else None
        name = f"item for 100 rows, {together} at a time"
        figures.append(Figure(name, median(times), "µs", budget))
    return figures


def merges(repeats: int) -> list[Figure]:
    """500 items at once, each for 10 of 10 000 devices, and 100 for the same 100 devices."""
    random = Random(1)
    follows = [tuple(f"c/{random.randrange(1000)}" for _ in range(1)) for _ in range(10_000)]
    engine = fleet(10_000, follows.__getitem__)
    spread, stacked = [], []
    for turn in range(repeats):
        begun = process_time()
        for index in range(500):
            publish(engine, records(f"c/{index}", [100.0 + turn]))
        _, _, rows = work(engine)
        spread.append((process_time() - begun) / rows * 1e9)
    engine = fleet(100, lambda _: ("a",))
    for turn in range(repeats):
        begun = process_time()
        publish(engine, records("a", [100.0 + turn + i / 100 for i in range(100)]))
        work(engine)
        stacked.append((process_time() - begun) / 10_000 * 1e9)
    return [
        Figure("500 items x 10 rows, per row", median(spread), "ns"),
        Figure("100 items x the same 100 rows, per pair", median(stacked), "ns"),
    ]


def million(rows: int) -> list[Figure]:
    """One item, followed by everybody; and everybody's window built by pull."""
    engine = Engine(landmark=LANDMARK)
    begun = process_time()
    for _ in range(rows):
        engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    seating = process_time() - begun
    publish(engine, records("a/b", [float(i) for i in range(100)]))
    building, longest_build, _ = work(engine)
    publish(engine, records("a/b", [1000.0]))
    seconds, longest, _ = work(engine)
    publish(engine, records("a/b", [-1000.0]))
    refused, _, _ = work(engine)
    many = f"{rows:,} rows"
    return [
        Figure(f"seat, {many}, per row", seating / rows * 1e6, "µs"),
        Figure(f"build, {many}, per row", building / rows * 1e6, "µs"),
        Figure(f"longest step of building, {many}", longest_build * 1e3, "ms", 20),
        Figure(f"one item into {many}", seconds, "s", 1),
        Figure("longest step of it", longest * 1e3, "ms", 20),
        Figure(f"one item refused by {many}", refused, "s"),
        Figure("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MB", 2048),
    ]


def rebuilds(repeats: int) -> list[Figure]:
    """Devices that connect, each with a follow set of its own."""
    random = Random(2)
    channels = [f"c/{index}" for index in range(200)]
    engine = Engine(landmark=LANDMARK)
    for channel in channels:
        publish(engine, records(channel, [random.random() * 1000 for _ in range(10)]))
    work(engine)
    times = []
    for _ in range(repeats):
        begun = process_time()
        for _ in range(500):
            engine.seat(follow=random.sample(channels, 5), attrs={}, k=8, capacity=200)
        work(engine)
        times.append((process_time() - begun) / 500 * 1e6)
    return [Figure("device connects with 5 filters of its own", median(times), "µs")]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rows", type=int, default=100_000, help="candidates of one item")
    parser.add_argument("--fleet", type=int, default=1_000_000, help="rows of the largest fleet")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    figures = [
        *million(arguments.fleet),
        *candidates(arguments.rows, arguments.repeats),
        *personal(arguments.rows, arguments.repeats),
        *personal_windows(arguments.rows // 10, arguments.repeats),
        *conditions(arguments.rows, arguments.repeats),
        *small_jobs(20 * arguments.repeats),
        *merges(arguments.repeats),
        *rebuilds(arguments.repeats),
    ]
    if arguments.json:
        print(json.dumps({f"{figure.name} [{figure.unit}]": figure.value for figure in figures}))
        return
    table = Table("what", "measured", "budget")
    for figure in figures:
        budget = "" if figure.budget is None else f"{figure.budget:g} {figure.unit}"
        table.add_row(figure.name, f"{figure.value:,.3g} {figure.unit}", budget)
    Console().print(table)


if __name__ == "__main__":
    main()
