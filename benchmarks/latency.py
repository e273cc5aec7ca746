"""Publish → frame on the wire, when every item has a small audience of its own.

`python benchmarks/latency.py [--json] [--quick] [--devices 10000] [--audience 100] [--rate 100]`

All devices are connected, with ids of 4-40 bytes and windows of mixed length. *Broadcast*: an item
that all follow, the next one when all have it. *Paced*: 100 items a second, each on a channel that
a random 100 follow, sent by the clock whether or not the last have arrived. Both kinds of rounds
alternate. Latency is taken in the load's own process, from the write of the item to the read of the
frame, so it holds the store's commit and the load's own queue: it can only be too high.
"""

from __future__ import annotations

import asyncio
import random
import string
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import msgpack
import servers
from fleet import Fleet
from harness import Report, Series, Verdict, Worker, cores, idle_share, parser, prepare, progress
from wire import publish_packet

#: Bytes of an item's payload.
PAYLOAD = 100
#: Lengths of windows in the fleet; most devices are small.
LENGTHS = (2, 4, 5, 8, 8, 8, 12, 16, 20, 32, 64)
#: Characters of a device id (PROTOCOL.md, Topics).
ID_LETTERS = string.ascii_letters + string.digits + "_.:-"
#: Channels that one device follows besides the broadcast: its share of all audiences.
FOLLOWED = 10
#: Highest p99 in milliseconds, and CPU per paced push over a broadcast one (DESIGN.md, Budgets).
LATENCY_BUDGET, CPU_BUDGET = 20.0, 2.0


def mixed_idents(count: int, rng: random.Random) -> list[str]:
    """Draw distinct device ids of 4-40 characters."""
    found: set[str] = set()
    while len(found) < count:
        found.add("".join(rng.choices(ID_LETTERS, k=rng.randint(4, 40))))
    return sorted(found)


def audiences(devices: int, audience: int, rng: random.Random) -> list[list[int]]:
    """Draw who follows each channel: pieces of shuffled fleets, so all follow as many channels."""
    drawn: list[list[int]] = []
    for _ in range(FOLLOWED):
        order = rng.sample(range(devices), devices)
        drawn += [order[at : at + audience] for at in range(0, devices - audience + 1, audience)]
    return drawn


def greetings(
    devices: int, drawn: Sequence[Sequence[int]], rng: random.Random
) -> list[list[bytes]]:
    """Make what each device says before SUBSCRIBE: what it follows, and a hello with its k."""
    follow: list[list[str]] = [["bench/all"] for _ in range(devices)]
    for channel, members in enumerate(drawn):
        for device in members:
            follow[device].append(f"bench/g{channel}")
    return [
        [
            msgpack.packb([3, {"follow": filters, "unfollow": ["#"]}]),
            msgpack.packb([0, 0, 0, {1: rng.choice(LENGTHS)}]),
        ]
        for filters in follow
    ]


@dataclass(frozen=True, slots=True)
class Paced:
    """One paced round: items that reached a device, and their ages in seconds, ascending."""

    expected: int
    ages: list[float]

    def at(self, share: float) -> float:
        """Return a quantile of the ages in milliseconds."""
        return self.ages[min(int(len(self.ages) * share), len(self.ages) - 1)] * 1e3


