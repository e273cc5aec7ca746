"""Intervals by resampling devices: events of one device are no independent witnesses.

A draw takes as many devices as there are, with replacement; each brings all its events (the cluster
bootstrap, Davison and Hinkley 1997, section 3.8). An interval is the basic one (there, 5.2): the
distance of the draws from the estimate, reversed. That undoes the bias of metrics which noise pushes
one way, as it does calibration error; the percentile interval would double it. It is cut at the
metric's range and widened to hold the estimate itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from feedgen.evaluate.ranker import Floats

if TYPE_CHECKING:
    from collections.abc import Iterator

Codes: TypeAlias = NDArray[np.int32]
"""Numbers of devices or lists, from 0."""

LEVEL = 0.95
RESAMPLES = 200

_CHUNK = 1 << 22
"""Counts that are float64 at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """How often each cluster counts in each draw.

    Attributes:
        cluster: [events], the number of each event's cluster.
        times: uint8 [draws, clusters].
    """

    cluster: NDArray[np.intp]
    times: NDArray[np.uint8]

    @classmethod
    def once(cls, events: int) -> Draws:
        """Return the one draw in which everything counts once."""
        return cls(np.zeros(events, np.intp), np.ones((1, 1), np.uint8))

    @classmethod
    def of(cls, clusters: Codes, resamples: int, seed: int) -> Draws:
        """Draw clusters with replacement.

        Args:
            clusters: [events], the number of each event's cluster; any numbers.
            resamples: how many draws; 0 none.
            seed: of the draws.
        """
        names, dense = np.unique(clusters, return_inverse=True)
        count, rng = len(names), np.random.default_rng(seed)
        times = np.empty((resamples, count), np.uint8)
        for each in times:
            # 255 is never reached: that many times the same is less likely than 1e-500.
            each[:] = np.bincount(rng.integers(max(count, 1), size=count), minlength=count)
        return cls(dense.astype(np.intp), times)

    def sums(self, values: Floats) -> Floats:
        """Return the sum [draws] of values [events], each as often as its cluster counts."""
        return np.asarray(self.sums_by(values, np.zeros(len(values), np.int64), 1)[:, 0])

    def sums_by(self, values: Floats, groups: NDArray[np.int64], count: int) -> Floats:
        """Return such sums for each group, [draws, groups]; `groups` [events] is from 0."""
        draws, clusters = self.times.shape
        cells = np.bincount(self.cluster * count + groups, values, clusters * count)
        table = cells.reshape(clusters, count)
        step = max(_CHUNK // max(clusters, 1), 1)
        parts = [
            self.times[start : start + step].astype(np.float64) @ table
            for start in range(0, draws, step)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, count))

    def weights(self) -> Iterator[Floats]:
        """Yield for each draw how often each event counts, [events]."""
        for each in self.times:
            yield each.astype(np.float64)[self.cluster]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and from where to where the truth may be, with 95 %.

    Attributes:
        value: the estimate; NaN where it cannot be made.
        low: lower end; NaN without draws.
        high: upper end, likewise.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low


def interval(
    value: float, drawn: Floats, within: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """Return the basic interval of a value.

    Args:
        value: the estimate from all events.
        drawn: the estimates from draws; those that are NaN do not count.
        within: the range of what is estimated.
    """
    known = drawn[np.isfinite(drawn)]
    if not len(known) or not np.isfinite(value):
        return Interval(value)
    bottom, top = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low = min(max(2 * value - float(top), within[0]), value)
    high = max(min(2 * value - float(bottom), within[1]), value)
    return Interval(value, low, high)
