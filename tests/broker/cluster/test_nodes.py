"""Several servers as one: what is said to one node is seen at all, and devices move between them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.positions import POISON_AFTER
from devices.inflight import ALONE_AFTER
from devices.packets import Connack, Connect, Puback, Publish, Will
from devices.replica import Replica
from tests.broker.support import Device, eventually, follow, item

if TYPE_CHECKING:
    from tests.broker.cluster.conftest import FaultyFleet, Fleet, NodeServed


async def test_an_item_that_one_node_accepts_is_shown_by_the_others(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    device = await there.subscribed("kitchen")
    await here.publish(item("a", "one"))
    await device.shows("one")


async def test_a_retraction_at_one_node_is_one_at_all(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    device = await there.subscribed("kitchen")
    await here.publish(item("a", "one"), item("b", "two"))
    await device.shows("two", "one")
    await there.publish({"id": "b", "retract": True})
    other = await here.subscribed("cellar")
    await device.shows("one")
    await other.shows("one")


async def test_a_node_that_comes_later_knows_every_item_before_it_listens(fleet: Fleet) -> None:
    here = await fleet.node()
    await here.publish(item("a", "one"))
    late = await fleet.node()
    device = await late.subscribed("kitchen")
    assert device.shown == ["one"]


# ---- Coming and going


async def test_a_device_that_reconnects_elsewhere_goes_on_by_its_position(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    await here.publish(item("a", "one"))
    device = await here.subscribed("kitchen")
    await device.peer.ping()
    await device.peer.leave()
    await here.publish(item("b", "two"))
    again = await there.device("kitchen", device.replica)
    again.hello()
    await again.subscribe()
    await again.delta()
    assert again.shown == ["two", "one"]


async def test_a_persistent_session_is_present_at_another_node_with_its_frames_in_flight(
    fleet: Fleet,
) -> None:
    here, there = await fleet.pair()
    device = await here.subscribed("kitchen", clean=False)
    await here.publish(item("a", "one"))
    lost = await device.publish()
    await device.peer.drop()
    await fleet.free("kitchen")
    again = await there.device("kitchen", device.replica, clean=False)
    assert again.session_present
    sent_again = await again.publish()
    assert sent_again.dup
    assert (sent_again.packet_id, sent_again.payload) == (lost.packet_id, lost.payload)


async def test_what_a_session_holds_beside_its_feed_stays_and_is_said_to_be_gone_elsewhere(
    fleet: Fleet,
) -> None:
    here, there = await fleet.pair()
    device = await here.subscribed("kitchen", clean=False)
    await device.peer.subscribe(("weather/#", 1))
    await device.peer.drop()
    await fleet.free("kitchen")
    again = await here.device("kitchen", device.replica, clean=False)
    assert again.session_present
    await here.publish_other("weather/today", b"rain")
    assert (await again.peer.expect(Publish)).payload == b"rain"
    await again.peer.drop()
    await fleet.free("kitchen")
    elsewhere = await there.device("kitchen", device.replica, clean=False)
    assert not elsewhere.session_present
    await elsewhere.peer.drop()
    await fleet.free("kitchen")
    back = await here.device("kitchen", device.replica, clean=False)
    await here.publish_other("weather/today", b"sun")
    await back.peer.ping()  # and nothing of what it once subscribed to


async def test_a_device_that_connects_elsewhere_is_closed_where_it_was(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    await here.publish(item("a", "one"))
    device = await here.subscribed("kitchen")
    again = await there.device("kitchen", device.replica)
    await device.peer.expect_end()
    again.hello()
    await again.subscribe()
    await there.publish(item("b", "two"))
    await again.delta()  # by position: the node before had let go in time
    assert again.shown == ["two", "one"]
    assert here.count("closed", "taken_over") == 1
    assert not here.holds("kitchen")
    assert there.holds("kitchen")


async def test_a_node_keeps_nothing_of_a_device_that_has_left(fleet: Fleet) -> None:
    here = await fleet.node()
    device = await here.subscribed("kitchen", clean=False)
    await device.peer.drop()
    await fleet.free("kitchen")
    service = here.server.service
    assert len(here.server.registry) == len(service.roster) == len(here.server.lane.sessions) == 0


async def test_a_device_that_reconnects_at_once_where_it_was_never_moves(fleet: Fleet) -> None:
    here = await fleet.node()
    device = await here.subscribed("kitchen", clean=False)
    again = await here.device("kitchen", device.replica, clean=False)
    await device.peer.expect_end()
    assert again.session_present
    again.hello()
    await here.publish(item("a", "one"))
    await again.shows("one")


async def test_a_will_of_a_device_still_changes_its_profile(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    from devices.frames import encode_up  # noqa: PLC0415

    will = Will("u/kitchen", encode_up(follow("sports/#", unfollow=("#",))), 0, False)
    device = await here.device("kitchen", will=will)
    await device.subscribe()
    await device.frame()
    await device.peer.drop()
    await fleet.free("kitchen")
    await here.publish(item("a", "news"))
    await here.publish(item("b", "goal"), channel="sports")
    again = await there.subscribed("kitchen")
    assert again.shown == ["goal"]


async def test_a_dismissed_item_stays_away_at_every_node(fleet: Fleet) -> None:
    from devices.frames import Event, Feedback, Kind  # noqa: PLC0415

    here, there = await fleet.pair()
    await here.publish(item("a", "one"), item("b", "two"))
    device = await here.subscribed("kitchen")
    await device.tell(Feedback((Event(device.number("two"), Kind.DISMISSED, None, None),)))
    await device.shows("one")
    await device.peer.leave()
    again = await there.subscribed("kitchen", Replica())
    assert again.shown == ["one"]


async def test_a_frame_that_a_device_dies_of_is_found_out_whichever_nodes_it_comes_to(
    fleet: Fleet,
) -> None:
    nodes = await fleet.pair()
    await nodes[0].publish(item("good", "good"))
    device = await nodes[0].subscribed("kitchen", clean=False)
    await nodes[0].publish(item("bad", "bad"))
    await device.publish()
    await device.peer.drop()
    present = []
    for life in range(ALONE_AFTER + POISON_AFTER):
        await fleet.free("kitchen")
        device = await nodes[life % 2].device("kitchen", device.replica, clean=False)
        present.append(device.session_present)
        await device.publish()  # the frame again, and the end
        await device.peer.drop()
    await fleet.free("kitchen")
    last = nodes[(ALONE_AFTER + POISON_AFTER) % 2]
    device = await last.device("kitchen", device.replica, clean=False)
    assert all(present)
    assert not device.session_present
    device.hello()
    await device.subscribe()
    await device.shows("good")


# ---- Nodes that fail


async def test_a_device_of_a_node_that_died_begins_a_new_epoch_elsewhere(
    faulty: FaultyFleet,
) -> None:
    here, there = await faulty.pair()
    await here.publish(item("a", "one"))
    device = await here.subscribed("kitchen", clean=False)
    epoch = device.replica.position[0]
    await here.kill()
    again = await there.device("kitchen", device.replica, clean=False)
    assert not again.session_present
    again.hello()
    await again.subscribe()
    snapshot = await again.snapshot()
    assert snapshot.epoch == epoch + 1
    assert again.shown == ["one"]


async def test_a_node_that_was_cut_off_keeps_its_devices_until_they_come_elsewhere(
    faulty: FaultyFleet,
) -> None:
    here, there = await faulty.pair(cluster__handover_wait=0.1)
    await here.publish(item("a", "one"))
    stays, moves = await here.subscribed("cellar"), await here.subscribed("kitchen")
    here.cut_off()
    again = await there.device("kitchen", Replica())
    await again.subscribe()
    snapshot = await again.snapshot()
    assert snapshot.epoch == moves.replica.position[0] + 1
    await there.publish(item("b", "two"))
    here.reconnect()
    await moves.peer.expect_end()
    assert here.count("closed", "taken_over") == 1
    await stays.shows("two", "one")
    await again.shows("two", "one")
    await eventually(lambda: not here.holds("kitchen"))


async def test_what_was_dismissed_at_a_node_that_was_cut_off_leaves_the_window_elsewhere(
    faulty: FaultyFleet,
) -> None:
    from devices.frames import Event, Feedback, Kind  # noqa: PLC0415

    here, there = await faulty.pair(cluster__handover_wait=0.1)
    await here.publish(item("a", "one"), item("b", "two"))
    device = await here.subscribed("kitchen")
    here.cut_off()
    dismissed = Event(device.number("two"), Kind.DISMISSED, None, None)
    await device.tell(Feedback((dismissed,)))
    again = await there.device("kitchen", Replica())
    await again.subscribe()
    await again.snapshot()
    assert again.shown == ["two", "one"]
    here.reconnect()
    await again.shows("one")


async def test_a_fenced_node_closes_what_it_no_longer_holds_as_soon_as_it_writes(
    faulty: FaultyFleet,
) -> None:
    here, there = await faulty.pair(cluster__handover_wait=0)
    device = await here.subscribed("kitchen")
    here.store._words.clear()
    faulty.world.nodes.pop("node1")  # it hears nothing, and its lease is over
    again = await there.subscribed("kitchen", Replica())
    device.say(follow("sports/#"))
    await device.peer.expect_end()
    assert not here.holds("kitchen")
    faulty.world.nodes["node1"] = here.store
    await there.publish(item("a", "one"))
    await again.shows("one")


async def test_word_that_was_missed_is_made_up_for_by_a_look_at_all(faulty: FaultyFleet) -> None:
    here, there = await faulty.pair(cluster__handover_wait=0)
    device = await here.subscribed("kitchen")
    other = await here.subscribed("cellar")
    faulty.world.nodes.pop("node1")
    await there.subscribed("kitchen", Replica())
    await there.command("device.follow", device="cellar", follow=["sports/#"], unfollow=["#"])
    faulty.world.nodes["node1"] = here.store
    here.node.missed()
    await device.peer.expect_end()
    await here.publish(item("a", "news"))
    await there.publish(item("b", "goal"), channel="sports")
    await other.shows("goal")


# ---- CONNECT


async def test_a_client_that_says_all_at_once_is_let_in_before_the_rest_is_read(
    fleet: Fleet,
) -> None:
    here, there = await fleet.pair()
    await here.publish(item("a", "one"))
    peer = await there.peer()
    from devices.packets import Subscribe  # noqa: PLC0415

    peer.send(
        Connect("kitchen"), Subscribe(1, (("f/kitchen", 1),)), Publish("items/news", b"x", 1, 9)
    )
    connack = await peer.expect(Connack)
    assert connack.code == 0
    device = Device(peer, "kitchen", Replica(), connack)
    assert (await peer.read()) is not None  # SUBACK
    awaited = {Puback, Publish}  # one or two frames, and the PUBACK in any place among them
    while awaited:
        awaited.discard(type(await peer.read()))
    assert device.name in {p.device for p in there.server.registry}


async def test_many_devices_that_come_at_once_are_all_claimed(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    await here.publish(item("a", "one"))
    nodes = (here, there)

    async def one(number: int) -> None:
        node: NodeServed = nodes[number % 2]
        device = await node.subscribed(f"d{number}")
        assert device.shown == ["one"]

    await asyncio.gather(*(one(number) for number in range(200)))
    held = [node.node.directory.held for node in nodes]
    assert held == [100, 100]
