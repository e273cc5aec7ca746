"""Receipts: a few counts for each of the latest items.

They are columns over places; an item's place is its number modulo how many there are. Numbers are given
out in order, so whoever takes a place takes it from the oldest, and neither finding a place nor
forgetting an item costs a search. There is nothing by device: who has an item now, the ledgers know.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from feedgen.items import Record

CAPACITY = 1 << 14
"""Items that are remembered, those that are over among them: at most some MiB."""

COUNTED = ("delivered", "acknowledged", "shown", "opened", "dismissed")
"""What is counted of an item; see `Receipts.counts`."""

_FEW = 64
"""Puts up to which arrays cost more than they save."""
_TOGETHER = 1024
"""Items of which counts wait to be added together."""
_NEVER = np.iinfo(np.int64).max
_DELIVERED, _ACKNOWLEDGED = COUNTED.index("delivered"), COUNTED.index("acknowledged")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is remembered of one item, besides its counts.

    Attributes:
        n: Its number.
        channel: Where it was published.
        id: The publisher's key.
        version: Of its present content; counts go on over all of them.
        priority: 0 low to 3 urgent.
        published_ms: Unix milliseconds of the acceptance of its present content.
        expires: Unix seconds.
        since: Unix seconds when its counting began.
        ended: `expired` or `retracted`; "" while it is live.
        ended_at: Unix seconds.
        census: The last one, taken when it ended; None if there was no time for it.
    """

    n: int
    channel: str
    id: str
    version: int
    priority: int
    published_ms: int
    expires: int
    since: float
    ended: str = ""
    ended_at: float = 0.0
    census: dict[str, Any] | None = None


_as_tuple = attrgetter(*(field.name for field in fields(Receipt)))


