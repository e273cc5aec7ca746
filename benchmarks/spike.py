"""Ten times what the server can take, and then all devices at once.

`python benchmarks/spike.py [--json] [--quick] [--devices 2000] [--seconds 60] [--times 10]`

First the *sustainable* rate is found: the highest of a ladder at which publishes are acknowledged as they
come, urgent items arrive in time and the server stays at level 0, also for half as long as the spike will
last. Then four phases:

- *normal*: items and feedback at the sustainable rate;
- *spike*: ten times as many of both;
- *recovery*: the sustainable rate again; how long until the level is 0, and what is held then;
- *storm*: all devices lose their connections and come back at the same moment, but for a few witnesses.

Urgent items go out all the time, 20 a second, by a publisher of their own. Their latency is taken in the
load's own process, from the write of the item to the read of the frame; how late the timers of that process
fire stands beside it (`own_lag`) and is contained in it: the load shares its core with whoever else is there.
What publishers cannot write because the server does not read them they do not count as sent; `offered` is
what they wanted to send. Lost is what was acknowledged and is not among the server's live items.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import servers
from fleet import Client, Fleet
from harness import Report, Verdict, Worker, cores, parser, prepare, progress, resident_bytes
from latency import audiences
from wire import publish_packet

from broker.control import SOCKET_NAME, ControlClient, ControlError

#: Bytes of an item's payload; devices that follow one item; publishers.
PAYLOAD, AUDIENCE, PUBLISHERS = 100, 10, 8
#: Urgent items a second, and the seconds that they live: windows must not fill up with them.
URGENT_RATE, URGENT_TTL = 20.0, 2
#: What urgent payloads begin with: long enough to be nothing else of a frame.
URGENT = b"!urgent!"
#: Of items that are not urgent: share of low, normal and high ones.
PRIORITIES = (0, 0, 0, 1, 1, 1, 1, 1, 2, 2)
#: Share of frames that a device answers with feedback, at the sustainable rate; ten times that is each.
FEEDBACK = 0.1
#: Devices that stay when all others are lost.
WITNESSES = 10
#: Seconds between two writes of the publishers; what a publisher may have on its way, in items that are not
#: acknowledged (clients allow from 10 to some thousands) and in bytes that the server does not read.
STEP, WINDOW, FULL = 0.01, 1_000, 65_536
#: Rates of the ladder, a second, and seconds at each.
RATES = tuple(round(100 * 2 ** (n / 2)) for n in range(18))
RUNG_SECONDS = 3.0
#: Highest p99 of urgent items at a sustainable rate, in ms.
IN_TIME = 100.0
#: DESIGN.md and the brief of the spike: times the normal p99, KiB an item (all live a day), items, seconds.
RATIO, GROWTH, LOST, RECOVERED = 5.0, 3.0, 0, 15.0


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase brought.

    Attributes:
        offered: items that were to be sent.
        sent: items that were.
        acknowledged: of these.
        expected: frames with urgent items.
        ages: of the urgent items that arrived, in seconds, ascending.
        lag: p99 of the load's own timers, in seconds.
    """

    offered: int
    sent: int
    acknowledged: int
    expected: int
    ages: list[float]
    lag: float

    def at(self, share: float) -> float:
        """Return a quantile of the ages in milliseconds."""
        if not self.ages:
            return float("inf")
        return self.ages[min(int(len(self.ages) * share), len(self.ages) - 1)] * 1e3


class Publisher(Client):
    """A publisher that stops writing while the server does not read it."""

    __slots__ = ("acks", "sent")

    def __init__(self, tally: Any) -> None:
        super().__init__(tally)
        self.acks = self.sent = 0

    def acknowledged(self) -> None:
        """Take one PUBACK."""
        self.acks += 1

    @property
    def full(self) -> bool:
        """Whether as much is on its way as a client may have: acknowledgements or bytes are due."""
        return self.sent - self.acks >= WINDOW or self._transport.get_write_buffer_size() > FULL

    def item(self, channel: str, body: bytes) -> None:
        """Publish an item at QoS 1."""
        self.sent += 1
        self.write(publish_packet(f"items/{channel}", body, 1, self.sent % 65_535 + 1))


