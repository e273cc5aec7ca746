"""The port: it takes connections, keeps the one registry of client ids, and ends what has gone silent."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from typing import TYPE_CHECKING, Protocol

from broker.lane.connection import Connection
from broker.lane.handover import Foreign
from broker.lane.session import Session
from devices.packets import Connack, MalformedPacket, encode, pubrel

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from broker.counters import Counters
    from broker.lane.connection import Feed
    from broker.lane.rules import Rules

logger = logging.getLogger(__name__)

_TICK = 0.1
_BUCKETS = 10
_BACKLOG = 4096
_ACCEPTS = 64
_ACCEPT_PAUSE = 0.5
_SESSION_LIFE = 7 * 86_400.0
"""Seconds that a persistent session without a subscription outlives its connection."""
_STOP_TIME = 2.0
"""Seconds that connections have for their end when the port is closed. They need far less, but in a stock
amqtt Ctrl-C breaks off whatever runs at that moment, the end of a connection perhaps."""
_SWEEP = 3600.0
"""Seconds between two looks for such sessions."""


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


class Foreigners(Protocol):
    """What the lane needs of amqtt."""

    def has_session(self, client_id: str) -> bool:
        """Whether amqtt keeps a session for this client."""

    def serve(self, foreign: Foreign) -> Awaitable[None]:
        """Serves a handed-on connection, of a client that the lane has authenticated, until it ends."""


class Lane:
    """All MQTT connections of one port.

    Args:
        rules: Who may do what.
        feed: The service, as connections see it.
        host: The service, as the lane sees it.
        foreigners: amqtt, or None when nothing is handed on.
        counters: What happened.
        max_packet: Bytes of the largest packet.
        max_connections: Connections at one time.
        connect_timeout: Seconds until CONNECT must have come.
        write_buffer: Bytes waiting in a connection above which its device is not written to.
    """

    def __init__(
        self,
        *,
        rules: Rules,
        feed: Feed,
        host: Host,
        foreigners: Foreigners | None,
        counters: Counters,
        max_packet: int,
        max_connections: int,
        connect_timeout: float,
        write_buffer: int,
    ) -> None:
        self.rules = rules
        self.feed = feed
        self.counters = counters
        self.max_packet = max_packet
        self.connect_timeout = connect_timeout
        self.write_buffer = write_buffer
        self.can_hand_over = foreigners is not None
        self.tick = 0.0
        self.sessions: dict[str, Session] = {}
        self._host = host
        self._foreigners = foreigners
        self._max_connections = max_connections
        self._buckets: list[set[Connection]] = [set() for _ in range(_BUCKETS)]
        self._open = 0
        self._beat = 0
        self._listener: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused: set[Connection] = set()
        self._sweep_at = 0.0
        self._paying: list[Connection] = []
        self._foreign: dict[str, Foreign] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._loop = asyncio.get_running_loop()

    # ---- The port

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listens; returns the address that was bound.

        Raises:
            OSError: The address cannot be bound.
        """
        self.tick = self._loop.time()
        family, _, _, _, address = (
            await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )[0]
        self._listener = socket.create_server(address, family=family, backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)
        self._timer = self._loop.call_later(_TICK, self._on_tick)
        bound = self._listener.getsockname()
        return str(bound[0]), int(bound[1])

    def _accept(self) -> None:
        """Takes the connections that wait.

        Not through the loop's own server, which keeps the sockets to itself: frames are sent on
        them directly (`Connection.sender`).
        """
        assert self._listener is not None
        for _ in range(_ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # it left while it waited
            except OSError as error:
                # Out of descriptors or memory: leave the others in the backlog for a moment.
                self.counters.dropped["accept_failed"] += 1
                logger.warning("cannot take a connection: %s", error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_ACCEPT_PAUSE, self._accept_again)
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.ensure_future(self._take(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _accept_again(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener, self._accept)

    async def _take(self, sock: socket.socket) -> None:
        """Makes a connection of an accepted socket."""
        try:
            await self._loop.connect_accepted_socket(lambda: Connection(self, sock), sock)
        except OSError:
            sock.close()  # gone before it began

    async def stop(self) -> None:
        """Closes the port and every connection."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._timer is not None:
            self._timer.cancel()
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
        self.tick = self._loop.time()
        self._timer = self._loop.call_later(_TICK, self._on_tick)
        self._beat = (self._beat + 1) % _BUCKETS
        now = self.tick
        if self._paused and not self.feed.congested:
            self.resume_paused()
        if now > self._sweep_at:
            self._sweep_at = now + _SWEEP
            self.forget_sessions()
        for connection in list(self._buckets[self._beat]):
            if connection.silent_too_long(now):
                waiting = connection.connect is None
                connection.abort("connect_timeout" if waiting else "keep_alive")

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._open

    # ---- What connections report

    def opened(self, connection: Connection) -> None:
        """A client has connected."""
        self.counters.connections["opened"] += 1
        self._open += 1
        self._buckets[hash(connection) % _BUCKETS].add(connection)
        if self._open > self._max_connections:
            connection.abort("too_many_connections")

    def accepted(self, connection: Connection) -> None:
        """CONNECT is in order: takes over an older connection, finds the session, answers."""
        connect = connection.connect
        assert connect is not None
        client_id = connect.client_id
        session = self.sessions.get(client_id)
        if session is not None and session.connection is not None:
            self.counters.connections["taken_over"] += 1
            session.connection.close("taken_over")  # [MQTT-3.1.4-2]
            session = self.sessions.get(client_id)
        if session is not None and (connect.clean_session or session.clean):
            session = None  # [MQTT-3.1.2-6]
        if connect.clean_session:
            self._host.discard_session(connection)
        present = not connect.clean_session and self._host.session_present(connection, session)
        if session is None:
            session = Session(client_id, connect.clean_session)
            self.sessions[client_id] = session
        session.connection = connection
        connection.session = session
        self.counters.connections["connected"] += 1
        if self._is_foreign_at_once(connection):
            self.hand_over(connection, answered=False)
            return
        connection.transport.write(encode(Connack(present, 0)))
        for packet_id in session.releasing:
            connection.transport.write(pubrel(packet_id))  # [MQTT-4.4.0-1]
        self._host.connected(connection)

    def _is_foreign_at_once(self, connection: Connection) -> bool:
        """Whether amqtt must serve this client from its CONNECT on."""
        connect = connection.connect
        assert connect is not None
        if self._foreigners is None:
            return False
        if connect.will is not None:
            return True
        return not connect.clean_session and self._foreigners.has_session(connect.client_id)

    def ending(self, connection: Connection) -> None:
        """A connection has begun to end: the client may connect anew from now on."""
        session = connection.session
        self._host.disconnected(connection)
        if connection.foreign is not None:
            connection.foreign.eof()
        if session is not None and session.connection is connection:
            session.connection = None
            session.ended_at = self.tick
            if session.clean:
                self.sessions.pop(session.client_id, None)
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

    def _publish_will(self, connection: Connection) -> None:
        """Publishes what a client that went without DISCONNECT left behind [MQTT-3.1.2-8]."""
        will, connection.will = connection.will, None
        identity = connection.identity
        if will is None or identity is None:
            return
        if will.topic.startswith(self.rules.items):
            channel = will.topic[len(self.rules.items) :]
            self.feed.item(channel, will.payload, dup=False, done=_nothing)
        elif identity.device is not None:
            self.feed.up(will.payload, connection, _nothing)

    def forget_session(self, client_id: str) -> None:
        """The client's device was removed: nothing of it is present when it comes back."""
        self.sessions.pop(client_id, None)

    def forget_sessions(self) -> None:
        """Drops persistent sessions that nobody has come back to and that hold nothing."""
        limit = self.tick - _SESSION_LIFE
        for client_id, session in list(self.sessions.items()):
            if session.connection is None and session.ended_at < limit:
                del self.sessions[client_id]

    # ---- Hand-over

    def hand_over(self, connection: Connection, *, answered: bool = True) -> bool:
        """Hands a connection on to amqtt; False if that is switched off."""
        if self._foreigners is None:
            return False
        connect = connection.connect
        assert connect is not None
        self.counters.connections["handed_over"] += 1
        self._host.disconnected(connection)
        connection.release_sender()
        former = self._foreign.get(connect.client_id)
        if former is not None:
            former.finish()
        foreign = Foreign(connection, connect, answered=answered)
        self._foreign[connect.client_id] = connection.foreign = foreign
        task = asyncio.ensure_future(self._foreigners.serve(foreign))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._foreign_ended(connection, done))
        return True

    def _foreign_ended(self, connection: Connection, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        assert connection.connect is not None
        client_id = connection.connect.client_id
        if self._foreign.get(client_id) is connection.foreign:
            del self._foreign[client_id]
        if not task.cancelled() and task.exception() is not None:
            self.counters.dropped["amqtt_error"] += 1
            logger.warning(
                "amqtt ended the connection of %r with %s",
                client_id,
                type(task.exception()).__name__,
            )
        connection.close("closed_by_amqtt")

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
        """Reads again from a connection, unless the store is the one that is behind."""
        if connection not in self._paused:
            connection.resume_reading()

    def resume_paused(self) -> None:
        """The store has caught up."""
        if self._paused:
            paused, self._paused = self._paused, set()
            for connection in paused:
                connection.resume_reading()

    @staticmethod
    def new_client_id() -> str:
        """An id for a client that gave none."""
        return f"anonymous-{secrets.token_hex(8)}"

    def log_malformed(self, connection: Connection, error: MalformedPacket) -> None:
        """One line for a connection that broke the protocol."""
        logger.info("closing %s:%d: %s (%s)", *connection.peer, error.reason.value, error.detail)


def _nothing() -> None:
    """Nobody waits for a will."""
