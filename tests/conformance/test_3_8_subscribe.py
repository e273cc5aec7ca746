"""MQTT 3.1.1, sections 3.8 and 3.9: SUBSCRIBE and SUBACK."""

from __future__ import annotations

from itertools import product

import pytest

from devices.packets import (
    Puback,
    Publish,
    Suback,
    Subscribe,
)
from tests.broker.support import Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    Serve,
    acknowledge,
    field,
    packet,
    raw_packet,
)

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
    """What is retained comes once for a filter that one packet names twice."""
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
    assert copies == 2  # once for each filter
    assert publish.qos == 2  # the last word on this filter


async def test_mqtt_3_8_4_4_a_feed_may_stand_among_other_filters(feed: FeedPart) -> None:
    peer, _ = await feed.connect()
    own = feed.filter("kitchen")
    codes = await peer.subscribe(("f/other", 1), (own, 2), ("items/#", 0), (own, 0))
    assert codes == (0x80, 2, 0x80, 0)
    await feed.settle(peer)
    await feed.publish("heard", 2)
    await feed.receive(peer, "heard", qos=0)  # the last word on this filter


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
