"""The ports: they take connections, keep the one registry of sessions, and end what has gone silent."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from broker.access.rules import Topic
from broker.lane.connection import Connection
from broker.lane.outbox import Message
from broker.lane.session import Session
from broker.lane.traffic import Traffic
from devices.packets import Connack, MalformedPacket, encode, pubrel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from broker.access.door import Attempt, Verdict
    from broker.access.identity import Identity
    from broker.access.rules import Rules
    from broker.config import LimitSettings
    from broker.counters import Counters
    from broker.lane.connection import Feed
    from broker.lane.exchange import Exchange
    from broker.overload.pace import Pace
    from broker.overload.senders import Source

logger = logging.getLogger(__name__)

_TICK = 0.1
_BUCKETS = 10
_BACKLOG = 4096
_ACCEPTS = 64
_ACCEPT_PAUSE = 0.5
_LATE = 5 * _TICK
"""Seconds that one tick counts at the most. While the loop stands still nobody is heard, and nobody was
silent."""
_LET_IN = 0.01
"""Seconds between two handfuls of clients that are let in while others wait."""
_LOOKED_AT = 256
_FORGOTTEN = 400
"""Sessions that are ended in one tick."""
_STOP_TIME = 2.0
"""Seconds that connections have for their end when the port is closed. They need far less, but in a stock
amqtt Ctrl-C breaks off whatever runs at that moment, the end of a connection perhaps."""


class Host(Protocol):
    """What the lane needs of the service beyond what single connections do."""

    def session_present(self, connection: Connection, session: Session | None) -> bool:
        """Whether state of a persistent session is at hand; restores what there is."""

    def discard_session(self, connection: Connection) -> None:
        """The client asks for a new session."""

    def connected(self, connection: Connection) -> None:
        """The client was accepted and has its CONNACK."""

    def disconnected(self, connection: Connection) -> None:
        """The client's connection has ended."""

    def session_over(self, session: Session) -> None:
        """A persistent session has expired."""

    def session_revoked(self, session: Session) -> None:
        """The operator has ended a session; what its device subscribed to of its feed stays."""


class Gate(Protocol):
    """Who decides about clients: the door, or what stands before it."""

    def admit(self, attempt: Attempt) -> Verdict | asyncio.Future[Callable[[], Verdict]]:
        """Decide on a client; see `Door.admit`."""


