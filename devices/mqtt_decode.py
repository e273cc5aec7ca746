"""The body of each MQTT 3.1.1 packet as a packet, chosen by its first byte and by who reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NoReturn

from devices.mqtt_types import (
    REFUSED,
    Connack,
    Connect,
    Disconnect,
    MalformedPacket,
    Packet,
    PacketError,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
    filter_fault,
    topic_fault,
)

Role = Literal["server", "client"]

Reader = Callable[[bytes, int, int, int], Packet]
"""Takes the bytes, the packet's first byte, and where its body starts and stops."""


def fail(reason: PacketError, detail: str) -> NoReturn:
    """Raise `MalformedPacket`."""
    raise MalformedPacket(reason, detail)


def check_size(first: int, length: int) -> None:
    """Hold a packet to its remaining length, if its type has only one.

    Raises:
        MalformedPacket: truncated or trailing_bytes.
    """
    size = _SIZES.get(first, length)
    if length < size:
        fail(PacketError.TRUNCATED, f"{length} bytes of {size} in packet type {first >> 4}")
    if length > size:
        fail(PacketError.TRAILING_BYTES, f"{length} bytes, not {size}, in packet type {first >> 4}")


class _Body:
    """Reads the fields of one packet, never past its end."""

    __slots__ = ("_at", "_data", "_stop")

    def __init__(self, data: bytes, start: int, stop: int) -> None:
        self._data = data
        self._at = start
        self._stop = stop

    def take(self, size: int) -> bytes:
        at = self._at
        if at + size > self._stop:
            fail(PacketError.TRUNCATED, "the remaining length ends inside a field")
        self._at = at + size
        return self._data[at : at + size]

    def byte(self) -> int:
        return self.take(1)[0]

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.uint16())

    def text(self) -> str:
        return _text(self.binary())

    def topic(self) -> str:
        return _topic(self.binary())

    def topic_filter(self) -> str:
        topic_filter = self.text()
        fault = filter_fault(topic_filter)
        if fault:
            fail(fault, f"filter {topic_filter[:80]!r} (4.7)")
        return topic_filter

    def packet_id(self) -> int:
        packet_id = self.uint16()
        if not packet_id:
            fail(PacketError.BAD_PACKET_ID, "packet id 0 [MQTT-2.3.1-1]")
        return packet_id

    def more(self) -> bool:
        return self._at < self._stop

    def end(self) -> None:
        if self._at < self._stop:
            fail(PacketError.TRAILING_BYTES, f"{self._stop - self._at} bytes after the last field")


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        fail(PacketError.BAD_UTF8, "a string is not UTF-8 [MQTT-1.5.3-1]")
    if "\0" in text:
        fail(PacketError.BAD_UTF8, "a string holds U+0000 [MQTT-1.5.3-2]")
    return text


def _topic(data: bytes) -> str:
    topic = _text(data)
    fault = topic_fault(topic)
    if fault:
        fail(fault, f"topic {topic[:80]!r} (4.7)")
    return topic


def _read_publish(data: bytes, first: int, start: int, stop: int) -> Publish:
    # Written out, without `_Body`: this is the hot path of both roles.
    at = start + 2
    end = at + (data[start] << 8 | data[start + 1]) if at <= stop else at
    qos = first >> 1 & 3
    payload_at = end + 2 if qos else end
    if payload_at > stop:
        fail(PacketError.TRUNCATED, "PUBLISH ends inside its topic or packet id")
    packet_id = 0
    if qos:
        packet_id = data[end] << 8 | data[end + 1]
        if not packet_id:
            fail(PacketError.BAD_PACKET_ID, "packet id 0 [MQTT-2.3.1-1]")
    topic = _topic(data[at:end])
    return Publish(topic, data[payload_at:stop], qos, packet_id, bool(first & 1), bool(first & 8))


def _read_connect(data: bytes, _first: int, start: int, stop: int) -> Connect:
    body = _Body(data, start, stop)
    level = _protocol_level(body)
    flags = body.byte()
    _check_connect_flags(flags)
    keep_alive = body.uint16()
    client_id = body.text()
    will = username = password = None
    if flags & 0x04:
        will = Will(body.topic(), body.binary(), flags >> 3 & 3, bool(flags & 0x20))
    if flags & 0x80:
        username = body.text()
    if flags & 0x40:
        password = body.binary()
    body.end()
    return Connect(client_id, bool(flags & 2), keep_alive, username, password, will, level)


def _protocol_level(body: _Body) -> int:
    """Read past the protocol name to the level, after which other levels have other fields."""
    name = body.binary()
    if name not in {b"MQTT", b"MQIsdp"}:  # MQTT 3.1 calls itself MQIsdp and understands CONNACK 1
        fail(PacketError.BAD_PROTOCOL_NAME, f"protocol name {name[:20]!r} [MQTT-3.1.2-1]")
    level = body.byte()
    if level != 4 or name != b"MQTT":
        fail(PacketError.BAD_PROTOCOL_LEVEL, f"{name.decode()} level {level} [MQTT-3.1.2-2]")
    return level