class SpikeFleet(Fleet):
    """Devices that give feedback, publishers, and a clock for urgent items."""

    def __init__(self, *, witnesses: int, groups: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._witnesses, self._groups = witnesses, groups
        self._publishers: list[Publisher] = []
        self._urgent: Publisher
        self._sent_at: dict[int, float] = {}
        self._ages: list[float] = []
        self._met: set[tuple[int, int]] = set()
        self._share = 0.0
        self._counted_from = 0  # of the devices, those whose urgent items are timed
        self._rng = random.Random(7)

    def sink(self, at: int) -> Callable[[bytes], None]:
        """Return what looks for urgent items in the frames of a device, and answers some of them."""
        return lambda frame: self._look(at, frame)

    def _look(self, at: int, frame: bytes) -> None:
        place = frame.find(URGENT) if at >= self._counted_from else -1
        while place >= 0:
            item = int(frame[place + 8 : place + 15])
            # An item may leave a window and come back to it, which says nothing of how late it was.
            if (at, item) not in self._met:
                self._met.add((at, item))
                self._ages.append(time.perf_counter() - self._sent_at[item])
            place = frame.find(URGENT, place + 15)
        if self._rng.random() < self._share and at < len(self.devices):
            put = next(
                (op[1] for op in _ops(frame) if isinstance(op, list) and isinstance(op[1], list)),
                None,
            )
            if put is not None:
                said = msgpack.packb([2, [[put[0], self._rng.choice((0, 0, 0, 1)), 0, 0]]])
                self.devices[at].write(publish_packet(f"u/{self._idents[at]}", said, 0))

    async def open_publishers(self) -> None:
        """Connect those who publish."""
        self._publishers = [
            await self._open(f"publisher-{at}", Publisher(self.tally)) for at in range(PUBLISHERS)
        ]
        self._urgent = await self._open("publisher-urgent", Publisher(self.tally))

    async def phase(
        self, *, rate: float, seconds: float, feedback: float, channel: str = ""
    ) -> Phase:
        """Publish at this rate for so long; urgent items go to `channel`, or to one group after another."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        sent, acks = self._totals()
        self._share = feedback
        self._counted_from = len(self._idents) - self._witnesses if channel else 0
        self._ages.clear()
        offered = urgent = 0
        lags: list[float] = []
        while (spent := loop.time() - began) < seconds:
            while offered < spent * rate:
                publisher = self._publishers[offered % PUBLISHERS]
                offered += 1
                if not publisher.full:
                    publisher.item(
                        self._group(), self._body(self._rng.choice(PRIORITIES), "@@", 86_400)
                    )
            if urgent < spent * URGENT_RATE:
                urgent += 1
                body = self._body(3, URGENT.decode(), URGENT_TTL)
                self._sent_at[self._items] = time.perf_counter()
                self._urgent.item(channel or self._group(), body)
            due = time.perf_counter() + STEP
            await asyncio.sleep(STEP)
            lags.append(time.perf_counter() - due)
        after_sent, after_acks = self._totals()
        lags.sort()
        each = self._witnesses if channel else AUDIENCE
        ages = sorted(self._ages)
        return Phase(
            offered,
            after_sent - sent,
            after_acks - acks,
            urgent * each,
            ages,
            lags[int(len(lags) * 0.99)],
        )

    def _totals(self) -> tuple[int, int]:
        return sum(p.sent for p in self._publishers), sum(p.acks for p in self._publishers)

    def _group(self) -> str:
        return f"bench/g{self._items % self._groups}"

    def _body(self, priority: int, mark: str, ttl: int) -> bytes:
        self._items += 1
        name = f"{mark}{self._items:07d}".ljust(PAYLOAD, ".")
        return json.dumps(
            {"id": f"i{self._items}", "payload": name, "priority": priority, "ttl": ttl}
        ).encode()

    async def drained(self, *, patience: float) -> tuple[int, int]:
        """Wait until everything sent is acknowledged; returns items sent and acknowledged in all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._totals()[0] != self._totals()[1]:  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(0.02)
        return self._totals()

    async def storm(self, *, seconds: float) -> tuple[float, int, Phase]:
        """Lose all devices but the witnesses and let them come back at once.

        Returns: seconds until the last was there, how many are, and the urgent items meanwhile.
        """
        lost, self.devices = self.devices[: -self._witnesses], self.devices[-self._witnesses :]
        kept = self._idents
        for device in lost:
            device.closing = True
            device._transport.abort()  # noqa: SLF001 - a fleet that loses its network
        began = time.perf_counter()
        urgent = asyncio.create_task(
            self.phase(rate=0, seconds=seconds, feedback=0, channel="bench/w")
        )
        back = await asyncio.gather(*map(self._device, range(len(lost))), return_exceptions=True)
        took = time.perf_counter() - began
        there = [device for device in back if isinstance(device, Client)]
        self._idents = kept
        return took, len(there), await urgent


def _ops(frame: bytes) -> list[Any]:
    with contextlib.suppress(ValueError):
        decoded = msgpack.unpackb(frame)
        if decoded[0] == 1:
            return list(decoded[3])
    return []


@dataclass(slots=True)
class Watched:
    """What the server said of itself during a phase."""

    levels: list[int] = field(default_factory=list)
    held: int = 0
    left: int = 0
    lag: float = 0.0
    resident: int = 0
    calm_after: float | None = None
    waiting_connects: int = 0
    stopped: dict[str, int] = field(default_factory=dict)


class Bench:
    """One server, its fleet, and a look at both.

    Args:
        stack: ends the processes.
        options: as parsed.
    """

    def __init__(self, stack: ExitStack, options: Namespace) -> None:
        rng = random.Random(options.seed)
        drawn = audiences(options.devices, AUDIENCE, rng)
        follow: list[list[str]] = [[] for _ in range(options.devices)]
        for channel, members in enumerate(drawn):
            for device in members:
                follow[device].append(f"bench/g{channel}")
        follow += [["bench/w"] for _ in range(WITNESSES)]
        ups = [[msgpack.packb([3, {"follow": each, "unfollow": ["#"]}])] for each in follow]
        self.server = stack.enter_context(servers.fleetfeed())
        self.fleet = stack.enter_context(
            Worker(
                cores()[1],
                SpikeFleet,
                port=self.server.port,
                idents=[f"device-{at}" for at in range(len(ups))],
                qos=1,
                ups=ups,
                witnesses=WITNESSES,
                groups=len(drawn),
            )
        )
        words = Path(f"/proc/{self.server.pid}/cmdline").read_bytes().split(b"\0")
        data = Path(words[words.index(b"--data") + 1].decode())
        self._control = ControlClient(data / SOCKET_NAME)
        self.fleet.call("connect")
        self.fleet.call("open_publishers")
        self.fleet.call("settle")

    def status(self) -> dict[str, Any]:
        """Return what the server says of itself."""
        while True:
            with contextlib.suppress(ControlError):
                return dict(self._control.call("status"))

    def run(self, method: str, **arguments: Any) -> tuple[Any, Watched]:
        """Run a method of the fleet, and look at the server meanwhile."""
        found = Watched()
        self.fleet.begin(method, **arguments)
        began = time.monotonic()
        while not self.fleet._pipe.poll(0.2):  # noqa: SLF001 - the harness waits, this one looks around
            self._look(found, time.monotonic() - began)
        self._look(found, time.monotonic() - began)
        return self.fleet.finish(), found

    def _look(self, found: Watched, after: float) -> None:
        state = self.status()["overload"]
        found.levels.append(state["level"])
        found.held = max(found.held, state["items_held"])
        found.lag = max(found.lag, state["delays"]["loop_lag"])
        found.resident = max(found.resident, resident_bytes(self.server.pid))
        found.waiting_connects = max(found.waiting_connects, state["connects_waiting"])
        found.stopped = state["publishers_stopped"]
        found.left = state["items_held"]
        if state["level"]:
            found.calm_after = None
        elif found.calm_after is None:
            found.calm_after = after

    def sustainable(self) -> int:
        """Climb the ladder; return the highest rate that was fine."""
        best = RATES[0]
        for rate in RATES:
            progress(f"{rate} items a second?")
            # Three times, as a neighbour on the machine may have spoilt the first ones.
            if not any(self._takes(rate) for _ in range(3)):
                break
            best = rate
        return best

    def _takes(self, rate: int) -> bool:
        phase, seen = self.run("phase", rate=rate, seconds=RUNG_SECONDS, feedback=FEEDBACK)
        late = phase.at(0.99) > IN_TIME or phase.acknowledged < 0.95 * phase.offered
        fine = not late and sum(level > 0 for level in seen.levels) <= 1
        if not fine:
            self.calm()
        return fine

    def calm(self) -> None:
        """Wait until nothing is left of the last phase."""
        self.fleet.call("drained", patience=60.0)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            state = self.status()["overload"]
            if not (state["level"] or state["items_held"] or state["items_waiting"]):
                return
            time.sleep(0.1)


def measure(options: Namespace, report: Report) -> None:
    """Run all phases."""
    with ExitStack() as stack:
        progress(f"connecting {options.devices} devices")
        bench = Bench(stack, options)
        rate = options.rate or bench.sustainable()
        while True:
            progress(f"{rate} items a second, for longer")
            normal, usual = bench.run(
                "phase", rate=rate, seconds=options.seconds / 2, feedback=FEEDBACK
            )
            if options.rate or rate == RATES[0] or not max(usual.levels):
                break
            # It was fine for seconds only, which is not what sustainable means.
            bench.calm()
            rate = RATES[RATES.index(rate) - 1]
        _row(report, "normal", rate, normal, usual)
        bench.calm()
        before = resident_bytes(bench.server.pid)
        progress(f"{options.times:g} times {rate} items a second")
        spike, spiked = bench.run(
            "phase",
            rate=rate * options.times,
            seconds=options.seconds,
            feedback=min(FEEDBACK * options.times, 1.0),
        )
        _row(report, "spike", rate * options.times, spike, spiked)
        after, recovering = bench.run(
            "phase", rate=rate, seconds=max(options.seconds / 2, RECOVERED), feedback=FEEDBACK
        )
        _row(report, "recovery", rate, after, recovering)
        bench.calm()
        sent, acknowledged = bench.fleet.call("drained", patience=60.0)
        status = bench.status()
        lost = max(acknowledged - status["items"], 0)
        (took, there, urgent), stormy = bench.run("storm", seconds=options.storm)
        _row(report, "storm", 0, urgent, stormy)
    report.notes += [
        f"{sent} items sent, {acknowledged} acknowledged, {status['items']} live at the end",
        f"publishers were stopped {spiked.stopped['overload']} times",
        f"{there} of {options.devices} devices were back {took:.1f} s after the storm began",
        f"{stormy.waiting_connects} of them waited at one time",
        f"levels during the spike: {_shares(spiked.levels)}",
        f"{recovering.left} items were still held at the end of the recovery",
    ]
    recovered = recovering.calm_after
    report.verdicts += [
        Verdict("highest level at the sustainable rate", max(usual.levels), 0),
        Verdict("urgent p99, spike over normal", spike.at(0.99) / normal.at(0.99), RATIO),
        Verdict("acknowledged items lost", lost, LOST),
        Verdict(
            "KiB more for each item taken in the spike",
            (spiked.resident - before) / 1024 / max(spike.acknowledged, 1),
            GROWTH,
        ),
        Verdict("seconds to recover", float("inf") if recovered is None else recovered, RECOVERED),
        Verdict("devices back after the storm", there, options.devices, at_least=True),
        Verdict("urgent p99, storm over normal", urgent.at(0.99) / normal.at(0.99), RATIO),
    ]


def _row(report: Report, name: str, rate: float, phase: Phase, seen: Watched) -> None:
    report.row(
        phase=name,
        rate=round(rate),
        sent=phase.sent,
        acknowledged=phase.acknowledged,
        urgent=len(phase.ages),
        expected=phase.expected,
        p50_ms=phase.at(0.5),
        p99_ms=phase.at(0.99),
        worst_ms=phase.at(1.0),
        own_lag_ms=phase.lag * 1e3,
        level=max(seen.levels),
        held=seen.held,
        loop_lag_ms=seen.lag * 1e3,
        mib=seen.resident / 2**20,
    )


def _shares(levels: list[int]) -> str:
    return ", ".join(f"{n}: {levels.count(n) / len(levels):.0%}" for n in sorted(set(levels)))


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("Ten times the sustainable load, and all devices at once")
    options_parser.add_argument("--devices", type=int)
    options_parser.add_argument("--seconds", type=float, help="length of the spike")
    options_parser.add_argument("--times", type=float, default=10.0, help="the sustainable rate")
    options_parser.add_argument("--rate", type=int, help="take this for sustainable")
    options_parser.add_argument("--seed", type=int, default=1, help="of audiences")
    options = options_parser.parse_args()
    options.devices = options.devices or (500 if options.quick else 2000)
    options.seconds = options.seconds or (10.0 if options.quick else 60.0)
    options.storm = 5.0 if options.quick else 15.0
    report = Report(
        "spike", {n: getattr(options, n) for n in ("devices", "seconds", "times", "seed")}
    )
    measure(options, report)
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
