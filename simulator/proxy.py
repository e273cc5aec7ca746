"""A TCP proxy that breaks what passes through it, as `toxics` say.

Toxics are added and removed while connections are open, and concern those too. Bytes that wait here are bounded: who
sends faster than a toxic lets through is read no further, as by a slow network.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from math import inf
from random import Random
from typing import TYPE_CHECKING, Self

from simulator.toxics import Chunk, Ending, Stream, StreamName

if TYPE_CHECKING:
    from simulator.toxics import Toxic

BUFFER = 65_536
"""Bytes that wait in one direction of one connection before its sender is read no further."""

_READ = 16_384
_DRAWN = 1 << 32
_LINGER_0 = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """A toxic of a proxy, to be removed again.

    Attributes:
        toxic: What it does.
        stream: The direction: "upstream" is towards the server.
        toxicity: The share of connections that it concerns.
        draw: Decides which.
    """

    toxic: Toxic
    stream: StreamName
    toxicity: float
    draw: int

    def concerns(self, number: int) -> bool:
        """Whether it is at work on the connection of this number; always the same answer."""
        return Random(self.draw ^ number).random() < self.toxicity  # noqa: S311 - no secret


class Proxy:
    """Listens and connects each client to `target`.

    Args:
        target: Host and port of the server; it may be down, then clients meet a reset.
        seed: Of everything drawn. As the times of a real network are not in it, the same seed gives the same kinds
            of trouble, not the same run.
        listen: Where to listen; by default on a free port of 127.0.0.1.

    Attributes:
        target: May be changed; new connections go there.
        connections: How many there were.
    """

    def __init__(
        self, target: tuple[str, int], seed: int, listen: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self.target = target
        self._listen = listen
        self.connections = 0
        self._rng = Random(seed)  # noqa: S311 - no secret
        self._toxics: list[Added] = []
        self._open: dict[int, _Connection] = {}
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to."""
        assert self._server is not None, "the proxy was not started"
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    @property
    def open(self) -> int:
        """Connections at the moment."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        """Listens."""
        self._server = await asyncio.start_server(self._accept, *self._listen, limit=_READ)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listens no more and resets every connection."""
        assert self._server is not None
        self._server.close()
        tasks = [connection.cancel() for connection in self._open.values()]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def add(self, toxic: Toxic, stream: StreamName = "downstream", toxicity: float = 1.0) -> Added:
        """Adds a toxic, behind those that are there; it is at work at once."""
        added = Added(toxic, stream, toxicity, self._rng.randrange(_DRAWN))
        self._toxics.append(added)
        self._changed()
        return added

    def remove(self, added: Added) -> None:
        """Takes a toxic away; what it held back passes at once."""
        self._toxics.remove(added)
        self._changed()

    def clear(self) -> None:
        """Takes all toxics away."""
        self._toxics.clear()
        self._changed()

    def cut(self) -> None:
        """Resets every connection."""
        for connection in self._open.values():
            connection.cancel()

    def toxics(self, stream: StreamName, number: int) -> list[Toxic]:
        """What is at work on one direction of a connection."""
        return [
            added.toxic
            for added in self._toxics
            if added.stream == stream and added.concerns(number)
        ]

    def _changed(self) -> None:
        for connection in self._open.values():
            connection.change()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        # Known before it is connected: toxics that come meanwhile concern it too.
        rng = Random(self._rng.random())  # noqa: S311 - no secret
        connection = self._open[number] = _Connection(self, number, task, rng)
        try:
            await connection.run(reader, writer)
        except asyncio.CancelledError:
            _reset(
                writer
            )  # swallowed: only `cut` and leaving the proxy cancel, and neither is a fault
        finally:
            del self._open[number]


class _Connection:
    """A client and its server, with a stream in each direction."""

    def __init__(self, proxy: Proxy, number: int, task: asyncio.Task[None], rng: Random) -> None:
        self._proxy = proxy
        self._number = number
        self._task = task
        self._rng = rng
        self._pumps: list[_Pump] = []

    def cancel(self) -> asyncio.Task[None]:
        """Resets both ends; the task to wait for."""
        self._task.cancel()
        return self._task

    def change(self) -> None:
        """The toxics of the proxy are others."""
        for pump in self._pumps:
            pump.change(self._proxy.toxics(pump.name, self._number))

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until both directions have ended, or one of them broke."""
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._proxy.target, limit=_READ)
        except OSError:
            _reset(writer)
            return
        self._pumps = [
            self._pump("upstream", reader, far_writer),
            self._pump("downstream", far_reader, writer),
        ]
        ended = Ending.RESET
        try:
            ended = await self._both()
        finally:
            for end in (writer, far_writer):
                if ended is Ending.RESET:
                    _reset(end)
                else:
                    end.close()
        for end in (writer, far_writer):
            with contextlib.suppress(OSError):
                await end.wait_closed()

    def _pump(
        self, name: StreamName, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> _Pump:
        return _Pump(name, self._proxy.toxics(name, self._number), self._rng, reader, writer)

    async def _both(self) -> Ending:
        """Runs both directions; how the connection ended."""
        running = {asyncio.ensure_future(pump.run()) for pump in self._pumps}
        try:
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for how in (task.result() for task in done):
                    if how is not Ending.EOF:
                        return how
            return Ending.CLOSE
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


class _Pump:
    """Moves one direction: reads while there is room, writes what is due."""

    def __init__(
        self,
        name: StreamName,
        toxics: list[Toxic],
        rng: Random,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.name = name
        self._loop = asyncio.get_running_loop()
        self._stream = Stream(toxics, rng, self._loop.time())
        self._reader = reader
        self._writer = writer
        self._news = asyncio.Event()  # for the writer: something is due at another time
        self._room = asyncio.Event()  # for the reader

    def change(self, toxics: list[Toxic]) -> None:
        """Other toxics from now on."""
        self._stream.change(toxics, self._loop.time())
        self._news.set()

    async def run(self) -> Ending:
        """Until the stream ends; how."""
        reading = asyncio.ensure_future(self._read())
        try:
            return await self._write()
        except OSError:
            return Ending.RESET  # the receiver is gone
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        stream, now = self._stream, self._loop.time
        try:
            while data := await self._reader.read(_READ):
                stream.feed(data, now())
                self._news.set()
                while stream.buffered >= BUFFER:
                    self._room.clear()
                    await self._room.wait()
            stream.end(now())
        except OSError:
            stream.end(now(), Ending.RESET)
        self._news.set()

    async def _write(self) -> Ending:
        while True:
            for event in self._stream.take(self._loop.time()):
                if self._writer.is_closing():
                    return Ending.RESET  # the receiver is gone
                if isinstance(event, Chunk):
                    self._writer.write(event.data)
                    await self._writer.drain()
                else:
                    if event.how is Ending.EOF:
                        self._writer.write_eof()
                    return event.how
            self._room.set()
            self._news.clear()
            due = self._stream.due
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if due == inf else due):
                    await self._news.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with RST instead of FIN."""
    end = writer.get_extra_info("socket")  # None once the connection is lost
    with contextlib.suppress(OSError, AttributeError, ValueError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    writer.transport.abort()
