"""Publishers and devices for which nothing goes wrong but what they are connected to.

What sick neighbours cost them is measured (G6), and what a fault of the server costs: how long they go without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from math import inf
from typing import TYPE_CHECKING

from simulator.facts import Content, Key
from simulator.faults.availability import Attendance
from simulator.faults.firmware import Habits
from simulator.faults.publishers import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from devices.frames import FeedItem
    from simulator.faults.availability import Absence
    from simulator.faults.devices import FaultyDevice
    from simulator.faults.publishers import FaultyPublisher
    from simulator.faults.route import Route

CHANNEL = "control"
"""Where healthy publishers publish, and all that healthy devices follow."""

PATIENCE = 10.0
"""Seconds after which it is left to others to find out why somebody is not served."""

_PACE = 0.04
_KEYS = 4
_RETRY = (0.05, 0.2)
"""Seconds between two attempts to connect."""


class Healthy:
    """All of them, and how long items take from one to the other.

    Args:
        devices: With the route of each.
        publishers: Those whose items all of the devices show.
        rng: For pauses between attempts to connect.
        impatience: Seconds without news after which a client connects anew, as one that pings would.

    Attributes:
        devices, publishers: As all others, but without bad habits.
        latencies: Seconds from publisher to device, in this round.
        stalled: Seconds that this process itself stood still at most: then the machine is slow, not the server.
    """

    def __init__(
        self,
        devices: Sequence[tuple[FaultyDevice, Route]],
        publishers: Sequence[FaultyPublisher],
        rng: Random,
        *,
        impatience: float = inf,
    ) -> None:
        self.devices = [device for device, _ in devices]
        self.publishers = list(publishers)
        self.latencies: list[float] = []
        self.stalled = 0.0
        self._routes = {device.name: route for device, route in devices}
        self._rng = rng
        self._impatience = impatience
        self._sent: dict[str | bytes, float] = {}
        names = [*(one.name for one in self.devices), *(one.name for one in publishers)]
        self._heard = dict.fromkeys(names, 0.0)
        self._serial = 0
        self._attendance = Attendance((), 0.0)
        for device in self.devices:
            device.habits = Habits(takeover=0.0, forget=0.0)
            device.on_item = self._arrivals(device.name)
        for publisher in publishers:
            publisher.on_acknowledged = self._acknowledgements(publisher.name)

    def introduce(self) -> None:
        """The devices say what they follow; once they are connected."""
        for device in self.devices:
            device.say_profile((CHANNEL,), {"region": "n"})

    async def begin(self) -> None:
        """A new round: everybody is at home, and what is still on its way says nothing about it."""
        for device in self.devices:
            route = self._routes[device.name]
            for _ in range(route.places):
                if route.place == route.home and device.connected:
                    break
                await device.connect()
        self._sent.clear()
        self.latencies.clear()
        self.stalled = 0.0
        now = time.monotonic()
        self._attendance = Attendance((device.name for device in self.devices), now)
        self._heard = dict.fromkeys(self._heard, now)

    def struck(self, place: int | None) -> None:
        """The server at a place fails to which some of them are connected; None: something that concerns all."""
        now = time.monotonic()
        names = (
            device.name
            for device in self.devices
            if place is None or self._routes[device.name].place == place
        )
        self._attendance.struck(names, now)

    async def recovered(self) -> None:
        """Waits until every device shows something new and every publisher is heard, for `PATIENCE` at most."""
        now = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while min(self._heard.values()) <= now:  # noqa: ASYNC110 - they tell in `_heard` alone
                    await asyncio.sleep(_PACE)

    def absence(self) -> Absence:
        """What this round cost them up to now."""
        return self._attendance.end(time.monotonic())

    async def run(self) -> None:
        """Publish at a steady pace, and come back when the server was away, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for device in self.devices:
                tasks.create_task(self._stay(device))
            for publisher in self.publishers:
                tasks.create_task(self._publish(publisher))

    async def _stay(self, device: FaultyDevice) -> None:
        while True:
            if not device.connected or self._is_silent(device.name):
                await self._return(device)
            await self._pause(_PACE)

    async def _publish(self, publisher: FaultyPublisher) -> None:
        while True:
            waits = publisher.in_flight and self._is_silent(publisher.name)
            if not publisher.connected or waits:
                await self._return(publisher)
            self._one_more(publisher)
            await self._pause(_PACE)

    def _is_silent(self, name: str) -> bool:
        return time.monotonic() - self._heard[name] > self._impatience

    async def _return(self, client: FaultyDevice | FaultyPublisher) -> None:
        lost = time.monotonic()
        while not await client.connect():  # noqa: ASYNC110 - an attempt, not a flag
            await asyncio.sleep(self._rng.uniform(*_RETRY))
        now = self._heard[client.name] = time.monotonic()
        attendance = self._attendance
        attendance.without_connection = max(attendance.without_connection, now - lost)

    async def _pause(self, seconds: float) -> None:
        slept = time.monotonic()
        await asyncio.sleep(seconds)
        self.stalled = max(self.stalled, time.monotonic() - slept - seconds)

    def _one_more(self, publisher: FaultyPublisher) -> None:
        self._serial += 1
        text = f"{CHANNEL}.{self._serial}"
        key = Key(CHANNEL, f"{publisher.name}-{self._serial % _KEYS}")
        if publisher.publish(Item(Content(key, text, ttl=600)), qos=1):
            self._sent[text] = time.monotonic()

    def _arrivals(self, device: str) -> Callable[[FeedItem], None]:
        def arrived(item: FeedItem) -> None:
            now = self._heard[device] = time.monotonic()
            sent = self._sent.get(item.payload)
            if sent is not None:
                self.latencies.append(now - sent)
                self._attendance.shown(device, sent, now)

        return arrived

    def _acknowledgements(self, publisher: str) -> Callable[[float], None]:
        def acknowledged(seconds: float) -> None:
            self._heard[publisher] = time.monotonic()
            attendance = self._attendance
            attendance.without_accept = max(attendance.without_accept, seconds)

        return acknowledged
