"""One address before several nodes: what an operator's TCP load balancer does, and no more.

A connection goes to the next node in turn that accepts it. What a node ends is ended for the device, which then comes
back by itself and meets another node.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.faults.server import Address

_BACKLOG = 4_096
_NOWHERE = ("127.0.0.1", 0)


class Balancer:
    """Listens on a free port of 127.0.0.1.

    Args:
        targets: Where the nodes are; they may be down.

    Attributes:
        address: Host and port to connect to; known once it listens.
    """

    def __init__(self, targets: Sequence[Address]) -> None:
        self._targets = targets
        self._turn = count()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[_Half] = set()
        self._changed = asyncio.Event()
        self.address = _NOWHERE

    async def __aenter__(self) -> Self:
        """Listens."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Half(self), "127.0.0.1", 0, backlog=_BACKLOG
        )
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = host, port
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listens no more and ends every connection."""
        assert self._server is not None
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        for half in [*self._open]:
            half.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._open:
            self._changed.clear()
            await self._changed.wait()

    def accept(self, device: _Half) -> None:
        """A device has connected: a node is looked for."""
        self._open.add(device)
        task = asyncio.get_running_loop().create_task(self._join(device))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def gone(self, half: _Half) -> None:
        """A connection has ended."""
        self._open.discard(half)
        self._changed.set()

    async def _join(self, device: _Half) -> None:
        first = next(self._turn)
        for place in range(len(self._targets)):
            host, port = self._targets[(first + place) % len(self._targets)]
            node = _Half(self, device)
            try:
                await asyncio.get_running_loop().create_connection(_as_is(node), host, port)
            except OSError:
                continue
            self._open.add(node)
            device.join(node)
            return
        device.abort()


class _Half(asyncio.Protocol):
    """One of the two connections: towards a device, or, if it is made with one, towards a node."""

    __slots__ = ("_balancer", "_early", "_other", "_transport")

    def __init__(self, balancer: Balancer, other: _Half | None = None) -> None:
        self._balancer = balancer
        self._other = other
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        """What a device said before it had a node; it says one CONNECT and waits."""

    def join(self, other: _Half) -> None:
        """The other half is there."""
        self._other = other
        if self._transport is None:  # ended meanwhile
            other.abort()
        for data in self._early:
            other.write(data)
        self._early.clear()

    def write(self, data: bytes) -> None:
        """Passes on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Ends at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Ends once everything is written."""
        if self._transport is not None:
            self._transport.close()

    def pause(self) -> None:
        """Reads no more, as the other half is not read."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Looks for a node, if this is a device."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by what it does
        if self._other is None:
            self._balancer.accept(self)

    def data_received(self, data: bytes) -> None:
        """Passes on."""
        if self._other is None:
            self._early.append(data)
        else:
            self._other.write(data)

    def pause_writing(self) -> None:
        """This side is full."""
        if self._other is not None:
            self._other.pause()

    def resume_writing(self) -> None:
        """There is room again."""
        if self._other is not None:
            self._other.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the other half too: in order, or as this one ended."""
        self._transport = None
        self._balancer.gone(self)
        if self._other is not None:
            (self._other.close if exc is None else self._other.abort)()


def _as_is(half: _Half) -> Callable[[], _Half]:
    """A factory of protocols that gives this one."""
    return lambda: half
