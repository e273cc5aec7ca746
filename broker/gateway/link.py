"""One TCP connection to the outside broker: greeting, messages in, acknowledgements in order, the end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from broker.gateway.inlet import Inlet
from broker.gateway.packet_window import PACKET_IDS
from devices.packets import (
    DISCONNECT,
    PINGREQ,
    REFUSED,
    Connack,
    Connect,
    MalformedPacket,
    PacketError,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    encode,
    puback,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.gateway.packet_window import Ids
    from devices.packets import Packet

logger = logging.getLogger(__name__)

_SUBSCRIBE_ID = PACKET_IDS + 1
"""Never in use for a frame that is sent again [MQTT-2.3.1-2]."""

_HIGH_WATER = 1 << 20
"""Bytes in our socket's buffer above which nothing more is written."""

_UNAVAILABLE = 3
_MAX_OWED = 4096
"""Messages taken in and not yet acknowledged, beyond which nothing more is read."""

_REFUSALS = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not accept our client id",
    _UNAVAILABLE: "it is not available at the moment",
    4: "user name or password are wrong",
    5: "we are not authorised: it wants a user name and password, or others than ours",
}


_GATHERING = 0.002
"""Seconds between two reads where nothing but PUBACKs is expected: brokers send a few at a time, and to take a few
costs as much as to take a thousand."""


class UplinkRefused(Exception):  # noqa: N818 - named for what happened
    """The broker does not let us do our work; the text says what it refused and what to do."""


class Owner(Protocol):
    """Whose connection it is."""

    reading_paused: bool

    def accepted(self, link: BrokerLink, *, session_present: bool) -> None:
        """The broker has let us in; messages of the session may come from now on."""

    def granted(self, link: BrokerLink) -> None:
        """The subscriptions are granted."""

    def lost(self, link: BrokerLink) -> None:
        """The connection is gone."""

    def message(self, publish: Publish, done: Callable[[], None]) -> None:
        """A message; `done` is to be called once it may be forgotten by the broker."""

    def acknowledged(self, ids: Ids) -> None:
        """PUBACKs have come."""

    def has_room(self) -> None:
        """The socket takes bytes again."""


