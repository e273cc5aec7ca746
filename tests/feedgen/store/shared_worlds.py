"""Shared stores to test: several nodes on one loop, in memory, on one Redis, on a Redis Cluster."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from feedgen.items import Record, decode_item, digest
from feedgen.store.memory_node import MemoryNode
from feedgen.store.memory_shared import SharedMemory
from feedgen.store.redis import RedisSettings, RedisStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.store import Loaded
    from feedgen.store.shared import SharedStore

LEASE = 2.0
START = 4_000_000_000
"""Unix seconds of the tests' clock, in 2096: by the clock of Redis nothing is over."""
_serial = count()


def record(
    n: int,
    version: int = 0,
    *,
    name: str = "",
    payload: bytes = b"storm",
    channel: str = "alerts/weather",
    expires: int = START + 86_400,
) -> Record:
    """An item; of its own id, unless `name` says which."""
    item = replace(decode_item(channel, payload), id=name or f"item-{n}")
    return Record(n, version, item, 1_700_000_000_000 + n, expires, digest(item))


class Heard:
    """What a node was told, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.changes: list[tuple[str, str]] = []
        self.taken_from: list[str] = []
        self.told_of: list[tuple[str, bytes, str]] = []
        self.letters: list[bytes] = []
        self.nodes: frozenset[str] = frozenset()
        self.times_missed = 0
        self.on_taken: Any = None

    def accepted(self, records: Sequence[Record]) -> None:
        self.records += records

    def changed(self, device: str, notice: str) -> None:
        self.changes.append((device, notice))

    def taken(self, device: str) -> None:
        self.taken_from.append(device)
        if self.on_taken is not None:
            self.on_taken(device)

    def told(self, kind: str, body: bytes, node: str) -> None:
        self.told_of.append((kind, body, node))

    def posted(self, bodies: Sequence[bytes]) -> None:
        self.letters += bodies

    def members(self, nodes: frozenset[str]) -> None:
        self.nodes = nodes

    def missed(self) -> None:
        self.times_missed += 1

    def latest(self) -> dict[tuple[str, str], Record]:
        """The last that was heard of each id."""
        return {(each.item.channel, each.item.id): each for each in self.records}

    def versions(self) -> dict[int, list[int]]:
        """The versions heard of each number, in order."""
        found = defaultdict(list)
        for each in self.records:
            found[each.n].append(each.version)
        return dict(found)


@dataclass
class Node:
    """A node, what it was told, and what it found when it joined."""

    store: SharedStore
    heard: Heard
    loaded: Loaded


@dataclass
class World:
    """A shared store of its own for one test.

    Attributes:
        url: of a Redis; "" for memory.
        now: Unix seconds, by which items are over.
    """

    url: str = ""
    settings: RedisSettings = field(default_factory=RedisSettings)
    now: float = START
    nodes: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.memory = SharedMemory(clock=lambda: self.now, lease=LEASE, block=64)
        self.settings = replace(
            self.settings,
            prefix=f"test{next(_serial)}:",
            item_partitions=4,
            device_partitions=8,
            lease=LEASE,
            number_block=64,
        )

    def store(self, url: str = "") -> SharedStore:
        """Another hold on it, not open."""
        if not self.url:
            return self.memory.node()
        return RedisStore(url or self.url, self.settings, clock=lambda: self.now)

    async def join(self, name: str, url: str = "") -> Node:
        """Another node of it."""
        store, heard = self.store(url), Heard()
        node = self.nodes[name] = Node(store, heard, await store.join(name, heard))
        return node

    async def kill(self, name: str) -> None:
        """A node's process dies."""
        store = self.nodes.pop(name).store
        if isinstance(store, MemoryNode):
            store.kill()
            return
        assert isinstance(store, RedisStore)
        await kill(store)

    async def leave(self, name: str) -> None:
        """A node stops."""
        await self.nodes.pop(name).store.close(clean=True)

    async def end(self) -> None:
        """All nodes stop."""
        for name in list(self.nodes):
            await self.leave(name)


async def kill(store: RedisStore) -> None:
    """End all that a store does, as if its process had died."""
    for task in store._tasks:
        task.cancel()
    await asyncio.gather(*store._tasks, return_exceptions=True)
    store._is_open = store._session.is_open = False
    store._devices.stop()
    await store._session.pipelines.close()
