"""A season: one site, the clients that use it, and the rounds that they live through."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Self

from simulator.bounds import Memory, healthy_delayed
from simulator.checker import Checker
from simulator.facts import Finding
from simulator.faults import behaviour
from simulator.faults.devices import FaultyDevice
from simulator.faults.firmware import Firmware, Habits, Tally
from simulator.faults.healthy import Healthy
from simulator.faults.publishers import FaultyPublisher, Source
from simulator.faults.rest import Rest
from simulator.faults.server import ServerFault
from simulator.faults.trouble import Clients

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from simulator.faults.availability import Absence
    from simulator.faults.plan import Plan
    from simulator.faults.route import Route
    from simulator.faults.site import Site

HELLO_WAIT = 0.3
"""The server's `feed.hello_wait` here: seconds until a silent session counts as holding nothing."""

HEALTHY_P99 = 2.0
"""Seconds within which 99 of 100 items must reach a healthy device beside sick ones."""


@dataclass(frozen=True, slots=True)
class Round:
    """What came of a round.

    Attributes:
        plan: What went wrong in it.
        findings: Promises that were not kept.
        settled: For each device the seconds until it had its window, once nothing changed any more.
        latencies: Seconds from publisher to a healthy device, if the server itself was well.
        memory: Of the server, at rest.
        seconds: How long it took.
        absence: What it cost healthy clients.
    """

    plan: Plan
    findings: tuple[Finding, ...]
    settled: tuple[float, ...]
    latencies: tuple[float, ...]
    memory: Memory | None
    seconds: float
    absence: Absence


