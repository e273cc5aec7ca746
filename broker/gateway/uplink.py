"""One connection to the outside broker: an MQTT 3.1.1 client that comes back by itself.

It differs from other clients by what a gateway asks of one. Frames for thousands of devices leave in one
write, and their PUBACKs are worked off as arrays. A message that comes in at QoS 1 is acknowledged when
whoever took it says so (`done`), in order: until then it stays the broker's, in our persistent session.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from typing import TYPE_CHECKING, Protocol

from broker.gateway.link import BrokerLink, UplinkRefused
from broker.gateway.packet_window import PACKET_IDS, PacketWindow
from devices.packets import Connect, MalformedPacket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.counters import Counters
    from broker.gateway.address import BrokerAddress
    from broker.gateway.packet_window import Ids
    from devices.packets import Publish, Will

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
"""Seconds before a new try to connect: doubling, each shortened at random by up to half."""

_CONNECT_TIME = 10.0
"""Seconds for TCP, TLS, CONNECT and SUBSCRIBE together."""


class Taker(Protocol):
    """Who takes what comes in, and is told how the connection is."""

    def message(self, publish: Publish, done: Callable[[], None]) -> None:
        """A message; `done` is to be called once it may be forgotten by the broker."""

    def linked(self) -> None:
        """The connection is up, and the subscriptions are granted."""

    def unlinked(self) -> None:
        """The connection is lost; it will be tried again."""

    def roomy(self) -> None:
        """More can be published, after it could not."""


class Uplink:
    """A connection to the broker, and the next one after it.

    Args:
        address: Where the broker is.
        client_id: Ours; the session is kept by it.
        filters: What to subscribe to, each at QoS 1.
        taker: Who takes what comes.
        counters: Connections and what was sent again are counted here.
        keep_alive: Seconds of silence after which we ask, and after twice as long give up.
        max_waiting: Bytes of unacknowledged packets above which nothing is published.
        max_packet: Bytes of the largest packet that the broker may send.
        clean: Whether the session begins anew with each connection.
        will: What the broker says when we vanish.

    Attributes:
        up: Whether the broker hears us: connected, and the subscriptions are granted.
        window: What it has not acknowledged.

    Raises:
        OSError: The file of authorities cannot be read; `ssl.SSLError` is one.
    """

    def __init__(
        self,
        *,
        address: BrokerAddress,
        client_id: str,
        filters: Sequence[str],
        taker: Taker,
        counters: Counters,
        keep_alive: int = 30,
        max_waiting: int = 16 << 20,
        max_packet: int = 70_000,
        clean: bool = False,
        will: Will | None = None,
    ) -> None:
        self.address = address
        self.client_id = client_id
        self.filters = tuple(filters)
        self.up = False
        self.window = PacketWindow()
        self.message = taker.message
        self._taker = taker
        self._counters = counters
        self._keep_alive = keep_alive
        self._max_waiting = max_waiting
        self._max_packet = max_packet
        self._tls = _tls(address)
        self._clean = clean
        self._will = will
        self._loop = asyncio.get_running_loop()
        self._link: BrokerLink | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._stopping = False
        self.reading_paused = False
        self._starved = False  # somebody wanted to publish and could not
        self._random = random.Random()  # noqa: S311 (spreads load, keeps no secret)

    # ---- Life

    async def start(self) -> None:
        """Connects, however long the broker is not there; returns once the subscriptions are granted.

        Raises:
            UplinkRefused: The broker is there and refuses.
        """
        self._task = self._loop.create_task(self._run(), name=f"uplink {self.client_id}")
        up = self._loop.create_task(self._up.wait())
        await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
        if not self._up.is_set():
            up.cancel()
            await self._task

    async def stop(self) -> None:
        """Sends what is under way and DISCONNECT; the session stays with the broker."""
        if self._task is None:
            return
        self._stopping = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._link is not None:
            await self._link.leave()

    async def _run(self) -> None:
        """One connection after the other. Before the first has stood, a refusal ends it."""
        pause = _FIRST_PAUSE
        while True:
            try:
                lasted = await self._one_connection()
            except UplinkRefused as refused:
                if not self._up.is_set():
                    raise
                logger.error("%s", refused)  # noqa: TRY400 (its text says everything)
                pause, lasted = _LONGEST_PAUSE, 0.0
            except (OSError, MalformedPacket, TimeoutError) as error:
                logger.warning("no connection to %s: %s", self.address, _why(error))
                lasted = 0.0
            pause = _FIRST_PAUSE if lasted > pause else min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(pause * self._random.uniform(0.5, 1.0))

    async def _one_connection(self) -> float:
        """Connects and stays until the connection ends; the seconds that it was up.

        Raises:
            UplinkRefused, OSError, MalformedPacket, TimeoutError: It did not come that far.
        """
        address = self.address
        link = BrokerLink(self, self._connect(), self.filters, self._max_packet)
        try:
            async with asyncio.timeout(_CONNECT_TIME):
                await self._loop.create_connection(
                    lambda: link, address.host, address.port, ssl=self._tls
                )
                await link.ready
            began = self._loop.time()
            self._counters.connections["uplink_connected"] += 1
            await link.ended.wait()
            return self._loop.time() - began
        finally:
            if not link.ready.done():
                link.ready.cancel()
            if not self._stopping:  # else `stop` leaves it in order
                link.abort()

    def _connect(self) -> Connect:
        address = self.address
        password = None if address.password is None else address.password.encode()
        return Connect(
            self.client_id, self._clean, 2 * self._keep_alive, address.user, password, self._will
        )

    # ---- Out

    @property
    def room(self) -> int:
        """How many packets of QoS 1 may be published now."""
        link = self._link
        full = self.window.waiting >= self._max_waiting
        if link is None or not self.up or link.writing_paused or full:
            return 0
        return self.window.free

    def starve(self) -> None:
        """Somebody had more to publish than there was room: `Taker.roomy` will be called."""
        self._starved = True

    def publish(self, packets: Sequence[bytes], ids: Ids | None) -> int:
        """Sends whole PUBLISH packets in one write; returns their bytes.

        Args:
            packets: As they go over the wire.
            ids: Their packet identifiers, from `window.take`; None at QoS 0.
        """
        data = b"".join(packets)
        if ids is not None:
            self.window.sent(ids, packets)
        if self._link is not None and self.up:
            self._link.write(data)
        return len(data)

    # ---- In

    def pause_reading(self) -> None:
        """Reads nothing until `resume_reading`: who takes the messages is behind."""
        self.reading_paused = True
        if self._link is not None:
            self._link.regulate()

    def resume_reading(self) -> None:
        """Reads on."""
        self.reading_paused = False
        if self._link is not None:
            self._link.regulate()

    # ---- What a link reports

    def accepted(self, link: BrokerLink, *, session_present: bool) -> None:
        """The broker has let us in."""
        if not session_present:
            self.window.forget()
        self._link = link

    def granted(self, link: BrokerLink) -> None:
        """The subscriptions are granted: what was unacknowledged goes again, before anything new."""
        self.up = True
        again = self.window.again()
        if again:
            self._counters.frames["resent"] += len(again)
            link.write(b"".join(again))
        self._up.set()
        self._taker.linked()
        self.has_room()

    def lost(self, link: BrokerLink) -> None:
        """The connection is gone."""
        if self._link is not link:
            return
        was_up, self.up, self._link = self.up, False, None
        if was_up:
            self._counters.connections["uplink_lost"] += 1
            self._taker.unlinked()

    def acknowledged(self, ids: Ids) -> None:
        """PUBACKs have come."""
        self.window.acknowledge(ids)
        if self._starved:
            self.has_room()

    def has_room(self) -> None:
        """Tells whoever starved.

        Half of all room at once, not each place that a PUBACK makes: what is done then goes by row.
        """
        some = self.room > PACKET_IDS // 2 and self.window.waiting <= self._max_waiting // 2
        if self._starved and some:
            self._starved = False
            self._taker.roomy()


def _tls(address: BrokerAddress) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    return ssl.create_default_context(cafile=None if address.ca is None else str(address.ca))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_TIME:.0f} s"
    return str(error) or type(error).__name__