def _check_connect_flags(flags: int) -> None:
    if flags & 0x01:
        fail(PacketError.BAD_CONNECT_FLAGS, "the reserved flag is set [MQTT-3.1.2-3]")
    if not flags & 0x04 and flags & 0x38:
        fail(PacketError.BAD_CONNECT_FLAGS, "will QoS or retain without a will [MQTT-3.1.2-13]")
    if flags & 0x18 == 0x18:
        fail(PacketError.BAD_CONNECT_FLAGS, "will QoS 3 [MQTT-3.1.2-14]")
    if flags & 0xC0 == 0x40:
        fail(PacketError.BAD_CONNECT_FLAGS, "a password without a user name [MQTT-3.1.2-22]")


def _read_connack(data: bytes, first: int, start: int, stop: int) -> Connack:
    check_size(first, stop - start)
    flags, code = data[start], data[start + 1]
    if flags > 1 or (flags and code):
        fail(PacketError.BAD_FLAGS, f"CONNACK flags {flags:#04x} with code {code} [MQTT-3.2.2-4]")
    if code > 5:
        fail(PacketError.BAD_CODE, f"CONNACK code {code} is reserved (3.2.2.3)")
    return Connack(bool(flags), code)


def _read_subscribe(data: bytes, _first: int, start: int, stop: int) -> Subscribe:
    body = _Body(data, start, stop)
    packet_id = body.packet_id()
    filters = []
    while body.more():
        topic_filter, qos = body.topic_filter(), body.byte()
        if qos > 2:
            fail(PacketError.BAD_QOS, f"requested QoS byte {qos:#04x} [MQTT-3.8.3-4]")
        filters.append((topic_filter, qos))
    if not filters:
        fail(PacketError.EMPTY_SUBSCRIBE, "SUBSCRIBE without a filter [MQTT-3.8.3-3]")
    return Subscribe(packet_id, tuple(filters))


def _read_suback(data: bytes, _first: int, start: int, stop: int) -> Suback:
    body = _Body(data, start, stop)
    packet_id = body.packet_id()
    codes = tuple(data[start + 2 : stop])
    if not codes:
        fail(PacketError.EMPTY_SUBSCRIBE, "SUBACK without a code [MQTT-3.8.4-5]")
    if not _SUBACK_CODES.issuperset(codes):
        fail(PacketError.BAD_CODE, "SUBACK code is reserved [MQTT-3.9.3-2]")
    return Suback(packet_id, codes)


def _read_unsubscribe(data: bytes, _first: int, start: int, stop: int) -> Unsubscribe:
    body = _Body(data, start, stop)
    packet_id = body.packet_id()
    filters = []
    while body.more():
        filters.append(body.topic_filter())
    if not filters:
        fail(PacketError.EMPTY_SUBSCRIBE, "UNSUBSCRIBE without a filter [MQTT-3.10.3-2]")
    return Unsubscribe(packet_id, tuple(filters))


def _acknowledgement(noun: Callable[[int], Packet]) -> Reader:
    """A reader of the packets that are nothing but a packet id."""

    def read(data: bytes, first: int, start: int, stop: int) -> Packet:
        if stop - start != 2:
            check_size(first, stop - start)
        packet_id = data[start] << 8 | data[start + 1]
        if not packet_id:
            fail(PacketError.BAD_PACKET_ID, "acknowledges packet id 0 [MQTT-2.3.1-1]")
        return noun(packet_id)

    return read


def _bare(packet: Packet) -> Reader:
    """A reader of the packets that have no body."""

    def read(_data: bytes, first: int, start: int, stop: int) -> Packet:
        check_size(first, stop - start)
        return packet

    return read


_SUBACK_CODES = frozenset({0, 1, 2, REFUSED})

_SIZES: Mapping[int, int] = {
    0x20: 2,
    0x40: 2,
    0x50: 2,
    0x62: 2,
    0x70: 2,
    0xB0: 2,
    0xC0: 0,
    0xD0: 0,
    0xE0: 0,
}
"""Remaining length of the packets that always have the same, by first byte."""

# Keyed by the whole first byte, so that one look-up checks type, direction and flags (Table 2.2).
# PUBLISH: QoS 3 [MQTT-3.3.1-4] and DUP at QoS 0 [MQTT-3.3.1-2] are left out.
_BOTH: dict[int, Reader] = {
    **dict.fromkeys((0x30, 0x31, *range(0x32, 0x36), *range(0x3A, 0x3E)), _read_publish),
    0x40: _acknowledgement(Puback),
    0x50: _acknowledgement(Pubrec),
    0x62: _acknowledgement(Pubrel),
    0x70: _acknowledgement(Pubcomp),
}
READERS: Mapping[Role, Mapping[int, Reader]] = {
    "server": {
        **_BOTH,
        0x10: _read_connect,
        0x82: _read_subscribe,
        0xA2: _read_unsubscribe,
        0xC0: _bare(Pingreq()),
        0xE0: _bare(Disconnect()),
    },
    "client": {
        **_BOTH,
        0x20: _read_connack,
        0x90: _read_suback,
        0xB0: _acknowledgement(Unsuback),
        0xD0: _bare(Pingresp()),
    },
}
