"""MQTT 3.1.1, section 3.1: CONNECT."""

from __future__ import annotations

import asyncio
import string

import pytest

from devices.packets import (
    Connack,
    Connect,
    Pingreq,
    Publish,
)
from tests.broker.support import Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    Serve,
    acknowledge,
    connect_packet,
    field,
    packet,
    raw_packet,
)

# ---- 3.1.0 The first packet, and only the first


@pytest.mark.parametrize(
    "data",
    [
        packet(0x30, field("home"), b"x"),
        packet(0x82, b"\0\1", field("home"), b"\0"),
        b"\xc0\0",
        b"\xe0\0",
        b"\x40\x02\0\1",
    ],
    ids=["PUBLISH", "SUBSCRIBE", "PINGREQ", "DISCONNECT", "PUBACK"],
)
async def test_mqtt_3_1_0_1_a_connection_that_begins_otherwise_is_closed(
    server: Target, data: bytes
) -> None:
    peer = await server.peer()
    peer.send(data)
    await peer.expect_closed()


async def test_mqtt_3_1_0_2_a_second_connect_closes_the_connection(part: Part) -> None:
    peer = await part.subscriber()
    peer.send(Connect(part.name()))
    await peer.expect_closed()


async def test_mqtt_3_1_0_2_a_second_connect_in_the_same_piece_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(Connect("twice"), Connect("twice"))
    await peer.expect_end()


# ---- 3.1.2 Protocol name, level, flags


@pytest.mark.parametrize("name", [b"MQTTX", b"mqtt", b"MQT", b"", b"HTTP"])
async def test_mqtt_3_1_2_1_another_protocol_name_closes_the_connection(
    server: Target, name: bytes
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(name=field(name)))
    await peer.expect_closed()


@pytest.mark.parametrize("level", [0, 3, 5, 6, 255])
async def test_mqtt_3_1_2_2_another_protocol_level_is_answered_with_code_1(
    server: Target, level: int
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(level=level))
    assert await peer.expect(Connack) == Connack(False, 1)
    await peer.expect_closed()


async def test_mqtt_3_1_2_3_the_reserved_connect_flag_closes_the_connection(server: Target) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=0x03))
    await peer.expect_closed()


# ---- 3.1.2.4 Clean session


