"""A client that asks and asks: what the server keeps of one that never reads, and what others notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.lane.connection import Connection
from devices.frames import Hello, encode_up
from devices.packets import PINGREQ, Connect, Publish, Pubrec, Subscribe, encode
from tests.broker.support import Served, ServerProcess, Target, eventually, item

Serve = Callable[..., Awaitable[Served]]
Start = Callable[..., ServerProcess]

WRITE_BUFFER = 8_192
ONE_READ = 256 * 1024
"""Bytes that a transport reads at a time, and so the most that are answered between two looks."""

NET_DIFFERENCE = 64 * 65_536
"""Bytes of frames that may wait for one device: a window of 64, each item a frame of its own."""

QUESTIONS = {"pingreq": PINGREQ, "pubrec": encode(Pubrec(7))}
"""What is answered at once, with as many bytes."""

HELLO = encode(Publish("u/flood", encode_up(Hello(0, 0))))


@contextmanager
def deaf(target: Target, *packets: bytes) -> Iterator[socket.socket]:
    """A client that has next to no buffer, says this, and never reads."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(target.address)
        sock.sendall(b"".join(packets))
        sock.setblocking(False)
        yield sock


async def ask_on(sock: socket.socket, question: bytes, most: int = 1 << 25) -> None:
    """Ask the same again and again until the server closes, or so many bytes were taken."""
    loop = asyncio.get_running_loop()
    questions = question * (65_536 // len(question))
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            for _ in range(most // len(questions)):
                await loop.sock_sendall(sock, questions)


async def connection_of(served: Served, client_id: str) -> Connection:
    """The server's end."""
    found = await eventually(
        lambda: [
            connection
            for bucket in served.server.lane._buckets
            for connection in bucket
            if connection.connect is not None and connection.connect.client_id == client_id
        ]
    )
    return found[0]


async def most_that_waited(connection: Connection) -> int:
    """Look at the connection's buffer in every turn of the loop until it is closed."""
    most = 0
    while connection.closed_for is None:
        most = max(most, connection.transport.get_write_buffer_size())
        await asyncio.sleep(0)
    return most


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_client_that_asks_on_and_never_reads_is_closed(serve: Serve, question: str) -> None:
    served = await serve(limits__write_buffer=WRITE_BUFFER)
    with deaf(served, encode(Connect("deaf"))) as sock:
        watching = asyncio.create_task(most_that_waited(await connection_of(served, "deaf")))
        await ask_on(sock, QUESTIONS[question])
        await served.counted("closed", "write_buffer_full")
    assert await watching <= WRITE_BUFFER + ONE_READ


async def test_a_device_that_asks_on_and_never_reads_is_closed_too(serve: Serve) -> None:
    """Its frames may wait, as far as one net difference goes, and answers beside them."""
    served = await serve(limits__write_buffer=WRITE_BUFFER)
    subscribe = encode(Subscribe(1, (("f/deaf", 1),)))
    with deaf(served, encode(Connect("deaf")), subscribe) as sock:
        connection = await connection_of(served, "deaf")
        await eventually(lambda: connection.ack_queue is not None)
        watching = asyncio.create_task(most_that_waited(connection))
        await ask_on(sock, QUESTIONS["pubrec"])
        await served.counted("closed", "write_buffer_full")
    assert await watching <= WRITE_BUFFER + NET_DIFFERENCE + ONE_READ


async def test_a_device_that_neither_reads_nor_asks_is_left_in_peace(serve: Serve) -> None:
    """It holds up nobody: what it misses becomes one difference, and its end is the keep-alive's matter."""
    served = await serve(limits__write_buffer=WRITE_BUFFER)
    subscribe = encode(Subscribe(1, (("f/deaf", 0),)))
    with deaf(served, encode(Connect("deaf")), subscribe):
        connection = await connection_of(served, "deaf")
        await eventually(lambda: connection.ack_queue is not None)
        for number in range(50):
            await served.publish(item("changing", f"{number} " + "x" * 200))
        await served.at_rest()
        assert connection.closed_for is None
        assert connection.transport.get_write_buffer_size() <= NET_DIFFERENCE
    await eventually(lambda: connection.closed_for)


def resident(server: ServerProcess) -> int:
    """Bytes of memory that the server's process takes."""
    assert server._process is not None
    statm = Path(f"/proc/{server._process.pid}/statm").read_text(encoding="ascii")
    return int(statm.split()[1]) * resource.getpagesize()


async def test_several_of_them_cost_the_process_little_more_than_their_buffers(
    process: Start,
) -> None:
    """Also on uvloop, where each answer that waits is an object of its own."""
    server = process()
    await server.subscribed("control")
    before, most = resident(server), 0
    with contextlib.ExitStack() as stack:
        asking = []
        for name in ("deaf1", "deaf2", "deaf3", "deaf4"):
            said = encode(Connect(name)), encode(Subscribe(1, ((f"f/{name}", 1),)))
            asking.append(ask_on(stack.enter_context(deaf(server, *said)), QUESTIONS["pubrec"]))
        together = asyncio.gather(*asking)
        while not together.done():
            most = max(most, resident(server) - before)
            await asyncio.sleep(0.01)
        await together
    await eventually(lambda: server.count("closed", "write_buffer_full"), lambda n: n == 4)
    assert most < 4 * (NET_DIFFERENCE + ONE_READ) + (16 << 20)


async def read_all(sock: socket.socket) -> None:
    """Read whatever comes."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(sock, 65_536):
            pass


@pytest.mark.parametrize("question", [PINGREQ, HELLO], ids=["pingreq", "hello"])
async def test_a_client_that_sends_as_fast_as_it_can_keeps_nobody_from_a_frame(
    process: Start, question: bytes
) -> None:
    """It reads all answers, so there is no reason to close it, but it has not the loop for itself."""
    server = process()
    device = await server.subscribed("control")
    publisher = await server.connect("publisher")
    said = encode(Connect("flood")), encode(Subscribe(1, (("f/flood", 1),)))
    with deaf(server, *said) as sock:
        reading = asyncio.create_task(read_all(sock))
        flooding = asyncio.create_task(ask_on(sock, question, 1 << 40))
        for number in range(20):
            body = json.dumps(item(str(number), f"item {number}")).encode()
            await publisher.publish("items/news", body)
            await device.frame()
        assert not flooding.done()
        flooding.cancel()
        reading.cancel()
        await asyncio.wait((flooding, reading))
    assert device.shown[0] == "item 19"
