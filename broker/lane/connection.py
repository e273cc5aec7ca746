"""One client's connection: MQTT 3.1.1 as the lane serves it.

A connection decodes what arrives, answers at once what concerns MQTT alone, and gives the rest to the
feed or, on all other topics, to the exchange. It never waits: acknowledgements that depend on the store
are owed, and paid in the order in which the packets came ([MQTT-4.6.0-2], [MQTT-4.6.0-3]).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from broker.access.door import (
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    UNAVAILABLE,
    Attempt,
    Refused,
)
from broker.access.identity import Identity
from broker.access.rules import Topic
from broker.access.tls import certificate_name
from broker.lane.intake import Intake
from broker.lane.outbox import FIRST_ID, Message
from devices.packets import (
    PINGRESP,
    REFUSED,
    Connack,
    Connect,
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
    import ssl
    from collections.abc import Callable, Mapping

    from broker.lane.listener import Lane
    from broker.lane.session import Session
    from broker.overload.senders import Source

logger = logging.getLogger(__name__)

MAX_OWED = 4096
"""Acknowledgements owed to one client before its connection is read no further."""

_OWED_SIZE = 4
"""Bytes of PUBACK and of PUBREC, which is what is owed."""

MAX_RECEIVED = 4096
"""QoS 2 packet ids that one client may leave unreleased; one that has more is broken and closed."""

_OTHERS = FIRST_ID >> 8
"""First byte of the packet identifiers that are not the ledger's."""

_LINGER = 10.0
"""Seconds that a closed connection has for taking what was written before."""

_ANSWER_OVERHEAD = 64
"""Bytes that an answer takes beside its own while it waits in the transport's queue."""

_MUCH = 65_536
"""Bytes of one read that has hardly emptied the socket."""

_TURN = 0.002
"""Seconds of work after which a connection leaves the loop to the others."""

MAX_FILTERS = 512
"""Filters of one SUBSCRIBE that are looked at; those behind them are refused."""


