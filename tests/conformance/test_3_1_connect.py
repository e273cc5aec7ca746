"""MQTT 3.1.1, sections 3.1 and 3.2: CONNECT and CONNACK."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from devices.packets import (
    Connack,
    Connect,
    PacketError,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    Will,
)
from tests.broker.support import Peer, Served, Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    acknowledge,
    connect_packet,
    encoded,
    field,
    packet,
    raw_packet,
)
from tests.mqtt_cases import MALFORMED, Malformed

Serve = Callable[..., Awaitable[Served]]


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


# ---- 3.1.2.5 Will


async def drop(peer: Peer) -> None:
    await peer.drop()


async def break_the_protocol(peer: Peer) -> None:
    peer.send(b"\xf0\0")
    await peer.expect_closed()


async def connect_again(peer: Peer) -> None:
    peer.send(Connect("whoever"))
    await peer.expect_closed()


@pytest.mark.parametrize("end", [drop, break_the_protocol, connect_again])
async def test_mqtt_3_1_2_8_a_will_is_published_when_the_connection_ends_without_disconnect(
    part: Part, end: Callable[[Peer], Awaitable[None]]
) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone"))
    await end(leaver)
    await part.receive(peer, "gone")


async def test_mqtt_3_1_2_8_a_will_is_published_when_its_client_is_taken_over(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone"))
    await part.server.connect(part.name("leaver"))
    await leaver.expect_closed()
    await part.receive(peer, "gone")


async def test_mqtt_3_1_2_8_a_will_is_not_published_while_its_client_is_connected(
    part: Part,
) -> None:
    peer = await part.subscriber()
    await part.server.connect(part.name("leaver"), will=part.will("unwanted"))
    await part.expect_nothing(peer)


async def test_mqtt_3_1_2_8_the_will_of_a_refused_client_is_not_published(part: Part) -> None:
    peer = await part.subscriber()
    refused = await part.server.peer()
    refused.send(Connect("", False, 60, will=part.will("unwanted")))
    assert (await refused.expect(Connack)).code == 2
    await refused.expect_closed()
    await part.expect_nothing(peer)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_3_1_2_9_a_will_has_the_qos_that_was_asked_for(part: Part, qos: int) -> None:
    peer = await part.subscriber(qos=2)
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone", qos))
    await leaver.drop()
    await part.receive(peer, "gone", qos=qos)


@pytest.mark.parametrize("fields", [[], [field("home")]], ids=["nothing", "the topic alone"])
async def test_mqtt_3_1_2_9_a_will_flag_without_a_will_closes_the_connection(
    server: Target, fields: list[bytes]
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), *fields, flags=0x06))
    await peer.expect_closed()


@pytest.mark.parametrize("first", ["dropped", "disconnected"])
async def test_mqtt_3_1_2_10_a_will_is_gone_once_published_or_discarded(
    part: Part, first: str
) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), clean=False, will=part.will("gone"))
    if first == "dropped":
        await leaver.drop()
        await part.receive(peer, "gone")
    else:
        await leaver.leave()
    again = await part.server.connect(part.name("leaver"), clean=False)
    await again.drop()
    await part.expect_nothing(peer, "gone")


@pytest.mark.parametrize("flags", [0x0A, 0x12, 0x22, 0x3A], ids=hex)
async def test_mqtt_3_1_2_11_will_qos_or_retain_without_a_will_closes_the_connection(
    server: Target, flags: int
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=flags))
    await peer.expect_closed()


async def test_mqtt_3_1_2_11_a_will_without_its_flag_closes_the_connection(server: Target) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("home"), field("gone"), flags=0x02))
    await peer.expect_closed()


async def test_mqtt_3_1_2_12_without_a_will_nothing_is_published(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("unwanted"))
    await leaver.leave()
    leaver = await part.server.connect(part.name("leaver"))
    await leaver.drop()
    await part.expect_nothing(peer)


@pytest.mark.parametrize("flags", [0x0A, 0x12, 0x1A], ids=hex)
async def test_mqtt_3_1_2_13_will_qos_without_a_will_closes_the_connection(
    server: Target, flags: int
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=flags))
    await peer.expect_closed()


async def test_mqtt_3_1_2_14_will_qos_3_closes_the_connection(part: Part) -> None:
    peer = await part.server.peer()
    peer.send(connect_packet(field("kitchen"), field(part.topic), field("gone"), flags=0x1E))
    await peer.expect_closed()


async def test_mqtt_3_1_2_15_will_retain_without_a_will_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=0x22))
    await peer.expect_closed()


async def test_mqtt_3_1_2_16_a_will_without_retain_is_not_retained(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone"))
    await leaver.drop()
    assert not (await part.receive(peer, "gone")).retain
    later, _ = await part.connect("later")
    await later.subscribe((part.filter("later"), 1))
    if isinstance(part, FeedPart):
        assert not (await part.receive(later, "gone")).retain
    else:
        await part.expect_nothing(later, "gone")


async def test_mqtt_3_1_2_17_a_will_with_retain_is_retained(others: OtherPart) -> None:
    peer = await others.subscriber()
    will = others.will("gone", retain=True)
    leaver = await others.server.connect(others.name("leaver"), will=will)
    await leaver.drop()
    assert not (await others.receive(peer, "gone")).retain
    later, _ = await others.connect("later")
    await later.subscribe((others.topic, 1))
    assert (await others.receive(later, "gone")).retain


async def test_mqtt_3_1_2_17_a_will_with_retain_is_an_item_like_others(feed: FeedPart) -> None:
    """On purpose: nothing on the feed's topics is retained, an item is kept anyway."""
    peer = await feed.subscriber()
    leaver = await feed.server.connect(feed.name("leaver"), will=feed.will("gone", retain=True))
    await leaver.drop()
    assert not (await feed.receive(peer, "gone")).retain


