"""What one head has learned, frozen for serving: small arrays to gather from.

Half the bytes of what training works on, so that look-ups for a hundred thousand devices stay in the
processor's caches. Tables never change: serving goes on with the last good ones while a model learns,
drifts or is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.ranking.features import GROUPS
from feedgen.ranking.model import OTHERS, logit
from feedgen.ranking.tokens import places

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from numpy.typing import NDArray

    from feedgen.ranking.model import LogisticModel, ModelSettings
    from feedgen.ranking.tokens import Tokens

    Floats = NDArray[np.float32]


_AT_ONCE = 2048
"""Impressions up to which all features are laid out together."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """One head as of one moment.

    Attributes:
        bits: tables have 2^bits entries.
        weights: float32, means of the weights' posteriors.
        precision: float32, their precision without the prior's.
        rates: float32, logits of smoothed rates less that of all.
        trust: float32 [groups].
        prior: float32 [groups], precision of the weights' priors.
        slopes: per family.
        rate: of all impressions.
        share: of the learned probability in the hedge.
    """

    bits: int
    weights: Floats
    precision: Floats
    rates: Floats
    trust: Floats
    prior: Floats
    slopes: dict[str, float]
    rate: float
    share: float

    @classmethod
    def of(cls, model: LogisticModel) -> Tables:
        """Return what a model has learned by now."""
        precision = model.table.precision.astype(np.float32)
        precision += model.table.curvature.astype(np.float32)
        return cls(
            bits=model.settings.bits,
            weights=model.table.mean.astype(np.float32),
            precision=precision,
            rates=model.counters.all_rates(model.rate.now),
            trust=model.trust.astype(np.float32),
            prior=np.array(model.settings.precision, np.float32),
            slopes={name: float(model.slopes[place]) for name, place in model.families.items()},
            rate=model.rate.now,
            share=model.hedge.share,
        )

    @property
    def sound(self) -> bool:
        """Whether all that was learned is a number."""
        sums = sum(float(each.sum()) for each in (self.weights, self.precision, self.rates))
        return isfinite(sums + float(self.trust.sum()) + sum(self.slopes.values()) + self.rate)

    def state(self) -> dict[str, Any]:
        """Return what `from_state` takes; nothing is copied, as tables never change."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], settings: ModelSettings) -> Self:
        """Return the tables that `state` was taken from.

        Raises:
            ValueError: it was learned with another number of weights or groups.
            KeyError: it is no state.
        """
        if state["bits"] != settings.bits or len(state["trust"]) != GROUPS:
            raise ValueError(
                f"a snapshot of 2^{state['bits']} weights and {len(state['trust'])} groups, "
                f"where 2^{settings.bits} and {GROUPS} belong"
            )
        return cls(**{each.name: state[each.name] for each in fields(cls)})

    @property
    def offset(self) -> float:
        """The logit of the rate of all."""
        return logit(self.rate)

    def add(
        self,
        tokens: Tokens,
        groups: NDArray[np.intp],
        slopes: Floats,
        *,
        sampled: bool,
    ) -> tuple[Floats, Floats | None]:
        """Return what features add to the logit, and to its variance.

        Args:
            tokens: uint64 [features, n], 0 for a feature that is absent.
            groups: int [features].
            slopes: float32 [features], of the features' families; 0 for those without one.
            sampled: whether the variance is wanted.

        Returns:
            float32 [n], and float32 [n] or None.
        """
        absent = None if tokens.all() else tokens == 0
        at = places(tokens, self.bits)
        return self.add_at(at, absent, groups, slopes, sampled=sampled)

    def add_at(
        self,
        at: NDArray[np.int64],
        absent: NDArray[np.bool_] | None,
        groups: NDArray[np.intp],
        slopes: Floats,
        *,
        sampled: bool,
    ) -> tuple[Floats, Floats | None]:
        """Do what `add` does, for places in the tables instead of tokens.

        Places are within the tables by how they are made; `wrap` spares the check of each, which takes as
        long as the look-up.
        """
        if at.shape[1] <= _AT_ONCE:
            return self._add_together(at, absent, groups, slopes, sampled=sampled)
        z = np.zeros(at.shape[1], np.float32)
        variance = np.zeros(len(z), np.float32) if sampled else None
        for place, group in enumerate(groups.tolist()):
            trust = self.trust[group]
            value = self.weights.take(at[place], mode="wrap")
            value *= trust
            if slopes[place]:
                rate = self.rates.take(at[place], mode="wrap")
                rate *= slopes[place]
                value += rate
            if absent is not None:
                value[absent[place]] = 0
            z += value
            if variance is not None:
                spread = self.precision.take(at[place], mode="wrap")
                spread += self.prior[group]
                np.divide(trust * trust, spread, out=spread)
                if absent is not None:
                    spread[absent[place]] = 0
                variance += spread
        return z, variance

    def _add_together(
        self,
        at: NDArray[np.int64],
        absent: NDArray[np.bool_] | None,
        groups: NDArray[np.intp],
        slopes: Floats,
        *,
        sampled: bool,
    ) -> tuple[Floats, Floats | None]:
        """Add all features at once: a call per feature costs more than a few impressions do."""
        trust = self.trust[groups][:, None]
        value = self.weights.take(at, mode="wrap")
        value *= trust
        counted = np.flatnonzero(slopes)
        value[counted] += self.rates.take(at[counted], mode="wrap") * slopes[counted, None]
        if absent is not None:
            value[absent] = 0
        if not sampled:
            return value.sum(axis=0), None
        variance = self.precision.take(at, mode="wrap")
        variance += self.prior[groups][:, None]
        np.divide(trust * trust, variance, out=variance)
        if absent is not None:
            variance[absent] = 0
        return value.sum(axis=0), variance.sum(axis=0)

    def slopes_of(self, families: list[str | None]) -> Floats:
        """Return the slopes of families, 0 for none and for those never learned."""
        others = self.slopes.get(OTHERS, 0.0)
        found = [0.0 if name is None else self.slopes.get(name, others) for name in families]
        return np.array(found, np.float32)

    def probability(self, logits: Floats) -> Floats:
        """Return the hedged probabilities of logits."""
        p = np.clip(logits, -30, 30)
        np.negative(p, out=p)
        np.exp(p, out=p)
        p += 1
        np.divide(np.float32(self.share), p, out=p)
        p += np.float32((1 - self.share) * self.rate)
        return p
