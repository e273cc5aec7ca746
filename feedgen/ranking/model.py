"""Bayesian logistic regression, online, with a diagonal Laplace posterior.

The logit of an impression is

    logit(rate of all) + sum over groups g of trust_g * (sum of the weights of its features in g)
                       + sum of slope_f * (smoothed rate of its feature in family f)
                       + sum of slope_j * number_j

Weights stand in a hashed table. Each has a Gaussian posterior: a mean, and a precision that grows by
the curvature p(1-p)x^2 of what it was learned from (Chapelle & Li, NIPS 2011, algorithm 3, in one Newton
step per coordinate; the rate per coordinate plays the part that it has in McMahan et al., KDD 2013). The
trust of a group is learned like a weight: where a group fits noise its trust falls, where its prior is
too tight it rises above one, so that one set of priors suits streams that differ.

Updates are grouped in *steps* that depend on nothing but the number of impressions learned so far. The
gradients of a step are taken at the weights of its beginning and add up, so learning a batch gives
the weights that learning its impressions one by one gives; predictions use what the step has added
up to then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.ranking.counters import Counters, CounterSettings
from feedgen.ranking.features import GROUPS, Group
from feedgen.ranking.hedge import Hedge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from feedgen.ranking.features import Encoded

    Floats = NDArray[np.float64]

_FORGET_EVERY = 4096
"""Impressions after which forgetting passes over the table."""
MAX_FAMILIES = 1024
"""Families with a slope of their own. All others share that of `OTHERS`: a log whose fields have ever
new names must not fill the memory."""
OTHERS = ""
_WIDEST = 4.0
"""Numbers count as at most so many standard deviations from their mean."""
_LARGEST = 1e100
"""Numbers beyond count as this, so that their squares stay numbers."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What the model may be told. One set of defaults for every stream.

    Attributes:
        bits: the table has 2^bits weights.
        precision: of the prior of a weight, by group.
        trust_precision: of the prior of a group's trust, around 1.
        slope_precision: of the prior of a slope.
        slopes: prior mean of the slope of a rate, by group; 0 for groups not named.
        steps: least and most impressions of a step; 1/64 of those learned lies between.
        forgetting: share of all precision lost per impression, so that the model stays able to learn.
        rate: share of openings expected before anything is learned.
        rate_memory: impressions over which the rate of all fades to 1/e.
        counters: how rates are smoothed.
        handicap: nats that the model starts behind the rate of all in the hedge.
    """

    bits: int = 18
    precision: tuple[float, ...] = (50.0, 50.0, 20.0, 20.0, 20.0, 50.0, 50.0, 20.0, 20.0, 20.0)
    trust_precision: float = 10.0
    slope_precision: float = 5.0
    slopes: tuple[tuple[Group, float], ...] = (
        (Group.DEVICE, 0.5),
        (Group.ITEM, 0.5),
        (Group.KIND, 0.5),
        (Group.TASTE, 0.5),
    )
    steps: tuple[int, int] = (16, 1024)
    forgetting: float = 1e-6
    rate: float = 0.1
    rate_memory: float = 50_000.0
    counters: CounterSettings = field(default_factory=CounterSettings)
    handicap: float = 5.0


def sigmoid(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -30, 30))))


def logit(p: float) -> float:
    """Return the inverse of `sigmoid`."""
    return float(np.log(p / (1 - p)))


_STEP = ("start", "gradient", "curvature")
"""What a step keeps beside what was learned before it."""
_COLUMNS = ("mean", "precision", *_STEP)


class Posterior:
    """Coordinates with Gaussian posteriors, learned in steps.

    Attributes:
        mean: what predictions use.
        start: the mean when the step began, where gradients are taken.
        precision: without the prior's.
        prior: precision of the prior; a number, or one per coordinate.
    """

    __slots__ = ("curvature", "gradient", "mean", "precision", "prior", "start")

    def __init__(self, mean: Floats, prior: float) -> None:
        self.mean = mean
        self.start = mean.copy()
        self.precision: Floats = np.zeros(len(mean))
        self.gradient: Floats = np.zeros(len(mean))
        self.curvature: Floats = np.zeros(len(mean))
        self.prior = prior

    def grow(self, mean: Sequence[float]) -> None:
        """Append coordinates."""
        new = np.array(mean)
        self.mean = np.concatenate((self.mean, new))
        self.start = np.concatenate((self.start, new))
        nothing = np.zeros(len(new))
        self.precision = np.concatenate((self.precision, nothing))
        self.gradient = np.concatenate((self.gradient, nothing))
        self.curvature = np.concatenate((self.curvature, nothing))

    def add(self, at: NDArray[np.intp], gradient: Floats, curvature: Floats) -> None:
        """Learn some coordinates, each named once or several times."""
        np.add.at(self.gradient, at, gradient)
        np.add.at(self.curvature, at, curvature)
        steepness = np.maximum(self.precision[at] + self.curvature[at], 0) + self.prior
        self.mean[at] = self.start[at] + self.gradient[at] / steepness

    def settle(self) -> None:
        """End a step."""
        self.start[:] = self.mean
        self.precision += self.curvature
        np.maximum(self.precision, 0, out=self.precision)
        self.gradient[:] = self.curvature[:] = 0

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes; a step that has begun goes on after it."""
        return {name: getattr(self, name).copy() for name in _COLUMNS}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        for name in _COLUMNS:
            setattr(self, name, np.array(state[name], np.float64))


