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
_WIDEST = 4.0
"""Numbers count as at most so many standard deviations from their mean."""


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


class LogisticModel:
    """One head: the probability that an impression comes to something.

    Args:
        settings: see there.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.table = Table(settings.bits)
        self.trust = Posterior(np.ones(GROUPS), settings.trust_precision)
        self.slopes = Posterior(np.zeros(0), settings.slope_precision)
        self.counters = Counters(settings.bits, settings.counters)
        self.hedge = Hedge(settings.handicap)
        self.rate = Rate(settings.rate, settings.rate_memory)
        self.learned = 0
        self.families: dict[str, int] = {}
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
        self, encoded: Encoded, labels: Floats, weights: Floats | None = None, now: float = 0.0
    ) -> None:
        """Learn outcomes, in their order.

        Args:
            encoded: the impressions.
            labels: float64 [impressions], 1 for a success, else 0.
            weights: float64 [impressions], how much each counts; negative takes back what was
                learned. None: 1 each.
            now: Unix seconds, for the fading of counts.
        """
        if weights is None:
            weights = np.ones(len(labels))
        self.counters.advance(now)
        start = 0
        while start < len(labels):
            end = min(len(labels), start + self._step_end - self.learned)
            self._learn(encoded.part(start, end), labels[start:end], weights[start:end])
            self.learned += end - start
            start = end
            if self.learned == self._step_end:
                self._settle()

    def _learn(self, encoded: Encoded, labels: Floats, weights: Floats) -> None:
        """Learn a part of one step."""
        layout, places = encoded.layout, encoded.places
        at = self._slopes_of(encoded)
        self._numbers.add(encoded.num)
        found = self.table.start[places]
        if encoded.present is not None:
            found *= encoded.present
        sums = found @ layout.members
        rate = self.rate.start
        rates = self.counters.learn(places[:, layout.counted], labels, weights, rate)
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

    # ---- Features with a slope

    def _slopes_of(self, encoded: Encoded) -> NDArray[np.intp]:
        """Return the coordinates of the slopes of an encoding; new ones are made."""
        layout = encoded.layout
        names = [*layout.families, *(f"number {at}" for at in range(encoded.num.shape[1]))]
        new = [name for name in dict.fromkeys(names) if name not in self.families]
        if new:
            known = dict(self.settings.slopes)
            group_of = dict(zip(layout.families, layout.groups[layout.counted], strict=True))
            self.slopes.grow([known.get(Group(group_of.get(name, Group.MOMENT)), 0.0) for name in new])
            for name in new:
                self.families[name] = len(self.families)
        return np.array([self.families[name] for name in names], np.intp)

    def _covariates(self, encoded: Encoded, rates: Floats) -> Floats:
        """Return float64 [impressions, slopes]."""
        if encoded.present is not None:
            rates *= encoded.present[:, encoded.layout.counted]
        if not encoded.num.shape[1]:
            return rates
        return np.concatenate((rates, self._numbers.scaled(encoded.num)), axis=1)



class _Scale:
    """Running mean and deviation of numbers, of which no scale is known beforehand."""

    __slots__ = ("_count", "_mean", "_square", "_start")

    def __init__(self) -> None:
        self._count = self._mean = self._square = np.zeros(0)
        self._start = (np.zeros(0), np.ones(0))

    def add(self, num: Floats) -> None:
        """Count numbers, nan left out."""
        more = num.shape[1] - len(self._count)
        if more > 0:
            self._count, self._mean, self._square = (
                np.concatenate((each, np.zeros(more)))
                for each in (self._count, self._mean, self._square)
            )
            mean, deviation = self._start
            self._start = (
                np.concatenate((mean, np.zeros(more))),
                np.concatenate((deviation, np.ones(more))),
            )
        if not num.shape[1]:
            return
        known = np.isfinite(num)
        values = np.where(known, num, 0.0)
        at = slice(num.shape[1])
        self._count[at] += known.sum(axis=0)
        self._mean[at] += values.sum(axis=0)
        self._square[at] += (values * values).sum(axis=0)

    def settle(self) -> None:
        """Let what was counted take effect."""
        count = np.maximum(self._count, 1)
        mean = self._mean / count
        spread = np.sqrt(np.maximum(self._square / count - mean * mean, 1e-12))
        self._start = (np.where(self._count > 1, mean, 0.0), np.where(self._count > 1, spread, 1.0))

    def scaled(self, num: Floats) -> Floats:
        """Return numbers in standard deviations from their mean, 0 for nan, at most `_WIDEST`."""
        mean, deviation = (each[: num.shape[1]] for each in self._start)
        missing = num.shape[1] - len(mean)
        if missing > 0:
            mean, deviation = np.pad(mean, (0, missing)), np.pad(deviation, (0, missing), constant_values=1.0)
        scaled = np.clip((num - mean) / deviation, -_WIDEST, _WIDEST)
        return np.where(np.isfinite(num), scaled, 0.0)