async def test_mqtt_3_1_2_4_a_kept_session_is_resumed_with_its_subscription(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await peer.leave()
    again, connack = await part.connect(clean=False)
    assert connack.session_present
    await part.publish("for the subscription of before")
    while b"of before" not in (publish := await again.expect(Publish)).payload:
        await acknowledge(again, publish)  # on the feed, what it holds comes first


async def test_mqtt_3_1_2_4_a_session_is_made_where_there_is_none(part: Part) -> None:
    peer, connack = await part.connect(clean=False)
    assert not connack.session_present
    await peer.drop()
    _, connack = await part.connect(clean=False)
    assert connack.session_present


async def test_mqtt_3_1_2_5_messages_for_a_client_that_is_away_wait_for_it(
    others: OtherPart,
) -> None:
    peer = await others.subscriber(qos=2, clean=False)
    await peer.leave()
    for number in range(10):
        await others.publish(f"message {number}", 1 + number % 2)
    again, _ = await others.connect(clean=False)
    for number in range(10):
        publish = await others.receive(again, f"message {number}")
        assert (publish.qos, publish.retain, publish.dup) == (1 + number % 2, False, False)
    await others.expect_nothing(again)


async def test_mqtt_3_1_2_5_what_a_device_missed_comes_as_one_difference(feed: FeedPart) -> None:
    """On purpose: the feed keeps what is worth showing now, not a queue for each device."""
    peer = await feed.subscriber(clean=False)
    await peer.leave()
    for number in range(3):
        await feed.publish(f"message {number}")
    again, _ = await feed.connect(clean=False)
    publish = await feed.receive(again, "message 0")
    assert b"message 1" in publish.payload
    assert b"message 2" in publish.payload
    assert not publish.dup
    await feed.expect_nothing(again, "message")


async def test_mqtt_3_1_2_5_beyond_the_bound_new_messages_are_dropped_and_counted(
    serve: Serve,
) -> None:
    """On purpose: nobody may fill the server's memory by staying away."""
    served = await serve(topics__max_queued=5)
    others = OtherPart(served)
    peer = await others.subscriber(clean=False)
    await peer.leave()
    for number in range(8):
        await others.publish(f"message {number}")
    again, _ = await others.connect(clean=False)
    for number in range(5):
        await others.receive(again, f"message {number}")
    await others.expect_nothing(again, "message")
    assert served.count("dropped", "outbox_full") == 3


@pytest.mark.parametrize("before", [False, True], ids=["kept before", "clean before"])
async def test_mqtt_3_1_2_6_a_clean_session_begins_with_nothing(part: Part, before: bool) -> None:
    peer = await part.subscriber(clean=before)
    await part.publish("unacknowledged")
    await part.receive(peer, "unacknowledged", ack=False)
    await peer.drop()
    again, connack = await part.connect(clean=True)
    assert not connack.session_present
    await part.publish("unheard, as nothing is subscribed")
    await again.ping()
    await part.subscribe(again)
    await part.expect_nothing(again, "unheard")


async def test_mqtt_3_1_2_6_a_clean_session_is_not_reused(part: Part) -> None:
    peer = await part.subscriber(clean=True)
    await peer.leave()
    again, connack = await part.connect(clean=False)
    assert not connack.session_present
    await part.publish("unheard, as nothing is subscribed")
    await again.ping()


async def test_mqtt_3_1_2_7_retained_messages_outlive_the_session_of_their_publisher(
    others: OtherPart,
) -> None:
    await others.publish("retained", retain=True)
    peer, _ = await others.connect("other")
    await peer.subscribe((others.topic, 1))
    assert (await others.receive(peer, "retained")).retain


async def test_mqtt_3_1_2_7_items_outlive_the_session_of_their_publisher(feed: FeedPart) -> None:
    await feed.publish("kept")
    peer, _ = await feed.connect()
    await peer.subscribe((feed.filter("kitchen"), 1))
    assert not (await feed.receive(peer, "kept")).retain


# ---- 3.1.2.10 Keep alive


async def test_mqtt_3_1_2_24_a_client_silent_for_one_and_a_half_keep_alives_is_closed(
    part: Part,
) -> None:
    loop = asyncio.get_running_loop()
    peer = await part.subscriber()
    silent = await part.server.connect(
        part.name("silent"), keep_alive=1, will=part.will("fell silent")
    )
    begun = loop.time()
    await silent.expect_closed()
    assert 1.4 < loop.time() - begun < 8  # some servers look every five seconds
    await part.receive(peer, "fell silent")


async def test_mqtt_3_1_2_24_every_packet_is_a_sign_of_life(part: Part) -> None:
    loop = asyncio.get_running_loop()
    busy = await part.server.connect(part.name("busy"), keep_alive=1)
    begun = loop.time()
    while loop.time() - begun < 2.2:
        await busy.ping()
        with pytest.raises(TimeoutError):
            await busy.read(within=0.4)
    await busy.ping()


async def test_mqtt_3_1_2_24_keep_alive_0_lets_a_client_be_silent(server: Target) -> None:
    quiet = await server.connect("quiet", keep_alive=0)
    with pytest.raises(TimeoutError):
        await quiet.read(within=2.2)
    await quiet.ping()


# ---- 3.1.3 Payload


async def test_mqtt_3_1_3_1_fields_are_read_in_their_order(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.peer()
    name, text = part.name("leaver").encode(), part.payload("gone")
    body = (
        b"\0\x04MQTT\x04\xce\0\x3c"  # user name, password, will at QoS 1, clean session
        + field(name)
        + field(part.topic)
        + field(text)
        + field(name)
        + field("secret")
    )
    assert len(body) < 256
    leaver.send(b"\x10" + bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) + body)
    assert (await leaver.expect(Connack)).code == 0
    await leaver.drop()
    await part.receive(peer, "gone")


async def test_mqtt_3_1_3_2_the_client_id_says_whose_session_it_is(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await peer.leave()
    other, connack = await part.connect("other", clean=False)
    assert not connack.session_present
    await part.publish("for the kitchen")
    await other.ping()
    again, connack = await part.connect(clean=False)
    assert connack.session_present
    while b"for the kitchen" not in (publish := await again.expect(Publish)).payload:
        await acknowledge(again, publish)


async def test_mqtt_3_1_3_3_a_connect_without_a_client_id_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(b""))
    await peer.expect_closed()


@pytest.mark.parametrize("bad", [b"\xff", b"a\xed\xa0\x80", b"\xc0\xaf"], ids=bytes.hex)
async def test_mqtt_3_1_3_4_a_client_id_that_is_no_utf_8_closes_the_connection(
    server: Target, bad: bytes
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field(bad)))
    await peer.expect_closed()


