"""Ranked windows of many devices as columns of arrays.

One `Windows` holds the windows of all rows of a shelf, each with the best items first: the first
`visible[row]` columns are what the device sees, the rest is its reserve. The functions here know
item indices, keys and rows; which item may stand in which row is decided elsewhere.

What keeps the windows exact without looking at items that are not held is one number per row, its
*bar*, and one invariant:

    No eligible item that a row does not hold has a key above the row's bar, and each of them is
    worse, in the exact order, than every item that the row holds.

In a full row the bar is the key of its last item; in a row that never was full since it was built
it is `EMPTY`, below all keys. Taking items out leaves the bar where it was. So an item enters iff
its key is above the bar or, at the same key, it is better than the last item held; and a row that
holds fewer items than it may show can be trusted iff its bar is `EMPTY`, else it is *starved* and
must be built anew. (A separate column for the highest key refused would spare a few of these
rebuilds; it would cost a gather and a scatter for every refused candidate, the commonest case.)

The exact order is by key, then by publication time, then by a hash of the item's name, each higher
first, so that the order in which the same items arrive does not matter.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.int32]
Ids: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.int32]
Mask: TypeAlias = NDArray[np.bool_]

EMPTY = -(1 << 31)
"""The key of an empty place and the bar of a row from which nothing was kept out."""

NO_ROWS: Rows = np.empty(0, np.int32)

_REBASED_AT_ONCE = (1 << 31) - 1
_MERGE_CELLS = 1 << 20
"""Cells that one pass of a merge lays out: the bound of its memory (a few times 8 MiB)."""
_ROUNDS = 3
"""New items of a row up to which it is cheaper to insert one after the other than to sort."""
_PLACE_BITS = 9
"""A window and as many new items again have at most 256 places."""


class Precedence(Protocol):
    """Columns over item indices that decide between equal keys."""

    published: NDArray[np.int64]
    tie: NDArray[np.int64]


def precedes(order: Precedence, first: Ids, second: Ids) -> Mask:
    """Tell, place by place, whether `first` stands before `second` at the same key."""
    one, other = order.published[first], order.published[second]
    before: Mask = order.tie[first] > order.tie[second]
    before &= one == other
    before |= one > other
    return before


class Held(NamedTuple):
    """Windows as they stand, best first by key.

    Attributes:
        numbers: int64 [rows, width], item numbers; 0 where a place is empty.
        keys: int32 [rows, width].
        visible: uint8 [rows], how many places the device may see at most.
    """

    numbers: NDArray[np.int64]
    keys: Keys
    visible: NDArray[np.uint8]


class Windows:
    """The windows of one shelf.

    Attributes:
        width: columns of a window, the reserve included; a multiple of 8, at most 128.
        ids: int32 [rows, width], item indices, 0 where a place is empty.
        keys: int32 [rows, width], falling within each row, `EMPTY` where a place is empty.
        held: uint8 [rows], items in the row.
        visible: uint8 [rows], how many of them the device may see at most.
        bar: int32 [rows], see above.
        whole: whether a change in the reserve counts as one of what is seen: the device sees some
            of all that is held, see `ranking.diversity`.
    """

    __slots__ = ("bar", "held", "ids", "keys", "visible", "whole", "width")

    def __init__(self, width: int, rows: int = 0) -> None:
        self.width = width
        self.whole = False
        self.ids: NDArray[np.int32] = np.zeros((rows, width), np.int32)
        self.keys: NDArray[np.int32] = np.full((rows, width), EMPTY, np.int32)
        self.held: NDArray[np.uint8] = np.zeros(rows, np.uint8)
        self.visible: NDArray[np.uint8] = np.zeros(rows, np.uint8)
        self.bar: NDArray[np.int32] = np.full(rows, EMPTY, np.int32)

    def __len__(self) -> int:
        return len(self.held)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows; the new ones are empty."""
        more = rows - len(self)
        # Column by column: never more than one of them twice in memory.
        self.ids = np.concatenate((self.ids, np.zeros((more, self.width), np.int32)))
        self.keys = np.concatenate((self.keys, np.full((more, self.width), EMPTY, np.int32)))
        self.held = np.concatenate((self.held, np.zeros(more, np.uint8)))
        self.visible = np.concatenate((self.visible, np.zeros(more, np.uint8)))
        self.bar = np.concatenate((self.bar, np.full(more, EMPTY, np.int32)))

    def clear(self, row: int) -> None:
        """Empty one row."""
        self.ids[row] = 0
        self.keys[row] = EMPTY
        self.held[row] = 0
        self.bar[row] = EMPTY

    def rebase(self, ticks: int) -> None:
        """Lower all keys by `ticks`, as the landmark moved up; what was empty stays empty."""
        while ticks > 0:
            # A clock that was set may be decades ahead; int32 takes it in pieces.
            piece = min(ticks, _REBASED_AT_ONCE)
            ticks -= piece
            for keys in (self.keys, self.bar):
                kept = keys != EMPTY
                # Saturating in two steps that cannot wrap: raise to the lowest that survives, lower.
                np.maximum(keys, EMPTY + 1 + piece, out=keys, where=kept)
                np.subtract(keys, np.int32(piece), out=keys, where=kept)

    def starved(self, rows: Rows) -> Rows:
        """Return those of `rows` that may lack an item which they do not know of."""
        rows = rows[self.held[rows] < self.visible[rows]]
        return rows[self.bar[rows] > EMPTY]

    def admissible(self, rows: Rows, ids: Ids, keys: Keys, order: Precedence) -> Mask:
        """Tell which candidates pass the bar of their row; rows may repeat."""
        bars = self.bar[rows]
        passed: Mask = keys > bars
        tied = np.flatnonzero(keys == bars)
        if tied.size:
            passed[tied] = self._before_last(rows[tied], ids[tied], keys[tied], order)
        return passed

    def _before_last(self, rows: Rows, ids: Ids, keys: Keys, order: Precedence) -> Mask:
        held = self.held[rows]
        last = np.maximum(held, 1) - 1
        before = precedes(order, ids, self.ids[rows, last])
        before &= (self.keys[rows, last] == keys) & (held > 0)
        return before

    def insert(self, rows: Rows, ids: Ids, keys: Keys, order: Precedence) -> Rows:
        """Put one item into each of `rows`.

        Args:
            rows: each once.
            ids: the item for each row, which the row does not hold.
            keys: its key there, admissible.
            order: decides between equal keys.

        Returns:
            Those rows of which something seen changed.
        """
        old_keys = self.keys[rows]
        old_ids = self.ids[rows]
        column = keys[:, None]
        stays = old_keys > column
        equal = old_keys == column
        if equal.any():
            at, place = np.nonzero(equal)
            stays[at, place] = precedes(order, old_ids[at, place], ids[at])
        places = _count(stays)
        # Whatever does not stay moves one place down.
        new_keys = old_keys
        new_keys[:, 1:] = np.where(stays[:, 1:], old_keys[:, 1:], old_keys[:, :-1])
        new_ids = old_ids
        new_ids[:, 1:] = np.where(stays[:, 1:], old_ids[:, 1:], old_ids[:, :-1])
        each = np.arange(len(rows))
        new_keys[each, places] = keys
        new_ids[each, places] = ids
        self.keys[rows] = new_keys
        self.ids[rows] = new_ids
        self.held[rows] = np.minimum(self.held[rows] + np.uint8(1), np.uint8(self.width))
        # The last key of a row that is not full is EMPTY, and its bar stays.
        self.bar[rows] = np.maximum(self.bar[rows], new_keys[:, -1])
        return self._seen(rows, places)

    def merge(self, rows: Rows, ids: Ids, keys: Keys, order: Precedence) -> Rows:
        """Put any number of items into any number of rows; the same as inserting one by one.

        Args:
            rows: at least one; may repeat.
            ids: no item twice for the same row, none that the row holds already. They are grouped
                or sorted so that, for each row, of two items with equal keys the better one in the
                exact order comes first.
            keys: admissible.
            order: decides between equal keys.

        Returns:
            Those rows of which something seen changed, each once.
        """
        # One sort by row and falling key; a stable one keeps the exact order of the equal.
        by_row = np.argsort((rows.astype(np.int64) << 32) - keys, kind="stable")
        rows, ids, keys = rows[by_row], ids[by_row], keys[by_row]
        first = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
        counts = np.diff(first, append=len(rows))
        few = counts <= _ROUNDS
        at = first[few]
        # A row of which the best new item changes nothing seen is not changed by worse ones.
        changed = [self.insert(rows[at], ids[at], keys[at], order)] if at.size else []
        for turn in range(1, _ROUNDS):
            at = first[few & (counts > turn)] + turn
            at = at[self.admissible(rows[at], ids[at], keys[at], order)]  # bars have risen
            if at.size:
                self.insert(rows[at], ids[at], keys[at], order)
        many = np.flatnonzero(~few)
        step = _MERGE_CELLS // (2 * self.width)
        for start in range(0, len(many), step):
            block = many[start : start + step]
            changed.append(self._sort_in(rows, ids, keys, first[block], counts[block], order))
        return np.concatenate(changed)

    def _sort_in(
        self,
        rows: Rows,
        ids: Ids,
        keys: Keys,
        first: NDArray[np.int64],
        counts: NDArray[np.int64],
        order: Precedence,
    ) -> Rows:
        """Put `counts` items from place `first` on into each row by sorting all it then holds."""
        width = self.width
        # What comes after the best `width` cannot stay, and the row will be full without it.
        counts = np.minimum(counts, width)
        extra = int(counts.max())
        group = np.repeat(np.arange(len(first)), counts)
        rank = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = first[group] + rank
        rows = rows[first]
        all_keys = np.full((len(rows), width + extra), EMPTY, np.int32)
        all_ids = np.zeros((len(rows), width + extra), np.int32)
        all_keys[:, :width] = self.keys[rows]
        all_ids[:, :width] = self.ids[rows]
        all_keys[group, width + rank] = keys[at]
        all_ids[group, width + rank] = ids[at]
        places = _falling(all_keys)
        sorted_keys = np.take_along_axis(all_keys, places, axis=1)
        tied = _mixed_ties(sorted_keys, places, width)
        if tied.size:
            places[tied] = _exactly_falling(all_keys[tied], all_ids[tied], order)
        places = places[:, :width]
        self.keys[rows] = new_keys = sorted_keys[:, :width]
        self.ids[rows] = np.take_along_axis(all_ids, places, axis=1)
        self.held[rows] = np.minimum(self.held[rows] + counts, width)
        self.bar[rows] = np.maximum(self.bar[rows], new_keys[:, -1])
        fresh = places >= width
        fresh &= new_keys != EMPTY
        best = np.where(fresh.any(axis=1), fresh.argmax(axis=1), width)
        return self._seen(rows, best)

    def take_out(self, rows: Rows, out: Mask) -> Rows:
        """Take items out of windows and close the gaps.

        Args:
            rows: each once.
            out: bool [rows, width], the places to take out; none of them empty.

        Returns:
            Those rows of which something seen changed.
        """
        counts = _count(out)
        some = np.flatnonzero(counts)
        if not some.size:
            return NO_ROWS
        if some.size < len(rows):
            rows, out, counts = rows[some], out[some], counts[some]
        ids, keys = self.ids[rows], self.keys[rows]
        first = out.argmax(axis=1)
        if counts.max() == 1:
            # What stands at or after the gap moves one place up.
            moves = np.maximum.accumulate(out, axis=1)[:, :-1]
            np.copyto(ids[:, :-1], ids[:, 1:].copy(), where=moves)
            np.copyto(keys[:, :-1], keys[:, 1:].copy(), where=moves)
            ids[:, -1] = 0
            keys[:, -1] = EMPTY
        else:
            ids[out] = 0
            keys[out] = EMPTY
            places = np.argsort(out, axis=1, kind="stable")
            ids = np.take_along_axis(ids, places, axis=1)
            keys = np.take_along_axis(keys, places, axis=1)
        self.ids[rows] = ids
        self.keys[rows] = keys
        self.held[rows] -= counts.astype(np.uint8)
        return self._seen(rows, first)

    def _seen(self, rows: Rows, first: NDArray[np.int64]) -> Rows:
        """Return those of `rows` whose first changed place is seen; `width` stands for none."""
        if self.whole:
            return rows[first < self.width]
        return np.asarray(rows[first < self.visible[rows]])

    def fill(self, rows: Rows, ids: Ids, keys: Keys, bars: Keys) -> None:
        """Replace whole windows.

        Args:
            rows: each once.
            ids: int32 [rows, width], best first, 0 after the last.
            keys: int32 [rows, width], `EMPTY` after the last.
            bars: per row, as the invariant asks.
        """
        self.ids[rows] = ids
        self.keys[rows] = keys
        self.held[rows] = _count(ids != 0)
        self.bar[rows] = bars


