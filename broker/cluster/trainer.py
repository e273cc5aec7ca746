"""The learned ranking of one node: it tells the trainer what it hears, and serves what was learned.

Whoever gets the lease is the trainer, so each node also stands for it; see `training`. What serves is loaded as a
whole and taken over between two turns of the loop; only then are windows ranked by it, in bounded pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from broker.cluster.training import LEASE, SERVED, SNAPSHOT, TASK, Trainer, TrainerSettings
from broker.ranked_windows import RankedWindows, value_of
from feedgen.ranking.feedback_batches import MAX_EVENTS, Batching
from feedgen.ranking.following import Adopted, read_snapshot
from feedgen.ranking.rungs import Rung
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

    from broker.roster import Live
    from devices.frames import Event as Heard
    from feedgen.items import Record
    from feedgen.ranking.following import Following
    from feedgen.ranking.heads import Served
    from feedgen.store.shared import SharedStore

logger = logging.getLogger(__name__)

PIN = "ranking.pin"
"""The published value that names the rung an operator holds."""

_SEND_EVERY = 0.2
"""Seconds that feedback waits for more of it."""
_ELIGIBLE_EVERY = 60.0
_LONGEST_POLL = 10.0
_STOPPING = 5.0
"""Seconds that a stopping node waits for the store."""
_NONE = b"none"


class NodeLearning(RankedWindows):
    """Follows what one of many nodes learns, and learns if it is that one.

    Args:
        ranking: what serves; the engine's scoring.
        store: what the nodes share, joined.
        node: name of this one.
        training: how this node trains if it is elected.
        others: see `RankedWindows`.

    Attributes:
        trainer: while this node trains.
        unreadable: published values that could not be used.
    """

    ranking: Following

    def __init__(
        self,
        *,
        ranking: Following,
        store: SharedStore,
        node: str,
        training: TrainerSettings | None = None,
        **others: Any,
    ) -> None:
        super().__init__(ranking=ranking, **others)
        self.trainer: Trainer | None = None
        self.unreadable = 0
        self._store = store
        self._node = node
        self._training = training or TrainerSettings()
        self._loop = asyncio.get_running_loop()
        self._batching = Batching(node, ranking.settings.fields)
        self._sending: asyncio.TimerHandle | None = None
        self._eligible_at = 0.0
        self._now = 0.0
        self._seen = dict.fromkeys((SERVED, SNAPSHOT, PIN), 0)
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._pinning: asyncio.Future[bool] | None = None

    # ---- What happens

    def prepare(self, records: Sequence[Record]) -> None:
        """Items are about to be published."""
        super().prepare(records)
        if self.trainer is not None:
            self.trainer.know(records)

    def forget_items(self, ns: Iterable[int]) -> None:
        """Items are over."""
        ns = list(ns)
        super().forget_items(ns)
        if self.trainer is not None:
            self.trainer.ranking.forget_items(ns)

    def heard(self, live: Live, event: Heard, now: float) -> None:
        """Somebody did something with an item, which counts: the trainer is told."""
        shelf, row = live.seat.shelf, live.seat.row
        who = self.ranking.people.reporter(shelf, row)
        self._batching.heard(
            event.kind.name.lower(),
            event.n,
            value_of(event),
            now - (event.age or 0),
            now,
            who.device,
            live.profile.effective_attrs,
            held_out=who.held_out,
        )
        self._stir(live, event)
        if len(self._batching) >= MAX_EVENTS:
            self._send()
        elif self._sending is None:
            self._sending = self._loop.call_later(_SEND_EVERY, self._send)

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._batching.empty:
            return
        events = len(self._batching)
        try:
            self._store.feedback(self._batching.take())
        except StoreError:  # it is closed, and this server ends
            self._counters.dropped["feedback_after_the_end"] += events
        else:
            self._counters.ranking["told"] += events

    def told(self, kind: str, body: bytes) -> None:  # noqa: ARG002 - that there is news is all
        """Another node tells all: something was published."""
        if kind in self._seen:
            self._news.set()

    # ---- Turns

    def turn(self, now: float) -> None:
        """What is to be done about once a second."""
        self._now = max(now, self._now)
        self._begin()
        self.ranking.tick(now)
        self.note_decisions()
        self._look_around(now)
        if now >= self._eligible_at:
            self._eligible_at = now + _ELIGIBLE_EVERY
            self._batching.eligible(*self.ranking.eligible(now))
            self._batching.compared(*self.ranking.take_compared())
            self._send()
        if self.trainer is not None:
            self.trainer.turn(now)
        if self.waiting:
            self._wake()

    @property
    def waiting(self) -> bool:
        """Whether there is something for `work`."""
        return super().waiting or (self.trainer is not None and self.trainer.waiting)

    def work(self, now: float) -> None:
        """Rank some items anew, or learn something where this node trains."""
        if super().waiting:
            super().work(now)
        elif self.trainer is not None:
            self.trainer.work(now)

    # ---- What was learned

    async def warm_up(self) -> None:
        """Serve what was learned before the first device comes.

        Raises:
            StoreError: the store was closed meanwhile.
        """
        await self._load()

    def _begin(self) -> None:
        if not self._tasks:
            self._tasks = [
                self._loop.create_task(_until_closed(each))
                for each in (self._load_for_ever, self._stand)
            ]

    async def _load_for_ever(self) -> None:
        while True:
            self._news.clear()
            await self._load()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self.ranking.settings.refresh, _LONGEST_POLL)):
                    await self._news.wait()

    async def _load(self) -> None:
        """Take over what was published since the last time."""
        # The snapshot first: what is published after it may say that it serves.
        names = (PIN, SNAPSHOT, SERVED)
        found = await asyncio.gather(
            *(self._store.latest(name, self._seen[name]) for name in names)
        )
        for name, published in zip(names, found, strict=True):
            # It may have been closed for good by now, or another load was quicker.
            if published is None or published[0] <= self._seen[name]:
                continue
            missed = published[0] != self._seen[name] + 1
            self._seen[name] = published[0]
            try:
                await self._take_over(name, published[1], missed=missed)
            except ValueError as error:
                self.unreadable += 1
                logger.warning("what was published as %s cannot be used: %s", name, error)

    async def _take_over(self, name: str, blob: bytes, *, missed: bool) -> None:
        settings = self.ranking.settings
        if name == PIN:
            self._hold(_rung(blob))
        elif name == SNAPSHOT:
            snapshot: Served = await asyncio.to_thread(read_snapshot, blob, settings)
            self.ranking.adopt_snapshot(snapshot)
            self._rank_all()
        else:
            adopted = await asyncio.to_thread(Adopted.read, blob, settings)
            self._adopt(adopted, all_moved=missed or adopted.all_moved)
        self._wake()

    def _adopt(self, adopted: Adopted, *, all_moved: bool) -> None:
        events = self.ranking.adopt(adopted, self._now)
        self._counters.ranking["adopted"] += 1
        self._follow(events)
        if events or all_moved:
            self._rank_all()
        else:
            self._terms.update(dict.fromkeys(adopted.moved))
        self._learned_anew()
        self._refresh_some()

    def pin(self, rung: Rung | None, now: float) -> None:
        """Hold a rung at all nodes, or with None leave the choice to the evidence again."""
        self._hold(rung, now)
        body = _NONE if rung is None else rung.name.lower().encode()
        # The last word counts, whoever has it: no token is higher than another.
        self._pinning = self._store.publish(PIN, body, 0)
        self._store.tell(PIN, b"")
        self._wake()

    def _hold(self, rung: Rung | None, now: float | None = None) -> None:
        if rung is self.ranking.ladder.pinned:
            return
        events = self.ranking.pin(rung, self._now if now is None else now)
        self._follow(events)
        if events:
            self._rank_all()
        if self.trainer is not None:
            self.trainer.pin(rung)

    # ---- Who trains

    async def _stand(self) -> None:
        """Stand for trainer, again and again; whoever is one renews its lease."""
        while True:
            asked = self._loop.time()
            token = await self._store.lease(TASK, LEASE)
            if self.trainer is not None and token != self.trainer.token:
                self._step_down()
            if token is not None and self.trainer is None:
                self.trainer = await Trainer.begin(
                    self._training,
                    token,
                    node=self._node,
                    store=self._store,
                    following=self.ranking,
                    record=self._engine.item,
                    decisions=self.decisions,
                    counters=self._counters,
                    wake=self._wake,
                )
                logger.info("this node trains the ranking for all")
            if self.trainer is not None:
                self.trainer.held_until = asked + LEASE
            await asyncio.sleep(LEASE / 3)

    def _step_down(self) -> None:
        """Another node trains from now on."""
        if self.trainer is not None:
            self.trainer.close()
            self.trainer = None
            logger.warning("this node trains no more: its lease of the task was lost")

    # ---- Life

    async def save(self) -> None:
        """Wait until the store has what an operator pinned."""
        if self._pinning is not None:
            await self._pinning

    async def stop(self) -> None:
        """Tell what is not told; a trainer leaves all that it knows to the next one."""
        self.note_decisions()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._send()
        if self.trainer is not None:
            with contextlib.suppress(TimeoutError, StoreError):
                async with asyncio.timeout(_STOPPING):
                    await self.trainer.leave()
            self.trainer.close()
            self.trainer = None

    # ---- Reading

    @property
    def dropped(self) -> dict[str, int]:
        """What was not carried out, by reason; of feedback what this node knows of all of it."""
        trainer = self.trainer
        return {
            "feedback_unread": self._store.feedback_dropped,
            "ranking_unreadable": self.unreadable,
            **({} if trainer is None else trainer.dropped),
            **self.decisions.dropped,
        }

    def status(self) -> dict[str, Any]:
        """How the ranking does, as JSON."""
        report = self.ranking.status()
        told = report.get("trainer") or {}
        trainer = self.trainer
        return {
            "model": "learned",
            **report,
            "trainer": {
                **told,
                **({} if trainer is None else trainer.status()),
                "here": trainer is not None,
                "age": max(self._now - told["published"], 0.0) if told else None,
            },
            "holdout": self.ranking.settings.holdout,
            "decisions_fault": self.decisions.fault,
        }


def _rung(body: bytes) -> Rung | None:
    """The rung that an operator holds.

    Raises:
        ValueError: it is none of ours.
    """
    if body == _NONE:
        return None
    rungs = {rung.name.lower().encode(): rung for rung in Rung}
    if body not in rungs:
        raise ValueError(f"{body!r:.40} is no rung")
    return rungs[body]


async def _until_closed(work: Callable[[], Awaitable[None]]) -> None:
    """Do this until the store is closed, whatever happens."""
    while True:
        try:
            await work()
        except StoreError as error:
            logger.info("the ranking follows nobody any more: %s", error)
            return
        except Exception:
            logger.exception("following or training the ranking failed, and begins again")
            await asyncio.sleep(1.0)


def learning_for_node(*, data: Path, **options: Any) -> NodeLearning:  # noqa: ARG001 - see below
    """What learns at a node, made of what a server alone makes its `LearningLoop` of, and more.

    Args:
        data: the data directory, where a node keeps nothing of it: all that was learned is shared.
        options: see `NodeLearning`.
    """
    return NodeLearning(**options)
