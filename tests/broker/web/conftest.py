"""A server with a port for operators, and a client for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from broker.figures.reading import Figures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.broker.support import Served

TOKEN = "a-token-of-thirty-two-characters"


def looked_at(served: Served) -> Figures:
    """Figures that have not looked yet: those of the server may tell of a second ago."""
    server = served.server
    return Figures(server.service, server.lane, server.exchange)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with `TOKEN` in it."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture
async def open_page(
    serve: Callable[..., Awaitable[Served]],
) -> AsyncIterator[Callable[..., Awaitable[httpx.AsyncClient]]]:
    """Start a server with the port, and give a client of that; both end with the test."""
    clients: list[httpx.AsyncClient] = []

    async def start(**settings: Any) -> httpx.AsyncClient:
        served = await serve(**{"http__bind": "127.0.0.1:0", **settings})
        assert served.server.web is not None
        client = httpx.AsyncClient(base_url=served.server.web.url, trust_env=False, timeout=10)
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.aclose()
