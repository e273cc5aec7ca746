"""What the fault suite found in nodes, each a story of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker.access.credentials import UNAVAILABLE
from broker.cluster.pulse import STANDSTILL, WARY, Pulse
from devices.frames import encode_up
from devices.packets import Connack, Connect, Publish
from tests.broker.cluster.test_items import Clock, agree, news, settled, shops
from tests.broker.support import eventually, follow, item

if TYPE_CHECKING:
    from tests.broker.cluster.conftest import FaultyFleet


async def test_a_packet_that_was_sent_again_elsewhere_does_not_bring_old_content_back() -> None:
    world, clock, (cut_off, other) = await shops()
    cut_off.publish(news("first"))
    await settled(cut_off, other)
    cut_off.store.away = True
    cut_off.publish(news("second"))
    clock.now += 0.5
    other.publish(news("second"), dup=True)
    other.publish(news("third"))
    await settled(cut_off, other)
    cut_off.store.away = False
    await settled(cut_off, other)
    agree(world, (cut_off, other))
    assert [record.item.payload for record in cut_off.shown.values()] == ["third"]


async def test_a_packet_that_waited_long_is_over_once_there_is_much_newer_content() -> None:
    world, clock, (cut_off, other) = await shops()
    cut_off.publish(news("first"))
    await settled(cut_off, other)
    cut_off.store.away = True
    cut_off.publish(news("never sent again"))
    clock.now += 5
    other.publish(news("newer"))
    await settled(cut_off, other)
    cut_off.store.away = False
    await settled(cut_off, other)
    agree(world, (cut_off, other))
    assert [record.item.payload for record in other.shown.values()] == ["newer"]


async def test_of_two_contents_within_a_moment_both_are_accepted_in_some_order() -> None:
    world, clock, (one, other) = await shops()
    one.publish(news("first"))
    await settled(one, other)
    one.store.away = True
    one.publish(news("here"))
    clock.now += 0.5
    other.publish(news("there"))
    await settled(one, other)
    one.store.away = False
    await settled(one, other)
    agree(world, (one, other))
    assert [record.item.payload for record in one.shown.values()] == ["here"]


async def test_what_lay_in_buffers_while_a_node_stood_still_is_not_taken_for_new() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    _, _, (woken, _) = await shops()
    woken.items._stood_still = pulse.stood_still
    assert woken.publish(news("before"))
    clock.now += STANDSTILL + 0.1
    assert not woken.publish(news("perhaps sent again elsewhere, and long over"))
    clock.now += WARY / 2
    assert not woken.publish(news("read a little later"))
    clock.now += WARY
    assert woken.publish(news("after"))
    pulse.stop()


async def test_who_knocked_while_a_node_stood_still_is_not_let_in(faulty: FaultyFleet) -> None:
    clock = Clock()
    node = await faulty.node()
    pulse = node.node._pulse
    pulse._clock, pulse._last = clock, clock.now
    clock.now += STANDSTILL + 0.1
    peer = await node.peer()
    assert (await peer.greet(Connect("kitchen"))).code == UNAVAILABLE
    await peer.expect_end()
    assert node.count("dropped", "connect_refused_after_standstill") == 1
    clock.now += WARY + 0.1
    await node.subscribed("kitchen")


async def test_a_pulse_beats_as_long_as_the_loop_runs() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    for _ in range(4):
        clock.now += STANDSTILL * 0.9
        pulse._beat()
        assert not pulse.stood_still()
    clock.now += STANDSTILL * 1.1
    pulse._beat()
    assert pulse.stood_still()
    pulse.stop()


async def test_a_device_that_returns_to_a_node_that_heard_of_nothing_starts_no_old_epoch(
    faulty: FaultyFleet,
) -> None:
    here, there = await faulty.pair(cluster__handover_wait=0.05)
    await here.publish(item("a", "one"))
    device = await here.subscribed("kitchen")
    here.cut_off()
    elsewhere = await there.subscribed("kitchen")
    assert elsewhere.replica.epoch > device.replica.epoch
    here.store._words.clear()
    here.reconnect()
    assert here.holds("kitchen")  # so it thinks
    again = await here.subscribed("kitchen")
    assert again.replica.epoch >= elsewhere.replica.epoch
    assert again.replica.position > elsewhere.replica.position


@pytest.mark.parametrize("claims", [False, True], ids=["who_is_it", "whose_is_it"])
async def test_who_waited_for_the_store_does_not_undo_what_it_said_elsewhere_since(
    faulty: FaultyFleet, claims: bool
) -> None:
    here, there = await faulty.pair(cluster__handover_wait=0.05)
    asked = here.cut_off_when("claim" if claims else "look_up")
    stale = await here.peer()
    stale.send(
        Connect("kitchen"), Publish("u/kitchen", encode_up(follow("old", unfollow=("#",))), 1, 7)
    )
    await eventually(asked)
    device = await there.subscribed("kitchen", clean=True)
    await device.tell(follow("new", unfollow=("#",)))
    here.reconnect()
    assert (await stale.expect(Connack)).code == UNAVAILABLE
    await stale.expect_end()
    assert here.count("dropped", "connect_refused_connected_elsewhere") == 1
    assert here.count("dropped", "connect_refused_store_away") == 0
    await device.peer.ping()  # and it was not disturbed
    assert await faulty.holder("kitchen") == there.node.name
    shown = await there.command("device.show", device="kitchen")
    assert shown["follow"] == ["new"]


async def test_who_waited_does_not_undo_what_it_said_since_at_the_node_that_it_never_left(
    faulty: FaultyFleet,
) -> None:
    here, there = await faulty.pair(cluster__handover_wait=0.05)
    await there.subscribed("kitchen", clean=True)
    asked = here.cut_off_when("look_up")
    stale = await here.peer()
    stale.send(
        Connect("kitchen"), Publish("u/kitchen", encode_up(follow("old", unfollow=("#",))), 1, 7)
    )
    await eventually(asked)
    again = await there.subscribed("kitchen", clean=True)  # the connection before is still open
    await again.tell(follow("new", unfollow=("#",)))
    here.reconnect()
    assert (await stale.expect(Connack)).code == UNAVAILABLE
    await again.peer.ping()
    shown = await there.command("device.show", device="kitchen")
    assert shown["follow"] == ["new"]


async def test_a_node_that_lost_a_device_does_not_write_what_it_knew_of_it(
    faulty: FaultyFleet,
) -> None:
    here, there = await faulty.pair(cluster__handover_wait=0.05)
    device = await here.subscribed("kitchen", clean=False)
    await device.tell(follow("old", unfollow=("#",)))
    here.cut_off()
    elsewhere = await there.subscribed("kitchen", clean=True)
    await elsewhere.tell(follow("new", unfollow=("old", "#")))
    here.reconnect()
    await eventually(lambda: not here.holds("kitchen"))
    await device.peer.expect_end()
    for node in (here, there):
        await node.at_rest()
        shown = await node.command("device.show", device="kitchen")
        assert shown["follow"] == ["new"]


async def test_an_update_that_the_store_has_lost_is_stored_again_by_who_knows_it() -> None:
    world, _, (one, other) = await shops()
    one.publish(news("old"))
    await settled(one, other)
    lost = dict(world.records)
    one.publish(news("new"))
    await settled(one, other)
    world.records.update(lost)  # as a replica that had not received it
    (record,) = lost.values()
    for shop in (one, other):
        shop.items.accepted((record,))  # as all is read anew then
    await settled(one, other)
    agree(world, (one, other))
    assert [kept.item.payload for kept in world.records.values()] == ["new"]


async def test_of_two_contents_of_one_version_the_one_that_the_store_has_stands() -> None:
    world, _, (one, other) = await shops()
    one.publish(news("old"))
    await settled(one, other)
    lost = dict(world.records)
    one.publish(news("lost"))
    await settled(one, other)
    world.records.update(lost)
    other.contents.clear()  # one slot has two contents here, after a loss
    one.contents.clear()
    other.publish(news("instead"))
    await settled(one, other)
    agree(world, (one, other))
    assert [kept.item.payload for kept in world.records.values()] == ["instead"]
