"""Which server has which keys, and how that is found out."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from feedgen.store.redis.link import LinkLost, ReplyError, ask

if TYPE_CHECKING:
    from feedgen.store.redis.address import Address, Server
    from feedgen.store.redis.settings import RedisSettings

SLOTS = 16384


class Topology:
    """The masters as they were last seen.

    Attributes:
        masters: All of them, in order; empty before the first `refresh`.
    """

    def __init__(self, address: Address, settings: RedisSettings) -> None:
        self.masters: tuple[Server, ...] = ()
        self._address = address
        self._settings = settings
        self._owners: list[Server] = []
        self._lock = asyncio.Lock()
        self._refreshed = float("-inf")

    @property
    def is_spread(self) -> bool:
        """Whether keys are on several servers, so that commands must keep to one hash slot."""
        return self._address.kind == "cluster"

    def server_of(self, slot: int) -> Server:
        """The master that has a hash slot."""
        return self._owners[slot] if self._owners else self.masters[0]

    def adopt(self, other: Topology) -> None:
        """Begin with what another one knows."""
        self.masters, self._owners = other.masters, other._owners

    def learn(self, slot: int, server: Server) -> None:
        """Take a server's word (MOVED) for where a slot is, until the next `refresh`."""
        if self._owners:
            self._owners[slot] = server
            if server not in self.masters:
                self.masters = (*self.masters, server)

    async def refresh(self, spacing: float = 0.0) -> None:
        """Find the masters anew, unless that was done less than `spacing` seconds ago.

        Raises:
            OSError: Nobody who knows answers; everything stays as it was.
            ReplyError: Somebody answers what cannot be used.
        """
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now < self._refreshed + spacing:
                return
            match self._address.kind:
                case "server":
                    self.masters = self._address.servers
                case "sentinel":
                    self.masters = (await self._first(self._address.servers, self._master_of),)
                case "cluster":
                    known = dict.fromkeys((*self.masters, *self._address.servers))
                    self._owners = await self._first(tuple(known), self._slots_of)
                    self.masters = tuple(sorted({owner for owner in self._owners if owner[0]}))
            self._refreshed = now

    async def _first(self, servers: tuple[Server, ...], question: Any) -> Any:
        """What the first one that can answer says."""
        error: Exception = LinkLost("there is nobody to ask")
        for server in servers:
            try:
                return await question(server)
            except (OSError, ReplyError) as another:
                error = another
        raise error

    async def _master_of(self, sentinel: Server) -> Server:
        public = replace(self._address, user="", password="", db=0)
        name = self._address.master
        (found,) = await ask(
            sentinel, public, self._settings, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        )
        if isinstance(found, ReplyError):
            raise found
        if found is None:
            raise ReplyError(f"NOMASTER the sentinels know no master named {name}")
        return found[0].decode(), int(found[1])

    async def _slots_of(self, server: Server) -> list[Server]:
        (found,) = await ask(server, self._address, self._settings, ("CLUSTER", "SLOTS"))
        if isinstance(found, ReplyError):
            raise found
        # A slot that nobody has now stays with whom it was: asking there brings the error to light.
        owners = self._owners or [("", 0)] * SLOTS
        for first, last, (host, port, *_), *_ in found:
            owner = (host.decode() or server[0]) if host else server[0], int(port)
            owners = [*owners[:first], *[owner] * (last - first + 1), *owners[last + 1 :]]
        if not found or ("", 0) in owners:
            raise ReplyError("CLUSTERDOWN not every hash slot is served")
        return owners
