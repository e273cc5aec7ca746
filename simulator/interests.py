"""What people are interested in, as a matrix of logits, and how that changes.

Interests are partly of low rank: everybody's taste, and what each channel, publisher and tag offers, are points in a
space of a few dimensions. Of a taste, part is that of the device's class. The rest of an interest is each one's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator import draws
from simulator.draws import Floats, Ints
from simulator.drift import Drift, Kind

if TYPE_CHECKING:
    from simulator.offerings import Items, Market

_DIMENSIONS = 6
_OWN, _TASTE, _OFFER, _CENTRE, _MOVED, _SHUFFLE = range(51, 57)


@dataclass(frozen=True, slots=True)
class Strengths:
    """Standard deviations of interests in logits, and how they are made up.

    Attributes:
        channel: Of the interest in a channel.
        publisher: In a publisher.
        tag: In both tags of an item together.
        shared: Share of the variance that is of low rank.
        by_class: Share of the low-rank part that people with the same class of device have in common.
    """

    channel: float = 1.0
    publisher: float = 0.4
    tag: float = 0.5
    shared: float = 0.6
    by_class: float = 0.4


class _Change(NamedTuple):
    drift: Drift
    moved: NDArray[np.bool_]
    delta: NDArray[np.float32]


class Interests:
    """The interests of a population.

    Args:
        seed: Of all draws.
        kind: int64 [people], each one's class of device.
        market: What there is to be interested in.
        strengths: How strong interests are.
    """

    __slots__ = ("_changes", "_first", "_market", "_mixed", "_parts", "_seed", "_size")

    def __init__(self, seed: int, kind: Ints, market: Market, strengths: Strengths) -> None:
        self._seed = seed
        self._size = len(kind)
        self._market = market
        self._parts = np.repeat(np.arange(3), [market.channels, market.publishers, market.tags])
        self._first = self._drawn(kind, strengths)
        self._changes: list[_Change] = []
        self._mixed: tuple[tuple[float, ...], NDArray[np.float32]] = ((), self._first)

    def matrix(self, now: float) -> NDArray[np.float32]:
        """Returns logits, float32 [people, groups]: channels, publishers, tags (see `Market.groups`)."""
        extents = tuple(change.drift.extent(now) for change in self._changes)
        if extents != self._mixed[0]:
            mixed = self._first.copy()
            for extent, change in zip(extents, self._changes, strict=True):
                if extent:
                    mixed += np.float32(extent) * change.delta
            self._mixed = extents, mixed
        return self._mixed[1]

    def of(self, who: Ints, items: Items, now: float) -> Floats:
        """Returns the logits that items get from people, which broadcast with the items."""
        publishers = self._market.channels
        tags = publishers + self._market.publishers
        groups = [items.channel, publishers + items.publisher, *(tags + items.tags.T)]
        columns = np.stack(groups, axis=-1)
        return np.asarray(self.matrix(now)[who[..., None], columns].sum(axis=-1), np.float64)

    def held(self, who: Ints, now: float) -> Floats:
        """Returns the share of opens that drops leave, per person."""
        held = np.ones(who.shape)
        for drift, moved, _ in self._changes:
            if drift.kind is Kind.DROP:
                held *= 1.0 - drift.by * drift.extent(now) * moved[who]
        return held

    def change(self, drift: Drift) -> None:
        """Notes a drift: a permutation of channels, of publishers and of tags, the same for all who are concerned.

        It starts from where the drifts before it led.
        """
        number = len(self._changes)
        moved = draws.uniform(self._seed, _MOVED, number, np.arange(self._size)) < drift.share
        before = self._first.copy()
        for earlier in self._changes:
            before += earlier.delta
        delta = np.zeros_like(before)
        if drift.kind is not Kind.DROP:
            delta[moved] = before[moved][:, self._permutation(number)] - before[moved]
        self._changes.append(_Change(drift, moved, delta))

    def _permutation(self, number: int) -> Ints:
        """One cycle within channels, publishers and tags each: no interest stays where it was."""
        target = np.arange(self._market.groups)
        keys = draws.uniform(self._seed, _SHUFFLE, number, target)
        for part in range(3):
            members = np.flatnonzero(self._parts == part)
            cycle = members[np.argsort(keys[members])]
            target[cycle] = np.roll(cycle, 1)
        return target

    def _drawn(self, kind: Ints, strengths: Strengths) -> NDArray[np.float32]:
        everyone, dimensions = np.arange(self._size)[:, None], np.arange(_DIMENSIONS)
        groups = np.arange(self._market.groups)
        centres = self._normal(_CENTRE, np.arange(kind.max(initial=0) + 1)[:, None], dimensions)
        tastes = _mixture(
            strengths.by_class, centres[kind], self._normal(_TASTE, everyone, dimensions)
        )
        offers = self._normal(_OFFER, dimensions[:, None], groups) / np.sqrt(_DIMENSIONS)
        own = self._normal(_OWN, everyone, groups)
        scale = np.array([strengths.channel, strengths.publisher, strengths.tag / np.sqrt(2.0)])
        mixed = _mixture(strengths.shared, tastes @ offers, own)
        return np.asarray(scale[self._parts] * mixed, np.float32)

    def _normal(self, purpose: int, *counters: Ints) -> Floats:
        return draws.normal(self._seed, purpose, *counters)


def _mixture(share: float, one: Floats, other: Floats) -> Floats:
    """Mix two parts of variance 1 into one of variance 1."""
    return np.asarray(np.sqrt(share) * one + np.sqrt(1.0 - share) * other)