class Feed(Protocol):
    """What a connection needs of the service."""

    def item(
        self,
        channel: str,
        payload: bytes,
        *,
        dup: bool,
        done: Callable[[], None],
        publisher: str,
        qos: int,
        source: Source | None = None,
    ) -> bool:
        """Takes an item of an authenticated user, "" if of none.

        `done` is called when it is durable, or refused. `source` is who has sent it, None if nobody is
        to be slowed down for it.

        Returns: False if it cannot be taken now; nothing has changed, and `done` is not called.
        """

    def up(self, payload: bytes, connection: Connection, done: Callable[[], None]) -> None:
        """Takes an up message of a device; `done` is called when it has been carried out."""

    def reads(self, source: Source) -> bool:
        """Whether a publisher should be read on, for all that it has sent."""

    def pauses(self, source: Source) -> bool:
        """Whether a publisher should be read no further, as too much is on its way."""

    @property
    def congested(self) -> bool:
        """Whether publishers that were paused for that have to wait on."""

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

    Attributes:
        connect: CONNECT, once the client was let in.
        expires: Unix seconds at which it must end, as its token does.
    """

    __slots__ = (
        "_asked",
        "_attempt",
        "_halted",
        "_intake",
        "_owed",
        "_reading",
        "_socket",
        "_tls",
        "_unread",
        "_working",
        "ack_queue",
        "closed_for",
        "connect",
        "expires",
        "identity",
        "lane",
        "peer",
        "row_key",
        "seen",
        "session",
        "silent_limit",
        "transport",
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
        self.expires = float("inf")
        self.closed_for: str | None = None
        self.writing_paused = False
        # The shelf's queue of PUBACKs and this device's row << 16, once it has a row.
        self.ack_queue: list[int] | None = None
        self.row_key = 0
        # Silence is measured from `seen` against `silent_limit`: first for CONNECT, then keep-alive.
        self.seen = lane.tick
        self.silent_limit = lane.connect_timeout
        self._asked = False  # CONNECT has come
        self._attempt: Attempt | None = None  # what it said, while it waits for its turn
        self._intake = Intake(lane.max_packet)
        self._working = False  # the rest of what was read has its turn later
        self._halted = False  # the transport was told to read no further for that
        self._unread = 0  # bytes that answers take while the client reads none
        self._owed: deque[list[bytes]] = deque()
        self._reading = True
        self._socket = sock
        self._tls: ssl.SSLObject | None = None

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("peername") or ("", 0)
        self.peer = (str(peer[0]), int(peer[1]) if len(peer) > 1 else 0)
        self._tls = transport.get_extra_info("ssl_object")
        self.transport.set_write_buffer_limits(high=self.lane.write_buffer)
        self.lane.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come in."""
        queue = self.ack_queue
        if (
            queue is not None
            and len(data) == 4
            and data[0] == 0x40
            and data[1] == 2
            and data[2] < _OTHERS
            and (data[2] or data[3])
            and self._intake.idle
        ):
            # A PUBACK of a frame, what devices send most: to be worked off together with all others.
            lane = self.lane
            if not queue:
                lane.feed.schedule_acks()
            queue.append(self.row_key | data[2] << 8 | data[3])
            lane.traffic.pubacks += 1
            self.seen = lane.tick
            return
        self.lane.traffic.bytes_received += len(data)
        self._intake.feed(data)
        if not self._working:
            if len(data) >= _MUCH or self._deciding:
                self._halt()  # there is more, which libuv would read at once
            self._work_off()

    def _work_off(self) -> None:
        """Carries out what was read, for a moment; the rest after a pause as long.

        Else a client that sends as fast as it can would have the loop for itself: a transport reads on
        as long as there is something. So it has half of the loop's time at the most.
        """
        intake, began = self._intake, perf_counter()
        while self.closed_for is None and not self._deciding:
            packet = intake.next()
            if packet is None:
                if intake.broken is not None:
                    self._on_malformed(intake.broken)
                break
            self.seen = self.lane.tick  # whole packets count, not bytes [MQTT-3.1.2-24]
            self._dispatch(packet)
            spent = perf_counter() - began
            if spent > _TURN and intake.waiting:
                self._working = True
                self._halt()
                asyncio.get_running_loop().call_later(spent, self._go_on)
                return
        self._read_on()

    def _go_on(self) -> None:
        self._working = False
        self._work_off()

    @property
    def _deciding(self) -> bool:
        """Whether the door is still deciding about this client."""
        return self._asked and self.connect is None

    def _halt(self) -> None:
        if not self._halted:
            self._halted = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        """Reads again, unless there is a reason to wait."""
        if self._halted and not self._deciding and not self._working and self.closed_for is None:
            self._halted = False
            if self._reading:
                self.transport.resume_reading()

    def _on_malformed(self, broken: MalformedPacket) -> None:
        if broken.reason is PacketError.BAD_PROTOCOL_LEVEL and self.connect is None:
            self.write(encode(Connack(False, 1)))
        self.lane.log_malformed(self, broken)
        self.close(f"malformed_{broken.reason.value}")

    def eof_received(self) -> bool | None:
        """The client will send no more: the connection ends."""
        return None

    def pause_writing(self) -> None:
        """The client reads slower than it is written to."""
        self.writing_paused = True
        self.lane.stuck(self, stuck=True)
        self.lane.feed.writable(self, writable=False)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writing_paused = False
        self.lane.stuck(self, stuck=False)
        self._unread = 0
        self.lane.feed.writable(self, writable=True)
        if self.session is not None:
            self.lane.exchange.pump(self.session)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        """The connection is gone."""
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
        self.closed_for = reason
        if not keep_will:
            self.will = None
        if reason not in {"disconnect", "lost"}:
            self.lane.counters.closed[reason] += 1
        due = self._take_due()
        if due:
            self.write(due, len(due) // _OWED_SIZE)
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
            if not self._halted:
                self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads again."""
        if not self._reading and self.closed_for is None and len(self._owed) <= MAX_OWED // 2:
            self._reading = True
            self.seen = self.lane.tick
            if not self._halted:
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
        if self._tls is None:
            self.transport.set_write_buffer_limits(high=0)
            return self._socket.send
        # Where bytes are encrypted the limit is reached at, not above, its value.
        self.transport.set_write_buffer_limits(high=1, low=0)
        return self.send_by_transport

    def send_by_transport(self, packet: bytes) -> int:
        """Hands a packet to the transport, behind whatever waits there."""
        self.transport.write(packet)
        return len(packet)

    # ---- Answers

    def write(self, data: bytes, packets: int = 1) -> None:
        """Writes packets that are no new frames, and counts them."""
        self.lane.traffic.sent(data, packets)
        self.transport.write(data)

    def _answer(self, packet: bytes, packets: int = 1) -> None:
        """Writes what the client has asked for; one that asks on and reads no answers is closed."""
        self.write(packet, packets)
        if self.writing_paused:
            self._unread += len(packet) + _ANSWER_OVERHEAD
            if self._unread > self.lane.write_buffer:
                self.abort("write_buffer_full")

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
        if self.closed_for is not None:
            return
        due = self._take_due()
        if due:
            self._answer(due, len(due) // _OWED_SIZE)
            if not self._reading:
                self.lane.resume(self)

    def _take_due(self) -> bytes:
        owed = self._owed
        due = []
        while owed and owed[0][1]:
            due.append(owed.popleft()[1])
        return b"".join(due)

    # ---- CONNECT

    def _dispatch(self, packet: Packet) -> None:
        self.lane.traffic.packets_received += 1
        if self.connect is not None:
            self._HANDLERS[type(packet)](self, packet)
        elif isinstance(packet, Connect):
            self._asked = True
            self._on_connect(packet)
        else:
            self.close("no_connect")  # [MQTT-3.1.0-1]

    def _on_connect(self, packet: Connect) -> None:
        """Finds out who this is, when it is the client's turn."""
        assigned = not packet.client_id
        if assigned:
            if not packet.clean_session:
                self._refuse(Refused(IDENTIFIER_REJECTED, "no_client_id"))  # [MQTT-3.1.3-8]
                return
            packet = replace(packet, client_id=self.lane.new_client_id())  # [MQTT-3.1.3-6]
        attempt = Attempt(
            packet,
            assigned=assigned,
            address=self.peer[0],
            certificate=certificate_name(self._tls) if self._tls is not None else None,
            came=monotonic(),
        )
        admitted = self.lane.admits(self)
        if admitted:
            self._ask_door(attempt)
        elif admitted is None:
            self.turn_away()
        else:
            # What the client sends meanwhile waits. Until it sends something it is read on, as nothing
            # else tells that it has given up.
            self._attempt, self.silent_limit = attempt, float("inf")

    def let_in(self) -> None:
        """The client has waited until there was time for it."""
        attempt, self._attempt = self._attempt, None
        if attempt is None or self.closed_for is not None:
            return
        self.seen, self.silent_limit = self.lane.tick, self.lane.connect_timeout
        self._ask_door(attempt)
        self._work_off()

    def turn_away(self) -> None:
        """There was no time for the client, and there will be none soon."""
        if self.closed_for is None:
            self._refuse(Refused(UNAVAILABLE, "overloaded"))

    def _ask_door(self, attempt: Attempt) -> None:
        """Asks the door. It answers at once, or has a password to check first."""
        packet, verdict = attempt.connect, self.lane.door.admit(attempt)
        if isinstance(verdict, asyncio.Future):
            # What the client sends meanwhile waits.
            self._halt()
            verdict.add_done_callback(lambda done: self._decided(packet, done))
        else:
            self._admit(packet, verdict)

    def _decided(
        self, packet: Connect, done: asyncio.Future[Callable[[], Identity | Refused]]
    ) -> None:
        """The password was checked. Who the client is now, is asked in the step that lets it in."""
        if self.closed_for is not None or done.cancelled():
            return
        self.seen = self.lane.tick
        self._admit(packet, done.result()())
        self._work_off()

    def _admit(self, packet: Connect, verdict: Identity | Refused) -> None:
        """Opens or refuses the session; everything about it happens in one step."""
        if isinstance(verdict, Refused):
            self._refuse(verdict)
            return
        if packet.will is not None:
            if self.lane.rules.publish(verdict, packet.will.topic) is Topic.FORBIDDEN:
                self._refuse(Refused(NOT_AUTHORIZED, "will_not_permitted"))
                return
            self.will, packet = packet.will, replace(packet, will=None)
        # The password has served.
        self.connect, self.identity = replace(packet, password=None), verdict
        if verdict.expires is not None:
            self.expires = verdict.expires
        self.silent_limit = 1.5 * packet.keep_alive or float("inf")  # [MQTT-3.1.2-24]
        self.lane.accepted(self)

    def _refuse(self, refused: Refused) -> None:
        self.write(encode(Connack(False, refused.code)))
        self.lane.counters.dropped[f"connect_refused_{refused.reason}"] += 1
        self.close("refused")

    def _on_second_connect(self, _packet: Connect) -> None:
        self.close("second_connect")  # [MQTT-3.1.0-2]

    # ---- Messages of the client

    def _on_publish(self, packet: Publish) -> None:
        assert self.identity is not None
        self.lane.traffic.publish_received(packet.topic, packet.payload, packet.qos)
        kind = self.lane.rules.publish(self.identity, packet.topic)
        done = self._acknowledge_publish(packet, stored=kind in {Topic.ITEM, Topic.UP})
        if done is None:
            return
        if kind is Topic.ITEM:
            self._count_retain(packet)
            channel = packet.topic[len(self.lane.rules.items) :]
            publisher = self.identity.user
            source = (publisher, "" if publisher else self.identity.client_id)
            taken = self.lane.feed.item(
                channel,
                packet.payload,
                dup=packet.dup,
                done=done,
                publisher=publisher,
                qos=packet.qos,
                source=source,
            )
            if not taken:
                # Not acknowledged, so the client sends it again after its next CONNECT.
                self.close("store_away")
                return
            if self.lane.feed.pauses(source):
                self.lane.pause(self)
            if not self.lane.feed.reads(source):
                self.lane.stop_reading(self, source)
        elif kind is Topic.UP:
            self._count_retain(packet)
            self.lane.feed.up(packet.payload, self, done)
        elif kind is Topic.OTHER:
            message = Message(packet.topic, packet.payload, packet.qos)
            self.lane.exchange.publish(message, retain=packet.retain)
            done()
        else:
            # MQTT 3.1.1 has no way to say no [MQTT-3.3.5-2].
            self.lane.counters.dropped["publish_not_permitted"] += 1
            done()

    def _count_retain(self, packet: Publish) -> None:
        """Nothing on the feed's topics is ever retained; the message itself counts."""
        if packet.retain:
            self.lane.counters.dropped["retain_flag"] += 1

    def _acknowledge_publish(self, packet: Publish, *, stored: bool) -> Callable[[], None] | None:
        """How the publish will be acknowledged; None if it was received before (QoS 2).

        Args:
            packet: The publish.
            stored: Whether the first one of this identifier may be on its way to the store.
        """
        if packet.qos == 0:
            return _nothing
        if packet.qos == 1:
            return self._owe(puback(packet.packet_id))
        assert self.session is not None
        done = self._owe(pubrec(packet.packet_id))
        received = self.session.received
        if packet.packet_id in received:
            # [MQTT-4.3.3-2]: method B, the id is known.
            if stored:
                self.lane.feed.barrier(done)
            else:
                done()
            return None
        if len(received) >= MAX_RECEIVED:
            self.close("too_many_unreleased")
            return None
        received.add(packet.packet_id)
        return done

    def _on_pubrel(self, packet: Pubrel) -> None:
        assert self.session is not None
        self.session.received.discard(packet.packet_id)
        self._answer(pubcomp(packet.packet_id))

    # ---- Acknowledgements of the client

    def _on_puback(self, packet: Puback) -> None:
        if packet.packet_id >= FIRST_ID:
            assert self.session is not None
            self.lane.exchange.acknowledged(self.session, packet.packet_id)
        elif self.ack_queue is not None:
            if not self.ack_queue:
                self.lane.feed.schedule_acks()
            self.ack_queue.append(self.row_key | packet.packet_id)

    def _on_pubrec(self, packet: Pubrec) -> None:
        assert self.session is not None
        # Whatever the id, PUBREL is the answer [MQTT-4.3.3-1].
        if packet.packet_id >= FIRST_ID:
            self.lane.exchange.received(self.session, packet.packet_id)
        elif len(self.session.releasing) < MAX_RECEIVED:
            self.session.releasing[packet.packet_id] = None
        self._answer(pubrel(packet.packet_id))

    def _on_pubcomp(self, packet: Pubcomp) -> None:
        assert self.session is not None
        if packet.packet_id >= FIRST_ID:
            self.lane.exchange.completed(self.session, packet.packet_id)
        else:
            self.session.releasing.pop(packet.packet_id, None)
            self.lane.feed.released(self, packet.packet_id)

    # ---- Subscriptions

    def _on_subscribe(self, packet: Subscribe) -> None:
        assert self.session is not None
        filters = packet.filters
        codes = [self._subscribe(name, qos) for name, qos in filters[:MAX_FILTERS]]
        codes += [REFUSED] * (len(filters) - len(codes))
        # Messages may stand in front of SUBACK [MQTT-3.8.4-1 allows it]; here they never do.
        self._answer(encode(Suback(packet.packet_id, tuple(codes))))
        looked_at = zip(filters, codes[:MAX_FILTERS], strict=False)
        granted = {name: code for (name, _), code in looked_at}
        self.lane.exchange.answer(
            self.session,
            {name: qos for name, qos in granted.items() if name in self.session.filters},
        )

    def _subscribe(self, topic_filter: str, qos: int) -> int:
        """Subscribes to one filter; the code for SUBACK."""
        assert self.identity is not None
        assert self.session is not None
        kind = self.lane.rules.subscribe(self.identity, topic_filter)
        if kind is Topic.FRAMES:
            return self.lane.feed.subscribe(self, qos)
        if kind is Topic.OTHER:
            return self.lane.exchange.subscribe(self.session, topic_filter, qos)
        self.lane.counters.dropped["subscribe_not_permitted"] += 1
        return REFUSED

    def _on_unsubscribe(self, packet: Unsubscribe) -> None:
        assert self.identity is not None
        assert self.session is not None
        for name in packet.filters:
            if self.lane.rules.subscribe(self.identity, name) is Topic.FRAMES:
                self.lane.feed.unsubscribe(self)
            else:
                self.lane.exchange.unsubscribe(self.session, name)
        self._answer(encode(Unsuback(packet.packet_id)))

    # ---- The rest

    def _on_pingreq(self, _packet: Pingreq) -> None:
        self._answer(PINGRESP)

    def _on_disconnect(self, _packet: Disconnect) -> None:
        self.close("disconnect", keep_will=False)

    _HANDLERS: ClassVar[Mapping[type[Packet], Callable[[Connection, Any], None]]] = {
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
