"""What windows need to know of items, as columns over item indices.

An index stands for one item *with one content and one term* (see `ranking.scoring`): an update, and a new ranking of
the same content, get another index, and the one before is *retired*. So a window that was not yet
touched keeps showing what it was built with, and whatever is not alive can be taken out of a window
without asking what became of it.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from feedgen.items import URGENT
from feedgen.ranking.scoring import GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from feedgen.items import Item, Record
    from feedgen.windows import Ids, Keys

LOWEST = -(1 << 31) + 1
HIGHEST = (1 << 31) - 1
"""Bounds of keys; one below `LOWEST` is `windows.EMPTY`."""


class ItemColumns:
    """Growing columns; index 0 stands for no item.

    Attributes:
        number: int64, the item number n.
        slot: int64, what the owner of the engine names the content by; opaque.
        published: int64, Unix ms of the acceptance.
        tie: int64, hash of channel and id.
        base: int64, ticks of the key for a follower through a filter without literal levels.
        term: int64, the part of `base` that feedback changes.
        smallest: int32, bytes of the shorter of payload and brief.
        contest: int32, number of the group that shares the collapse key; 0 for none.
        special: bool, whether not every row that follows the channel may show the item, for its
            `where`, its collapse key, or as somebody dismissed it.
        urgent: bool, whether it has the highest priority.
        groups: int32 [items, GROUPS], numbers of groups whose repetition tires, 0 for none; all 0
            without a ranking that knows of any.
        alive: bool.
        records: the content, None for an index not in use.
    """

    __slots__ = (
        "_free",
        "_resting",
        "alive",
        "base",
        "contest",
        "groups",
        "number",
        "published",
        "records",
        "slot",
        "smallest",
        "special",
        "term",
        "tie",
        "urgent",
    )

    def __init__(self, capacity: int = 64) -> None:
        self.number: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.slot: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.published: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.tie: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.base: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.term: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self.smallest: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.contest: NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.special: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.urgent: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.groups: NDArray[np.int32] = np.zeros((capacity, GROUPS), np.int32)
        self.alive: NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.alive[0] = True  # an empty place needs no taking out
        self.records: list[Record | None] = [None] * capacity
        self._free = list(range(capacity - 1, 0, -1))
        # (stamp at which its last job ended, index)
        self._resting: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self.number)

    def add(
        self,
        record: Record,
        slot: int,
        base: int,
        term: int,
        contest: int,
        groups: Sequence[int] = (),
    ) -> int:
        """Give a live item an index.

        Args:
            record: its content.
            slot: what the content is named by.
            base: see the class.
            term: the part of `base` that changes.
            contest: the number of its contest, or 0.
            groups: `GROUPS` numbers, or always none.
        """
        if not self._free:
            self._grow()
        index = self._free.pop()
        item = record.item
        self.number[index] = record.n
        self.slot[index] = slot
        self.published[index] = record.published_ms
        self.tie[index] = name_hash(item)
        self.base[index] = base
        self.term[index] = term
        self.smallest[index] = smallest_bytes(item)
        self.contest[index] = contest
        self.special[index] = bool(item.where) or contest > 0
        self.urgent[index] = item.priority == URGENT
        if groups:
            self.groups[index] = groups
        self.alive[index] = True
        self.records[index] = record
        return index

    def retire(self, index: int) -> None:
        """Note that the item of this index is over or has another index now.

        The index stays its own, and its slot readable, until no window can hold it.
        """
        self.alive[index] = False
        self.records[index] = None

    def release(self, indices: Iterable[int], stamp: int) -> None:
        """Note that the job which took retired `indices` out of windows ended at `stamp`."""
        self._resting += [(stamp, index) for index in indices]

    def reuse(self, before: int) -> None:
        """Free the retired indices whose last job ended before the stamp `before`.

        A row that is about to be built anew is passed over by jobs and may hold them till then.
        """
        while self._resting and self._resting[0][0] < before:
            self._free.append(self._resting.popleft()[1])

    def key(self, index: int, ticks: int) -> int:
        """Return the key of an item that gets `ticks` for the filter it is followed by."""
        return min(max(int(self.base[index]) + ticks, LOWEST), HIGHEST)

    def keys(self, ids: Ids, ticks: int | NDArray[np.int64]) -> Keys:
        """Return the keys of many items."""
        keys: NDArray[np.int64] = self.base[ids] + ticks
        # np.clip takes twice the time of these two for a handful of keys.
        return np.minimum(np.maximum(keys, LOWEST), HIGHEST).astype(np.int32)

    def best_first(self, ids: Ids, keys: Keys | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of `ids` in the exact order."""
        return np.lexsort((-self.tie[ids], -self.published[ids], -keys.astype(np.int64)))

    def reterm(self, index: int, term: int) -> None:
        """Give an index another term; windows keep the keys that they hold it with."""
        self.base[index] += term - self.term[index]
        self.term[index] = term

    def rebase(self, ticks: int) -> None:
        """Lower all bases by `ticks`, as the landmark moved up."""
        self.base[1:] -= ticks

    def _grow(self) -> None:
        capacity = len(self)
        for name in (
            "number",
            "slot",
            "published",
            "tie",
            "base",
            "term",
            "smallest",
            "contest",
            "special",
            "urgent",
            "groups",
            "alive",
        ):
            column = getattr(self, name)
            setattr(self, name, np.concatenate((column, np.zeros_like(column))))
        self.records += [None] * capacity
        self._free = list(range(2 * capacity - 1, capacity - 1, -1))


def name_hash(item: Item) -> int:
    """Hash channel and id into 63 bits; it decides last, between items of the same tick and ms."""
    name = f"{item.channel}\0{item.id}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest()) >> 1


def smallest_bytes(item: Item) -> int:
    """Return the payload bytes of the shortest form in which an item can be sent."""
    full = _bytes(item.payload)
    return full if item.brief is None else min(full, _bytes(item.brief))


def _bytes(payload: str | bytes) -> int:
    if isinstance(payload, bytes) or payload.isascii():
        return len(payload)
    return len(payload.encode())