# ---- 3.1.2.8 User name and password


async def test_mqtt_3_1_2_18_a_user_name_without_its_flag_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("kitchen"), flags=0x02))
    await peer.expect_closed()


async def test_mqtt_3_1_2_19_a_user_name_flag_without_a_name_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=0x82))
    await peer.expect_closed()


async def test_mqtt_3_1_2_20_a_password_without_its_flag_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("kitchen"), field("secret"), flags=0x82))
    await peer.expect_closed()


async def test_mqtt_3_1_2_21_a_password_flag_without_a_password_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("kitchen"), flags=0xC2))
    await peer.expect_closed()


async def test_mqtt_3_1_2_22_a_password_without_a_user_name_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("secret"), flags=0x42))
    await peer.expect_closed()


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
    assert 1.4 < loop.time() - begun < 6.5  # Mosquitto looks every five seconds
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
    """The empty one with a session to keep is the only client id that is refused as such."""
    peer = await server.peer()
    peer.send(Connect("", clean_session=False), Pingreq())
    assert await peer.expect(Connack) == Connack(False, 2)
    await peer.expect_closed()
    for client_id in ("a/b", "#", "+", "x" * 1000, "küche", "a b"):
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


# ---- 3.1.4 Response

OPENINGS = [
    case
    for case in MALFORMED
    if case.opening and case.reason is not PacketError.BAD_PROTOCOL_LEVEL
]


@pytest.mark.parametrize("case", OPENINGS, ids=lambda case: case.name)
async def test_mqtt_3_1_4_1_a_connect_that_breaks_a_rule_is_closed_without_connack(
    server: Target, case: Malformed
) -> None:
    peer = await server.peer()
    peer.send(case.data)
    await peer.expect_closed()


@pytest.mark.parametrize("clean", [False, True], ids=["kept", "clean"])
async def test_mqtt_3_1_4_2_a_new_connection_of_a_client_ends_the_old_one(
    part: Part, clean: bool
) -> None:
    old = await part.subscriber(clean=clean)
    new = await part.subscriber(clean=clean)
    await old.expect_closed()
    await part.publish("for the new one")
    await part.receive(new, "for the new one")


async def test_mqtt_3_1_4_3_a_clean_takeover_begins_with_nothing(part: Part) -> None:
    old = await part.subscriber(clean=False)
    new, connack = await part.connect(clean=True)
    assert not connack.session_present
    await old.expect_closed()
    await part.publish("unheard, as nothing is subscribed")
    await new.ping()


