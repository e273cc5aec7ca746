"""Smallest numbers: of nodes or masters at which nothing is fuller than it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def fewest(use: Callable[[int], float], target: float, most: int) -> int | None:
    """Return the smallest number up to `most` at which a share, which falls with it, is at most the target."""
    if use(most) > target:
        return None
    low, high = 0, 1
    while use(high) > target:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if use(middle) <= target else (middle, high)
    return high


def most_of(numbers: Iterable[int | None]) -> int | None:
    """Return the largest number; None if one of them is none."""
    most = 0
    for number in numbers:
        if number is None:
            return None
        most = max(most, number)
    return most
