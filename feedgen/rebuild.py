"""Windows built by pull: from the live items of the channels that a row follows.

Rows with the same follow set share their candidates, sorted once; what is left per row is a matrix
of which candidates it may show, of which it takes the first ones.

With a ranking of its own each row is ranked in two stages, as feeds commonly are: *retrieval* by the
keys that all followers share gives a row the best `RETRIEVED` items that it may show (four times
what it holds, if that is more), and these are ranked by the keys that they have in this row. What
retrieval left out does not come back by itself: it is no part of what the row's bar promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feedgen.collapse import superseded
from feedgen.item_columns import HIGHEST
from feedgen.personal import note_shared, rank
from feedgen.windows import EMPTY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.attributes import Where
    from feedgen.audience import FollowSet
    from feedgen.item_columns import ItemColumns
    from feedgen.live import LiveChannel
    from feedgen.state import State
    from feedgen.windows import Ids, Keys, Mask, Rows

_ROW_COST = 4
"""Work of building one row anew, in admissions."""
_SET_COST = 512
"""Work of finding the candidates of one follow set."""
_BLOCK = 64
"""Candidates that are tested against all rows of a follow set at a time."""
_FIRST_DEPTH = 4
"""Windows' widths of candidates that are sorted at first."""
_DEEPER = 8
RETRIEVED = 128
"""Candidates that a row ranks by its own keys, at least, as far as there are as many."""
_PAIR_COST = 4
"""Work of scoring one candidate for one row and ranking it, in admissions: features included, as
few rows share what could be looked up once."""
_REMEMBERED = 1024
"""Follow sets whose candidates are remembered while no item changes."""


class Candidates(NamedTuple):
    """Live items for a follow set.

    Attributes:
        ids: best first.
        keys: their keys.
        cutoff: all others have keys up to this one; `EMPTY` if there are no others.
    """

    ids: Ids
    keys: Keys
    cutoff: int