class TimedFleet(Fleet):
    """A fleet that takes the age of every item it receives."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._sent: dict[int, float] = {}
        self._ages: list[float] = []

    def sink(self, at: int) -> Callable[[bytes], None]:
        """Return what looks for items in the frames of a device."""
        del at
        return self._look

    def _look(self, frame: bytes) -> None:
        at = frame.find(b"@@")
        while at >= 0:
            self._ages.append(time.perf_counter() - self._sent[int(frame[at + 2 : at + 9])])
            at = frame.find(b"@@", at + 9)

    def item(self, *, size: int, priority: int) -> bytes:
        """Make the next item and note when."""
        self._sent[self._items + 1] = time.perf_counter()
        return super().item(size=size, priority=priority)

    async def paced(self, *, count: int, rate: float, channels: int, audience: int) -> Paced:
        """Publish `count` items by the clock, each to the next channel, and wait for the last."""
        publisher = await self.publisher()
        loop = asyncio.get_running_loop()
        self._ages.clear()
        began = loop.time()
        for at in range(count):
            await asyncio.sleep(began + at / rate - loop.time())
            topic = f"items/bench/g{self._items % channels}"
            body = self.item(size=PAYLOAD, priority=1)
            publisher.write(publish_packet(topic, body, 1, self._items & 0xFFFF or 1))
        await self._last(count * audience)
        return Paced(count * audience, sorted(self._ages))

    async def _last(self, expected: int) -> None:
        # Not a fixed count of frames: two items may share one, and a newer may supersede an older.
        patience = 2.0
        seen, since = -1, time.monotonic()
        while len(self._ages) < expected and time.monotonic() - since < patience:
            if len(self._ages) != seen:
                seen, since = len(self._ages), time.monotonic()
            await asyncio.sleep(0.01)


@dataclass(slots=True)
class Findings:
    """What the rounds found; CPU in seconds per push, latency in milliseconds."""

    broadcast: Series = field(default_factory=Series)
    paced: Series = field(default_factory=Series)
    p50: Series = field(default_factory=Series)
    p99: Series = field(default_factory=Series)
    worst: Series = field(default_factory=Series)
    expected: int = 0
    received: int = 0
    broadcasts: int = 0
    idle: float = 0.0


def measure(options: Namespace) -> Findings:
    """Alternate broadcast and paced rounds on one server."""
    rng = random.Random(options.seed)
    drawn = audiences(options.devices, options.audience, rng)
    found = Findings()
    pace = {"rate": options.rate, "channels": len(drawn), "audience": options.audience}
    with ExitStack() as stack:
        server = stack.enter_context(servers.fleetfeed())
        settings = {
            "port": server.port,
            "idents": mixed_idents(options.devices, rng),
            "qos": 1,
            "ups": greetings(options.devices, drawn, rng),
        }
        fleet = stack.enter_context(Worker(cores()[1], TimedFleet, **settings))
        progress(f"connecting {options.devices} devices")
        fleet.call("connect")
        fleet.call("settle")
        found.idle = idle_share(server.pid)
        progress("filling windows")
        fleet.call("paced", count=len(drawn), **{**pace, "rate": options.rate * 3})
        for at in range(options.rounds):
            progress(f"round {at + 1} of {options.rounds}")
            before = server.cpu()
            arrived = fleet.call(
                "items",
                count=options.items,
                size=PAYLOAD,
                priority=1,
                each=options.devices,
                channel="bench/all",
            )
            between = server.cpu()
            result: Paced = fleet.call("paced", count=int(options.rate * options.seconds), **pace)
            found.broadcast.add((between - before) / arrived.deliveries)
            found.paced.add((server.cpu() - between) / len(result.ages))
            found.p50.add(result.at(0.50))
            found.p99.add(result.at(0.99))
            found.worst.add(result.at(1.0))
            found.expected += result.expected
            found.received += len(result.ages)
            found.broadcasts += arrived.deliveries
    return found


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("Publish to frame on the wire, with small audiences")
    options_parser.add_argument("--devices", type=int)
    options_parser.add_argument(
        "--audience", type=int, default=100, help="devices that follow one item"
    )
    options_parser.add_argument("--rate", type=float, default=100.0, help="items per second")
    options_parser.add_argument("--seconds", type=float, help="length of one paced round")
    options_parser.add_argument("--items", type=int, default=5, help="items of a broadcast round")
    options_parser.add_argument("--seed", type=int, default=1, help="of ids, audiences and k")
    options = options_parser.parse_args()
    options.devices = options.devices or (2000 if options.quick else 10_000)
    options.seconds = options.seconds or (2.0 if options.quick else 8.0)
    options.rounds = options.rounds or (2 if options.quick else 3)
    found = measure(options)
    names = ("devices", "audience", "rate", "seconds", "rounds", "seed")
    report = Report("latency", {name: getattr(options, name) for name in names})
    report.row(
        case="broadcast",
        pushes=found.broadcasts,
        **{f"µs_{name}": value for name, value in found.broadcast.spread(1e6).items()},
    )
    report.row(
        case="paced, a random audience each",
        pushes=found.received,
        **{f"µs_{name}": value for name, value in found.paced.spread(1e6).items()},
        p50_ms=found.p50.median,
        p99_ms=found.p99.median,
        worst_ms=max(found.worst.values),
        superseded=found.expected - found.received,
    )
    report.notes.append(f"fleetfeed idles at {found.idle:.1%} of a core")
    report.verdicts += [
        Verdict("publish to frame on the wire, p99 in ms", found.p99.median, LATENCY_BUDGET),
        Verdict(
            "CPU per push over the broadcast case",
            found.paced.median / found.broadcast.median,
            CPU_BUDGET,
        ),
    ]
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
