"""A way to Redis that loses answers, holds them back, or is not there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from tests.redis_servers import free_port


class RedisProxy:
    """Stands before one server. Every connection can be made to fail in a chosen moment.

    Attributes:
        lost: how many answers were lost.
        port: where it listens.
    """

    def __init__(self, target: int) -> None:
        self.lost = 0
        self.port = free_port()
        self._target = target
        self._pattern = b""
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def shut(self) -> None:
        """Cut all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        self._flows.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """End all connections; new ones are let through."""
        for writer in list(self._writers):
            writer.transport.abort()

    def lose_answer_to(self, pattern: bytes) -> None:
        """Cut the connection when the answer to what has `pattern` in it comes, once."""
        self._pattern = pattern

    def hold(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        self._flows.clear()

    def let_go(self) -> None:
        """What was held gets through."""
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        doomed = asyncio.Event()
        self._writers |= {writer, inner}
        pumps = [
            asyncio.create_task(self._up(reader, inner, doomed)),
            asyncio.create_task(self._down(inner_reader, writer, doomed)),
        ]
        with contextlib.suppress(asyncio.CancelledError):  # only `shut` cancels
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for each in (writer, inner):
            each.transport.abort()
        self._writers -= {writer, inner}
        self._tasks.discard(task)

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                await self._flows.wait()
                if self._pattern and self._pattern in data:
                    self._pattern = b""
                    doomed.set()
                writer.write(data)
                await writer.drain()

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                await self._flows.wait()
                if doomed.is_set():
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()
