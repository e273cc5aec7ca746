"""What the ranking is worth: devices that it ranks against those that stay on newest first.

A small share of devices, drawn by their token, never gets anything but newest first. The lift is the
rate of openings of all others over theirs, less one. Impressions of one device are alike, so the
interval is that of a jackknife over groups of devices and not over impressions (Efron & Tibshirani,
An Introduction to the Bootstrap, 1993, 11.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feedgen.ranking.tokens import Tokens

GROUPS = 64
"""Groups of devices, by their token."""
_QUANTILE = 1.959964


@dataclass(frozen=True, slots=True)
class Lift:
    """Ranked devices over those on newest first.

    Attributes:
        ranked: impressions of the former.
        held_out: impressions of the latter.
        ranked_rate: openings per impression.
        held_out_rate: likewise.
        lift: ranked rate over the other, less 1; None while there is too little to tell.
        low: lower end of its 95 % interval; None as well while one group of devices is all there is.
        high: upper end.
    """

    ranked: float
    held_out: float
    ranked_rate: float
    held_out_rate: float
    lift: float | None
    low: float | None
    high: float | None


class LiftMeter:
    """Counts outcomes of both, fading.

    Args:
        half_life: seconds in which what was counted fades by half.
        least: openings that each side must have before anything is said.
    """

    __slots__ = ("_half_life", "_least", "_now", "_sums")

    def __init__(self, half_life: float = 14 * 86_400.0, least: float = 20.0) -> None:
        self._half_life = half_life
        self._least = least
        self._now: float | None = None
        self._sums: NDArray[np.float64] = np.zeros((2, 2, GROUPS))
        """Held out or not, impressions and openings, group of devices."""

    def observe(
        self,
        device: Tokens,
        held_out: NDArray[np.bool_],
        opened: NDArray[np.bool_],
        now: float,
        scale: NDArray[np.float32] | None = None,
    ) -> None:
        """Count outcomes.

        Args:
            device: uint64 [n].
            held_out: bool [n], whether the device stays on newest first.
            opened: bool [n].
            now: Unix seconds.
            scale: float32 [n], outcomes that each stands for; None: 1 each.
        """
        each = np.ones(len(device), np.float32) if scale is None else scale
        if self._now is not None and now > self._now:
            self._sums *= 0.5 ** ((now - self._now) / self._half_life)
        self._now = now if self._now is None else max(now, self._now)
        group = (device >> np.uint64(32)).astype(np.intp) % GROUPS
        for side in (0, 1):
            of_side = held_out == bool(side)
            where = group[of_side]
            self._sums[side, 0] += np.bincount(where, each[of_side], GROUPS)
            self._sums[side, 1] += np.bincount(where, (opened * each)[of_side], GROUPS)

    def read(self) -> Lift:
        """Return the lift as it is known by now."""
        shown, opened = self._sums[:, 0].sum(axis=1), self._sums[:, 1].sum(axis=1)
        rates = opened / np.maximum(shown, 1e-12)
        lift = low = high = None
        if (opened >= self._least).all():
            ratio = float(rates[0] / rates[1])
            lift = ratio - 1
            width = self._width()
            if width is not None:
                # In logarithms, where the interval of a ratio is symmetric.
                low, high = (ratio * float(np.exp(sign * width)) - 1 for sign in (-1, 1))
        return Lift(
            float(shown[0]), float(shown[1]), float(rates[0]), float(rates[1]), lift, low, high
        )

    def _width(self) -> float | None:
        """Return half the width of the interval of the lift's logarithm; None if it cannot be told."""
        variances, counts = np.transpose([self._variance(side) for side in (0, 1)])
        if counts.min() < 2:
            return None
        variance = variances.sum()
        # Welch and Satterthwaite: few groups on one side tell less of their own spread.
        freedom = variance**2 / max(float((variances**2 / (counts - 1)).sum()), 1e-300)
        return student(max(freedom, 1.0)) * float(np.sqrt(variance))

    def _variance(self, side: int) -> tuple[float, int]:
        """Return the jackknife variance of the logarithm of one side's rate, and of how many groups."""
        shown, opened = self._sums[side]
        used = shown > 0
        count = int(used.sum())
        if count < 2:
            return 0.0, count
        without_shown = shown.sum() - shown[used]
        without_opened = np.maximum(opened.sum() - opened[used], 0.5)
        logs = np.log(without_opened / np.maximum(without_shown, 1e-12))
        return float((count - 1) / count * ((logs - logs.mean()) ** 2).sum()), count

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {"sums": self._sums.copy(), "now": self._now}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._sums = np.array(state["sums"]).reshape(2, 2, GROUPS)
        self._now = state["now"]


def student(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t, by its series around the normal's.

    Within 1 % from 3 degrees of freedom on, too small by a quarter at 1 (Abramowitz & Stegun, 26.7.5).
    """
    z = _QUANTILE
    return float(
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
