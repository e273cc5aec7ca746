"""MQTT 3.1.1 without I/O: a byte stream becomes packets, packets become bytes.

`Decoder` reads for either role: a server reads CONNECT, PUBLISH, SUBSCRIBE…, a client CONNACK, PUBLISH,
SUBACK…. It is strict where the standard says that the network connection must be closed, and nowhere
else: control characters, U+FEFF and a remaining length written longer than needed pass. It knows bytes,
not sessions: whether CONNECT came first, or twice, is for its caller to see.

Everything about MQTT packets is imported from here. The nouns live in `mqtt_types`, the way there in
`mqtt_encode`, the way back in `mqtt_decode`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from devices.mqtt_decode import READERS, Role, check_size, fail
from devices.mqtt_encode import (
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    as_duplicate,
    binary_field,
    encode,
    puback,
    pubcomp,
    publish_head,
    pubrec,
    pubrel,
    remaining_length,
    string_field,
    topic_field,
)
from devices.mqtt_types import (
    MAX_LEVELS,
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
    valid_filter,
    valid_topic,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DISCONNECT",
    "MAX_LEVELS",
    "PINGREQ",
    "PINGRESP",
    "REFUSED",
    "Connack",
    "Connect",
    "Decoder",
    "Disconnect",
    "MalformedPacket",
    "Packet",
    "PacketError",
    "Pingreq",
    "Pingresp",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Role",
    "Suback",
    "Subscribe",
    "Unsuback",
    "Unsubscribe",
    "Will",
    "as_duplicate",
    "binary_field",
    "encode",
    "puback",
    "pubcomp",
    "publish_head",
    "pubrec",
    "pubrel",
    "remaining_length",
    "string_field",
    "topic_field",
    "valid_filter",
    "valid_topic",
]

_FOREIGN: Mapping[int, str] = {
    0x16: "a TLS handshake on a port without TLS",
    0x43: "an HTTP request",  # CONNECT
    0x47: "an HTTP request",  # GET
    0x48: "an HTTP request",  # HEAD
    0x4F: "an HTTP request",  # OPTIONS
    0x53: "SSH",
}
"""How the streams begin that reach an MQTT port by mistake. POST and PUT begin as PUBREC does."""


class Decoder:
    """One direction of one connection: bytes in, packets out.

    Args:
        role: Who reads: `server` decodes what clients send, `client` what servers send.
        max_packet: Bytes that a whole packet may have, its fixed header included. A larger one is
            refused when its header is read, before its body is kept.
    """

    __slots__ = ("_broken", "_max_packet", "_need", "_readers", "_started", "_tail")

    def __init__(self, *, role: Role, max_packet: int) -> None:
        self._readers = READERS[role]
        self._max_packet = max_packet
        self._tail = bytearray()  # the beginning of a packet whose rest is still to come
        self._need = 0  # bytes that the tail must have before another look at it is worth while
        self._started = False
        self._broken: tuple[PacketError, str] | None = None

    def feed(self, data: bytes) -> list[tuple[Packet, bytes]]:
        """Take what the connection received; return the packets now complete, each with its bytes.

        Raises:
            MalformedPacket: The peer broke the protocol. Handle the packets that the error carries, then
                close the connection: what follows has no boundaries, so each later call raises the
                same reason.
        """
        if self._tail:
            # Growing in place and looking only when enough is there keeps a large packet that comes
            # in small pieces linear.
            self._tail += data
            if len(self._tail) < self._need:
                return []
            data = bytes(self._tail)
            self._tail.clear()
        elif len(data) == 4 and data[0] == 0x40 and data[1] == 2:
            # What a server reads most by far: one PUBACK alone.
            packet_id = data[2] << 8 | data[3]
            if packet_id and self._broken is None:
                self._started = True
                return [(Puback(packet_id), data)]
        return self._split(data)

    def _split(self, data: bytes) -> list[tuple[Packet, bytes]]:
        if self._broken is not None:
            fail(*self._broken)
        packets: list[tuple[Packet, bytes]] = []
        at, end = 0, len(data)
        try:
            while at < end:
                first = data[at]
                reader = self._readers.get(first)
                if reader is None:
                    self._refuse_first(first)
                body = _body(data, at)
                if body is None:
                    self._keep(data[at:], need=0)
                    break
                start, stop = body
                if stop - at > self._max_packet:
                    self._refuse_size(stop - at)
                if stop > end:
                    check_size(first, stop - start)
                    self._keep(data[at:], need=stop - at)
                    break
                packets.append((reader(data, first, start, stop), data[at:stop]))
                self._started = True
                at = stop
        except MalformedPacket as error:
            error.packets = packets
            self._broken = error.reason, error.detail
            raise
        return packets

    def _keep(self, tail: bytes, *, need: int) -> None:
        self._tail += tail
        self._need = need

    def _refuse_size(self, size: int) -> NoReturn:
        fail(PacketError.TOO_LARGE, f"{size} bytes announced, {self._max_packet} allowed")

    def _refuse_first(self, first: int) -> NoReturn:
        """Say what is wrong with a first byte that has no reader (2.2)."""
        if not self._started and first in _FOREIGN:
            fail(PacketError.NOT_MQTT, f"this looks like {_FOREIGN[first]}")
        if not any(known >> 4 == first >> 4 for known in self._readers):
            fail(PacketError.UNEXPECTED_TYPE, f"packet type {first >> 4}")
        if first >> 4 == 3:
            if first & 0x06 == 0x06:
                fail(PacketError.BAD_QOS, "PUBLISH with QoS 3 [MQTT-3.3.1-4]")
            fail(PacketError.BAD_FLAGS, "DUP at QoS 0 [MQTT-3.3.1-2]")
        fail(PacketError.BAD_FLAGS, f"first byte {first:#04x} [MQTT-2.2.2-2]")


def _body(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at `at` starts and stops, None while its fixed header goes on (2.2.3).

    Raises:
        MalformedPacket: bad_length.
    """
    start, end = at + 1, len(data)
    length = shift = 0
    while start < end:
        byte = data[start]
        start += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return start, start + length
        shift += 7
        if shift == 28:
            fail(PacketError.BAD_LENGTH, "a remaining length of more than four bytes (2.2.3)")
    return None