class Table(Posterior):
    """Hashed weights: a posterior of which a step touches a few coordinates."""

    __slots__ = ("_touched",)

    def __init__(self, bits: int) -> None:
        super().__init__(np.zeros(1 << bits), 0.0)
        self._touched: list[NDArray[np.int64]] = []

    def add_at(
        self, places: NDArray[np.int64], gradient: Floats, curvature: Floats, prior: Floats
    ) -> None:
        """Learn weights.

        Args:
            places: int64 [impressions, features], may repeat.
            gradient: float64, of the same shape.
            curvature: float64, of the same shape.
            prior: float64 [features], precision of their priors.
        """
        flat = places.ravel()
        np.add.at(self.gradient, flat, gradient.ravel())
        np.add.at(self.curvature, flat, curvature.ravel())
        steepness = np.maximum(self.precision[places] + self.curvature[places], 0) + prior
        self.mean[places] = self.start[places] + self.gradient[places] / steepness
        self._touched.append(flat)

    def settle(self) -> None:
        """End a step."""
        for at in self._touched:
            self.start[at] = self.mean[at]
            self.precision[at] = np.maximum(self.precision[at] + self.curvature[at], 0)
            self.curvature[at] = 0  # before the next part: places may stand in both
            self.gradient[at] = 0
        self._touched.clear()

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes: the weights that are in use, and the step that has begun."""
        used = np.flatnonzero((self.mean != 0) | (self.start != 0) | (self.precision != 0))
        touched = np.unique(np.concatenate([np.empty(0, np.int64), *self._touched]))
        state = {name: getattr(self, name)[used] for name in ("mean", "precision")}
        state |= {f"step_{name}": getattr(self, name)[touched] for name in _STEP}
        places = {"places": used, "step_places": touched}
        return {**state, **{name: at.astype(np.int32) for name, at in places.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        for name in _COLUMNS:
            getattr(self, name)[:] = 0
        used, touched = (np.array(state[name], np.int64) for name in ("places", "step_places"))
        self.mean[used] = self.start[used] = state["mean"]
        self.precision[used] = state["precision"]
        for name in _STEP:
            getattr(self, name)[touched] = state[f"step_{name}"]
        self._touched = [touched]


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


class LogisticModel:
    """One head: the probability that an impression comes to something.

    Args:
        settings: see there.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.table = Table(settings.bits)
        self.trust = Posterior(np.ones(GROUPS), settings.trust_precision)
        self.slopes = Posterior(np.zeros(1), settings.slope_precision)
        self.counters = Counters(settings.bits, settings.counters)
        self.hedge = Hedge(settings.handicap)
        self.rate = Rate(settings.rate, settings.rate_memory)
        self.learned = 0
        self.families = {OTHERS: 0}
        self._precision = np.array(settings.precision)
        self._step_end = settings.steps[0]
        self._forget_at = _FORGET_EVERY
        self._numbers = _Scale()

    # ---- Predicting

    def logits(self, encoded: Encoded) -> Floats:
        """Return the logit of each impression; float64 [impressions]."""
        layout = encoded.layout
        weights = self.table.mean[encoded.places]
        if encoded.present is not None:
            weights *= encoded.present
        z = weights @ self.trust.mean[layout.groups]
        rate = self.rate.now
        x = self._covariates(encoded, self.counters.rates(encoded.places[:, layout.counted], rate))
        at = self._slopes_of(encoded)
        z += x @ self.slopes.mean[at]
        z += logit(rate)
        return np.asarray(z)

    def probability(self, logits: Floats) -> Floats:
        """Return the probabilities of logits: hedged, within (0, 1)."""
        return self.hedge.mix(sigmoid(logits), self.rate.now)

    def predict(self, encoded: Encoded) -> Floats:
        """Return the probability of each impression; float64 [impressions]."""
        return self.probability(self.logits(encoded))

    def item_term(self, encoded: Encoded) -> Floats:
        """Return what the evidence of the item itself adds to each logit: its weight and its rate."""
        layout = encoded.layout
        own = np.flatnonzero(layout.groups == Group.ITEM)
        places = encoded.places[:, own]
        counted = [at for at, place in enumerate(layout.counted) if place in own]
        at = self._slopes_of(encoded)[counted]
        slopes = self.slopes.mean[at]
        weights = self.table.mean[places].sum(axis=1) * self.trust.mean[Group.ITEM]
        return np.asarray(weights + self.counters.rates(places, self.rate.now) @ slopes)

    # ---- Learning

    def learn(
        self,
        encoded: Encoded,
        labels: Floats,
        weights: Floats | None = None,
        now: float | Floats = 0.0,
    ) -> None:
        """Learn outcomes, in their order.

        Args:
            encoded: the impressions.
            labels: float64 [impressions], 1 for a success, else 0.
            weights: float64 [impressions], how much each counts; negative takes back what was
                learned. None: 1 each.
            now: Unix seconds, of all or of each, for the fading of counts.
        """
        if weights is None:
            weights = np.ones(len(labels))
        times = np.broadcast_to(np.asarray(now, np.float64), labels.shape)
        start = 0
        while start < len(labels):
            end = min(len(labels), start + self._step_end - self.learned)
            part = slice(start, end)
            self._learn(encoded.rows(part), labels[part], weights[part], times[part])
            self.learned += end - start
            start = end
            if self.learned == self._step_end:
                self._settle()

    def _learn(self, encoded: Encoded, labels: Floats, weights: Floats, times: Floats) -> None:
        """Learn a part of one step."""
        layout, places = encoded.layout, encoded.places
        self._make_slopes(encoded)
        at = self._slopes_of(encoded)
        self._numbers.add(encoded.num)
        found = self.table.start[places]
        if encoded.present is not None:
            found *= encoded.present
        sums = found @ layout.members
        rate = self.rate.start
        present = None if encoded.present is None else encoded.present[:, layout.counted]
        rates = self.counters.learn(
            places[:, layout.counted], labels, weights, rate, times, present
        )
        x = self._covariates(encoded, rates)
        p = sigmoid(logit(rate) + sums @ self.trust.start + x @ self.slopes.start[at])
        self.hedge.observe(p, rate, labels, weights)
        gradient = weights * (labels - p)
        curvature = weights * p * (1 - p)
        trust = self.trust.start[layout.groups]
        slant, bend = gradient[:, None] * trust, curvature[:, None] * trust**2
        if encoded.present is not None:
            slant *= encoded.present
            bend *= encoded.present
        self.table.add_at(places, slant, bend, self._precision[layout.groups])
        self.slopes.add(at, gradient @ x, curvature @ (x * x))
        self.trust.add(np.arange(GROUPS), gradient @ sums, curvature @ (sums * sums))
        np.clip(self.trust.mean, 0, 2, out=self.trust.mean)
        self.rate.add(labels, weights)

    def _settle(self) -> None:
        """End a step, and set the end of the next."""
        least, most = self.settings.steps
        self._step_end += min(max(self.learned // 64, least), most)
        for each in (self.table, self.slopes, self.trust):
            each.settle()
        self.rate.start = self.rate.now
        self._numbers.settle()
        if self.learned >= self._forget_at:
            self._forget_at += _FORGET_EVERY
            kept = (1 - self.settings.forgetting) ** _FORGET_EVERY
            for each in (self.table, self.slopes, self.trust):
                each.precision *= kept

    # ---- State

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes: arrays, numbers, names; copies, for another thread to write."""
        return {
            "bits": self.settings.bits,
            "learned": self.learned,
            "step_end": self._step_end,
            "forget_at": self._forget_at,
            "families": list(self.families),
            **{name: part.state() for name, part in self._parts().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`: what is learned next gives what it would have given without a stop.

        Raises:
            ValueError: it was learned with another number of weights or groups; begin anew.
            KeyError: it is no state.
        """
        if state["bits"] != self.settings.bits or len(state["trust"]["mean"]) != GROUPS:
            raise ValueError(
                f"the state has 2^{state['bits']} weights and {len(state['trust']['mean'])} groups, "
                f"this model 2^{self.settings.bits} and {GROUPS}"
            )
        for name, part in self._parts().items():
            part.restore(state[name])
        self.learned = int(state["learned"])
        self._step_end = int(state["step_end"])
        self._forget_at = int(state["forget_at"])
        self.families = {name: place for place, name in enumerate(state["families"])}

    def _parts(self) -> dict[str, Posterior | Counters | Hedge | Rate | _Scale]:
        return {
            "table": self.table,
            "trust": self.trust,
            "slopes": self.slopes,
            "counters": self.counters,
            "hedge": self.hedge,
            "rate": self.rate,
            "numbers": self._numbers,
        }

    # ---- Features with a slope

    def _slopes_of(self, encoded: Encoded) -> NDArray[np.intp]:
        """Return the coordinates of the slopes of an encoding."""
        return np.array([self.families.get(name, 0) for name in _names(encoded)], np.intp)

    def _make_slopes(self, encoded: Encoded) -> None:
        """Make the coordinates that an encoding needs and that there are not yet."""
        new = [name for name in dict.fromkeys(_names(encoded)) if name not in self.families]
        new = new[: MAX_FAMILIES - len(self.families)]
        if new:
            layout, known = encoded.layout, dict(self.settings.slopes)
            groups = zip(layout.families, layout.groups[layout.counted].tolist(), strict=True)
            first = {family: known.get(Group(group), 0.0) for family, group in groups}
            self.slopes.grow([first.get(name, 0.0) for name in new])
            self.families |= {name: len(self.families) + at for at, name in enumerate(new)}

    def _covariates(self, encoded: Encoded, rates: Floats) -> Floats:
        """Return float64 [impressions, slopes]."""
        if encoded.present is not None:
            rates *= encoded.present[:, encoded.layout.counted]
        if not encoded.num.shape[1]:
            return rates
        return np.concatenate((rates, self._numbers.scaled(encoded.num)), axis=1)


def _names(encoded: Encoded) -> list[str]:
    """Return the families of an encoding's slopes."""
    return [*encoded.layout.families, *(f"number {at}" for at in range(encoded.num.shape[1]))]


class _Scale:
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
