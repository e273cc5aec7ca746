"""The `$SYS` tree as Mosquitto tells it over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx

from broker.figures import tree
from broker.web.systree import systree
from tests.broker.support import Served, item
from tests.broker.web.conftest import looked_at

MOSQUITTO = (
    "$SYS/broker/clients/total",
    "$SYS/broker/clients/maximum",
    "$SYS/broker/clients/disconnected",
    "$SYS/broker/clients/connected",
    "$SYS/broker/clients/expired",
    "$SYS/broker/messages/stored",
    "$SYS/broker/store/messages/bytes",
    "$SYS/broker/subscriptions/count",
    "$SYS/broker/shared_subscriptions/count",
    "$SYS/broker/retained messages/count",
    "$SYS/broker/heap/current",
    "$SYS/broker/heap/maximum",
    "$SYS/broker/messages/received",
    "$SYS/broker/messages/sent",
    "$SYS/broker/bytes/received",
    "$SYS/broker/bytes/sent",
    "$SYS/broker/publish/bytes/received",
    "$SYS/broker/publish/bytes/sent",
    "$SYS/broker/packet/out/bytes",
    "$SYS/broker/connections/socket/count",
    "$SYS/broker/publish/messages/dropped",
    "$SYS/broker/publish/messages/received",
    "$SYS/broker/publish/messages/sent",
    "$SYS/broker/uptime",
)
"""What Mosquitto 2.1 tells, but for `packet/out/count`: nothing here is queued by packets."""


async def test_it_has_every_topic_of_sys_and_all_but_versions_are_numbers(served: Served) -> None:
    await served.publish(item("a", "x"))
    reading = looked_at(served).read()
    found = systree(reading)
    assert found.keys() == {topic for topic, _ in tree.topics(reading)}
    texts = {topic for topic, value in found.items() if isinstance(value, str)}
    assert texts == {"$SYS/broker/version", "$SYS/broker/feed/version"}
    assert found["$SYS/broker/feed/items/received"] == 1


async def test_what_mosquitto_tells_is_there_as_whole_numbers(
    open_page: Callable[..., Awaitable[httpx.AsyncClient]],
) -> None:
    client = await open_page()
    answer = await client.get("/api/v1/systree")
    assert answer.headers["Content-Type"] == "application/json"
    found = answer.json()
    assert {topic: type(found.get(topic)) for topic in MOSQUITTO} == dict.fromkeys(MOSQUITTO, int)
