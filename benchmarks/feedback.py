"""Feedback decoded, counted, heard by the learned ranking and learned: events per second of one core.

`python benchmarks/feedback.py [--json] [--quick] [--rounds 5]`

A thousand devices hold eight items each and report, for every item, that it was shown and opened: two
messages of eight events. Each counts once, so every round is a new set of items.
"""

from __future__ import annotations

import os

# Before numpy is imported: what is measured is one thread.
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_pool] = "1"

# ruff: noqa: E402 - see above
import time
from argparse import Namespace

import numpy as np
from harness import Report, Series, Verdict, parser, prepare, progress

from devices import slots
from devices.frames import Event, Feedback, Kind, decode_up, encode_up, item_bytes
from devices.ledger import Ledger
from feedgen.engine import SHELVES, Engine, Seat
from feedgen.items import Item, Record, digest
from feedgen.ranking.ranking import Ranking
from feedgen.ranking.settings import RankingSettings

K = 8
BUDGET = 50_000
_NOW = 1_800_000_000
_KINDS = {kind: kind.name.lower() for kind in Kind}


class Form:
    """The content of an item; what it says does not matter here."""

    full_size = 20

    def encoded(self, *, clock: bool, brief: bool) -> bytes:
        """Return the item on the wire."""
        del clock, brief
        return item_bytes(1, 0, 1, "x" * 20)


class Forms(dict[int, Form]):
    """The same content for every slot."""

    def __missing__(self, slot: int) -> Form:
        """Return it."""
        return self.setdefault(slot, Form())


def record(n: int) -> Record:
    """Make an item."""
    item = Item(f"bench/{n % 5}", str(n), "x" * 20, tags=(f"t{n % 3}",))
    return Record(n, 0, item, 1000 * _NOW + n, _NOW + 10**6, digest(item), publisher=f"p{n % 4}")


class Server:
    """What stands between an up message and the ranking: ledger, engine, ranking.

    Args:
        devices: all hold the same items.
    """

    def __init__(self, devices: int) -> None:
        self.settings = RankingSettings()
        self.ranking = Ranking(self.settings, shelves=len(SHELVES))
        self.engine = Engine(landmark=_NOW, scoring=self.ranking)
        self.ledger = Ledger(K, capacity=devices)
        self.seats: list[Seat] = []
        for row in range(devices):
            attrs = {"class": f"c{row % 5}", "tz": "Europe/Berlin"}
            seat = self.engine.seat(
                follow=("#",), attrs=attrs, k=K, capacity=200, device=f"device-{row}"
            )
            self.seats.append(seat)
            self.ledger.open(row)
            self.ledger.fit(row, k=K, frame_max=4000, payload_max=200, clock=False)
            self.ledger.begin_epoch(row, 1)
            self.ledger.attach(row, 0)
        self.now = float(_NOW)

    def publish(self, numbers: list[int]) -> None:
        """Let every device hold some items."""
        tags = [slots.pack(n, 0, 1) for n in numbers]
        self.engine.publish([record(n) for n in numbers], tags)
        while self.engine.busy:
            self.engine.step(self.now)
        rows = np.arange(len(self.seats), dtype=np.int32)
        held = np.tile(np.array(tags, np.int64), (len(rows), 1))
        self.ledger.push(rows, held, Forms(), 0.0)

    def take_in(self, messages: list[bytes]) -> float:
        """Every device sends some messages; returns CPU seconds."""
        began = time.process_time()
        for row, seat in enumerate(self.seats):
            for message in messages:
                feedback = decode_up(message)
                assert isinstance(feedback, Feedback)
                for event in feedback.events:
                    assert self.ledger.count_feedback(row, event.n, event.kind, event.value or 0)
                    item = self.engine.item(event.n)
                    self.ranking.heard(
                        _KINDS[event.kind],
                        item,
                        event.n,
                        event.value or 0,
                        self.now,
                        self.now,
                        seat.shelf,
                        seat.row,
                    )
        return time.process_time() - began

    def learn(self) -> tuple[float, int]:
        """Let windows end and learn all outcomes; returns CPU seconds and outcomes."""
        outcomes = 0
        began = time.process_time()
        self.ranking.turn(self.now)
        self.now += 2 * self.settings.labels.window
        while turn := self.ranking.turn(self.now).learned:
            outcomes += turn
        return time.process_time() - began, outcomes


def main() -> None:
    """Run and print."""
    prepare()
    options: Namespace = parser("Feedback decoded, counted, heard and learned").parse_args()
    devices = 100 if options.quick else 1000
    rounds = options.rounds or (2 if options.quick else 5)
    server = Server(devices)
    events = devices * 2 * K
    taken, learned = Series(), Series()
    for at in range(rounds):
        progress(f"round {at + 1} of {rounds}")
        numbers = list(range(1 + at * K, 1 + (at + 1) * K))
        server.publish(numbers)
        messages = [
            encode_up(Feedback(tuple(Event(n, kind, rank) for rank, n in enumerate(numbers))))
            for kind in (Kind.SHOWN, Kind.OPENED)
        ]
        hearing = server.take_in(messages)
        learning, outcomes = server.learn()
        assert outcomes == devices * K
        taken.add(hearing / events)
        learned.add((hearing + learning) / events)
    report = Report("feedback", {"devices": devices, "rounds": rounds})
    for what, series in (("decoded, counted and heard", taken), ("and learned", learned)):
        cells = {f"µs_{name}": value for name, value in series.spread(1e6).items()}
        report.row(events=what, **cells)
        report.verdicts.append(
            Verdict(f"events a second, {what}", 1 / series.median, BUDGET, at_least=True)
        )
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
