"""One client's connection: MQTT 3.1.1 as the lane serves it, and the moment it is handed on.

A connection decodes what arrives, answers at once what concerns MQTT alone, and gives the rest to the
feed. It never waits: acknowledgements that depend on the store are owed, and paid in the order in which
the packets came ([MQTT-4.6.0-2], [MQTT-4.6.0-3]).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from broker.lane import rules
from broker.lane.rules import Identity, Topic
from devices.packets import (
    PINGRESP,
    REFUSED,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    MalformedPacket,
    Packet,
    PacketError,
    Pingreq,
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
    encode,
    puback,
    pubcomp,
    pubrec,
    pubrel,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from broker.lane.handover import Foreign
    from broker.lane.listener import Lane
    from broker.lane.session import Session

logger = logging.getLogger(__name__)

MAX_OWED = 4096
"""Acknowledgements owed to one client before its connection is read no further."""

MAX_RECEIVED = 4096
"""QoS 2 packet ids that one client may leave unreleased; one that has more is broken and closed."""

_LINGER = 10.0
"""Seconds that a closed connection has for taking what was written before."""


MAX_DIFFERENCE = 64 * 65_536
"""Bytes that a net difference may have at the most: a window of 64, each item a frame of its own."""


class Feed(Protocol):
    """What a connection needs of the service."""

    def item(self, channel: str, payload: bytes, *, dup: bool, done: Callable[[], None]) -> None:
        """Takes an item; `done` is called when it is durable, or refused."""

    def up(self, payload: bytes, connection: Connection, done: Callable[[], None]) -> None:
        """Takes an up message of a device; `done` is called when it has been carried out."""

    @property
    def congested(self) -> bool:
        """Whether publishers should be read no further."""

    def barrier(self, done: Callable[[], None]) -> None:
        """Calls `done` when everything taken so far is durable."""

    def subscribe(self, connection: Connection, qos: int) -> int:
        """Subscribes the connection's device to its frames; the SUBACK code."""

    def unsubscribe(self, connection: Connection) -> None:
        """Ends the subscription."""

    def released(self, connection: Connection, packet_id: int) -> None:
        """A QoS 2 frame is complete (PUBCOMP)."""

    def writable(self, connection: Connection, *, writable: bool) -> None:
        """The connection's buffer is full, or has room again."""

    def schedule_acks(self) -> None:
        """PUBACKs are about to stand in a shelf's queue."""


