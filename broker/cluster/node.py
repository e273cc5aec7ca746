"""One server as a node: what it is put together of beyond a server alone, and what it hears from others."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.cluster import commands
from broker.cluster.arrivals import Arrivals
from broker.cluster.directory import Directory
from broker.cluster.dismissals import Dismissals
from broker.cluster.drain import drain
from broker.cluster.items import SharedItems
from broker.cluster.pulse import Pulse
from broker.cluster.residence import Host, Residence
from broker.cluster.shared_counts import SharedCounts
from broker.cluster.stores import durability
from broker.cluster.trainer import NodeLearning, learning_for_node
from feedgen.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from broker.acceptance import Items
    from broker.access.door import Door
    from broker.admin.arguments import Handler
    from broker.config import ClusterSettings
    from broker.counters import Counters
    from broker.profiles import ProfileKeeper
    from broker.service import Service
    from devices.registry import Registry
    from feedgen.engine import Engine
    from feedgen.items import Record
    from feedgen.store.base import Loaded
    from feedgen.store.shared import SharedStore

logger = logging.getLogger(__name__)

_LEAVING = 10.0
"""Seconds that a stopping node waits for the store to take what it held."""


class Node:
    """One of several servers that share a store. It is what the store tells of `Changes`.

    Args:
        name: Its name; no other node that is alive has it.
        store: What the nodes share.
        registry: Profiles of those who are here.
        settings: Times.

    Attributes:
        name: Its name.
        alive: The nodes that are alive, this one included.
        directory: What it holds.
    """

    def __init__(
        self, name: str, store: SharedStore, registry: Registry, settings: ClusterSettings
    ) -> None:
        self.name = name
        self.alive = frozenset({name})
        self.directory = Directory(store, registry, node=name, wait=settings.handover_wait)
        self._store = store
        self._settings = settings
        self._arrivals: Arrivals | None = None
        self._items: SharedItems | None = None
        self._pulse = Pulse()
        self._counts: SharedCounts | None = None
        self._learning: NodeLearning | None = None
        self._residence: Residence | None = None
        self._service: Service | None = None
        self._dismissals: Dismissals | None = None
        self._early: list[Callable[[], None]] = []
        self._erasing: set[asyncio.Task[None]] = set()

    # ---- Putting together

    async def join(self) -> Loaded:
        """Becomes a node, and reads every live item.

        Raises:
            StoreError: The store cannot be used.
        """
        return await self._store.join(self.name, self)

    def parts(self) -> dict[str, Any]:
        """What a `Service` has of a node in the place of what it has alone."""
        return {
            "catalog": Catalog(number=self._store.number),
            "acceptance": self._acceptance,
            "profiles": self._profiles,
            "learn": self._learn,
            "count": self._count,
        }

    def _acceptance(self, **parts: Any) -> Items:
        self._items = SharedItems(**parts, stood_still=self._pulse.stood_still)
        return self._items

    def _profiles(
        self, _registry: Registry, _store: SharedStore, wake: Callable[[], None]
    ) -> ProfileKeeper:
        self.directory.wake = wake
        return self.directory

    def _learn(self, **parts: Any) -> NodeLearning:
        self._learning = learning_for_node(store=self._store, node=self.name, **parts)
        return self._learning

    def _count(self, engine: Engine, counters: Counters, wake: Callable[[], None]) -> SharedCounts:
        self._counts = SharedCounts(engine, self._store, counters, wake)
        return self._counts

    def door(self, door: Door) -> Arrivals:
        """The door of this node, by that of a server alone."""
        self._arrivals = Arrivals(
            door,
            self.directory,
            self._store,
            wait=self._settings.handover_wait,
            stood_still=self._pulse.stood_still,
        )
        return self._arrivals

    async def warm_up(self) -> None:
        """Loads what was learned, before the first client comes.

        Raises:
            StoreError: The store was closed meanwhile.
        """
        if self._learning is not None:
            await self._learning.warm_up()

    def host(self, service: Service) -> Host:
        """What the lane talks to; what was heard since `join` has its turn now."""
        self._service = service
        self._dismissals = Dismissals(self.name, self._store, service)
        service.keep_dismissal = self._dismissals.keep
        self._residence = Residence(self.name, self.directory, service)
        self.directory.resident = self._residence
        early, self._early = self._early, []
        for each in early:
            each()
        return Host(service, self._residence)

    # ---- Changes: what other nodes did

    def accepted(self, records: Sequence[Record]) -> None:
        """Items as they are now."""
        if self._service is None or self._items is None:
            self._early.append(partial(self.accepted, tuple(records)))
        else:
            self._items.accepted(records)

    def changed(self, device: str, notice: str) -> None:
        """A profile was written elsewhere, or is gone."""
        if notice == "device_removed" and self._service is not None:
            self._erase(self._service, device)
        self.directory.changed(device)

    def taken(self, device: str) -> None:
        """Another node has claimed a device, or wants it."""
        self.directory.taken(device)

    def told(self, kind: str, body: bytes, node: str) -> None:  # noqa: ARG002 (whoever it is)
        """What another node tells all: what its devices did with items."""
        for each in (self._learning, self._counts, self._dismissals):
            if each is not None:
                each.told(kind, body)

    def posted(self, bodies: Sequence[bytes]) -> None:
        """Nobody leaves messages for a node that devices connect to."""

    def members(self, nodes: frozenset[str]) -> None:
        """Another set of nodes is alive."""
        for name in sorted(nodes - self.alive):
            logger.info("node %s is there", name)
        for name in sorted(self.alive - nodes):
            logger.warning("node %s is gone", name)
        self.alive = nodes

    def missed(self) -> None:
        """Anything may have happened to what this node holds."""
        self.directory.missed()

    def _erase(self, service: Service, device: str) -> None:
        """What was decided for a removed device is erased at every node."""

        async def erase() -> None:
            await (service.learning or service.decisions).erase(device, service.now())

        def erased(task: asyncio.Task[None]) -> None:
            self._erasing.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("decisions of a removed device are still in the log: %s", error)

        task = asyncio.get_running_loop().create_task(erase())
        self._erasing.add(task)
        task.add_done_callback(erased)

    # ---- The end

    async def drain(self, hurry: asyncio.Event) -> None:
        """Lets all clients go elsewhere, a few at a time; with `hurry` what is left at once."""
        assert self._service is not None
        assert self._arrivals is not None
        self._arrivals.closed = True
        await drain(self._service.lane, self._settings.drain_seconds, hurry)

    async def stop(self) -> None:
        """Lets go of everything that is held; connections have ended."""
        assert self._service is not None
        if self._counts is not None:
            self._counts.tell()
        if self._erasing:
            await asyncio.wait(self._erasing)
        self._service.profiles.flush()
        try:
            async with asyncio.timeout(_LEAVING if self._store.up else 0):
                await self.directory.all_left()
        except TimeoutError:
            logger.warning("%d devices are not let go of: the store is away", self.directory.held)
        self.directory.close()
        self._pulse.stop()

    # ---- The operator

    def commands(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The commands on profiles, for all of the fleet."""
        return commands.fleetwide(handlers, self.directory, self._store)

    async def holder(self, device: str) -> str:
        """The node that a device is at, "" for none."""
        return await commands.holder(self._store, device)

    def status(self) -> dict[str, Any]:
        """This node among the others, as JSON."""
        return {
            "node": self.name,
            "members": sorted(self.alive),
            "held": self.directory.held,
        }

    def store_status(self) -> dict[str, Any]:
        """What all share, as JSON."""
        return {
            "fault": self._store.fault,
            "errors": self._store.errors,
            "numbers_left": self._store.numbers_left,
            "durability": durability(self._store),
        }
