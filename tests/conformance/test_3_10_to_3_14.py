"""MQTT 3.1.1, sections 3.10 to 3.14: UNSUBSCRIBE, PINGREQ, DISCONNECT."""

from __future__ import annotations

import pytest

from devices.packets import (
    Disconnect,
    Pingreq,
    Pingresp,
    Unsuback,
    Unsubscribe,
)
from tests.broker.support import Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    acknowledge,
    encoded,
    field,
    packet,
)

# ---- 3.10 UNSUBSCRIBE


@pytest.mark.parametrize("flags", [each for each in range(16) if each != 2])
async def test_mqtt_3_10_1_1_unsubscribe_with_other_flags_closes_the_connection(
    server: Target, flags: int
) -> None:
    peer = await server.connect("flags")
    peer.send(packet(0xA0 | flags, b"\0\1", field("home")))
    await peer.expect_closed()


@pytest.mark.parametrize(
    "fields",
    [field(b"\xff"), field("a") + b"\0", field("a") + b"\0\x09b"],
    ids=["no UTF-8", "half a length", "cut"],
)
async def test_mqtt_3_10_3_1_filters_that_are_no_strings_close_the_connection(
    server: Target, fields: bytes
) -> None:
    peer = await server.connect("filters")
    peer.send(packet(0xA2, b"\0\1", fields))
    await peer.expect_closed()


async def test_mqtt_3_10_3_2_unsubscribe_without_a_filter_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.connect("filters")
    peer.send(packet(0xA2, b"\0\1"))
    await peer.expect_closed()


async def test_mqtt_3_10_4_1_a_filter_is_given_up_by_its_very_characters(
    others: OtherPart,
) -> None:
    peer = await others.subscriber()
    wide = others.below("#")
    await peer.unsubscribe(wide, others.below("+"), others.topic + "/", others.topic.upper())
    await others.publish("still heard")
    await others.receive(peer, "still heard")
    await peer.subscribe((wide, 1))
    await peer.unsubscribe(others.topic)
    await others.publish("by the wildcard")
    await others.receive(peer, "by the wildcard")
    await peer.unsubscribe(wide)
    await others.publish("unheard")
    await peer.ping()


async def test_mqtt_3_10_4_1_a_feed_is_given_up_by_its_very_characters(feed: FeedPart) -> None:
    peer = await feed.subscriber()
    own = feed.filter("kitchen")
    await peer.unsubscribe("f/#", "f/+", own + "/", own.upper(), "#")
    await feed.publish("still heard")
    await feed.receive(peer, "still heard")


async def test_mqtt_3_10_4_2_after_unsubscribe_nothing_new_comes(part: Part) -> None:
    peer = await part.subscriber()
    witness = await part.subscriber("witness")
    await peer.unsubscribe(part.filter("kitchen"))
    await part.publish("unheard")
    await part.receive(witness, "unheard")
    await peer.ping()


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_3_10_4_3_what_is_under_way_is_completed_after_unsubscribe(
    part: Part, qos: int
) -> None:
    peer = await part.subscriber(qos=qos)
    await part.publish("under way", qos)
    publish = await part.receive(peer, "under way", ack=False, qos=qos)
    await peer.unsubscribe(part.filter("kitchen"))
    await acknowledge(peer, publish)
    await peer.ping()


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_3_10_4_3_what_is_under_way_is_sent_again_even_after_unsubscribe(
    others: OtherPart, qos: int
) -> None:
    peer = await others.subscriber(qos=qos, clean=False)
    await others.publish("under way", qos)
    await others.receive(peer, "under way", ack=False, qos=qos)
    await peer.unsubscribe(others.topic)
    await peer.drop()
    again, connack = await others.connect(clean=False)
    assert connack.session_present
    assert (await others.receive(again, "under way", qos=qos)).dup
    await again.ping()


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_3_10_4_3_frames_are_not_sent_again_to_a_device_that_gave_up_its_feed(
    feed: FeedPart, qos: int
) -> None:
    """On purpose: it holds no window that they could change, and subscribing begins a new one."""
    peer = await feed.subscriber(qos=qos, clean=False)
    await feed.publish("under way", qos)
    await feed.receive(peer, "under way", ack=False, qos=qos)
    await peer.unsubscribe(feed.filter("kitchen"))
    await peer.drop()
    again, _ = await feed.connect(clean=False)
    await again.ping()
    await again.subscribe((feed.filter("kitchen"), qos))
    assert not (await feed.receive(again, "under way")).dup


async def test_mqtt_3_10_4_4_unsubscribe_is_answered_with_unsuback(part: Part) -> None:
    peer = await part.subscriber()
    for packet_id in (1, 0x8000, 0xFFFF):
        peer.send(Unsubscribe(packet_id, (part.filter("kitchen"),)))
        assert await peer.expect(Unsuback) == Unsuback(packet_id)


async def test_mqtt_3_10_4_5_unsubscribe_of_nothing_is_answered_too(part: Part) -> None:
    peer, _ = await part.connect()
    for name in (part.filter("kitchen"), "never/heard/of", "#", "f/other"):
        await peer.unsubscribe(name)


async def test_mqtt_3_10_4_6_several_filters_are_given_up_at_once(others: OtherPart) -> None:
    peer, _ = await others.connect()
    filters = [others.below(name) for name in ("a", "b", "c")]
    await peer.subscribe(*((each, 1) for each in filters))
    peer.send(Unsubscribe(7, (filters[0], "unknown", filters[2])), Pingreq())
    assert await peer.expect(Unsuback) == Unsuback(7)
    await peer.expect(Pingresp)
    publisher = await others.server.connect("")
    for each in filters:
        await publisher.publish(each, each.encode())
    await others.receive(peer, filters[1])
    await peer.ping()


async def test_mqtt_3_10_4_6_a_feed_is_given_up_among_other_filters(feed: FeedPart) -> None:
    peer = await feed.subscriber()
    await peer.unsubscribe("unknown", feed.filter("kitchen"), "f/other")
    await feed.publish("unheard")
    await peer.ping()


# ---- 3.12 PINGREQ


async def test_mqtt_3_12_4_1_pingreq_is_answered_with_pingresp(part: Part) -> None:
    peer = await part.subscriber()
    for count in (1, 5):
        peer.send(*[Pingreq()] * count)
        for _ in range(count):
            await peer.expect(Pingresp)


# ---- 3.14 DISCONNECT


@pytest.mark.parametrize("flags", range(1, 16))
async def test_mqtt_3_14_1_1_disconnect_with_flags_is_none(part: Part, flags: int) -> None:
    """The connection is closed as broken, so the will is published."""
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone"))
    leaver.send(bytes((0xE0 | flags, 0)))
    await leaver.expect_closed()
    await part.receive(peer, "gone")


async def test_mqtt_3_14_4_1_the_server_closes_after_disconnect(part: Part) -> None:
    peer = await part.subscriber()
    peer.send(Disconnect())
    await peer.expect_closed()


async def test_mqtt_3_14_4_2_what_follows_disconnect_is_not_processed(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"))
    leaver.send(encoded(Disconnect(), part.message("unwanted"), Pingreq()))
    await leaver.expect_closed()
    await part.expect_nothing(peer)


async def test_mqtt_3_14_4_3_disconnect_discards_the_will(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("unwanted"))
    await leaver.leave()
    await part.expect_nothing(peer)
