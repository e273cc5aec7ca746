"""Rows whose windows changed, gathered so that changes which come close together become one frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Rows = NDArray[np.int32]


class Gathered:
    """Changed rows of all shelves, each once.

    They are taken in turns, round and round: where the lowest rows always went first, the highest would
    wait for ever while more changes than can be sent.

    Args:
        shelves: How many there are.

    Attributes:
        since: When what is here began to wait, on the clock of `add` and `take`; None if nothing does.
            While more comes all the time, when the present round began.
    """

    __slots__ = ("_at", "_masks", "_some", "since")

    def __init__(self, shelves: int) -> None:
        self.since: float | None = None
        self._masks = [np.zeros(64, np.bool_) for _ in range(shelves)]
        self._some = [False] * shelves
        self._at = [0] * shelves  # the row from which on a round goes on

    def __bool__(self) -> bool:
        return self.since is not None

    def add(self, shelf: int, rows: Rows, now: float) -> None:
        """These rows changed."""
        if not len(rows):
            return
        mask, highest = self._masks[shelf], int(rows.max())
        if highest >= len(mask):
            self._masks[shelf] = mask = np.pad(mask, (0, highest + 1))
        mask[rows] = True
        self._some[shelf] = True
        if self.since is None:
            self.since = now

    def take(self, most: int, now: float) -> Iterator[tuple[int, Rows]]:
        """Shelf and rows of what changed, at most so many rows of each; the rest stays."""
        for shelf, some in enumerate(self._some):
            if some:
                yield shelf, self._take(shelf, most, now)
        if not any(self._some):
            self.since = None

    def _take(self, shelf: int, most: int, now: float) -> Rows:
        mask, at = self._masks[shelf], self._at[shelf]
        rows = np.flatnonzero(mask[at:]).astype(np.int32)[:most]
        rows += at
        if len(rows) < most:
            self.since = now  # a round is over
            rows = np.concatenate((rows, np.flatnonzero(mask[:at]).astype(np.int32)))[:most]
        self._at[shelf] = int(rows[-1]) + 1
        mask[rows] = False
        self._some[shelf] = bool(mask.any())
        return rows
