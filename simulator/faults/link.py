"""One MQTT connection that may be cut, left open, or not be read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Protocol, cast

from devices.packets import Connack, Decoder, MalformedPacket, encode

if TYPE_CHECKING:
    import ssl

    from devices.packets import Connect, Packet

GREETING = 5.0
"""Seconds that a connection may take up to its CONNACK."""

_MAX_PACKET = 1 << 20
_SMALL_BUFFER = 2_048


class Owner(Protocol):
    """Whose connection it is."""

    def received(self, link: Link, packet: Packet, size: int) -> None:
        """A packet has arrived; CONNACK is the first."""

    def lost(self, link: Link, malformed: str | None) -> None:
        """The connection is gone; `malformed` says how the server broke MQTT, if it did."""


class Link(asyncio.Protocol):
    """A connection of `owner`, from CONNECT to its end; made for one use."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._decoder = Decoder(role="client", max_packet=_MAX_PACKET)
        self._transport: asyncio.Transport | None = None
        self._greeting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._malformed: str | None = None

    async def open(
        self, address: tuple[str, int], connect: Connect, tls: ssl.SSLContext | None = None
    ) -> bool:
        """Connects; whether the server accepted within `GREETING` seconds. If not, the link is closed."""
        accepted = False
        try:
            async with asyncio.timeout(GREETING):
                await asyncio.get_running_loop().create_connection(lambda: self, *address, ssl=tls)
                self.write(encode(connect))
                accepted = await self._greeting
        except OSError:  # a TimeoutError is one
            pass
        finally:
            if not accepted:
                self.abort()
                # Forgotten at once: where `open` is cancelled in the moment in which the connection is made, uvloop
                # closes it without a word.
                self._transport = None
        return accepted

    @property
    def alive(self) -> bool:
        """Whether something can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, *packets: Packet) -> None:
        """Sends packets; nowhere if the connection is gone."""
        self.write(b"".join(encode(packet) for packet in packets))

    def write(self, data: bytes) -> None:
        """Sends bytes, whole packets or not."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes the connection without a DISCONNECT."""
        if self._transport is not None:
            self._transport.close()

    def stop_reading(self) -> None:
        """Reads no more, with a receive buffer as small as the system allows."""
        if self.alive and self._transport is not None:
            end = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Reads again."""
        if self.alive and self._transport is not None:
            self._transport.resume_reading()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing is said yet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by what it does

    def data_received(self, data: bytes) -> None:
        """Takes packets out of the stream."""
        try:
            packets = self._decoder.feed(data)
        except MalformedPacket as error:
            packets = error.packets
            self._malformed = str(error)
            self.abort()
        for packet, raw in packets:
            if isinstance(packet, Connack) and not self._greeting.done():
                self._greeting.set_result(packet.code == 0)
            self._owner.received(self, packet, len(raw))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the owner."""
        del exc
        self._transport = None
        if not self._greeting.done():
            self._greeting.set_result(False)
        self._owner.lost(self, self._malformed)
