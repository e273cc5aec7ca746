"""What was true of impressions when they were shown, kept until their outcome is known.

Numbers in columns, a few dozen bytes an impression: who, what, when, and what each rung predicted. A
place is taken when an impression is first heard of and given back by `release`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feedgen.ranking.tokens import Tokens

RUNGS = 3
"""Rungs with predictions of their own: live, snapshot, popularity."""

_FIRST = 1024


class Evidence:
    """Columns of impressions.

    Attributes:
        device: uint64, token of the device.
        codes: uint16 [places, fields], its fields.
        zone: uint16, number of its time zone.
        n: int64, number of the item.
        at: float64, Unix seconds.
        predicted: float32 [places, rungs], probability of an opening; nan before it was asked for.
        rank: int8, at which it was shown; -1 unknown.
        heard: float32, seconds between the event and its arrival.
        seen: int32, outcomes of the device learned before; 20 and more are 20.
        held_out: bool, whether the device stays on newest first.
        scale: float32, impressions that it stands for.
    """

    __slots__ = (
        "_free",
        "at",
        "codes",
        "device",
        "heard",
        "held_out",
        "n",
        "predicted",
        "rank",
        "scale",
        "seen",
        "zone",
    )

    def __init__(self, fields: int) -> None:
        self.device: Tokens = np.zeros(0, np.uint64)
        self.codes: NDArray[np.uint16] = np.zeros((0, fields), np.uint16)
        self.zone: NDArray[np.uint16] = np.zeros(0, np.uint16)
        self.n: NDArray[np.int64] = np.zeros(0, np.int64)
        self.at: NDArray[np.float64] = np.zeros(0)
        self.predicted: NDArray[np.float32] = np.zeros((0, RUNGS), np.float32)
        self.rank: NDArray[np.int8] = np.zeros(0, np.int8)
        self.heard: NDArray[np.float32] = np.zeros(0, np.float32)
        self.seen: NDArray[np.int32] = np.zeros(0, np.int32)
        self.held_out: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.scale: NDArray[np.float32] = np.zeros(0, np.float32)
        self._free: list[int] = []

    def __len__(self) -> int:
        """Return how many places are taken."""
        return len(self.n) - len(self._free)

    def take(self) -> int:
        """Return a place; its columns are the caller's to fill."""
        if not self._free:
            self._grow()
        place = self._free.pop()
        self.predicted[place] = np.nan
        return place

    def release(self, places: NDArray[np.int64]) -> None:
        """Give places back."""
        self._free += places.tolist()

    def _grow(self) -> None:
        old = len(self.n)
        more = max(old, _FIRST)
        for name in (
            "device",
            "codes",
            "zone",
            "n",
            "at",
            "predicted",
            "rank",
            "heard",
            "seen",
            "held_out",
            "scale",
        ):
            column = getattr(self, name)
            empty = np.zeros((more, *column.shape[1:]), column.dtype)
            setattr(self, name, np.concatenate((column, empty)))
        self._free += range(old + more - 1, old - 1, -1)
