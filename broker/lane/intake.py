"""What a client has sent and has not had its turn: bytes first, then packets.

Bytes are decoded a piece at a time, so that whoever works them off can stop between any two packets and
go on later. Nothing behind a packet that breaks MQTT is ever given out.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from devices.packets import Decoder, MalformedPacket

if TYPE_CHECKING:
    from devices.packets import Packet

_PIECE = 1024
"""Bytes that are decoded at a time."""


class Intake:
    """The incoming side of one connection.

    Args:
        max_packet: Bytes of the largest packet.

    Attributes:
        idle: Whether nothing waits, not even the beginning of a packet.
        broken: What broke MQTT, once everything before it was given out.
    """

    __slots__ = ("_at", "_bytes", "_decoder", "_error", "_kept", "_packets", "broken", "idle")

    def __init__(self, max_packet: int) -> None:
        self._decoder = Decoder(role="server", max_packet=max_packet)
        self._bytes = b""
        self._at = 0  # where in them decoding goes on
        self._kept = 0  # bytes of a packet whose rest is still to come
        self._packets: deque[Packet] = deque()
        self._error: MalformedPacket | None = None
        self.broken: MalformedPacket | None = None
        self.idle = True

    def feed(self, data: bytes) -> None:
        """Takes what has come in."""
        self._bytes = self._bytes[self._at :] + data if self.waiting else data
        self._at = 0
        self.idle = False

    @property
    def waiting(self) -> bool:
        """Whether there is something that `next` has not looked at."""
        return bool(self._packets) or self._at < len(self._bytes)

    def next(self) -> Packet | None:
        """The next packet; None if none is whole."""
        packets = self._packets
        while not packets:
            if self._error is not None or self._at >= len(self._bytes):
                self.broken = self._error
                self.idle = not self._kept and self._error is None
                self._bytes, self._at = b"", 0
                return None
            self._decode()
        return packets.popleft()

    def _decode(self) -> None:
        piece = self._bytes[self._at : self._at + _PIECE]
        self._at += len(piece)
        try:
            found = self._decoder.feed(piece)
        except MalformedPacket as error:
            found = error.packets
            # Another one, that was never raised: the frames in a traceback hold the connection, which holds
            # this, and such a circle stays until a full collection comes, which is never.
            self._error = MalformedPacket(error.reason, error.detail)
        self._kept += len(piece)
        for packet, raw in found:
            self._kept -= len(raw)
            self._packets.append(packet)
