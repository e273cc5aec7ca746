"""The overview over HTTP: what a browser is told, and what it costs to tell many."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from broker.web.pages import overview
from broker.web.pages.overview import VIEWERS, Pulse
from tests.broker.support import PATIENCE, Served, eventually, item
from tests.broker.web.pages import support

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@pytest.fixture
async def web(serve: Callable[..., Awaitable[Served]]) -> Served:
    """A server with a page that looks often."""
    return await serve(http__bind="127.0.0.1:0", http__refresh=0.2, topics__sys_interval=0)


@pytest.fixture
async def client(web: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Asks it."""
    assert web.server.web is not None
    async with httpx.AsyncClient(base_url=web.server.web.url, timeout=PATIENCE) as client:
        yield client


async def told(
    client: httpx.AsyncClient, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The first look on the stream that is as wanted."""
    found: dict[str, Any] = await support.told(support.events(client, "/events"), "", wanted)
    return found


async def test_a_new_viewer_is_told_the_history_and_then_how_it_is(
    client: httpx.AsyncClient,
) -> None:
    stream = support.events(client, "/events")
    async with asyncio.timeout(PATIENCE):
        first, second = await anext(stream), await anext(stream)

    assert first[0] == "history"
    assert set(first[1]) > {"at", "frames", "items", "frame_p95", "ack_p95", "level"}
    assert second[0] == ""
    assert second[1]["ready"] == {"ready": True, "reasons": []}


async def test_devices_and_frames_are_counted_as_they_come(
    web: Served, client: httpx.AsyncClient
) -> None:
    device = await web.subscribed("kitchen")
    await web.publish(item("a", "one"))
    await device.frame()

    now = await told(
        client, lambda now: now["frames"]["sent"] >= 2 and now["latency"]["ack"]["p95"]
    )
    assert now["devices"] == {
        "total": 1,
        "connected": 1,
        "subscribed": 1,
        "silent": 0,
        "stalled": 0,
    }
    assert now["items"]["live"] == 1
    assert now["ranking"]["model"] == "popularity"
    assert now["point"]["devices"] == 1


async def test_what_is_dropped_is_told_in_words(web: Served, client: httpx.AsyncClient) -> None:
    await web.publish(b'{"payload": }')

    now = await told(client, lambda now: bool(now["drops"]))
    (drop,) = now["drops"]
    assert (drop["what"], drop["words"], drop["total"]) == ("item", "begins as JSON and is none", 1)


async def test_the_same_numbers_are_there_without_a_stream(
    web: Served, client: httpx.AsyncClient
) -> None:
    await web.subscribed("kitchen")
    await told(client, lambda now: now["devices"]["subscribed"] == 1)

    found = (await client.get("/api/v1/overview")).json()
    assert found["now"]["devices"]["subscribed"] == 1
    assert found["history"]["at"][-1] == found["now"]["point"]["at"]


async def test_every_page_learns_whether_it_may_send(client: httpx.AsyncClient) -> None:
    about = (await client.get("/api/v1/page")).json()

    assert about["send"] is True
    assert about["refresh"] == 0.2


async def test_nobody_is_told_anything_that_costs_while_nobody_looks(
    web: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    really = Pulse.now

    def now(pulse: Pulse) -> dict[str, Any]:
        nonlocal made
        made += 1
        return really(pulse)

    monkeypatch.setattr(Pulse, "now", now)
    pulse = Pulse(_subject_of(web))
    pulse.start()
    await eventually(lambda: len(pulse.history.points) >= 2)

    assert made == 0


async def test_a_look_is_encoded_once_for_all_who_watch(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    really = overview.encode

    def encode(value: Any, event: str = "") -> bytes:
        encoded.append(event)
        return really(value, event)

    monkeypatch.setattr(overview, "encode", encode)
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(client.stream("GET", "/events")) for _ in range(5)
        ]
        lines = [stream.aiter_lines() for stream in streams]
        seen: list[Any] = []
        async with asyncio.timeout(PATIENCE):
            for each in lines:
                found = []
                while len(found) < 6:
                    line = await anext(each)
                    if line.startswith("data: "):
                        found.append(json.loads(line.removeprefix("data: ")))
                seen.append(found)
    looks = {json.dumps(look) for found in seen for look in found[2:]}

    # Five viewers saw as many different looks as were encoded, not five times as many.
    assert len(looks) <= encoded.count("") < 5 * 4


async def test_there_are_only_so_many_viewers_and_the_next_is_told_so(
    client: httpx.AsyncClient,
) -> None:
    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=VIEWERS + 4)
        many = await stack.enter_async_context(
            httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE, limits=limits)
        )
        for _ in range(VIEWERS):
            stream = await stack.enter_async_context(many.stream("GET", "/events"))
            assert stream.status_code == 200
        refused = await many.get("/events")

    assert refused.status_code == 503
    assert "are watching already" in refused.json()["error"]


async def test_looking_ends_when_the_server_does(web: Served) -> None:
    pulse = Pulse(_subject_of(web))
    web.server.stopping = True
    try:
        pulse.start()
    finally:
        web.server.stopping = False

    assert pulse.history.last is None


def _subject_of(web: Served) -> Any:
    from broker.web.subject import Subject  # noqa: PLC0415 - where the others make it from

    return Subject.of_server(web.server, {})
