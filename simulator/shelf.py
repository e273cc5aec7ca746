"""What people may find on their devices: published items of a market, as columns of fixed size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from devices.registry import covers
from simulator.draws import Ints
from simulator.offerings import Items

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.draws import Floats


class Shelf:
    """Published items by place; the oldest makes room for the newest.

    Args:
        places: How many items are known at most.

    Attributes:
        channels: By place, the channel on which it was published.
    """

    __slots__ = ("_ends", "_items", "_next", "_places", "_texts", "channels")

    def __init__(self, places: int) -> None:
        nothing = np.zeros(places, np.int64)
        self._items = Items(
            nothing.copy(), nothing.copy(), nothing.copy(), np.zeros((places, 2), np.int64),
            np.zeros(places), np.zeros(places),
        )  # fmt: skip
        self._ends = np.zeros(places)
        self._places: dict[str | bytes, int] = {}
        self._texts: list[tuple[str | bytes, ...]] = [()] * places
        self._next = 0
        self.channels = [""] * places

    def __len__(self) -> int:
        return len(self._ends)

    def put(
        self, item: Items, texts: tuple[str | bytes, ...], channel: str, at: float, ttl: float
    ) -> int:
        """Notes one item.

        Args:
            item: The item, alone.
            texts: What devices may show of it: payload and brief.
            channel: Where it was published.
            at: When, Unix seconds of the people.
            ttl: Seconds until it is over.

        Returns:
            Its place.
        """
        place, self._next = self._next, (self._next + 1) % len(self)
        for text in self._texts[place]:
            if self._places.get(text) == place:
                del self._places[text]
        for mine, its in zip(_columns(self._items), _columns(item), strict=True):
            mine[place] = its[0]
        self._items.published[place] = at
        self._ends[place] = at + ttl
        self._texts[place] = texts
        self.channels[place] = channel
        self._places |= dict.fromkeys(texts, place)
        return place

    def place(self, text: str | bytes) -> int | None:
        """Where the item of a text is; None: it is not known, or not any more."""
        return self._places.get(text)

    def items(self, places: Ints) -> Items:
        """Items by place."""
        return self._items.take(places)

    def live(self, now: float) -> Ints:
        """Places of items that are not over, int64 [m], in rising order."""
        return np.flatnonzero(self._ends > now)

    def followed(self, follow: tuple[str, ...] | None, places: Ints) -> NDArray[np.bool_]:
        """Which of these items somebody with such filters may get; None: all."""
        if follow is None:
            return np.ones(len(places), bool)
        return np.array([covers(follow, self.channels[place]) for place in places], bool)


def _columns(items: Items) -> tuple[Ints | Floats, ...]:
    return (
        items.number, items.channel, items.publisher, items.tags, items.quality, items.published,
    )  # fmt: skip
