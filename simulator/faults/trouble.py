"""Carrying out what a plan says: each kind of fault as a coroutine that ends when the fault is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from simulator.faults.firmware import Habits
from simulator.faults.intruder import Intruder
from simulator.faults.plan import Kind, toxic_of
from simulator.faults.server import ServerFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from random import Random

    from simulator.checker import Checker
    from simulator.facts import ServerClock
    from simulator.faults.devices import FaultyDevice
    from simulator.faults.plan import Plan
    from simulator.faults.publishers import FaultyPublisher, Source
    from simulator.faults.server import ServerUnderTest
    from simulator.proxy import Proxy

_PACE = 0.03
"""Seconds between two troubles of one kind, on average."""
_START = 0.8
"""Seconds that a start takes, more or less."""
_DOWN = 0.2
"""Seconds that a server stays down at most before it is started again."""
_CLOCK_OFFSETS = (-86_400.0, -3_600.0, -30.0, 0.0, 30.0, 700.0, 3_600.0, 86_400.0)
_OPEN_INTRUDERS = 20
_DYING = 3


class Trouble:
    """Faults of one round, on everything that a season has.

    Args:
        plan: What goes wrong.
        server: Whose.
        proxy: Before half of the clients.
        devices: That fail; the healthy one is not among them.
        publishers: Likewise, with what they publish.
        checker: For those who mean harm.
        clock: Told when the server's clock is set.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        server: ServerUnderTest,
        proxy: Proxy,
        devices: Sequence[FaultyDevice],
        publishers: Sequence[tuple[FaultyPublisher, Source]],
        checker: Checker,
        clock: ServerClock,
    ) -> None:
        self._plan = plan
        self._server = server
        self._proxy = proxy
        self._devices = devices
        self._publishers = publishers
        self._checker = checker
        self._clock = clock
        self._store_in_use = asyncio.Lock()
        self._restarting = asyncio.Lock()
        self.stepped = 0.0

    async def strike(self) -> None:
        """Everything that the plan says, at its time; returns when the last fault is over.

        Raises:
            ServerFault: The server did not start again, or not stop in order.
        """
        await asyncio.gather(*(self._one(kind) for kind in self._plan.kinds))

    async def _one(self, kind: Kind) -> None:
        rng = self._plan.rng(kind)
        late = self._plan.lasts / 2 if kind is not self._plan.kinds[0] else 0.0
        await asyncio.sleep(self._plan.strike + late)
        drawn = toxic_of(kind, rng)
        if drawn is not None:
            toxic, stream, toxicity = drawn
            self._proxy.add(toxic, stream, toxicity)  # until the round is over
            await asyncio.sleep(self._plan.lasts)
        else:
            await self._carried_out(kind)(rng)

    def _carried_out(self, kind: Kind) -> Callable[[Random], Awaitable[None]]:
        return {
            Kind.KILL: self._kill,
            Kind.TERM: self._term,
            Kind.DISK_FULL: self._fill_disk,
            Kind.STORE_LOCKED: self._lock_store,
            Kind.CLOCK: self._set_clock,
            Kind.BAD_INPUT: self._attack,
            Kind.TAKEOVER: self._take_over,
            Kind.CUT_PACKETS: self._cut_packets,
            Kind.WITHHELD_ACKS: self._withhold,
            Kind.LOST_FLASH: self._lose_flash,
            Kind.STUCK_READER: self._stick,
        }[kind]

    # ---- The server

    async def _kill(self, rng: Random) -> None:
        async with self._restarting:
            await self._server.kill()
            if rng.random() < 0.3:
                await self._kill_again(rng)
            for publisher, _ in self._publishers:
                if rng.random() < 0.2:
                    publisher.die()
            await self._start_again(rng)

    async def _kill_again(self, rng: Random) -> None:
        """A server that is killed while it starts, or as soon as it has."""
        async with self._store_in_use:
            self._clock.restart(time.time())
            starting = asyncio.ensure_future(self._server.start())
            try:
                await asyncio.sleep(rng.random() * _START)
            finally:
                await self._server.close()
                with contextlib.suppress(ServerFault):  # it did not get so far
                    await starting
                await self._server.close()  # it was only about to begin

    async def _term(self, rng: Random) -> None:
        async with self._restarting:
            await self._server.stop()
            await self._start_again(rng)

    async def _start_again(self, rng: Random) -> None:
        await asyncio.sleep(rng.random() * _DOWN)
        async with self._store_in_use:  # a server does not start on a locked store, and says so
            self._clock.restart(time.time())
            await self._server.start()

    async def _fill_disk(self, rng: Random) -> None:
        del rng
        with contextlib.ExitStack() as full:
            async with self._restarting:  # it has to run
                full.enter_context(self._server.fill_disk())
            await asyncio.sleep(self._plan.lasts)

    async def _lock_store(self, rng: Random) -> None:
        del rng
        async with self._store_in_use:
            with self._server.lock_store():
                await asyncio.sleep(self._plan.lasts)

    async def _set_clock(self, rng: Random) -> None:
        for offset in rng.sample(_CLOCK_OFFSETS, 2):
            async with self._restarting:  # a server that starts may have looked before or after
                self.stepped = time.time()
                self._clock.step(offset, self.stepped)
                self._server.set_clock(offset)
            await asyncio.sleep(self._plan.lasts)

    # ---- The clients

    async def _attack(self, rng: Random) -> None:
        victims = [device.name for device in self._devices]
        room = asyncio.Semaphore(_OPEN_INTRUDERS)

        async def attack(name: str) -> None:
            async with room:
                intruder = Intruder(name, rng, self._checker, victims)
                await intruder.attack(self._server.address)

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
