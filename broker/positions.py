"""Where devices stand in their feeds: subscriptions, hellos, the answers to them, epochs, poison.

A device is sent frames once it is subscribed and its position is settled: once the ledger has taken its
word for what it holds, and the store knows of its epoch (PROTOCOL.md, how the server answers a position).

A frame is *poison* to a device that dies of it: a persistent session gets it again on every connection,
and never comes further. After `ALONE_AFTER` connections that failed to acknowledge what they were sent
again, frames are sent again one at a time (`devices.inflight`). After `POISON_AFTER` more that failed so,
the session of the device ends: the next CONNECT is told that none is present, and the device gets a
snapshot in a new epoch, without that frame's newest item, which it is never sent again. Any
acknowledgement begins the count anew, and so does a restart of the server.

Only a connection counts that had the frame in full and then ended as the connection of a device ends
that has died. One that ended by DISCONNECT, or for a reason of the server's, says nothing. What the
server cannot see is whether bytes that it gave to the network arrived: a link that takes CONNECT through
and breaks before the first PUBACK, five times in a row and at the same frame, looks like poison, and
costs its device one item. Nor can it see which item of several in a snapshot is the bad one: it takes
the newest, and if that was not it, the next round takes the next. Frames of QoS 0 and frames of clean
sessions are not sent again, so there is no poison among them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import numpy as np

from devices.inflight import ALONE_AFTER
from devices.ledger import Answer
from devices.packets import REFUSED
from feedgen.engine import shelf_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.config import FeedSettings
    from broker.counters import Counters
    from broker.lane.connection import Connection
    from broker.lane.session import Session
    from broker.profiles import ProfileKeeper
    from broker.roster import Live, Roster, Shelf
    from broker.sending import Sending
    from devices.frames import Hello
    from devices.profile import Profile
    from devices.registry import Registry
    from feedgen.engine import Engine

logger = logging.getLogger(__name__)

POISON_AFTER = 3
"""Connections in a row that failed at a frame that was sent again alone, after which it is poison."""

_DEATHS = frozenset({"lost", "keep_alive", "stalled", "taken_over"})
"""How the connection of a device ends that has died."""

_EPOCH_ZERO = 1_767_225_600
"""2026-01-01 in Unix seconds: where the hours count that name a first epoch (PROTOCOL.md, frames)."""

_MAX_EPOCH = 2**32 - 2**16
"""No server of ours gets here: a device that claims more is not believed, and holds nothing."""

_SEQ_LIMIT = 2**32 - 2**20
"""A device whose sequence number passes this gets a new epoch."""


class Positions:
    """The subscriptions and positions of all devices with a row.

    Args:
        feed: The settings of the feed.
        session_expiry: Seconds that a persistent session outlives its connection.
        roster: The devices.
        registry: What hellos change.
        engine: Their feeds.
        profiles: Stores epochs and subscriptions.
        sending: Sends what a settled device lacks.
        counters: What was refused is counted here.
        now: Unix seconds, never less than before.
        wake: Called when there are positions to settle.
        bar: Called with a device and an item number that must never return to it.
    """

    def __init__(
        self,
        *,
        feed: FeedSettings,
        session_expiry: float,
        roster: Roster,
        registry: Registry,
        engine: Engine,
        profiles: ProfileKeeper,
        sending: Sending,
        counters: Counters,
        now: Callable[[], float],
        wake: Callable[[], None],
        bar: Callable[[Live, int], None],
    ) -> None:
        self._feed = feed
        self._session_expiry = session_expiry
        self._roster = roster
        self._registry = registry
        self._engine = engine
        self._profiles = profiles
        self._sending = sending
        self._counters = counters
        self._now = now
        self._wake = wake
        self._bar = bar
        self._loop = asyncio.get_running_loop()
        self._settling: list[Live] = []
        self._deferred: dict[str, None] = {}
        self._silent: dict[
            str, Live
        ] = {}  # resumed and yet to say something, by the time it is due

    def adopt(self, feed: FeedSettings, session_expiry: float) -> None:
        """Goes by other settings from now on; those that shape the rows must be the same."""
        self._feed = feed
        self._session_expiry = session_expiry

    @property
    def waiting(self) -> bool:
        """Whether there are positions to settle."""
        return bool(self._settling)

    # ---- Connections

    def session_present(self, connection: Connection, session: Session | None) -> bool:
        """Whether state of a persistent session is at hand.

        After a restart that was not clean the frames in flight are lost, after poison they are given
        up: the session is new to its client, though its subscription is kept for those that never
        subscribe again.
        """
        profile = self._roster.profile_of(connection)
        live = None if profile is None else self._roster.get(profile.device)
        if live is not None and live.session_ended:
            return False
        if session is not None:
            return True
        if profile is None or profile.subscribed is None:
            return False
        if live is None and profile.session is not None:
            # Of before a restart, or away for so long that it has no row any more.
            if profile.seen + self._session_expiry >= self._now():
                return True
            profile.session = None
            self._end_subscription(profile)
        return live is not None

    def discard_session(self, connection: Connection) -> None:
        """The client asks for a new session: its old one ends [MQTT-3.1.2-6]."""
        profile = self._roster.profile_of(connection)
        if profile is not None and profile.subscribed is not None:
            self._end_subscription(profile)
        live = None if profile is None else self._roster.get(profile.device)
        if live is not None:
            live.session_ended = False

    def session_over(self, session: Session) -> None:
        """A persistent session has expired: so has its subscription to the feed."""
        profile = self.device_of(session)
        if profile is not None and profile.subscribed is not None:
            self._end_subscription(profile)

    def session_revoked(self, session: Session) -> None:
        """The operator has ended a session: its next CONNECT is told so."""
        profile = self.device_of(session)
        if profile is None:
            return
        profile.session = None
        live = self._roster.get(profile.device)
        if live is not None:
            live.session_ended = True
            self._roster.ledger(live).forget_inflight(live.seat.row)

    def device_of(self, session: Session) -> Profile | None:
        """The device whose session this is, if it is one's."""
        user, client_id = session.key
        return self._registry.get(client_id) if user in {"", client_id} else None

    def connected(self, connection: Connection) -> None:
        """The client has its CONNACK: a persistent session gets what is unacknowledged again."""
        profile = self._roster.profile_of(connection)
        if profile is None or profile.subscribed is None:
            return
        live = self._roster.enlist(connection)
        if live is None:
            return
        live.qos = profile.subscribed
        now = self._loop.time()
        live.due = now + self._feed.hello_wait
        self._silent.pop(profile.device, None)
        self._silent[profile.device] = live
        self._roster.ledger(live).waiting_since[live.seat.row] = now  # what waits is sent anew
        self._sending.resend(live, connection)

    def disconnected(self, connection: Connection) -> None:
        """The client's connection has ended."""
        live = self._roster.live_of(connection)
        if live is None:
            return
        self._sending.take_acks()
        if connection.closed_for in _DEATHS and not connection.writing_paused:
            failures = self._roster.ledger(live).fail(live.seat.row)
            if failures >= ALONE_AFTER + POISON_AFTER:
                self._end_session(live)
        self._roster.disconnect(live)

    def _end_session(self, live: Live) -> None:
        """The oldest frame in flight is poison: gives up all of them, and its newest item for good."""
        ledger, row = self._roster.ledger(live), live.seat.row
        records = filter(None, map(self._engine.item, ledger.oldest_puts(row)))
        newest = max(records, key=lambda record: (record.published_ms, record.n), default=None)
        ledger.forget_inflight(row)
        live.proven, live.session_ended = False, True
        if newest is not None:
            self._counters.dropped["poison"] += 1
            self._bar(live, newest.n)
            self._wake()
        logger.warning(
            "%s did not survive a frame on %d connections in a row: its session has ended, and %s",
            live.profile.device,
            ALONE_AFTER + POISON_AFTER,
            "the frame had no item" if newest is None else f"item {newest.n} stays away from it",
            extra={
                "device": live.profile.device,
                "seq": ledger.position(row)[1],
                "reason": "poison",
            },
        )

    # ---- Subscriptions

    def subscribe(self, connection: Connection, qos: int) -> int:
        """Subscribes the connection's device to its frames; the SUBACK code.

        SUBSCRIBE without a hello before it says "I hold nothing".
        """
        live = self._roster.enlist(connection)
        if live is None:
            self._counters.dropped["unknown_device"] += 1
            return REFUSED
        live.qos = qos
        assert connection.connect is not None
        if not connection.connect.clean_session and live.profile.subscribed != qos:
            live.profile.subscribed = qos
            self._profiles.save(live.profile)
        ledger, row = self._roster.ledger(live), live.seat.row
        if live.said_hello and live.position is None and ledger.attached[row]:
            ledger.attach(row, min(qos, live.profile.max_qos))
            return qos  # the hello of this connection was answered, on a session that resumed
        if live.position is None or not live.said_hello:
            live.state((0, 0))
        self._settle_soon(live)
        return qos

    def unsubscribe(self, connection: Connection) -> None:
        """Ends the subscription."""
        live = self._roster.enlist(connection)
        if live is None:
            return
        live.qos = live.position = None
        self._roster.ledger(live).detach(live.seat.row)
        if live.profile.subscribed is not None:
            self._end_subscription(live.profile)

    def _end_subscription(self, profile: Profile) -> None:
        """The persistent subscription is over, and with it what was in flight."""
        profile.subscribed = None
        self._profiles.save(profile)
        live = self._roster.get(profile.device)
        if live is not None:
            live.qos = None
            self._roster.ledger(live).forget_inflight(live.seat.row)

    # ---- Hellos

    def hello(self, live: Live, hello: Hello) -> None:
        """A position, and perhaps what the device can take."""
        if self._sending.waiting:
            self._sending.take_acks()  # they came before it
        position = (hello.epoch, hello.seq)
        if hello.epoch > _MAX_EPOCH:
            self._counters.dropped["hello_bad_epoch"] += 1
            position = (0, 0)
        if hello.options is not None:
            changed = self._registry.apply_hello(live.profile, hello.options)
            if (changed.k or changed.budget) and position <= self._known(live):
                position = (0, 0)  # else it is ahead, and needs a new epoch first
            if changed.k and shelf_of(live.profile.k) != live.seat.shelf:
                self._sending.take_acks()
                live = self._roster.reseat(live)
            elif changed.k or changed.budget:
                self._engine.change(
                    live.seat, k=live.profile.k, capacity=self._roster.capacity(live.profile)
                )
            for reason in changed.refused:
                self._counters.dropped[f"hello_{reason}"] += 1
            if changed:
                self._roster.fit(live)
                self._profiles.save(live.profile)
        repeated = live.said_hello and live.answered_at > float("-inf")
        live.said_hello = True
        ledger, row = self._roster.ledger(live), live.seat.row
        live.state(position, in_step=live.proven and ledger.note(row, *position))
        if live.qos is None:
            return
        if ledger.attached[row]:
            ledger.attach(row, min(live.qos, live.profile.max_qos))
        early = live.answered_at + self._feed.hello_interval > self._loop.time()
        if repeated and early:
            self._counters.up["hello_deferred"] += 1
            self._deferred[live.profile.device] = None
        else:
            self._settle_soon(live)

    def _known(self, live: Live) -> tuple[int, int]:
        """The highest position that a device can have of this server."""
        if not live.proven:
            return live.profile.epoch, _SEQ_LIMIT
        return self._roster.ledger(live).position(live.seat.row)

    def tick(self, now: float) -> None:
        """What time brings about: for hellos that came too soon after the last, and for silence."""
        for device in list(self._deferred):
            live = self._roster.get(device)
            if live is None or live.position is None:
                del self._deferred[device]
            elif live.answered_at + self._feed.hello_interval <= now:
                del self._deferred[device]
                self._settle_soon(live)
        while self._silent:
            device, live = next(iter(self._silent.items()))
            if live.due > now:
                return
            del self._silent[device]
            if live.due and self._roster.holds(live):
                # A resumed session that stays silent for too long counts as holding nothing.
                if live.position is None:
                    live.state((0, 0))
                self._settle_soon(live)

    # ---- Settling

    def _settle_soon(self, live: Live) -> None:
        live.due = 0.0
        self._settling.append(live)
        self._wake()

    def settle_all(self) -> None:
        """Answers the positions that devices stated, all of one shelf together."""
        settling, self._settling = self._settling, []
        due: list[set[int]] = [set() for _ in self._roster.shelves]
        for live in settling:
            if not self._roster.holds(live):
                continue
            if not self._engine.filled(live.seat):
                self._settling.append(live)
            elif self._settle(live):
                due[live.seat.shelf].add(live.seat.row)
        for index, rows in enumerate(due):
            if rows:
                self._sending.push(index, np.fromiter(rows, np.int32, len(rows)), new=False)

    def _settle(self, live: Live) -> bool:
        """Takes a device's word for its position; whether its row is to be pushed now."""
        position = live.position
        if position is None or live.qos is None or live.connection is None or live.saving:
            return False
        ledger, row = self._roster.ledger(live), live.seat.row
        if not live.proven:
            known = max(live.profile.epoch, position[0])
            self._begin_epoch(live, known + 1 if known else self._hours())
            return False
        if not live.in_step and ledger.answer(row, *position) is Answer.AHEAD:
            self._begin_epoch(live, position[0] + 1)
            return False
        live.position = None
        live.answered_at = self._loop.time()
        ledger.attach(row, min(live.qos, live.profile.max_qos))
        return True

    def _hours(self) -> int:
        return max(1, int(self._now() - _EPOCH_ZERO) // 3600)

    def _begin_epoch(self, live: Live, epoch: int) -> None:
        """Starts a new epoch, once the store knows of it."""
        live.saving = True
        live.profile.epoch = epoch
        ledger = self._roster.ledger(live)
        ledger.detach(live.seat.row)

        def durable() -> None:
            current = self._roster.get(live.profile.device)
            if current is None or current.profile is not live.profile:
                return
            current.saving, current.proven = False, True
            self._roster.ledger(current).begin_epoch(current.seat.row, epoch)
            if current.position is None:
                current.state((0, 0))
            if current.connection is not None and current.qos is not None:
                self._settle_soon(current)

        self._profiles.save(live.profile, durable)

    def renew_epochs(self, shelf: Shelf) -> None:
        """A sequence number never wraps: long before, a new epoch begins."""
        for row in np.flatnonzero(shelf.ledger.seq > _SEQ_LIMIT).tolist():
            live = shelf.lives[row]
            if live is not None and not live.saving:
                self._begin_epoch(live, live.profile.epoch + 1)
