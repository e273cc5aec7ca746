"""How long things took: counts in buckets whose width grows with their value.

Each doubling is divided into four equal parts, as in HdrHistogram: a value is known to a quarter of itself
at worst, whether it is microseconds or minutes. Where a value belongs is read from the bits of the number
itself (IEEE 754: the exponent and the two highest bits of the fraction), so a thousand values cost about as
much as ten. Searching a list of bounds was rejected: forty times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_LOWEST, _HIGHEST = -17, 9
"""Powers of two, in seconds: about 8 microseconds, and 8.5 minutes."""
_PARTS_BITS = 2
_SHIFT = 52 - _PARTS_BITS
_FIRST = (1023 + _LOWEST) << _PARTS_BITS
BUCKETS = ((_HIGHEST - _LOWEST) << _PARTS_BITS) + 2
"""The first takes all that is below the lowest bound, the last all from the highest on."""
_FEW = 64
"""Values that are not worth counting as an array."""
_NUMBER, _BITS = Struct("=d"), Struct("=q")
_TOGETHER = 256
"""Single values that wait to be counted together."""


def _bounds() -> tuple[float, ...]:
    parts = 1 << _PARTS_BITS
    powers = range(_LOWEST, _HIGHEST)
    inner = [2.0**power * (1 + part / parts) for power in powers for part in range(parts)]
    return (*inner, 2.0**_HIGHEST)


BOUNDS = _bounds()
"""Upper bounds of all buckets but the last, in seconds; a value on a bound belongs to the next bucket."""


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """What a histogram had counted at one moment.

    Attributes:
        counts: Values by bucket; shape (BUCKETS,).
        sum: Seconds of all values together.
    """

    counts: Counts
    sum: float

    @property
    def count(self) -> int:
        """Values."""
        return int(self.counts.sum())

    def since(self, earlier: Distribution) -> Distribution:
        """What came after an earlier moment of the same histogram."""
        return Distribution(self.counts - earlier.counts, max(self.sum - earlier.sum, 0.0))

    def quantile(self, share: float) -> float:
        """The value that this share of all does not exceed, in seconds; 0 if there are none.

        Within a bucket values are taken as evenly spread, beyond the highest bound as being there.

        Args:
            share: From 0 to 1.
        """
        total = self.count
        if not total:
            return 0.0
        behind = self.counts.cumsum()
        at = int(np.searchsorted(behind, max(share * total, 1e-9)))
        low = BOUNDS[at - 1] if at else 0.0
        high = BOUNDS[at] if at < len(BOUNDS) else low
        here = int(self.counts[at])
        part = (share * total - (int(behind[at]) - here)) / here
        return low + (high - low) * min(max(part, 0.0), 1.0)

    def cumulative(self) -> list[tuple[float, int]]:
        """Upper bound and count of the values up to it, one for each doubling and infinity."""
        behind = self.counts.cumsum().tolist()
        step = 1 << _PARTS_BITS
        found = [(BOUNDS[at], behind[at]) for at in range(0, len(BOUNDS), step)]
        return [*found, (float("inf"), behind[-1])]


NOTHING = Distribution(np.zeros(BUCKETS, np.int64), 0.0)
"""Of a histogram that has counted nothing."""


class Histogram:
    """Counts durations since the start."""

    __slots__ = ("_counts", "_sum", "_waiting")

    def __init__(self) -> None:
        self._counts: Counts = np.zeros(BUCKETS, np.int64)
        self._sum = 0.0
        self._waiting: list[float] = []

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        waiting = self._waiting
        waiting.append(seconds)
        if len(waiting) >= _TOGETHER:
            self._settle()

    def add_many(self, seconds: NDArray[np.float64]) -> None:
        """Counts durations; what is below 0 (a clock was set) counts as 0."""
        if len(seconds) < _FEW:
            self._waiting += seconds.tolist()
            if len(self._waiting) >= _TOGETHER:
                self._settle()
        else:
            self._count(seconds)

    def add_alike(self, seconds: float, count: int) -> None:
        """Counts the same duration so many times, likewise; without arrays, a tenth of the cost."""
        seconds = max(seconds, 0.0)
        bits: int = _BITS.unpack(_NUMBER.pack(seconds))[0]
        self._counts[min(max((bits >> _SHIFT) - (_FIRST - 1), 0), BUCKETS - 1)] += count
        self._sum += seconds * count

    def _count(self, seconds: NDArray[np.float64]) -> None:
        seconds = np.maximum(seconds, 0.0)
        at = (seconds.view(np.int64) >> _SHIFT) - (_FIRST - 1)
        np.clip(at, 0, BUCKETS - 1, out=at)
        self._counts += np.bincount(at, minlength=BUCKETS)
        self._sum += float(seconds.sum())

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._count(np.array(waiting))

    def read(self) -> Distribution:
        """All that was counted so far."""
        if self._waiting:
            self._settle()
        return Distribution(self._counts.copy(), self._sum)
