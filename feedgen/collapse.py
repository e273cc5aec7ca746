"""Items that share a collapse key: within one window only the newest stays.

The live items of one collapse key are a *contest*. In a row it is won by the newest item, by
publication and then by the hash of its name, that the row may show by what it follows and by the
item's `where`; the others are not eligible there. What the device dismissed or has no room for wins
all the same, and then nothing of the contest is shown: something older never comes back as news.

Any change of a contest becomes one job, which finds the winner in every row concerned. So it makes
no difference in which order items arrive, and an older item returns by itself when a newer one is
over.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from feedgen.personal import admit, reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feedgen.audience import Segment
    from feedgen.jobs import Settle
    from feedgen.state import State
    from feedgen.windows import Ids, Keys, Mask, Rows


@dataclass(slots=True, eq=False)
class Contest:
    """The live items of one collapse key.

    Attributes:
        number: what their `contest` column holds.
        key: the collapse key.
        members: indices, newest first.
        job: the last one that was made for this contest and has not ended.
    """

    number: int
    key: str
    members: list[int] = field(default_factory=list)
    job: Settle | None = None

    def add(self, state: State, index: int) -> None:
        """Add a live item."""
        columns = state.columns
        insort(
            self.members,
            index,
            key=lambda each: (-int(columns.published[each]), -int(columns.tie[each])),
        )


def superseded(state: State, index: int, number: int, rows: Rows, followed: set[str]) -> Mask:
    """Tell in which of `rows` a newer item than `index` wins their contest.

    Args:
        state: of the engine.
        index: a live item with a collapse key.
        number: the shelf.
        rows: that follow the same.
        followed: the live channels that they follow.
    """
    lost = np.zeros(len(rows), np.bool_)
    for member in state.contests[int(state.columns.contest[index])].members:
        if member == index:
            break
        item = state.item(member)
        if item.channel in followed:
            lost |= state.shelves[number].attributes.matching(item.where, rows)
    return lost


def settle(state: State, job: Settle, chunk: Segment) -> None:
    """Let the winner of a contest stand in each row of a chunk, and none of the others."""
    number, rows, _ = chunk
    shelf = state.shelves[number]
    windows = shelf.windows
    rows = rows[shelf.stamp[rows] <= job.stamp]
    winners, keys = _winners(state, job, number, rows)
    ids = windows.ids[rows]
    winning = ids == winners[:, None]
    losing = (state.columns.contest[ids] == job.contest.number) & ~winning
    losing |= ~state.columns.alive[ids]
    state.changed(number, windows.take_out(rows, losing))
    new = (winners > 0) & ~winning.any(axis=1)
    new[new] = _admitted(state, job, number, rows[new], winners[new])
    rows_in, winners, keys = _taking(state, number, rows[new], winners[new], keys[new])
    state.changed(number, windows.insert(rows_in, winners, keys, state.columns))
    state.starve(number, rows)


def _winners(state: State, job: Settle, number: int, rows: Rows) -> tuple[Ids, Keys]:
    """Return the winner in each row, 0 where there is none, and its key there."""
    winners = np.zeros(len(rows), np.int32)
    keys = np.zeros(len(rows), np.int32)
    unsettled = np.ones(len(rows), np.bool_)
    bonus = np.array((0, *state.baseline.by_level))
    for member in job.contest.members:
        item = state.item(member)
        levels = _levels(state, job, item.channel, number)[rows]
        wins = unsettled & (levels > 0)
        if item.where:
            wins &= state.shelves[number].attributes.matching(item.where, rows)
        winners[wins] = member
        keys[wins] = state.columns.keys(winners[wins], bonus[levels[wins]])
        unsettled &= ~wins
        if not unsettled.any():
            break
    return winners, keys


def _taking(
    state: State, number: int, rows: Rows, winners: Ids, keys: Keys
) -> tuple[Rows, Ids, Keys]:
    """Return those of `rows` that take their winner, with it, and its key there."""
    windows = state.shelves[number].windows
    if state.scoring is None:
        taken = windows.admissible(rows, winners, keys, state.columns)
        return rows[taken], winners[taken], keys[taken]
    taken = np.zeros(len(rows), np.bool_)
    keys = keys.copy()
    for winner in np.unique(winners).tolist():
        at = np.flatnonzero(winners == winner)
        highest = np.array([reach(state, key) for key in keys[at].tolist()])
        at = at[windows.bar[rows[at]] <= highest]
        taken[at], keys[at] = admit(state, number, winner, rows[at], keys[at])
    return rows[taken], winners[taken], keys[taken]


def _levels(state: State, job: Settle, channel: str, number: int) -> NDArray[np.int8]:
    """Return, per row of a shelf, 1 + the level at which it follows `channel`, 0 if it does not.

    Kept with the job: rows that follow something else since then are none of its business.
    """
    if channel not in job.levels:
        levels = [np.zeros(len(shelf), np.int8) for shelf in state.shelves]
        for segment in state.segments((channel,)):
            levels[segment.shelf][segment.rows] = segment.level + 1
        job.levels[channel] = levels
    return job.levels[channel][number]


def _admitted(state: State, job: Settle, number: int, rows: Rows, winners: Ids) -> Mask:
    """Tell which rows have room for their winner and did not dismiss it."""
    fits = state.shelves[number].fitting(rows, state.columns.smallest[winners])
    state.oversize += int(np.count_nonzero(winners[~fits] == job.fresh))
    for winner in np.unique(winners).tolist():
        dismissers = state.dismissers.get(int(state.columns.number[winner]))
        if dismissers:
            barred = np.array([row for shelf, row in dismissers if shelf == number], np.int32)
            fits &= (winners != winner) | np.isin(rows, barred, invert=True)
    return fits
