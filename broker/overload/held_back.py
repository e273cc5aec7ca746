"""Which changes of a window may be sent while the others wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from devices import slots
from feedgen.items import URGENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Windows = NDArray[np.int64]


def first_difference(tip: Windows, target: Windows) -> NDArray[np.intp]:
    """The best rank at which each window is to change: int [n]; the number of columns if none is."""
    different = tip != target
    ranks: NDArray[np.intp] = different.argmax(axis=1)
    ranks[~different.any(axis=1)] = tip.shape[1]
    return ranks


def urgent_changes(tip: Windows, target: Windows) -> NDArray[np.bool_]:
    """Which windows show an urgent item that the device does not hold, or not at its rank: bool [n]."""
    new = (tip != target) & (target != slots.EMPTY) & (slots.priority(target) == URGENT)
    found: NDArray[np.bool_] = new.any(axis=1)
    return found


def with_urgent(
    tip: Sequence[int], target: Sequence[int], k: int, known: Callable[[int], bool]
) -> list[int]:
    """The window that a device gets while all but urgent changes wait.

    It is what the device has, without what has ended, and with the urgent items of its feed at their
    ranks. A content that the device has of an item whose newer one waits stays, if it can still be
    encoded; the newer one takes its place otherwise.

    Args:
        tip: Slots that the device holds, best first.
        target: Slots of its feed.
        k: The length of its window.
        known: Whether the content of a slot can still be encoded.
    """
    present = {slots.number(slot): slot for slot in target}
    urgent = {
        slots.number(slot): (rank, slot)
        for rank, slot in enumerate(target)
        if slots.priority(slot) == URGENT
    }
    kept = [slot if known(slot) else present.get(slots.number(slot), slots.EMPTY) for slot in tip]
    window = [slot for slot in kept if slot and slots.number(slot) not in urgent]
    for rank, slot in urgent.values():
        window.insert(rank, slot)
    return window[:k]
