"""The run over time: what is connected, how much passes, what the server takes; one sample after the other."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from simulator.faults.server import ServerFault
from simulator.results import Series
from simulator.scenario.crowd import viewers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.fleet import Fleet, Sample
    from simulator.load import Load
    from simulator.scenario.crowd import Crowd
    from simulator.scenario.gauges import Gauges
    from simulator.scenario.host import Counts, Host, Usage
    from simulator.scenario.posting import Desk
    from simulator.scenario.sight import Sight

SHORTEST = 1.0
"""Seconds between two samples at least."""
_MOST = 300
"""Samples of a run at most; what takes longer is sampled less often."""
_VALUE = 1.0
"""Seconds between two samples of what windows are worth to people."""
LOAD = (
    "overload level",
    "loop lag",
    "oldest item",
    "items held",
    "clients held",
    "publishers held",
)
"""Series of what the server says of itself, in the order of `simulator.load.Load`."""
_ASK = 2.0
"""Seconds between two questions to the server for its counts: those since the last one are lost if it is killed."""


@dataclass(frozen=True, slots=True)
class Moving:
    """A run at this moment, for a screen.

    Attributes:
        at: Seconds from its start.
        connected: Devices that are connected and subscribed.
        asleep: Devices that sleep by their schedule.
        dark: Devices whose battery is used up.
        off: Devices that are kept away.
        items: Items sent by now.
        frames_rate: Frames per second.
        p99: Seconds from publisher to device for 99 of 100 items so far; None before the first.
        load: What the server says of its load; None if it says nothing.
    """

    at: float
    connected: int
    asleep: int
    dark: int
    off: int
    items: int
    frames_rate: float
    p99: float | None
    load: Load | None = None


class Sampler:
    """Looks at a run again and again.

    Args:
        fleet: Whom to look at.
        desk: Whom to look at.
        host: Whom to look at; asked only if it can be.
        gauges: What the server says of itself.
        sight: Who times urgent items.
        crowd: The people, if there are any: what windows are worth to them.
        began: Start of the run, monotonic.
        seconds: How long it takes, more or less.
        show: Called with each sample.

    Attributes:
        peak: The most memory that the server took, bytes.
        busiest: The largest share of a core that this process itself took between two samples.
        crowded: The most that wanted each processor of this machine at a time, over a minute, whoever it was.
    """

    def __init__(
        self,
        fleet: Fleet,
        desk: Desk,
        host: Host,
        gauges: Gauges,
        sight: Sight,
        crowd: Crowd | None,
        began: float,
        seconds: float,
        show: Callable[[Moving], None],
    ) -> None:
        self.peak = 0
        self.busiest = 0.0
        self.crowded = 0.0
        self._fleet = fleet
        self._desk = desk
        self._host = host
        self._gauges = gauges
        self._sight = sight
        self._crowd = crowd
        self._viewers = viewers(fleet)
        self._began = began
        self._period = max(SHORTEST, seconds / _MOST)
        self._show = show
        self._at: list[float] = []
        self._rows: dict[str, list[float]] = {}
        self._sent = self._connects = 0
        self._last = began
        self._spent = time.process_time()
        self._usage: Usage | None = None
        self._asked = self._valued = 0.0
        self._counts: Counts | None = None
        self._earlier: Counter[str] = Counter()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self._period)
            await self.look()

    async def look(self) -> None:
        """One sample."""
        now = time.monotonic()
        passed = max(now - self._last, 1e-3)
        self._last = now
        sample = self._fleet.sample()
        self.crowded = max(self.crowded, os.getloadavg()[0] / (os.cpu_count() or 1))
        load = self._gauges.take()
        row = self._row(sample, passed) | self._server(passed) | self._said(load)
        for name, value in row.items():
            self._rows.setdefault(name, [nan] * len(self._at)).append(value)
        self._at.append(now - self._began)
        if self._crowd is not None and now - self._valued >= _VALUE:
            self._valued = now
            self._crowd.sample(now - self._began, self._fleet.elapsed, self._viewers)
        self._show(self._moving(sample, now, row["frames/s"], load))
        if self._host.asked and now - self._asked >= _ASK:
            self._asked = now
            await self.ask()

    def series(self) -> tuple[tuple[float, ...], tuple[Series, ...]]:
        """Times, and what was seen at each."""
        rows = (Series(name, tuple(values)) for name, values in self._rows.items())
        return tuple(self._at), tuple(rows)

    async def ask(self) -> None:
        """Asks the server for its counts; one that is down has no answer, and counts from 0 afterwards."""
        try:
            counts = await self._host.counts()
        except ServerFault:
            return
        if self._counts is not None and sum(counts.drops.values()) < sum(
            self._counts.drops.values()
        ):
            self._earlier.update(self._counts.drops)
        self._counts = counts

    @property
    def drops(self) -> Mapping[str, int]:
        """What the server did not carry out, by reason, over all of its starts."""
        whole = self._earlier + Counter(self._counts.drops if self._counts else {})
        return dict(whole.most_common())

    def _row(self, sample: Sample, passed: float) -> dict[str, float]:
        sent, self._sent = self._desk.sent - self._sent, self._desk.sent
        connects = self._fleet.tally.connects
        made, self._connects = connects - self._connects, connects
        row: dict[str, float] = {
            "connected": sample.connected,
            "connects/s": made / passed,
            "items/s": sent / passed,
            "frames/s": sample.frames / passed,
            "bytes down/s": sample.down / passed,
            "bytes up/s": sample.up / passed,
            "simulator CPU": self._own(passed),
        }
        if sample.asleep or "asleep" in self._rows:
            row["asleep"] = sample.asleep
        if sample.dark or "dark" in self._rows:
            row["dark"] = sample.dark
        for name in {"asleep", "dark"} & row.keys() - self._rows.keys():
            self._rows[name] = [0.0] * len(self._at)
        return row

    def _said(self, load: Load | None) -> dict[str, float]:
        """What the server says of itself, and how long urgent items took that arrived since the last look."""
        urgent = self._sight.take_urgent()
        row: dict[str, float] = {}
        if urgent.count or "urgent p99" in self._rows:
            row = {
                "urgent p50": _or_nan(urgent.quantile(0.5)),
                "urgent p99": _or_nan(urgent.quantile(0.99)),
            }
        if load is None:
            return row | dict.fromkeys(LOAD, nan) if self._gauges.heard else row
        values = (load.level, load.lag, load.oldest, load.items, load.clients, load.publishers)
        return row | dict(zip(LOAD, values, strict=True))

    def _own(self, passed: float) -> float:
        """Cores that this process itself keeps busy: at 1 its own queue is in every latency."""
        spent, self._spent = time.process_time() - self._spent, time.process_time()
        self.busiest = max(self.busiest, spent / passed)
        return spent / passed

    def _server(self, passed: float) -> dict[str, float]:
        usage, before = self._host.usage(), self._usage
        if usage is None and before is None and "server CPU" not in self._rows:
            return {}  # of a server that is not ours nothing is known at any time
        self._usage = usage
        if usage is None:
            return {"server CPU": nan, "server memory": nan}
        self.peak = max(self.peak, usage.memory)
        known = before is not None and usage.cpu >= before.cpu
        cpu = (usage.cpu - before.cpu) / passed if known and before is not None else nan
        return {"server CPU": cpu, "server memory": usage.memory}

    def _moving(self, sample: Sample, now: float, frames_rate: float, load: Load | None) -> Moving:
        return Moving(
            now - self._began,
            sample.connected,
            sample.asleep,
            sample.dark,
            sample.off,
            self._desk.sent,
            frames_rate,
            self._fleet.tally.latency.quantile(0.99),
            load,
        )


def _or_nan(value: float | None) -> float:
    return nan if value is None else value
