"""MQTT 3.1.1, sections 3.3 to 3.7: PUBLISH and its acknowledgements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.packets import Publish
from tests.broker.support import Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    Serve,
    acknowledge,
    field,
    packet,
    send,
)

# ---- 3.3.1.1 DUP


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_3_3_1_1_what_is_sent_again_has_dup(part: Part, qos: int) -> None:
    peer = await part.subscriber(qos=qos, clean=False)
    await part.publish("held", qos)
    first = await part.receive(peer, "held", ack=False, qos=qos)
    assert not first.dup
    await peer.drop()
    again, _ = await part.connect(clean=False)
    assert await part.receive(again, "held") == replace(first, dup=True)


async def test_mqtt_3_3_1_2_dup_at_qos_0_closes_the_connection(part: Part) -> None:
    peer, _ = await part.connect()
    peer.send(part.hostile(b"x", 0x38))
    await peer.expect_closed()


async def test_mqtt_3_3_1_2_messages_of_qos_0_have_no_dup(part: Part) -> None:
    peer = await part.subscriber(qos=0)
    await part.publish("at most once", 0)
    assert not (await part.receive(peer, "at most once", qos=0)).dup


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_3_3_1_3_dup_of_a_publisher_is_not_passed_on(part: Part, qos: int) -> None:
    peer = await part.subscriber(qos=2)
    await part.publish("said again", qos, dup=True)
    assert not (await part.receive(peer, "said again", qos=qos)).dup


# ---- 3.3.1.2 QoS


@pytest.mark.parametrize("first", [0x36, 0x37, 0x3E, 0x3F], ids=hex)
async def test_mqtt_3_3_1_4_qos_3_closes_the_connection(part: Part, first: int) -> None:
    peer, _ = await part.connect()
    peer.send(part.hostile(b"\0\x01x", first))
    await peer.expect_closed()


# ---- 3.3.1.3 RETAIN


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_3_3_1_5_a_retained_message_is_kept_with_its_qos(
    others: OtherPart, qos: int
) -> None:
    await others.publish("retained", qos, retain=True)
    peer, _ = await others.connect()
    await peer.subscribe((others.topic, 2))
    publish = await others.receive(peer, "retained", qos=qos)
    assert (publish.retain, publish.dup) == (True, False)


async def test_mqtt_3_3_1_5_retain_on_an_item_changes_nothing(feed: FeedPart) -> None:
    """On purpose: an item is kept for later subscribers by what it says, not by RETAIN."""
    peer = await feed.subscriber()
    await feed.publish("an item", retain=True)
    assert not (await feed.receive(peer, "an item")).retain
    later, _ = await feed.connect("later")
    await later.subscribe((feed.filter("later"), 1))
    assert not (await feed.receive(later, "an item")).retain


async def test_mqtt_3_3_1_5_beyond_the_bound_a_message_is_passed_on_and_not_retained(
    serve: Serve,
) -> None:
    """On purpose: retained messages stay for ever, so there is a most of them."""
    served = await serve(topics__max_retained=1)
    others = OtherPart(served)
    peer, _ = await others.connect()
    await peer.subscribe((others.below("#"), 1))
    publisher = await served.connect("")
    for room in ("hall", "attic"):
        topic = others.below(room)
        await send(publisher, Publish(topic, room.encode(), 1, 7, retain=True))
        await others.receive(peer, room)
    assert served.count("dropped", "retained_full") == 1
    later, _ = await others.connect("later")
    await later.subscribe((others.below("+"), 1))
    assert (await others.receive(later, "hall")).retain
    await others.expect_nothing(later, "attic")


async def test_mqtt_3_3_1_6_a_new_subscription_gets_the_last_retained_message_of_each_topic(
    others: OtherPart,
) -> None:
    publisher = await others.server.connect("")
    for room, text in (("hall", b"old"), ("attic", b"dark"), ("hall", b"new")):
        topic = others.below(room)
        await send(publisher, Publish(topic, text, 1, publisher.new_packet_id(), retain=True))
    peer, _ = await others.connect()
    await peer.subscribe((others.below("+"), 1))
    found = {}
    for _ in range(2):
        publish = await peer.expect(Publish)
        await acknowledge(peer, publish)
        found[publish.topic] = publish.payload
    assert found == {others.below("hall"): b"new", others.below("attic"): b"dark"}
    await others.expect_nothing(peer)


async def test_mqtt_3_3_1_6_a_new_device_gets_what_is_live_as_a_snapshot(feed: FeedPart) -> None:
    """On purpose: the feed's answer to SUBSCRIBE is the window of this device."""
    await feed.publish("first")
    await feed.publish("second")
    peer, _ = await feed.connect()
    await peer.subscribe((feed.filter("kitchen"), 1))
    assert b"first" in (await feed.receive(peer, "second")).payload


