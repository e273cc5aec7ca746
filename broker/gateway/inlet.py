"""What comes from the broker, taken apart: PUBACKs by the thousand as one array, packets one by one.

While the fleet is being pushed to, nearly all that a broker says is PUBACK. Four bytes each, they
are found and read as arrays; to make an object of each would cost as much as sending the frame did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from devices.packets import Decoder, MalformedPacket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devices.packets import Packet

Acks = NDArray[np.uint16]

_PUBACK = 0x0240
"""The first two bytes of every PUBACK (MQTT 3.1.1, 3.4.1), as a little-endian number."""
_SIZE = 4
_LENGTH_BYTES = 4


class Inlet:
    """One connection's bytes from the broker.

    Args:
        max_packet: Bytes that a packet may have; more end the connection.
    """

    __slots__ = ("_decoder", "_max_packet", "_rest")

    def __init__(self, max_packet: int) -> None:
        self._decoder = Decoder(role="client", max_packet=max_packet)
        self._max_packet = max_packet
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Acks | Packet]:
        """Yields what is complete, in order: packet ids of a run of PUBACKs, or a packet.

        Raises:
            MalformedPacket: The broker broke the protocol; what came before was yielded.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end = 0, len(data)
        while at < end:
            if data[at] == 0x40:
                run = _run_of_pubacks(data, at)
                if len(run):
                    at += _SIZE * len(run)
                    yield run
                    continue
            stop = self._stop_of_others(data, at)
            if stop == at:
                break
            yield from self._decode(data[at:stop])
            at = stop
        self._rest = data[at:]

    def _decode(self, data: bytes) -> Iterator[Packet]:
        try:
            packets = self._decoder.feed(data)
        except MalformedPacket as error:
            yield from (packet for packet, _ in error.packets)
            raise
        yield from (packet for packet, _ in packets)

    def _stop_of_others(self, data: bytes, at: int) -> int:
        """Where the packets from here on stop, up to the next PUBACK or an incomplete packet."""
        end = len(data)
        while at < end:
            size = _packet_size(data, at)
            if size > self._max_packet:
                return end  # the decoder says what is wrong with it
            if not size or at + size > end:
                return at
            at += size
            if at < end and data[at] == 0x40:
                return at
        return at


def _run_of_pubacks(data: bytes, at: int) -> Acks:
    """Packet ids of the PUBACKs that stand one behind the other from here on."""
    count = (len(data) - at) // _SIZE
    pairs = np.frombuffer(data, "<u2", 2 * count, at).reshape(count, 2)
    other = pairs[:, 0] != _PUBACK
    run = int(other.argmax()) if other.any() else count
    return pairs[:run, 1].byteswap()


def _packet_size(data: bytes, at: int) -> int:
    """Bytes of the packet at `at` with its fixed header (2.2.3); 0 while that is incomplete.

    A length of more than four bytes is for the decoder to refuse: it counts as larger than any.
    """
    length = shift = 0
    for index in range(at + 1, min(at + 1 + _LENGTH_BYTES, len(data))):
        byte = data[index]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return index + 1 - at + length
        shift += 7
    return 1 << 32 if len(data) - at > _LENGTH_BYTES else 0
