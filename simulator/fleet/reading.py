"""Clients that are slow to read: that take their time before each read, or do not read at all for a while."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from simulator.connection import Client

if TYPE_CHECKING:
    from devices.packets import Connect


class SlowReader(Client):
    """A client that reads when it pleases. What it does not read waits in the sockets, where the server feels it."""

    __slots__ = ("_held", "_stalled_until")

    def __init__(self, connect: Connect) -> None:
        super().__init__(connect)
        self._held = (
            b""  # one read that is not looked at yet; while there is any, nothing more is read
        )
        self._stalled_until = 0.0

    def dawdling(self) -> float:
        """Seconds to wait before what has arrived is looked at; a hook."""
        return 0.0

    @property
    def stalled(self) -> bool:
        """Whether it reads nothing at the moment."""
        return self._stalled_until > 0.0

    def stall(self, seconds: float = inf) -> None:
        """Reads nothing for a while, on this connection and on others that are made meanwhile."""
        until = asyncio.get_running_loop().time() + seconds
        self._stalled_until = max(self._stalled_until, until)
        self.stop_reading()

    def wait_out(self, now: float) -> None:
        """Reads again once its time is over; to be called every few seconds."""
        if now >= self._stalled_until:
            self._stalled_until = 0.0
            self.read_on()
        else:
            # It cannot know whether the server is silent.
            self.heard = now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing of another connection is left."""
        self._held = b""
        if self._stalled_until == inf:
            self._stalled_until = 0.0
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Looks at it at once, or later."""
        seconds = self.dawdling()
        if self._held:
            self._held += data  # TLS may have more of what it has read already
        elif seconds > 0.0 and self._transport is not None:
            self._held = data
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._look, self._transport)
        else:
            super().data_received(data)

    def _look(self, transport: asyncio.Transport) -> None:
        if transport is not self._transport:
            return
        data, self._held = self._held, b""
        super().data_received(data)
        if not self.stalled:
            self.read_on()
