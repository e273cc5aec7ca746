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
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from broker.acceptance import Acceptance, failed
from broker.decisions import DIRECTORY, Decisions
from broker.explanations import explaining
from broker.figures.histogram import Histogram
from broker.learning import LearningLoop
from broker.overload.coalescing import Gathered
from broker.overload.levels import EFFECTS, Level
from broker.overload.overload import Overload
from broker.overload.portions import Portion
from broker.overload.watch import Watch
from broker.positions import Positions
from broker.profiles import Profiles
from broker.receipts.reports import ItemReports
from broker.roster import Roster
from broker.sending import Sending
from devices import slots
from devices.frames import BadUp, Bye, Feedback, Hello, Kind, decode_up
from devices.frames import Profile as ProfileMessage
from devices.ledger import Ledger
from feedgen.catalog import Catalog
from feedgen.engine import SHELVES
from feedgen.items import URGENT, InvalidItem, Record, decode_item
from feedgen.store.base import Dismiss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker.acceptance import Items
    from broker.config import Config
    from broker.counters import Counters
    from broker.lane.connection import Connection
    from broker.lane.listener import Lane
    from broker.lane.session import Session
    from broker.overload.overload import Verdict
    from broker.overload.senders import Source
    from broker.profiles import ProfileKeeper
    from broker.ranked_windows import RankedWindows
    from broker.roster import Live, Shelf
    from devices.frames import Event
    from devices.ledger_rows import Rows
    from devices.profile import Profile
    from devices.registry import Registry
    from feedgen.engine import Engine
    from feedgen.ranking.following import Following
    from feedgen.ranking.ranking import Ranking
    from feedgen.store.base import Loaded, Store

logger = logging.getLogger(__name__)

_SLICE = 0.008
"""Seconds that one turn of work may take before the loop gets its turn."""

_ENOUGH = 2_000
"""Jobs of the engine above which only urgent items are added: what waits here is still known by its
priority, and overtaken by newer contents."""

_HURRY_PAUSE = 0.005
"""Seconds after an urgent item was brought to its devices at once before the next may be."""

_AT_ONCE = 100
"""Items that are given to the engine before the clock is looked at."""

_FEW, _MANY = 64, 2_048
"""Rows that are always sent at once, and the most that are before the clock is looked at."""

_COUNTED = {Kind.SHOWN: "shown", Kind.OPENED: "opened", Kind.DISMISSED: "dismissed"}
"""What popularity is made of."""

_STEP, _LEARNED_STEP, _LEAST_STEP = 16_384, 4_096, 512
"""What one step of the engine may take, in rows; a row whose items are scored costs some times more."""

_TIMER = 0.25
_WATCH = 1.0


class Popularity(Protocol):
    """Who counts what people do with items, where nothing is learned."""

    def feedback(self, n: int, *, shown: int = 0, opened: int = 0, dismissed: int = 0) -> None:
        """Count what devices did with an item; see `Engine.feedback`."""


