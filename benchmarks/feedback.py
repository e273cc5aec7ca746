"""Feedback decoded, counted and learned: events per second of one core.

`python benchmarks/feedback.py [--json] [--quick] [--rounds 5]`

A thousand devices hold eight items each and report, for every item, that it was shown and opened: two
messages of eight events. Each counts once, so every round is a new set of items.
"""

from __future__ import annotations

import time
from argparse import Namespace

import numpy as np
from harness import Report, Series, Verdict, parser, prepare, progress

from devices import slots
from devices.frames import Event, Feedback, Kind, decode_up, encode_up, item_bytes
from devices.ledger import Ledger
from feedgen.engine import Engine
from feedgen.items import Item, Record, digest

K = 8
BUDGET = 50_000
_NOW = 1_800_000_000


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
    item = Item("bench/all", str(n), "x" * 20)
    return Record(n, 0, item, 1000 * _NOW + n, _NOW + 86_400, digest(item))


def main() -> None:
    """Run and print."""
    prepare()
    options: Namespace = parser("Feedback decoded, counted and learned").parse_args()
    devices = 100 if options.quick else 1000
    rounds = options.rounds or (2 if options.quick else 5)
    engine = Engine(landmark=_NOW)
    ledger = Ledger(K, capacity=devices)
    for row in range(devices):
        ledger.open(row)
        ledger.fit(row, k=K, frame_max=4000, payload_max=200, clock=False)
        ledger.begin_epoch(row, 1)
        ledger.attach(row, 0)
    rows = np.arange(devices, dtype=np.int32)
    spent = Series()
    for at in range(rounds):
        progress(f"round {at + 1} of {rounds}")
        numbers = list(range(1 + at * K, 1 + (at + 1) * K))
        tags = [slots.pack(n, 0, 1) for n in numbers]
        engine.publish([record(n) for n in numbers], tags)
        ledger.push(rows, np.tile(np.array(tags, np.int64), (devices, 1)), Forms(), 0.0)
        messages = [
            encode_up(Feedback(tuple(Event(n, kind) for n in numbers)))
            for kind in (Kind.SHOWN, Kind.OPENED)
        ]
        began = time.process_time()
        for row in range(devices):
            for message in messages:
                feedback = decode_up(message)
                assert isinstance(feedback, Feedback)
                for event in feedback.events:
                    assert ledger.count_feedback(row, event.n, event.kind)
                    if event.kind is Kind.SHOWN:
                        engine.feedback(event.n, shown=1)
                    else:
                        engine.feedback(event.n, opened=1)
        spent.add((time.process_time() - began) / (devices * 2 * K))
    report = Report("feedback", {"devices": devices, "rounds": rounds})
    report.row(
        events=rounds * devices * 2 * K,
        **{f"µs_{name}": value for name, value in spent.spread(1e6).items()},
    )
    rate = 1 / spent.median
    report.verdicts.append(Verdict("events a second", rate, BUDGET, at_least=True))
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
