"""Sending an item over HTTP: tried out, refused, stored."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from broker.web.pages import send
from tests.broker.support import Served, item
from tests.broker.web.pages.support import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import httpx

TRIAL, PUBLISH = "/api/v1/items/trial", "/api/v1/items"


@pytest.fixture
async def site(serve: Callable[..., Awaitable[Served]]) -> Served:
    """An open server with a page on loopback: it may publish."""
    return await serve(http__bind="127.0.0.1:0")


@pytest.fixture
async def client(site: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Asks it."""
    async with client_of(site) as client:
        yield client


def asked(channel: str = "news", **fields: Any) -> dict[str, Any]:
    return {"channel": channel, "item": fields}


async def test_an_item_is_stored_and_reaches_devices(
    site: Served, client: httpx.AsyncClient
) -> None:
    device = await site.subscribed("kitchen")

    answer = await client.post(PUBLISH, json=asked(id="a", payload="fog", priority=2, ttl=600))

    assert answer.status_code == 200
    told = answer.json()
    assert (told["outcome"], told["id"], told["channel"]) == ("new", "a", "news")
    await device.shows("fog")
    assert device.number("fog") == told["n"]
    record = site.server.service.catalog.find("news", "a")
    assert record is not None
    assert (record.item.priority, record.item.ttl, record.publisher) == (2, 600, "")


async def test_what_it_became_is_told(site: Served, client: httpx.AsyncClient) -> None:
    await site.publish(item("a", "one"))

    update = await client.post(PUBLISH, json=asked(id="a", payload="two"))
    same = await client.post(PUBLISH, json=asked(id="a", payload="two"))

    assert [each.json()["outcome"] for each in (update, same)] == ["update", "unchanged"]


async def test_a_dry_run_says_who_would_get_it_and_leaves_no_trace(
    site: Served, client: httpx.AsyncClient
) -> None:
    await site.subscribed("kitchen")

    found = (await client.post(TRIAL, json=asked(id="a", payload="fog"))).json()

    assert (found["outcome"], found["places"]["seen"]) == ("new", 1)
    assert [each["device"] for each in found["samples"]] == ["kitchen"]
    await site.at_rest()
    assert site.server.service.catalog.find("news", "a") is None
    assert site.window("kitchen") == []


async def test_what_is_no_item_is_refused_with_the_reason(
    site: Served, client: httpx.AsyncClient
) -> None:
    for path in (TRIAL, PUBLISH):
        answer = await client.post(path, json=asked(id="a", payload="fog", priority=9))
        assert answer.status_code == 422
        assert "priority" in answer.json()["error"]
    assert site.count("items", "received") == 0


@pytest.mark.parametrize(
    "wrong", [[], {}, {"channel": 1, "item": {}}, {"channel": "news", "item": "fog"}]
)
async def test_a_request_that_names_no_item_is_refused(
    client: httpx.AsyncClient, wrong: Any
) -> None:
    assert (await client.post(PUBLISH, json=wrong)).status_code == 400


async def test_what_a_form_of_another_page_could_send_is_refused(
    client: httpx.AsyncClient,
) -> None:
    plain = await client.post(PUBLISH, content=b'{"channel": "news", "item": {"payload": "x"}}')
    foreign = await client.post(
        PUBLISH,
        json=asked(payload="x"),
        headers={"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"},
    )

    assert plain.status_code == 415
    assert foreign.status_code == 403


async def test_nothing_is_sent_where_the_page_may_not(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    site = await serve(http__bind="127.0.0.1:0", http__send=False)
    async with client_of(site) as client:
        for path in (TRIAL, PUBLISH):
            answer = await client.post(path, json=asked(payload="fog"))
            assert (answer.status_code, "http.send" in answer.json()["error"]) == (403, True)
        assert (await client.get("/api/v1/page")).json()["send"] is False
    assert site.count("items", "received") == 0


async def test_a_server_that_has_too_much_already_says_so(
    site: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(site.server.service), "congested", property(lambda _: True))

    answer = await client.post(PUBLISH, json=asked(payload="fog"))

    assert answer.status_code == 503
    assert "try again" in answer.json()["error"]


async def test_an_item_that_is_not_stored_in_time_is_said_to_be_open(
    site: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "DURABLE_WITHIN", 0.01)
    stored = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(site.server.store, "submit", lambda _changes, **_: stored)

    answer = await client.post(PUBLISH, json=asked(id="a", payload="fog"))

    assert answer.status_code == 504
    assert "stored only once" in answer.json()["error"]
    monkeypatch.undo()
    stored.cancel()


@pytest.mark.parametrize("key", ["id", "payload"])
async def test_text_that_is_no_utf_8_is_refused_and_not_changed(
    client: httpx.AsyncClient, key: str
) -> None:
    # Half of a pair, as JavaScript has it in strings that were cut.
    fields = json.dumps({"id": "a", "payload": "one", key: "\ud83d"})
    body = f'{{"channel": "news", "item": {fields}}}'

    answer = await client.post(PUBLISH, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert "surrogate" in answer.json()["error"]
