"""What the tests of pages share: the port's client, and its streams of events."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx

from broker.admin import handlers
from broker.web.subject import Subject
from tests.broker.support import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.broker.support import Served


def subject_of(served: Served) -> Subject:
    """What the pages of a server look at."""
    return Subject.of_server(served.server, handlers(served.server, b""))


def client_of(served: Served) -> httpx.AsyncClient:
    """A client of its port for operators; to be entered."""
    assert served.server.web is not None
    return httpx.AsyncClient(base_url=served.server.web.url, trust_env=False, timeout=PATIENCE)


async def events(client: httpx.AsyncClient, path: str) -> AsyncIterator[tuple[str, Any]]:
    """Name and value of each event of a stream, as browsers read them."""
    name = ""
    async with client.stream("GET", path) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            kind, _, value = line.partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                yield name, json.loads(value)
                name = ""


async def told(
    stream: AsyncIterator[tuple[str, Any]],
    event: str,
    wanted: Callable[[Any], bool] = lambda _: True,
) -> Any:
    """The next value of this event that is as wanted."""
    async with asyncio.timeout(PATIENCE):
        async for name, value in stream:
            if name == event and wanted(value):
                return value
    raise AssertionError(f"the stream ended without {event}")
