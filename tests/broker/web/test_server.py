"""The port itself: where it is, what it bears, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broker.config import HttpSettings
from broker.control import ControlError
from broker.web import server as module
from broker.web.answers import body
from broker.web.server import WebServer
from broker.web.streams import Audience, encode
from tests.broker.support import PATIENCE, Served, ServerProcess, eventually

Start = Callable[..., Awaitable[WebServer]]

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start the port with some routes."""
    async with AsyncExitStack() as stack:

        async def begin(*routes: Route, bind: str = "127.0.0.1:0") -> WebServer:
            started = WebServer(
                HttpSettings(bind=bind), Starlette(routes=[*routes, Route("/", _hello)])
            )
            await started.start()
            stack.push_async_callback(started.stop)
            return started

        yield begin


async def _hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def ends(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes the connection."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


# ---- Where it is


async def test_port_0_becomes_the_one_that_the_system_chose(start: Start) -> None:
    server = await start()
    host, port = server.address
    assert (host, server.url) == ("127.0.0.1", f"http://127.0.0.1:{port}/")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(server.url)).text == "hello"


async def test_an_ipv6_address_is_written_in_brackets(start: Start) -> None:
    server = await start(bind="[::1]:0")
    assert server.url == f"http://[::1]:{server.address[1]}/"
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(server.url)).text == "hello"


async def test_an_address_in_use_is_a_sentence_that_names_the_setting(start: Start) -> None:
    first = await start()
    bind = f"127.0.0.1:{first.address[1]}"
    with pytest.raises(ControlError, match=rf"{bind} \(Address already in use\): check http.bind"):
        await start(bind=bind)


async def test_signals_stay_with_whoever_had_them(start: Start) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    await start()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


# ---- What it bears


async def test_a_head_without_end_is_refused(start: Start) -> None:
    server = await start()
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * (2 * module.MAX_HEAD))
    assert (await ends(reader)).startswith(b"HTTP/1.1 4")
    writer.close()


async def test_a_head_that_is_too_long_is_refused_also_when_it_comes_at_once(start: Start) -> None:
    server = await start()
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(GET.replace(b"/ ", b"/" + b"x" * module.MAX_HEAD + b" ", 1))
    assert (await ends(reader)).startswith(b"HTTP/1.1 431")
    assert server._refused["http_too_large"] == 1
    writer.close()


