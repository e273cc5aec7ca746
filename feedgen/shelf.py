"""The rows of one window class: their windows, and what decides which items may enter them."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from feedgen.attributes import Attributes, Vocabulary
from feedgen.windows import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feedgen.windows import Mask, Rows

PENDING = 1 << 62
"""Stamp of a row that is about to be built anew."""
FREE = PENDING + 1
"""Stamp of a row without a device."""

MAX_CAPACITY = (1 << 16) - 1

_FIRST_ROWS = 64
_BATCH = 4096


class Shelf:
    """Rows for devices that show at most `size` items.

    Attributes:
        size: the most visible items of a row.
        cost: work per row, in rows of the smallest shelf.
        windows: their windows.
        attributes: their attributes.
        capacity: uint16 [rows], payload bytes that fit the device.
        follow: int32 [rows], number of the row's follow set.
        stamp: int64 [rows], when the row was last built. A job leaves alone what was built after
            it was made, as that saw what the job brings; `PENDING` and `FREE` are later than all.
        dismissed: row to item numbers that never enter it.
        seated: how many rows have a device.
    """

    __slots__ = (
        "_free",
        "_hastened",
        "_least_capacity",
        "_pending",
        "_used",
        "attributes",
        "capacity",
        "cost",
        "dismissed",
        "follow",
        "seated",
        "size",
        "stamp",
        "windows",
    )

    def __init__(self, size: int, vocabulary: Vocabulary) -> None:
        self.size = size
        self.cost = max(1, size // 8)
        self.windows = Windows(2 * size)
        self.attributes = Attributes(vocabulary)
        self.capacity: NDArray[np.uint16] = np.zeros(0, np.uint16)
        self.follow: NDArray[np.int32] = np.zeros(0, np.int32)
        self.stamp: NDArray[np.int64] = np.zeros(0, np.int64)
        self.dismissed: dict[int, set[int]] = {}
        self.seated = 0
        self._least_capacity = MAX_CAPACITY
        self._used = 0
        self._hastened: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._free: list[int] = []
        # (stamp when the first of them was queued, rows), oldest first
        self._pending: deque[tuple[int, array[int]]] = deque()

    def __len__(self) -> int:
        return len(self.stamp)

    def take(self, visible: int, capacity: int) -> int:
        """Return an empty row for a device; its follow set is the caller's to set."""
        if self._free:
            row = self._free.pop()
        else:
            if self._used == len(self):
                self._grow()
            row = self._used
            self._used += 1
        self.windows.visible[row] = visible
        self.fit(row, capacity)
        self.seated += 1
        return row

    def give_back(self, row: int) -> None:
        """Empty a row for the next device."""
        self.windows.clear(row)
        self.attributes.set(row, {})
        self.dismissed.pop(row, None)
        self.stamp[row] = FREE
        self._free.append(row)
        self.seated -= 1

    def fit(self, row: int, capacity: int) -> None:
        """Set the payload bytes that fit the device of a row."""
        fitting = min(max(capacity, 0), MAX_CAPACITY)
        self.capacity[row] = fitting
        self._least_capacity = min(self._least_capacity, fitting)

    def fits_all(self, smallest: int) -> bool:
        """Tell whether a payload fits every row, without looking at each."""
        return smallest <= self._least_capacity

    def fitting(self, rows: Rows, smallest: int | NDArray[np.int32]) -> Mask:
        """Tell which of `rows` an item of `smallest` bytes fits."""
        return self.capacity[rows] >= smallest

    def queue(self, row: int, stamp: int) -> None:
        """Let a row be built anew."""
        self.stamp[row] = PENDING
        self._batch(stamp).append(row)

    def queue_all(self, rows: Rows, stamp: int) -> None:
        """Let `rows` be built anew."""
        self.stamp[rows] = PENDING
        self._batch(stamp).frombytes(rows.tobytes())

    def _batch(self, stamp: int) -> array[int]:
        if not self._pending or len(self._pending[-1][1]) >= _BATCH:
            self._pending.append((stamp, array("i")))
        return self._pending[-1][1]

    @property
    def waiting(self) -> bool:
        """Whether any row is in the queue."""
        return bool(self._pending)

    def pending_rows(self, most: int) -> tuple[int, Rows]:
        """Take rows that are to be built anew from the head of the queue, up to `most`.

        Returns:
            The stamp at which the oldest of them was queued, and the rows, each once.
        """
        since, batch = self._pending.popleft()
        rows = np.array(batch[:most], np.int32)
        if len(batch) > most:
            self._pending.appendleft((since, batch[most:]))
        self._hastened[rows] = False
        # Meanwhile some were given back, or given back and queued a second time.
        return since, np.unique(rows[self.stamp[rows] == PENDING])

    def put_back(self, since: int, rows: Rows) -> None:
        """Return rows to the head of the queue."""
        self._pending.appendleft((since, array("i", rows.tobytes())))

    def hasten(self, rows: Rows) -> bool:
        """Build those of `rows` first that wait to be built anew; whether there are any."""
        rows = rows[(self.stamp[rows] == PENDING) & ~self._hastened[rows]]
        if rows.size:
            # They stay further behind, too, where they will be found built.
            self.put_back(self._pending[0][0], rows)
            self._hastened[rows] = True
        return bool(rows.size)

    @property
    def pending_since(self) -> int | None:
        """Stamp at which the oldest row in the queue was queued, None if there is none."""
        return self._pending[0][0] if self._pending else None

    @property
    def pending(self) -> int:
        """Rows in the queue, a few of them perhaps twice."""
        return sum(len(batch) for _, batch in self._pending)

    def _grow(self) -> None:
        rows = max(_FIRST_ROWS, 2 * len(self))
        more = rows - len(self)
        self.windows.grow(rows)
        self.attributes.grow(rows)
        self.capacity = np.concatenate((self.capacity, np.zeros(more, np.uint16)))
        self.follow = np.concatenate((self.follow, np.zeros(more, np.int32)))
        self.stamp = np.concatenate((self.stamp, np.full(more, FREE, np.int64)))
        self._hastened = np.concatenate((self._hastened, np.zeros(more, np.bool_)))
