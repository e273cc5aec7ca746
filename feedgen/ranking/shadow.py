"""What every rung of the ladder would have done: their losses on the same events, side by side.

All rungs are asked for every event, the one that serves and those that do not (a shadow
comparison). Events are gathered into windows, and what is known of each rung is judged when one
ends. Differences between two rungs are paired: both predicted the same events, so what makes an
event hard cancels, and far fewer are needed than to tell two averages apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedgen.ranking import drift
from feedgen.ranking.drift import Cusum
from feedgen.ranking.monitor import CERTAIN, log_loss
from feedgen.ranking.rungs import Rung

PIECE = 1024
"""Events that are taken in at a time, with one running rate."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How evidence is gathered.

    Attributes:
        window: events of a window at least.
        seconds: that a window lasts at least. Without it a burst of events from the same minute,
            which resemble each other, would pass for two windows.
        fade: weight that a window has left when the next one ends. At .8 the comparison leans on
            about 9 windows' worth of events ((1 + .8)/(1 - .8)).
        outcomes: of the rarer kind that the fading windows must have before any rung leads. Without a
            single opening, whoever predicts fewest wins each event, by little and with certainty.
        prior_fade: events after which one counts 1/e in the running rate.
        drift: of each rung's CUSUM.
    """

    window: int = 500
    seconds: float = 60.0
    fade: float = 0.8
    outcomes: float = 10.0
    prior_fade: float = 5000.0
    drift: drift.Settings = field(default_factory=drift.Settings)


@dataclass(frozen=True, slots=True)
class Window:
    """One finished window, by rung; index with a `Rung`.

    Attributes:
        events: in it.
        available: the rung had a prediction for all of them.
        calibration: Σy / Σp.
        variance: Σp(1-p).
        z: of y - p, in standard errors.
        drifting: the rung's drift alarm is on.
    """

    events: int
    available: tuple[bool, ...]
    calibration: tuple[float, ...]
    variance: tuple[float, ...]
    z: tuple[float, ...]
    drifting: tuple[bool, ...]


class Shadow:
    """The evidence about all rungs.

    Attributes:
        rate: running rate of outcomes, the prior that every rung must beat.
    """

    __slots__ = ("_block", "_cusums", "_decayed", "_fading", "_settings", "rate")

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self.rate = 0.5
        self._decayed = [0.0, 0.0]  # events and outcomes behind the rate
        cusum = self._settings.drift
        self._cusums = [Cusum(cusum.threshold, cusum.warm_up) for _ in Rung]
        self._block = _Sums()
        self._fading = _Sums()

    def missing(self, count: int, predictions: Mapping[Rung, NDArray[np.floating]]) -> list[Rung]:
        """Return the rungs without a probability for each of `count` events.

        Raises:
            ValueError: A rung predicted another number of events. The caller is at fault.
        """
        for rung, p in predictions.items():
            if len(p) != count:
                raise ValueError(f"{len(p)} predictions by {rung.name} for {count} outcomes")
        return [
            rung for rung in Rung if rung is not Rung.NEWEST and not _usable(predictions.get(rung))
        ]

    @property
    def events(self) -> int:
        """Events in the window at hand."""
        return self._block.events

    def room(self, t: float) -> int | None:
        """Return how many events the window takes before it can end; None: all that come at `t`."""
        block = self._block
        if block.events and t - block.since < self._settings.seconds:
            return None
        return max(self._settings.window - block.events, 1)

    def take(
        self,
        y: NDArray[np.bool_],
        predictions: Mapping[Rung, NDArray[np.floating]],
        t: float,
        weight: NDArray[np.float64] | None = None,
    ) -> None:
        """Add events to the window; see `Ladder.observe`.

        A rung without predictions counts as saying the running rate, and is marked.
        """
        each = np.ones(len(y)) if weight is None else weight
        for start in range(0, len(y), PIECE):
            cut = slice(start, start + PIECE)
            said = {rung: p[cut] for rung, p in predictions.items()}
            self._piece(y[cut], said, t, each[cut])

    def _piece(
        self,
        y: NDArray[np.bool_],
        predictions: Mapping[Rung, NDArray[np.floating]],
        t: float,
        weight: NDArray[np.float64],
    ) -> None:
        # The prior knows the piece already, worth about a nat per `prior_fade` events to it: less
        # than what it would lose in the beginning to a rate that does not know anything.
        self._follow(y, weight)
        said = np.full((len(Rung), len(y)), self.rate)
        for rung in Rung:
            p = predictions.get(rung)
            if p is not None and _usable(p):
                np.clip(p, CERTAIN, 1.0 - CERTAIN, out=said[rung])
                steps = drift.increments(said[rung], y, self._settings.drift.shift)
                self._cusums[rung].add(steps)
            elif rung is not Rung.NEWEST:
                self._block.available[rung] = False
        self._block.add(y, said, t, weight)

    def _follow(self, y: NDArray[np.bool_], weight: NDArray[np.float64]) -> None:
        settings, (events, outcomes) = self._settings, self._decayed
        kept = float(np.exp(-len(y) / settings.prior_fade))
        events = events * kept + float(weight.sum())
        outcomes = outcomes * kept + float((y * weight).sum())
        self._decayed = [events, outcomes]
        self.rate = (outcomes + 0.5) / (events + 1.0)

    def full(self, t: float) -> bool:
        """Whether the window may end at `t`."""
        block, settings = self._block, self._settings
        return block.events >= settings.window and t - block.since >= settings.seconds

    def close(self) -> Window:
        """End the window, fold it into the comparison and begin another."""
        block = self._block
        self._fading.fade(self._settings.fade)
        self._fading.fold(block)
        self._block = _Sums()
        return Window(
            events=block.events,
            available=tuple(block.available.tolist()),
            calibration=tuple((block.outcomes / block.predicted).tolist()),
            variance=tuple(block.variance.tolist()),
            z=tuple(((block.outcomes - block.predicted) / np.sqrt(block.variance)).tolist()),
            drifting=tuple(cusum.drift is not drift.Drift.NONE for cusum in self._cusums),
        )

    def drop(self) -> None:
        """Forget the window at hand."""
        self._block = _Sums()

    def calibration(self, rung: Rung) -> float:
        """Return Σy / Σp over the fading windows; NaN before one."""
        predicted = float(self._fading.predicted[rung])
        return self._fading.outcomes / predicted if predicted else float("nan")

    def loss(self, rung: Rung) -> float:
        """Return the mean log-loss of a rung over the fading windows, in nats; NaN before one."""
        weight = self._fading.weight
        return float(self._fading.losses[rung]) / weight if weight else float("nan")

    def entropy(self, rung: Rung) -> float:
        """Return the normalised entropy: the loss over that of the prior; NaN before a window."""
        return self.loss(rung) / self.loss(Rung.NEWEST)

    def lead(self, rung: Rung, other: Rung) -> float:
        """Return by how many standard errors `rung` has less loss than `other`.

        0 if they are the same, or too few outcomes were seen to tell.

        The squares are not centred: under the hypothesis that neither is better they need not be,
        and a few lucky events cannot make the error look small.
        """
        fading = self._fading
        if min(fading.outcomes, fading.weight - fading.outcomes) < self._settings.outcomes:
            return 0.0
        square = (
            fading.products[rung, rung]
            - 2.0 * fading.products[rung, other]
            + fading.products[other, other]
        )
        # Differences of equal rungs are zero but for rounding.
        if square <= 1e-12 * max(float(fading.products[other, other]), 1e-300):
            return 0.0
        return float(fading.losses[other] - fading.losses[rung]) / sqrt(square)

    def drift_level(self, rung: Rung) -> float:
        """Return how near a rung's drift alarm is, 0 to 1."""
        return self._cusums[rung].level

    def copy(self, source: Rung, target: Rung) -> None:
        """Let `target` have the evidence of `source`: the same model stands there now."""
        self._cusums[target].restore(self._cusums[source].state())
        for sums in (self._block, self._fading):
            sums.copy(source, target)

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs, as JSON."""
        return {
            "rate": self.rate,
            "decayed": list(self._decayed),
            "cusums": [cusum.state() for cusum in self._cusums],
            "block": self._block.state(),
            "fading": self._fading.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.rate = float(state["rate"])
        self._decayed = [float(number) for number in state["decayed"]]
        for cusum, saved in zip(self._cusums, state["cusums"], strict=True):
            cusum.restore(saved)
        self._block.restore(state["block"])
        self._fading.restore(state["fading"])


class _Sums:
    """Sums over events, by rung: of a window, or of all windows as they fade."""

    __slots__ = (
        "available",
        "events",
        "losses",
        "outcomes",
        "predicted",
        "products",
        "since",
        "variance",
        "weight",
    )

    def __init__(self) -> None:
        rungs = len(Rung)
        self.events = 0
        self.since = 0.0
        self.weight = 0.0
        self.outcomes = 0.0
        self.available = np.ones(rungs, np.bool_)
        self.predicted = np.zeros(rungs)
        self.variance = np.zeros(rungs)
        self.losses = np.zeros(rungs)
        self.products = np.zeros((rungs, rungs))
        """Of the losses of two rungs: with these all paired differences have their variance."""

    def add(
        self,
        y: NDArray[np.bool_],
        said: NDArray[np.float64],
        t: float,
        weight: NDArray[np.float64],
    ) -> None:
        if not self.events:
            self.since = t
        losses = log_loss(said, y) * weight
        self.events += len(y)
        self.weight += float(weight.sum())
        self.outcomes += float((y * weight).sum())
        self.predicted += (said * weight).sum(axis=1)
        self.variance += (said * (1.0 - said) * (weight * weight)).sum(axis=1)
        self.losses += losses.sum(axis=1)
        self.products += losses @ losses.T

    def fade(self, kept: float) -> None:
        self.weight *= kept
        self.outcomes *= kept
        self.predicted *= kept
        self.losses *= kept
        self.products *= kept * kept

    def fold(self, block: _Sums) -> None:
        self.weight += block.weight
        self.outcomes += block.outcomes
        self.predicted += block.predicted
        self.losses += block.losses
        self.products += block.products

    def copy(self, source: Rung, target: Rung) -> None:
        for column in (self.available, self.predicted, self.variance, self.losses):
            column[target] = column[source]
        self.products[target] = self.products[source]
        self.products[:, target] = self.products[:, source]

    def state(self) -> dict[str, Any]:
        saved = {name: getattr(self, name) for name in self.__slots__}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in saved.items()}

    def restore(self, state: dict[str, Any]) -> None:
        for name in self.__slots__:
            value = state[name]
            setattr(self, name, np.array(value) if isinstance(value, list) else value)


def _usable(p: NDArray[np.floating] | None) -> bool:
    """Whether all are probabilities; NaN is none."""
    return p is not None and bool(((p >= 0.0) & (p <= 1.0)).all())
