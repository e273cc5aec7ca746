"""What the examination finds at the port for operators."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from broker.config import HttpSettings
from broker.run.doctor_http import examine_http
from broker.run.findings import Finding, Level
from broker.web import opening
from tests.broker.support import Served


def found(settings: HttpSettings, *, running: bool = False) -> Finding:
    (each,) = examine_http(settings, running=running)
    return each


@pytest.fixture
def taken() -> socket.socket:
    """A port that somebody else listens on, and never answers at."""
    return socket.create_server(("127.0.0.1", 0))


def test_without_such_a_port_there_is_nothing_to_say() -> None:
    assert list(examine_http(HttpSettings(), running=False)) == []


def test_a_port_that_can_be_had_is_well() -> None:
    assert found(HttpSettings(bind="127.0.0.1:0")).level is Level.OK
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    each = found(HttpSettings(bind=f"127.0.0.1:{port}"))
    assert (each.level, each.said) == (Level.OK, f"127.0.0.1:{port} is free")


def test_a_port_that_is_taken_fails_by_its_setting(taken: socket.socket) -> None:
    with taken:
        each = found(HttpSettings(bind=f"127.0.0.1:{taken.getsockname()[1]}"))
    assert each.level is Level.FAIL
    assert "http.bind" in each.advice


def test_a_token_that_is_not_there_and_a_missing_extra_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = HttpSettings(bind="127.0.0.1:0", token_file=tmp_path / "token")
    assert "cannot be read: No such file" in found(settings).said
    monkeypatch.setattr(opening, "_NEEDED", ("not_there_at_all",))
    each = found(settings)
    assert each.level is Level.FAIL
    assert "pip install 'fleetfeed[web]'" in each.said


async def test_a_running_server_is_asked_whether_it_is_ready(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    server = (await serve(http__bind="127.0.0.1:0")).server
    assert server.web is not None
    settings = HttpSettings(bind=f"127.0.0.1:{server.web.address[1]}")
    each = await asyncio.to_thread(found, settings, running=True)
    assert (each.level, each.said) == (Level.OK, f"{settings.bind} answers 200: ready")
    server.stopping = True
    each = await asyncio.to_thread(found, settings, running=True)
    assert each.level is Level.WARN
    assert each.said == ("the server is not ready: the server is ending, and lets its clients go")
    assert each.advice


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"?"])
async def test_what_is_no_fleetfeed_there_fails(answer: bytes) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1", 0) as other:
        bind = f"127.0.0.1:{other.sockets[0].getsockname()[1]}"
        each = await asyncio.to_thread(found, HttpSettings(bind=bind), running=True)
    assert each.level is Level.FAIL
    assert "does not answer as fleetfeed does" in each.said
