"""The one data path: from PUBLISH to frame, joining store, engine, ledgers and connections.

    item ─▶ decode ─▶ catalog ─▶ store ─▶ PUBACK, engine ─▶ changed rows ─▶ ledger ─▶ write
    PUBACK of a device ─▶ ledger ─▶ still different? ─▶ write
    up message ─▶ hello, feedback, profile ─▶ ledger, engine, registry

Everything happens in short synchronous steps on the event loop. What several events ask for is gathered
and done once, in `_work`, which gives the loop back when its time is over: rows that changed, positions
to answer, profiles to save. Nothing awaits between a decision and its write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from operator import call, itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from broker.devices_live import Live, Shelf, nowhere
from broker.item_forms import ItemForms
from devices import slots
from devices.frames import BadUp, Bye, Feedback, Hello, Kind, decode_up, payload_capacity
from devices.frames import Profile as ProfileMessage
from devices.ledger import Answer, Batch, Ledger
from devices.packets import REFUSED, as_duplicate, remaining_length
from feedgen.catalog import Catalog, Outcome
from feedgen.engine import SHELVES, shelf_of
from feedgen.items import InvalidItem, Record, decode_item
from feedgen.store.base import Dismiss, DropDevice, DropItems, PutDevice, PutItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from broker.config import Config
    from broker.counters import Counters
    from broker.lane.connection import Connection
    from broker.lane.listener import Lane
    from broker.lane.session import Session
    from devices.profile import Profile
    from devices.registry import Registry
    from feedgen.engine import Engine
    from feedgen.store.base import Loaded, Op, Store

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

_SLICE = 0.008
"""Seconds that one turn of work may take before the loop gets its turn."""

_TIMER = 0.25
_EPOCH_ZERO = 1_767_225_600
"""2026-01-01 in Unix seconds: where the hours count that name a first epoch (PROTOCOL.md, frames)."""

_SEQ_LIMIT = 2**32 - 2**20
"""A device whose sequence number passes this gets a new epoch."""


class Service:
    """Joins the engine, the ledgers, the store and the connections of one server.

    Args:
        config: The server's settings.
        store: An opened store.
        loaded: What it held.
        registry: Devices, filled from the store.
        engine: An empty engine; the live items are published to it here.
        counters: What happens is counted here.
        clock: Unix seconds; a clock that goes back is held still.
    """

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        loaded: Loaded,
        registry: Registry,
        engine: Engine,
        counters: Counters,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.store = store
        self.registry = registry
        self.engine = engine
        self.counters = counters
        self.lives: dict[str, Live] = {}
        self.lane: Lane = None  # type: ignore[assignment] # joined by `join`
        self._loop = asyncio.get_running_loop()
        self._wall = clock
        self._last_ms = 0
        self._clean = loaded.clean
        self._frames = f"{config.feed.prefix}f/"
        self.catalog = Catalog(loaded.next_n)
        self.catalog.load(loaded.records)
        self._dismissed: dict[str, set[int]] = {}
        for device, n in loaded.dismissed:
            self._dismissed.setdefault(device, set()).add(n)
        self.forms = ItemForms()
        self.shelves = [
            Shelf(
                Ledger(
                    columns,
                    max_inflight=config.feed.max_inflight,
                    qos_by_priority=config.feed.qos_by_priority,
                )
            )
            for columns in SHELVES
        ]
        # What the next turn of work will take up.
        self._durable: list[Record] = []
        self._settling: list[Live] = []
        self._unsaved: dict[str, list[Callable[[], None]]] = {}
        self._scheduled = False
        self._acks_scheduled = False
        self._deferred: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._watch_at = 0.0
        self._publish_records(loaded.records)

    # ---- Life

    def join(self, lane: Lane) -> None:
        """The lane that carries this service's connections; starts the timer."""
        self.lane = lane
        self._timer = self._loop.call_later(_TIMER, self._on_timer)
        self._schedule()

    async def stop(self) -> None:
        """Ends in order: positions are kept, so that devices resume without a new epoch."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        await self.lane.stop()
        self._take_acks()
        for live in list(self.lives.values()):
            self._pack(live)
        kept = [profile for profile in self.registry if profile.session is not None]
        self._unsaved |= {
            profile.device: [] for profile in kept if profile.device not in self._unsaved
        }
        self._save_now()
        await self.store.close(clean=True)

    def now(self) -> float:
        """Unix seconds; never less than before."""
        return self._now_ms() / 1000

    def _now_ms(self) -> int:
        self._last_ms = max(self._last_ms, int(self._wall() * 1000))
        return self._last_ms

    # ---- Items: PUBLISH to engine

    def item(self, channel: str, payload: bytes, *, dup: bool, done: Callable[[], None]) -> None:
        """Takes an item; `done` is called when it is durable, or refused."""
        self.counters.items["received"] += 1
        try:
            item = decode_item(channel, payload)
        except InvalidItem as error:
            self.counters.rejected[error.reason.value] += 1
            logger.info("item on %.80r refused: %s (%s)", channel, error.reason.value, error.detail)
            done()
            return
        accepted = self.catalog.accept(item, self._now_ms(), dup)
        self.counters.items[accepted.outcome.value] += 1
        record = accepted.record
        if record is None:
            self.barrier(done)
            return
        changes = accepted.outcome is not Outcome.UNCHANGED
        future = self.store.submit((PutItem(record),))

        def durable(future: asyncio.Future[None]) -> None:
            if _failed(future):
                return
            if changes:
                self._durable.append(record)
                self._schedule()
            done()
            if not self.congested:
                self.lane.resume_paused()

        future.add_done_callback(durable)

    def barrier(self, done: Callable[[], None]) -> None:
        """Calls `done` when everything taken so far is durable."""

        def durable(future: asyncio.Future[None]) -> None:
            if not _failed(future):
                done()

        self.store.submit(()).add_done_callback(durable)

    @property
    def congested(self) -> bool:
        """Whether publishers should be read no further."""
        return self.store.pending + len(self._durable) > self.config.limits.max_pending_items

    def _publish_records(self, records: Iterable[Record]) -> None:
        records = list(records)
        tags = [slots.pack(r.n, r.version, r.item.priority) for r in records]
        for record, tag in zip(records, tags, strict=True):
            if record.retracted:
                self.forms.end(record.n)
            else:
                self.forms.add(tag, record)
        self.engine.publish(records, tags)

    # ---- Work: engine to frames

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """One turn of work; comes back while there is more."""
        self._scheduled = False
        if self._stopping:
            return
        until = self._loop.time() + _SLICE
        if self._unsaved:
            self._save_now()
        if self._durable:
            records, self._durable = self._durable, []
            self._publish_records(records)
        now = self.now()
        while self.engine.busy and self._loop.time() < until:
            for change in self.engine.step(now):
                self._push(change.shelf, change.rows)
        if self._settling:
            self._settle_all()
        if self.engine.busy or self._settling:
            self._schedule()
        else:
            self.forms.forget_ended()

    def _push(self, shelf_index: int, rows: np.ndarray[tuple[int], np.dtype[np.int32]]) -> None:
        """Sends these rows what brings them towards their feeds."""
        shelf = self.shelves[shelf_index]
        ready = shelf.ledger.ready[rows]
        if not ready.all():
            shelf.ledger.behind[rows[~ready]] = True
            rows = rows[ready]
        if not len(rows):
            return
        target = self.engine.slots(shelf_index, rows)
        for batch in shelf.ledger.push(rows, target, self.forms, self._loop.time()):
            self._write(shelf, batch)

    def _write(self, shelf: Shelf, batch: Batch) -> None:
        """Sends frames: fixed header, topic, tail."""
        rows = batch.rows.tolist()
        topics, sends = _pick(rows, shelf.topics), _pick(rows, shelf.sends)
        heads = _HEADS[batch.qos]
        packets = [
            (
                heads[size]
                if (size := len(topic) + len(tail)) < _HEAD_TABLE
                else _head(batch.qos, size)
            )
            + topic
            + tail
            for topic, tail in zip(topics, batch.tails, strict=True)
        ]
        size = sum(map(len, packets))
        sent: list[int] = []
        while len(sent) < len(packets):
            at = len(sent)
            try:
                sent.extend(map(call, sends[at:], packets[at:]))
            except OSError:
                sent.append(0)  # no room, or the connection is about to be lost
        if sum(sent) != size:
            self._write_rest(shelf, rows, packets, sent)
        frames = self.counters.frames
        frames["sent"] += len(batch.tails)
        frames["bytes"] += size
        frames["snapshots"] += batch.snapshots
        frames["puts"] += batch.puts
        frames["removes"] += batch.removes
        frames["moves"] += batch.moves

    def _write_rest(
        self, shelf: Shelf, rows: list[int], packets: list[bytes], sent: list[int]
    ) -> None:
        """Leaves what a socket did not take to its transport, which pauses the connection."""
        for row, packet, count in zip(rows, packets, sent, strict=True):
            live = shelf.lives[row]
            if count < len(packet) and live is not None and live.connection is not None:
                live.connection.transport.write(packet[count:])

    # ---- Acknowledgements: PUBACK to ledger

    def schedule_acks(self) -> None:
        """PUBACKs are about to stand in a shelf's queue."""
        if not self._acks_scheduled:
            self._acks_scheduled = True
            self._loop.call_soon(self._take_acks)

    def _take_acks(self) -> None:
        self._acks_scheduled = False
        for index, shelf in enumerate(self.shelves):
            if not shelf.acks:
                continue
            acks = np.array(shelf.acks, np.int64)
            shelf.acks.clear()
            self.counters.frames["acked"] += len(acks)
            rows = (acks >> 16).astype(np.int32)
            due = shelf.ledger.acknowledge(
                rows, (acks & 0xFFFF).astype(np.uint16), self._loop.time()
            )
            if len(due):
                self._push(index, due)

    def released(self, connection: Connection, packet_id: int) -> None:
        """A QoS 2 frame is complete (PUBCOMP): from here on as a PUBACK."""
        if connection.ack_queue is not None:
            self.schedule_acks()
            connection.ack_queue.append(connection.row_key | packet_id)

    # ---- Connections

    def session_present(self, connection: Connection, session: Session | None) -> bool:
        """Whether state of a persistent session is at hand.

        After a restart that was not clean the frames in flight are lost: the session is new to its
        client, though its subscription is kept for those that never subscribe again.
        """
        if session is not None:
            return True
        profile = self._profile_of(connection)
        return profile is not None and profile.subscribed is not None and self._clean

    def connected(self, connection: Connection) -> None:
        """The client has its CONNACK: a persistent session gets what is unacknowledged again."""
        profile = self._profile_of(connection)
        if profile is None or profile.subscribed is None:
            return
        assert connection.connect is not None
        if connection.connect.clean_session:
            self._end_subscription(profile)
            return
        live = self._enlist(connection)
        if live is None:
            return
        live.qos = profile.subscribed
        connection.subscribed = True
        live.due = self._loop.time() + self.config.feed.hello_wait
        self._resend(live, connection)

    def _resend(self, live: Live, connection: Connection) -> None:
        """Sends again, with DUP and the same packet ids, what is unacknowledged (MQTT 3.1.1, 4.4)."""
        ledger = self.shelves[live.seat.shelf].ledger
        assert connection.session is not None
        releasing = connection.session.releasing
        for frame in ledger.unacknowledged(live.seat.row):
            if frame.packet_id in releasing:
                continue
            packet = _head(frame.qos, len(live.topic) + len(frame.tail)) + live.topic + frame.tail
            connection.transport.write(as_duplicate(packet))
            self.counters.frames["resent"] += 1

    def disconnected(self, connection: Connection) -> None:
        """The client's connection has ended, or was handed on."""
        if connection.identity is None or connection.identity.device is None:
            return
        live = self.lives.get(connection.identity.device)
        if live is None or live.connection is not connection:
            return
        self._take_acks()
        connection.ack_queue = None
        shelf, row = self.shelves[live.seat.shelf], live.seat.row
        shelf.ledger.disconnect(row)
        shelf.sends[row] = nowhere
        live.connection = None
        live.position = None
        live.due = 0.0
        live.away_since = self._loop.time()
        if not shelf.ledger.keep[row]:
            live.qos = None

    def _profile_of(self, connection: Connection) -> Profile | None:
        identity = connection.identity
        if identity is None or identity.device is None:
            return None
        return self.registry.get(identity.device)

    def _enlist(self, connection: Connection) -> Live | None:
        """The live device of a connection; None if it is unknown and registration is closed."""
        identity = connection.identity
        if identity is None or identity.device is None:
            return None
        live = self.lives.get(identity.device)
        if live is None:
            profile = self.registry.get(identity.device) or self.registry.enroll(identity.device)
            if profile is None:
                return None
            live = self._seat(profile)
        if live.connection is not connection:
            self._connect(live, connection)
        return live

    def _connect(self, live: Live, connection: Connection) -> None:
        """Joins a device and its connection."""
        shelf, row = self.shelves[live.seat.shelf], live.seat.row
        live.connection = connection
        live.said_hello = False
        live.position = None
        live.answered_at = float("-inf")
        shelf.sends[row] = connection.sender()
        connection.ack_queue = shelf.acks
        connection.row_key = row << 16
        assert connection.connect is not None
        keep = not connection.connect.clean_session
        if not keep:
            shelf.ledger.forget_inflight(row)
        shelf.ledger.keep[row] = keep

    # ---- Rows

    def _seat(self, profile: Profile) -> Live:
        """Gives a device a row: its window is filled by the engine, its ledger as far as it is known."""
        seat = self.engine.seat(
            follow=profile.follow,
            attrs=profile.effective_attrs(),
            k=profile.k,
            capacity=self._capacity(profile),
            dismissed=self._dismissed.get(profile.device, ()),
        )
        topic = f"{self._frames}{profile.device}".encode()
        live = Live(profile, seat, len(topic).to_bytes(2, "big") + topic)
        shelf = self.shelves[seat.shelf]
        shelf.put(seat.row, live)
        shelf.ledger.open(seat.row)
        self._fit(live)
        if profile.session is not None:
            shelf.ledger.unpack(seat.row, profile.session)
            profile.session = None
            live.proven = True
        self.lives[profile.device] = live
        self._schedule()
        return live

    def _unseat(self, live: Live) -> None:
        """Takes a device's row away; nothing of it may reach the row's next device."""
        shelf, row = self.shelves[live.seat.shelf], live.seat.row
        if live.connection is not None:
            live.connection.ack_queue = None
        shelf.forget_acks(row)
        shelf.ledger.detach(row)
        shelf.drop(row)
        self.engine.unseat(live.seat)
        self.lives.pop(live.profile.device, None)

    def _pack(self, live: Live) -> None:
        """Keeps a device's position while it has no row."""
        if live.proven:
            live.profile.session = self.shelves[live.seat.shelf].ledger.pack(live.seat.row)

    def _reseat(self, live: Live) -> Live:
        """Moves a device to the shelf of its new window length."""
        connection, qos, hello = live.connection, live.qos, live.said_hello
        self._take_acks()
        self._pack(live)
        self._unseat(live)
        moved = self._seat(live.profile)
        moved.proven, moved.saving, moved.c = live.proven, live.saving, live.c
        if connection is not None:
            keep = self.shelves[live.seat.shelf].ledger.keep[live.seat.row]
            self._connect(moved, connection)
            self.shelves[moved.seat.shelf].ledger.keep[moved.seat.row] = keep
        moved.qos, moved.said_hello = qos, hello
        return moved

    def _capacity(self, profile: Profile) -> int:
        return payload_capacity(profile.budget, profile.device, self.config.feed.prefix)

    def _fit(self, live: Live) -> None:
        profile = live.profile
        self.shelves[live.seat.shelf].ledger.fit(
            live.seat.row,
            k=profile.k,
            frame_max=_frame_max(profile.budget, len(live.topic)),
            payload_max=self._capacity(profile),
            clock=profile.clock,
        )

    # ---- Subscriptions and positions

    def subscribe(self, connection: Connection, qos: int) -> int:
        """Subscribes the connection's device to its frames; the SUBACK code.

        SUBSCRIBE without a hello before it says "I hold nothing".
        """
        live = self._enlist(connection)
        if live is None:
            self.counters.dropped["unknown_device"] += 1
            return REFUSED
        live.qos = qos
        connection.subscribed = True
        assert connection.connect is not None
        if not connection.connect.clean_session and live.profile.subscribed != qos:
            live.profile.subscribed = qos
            self._save(live.profile)
        if live.position is None or not live.said_hello:
            live.position = (0, 0)
        self._settle_soon(live)
        return qos

    def unsubscribe(self, connection: Connection) -> None:
        """Ends the subscription."""
        live = self._enlist(connection)
        if live is None:
            return
        live.qos = live.position = None
        connection.subscribed = False
        self.shelves[live.seat.shelf].ledger.detach(live.seat.row)
        if live.profile.subscribed is not None:
            self._end_subscription(live.profile)

    def _end_subscription(self, profile: Profile) -> None:
        """The persistent subscription is over, and with it what was in flight."""
        profile.subscribed = None
        self._save(profile)
        live = self.lives.get(profile.device)
        if live is not None:
            live.qos = None
            self.shelves[live.seat.shelf].ledger.forget_inflight(live.seat.row)

    def writable(self, connection: Connection, *, writable: bool) -> None:
        """The connection's buffer is full, or has room again."""
        identity = connection.identity
        live = self.lives.get(identity.device) if identity and identity.device else None
        if live is None or live.connection is not connection:
            return
        ledger, row = self.shelves[live.seat.shelf].ledger, live.seat.row
        ledger.block(row, blocked=not writable)
        if writable and ledger.behind[row]:
            self._push(live.seat.shelf, np.array([row], np.int32))

    def _settle_soon(self, live: Live) -> None:
        live.due = 0.0
        self._settling.append(live)
        self._schedule()

    def _settle_all(self) -> None:
        """Answers the positions that devices stated, all of one shelf together."""
        settling, self._settling = self._settling, []
        due: list[set[int]] = [set() for _ in self.shelves]
        for live in settling:
            if self.lives.get(live.profile.device) is not live:
                continue
            if not self.engine.filled(live.seat):
                self._settling.append(live)
            elif self._settle(live):
                due[live.seat.shelf].add(live.seat.row)
        for index, rows in enumerate(due):
            if rows:
                self._push(index, np.fromiter(rows, np.int32, len(rows)))

    def _settle(self, live: Live) -> bool:
        """Takes a device's word for its position; whether its row is to be pushed now."""
        position = live.position
        if position is None or live.qos is None or live.connection is None or live.saving:
            return False
        ledger, row = self.shelves[live.seat.shelf].ledger, live.seat.row
        if not live.proven:
            known = max(live.profile.epoch, position[0])
            self._begin_epoch(live, known + 1 if known else self._hours())
            return False
        answer = ledger.answer(row, *position)
        if answer is Answer.AHEAD:
            self._begin_epoch(live, position[0] + 1)
            return False
        live.position = None
        live.answered_at = self._loop.time()
        ledger.attach(row, min(live.qos, live.profile.max_qos))
        return True

    def _hours(self) -> int:
        return max(1, int(self.now() - _EPOCH_ZERO) // 3600)

    def _begin_epoch(self, live: Live, epoch: int) -> None:
        """Starts a new epoch, once the store knows of it."""
        live.saving = True
        live.profile.epoch = epoch
        ledger = self.shelves[live.seat.shelf].ledger
        ledger.detach(live.seat.row)

        def durable() -> None:
            current = self.lives.get(live.profile.device)
            if current is None:
                return
            current.saving, current.proven = False, True
            self.shelves[current.seat.shelf].ledger.begin_epoch(current.seat.row, epoch)
            if current.position is None:
                current.position = (0, 0)
            if current.connection is not None and current.qos is not None:
                self._settle_soon(current)

        self._save(live.profile, durable)

    # ---- Up messages

    def up(
        self, device: str, payload: bytes, connection: Connection, done: Callable[[], None]
    ) -> None:
        """Takes an up message; `done` is called when what it changes is durable or taken over."""
        try:
            message = decode_up(payload)
        except BadUp as error:
            self.counters.dropped[f"up_{error.reason.value}"] += 1
            done()
            return
        self.counters.up[type(message).__name__.lower()] += 1
        if isinstance(message, Bye):
            done()  # the end of the connection says the same to an embedded server
            return
        live = self.lives.get(device) if connection.closed_for else self._enlist(connection)
        if live is None:
            self.counters.dropped["unknown_device"] += 1
            done()
        elif isinstance(message, ProfileMessage):
            self._profile(live, message, done)
        else:
            if isinstance(message, Hello):
                self._hello(live, message)
            elif isinstance(message, Feedback):
                self._feedback(live, message)
            done()

    def _hello(self, live: Live, hello: Hello) -> None:
        """A position, and perhaps what the device can take."""
        position = (hello.epoch, hello.seq)
        if hello.options is not None:
            live.c = hello.options.c
            changed = self.registry.apply_hello(live.profile, hello.options)
            if changed.k or changed.budget:
                position = (0, 0)
            if changed.k and shelf_of(live.profile.k) != live.seat.shelf:
                live = self._reseat(live)
            elif changed.k or changed.budget:
                self.engine.change(
                    live.seat, k=live.profile.k, capacity=self._capacity(live.profile)
                )
            for reason in changed.refused:
                self.counters.dropped[f"hello_{reason}"] += 1
            if changed:
                self._fit(live)
                self._save(live.profile)
        repeated = live.said_hello and live.answered_at > float("-inf")
        live.said_hello = True
        live.position = position
        if live.qos is None:
            return
        early = live.answered_at + self.config.feed.hello_interval > self._loop.time()
        if repeated and early:
            self.counters.up["hello_deferred"] += 1
            self._deferred[live.profile.device] = None
        else:
            self._settle_soon(live)

    def _feedback(self, live: Live, feedback: Feedback) -> None:
        """What people did with items; each counts once, and only if it was sent here."""
        ledger, row = self.shelves[live.seat.shelf].ledger, live.seat.row
        for event in feedback.events:
            counted = ledger.count_feedback(row, event.n, event.kind)
            if counted is None:
                self.counters.dropped["feedback_unknown_item"] += 1
            elif not counted:
                self.counters.dropped["feedback_repeated"] += 1
            elif event.kind is Kind.SHOWN:
                self.engine.feedback(event.n, shown=1)
            elif event.kind is Kind.OPENED:
                self.engine.feedback(event.n, opened=1)
            elif event.kind is Kind.DISMISSED:
                self.engine.feedback(event.n, dismissed=1)
                self._dismiss(live, event.n)
        if self.engine.busy:
            self._schedule()

    def _dismiss(self, live: Live, n: int) -> None:
        """An item never returns to this device's window."""
        device = live.profile.device
        self._dismissed.setdefault(device, set()).add(n)
        self.engine.dismiss(live.seat, n)
        self.store.submit((Dismiss(device, n),)).add_done_callback(_failed)

    def _profile(self, live: Live, message: ProfileMessage, done: Callable[[], None]) -> None:
        """What the device follows and what it says of itself."""
        changed = self.registry.apply_profile(live.profile, message)
        for reason in changed.refused:
            self.counters.dropped[f"profile_{reason}"] += 1
        if not changed:
            self.barrier(done)
            return

        def durable() -> None:
            self._follow(live.profile)
            done()

        self._save(live.profile, durable)

    def _follow(self, profile: Profile) -> None:
        """The feed of a device follows its profile."""
        live = self.lives.get(profile.device)
        if live is not None:
            self.engine.change(live.seat, follow=profile.follow, attrs=profile.effective_attrs())
            self._schedule()

    # ---- The operator

    async def changed(self, profile: Profile) -> None:
        """Stores a profile that the operator changed and lets it take effect."""
        await self._saved(profile)
        self._follow(profile)

    async def removed(self, profile: Profile) -> None:
        """Forgets a device: its row, its dismissals, its connection."""
        live = self.lives.get(profile.device)
        if live is not None:
            connection = live.connection
            self._unseat(live)
            if connection is not None:
                connection.close("device_removed", keep_will=False)
        self._dismissed.pop(profile.device, None)
        await self._saved(profile)

    async def _saved(self, profile: Profile) -> None:
        durable = asyncio.Event()
        self._save(profile, durable.set)
        await durable.wait()

    def window(self, device: str) -> list[tuple[int, str | bytes]] | None:
        """A device's feed as the server has it: number and payload as sent; None if it has no row."""
        live = self.lives.get(device)
        if live is None:
            return None
        capacity = self._capacity(live.profile)
        shown: list[tuple[int, str | bytes]] = []
        for n in self.engine.window(live.seat):
            record = self.engine.item(n)
            if record is not None:
                shown.append((n, _shown(record, capacity)))
        return shown

    def describe(self, device: str) -> dict[str, Any]:
        """What is live of a device: its connection, its position, its window."""
        live = self.lives.get(device)
        if live is None:
            return {"connected": False, "subscribed": False, "window": None}
        ledger, row = self.shelves[live.seat.shelf].ledger, live.seat.row
        epoch, seq = ledger.position(row)
        return {
            "connected": live.connection is not None,
            "subscribed": live.qos is not None,
            "position": [epoch, seq],
            "unacknowledged": int(ledger.inflight[row]),
            "up_to_date": not bool(ledger.behind[row]),
            "window": self.window(device),
        }

    def status(self) -> dict[str, Any]:
        """The server in a few numbers, and all counts."""
        return {
            "connections": self.lane.connections,
            "devices": {
                "total": len(self.registry),
                "with_row": len(self.lives),
                "subscribed": sum(int(s.ledger.attached.sum()) for s in self.shelves),
                "stalled": sum(s.stalled for s in self.shelves),
            },
            "items": len(self.catalog),
            "store": {"up": self.store.up, "pending": self.store.pending},
            "engine": dict(self.engine.counters),
            "counters": self.counters.as_dict(),
        }

    # ---- Profiles in the store

    def _save(self, profile: Profile, then: Callable[[], None] | None = None) -> None:
        """Stores a profile with the next turn of work, together with all others."""
        waiting = self._unsaved.setdefault(profile.device, [])
        if then is not None:
            waiting.append(then)
        self._schedule()

    def _save_now(self) -> None:
        unsaved, self._unsaved = self._unsaved, {}
        ops: list[Op] = []
        for device in unsaved:
            profile = self.registry.get(device)
            ops.append(DropDevice(device) if profile is None else PutDevice(device, profile.pack()))

        def durable(future: asyncio.Future[None]) -> None:
            if _failed(future):
                return
            for waiting in unsaved.values():
                for then in waiting:
                    then()

        self.store.submit(ops).add_done_callback(durable)

    # ---- The timer

    def _on_timer(self) -> None:
        """What time alone brings about."""
        self._timer = self._loop.call_later(_TIMER, self._on_timer)
        self._expire()
        now = self._loop.time()
        for device in list(self._deferred):
            live = self.lives.get(device)
            if live is None or live.position is None:
                del self._deferred[device]
            elif live.answered_at + self.config.feed.hello_interval <= now:
                del self._deferred[device]
                self._settle_soon(live)
        if now >= self._watch_at:
            self._watch_at = now + 1.0
            self._watch(now)

    def _expire(self) -> None:
        """Items that are over leave every feed and the store."""
        now = self.now()
        over = self.catalog.expire(now)
        for n in self.engine.expire(now):
            self.forms.end(n)
        if over:
            self.counters.items["expired"] += len(over)
            ns = tuple(record.n for record in over)
            self.store.submit((DropItems(ns),)).add_done_callback(_failed)
            for numbers in self._dismissed.values():
                numbers.difference_update(ns)
        if self.engine.busy:
            self._schedule()

    def _watch(self, now: float) -> None:
        """Devices that wait, stall, or have been away for long."""
        feed = self.config.feed
        away = now - feed.away_after
        for live in list(self.lives.values()):
            if live.connection is None:
                if live.away_since < away and not live.saving:
                    self._pack(live)
                    self._unseat(live)
            elif live.due and live.due < now:
                if live.position is None:
                    live.position = (0, 0)
                self._settle_soon(live)
        for shelf in self.shelves:
            self._watch_acknowledgements(shelf, now)
            self._renew_epochs(shelf)

    def _watch_acknowledgements(self, shelf: Shelf, now: float) -> None:
        """Counts who has not acknowledged for long, and closes who has not for too long."""
        ledger, feed = shelf.ledger, self.config.feed
        waiting = np.flatnonzero(ledger.inflight[: len(shelf.lives)]).astype(np.int32)
        connected = waiting[ledger.attached[waiting]]
        stalled = ledger.stalled(connected, now - feed.stall_after)
        shelf.stalled = len(stalled)
        for row in ledger.stalled(stalled, now - feed.stall_close).tolist():
            live = shelf.lives[row]
            if live is not None and live.connection is not None:
                logger.info(
                    "closing %s: no acknowledgement for %.0f s",
                    live.profile.device,
                    feed.stall_close,
                )
                live.connection.abort("stalled")

    def _renew_epochs(self, shelf: Shelf) -> None:
        """A sequence number never wraps: long before, a new epoch begins."""
        for row in np.flatnonzero(shelf.ledger.seq > _SEQ_LIMIT).tolist():
            live = shelf.lives[row]
            if live is not None and not live.saving:
                self._begin_epoch(live, live.profile.epoch + 1)


def _pick(rows: list[int], column: list[_T]) -> Sequence[_T]:
    """The entries of these rows."""
    return itemgetter(*rows)(column) if len(rows) > 1 else [column[rows[0]]]


def _failed(future: asyncio.Future[None]) -> bool:
    """Whether a submission came to nothing, as happens only when the store closes."""
    return future.cancelled() or future.exception() is not None


def _shown(record: Record, capacity: int) -> str | bytes:
    """The payload that a device with this much room is sent."""
    item = record.item
    payload = item.payload
    size = len(payload.encode() if isinstance(payload, str) else payload)
    return item.brief if size > capacity and item.brief is not None else payload


_HEAD_TABLE = 16_384


def _head(qos: int, length: int) -> bytes:
    """The fixed header of a PUBLISH (MQTT 3.1.1, 3.3.1)."""
    return bytes((0x30 | qos << 1,)) + remaining_length(length)


_HEADS = [[_head(qos, length) for length in range(_HEAD_TABLE)] for qos in range(3)]


def _frame_max(budget: int, topic: int) -> int:
    """Bytes of payload that a PUBLISH of QoS ≥ 1 has within a packet budget."""
    header = 2 if budget <= 2 + 0x7F else 3 if budget <= 3 + 0x3FFF else 4
    return budget - header - topic - 2
