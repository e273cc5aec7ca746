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

    Putting in and taking out take the same time however many are in line; a heap would need an
    object of a hundred bytes for each.
    """

    __slots__ = ("_first", "_following", "_length", "_slice")

    def __init__(self, following: array[int], seconds: float) -> None:
        self._following = following
        self._slice = seconds
        self._first: dict[int, int] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        for first in self._first.values():
            yield from _chain(self._following, first)

    def put(self, place: int, at: float) -> None:
        """Put a place in line for the time `at`."""
        due = int(at // self._slice)
        self._following[place] = self._first.get(due, NOWHERE)
        self._first[due] = place
        self._length += 1

    def pop_first(self) -> int:
        """Take one out whose slice is the earliest; there must be one."""
        return self._pop(min(self._first))

    def pop_passed(self, now: float, most: int | None) -> list[int]:
        """Take out those whose slice is over, the earliest first; at most `most` of them."""
        places: list[int] = []
        current = int(now // self._slice)
        for due in sorted(due for due in self._first if due < current):
            while due in self._first and (most is None or len(places) < most):
                places.append(self._pop(due))
        return places

    def _pop(self, due: int) -> int:
        place = self._first[due]
        after = self._following[place]
        if after == NOWHERE:
            del self._first[due]
        else:
            self._first[due] = after
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
        return _chain(self._following, self.first)

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


def _chain(following: array[int], place: int) -> Iterator[int]:
    while place != NOWHERE:
        yield place
        place = following[place]