class Service:
    """Joins the engine, the ledgers, the store and the connections of one server.

    It is what the lane knows as `Feed` and `Host`. Subscriptions and positions are `positions`, rows
    are `roster`, the last step to the sockets is `sending`, profiles on their way to disk `profiles`,
    and what is learned from feedback is `learning`.

    Args:
        config: The server's settings.
        store: An opened store.
        loaded: What it held.
        registry: Devices, filled from the store.
        engine: An empty engine; the live items are published to it here.
        counters: What happens is counted here.
        ranking: The engine's scoring, if it has one.
        clock: Unix seconds; a clock that goes back is held still.
        profiles: Makes what stores profiles, as `Profiles` does.
        catalog: What is known of items; without it this server numbers them by itself.
        acceptance: Makes what accepts items, as `Acceptance` does.
        learn: Makes what learns, as `LearningLoop` does.
        count: Makes what counts popularity of an engine, the counters and what wakes this service;
            without it the engine does.
    """

    # What a gateway beside an outside broker has in their place.
    ledger: type[Ledger] = Ledger
    sender: type[Sending] = Sending

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        loaded: Loaded,
        registry: Registry,
        engine: Engine,
        counters: Counters,
        ranking: Ranking | Following | None = None,
        clock: Callable[[], float] = time.time,
        profiles: Callable[..., ProfileKeeper] = Profiles,
        catalog: Catalog | None = None,
        acceptance: Callable[..., Items] = Acceptance,
        learn: Callable[..., RankedWindows] = LearningLoop,
        count: Callable[..., Popularity] | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.registry = registry
        self.engine = engine
        self.counters = counters
        self.lane: Lane = None  # type: ignore[assignment] # joined by `join`
        self.catalog = Catalog(loaded.next_n) if catalog is None else catalog
        self.catalog.load(loaded.records)
        self.items = acceptance(catalog=self.catalog, store=store, counters=counters, keeper=self)
        self._loop = asyncio.get_running_loop()
        self._wall = clock
        self._last_ms = 0
        self.overload = Overload(
            config.overload, config.budgets, config.ranking.priority_offsets, time.monotonic()
        )
        self.load = Watch(self.overload, self, engine, store)
        self._changed = Gathered(len(SHELVES))
        self._push_at = 0.0
        self._urgent = False
        self._hurry_at = 0.0
        self._personal = True
        self._later: asyncio.TimerHandle | None = None
        self.commits, self.chunks = Histogram(), Histogram()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch_at = 0.0
        self._stopping = False
        self.profiles = profiles(registry, store, self._schedule)
        self.roster = Roster(
            feed=config.feed,
            registry=registry,
            engine=engine,
            dismissed=loaded.dismissed,
            wake=self._schedule,
            ledger=self.ledger,
            budgets=config.budgets,
            clock=self.now,
        )
        self.sending = self.sender(self.roster.shelves, engine, counters)
        self.receipts = ItemReports(self.sending.receipts, engine, self.roster.shelves, config.data)
        self.receipts.load()
        self.sending.clock = self.now
        self.sending.push_on = self._push
        self.positions = Positions(
            feed=config.feed,
            session_expiry=config.limits.session_expiry,
            roster=self.roster,
            registry=registry,
            engine=engine,
            profiles=self.profiles,
            sending=self.sending,
            counters=counters,
            now=self.now,
            wake=self._schedule,
            bar=self._dismiss,
        )
        self.decisions = Decisions(
            config.data / DIRECTORY,
            config.ranking.decisions_max_bytes,
            wanted=ranking is not None and config.ranking.decisions,
        )
        self.keep_dismissal: Callable[[str, int], None] = self._keep_dismissal
        """Stores that a device has dismissed an item; a node sets another."""
        self._step = Portion(_LEAST_STEP, _STEP if ranking is None else _LEARNED_STEP)
        self._sent = Portion(_FEW, _MANY)
        self.popularity: Popularity = (
            engine if count is None else count(engine, counters, self._schedule)
        )
        self.learning: RankedWindows | None = None
        if ranking is not None:
            self.learning = learn(
                ranking=ranking,
                engine=engine,
                roster=self.roster,
                decisions=self.decisions,
                counters=counters,
                data=config.data,
                live_items=lambda: [record.n for record in self.catalog],
                wake=self._schedule,
            )
        self._publish_records(loaded.records)

    # ---- Life

    def join(self, lane: Lane) -> None:
        """The lane that carries this service's connections; starts the timer."""
        self.lane = lane
        self.decisions.open()
        self._expire()
        self._timer = self._loop.call_later(_TIMER, self._on_timer)
        self.load.start()
        self._schedule()

    def adopt(self, config: Config) -> None:
        """Goes by other settings from now on: limits, budgets, and times that devices have."""
        self.config = config
        self.overload.adopt(config.overload, config.budgets, time.monotonic())
        self.roster.adopt(config.budgets)
        self.positions.adopt(config.feed, config.limits.session_expiry)

    async def stop(self) -> None:
        """Ends in order: positions are kept, so that devices resume without a new epoch.

        Raises:
            StoreError: What was pending could not be written.
        """
        self._stopping = True
        self.load.stop()
        for timer in (self._timer, self._later):
            if timer is not None:
                timer.cancel()
        await self.lane.stop()
        self.sending.take_acks()
        for live in self.roster:
            self.pack(live)
        for session in self.lane.sessions.values():
            # What it holds beside its feed ends here, so all of it is new when it comes back.
            if session.holds_state and (profile := self.positions.device_of(session)) is not None:
                profile.session = None
                self.profiles.save(profile)
        for profile in self.registry:
            if profile.session is not None:
                self.profiles.save(profile)
        self.profiles.flush()
        if self.learning is not None:
            await self.learning.stop()
        await self.decisions.close()
        await self.receipts.stop()
        await self.store.close(clean=True)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for a turn of work or for the store."""
        admission = self.overload.admission
        items = len(admission) or admission.held or self._changed or self._later is not None
        waiting = self._scheduled or items or self.profiles.waiting or self.sending.waiting
        busy = self.positions.waiting or self.engine.busy or self._ranks or self.store.pending
        return not (waiting or busy)

    @property
    def _ranks(self) -> bool:
        """Whether items wait to be ranked by what was learned."""
        return self.learning is not None and self.learning.waiting

    def now(self) -> float:
        """Unix seconds; never less than before."""
        return self.now_ms() / 1000

    def now_ms(self) -> int:
        """The same in whole milliseconds."""
        self._last_ms = max(self._last_ms, int(self._wall() * 1000))
        return self._last_ms

    # ---- Items: PUBLISH to engine

    def item(
        self,
        channel: str,
        payload: bytes,
        *,
        dup: bool,
        done: Callable[[], None],
        publisher: str,
        qos: int = 1,
        source: Source | None = None,
    ) -> bool:
        """Takes an item of an authenticated user, "" if of none.

        `done` is called when it is durable, or refused. It counts for the budget and the rate of its
        `source`, if one is named; `reads` says what follows.

        Returns: False if it cannot be taken now; nothing has changed, and `done` is not called.
        """
        self.counters.items["received"] += 1
        size = len(payload)
        try:
            item = decode_item(channel, payload)
        except InvalidItem as error:
            self.counters.rejected[error.reason.value] += 1
            logger.info(
                "item on %.80r refused: %s (%s)",
                channel,
                error.reason.value,
                error.detail,
                extra={"channel": channel, "publisher": publisher, "reason": error.reason.value},
            )
            self._count_source(source, size, urgent=False)
            done()
            return True
        self._count_source(source, size, urgent=item.priority == URGENT)
        if qos:
            done = self._timed(done)
        return self.items.accept(item, dup=dup, publisher=publisher, qos=qos, done=done)

    def _timed(self, done: Callable[[], None]) -> Callable[[], None]:
        """`done`, and how long it took until it was called."""
        began, commits = time.monotonic(), self.commits

        def timed() -> None:
            commits.add(time.monotonic() - began)
            done()

        return timed

    def _count_source(self, source: Source | None, size: int, *, urgent: bool) -> None:
        if source is not None:
            self.overload.senders.took(source, size, time.monotonic(), urgent=urgent)

    def reads(self, source: Source) -> bool:
        """Whether a publisher may be read on: it has budget left, and does not send most at level 5."""
        return self.overload.senders.reads(source)

    def durable(self, record: Record) -> None:
        """A record holds from now on: it goes to the engine, at once or when its turn comes."""
        admission, now = self.overload.admission, time.monotonic()
        admission.put(record, now, new=self.engine.item(record.n) is None)
        if not admission.urgent:
            self._schedule_within(self.overload.effects.coalesce)
        elif now < self._hurry_at or self._stopping:
            self._schedule()
        else:
            self._hurry()

    def relieved(self) -> None:
        """The store has worked something off: publishers may be read again."""
        if not self.congested:
            self.lane.resume_paused()

    def barrier(self, done: Callable[[], None]) -> None:
        """Calls `done` when everything taken so far is durable."""
        if self.profiles.waiting:
            self.profiles.flush()

        def durable(future: asyncio.Future[None]) -> None:
            if not failed(future):
                done()

        self.store.submit(()).add_done_callback(durable)

    @property
    def items_waiting(self) -> int:
        """Items on their way to the store or, durable, to the engine."""
        return self.items.waiting + len(self.overload.admission)

    @property
    def congested(self) -> bool:
        """Whether publishers should be read no further."""
        return self.items_waiting > self.config.limits.max_pending_items or self.items.congested

    def pauses(self, source: Source) -> bool:
        """Whether a publisher is read no further, as too much is on its way.

        One that sends urgent items alone is, until there is twice too much.
        """
        if not self.congested:
            return False
        too_much = self.items_waiting > 2 * self.config.limits.max_pending_items
        return too_much or self.items.congested or not self.overload.senders.urgent_alone(source)

    def _publish_records(self, records: Iterable[Record]) -> None:
        records = list(records)
        self.receipts.accepted(records, self.now())
        behind = time.monotonic() - self._wall()  # what has to be added to a time of the wall
        tags = [slots.pack(r.n, r.version, r.item.priority) for r in records]
        for record, tag in zip(records, tags, strict=True):
            if record.retracted:
                self.sending.forms.end(record.n)
            else:
                self.sending.forms.add(tag, record)
                self.sending.times.accepted(tag, behind + record.published_ms / 1000)
        if self.learning is not None:
            self.learning.prepare(records)
            self.learning.forget_items(record.n for record in records if record.retracted)
        self.engine.publish(records, tags)

    # ---- Work: engine to frames

    def _schedule(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._work)

    def _schedule_within(self, seconds: float) -> None:
        """Lets what may come meanwhile be done together with what is there."""
        if not seconds:
            self._schedule()
        elif not self._scheduled and self._later is None:
            self._later = self._loop.call_later(seconds, self._schedule)

    def _work(self) -> None:
        """One turn of work; comes back while there is more."""
        self._scheduled = False
        if self._stopping:
            return
        until = self._loop.time() + _SLICE
        if self.profiles.waiting:
            self.profiles.flush()
        self._admit(until)
        now = self.now()
        while self.engine.busy:
            self._step_engine(now)  # once at least, whatever went before
            if self._loop.time() >= until:
                break
            if self.engine.caught_up and self.overload.admission.held:
                self._admit(until)  # what was held on purpose goes before what can wait
        self._push_gathered(max(until, self._loop.time() + _SLICE / 2))
        if self.positions.waiting:
            self.positions.settle_all()
        if self.learning is not None:
            self.learning.note_decisions()
            while self.learning.waiting and self._loop.time() < until:
                self.learning.work(now)
        admission = self.overload.admission
        items = len(admission) or admission.held or self._changed
        if items or self.engine.busy or self.positions.waiting or self._ranks:
            self._schedule()
        else:
            self.sending.forms.forget_ended()

    def _hurry(self) -> None:
        """Brings urgent items to their devices in this very step.

        A turn of work would come after everything else that waits for the loop. But it serves many at once, so those
        that come close behind are left to it.
        """
        now = self.now()
        self._give(self.overload.admission.take(0, now, spare=False), now)
        self._step_engine(now, urgent=True)
        self._hurry_at = time.monotonic() + _HURRY_PAUSE
        self._schedule()

    def _step_engine(self, now: float, *, urgent: bool = False) -> None:
        """One bounded piece of the engine's work, and what it changed sent on."""
        began, began_here = time.monotonic(), time.thread_time()
        background = not self.overload.admission.held
        changes = self.engine.step(now, self._step.rows, urgent=urgent, background=background)
        self.chunks.add(time.monotonic() - began)
        self._step.took(time.thread_time() - began_here, more=self.engine.busy and not urgent)
        for change in changes:
            self._push(change.shelf, change.rows, urgent=self._urgent)
        self._urgent = self._urgent and self.engine.urgent

    def _admit(self, until: float) -> None:
        """Gives the engine what may go on; if it has enough to do, only urgent items."""
        admission, left = self.overload.admission, self.overload.effects.batch
        while True:
            spare = self.engine.caught_up
            most = min(left, _AT_ONCE) if spare or self.engine.size.jobs < _ENOUGH else 0
            now = self.now()
            records = admission.take(most, now, spare=spare)
            if not records:
                return
            self._give(records, now)
            left -= len(records)
            if left <= 0 or self._loop.time() >= until - _SLICE / 2:
                return

    def _give(self, records: list[Record], now: float) -> None:
        """Gives the engine records whose turn has come."""
        self._urgent |= any(record.item.priority == URGENT for record in records)
        self._publish_records(records)
        if any(record.expires <= now for record in records):
            self._expire()  # before anybody is shown what has waited for too long
        self.load.gave((record.n for record in records), time.monotonic())

    def _push(self, shelf: int, rows: Rows, *, urgent: bool = True) -> None:
        """Sends rows that changed, or lets them wait: for their turn, or for other changes of theirs.

        Rows that lack an urgent item never wait; `urgent` says whether there can be any.
        """
        coalesce = self.overload.effects.coalesce
        if not coalesce and len(rows) <= _FEW:
            self.sending.push(shelf, rows)
            return
        if urgent:
            found = self.sending.urgent(shelf, rows)
            self.sending.push(shelf, rows[found])
            rows = rows[~found]
        self._changed.add(shelf, rows, self._loop.time())
        self._schedule_within(coalesce)

    def _push_gathered(self, until: float) -> None:
        """Sends what has waited for long enough, or for nothing."""
        if not self._changed:
            return
        began = self._loop.time()
        admission = self.overload.admission
        if began < self._push_at and (self.engine.busy or len(admission) or admission.held):
            return
        now = began
        while self._changed and now < until:
            began_here = time.thread_time()
            for shelf, rows in self._changed.take(self._sent.rows, now):
                self.sending.push(shelf, rows)
            self._sent.took(time.thread_time() - began_here, more=bool(self._changed))
            now = self._loop.time()
        if not self._changed:
            self._push_at = began + self.overload.effects.coalesce

    # ---- Load

    @property
    def oldest_change(self) -> float:
        """Seconds that changes of windows have waited to be sent, for longer than they are to."""
        since = self._changed.since
        waited = 0.0 if since is None else self._loop.time() - since
        return max(waited - self.overload.effects.coalesce, 0.0)

    @property
    def items_at_store(self) -> int:
        """Items that wait for the store."""
        return self.items.waiting

    def load_changed(self, verdict: Verdict) -> None:
        """Another level of overload begins."""
        effects = EFFECTS[verdict.level]
        # What ranks everything anew comes back when there is time for it, not as soon as there would be without.
        back = verdict.level is Level.NORMAL
        self._personal = effects.personal and (self._personal or back)
        diverse = effects.diverse and (self.engine.diverse or back)
        if self.learning is not None:
            self.learning.lighten(diverse=diverse, personal=self._personal, now=self.now())
        if diverse and not self.engine.diverse:
            # What was shown meanwhile goes by keys alone.
            for index, shelf in enumerate(self.roster.shelves):
                rows = [row for row, live in enumerate(shelf.lives) if live is not None]
                self._changed.add(index, np.array(rows, np.int32), self._loop.time())
        self.engine.diverse = diverse
        self._schedule()

    # ---- Connections: what the lane reports

    def session_present(self, connection: Connection, session: Session | None) -> bool:
        """Whether state of a persistent session is at hand."""
        return self.positions.session_present(connection, session)

    def discard_session(self, connection: Connection) -> None:
        """The client asks for a new session."""
        self.positions.discard_session(connection)

    def connected(self, connection: Connection) -> None:
        """The client was accepted and has its CONNACK."""
        self.positions.connected(connection)

    def disconnected(self, connection: Connection) -> None:
        """The client's connection has ended."""
        self.positions.disconnected(connection)

    def session_over(self, session: Session) -> None:
        """A persistent session has expired."""
        self.positions.session_over(session)

    def session_revoked(self, session: Session) -> None:
        """The operator has ended a session."""
        self.positions.session_revoked(session)

    def subscribe(self, connection: Connection, qos: int) -> int:
        """Subscribes the connection's device to its frames; the SUBACK code."""
        return self.positions.subscribe(connection, qos)

    def unsubscribe(self, connection: Connection) -> None:
        """Ends the subscription."""
        self.positions.unsubscribe(connection)

    def schedule_acks(self) -> None:
        """PUBACKs are about to stand in a shelf's queue."""
        self.sending.schedule_acks()

    def released(self, connection: Connection, packet_id: int) -> None:
        """A QoS 2 frame is complete (PUBCOMP)."""
        self.sending.released(connection, packet_id)

    def writable(self, connection: Connection, *, writable: bool) -> None:
        """The connection's buffer is full, or has room again."""
        live = self.roster.live_of(connection)
        if live is None:
            return
        ledger, row = self.roster.ledger(live), live.seat.row
        ledger.block(row, blocked=not writable)
        if writable and ledger.behind[row]:
            self.sending.push_row(live)

    # ---- Up messages

    def up(self, payload: bytes, connection: Connection, done: Callable[[], None]) -> None:
        """Takes an up message of the connection's device.

        `done` is called when what it changes is durable (a profile) or taken over (the rest).
        """
        try:
            message = decode_up(payload)
        except BadUp as error:
            self.counters.dropped[f"up_{error.reason.value}"] += 1
            done()
            return
        self.counters.up[type(message).__name__.lower()] += 1
        if self.config.budgets.device_messages:
            self._count_talker(connection, len(payload))
        if isinstance(message, Bye):
            done()  # the end of the connection says the same to an embedded server
            return
        live = self.roster.enlist(connection)
        if live is None:
            self.counters.dropped["unknown_device"] += 1
            done()
        elif isinstance(message, ProfileMessage):
            self._profile(live, message, done)
        else:
            if isinstance(message, Hello):
                if live.connection is connection:
                    self.positions.hello(live, message)
                else:
                    self.counters.dropped["hello_without_frames"] += 1  # a will
            elif isinstance(message, Feedback):
                self._feedback(live, message)
            done()

    def _count_talker(self, connection: Connection, size: int) -> None:
        """Reads no further from a device that has said more than it may in an hour."""
        assert connection.identity is not None, "who says something has been let in"
        source = (
            "",
            f"u/{connection.identity.client_id}",
        )  # not the client, which may publish items, too
        if not self.overload.talkers.took(source, size, time.monotonic()):
            self.lane.stop_reading(connection, source)

    def _feedback(self, live: Live, feedback: Feedback) -> None:
        """What people did with items; each counts once, and only if it was sent here."""
        ledger, row = self.roster.ledger(live), live.seat.row
        for event in feedback.events:
            counted = ledger.count_feedback(row, event.n, event.kind, event.value or 0)
            if counted is None:
                self.counters.dropped["feedback_unknown_item"] += 1
            elif not counted:
                self.counters.dropped["feedback_repeated"] += 1
            else:
                self.counters.up["events_counted"] += 1
                self.receipts.heard(event.n, event.kind.name.lower())
                self._rank_by(live, event)
                if event.kind is Kind.DISMISSED:
                    self._dismiss(live, event.n)
        if self.engine.busy:
            self._schedule()

    def _rank_by(self, live: Live, event: Event) -> None:
        """What somebody did with an item, for the ranking that there is."""
        if self.learning is not None:
            self.learning.heard(live, event, self.now())
        elif self.config.ranking.model != "newest" and event.kind in _COUNTED:
            self.popularity.feedback(event.n, **{_COUNTED[event.kind]: 1})

    def _dismiss(self, live: Live, n: int) -> None:
        """An item never returns to this device's window."""
        if self.engine.item(n) is None:
            return  # it is over, and so never returns anyway
        self.roster.dismiss(live, n)
        self.keep_dismissal(live.profile.device, n)

    def _keep_dismissal(self, device: str, n: int) -> None:
        self.store.submit((Dismiss(device, n),)).add_done_callback(failed)

    def dismissed_elsewhere(self, device: str, n: int) -> None:
        """Another node has stored a dismissal of a device that is here by now, or was."""
        live = self.roster.get(device)
        if live is not None and self.engine.item(n) is not None:
            self.roster.dismiss(live, n)
            self._schedule()

    def _profile(self, live: Live, message: ProfileMessage, done: Callable[[], None]) -> None:
        """What the device follows and what it says of itself."""
        changed = self.registry.apply_profile(live.profile, message)
        for reason in changed.refused:
            self.counters.dropped[f"profile_{reason}"] += 1
        if not changed and self.profiles.settled(live.profile.device):
            self.barrier(done)
            return

        def durable() -> None:
            self.follow(live.profile)
            done()

        self.profiles.save(live.profile, durable)

    def follow(self, profile: Profile) -> None:
        """The feed of a device follows its profile."""
        live = self.roster.get(profile.device)
        if live is not None:
            self.engine.change(live.seat, follow=profile.follow, attrs=profile.effective_attrs())
            self.roster.attributes_changed(live)
            self._schedule()

    # ---- The operator

    async def changed(self, profile: Profile) -> None:
        """Stores a profile that the operator changed and lets it take effect."""
        await self.profiles.write(profile)
        self.follow(profile)

    async def ended(self, profile: Profile, reason: str) -> None:
        """Ends the connections and sessions of a profile for this reason, and stores it."""
        self.lane.forget(profile.device, reason)
        await self.profiles.write(profile, reason)
        self.follow(profile)

    async def removed(self, profile: Profile) -> None:
        """Forgets a device: its connections and sessions, its row, its dismissals, its decisions.

        Raises:
            StoreError: Its decisions are still in the log; all else is gone.
        """
        device = profile.device
        self.lane.forget(device, "device_removed", keep_will=False)
        live = self.roster.get(device)
        if live is not None:
            self.roster.unseat(live)
        self.roster.forget_device(device)
        try:
            # Before the profile, so that a device that is gone has no decisions, whenever we are killed.
            await (self.learning or self.decisions).erase(device, self.now())
        finally:
            self.profiles.drop(device)
            await self.profiles.write(profile, "device_removed")

    def window(self, device: str) -> list[tuple[int, str | bytes]] | None:
        """A device's feed as the server has it: number and payload as sent; None if it has no row."""
        live = self.roster.get(device)
        if live is None:
            return None
        capacity = self.roster.capacity(live.profile)
        shown: list[tuple[int, str | bytes]] = []
        for n in self.engine.window(live.seat):
            record = self.engine.item(n)
            if record is not None:
                shown.append((n, _shown(record, capacity)))
        return shown

    def describe(self, device: str) -> dict[str, Any]:
        """What is live of a device: its connection, its position, its window."""
        live = self.roster.get(device)
        barred = self.roster.barred(device)
        if live is None:
            return {"connected": False, "subscribed": False, "barred": barred, "window": None}
        ledger, row = self.roster.ledger(live), live.seat.row
        epoch, seq = ledger.position(row)
        return {
            "connected": live.connection is not None,
            "subscribed": live.qos is not None,
            "position": [epoch, seq],
            "unacknowledged": int(ledger.inflight[row]),
            "up_to_date": not bool(ledger.behind[row]),
            "allowance": self.roster.budget(live),
            "failed_connections": int(ledger.failures[row]),
            "barred": barred,
            "window": self.window(device),
        }

    async def explain(self, device: str) -> dict[str, Any] | None:
        """Why a device's feed is as it is, item by item; None if it has no row, or gives it back.

        The loop has its turn between any two items: what was learned takes a while to explain.
        """
        live = self.roster.get(device)
        if live is None:
            return None
        ranking = None if self.learning is None else self.learning.ranking
        items = []
        for item in explaining(live, self.engine, ranking, self.now()):
            record = self.engine.item(item["n"])
            payload = None if record is None else _shown(record, self.roster.capacity(live.profile))
            items.append({**item, "payload": payload})
            await asyncio.sleep(0)
            if not self.roster.holds(live):
                return None
        held_out = any(item["held_out"] for item in items)
        return {"device": device, **self._ranking(), "held_out": held_out, "items": items}

    def status(self) -> dict[str, Any]:
        """The server in a few numbers, and all counts."""
        return {
            "connections": self.lane.connections,
            "devices": {
                "total": len(self.registry),
                "with_row": len(self.roster),
                "subscribed": sum(int(s.ledger.attached.sum()) for s in self.roster.shelves),
                "stalled": sum(s.stalled for s in self.roster.shelves),
            },
            "items": len(self.catalog),
            "store": {"up": self.store.up, "pending": self.store.pending},
            "engine": dict(self.engine.counters),
            "overload": self.overload.state(time.monotonic()).as_dict(),
            "budgets": self.budgets(),
            "ranking": self._ranking(),
            "counters": self._counts(),
        }

    def budgets(self) -> dict[str, int]:
        """How many devices wait for a budget, or are left alone in quiet hours."""
        columns = [shelf.allowances for shelf in self.roster.shelves if shelf.allowances]
        return {
            "devices_waiting": sum(int(each.waiting.sum()) for each in columns),
            "devices_quiet": sum(int(each.quiet.sum()) for each in columns),
            "put_off": sum(each.put_off for each in columns),
        }

    def _ranking(self) -> dict[str, Any]:
        """What ranks, in a few words; `ranking_status` has all of it."""
        if self.learning is None:
            return {"model": self.config.ranking.model}
        ranking = self.learning.ranking
        return {"model": "learned", "rung": ranking.rung.name.lower(), "version": ranking.version}

    def _counts(self) -> dict[str, dict[str, int]]:
        counts = self.counters.as_dict()
        if self.learning is not None:
            counts["dropped"] |= {
                why: count for why, count in self.learning.dropped.items() if count
            }
        return counts

    # ---- The timer

    def _on_timer(self) -> None:
        """What time alone brings about."""
        self._timer = self._loop.call_later(_TIMER, self._on_timer)
        self._expire()
        self.items.tick()
        self.receipts.tick(self.now())
        now = self._loop.time()
        self.positions.tick(now)
        if now >= self._watch_at:
            self._watch_at = now + _WATCH
            self._watch(now)

    def _expire(self) -> None:
        """Items that are over leave every feed and the store."""
        now = self.now()
        over = self.catalog.expire(now)
        self.receipts.over(over, now)
        for n in self.engine.expire(now):
            self.sending.forms.end(n)
        if over:
            self.counters.items["expired"] += len(over)
            self.items.drop(over)
            ns = [record.n for record in over]
            self.roster.forget_items(ns)
            # An update of what is shown goes on even so: the old content might be shown for longer.
            self.overload.admission.forget(n for n in ns if self.engine.item(n) is None)
            if self.learning is not None:
                self.learning.forget_items(ns)
        if self.engine.busy:
            self._schedule()

    def _watch(self, now: float) -> None:
        """Devices that wait, stall, or have been away for long."""
        for live in self.roster.away_since(now - self.config.feed.away_after):
            self.pack(live)
            self.roster.unseat(live)
        for index, shelf in enumerate(self.roster.shelves):
            if shelf.allowances is not None and shelf.allowances.active:
                self.sending.push(index, shelf.allowances.due(self.now()))
            self._watch_acknowledgements(shelf, now)
            self.positions.renew_epochs(shelf)
        if self.learning is not None:
            self.learning.turn(self.now())
            if self.engine.busy:
                self._schedule()

    def pack(self, live: Live) -> None:
        """Keeps a device's position, and when it was last here."""
        away = 0.0 if live.connection is not None else self._loop.time() - live.away_since
        live.profile.seen = int(self.now() - away)
        self.roster.pack(live)

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
                    extra={
                        "device": live.profile.device,
                        "seq": ledger.position(row)[1],
                        "reason": "stalled",
                    },
                )
                live.connection.abort("stalled")


def _shown(record: Record, capacity: int) -> str | bytes:
    """The payload that a device with this much room is sent."""
    item = record.item
    payload = item.payload
    size = len(payload.encode() if isinstance(payload, str) else payload)
    return item.brief if size > capacity and item.brief is not None else payload
