"""Bayesian logistic regression, online, with a diagonal Laplace posterior.

The logit of an impression is

    logit(rate of all) + sum over groups g of trust_g * (sum of the weights of its features in g)
                       + sum of slope_f * (smoothed rate of its feature in family f)
                       + sum of slope_j * number_j

Weights stand in a hashed table. Each has a Gaussian posterior: a mean, and a precision that grows by
the curvature p(1-p)x^2 of what it was learned from (Chapelle & Li, NIPS 2011, algorithm 3, in one Newton
step per coordinate; the rate per coordinate plays the part that it has in McMahan et al., KDD 2013). The
trust of a group and the slopes are learned in the same way, but together, with their full covariance:
where a group fits noise its trust falls, where its prior is too tight it rises above one, so that one
set of priors suits streams that differ.

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
from feedgen.ranking.posterior import Joint, Table
from feedgen.ranking.running import Rate, Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feedgen.ranking.features import Encoded

    Floats = NDArray[np.float64]

_FORGET_EVERY = 4096
"""Impressions after which forgetting passes over the table."""
MAX_FAMILIES = 256
"""Families with a slope of their own. All others share that of `OTHERS`: a log whose fields have ever
new names must not fill the memory."""
OTHERS = ""


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
    precision: tuple[float, ...] = (
        *(50.0, 50.0),
        *(100.0, 100.0, 100.0),
        *(50.0, 50.0),
        *(100.0, 100.0, 100.0),
    )
    trust_precision: float = 30.0
    slope_precision: float = 10.0
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


class LogisticModel:
    """One head: the probability that an impression comes to something.

    Args:
        settings: see there.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.table = Table(settings.bits)
        self.joint = Joint()
        self.joint.grow([1.0] * GROUPS, settings.trust_precision)
        self.joint.grow([0.0], settings.slope_precision)
        self.counters = Counters(settings.bits, settings.counters)
        self.hedge = Hedge(settings.handicap)
        self.rate = Rate(settings.rate, settings.rate_memory)
        self.learned = 0
        self.families = {OTHERS: 0}
        self._precision = np.array(settings.precision)
        self._step_end = settings.steps[0]
        self._forget_at = _FORGET_EVERY
        self._numbers = Scale()

    @property
    def trust(self) -> Floats:
        """Of each group; float64 [groups]."""
        return self.joint.mean[:GROUPS]

    @property
    def slopes(self) -> Floats:
        """By the numbers that `families` gives; float64 [families]."""
        return self.joint.mean[GROUPS:]

    # ---- Predicting

    def logits(self, encoded: Encoded) -> Floats:
        """Return the logit of each impression; float64 [impressions]."""
        layout = encoded.layout
        weights = self.table.mean[encoded.places]
        if encoded.present is not None:
            weights *= encoded.present
        z = weights @ self.trust[layout.groups]
        rate = self.rate.now
        x = self._covariates(encoded, self.counters.rates(encoded.places[:, layout.counted], rate))
        at = self._slopes_of(encoded)
        z += x @ self.slopes[at]
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
        slopes = self.slopes[at]
        weights = self.table.mean[places].sum(axis=1) * self.trust[Group.ITEM]
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
        design = np.zeros((len(labels), len(self.joint.mean)))
        design[:, :GROUPS] = sums
        for column, place in enumerate(at.tolist()):  # two tags are of one family
            design[:, GROUPS + place] += x[:, column]
        p = sigmoid(logit(rate) + design @ self.joint.start)
        self.hedge.observe(p, rate, labels, weights)
        gradient = weights * (labels - p)
        curvature = weights * p * (1 - p)
        trust = self.joint.start[layout.groups]
        slant, bend = gradient[:, None] * trust, curvature[:, None] * trust**2
        if encoded.present is not None:
            slant *= encoded.present
            bend *= encoded.present
        self.table.add_at(places, slant, bend, self._precision[layout.groups])
        self.joint.add(design, gradient, curvature)
        np.clip(self.trust, 0, 2, out=self.trust)
        self.rate.add(labels, weights)

    def _settle(self) -> None:
        """End a step, and set the end of the next."""
        least, most = self.settings.steps
        self._step_end += min(max(self.learned // 64, least), most)
        for each in (self.table, self.joint):
            each.settle()
        self.rate.start = self.rate.now
        self._numbers.settle()
        if self.learned >= self._forget_at:
            self._forget_at += _FORGET_EVERY
            kept = (1 - self.settings.forgetting) ** _FORGET_EVERY
            for each in (self.table, self.joint):
                each.precision *= kept

    # ---- State

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes: arrays, numbers, names; copies, for another thread to write."""
        return {
            "bits": self.settings.bits,
            "groups": GROUPS,
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
        if state["bits"] != self.settings.bits or state["groups"] != GROUPS:
            raise ValueError(
                f"the state has 2^{state['bits']} weights and {state['groups']} groups, "
                f"this model 2^{self.settings.bits} and {GROUPS}"
            )
        for name, part in self._parts().items():
            part.restore(state[name])
        self.learned = int(state["learned"])
        self._step_end = int(state["step_end"])
        self._forget_at = int(state["forget_at"])
        self.families = {name: place for place, name in enumerate(state["families"])}

    def _parts(self) -> dict[str, Joint | Table | Counters | Hedge | Rate | Scale]:
        return {
            "table": self.table,
            "joint": self.joint,
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
            means = [first.get(name, 0.0) for name in new]
            self.joint.grow(means, self.settings.slope_precision)
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
