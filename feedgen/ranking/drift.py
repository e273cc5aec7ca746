"""Has the world moved away from the predictions? A CUSUM on outcome minus prediction.

Page's test (Biometrika 1954) adds up how much better each outcome is explained by a model whose
log-odds are shifted by δ than by the model itself,

    S ← max(0, S + δ·(y - p) - [ln(1 - p + p·e^δ) - δ·p]),

and raises an alarm at S ≥ h. It is a sum of y - p with an allowance of about δ²·p(1-p)/2 per event.
The bracket makes e^(increment) a likelihood ratio, of mean one whatever p is, so that one h suits all
rates: over n events a model that is right raises a false alarm, in either direction, with a
probability below 2·n·e^-h (Ville's inequality from every start), and in practice some fifty times
more seldom. Plain standardised (y - p)/√(p(1-p)) was rejected: at p = .02 an outcome counts
seven standard deviations, and an h that holds there is slow at p = .5.

The sums of a model whose log-odds are wrong by less than δ/2 (10 % of the rate at p = .5, 20 % at
small p) still tend to zero, but get to h more often by chance: at p = .5, in 20 000 events, with a
probability of .4 % if the rate is 2 % lower than predicted, and of 11 % if it is 5 % lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Drift(StrEnum):
    """What the outcomes do against the predictions."""

    NONE = "none"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Settings:
    """When a difference is a drift.

    Attributes:
        shift: δ, the change of log-odds that is found fastest. ln(.4/.6) = -.405 is the drop of a
            rate of one half by 20 %.
        threshold: h. At 13 a model that is right raises an alarm in 20 000 events with a
            probability of .1 to .2 %. A drop of 20 % is found after 570 events in the median at
            p = .5, 1 000 at .3, 4 200 at .1; at .02 a halving after 4 600.
        warm_up: first events that do not count. A new model says the same for all until it has
            learned something, which may be far from the truth and is no drift.
    """

    shift: float = 0.4
    threshold: float = 13.0
    warm_up: int = 200


def increments(p: NDArray[np.float64], y: NDArray[np.bool_], shift: float) -> NDArray[np.float64]:
    """Return what each event adds to the two sums, float64 [2, n]: for a rise and for a drop.

    Args:
        p: predictions in (0, 1), [n].
        y: outcomes, [n].
        shift: δ > 0.
    """
    both = np.empty((2, len(p)))
    for row, delta in zip(both, (shift, -shift), strict=True):
        np.log1p(p * np.expm1(delta), out=row)
        np.subtract(delta * y, row, out=row)
    return both


class Cusum:
    """The two sums of one stream of events.

    An alarm ends when its sum is back at zero: by then the events since have spoken for the model as
    clearly as those before spoke against it.

    Args:
        threshold: h.
        warm_up: first events that do not count.

    Attributes:
        alarms: how many were raised so far.
    """

    __slots__ = ("_on", "_runs", "_sums", "_threshold", "_warm_up", "alarms")

    def __init__(self, threshold: float, warm_up: int = 0) -> None:
        self._threshold = threshold
        self._warm_up = warm_up
        self._sums = np.zeros(2)
        self._runs = [0, 0]
        self._on = [False, False]
        self.alarms = 0

    @property
    def drift(self) -> Drift:
        """The direction of an alarm that is on; the stronger of two."""
        if not any(self._on):
            return Drift.NONE
        rise, drop = (s if on else -1.0 for s, on in zip(self._sums, self._on, strict=True))
        return Drift.UP if rise > drop else Drift.DOWN

    @property
    def level(self) -> float:
        """The larger sum as a share of the threshold: 0 nothing, 1 alarm."""
        return float(self._sums.max()) / self._threshold

    @property
    def run(self) -> int:
        """Events since the larger sum was last zero: Page's estimate of when the change came."""
        return self._runs[int(self._sums.argmax())]

    def add(self, steps: NDArray[np.float64]) -> None:
        """Take in events.

        Args:
            steps: what `increments` says of them, [2, n], in order of time. At its end a sum is cut
                to the threshold, else an alarm would last the longer the later it is noticed.
        """
        if self._warm_up:
            early = min(self._warm_up, steps.shape[1])
            self._warm_up -= early
            steps = steps[:, early:]
        n = steps.shape[1]
        if n == 0:
            return
        walk = steps.cumsum(axis=1)
        walk += self._sums[:, None]
        lowest = np.minimum.accumulate(walk, axis=1)
        walk -= np.minimum(lowest, 0.0, out=lowest)
        self._sums = np.minimum(walk[:, -1], self._threshold)
        # Counted from the end: the last zero, and whether there is one at all.
        zero = walk[:, ::-1] <= 0.0
        back, peak = zero.argmax(axis=1).tolist(), walk.max(axis=1).tolist()
        for side in (0, 1):
            touched = bool(zero[side, back[side]])
            self._runs[side] = back[side] if touched else self._runs[side] + n
            if peak[side] >= self._threshold:
                self._alarm(side, walk[side], back[side] if touched else n)
            elif touched:
                self._on[side] = False

    def _alarm(self, side: int, sums: NDArray[np.float64], back: int) -> None:
        """Raise an alarm, unless it is on; it is over already if the last zero came after it."""
        self.alarms += not self._on[side]
        since = int((sums[::-1] >= self._threshold).argmax())
        self._on[side] = since < back

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs, as JSON."""
        return {
            "sums": self._sums.tolist(),
            "runs": list(self._runs),
            "on": list(self._on),
            "warm_up": self._warm_up,
            "alarms": self.alarms,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._sums = np.array(state["sums"], np.float64)
        self._runs = [int(run) for run in state["runs"]]
        self._on = [bool(on) for on in state["on"]]
        self._warm_up = int(state["warm_up"])
        self.alarms = int(state["alarms"])