class Receipts:
    """The latest items and their counts.

    Args:
        capacity: How many items are remembered.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._number: NDArray[np.int64] = np.zeros(capacity, np.int64)
        self._counts: NDArray[np.int64] = np.zeros((len(COUNTED), capacity), np.int64)
        self._items: list[Receipt | None] = [None] * capacity
        # What is to be added to counts, by item: numpy takes ten times as long for a single number.
        self._delivered: dict[int, int] = {}
        self._acknowledged: dict[int, int] = {}
        # Unix seconds; `_NEVER` where there is no item that will expire, or `take_due` had it.
        self._expires: NDArray[np.int64] = np.full(capacity, _NEVER)

    def __iter__(self) -> Iterator[Receipt]:
        return (receipt for receipt in self._items if receipt is not None)

    def __getitem__(self, n: int) -> Receipt | None:
        """What is remembered of an item; None if that was forgotten."""
        receipt = self._items[n % self._capacity]
        return receipt if receipt is not None and receipt.n == n else None

    def counts(self, n: int) -> dict[str, int]:
        """How often each of `COUNTED` happened to an item.

        `delivered` frames put it on a device, those of a later content and those after a reconnect
        included; `acknowledged` of them the device has confirmed, which at QoS 0 none does. The others
        are events of feedback, each once for a device.
        """
        if self[n] is None:
            return dict.fromkeys(COUNTED, 0)
        self._add_waiting()
        column = self._counts[:, n % self._capacity].tolist()
        return dict(zip(COUNTED, column, strict=True))

    def named(self, item_id: str, channel: str | None = None) -> list[Receipt]:
        """Receipts of items of this id, on one channel or on all, the latest first."""
        found = [each for each in self if each.id == item_id and channel in (None, each.channel)]
        return sorted(found, key=lambda each: -each.n)

    # ---- Items come and go

    def open(self, record: Record, now: float) -> None:
        """An item, or a new content of one, is accepted; it takes the place of the oldest."""
        item, place = record.item, record.n % self._capacity
        held, since = self[record.n], now
        # An older store that was put back gives numbers out again, to others.
        if held is not None and (held.channel, held.id) == (item.channel, item.id):
            since = held.since
        else:
            self._counts[:, place] = 0
            self._delivered.pop(record.n, None)
            self._acknowledged.pop(record.n, None)
        self._number[place] = record.n
        self._expires[place] = record.expires
        self._items[place] = Receipt(
            *(record.n, item.channel, item.id, record.version, item.priority),
            *(record.published_ms, record.expires, since),
        )

    def close(self, n: int, why: str, at: float, census: dict[str, Any] | None) -> None:
        """An item is over, for this reason; feedback on it still counts."""
        receipt = self[n]
        if receipt is not None:
            ended = replace(receipt, ended=why, ended_at=at, census=census)
            self._items[n % self._capacity] = ended
            self._expires[n % self._capacity] = _NEVER

    def take_due(self, before: float) -> list[int]:
        """Live items that expire before that time; each is told once, and again if it is updated."""
        due = np.flatnonzero(self._expires < before)
        self._expires[due] = _NEVER
        numbers: list[int] = self._number[due].tolist()
        return numbers

    # ---- Counts

    def delivered(self, n: int, frames: int) -> None:
        """So many frames that put this item were written."""
        waiting = self._delivered
        waiting[n] = waiting.get(n, 0) + frames
        if len(waiting) >= _TOGETHER:
            self._add_waiting()

    def delivered_each(self, numbers: Sequence[int]) -> None:
        """Items were put by frames that were written, one for each put."""
        if len(numbers) <= _FEW:
            for n in numbers:
                self.delivered(n, 1)
        else:
            self._add(_DELIVERED, np.array(numbers, np.int64))

    def acknowledged(self, numbers: NDArray[np.integer]) -> None:
        """Items were put by frames that devices confirmed, one for each put."""
        waiting, count = self._acknowledged, len(numbers)
        if count <= _FEW:
            for n in numbers.tolist():
                waiting[n] = waiting.get(n, 0) + 1
        elif np.count_nonzero(numbers == numbers[0]) == count:
            n = int(numbers[0])
            waiting[n] = waiting.get(n, 0) + count
        else:
            self._add(_ACKNOWLEDGED, numbers)
        if len(waiting) >= _TOGETHER:
            self._add_waiting()

    def heard(self, n: int, event: str) -> None:
        """A device reports something of an item, for the first time; what is not counted is ignored."""
        place = n % self._capacity
        if event in COUNTED and self._number[place] == n:
            self._counts[COUNTED.index(event), place] += 1

    def _add_waiting(self) -> None:
        for which, waiting in ((_DELIVERED, self._delivered), (_ACKNOWLEDGED, self._acknowledged)):
            if waiting:
                numbers = np.fromiter(waiting.keys(), np.int64, len(waiting))
                self._add(which, numbers, np.fromiter(waiting.values(), np.int64, len(waiting)))
                waiting.clear()

    def _add(
        self, which: int, numbers: NDArray[np.integer], counts: NDArray[np.int64] | int = 1
    ) -> None:
        """Adds to the counts of these items, as far as they are remembered."""
        places = numbers % self._capacity
        known = self._number.take(places) == numbers
        if not known.all():
            places = places[known]
            counts = counts if isinstance(counts, int) else counts[known]
        np.add.at(self._counts[which], places, counts)

    # ---- State

    def all(self) -> tuple[list[Receipt], NDArray[np.int64]]:
        """Everything, for `state`, which is work for another thread: receipts, and counts by receipt."""
        self._add_waiting()
        receipts = list(self)
        places = np.array([receipt.n % self._capacity for receipt in receipts], np.intp)
        return receipts, self._counts[:, places]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: It is damaged, and nothing was taken over.
        """
        self._add_waiting()
        try:
            receipts = [Receipt(*each) for each in state["receipts"]]
            counts = np.asarray(state["counts"], np.int64)
            if counts.shape != (len(COUNTED), len(receipts)):
                raise ValueError(f"counts of shape {counts.shape} for {len(receipts)} items")
            # With fewer places than there were, the latest of those that share one stay.
            for at in sorted(range(len(receipts)), key=lambda at: receipts[at].n):
                place = receipts[at].n % self._capacity
                self._number[place] = receipts[at].n
                self._items[place] = receipts[at]
                self._counts[:, place] = counts[:, at]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"receipts that are none: {error!r}") from error


def state(receipts: Sequence[Receipt], counts: NDArray[np.int64]) -> dict[str, Any]:
    """What `Receipts.restore` takes, of what `Receipts.all` returned."""
    return {"receipts": [_as_tuple(receipt) for receipt in receipts], "counts": counts}
