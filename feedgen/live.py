"""The live items of each channel, ranked, and the channels that a filter matches.

This is where windows are pulled from when they are built anew: channels with live items stand in a
tree of levels, so that a filter finds its channels without testing the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feedgen.audience import FollowSet
    from feedgen.item_columns import ItemColumns
    from feedgen.windows import Ids


class LiveChannel:
    """A channel that has live items."""

    __slots__ = ("_newest", "_ranked", "items", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.items: set[int] = set()
        self._ranked: Ids | None = None
        self._newest: Ids | None = None

    def add(self, index: int) -> None:
        """Add a live item."""
        self.items.add(index)
        self._ranked = self._newest = None

    def discard(self, index: int) -> None:
        """Take out an item that is live no more."""
        self.items.remove(index)
        self._ranked = self._newest = None

    def rerank(self) -> None:
        """Forget the order of the items."""
        self._ranked = None

    def ranked(self, columns: ItemColumns) -> Ids:
        """Return the items, best first; one order for all, as filters add the same to each key."""
        if self._ranked is None:
            ids = np.fromiter(self.items, np.int32, len(self.items))
            self._ranked = ids[columns.best_first(ids, columns.base[ids])]
        return self._ranked

    def newest(self, columns: ItemColumns) -> Ids:
        """Return the items by what their keys would be without their terms, highest first."""
        if self._newest is None:
            ids = np.fromiter(self.items, np.int32, len(self.items))
            self._newest = ids[columns.best_first(ids, columns.base[ids] - columns.term[ids])]
        return self._newest


class _Level:
    __slots__ = ("channel", "children")

    def __init__(self) -> None:
        self.channel: LiveChannel | None = None
        self.children: dict[str, _Level] = {}

    @property
    def empty(self) -> bool:
        return self.channel is None and not self.children


class LiveChannels:
    """All channels that have live items.

    Attributes:
        version: changes whenever a channel comes or goes.
    """

    __slots__ = ("_by_name", "_root", "version")

    def __init__(self) -> None:
        self.version = 0
        self._by_name: dict[str, LiveChannel] = {}
        self._root = _Level()

    def __len__(self) -> int:
        return len(self._by_name)

    def add(self, name: str, index: int) -> None:
        """Note that item `index` is live on channel `name`."""
        channel = self._by_name.get(name)
        if channel is None:
            channel = self._by_name[name] = LiveChannel(name)
            level = self._root
            for part in name.split("/"):
                level = level.children.setdefault(part, _Level())
            level.channel = channel
            self.version += 1
        channel.add(index)

    def rerank(self, name: str) -> None:
        """Note that items of a live channel have other keys now."""
        self._by_name[name].rerank()

    def discard(self, name: str, index: int) -> None:
        """Note that item `index` on channel `name` is live no more."""
        channel = self._by_name[name]
        channel.discard(index)
        if channel.items:
            return
        del self._by_name[name]
        path = [self._root]
        parts = name.split("/")
        for part in parts:
            path.append(path[-1].children[part])
        path[-1].channel = None
        while parts and path[-1].empty:
            path.pop()
            del path[-1].children[parts.pop()]
        self.version += 1

    def sources(self, follow_set: FollowSet, levels: list[int]) -> list[tuple[LiveChannel, int]]:
        """Return the channels that a follow set matches, each with the level of its best filter.

        Args:
            follow_set: its filters stand with falling level.
            levels: of these filters.
        """
        best: dict[LiveChannel, int] = {}
        for topic_filter, level in zip(follow_set.filters, levels, strict=True):
            for channel in self.matching(topic_filter):
                best.setdefault(channel, level)
        return list(best.items())

    def matching(self, topic_filter: str) -> Iterator[LiveChannel]:
        """Yield the live channels that a filter matches (MQTT 3.1.1, 4.7)."""
        levels = [self._root]
        for place, part in enumerate(topic_filter.split("/")):
            if part == "#":
                for level in levels:
                    # `a/#` matches `a` itself; a leading wildcard no channel that begins with $.
                    yield from _below(level, hidden=not place)
                return
            if part == "+":
                levels = [
                    child
                    for level in levels
                    for name, child in level.children.items()
                    if place or not name.startswith("$")
                ]
            else:
                levels = [level.children[part] for level in levels if part in level.children]
        for level in levels:
            if level.channel is not None:
                yield level.channel


def _below(top: _Level, *, hidden: bool) -> Iterator[LiveChannel]:
    """Yield the channels at and below a level; `hidden` leaves out children that begin with $."""
    if top.channel is not None:
        yield top.channel
    levels = [c for n, c in top.children.items() if not (hidden and n.startswith("$"))]
    while levels:
        level = levels.pop()
        if level.channel is not None:
            yield level.channel
        levels.extend(level.children.values())
