"""A season: one data directory, the clients that use it, and the rounds that they live through."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Self

from simulator.bounds import Memory, healthy_delayed
from simulator.checker import Checker
from simulator.facts import Finding, ServerClock
from simulator.faults import behaviour
from simulator.faults.devices import FaultyDevice
from simulator.faults.firmware import Firmware, Habits, Tally
from simulator.faults.healthy import HealthyPair
from simulator.faults.plan import Kind
from simulator.faults.publishers import FaultyPublisher, Source
from simulator.faults.rest import Rest
from simulator.faults.server import CLOCK_LAG, ServerFault
from simulator.faults.trouble import Trouble
from simulator.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from simulator.faults.plan import Plan
    from simulator.faults.server import ServerUnderTest

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
        latencies: Seconds from publisher to the healthy device, if the server itself was well.
        memory: Of the server, at rest.
        seconds: How long it took.
    """

    plan: Plan
    findings: tuple[Finding, ...]
    settled: tuple[float, ...]
    latencies: tuple[float, ...]
    memory: Memory | None
    seconds: float


class Season:
    """All rounds of one data directory.

    Args:
        server: Not started.
        devices: How many, the healthy one not counted.
        seed: Of everything that does not belong to a single round.

    Attributes:
        tally: What the devices counted.
        memory: Of the server, at the end of each round.
        poisoned: Items that the server keeps out of a feed although the device did not dismiss them.
    """

    def __init__(self, server: ServerUnderTest, devices: int, seed: int) -> None:
        rng = Random(f"{seed}/season")  # noqa: S311 - no secret
        self.tally = Tally()
        self.memory: list[Memory] = []
        self.poisoned = 0
        self._server = server
        self._clock = ServerClock(CLOCK_LAG)
        self._checker = Checker(self._clock)
        self._proxy = Proxy(("127.0.0.1", 0), seed)
        self._rng = rng
        self._tasks = asyncio.TaskGroup()  # what fails in the background ends the season
        near, far = (lambda: server.address), (lambda: self._proxy.address)
        self._devices = [
            self._device(f"device-{place}", behaviour.firmware(rng), far if place % 2 else near)
            for place in range(devices)
        ]
        self._publishers = [
            (FaultyPublisher(name, _fork(rng), self._checker, route), Source(name, _fork(rng)))
            for name, route in (("near", near), ("far", far))
        ]
        self._healthy = HealthyPair(
            self._device("healthy", Firmware(), near),
            FaultyPublisher("control", _fork(rng), self._checker, near),
        )
        self._everyone = [*self._devices, self._healthy.device]
        self._all_publishers = [*(one for one, _ in self._publishers), self._healthy.publisher]
        self._rest = Rest(server, self._checker, self._everyone, self._all_publishers, _fork(rng))

    def _device(
        self, name: str, firmware: Firmware, route: Callable[[], tuple[str, int]]
    ) -> FaultyDevice:
        return FaultyDevice(
            name,
            firmware,
            _fork(self._rng),
            self._checker,
            self.tally,
            route,
            self._spawn,
            hello_wait=HELLO_WAIT,
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
            opened.push_async_callback(self._server.close)
            await self._server.start()
            self._proxy.target = self._server.address
            await opened.enter_async_context(self._proxy)
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
        self._healthy.begin()
        settled: tuple[float, ...] = ()
        try:
            await self._trouble(plan)
            settled, findings = await self._rest.settle()
            if not findings and plan.repeats:
                findings = await self._rest.repeat(plan.rng("echo"))
        except ServerFault as fault:
            findings = [Finding("server", str(fault))]
        findings += self._checker.take() + self._complaints()
        self.poisoned = self._checker.poisoned(self._server.barred())
        latencies = () if plan.outage else tuple(self._healthy.latencies)
        findings += healthy_delayed(latencies, most=HEALTHY_P99 + self._healthy.stalled)
        memory = None
        if not findings:
            memory = self._server.memory()
            self.memory.append(memory)
        return Round(plan, tuple(findings), settled, latencies, memory, time.monotonic() - began)

    async def _trouble(self, plan: Plan) -> None:
        trouble = Trouble(
            plan,
            server=self._server,
            proxy=self._proxy,
            devices=self._devices,
            publishers=self._publishers,
            checker=self._checker,
            clock=self._clock,
        )
        rng = plan.rng("habits")
        for device in self._devices:
            device.habits = Habits(withhold=0.5 if rng.random() < 0.2 else 0.0)
        await self._fake_clock(Kind.CLOCK in plan.kinds)
        busy = self._tasks.create_task(self._be_busy(plan))
        healthy = self._tasks.create_task(self._healthy.run())
        try:
            await trouble.strike()
            await busy
        finally:
            for task in (busy, healthy):
                task.cancel()
            await asyncio.gather(busy, healthy, return_exceptions=True)
            self._proxy.clear()
            for device in self._devices:
                device.habits = Habits(forget=0.0)
        await asyncio.sleep(trouble.stepped + CLOCK_LAG - time.time())

    async def _fake_clock(self, wanted: bool) -> None:
        """Starts the server anew with a clock that can be set, or with the true one.

        Only where it is needed: the library that fakes the clock also slows down how threads wait for each other.
        """
        if wanted != self._server.fakes_clock:
            await self._server.stop()
            now = time.time()
            self._clock.step(0.0, now)
            self._clock.restart(now)
            self._server.fake_clock(wanted)
            await self._server.start()

    async def _be_busy(self, plan: Plan) -> None:
        """Publishers publish, devices come, go and change their minds."""
        rng = plan.rng("clients")
        until = time.monotonic() + plan.seconds
        while time.monotonic() < until:
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
