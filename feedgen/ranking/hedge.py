"""A hedge: the learned probability mixed with the rate of all, by what each was worth so far.

On a log without signal, or with too few openings to learn from, a model of many weights fits noise. The
mixture's weights are those of Bayesian model averaging over the two, with losses that fade: the mixture
loses at most a few nats against the better of them (Cesa-Bianchi & Lugosi, Prediction, Learning, and
Games, 2006, 3.3), so that the ranking never does harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR = 1e-9


def log_loss(p: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-loss of each prediction, in nats."""
    p = np.clip(p, FLOOR, 1 - FLOOR)
    return np.asarray(-(labels * np.log(p) + (1 - labels) * np.log1p(-p)))


class Hedge:
    """The share of the learned probability.

    Args:
        handicap: nats that the model starts behind, as nothing is known of it, and falls back to.
        memory: impressions over which losses fade to 1/e.
        least: the smallest share of either.
    """

    __slots__ = ("_fade", "_least", "_start", "lead")

    def __init__(
        self, handicap: float = 5.0, memory: float = 20_000.0, least: float = 1e-3
    ) -> None:
        self._start = self.lead = -handicap
        self._fade = float(np.exp(-1 / memory))
        self._least = least

    @property
    def share(self) -> float:
        """The weight of the learned probability, within (0, 1)."""
        share = 1 / (1 + np.exp(-np.clip(self.lead, -50, 50)))
        return float(np.clip(share, self._least, 1 - self._least))

    def observe(
        self,
        learned: NDArray[np.float64],
        rate: float,
        labels: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> None:
        """Take note of what both said of outcomes, in their order."""
        gain = log_loss(np.full(len(labels), rate), labels) - log_loss(learned, labels)
        fading = self._fade ** np.arange(len(labels) - 1, -1, -1)
        past = self._fade ** len(labels)
        self.lead = self._start + (self.lead - self._start) * past + float(gain * weights @ fading)

    def mix(self, learned: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
        """Return the mixture of the learned probability and the rate of all."""
        share = self.share
        return np.asarray(share * learned + (1 - share) * rate)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {"lead": self.lead}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.lead = float(state["lead"])
