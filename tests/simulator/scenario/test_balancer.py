"""The balancer before several nodes, with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from simulator.scenario.balancer import Balancer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BIG = b"x" * 3_000_000


@contextlib.asynccontextmanager
async def node(name: bytes) -> AsyncIterator[tuple[str, int]]:
    """Says its name and then whatever it hears."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if data == b"end":
                    break
                writer.write(data)
                await writer.drain()
        await hang_up(writer)

    calls: set[asyncio.Task[None]] = set()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.add(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await asyncio.gather(*calls)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def call(balancer: Balancer) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*balancer.address)
    return await reader.readexactly(1), reader, writer


async def test_connections_go_to_one_node_after_the_other() -> None:
    async with node(b"A") as a, node(b"B") as b, Balancer([a, b]) as balancer:
        calls = [await call(balancer) for _ in range(4)]
        assert [name for name, _, _ in calls] == [b"A", b"B", b"A", b"B"]
        for _, _, writer in calls:
            await hang_up(writer)


async def test_a_node_that_is_down_is_passed_over() -> None:
    async with node(b"A") as a:
        async with node(b"B") as b:
            pass
        async with Balancer([b, a]) as balancer:
            names = []
            for _ in range(3):
                name, _, writer = await call(balancer)
                names.append(name)
                await hang_up(writer)
            assert names == [b"A"] * 3


async def test_everything_passes_whole_and_in_order_whatever_the_size() -> None:
    async with node(b"A") as a, Balancer([a]) as balancer:
        _, reader, writer = await call(balancer)
        writer.write(BIG)
        assert await reader.readexactly(len(BIG)) == BIG
        await hang_up(writer)


async def test_what_a_node_ends_is_ended_for_the_device() -> None:
    async with node(b"A") as a, Balancer([a]) as balancer:
        _, reader, writer = await call(balancer)
        writer.write(b"end")
        assert await reader.read() == b""
        await hang_up(writer)


async def test_without_any_node_a_connection_is_ended_at_once() -> None:
    async with node(b"A") as a:
        pass
    async with Balancer([a]) as balancer:
        reader, writer = await asyncio.open_connection(*balancer.address)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await hang_up(writer)


async def test_who_leaves_ends_every_connection() -> None:
    async with node(b"A") as a:
        async with Balancer([a]) as balancer:
            _, reader, writer = await call(balancer)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await hang_up(writer)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*balancer.address)
