"""A season: one data directory, the clients that use it, and the rounds that they live through."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Self

from devices.frames import FeedItem, payload_capacity
from simulator.bounds import Memory, healthy_delayed
from simulator.checker import Checker, unchanged
from simulator.facts import Content, DeviceAtRest, Finding, Key, ServerClock
from simulator.faults.devices import FaultyDevice, Habits, Tally
from simulator.faults.publishers import FaultyPublisher, Item, Source
from simulator.faults.server import CLOCK_LAG, ServerFault
from simulator.faults.trouble import Trouble
from simulator.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from simulator.faults.plan import Kind, Plan
    from simulator.faults.server import ServerUnderTest

HELLO_WAIT = 0.3
"""The server's `feed.hello_wait` here: seconds until a silent session counts as holding nothing."""

PATIENCE = 15.0
"""Seconds until everything must have come to rest."""

HEALTHY_P99 = 2.0
"""Seconds within which 99 of 100 items must reach a healthy device beside sick ones."""

_LOOK_AGAIN = 0.05
_CONTROL = "control"
_CONTROL_PACE = 0.04
_CONTROL_KEYS = 4
_RECONNECT_SHARE = 0.4
_ECHOES = 12
_ECHO_MARGIN = 6.0


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


@dataclass(slots=True)
class _Control:
    """The healthy device, what is published for it, and how long that took."""

    device: FaultyDevice
    publisher: FaultyPublisher
    sent: dict[str | bytes, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    serial: int = 0

    def publish(self) -> None:
        self.serial += 1
        text = f"control.{self.serial}"
        key = Key(_CONTROL, f"c{self.serial % _CONTROL_KEYS}")
        if self.publisher.publish(Item(Content(key, text, priority=1, ttl=600), None), qos=1):
            self.sent[text] = time.monotonic()

    def arrived(self, item: FeedItem) -> None:
        sent = self.sent.pop(item.payload, None)
        if sent is not None:
            self.latencies.append(time.monotonic() - sent)


class Season:
    """All rounds of one data directory.

    Args:
        server: Not started.
        devices: How many, the healthy one not counted.
        seed: Of everything that does not belong to a single round.
    """

    def __init__(self, server: ServerUnderTest, devices: int, seed: int) -> None:
        rng = Random(f"{seed}/season")  # noqa: S311 - no secret
        self.tally = Tally()
        self.memory: list[Memory] = []
        self._server = server
        self._clock = ServerClock(CLOCK_LAG)
        self._checker = Checker(self._clock)
        self._proxy = Proxy(("127.0.0.1", 0), seed)
        self._rng = rng
        near, far = (lambda: server.address), (lambda: self._proxy.address)
        self._devices = [
            self._device(f"device-{place}", far if place % 2 else near) for place in range(devices)
        ]
        self._publishers = [
            (FaultyPublisher(name, _fork(rng), self._checker, route), Source(name, _fork(rng)))
            for name, route in (("near", near), ("far", far))
        ]
        control = self._device("healthy", near)
        control.behave()
        self._control = _Control(
            control, FaultyPublisher("control", _fork(rng), self._checker, near)
        )
        control.on_item(self._control.arrived)
        self._poisoned = [0, 0]  # in processes that have ended, in this one

    def _device(self, name: str, route: Callable[[], tuple[str, int]]) -> FaultyDevice:
        return FaultyDevice(
            name, _fork(self._rng), self._checker, self.tally, route, hello_wait=HELLO_WAIT
        )

    @property
    def acknowledged(self) -> int:
        """Items that the server has acknowledged."""
        return sum(publisher.acknowledged for publisher in self._all_publishers())

    @property
    def repeated(self) -> int:
        """Packets that publishers sent again."""
        return sum(publisher.repeated for publisher in self._all_publishers())

    async def __aenter__(self) -> Self:
        """Starts the server and connects the clients."""
        await self._server.start()
        self._proxy.target = self._server.address
        await self._proxy.__aenter__()
        everyone = [*self._all_devices(), *self._all_publishers()]
        await asyncio.gather(*(client.connect() for client in everyone))
        self._control.device.say_profile((_CONTROL,), {"region": "n"})
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends everything."""
        for device in self._all_devices():
            device.close()
        for publisher in self._all_publishers():
            publisher.drop()
        await self._proxy.__aexit__()
        await self._server.close()

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
        self._control.latencies.clear()
        settled: tuple[float, ...] = ()
        try:
            await self._trouble(plan)
            settled, findings = await self._rest()
            if not findings:
                findings = await self._repeat_everything(plan.rng("echo"))
        except ServerFault as fault:
            findings = [Finding("server", str(fault))]
        findings += self._checker.take() + self._complaints()
        latencies = () if plan.outage else tuple(self._control.latencies)
        findings += healthy_delayed(latencies, most=HEALTHY_P99)
        memory = None
        if not findings:
            memory = self._server.memory()
            self.memory.append(memory)
        return Round(
            plan, tuple(findings), settled, latencies, memory, time.monotonic() - began
        )

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
        busy = asyncio.ensure_future(self._be_busy(plan))
        healthy = asyncio.ensure_future(self._be_healthy())
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

    async def _be_busy(self, plan: Plan) -> None:
        """Publishers publish, devices come, go and change their minds."""
        rng = plan.rng("clients")
        until = time.monotonic() + plan.seconds
        while time.monotonic() < until:
            for publisher, source in self._publishers:
                if not publisher.connected:
                    self._background = asyncio.ensure_future(publisher.connect())
                for _ in range(rng.choice((0, 1, 1, 3, 8))):
                    source.publish(publisher)
            for _ in range(rng.randrange(4)):
                rng.choice(self._devices).act()
            await asyncio.sleep(rng.random() * 0.03)

    async def _be_healthy(self) -> None:
        """One device and one publisher for which nothing goes wrong but the server."""
        control = self._control
        while True:
            for client in (control.device, control.publisher):
                if not client.connected:
                    await client.connect()
            control.publish()
            await asyncio.sleep(_CONTROL_PACE)

    # ---- Rest

    async def _rest(self) -> tuple[tuple[float, ...], list[Finding]]:
        """Everyone connects, everything is acknowledged, every window is compared.

        Raises:
            ServerFault: The server does not answer.
        """
        until = time.monotonic() + PATIENCE
        rested = time.time()
        for device in self._devices:
            if device.needs_connection or self._rng.random() < _RECONNECT_SHARE:
                device.connect_soon()
        findings = await self._acknowledge_everything(until)
        if findings:
            return (), findings
        rested = max(rested, time.time())
        while True:
            for device in self._all_devices():
                if device.needs_connection and not device.connected:
                    device.connect_soon()
            devices, now = await self._look()
            differing = self._checker.differing(devices)
            findings = self._checker.judge(devices, now, poisoned=sum(self._poisoned))
            if not differing and not findings:
                break
            if time.monotonic() > until:
                return (), [*findings, *await self._not_converged(differing)]
            await asyncio.sleep(_LOOK_AGAIN)
        self._checker.settle(devices, now)
        return tuple(device.settled_after(rested) for device in self._all_devices()), []

    async def _acknowledge_everything(self, until: float) -> list[Finding]:
        """Until no publisher waits; a publisher that reconnects sends again what is not acknowledged."""
        while True:
            waiting = [one for one in self._all_publishers() if one.in_flight or not one.connected]
            if not waiting:
                return []
            for publisher in waiting:
                if not publisher.connected:
                    await publisher.connect()
            if time.monotonic() > until:
                return [
                    Finding("G1", f"{one.name} got no acknowledgement for {one.in_flight} packets")
                    for one in waiting
                ]
            await asyncio.sleep(_LOOK_AGAIN)

    async def _look(self) -> tuple[list[DeviceAtRest], float]:
        """What every device shows, and what it should show."""
        names = [device.name for device in self._all_devices()]
        states = await self._server.states(names)
        counters = await self._server.counters()
        self._count_poison(counters)
        windows = await self._server.windows(names)
        found = []
        for device in self._all_devices():
            state, feed = states.get(device.name), windows.get(device.name)
            if state is None:
                found.append(DeviceAtRest(device.name, 0, 0, (), {}, device.shown, None))
                continue
            capacity = payload_capacity(state.budget, device.name)
            found.append(
                DeviceAtRest(
                    device.name,
                    state.k,
                    capacity,
                    state.follow,
                    state.attributes,
                    device.shown,
                    feed,
                )
            )
        return found, time.time()

    async def _not_converged(self, differing: Sequence[DeviceAtRest]) -> list[Finding]:
        """G2, with everything that helps to understand it."""
        by_name = {device.name: device for device in self._all_devices()}
        states = await self._server.states([one.device for one in differing])
        findings = []
        for one in differing:
            state = states.get(one.device)
            findings.append(
                Finding(
                    "G2",
                    f"{one.device} does not show its feed after {PATIENCE:g} s",
                    (
                        f"shows {[n for n, _ in one.shown]}",
                        f"feed  {[n for n, _ in one.feed or ()]}",
                        f"server: {None if state is None else dict(state.details)}",
                        *by_name[one.device].log,
                    ),
                )
            )
        return findings

    async def _repeat_everything(self, rng: Random) -> list[Finding]:
        """Duplicates of what was acknowledged: no feed may change but by time (G4)."""
        before, now = await self._look()
        current = self._checker.current(now, _ECHO_MARGIN)
        for content in rng.sample(current, min(_ECHOES, len(current))):
            self._publishers[0][0].repeat(content)
        for device in self._devices:
            device.say_again()
        findings = await self._acknowledge_everything(time.monotonic() + PATIENCE)
        await asyncio.sleep(_LOOK_AGAIN)
        after, _ = await self._look()
        return findings + unchanged(
            before, after, lambda n: self._checker.may_end(n, now, _ECHO_MARGIN)
        )

    # ---- Small things

    def _all_devices(self) -> list[FaultyDevice]:
        return [*self._devices, self._control.device]

    def _all_publishers(self) -> list[FaultyPublisher]:
        return [*(publisher for publisher, _ in self._publishers), self._control.publisher]

    def _complaints(self) -> list[Finding]:
        return [
            Finding("server", "the server's log has a fault", tuple(text.splitlines()))
            for text in self._server.complaints()
        ]

    def _count_poison(self, counters: object) -> None:
        """Poison is counted by the process; a new one begins at 0."""
        assert isinstance(counters, dict)
        now = sum(group.get("poison", 0) for group in counters.values())
        if now < self._poisoned[1]:
            self._poisoned[0] += self._poisoned[1]
        self._poisoned[1] = now


def _fork(rng: Random) -> Random:
    return Random(rng.getrandbits(64))  # noqa: S311 - no secret
