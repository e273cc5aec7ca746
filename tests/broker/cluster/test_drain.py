"""A node that leaves: its clients go elsewhere a few at a time, and nothing of theirs is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from devices.packets import Connect
from tests.broker.support import eventually, item

if TYPE_CHECKING:
    from tests.broker.cluster.conftest import Fleet


async def test_devices_are_closed_in_batches_and_go_on_elsewhere_by_their_position(
    fleet: Fleet,
) -> None:
    here, there = await fleet.pair(cluster__drain_seconds=0.5)
    await here.publish(item("a", "one"))
    devices = [await here.subscribed(f"d{i}", clean=False) for i in range(20)]
    ledgers = [shelf.ledger for shelf in here.server.service.roster.shelves]
    # What is not acknowledged would come again, before anything else.
    await eventually(lambda: not any(ledger.inflight.any() for ledger in ledgers))
    drained = asyncio.ensure_future(here.server.drain(asyncio.Event()))
    counts = set()
    while not drained.done():
        counts.add(here.server.lane.connections)
        await asyncio.sleep(0.01)
    assert len(counts) > 5, "not all at once"
    await there.publish(item("b", "two"))
    for number, device in enumerate(devices):
        await device.peer.expect_end()
        again = await there.device(f"d{number}", device.replica, clean=False)
        assert again.session_present
        again.hello()
        await again.delta()
        assert again.shown == ["two", "one"]


async def test_nobody_is_let_in_meanwhile(fleet: Fleet) -> None:
    here = await fleet.node(cluster__drain_seconds=5.0)
    early = await here.peer()
    await here.subscribed("kitchen")
    hurry = asyncio.Event()
    drained = asyncio.ensure_future(here.server.drain(hurry))
    await asyncio.sleep(0)
    assert (await early.greet(Connect("cellar"))).code == 3
    with pytest.raises(ConnectionRefusedError):
        await here.peer()
    hurry.set()
    await drained


async def test_a_second_signal_ends_the_patience(fleet: Fleet) -> None:
    here, there = await fleet.pair(cluster__drain_seconds=600.0)
    device = await here.subscribed("kitchen")
    hurry = asyncio.Event()
    drained = asyncio.ensure_future(here.server.drain(hurry))
    await asyncio.sleep(0)
    hurry.set()
    await drained
    await here.stop()
    await device.peer.expect_end()
    assert await fleet.holder("kitchen") == ""
    await there.subscribed("kitchen")


async def test_a_server_alone_does_not_drain(serve) -> None:  # type: ignore[no-untyped-def]
    served = await serve()
    device = await served.subscribed("kitchen")
    await served.server.drain(asyncio.Event())
    await device.peer.ping()
    await eventually(lambda: served.server.lane.connections == 1)
