"""The pages of items: the newest, and receipts, over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from broker.web.pages import items
from broker.web.pages.items import Reports, newest
from broker.web.subject import Subject
from devices.frames import Event, Feedback, Kind
from feedgen.items import MAX_ID
from tests.broker.support import Served, eventually, item, packed
from tests.broker.web.pages.support import client_of, subject_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture
async def site(serve: Callable[..., Awaitable[Served]]) -> Served:
    """A server with a page."""
    return await serve(http__bind="127.0.0.1:0")


def names(found: dict[str, Any]) -> list[str]:
    return [each["id"] for each in found["items"]]


# ---- The list


async def test_the_newest_items_come_first_and_an_update_is_new(site: Served) -> None:
    await site.publish(item("a", "one"), item("b", "two"), item("a", "one, again"))
    await site.at_rest()

    found = newest(subject_of(site), "")

    assert names(found) == ["a", "b"]
    assert (found["found"], found["remembered"]) == (2, 2)
    assert found["items"][0]["payload"]["text"] == "one, again"
    assert found["items"][0]["state"] in ("live", "offering")


async def test_items_are_found_by_parts_of_their_ids_and_channels(site: Served) -> None:
    await site.publish(item("Fog-1", "one"), channel="alerts/weather")
    await site.publish(item("cup", "two"), channel="news/sport")
    await site.at_rest()
    subject = subject_of(site)

    assert names(newest(subject, "fog")) == ["Fog-1"]
    assert names(newest(subject, "SPORT")) == ["cup"]
    assert names(newest(subject, "garden")) == []


async def test_what_was_counted_of_an_item_stands_beside_it(site: Served) -> None:
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "one"))
    await device.shows("one")
    await device.tell(Feedback((Event(device.number("one"), Kind.OPENED),)))

    (line,) = newest(subject_of(site), "")["items"]

    assert (line["counts"]["delivered"], line["counts"]["opened"]) == (1, 1)


async def test_an_item_that_is_over_is_remembered_without_its_content(site: Served) -> None:
    await site.publish(item("a", "one"), {"id": "a", "retract": True})
    await site.at_rest()

    (line,) = newest(subject_of(site), "")["items"]

    assert (line["state"], line["payload"]) == ("retracted", None)
    assert line["ended"] is not None


async def test_a_list_is_never_longer_than_a_page(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "LISTED", 2)
    await site.publish(*(item(f"i{each}", f"{each}") for each in range(4)))
    await site.at_rest()

    found = newest(subject_of(site), "")

    assert (names(found), found["found"]) == (["i3", "i2"], 4)


# ---- Receipts


async def test_a_receipt_says_how_far_an_item_got(site: Served) -> None:
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "one"), channel="news/local")
    await device.shows("one")
    await eventually(lambda: site.count("frames", "acked"), bool)
    async with client_of(site) as client:
        found = (await client.get("/api/v1/item/news/local/a")).json()

    assert (found["id"], found["channel"], found["payload"]["text"]) == ("a", "news/local", "one")
    assert (found["census"]["eligible"], found["census"]["held"]) == (1, 1)
    assert (found["counts"]["delivered"], found["counts"]["acknowledged"]) == (1, 1)


@pytest.mark.parametrize(
    ("channel", "item_id"),
    [("news", "a"), ("news/local", "a"), ("news", "local/a"), ("news/local", "ä b?c#d%2F")],
)
async def test_an_item_is_found_where_its_path_says_whatever_is_in_its_id(
    site: Served, channel: str, item_id: str
) -> None:
    await site.publish(item(item_id, "here"), channel=channel)
    await site.at_rest()
    async with client_of(site) as client:
        found = (await client.get(f"/api/v1/item/{channel}/{quote(item_id)}")).json()
        page = await client.get(f"/item/{channel}/{quote(item_id)}")

    assert (found["channel"], found["id"]) == (channel, item_id)
    assert page.headers["content-type"].startswith("text/html")


def test_a_path_means_few_items_however_long_it_is() -> None:
    assert list(items._splits("news/a/b")) == [("news/a", "b"), ("news", "a/b")]
    assert list(items._splits("news")) == []
    splits = list(items._splits("a/" * 100_000 + "b"))
    assert splits[0] == ("a/" * 99_999 + "a", "b")
    assert max(len(name) for _, name in splits) <= MAX_ID
    long = "b" * (MAX_ID + 1)
    assert list(items._splits(f"news/{long}")) == [("news", long)]


async def test_what_no_path_can_say_is_asked_for_by_query(site: Served) -> None:
    await site.publish(item("..", "here"), channel="news//x")
    await site.at_rest()
    async with client_of(site) as client:
        query = {"channel": "news//x", "id": ".."}
        found = (await client.get("/api/v1/item", params=query)).json()
        nothing = await client.get("/api/v1/item")

    assert found["payload"]["text"] == "here"
    assert (nothing.status_code, nothing.json()["error"][:8]) == (400, "say whic")


async def test_an_item_that_nobody_knows_is_refused_in_a_sentence(site: Served) -> None:
    async with client_of(site) as client:
        answer = await client.get("/api/v1/item/news/nothing")

    assert answer.status_code == 400
    assert "nothing is known of an item 'nothing' on 'news'" in answer.json()["error"]


async def test_bytes_in_an_item_have_a_form_for_people(site: Served) -> None:
    await site.publish(packed(id="a", payload=b"\xff\xd8", brief=b"\xff"))
    await site.at_rest()
    async with client_of(site) as client:
        found = (await client.get("/api/v1/item/news/a")).json()

    assert (found["payload"]["text"], found["brief"]["text"]) == ("ff d8", "ff")


def counting(subject: Subject, do: str) -> tuple[Subject, list[str]]:
    """A subject that notes how often a command was asked."""
    asked: list[str] = []
    handler = subject.commands[do]

    async def noted(args: dict[str, Any]) -> Any:
        asked.append(do)
        await asyncio.sleep(0)
        return await handler(args)

    commands = {**subject.commands, do: noted}
    return Subject(subject.service, subject.figures, subject.registry, commands), asked


async def test_however_many_look_a_census_is_taken_once(site: Served) -> None:
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "one"))
    await site.at_rest()
    subject, asked = counting(subject_of(site), "item.show")
    reports = Reports(subject)

    await asyncio.gather(*(reports.of("news", "a") for _ in range(20)))
    await device.shows("one")
    await device.tell(Feedback((Event(device.number("one"), Kind.OPENED),)))
    found = await reports.of("news", "a")

    assert len(asked) == 1
    assert found["counts"]["opened"] == 1  # counts cost nothing, and are of now


async def test_a_census_is_taken_anew_after_a_while(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "_REPORT_EVERY", 0.0)
    monkeypatch.setattr(items, "_SHARE", 1e9)
    await site.publish(item("a", "one"))
    await site.at_rest()
    subject, asked = counting(subject_of(site), "item.show")
    reports = Reports(subject)

    for _ in range(3):
        await reports.of("news", "a")

    assert len(asked) == 3


async def test_only_the_receipts_asked_for_last_are_kept(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "_REPORTS", 2)
    monkeypatch.setattr(items, "_REPORT_EVERY", 60.0)
    await site.publish(*(item(name, name) for name in "abc"))
    await site.at_rest()
    subject, asked = counting(subject_of(site), "item.show")
    reports = Reports(subject)

    for name in "abcca":
        await reports.of("news", name)

    assert len(asked) == 4