async def test_mqtt_3_1_4_3_a_takeover_that_keeps_the_session_goes_on_with_it(part: Part) -> None:
    old = await part.subscriber(clean=False)
    await part.publish("unacknowledged")
    first = await part.receive(old, "unacknowledged", ack=False)
    new, connack = await part.connect(clean=False)
    assert connack.session_present
    assert await part.receive(new, "unacknowledged") == replace(first, dup=True)


@pytest.mark.parametrize("clean", [False, True], ids=["kept", "clean"])
async def test_mqtt_3_1_4_4_a_connect_in_order_is_accepted(server: Target, clean: bool) -> None:
    peer = await server.peer()
    assert (await peer.greet(Connect("in-order", clean))).code == 0


async def test_mqtt_3_1_4_5_what_follows_a_refused_connect_is_not_processed(part: Part) -> None:
    peer = await part.subscriber()
    refused = await part.server.peer()
    refused.send(
        encoded(
            Connect("", clean_session=False),
            Subscribe(1, ((part.filter("kitchen"), 1),)),
            part.message("unwanted"),
        )
    )
    assert await refused.expect(Connack) == Connack(False, 2)
    await refused.expect_closed()
    await part.expect_nothing(peer)


# ---- 3.2 CONNACK


async def test_mqtt_3_2_0_1_the_first_packet_of_the_server_is_connack(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await part.publish("unacknowledged")
    await part.receive(peer, "unacknowledged", ack=False)
    await peer.drop()
    again = await part.server.peer()
    again.send(
        Connect(part.name(), clean_session=False), Subscribe(1, (("$x", 0),)), Pingreq()
    )
    assert await again.expect(Connack) == Connack(True, 0)
    kinds = {type(await again.read()) for _ in range(3)}
    assert kinds == {Publish, Suback, Pingresp}


async def test_mqtt_3_2_2_1_a_clean_session_is_not_present(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await peer.leave()
    _, connack = await part.connect(clean=True)
    assert connack == Connack(False, 0)


async def test_mqtt_3_2_2_2_a_stored_session_is_present(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await peer.drop()
    for _ in range(2):
        peer, connack = await part.connect(clean=False)
        assert connack == Connack(True, 0)
        await peer.leave()


async def test_mqtt_3_2_2_3_without_a_stored_session_none_is_present(part: Part) -> None:
    _, connack = await part.connect(clean=False)
    assert connack == Connack(False, 0)


async def test_mqtt_3_2_2_4_a_refusal_never_says_session_present(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await peer.leave()
    refused = await part.server.peer()
    refused.send(connect_packet(field(part.name()), level=9, flags=0))
    assert await raw_packet(refused) == b"\x20\x02\0\x01"


async def test_mqtt_3_2_2_5_a_refused_connection_is_closed(server: Target) -> None:
    for refused_one in (Connect("", clean_session=False), connect_packet(level=9)):
        peer = await server.peer()
        peer.send(refused_one)
        assert (await peer.expect(Connack)).code > 0
        await peer.expect_closed()


async def test_mqtt_3_2_2_6_where_no_code_fits_the_connection_is_closed_without_one(
    serve: Serve,
) -> None:
    served = await serve(limits__max_connections=1)
    await served.connect("first")
    second = await served.peer()
    second.send(Connect("second"))
    await second.expect_closed()


async def test_mqtt_3_1_2_8_a_will_that_is_not_permitted_refuses_the_connection(
    feed: FeedPart,
) -> None:
    """Authorised at CONNECT as a publish would be, so that it cannot fail when it is due."""
    peer = await feed.server.peer()
    peer.send(Connect(feed.name(), will=Will("f/other", b"forged")))
    assert await peer.expect(Connack) == Connack(False, 5)
    await peer.expect_closed()


async def test_mqtt_3_1_2_8_a_server_that_stops_in_order_publishes_no_will(
    serve: Serve,
) -> None:
    """On purpose: the client did not fail. It connects again, and so keeps its will."""
    served = await serve()
    leaver = await served.connect("leaver", will=Will("items/news", b'{"id":"a","payload":"x"}'))
    await served.restart()
    await leaver.expect_closed()
    peer = await FeedPart(served).subscriber()
    await FeedPart(served).expect_nothing(peer, "x")
    await served.drop_peers()
