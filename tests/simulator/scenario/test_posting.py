"""Publishers against a tiny feed."""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING

import pytest

from simulator.checker import Checker
from simulator.facts import Content, Key, ServerClock
from simulator.faults.publishers import MAX_IN_FLIGHT, FaultyPublisher, Item
from simulator.scenario import posting
from simulator.scenario.offers import Offer
from simulator.scenario.posting import Desk, Posting
from simulator.scenario.timeline import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.conftest import Until
    from tests.simulator.tiny_feed import TinyFeed

ALWAYS = Pace((0.0,), (1.0,), (0.0,))


class Json(Random):
    """Publishers draw how they encode; the tiny feed reads JSON alone."""

    def random(self) -> float:
        return 0.9


def item(serial: int) -> Item:
    return Item(Content(Key("news", f"n{serial}"), f"text {serial}"), tags=("t",))


def every(seconds: float) -> Iterator[Offer]:
    serial = 0
    while True:
        yield Offer(serial * seconds, item(serial))
        serial += 1


def desk(feed: TinyFeed, offers: Iterator[Offer], heard: list[Offer]) -> Desk:
    checker = Checker(ServerClock())

    def publisher(name: str) -> FaultyPublisher:
        return FaultyPublisher(name, Json(1), checker, lambda: ("127.0.0.1", feed.port))

    return Desk(
        [Posting(publisher("news"), offers, ALWAYS, heard.append)],
        Posting(publisher("control"), iter(()), ALWAYS, heard.append),
    )


async def test_everything_that_is_due_is_said_and_nothing_else(feed: TinyFeed) -> None:
    heard: list[Offer] = []
    staff = desk(feed, every(0.01), heard)
    assert await staff.connect()
    began = time.monotonic()
    await staff.run(began, 0.5)
    assert 0.4 < time.monotonic() - began < 5
    assert await staff.acknowledge(5.0) == 0
    assert (staff.sent, staff.acknowledged, feed.items) == (50, 50, 50)
    assert [offer.item.content.key.id for offer in heard] == [f"n{place}" for place in range(50)]
    assert staff.acknowledgements.count == 50
    staff.close()


async def test_what_a_fault_wants_said_is_said_too_and_items_can_be_said_again(
    feed: TinyFeed,
) -> None:
    staff = desk(feed, iter(()), [])
    assert await staff.connect()
    await staff.say([item(1), item(2)])
    assert await staff.acknowledge(5.0) == 0
    one = item(3)
    await staff.say([one])
    assert staff.item(one.content) is one
    staff.repeat([one])
    assert await staff.acknowledge(5.0) == 0
    assert (staff.sent, staff.repeated, feed.items) == (3, 0, 4)
    staff.close()


async def test_a_server_that_takes_nothing_makes_publishers_wait_and_then_give_up(
    feed: TinyFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "GIVE_UP", 0.2)
    feed.deaf = True
    staff = desk(feed, every(0.0001), [])
    assert await staff.connect()
    await asyncio.wait_for(staff.run(time.monotonic(), 60.0), 10.0)
    assert staff.gave_up
    assert staff.in_flight == staff.sent == MAX_IN_FLIGHT
    assert await staff.acknowledge(0.1) == MAX_IN_FLIGHT
    staff.close()


async def test_a_lost_connection_is_made_again_and_what_was_under_way_is_repeated(
    feed: TinyFeed, until: Until
) -> None:
    staff = desk(feed, iter(()), [])
    assert await staff.connect()
    staying = asyncio.ensure_future(staff.stay())
    feed.deaf = True
    await staff.say([item(1)])
    for session in [*feed.sessions]:
        session.transport.abort()
    feed.deaf = False
    await until(lambda: staff.acknowledged == 1)
    assert staff.repeated == 1
    staying.cancel()
    staff.close()


async def test_what_is_late_is_left_out_where_newer_values_come_anyway(feed: TinyFeed) -> None:
    heard: list[Offer] = []
    checker = Checker(ServerClock())
    publisher = FaultyPublisher("news", Json(1), checker, lambda: ("127.0.0.1", feed.port))
    one = Posting(publisher, every(0.01), ALWAYS, heard.append, late=0.2)
    staff = Desk([one], one)
    assert await staff.connect()
    # It begins a second late: four fifths of what was due are over.
    await staff.run(time.monotonic() - 1.0, 1.2)
    assert one.sent + one.left_out == 120
    assert one.left_out >= 80
    assert heard[0].nominal >= 0.8
    assert staff.left_out == 2 * one.left_out  # the same one, as its own control room
    staff.close()
