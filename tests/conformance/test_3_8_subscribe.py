"""MQTT 3.1.1, sections 3.8 to 3.14: subscriptions, PINGREQ, DISCONNECT."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import product

import pytest

from devices.packets import (
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from tests.broker.support import Served, Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    acknowledge,
    encoded,
    field,
    packet,
    raw_packet,
)

Serve = Callable[..., Awaitable[Served]]


# ---- 3.8.1, 3.8.3 What SUBSCRIBE must look like


@pytest.mark.parametrize("flags", [each for each in range(16) if each != 2])
async def test_mqtt_3_8_1_1_subscribe_with_other_flags_closes_the_connection(
    server: Target, flags: int
) -> None:
    peer = await server.connect("flags")
    peer.send(packet(0x80 | flags, b"\0\1", field("home"), b"\0"))
    await peer.expect_closed()


@pytest.mark.parametrize("bad", [b"\xff", b"a/\xc3", b"\xed\xa0\x80"], ids=bytes.hex)
async def test_mqtt_3_8_3_1_a_filter_that_is_no_utf_8_closes_the_connection(
    server: Target, bad: bytes
) -> None:
    peer = await server.connect("filters")
    peer.send(packet(0x82, b"\0\1", field(bad), b"\0"))
    await peer.expect_closed()


async def test_mqtt_3_8_3_2_filters_with_wildcards_are_served(others: OtherPart) -> None:
    peer, _ = await others.connect()
    assert await peer.subscribe((others.below("+"), 1), (others.below("a", "#"), 1)) == (1, 1)
    publisher = await others.server.connect("")
    for topic in (others.below("b"), others.below("a", "b", "c")):
        await publisher.publish(topic, topic.encode())
        assert (await others.receive(peer, topic)).topic == topic


@pytest.mark.parametrize("name", ["f/+", "f/#", "u/+", "items/#", "items/+", "f/kitchen/#"])
async def test_mqtt_3_8_3_2_filters_with_wildcards_over_the_feed_are_refused(
    feed: FeedPart, name: str
) -> None:
    peer, _ = await feed.connect()
    assert await peer.subscribe((name, 1)) == (0x80,)


@pytest.mark.parametrize("name", ["#", "+/#", "+/+"])
async def test_mqtt_3_8_3_2_wildcards_of_other_topics_never_reach_into_the_feed(
    feed: FeedPart, name: str
) -> None:
    peer = await feed.subscriber()
    spy = await feed.server.connect("spy")
    assert await spy.subscribe((name, 1)) == (1,)
    await feed.publish("for devices")
    await feed.receive(peer, "for devices")
    await peer.publish(f"u/{feed.name()}", b"\x93\1\1\1")
    await spy.ping()


async def test_mqtt_3_8_3_3_subscribe_without_a_filter_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.connect("filters")
    peer.send(packet(0x82, b"\0\1"))
    await peer.expect_closed()


@pytest.mark.parametrize("options", [0x03, 0x04, 0x80, 0xFC | 1, 0xFF], ids=hex)
async def test_mqtt_3_8_3_4_reserved_bits_or_qos_3_close_the_connection(
    part: Part, options: int
) -> None:
    peer, _ = await part.connect()
    peer.send(packet(0x82, b"\0\1", field(part.filter("kitchen")), bytes((options,))))
    await peer.expect_closed()


# ---- 3.8.4 What the server does


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_3_8_4_1_subscribe_is_answered_with_suback(part: Part, qos: int) -> None:
    peer, _ = await part.connect()
    assert await peer.subscribe((part.filter("kitchen"), qos)) == (qos,)


async def test_mqtt_3_8_4_2_suback_has_the_packet_id_of_subscribe(part: Part) -> None:
    peer, _ = await part.connect()
    for packet_id in (0xFFFF, 1, 0x8000):
        peer.send(Subscribe(packet_id, ((part.filter("kitchen"), 1),)))
        while not isinstance(answer := await peer.read(), Suback):
            assert isinstance(answer, Publish)
        assert answer.packet_id == packet_id


async def test_mqtt_3_8_4_3_an_identical_filter_replaces_the_subscription(part: Part) -> None:
    peer = await part.subscriber(qos=2)
    assert await peer.subscribe((part.filter("kitchen"), 0)) == (0,)
    await part.publish("heard once", 2)
    await part.receive(peer, "heard once", qos=0)
    await part.expect_nothing(peer, "heard once")


async def test_mqtt_3_8_4_3_an_identical_filter_brings_what_is_retained_again(
    others: OtherPart,
) -> None:
    await others.publish("retained", retain=True)
    peer, _ = await others.connect()
    for qos in (1, 0, 1):
        assert await peer.subscribe((others.topic, qos)) == (qos,)
        assert (await others.receive(peer, "retained", qos=qos)).retain


async def test_mqtt_3_8_4_3_subscribing_again_brings_the_window_again(feed: FeedPart) -> None:
    """On purpose: where there is nothing retained, SUBSCRIBE alone says "I hold nothing"."""
    await feed.publish("an item")
    peer, _ = await feed.connect()
    for _ in range(2):
        await peer.subscribe((feed.filter("kitchen"), 1))
        assert not (await feed.receive(peer, "an item")).retain


async def test_mqtt_3_8_4_3_subscribing_again_interrupts_no_message(part: Part) -> None:
    peer = await part.subscriber()
    await part.publish("under way")
    first = await part.receive(peer, "under way", ack=False)
    peer.send(Subscribe(9, ((part.filter("kitchen"), 1),)))
    await part.publish("after it")
    peer.send(Puback(first.packet_id))
    heard = b""
    while b"after it" not in heard:
        received = await peer.read()
        if isinstance(received, Publish):
            heard += received.payload
            await acknowledge(peer, received)
    await peer.ping()


async def test_mqtt_3_8_4_4_several_filters_are_as_good_as_several_packets(
    others: OtherPart,
) -> None:
    await others.publish("retained", retain=True)
    peer, _ = await others.connect()
    filters = ((others.topic, 1), (others.below("+"), 0), (others.topic, 2))
    assert await peer.subscribe(*filters) == (1, 0, 2)
    copies = 0
    await others.publish("heard", 2)
    while b"heard" not in (publish := await peer.expect(Publish)).payload:
        assert publish.retain
        copies += 1
        await acknowledge(peer, publish)
    assert copies == 3  # once for each filter, as if each had come alone
    assert publish.qos == 2  # the last word on this filter


async def test_mqtt_3_8_4_5_every_filter_has_its_code(others: OtherPart) -> None:
    peer, _ = await others.connect()
    filters = [(others.below(f"room {number}"), number % 3) for number in range(50)]
    assert await peer.subscribe(*filters) == tuple(qos for _, qos in filters)


async def test_mqtt_3_8_4_5_a_subscription_that_is_not_permitted_has_the_code_of_failure(
    serve: Serve,
) -> None:
    served = await serve(topics__refused=("secret/#",))
    peer = await served.connect("kitchen")
    asked = ("f/kitchen", "f/other", "secret/plan", "home", "u/kitchen", "secret/+", "items/#")
    codes = await peer.subscribe(*((each, 1) for each in asked))
    assert codes == (1, 0x80, 0x80, 1, 0x80, 0x80, 0x80)


async def test_mqtt_3_8_4_5_beyond_the_most_subscriptions_the_code_is_failure(
    serve: Serve,
) -> None:
    served = await serve(topics__max_subscriptions=2)
    peer = await served.connect("kitchen")
    assert await peer.subscribe(("a", 0), ("b", 1), ("c", 2), ("a", 2)) == (0, 1, 0x80, 2)


@pytest.mark.parametrize(("published", "granted"), list(product(range(3), repeat=2)), ids=str)
async def test_mqtt_3_8_4_6_a_message_has_the_lower_of_both_qos(
    part: Part, published: int, granted: int
) -> None:
    peer = await part.subscriber(qos=granted)
    await part.publish("heard", published)
    await part.receive(peer, "heard", qos=min(published, granted))


# ---- 3.9 SUBACK


async def test_mqtt_3_9_3_1_codes_come_in_the_order_of_the_filters(others: OtherPart) -> None:
    peer, _ = await others.connect()
    wanted = (0, 2, 1, 1, 0, 2)
    filters = [(others.below(str(number)), qos) for number, qos in enumerate(wanted)]
    peer.send(Subscribe(5, tuple(filters)))
    assert await raw_packet(peer) == b"\x90\x08\0\x05" + bytes(wanted)


async def test_mqtt_3_9_3_1_refusals_stand_where_their_filters_do(feed: FeedPart) -> None:
    peer, _ = await feed.connect()
    peer.send(Subscribe(5, (("f/other", 2), (feed.filter("kitchen"), 2), ("items/#", 0))))
    assert await raw_packet(peer) == b"\x90\x05\0\x05\x80\x02\x80"


async def test_mqtt_3_9_3_2_there_are_no_other_codes(part: Part) -> None:
    peer, _ = await part.connect()
    filters = (part.filter("kitchen"), "f/other", "#", "$SYS/#", "+/+", "$nothing", "a" * 1000)
    for qos in range(3):
        codes = await peer.subscribe(*((each, qos) for each in filters))
        assert set(codes) <= {qos, 0x80}


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
