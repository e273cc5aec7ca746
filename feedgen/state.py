"""What the jobs of the engine share: rows, items, who follows what, and what changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from feedgen.attributes import Vocabulary
from feedgen.audience import Audience
from feedgen.item_columns import ItemColumns
from feedgen.live import LiveChannels
from feedgen.ranking.value import Baseline
from feedgen.shelf import PENDING, Shelf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from feedgen.audience import Segment
    from feedgen.collapse import Contest
    from feedgen.decision_notes import DecisionNotes
    from feedgen.items import Item
    from feedgen.ranking.scoring import Scoring
    from feedgen.ranking.value import Settings
    from feedgen.rebuild import Candidates
    from feedgen.windows import Rows

SHELVES = (8, 16, 32, 64)
"""The window classes: most visible items of a row, per shelf."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Rows of one shelf whose visible window may have changed, each once."""

    shelf: int
    rows: Rows


class State:
    """The engine's data; the rules are elsewhere.

    Attributes:
        shelves: the rows.
        columns: the items.
        channels: the live items per channel.
        audience: who follows what.
        baseline: ticks that go into keys.
        scoring: a ranking that learned, None if there is only the baseline.
        notes: where admissions are noted, None if nobody wants to know.
        now: Unix seconds, the time of the step.
        contests: per number, the items that share a collapse key.
        dismissers: item number to the (shelf, row) pairs that it never enters.
        stamp: grows with every job and rebuild; orders them.
        version: grows with every change of the live items.
        oversize: items times devices kept out as no form of the payload fits.
        rebuilt: rows built anew.
        hastened: whether an urgent item has put rows at the head of a queue, in this step.
        candidates: what rebuilds found per follow set and depth, true for `candidates_of`.
        candidates_of: a `version`.
    """

    __slots__ = (
        "_changed",
        "audience",
        "baseline",
        "candidates",
        "candidates_of",
        "channels",
        "columns",
        "contests",
        "dismissers",
        "hastened",
        "notes",
        "now",
        "oversize",
        "rebuilt",
        "scoring",
        "shelves",
        "stamp",
        "version",
    )

    def __init__(
        self,
        settings: Settings,
        scoring: Scoring | None = None,
        notes: DecisionNotes | None = None,
    ) -> None:
        vocabulary = Vocabulary()
        self.shelves = tuple(Shelf(size, vocabulary) for size in SHELVES)
        self.columns = ItemColumns()
        self.channels = LiveChannels()
        self.audience = Audience(len(SHELVES), settings.levels)
        self.baseline = Baseline(settings)
        self.scoring = scoring
        self.notes = notes
        self.now = 0.0
        self.contests: dict[int, Contest] = {}
        self.dismissers: dict[int, set[tuple[int, int]]] = {}
        self.stamp = 0
        self.version = 0
        self.oversize = 0
        self.rebuilt = 0
        self.hastened = False
        self.candidates: dict[tuple[tuple[str, ...], int, bool], Candidates] = {}
        self.candidates_of = 0
        self._changed: list[list[Rows]] = [[] for _ in SHELVES]

    def next_stamp(self) -> int:
        """Return a stamp later than all before."""
        self.stamp += 1
        return self.stamp

    def item(self, index: int) -> Item:
        """Return the content of a live index."""
        record = self.columns.records[index]
        assert record is not None, "only live items are offered"
        return record.item

    def segments(self, channels: Iterable[str]) -> list[Segment]:
        """Return the rows that follow any of `channels`."""
        return self.audience.segments(list(channels), [len(shelf) for shelf in self.shelves])

    def matching(self, index: int, shelf: int, rows: Rows) -> Rows:
        """Return those of `rows` whose attributes the item's `where` asks for."""
        where = self.item(index).where
        return rows[self.shelves[shelf].attributes.matching(where, rows)] if where else rows

    def welcome(self, index: int, shelf: int, rows: Rows) -> Rows:
        """Return those of `rows` whose device did not dismiss the item."""
        dismissers = self.dismissers.get(int(self.columns.number[index]))
        if not dismissers:
            return rows
        barred = [row for on_shelf, row in dismissers if on_shelf == shelf]
        return rows[np.isin(rows, barred, invert=True)] if barred else rows

    def changed(self, shelf: int, rows: Rows) -> None:
        """Note rows, each once, whose visible part changed."""
        if rows.size:
            self._changed[shelf].append(rows)

    @property
    def any_changed(self) -> bool:
        """Whether `take_changes` would return any."""
        return any(self._changed)

    def starve(self, shelf: int, rows: Rows) -> None:
        """Let those of `rows` be built anew that may lack an item which they do not know of."""
        place = self.shelves[shelf]
        rows = place.windows.starved(rows)
        rows = rows[place.stamp[rows] < PENDING]
        if rows.size:
            place.queue_all(rows, self.next_stamp())

    def take_changes(self) -> list[Change]:
        """Return what changed since the last call.

        Rows that wait to be built anew are left out: they change once more, and are told then.
        """
        changes = []
        for shelf, parts in enumerate(self._changed):
            if not parts:
                continue
            rows = parts[0]
            place = self.shelves[shelf]
            if len(parts) > 1:
                rows = np.concatenate(parts)
                rows = rows[self.audience.last_of_each(shelf, len(place), rows)]
            settled = place.stamp[rows] < PENDING
            if not settled.all():
                rows = rows[settled]
            if rows.size:
                changes.append(Change(shelf, rows))
            parts.clear()
        return changes
