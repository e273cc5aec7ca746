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
    """

    __slots__ = ("_at", "_masks", "_since")

    def __init__(self, shelves: int) -> None:
        self._masks = [np.zeros(64, np.bool_) for _ in range(shelves)]
        # By shelf, since when something waits there; None = nothing does.
        self._since: list[float | None] = [None] * shelves
        self._at = [0] * shelves  # the row from which on a round goes on

    def __bool__(self) -> bool:
        return any(since is not None for since in self._since)

    @property
    def since(self) -> float | None:
        """When what is here began to wait, on the clock of `add` and `take`; None if nothing does.

        While more comes all the time, when the present round of its shelf began.
        """
        return min((since for since in self._since if since is not None), default=None)

    def add(self, shelf: int, rows: Rows, now: float) -> None:
        """These rows changed."""
        if not len(rows):
            return
        mask, highest = self._masks[shelf], int(rows.max())
        if highest >= len(mask):
            self._masks[shelf] = mask = np.pad(mask, (0, highest + 1))
        mask[rows] = True
        if self._since[shelf] is None:
            self._since[shelf] = now

    def take(self, most: int, now: float) -> Iterator[tuple[int, Rows]]:
        """Shelf and rows of what changed, at most so many rows of each; the rest stays."""
        for shelf, since in enumerate(self._since):
            if since is not None:
                yield shelf, self._take(shelf, most, now)

    def _take(self, shelf: int, most: int, now: float) -> Rows:
        mask, at = self._masks[shelf], self._at[shelf]
        rows = np.flatnonzero(mask[at:]).astype(np.int32)[:most]
        rows += at
        if len(rows) < most:
            self._since[shelf] = now  # a round is over
            rows = np.concatenate((rows, np.flatnonzero(mask[:at]).astype(np.int32)))[:most]
        self._at[shelf] = int(rows[-1]) + 1
        mask[rows] = False
        if not mask.any():
            self._since[shelf] = None
        return rows