async def test_mqtt_3_3_1_7_a_retained_message_of_qos_0_replaces_the_one_before(
    others: OtherPart,
) -> None:
    await others.publish("old", 2, retain=True)
    await others.publish("new", 0, retain=True)
    peer, _ = await others.connect()
    await peer.subscribe((others.topic, 2))
    await others.receive(peer, "new", qos=0)


async def test_mqtt_3_3_1_8_what_a_new_subscription_brings_has_retain(others: OtherPart) -> None:
    await others.publish("retained", retain=True)
    peer, _ = await others.connect()
    await peer.subscribe((others.topic, 0))
    assert (await others.receive(peer, "retained", qos=0)).retain


async def test_mqtt_3_3_1_8_frames_never_have_retain(feed: FeedPart) -> None:
    """On purpose: a frame is no retained message, and must not be taken for one by a broker."""
    await feed.publish("an item", retain=True)
    peer, _ = await feed.connect()
    await peer.subscribe((feed.filter("kitchen"), 1))
    assert not (await feed.receive(peer, "an item")).retain


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_3_3_1_9_an_established_subscription_gets_messages_without_retain(
    part: Part, qos: int
) -> None:
    peer = await part.subscriber(qos=2)
    await part.publish("said with retain", qos, retain=True)
    assert not (await part.receive(peer, "said with retain", qos=qos)).retain


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_3_3_1_10_an_empty_retained_message_is_passed_on_and_ends_the_one_before(
    others: OtherPart, qos: int
) -> None:
    await others.publish("retained", retain=True)
    peer, _ = await others.connect()
    await peer.subscribe((others.topic, 2))
    await others.receive(peer, "retained")
    await others.publish("", qos, retain=True)
    publish = await others.receive(peer, "", qos=qos)
    assert (publish.payload, publish.retain) == (b"", False)
    later, _ = await others.connect("later")
    await later.subscribe((others.topic, 2))
    await others.expect_nothing(later, "retained")


async def test_mqtt_3_3_1_10_an_empty_item_is_acknowledged_and_changes_no_feed(
    feed: FeedPart,
) -> None:
    """On purpose: items end by `retract` or their time, and an empty one says neither."""
    peer = await feed.subscriber()
    await feed.publish("kept")
    await feed.receive(peer, "kept")
    publisher = await feed.server.connect("")
    await send(publisher, Publish(feed.topic, b"", 1, 7, retain=True))
    await feed.expect_nothing(peer)
    later, _ = await feed.connect("later")
    await later.subscribe((feed.filter("later"), 1))
    await feed.receive(later, "kept")


async def test_mqtt_3_3_1_11_an_empty_message_is_never_retained(others: OtherPart) -> None:
    await others.publish("", retain=True)
    peer = await others.subscriber()
    await others.expect_nothing(peer)


async def test_mqtt_3_3_1_12_a_message_without_retain_leaves_the_retained_one_alone(
    others: OtherPart,
) -> None:
    await others.publish("retained", retain=True)
    await others.publish("passing")
    await others.publish("")
    peer, _ = await others.connect()
    await peer.subscribe((others.topic, 1))
    await others.receive(peer, "retained")
    await others.expect_nothing(peer, "passing")


async def test_mqtt_3_3_1_12_a_message_without_retain_is_not_kept(others: OtherPart) -> None:
    await others.publish("passing")
    peer = await others.subscriber()
    await others.expect_nothing(peer, "passing")


async def test_mqtt_3_3_1_12_an_item_is_kept_for_its_time_without_retain(feed: FeedPart) -> None:
    """On purpose: that is what the feed is for."""
    await feed.publish("an item")
    peer, _ = await feed.connect()
    await peer.subscribe((feed.filter("kitchen"), 1))
    await feed.receive(peer, "an item")


# ---- 3.3.2 Topic name


@pytest.mark.parametrize(
    "data",
    [b"\x30\0", b"\x30\1\0", b"\x30\3\0\2a", packet(0x30, field(b"\xff"), b"x")],
    ids=["nothing", "half a length", "cut", "no UTF-8"],
)
async def test_mqtt_3_3_2_1_a_publish_without_a_topic_in_order_closes_the_connection(
    server: Target, data: bytes
) -> None:
    peer = await server.connect("topicless")
    peer.send(data)
    await peer.expect_closed()


@pytest.mark.parametrize("suffix", ["/+", "/#", "/a+b", "#"])
async def test_mqtt_3_3_2_2_a_wildcard_in_a_topic_closes_the_connection(
    part: Part, suffix: str
) -> None:
    peer, _ = await part.connect()
    peer.send(packet(0x30, field(part.topic + suffix), b"x"))
    await peer.expect_closed()


