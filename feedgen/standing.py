"""Where an item stands with everybody who follows its channel; and where one would, before it is sent.

Both only read. They go through the followers in pieces, so that whoever asks can let others have their
turn in between; each piece is true of the moment when it is taken.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feedgen.item_columns import HIGHEST, LOWEST, smallest_bytes
from feedgen.shelf import FREE, PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from feedgen.items import Item, Record
    from feedgen.state import State
    from feedgen.windows import Ids, Mask, Rows

    Shown = Callable[[int, Rows], Ids]

_CELLS = 1 << 16
"""Window places that one piece looks at: about a millisecond, with what ledgers are asked about it."""


class Absent(IntEnum):
    """Why a follower does not see an item; below all places."""

    WHERE = -7
    """Its attributes are not what the item's `where` asks for."""
    DISMISSED = -6
    """It dismissed the item, or the item was barred from it."""
    OVERSIZE = -5
    """No form of the payload fits its frames."""
    COLLAPSED = -4
    """Another item of the same collapse key stands in its place."""
    PENDING = -3
    """Its window waits to be built anew."""
    OUTRANKED = -2
    """All that its window holds is better."""
    RESERVE = -1
    """Its window holds the item below what is seen."""


class Part(NamedTuple):
    """Some followers of an item's channel.

    Attributes:
        shelf: where they are.
        rows: each once.
        places: int16 [rows], from 0, where each sees the item; one of `Absent` where it does not.
    """

    shelf: int
    rows: Rows
    places: NDArray[np.int16]


class Trial(NamedTuple):
    """An item that nobody was sent.

    Attributes:
        record: as it would be accepted; its number is 0, or that of the item which it would update.
        base: ticks of its key, without its term, for a follower through a filter without literal levels.
        contest: number of the contest that it would join, 0 for none that there is.
    """

    record: Record
    base: int
    contest: int


def standing(
    state: State, n: int, index_of: Callable[[int], int | None], shown: Shown
) -> Iterator[Part]:
    """Yield where a live item stands, until all followers were looked at or it is live no more.

    Args:
        state: of the engine.
        n: the item.
        index_of: returns the index of a live item.
        shown: returns the items that rows of a shelf may show, best first.
    """
    index = index_of(n)
    if index is None:
        return
    item = state.item(index)
    better = _better(state, index)
    for number, rows, _ in _pieces(state, item.channel):
        index = index_of(n)
        if index is None:
            return
        places = _absent(state, number, rows, n, item)
        open_to = places == Absent.OUTRANKED
        if better is not None:
            places[open_to & better[number][rows]] = Absent.COLLAPSED
        shelf = state.shelves[number]
        places[open_to & (shelf.stamp[rows] == PENDING)] = Absent.PENDING
        # By number: until its job has come to a row, that shows the content before.
        mine = np.flatnonzero(state.columns.number == n)
        held = np.flatnonzero(np.isin(shelf.windows.ids[rows], mine).any(axis=1))
        if held.size:
            places[held] = Absent.RESERVE
            seen = np.isin(shown(number, rows[held]), mine)
            seen &= np.arange(shelf.size) < shelf.windows.visible[rows[held]][:, None]
            visible = seen.any(axis=1)
            places[held[visible]] = seen[visible].argmax(axis=1)
        yield Part(number, rows, places)


def trial(state: State, tried: Trial, now: float) -> Iterator[Part]:
    """Yield where an item would stand if it were published at `now`, by key alone.

    What repeats too much may be shown lower than its key says, and what is tried out higher; neither
    is in these places.
    """
    item, n = tried.record.item, tried.record.n
    columns = state.columns
    for number, rows, level in _pieces(state, item.channel):
        places = _absent(state, number, rows, n, item)
        at = np.flatnonzero(places == Absent.OUTRANKED)
        shelf = state.shelves[number]
        waits = shelf.stamp[rows[at]] == PENDING
        places[at[waits]] = Absent.PENDING
        at = at[~waits]
        if at.size:
            keys = (
                tried.base
                + state.baseline.by_level[level]
                + _ranked(state, tried, number, rows[at], now)
            )
            keys = np.minimum(np.maximum(keys, LOWEST), HIGHEST)
            ids = shelf.windows.ids[rows[at]]
            above = shelf.windows.keys[rows[at]] > keys[:, None]
            if tried.contest:
                above &= columns.contest[ids] != tried.contest
            if n:
                above &= columns.number[ids] != n
            ranks = above.sum(axis=1)
            found = np.where(ranks < shelf.windows.width, Absent.RESERVE, Absent.OUTRANKED)
            seen = ranks < shelf.windows.visible[rows[at]]
            places[at] = np.where(seen, ranks, found)
        yield Part(number, rows, places)


def _ranked(state: State, tried: Trial, number: int, rows: Rows, now: float) -> NDArray[np.int64]:
    """Return the ticks that a ranking adds to the item's key in each row."""
    if state.scoring is None:
        return np.zeros(len(rows), np.int64)
    return np.rint(state.scoring.trial(tried.record, number, rows, now)).astype(np.int64)


def _pieces(state: State, channel: str) -> Iterator[tuple[int, Rows, int]]:
    """Yield the followers of a channel that are seated, piece by piece: shelf, rows, level."""
    for number, every, level in state.segments((channel,)):
        shelf = state.shelves[number]
        step = max(1, _CELLS // shelf.windows.width)
        for start in range(0, len(every), step):
            rows = every[start : start + step]
            yield number, rows[shelf.stamp[rows] < FREE], level


def _absent(state: State, number: int, rows: Rows, n: int, item: Item) -> NDArray[np.int16]:
    """Return why rows may not show an item at all; `OUTRANKED` for those that may."""
    shelf = state.shelves[number]
    places = np.full(len(rows), Absent.OUTRANKED, np.int16)
    smallest = smallest_bytes(item)
    if not shelf.fits_all(smallest):
        places[~shelf.fitting(rows, smallest)] = Absent.OVERSIZE
    barred = [row for on_shelf, row in state.dismissers.get(n, ()) if on_shelf == number]
    if barred:
        places[np.isin(rows, barred)] = Absent.DISMISSED
    if item.where:
        places[~shelf.attributes.matching(item.where, rows)] = Absent.WHERE
    return places


def _better(state: State, index: int) -> list[Mask] | None:
    """Return, per shelf, the rows in which another item of the same contest comes first, if any can."""
    number = int(state.columns.contest[index])
    members = state.contests[number].members if number else [index]
    before = members[: members.index(index)]
    if not before:
        return None
    masks = [np.zeros(len(shelf), np.bool_) for shelf in state.shelves]
    for member in before:
        item = state.item(member)
        for shelf, rows, _ in state.segments((item.channel,)):
            matching = state.shelves[shelf].attributes.matching(item.where, rows)
            masks[shelf][rows[matching]] = True
    return masks
