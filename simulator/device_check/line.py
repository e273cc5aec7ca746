"""One connection of the device: what it sends is noted and queued, what every server answers is answered."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, TypeVar

from devices.frames import BadUp, Hello, decode_up
from devices.packets import (
    Decoder,
    MalformedPacket,
    Packet,
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
    encode,
)
from simulator.device_check.case import failed
from simulator.device_check.exchange import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.device_check.exchange import Exchange

T = TypeVar("T")

_MAX_PACKET = 1 << 16
_MAX_INBOX = 500
"""Packets that a device may send before anybody looked at them; one that sends more is cut off."""
_CLIENT_HELLO = b"\x16\x03"
"""What TLS begins with: a record of the handshake, version 3.x (RFC 8446, 5.1)."""
_LINGER_0 = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""


class Line(asyncio.Protocol):
    """The server's end of one connection.

    Attributes:
        opened_at, closed_at: Loop time; `closed_at` is infinite while the connection is open.
        inbox: Packets from the device that no case has taken yet.
        answers_pings: Whether PINGREQ is answered.
        broke: What was wrong with the packet that broke MQTT, if one did.
    """

    def __init__(self, exchange: Exchange, arrived: Callable[[Line], None], heard: Callable[[Packet], None]) -> None:  # fmt: skip
        self._exchange = exchange
        self._arrived = arrived
        self._heard = heard
        self._decoder = Decoder(role="server", max_packet=_MAX_PACKET)
        self._transport: asyncio.Transport | None = None
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.opened_at = self._loop.time()
        self.closed_at = float("inf")
        self.inbox: list[Packet] = []
        self.answers_pings = True
        self.broke: str | None = None
        self._spoke = False

    @property
    def open(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The device connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # pieces leave as pieces
        self._note("", "the device opens a connection")
        self._arrived(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of the device."""
        try:
            packets = self._decoder.feed(data)
        except MalformedPacket as error:
            packets = error.packets
            self.broke = f"{error.reason.value}: {error.detail}"
            if data.startswith(_CLIENT_HELLO) and not packets and not self._spoke:
                self.broke = "it begins a TLS handshake, and this port is plain: give --cert"
        self._spoke = True
        for packet, raw in packets:
            self._note("device", describe(packet), raw)
            self._heard(packet)
            self.inbox.append(packet)
            self._answer(packet)
        if self.broke is not None:
            self._note("device", f"breaks MQTT: {self.broke}", data)
            self.close()
        elif len(self.inbox) > _MAX_INBOX:
            self.broke = f"more than {_MAX_INBOX} packets that nobody asked for"
            self.close()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; if we did not close it, the device did."""
        if self._transport is not None:
            self._ended(
                "the device closes the connection" if exc is None else "the device resets it"
            )
        self._news.set()

    def eof_received(self) -> bool:
        """The device sends no more: close our side, too."""
        return False

    # What cases do

    def send(self, *packets: Packet) -> None:
        """Send these in one piece."""
        data = b""
        for packet in packets:
            raw = encode(packet)
            self._note("server", describe(packet), raw)
            data += raw
        self._write(data)

    async def send_in_pieces(self, packet: Packet, size: int, pause: float) -> None:
        """Send `size` bytes, wait for `pause` seconds, and so on."""
        data = encode(packet)
        self._note("server", f"{describe(packet)} (in pieces of {size})", data)
        for at in range(0, len(data), size):
            self._write(data[at : at + size])
            await asyncio.sleep(pause)

    def send_beginning(self, packet: Packet) -> None:
        """Send the first half of a packet."""
        data = encode(packet)
        half = data[: len(data) // 2]
        self._note(
            "server", f"the first {len(half)} of {len(data)} bytes of {describe(packet)}", half
        )
        self._write(half)

    def close(self) -> None:
        """Close the connection, as a server does that restarts."""
        if self._transport is not None:
            transport = self._transport
            self._ended("we close the connection")
            transport.close()

    def reset(self) -> None:
        """Break the connection with a reset, as a network does."""
        if self._transport is not None:
            transport = self._transport
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            self._ended("we reset the connection")
            transport.abort()

    async def next(self, wanted: Callable[[Packet], T | None], within: float) -> T | None:
        """Take the first packet of the inbox that is `wanted`, waiting for it if need be.

        Args:
            wanted: What is made of a packet; None = not this one.
            within: Seconds to wait.

        Returns:
            None if no such packet came, or the connection ended.
        """
        deadline = self._loop.time() + within
        while True:
            for at, packet in enumerate(self.inbox):
                if (found := wanted(packet)) is not None:
                    del self.inbox[at]
                    return found
            if not self.open:
                return None
            self._news.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                return None

    async def expect(self, wanted: Callable[[Packet], T | None], what: str, within: float) -> T:
        """As `next`, but the case fails without such a packet.

        Raises:
            Verdict: FAIL; `what` names what did not come.
        """
        found = await self.next(wanted, within)
        if found is not None:
            return found
        if self.broke is not None:
            raise failed(f"the device broke MQTT instead of sending {what}: {self.broke}")
        if not self.open:
            raise failed(f"the connection ended instead of {what}")
        raise failed(f"no {what} within {within:g} s")

    async def ends(self, within: float) -> bool:
        """Wait until the connection has ended; False if it has not after `within` seconds."""
        await self.next(lambda _: None, within)
        return not self.open

    # Inside

    def _answer(self, packet: Packet) -> None:
        match packet:
            case Pingreq() if self.answers_pings:
                self.send(Pingresp())
            case Publish(qos=1, packet_id=packet_id):
                self.send(Puback(packet_id))
            case Publish(qos=2, packet_id=packet_id):
                self.send(Pubrec(packet_id))
            case Pubrel(packet_id):
                self.send(Pubcomp(packet_id))
            case Subscribe(packet_id, filters):
                self.send(Suback(packet_id, tuple(qos for _, qos in filters)))
            case Unsubscribe(packet_id):
                self.send(Unsuback(packet_id))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _ended(self, text: str) -> None:
        self._transport = None
        self.closed_at = self._loop.time()
        self._note("", text)

    def _note(self, sender: str, text: str, data: bytes = b"") -> None:
        self._exchange.note(self._loop.time(), sender, text, data)


def hello_of(packet: Packet) -> Hello | None:
    """The hello that a packet carries."""
    message = None
    if isinstance(packet, Publish):
        try:
            message = decode_up(packet.payload)
        except BadUp:
            return None
    return message if isinstance(message, Hello) else None


def acknowledges(packet_id: int) -> Callable[[Packet], Puback | None]:
    """What `Line.next` looks for: the PUBACK of this packet."""
    return lambda packet: (
        packet if isinstance(packet, Puback) and packet.packet_id == packet_id else None
    )


def of_kind(kind: type[T]) -> Callable[[Packet], T | None]:
    """What `Line.next` looks for: a packet of this kind."""
    return lambda packet: packet if isinstance(packet, kind) else None