class Connection(asyncio.Protocol):
    """The server's end of one TCP connection.

    Args:
        lane: Where it belongs.
        sock: Its socket, which the transport owns and closes.
    """

    __slots__ = (
        "_decoder",
        "_kept",
        "_owed",
        "_reading",
        "_socket",
        "ack_queue",
        "closed_for",
        "connect",
        "foreign",
        "identity",
        "lane",
        "peer",
        "row_key",
        "seen",
        "session",
        "silent_limit",
        "subscribed",
        "transport",
        "unread_limit",
        "will",
        "writing_paused",
    )

    def __init__(self, lane: Lane, sock: socket.socket) -> None:
        self.lane = lane
        self.transport: asyncio.Transport = None  # type: ignore[assignment] # set when made
        self.peer: tuple[str, int] = ("", 0)
        self.identity: Identity | None = None
        self.session: Session | None = None
        self.connect: Connect | None = None
        self.will: Will | None = None
        self.foreign: Foreign | None = None
        self.closed_for: str | None = None
        self.subscribed = False
        self.writing_paused = False
        self.unread_limit = lane.write_buffer
        # The shelf's queue of PUBACKs and this device's row << 16, once it has a row.
        self.ack_queue: list[int] | None = None
        self.row_key = 0
        # Silence is measured from `seen` against `silent_limit`: first for CONNECT, then keep-alive.
        self.seen = lane.tick
        self.silent_limit = lane.connect_timeout
        self._decoder: Decoder | None = Decoder(role="server", max_packet=lane.max_packet)
        self._kept = 0  # bytes of a packet whose rest is still to come
        self._owed: deque[list[bytes]] = deque()
        self._reading = True
        self._socket = sock

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("peername") or ("", 0)
        self.peer = (str(peer[0]), int(peer[1]) if len(peer) > 1 else 0)
        self.transport.set_write_buffer_limits(high=self.lane.write_buffer)
        self.lane.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come in."""
        self.seen = self.lane.tick
        queue = self.ack_queue
        if (
            queue is not None
            and len(data) == 4
            and data[0] == 0x40
            and data[1] == 2
            and (data[2] or data[3])
            and not self._kept
        ):
            # A PUBACK alone, what devices send most: to be worked off together with all others.
            if not queue:
                self.lane.feed.schedule_acks()
            queue.append(self.row_key | data[2] << 8 | data[3])
            return
        self._decode(data)

    def _decode(self, data: bytes) -> None:
        decoder = self._decoder
        if decoder is None:
            return
        broken: MalformedPacket | None = None
        try:
            packets = decoder.feed(data)
        except MalformedPacket as error:
            packets, broken = error.packets, error
        self._kept += len(data) - sum(len(raw) for _, raw in packets)
        for packet, raw in packets:
            if self.closed_for is not None:
                return
            self._dispatch(packet, raw)
        if self.writing_paused and self.transport.get_write_buffer_size() > self.unread_limit:
            self.abort("write_buffer_full")  # it goes on asking and reads no answers
            return
        if broken is not None and self.closed_for is None:
            if broken.reason is PacketError.BAD_PROTOCOL_LEVEL and self.connect is None:
                self.transport.write(encode(Connack(False, 1)))
            self.lane.log_malformed(self, broken)
            self.close(f"malformed_{broken.reason.value}")

    def eof_received(self) -> bool | None:
        """The client will send no more: the connection ends."""
        return None

    def pause_writing(self) -> None:
        """The client reads slower than it is written to."""
        self.writing_paused = True
        if self.foreign is not None:
            self.close("write_buffer_full")
        else:
            self.lane.feed.writable(self, writable=False)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writing_paused = False
        if self.foreign is None:
            self.lane.feed.writable(self, writable=True)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        """The connection is gone."""
        self._decoder = None
        if self.closed_for is None:
            self.closed_for = "lost"
        self.lane.lost(self)

    # ---- Ending and flow

    def close(self, reason: str, *, keep_will: bool = True) -> None:
        """Ends the connection; what was written before is still sent.

        Args:
            reason: Counted; one word of the counters.
            keep_will: False after DISCONNECT, which discards the will [MQTT-3.14.4-3].
        """
        if self.closed_for is not None:
            return
        self.pay()
        self.closed_for = reason
        self._decoder = None
        if not keep_will:
            self.will = None
        if reason not in {"disconnect", "lost"}:
            self.lane.counters.closed[reason] += 1
        self.lane.ending(self)
        self.transport.close()
        self.seen, self.silent_limit = self.lane.tick, _LINGER

    def abort(self, reason: str) -> None:
        """Ends the connection at once, dropping what is still to be written."""
        if self.closed_for is None:
            self.close(reason)
        self.transport.abort()

    def pause_reading(self) -> None:
        """Reads no further; TCP slows the client down."""
        if self._reading and self.closed_for is None:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads again."""
        if not self._reading and self.closed_for is None and len(self._owed) <= MAX_OWED // 2:
            self._reading = True
            self.seen = self.lane.tick
            self.transport.resume_reading()

    def silent_too_long(self, now: float) -> bool:
        """Whether the client should have been heard by now; not if nobody listened."""
        return now - self.seen > self.silent_limit and (
            self._reading or self.closed_for is not None
        )

    # ---- Frames

    def sender(self) -> Callable[[bytes], int]:
        """What sends a packet at once, past the transport's queue, and says how much of it went.

        It may only be called while the transport has nothing waiting. So the transport is told to
        pause this protocol as soon as it has anything waiting at all; what did not go is left to it.
        Once the transport is closed the socket object has no descriptor any more and refuses.
        """
        self.transport.set_write_buffer_limits(high=0)
        self.unread_limit = self.lane.write_buffer + MAX_DIFFERENCE
        if self.transport.get_extra_info("ssl_object") is None:
            return self._socket.send
        return self.send_by_transport

    def send_by_transport(self, packet: bytes) -> int:
        """Hands a packet to the transport, behind whatever waits there."""
        self.transport.write(packet)
        return len(packet)

    def release_sender(self) -> None:
        """Everything goes through the transport again."""
        self.transport.set_write_buffer_limits(high=self.lane.write_buffer)
        self.unread_limit = self.lane.write_buffer

    # ---- Acknowledgements

    def _owe(self, packet: bytes) -> Callable[[], None]:
        """Books an acknowledgement that must not overtake earlier ones; call the result to pay it."""
        entry = [packet, b""]
        self._owed.append(entry)
        if len(self._owed) > MAX_OWED:
            self.pause_reading()

        def pay() -> None:
            entry[1] = entry[0]
            self.lane.pay_soon(self)

        return pay

    def pay(self) -> None:
        """Writes the acknowledgements that are due, together."""
        owed = self._owed
        paid = []
        while owed and owed[0][1]:
            paid.append(owed.popleft()[1])
        if paid and self.closed_for is None:
            self.transport.write(b"".join(paid))
            if not self._reading:
                self.lane.resume(self)

    # ---- Packets

    def _dispatch(self, packet: Packet, raw: bytes) -> None:
        if self.connect is None:
            if isinstance(packet, Connect):
                self._on_connect(packet)
            else:
                self.close("no_connect")  # [MQTT-3.1.0-1]
            return
        self._HANDLERS[type(packet)](self, packet, raw)

    def _on_connect(self, packet: Connect) -> None:
        """Opens or refuses the session; everything about it happens in one step."""
        verdict = self.lane.rules.identify(packet)
        if not packet.client_id:
            if not packet.clean_session:
                verdict = rules.IDENTIFIER_REJECTED  # [MQTT-3.1.3-8]
            else:
                packet = replace(packet, client_id=self.lane.new_client_id())  # [MQTT-3.1.3-6]
                if isinstance(verdict, Identity):
                    verdict = replace(verdict, client_id=packet.client_id, device=None)
        will = packet.will
        if isinstance(verdict, Identity) and will is not None:
            kind = self.lane.rules.topic(verdict, will.topic)
            if kind is Topic.FORBIDDEN or (kind is Topic.FOREIGN and not self.lane.can_hand_over):
                verdict = rules.NOT_AUTHORIZED
            elif kind is not Topic.FOREIGN:
                self.will, packet = will, replace(packet, will=None)
        if not isinstance(verdict, Identity):
            self.transport.write(encode(Connack(False, verdict)))
            self.lane.counters.dropped[f"connect_refused_{verdict}"] += 1
            self.close("refused")
            return
        self.connect, self.identity = packet, verdict
        self.silent_limit = 1.5 * packet.keep_alive or float("inf")  # [MQTT-3.1.2-24]
        self.lane.accepted(self)

    def _on_second_connect(self, _packet: Connect, _raw: bytes) -> None:
        self.close("second_connect")  # [MQTT-3.1.0-2]

    def _on_publish(self, packet: Publish, raw: bytes) -> None:
        assert self.identity is not None
        kind = self.lane.rules.topic(self.identity, packet.topic)
        if kind is Topic.FOREIGN and (
            self.foreign is not None or (not self.subscribed and self.lane.hand_over(self))
        ):
            self._forward(raw)
            return
        if packet.retain and kind is not Topic.FOREIGN:
            # Nothing on the feed's topics is ever retained; the message itself counts.
            self.lane.counters.dropped["retain_flag"] += 1
        done = self._acknowledge_publish(packet)
        if done is None:
            return
        if kind is Topic.ITEM:
            channel = packet.topic[len(self.lane.rules.items) :]
            self.lane.feed.item(channel, packet.payload, dup=packet.dup, done=done)
            if self.lane.feed.congested:
                self.lane.pause(self)
        elif kind is Topic.UP:
            self.lane.feed.up(packet.payload, self, done)
        else:
            self.lane.counters.dropped["publish_not_permitted"] += 1
            done()

    def _forward(self, raw: bytes) -> None:
        """Passes a packet on to amqtt."""
        assert self.foreign is not None
        self.foreign.forward(raw)

    def _acknowledge_publish(self, packet: Publish) -> Callable[[], None] | None:
        """How the publish will be acknowledged; None if it was received before (QoS 2)."""
        if packet.qos == 0:
            return _nothing
        if packet.qos == 1:
            return self._owe(puback(packet.packet_id))
        assert self.session is not None
        done = self._owe(pubrec(packet.packet_id))
        received = self.session.received
        if packet.packet_id in received:
            self.lane.feed.barrier(done)  # [MQTT-4.3.3-2]: method B, the id is known
            return None
        if len(received) >= MAX_RECEIVED:
            self.close("too_many_unreleased")
            return None
        received.add(packet.packet_id)
        return done

    def _on_pubrel(self, packet: Pubrel, raw: bytes) -> None:
        assert self.session is not None
        if self.foreign is not None and packet.packet_id not in self.session.received:
            self.foreign.forward(raw)
            return
        self.session.received.discard(packet.packet_id)
        self.transport.write(pubcomp(packet.packet_id))

    def _on_puback(self, packet: Puback, raw: bytes) -> None:
        if self.foreign is not None:
            self.foreign.forward(raw)
        elif self.ack_queue is not None:
            if not self.ack_queue:
                self.lane.feed.schedule_acks()
            self.ack_queue.append(self.row_key | packet.packet_id)

    def _on_pubrec(self, packet: Pubrec, raw: bytes) -> None:
        if self.foreign is not None:
            self.foreign.forward(raw)
            return
        assert self.session is not None
        # Whatever the id, PUBREL is the answer [MQTT-4.3.3-1]; only frames in flight are noted.
        if len(self.session.releasing) < MAX_RECEIVED:
            self.session.releasing[packet.packet_id] = None
        self.transport.write(pubrel(packet.packet_id))

    def _on_pubcomp(self, packet: Pubcomp, raw: bytes) -> None:
        if self.foreign is not None:
            self.foreign.forward(raw)
            return
        assert self.session is not None
        self.session.releasing.pop(packet.packet_id, None)
        self.lane.feed.released(self, packet.packet_id)

    def _on_subscribe(self, packet: Subscribe, raw: bytes) -> None:
        assert self.identity is not None
        access = self.lane.rules
        if self.foreign is not None:
            self.foreign.forward(raw)  # amqtt asks `FeedPlugin.topic_filtering`
            return
        own = [access.is_own_feed(self.identity, name) for name, _ in packet.filters]
        feed = [access.is_feed_filter(name) for name, _ in packet.filters]
        if not any(feed) and not self.subscribed and self.lane.hand_over(self):
            self._forward(raw)
            return
        codes = []
        for (_, qos), mine in zip(packet.filters, own, strict=True):
            if not mine:
                self.lane.counters.dropped["subscribe_not_permitted"] += 1
                codes.append(REFUSED)
                continue
            codes.append(self.lane.feed.subscribe(self, qos))
        # Frames may stand in front of SUBACK [MQTT-3.8.4-1 allows it]; here they never do: the feed
        # answers after this packet.
        self.transport.write(encode(Suback(packet.packet_id, tuple(codes))))

    def _on_unsubscribe(self, packet: Unsubscribe, raw: bytes) -> None:
        assert self.identity is not None
        if self.foreign is not None:
            self.foreign.forward(raw)
            return
        if any(self.lane.rules.is_own_feed(self.identity, name) for name in packet.filters):
            self.lane.feed.unsubscribe(self)
        self.transport.write(encode(Unsuback(packet.packet_id)))

    def _on_pingreq(self, _packet: Pingreq, _raw: bytes) -> None:
        self.transport.write(PINGRESP)

    def _on_disconnect(self, _packet: Disconnect, raw: bytes) -> None:
        if self.foreign is not None:
            self.foreign.disconnect(raw)
        self.close("disconnect", keep_will=False)

    _HANDLERS: ClassVar[Mapping[type[Packet], Callable[[Connection, Any, bytes], None]]] = {
        Connect: _on_second_connect,
        Publish: _on_publish,
        Puback: _on_puback,
        Pubrec: _on_pubrec,
        Pubrel: _on_pubrel,
        Pubcomp: _on_pubcomp,
        Subscribe: _on_subscribe,
        Unsubscribe: _on_unsubscribe,
        Pingreq: _on_pingreq,
        Disconnect: _on_disconnect,
    }


def _nothing() -> None:
    """QoS 0 is not acknowledged."""
