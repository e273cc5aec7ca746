"""Nodes that learn together: real engines and rosters over one shared store, without any connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from broker import ranking_state
from broker.cluster.trainer import learning_for_node
from broker.cluster.training import TrainerSettings
from broker.config import FeedSettings
from broker.counters import Counters
from broker.decisions import Decisions
from broker.roster import Live, Roster
from devices.frames import Event, Kind
from devices.registry import Registry
from feedgen.engine import Engine
from feedgen.items import Item, Record
from feedgen.ranking.labelled import Settings as LabelSettings
from feedgen.ranking.model import ModelSettings
from feedgen.ranking.rungs import Rung
from feedgen.ranking.settings import RankingSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from feedgen.store.shared import SharedStore

SETTINGS = RankingSettings(
    start=Rung.LIVE,
    holdout=0.0,
    explore=0.0,
    refresh=0.05,
    model=ModelSettings(bits=12),
    labels=LabelSettings(window=0.2, per_hour=1e6, burst=10**6, max_share=1.0),
)
"""Quick to learn, and without chance."""


def record(n: int, channel: str, at: float | None = None) -> Record:
    """An item that was published now, or at `at`."""
    at = time.time() if at is None else at
    item = Item(channel, f"i{n}", "x", tags=())
    return Record(n, 0, item, int(at * 1000), int(at) + 10**6, b"", publisher="somebody")


class LearningNode:
    """One node, as far as its ranking is concerned.

    Args:
        name: of the node.
        store: its hold on what the nodes share.
        data: a directory.
        settings: of the ranking.
        training: how it trains if it is elected.
    """

    def __init__(
        self,
        name: str,
        store: SharedStore,
        data: Path,
        settings: RankingSettings = SETTINGS,
        training: TrainerSettings | None = None,
    ) -> None:
        self.name = name
        self.store = store
        self.counters = Counters()
        self.ranking = ranking_state.following(settings, time.time())
        self.engine = Engine(
            landmark=time.time(),
            settings=settings.value,
            scoring=self.ranking,
            repeats=settings.repeats,
            record_decisions=True,
        )
        self.registry = Registry(open_mode=True, default_follow=("#",))
        self.roster = Roster(
            feed=FeedSettings(),
            registry=self.registry,
            engine=self.engine,
            dismissed=(),
            wake=lambda: None,
        )
        self.live: dict[int, Record] = {}
        self.learning = learning_for_node(
            ranking=self.ranking,
            store=store,
            node=name,
            training=training,
            engine=self.engine,
            roster=self.roster,
            decisions=Decisions(data / name, 1 << 25, wanted=False),
            counters=self.counters,
            data=data,
            live_items=lambda: list(self.live),
            wake=lambda: None,
        )
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def joined(cls, name: str, store: Any, data: Path, **options: Any) -> LearningNode:
        """A node that has joined the store and takes its turns."""
        node = cls(name, store, data, **options)
        await store.join(name, node)
        node.go_on()
        return node

    # ---- Changes: what the store tells

    def told(self, kind: str, body: bytes, node: str) -> None:  # noqa: ARG002 - whoever it is
        """Another node tells all."""
        self.learning.told(kind, body)

    def accepted(self, records: Sequence[Record]) -> None: ...
    def changed(self, device: str, notice: str) -> None: ...
    def taken(self, device: str) -> None: ...
    def posted(self, bodies: Sequence[bytes]) -> None: ...
    def members(self, nodes: frozenset[str]) -> None: ...
    def missed(self) -> None: ...

    # ---- Life

    def go_on(self) -> None:
        """Take turns from now on."""
        self._task = asyncio.create_task(self._turns())

    async def pause(self) -> None:
        """Take no turns, as a process that hangs."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _turns(self) -> None:
        while True:
            self.learning.turn(time.time())
            self.work()
            await asyncio.sleep(0.01)

    def work(self) -> None:
        """Do all there is to do at this moment."""
        for _ in range(1000):
            if self.learning.waiting:
                self.learning.work(time.time())
            elif self.engine.busy:
                self.engine.step(time.time())
            else:
                return

    async def stop(self) -> None:
        """End in order."""
        await self.pause()
        await self.learning.stop()
        await self.store.close(clean=True)

    async def die(self) -> None:
        """End as a process that is killed."""
        await self.pause()
        for task in self.learning._tasks:
            task.cancel()
        await asyncio.gather(*self.learning._tasks, return_exceptions=True)
        if self.learning.trainer is not None:
            self.learning.trainer.close()
        self.store.kill()  # type: ignore[attr-defined] # memory only

    # ---- What happens

    def publish(self, *records: Record) -> None:
        """Items are accepted at any node, and so reach this one."""
        self.live |= {each.n: each for each in records}
        self.learning.prepare(records)
        self.engine.publish(records, [each.n << 8 | 1 for each in records])
        self.work()

    def seat(self, device: str) -> Live:
        """A device connects here."""
        live = self.roster.get(device)
        if live is None:
            profile = self.registry.enroll(device)
            assert profile is not None
            live = self.roster.seat(profile)
            self.work()
        return live

    def hear(self, device: str, n: int, kind: Kind, value: int | None = None) -> None:
        """A device reports something."""
        self.learning.heard(self.seat(device), Event(n, kind, value), time.time())

    def react(self, devices: Sequence[str], likes: Sequence[str]) -> int:
        """Devices see all items and open those of some channels; returns impressions."""
        for device in devices:
            for rank, (n, each) in enumerate(self.live.items()):
                self.hear(device, n, Kind.SHOWN, rank)
                if each.item.channel in likes:
                    self.hear(device, n, Kind.OPENED)
        return len(devices) * len(self.live)

    def channels(self, device: str) -> list[str]:
        """The channels of a device's window, best first."""
        window = self.engine.window(self.seat(device).seat)
        return [self.live[n].item.channel for n in window]