class BrokerLink(asyncio.Protocol):
    """One TCP connection to the broker, from CONNECT to its end.

    Args:
        owner: Whose it is.
        connect: The first packet.
        filters: What to subscribe to after it.
        max_packet: Bytes of the largest packet that the broker may send.

    Attributes:
        ready: Done once the subscriptions are granted; fails with what came in between.
        ended: Set when the connection is gone.
        writing_paused: Whether the socket takes no more.
    """

    def __init__(
        self, owner: Owner, connect: Connect, filters: Sequence[str], max_packet: int
    ) -> None:
        self._owner = owner
        self._connect = connect
        self._filters = filters
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ended = asyncio.Event()
        self.writing_paused = False
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # set when made
        self._inlet = Inlet(max_packet)
        self._owed: deque[list[bytes]] = deque()
        self._paying = False
        self._reading = True
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, and TLS if wanted, stand."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._transport.write(encode(self._connect))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Bytes have come in."""
        self._heard = self._loop.time()
        if self._filters or not self.ready.done():
            self._read(data)
            return
        self._read(data)
        if not self.ended.is_set():
            self._transport.pause_reading()
            self._loop.call_later(_GATHERING, self._gathered)

    def _gathered(self) -> None:
        if not self.ended.is_set():
            self._transport.resume_reading()

    def _read(self, data: bytes) -> None:
        try:
            for found in self._inlet.feed(data):
                if isinstance(found, np.ndarray):
                    self._owner.acknowledged(found)
                else:
                    self._take(found)
        except MalformedPacket as error:
            logger.warning("the broker broke MQTT: %s (%s)", error.reason.value, error.detail)
            self._fail(error)
        except UplinkRefused as refused:
            self._fail(refused)

    def pause_writing(self) -> None:
        """The socket takes no more."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """The socket has room again."""
        self.writing_paused = False
        self._owner.has_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.ready.done():
            self.ready.set_exception(
                exc or ConnectionResetError("the broker closed the connection before it answered")
            )
        self.ended.set()
        self._owner.lost(self)

    # ---- In

    def _take(self, packet: Packet) -> None:
        match packet:
            case Publish():
                self._take_message(packet)
            case Connack():
                self._answered(packet)
            case Suback():
                self._subscribed(packet)
            case Pingresp():
                pass
            case _:
                raise MalformedPacket(
                    PacketError.UNEXPECTED_TYPE,
                    f"{type(packet).__name__} answers nothing that we send",
                )

    def _answered(self, connack: Connack) -> None:
        if connack.code == _UNAVAILABLE:
            self._fail(ConnectionRefusedError(_REFUSALS[_UNAVAILABLE]))
            return
        if connack.code:
            raise UplinkRefused(
                f"the broker refuses us: {_REFUSALS[connack.code]} (code {connack.code})"
            )
        self._owner.accepted(self, session_present=connack.session_present)
        if not self._filters:
            self._stand()
            return
        filters = tuple((each, 1) for each in self._filters)
        self._transport.write(encode(Subscribe(_SUBSCRIBE_ID, filters)))

    def _subscribed(self, suback: Suback) -> None:
        granted = zip(self._filters, suback.codes, strict=False)
        refused = [each for each, code in granted if code == REFUSED]
        if refused:
            raise UplinkRefused(
                f"the broker does not let us read {', '.join(refused)}: "
                "allow it to the gateway's user"
            )
        self._stand()

    def _stand(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        self._owner.granted(self)

    def _take_message(self, publish: Publish) -> None:
        self._owner.message(publish, self._owe(publish.packet_id) if publish.qos else _nothing)
        if len(self._owed) >= _MAX_OWED:
            self.regulate()

    # ---- Acknowledgements

    def _owe(self, packet_id: int) -> Callable[[], None]:
        """A PUBACK that is due once the returned call was made, and sent in order (MQTT 3.1.1, 4.6)."""
        slot: list[bytes] = []
        self._owed.append(slot)

        def done() -> None:
            if not slot:
                slot.append(puback(packet_id))
                if self._owed and self._owed[0] is slot and not self._paying:
                    self._paying = True
                    self._loop.call_soon(self._pay)

        return done

    def _pay(self) -> None:
        self._paying = False
        due = []
        while self._owed and self._owed[0]:
            due.append(self._owed.popleft()[0])
        if due and not self.ended.is_set():
            self._transport.write(b"".join(due))
        if not self._reading:
            self.regulate()

    def regulate(self) -> None:
        """Reads on or not, as whoever takes the messages wishes and acknowledgements are owed."""
        reading = not self._owner.reading_paused and len(self._owed) < (
            _MAX_OWED if self._reading else _MAX_OWED // 2
        )
        if reading is not self._reading and not self.ended.is_set():
            self._reading = reading
            (self._transport.resume_reading if reading else self._transport.pause_reading)()
            self._heard = self._loop.time()

    # ---- Out, and the end

    def write(self, data: bytes) -> None:
        """Sends it, sooner or later."""
        self._transport.write(data)

    def _watch(self) -> None:
        """Asks whether the broker is there, and gives up on one that does not answer."""
        every = self._connect.keep_alive / 2
        silent = self._loop.time() - self._heard
        if self._reading and silent > 2 * every:
            logger.warning("the broker has been silent for %.0f s", silent)
            self.abort()
            return
        if self._timer is not None:
            self._transport.write(PINGREQ)
        self._timer = self._loop.call_later(every, self._watch)

    def _fail(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
        self.abort()

    def abort(self) -> None:
        """Ends the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    async def leave(self) -> None:
        """Sends what waits, then DISCONNECT; waits for the end, but not for long."""
        self._transport.write(DISCONNECT)
        self._transport.close()
        try:
            async with asyncio.timeout(2.0):
                await self.ended.wait()
        except TimeoutError:
            self.abort()


def _nothing() -> None:
    """QoS 0 is not acknowledged."""