class Lane:
    """All MQTT connections of one server.

    Args:
        door: Who may come in.
        rules: Who may do what.
        feed: The service, as connections see it.
        host: The service, as the lane sees it.
        exchange: All topics that are not the feed's.
        counters: What happened.
        limits: What clients may take.
        pace: How fast clients are let in; None = at once.
    """

    def __init__(
        self,
        *,
        door: Gate,
        rules: Rules,
        feed: Feed,
        host: Host,
        exchange: Exchange,
        counters: Counters,
        limits: LimitSettings,
        pace: Pace[Connection] | None = None,
    ) -> None:
        self.door = door
        self.rules = rules
        self.feed = feed
        self.exchange = exchange
        self.counters = counters
        self.traffic = Traffic()
        self.limit(limits)
        self.tick = 0.0  # seconds that the loop has run
        self._ticked_at = 0.0
        self.sessions: dict[tuple[str, str], Session] = {}
        self._host = host
        self._buckets: list[set[Connection]] = [set() for _ in range(_BUCKETS)]
        self._open = 0
        self._opening = 0  # accepted, and shaking hands
        self._beat = 0
        self._listeners: dict[socket.socket, ssl.SSLContext | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pace = pace
        self._letting_in: asyncio.TimerHandle | None = None
        self._paused: set[Connection] = set()
        # Connections whose publishers have sent too much, as far as they came upon it.
        self._stopped: dict[Connection, Source] = {}
        # Those whose transports hold what their sockets do not take.
        self._stuck: set[Connection] = set()
        self._away: dict[tuple[str, str], Session] = {}  # by the time when they ended
        self._by_name: dict[str, set[Session]] = {}
        self._paying: list[Connection] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._loop = asyncio.get_running_loop()

    def limit(self, limits: LimitSettings) -> None:
        """Holds clients to these limits from now on, but for what they were told or given already."""
        self._limits = limits
        self.max_packet = limits.max_packet
        self.connect_timeout = limits.connect_timeout
        self.write_buffer = limits.write_buffer

    def encrypt_by(self, context: ssl.SSLContext) -> None:
        """Takes another certificate for the encrypted ports; connections that are there keep theirs."""
        for listener, tls in self._listeners.items():
            if tls is not None:
                self._listeners[listener] = context

    # ---- The ports

    async def listen(
        self, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[str, int]:
        """Opens a port; returns the address that was bound.

        Raises:
            OSError: The address cannot be bound.
        """
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address, family=family, backlog=_BACKLOG)
        listener.setblocking(False)
        self._listeners[listener] = tls
        self._accept_from(listener)
        if self._timer is None:
            self._ticked_at = self._loop.time()
            self._timer = self._loop.call_later(_TICK, self._on_tick)
        bound = listener.getsockname()
        return str(bound[0]), int(bound[1])

    def _accept_from(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Takes the connections that wait.

        Not through the loop's own server, which keeps the sockets to itself: frames are sent on
        them directly (`Connection.sender`).
        """
        for _ in range(_ACCEPTS):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # it left while it waited
            except OSError as error:
                # Out of descriptors or memory: leave the others in the backlog for a moment.
                self.counters.dropped["accept_failed"] += 1
                logger.warning("cannot take a connection: %s", error.strerror)
                self._loop.remove_reader(listener)
                self._loop.call_later(_ACCEPT_PAUSE, self._accept_from, listener)
                return
            if self._open + self._opening >= self._limits.max_connections:
                self.counters.closed["too_many_connections"] += 1
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._opening += 1
            task = asyncio.ensure_future(self._take(sock, self._listeners[listener]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Makes a connection of an accepted socket."""
        try:
            await self._loop.connect_accepted_socket(
                partial(Connection, self, sock),
                sock,
                ssl=tls,
                ssl_handshake_timeout=self.connect_timeout if tls is not None else None,
            )
        except OSError as error:  # ssl.SSLError is one
            self._opening -= 1
            sock.close()  # gone before it began, or no partner for TLS
            if tls is not None:
                self.counters.dropped["tls_handshake_failed"] += 1
                logger.debug("no TLS connection: %s", type(error).__name__)

    def close_ports(self) -> None:
        """Takes no further connections."""
        listeners, self._listeners = list(self._listeners), {}
        for listener in listeners:
            self._loop.remove_reader(listener)
            listener.close()

    def clients(self) -> list[Connection]:
        """Every connection that is there now."""
        return [connection for bucket in self._buckets for connection in bucket]

    async def stop(self) -> None:
        """Closes the port and every connection."""
        self.close_ports()
        for timer in (self._timer, self._letting_in):
            if timer is not None:
                timer.cancel()
        for bucket in self._buckets:
            for connection in list(bucket):
                connection.close("server_stopped", keep_will=False)
        deadline = self._loop.time() + _STOP_TIME
        while any(self._buckets) and self._loop.time() < deadline:
            await asyncio.sleep(0)
            for bucket in self._buckets:
                for connection in list(bucket):
                    connection.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_TIME)

    def _on_tick(self) -> None:
        """Ends connections that have been silent too long, a tenth of them at a time."""
        now = self._loop.time()
        self.tick += min(now - self._ticked_at, _LATE)
        self._ticked_at = now
        self._timer = self._loop.call_later(_TICK, self._on_tick)
        self._beat = (self._beat + 1) % _BUCKETS
        now = self.tick
        if self._paused and not self.feed.congested:
            self.resume_paused()
        self._forget_sessions()
        wall = time.time()
        for connection in list(self._buckets[self._beat]):
            if connection.silent_too_long(now):
                waiting = connection.connect is None
                connection.abort("connect_timeout" if waiting else "keep_alive")
            elif connection.expires < wall and connection.closed_for is None:
                connection.close("token_expired")

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._open

    # ---- What connections report

    def opened(self, connection: Connection) -> None:
        """A client has connected."""
        self.counters.connections["opened"] += 1
        self._opening -= 1
        self._open += 1
        self._buckets[hash(connection) % _BUCKETS].add(connection)

    def accepted(self, connection: Connection) -> None:
        """The client was let in: takes over an older connection, finds the session, answers."""
        connect, identity = connection.connect, connection.identity
        assert connect is not None
        assert identity is not None
        self._end_twins(identity)
        session = self.sessions.get(identity.key)
        if session is not None and session.connection is not None:
            self.counters.connections["taken_over"] += 1
            session.connection.close("taken_over")  # [MQTT-3.1.4-2]
            session = self.sessions.get(identity.key)
        clean = connect.clean_session
        if clean:
            self._host.discard_session(connection)  # [MQTT-3.1.2-6]
        present = not clean and self._host.session_present(connection, session)
        session = self.sessions.get(identity.key)  # the host may have let go of it
        if session is not None and not present:
            self._end(session)
            session = None
        if session is None:
            session = self._begin(identity.key, clean=clean)
        self._away.pop(identity.key, None)
        session.connection = connection
        connection.session = session
        self.counters.connections["connected"] += 1
        self.traffic.entered(device=identity.device is not None)
        connection.write(encode(Connack(present, 0)))
        for packet_id in session.releasing:
            connection.write(pubrel(packet_id))  # [MQTT-4.4.0-1]
        self._host.connected(connection)
        self.exchange.resume(session)

    def _end_twins(self, identity: Identity) -> None:
        """A device has one session, whether it has proven who it is or not.

        Where nobody has to, it may come once so and once so, under two keys.
        """
        device = identity.device
        if device is None:
            return
        for key in (("", device), (device, device)):
            twin = self.sessions.get(key) if key != identity.key else None
            if twin is not None:
                if twin.connection is not None:
                    twin.connection.close("taken_over")
                self._end(twin)

    def ending(self, connection: Connection) -> None:
        """A connection has begun to end: the client may connect anew from now on."""
        session, identity = connection.session, connection.identity
        self._host.disconnected(connection)
        if session is not None and session.connection is connection and identity is not None:
            self.traffic.left(device=identity.device is not None)
            session.connection = None
            session.ended_at = self.tick
            if session.clean:
                self._end(session)
            else:
                self.exchange.disconnected(session)
                self._away[session.key] = session
        self._publish_will(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        if connection.session is None or connection.session.connection is connection:
            self.ending(connection)
        bucket = self._buckets[hash(connection) % _BUCKETS]
        if connection in bucket:
            bucket.discard(connection)
            self._open -= 1
        self._paused.discard(connection)
        self._stuck.discard(connection)
        if self._pace is not None:
            self._pace.leave(connection)
        self._stopped.pop(connection, None)

    def _publish_will(self, connection: Connection) -> None:
        """Publishes what a client that went without DISCONNECT left behind [MQTT-3.1.2-8]."""
        will, connection.will = connection.will, None
        identity = connection.identity
        if will is None or identity is None:
            return
        kind = self.rules.publish(identity, will.topic)
        if kind is Topic.ITEM:
            channel = will.topic[len(self.rules.items) :]
            taken = self.feed.item(
                channel,
                will.payload,
                dup=False,
                done=_nothing,
                publisher=identity.user,
                qos=will.qos,
            )
            if not taken:
                self.counters.dropped["will_store_away"] += 1
        elif kind is Topic.UP:
            self.feed.up(will.payload, connection, _nothing)
        elif kind is Topic.OTHER:
            message = Message(will.topic, will.payload, will.qos)
            self.exchange.publish(message, retain=will.retain)

    # ---- Sessions

    def forget(self, name: str, reason: str, *, keep_will: bool = True) -> None:
        """Ends every connection and session of a user or device, in the operator's name."""
        for session in list(self._by_name.get(name, ())):
            if session.connection is not None:
                session.connection.close(reason, keep_will=keep_will)
            self._host.session_revoked(session)
            self._end(session)

    def let_go(self, session: Session) -> None:
        """Ends a session without a connection that is kept elsewhere from now on."""
        if session.connection is None:
            self._end(session)

    def _begin(self, key: tuple[str, str], *, clean: bool) -> Session:
        session = self.sessions[key] = Session(key, clean)
        self._by_name.setdefault(session.name, set()).add(session)
        return session

    def _end(self, session: Session) -> None:
        """A session is over."""
        if self.sessions.get(session.key) is not session:
            return
        del self.sessions[session.key]
        self._away.pop(session.key, None)
        named = self._by_name[session.name]
        named.discard(session)
        if not named:
            del self._by_name[session.name]
        self.exchange.end(session)

    def _forget_sessions(self) -> None:
        """Ends persistent sessions that nobody has come back to, and the oldest of too many."""
        limit = self.tick - self._limits.session_expiry
        for session in list(islice(self._away.values(), _FORGOTTEN)):
            expired = session.ended_at < limit
            if not expired and len(self._away) <= self._limits.max_sessions:
                return
            self.counters.dropped["session_expired" if expired else "too_many_sessions"] += 1
            self._host.session_over(session)
            self._end(session)

    # ---- Flow

    def pay_soon(self, connection: Connection) -> None:
        """Writes the connection's due acknowledgements when this turn of the loop is over."""
        if not self._paying:
            self._loop.call_soon(self._pay)
        self._paying.append(connection)

    def _pay(self) -> None:
        paying, self._paying = self._paying, []
        for connection in dict.fromkeys(paying):
            connection.pay()

    def pause(self, connection: Connection) -> None:
        """Stops reading from a publisher until the store has caught up."""
        self._paused.add(connection)
        connection.pause_reading()

    def resume(self, connection: Connection) -> None:
        """Reads again from a connection, unless the store is behind or its publisher has sent too much."""
        if connection not in self._paused and connection not in self._stopped:
            connection.resume_reading()

    def stop_reading(self, connection: Connection, source: Source) -> None:
        """Reads no further from a publisher that has sent too much, until `read_again`."""
        self._stopped[connection] = source
        connection.pause_reading()

    def read_again(self, sources: Iterable[Source]) -> None:
        """These publishers may send again."""
        wanted = frozenset(sources)
        for connection in [c for c, source in self._stopped.items() if source in wanted]:
            del self._stopped[connection]
            self.resume(connection)

    def stuck(self, connection: Connection, *, stuck: bool) -> None:
        """A client has begun not to read what it is sent, or has caught up."""
        (self._stuck.add if stuck else self._stuck.discard)(connection)

    @property
    def bytes_waiting(self) -> int:
        """Bytes that clients do not read; where very many do not, by those that one can look at."""
        looked_at = list(islice(self._stuck, _LOOKED_AT))
        found = sum(connection.transport.get_write_buffer_size() for connection in looked_at)
        return found * len(self._stuck) // len(looked_at) if looked_at else 0

    # ---- Who comes in when

    def admits(self, connection: Connection) -> bool | None:
        """Whether a client that says CONNECT is let in now; False = later, None = not at all."""
        now = self._loop.time()
        if self._pace is None or self._pace.admit(now):
            return True
        if not self._pace.wait(connection, now):
            return None
        if self._letting_in is None:
            self._letting_in = self._loop.call_later(_LET_IN, self._let_in)
        return False

    def _let_in(self) -> None:
        assert self._pace is not None
        admitted, late = self._pace.due(self._loop.time())
        self._letting_in = None
        if self._pace.waiting:
            self._letting_in = self._loop.call_later(_LET_IN, self._let_in)
        # Each by itself: what one of them may break is not to be the others' end.
        for connection in late:
            self._loop.call_soon(connection.turn_away)
        for connection in admitted:
            self._loop.call_soon(connection.let_in)

    def resume_paused(self) -> None:
        """The store has caught up."""
        if self._paused:
            paused, self._paused = self._paused, set()
            for connection in paused:
                self.resume(connection)

    @staticmethod
    def new_client_id() -> str:
        """An id for a client that gave none."""
        return f"anonymous-{secrets.token_hex(8)}"

    def log_malformed(self, connection: Connection, error: MalformedPacket) -> None:
        """One line for a connection that broke the protocol."""
        device = None if connection.identity is None else connection.identity.device
        logger.info(
            "closing %s:%d: %s (%s)",
            *connection.peer,
            error.reason.value,
            error.detail,
            extra={"reason": error.reason.value} | ({} if device is None else {"device": device}),
        )


def _nothing() -> None:
    """Nobody waits for a will."""
