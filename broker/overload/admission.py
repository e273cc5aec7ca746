"""Items on their way to the engine: urgent ones first, and under overload the less valuable last.

An item is stored and acknowledged before it comes here, so none is ever dropped: it goes on, or a newer
content of the same item does in its place, or it has expired. An item is *held* while the admission
threshold is above its priority. What is held goes on one handful at a time, whenever the engine has
nothing else to do, by what it would be worth in a window: publication time plus the offset of its
priority, the same order that windows have without a ranking.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from feedgen.items import URGENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from feedgen.items import Record

_SPARE = 50
"""Held items that go on at a time: some milliseconds of work, so that they make nothing else late."""


class _Waiting(NamedTuple):
    record: Record
    since: float


class Admission:
    """What waits for the engine.

    Args:
        offsets: Seconds by which an item counts as newer, by priority.
        max_held: Items that may be held; when there are more, the most valuable wait their turn.

    Attributes:
        max_held: As above.
        taken: Items that went on.
        threshold: The lowest priority that goes on at once.
        held_bytes: Payload bytes of what is held.
        expired: Items that were over when their turn came.
        superseded: Items that a newer content overtook here.
    """

    __slots__ = (
        "_heap",
        "_held",
        "_offsets",
        "_queue",
        "_queued",
        "_urgent",
        "_urgent_bytes",
        "_urgent_numbers",
        "expired",
        "held_bytes",
        "max_held",
        "queued_bytes",
        "superseded",
        "taken",
        "threshold",
    )

    def __init__(self, offsets: Sequence[float], max_held: int) -> None:
        self.threshold = 0
        self.held_bytes = self.queued_bytes = 0
        self.expired = self.superseded = self.taken = 0
        self._offsets = offsets
        self.max_held = max_held
        self._urgent: deque[_Waiting] = deque()
        self._urgent_numbers: set[int] = set()
        self._queue: deque[_Waiting] = deque()
        # The one content of each item in `_queue` that still counts.
        self._queued: dict[int, Record] = {}
        self._held: dict[int, Record] = {}
        # (-value, n, version); what is not held any more is skipped.
        self._heap: list[tuple[float, int, int]] = []
        self._urgent_bytes = 0

    def __len__(self) -> int:
        """Items that wait their turn: all but what is held, as far as it may be."""
        return len(self._urgent) + len(self._queued) + self.overflow

    @property
    def overflow(self) -> int:
        """Items that are held, and too many for that."""
        return max(len(self._held) - self.max_held, 0)

    @property
    def held(self) -> int:
        """Items that are held."""
        return len(self._held)

    @property
    def bytes_waiting(self) -> int:
        """Payload bytes of everything here."""
        return self.queued_bytes + self.held_bytes + self._urgent_bytes

    @property
    def urgent(self) -> bool:
        """Whether an urgent item waits."""
        return bool(self._urgent)

    def oldest(self) -> float | None:
        """Since when the oldest item waits its turn."""
        self._skip_overtaken()
        first = [queue[0].since for queue in (self._urgent, self._queue) if queue]
        return min(first, default=None)

    def put(self, record: Record, now: float, *, new: bool = True) -> None:
        """Takes a record that holds from now on; of one item, the later content comes later.

        Args:
            record: As it was stored.
            now: Seconds on any clock that does not go back.
            new: The engine does not know the item. An update of what is shown is never held: the old
                content might outlive it. Nor is one of what is about to be shown, as urgent items are.
        """
        self._overtake(record.n)
        new = new and record.n not in self._urgent_numbers
        priority = record.item.priority
        if priority >= URGENT and not record.retracted:
            self._urgent.append(_Waiting(record, now))
            self._urgent_numbers.add(record.n)
            self._urgent_bytes += size_of(record)
        elif record.retracted or not new or priority >= self.threshold:
            self._queue.append(_Waiting(record, now))
            self._queued[record.n] = record
            self.queued_bytes += size_of(record)
        else:
            self._hold(record)

    def _overtake(self, n: int) -> None:
        """What waits of an item is not needed any more, but for urgent contents: those go first anyway."""
        before = self._queued.pop(n, None)
        if before is not None:
            self.queued_bytes -= size_of(before)
            self.superseded += 1
        if self._let_go(n) is not None:
            self.superseded += 1

    def _hold(self, record: Record) -> None:
        self._held[record.n] = record
        self.held_bytes += size_of(record)
        heappush(self._heap, (-self._value(record), record.n, record.version))
        if len(self._heap) > 2 * len(self._held) + 1024:
            self._heap = [(-self._value(r), r.n, r.version) for r in self._held.values()]
            heapify(self._heap)

    def _value(self, record: Record) -> float:
        return record.published_ms / 1000 + self._offsets[record.item.priority]

    def take(self, most: int, now: float, *, spare: bool) -> list[Record]:
        """The records that go on now, in order.

        Args:
            most: How many at the most, but for urgent ones: all of those go.
            now: Unix seconds.
            spare: The engine has nothing else to do.
        """
        taken: list[Record] = []
        while self._urgent:
            record = self._urgent.popleft().record
            self._urgent_bytes -= size_of(record)
            taken.append(record)
        self._urgent_numbers.clear()
        while self._queue and len(taken) < most:
            record = self._queue.popleft().record
            if self._queued.get(record.n) is record:
                del self._queued[record.n]
                self.queued_bytes -= size_of(record)
                taken.append(record)
        if not taken and spare:
            self._take_held(taken, min(most, _SPARE), now)
        # Not all at once: a commit brings hundreds, and urgent ones would wait for their end.
        self._take_held(taken, min(self.overflow, most - len(taken)), now)
        self.taken += len(taken)
        return taken

    def _take_held(self, taken: list[Record], most: int, now: float) -> None:
        while self._heap and most > 0:
            _, n, version = heappop(self._heap)
            record = self._held.get(n)
            if record is None or record.version != version:
                continue
            self._let_go(n)
            if record.expires <= now:
                self.expired += 1
            else:
                taken.append(record)
                most -= 1

    def forget(self, ns: Iterable[int]) -> None:
        """These items, which the engine does not know, are over."""
        for n in ns:
            queued = self._queued.pop(n, None)
            if queued is not None:
                self.queued_bytes -= size_of(queued)
            if queued is not None or self._let_go(n) is not None:
                self.expired += 1

    def _let_go(self, n: int) -> Record | None:
        record = self._held.pop(n, None)
        if record is not None:
            self.held_bytes -= size_of(record)
        return record

    def _skip_overtaken(self) -> None:
        queue, queued = self._queue, self._queued
        while queue and queued.get(queue[0].record.n) is not queue[0].record:
            queue.popleft()


def size_of(record: Record) -> int:
    """Length of a record's payload."""
    return len(record.item.payload)
