"""Which nodes are alive: a heartbeat each second, and who else has one."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from feedgen.store.base import StoreError
from feedgen.store.redis import scripts
from feedgen.store.redis.items import LEAP
from feedgen.store.redis.link import ReplyError
from feedgen.store.redis.session import nothing

if TYPE_CHECKING:
    from feedgen.store.redis.items import Numbers
    from feedgen.store.redis.session import Session

INTERVAL = 1.0
"""Seconds between heartbeats, or a fifth of the lease where that is shorter."""
REFRESH = 5.0
"""Seconds between looks at where the masters are: a master that was cut off does not say so."""

_log = logging.getLogger(__name__)


class Members:
    """This node among the others."""

    def __init__(self, session: Session, numbers: Numbers) -> None:
        self._session = session
        self._numbers = numbers
        base = session.keys.once
        self._keys = [f"{base}nodes", f"{base}runs"]

    async def enter(self) -> None:
        """Become one of them.

        Raises:
            StoreError: A node of this name is alive.
        """
        alive = await self._beat()
        if alive is None:
            raise StoreError(
                f"A node named {self._session.node} uses this store already: give this one another"
                f" name. If it was killed just now, wait {self._session.settings.lease:g} s."
            )
        self._session.alive = alive

    async def stay(self) -> None:
        """Beat, and tell of changes, until cancelled."""
        session, loop = self._session, asyncio.get_running_loop()
        self._tell()
        heard = loop.time()
        while True:
            await asyncio.sleep(min(INTERVAL, session.settings.lease / 5))
            try:
                await session.topology.refresh(REFRESH)
            except (OSError, ReplyError) as error:
                _log.debug("The masters of the store cannot be found: %s", error)
            self._numbers.top_up()
            try:
                alive = await self._beat()
            except StoreError:
                return  # it is being closed
            if alive is None:
                _log.error(
                    "Another node named %s uses this store: give one of them another name.",
                    session.node,
                )
            elif alive != session.alive:
                session.alive = alive
                self._tell()
            if loop.time() > heard + session.settings.lease:
                # It counted as dead: others may have claimed what it holds.
                session.tell(lambda changes: changes.missed())
            heard = loop.time()

    def leave(self) -> asyncio.Future[None]:
        """Be none of them any more."""
        session = self._session
        command = scripts.LEAVE.call(self._keys, session.node, session.run)
        return session.ask(session.keys.slot, command, nothing)

    def _tell(self) -> None:
        alive = self._session.alive
        self._session.tell(lambda changes: changes.members(alive))

    def _beat(self) -> asyncio.Future[frozenset[str] | None]:
        session = self._session
        milliseconds = round(session.settings.lease * 1000)
        keys = [*self._keys, f"{session.keys.once}number"]
        command = scripts.HEARTBEAT.call(
            keys, session.node, session.run, milliseconds, self._numbers.highest, LEAP
        )
        return session.ask(session.keys.slot, command, self._alive)

    def _alive(self, reply: list[Any] | None) -> frozenset[str] | None:
        if reply is None:
            return None
        nodes, number = reply
        self._numbers.seen(number)
        return _names(nodes)


async def living(session: Session) -> list[str]:
    """Who is alive, for who is none of them."""
    slot, key = session.keys.slot, f"{session.keys.once}nodes"
    now = await session.ask(slot, ("TIME",), _milliseconds, writes=False)
    command = ("ZRANGEBYSCORE", key, f"({now}", "+inf")
    return sorted(await session.ask(slot, command, _names, writes=False))


def _names(reply: list[bytes]) -> frozenset[str]:
    return frozenset(name.decode() for name in reply)


def _milliseconds(reply: list[bytes]) -> int:
    return int(reply[0]) * 1000 + int(reply[1]) // 1000
