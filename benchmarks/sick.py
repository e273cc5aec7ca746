"""Clients that a server must not let others suffer from, for `isolation.py`.

Each kind of sickness is a coroutine that runs until it is cancelled. Storms are as fast as the server
reads them; what costs the load more than the server has a rate, so that it is the server that suffers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgpack
from wire import connect_packet, packet, publish_packet, subscribe_packet

#: Devices that never read, and what is sent to them: bytes of an item, items a second.
STUCK, BULK, BULK_RATE = 50, 8_000, 20
#: Connections a second of the storm and of the churn, and QoS 2 items a second.
MALFORMED_RATE, CHURN_RATE, UNRELEASED_RATE = 300, 100, 500
#: Ids that one client may leave unreleased before the server closes it.
UNRELEASED = 4096
#: Bytes that a storm hands to its socket at a time.
BLOB = 65_536
#: What breaks MQTT 3.1.1 as the first or the second packet.
GARBAGE = (
    b"\x00" * 64,
    b"GET / HTTP/1.1\r\nHost: feed\r\n\r\n",
    packet(0x10, b"\x00\x04MQTT\x09\x02\x00\x3c\x00\x00"),
    b"\x10\xff\xff\xff\xff\x7f",
    connect_packet("garbage") + packet(0x30, b"\x00\x03a/#"),
    connect_packet("garbage") + packet(0x82, b"\x00\x00\x00\x01a\x00"),
)


class Sick:
    """All sicknesses, in a process of their own that yields to the one that measures.

    Args:
        port: the server's, on 127.0.0.1.
        seed: of what garbage comes when.
    """

    KINDS = ("stuck", "hellos", "pings", "malformed", "unreleased", "churn")

    def __init__(self, *, port: int, seed: int) -> None:
        os.nice(10)
        self._address = ("127.0.0.1", port)
        self._random = random.Random(seed)
        self._task: asyncio.Task[None] | None = None
        self._done = 0

    async def fall_ill(self, *, kind: str) -> None:
        """Begin one sickness."""
        self._done = 0
        self._task = asyncio.create_task(getattr(self, kind)())

    async def recover(self) -> int:
        """End it; returns how often it did its harm.

        Raises:
            ConnectionError: the server ended what it should have borne, or whatever else went wrong.
        """
        assert self._task is not None
        task, self._task = self._task, None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return self._done

    # The sicknesses

    async def stuck(self) -> None:
        """Devices with large windows that never read, and items for them alone."""
        hello = msgpack.packb([0, 0, 0, {1: 64, 2: 65_536, 3: 0}])
        follow = msgpack.packb([3, {"follow": ["sick/bulk"], "unfollow": ["#"]}])
        async with contextlib.AsyncExitStack() as stack:
            for at in range(STUCK):
                await stack.enter_async_context(self._device(f"stuck{at}", hello, follow))
            publisher = await stack.enter_async_context(self._connected("bulk"))
            for at in itertools.count(1):
                body = msgpack.packb({"id": f"bulk{at % 64}", "payload": os.urandom(BULK)})
                await self._say(publisher, publish_packet("items/sick/bulk", body, 0))
                await asyncio.sleep(1 / BULK_RATE)

    async def hellos(self) -> None:
        """One device that says it has lost everything, without end."""
        async with self._device("hellos") as device:
            await self._storm(device, publish_packet("u/hellos", msgpack.packb([0, 0, 0]), 0))

    async def pings(self) -> None:
        """One client that only wants to know whether the server is alive, and reads the answers."""
        async with self._connected("pings") as client:
            await self._storm(client, b"\xc0\x00")

    async def malformed(self) -> None:
        """Clients that do not speak MQTT, or not for long."""
        async for _ in self._paced(MALFORMED_RATE):
            with contextlib.suppress(ConnectionError):
                async with self._open() as sock:
                    await self._say(sock, self._random.choice(GARBAGE))
                    while await asyncio.get_running_loop().sock_recv(sock, 4096):
                        pass

    async def unreleased(self) -> None:
        """A publisher of QoS 2 items that never sends PUBREL, until it is closed; then it is back."""
        while True:
            async with self._connected("unreleased") as client:
                reading = asyncio.create_task(self._discard(client))
                with contextlib.suppress(ConnectionError):
                    async for at in self._paced(UNRELEASED_RATE):
                        body = msgpack.packb({"id": f"q{at % 64}", "payload": f"{at}", "ttl": 60})
                        topic = "items/sick/unreleased"
                        await self._say(client, publish_packet(topic, body, 2, at % 65_535 + 1))
                        if at >= UNRELEASED:
                            break
                reading.cancel()

    async def churn(self) -> None:
        """Devices that come for their feed and go without a word."""
        async for at in self._paced(CHURN_RATE):
            async with self._device(f"churn{at % 500}") as device:
                await asyncio.get_running_loop().sock_recv(device, 4096)

    # How they do it

    async def _storm(self, sock: socket.socket, question: bytes) -> None:
        reading = asyncio.create_task(self._discard(sock))
        blob = question * (BLOB // len(question))
        try:
            while True:
                await asyncio.get_running_loop().sock_sendall(sock, blob)
                self._done += len(blob) // len(question)
        finally:
            reading.cancel()

    async def _discard(self, sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            while await asyncio.get_running_loop().sock_recv(sock, 65_536):
                pass

    async def _say(self, sock: socket.socket, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, data)
        self._done += 1

    async def _paced(self, rate: float) -> AsyncIterator[int]:
        """Count at a rate; what is late is not made up for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for at in itertools.count():
            yield at
            due = max(due + 1 / rate, loop.time())
            await asyncio.sleep(due - loop.time())

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[socket.socket]:
        """A connection with small buffers."""
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, self._address)
            yield sock

    @asynccontextmanager
    async def _connected(self, ident: str) -> AsyncIterator[socket.socket]:
        """A client that has its CONNACK."""
        async with self._open() as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, connect_packet(ident))
            await loop.sock_recv(sock, 4)
            yield sock

    @asynccontextmanager
    async def _device(self, ident: str, *ups: bytes) -> AsyncIterator[socket.socket]:
        """A device that has its SUBACK."""
        async with self._connected(ident) as sock:
            loop = asyncio.get_running_loop()
            said = b"".join(publish_packet(f"u/{ident}", up, 0) for up in ups)
            await loop.sock_sendall(sock, said + subscribe_packet(1, [f"f/{ident}"], 1))
            await loop.sock_recv(sock, 5)
            self._done += 1
            yield sock
