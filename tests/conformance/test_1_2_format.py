"""MQTT 3.1.1, chapters 1 and 2: strings, fixed headers, packet identifiers."""

from __future__ import annotations

import pytest

from devices.packets import (
    Connect,
    Pingreq,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from tests.broker.support import Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    connect_packet,
    field,
    packet,
    raw_packet,
    send,
)

ILL_FORMED = [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]


# ---- 1.5.3 Strings


@pytest.mark.parametrize("bad", ILL_FORMED, ids=bytes.hex)
@pytest.mark.parametrize(
    "where", ["client id", "user name", "will topic", "topic", "filter", "filter given up"]
)
async def test_mqtt_1_5_3_1_ill_formed_utf_8_closes_the_connection(
    part: Part, where: str, bad: bytes
) -> None:
    await expect_closed_by_string(part, where, bad)


@pytest.mark.parametrize(
    "where", ["client id", "user name", "will topic", "topic", "filter", "filter given up"]
)
async def test_mqtt_1_5_3_2_u_0000_closes_the_connection(part: Part, where: str) -> None:
    await expect_closed_by_string(part, where, b"a\0b")


async def expect_closed_by_string(part: Part, where: str, bad: bytes) -> None:
    peer = await part.server.peer()
    name = field(part.name())
    text = field(part.topic.encode() + bad)
    opening = {
        "client id": connect_packet(field(bad)),
        "user name": connect_packet(name, field(bad), flags=0x82),
        "will topic": connect_packet(name, text, field("gone"), flags=0x06),
    }
    if where in opening:
        peer.send(opening[where])
        await peer.expect_closed()
        return
    await peer.greet(Connect(part.name()))
    peer.send(
        {
            "topic": packet(0x30, text, b"x"),
            "filter": packet(0x82, b"\0\1", text, b"\0"),
            "filter given up": packet(0xA2, b"\0\1", text),
        }[where]
    )
    await peer.expect_closed()


async def test_mqtt_1_5_3_3_u_feff_is_a_character_like_others(others: OtherPart) -> None:
    marked, plain = others.below("\ufeffa"), others.below("a")
    peer, _ = await others.connect()
    assert await peer.subscribe((marked, 1)) == (1,)
    publisher = await others.server.connect("")
    await publisher.publish(plain, b"without")
    await publisher.publish(marked, b"with")
    assert (await others.receive(peer, "with")).topic == marked


async def test_mqtt_1_5_3_3_u_feff_in_a_channel_is_a_character_like_others(feed: FeedPart) -> None:
    peer = await feed.subscriber()
    await peer.publish(
        f"u/{feed.name()}", b"\x92\x03\x82\xa6follow\x91\xa4\xef\xbb\xbfa\xa8unfollow\x91\xa1#"
    )
    publisher = await feed.server.connect("")
    await publisher.publish("items/a", feed.payload("without"))
    await publisher.publish("items/\ufeffa", feed.payload("with"))
    assert b"without" not in (await feed.receive(peer, "with")).payload


# ---- 2.2.2 Flags


async def test_mqtt_2_2_2_1_every_packet_of_the_server_has_the_flags_of_its_type(
    part: Part,
) -> None:
    peer = await part.server.peer()
    peer.send(Connect(part.name()))
    assert await raw_packet(peer) == b"\x20\x02\x00\x00"
    message = part.message("at least once", 1)
    peer.send(message)
    assert await raw_packet(peer) == b"\x40\x02" + message.packet_id.to_bytes(2, "big")
    message = part.message("exactly once", 2)
    for sent, first in ((message, 0x50), (Pubrel(message.packet_id), 0x70)):
        peer.send(sent)
        assert await raw_packet(peer) == bytes((first, 2)) + message.packet_id.to_bytes(2, "big")
    peer.send(Subscribe(5, (("$no/such/topic", 0),)))
    assert await raw_packet(peer) in (b"\x90\x03\0\x05\x80", b"\x90\x03\0\x05\0")
    peer.send(Unsubscribe(6, (part.filter("kitchen"),)), Pingreq())
    assert await raw_packet(peer) == b"\xb0\x02\0\x06"
    assert await raw_packet(peer) == b"\xd0\0"


async def test_mqtt_2_2_2_1_pubrel_of_the_server_has_its_flags(part: Part) -> None:
    peer = await part.subscriber(qos=2)
    await part.publish("exactly once", 2)
    publish = await part.receive(peer, "exactly once", ack=False, qos=2)
    peer.send(Pubrec(publish.packet_id))
    assert await raw_packet(peer) == b"\x62\x02" + publish.packet_id.to_bytes(2, "big")


