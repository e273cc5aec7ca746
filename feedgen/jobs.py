"""Work on many rows, cut into chunks.

A job is made at one moment and worked off later, perhaps in many steps. In between devices come, go
and change what they follow, and newer jobs overtake it. What makes that safe is its *stamp*: the job
leaves alone every row that was built after the job was made, or waits to be built. Such a row saw,
or will see, the items as they are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from feedgen.audience import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from feedgen.collapse import Contest
    from feedgen.state import State

BACKGROUND = 0
"""Rank of work that waits for everything else; an item's priority p has rank p + 1."""
URGENT = 4


@dataclass(slots=True, eq=False)
class Job:
    """What has to be done for every row that follows some channels.

    Attributes:
        rank: `BACKGROUND` to `URGENT`; the highest goes first.
        stamp: when the job was made.
        channels: whose followers are concerned.
        stale: retired items that this job takes out; each is in one job that was not cancelled, and
            its index is not reused before that ends.
        cancelled: a newer job does all that this one would have.
        skipped: rows to begin after, going round; where the job left off that this one replaces.
            Else rows at the end of a large audience would never see an item that changes often.
        done: rows taken so far.
    """

    rank: int
    stamp: int
    channels: set[str]
    stale: list[int]
    cancelled: bool = False
    skipped: int = 0
    done: int = field(default=0, init=False)
    _segments: deque[Segment] | None = field(default=None, init=False)

    @property
    def started(self) -> bool:
        """Whether the rows were looked up, so that no channel can be added any more."""
        return self._segments is not None

    def start(self, state: State) -> None:
        """Look up the rows."""
        segments = self._segments = deque(state.segments(self.channels))
        rows = sum(len(segment.rows) for segment in segments)
        skip = self.skipped % rows if rows else 0
        while skip:
            shelf, rows_here, level = segments.popleft()
            if len(rows_here) > skip:
                segments.appendleft(Segment(shelf, rows_here[skip:], level))
            segments.append(Segment(shelf, rows_here[:skip], level))
            skip -= min(skip, len(rows_here))

    def work(self, state: State) -> int:
        """Return what is left to do, in rows of the smallest shelf."""
        assert self._segments is not None, "a job is started before it is measured"
        return sum(len(rows) * state.shelves[shelf].cost for shelf, rows, _ in self._segments)

    def take(self, state: State, budget: int) -> Segment | None:
        """Return the next chunk of at most `budget` work, but at least one row; None at the end."""
        assert self._segments is not None, "a job is started before it is worked off"
        if not self._segments:
            return None
        shelf, rows, level = self._segments[0]
        most = max(1, budget // state.shelves[shelf].cost)
        self.done += min(len(rows), most)
        if len(rows) <= most:
            return self._segments.popleft()
        self._segments[0] = Segment(shelf, rows[most:], level)
        return Segment(shelf, rows[:most], level)


@dataclass(slots=True, eq=False)
class Offer(Job):
    """A new item, a new content, or a new popularity.

    Attributes:
        index: the item.
        replaces: rows may hold another index of the same item.
        counts: rows that it does not fit are counted; once per content.
    """

    index: int = 0
    replaces: bool = False
    counts: bool = True


@dataclass(slots=True, eq=False)
class Withdraw(Job):
    """Items that are over: retracted or expired."""


@dataclass(slots=True, eq=False)
class Settle(Job):
    """A change among the items that share a collapse key.

    Attributes:
        contest: these items.
        fresh: the item whose content is new, 0 if none is; rows that it does not fit are counted.
        levels: per channel and shelf, 1 + the level at which rows follow it; filled in by need.
    """

    contest: Contest = field(kw_only=True)
    fresh: int = 0
    levels: dict[str, list[NDArray[np.int8]]] = field(default_factory=dict)


class Queue:
    """Jobs by rank, within a rank in the order of their making."""

    __slots__ = ("_jobs",)

    def __init__(self) -> None:
        self._jobs: list[deque[Job]] = [deque() for _ in range(URGENT + 1)]

    def __len__(self) -> int:
        return sum(map(len, self._jobs))

    def put(self, job: Job) -> None:
        """Append a job to its rank."""
        self._jobs[job.rank].append(job)

    def last(self, rank: int) -> Job | None:
        """Return the newest job of a rank, None if there is none."""
        jobs = self._jobs[rank]
        return jobs[-1] if jobs else None

    def first(self, lowest: int) -> Job | None:
        """Return the job to go on with, of rank `lowest` or higher; None if there is none."""
        for rank in range(URGENT, lowest - 1, -1):
            jobs = self._jobs[rank]
            while jobs:
                if not jobs[0].cancelled:
                    return jobs[0]
                jobs.popleft()
        return None

    def drop_first(self, rank: int) -> None:
        """Take out the first job of a rank."""
        self._jobs[rank].popleft()
