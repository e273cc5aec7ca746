"""The engine: published items in, changed windows out.

`Engine` is the one object that others hold. Its methods decide what has to be done and return at
once; `step` does a bounded piece of it and says which windows changed. There is no clock and no
randomness here: the same calls with the same arguments do the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feedgen.collapse import Contest, settle
from feedgen.decision_notes import DecisionNotes
from feedgen.jobs import BACKGROUND, URGENT, Job, Offer, Queue, Settle, Withdraw
from feedgen.offers import offer, offer_together, withdraw
from feedgen.placement import Placement, placements
from feedgen.ranking.diversity import diversify
from feedgen.ranking.scoring import GROUPS
from feedgen.ranking.value import TICKS_PER_SECOND, Settings
from feedgen.rebuild import rebuild
from feedgen.refresh import Refresh
from feedgen.shelf import PENDING
from feedgen.standing import Trial, standing, trial
from feedgen.state import SHELVES, Change, State
from feedgen.windows import Held

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from feedgen.attributes import Value
    from feedgen.items import Record
    from feedgen.ranking.decisions import Admissions
    from feedgen.ranking.diversity import Repeat
    from feedgen.ranking.scoring import Scoring
    from feedgen.standing import Part
    from feedgen.windows import Ids, Rows

__all__ = ["SHELVES", "Change", "Engine", "Seat", "Settings", "Sizes", "shelf_of"]

_SMALL = 2048
"""Work up to which an offer is laid together with its neighbours in the queue."""
_JOB_COST = 512
"""Work that a job costs besides its rows, in admissions; laid together, `_SHARED_COST`."""
_SHARED_COST = 64
_SCORED = 4
"""How many times as much the work of small offers is with a ranking that learned."""
_NORMAL = 2
"""Rank of what expires."""
_MOST_NOTES = 1 << 18
"""Admissions noted between two calls of `take_decisions`, 8 MiB."""
_REBASE_AFTER = 200 * 86_400
"""Seconds; keys reach 248 days to either side of the landmark."""


class Seat(NamedTuple):
    """Where a device's window is: the index of its shelf, and its row there."""

    shelf: int
    row: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much the engine holds.

    Attributes:
        items: live items.
        channels: channels that have any.
        rows: seated devices.
        jobs: jobs not ended, cancelled ones included.
        pending: rows waiting to be built anew.
        rekeys: items waiting to be ranked anew.
        refreshing: whether `refresh_all` is not done yet.
    """

    items: int
    channels: int
    rows: int
    jobs: int
    pending: int
    rekeys: int
    refreshing: bool


def shelf_of(k: int) -> int:
    """Return the index of the shelf for windows of `k` items, 1 to 64."""
    for shelf, size in enumerate(SHELVES):
        if k <= size:
            return shelf
    raise ValueError(f"a window of {k} items; at most {SHELVES[-1]} are possible")


class Engine:
    """Every device's window.

    Args:
        landmark: Unix seconds, the time that keys count from; about now.
        seed: for sampled exploration. The baseline ranking samples nothing.
        settings: of the baseline.
        scoring: a ranking that learned; it is asked for terms instead of the baseline's popularity,
            and for personal parts of keys.
        repeats: how much repetition tires within a window, for each kind of group that `scoring`
            knows of; None leaves windows in the order of their keys.
        record_decisions: whether admissions are noted for `take_decisions`. Without `scoring`
            there are none to be noted.

    Attributes:
        diverse: whether repetition tires now; it costs time that an overloaded server lacks. Who sets
            it anew asks for `slots` of all rows, as it changes none.
    """

    def __init__(
        self,
        *,
        landmark: float,
        seed: int = 0,
        settings: Settings | None = None,
        scoring: Scoring | None = None,
        repeats: Sequence[Repeat] | None = None,
        record_decisions: bool = False,
    ) -> None:
        self.seed = seed
        self.diverse = True
        self._landmark = int(landmark)
        self._notes = DecisionNotes(_MOST_NOTES) if record_decisions and scoring else None
        settings = settings or Settings()
        self._scoring = scoring
        self._state = State(settings, scoring, self._notes)
        self._repeats = repeats if scoring else None
        self._tau = settings.tau * TICKS_PER_SECOND
        for shelf in self._state.shelves:
            shelf.windows.whole = self._repeats is not None
        self._queue = Queue()
        self._live: dict[int, int] = {}
        self._offers: dict[int, Offer] = {}
        self._contests: dict[str, Contest] = {}
        self._contest_numbers = 0
        # Heaps of (expires, n) and (-ticks moved, n); entries no longer true are skipped.
        self._deadlines: list[tuple[int, int]] = []
        self._moved: list[tuple[int, int]] = []
        self._moving: set[int] = set()
        self._tombs: dict[int, int] = {}
        self._feedback: dict[int, list[int]] = {}
        self._refresh = Refresh()
        self._rekeyed = 0

    # Devices

    def seat(
        self,
        *,
        follow: Sequence[str],
        attrs: Mapping[str, Value],
        k: int,
        capacity: int,
        dismissed: Iterable[int] = (),
        device: str = "",
    ) -> Seat:
        """Give a device a window, which the next steps fill.

        Args:
            follow: valid filters.
            attrs: attributes that `where` of items is compared with.
            k: visible items, 1 to 64.
            capacity: payload bytes that fit; what is longer, `brief` included, is never admitted.
            dismissed: item numbers that never enter this window.
            device: who it is, for a ranking that learned.
        """
        number = shelf_of(k)
        shelf = self._state.shelves[number]
        row = shelf.take(k, capacity)
        shelf.attributes.set(row, attrs)
        shelf.follow[row] = self._state.audience.follow(number, row, follow).number
        seat = Seat(number, row)
        if self._scoring is not None:
            self._scoring.seat(number, row, device, attrs)
        for n in dismissed:
            self._bar(seat, n)
        shelf.queue(row, self._state.next_stamp())
        return seat

    def unseat(self, seat: Seat) -> None:
        """Take a device's window away; the seat may be given to the next device at once."""
        state = self._state
        shelf = state.shelves[seat.shelf]
        self._unfollow(seat)
        for n in shelf.dismissed.get(seat.row, ()):
            self._unbar(seat, n)
        if self._scoring is not None:
            self._scoring.unseat(seat.shelf, seat.row)
        shelf.give_back(seat.row)

    def change(
        self,
        seat: Seat,
        *,
        follow: Sequence[str] | None = None,
        attrs: Mapping[str, Value] | None = None,
        capacity: int | None = None,
        k: int | None = None,
    ) -> None:
        """Change what a device follows, is, can take or shows; the next steps build its row anew.

        Raises:
            ValueError: `k` belongs to another shelf; the device must be seated anew.
        """
        state = self._state
        shelf = state.shelves[seat.shelf]
        if k is not None:
            if shelf_of(k) != seat.shelf:
                raise ValueError(f"a window of {k} items does not belong on shelf {shelf.size}")
            shelf.windows.visible[seat.row] = k
        if follow is not None:
            self._unfollow(seat)
            followed = state.audience.follow(seat.shelf, seat.row, follow)
            shelf.follow[seat.row] = followed.number
        if attrs is not None:
            shelf.attributes.set(seat.row, attrs)
            if self._scoring is not None:
                self._scoring.change(seat.shelf, seat.row, attrs)
        if capacity is not None:
            shelf.fit(seat.row, capacity)
        shelf.queue(seat.row, state.next_stamp())

    def filled(self, seat: Seat) -> bool:
        """Whether a window is built, and not waiting to be built anew."""
        return bool(self._state.shelves[seat.shelf].stamp[seat.row] < PENDING)

    def dismiss(self, seat: Seat, n: int) -> None:
        """Take an item out of a window for good."""
        self._bar(seat, n)
        state = self._state
        windows = state.shelves[seat.shelf].windows
        rows = np.array([seat.row], np.int32)
        out = (state.columns.number[windows.ids[rows]] == n) & (windows.ids[rows] > 0)
        state.changed(seat.shelf, windows.take_out(rows, out))
        state.starve(seat.shelf, rows)

    def refresh(self, seat: Seat) -> None:
        """Rank one device's window anew, as what is known of the device changed."""
        shelf = self._state.shelves[seat.shelf]
        if shelf.stamp[seat.row] < PENDING:
            shelf.queue(seat.row, self._state.next_stamp())

    def refresh_all(self) -> None:
        """Rank everything anew by what the ranking says from now on, in the background.

        Unlike `reterm` this gives each live item its new term where it is, and then builds every
        row anew: less work than offering most items again.
        """
        self._refresh.begin(self._live, len(SHELVES))

    def _unfollow(self, seat: Seat) -> None:
        state = self._state
        follow_set = state.audience.sets[int(state.shelves[seat.shelf].follow[seat.row])]
        assert follow_set is not None, "a seated row has a follow set"
        state.audience.unfollow(seat.shelf, seat.row, follow_set)

    def _bar(self, seat: Seat, n: int) -> None:
        state = self._state
        state.dismissers.setdefault(n, set()).add((seat.shelf, seat.row))
        if n in self._live:
            state.columns.special[self._live[n]] = True
        state.shelves[seat.shelf].dismissed.setdefault(seat.row, set()).add(n)

    def _unbar(self, seat: Seat, n: int) -> None:
        dismissers = self._state.dismissers[n]
        dismissers.remove(seat)
        if not dismissers:
            del self._state.dismissers[n]

    # Items

    def publish(self, records: Sequence[Record], slots: Sequence[int]) -> None:
        """Take over accepted items: new ones, updates and retractions.

        Args:
            records: as the catalog accepted them; of one item, the later content later.
            slots: what `slots` shall return for each content; opaque, not 0, int64.
        """
        self._prepare([record for record in records if not record.retracted])
        for record, slot in zip(records, slots, strict=True):
            if record.retracted:
                self._retract(record)
            else:
                heappush(self._deadlines, (record.expires, record.n))
                self._replace(record, slot, record.item.priority + 1, counts=True)

    def expire(self, now: float) -> list[int]:
        """Return the numbers of items that are over at `now`; removing them becomes work."""
        over: list[int] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            expires, n = heappop(self._deadlines)
            index = self._live.get(n)
            if index is None:
                if self._tombs.get(n) == expires:
                    del self._tombs[n]
                    self._forget(n)
                continue
            record = self._state.columns.records[index]
            if record is not None and record.expires == expires:
                over.append(n)
                self._remove(n, _NORMAL)
                self._forget(n)
        return over

    def feedback(self, n: int, *, shown: int = 0, opened: int = 0, dismissed: int = 0) -> None:
        """Count what devices did with an item; when it matters, the item is ranked anew.

        A ranking that learned counts by itself, and says by `reterm` which items moved.
        """
        index = self._live.get(n)
        if index is None:
            return
        counts = self._feedback.setdefault(n, [0, 0, 0])
        counts[0] += shown
        counts[1] += opened
        counts[2] += dismissed
        if self._scoring is None:
            self._note_move(index)

    def reterm(self, ns: Iterable[int]) -> None:
        """Note that the ranking learned about items; those whose term moved are ranked anew.

        Args:
            ns: item numbers; those that are not live are passed over.
        """
        for index in self._prepared(ns):
            self._note_move(index)

    def _note_move(self, index: int) -> None:
        moved = abs(self._move(index))
        n = int(self._state.columns.number[index])
        # Once: what is asked for each minute must not pile up while there is no time for it.
        if moved >= self._state.baseline.rekey and n not in self._moving:
            self._moving.add(n)
            heappush(self._moved, (-moved, n))

    def _move(self, index: int) -> int:
        """Return the ticks by which a live item's term moved since the item was keyed."""
        columns = self._state.columns
        record = columns.records[index]
        assert record is not None, "a live item has its record"
        return self._term(record) - int(columns.term[index])

    def _retract(self, record: Record) -> None:
        index = self._live.get(record.n)
        if index is not None:
            # As soon as what it takes back: the retraction itself rarely says how urgent it is.
            priority = max(record.item.priority, self._state.item(index).priority)
            self._remove(record.n, priority + 1)
        self._tombs[record.n] = record.expires
        heappush(self._deadlines, (record.expires, record.n))

    def _forget(self, n: int) -> None:
        """Drop what is kept of an item whose number never comes back."""
        self._feedback.pop(n, None)
        for shelf, row in self._state.dismissers.pop(n, ()):
            self._state.shelves[shelf].dismissed[row].discard(n)

    def _replace(self, record: Record, slot: int, rank: int, *, counts: bool) -> None:
        """Put a content, or the same content with another term, in the place of the last."""
        state = self._state
        n, item = record.n, record.item
        # Also after a retraction that has not reached every row yet.
        known = n in self._live or self._tombs.pop(n, None) is not None
        before = self._offers.get(n)
        stale, left = self._retire(n)
        term = self._term(record)
        base = self._untermed(record) + term
        joined = None if item.collapse is None else self._contest(item.collapse)
        number = 0 if joined is None else joined.number
        index = state.columns.add(record, slot, base, term, number, self._groups(record))
        self._live[n] = index
        if n in state.dismissers:
            state.columns.special[index] = True
        state.channels.add(item.channel, index)
        state.version += 1
        if left is not None and left is not joined:
            self._settle(left, {item.channel}, stale, rank)
            stale = []
        if joined is None:
            job = Offer(
                rank,
                state.next_stamp(),
                {item.channel},
                stale,
                index=index,
                replaces=known,
                counts=counts,
                skipped=0 if before is None else before.skipped + before.done,
            )
            self._offers[n] = job
            self._queue.put(job)
        else:
            joined.add(state, index)
            self._settle(joined, {item.channel}, stale, rank, index if counts else 0)

    def _remove(self, n: int, rank: int) -> None:
        """Take a live item out of all windows."""
        state = self._state
        channel = state.item(self._live[n]).channel
        stale, left = self._retire(n)
        del self._live[n]
        if left is not None:
            self._settle(left, {channel}, stale, rank)
            return
        last = self._queue.last(rank)
        if isinstance(last, Withdraw) and not last.started:
            last.channels.add(channel)
            last.stale += stale
        else:
            self._queue.put(Withdraw(rank, state.next_stamp(), {channel}, stale))

    def _retire(self, n: int) -> tuple[list[int], Contest | None]:
        """End the index of an item, if it has one.

        Returns:
            The retired indices that a job must take out of windows, and the contest that the item
            took part in.
        """
        state = self._state
        index = self._live.get(n)
        if index is None:
            return [], None
        stale = [index]
        job = self._offers.pop(n, None)
        if job is not None:
            job.cancelled = True
            stale += job.stale
        state.channels.discard(state.item(index).channel, index)
        state.columns.retire(index)
        state.version += 1
        number = int(state.columns.contest[index])
        if not number:
            return stale, None
        contest = state.contests[number]
        contest.members.remove(index)
        return stale, contest

    def _contest(self, key: str) -> Contest:
        contest = self._contests.get(key)
        if contest is None:
            self._contest_numbers += 1
            contest = Contest(self._contest_numbers, key)
            self._contests[key] = self._state.contests[contest.number] = contest
        return contest

    def _settle(
        self, contest: Contest, channels: set[str], stale: list[int], rank: int, fresh: int = 0
    ) -> None:
        job = Settle(rank, self._state.next_stamp(), channels, stale, contest=contest, fresh=fresh)
        before = contest.job
        if before is not None:
            before.cancelled = True
            job.rank = max(rank, before.rank)
            job.channels |= before.channels
            job.stale += before.stale
        contest.job = job
        self._queue.put(job)

    def _prepare(self, records: Sequence[Record]) -> None:
        if self._scoring is not None and records:
            self._scoring.prepare(records)

    def _prepared(self, ns: Iterable[int]) -> list[int]:
        """Return the indices of those items that are live, which are about to get another term."""
        indices = [index for n in ns if (index := self._live.get(n)) is not None]
        records = self._state.columns.records
        self._prepare([record for index in indices if (record := records[index]) is not None])
        return indices

    def _term(self, record: Record) -> int:
        if self._scoring is not None:
            return self._scoring.term(record)
        counts = self._feedback.get(record.n)
        return 0 if counts is None else self._state.baseline.popularity(*counts)

    def _untermed(self, record: Record) -> int:
        """Return the ticks of an item's key without its term and what a filter adds."""
        published = record.published_ms - 1000 * self._landmark
        offset = self._state.baseline.by_priority[record.item.priority]
        return published * TICKS_PER_SECOND // 1000 + offset

    def _groups(self, record: Record) -> tuple[int, ...]:
        if self._scoring is None:
            return ()
        groups = tuple(self._scoring.groups(record))
        return groups + (0,) * (GROUPS - len(groups))

    # Work

    def step(
        self,
        now: float,
        max_rows: int = 16_384,
        *,
        urgent: bool = False,
        background: bool = True,
    ) -> list[Change]:
        """Do a bounded piece of what is to be done.

        Urgent items go first, then half of the step is for rows to be built, the rest for the other
        items by priority; items are ranked anew when nothing else is left, and after them rows that
        are refreshed.

        Args:
            now: Unix seconds.
            max_rows: bound, in candidate rows of the smallest shelf.
            urgent: do nothing but urgent items.
            background: do, too, what can wait for everything else.

        Returns:
            Rows whose visible window may have changed, since the last step.
        """
        if now - self._landmark > _REBASE_AFTER:
            self._rebase(int(now))
        self._state.now = now
        left = self._work_off(URGENT, max_rows)
        if urgent:
            # Rows that such an item passed by, as they wait to be built anew, are at the head of the queue.
            if self._state.hastened:
                self._build(left)
            left = 0
        self._state.hastened = False
        if left > 0:
            half = left - left // 2
            left += self._build(half) - half
        if left > 0:
            left = self._work_off(BACKGROUND + 1, left)
        if left > 0:
            left = self._build(left)
        if left > 0 and background:
            left = self._rekey(left)
            if left > 0 and self._refresh.going_on:
                self._refresh_some(left)
        self._reuse()
        return self._state.take_changes()

    @property
    def busy(self) -> bool:
        """Whether there is more for `step` to do or to tell."""
        return (
            self._queue.first(BACKGROUND) is not None
            or any(shelf.waiting for shelf in self._state.shelves)
            or self._state.any_changed
            or bool(self._moved)
            or self._refresh.going_on
        )

    @property
    def caught_up(self) -> bool:
        """Whether every item is in the windows that it belongs in, and every row built: what is left can wait."""
        return self._queue.first(BACKGROUND + 1) is None and not any(
            shelf.waiting for shelf in self._state.shelves
        )

    @property
    def urgent(self) -> bool:
        """Whether work on an urgent item is left, or on rows that are built anew and may come to show one by it."""
        return self._queue.first(URGENT) is not None or any(s.waiting for s in self._state.shelves)

    def _work_off(self, lowest: int, budget: int) -> int:
        """Work on jobs of rank `lowest` or higher; return what is left of the budget."""
        while budget > 0 and (job := self._queue.first(lowest)) is not None:
            if not job.started:
                job.start(self._state)
            if isinstance(job, Offer):
                budget -= self._offer(job, budget)
            else:
                budget -= self._chunk(job, budget)
        return budget

    def _offer(self, job: Offer, budget: int) -> int:
        """Work on an offer, and on the small ones behind it; return the work done."""
        work = self._work(job)
        if work > min(_SMALL, budget):
            return self._chunk(job, budget)
        together = [job]
        self._queue.drop_first(job.rank)
        while (behind := self._queue.first(job.rank)) is not None:
            if not isinstance(behind, Offer) or behind.rank != job.rank:
                break
            if not behind.started:
                behind.start(self._state)
            more = self._work(behind)
            if more > _SMALL or work + more > budget:
                break
            work += more
            together.append(behind)
            self._queue.drop_first(job.rank)
        if len(together) == 1:
            while (chunk := job.take(self._state, budget)) is not None:
                offer(self._state, job, chunk)
        else:
            offer_together(self._state, together)
        for each in together:
            self._end(each)
        return work + _JOB_COST

    def _work(self, job: Offer) -> int:
        """Return the work of an offer that is laid together with others."""
        work = job.work(self._state) + _SHARED_COST
        return work if self._scoring is None else work * _SCORED

    def _chunk(self, job: Job, budget: int) -> int:
        """Work on one chunk of the first job; return the work done."""
        state = self._state
        chunk = job.take(state, budget)
        if chunk is None:
            self._queue.drop_first(job.rank)
            self._end(job)
            return 1
        if isinstance(job, Offer):
            offer(state, job, chunk)
        elif isinstance(job, Settle):
            settle(state, job, chunk)
        else:
            withdraw(state, chunk)
        return len(chunk.rows) * state.shelves[chunk.shelf].cost + _JOB_COST

    def _end(self, job: Job) -> None:
        state = self._state
        state.columns.release(job.stale, state.next_stamp())
        if isinstance(job, Offer):
            del self._offers[int(state.columns.number[job.index])]
        elif isinstance(job, Settle):
            job.contest.job = None
            if not job.contest.members:
                del self._contests[job.contest.key], state.contests[job.contest.number]

    def _build(self, budget: int) -> int:
        """Build rows anew; return what is left of the budget."""
        for number, shelf in enumerate(self._state.shelves):
            while budget > 0 and shelf.waiting:
                budget -= rebuild(self._state, number, budget)
        return budget

    def _rekey(self, budget: int) -> int:
        """Rank items anew whose term moved, the largest move first; return what is left."""
        while budget > 0 and self._moved and self._queue.first(BACKGROUND) is None:
            _, n = heappop(self._moved)
            self._moving.discard(n)
            budget -= _SHARED_COST
            index = self._live.get(n)
            if index is None:
                continue
            columns = self._state.columns
            record = columns.records[index]
            assert record is not None, "a live item has its record"
            if abs(self._move(index)) >= self._state.baseline.rekey:
                self._replace(record, int(columns.slot[index]), BACKGROUND, counts=False)
                self._rekeyed += 1
        return self._work_off(BACKGROUND, budget)

    def _refresh_some(self, budget: int) -> None:
        """Go on with what `refresh_all` began."""
        state = self._state
        items = self._refresh.items()
        for index in self._prepared(items):
            state.columns.reterm(index, int(state.columns.term[index]) + self._move(index))
            state.channels.rerank(state.item(index).channel)
        if items:
            state.version += 1
            return
        self._refresh.queue_rows(state, budget)
        self._build(budget)

    def _reuse(self) -> None:
        """Free the indices of items that no window can hold any more."""
        waiting = [s.pending_since for s in self._state.shelves if s.pending_since is not None]
        self._state.columns.reuse(min(waiting, default=self._state.stamp + 1))

    def _rebase(self, landmark: int) -> None:
        """Move the landmark up before keys leave int32."""
        ticks = (landmark - self._landmark) * TICKS_PER_SECOND
        self._landmark = landmark
        self._state.columns.rebase(ticks)
        self._state.candidates.clear()
        for shelf in self._state.shelves:
            shelf.windows.rebase(ticks)

    # Reading

    def slots(self, shelf: int, rows: Rows) -> NDArray[np.int64]:
        """Return int64 [rows, size of the shelf]: what each row shows, best first, 0 after that."""
        windows = self._state.shelves[shelf].windows
        slots = self._state.columns.slot[self._shown(shelf, rows)]
        slots[np.arange(SHELVES[shelf]) >= windows.visible[rows][:, None]] = 0
        return slots

    def item(self, n: int) -> Record | None:
        """Return the present content of a live item, None for all others."""
        index = self._live.get(n)
        return None if index is None else self._state.columns.records[index]

    def window(self, seat: Seat) -> list[int]:
        """Return the numbers of the items that a device shows, best first."""
        numbers: list[int] = self._state.columns.number[self._visible(seat)].tolist()
        return numbers

    def standing(self, n: int) -> Iterator[Part]:
        """Yield where a live item stands with those who follow its channel; see `standing`."""
        return standing(self._state, n, self._live.get, self._shown)

    def trial(self, record: Record, now: float) -> Iterator[Part]:
        """Yield where an item would stand if it were published at `now`; nothing is changed.

        Args:
            record: as it would be accepted; its number is 0, or that of the item which it would update.
            now: Unix seconds.
        """
        contest = self._contests.get(record.item.collapse or "")
        term = 0 if self._scoring is not None else self._term(record)
        number = 0 if contest is None else contest.number
        tried = Trial(record, self._untermed(record) + term, number)
        return trial(self._state, tried, now)

    def offering(self, n: int) -> bool:
        """Whether an item is still on its way to windows, by itself or for its collapse key."""
        index = self._live.get(n)
        contest = 0 if index is None else int(self._state.columns.contest[index])
        return n in self._offers or (contest > 0 and self._state.contests[contest].job is not None)

    def placements(self, seat: Seat) -> list[Placement]:
        """Return how the items that a device shows came to their places, best first."""
        return placements(self._state, seat.shelf, seat.row, self._visible(seat))

    def _visible(self, seat: Seat) -> list[int]:
        """Return the indices of the items that a device shows, best first."""
        windows = self._state.shelves[seat.shelf].windows
        visible = int(min(windows.visible[seat.row], windows.held[seat.row]))
        ids: list[int] = self._shown(seat.shelf, np.array([seat.row], np.int32))[0].tolist()
        return ids[:visible]

    def _shown(self, shelf: int, rows: Rows) -> Ids:
        """Return int32 [rows, size of the shelf]: the items that may be seen, best first.

        Where repetition tires, these are the first ones in the order that says so, out of all that
        a window holds: what is repeated too often gives its place to one of the reserve.
        """
        windows = self._state.shelves[shelf].windows
        if self._repeats is None or not self.diverse:
            return windows.ids[rows, : SHELVES[shelf]]
        ids = windows.ids[rows]
        columns = self._state.columns
        groups = [columns.groups[ids, kind] for kind in range(len(self._repeats))]
        exempt = columns.urgent[ids]
        if self._scoring is not None and (plain := self._scoring.plain(shelf, rows)) is not None:
            exempt |= plain[:, None]
        order = diversify(windows.keys[rows], groups, self._repeats, self._tau, exempt)
        return np.take_along_axis(ids, order[:, : SHELVES[shelf]], axis=1)

    def held(self, shelf: int, rows: Rows) -> Held:
        """Return the windows of some rows as they are kept, the reserve included."""
        windows = self._state.shelves[shelf].windows
        ids = windows.ids[rows]
        return Held(self._state.columns.number[ids], windows.keys[rows], windows.visible[rows])

    def take_decisions(self) -> list[Admissions]:
        """Return the admissions since the last call, if they are recorded."""
        return [] if self._notes is None else self._notes.take()

    @property
    def size(self) -> Sizes:
        """How much the engine holds."""
        state = self._state
        return Sizes(
            items=len(self._live),
            channels=len(state.channels),
            rows=sum(shelf.seated for shelf in state.shelves),
            jobs=len(self._queue),
            pending=sum(shelf.pending for shelf in state.shelves),
            rekeys=len(self._moved),
            refreshing=self._refresh.going_on,
        )

    @property
    def counters(self) -> Counter[str]:
        """Counts since the start.

        `oversize`: items times devices not admitted as no form of the payload fits, counted when
        a content is offered to a row (not again when the row is built anew). `rebuilt`: rows
        built anew. `rekeyed`: items ranked anew as their term moved. `decisions_dropped`:
        admissions that were too many between two calls of `take_decisions`.
        """
        state = self._state
        return Counter(
            oversize=state.oversize,
            rebuilt=state.rebuilt,
            rekeyed=self._rekeyed,
            decisions_dropped=0 if self._notes is None else self._notes.dropped,
        )
