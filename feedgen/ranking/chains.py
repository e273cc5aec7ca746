"""Places of a table in line: linked lists through one column, so that a place costs four bytes.

A place is in one chain at a time. All chains of a table share its column `following`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

NOWHERE = -1
"""The place after the last."""


class Wheel:
    """Places in line for a time, by slices of time (hashed timing wheel, Varghese and Lauck, SOSP 1987).

    Those of one slice leave in the order in which they came. Putting in and taking out take the same
    time however many are in line; a heap would need an object of a hundred bytes for each.
    """

    # The chain of a slice is a ring: its last place, which is all that is kept of it, leads to its
    # first.
    __slots__ = ("_following", "_last", "_length", "_slice")

    def __init__(self, following: array[int], seconds: float) -> None:
        self._following = following
        self._slice = seconds
        self._last: dict[int, int] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        """Yield those in line so that putting them into an empty wheel makes the same one again."""
        for last in self._last.values():
            place = self._following[last]
            while place != last:
                yield place
                place = self._following[place]
            yield last

    def put(self, place: int, at: float) -> None:
        """Put a place in line for the time `at`."""
        due = int(at // self._slice)
        last = self._last.get(due, NOWHERE)
        if last == NOWHERE:
            self._following[place] = place
        else:
            self._following[place] = self._following[last]
            self._following[last] = place
        self._last[due] = place
        self._length += 1

    def pop_first(self) -> int:
        """Take one out whose slice is the earliest; there must be one."""
        return self._pop(min(self._last))

    def pop_passed(self, now: float, most: int | None) -> list[int]:
        """Take out those whose slice is over, the earliest first; at most `most` of them."""
        places: list[int] = []
        current = int(now // self._slice)
        for due in sorted(due for due in self._last if due < current):
            while due in self._last and (most is None or len(places) < most):
                places.append(self._pop(due))
        return places

    def _pop(self, due: int) -> int:
        last = self._last[due]
        place = self._following[last]
        if place == last:
            del self._last[due]
        else:
            self._following[last] = self._following[place]
        self._length -= 1
        return place


class Queue:
    """Places that leave in the order in which they came."""

    __slots__ = ("_following", "_last", "_length", "first")

    def __init__(self, following: array[int]) -> None:
        self._following = following
        self.first = self._last = NOWHERE
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        place = self.first
        while place != NOWHERE:
            yield place
            place = self._following[place]

    def append(self, place: int) -> None:
        """Put a place at the end."""
        self._following[place] = NOWHERE
        if self._length:
            self._following[self._last] = place
        else:
            self.first = place
        self._last = place
        self._length += 1

    def pop(self) -> int:
        """Take out the first; there must be one."""
        place = self.first
        self.first = self._following[place]
        self._length -= 1
        return place