def rebuild(state: State, number: int, budget: int) -> int:
    """Build rows at the head of a shelf's queue anew, and note them as changed.

    Returns:
        The work done, in admissions of the smallest shelf; little more than `budget`.
    """
    shelf = state.shelves[number]
    cost = _ROW_COST * shelf.cost
    ranked = 0 if state.scoring is None else retrieved(shelf.windows.width) * _PAIR_COST
    since, rows = shelf.pending_rows(max(1, budget // (cost + ranked)))
    if not rows.size:
        return 1
    stamp = state.next_stamp()
    follow = shelf.follow[rows]
    order = np.argsort(follow, kind="stable")
    rows = rows[order]
    ends = np.flatnonzero(np.diff(follow[order], append=-1)) + 1
    start = work = 0
    for end in ends.tolist():
        group = rows[start:end]
        follow_set = state.audience.sets[int(shelf.follow[group[0]])]
        assert follow_set is not None, "a row's follow set lives as long as the row has it"
        if state.scoring is None:
            _rebuild_alike(state, number, group, follow_set)
        else:
            plain = state.scoring.plain(number, group)
            if plain is None:
                work += _rebuild_personally(state, number, group, follow_set) * _PAIR_COST
            else:
                for part, newest in ((group[~plain], False), (group[plain], True)):
                    work += _PAIR_COST * _rebuild_personally(
                        state, number, part, follow_set, newest=newest
                    )
        work += _SET_COST + cost * len(group)
        start = end
        if work >= budget:
            break
    if start < len(rows):
        shelf.put_back(since, rows[start:])
        rows = rows[:start]
    shelf.stamp[rows] = stamp
    state.rebuilt += len(rows)
    state.changed(number, rows)
    return work


def _rebuild_alike(state: State, number: int, rows: Rows, follow_set: FollowSet) -> None:
    """Build rows anew that follow the same.

    At first only the top of each channel is looked at; rows that do not find enough there, as much
    of it is not for them, look deeper.
    """
    windows = state.shelves[number].windows
    depth = _FIRST_DEPTH * windows.width
    # Half a reserve is enough not to come back soon.
    enough = (windows.visible[rows].astype(np.int64) + windows.width) // 2
    while rows.size:
        found = _candidates(state, follow_set, depth)
        ids, keys = _first_eligible(state, number, rows, found, follow_set)
        last = keys[:, -1]
        windows.fill(rows, ids, keys, np.maximum(last, found.cutoff))
        if found.cutoff == EMPTY:
            return
        short = windows.held[rows] < enough
        rows, enough = rows[short], enough[short]
        depth *= _DEEPER


def retrieved(width: int) -> int:
    """Return how many candidates a row of so many places ranks by its own keys, at most."""
    return max(_FIRST_DEPTH * width, RETRIEVED)


def _rebuild_personally(
    state: State, number: int, rows: Rows, follow_set: FollowSet, *, newest: bool = False
) -> int:
    """Build rows anew that follow the same, each ranked by its own keys.

    Args:
        state: of the engine.
        number: the shelf.
        rows: each once.
        follow_set: what they follow.
        newest: whether to retrieve by keys without terms. Rows that have none of the ranking are as
            exact as its absence would make them: what they are compared with must not be chosen
            by it.

    Returns:
        Pairs of row and candidate that were ranked.
    """
    windows = state.shelves[number].windows
    depth = limit = retrieved(windows.width)
    enough = (windows.visible[rows].astype(np.int64) + windows.width) // 2
    pairs = 0
    while rows.size:
        found = _candidates(state, follow_set, depth, newest=newest)
        eligible = _Eligibility(state, number, rows, follow_set).of(found.ids)
        found, eligible = _retrieve(found, eligible, limit)
        ranked = rank(state, number, rows, found.ids, found.keys, eligible)
        if ranked is None and newest:
            return pairs + _rebuild_personally(state, number, rows, follow_set)
        if ranked is None:
            ids, keys = _first_eligible(state, number, rows, found, follow_set)
            note_shared(state, number, rows, ids, keys)
        else:
            ids, keys = ranked
            pairs += len(rows) * len(found.ids)
        windows.fill(rows, ids, keys, _bars(keys, found.cutoff))
        if found.cutoff == EMPTY:
            return pairs
        short = windows.held[rows] < enough
        rows, enough = rows[short], enough[short]
        depth *= _DEEPER
    return pairs


def _retrieve(
    found: Candidates, eligible: Mask | None, limit: int
) -> tuple[Candidates, Mask | None]:
    """Keep the best `limit` candidates that each row may show, and none that no row may."""
    if eligible is None:
        return Candidates(found.ids[:limit], found.keys[:limit], found.cutoff), None
    eligible &= eligible.cumsum(axis=1) <= limit
    some = eligible.any(axis=0)
    return Candidates(found.ids[some], found.keys[some], found.cutoff), eligible[:, some]


def _bars(keys: Keys, cutoff: int) -> Keys:
    """Return the bars of windows that were ranked in two stages.

    The last key of a full row. Of what was left out where there are free places, nothing is known
    but that there is some: the bar is low, so that new items find these places, but not `EMPTY`.
    """
    lowest = np.where(keys > EMPTY, keys, HIGHEST).min(axis=1)
    return np.where(keys[:, -1] > EMPTY, keys[:, -1], np.minimum(lowest, cutoff)).astype(np.int32)


def _first_eligible(
    state: State, number: int, rows: Rows, found: Candidates, follow_set: FollowSet
) -> tuple[Ids, Keys]:
    """Return the windows that `rows` make of candidates, as columns."""
    width = state.shelves[number].windows.width
    eligible = _Eligibility(state, number, rows, follow_set)
    ids = np.zeros((len(rows), width), np.int32)
    keys = np.full((len(rows), width), EMPTY, np.int32)
    taken = np.zeros(len(rows), np.int64)
    for start in range(0, len(found.ids), _BLOCK):
        block = found.ids[start : start + _BLOCK]
        block_keys = found.keys[start : start + _BLOCK]
        matrix = eligible.of(block)
        if matrix is None and start == 0:
            # The same for all rows, as nothing is asked of them.
            count = min(width, len(block))
            ids[:, :count] = block[:count]
            keys[:, :count] = block_keys[:count]
            taken += count
        else:
            if matrix is None:
                matrix = np.ones((len(rows), len(block)), np.bool_)
            places = matrix.cumsum(axis=1) + taken[:, None]
            taken = places[:, -1]
            row, column = np.nonzero(matrix & (places <= width))
            place = places[row, column] - 1
            ids[row, place] = block[column]
            keys[row, place] = block_keys[column]
        if taken.min() >= width:
            break
    return ids, keys


class _Eligibility:
    """Tests candidates against rows that follow the same; equal conditions are tested once."""

    __slots__ = ("_follow_set", "_matches", "_number", "_rows", "_state")

    def __init__(self, state: State, number: int, rows: Rows, follow_set: FollowSet) -> None:
        self._state = state
        self._number = number
        self._rows = rows
        self._follow_set = follow_set
        self._matches: dict[Where, Mask] = {}

    def of(self, ids: Ids) -> Mask | None:
        """Return bool [rows, items]: which may be shown; None if all of them."""
        state = self._state
        shelf = state.shelves[self._number]
        matrix = None
        smallest = state.columns.smallest[ids]
        if not shelf.fits_all(int(smallest.max(initial=0))):
            matrix = shelf.capacity[self._rows][:, None] >= smallest
        special = np.flatnonzero(state.columns.special[ids])
        if special.size and matrix is None:
            matrix = np.ones((len(self._rows), len(ids)), np.bool_)
        for column in special.tolist():
            assert matrix is not None, "made above"
            matrix[:, column] &= self._mask(int(ids[column]))
        return matrix

    def _mask(self, index: int) -> Mask:
        """Tell which rows may show an item by anything but its size."""
        state = self._state
        mask = self._match(state.item(index).where).copy()
        dismissers = state.dismissers.get(int(state.columns.number[index]))
        if dismissers:
            barred = [row for shelf, row in dismissers if shelf == self._number]
            mask &= np.isin(self._rows, np.array(barred, np.int32), invert=True)
        if state.columns.contest[index]:
            followed = {channel.name for channel, _ in _sources(state, self._follow_set)}
            mask &= ~superseded(state, index, self._number, self._rows, followed)
        return mask

    def _match(self, where: Where) -> Mask:
        match = self._matches.get(where)
        if match is None:
            attributes = self._state.shelves[self._number].attributes
            match = self._matches[where] = attributes.matching(where, self._rows)
        return match


def _candidates(
    state: State, follow_set: FollowSet, depth: int, *, newest: bool = False
) -> Candidates:
    """Return the best live items for a follow set, found once as long as no item changes."""
    if state.candidates_of != state.version:
        state.candidates.clear()
        state.candidates_of = state.version
    # By the filters, as the number of a set is reused.
    key = follow_set.filters, depth, newest
    found = state.candidates.get(key)
    if found is None:
        sources = _sources(state, follow_set)
        bonus = state.baseline.by_level
        found = candidates(sources, state.columns, bonus, depth, newest=newest)
        if len(state.candidates) == _REMEMBERED:
            state.candidates.clear()
        state.candidates[key] = found
    return found


def _sources(state: State, follow_set: FollowSet) -> Sequence[tuple[LiveChannel, int]]:
    """Return the live channels that a follow set matches, each with the level of its filter."""
    if follow_set.sources_of != state.channels.version:
        levels = [state.audience.level(each) for each in follow_set.filters]
        follow_set.sources = state.channels.sources(follow_set, levels)
        follow_set.sources_of = state.channels.version
    return follow_set.sources


def candidates(
    sources: Sequence[tuple[LiveChannel, int]],
    columns: ItemColumns,
    bonus: Sequence[int],
    depth: int,
    *,
    newest: bool = False,
) -> Candidates:
    """Return the best items of some channels, those above all that `depth` per channel left out.

    Args:
        sources: channels and the level at which each is followed.
        columns: of the items.
        bonus: ticks per level.
        depth: items taken of each channel.
        newest: whether the best are those with the highest keys without terms. The keys returned
            hold the terms all the same, the cutoff does not.
    """
    if not sources:
        nothing = np.empty(0, np.int32)
        return Candidates(nothing, nothing, EMPTY)
    parts, ticks = [], []
    cutoff = EMPTY
    for channel, level in sources:
        ids = channel.newest(columns) if newest else channel.ranked(columns)
        if len(ids) > depth:
            first = int(ids[depth])
            off = int(columns.term[first]) if newest else 0
            cutoff = max(cutoff, columns.key(first, bonus[level] - off))
            ids = ids[:depth]
        parts.append(ids)
        ticks.append(bonus[level])
    ids = np.concatenate(parts)
    bonuses = np.repeat(ticks, [len(part) for part in parts])
    keys = columns.keys(ids, bonuses)
    own = columns.keys(ids, bonuses - columns.term[ids]) if newest else keys
    if len(parts) > 1:
        order = columns.best_first(ids, own)
        ids, keys, own = ids[order], keys[order], own[order]
    if cutoff > EMPTY:
        # Below or at the cutoff something left out may come first.
        above = int(np.searchsorted(-own.astype(np.int64), -cutoff))
        ids, keys = ids[:above], keys[:above]
    return Candidates(ids, keys, cutoff)
