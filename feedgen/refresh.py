"""Ranking everything anew: first the term of each live item, then each row, a piece at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from feedgen.state import State

_ITEMS = 256
"""Items that get their new term in one piece."""
_SCANNED = 1 << 16
"""Rows looked at in one piece."""
_WORK = 32
"""Work that one row may be; few rows wait at a time, as jobs pass over those that do."""


class Refresh:
    """What is left to do.

    Terms are set where the items are, and windows keep the keys that they have. Until its turn a
    row may therefore refuse what it would take by the new terms; so rows follow when all terms are
    set, each that was not built since.
    """

    __slots__ = ("_items", "_rows", "_shelves", "_stamp")

    def __init__(self) -> None:
        self._items: list[int] = []
        self._shelves: list[int] = []
        self._rows = 0
        self._stamp: int | None = None

    def begin(self, items: Iterable[int], shelves: int) -> None:
        """Begin, or begin from the start, with item numbers and as many shelves."""
        self._items = list(items)
        self._shelves = list(range(shelves))
        self._rows = 0
        self._stamp = None

    @property
    def going_on(self) -> bool:
        """Whether anything is left."""
        return bool(self._shelves)

    def items(self) -> list[int]:
        """Return the next item numbers whose term is to be set; none when all are."""
        taken = self._items[-_ITEMS:]
        del self._items[-_ITEMS:]
        return taken

    def queue_rows(self, state: State, budget: int) -> None:
        """Let the next rows be built anew that were not since all terms are set."""
        if self._stamp is None:
            self._stamp = state.next_stamp()
        shelf = state.shelves[self._shelves[-1]]
        stamps = shelf.stamp[self._rows : self._rows + _SCANNED]
        # Rows that wait already, and free ones, have later stamps.
        old = np.flatnonzero(stamps < self._stamp)
        most = max(1, budget // (_WORK * shelf.cost))
        if len(old) > most:
            old = old[:most]
            scanned = int(old[-1]) + 1
        else:
            scanned = len(stamps)
        rows = (old + self._rows).astype(np.int32)
        self._rows += scanned
        if self._rows >= len(shelf):
            self._shelves.pop()
            self._rows = 0
        if rows.size:
            shelf.queue_all(rows, state.next_stamp())
