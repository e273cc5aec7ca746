"""A shared store that lives as long as the process: the readable specification of `SharedStore`.

`SharedMemory` is the world that all nodes share; `SharedMemory.node` is one node's hold on it. Several
nodes live on one event loop. A node can be cut off (`away`) and killed, as tests need it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from feedgen.store.memory_node import MemoryNode
from feedgen.store.shared import Claim, Conflict, Fenced, Found, Late, Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from feedgen.items import Record
    from feedgen.store.memory_node import Word
    from feedgen.store.shared import Answer

MAX_POSTED = 100_000
"""Messages that wait for a node that is not there; the oldest go first."""
MAX_FEEDBACK = 100_000
"""Feedback bodies that wait for the trainer; the oldest go first."""


@dataclass(slots=True)
class _Device:
    """What is kept of a device.

    Attributes:
        version: of the profile; 0 where `blob` is None.
        blob: the profile.
        token: of the last claim; 0 before the first.
        holder: the node that has claimed it and not let go, "" for none.
        clean: whether the last holder let go of it.
        dismissed: numbers of items.
        by: the node that has claimed it last, whether it has let go or not.
        made: when; monotonic seconds.
        claimed: when it did so last, or confirmed it.
    """

    version: int = 0
    blob: bytes | None = None
    token: int = 0
    holder: str = ""
    clean: bool = True
    dismissed: set[int] = field(default_factory=set)
    by: MemoryNode | None = None
    made: float = 0.0
    claimed: float = 0.0

    def ago(self, node: MemoryNode) -> float:
        """Seconds since another node claimed it, inf if the last one was this one."""
        return inf if self.by in {None, node} else monotonic() - self.claimed


@dataclass(slots=True)
class _Lease:
    token: int = 0
    holder: MemoryNode | None = None
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Wish:
    """A claim that waits for another node to let go."""

    node: MemoryNode
    future: asyncio.Future[Claim | Late]


class SharedMemory:
    """The world that nodes share.

    Args:
        clock: Unix seconds; items are over and leases end by it.
        lease: Seconds that a node counts as alive after it was cut off.
        block: Item numbers that a node takes at a time.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, lease: float = 5.0, block: int = 4096
    ) -> None:
        self.clock = clock
        self.lease = lease
        self.block = block
        self.nodes: dict[str, MemoryNode] = {}
        self.records: dict[int, Record] = {}
        self.numbers: dict[tuple[str, str], int] = {}
        self.next_n = 1
        self.clean = True
        self.key = secrets.token_bytes(32)
        self.devices: defaultdict[str, _Device] = defaultdict(_Device)
        self.wishes: defaultdict[str, list[_Wish]] = defaultdict(list)
        self.leases: defaultdict[str, _Lease] = defaultdict(_Lease)
        self.posted: defaultdict[str, deque[bytes]] = defaultdict(lambda: deque(maxlen=MAX_POSTED))
        self.feedback: deque[bytes] = deque()
        self.feedback_dropped = 0
        self.published: dict[str, tuple[int, bytes, int]] = {}
        self._last = 0

    def node(self) -> MemoryNode:
        """A new hold on this world, not open yet."""
        return MemoryNode(self)

    def serial(self) -> int:
        """A number higher than all before: tokens and versions, also of a device that comes back."""
        self._last += 1
        return self._last

    def alive(self) -> frozenset[str]:
        """Names of the nodes that are there, or were until less than a lease ago."""
        return frozenset(name for name, node in self.nodes.items() if node.alive)

    def say(self, word: Word, by: MemoryNode | None, is_kept: bool = False) -> None:
        """Tell all nodes but one; `is_kept` for what must not be missed."""
        for node in self.nodes.values():
            if node is not by:
                node.hear(word, is_kept)

    def present(self, key: tuple[str, str]) -> Record | None:
        """The record of a channel and id, None if there is none or its time is over."""
        record = self.records.get(self.numbers.get(key, 0))
        return None if record is None or record.expires <= self.clock() else record

    def keep(self, record: Record) -> None:
        """Put a record in place of an earlier one of its number, and of its id."""
        self.records[record.n] = record
        self.numbers[record.item.channel, record.item.id] = record.n
        self.next_n = max(self.next_n, record.n + 1)

    def put_item(self, record: Record, over: Record | None, by: MemoryNode) -> Record | None:
        """See `SharedStore.put_item`."""
        present = self.present((record.item.channel, record.item.id))
        if present is not None and present != over:
            return present
        self.keep(record)
        self.say(lambda changes: changes.accepted((record,)), by, is_kept=True)
        return None

    def find(self, device: str) -> Found:
        """See `SharedStore.fetch`."""
        kept = self.devices.get(device, _Device())
        return Found(kept.version, kept.blob, kept.holder)

    def profiles(self, after: str = "") -> list[str]:
        """Ids of stored profiles above `after`, in order."""
        stored = (device for device, kept in self.devices.items() if kept.blob is not None)
        return sorted(device for device in stored if device > after)

    def held_by(self, node: str) -> list[str]:
        """See `SharedStore.held_by`."""
        return sorted(device for device, kept in self.devices.items() if kept.holder == node)

    def claim(
        self,
        node: MemoryNode,
        future: asyncio.Future[Claim | Late],
        device: str,
        wait: float,
        since: float,
    ) -> None:
        """Grant a claim now, or when the holder let go or `wait` is over; or not at all, if it comes too late."""
        wish = _Wish(node, future)
        kept = self.devices.get(device, _Device())
        holder, ago = kept.holder, kept.ago(node)
        if ago < monotonic() - since:
            if not future.done():
                future.set_result(Late(ago))
            return
        held = holder != wish.node.name and holder in self.alive()
        if held:
            self.nodes[holder].hear(lambda changes: changes.taken(device))
        if held and wait > 0:
            self.wishes[device].append(wish)
            asyncio.get_running_loop().call_later(wait, self._pass_by, wish, device)
        else:
            self._grant(wish, device)

    def still_held(self, device: str, token: int) -> float | None:
        """See `SharedStore.still_held`."""
        kept = self.devices.get(device, _Device())
        if kept.token != token or not kept.holder:
            return None
        kept.claimed = monotonic()
        return kept.claimed - kept.made

    def put_device(
        self,
        device: str,
        blob: bytes | None,
        version: int,
        token: int | None,
        release: bool,
    ) -> Answer:
        """See `SharedStore.put_device`; who is told of it is up to the caller."""
        kept = self.devices.get(device, _Device())
        if blob is None and kept.blob is None and not kept.token:
            self.devices.pop(device, None)
            return Written(0)
        if token is not None and token != kept.token:
            return Fenced()
        if version != kept.version:
            return Conflict(kept.version, kept.blob)
        if blob is None:
            del self.devices[device]
            return Written(0)
        kept.version, kept.blob = self.serial(), blob
        self.devices[device] = kept
        if release:
            self.release(device)
        return Written(kept.version)

    def release(self, device: str) -> None:
        """Let go of a device, and give it to the first who waits."""
        self.devices[device].holder, self.devices[device].clean = "", True
        if wishes := self.wishes.get(device):
            self._grant(wishes.pop(0), device)
            for _ in wishes:
                holder = self.nodes[self.devices[device].holder]
                holder.hear(lambda changes: changes.taken(device))

    def take_lease(self, name: str, node: MemoryNode, seconds: float) -> int | None:
        """See `SharedStore.lease`."""
        lease, now = self.leases[name], self.clock()
        if lease.holder is not node:
            if lease.until > now:
                return None
            lease.token, lease.holder = lease.token + 1, node
        lease.until = now + seconds
        return lease.token

    def add_feedback(self, body: bytes) -> None:
        """See `SharedStore.feedback`."""
        self.feedback.append(body)
        if len(self.feedback) > MAX_FEEDBACK:
            self.feedback.popleft()
            self.feedback_dropped += 1

    def publish(self, name: str, blob: bytes, token: int) -> bool:
        """See `SharedStore.publish`."""
        number, _, seen = self.published.get(name, (0, b"", 0))
        if token < seen:
            return False
        self.published[name] = (number + 1, blob, token)
        return True

    def tell_members(self) -> None:
        """Tell everybody who is alive now."""
        alive = self.alive()
        self.say(lambda changes: changes.members(alive), by=None)

    def _pass_by(self, wish: _Wish, device: str) -> None:
        if wish in self.wishes[device]:
            self.wishes[device].remove(wish)
            self._grant(wish, device)

    def _grant(self, wish: _Wish, device: str) -> None:
        kept = self.devices[device]
        clean, kept.clean = kept.clean, False
        ago = kept.ago(wish.node)
        kept.token, kept.holder = self.serial(), wish.node.name
        kept.by, kept.made = wish.node, monotonic()
        kept.claimed = kept.made
        never = tuple(sorted(kept.dismissed))
        claim = Claim(kept.token, kept.version, kept.blob, clean, never, ago)
        if not wish.future.done():
            wish.future.set_result(claim)
