"""MQTT clients as light as they can be: one asyncio protocol object each, on the shared codec.

`Client` is a client over its whole life, connection after connection; `Publisher` is the one that sends items.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, cast

from devices.packets import (
    DISCONNECT,
    PINGREQ,
    Connack,
    Connect,
    Decoder,
    MalformedPacket,
    Packet,
    Puback,
    encode,
    publish_head,
    topic_field,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

KEEP_ALIVE = 60
"""Seconds; a client that has been silent for half of it pings."""

GREETING = 60.0
"""Seconds that a connection may take up to CONNACK: NB-IoT may take ten for each way."""

_MAX_PACKET = 1 << 20
_SMALL_BUFFER = 2_048

_REFUSALS = {
    1: "the server does not speak MQTT 3.1.1",
    2: "the server does not accept this client id",
    3: "the server is not available",
    4: "wrong user name or password",
    5: "not authorised",
}


def aside(name: str) -> str:
    """The client id of a client that is no device, by its name.

    No device's id has an @ in it, so no server takes this one for a device that never subscribes to its frames. Spaces
    and slashes would do, too, but access lists of some brokers stumble over them.
    """
    return f"{name}@simulator"


class Refused(ConnectionError):  # noqa: N818 - said of the connection, as ConnectionRefusedError is
    """The server answered CONNECT with a return code other than 0 (MQTT 3.1.1, 3.2.2.3)."""

    def __init__(self, client_id: str, code: int) -> None:
        refusal = _REFUSALS.get(code, "nobody knows why")
        super().__init__(f"{client_id}: {refusal} (return code {code})")
        self.code = code

    @property
    def final(self) -> bool:
        """Whether trying again is pointless."""
        return self.code != 3


class Route(Protocol):
    """How connections are made: a link of `simulator.links`, for one."""

    async def connect(
        self,
        protocol: asyncio.Protocol,
        host: str,
        port: int,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Connects `protocol` as `loop.create_connection` would; raises `OSError` as that does."""


