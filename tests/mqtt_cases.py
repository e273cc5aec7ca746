"""Named MQTT 3.1.1 wire cases, shared by the tests of the codec and of everything that speaks it.

Bytes are spelled out here rather than made by the codec, so that both can be wrong only separately.
A malformed case names the statement of the standard that it breaks, or the section where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketError,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Role,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)


@dataclass(frozen=True)
class Valid:
    """Bytes that `role` reads as `packet`; `canonical` if a writer makes exactly these."""

    name: str
    role: Role
    data: bytes
    packet: Packet
    canonical: bool = True


@dataclass(frozen=True)
class Malformed:
    """Bytes at which `role` must close the connection for `reason`.

    `opening` cases stand where CONNECT is due; the others may follow a whole CONNECT.
    """

    name: str
    role: Role
    data: bytes
    reason: PacketError
    statement: str
    opening: bool = False


def wire(first: int, *fields: bytes) -> bytes:
    """A packet with a body of at most 127 bytes."""
    body = b"".join(fields)
    assert len(body) < 128
    return bytes((first, len(body))) + body


def wire3(first: int, *fields: bytes) -> bytes:
    """A packet with a body of 16 384 bytes or more, whose length takes three bytes."""
    body = b"".join(fields)
    low, middle, high = len(body) & 127, len(body) >> 7 & 127, len(body) >> 14
    assert 0 < high < 128
    return bytes((first, low | 128, middle | 128, high)) + body


# Protocol name and level 4; the connect flags come next.
MQTT = b"\x00\x04MQTT\x04"
KITCHEN = b"\x00\x07kitchen"

OPENING: dict[Role, bytes] = {
    "server": wire(0x10, MQTT, b"\x02\x00\x00", KITCHEN),
    "client": b"\x20\x02\x00\x00",
}
"""What `role` reads first on a connection that goes well."""

VALID = [
    Valid(
        "connect, the least",
        "server",
        wire(0x10, MQTT, b"\x02\x00\x00\x00\x00"),
        Connect(""),
    ),
    Valid(
        "connect, everything",
        "server",
        wire(
            0x10,
            MQTT,
            b"\xee\x00\x3c",
            KITCHEN,
            b"\x00\x09u/kitchen\x00\x03\x93\x04\x07",
            KITCHEN,
            b"\x00\x02\x00\xff",
        ),
        Connect(
            "kitchen",
            keep_alive=60,
            username="kitchen",
            password=b"\x00\xff",
            will=Will("u/kitchen", b"\x93\x04\x07", qos=1, retain=True),
        ),
    ),
    Valid(
        "connect, empty client id and a kept session (answered with CONNACK 2)",
        "server",
        wire(0x10, MQTT, b"\x00\x00\x00\x00\x00"),
        Connect("", clean_session=False),
    ),
    Valid(
        "connect, empty will payload, user name and password",
        "server",
        wire(0x10, MQTT, b"\xd4\xff\xff\x00\x01a\x00\x01w\x00\x00\x00\x00\x00\x00"),
        Connect("a", False, 65_535, "", b"", Will("w", b"", qos=2)),
    ),
    Valid("connack, accepted", "client", b"\x20\x02\x00\x00", Connack(False, 0)),
    Valid("connack, session resumed", "client", b"\x20\x02\x01\x00", Connack(True, 0)),
    Valid("connack, not authorised", "client", b"\x20\x02\x00\x05", Connack(False, 5)),
    Valid("publish, QoS 0", "server", b"\x30\x05\x00\x01axy", Publish("a", b"xy")),
    Valid("publish, empty payload", "client", b"\x30\x03\x00\x01a", Publish("a", b"")),
    Valid("publish, retained", "client", b"\x31\x04\x00\x01ax", Publish("a", b"x", retain=True)),
    Valid("publish, QoS 1", "client", b"\x32\x06\x00\x01a\x00\x07x", Publish("a", b"x", 1, 7)),
    Valid(
        "publish, QoS 2 again, retained",
        "server",
        b"\x3d\x06\x00\x01a\xff\xffx",
        Publish("a", b"x", 2, 65_535, retain=True, dup=True),
    ),
    Valid(
        "publish, payload that looks like a packet",
        "server",
        b"\x30\x07\x00\x01a\x40\x02\x00\x01",
        Publish("a", b"\x40\x02\x00\x01"),
    ),
    Valid(
        "publish, two bytes of remaining length",
        "client",
        b"\x30\x80\x01\x00\x01a" + bytes(125),
        Publish("a", bytes(125)),
    ),
    Valid(
        "publish, remaining length longer than needed",
        "server",
        b"\x30\x83\x80\x80\x00\x00\x01a",
        Publish("a", b""),
        canonical=False,
    ),
    Valid(
        "publish, U+FEFF is kept [MQTT-1.5.3-3]",
        "server",
        b"\x30\x06\x00\x04\xef\xbb\xbfa",
        Publish("\ufeffa", b""),
    ),
    Valid(
        "publish, control characters and non-characters pass",
        "server",
        b"\x30\x07\x00\x05\x01\x7f\xef\xbf\xbf",
        Publish("\x01\x7f\uffff", b""),
    ),
    Valid("publish, a lone slash", "server", b"\x30\x03\x00\x01/", Publish("/", b"")),
    Valid("puback", "server", b"\x40\x02\x00\x01", Puback(1)),
    Valid("puback, to a client", "client", b"\x40\x02\xff\xff", Puback(65_535)),
    Valid(
        "puback, remaining length longer than needed",
        "server",
        b"\x40\x82\x00\x00\x01",
        Puback(1),
        canonical=False,
    ),
    Valid("pubrec", "server", b"\x50\x02\x01\x00", Pubrec(256)),
    Valid("pubrel", "client", b"\x62\x02\x00\x01", Pubrel(1)),
    Valid("pubcomp", "server", b"\x70\x02\x00\x01", Pubcomp(1)),
    Valid(
        "subscribe, one filter",
        "server",
        b"\x82\x0e\x00\x01\x00\x09f/kitchen\x01",
        Subscribe(1, (("f/kitchen", 1),)),
    ),
    Valid(
        "subscribe, wildcards",
        "server",
        wire(0x82, b"\x00\x02", b"\x00\x01#\x00", b"\x00\x05+/a/#\x01", b"\x00\x03/+/\x02"),
        Subscribe(2, (("#", 0), ("+/a/#", 1), ("/+/", 2))),
    ),
    Valid("suback, granted", "client", b"\x90\x03\x00\x01\x01", Suback(1, (1,))),
    Valid(
        "suback, every code",
        "client",
        b"\x90\x06\x00\x01\x00\x01\x02\x80",
        Suback(1, (0, 1, 2, 0x80)),
    ),
    Valid(
        "unsubscribe",
        "server",
        b"\xa2\x09\x00\x01\x00\x01a\x00\x02b/",
        Unsubscribe(1, ("a", "b/")),
    ),
    Valid("unsuback", "client", b"\xb0\x02\x00\x01", Unsuback(1)),
    Valid("pingreq", "server", b"\xc0\x00", Pingreq()),
    Valid("pingresp", "client", b"\xd0\x00", Pingresp()),
    Valid("disconnect", "server", b"\xe0\x00", Disconnect()),
]


def _bad(
    name: str, data: bytes, reason: PacketError, statement: str, role: Role = "server"
) -> Malformed:
    return Malformed(name, role, data, reason, statement)


def _bad_connect(
    name: str, fields: bytes, reason: PacketError, statement: str = "MQTT-3.1.4-1"
) -> Malformed:
    return Malformed(name, "server", wire(0x10, fields), reason, statement, opening=True)


def _foreign(name: str, data: bytes) -> Malformed:
    return Malformed(name, "server", data, PacketError.NOT_MQTT, "MQTT-3.1.0-1", opening=True)


DEEP = b"/" * 200  # 201 levels
ABYSS = b"\xff\x78" + b"/" * 65_400  # 65 401 levels, behind their length
HIDDEN = b"\x30\x07\x00\x06hidden"  # a whole PUBLISH

MALFORMED = [
    # Fixed header
    _bad("type 0", b"\x00\x00", PacketError.UNEXPECTED_TYPE, "2.2.1"),
    _bad("type 15", b"\xf0\x00", PacketError.UNEXPECTED_TYPE, "2.2.1"),
    _bad("a client sends connack", b"\x20\x02\x00\x00", PacketError.UNEXPECTED_TYPE, "2.2.1"),
    _bad("a client sends suback", b"\x90\x03\x00\x01\x00", PacketError.UNEXPECTED_TYPE, "2.2.1"),
    _bad("a client sends unsuback", b"\xb0\x02\x00\x01", PacketError.UNEXPECTED_TYPE, "2.2.1"),
    _bad("a client sends pingresp", b"\xd0\x00", PacketError.UNEXPECTED_TYPE, "2.2.1"),
    _bad("a server sends connect", b"\x10\x00", PacketError.UNEXPECTED_TYPE, "2.2.1", "client"),
    _bad("a server sends subscribe", b"\x82\x00", PacketError.UNEXPECTED_TYPE, "2.2.1", "client"),
    _bad("a server sends unsubscribe", b"\xa2\x00", PacketError.UNEXPECTED_TYPE, "2.2.1", "client"),
    _bad("a server sends pingreq", b"\xc0\x00", PacketError.UNEXPECTED_TYPE, "2.2.1", "client"),
    _bad("a server sends disconnect", b"\xe0\x00", PacketError.UNEXPECTED_TYPE, "2.2.1", "client"),
    _bad(
        "a client sends connack with a session",
        b"\x20\x02\x01\x00",
        PacketError.UNEXPECTED_TYPE,
        "2.2.1",
    ),
    _bad("connect with flags", b"\x11\x00", PacketError.BAD_FLAGS, "MQTT-2.2.2-2"),
    _bad("puback with flags", b"\x42\x02\x00\x01", PacketError.BAD_FLAGS, "MQTT-2.2.2-2"),
    _bad("pubrec with flags", b"\x52\x02\x00\x01", PacketError.BAD_FLAGS, "MQTT-2.2.2-2"),
    _bad("pubrel without flags", b"\x60\x02\x00\x01", PacketError.BAD_FLAGS, "MQTT-3.6.1-1"),
    _bad("pubrel again", b"\x6a\x02\x00\x01", PacketError.BAD_FLAGS, "MQTT-3.6.1-1"),
    _bad("pubcomp with flags", b"\x72\x02\x00\x01", PacketError.BAD_FLAGS, "MQTT-2.2.2-2"),
    _bad(
        "subscribe without flags",
        b"\x80\x06\x00\x01\x00\x01a\x00",
        PacketError.BAD_FLAGS,
        "MQTT-3.8.1-1",
    ),
    _bad(
        "unsubscribe without flags",
        b"\xa0\x05\x00\x01\x00\x01a",
        PacketError.BAD_FLAGS,
        "MQTT-3.10.1-1",
    ),
    _bad(
        "subscribe again",
        b"\x8a\x06\x00\x01\x00\x01a\x00",
        PacketError.BAD_FLAGS,
        "MQTT-3.8.1-1",
    ),
    _bad(
        "unsubscribe again",
        b"\xaa\x05\x00\x01\x00\x01a",
        PacketError.BAD_FLAGS,
        "MQTT-3.10.1-1",
    ),
    _bad("pingreq with flags", b"\xc1\x00", PacketError.BAD_FLAGS, "MQTT-2.2.2-2"),
    _bad("disconnect with flags", b"\xe1\x00", PacketError.BAD_FLAGS, "MQTT-3.14.1-1"),
    _bad(
        "remaining length of five bytes",
        b"\x30\xff\xff\xff\xff\x01",
        PacketError.BAD_LENGTH,
        "2.2.3",
    ),
    _bad("remaining length never ends", b"\x30\x80\x80\x80\x80", PacketError.BAD_LENGTH, "2.2.3"),
    _bad("256 MiB announced", b"\x30\xff\xff\xff\x7f", PacketError.TOO_LARGE, "4.8"),
    # Packets of one size
    _bad("puback without packet id", b"\x40\x00", PacketError.TRUNCATED, "3.4.1"),
    _bad("puback with half a packet id", b"\x40\x01\x00", PacketError.TRUNCATED, "3.4.1"),
    _bad("puback of MQTT 5", b"\x40\x03\x00\x01\x10", PacketError.TRAILING_BYTES, "3.4.1"),
    _bad("pubrel too long", b"\x62\x03\x00\x01\x00", PacketError.TRAILING_BYTES, "3.6.1"),
    _bad("pingreq with a body", b"\xc0\x01\x00", PacketError.TRAILING_BYTES, "3.12.1"),
    _bad("pingreq around a publish", wire(0xC0, HIDDEN), PacketError.TRAILING_BYTES, "3.12.1"),
    _bad(
        "puback around a publish",
        wire(0x40, b"\x00\x01", HIDDEN),
        PacketError.TRAILING_BYTES,
        "3.4.1",
    ),
    _bad(
        "pubrel around a publish",
        wire(0x62, b"\x00\x01", HIDDEN),
        PacketError.TRAILING_BYTES,
        "3.6.1",
    ),
    _bad("disconnect around a publish", wire(0xE0, HIDDEN), PacketError.TRAILING_BYTES, "3.14.1"),
    _bad("pubrec without packet id", b"\x50\x00", PacketError.TRUNCATED, "3.5.1"),
    _bad("pubcomp too long", b"\x70\x03\x00\x01\x00", PacketError.TRAILING_BYTES, "3.7.1"),
    _bad("disconnect of MQTT 5", b"\xe0\x01\x00", PacketError.TRAILING_BYTES, "3.14.1"),
    _bad("connack too short", b"\x20\x01\x00", PacketError.TRUNCATED, "3.2.1", "client"),
    _bad(
        "connack of MQTT 5", b"\x20\x03\x00\x00\x00", PacketError.TRAILING_BYTES, "3.2.1", "client"
    ),
    _bad("pingresp with a body", b"\xd0\x01\x00", PacketError.TRAILING_BYTES, "3.13.1", "client"),
    # Packet ids
    _bad(
        "publish, packet id 0",
        b"\x32\x05\x00\x01a\x00\x00",
        PacketError.BAD_PACKET_ID,
        "MQTT-2.3.1-1",
    ),
    _bad("puback, packet id 0", b"\x40\x02\x00\x00", PacketError.BAD_PACKET_ID, "MQTT-2.3.1-6"),
    _bad("pubrec, packet id 0", b"\x50\x02\x00\x00", PacketError.BAD_PACKET_ID, "MQTT-2.3.1-6"),
    _bad("pubrel, packet id 0", b"\x62\x02\x00\x00", PacketError.BAD_PACKET_ID, "MQTT-2.3.1-6"),
    _bad("pubcomp, packet id 0", b"\x70\x02\x00\x00", PacketError.BAD_PACKET_ID, "2.3.1"),
    _bad(
        "subscribe, packet id 0",
        b"\x82\x06\x00\x00\x00\x01a\x00",
        PacketError.BAD_PACKET_ID,
        "MQTT-2.3.1-1",
    ),
    _bad(
        "unsubscribe, packet id 0",
        b"\xa2\x05\x00\x00\x00\x01a",
        PacketError.BAD_PACKET_ID,
        "MQTT-2.3.1-1",
    ),
    _bad(
        "suback, packet id 0",
        b"\x90\x03\x00\x00\x00",
        PacketError.BAD_PACKET_ID,
        "MQTT-2.3.1-7",
        "client",
    ),
    _bad(
        "unsuback, packet id 0",
        b"\xb0\x02\x00\x00",
        PacketError.BAD_PACKET_ID,
        "MQTT-2.3.1-7",
        "client",
    ),
    # PUBLISH
    _bad("publish, QoS 3", b"\x36\x05\x00\x01a\x00\x01", PacketError.BAD_QOS, "MQTT-3.3.1-4"),
    _bad("publish, QoS 3 again", b"\x3f\x05\x00\x01a\x00\x01", PacketError.BAD_QOS, "MQTT-3.3.1-4"),
    _bad("publish, DUP at QoS 0", b"\x38\x03\x00\x01a", PacketError.BAD_FLAGS, "MQTT-3.3.1-2"),
    _bad("publish, nothing in it", b"\x30\x00", PacketError.TRUNCATED, "MQTT-3.3.2-1"),
    _bad("publish, half a topic length", b"\x30\x01\x00", PacketError.TRUNCATED, "MQTT-3.3.2-1"),
    _bad(
        "publish, topic past its end", b"\x30\x03\x00\x02a", PacketError.TRUNCATED, "MQTT-3.3.2-1"
    ),
    _bad("publish, topic length alone", b"\x30\x02\x00\x05", PacketError.TRUNCATED, "MQTT-3.3.2-1"),
    _bad("publish, no packet id", b"\x32\x03\x00\x01a", PacketError.TRUNCATED, "MQTT-2.3.1-1"),
    _bad(
        "publish, half a packet id", b"\x34\x04\x00\x01a\x01", PacketError.TRUNCATED, "MQTT-2.3.1-1"
    ),
    _bad("publish, empty topic", b"\x30\x02\x00\x00", PacketError.BAD_TOPIC, "MQTT-4.7.3-1"),
    _bad("publish to a/#", b"\x30\x05\x00\x03a/#", PacketError.BAD_TOPIC, "MQTT-3.3.2-2"),
    _bad("publish to +", b"\x30\x05\x00\x03a/+", PacketError.BAD_TOPIC, "MQTT-3.3.2-2"),
    _bad("publish to #", b"\x30\x03\x00\x01#", PacketError.BAD_TOPIC, "MQTT-3.3.2-2"),
    _bad(
        "publish, wildcard within a level",
        b"\x30\x05\x00\x03a+b",
        PacketError.BAD_TOPIC,
        "MQTT-3.3.2-2",
    ),
    _bad(
        "publish, U+0000 in the topic",
        b"\x30\x04\x00\x02a\x00",
        PacketError.BAD_UTF8,
        "MQTT-1.5.3-2",
    ),
    _bad(
        "publish, surrogate", b"\x30\x05\x00\x03\xed\xa0\x80", PacketError.BAD_UTF8, "MQTT-1.5.3-1"
    ),
    _bad(
        "publish, overlong UTF-8", b"\x30\x04\x00\x02\xc0\xaf", PacketError.BAD_UTF8, "MQTT-1.5.3-1"
    ),
    _bad("publish, cut UTF-8", b"\x30\x03\x00\x01\xc3", PacketError.BAD_UTF8, "MQTT-1.5.3-1"),
    _bad(
        "publish, above U+10FFFF",
        b"\x30\x06\x00\x04\xf4\x90\x80\x80",
        PacketError.BAD_UTF8,
        "MQTT-1.5.3-1",
    ),
    _bad(
        "publish, 201 levels",
        b"\x30\xca\x01\x00\xc8" + DEEP,
        PacketError.TOO_MANY_LEVELS,
        "a limit of ours",
    ),
    _bad(
        "publish, 65 401 levels", wire3(0x30, ABYSS), PacketError.TOO_MANY_LEVELS, "a limit of ours"
    ),
    _bad(
        "publish, empty topic at QoS 1",
        b"\x32\x04\x00\x00\x00\x01",
        PacketError.BAD_TOPIC,
        "MQTT-4.7.3-1",
    ),
    _bad(
        "publish to a client, wildcard",
        b"\x30\x03\x00\x01#",
        PacketError.BAD_TOPIC,
        "MQTT-3.3.2-2",
        "client",
    ),
    # SUBSCRIBE, SUBACK, UNSUBSCRIBE
    _bad("subscribe, no filter", b"\x82\x02\x00\x01", PacketError.EMPTY_SUBSCRIBE, "MQTT-3.8.3-3"),
    _bad("subscribe, nothing in it", b"\x82\x00", PacketError.TRUNCATED, "3.8.2"),
    _bad("subscribe, no QoS", b"\x82\x05\x00\x01\x00\x01a", PacketError.TRUNCATED, "3.8.3"),
    _bad(
        "subscribe, filter past its end",
        b"\x82\x05\x00\x01\x00\x09a",
        PacketError.TRUNCATED,
        "3.8.3",
    ),
    _bad("subscribe, QoS 3", b"\x82\x06\x00\x01\x00\x01a\x03", PacketError.BAD_QOS, "MQTT-3.8.3-4"),
    _bad(
        "subscribe, options of MQTT 5",
        b"\x82\x06\x00\x01\x00\x01a\x04",
        PacketError.BAD_QOS,
        "MQTT-3.8.3-4",
    ),
    _bad(
        "subscribe, one good filter and one bad",
        wire(0x82, b"\x00\x01", b"\x00\x01a\x00", b"\x00\x02a#\x00"),
        PacketError.BAD_FILTER,
        "MQTT-4.7.1-2",
    ),
    _bad(
        "subscribe, empty filter",
        b"\x82\x05\x00\x01\x00\x00\x00",
        PacketError.BAD_FILTER,
        "MQTT-4.7.3-1",
    ),
    _bad(
        "subscribe, # before the end",
        b"\x82\x08\x00\x01\x00\x03#/a\x00",
        PacketError.BAD_FILTER,
        "MQTT-4.7.1-2",
    ),
    _bad(
        "subscribe, + within a level",
        b"\x82\x09\x00\x01\x00\x04a/+b\x00",
        PacketError.BAD_FILTER,
        "MQTT-4.7.1-3",
    ),
    _bad(
        "subscribe, U+0000",
        b"\x82\x06\x00\x01\x00\x01\x00\x00",
        PacketError.BAD_UTF8,
        "MQTT-1.5.3-2",
    ),
    _bad(
        "subscribe, not UTF-8",
        b"\x82\x06\x00\x01\x00\x01\xff\x00",
        PacketError.BAD_UTF8,
        "MQTT-3.8.3-1",
    ),
    _bad(
        "subscribe, 201 levels",
        b"\x82\xcd\x01\x00\x01\x00\xc8" + DEEP + b"\x00",
        PacketError.TOO_MANY_LEVELS,
        "a limit of ours",
    ),
    _bad(
        "subscribe, 65 401 levels",
        wire3(0x82, b"\x00\x01", ABYSS, b"\x00"),
        PacketError.TOO_MANY_LEVELS,
        "a limit of ours",
    ),
    _bad(
        "unsubscribe, 65 401 levels",
        wire3(0xA2, b"\x00\x01", ABYSS),
        PacketError.TOO_MANY_LEVELS,
        "a limit of ours",
    ),
    _bad(
        "subscribe, reserved bits beside the QoS",
        b"\x82\x06\x00\x01\x00\x01a\x80",
        PacketError.BAD_QOS,
        "MQTT-3.8.3-4",
    ),
    _bad(
        "unsubscribe, empty filter",
        b"\xa2\x04\x00\x01\x00\x00",
        PacketError.BAD_FILTER,
        "MQTT-4.7.3-1",
    ),
    _bad(
        "unsubscribe, no filter", b"\xa2\x02\x00\x01", PacketError.EMPTY_SUBSCRIBE, "MQTT-3.10.3-2"
    ),
    _bad(
        "unsubscribe, half a filter", b"\xa2\x04\x00\x01\x00\x01", PacketError.TRUNCATED, "3.10.3"
    ),
    _bad(
        "unsubscribe, bad filter",
        b"\xa2\x06\x00\x01\x00\x02++",
        PacketError.BAD_FILTER,
        "MQTT-4.7.1-3",
    ),
    _bad(
        "unsubscribe, not UTF-8",
        b"\xa2\x05\x00\x01\x00\x01\xff",
        PacketError.BAD_UTF8,
        "MQTT-3.10.3-1",
    ),
    _bad(
        "suback, no code",
        b"\x90\x02\x00\x01",
        PacketError.EMPTY_SUBSCRIBE,
        "MQTT-3.8.4-5",
        "client",
    ),
    _bad("suback, code 3", b"\x90\x03\x00\x01\x03", PacketError.BAD_CODE, "MQTT-3.9.3-2", "client"),
    _bad(
        "suback, reason of MQTT 5",
        b"\x90\x04\x00\x01\x00\x87",
        PacketError.BAD_CODE,
        "MQTT-3.9.3-2",
        "client",
    ),
    # CONNACK
    _bad("connack, reserved flag", b"\x20\x02\x02\x00", PacketError.BAD_FLAGS, "3.2.2.1", "client"),
    _bad(
        "connack, refused session",
        b"\x20\x02\x01\x05",
        PacketError.BAD_FLAGS,
        "MQTT-3.2.2-4",
        "client",
    ),
    _bad("connack, code 6", b"\x20\x02\x00\x06", PacketError.BAD_CODE, "3.2.2.3", "client"),
    # CONNECT
    _bad_connect("connect, nothing in it", b"", PacketError.TRUNCATED),
    _bad_connect("connect, name only", b"\x00\x04MQTT", PacketError.TRUNCATED),
    _bad_connect(
        "connect, no client id", MQTT + b"\x02\x00\x00", PacketError.TRUNCATED, "MQTT-3.1.3-3"
    ),
    _bad_connect(
        "connect, bytes after the client id",
        MQTT + b"\x02\x00\x00\x00\x00\x00",
        PacketError.TRAILING_BYTES,
    ),
    _bad_connect(
        "connect, an empty protocol name",
        b"\x00\x00\x04\x02\x00\x00\x00\x00",
        PacketError.BAD_PROTOCOL_NAME,
        "MQTT-3.1.2-1",
    ),
    _bad_connect(
        "connect, a client id past its end",
        MQTT + b"\x02\x00\x00\xff\xffkitchen",
        PacketError.TRUNCATED,
    ),
    _bad_connect(
        "connect, a publish behind the client id",
        MQTT + b"\x02\x00\x00\x00\x00" + HIDDEN,
        PacketError.TRAILING_BYTES,
    ),
    Malformed(
        "connect, a will to 65 401 levels",
        "server",
        wire3(0x10, MQTT, b"\x06\x00\x00\x00\x00", ABYSS, b"\x00\x00"),
        PacketError.TOO_MANY_LEVELS,
        "a limit of ours",
        opening=True,
    ),
    _bad_connect(
        "connect, a client id with U+0000",
        MQTT + b"\x02\x00\x00\x00\x03a\x00b",
        PacketError.BAD_UTF8,
        "MQTT-1.5.3-2",
    ),
    _bad_connect(
        "connect, another protocol",
        b"\x00\x04MQTS\x04\x02\x00\x00\x00\x00",
        PacketError.BAD_PROTOCOL_NAME,
        "MQTT-3.1.2-1",
    ),
    _bad_connect(
        "connect, protocol name in lower case",
        b"\x00\x04mqtt\x04\x02\x00\x00\x00\x00",
        PacketError.BAD_PROTOCOL_NAME,
        "MQTT-3.1.2-1",
    ),
    _bad_connect(
        "connect, MQTT 3.1",
        b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01a",
        PacketError.BAD_PROTOCOL_LEVEL,
        "MQTT-3.1.2-2",
    ),
    _bad_connect(
        "connect, MQTT 5",
        b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00",
        PacketError.BAD_PROTOCOL_LEVEL,
        "MQTT-3.1.2-2",
    ),
    _bad_connect(
        "connect, a bridge's level",
        b"\x00\x04MQTT\x84\x02\x00\x00\x00\x00",
        PacketError.BAD_PROTOCOL_LEVEL,
        "MQTT-3.1.2-2",
    ),
    _bad_connect(
        "connect, reserved flag",
        MQTT + b"\x03\x00\x00\x00\x00",
        PacketError.BAD_CONNECT_FLAGS,
        "MQTT-3.1.2-3",
    ),
    _bad_connect(
        "connect, will QoS without a will",
        MQTT + b"\x0a\x00\x00\x00\x00",
        PacketError.BAD_CONNECT_FLAGS,
        "MQTT-3.1.2-13",
    ),
    _bad_connect(
        "connect, will retain without a will",
        MQTT + b"\x22\x00\x00\x00\x00",
        PacketError.BAD_CONNECT_FLAGS,
        "MQTT-3.1.2-15",
    ),
    _bad_connect(
        "connect, will QoS 3",
        MQTT + b"\x1e\x00\x00\x00\x00\x00\x01w\x00\x00",
        PacketError.BAD_CONNECT_FLAGS,
        "MQTT-3.1.2-14",
    ),
    _bad_connect(
        "connect, a password without a user name",
        MQTT + b"\x42\x00\x00\x00\x00\x00\x01p",
        PacketError.BAD_CONNECT_FLAGS,
        "MQTT-3.1.2-22",
    ),
    _bad_connect(
        "connect, a will that is not there",
        MQTT + b"\x06\x00\x00\x00\x00",
        PacketError.TRUNCATED,
        "MQTT-3.1.2-9",
    ),
    _bad_connect(
        "connect, a user name that is not there",
        MQTT + b"\x82\x00\x00\x00\x00",
        PacketError.TRUNCATED,
        "MQTT-3.1.2-19",
    ),
    _bad_connect(
        "connect, a password that is not there",
        MQTT + b"\xc2\x00\x00\x00\x00\x00\x00",
        PacketError.TRUNCATED,
        "MQTT-3.1.2-21",
    ),
    _bad_connect(
        "connect, a client id that is not UTF-8",
        MQTT + b"\x02\x00\x00\x00\x01\xff",
        PacketError.BAD_UTF8,
        "MQTT-3.1.3-4",
    ),
    _bad_connect(
        "connect, a will topic that is not UTF-8",
        MQTT + b"\x06\x00\x00\x00\x00\x00\x01\xff\x00\x00",
        PacketError.BAD_UTF8,
        "MQTT-3.1.3-10",
    ),
    _bad_connect(
        "connect, a will to a wildcard",
        MQTT + b"\x06\x00\x00\x00\x00\x00\x01#\x00\x00",
        PacketError.BAD_TOPIC,
        "MQTT-4.7.1-1",
    ),
    _bad_connect(
        "connect, an empty will topic",
        MQTT + b"\x06\x00\x00\x00\x00\x00\x00\x00\x00",
        PacketError.BAD_TOPIC,
        "MQTT-4.7.3-1",
    ),
    _bad_connect(
        "connect, a user name with U+0000",
        MQTT + b"\x82\x00\x00\x00\x00\x00\x01\x00",
        PacketError.BAD_UTF8,
        "MQTT-1.5.3-2",
    ),
    # Not MQTT at all
    _foreign("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    _foreign("an HTTP request", b"GET / HTTP/1.1\r\nHost: feed\r\n\r\n"),
    _foreign("an HTTP proxy request", b"CONNECT feed:1883 HTTP/1.1\r\n\r\n"),
    _foreign("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
]