async def test_mqtt_3_3_2_3_a_message_comes_on_a_topic_that_the_filter_matches(
    others: OtherPart,
) -> None:
    peer, _ = await others.connect()
    await peer.subscribe((others.below("+", "light"), 1))
    publisher = await others.server.connect("")
    for levels in (("hall",), ("hall", "light", "red"), ("hall", "light")):
        await publisher.publish(others.below(*levels), b"/".join(x.encode() for x in levels))
    assert (await others.receive(peer, "hall/light")).topic == others.below("hall", "light")


async def test_mqtt_3_3_2_3_frames_come_on_the_topic_that_was_subscribed_to(feed: FeedPart) -> None:
    peer = await feed.subscriber()
    await feed.publish("an item")
    assert (await feed.receive(peer, "an item")).topic == feed.filter("kitchen")


# ---- 3.3.4, 3.3.5 Response and actions


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_3_3_4_1_a_message_is_answered_as_its_qos_demands(part: Part, qos: int) -> None:
    peer, _ = await part.connect()
    await send(peer, part.message("answered", qos))
    await peer.ping()  # and not with anything else


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_3_3_4_1_an_up_message_is_answered_as_its_qos_demands(
    feed: FeedPart, qos: int
) -> None:
    peer, _ = await feed.connect()
    await send(peer, Publish(f"u/{feed.name()}", b"\x93\1\1\1", qos, 7 if qos else 0))
    await peer.ping()


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [(2, 1), (1, 2), (0, 2), (2, 0), (0, 1), (1, 0)], ids=str)
async def test_mqtt_3_3_5_1_overlapping_subscriptions_bring_a_message_at_their_highest_qos(
    others: OtherPart, granted: tuple[int, int], published: int
) -> None:
    """A copy for each further subscription is permitted, and one copy alone is too."""
    peer, _ = await others.connect()
    filters = (others.below("#"), others.below("+"))
    codes = await peer.subscribe(*zip(filters, granted, strict=True))
    assert codes == granted
    await others.publish("heard", published)
    await others.publish("fence", 0)
    levels = []
    while b"heard" in (publish := await peer.expect(Publish)).payload:
        levels.append(publish.qos)
        await acknowledge(peer, publish)
    assert max(levels) == min(max(granted), published)
    assert len(levels) <= 2


async def test_mqtt_3_3_5_1_no_subscription_overlaps_a_device_s_own(feed: FeedPart) -> None:
    peer = await feed.subscriber()
    filters = ("f/+", "f/#", "+/" + feed.name())
    codes = await peer.subscribe(*((each, 2) for each in filters))
    assert codes[:2] == (0x80, 0x80)
    await feed.publish("once")
    await feed.receive(peer, "once", qos=1)
    await feed.expect_nothing(peer, "once")


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("topic", ["f/other", "u/other", "f/own", "$SYS/broker/uptime", "$x"])
async def test_mqtt_3_3_5_2_a_publish_that_is_not_permitted_is_acknowledged_and_counted(
    serve: Serve, topic: str, qos: int
) -> None:
    served = await serve()
    feed = FeedPart(served)
    peer = await feed.subscriber("other")
    forger = await served.connect("own")
    await send(forger, Publish(topic, b"forged", qos, 7))
    await served.counted("dropped", "publish_not_permitted")
    await feed.expect_nothing(peer, "forged")


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_3_3_5_2_a_publish_on_a_refused_topic_is_acknowledged_and_counted(
    serve: Serve, qos: int
) -> None:
    served = await serve(topics__refused=("secret/#",))
    others = OtherPart(served)
    peer, _ = await others.connect()
    assert await peer.subscribe(("#", 2)) == (2,)
    forger = await served.connect("")
    await send(forger, Publish("secret/plan", b"forged", qos, 7))
    await served.counted("dropped", "publish_not_permitted")
    await others.expect_nothing(peer, "forged")


# ---- 3.6.1 PUBREL


@pytest.mark.parametrize("flags", [each for each in range(16) if each != 2])
async def test_mqtt_3_6_1_1_pubrel_with_other_flags_closes_the_connection(
    server: Target, flags: int
) -> None:
    peer = await server.connect("flags")
    peer.send(bytes((0x60 | flags, 2, 0, 1)))
    await peer.expect_closed()


async def test_mqtt_3_3_5_1_a_device_may_have_its_feed_and_other_topics_at_once(
    feed: FeedPart, others: OtherPart
) -> None:
    peer = await feed.subscriber(qos=2)
    assert await peer.subscribe((others.topic, 2)) == (2,)
    await feed.publish("an item", 2)
    first = await feed.receive(peer, "an item", ack=False, qos=2)
    await others.publish("a message", 2)
    second = await others.receive(peer, "a message", ack=False, qos=2)
    assert first.packet_id != second.packet_id
    await acknowledge(peer, second)
    await acknowledge(peer, first)
    await peer.ping()
