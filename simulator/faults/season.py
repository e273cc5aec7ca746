"""A season: one data directory, the clients that use it, and the rounds that they live through."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Self

from devices.frames import FeedItem, payload_capacity
from simulator.bounds import Memory, healthy_delayed
from simulator.checker import Checker, unchanged
from simulator.facts import Content, DeviceAtRest, Finding, Key, ServerClock
from simulator.faults import behaviour
from simulator.faults.devices import FaultyDevice, Firmware, Habits, Tally
from simulator.faults.plan import Kind
from simulator.faults.publishers import FaultyPublisher, Item, Source
from simulator.faults.server import CLOCK_LAG, ServerFault
from simulator.faults.trouble import Trouble
from simulator.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from types import TracebackType

    from simulator.facts import Window
    from simulator.faults.plan import Plan
    from simulator.faults.server import DeviceState, ServerUnderTest

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
    """The healthy device, what is published for it, and how long that took.

    Attributes:
        device, publisher: Nothing is wrong with them.
        sent: When texts were sent that have not arrived.
        latencies: Seconds from publisher to device.
        serial: Of the last text.
        stalled: Seconds that this process itself stood still at one time; the machine is slow, not the server.
    """

    device: FaultyDevice
    publisher: FaultyPublisher
    sent: dict[str | bytes, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    serial: int = 0
    stalled: float = 0.0

    def begin(self) -> None:
        """A new round: what is still on its way says nothing about it."""
        self.sent.clear()
        self.latencies.clear()
        self.stalled = 0.0

    def publish(self) -> None:
        self.serial += 1
        text = f"control.{self.serial}"
        key = Key(_CONTROL, f"c{self.serial % _CONTROL_KEYS}")
        if self.publisher.publish(Item(Content(key, text, ttl=600)), qos=1):
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
        control = self._device("healthy", Firmware(), near)
        control.habits = Habits(takeover=0.0, forget=0.0)
        self._control = _Control(
            control, FaultyPublisher("control", _fork(rng), self._checker, near)
        )
        control.on_item = self._control.arrived

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
        return sum(publisher.acknowledged for publisher in self._all_publishers())

    @property
    def repeated(self) -> int:
        """Packets that publishers sent again."""
        return sum(publisher.repeated for publisher in self._all_publishers())

    async def __aenter__(self) -> Self:
        """Starts the server and connects the clients."""
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(self._server.close)
            await self._server.start()
            self._proxy.target = self._server.address
            await opened.enter_async_context(self._proxy)
            await opened.enter_async_context(self._tasks)
            opened.callback(self._leave)
            for device in self._all_devices():
                await device.connect()
            for publisher in self._all_publishers():
                await publisher.connect()
            self._control.device.say_profile((_CONTROL,), {"region": "n"})
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
        for device in self._all_devices():
            device.close()
        for publisher in self._all_publishers():
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
        self._control.begin()
        settled: tuple[float, ...] = ()
        try:
            await self._trouble(plan)
            settled, findings = await self._rest()
            if not findings and plan.repeats:
                findings = await self._repeat_everything(plan.rng("echo"))
        except ServerFault as fault:
            findings = [Finding("server", str(fault))]
        findings += self._checker.take() + self._complaints()
        latencies = () if plan.outage else tuple(self._control.latencies)
        findings += healthy_delayed(latencies, most=HEALTHY_P99 + self._control.stalled)
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

    async def _be_healthy(self) -> None:
        """One device and one publisher for which nothing goes wrong but the server."""
        control = self._control
        while True:
            for client in (control.device, control.publisher):
                if not client.connected:
                    await client.connect()
            control.publish()
            slept = time.monotonic()
            await asyncio.sleep(_CONTROL_PACE)
            late = time.monotonic() - slept - _CONTROL_PACE
            control.stalled = max(control.stalled, late)

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
        settled: dict[str, float] = {}
        while True:
            for device in self._all_devices():
                if device.needs_connection and not device.connected:
                    device.connect_soon()
            devices, now = await self._look()
            for device, seen in zip(self._all_devices(), devices, strict=True):
                if seen.shown == seen.feed:
                    # Noted when it is first so: later on items end, and windows change again.
                    settled.setdefault(device.name, device.settled_after(rested))
            findings = self._checker.diverged(devices)
            findings += self._checker.judge(devices, now, self._server.barred())
            if not findings:
                break
            if time.monotonic() > until:
                return (), findings
            await asyncio.sleep(_LOOK_AGAIN)
        self._checker.settle(devices, now)
        return tuple(settled.values()), []

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
        windows = await self._server.windows(names)
        found = []
        for device in self._all_devices():
            state = states.get(device.name)
            found.append(_at_rest(device, state, windows.get(device.name)))
        return found, time.time()

    async def _repeat_everything(self, rng: Random) -> list[Finding]:
        """Duplicates of what was acknowledged and said: no feed may change but by time (G4)."""
        for device in self._devices:
            behaviour.say_all(device, self._checker, rng)
        before, now = await self._stable()
        current = self._checker.current(now, _ECHO_MARGIN)
        for content in rng.sample(current, min(_ECHOES, len(current))):
            self._publishers[0][0].repeat(content)
        for device in self._devices:
            device.say_again()
        findings = await self._acknowledge_everything(time.monotonic() + PATIENCE)
        after, _ = await self._stable()
        return findings + unchanged(
            before, after, lambda n: self._checker.may_end(n, now, _ECHO_MARGIN)
        )

    async def _stable(self) -> tuple[list[DeviceAtRest], float]:
        """What devices and server show once both stopped to change; at most for `PATIENCE`."""
        until = time.monotonic() + PATIENCE
        await asyncio.sleep(_LOOK_AGAIN)
        looked = await self._look()
        while time.monotonic() < until:
            await asyncio.sleep(_LOOK_AGAIN)
            before, looked = looked, await self._look()
            if before[0] == looked[0]:
                break
        return looked

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


def _at_rest(device: FaultyDevice, state: DeviceState | None, feed: Window | None) -> DeviceAtRest:
    if state is None:
        return DeviceAtRest(device.name, 0, 0, (), {}, device.shown, None)
    capacity = payload_capacity(state.budget, device.name)
    return DeviceAtRest(
        device.name, state.k, capacity, state.follow, state.attributes, device.shown, feed,
        (f"server: {dict(state.details)}", *device.log),
    )  # fmt: skip


def _fork(rng: Random) -> Random:
    return Random(rng.getrandbits(64))  # noqa: S311 - no secret
