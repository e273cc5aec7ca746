"""What there is to see: a stream of items with channel, publisher, tags and a quality that only people feel.

Item number j is the same item whenever and however it is asked for, so that a stream has no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator import draws
from simulator.draws import Floats, Ints

if TYPE_CHECKING:
    from collections.abc import Sequence

_PUBLISHER, _CHANNEL, _TAGS, _QUALITY, _WEIGHT, _STRENGTH, _SECOND = range(101, 108)
_AWAY = 0.35
"""Share of a publisher's items that are in its second channel: channel and publisher are not the same thing."""


@dataclass(frozen=True, slots=True)
class Market:
    """How many of each there are.

    Attributes:
        channels: Channels, two at least. Each publisher has a home and a second one.
        tags: Tags; each channel uses three, which it shares with its neighbours.
        publishers: Publishers, one at least.

    Raises:
        ValueError: There are too few of one.
    """

    channels: int = 8
    tags: int = 16
    publishers: int = 12

    def __post_init__(self) -> None:
        if self.channels < 2 or self.tags < 1 or self.publishers < 1:
            raise ValueError(f"a market of {self} is too small")

    @property
    def groups(self) -> int:
        """Channels, publishers and tags, as columns of one matrix in this order."""
        return self.channels + self.publishers + self.tags


@dataclass(frozen=True, slots=True)
class Items:
    """Items as columns of the same length m.

    Attributes:
        number: int64 [m], from 0 in order of publication; what a fleet would call the item's id.
        channel: int64 [m].
        publisher: int64 [m].
        tags: int64 [m, 2]; twice the same where an item has one tag.
        quality: float64 [m], in logits; the part of an item's appeal that its fields do not tell.
        published: float64 [m], Unix seconds.
    """

    number: Ints
    channel: Ints
    publisher: Ints
    tags: Ints
    quality: Floats
    published: Floats

    def __len__(self) -> int:
        return len(self.number)

    def take(self, which: Ints | NDArray[np.bool_] | slice) -> Items:
        """Returns some of the items, by place."""
        return Items(
            self.number[which], self.channel[which], self.publisher[which],
            self.tags[which], self.quality[which], self.published[which],
        )  # fmt: skip

    def fields(self, place: int) -> dict[str, str]:
        """Returns what a server may know of one item: strings by name."""
        one, other = self.tags[place].tolist()
        named = {
            "channel": f"c{self.channel[place]}",
            "publisher": f"p{self.publisher[place]}",
            "tag": f"t{one}",
        }
        return named if one == other else {**named, "tag2": f"t{other}"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a stream may be told.

    Attributes:
        rate: Items per hour.
        weights: How much each publisher publishes, relative to the others; None: drawn, the largest some ten times the
            smallest.
        strengths: Logits that each publisher's items are better or worse by; None: drawn.
        debuts: Seconds after `start` from when on each publisher publishes; None: all from the start. One has to.
        quality: Standard deviation of the items' quality, logits.
        strength: Standard deviation of the publishers' strengths, where they are drawn.
    """

    rate: float = 10.0
    weights: Sequence[float] | None = None
    strengths: Sequence[float] | None = None
    debuts: Sequence[float] | None = None
    quality: float = 0.7
    strength: float = 0.3


class Stream:
    """Items at a steady rate from `start` on, without end.

    Raises:
        ValueError: A setting is not one value per publisher, or nobody publishes from the start.
    """

    __slots__ = ("_debuts", "_seed", "_settings", "_strengths", "_weights", "market", "start")

    def __init__(
        self, seed: int, market: Market, settings: Settings | None = None, *, start: float = 0.0
    ) -> None:
        self._seed = seed
        self._settings = settings or Settings()
        self.market = market
        self.start = start
        everyone = np.arange(market.publishers)
        self._weights = self._column(
            self._settings.weights, np.exp(0.7 * draws.normal(seed, _WEIGHT, everyone))
        )
        self._strengths = self._column(
            self._settings.strengths,
            self._settings.strength * draws.normal(seed, _STRENGTH, everyone),
        )
        self._debuts = self._column(self._settings.debuts, np.zeros(market.publishers))
        if self._debuts.min() > 0:
            raise ValueError("debuts: nobody publishes from the start")

    def between(self, start: float, end: float) -> Items:
        """Returns what is published from `start` up to, but not at, `end` (Unix seconds), oldest first."""
        gap = 3600.0 / self._settings.rate
        first, last = (max(int(np.ceil((t - self.start) / gap)), 0) for t in (start, end))
        return self.items(np.arange(first, last))

    def items(self, numbers: Ints) -> Items:
        """Returns the items of these numbers."""
        seed, market = self._seed, self.market
        published = np.asarray(self.start + numbers * (3600.0 / self._settings.rate), np.float64)
        publisher = self._publishers(numbers, published - self.start)
        home = publisher * market.channels // market.publishers
        away = draws.uniform(seed, _CHANNEL, numbers) < _AWAY
        further = 1 + _choice(market.channels - 1, seed, _SECOND, publisher)
        channel = (home + away * further) % market.channels
        of_channel = _choice(3, seed, _TAGS, numbers[:, None], np.arange(2))
        tags = (2 * channel[:, None] + of_channel) % market.tags
        quality = self._settings.quality * draws.normal(seed, _QUALITY, numbers)
        return Items(
            numbers, channel, publisher, tags, quality + self._strengths[publisher], published
        )

    def _publishers(self, numbers: Ints, age: Floats) -> Ints:
        """Choose among those that publish already, by weight."""
        open_for = self._debuts <= age[:, None]
        shares = np.cumsum(self._weights * open_for, axis=1)
        drawn = draws.uniform(self._seed, _PUBLISHER, numbers)[:, None] * shares[:, -1:]
        return np.asarray(np.sum(shares <= drawn, axis=1), np.int64)

    def _column(self, given: Sequence[float] | None, otherwise: Floats) -> Floats:
        column = otherwise if given is None else np.asarray(given, np.float64)
        if column.shape != (self.market.publishers,):
            raise ValueError(f"{self.market.publishers} publishers, but {column.size} values")
        return column


def _choice(among: int, seed: int, *counters: ArrayLike) -> Ints:
    return np.asarray(draws.uniform(seed, *counters) * among, np.int64)
