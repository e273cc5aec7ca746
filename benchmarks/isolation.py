"""Do healthy devices notice the sick ones? Publish → frame at the healthy, without and with each sickness.

`python benchmarks/isolation.py [--json] [--quick] [--devices 200] [--rate 50] [--only pings]`

The same paced items as in `latency.py`, on one server. Rounds without a sickness and with each of them
(`sick.py`) alternate. The sick have a process of their own, but it shares a core with the process that
measures: how late timers of that one fire stands beside each row (`own_lag`), and is contained in the
latencies.
"""

from __future__ import annotations

import asyncio
import random
import time
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import servers
from harness import (
    Report,
    Series,
    Verdict,
    Worker,
    cores,
    cpu_seconds,
    parser,
    prepare,
    progress,
    quiesce,
)
from latency import Paced, TimedFleet, audiences, greetings, mixed_idents
from sick import Sick
from wire import RefusedError

#: How many times the undisturbed p99 a healthy device may wait beside sick ones.
RATIO_BUDGET = 2.0
#: Seconds between two looks at the clock by which the measuring process' own lag is taken.
LAG_STEP = 0.005


class WatchedFleet(TimedFleet):
    """A timed fleet that also knows how late its own timers are."""

    async def watched(self, **pace: Any) -> tuple[Paced, float]:
        """One paced round, and the p99 of the lag of this process meanwhile, in seconds.

        Raises:
            RefusedError: nothing arrived at all.
        """
        lags: list[float] = []
        watching = asyncio.create_task(self._watch(lags))
        result = await self.paced(**pace)
        watching.cancel()
        if not result.ages:
            raise RefusedError("not one item came through to the healthy devices")
        lags.sort()
        return result, lags[int(len(lags) * 0.99)]

    async def _watch(self, lags: list[float]) -> None:
        while True:
            due = time.perf_counter() + LAG_STEP
            await asyncio.sleep(LAG_STEP)
            lags.append(time.perf_counter() - due)


@dataclass(slots=True)
class Findings:
    """What the rounds of one sickness found: milliseconds, bytes, shares of a core."""

    p50: Series = field(default_factory=Series)
    p99: Series = field(default_factory=Series)
    worst: Series = field(default_factory=Series)
    growth: Series = field(default_factory=Series)
    lag: Series = field(default_factory=Series)
    busy: Series = field(default_factory=Series)
    harm: int = 0
    missed: int = 0


class Bench:
    """One server, its healthy fleet and its sick clients.

    Args:
        stack: ends the processes.
        options: as parsed.
    """

    def __init__(self, stack: ExitStack, options: Namespace) -> None:
        rng = random.Random(options.seed)
        drawn = audiences(options.devices, options.audience, rng)
        self.server = stack.enter_context(servers.fleetfeed())
        self._pace = {
            "rate": options.rate,
            "channels": len(drawn),
            "audience": options.audience,
        }
        self._count = int(options.rate * options.seconds)
        core = cores()[1]
        self._fleet = stack.enter_context(
            Worker(
                core,
                WatchedFleet,
                port=self.server.port,
                idents=mixed_idents(options.devices, rng),
                qos=1,
                ups=greetings(options.devices, drawn, rng),
            )
        )
        self._sick = stack.enter_context(
            Worker(core, Sick, port=self.server.port, seed=options.seed)
        )
        self._fleet.call("connect")
        self._fleet.call("settle")
        self._fleet.call("paced", count=len(drawn), **self._pace)

    def round(self, kind: str | None, found: Findings) -> None:
        """Measure once, with this sickness or without one."""
        quiesce(self.server.pid)
        resident = self.server.resident()
        if kind is not None:
            self._sick.call("fall_ill", kind=kind)
            time.sleep(0.5)
        cpu, began = cpu_seconds(self.server.pid), time.monotonic()
        self._fleet.begin("watched", count=self._count, **self._pace)
        result, lag = self._fleet.finish()
        found.busy.add((cpu_seconds(self.server.pid) - cpu) / (time.monotonic() - began))
        found.growth.add(self.server.resident() - resident)
        if kind is not None:
            found.harm += self._sick.call("recover")
        found.p50.add(result.at(0.50))
        found.p99.add(result.at(0.99))
        found.worst.add(result.at(1.0))
        found.lag.add(lag * 1e3)
        found.missed += result.expected - len(result.ages)


def measure(options: Namespace) -> dict[str, Findings]:
    """Alternate undisturbed rounds with one of each sickness."""
    kinds = options.only or list(Sick.KINDS)
    found = {name: Findings() for name in ("undisturbed", *kinds)}
    with ExitStack() as stack:
        bench = Bench(stack, options)
        for at in range(options.rounds):
            for kind in kinds:
                progress(f"round {at + 1} of {options.rounds}: {kind}")
                bench.round(None, found["undisturbed"])
                bench.round(kind, found[kind])
    return found


def main() -> None:
    """Run and print."""
    prepare()
    options_parser = parser("Latency of healthy devices beside sick ones")
    options_parser.add_argument("--devices", type=int, default=200, help="healthy ones")
    options_parser.add_argument("--audience", type=int, default=10, help="who follows one item")
    options_parser.add_argument("--rate", type=float, default=50.0, help="items per second")
    options_parser.add_argument("--seconds", type=float, help="length of one round")
    options_parser.add_argument("--seed", type=int, default=1, help="of ids, audiences, garbage")
    options_parser.add_argument("--only", action="append", choices=Sick.KINDS)
    options = options_parser.parse_args()
    options.seconds = options.seconds or (2.0 if options.quick else 6.0)
    options.rounds = options.rounds or (1 if options.quick else 3)
    found = measure(options)
    names = ("devices", "audience", "rate", "seconds", "rounds", "seed")
    report = Report("isolation", {name: getattr(options, name) for name in names})
    undisturbed = found["undisturbed"].p99.median
    for kind, findings in found.items():
        ratio = findings.p99.median / undisturbed
        report.row(
            neighbours=kind,
            p50_ms=findings.p50.median,
            p99_ms=findings.p99.median,
            worst_ms=max(findings.worst.values),
            ratio_p99=ratio,
            own_lag_ms=findings.lag.median,
            server_cpu=findings.busy.median,
            growth_mib=max(findings.growth.values) / 2**20,
            harm=findings.harm,
            superseded=findings.missed,
        )
        if kind != "undisturbed":
            report.verdicts.append(
                Verdict(f"p99 beside {kind} over the undisturbed", ratio, RATIO_BUDGET)
            )
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
