"""From an item's channel to the device rows that follow it.

Rows are kept per filter and shelf, so an item costs a walk of the filter trie and one array per
matching filter, whatever the number of devices and of other filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feedgen.channels import FilterTrie, specificity
from feedgen.windows import NO_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from feedgen.live import LiveChannel
    from feedgen.windows import Mask, Rows


class RowSet:
    """A set of rows that is read as one array.

    Rows taken out are remembered and cut away at the next reading, all at once. Arrays given out
    never change: growth goes beyond their end, cutting makes a new one.
    """

    __slots__ = ("_gone", "_rows", "_used")

    def __init__(self) -> None:
        self._rows: Rows = np.empty(4, np.int32)
        self._used = 0
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return self._used - len(self._gone)

    def add(self, row: int) -> None:
        """Add a row that is not in the set."""
        if row in self._gone:
            self._gone.remove(row)  # it still stands in the array
            return
        if self._used == len(self._rows):
            self._rows = np.concatenate((self._rows, np.empty_like(self._rows)))
        self._rows[self._used] = row
        self._used += 1

    def discard(self, row: int) -> None:
        """Take out a row that is in the set."""
        self._gone.add(row)

    def rows(self) -> Rows:
        """Return the rows, each once, in no particular order. Not to be written to."""
        if self._gone:
            gone = np.fromiter(self._gone, np.int32, len(self._gone))
            self._rows = self._rows[: self._used]
            self._rows = self._rows[np.isin(self._rows, gone, invert=True)]
            self._used = len(self._rows)
            self._gone = set()
            if not self._used:
                self._rows = np.empty(4, np.int32)
        return self._rows[: self._used]


class Segment(NamedTuple):
    """Rows of one shelf whose best filter for a channel has the same level.

    Attributes:
        shelf: its index.
        rows: each once, and in one segment of an audience only.
        level: literal levels of the filter, at most `Audience.levels`.
    """

    shelf: int
    rows: Rows
    level: int


class Followers:
    """The rows that follow one filter."""

    __slots__ = ("level", "row_sets")

    def __init__(self, level: int, shelves: int) -> None:
        self.level = level
        self.row_sets = [RowSet() for _ in range(shelves)]

    def __len__(self) -> int:
        return sum(map(len, self.row_sets))


@dataclass(slots=True, eq=False)
class FollowSet:
    """The filters of a device, shared by all devices that follow the same.

    Attributes:
        number: index of the set, what rows hold.
        filters: each once, those with the most literal levels first.
        rows: how many rows have this set.
        sources: the live channels that these filters match, with the level of the best filter;
            kept by `live.LiveChannels` and true as long as `sources_of` is its version.
        sources_of: see `sources`.
    """

    number: int
    filters: tuple[str, ...]
    rows: int = 0
    sources: Sequence[tuple[LiveChannel, int]] = ()
    sources_of: int = -1


class Audience:
    """Who follows what.

    Args:
        shelves: how many there are.
        levels: literal levels of a filter beyond this do not count.
    """

    __slots__ = ("_free", "_of_filters", "_scratch", "_trie", "levels", "sets", "shelves")

    def __init__(self, shelves: int, levels: int) -> None:
        self.levels = levels
        self.shelves = shelves
        self.sets: list[FollowSet | None] = []
        self._of_filters: dict[tuple[str, ...], FollowSet] = {}
        self._free: list[int] = []
        self._trie: FilterTrie[Followers] = FilterTrie(
            lambda topic_filter: Followers(self.level(topic_filter), shelves)
        )
        self._scratch: list[Rows] = [NO_ROWS] * shelves

    def level(self, topic_filter: str) -> int:
        """Return the literal levels of a filter that count."""
        return min(specificity(topic_filter), self.levels)

    def follow(self, shelf: int, row: int, filters: Iterable[str]) -> FollowSet:
        """Make a row, which follows nothing yet, follow `filters`."""
        follow_set = self._intern(filters)
        follow_set.rows += 1
        for topic_filter in follow_set.filters:
            self._trie.add(topic_filter).row_sets[shelf].add(row)
        return follow_set

    def unfollow(self, shelf: int, row: int, follow_set: FollowSet) -> None:
        """Undo `follow`."""
        for topic_filter in follow_set.filters:
            followers = self._trie.add(topic_filter)
            followers.row_sets[shelf].discard(row)
            if not len(followers):
                self._trie.remove(topic_filter)
        follow_set.rows -= 1
        if not follow_set.rows:
            del self._of_filters[follow_set.filters]
            self.sets[follow_set.number] = None
            self._free.append(follow_set.number)

    def _intern(self, filters: Iterable[str]) -> FollowSet:
        by_level = sorted(set(filters), key=lambda each: (-self.level(each), each))
        ordered = tuple(by_level)
        follow_set = self._of_filters.get(ordered)
        if follow_set is None:
            number = self._free.pop() if self._free else len(self.sets)
            follow_set = self._of_filters[ordered] = FollowSet(number, ordered)
            if number == len(self.sets):
                self.sets.append(None)
            self.sets[number] = follow_set
        return follow_set

    def segments(self, channels: Sequence[str], capacities: Sequence[int]) -> list[Segment]:
        """Return the rows that follow any of `channels`.

        Args:
            channels: valid, each once. With several of them the levels mean nothing.
            capacities: rows that each shelf has room for.
        """
        if len(channels) == 1:
            matching = self._trie.match(channels[0])
        else:
            entries = {id(e): e for channel in channels for e in self._trie.match(channel)}
            matching = list(entries.values())
        matching = sorted(matching, key=lambda followers: followers.level)
        found: list[Segment] = []
        for shelf, capacity in enumerate(capacities):
            parts = [(f.row_sets[shelf], f.level) for f in matching if len(f.row_sets[shelf])]
            if len(parts) == 1:
                found.append(Segment(shelf, parts[0][0].rows(), parts[0][1]))
            elif parts:
                arrays = [row_set.rows() for row_set, _ in parts]
                levels = [level for _, level in parts]
                found += self._disjoint(shelf, capacity, arrays, levels)
        return found

    def _disjoint(
        self, shelf: int, capacity: int, arrays: list[Rows], levels: list[int]
    ) -> list[Segment]:
        rows = np.concatenate(arrays)
        last = self.last_of_each(shelf, capacity, rows)
        ends = np.cumsum([len(array) for array in arrays])
        found = []
        start = 0
        for index, level in enumerate(levels):
            if index + 1 < len(levels) and levels[index + 1] == level:
                continue
            part = slice(start, int(ends[index]))
            kept = rows[part][last[part]]
            if kept.size:
                found.append(Segment(shelf, kept, level))
            start = part.stop
        return found

    def last_of_each(self, shelf: int, capacity: int, rows: Rows) -> Mask:
        """Tell at which places of `rows` a row stands for the last time.

        Two passes over a column that is kept for this: 7 ms for a million rows, which sorting
        (`np.unique`) does in 500.
        """
        if len(self._scratch[shelf]) < capacity:
            self._scratch[shelf] = np.empty(capacity, np.int32)
        places = self._scratch[shelf]
        each = np.arange(len(rows), dtype=np.int32)
        places[rows] = each  # of a repeated index, the last value stays
        last: Mask = places[rows] == each
        return last
