"""The fault proxy between real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import time
from random import Random
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from simulator.proxy import BUFFER, Proxy
from simulator.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from simulator.toxics import Toxic
    from tests.simulator.conftest import Until

    Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PATIENCE = 10.0


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A server that says again what it hears, until it hears the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[:2]
    server.close()
    await server.wait_closed()


@pytest_asyncio.fixture
async def proxy(echo: tuple[str, int]) -> AsyncIterator[Proxy]:
    async with asyncio.timeout(3 * PATIENCE), Proxy(echo, seed=1) as running:
        yield running


async def call(proxy: Proxy) -> Ends:
    return await asyncio.open_connection(*proxy.address)


async def said_again(ends: Ends, data: bytes) -> bytes:
    """What comes back of `data`."""
    reader, writer = ends
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        return await reader.readexactly(len(data))


async def test_bytes_pass_both_ways_and_so_does_the_end(proxy: Proxy, until: Until) -> None:
    reader, writer = await call(proxy)
    assert await said_again((reader, writer), b"hello") == b"hello"
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await until(lambda: proxy.open == 0)


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
async def test_a_mix_of_harmless_toxics_changes_no_byte(proxy: Proxy, stream: str) -> None:
    for toxic in (Slicer(700, 600, 50), Latency(5, 5), Bandwidth(3_000), SlowClose(30)):
        proxy.add(toxic, stream)  # type: ignore[arg-type]
    data = Random(7).randbytes(300_000)
    reader, writer = await call(proxy)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    async with asyncio.timeout(PATIENCE):
        back = await reader.read(-1)
    await sending
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
    writer.close()


async def test_latency_delays_by_so_much(proxy: Proxy) -> None:
    ends = await call(proxy)
    proxy.add(Latency(80), "upstream")
    proxy.add(Latency(80), "downstream")
    began = time.monotonic()
    await said_again(ends, b"x")
    assert time.monotonic() - began >= 0.16
    ends[1].close()


async def test_a_toxic_is_added_and_removed_while_the_connection_is_open(proxy: Proxy) -> None:
    ends = await call(proxy)
    await said_again(ends, b"before")
    silence = proxy.add(Latency(60_000), "downstream")
    ends[1].write(b"held back")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ends[0].read(1)
    proxy.remove(silence)
    async with asyncio.timeout(PATIENCE):
        assert await ends[0].readexactly(9) == b"held back"
    assert await said_again(ends, b"after") == b"after"
    ends[1].close()


@pytest.mark.parametrize(
    "toxic", [Timeout(30), LimitData(3)], ids=lambda toxic: type(toxic).__name__
)
async def test_the_connection_is_closed(proxy: Proxy, toxic: Toxic, until: Until) -> None:
    ends = await call(proxy)
    proxy.add(toxic, "downstream")
    ends[1].write(b"abcdef")
    async with asyncio.timeout(PATIENCE):
        assert await ends[0].read(-1) == (b"abc" if isinstance(toxic, LimitData) else b"")
    ends[1].close()
    await until(lambda: proxy.open == 0)


async def test_reset_peer_resets_the_connection(proxy: Proxy) -> None:
    ends = await call(proxy)
    proxy.add(ResetPeer(10), "upstream")
    ends[1].write(b"abc")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionResetError):
            await ends[0].read(-1)
    ends[1].close()


async def test_a_connection_whose_bytes_were_lost_does_not_go_on(proxy: Proxy) -> None:
    ends = await call(proxy)
    proxy.add(Timeout(0), "upstream")
    ends[1].write(b"lost")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ends[0].read(1)
    proxy.clear()
    async with asyncio.timeout(PATIENCE):
        assert await ends[0].read(-1) == b""
    ends[1].close()


async def test_slow_close_lets_the_end_wait(proxy: Proxy) -> None:
    ends = await call(proxy)
    proxy.add(SlowClose(80), "upstream")
    began = time.monotonic()
    ends[1].write_eof()
    async with asyncio.timeout(PATIENCE):
        assert await ends[0].read(-1) == b""
    assert time.monotonic() - began >= 0.08
    ends[1].close()


async def test_who_sends_faster_than_the_line_is_read_no_further(proxy: Proxy) -> None:
    _, writer = await call(proxy)
    proxy.add(Bandwidth(1), "upstream")
    writer.write(bytes(20_000_000))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await writer.drain()
    (connection,) = proxy._open.values()
    upstream = connection._pumps[0]._stream
    assert BUFFER <= upstream.buffered < 2 * BUFFER
    writer.transport.abort()


async def test_toxicity_is_the_share_of_connections_that_suffer(proxy: Proxy) -> None:
    proxy.add(Timeout(0), "upstream", toxicity=0.5)
    suffering = sum(bool(proxy.toxics("upstream", number)) for number in range(1_000))
    assert 400 < suffering < 600
    assert not any(proxy.toxics("downstream", number) for number in range(100))


async def test_the_same_seed_chooses_the_same_connections(echo: tuple[str, int]) -> None:
    chosen = []
    for _ in range(2):
        proxy = Proxy(echo, seed=5)
        proxy.add(Timeout(0), toxicity=0.5)
        chosen.append([bool(proxy.toxics("downstream", number)) for number in range(50)])
    assert chosen[0] == chosen[1]


async def test_a_server_that_is_down_is_a_reset(proxy: Proxy, until: Until) -> None:
    reader, writer = await asyncio.open_connection(*proxy.address)
    writer.close()
    await until(lambda: proxy.open == 0)
    async with Proxy(("127.0.0.1", 9), seed=1) as dead:  # discard: nobody listens there
        reader, writer = await asyncio.open_connection(*dead.address)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


async def test_a_reset_of_the_client_reaches_the_server(until: Until) -> None:
    met: list[BaseException | None] = []
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        served.set()
        try:
            await reader.read(-1)
            met.append(None)
        except ConnectionResetError as error:
            met.append(error)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[:2], seed=1) as proxy:
        for reset in (lambda writer: writer.transport.abort(), lambda _: proxy.cut()):
            served.clear()
            _, writer = await call(proxy)
            _linger_0(writer)
            writer.write(b"x")
            await served.wait()
            reset(writer)
            await until(lambda: proxy.open == 0)
            writer.close()
        await until(lambda: len(met) == 2)
    server.close()
    await server.wait_closed()
    assert all(isinstance(error, ConnectionResetError) for error in met)


def _linger_0(writer: asyncio.StreamWriter) -> None:
    """An abort of this end sends RST."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
