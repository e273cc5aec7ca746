"""The store is out of reach: what goes on, what waits, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices.packets import Connect, Puback, Publish
from tests.broker.support import eventually, item

if TYPE_CHECKING:
    from tests.broker.cluster.conftest import FaultyFleet


async def test_new_clients_are_told_to_come_back_later(faulty: FaultyFleet) -> None:
    here = await faulty.node()
    here.cut_off()
    peer = await here.peer()
    assert (await peer.greet(Connect("kitchen"))).code == 3
    assert here.count("dropped", "connect_refused_store_away") == 1
    here.reconnect()
    await here.subscribed("kitchen")


async def test_a_client_whose_claim_is_not_answered_is_told_so_and_holds_nothing(
    faulty: FaultyFleet,
) -> None:
    here = await faulty.node(cluster__handover_wait=0)
    here.server.door  # noqa: B018 - the node is up
    arrivals = here.server.lane.door
    arrivals._patience = 0.05  # type: ignore[attr-defined]
    directory = here.server.node.directory  # type: ignore[union-attr]
    look_up = directory.look_up

    async def then_away(devices: object) -> None:
        await look_up(devices)  # type: ignore[arg-type]
        here.cut_off()

    directory.look_up = then_away  # type: ignore[method-assign]
    peer = await here.peer()
    assert (await peer.greet(Connect("kitchen"))).code == 3
    here.reconnect()
    await eventually(lambda: here.server.service.store.pending, lambda pending: not pending)
    await faulty.free("kitchen")  # what was claimed too late is let go again


async def test_connected_devices_are_sent_best_effort_items(faulty: FaultyFleet) -> None:
    here, there = await faulty.pair()
    device, other = await here.subscribed("kitchen"), await there.subscribed("cellar")
    peer = await here.connect("", clean=True)
    here.cut_off()
    await peer.publish("items/news", b'{"id": "a", "payload": "one"}', qos=0)
    await device.shows("one")
    here.reconnect()
    await other.shows("one")


async def test_a_publisher_is_acknowledged_when_the_store_is_back(faulty: FaultyFleet) -> None:
    here, there = await faulty.pair()
    device = await here.subscribed("kitchen")
    peer = await here.connect("", clean=True)
    here.cut_off()
    peer.send(Publish("items/news", b'{"id": "a", "payload": "one"}', 1, 7))
    await peer.ping()  # PINGRESP is the next packet: no PUBACK
    here.reconnect()
    assert (await peer.expect(Puback)).packet_id == 7
    await device.shows("one")
    await (await there.subscribed("cellar")).shows("one")


async def test_publishers_are_read_no_further_when_too_much_waits(faulty: FaultyFleet) -> None:
    here = await faulty.node(limits__max_pending_items=10)
    peer = await here.connect("", clean=True)
    here.cut_off()
    for number in range(200):
        peer.send(Publish("items/news", b'{"id": "%d", "payload": "x"}' % number, 1, number + 1))
    await eventually(lambda: here.server.service.congested)
    here.reconnect()
    for number in range(200):
        assert (await peer.expect(Puback)).packet_id == number + 1


async def test_a_publisher_is_closed_when_the_item_numbers_are_used_up(faulty: FaultyFleet) -> None:
    faulty.world.block = 300
    here = await faulty.node(limits__max_pending_items=10_000)
    peer = await here.connect("", clean=True)
    here.cut_off()
    packets = [
        Publish("items/news", b'{"id": "%d", "payload": "x"}' % number, 1, number + 1)
        for number in range(400)
    ]
    peer.send(*packets)
    await peer.expect_end()
    assert here.count("closed", "store_away") == 1
    here.reconnect()
    await here.at_rest()
    assert len(here.server.service.catalog) <= 300


async def test_a_device_that_left_meanwhile_is_let_go_with_its_position(
    faulty: FaultyFleet,
) -> None:
    here, there = await faulty.pair()
    await here.publish(item("a", "one"))
    device = await here.subscribed("kitchen", clean=False)
    here.cut_off()
    await device.peer.drop()
    await eventually(lambda: not here.server.lane.connections)
    here.reconnect()
    await faulty.free("kitchen")
    again = await there.device("kitchen", device.replica, clean=False)
    assert again.session_present
    again.hello()
    await there.publish(item("b", "two"))
    await again.delta()
    assert again.shown == ["two", "one"]


async def test_a_node_that_stops_meanwhile_says_what_was_not_stored(faulty: FaultyFleet) -> None:
    import pytest  # noqa: PLC0415

    from feedgen.store.base import StoreError  # noqa: PLC0415

    here, _ = await faulty.pair()
    peer = await here.connect("", clean=True)
    here.cut_off()
    peer.send(Publish("items/news", b'{"id": "a", "payload": "one"}', 1, 7))
    await peer.ping()
    with pytest.raises(StoreError):
        await here.stop()
    here.reconnect()
