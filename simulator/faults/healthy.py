"""A publisher and a device for which nothing goes wrong: what sick neighbours cost them is measured (G6)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NoReturn

from simulator.facts import Content, Key
from simulator.faults.firmware import Habits
from simulator.faults.publishers import Item

if TYPE_CHECKING:
    from devices.frames import FeedItem
    from simulator.faults.devices import FaultyDevice
    from simulator.faults.publishers import FaultyPublisher

CHANNEL = "control"
"""Where the healthy publisher publishes, and all that the healthy device follows."""

_PACE = 0.04
_KEYS = 4


class HealthyPair:
    """The two of them, and how long items take from one to the other.

    Attributes:
        device, publisher: As all others, but without bad habits.
        latencies: Seconds from publisher to device, in this round.
        stalled: Seconds that this process itself stood still at most: then the machine is slow, not the server.
    """

    def __init__(self, device: FaultyDevice, publisher: FaultyPublisher) -> None:
        self.device = device
        self.publisher = publisher
        self.latencies: list[float] = []
        self.stalled = 0.0
        self._sent: dict[str | bytes, float] = {}
        self._serial = 0
        device.habits = Habits(takeover=0.0, forget=0.0)
        device.on_item = self._arrived

    def introduce(self) -> None:
        """The device says what it follows; once it is connected."""
        self.device.say_profile((CHANNEL,), {"region": "n"})

    def begin(self) -> None:
        """A new round: what is still on its way says nothing about it."""
        self._sent.clear()
        self.latencies.clear()
        self.stalled = 0.0

    async def run(self) -> NoReturn:
        """Publishes at a steady pace until it is cancelled; comes back when the server was away."""
        while True:
            if not self.device.connected:
                await self.device.connect()
            if not self.publisher.connected:
                await self.publisher.connect()
            self._publish()
            slept = time.monotonic()
            await asyncio.sleep(_PACE)
            self.stalled = max(self.stalled, time.monotonic() - slept - _PACE)

    def _publish(self) -> None:
        self._serial += 1
        text = f"{CHANNEL}.{self._serial}"
        key = Key(CHANNEL, f"c{self._serial % _KEYS}")
        if self.publisher.publish(Item(Content(key, text, ttl=600)), qos=1):
            self._sent[text] = time.monotonic()

    def _arrived(self, item: FeedItem) -> None:
        sent = self._sent.pop(item.payload, None)
        if sent is not None:
            self.latencies.append(time.monotonic() - sent)
