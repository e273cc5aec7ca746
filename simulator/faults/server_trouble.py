"""Faults of one server, of its disk, its store and its clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from simulator.faults.plan import Kind
from simulator.faults.server import CLOCK_LAG, ServerFault
from simulator.faults.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from simulator.facts import ServerClock
    from simulator.faults.plan import Plan
    from simulator.faults.server import ServerUnderTest
    from simulator.faults.trouble import Clients, Fault

_START = 0.8
"""Seconds that a start takes, more or less."""
_DOWN = 0.2
"""Seconds that a server stays down at most before it is started again."""
_CLOCK_OFFSETS = (-86_400.0, -3_600.0, -30.0, 0.0, 30.0, 700.0, 3_600.0, 86_400.0)


class ServerTrouble(Trouble):
    """Faults of one round with one server.

    Args:
        plan: What goes wrong.
        clients: Of the server.
        server: Whose faults they are.
        clock: Told when the server's clock is set.
    """

    def __init__(
        self, plan: Plan, clients: Clients, server: ServerUnderTest, clock: ServerClock
    ) -> None:
        super().__init__(plan, clients)
        self._server = server
        self._clock = clock
        self._store_in_use = asyncio.Lock()
        self._restarting = asyncio.Lock()
        self._stepped = 0.0

    async def heal(self) -> None:
        """Until the server has seen that its clock was set."""
        await asyncio.sleep(self._stepped + CLOCK_LAG - time.time())

    def _faults(self) -> Mapping[Kind, Fault]:
        return {
            **super()._faults(),
            Kind.KILL: self._kill,
            Kind.TERM: self._term,
            Kind.DISK_FULL: self._fill_disk,
            Kind.STORE_LOCKED: self._lock_store,
            Kind.CLOCK: self._set_clock,
        }

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
                self._stepped = time.time()
                self._clock.step(offset, self._stepped)
                self._server.set_clock(offset)
            await asyncio.sleep(self._plan.lasts)