async def test_what_is_not_http_is_counted_and_fills_no_log(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    audience = Audience()

    async def events(_request: Request) -> Response:
        return audience.join(encode(1))

    server = await start(Route("/events", events))
    caplog.set_level(logging.DEBUG)
    head = b"GET /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    for at_once, later in (
        (b"\x16\x03\x01\r\n\r\n", b""),
        (head + b"zz\r\n", b""),
        (head, b"zz\r\n"),
    ):
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(at_once)
        if later:
            await reader.readuntil(b"data: 1\n\n")
            writer.write(later)
        told = await ends(reader)
        assert told.startswith(b"HTTP/1.1 400") is not at_once.startswith(b"GET")
        await eventually(lambda: not len(audience))
        writer.close()
    assert server._refused["http_malformed"] == 3
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "said", [b"", GET[:-2], GET], ids=["nothing", "half a request", "one and a half"]
)
async def test_who_does_not_ask_to_the_end_is_disconnected(
    start: Start, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIMEOUT", 0.1)
    server = await start()
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(said)
    if said == GET:
        await reader.readuntil(b"hello")
        writer.write(GET[:-2])
    await ends(reader)
    await eventually(lambda: not server._state.connections)
    writer.close()


async def test_who_does_not_read_is_disconnected_and_its_answer_ends(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_TIMEOUT", 0.1)
    audience = Audience(room=1_000)

    async def events(_request: Request) -> Response:
        return audience.join()

    server = await start(Route("/events", events))
    reader, writer = await asyncio.open_connection(*server.address, limit=1_024)
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's has it
    writer.write(GET.replace(b"/ ", b"/events ", 1))
    await eventually(lambda: len(audience) == 1)
    piece = encode("x" * 1_000_000)
    async with asyncio.timeout(PATIENCE):
        while len(audience):
            audience.tell(piece)
            await asyncio.sleep(0.01)
    await eventually(lambda: not server._state.connections)
    assert server._refused["http_not_read"] == 1
    del reader
    writer.close()


async def test_connections_above_the_bound_are_closed_at_once_and_others_served(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    server = await start()
    kept = [await asyncio.open_connection(*server.address) for _ in range(2)]
    await eventually(lambda: len(server._state.connections) == 2)
    reader, writer = await asyncio.open_connection(*server.address)
    assert await ends(reader) == b""
    writer.close()
    assert server._refused["http_too_many"] == 1
    for reader, writer in kept:
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_nobody_can_claim_another_address(start: Start) -> None:
    async def whoami(request: Request) -> Response:
        assert request.client is not None
        return PlainTextResponse(f"{request.client.host} {request.url.scheme}")

    server = await start(Route("/whoami", whoami))
    claims = {"X-Forwarded-For": "10.9.8.7", "X-Forwarded-Proto": "https"}
    async with httpx.AsyncClient(trust_env=False, headers=claims) as client:
        assert (await client.get(f"{server.url}whoami")).text == "127.0.0.1 http"


# ---- How it ends


async def test_at_the_end_answers_are_given_and_streams_and_idle_connections_closed(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    audience, asked, go_on = Audience(), asyncio.Event(), asyncio.Event()

    async def events(_request: Request) -> Response:
        return audience.join(encode(1))

    async def slow(_request: Request) -> Response:
        asked.set()
        await go_on.wait()
        return PlainTextResponse("at last")

    server = await start(Route("/events", events), Route("/slow", slow))
    caplog.set_level(logging.DEBUG)
    connections = [await asyncio.open_connection(*server.address) for _ in range(3)]
    for (_, writer), path in zip(connections, (b"/events ", b"/slow ", b"/ "), strict=True):
        writer.write(GET.replace(b"/ ", path, 1))
    (stream, _), (late, _), (idle, _) = connections
    await stream.readuntil(b"data: 1\n\n")
    await asked.wait()
    await idle.readuntil(b"hello")
    stopping = asyncio.create_task(server.stop())
    await eventually(lambda: not len(audience))
    go_on.set()
    async with asyncio.timeout(PATIENCE):
        await stopping
    assert (await ends(late)).endswith(b"at last")
    assert await ends(idle) == b""
    assert not server._state.connections
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(*server.address)
    for _, writer in connections:
        writer.close()


async def test_an_answer_that_never_comes_does_not_hold_up_the_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.05)
    ended = asyncio.Event()

    async def never(_request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    server = await start(Route("/never", never))
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(GET.replace(b"/ ", b"/never ", 1))
    await eventually(lambda: len(server._state.tasks) == 1)
    async with asyncio.timeout(PATIENCE):
        await server.stop()
        await ended.wait()
    assert await ends(reader) == b""
    writer.close()


async def test_a_server_stops_in_order_while_somebody_watches(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve(http__bind="127.0.0.1:0")
    assert served.server.web is not None
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream("GET", f"{served.server.web.url}events") as answer,
    ):
        assert answer.status_code == 200
        async with asyncio.timeout(PATIENCE):
            await served.restart()
    assert served.server.web is not None
    async with httpx.AsyncClient(base_url=served.server.web.url, trust_env=False) as client:
        assert (await client.get("/readyz")).json()["ready"] is True


async def test_who_leaves_in_the_middle_of_its_request_is_no_fault(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    failed = asyncio.Event()

    async def read(request: Request) -> Response:
        try:
            return PlainTextResponse(await body(request))
        finally:
            failed.set()

    server = await start(Route("/read", read, methods=["POST"]))
    _, writer = await asyncio.open_connection(*server.address)
    writer.write(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
    await eventually(lambda: len(server._state.tasks) == 1)
    writer.close()
    async with asyncio.timeout(PATIENCE):
        await failed.wait()
    await eventually(lambda: not server._state.tasks)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


# ---- As a process


async def test_the_line_that_says_that_it_is_ready_names_the_page(
    process: Callable[..., ServerProcess],
) -> None:
    server = process(http__bind="127.0.0.1:0")
    url = server.ready.rpartition("page ")[2].removesuffix(")\n")
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
        client.stream("GET", "/events") as answer,
    ):
        assert answer.status_code == 200
        assert (await client.get("/healthz")).text == "ok\n"
        await asyncio.to_thread(server.stop)


def test_who_has_no_such_port_loads_nothing_for_it() -> None:
    words = (
        "import sys, broker.app, broker.gateway.app, broker.commands.demonstration, broker.run.doctor\n"
        "print([m for m in ('starlette', 'uvicorn', 'prometheus_client') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
