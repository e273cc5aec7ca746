"""Open, dismiss, dwell: three models, and what their predictions are worth together.

    value = worth of an opening * P(open) - cost of a dismissal * P(dismiss) + worth of dwell * P(dwell)

The value of an item for a device against that of an average impression becomes ticks of publication
time, tau * ln(value / average), as the baseline's popularity does. Dismissals and dwell are rarer than
openings, so their heads leave out the crosses of the device itself.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from feedgen.ranking.features import BLOCKS, SLIM, encode
from feedgen.ranking.model import LogisticModel
from feedgen.ranking.scorer import Head, lay_out, told_apart
from feedgen.ranking.tables import Tables
from feedgen.ranking.tokens import places
from feedgen.ranking.value import TICKS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from numpy.typing import NDArray

    from feedgen.ranking.features import Impressions
    from feedgen.ranking.rows import People
    from feedgen.ranking.scorer import Before, ItemTokens, Parts
    from feedgen.ranking.settings import RankingSettings
    from feedgen.ranking.tokens import Tokens

    Floats = NDArray[np.float32]

NAMES = ("open", "dismiss", "dwell")
_LEAST = 0.1
"""An average impression is worth at least this much of its openings, however many are dismissed."""


class Valued(NamedTuple):
    """What impressions are worth.

    Attributes:
        ticks: float32 [n], against an average impression; within ± the bound.
        sd: float32 [n], standard deviation of the ticks; None if it was not asked for.
        opened: float32 [n], probability of an opening.
    """

    ticks: Floats
    sd: Floats | None
    opened: Floats


class Learners:
    """The models that learn, one per head."""

    __slots__ = ("models",)

    def __init__(self, settings: RankingSettings) -> None:
        self.models = [LogisticModel(settings.model) for _ in NAMES]

    def learn(
        self,
        impressions: Impressions,
        labels: Sequence[NDArray[np.float64]],
        weights: Sequence[NDArray[np.float64]],
        now: float,
    ) -> None:
        """Learn outcomes.

        Args:
            impressions: dense columns.
            labels: per head, float64 [n].
            weights: per head, float64 [n]; 0 for those that say nothing to the head.
            now: Unix seconds.
        """
        bits = self.models[0].settings.bits
        whole, slim = encode(impressions, bits), encode(impressions, bits, SLIM)
        for place, model in enumerate(self.models):
            told = np.flatnonzero(weights[place])
            if told.size:
                encoded = (whole if not place else slim).rows(told)
                model.learn(encoded, labels[place][told], weights[place][told], now)

    def seen(self, device: Tokens) -> NDArray[np.float64]:
        """Return how many outcomes of each device were learned, by and large."""
        model = self.models[0]
        return model.counters.seen(places(device, model.settings.bits))


class Served:
    """Three heads frozen for serving.

    Args:
        tables: per head.
        settings: of the ranking.
    """

    __slots__ = ("_average", "_bound", "_explore", "_tau", "_worth", "heads")

    def __init__(self, tables: Sequence[Tables], settings: RankingSettings) -> None:
        opened, dismissed, dwelt = tables
        self.heads = (Head(opened, BLOCKS), Head(dismissed, SLIM), Head(dwelt, SLIM))
        self._tau = np.float32(settings.value.tau * TICKS_PER_SECOND)
        self._bound = np.float32(np.log(settings.bound))
        self._explore = np.float32(settings.explore)
        worth = self._worth = settings.worth
        value = worth.open * opened.rate - worth.dismiss * dismissed.rate + worth.dwell * dwelt.rate
        self._average = np.float32(max(value, _LEAST * worth.open * opened.rate))

    @classmethod
    def of(cls, learners: Learners, settings: RankingSettings) -> Self:
        """Return what was learned by now."""
        return cls([Tables.of(model) for model in learners.models], settings)

    def certain(self) -> Self:
        """Return the same heads, which sample nothing."""
        plain = copy(self)
        plain._explore = np.float32(0)  # noqa: SLF001 (a copy of ours)
        return plain

    @property
    def sampled(self) -> bool:
        """Whether uncertainty is asked for."""
        return bool(self._explore)

    @property
    def rate(self) -> float:
        """The share of openings among all impressions."""
        return self.heads[0].tables.rate

    @property
    def sound(self) -> bool:
        """Whether all that was learned is a number."""
        return all(head.tables.sound for head in self.heads)

    def state(self) -> list[dict[str, Any]]:
        """Return what `from_state` takes."""
        return [head.tables.state() for head in self.heads]

    @classmethod
    def from_state(cls, state: Sequence[Mapping[str, Any]], settings: RankingSettings) -> Self:
        """Return the heads that `state` was taken from.

        Raises:
            ValueError: it was learned with another number of weights or groups.
        """
        opened, dismissed, dwelt = (Tables.from_state(each, settings.model) for each in state)
        return cls((opened, dismissed, dwelt), settings)

    def each(self, impressions: Impressions) -> Valued:
        """Return what impressions are worth, each one its own."""
        laid = lay_out(impressions, self.heads[0].tables.bits)
        z, variance = self.heads[0].each(laid, sampled=self.sampled)
        others = [head.each(laid, sampled=False)[0] for head in self.heads[1:]]
        return self._valued(z, variance, others)

    def parts(self, item: ItemTokens, people: People, now: float) -> tuple[Parts, ...]:
        """Return what an item's features add up to, per head."""
        apart = told_apart(item, people, now, self.heads[0].tables.bits)
        return (
            self.heads[0].parts(apart, sampled=self.sampled),
            *(head.parts(apart, sampled=False) for head in self.heads[1:]),
        )

    def before(self, parts: tuple[Parts, ...], before: Before) -> Valued:
        """Return what one item is worth to devices."""
        z, variance = self.heads[0].before(parts[0], before, sampled=self.sampled)
        others = [
            head.before(part, before, sampled=False)[0]
            for head, part in zip(self.heads[1:], parts[1:], strict=True)
        ]
        return self._valued(z, variance, others)

    def _valued(self, z: Floats, variance: Floats | None, others: Sequence[Floats]) -> Valued:
        worth, (opened, dismissed, dwelt) = self._worth, (head.tables for head in self.heads)
        p = opened.probability(z)
        value = p * np.float32(worth.open)
        value -= dismissed.probability(others[0]) * np.float32(worth.dismiss)
        value += dwelt.probability(others[1]) * np.float32(worth.dwell)
        value /= self._average
        bound = np.exp(self._bound)
        np.clip(value, 1 / bound, bound, out=value)
        sd = None
        if variance is not None:
            # Of tau * ln(value) by the delta method, as value moves with p alone.
            sd = np.sqrt(variance, out=variance)
            share = np.float32(opened.share)
            learned = (p - np.float32((1 - opened.share) * opened.rate)) / share
            sd *= share * learned * (1 - learned)
            sd /= value
            sd *= self._explore * self._tau * np.float32(worth.open / self._average)
            np.minimum(sd, self._tau * self._bound, out=sd)
        ticks = np.log(value, out=value)
        ticks *= self._tau
        return Valued(ticks, sd, p)