class Season:
    """All rounds of one site.

    Args:
        site: Nothing of it runs.
        devices: How many, the healthy ones not counted.
        seed: Of everything that does not belong to a single round.

    Attributes:
        tally: What the devices counted.
        memory: Of the server, at the end of each round.
        poisoned: Items that the server keeps out of a feed although the device did not dismiss them.
    """

    def __init__(self, site: Site, devices: int, seed: int) -> None:
        rng = Random(f"{seed}/season")  # noqa: S311 - no secret
        self.tally = Tally()
        self.memory: list[Memory] = []
        self.poisoned = 0
        self._site = site
        self._server = site.server
        self._checker = Checker(site.clock)
        self._rng = rng
        self._tasks = asyncio.TaskGroup()  # what fails in the background ends the season
        self._devices = [
            self._device(
                f"device-{place}",
                behaviour.firmware(rng),
                site.route(place // 2, far=place % 2 == 1),
            )
            for place in range(devices)
        ]
        self._publishers = [
            (self._publisher(name, site.route(place, far=place % 2 == 1)), Source(name, _fork(rng)))
            for place in range(site.places + 1)
            for name in (f"publisher-{place}",)
        ]
        self._healthy = self._all_healthy()
        self._everyone = [*self._devices, *self._healthy.devices]
        self._all_publishers = [
            *(one for one, _ in self._publishers),
            *self._healthy.publishers,
        ]
        self._clients = Clients(
            self._devices,
            self._publishers,
            site.proxies,
            self._checker,
            site.route(0, far=False),
            self._healthy.struck,
        )
        self._rest = Rest(
            self._server,
            self._checker,
            self._devices,
            self._healthy.devices,
            self._all_publishers,
            _fork(rng),
        )

    def _device(self, name: str, firmware: Firmware, route: Route) -> FaultyDevice:
        return FaultyDevice(
            name,
            firmware,
            _fork(self._rng),
            self._checker,
            self.tally,
            route,
            self._spawn,
            hello_wait=HELLO_WAIT,
            hellos_unheard=self._site.hellos_unheard,
        )

    def _publisher(self, name: str, route: Route) -> FaultyPublisher:
        return FaultyPublisher(name, _fork(self._rng), self._checker, route)

    def _all_healthy(self) -> Healthy:
        site = self._site
        routes = [site.route(place, far=False) for place in range(site.healthy)]
        return Healthy(
            [
                (self._device(f"healthy-{place}", Firmware(), route), route)
                for place, route in enumerate(routes)
            ],
            [
                self._publisher(f"control-{place}", site.route(place, far=False))
                for place in range(site.places)
            ],
            _fork(self._rng),
            impatience=site.impatience,
        )

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        self._tasks.create_task(work)

    @property
    def acknowledged(self) -> int:
        """Items that the server has acknowledged."""
        return sum(publisher.acknowledged for publisher in self._all_publishers)

    @property
    def repeated(self) -> int:
        """Packets that publishers sent again."""
        return sum(publisher.repeated for publisher in self._all_publishers)

    async def __aenter__(self) -> Self:
        """Starts the server and connects the clients."""
        async with contextlib.AsyncExitStack() as opened:
            await self._site.open(opened)
            await opened.enter_async_context(self._tasks)
            opened.callback(self._leave)
            for device in self._everyone:
                await device.connect()
            for publisher in self._all_publishers:
                await publisher.connect()
            self._healthy.introduce()
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends everything."""
        await self._opened.__aexit__(kind, error, trace)

    def _leave(self) -> None:
        for device in self._everyone:
            device.close()
        for publisher in self._all_publishers:
            publisher.drop()

    async def stop(self) -> list[Finding]:
        """Ends the server as an operator would; what it complains of."""
        try:
            await self._server.stop()
        except ServerFault as fault:
            return [Finding("server", str(fault))]
        return self._complaints()

    # ---- A round

    async def run(self, plan: Plan) -> Round:
        """Trouble, rest, judgement."""
        began = time.monotonic()
        settled: tuple[float, ...] = ()
        try:
            await self._trouble(plan)
            settled, findings = await self._rest.settle()
            if not findings and plan.repeats:
                findings = await self._rest.repeat(plan.rng("echo"))
        except ServerFault as fault:
            findings = [Finding("server", str(fault))]
        findings += self._checker.take() + self._complaints()
        latencies = () if plan.outage else tuple(self._healthy.latencies)
        findings += healthy_delayed(latencies, most=HEALTHY_P99 + self._healthy.stalled)
        memory = None
        if not findings:
            self.poisoned = self._checker.poisoned(await self._server.barred())
            memory = self._server.memory()
            self.memory.append(memory)
        took = time.monotonic() - began
        return Round(plan, tuple(findings), settled, latencies, memory, took, self._absence)

    async def _trouble(self, plan: Plan) -> None:
        trouble = self._site.trouble(plan, self._clients)
        rng = plan.rng("habits")
        for device in self._devices:
            device.habits = Habits(withhold=0.5 if rng.random() < 0.2 else 0.0)
        await self._site.prepare(plan)
        await self._healthy.begin()
        striking = asyncio.ensure_future(trouble.strike())  # what it raises belongs to the round
        busy = self._tasks.create_task(self._be_busy(plan, striking))
        healthy = self._tasks.create_task(self._healthy.run())
        try:
            await striking
            await busy
            await trouble.heal()
            await self._healthy.recovered()
        finally:
            for task in (striking, busy, healthy):
                task.cancel()
            await asyncio.gather(striking, busy, healthy, return_exceptions=True)
            self._absence = self._healthy.absence()
            for proxy in self._site.proxies:
                proxy.clear()
            for device in self._devices:
                device.habits = Habits(forget=0.0)

    async def _be_busy(self, plan: Plan, striking: asyncio.Future[None]) -> None:
        """Publishers publish, devices come, go and change their minds."""
        rng = plan.rng("clients")
        until = time.monotonic() + plan.seconds
        while time.monotonic() < until or (plan.throughout and not striking.done()):
            for publisher, source in self._publishers:
                if not publisher.connected:
                    self._spawn(publisher.connect())
                for _ in range(rng.choice((0, 1, 1, 3, 8))):
                    source.publish(publisher)
            for _ in range(rng.randrange(4)):
                behaviour.act(rng.choice(self._devices), self._checker, rng)
            await asyncio.sleep(rng.random() * 0.03)

    def _complaints(self) -> list[Finding]:
        return [
            Finding("server", "the server's log has a fault", tuple(text.splitlines()))
            for text in self._server.complaints()
        ]


def _fork(rng: Random) -> Random:
    return Random(rng.getrandbits(64))  # noqa: S311 - no secret
