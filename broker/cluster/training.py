"""The one node that learns for all: it reads the feedback of all nodes, and publishes what serves.

Elected by a lease, and fenced by its token: what a trainer that was passed by publishes is refused, and
then it steps down. It learns in pieces on the event loop of its node, within a share of one core; what
goes beyond that is left out by `feedgen.ranking.sampling`.

What is lost when it dies: what it had learned since it last published all that it knows (`KEEP_EVERY`),
and the outcomes of what was shown less than a label window ago. What nobody had read waits in the store.
One that leaves in order loses only outcomes, as a server alone does when it is restarted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from time import thread_time
from typing import TYPE_CHECKING, Any

from broker.cluster.kept_state import KeptState
from broker.ranked_windows import log_switch
from feedgen.ranking import blobs
from feedgen.ranking.feedback_batches import BadBatch, decode
from feedgen.ranking.following import packed, packed_snapshot
from feedgen.ranking.leading import Leading
from feedgen.ranking.sampling import Pace
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Self

    from broker.counters import Counters
    from broker.decisions import Decisions
    from feedgen.items import Record
    from feedgen.ranking.following import Following
    from feedgen.ranking.heads import Served
    from feedgen.ranking.ladder import Rung
    from feedgen.store.shared import SharedStore

logger = logging.getLogger(__name__)

TASK = "trainer"
"""Of the lease."""
LEASE = 10.0
"""Seconds after which another node trains, when this one dies."""
SERVED = "ranking.served"
SNAPSHOT = "ranking.snapshot"
"""Published values: what serves, and the last good heads."""
KEEP_EVERY = 60.0

_KIND = "trainer"
_VERSION = 1
_TICK = 0.1
_PACE_EVERY = 5.0
_READ = 16
"""Batches that are read at a time: a hundredth of a second each."""
_QUEUED = 32
_LONGEST = 10.0
_SHARE = 10.0
"""Publishing takes at most a tenth of the time: packing what serves is work, too."""


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """How a node trains if it is elected.

    Attributes:
        budget: share of one core that learning may take.
        backlog: waiting batches of feedback from which the trainer is behind.
    """

    budget: float = 0.5
    backlog: int = 200


class Trainer:
    """Learns for all nodes while it holds the lease; make one by `begin`.

    Attributes:
        ranking: what learns.
        token: of the lease.
        held_until: time of the loop until which nobody else can have the lease. After that nothing is
            read or learned before it is renewed.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        token: int,
        ranking: Leading,
        kept: KeptState,
        *,
        node: str,
        store: SharedStore,
        record: Callable[[int], Record | None],
        decisions: Decisions,
        counters: Counters,
        wake: Callable[[], None],
    ) -> None:
        self.ranking = ranking
        self.token = token
        self._settings = settings
        self._kept = kept
        self._node = node
        self._store = store
        self._record = record
        self._decisions = decisions
        self._counters = counters
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self.held_until = self._loop.time() + LEASE
        self._pace = Pace(settings.budget, settings.backlog)
        self._queue: deque[bytes] = deque()
        self._reading = False
        self._more = False
        self._unreadable = 0
        self._closed = False
        self._allowance = 0.0
        self._busy = 0.0
        self._paced_at = self._loop.time()
        self._now = 0.0
        self._moved: set[int] = set()
        self._all_moved = True
        self._given: Served | None = None
        self._version = 0
        self._publish_at = self._keep_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(_TICK, self._tick)

    @classmethod
    async def begin(
        cls,
        settings: TrainerSettings,
        token: int,
        *,
        following: Following,
        store: SharedStore,
        **others: Any,
    ) -> Self:
        """Go on from what the trainer before published.

        Args:
            settings: see there.
            token: of the lease.
            following: what serves at this node: versions go on from there.
            store: what the nodes share.
            others: as for this class.

        Raises:
            StoreError: the store was closed.
        """
        kept = KeptState(store)
        ranking = await asyncio.to_thread(_restored, following, await kept.read())
        ranking.version = max(ranking.version, following.version + 1)
        ranking.ladder.pinned = following.ladder.pinned
        return cls(settings, token, ranking, kept, store=store, **others)

    # ---- Reading

    @property
    def held(self) -> bool:
        """Whether nobody else can be the trainer."""
        return not self._closed and self._loop.time() < self.held_until

    def _tick(self) -> None:
        """Allow some more time, and see that there is something to do in it."""
        self._timer = self._loop.call_later(_TICK, self._tick)
        budget = self._settings.budget
        self._allowance = min(self._allowance + _TICK * budget, 2 * _TICK * budget)
        self._read()
        elapsed = self._loop.time() - self._paced_at
        if elapsed >= _PACE_EVERY:
            self._keep_pace(elapsed)
        if self.waiting:
            self._wake()

    def _read(self) -> None:
        if self._reading or len(self._queue) >= _QUEUED or not self.held:
            return
        try:
            future = self._store.read_feedback(_READ)
        except StoreError:  # it is closed
            return
        self._reading = True
        future.add_done_callback(self._took)

    def _took(self, future: asyncio.Future[list[bytes]]) -> None:
        self._reading = False
        if future.cancelled() or future.exception() is not None:
            return
        self._queue += future.result()
        if self.waiting:
            self._wake()

    def _keep_pace(self, elapsed: float) -> None:
        sample = self.ranking.sample
        waiting = self._store.feedback_waiting + len(self._queue)
        halvings = self._pace.read(self._busy, elapsed, waiting, sample.halvings)
        self._busy, self._paced_at = 0.0, self._loop.time()
        if halvings != sample.halvings:
            sample.change(halvings, self._now)
            logger.info("the trainer learns from %.4g of all impressions now", sample.share)

    # ---- Learning

    def know(self, records: Sequence[Record]) -> None:
        """Items are about to be published: what is shown of them may be reported when they are over."""
        for record in records:
            if not record.retracted:
                self.ranking.items.of(record)

    def pin(self, rung: Rung | None) -> None:
        """An operator holds a rung, or lets go of it; all nodes are told in another way."""
        for event in self.ranking.ladder.pin(rung, self._now):
            log_switch(event)

    @property
    def waiting(self) -> bool:
        """Whether there is something for `work` that it may do now."""
        return bool(self._queue or self._more) and self._allowance > 0 and self.held

    def work(self, now: float) -> None:
        """Take another turn, or take in the events of a batch."""
        began = thread_time()
        if self._more:
            self._learn(now)
        else:
            self._hear(self._queue.popleft(), now)
        self._spend(thread_time() - began)

    def _hear(self, body: bytes, now: float) -> None:
        try:
            batch = decode(body)
        except BadBatch as error:
            self._unreadable += 1
            logger.warning("feedback of a node cannot be read: %s", error)
            return
        self._counters.ranking["sampled"] += self.ranking.hear(batch, self._record, now)

    def turn(self, now: float) -> None:
        """What is to be done about once a second."""
        self._now = max(now, self._now)
        if not self.held:
            return
        began = thread_time()
        self._learn(now)
        self._spend(thread_time() - began)
        self._publish_some()

    def _learn(self, now: float) -> None:
        turn = self.ranking.turn(now)
        self._more = turn.more
        self._counters.ranking["learned"] += turn.learned
        if turn.outcomes is not None:
            self._decisions.became(turn.outcomes)
        for event in turn.events:
            log_switch(event)
        self._moved |= turn.reterm
        self._all_moved |= turn.all_terms

    def _spend(self, seconds: float) -> None:
        self._busy += seconds
        self._allowance -= seconds

    # ---- Publishing

    def _publish_some(self) -> None:
        """Publish what is due, one thing at a time."""
        now = self._loop.time()
        if self._task is not None and not self._task.done():
            return
        if now >= self._keep_at:
            self._keep_at = now + KEEP_EVERY
            self._begin(self._publish_all())
        elif now >= self._publish_at and (self._all_moved or self._version != self.ranking.version):
            self._begin(self._publish_served())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(_explain)

    async def _publish_all(self) -> None:
        await self._publish_served()
        state = self.ranking.state()
        blob = await asyncio.to_thread(blobs.pack, _KIND, _VERSION, state)
        if self._fenced(await self._kept.write(blob, self.token)):
            return
        self._counters.ranking["saved"] += 1

    async def _publish_served(self) -> None:
        began = self._loop.time()
        snapshot = self.ranking.snapshot
        if snapshot is not None and snapshot is not self._given:
            blob = await asyncio.to_thread(packed_snapshot, snapshot)
            if not await self._publish(SNAPSHOT, blob):
                return
            self._given = snapshot
        state = self.ranking.served_state(self._moved, all_moved=self._all_moved)
        state["report"]["trainer"] = {**self.status(), "published": self._now}
        self._version, self._moved, self._all_moved = self.ranking.version, set(), False
        blob = await asyncio.to_thread(packed, state)
        if await self._publish(SERVED, blob):
            self._counters.ranking["published"] += 1
            self._store.tell(SERVED, b"")
        took = self._loop.time() - began
        wait = max(self.ranking.settings.refresh, min(_SHARE * took, _LONGEST))
        self._publish_at = self._loop.time() + wait

    async def _publish(self, name: str, blob: bytes) -> bool:
        return not self._closed and not self._fenced(
            await self._store.publish(name, blob, self.token)
        )

    def _fenced(self, published: bool) -> bool:
        """Whether somebody else is the trainer; then this one ends."""
        if not published:
            self.close()
        return not published

    # ---- The end

    async def leave(self) -> None:
        """Leave all that was learned to the next one, who may begin at once.

        Raises:
            StoreError: the store was closed.
        """
        if self._task is not None:
            await asyncio.wait([self._task])
        if self.held:
            await self._publish_all()
            await self._store.lease(TASK, 0.001)

    def close(self) -> None:
        """End: nothing is read, learned or published any more."""
        self._closed = True
        self._timer.cancel()
        self._queue.clear()

    # ---- Status

    @property
    def dropped(self) -> dict[str, int]:
        """What was not carried out, by reason."""
        learning = self.ranking.learning
        return {
            **{f"feedback_{why}": count for why, count in learning.labels.dropped.items()},
            "feedback_not_sampled": self.ranking.skipped,
            "feedback_unreadable": self._unreadable,
            "outcome_of_forgotten_item": learning.unlearned,
        }

    def status(self) -> dict[str, Any]:
        """How it does, as JSON."""
        return {
            "node": self._node,
            "sampled": self.ranking.sample.share,
            "backlog": self._store.feedback_waiting + len(self._queue),
            "load": self._pace.load,
        }


def _restored(following: Following, blob: bytes | None) -> Leading:
    """A ranking that goes on from a published state, or begins anew; for a thread."""
    ranking = Leading(following.settings)
    if blob is None:
        return ranking
    try:
        ranking.restore(blobs.unpack(blob, _KIND, _VERSION))
    except ValueError as error:
        logger.warning("the trainer begins anew: %s", error)
        return Leading(following.settings)
    return ranking


def _explain(task: asyncio.Task[None]) -> None:
    """Say why something was not published; that the store was closed is no fault."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, StoreError):
        logger.error("what was learned is not published", exc_info=error)