def _count(mask: Mask) -> NDArray[np.int64]:
    """Count True per row; eight places at a time, as `sum` along short rows is slow."""
    words = np.bitwise_count(np.ascontiguousarray(mask).view(np.uint64))
    if words.shape[1] == 2:  # shelf 8, the commonest
        counts: NDArray[np.int64] = words[:, 0].astype(np.int64)
        counts += words[:, 1]
        return counts
    return np.asarray(words.sum(axis=1, dtype=np.int64))


def _falling(keys: Keys) -> NDArray[np.int64]:
    """Return the places of each row by falling key; equal keys stay in their order."""
    composite = (-keys.astype(np.int64) << _PLACE_BITS) + np.arange(keys.shape[1])
    composite.sort(axis=1)
    composite &= (1 << _PLACE_BITS) - 1
    return composite


def _mixed_ties(keys: Keys, places: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return the rows in which an item held and a new one have equal keys.

    Of the equal, `_falling` puts the new ones right after those held.
    """
    fresh = places >= width
    equal = (keys[:, 1:] == keys[:, :-1]) & (keys[:, 1:] != EMPTY)
    equal &= fresh[:, 1:] > fresh[:, :-1]
    return np.flatnonzero(equal.any(axis=1))


def _exactly_falling(keys: Keys, ids: Ids, order: Precedence) -> NDArray[np.int64]:
    # Sorting each row by the last criterion, then stably by the one before, and so on.
    falling = (-order.tie[ids], -order.published[ids], -keys.astype(np.int64))
    # The empty places have item 0, whose columns are 0: the key alone puts them last.
    return np.lexsort(falling, axis=1)