@pytest.mark.parametrize(
    "data",
    [
        b"\x42\x02\0\1",
        b"\x51\x02\0\1",
        b"\x60\x02\0\1",
        b"\x74\x02\0\1",
        b"\x80\x06\0\1\0\1a\0",
        b"\xa0\x05\0\1\0\1a",
        b"\xc8\0",
        b"\xe1\0",
    ],
    ids=[
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "PINGREQ",
        "DISCONNECT",
    ],
)
async def test_mqtt_2_2_2_2_wrong_flags_close_the_connection(server: Target, data: bytes) -> None:
    peer = await server.connect("flags")
    peer.send(data)
    await peer.expect_closed()


async def test_mqtt_2_2_2_2_wrong_flags_of_connect_close_the_connection(server: Target) -> None:
    peer = await server.peer()
    peer.send(b"\x11" + connect_packet()[1:])
    await peer.expect_closed()


# ---- 2.3.1 Packet identifiers


async def test_mqtt_2_3_1_1_packet_id_0_closes_the_connection(part: Part) -> None:
    topic = part.filter("kitchen")
    for data in (
        packet(0x82, b"\0\0", field(topic), b"\0"),
        packet(0xA2, b"\0\0", field(topic)),
        part.hostile(b"\0\0x", 0x32),
        part.hostile(b"\0\0x", 0x34),
    ):
        peer, _ = await part.connect()
        peer.send(data)
        await peer.expect_closed()


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_2_3_1_1_messages_of_the_server_have_a_packet_id(part: Part, qos: int) -> None:
    peer = await part.subscriber(qos=qos)
    await part.publish("numbered", qos)
    assert (await part.receive(peer, "numbered", qos=qos)).packet_id > 0


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_2_3_1_4_unacknowledged_messages_have_different_packet_ids(
    part: Part, qos: int
) -> None:
    peer = await part.subscriber(qos=qos)
    used = set()
    for number in range(4):
        await part.publish(f"message {number}", qos)
        used.add((await part.receive(peer, f"message {number}", ack=False, qos=qos)).packet_id)
    assert len(used) == 4


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_2_3_1_4_a_message_that_is_sent_again_keeps_its_packet_id(
    part: Part, qos: int
) -> None:
    peer = await part.subscriber(qos=qos, clean=False)
    await part.publish("held", qos)
    first = await part.receive(peer, "held", ack=False, qos=qos)
    await peer.drop()
    again, _ = await part.connect(clean=False)
    assert (await part.receive(again, "held")).packet_id == first.packet_id


async def test_mqtt_2_3_1_5_a_message_of_qos_0_has_no_packet_id(others: OtherPart) -> None:
    peer = await others.subscriber()
    await others.publish("bare", 0)
    assert await raw_packet(peer) == packet(0x30, field(others.topic), b"bare")


async def test_mqtt_2_3_1_5_a_frame_of_qos_0_has_no_packet_id(feed: FeedPart) -> None:
    peer = await feed.subscriber(qos=0)
    await feed.publish("bare", 0)
    data = await raw_packet(peer)
    topic = field(feed.filter("kitchen"))
    assert data[0] == 0x30
    assert data[2 : 2 + len(topic)] == topic
    assert data[2 + len(topic)] == 0x94  # a delta of four elements, and nothing before it


async def test_mqtt_2_3_1_6_acknowledgements_carry_the_id_of_the_message(part: Part) -> None:
    peer, _ = await part.connect()
    for packet_id in (1, 255, 256, 0x7FFF, 0x8000, 0xFFFF):
        for qos in (1, 2):
            message = part.message(f"{packet_id} at {qos}", qos)
            await send(peer, Publish(message.topic, message.payload, qos, packet_id))


async def test_mqtt_2_3_1_6_pubrel_of_the_server_carries_the_id_of_its_message(part: Part) -> None:
    peer = await part.subscriber(qos=2)
    await part.publish("exactly once", 2)
    publish = await part.receive(peer, "exactly once", ack=False, qos=2)
    peer.send(Pubrec(publish.packet_id))
    assert await peer.expect(Pubrel) == Pubrel(publish.packet_id)
    peer.send(Pubcomp(publish.packet_id))
    await peer.ping()


async def test_mqtt_2_3_1_7_suback_and_unsuback_carry_the_id_of_their_request(part: Part) -> None:
    peer, _ = await part.connect()
    for packet_id in (1, 256, 0xFFFF):
        peer.send(Subscribe(packet_id, (("$no/such/topic", 0),)))
        assert (await peer.expect(Suback)).packet_id == packet_id
        peer.send(Unsubscribe(packet_id, (part.filter("kitchen"),)))
        assert await peer.expect(Unsuback) == Unsuback(packet_id)
