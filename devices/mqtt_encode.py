"""MQTT 3.1.1 packets as bytes.

What cannot be a packet is our own fault here, hence `ValueError`: whatever `encode` returns, a
decoder of the other role accepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devices.mqtt_types import (
    MAX_REMAINING_LENGTH,
    MAX_STRING,
    REFUSED,
    Connack,
    Connect,
    Disconnect,
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
    filter_fault,
    topic_fault,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from devices.mqtt_types import Packet

PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"

_PROTOCOL_NAME = b"\x00\x04MQTT"


def encode(packet: Packet) -> bytes:
    """The bytes of `packet`.

    Raises:
        ValueError: A field holds what MQTT cannot carry.
    """
    return _ENCODERS[type(packet)](packet)


def remaining_length(n: int) -> bytes:
    """`n` in seven bits per byte, least significant first (2.2.3).

    Raises:
        ValueError: `n` is negative or needs more than four bytes.
    """
    if not 0 <= n <= MAX_REMAINING_LENGTH:
        raise ValueError(f"no remaining length: {n}")
    if n < 128:
        return bytes((n,))
    if n < 16_384:
        return bytes((n & 127 | 128, n >> 7))
    low = bytes((n & 127 | 128, n >> 7 & 127 | 128))
    if n < 2_097_152:
        return low + bytes((n >> 14,))
    return low + bytes((n >> 14 & 127 | 128, n >> 21))


def binary_field(data: bytes) -> bytes:
    """`data` behind its two bytes of length.

    Raises:
        ValueError: `data` is longer than 65 535 bytes.
    """
    if len(data) > MAX_STRING:
        raise ValueError(f"field of {len(data)} bytes, at most {MAX_STRING} fit")
    return len(data).to_bytes(2, "big") + data


def string_field(text: str) -> bytes:
    """`text` as UTF-8 behind its two bytes of length (1.5.3).

    Raises:
        ValueError: `text` holds U+0000 or a lone surrogate, or is longer than 65 535 bytes.
    """
    if "\0" in text:
        raise ValueError("U+0000 in a string [MQTT-1.5.3-2]")
    return binary_field(text.encode())


def topic_field(topic: str) -> bytes:
    """`topic` as `publish_head` takes it; worth keeping for a topic that is published to often.

    Raises:
        ValueError: `topic` is no topic name (4.7).
    """
    fault = topic_fault(topic)
    if fault:
        raise ValueError(f"{fault}: {topic!r}")
    return string_field(topic)


def publish_head(
    topic: bytes, size: int, qos: int = 0, packet_id: int = 0, *, retain: bool = False
) -> bytes:
    """A PUBLISH up to its payload of `size` bytes, so that the payload can be shared between packets.

    Args:
        topic: A `topic_field`.
        size: Bytes of payload that will follow.
        qos: 0, 1 or 2.
        packet_id: 1 to 65 535, or 0 at QoS 0.
        retain: The RETAIN flag.

    Raises:
        ValueError: `qos` and `packet_id` do not go together, or the packet is too large for MQTT.
    """
    first = 0x30 | qos << 1 | retain
    if qos == 0:
        if packet_id:
            raise ValueError("a packet id at QoS 0 [MQTT-2.3.1-5]")
        return b"%c%b%b" % (first, remaining_length(len(topic) + size), topic)
    if qos not in {1, 2}:
        raise ValueError(f"no QoS: {qos}")
    length = remaining_length(len(topic) + 2 + size)
    return b"%c%b%b%b" % (first, length, topic, _packet_id(packet_id))


def as_duplicate(packet: bytes) -> bytes:
    """The PUBLISH `packet` with DUP set, as it is sent again [MQTT-3.3.1-1].

    Raises:
        ValueError: `packet` is of QoS 0, which is never sent again [MQTT-3.3.1-2].
    """
    if not packet[0] & 0x06:
        raise ValueError("DUP at QoS 0 [MQTT-3.3.1-2]")
    return bytes((packet[0] | 0x08,)) + packet[1:]


def puback(packet_id: int) -> bytes:
    """PUBACK for `packet_id`."""
    return b"\x40\x02" + _packet_id(packet_id)


def pubrec(packet_id: int) -> bytes:
    """PUBREC for `packet_id`."""
    return b"\x50\x02" + _packet_id(packet_id)


def pubrel(packet_id: int) -> bytes:
    """PUBREL for `packet_id`, with its fixed flags 0010 [MQTT-3.6.1-1]."""
    return b"\x62\x02" + _packet_id(packet_id)


def pubcomp(packet_id: int) -> bytes:
    """PUBCOMP for `packet_id`."""
    return b"\x70\x02" + _packet_id(packet_id)


def _packet_id(packet_id: int) -> bytes:
    if not 0 < packet_id <= 65_535:
        raise ValueError(f"no packet id: {packet_id} [MQTT-2.3.1-1]")
    return packet_id.to_bytes(2, "big")


def _packet(first: int, body: bytes) -> bytes:
    return b"%c%b%b" % (first, remaining_length(len(body)), body)


def _publish(packet: Publish) -> bytes:
    head = publish_head(
        topic_field(packet.topic),
        len(packet.payload),
        packet.qos,
        packet.packet_id,
        retain=packet.retain,
    )
    return (as_duplicate(head) if packet.dup else head) + packet.payload


def _connect(packet: Connect) -> bytes:
    if not 0 <= packet.keep_alive <= 65_535:
        raise ValueError(f"no keep alive: {packet.keep_alive}")
    flags = packet.clean_session << 1
    payload = string_field(packet.client_id)
    if packet.will is not None:
        will = packet.will
        _check_qos(will.qos)
        flags |= 0x04 | will.qos << 3 | will.retain << 5
        payload += topic_field(will.topic) + binary_field(will.payload)
    if packet.username is not None:
        flags |= 0x80
        payload += string_field(packet.username)
    if packet.password is not None:
        if packet.username is None:
            raise ValueError("a password without a user name [MQTT-3.1.2-22]")
        flags |= 0x40
        payload += binary_field(packet.password)
    head = bytes((packet.level, flags)) + packet.keep_alive.to_bytes(2, "big")
    return _packet(0x10, _PROTOCOL_NAME + head + payload)


def _connack(packet: Connack) -> bytes:
    if not 0 <= packet.code <= 5:
        raise ValueError(f"no CONNACK code: {packet.code}")
    if packet.session_present and packet.code:
        raise ValueError("a refused connection has no session [MQTT-3.2.2-4]")
    return bytes((0x20, 2, packet.session_present, packet.code))


def _subscribe(packet: Subscribe) -> bytes:
    body = [_packet_id(packet.packet_id)]
    for topic_filter, qos in packet.filters:
        _check_qos(qos)
        body += _filter_field(topic_filter), bytes((qos,))
    return _packet(0x82, b"".join(_not_empty(body)))


def _suback(packet: Suback) -> bytes:
    if not all(code in {0, 1, 2, REFUSED} for code in packet.codes):
        raise ValueError(f"no SUBACK codes: {packet.codes}")
    body = [_packet_id(packet.packet_id), *(bytes((code,)) for code in packet.codes)]
    return _packet(0x90, b"".join(_not_empty(body)))


def _unsubscribe(packet: Unsubscribe) -> bytes:
    body = [_packet_id(packet.packet_id), *map(_filter_field, packet.filters)]
    return _packet(0xA2, b"".join(_not_empty(body)))


def _not_empty(body: list[bytes]) -> list[bytes]:
    if len(body) < 2:
        raise ValueError("no topic filter [MQTT-3.8.3-3, 3.10.3-2]")
    return body


def _filter_field(topic_filter: str) -> bytes:
    fault = filter_fault(topic_filter)
    if fault:
        raise ValueError(f"{fault}: {topic_filter!r}")
    return string_field(topic_filter)


def _check_qos(qos: int) -> None:
    if qos not in {0, 1, 2}:
        raise ValueError(f"no QoS: {qos}")


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Connect: _connect,
    Connack: _connack,
    Publish: _publish,
    Puback: lambda packet: puback(packet.packet_id),
    Pubrec: lambda packet: pubrec(packet.packet_id),
    Pubrel: lambda packet: pubrel(packet.packet_id),
    Pubcomp: lambda packet: pubcomp(packet.packet_id),
    Subscribe: _subscribe,
    Suback: _suback,
    Unsubscribe: _unsubscribe,
    Unsuback: lambda packet: b"\xb0\x02" + _packet_id(packet.packet_id),
    Pingreq: lambda _: PINGREQ,
    Pingresp: lambda _: PINGRESP,
    Disconnect: lambda _: DISCONNECT,
}