async def test_mqtt_3_1_3_5_client_ids_of_1_to_23_letters_and_digits_are_allowed(
    server: Target,
) -> None:
    alphabet = string.digits + string.ascii_letters
    chunks = [alphabet[at : at + 23] for at in range(0, len(alphabet), 23)]
    for client_id in (*alphabet, *chunks, alphabet[:23]):
        peer = await server.connect(client_id)
        await peer.leave()


async def test_mqtt_3_1_3_6_clients_without_a_client_id_are_different_ones(server: Target) -> None:
    first, second = await server.connect(""), await server.connect("")
    await first.ping()
    await second.ping()


async def test_mqtt_3_1_3_6_a_client_without_a_client_id_is_served_like_others(
    others: OtherPart,
) -> None:
    peer = await others.server.connect("")
    assert await peer.subscribe((others.topic, 1)) == (1,)
    await others.publish("for anyone")
    await others.receive(peer, "for anyone")


async def test_mqtt_3_1_3_6_a_client_without_a_client_id_is_no_device(feed: FeedPart) -> None:
    """Its feed would have no name; it may publish items."""
    peer = await feed.server.connect("")
    assert await peer.subscribe(("f/", 1), ("f/+", 1)) == (0x80, 0x80)
    await peer.publish(feed.topic, feed.payload("accepted"))


async def test_mqtt_3_1_3_8_a_kept_session_without_a_client_id_is_refused(server: Target) -> None:
    peer = await server.peer()
    peer.send(Connect("", clean_session=False))
    assert await raw_packet(peer) == b"\x20\x02\0\x02"
    await peer.expect_closed()


async def test_mqtt_3_1_3_9_a_refused_client_id_is_answered_with_code_2(server: Target) -> None:
    """The empty one with a session to keep, and one of more than 256 bytes."""
    for refused in ("", "x" * 257):
        peer = await server.peer()
        peer.send(Connect(refused, clean_session=False), Pingreq())
        assert await peer.expect(Connack) == Connack(False, 2)
        await peer.expect_closed()
    for client_id in ("a/b", "#", "+", "x" * 256, "küche", "a b"):
        await (await server.connect(client_id)).leave()


async def test_mqtt_3_1_3_10_a_will_topic_that_is_no_utf_8_closes_the_connection(
    part: Part,
) -> None:
    peer = await part.server.peer()
    topic = field(part.topic.encode() + b"/\xff")
    peer.send(connect_packet(field("kitchen"), topic, field("gone"), flags=0x06))
    await peer.expect_closed()


async def test_mqtt_3_1_3_11_a_user_name_that_is_no_utf_8_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field(b"\xff"), flags=0x82))
    await peer.expect_closed()
