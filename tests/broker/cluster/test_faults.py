"""What the fault suite found in nodes, each a story of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.broker.cluster.test_items import agree, news, settled, shops
from tests.broker.support import item

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
