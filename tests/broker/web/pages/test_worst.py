"""Which devices do worst, on a real server with devices that misbehave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.web.pages import worst as module
from broker.web.pages.worst import worst
from tests.broker.support import Served, eventually, item

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from broker.web.pages.worst import Worst


def look(
    served: Served,
    ahead: float,
    stall_after: float = 60.0,
    most: int = 20,
    since: float | None = None,
) -> list[Worst]:
    """As the page would look so many seconds from now, or from that moment on the loop's clock."""
    service = served.server.service
    now = asyncio.get_running_loop().time() if since is None else since
    return worst(service.roster.shelves, service.engine, now + ahead, stall_after, most)


async def test_devices_that_keep_up_are_not_named(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.frame()
    await device.peer.ping()
    await served.at_rest()

    assert look(served, ahead=3600.0) == []


async def test_a_device_that_has_just_been_sent_a_frame_is_not_named(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.frame(ack=False)

    assert look(served, ahead=0.0) == []


async def test_a_device_that_acknowledges_nothing_is_late_and_then_stalled(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.frame(ack=False)

    (late,) = look(served, ahead=5.0)
    assert (late.device, late.state, late.unacknowledged, late.lacks) == ("kitchen", "late", 1, 0)
    assert 5.0 <= late.seconds < 15.0
    (stalled,) = look(served, ahead=61.0)
    assert stalled.state == "stalled"


async def test_what_a_device_lacks_is_what_it_was_not_sent(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve(feed__max_inflight=1)
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.frame(ack=False)
    await served.publish(item("b", "two"), item("c", "three"))
    await served.at_rest()

    (late,) = look(served, ahead=5.0)
    assert (late.unacknowledged, late.lacks) == (1, 2)


async def test_the_very_worst_stand_first_and_only_so_many_are_named(served: Served) -> None:
    names = [f"meter-{each}" for each in range(6)]
    devices = []
    for each in names:
        device = await served.subscribed(each)
        await served.publish(item(each, "one"))
        devices.append(device)
        await device.frame(ack=False)
    await served.at_rest()

    now = asyncio.get_running_loop().time()
    found = look(served, ahead=30.0, since=now)
    assert {each.device for each in found} == set(names)
    assert [each.seconds for each in found] == sorted(
        (each.seconds for each in found), reverse=True
    )
    assert look(served, ahead=30.0, most=2, since=now) == found[:2]


async def test_a_device_whose_budget_is_spent_waits_for_it(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve(budgets__device_frames=60)
    device = await served.subscribed("kitchen")
    sent = 0
    while not look(served, ahead=0.0):
        sent += 1
        assert sent < 100
        await served.publish(item(f"i{sent}", "more"))
        await served.at_rest()
        while device.replica.seq < served.server.service.describe("kitchen")["position"][1]:
            await device.frame()
        await device.peer.ping()
        await served.at_rest()

    (waits,) = look(served, ahead=0.0)
    assert (waits.device, waits.state) == ("kitchen", "budget")
    assert waits.lacks >= 1


async def test_a_device_that_does_not_read_is_named_at_once(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve()
    device = await served.subscribed("kitchen")
    live = served.server.service.roster.get("kitchen")
    assert live is not None
    served.server.service.roster.ledger(live).block(live.seat.row, blocked=True)

    (full,) = await eventually(lambda: look(served, ahead=0.0))
    assert (full.device, full.state) == ("kitchen", "full")
    assert device.name == full.device


async def test_an_empty_place_of_a_feed_is_nothing_that_a_device_lacks(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    served = await serve(feed__max_inflight=1, ranking__model="newest")
    device = await served.subscribed("kitchen")
    names = [f"i{each}" for each in range(1, 9)]
    await served.publish(*(item(each, each) for each in names))
    await device.shows(*reversed(names))
    await served.publish(item("i9", "i9"))
    await device.frame(ack=False)
    # Nine items, of which the eighth and ninth go: seven are left, and one of them was pushed out.
    await served.publish({"id": "i9", "retract": True}, {"id": "i8", "retract": True})
    await served.at_rest()

    (late,) = look(served, ahead=5.0)
    assert late.lacks == 1


async def test_where_many_do_badly_the_stalled_ones_are_looked_at_first(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOKED_AT", 1)
    for name in ("reads-nothing", "stalled"):
        device = await served.subscribed(name)
        await served.publish(item(name, "one"))
        await device.frame(ack=False)
    service = served.server.service
    for live in service.roster:
        ledger, row = service.roster.ledger(live), live.seat.row
        if live.profile.device == "reads-nothing":
            ledger.block(row, blocked=True)
            ledger.waiting_since[row] += 30.0

    (found,) = look(served, ahead=61.0)
    assert (found.device, found.state) == ("stalled", "stalled")
