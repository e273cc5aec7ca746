"""Carrying out what a plan says: each kind of fault as a coroutine that ends when the fault is over.

Here are the faults of clients and of their lines. Those of what they connect to are in `server_trouble` and
`node_trouble`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from simulator.faults.firmware import Habits
from simulator.faults.intruder import Intruder
from simulator.faults.plan import Kind, toxic_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from random import Random

    from simulator.checker import Checker
    from simulator.faults.devices import FaultyDevice
    from simulator.faults.plan import Plan
    from simulator.faults.publishers import FaultyPublisher, Source
    from simulator.faults.server import Address
    from simulator.proxy import Proxy

Fault: TypeAlias = "Callable[[Random], Awaitable[None]]"

_PACE = 0.03
"""Seconds between two troubles of one kind, on average."""
_OPEN_INTRUDERS = 20
_DYING = 3


@dataclass(frozen=True, slots=True)
class Clients:
    """Everybody to whom something may happen.

    Attributes:
        devices: That fail; the healthy ones are not among them.
        publishers: Likewise, with what they publish.
        proxies: Before half of the clients.
        checker: For those who mean harm.
        route: Where those connect to.
        struck: Called when a server fails to which clients are connected, with its place among several.
    """

    devices: Sequence[FaultyDevice]
    publishers: Sequence[tuple[FaultyPublisher, Source]]
    proxies: Sequence[Proxy]
    checker: Checker
    route: Callable[[], Address]
    struck: Callable[[int | None], None]


class Trouble:
    """Faults of one round.

    Args:
        plan: What goes wrong.
        clients: With whom.
    """

    def __init__(self, plan: Plan, clients: Clients) -> None:
        self._plan = plan
        self._clients = clients
        self._devices = clients.devices
        self._publishers = clients.publishers

    async def strike(self) -> None:
        """Everything that the plan says, at its time; returns when the last fault is over.

        Raises:
            ServerFault: The server did not start again, or not stop in order.
        """
        await asyncio.gather(*(self._one(kind) for kind in self._plan.kinds))

    async def heal(self) -> None:
        """Waits until what the faults leave behind is gone.

        Raises:
            ServerFault: It stays.
        """

    async def _one(self, kind: Kind) -> None:
        rng = self._plan.rng(kind)
        late = self._plan.lasts / 2 if kind is not self._plan.kinds[0] else 0.0
        await asyncio.sleep(self._plan.strike + late)
        drawn = toxic_of(kind, rng)
        if drawn is not None:
            toxic, stream, toxicity = drawn
            for proxy in self._clients.proxies:
                proxy.add(toxic, stream, toxicity)  # until the round is over
            await asyncio.sleep(self._plan.lasts)
        else:
            await self._faults()[kind](rng)

    def _faults(self) -> Mapping[Kind, Fault]:
        return {
            Kind.BAD_INPUT: self._attack,
            Kind.TAKEOVER: self._take_over,
            Kind.CUT_PACKETS: self._cut_packets,
            Kind.WITHHELD_ACKS: self._withhold,
            Kind.LOST_FLASH: self._lose_flash,
            Kind.STUCK_READER: self._stick,
        }

    async def _attack(self, rng: Random) -> None:
        victims = [device.name for device in self._devices]
        room = asyncio.Semaphore(_OPEN_INTRUDERS)

        async def attack(name: str) -> None:
            async with room:
                intruder = Intruder(name, rng, self._clients.checker, victims)
                await intruder.attack(self._clients.route())

        async with asyncio.TaskGroup() as attacks:
            until = time.monotonic() + 2 * self._plan.lasts
            while time.monotonic() < until:
                attacks.create_task(attack(f"intruder-{rng.randrange(5)}"))
                await asyncio.sleep(rng.random() * 0.01)

    async def _again_and_again(self, rng: Random, once: Callable[[FaultyDevice], None]) -> None:
        until = time.monotonic() + 2 * self._plan.lasts
        while time.monotonic() < until:
            once(rng.choice(self._devices))
            await asyncio.sleep(2 * rng.random() * _PACE)

    async def _take_over(self, rng: Random) -> None:
        for device in self._devices:
            device.habits.takeover = 1.0
        await self._again_and_again(rng, lambda device: device.connect_soon())

    async def _cut_packets(self, rng: Random) -> None:
        def cut(device: FaultyDevice) -> None:
            device.lose_inside_a_packet()
            device.connect_soon()
            if rng.random() < 0.2:
                publisher, source = rng.choice(self._publishers)
                publisher.lose_inside_a_packet(source.unsent())

        await self._again_and_again(rng, cut)

    async def _lose_flash(self, rng: Random) -> None:
        def lose(device: FaultyDevice) -> None:
            device.habits.forget = 1.0
            device.connect_soon()

        await self._again_and_again(rng, lose)

    async def _withhold(self, rng: Random) -> None:
        for device in self._devices:
            if rng.random() < 0.6:
                device.habits.withhold = rng.choice((0.5, 1.0))
        # A few come back again and again, as if a frame killed them: what they die of is set aside as poison.
        dying = rng.sample(self._devices, min(_DYING, len(self._devices)))
        for device in dying:
            device.habits = Habits(takeover=0.0, forget=0.0, withhold=1.0)
        await self._again_and_again(rng, lambda _: rng.choice(dying).connect_soon())

    async def _stick(self, rng: Random) -> None:
        stuck = [device for device in self._devices if rng.random() < 0.6]
        for device in stuck:
            device.stop_reading()
        await self._again_and_again(rng, lambda device: device.say_hello())
        for device in stuck:
            device.read_on()
