"""Running figures of a stream: the rate of all impressions, and the scale of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_WIDEST = 4.0
"""Numbers count as at most so many standard deviations from their mean."""
_LARGEST = 1e100
"""Numbers beyond count as this, so that their squares stay numbers."""


class Rate:
    """The fading rate of all impressions."""

    __slots__ = ("_fade", "opened", "shown", "start")

    def __init__(self, rate: float, memory: float) -> None:
        self._fade = float(np.exp(-1 / memory))
        self.shown, self.opened = 2.0, 2.0 * rate
        self.start = rate

    @property
    def now(self) -> float:
        """The share of openings."""
        return min(max(self.opened / self.shown, 1e-6), 1 - 1e-6)

    def add(self, labels: Floats, weights: Floats) -> None:
        """Count outcomes, in their order."""
        fading = self._fade ** np.arange(len(labels) - 1, -1, -1)
        past = self._fade ** len(labels)
        self.shown = max(self.shown * past + float(weights @ fading), 1.0)
        self.opened = max(self.opened * past + float(weights * labels @ fading), 0.0)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {"shown": self.shown, "opened": self.opened, "start": self.start}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.shown, self.opened, self.start = (
            float(state[name]) for name in ("shown", "opened", "start")
        )


class Scale:
    """Running mean and deviation of numbers, of which no scale is known beforehand."""

    __slots__ = ("_count", "_mean", "_square", "_start")

    def __init__(self) -> None:
        self._count = self._mean = self._square = np.zeros(0)
        self._start = (np.zeros(0), np.ones(0))

    def add(self, num: Floats) -> None:
        """Count numbers, those that are not finite left out (Chan et al., COMPSTAT 1982)."""
        more = num.shape[1] - len(self._count)
        if more > 0:
            self._count, self._mean, self._square = (
                np.pad(each, (0, more)) for each in (self._count, self._mean, self._square)
            )
            mean, deviation = self._start
            self._start = (
                np.pad(mean, (0, more)),
                np.pad(deviation, (0, more), constant_values=1.0),
            )
        if not num.shape[1]:
            return
        known = np.isfinite(num)
        at, count = slice(num.shape[1]), known.sum(axis=0)
        values = np.where(known, np.clip(num, -_LARGEST, _LARGEST), 0.0)
        mean = values.sum(axis=0) / np.maximum(count, 1)
        apart = np.where(known, values - mean, 0.0)
        away = mean - self._mean[at]
        share = count / np.maximum(self._count[at] + count, 1)
        self._square[at] += (apart * apart).sum(axis=0) + away * away * self._count[at] * share
        self._mean[at] += away * share
        self._count[at] += count

    def settle(self) -> None:
        """Let what was counted take effect."""
        spread = np.sqrt(self._square / np.maximum(self._count, 1))
        # Below, deviations are what rounding leaves of them.
        spread = np.maximum(spread, 1e-12 * np.maximum(np.abs(self._mean), 1))
        enough = self._count > 1
        self._start = (np.where(enough, self._mean, 0.0), np.where(enough, spread, 1.0))

    def scaled(self, num: Floats) -> Floats:
        """Return numbers in standard deviations from their mean, 0 for nan, at most `_WIDEST`."""
        mean, deviation = (each[: num.shape[1]] for each in self._start)
        missing = num.shape[1] - len(mean)
        if missing > 0:
            mean, deviation = (
                np.pad(mean, (0, missing)),
                np.pad(deviation, (0, missing), constant_values=1.0),
            )
        values = np.clip(num, -_LARGEST, _LARGEST)
        scaled = np.clip((values - mean) / deviation, -_WIDEST, _WIDEST)
        return np.where(np.isfinite(num), scaled, 0.0)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {
            "sums": np.array((self._count, self._mean, self._square)),
            "start": np.array(self._start),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._count, self._mean, self._square = np.array(state["sums"], np.float64)
        mean, deviation = np.array(state["start"], np.float64)
        self._start = mean, deviation
