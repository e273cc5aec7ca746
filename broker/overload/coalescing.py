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

    Args:
        shelves: How many there are.
    """

    __slots__ = ("_masks", "_some")

    def __init__(self, shelves: int) -> None:
        self._masks = [np.zeros(64, np.bool_) for _ in range(shelves)]
        self._some = [False] * shelves

    def __bool__(self) -> bool:
        return any(self._some)

    def add(self, shelf: int, rows: Rows) -> None:
        """These rows changed."""
        if not len(rows):
            return
        mask, highest = self._masks[shelf], int(rows.max())
        if highest >= len(mask):
            self._masks[shelf] = mask = np.pad(mask, (0, highest + 1))
        mask[rows] = True
        self._some[shelf] = True

    def take(self, most: int) -> Iterator[tuple[int, Rows]]:
        """Shelf and rows of what changed, at most so many rows of each; the rest stays."""
        for shelf, mask in enumerate(self._masks):
            if self._some[shelf]:
                rows = np.flatnonzero(mask).astype(np.int32)
                self._some[shelf] = len(rows) > most
                rows = rows[:most]
                mask[rows] = False
                yield shelf, rows