class Client(asyncio.Protocol):
    """One MQTT client; `open_connection` again after each connection that was lost.

    Subclasses override the hooks `connected`, `received`, `lost` and call `send`.
    """

    __slots__ = (
        "_connect",
        "_decoder",
        "_greeting",
        "_packet_id",
        "_pinged",
        "_transport",
        "_why",
        "heard",
        "spoke",
    )

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._decoder: Decoder | None = None
        self._greeting: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._packet_id = 0
        self._why: Exception | None = None
        self._pinged = 0.0
        self.heard = 0.0
        """When the server was last heard (loop time); kept by whoever calls `keep_alive`."""
        self.spoke = 0.0
        """Whether and when something was sent, likewise."""

    async def open_connection(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        route: Route | None = None,
    ) -> None:
        """Connects and waits for CONNACK; what goes wrong is told to `lost` too.

        Args:
            host: Where the server listens.
            port: Where the server listens.
            tls: What to encrypt with; None: plain text.
            route: Who makes the connection; None: straight to the socket.

        Raises:
            ConnectionError: The server broke off, or refused (`Refused`).
            OSError: It cannot be reached, or does not answer within `GREETING` seconds.
        """
        loop = asyncio.get_running_loop()
        greeting = self._greeting = loop.create_future()
        try:
            async with asyncio.timeout(GREETING):
                if route is None:
                    await loop.create_connection(lambda: self, host, port, ssl=tls)
                else:
                    await route.connect(self, host, port, tls)
        except BaseException as error:
            self._greeting = None  # nobody will ask for it
            if isinstance(error, OSError):
                self.lost(error)
            raise
        try:
            async with asyncio.timeout(GREETING):
                await greeting
        except TimeoutError:
            self.abort(TimeoutError(f"{self.client_id}: no CONNACK after {GREETING:.0f} s"))
            raise

    @property
    def client_id(self) -> str:
        """The MQTT client id."""
        return self._connect.client_id

    @property
    def open(self) -> bool:
        """Whether there is a connection now."""
        return self._transport is not None

    # What subclasses do

    def introduction(self) -> Connect:
        """The CONNECT of the next connection."""
        return self._connect

    def connected(self) -> None:
        """CONNACK 0 has arrived."""

    def received(self, packet: Packet, size: int) -> None:
        """Any other packet has arrived; `size` is its length on the wire."""

    def lost(self, why: Exception) -> None:
        """The connection is gone, or was refused (`Refused`)."""

    # What they call

    def send(self, data: bytes) -> None:
        """Writes packets; without a connection they are lost, as on any network."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            self.spoke = asyncio.get_running_loop().time()

    def next_packet_id(self) -> int:
        """A packet id that was not used for a long while (MQTT 3.1.1, 2.3.1)."""
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    def keep_alive(self, now: float) -> None:
        """Pings after silence, gives up on a server that does not answer; to be called every few seconds.

        With a keep-alive of 0 it does neither (MQTT 3.1.1, 3.1.2.10).
        """
        if self._transport is None or now <= self.calm_until():
            return
        if now - self.heard > 1.5 * self._connect.keep_alive:
            self.abort(ConnectionError(f"{self.client_id}: the server does not answer"))
        else:
            self._pinged = now  # once: the answer may be long on its way
            self.send(PINGREQ)

    def calm_until(self) -> float:
        """Until when `keep_alive` has nothing to do, whatever happens: only silence makes work."""
        period = self._connect.keep_alive
        if self._transport is None or not period:
            return inf
        ping = max(min(self.spoke, self.heard), self._pinged) + period / 2
        return min(ping, self.heard + 1.5 * period)

    def stop_reading(self) -> None:
        """Reads no more, with a receive buffer as small as the system allows, so that the server notices."""
        if self._transport is None or self._transport.is_closing():
            return
        end = self._transport.get_extra_info("socket")
        if end is not None:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        self._transport.pause_reading()

    def read_on(self) -> None:
        """Reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self, why: Exception) -> None:
        """Ends the connection at once, without DISCONNECT."""
        if self._transport is not None:
            self._why = why
            self._transport.abort()

    def close(self) -> None:
        """Ends the connection as MQTT asks for: DISCONNECT, then close."""
        if self._transport is not None:
            self.send(DISCONNECT)
            self._transport.close()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends CONNECT."""
        # uvloop's transports are not asyncio's by class, only by what they do.
        self._transport = cast("asyncio.Transport", transport)
        self._decoder = Decoder(role="client", max_packet=_MAX_PACKET)
        self._why = None
        self._pinged = 0.0
        self.heard = asyncio.get_running_loop().time()
        self.send(encode(self.introduction()))

    def data_received(self, data: bytes) -> None:
        """Takes packets out of the stream."""
        assert self._decoder is not None
        self.heard = asyncio.get_running_loop().time()
        fault = None
        try:
            packets = self._decoder.feed(data)
        except MalformedPacket as error:
            packets = error.packets
            fault = ConnectionError(f"{self.client_id}: the server breaks MQTT: {error}")
        for packet, raw in packets:
            if self._transport is None or self._transport.is_closing():
                return  # one of the packets before made us leave
            if not isinstance(packet, Connack):
                self.received(packet, len(raw))
            elif packet.code:
                self.abort(Refused(self.client_id, packet.code))
            else:
                self._greet(None)
                self.connected()
        if fault is not None:
            self.abort(fault)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._transport = None
        self._decoder = None
        why = self._why or exc or ConnectionError(f"{self.client_id}: the connection ended")
        self._greet(why)
        self.lost(why)

    def _greet(self, fault: Exception | None) -> None:
        greeting, self._greeting = self._greeting, None
        if greeting is None or greeting.done():
            return
        if fault is None:
            greeting.set_result(None)
        else:
            greeting.set_exception(fault)


class Publisher(Client):
    """Publishes items at QoS 1; each is a future that resolves with its PUBACK.

    Items in flight when the connection is lost fail with `ConnectionError`: whether the server has them is then
    unknown, and sending them again is the caller's decision.
    """

    __slots__ = ("_unacknowledged",)

    def __init__(self, name: str = "publisher") -> None:
        # Keep-alive 0: nobody has to ping for a publisher that pauses (MQTT 3.1.1, 3.1.2.10).
        super().__init__(Connect(aside(name), clean_session=True, keep_alive=0))
        self._unacknowledged: dict[int, asyncio.Future[None]] = {}

    @property
    def in_flight(self) -> int:
        """Items without PUBACK."""
        return len(self._unacknowledged)

    def publish(self, channel: str, item: Mapping[str, Any]) -> asyncio.Future[None]:
        """Sends an item to `items/<channel>`.

        Returns:
            A future for its PUBACK: then the item is durable.

        Raises:
            ConnectionError: There is no connection.
            ValueError: The channel is no MQTT topic, or 65 535 items are in flight.
        """
        if not self.open:
            raise ConnectionError(f"{self.client_id} is not connected")
        topic = topic_field(f"items/{channel}")
        if len(self._unacknowledged) >= 0xFFFF:
            raise ValueError("every packet id is in flight: wait for some PUBACKs")
        packet_id = self.next_packet_id()
        while packet_id in self._unacknowledged:
            packet_id = self.next_packet_id()
        payload = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
        acknowledged = asyncio.get_running_loop().create_future()
        self._unacknowledged[packet_id] = acknowledged
        self.send(publish_head(topic, len(payload), qos=1, packet_id=packet_id) + payload)
        return acknowledged

    def received(self, packet: Packet, size: int) -> None:  # noqa: ARG002 - a hook's signature
        """Resolves the future of an acknowledged item."""
        if isinstance(packet, Puback):
            acknowledged = self._unacknowledged.pop(packet.packet_id, None)
            if acknowledged is not None and not acknowledged.done():
                acknowledged.set_result(None)

    def lost(self, why: Exception) -> None:
        """Fails what is not acknowledged."""
        waiting = [*self._unacknowledged.values()]
        self._unacknowledged.clear()
        for acknowledged in waiting:
            if not acknowledged.done():
                acknowledged.set_exception(why)
