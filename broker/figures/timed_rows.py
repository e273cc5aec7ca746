"""What is timed of the devices of one shelf, in columns by row; events are worked off many at a time.

An event costs little if hundreds are worked off together as arrays, and fifty times as much alone. So events
come as columns, in the order in which they happened, and are divided into turns in which every row stands at
most once. Where turns would be of a few rows, as for one busy device, the rest is worked off one by one.
Turns alone were rejected: for a thousand events of one device they hold everybody up for tens of milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isnan, nan
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from broker.figures.histogram import Histogram
    from devices.ledger_rows import Records

_FEW = 32
"""Rows that are not worth a turn."""


class _Columns:
    """Columns of one length; `row` is one of them."""

    __slots__ = ()
    row: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.row)

    def where(self, which: NDArray[np.bool_]) -> Self:
        """Some of them."""
        return type(self)(*(column[which] for column in self.columns()))

    def columns(self) -> list[NDArray[Any]]:
        """All columns, in the order of the fields."""
        return [getattr(self, each.name) for each in fields(self)]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Sent(_Columns):
    """Frames written, in the order in which they were.

    Attributes:
        row: Whose.
        at: When, in seconds; NaN if the window only was there before its device, and nothing was written.
        name: What the acknowledgement will call the frame by, above 0; 0 if none will come.
        newest: The newest slot of the window that the device has then.
        accepted: When that was accepted; NaN if that is not known.
        alone: Whether no other frame is in flight.
    """

    row: NDArray[np.intp]
    at: NDArray[np.float64]
    name: NDArray[np.integer]
    newest: NDArray[np.int64]
    accepted: NDArray[np.float64]
    alone: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Acks(_Columns):
    """Acknowledgements, in the order in which they came.

    Attributes:
        row: Whose.
        at: When, in seconds; NaN if it is none, and what is in flight was sent again.
        name: Of which frame.
    """

    row: NDArray[np.intp]
    at: NDArray[np.float64]
    name: NDArray[np.integer]


NO_FRAMES = Sent(*(np.zeros(0, each) for each in (np.intp, "d", np.int64, np.int64, "d", np.bool_)))
NO_ACKS = Acks(*(np.zeros(0, each) for each in (np.intp, "d", np.int64)))


class TimedRows:
    """The rows of one shelf, and which of their frames are timed.

    Args:
        to_frame: Counts the times from acceptance to frame.
        to_ack: From acceptance to acknowledgement.
        device: From frame to acknowledgement.
        all_before: Whether an acknowledgement stands for every frame of a lower name as well.
    """

    __slots__ = (
        "_accepted_at", "_all_before", "_device", "_mark", "_newest", "_sent_at", "_timed", "_to_ack",
        "_to_frame",
    )  # fmt: skip

    def __init__(
        self, to_frame: Histogram, to_ack: Histogram, device: Histogram, *, all_before: bool
    ) -> None:
        self._to_frame, self._to_ack, self._device = to_frame, to_ack, device
        self._all_before = all_before
        # The newest slot of the window that was sent last.
        self._newest: NDArray[np.int64] = np.zeros(64, np.int64)
        # The name of the frame that is timed, 0 if there is none; when it was written, and when its
        # newest item was accepted, NaN if that is not known.
        self._timed: NDArray[np.uint32] = np.zeros(64, np.uint32)
        self._sent_at: NDArray[np.float64] = np.zeros(64)
        self._accepted_at: NDArray[np.float64] = np.zeros(64)
        self._mark: NDArray[np.int32] = np.zeros(64, np.int32)

    def work_off(self, order: NDArray[np.bool_], sent: Sent, acks: Acks) -> None:
        """Takes in what happened since the last call.

        Args:
            order: For each event whether it is the next of `sent`, else it is the next of `acks`.
            sent: Frames.
            acks: Acknowledgements.
        """
        row = _in_order(order, sent.row, acks.row)
        self._make_room(row)
        while True:
            first = self._first_of_each_row(row)
            count = np.count_nonzero(first)
            if count < _FEW:
                self._work_off_singly(order, sent, acks)
                return
            if count == len(row):
                self._take_sent(sent)
                self._take_acks(acks)
                return
            of_sent, of_acks = first[order], first[~order]
            self._take_sent(sent.where(of_sent))
            self._take_acks(acks.where(of_acks))
            sent, acks = sent.where(~of_sent), acks.where(~of_acks)
            row, order = row[~first], order[~first]

    def take_sent(self, sent: Sent) -> None:
        """Takes in frames to distinct rows, at least one, after all that happened before."""
        self._make_room(sent.row)
        self._take_sent(sent)

    def take_alike(
        self,
        rows: NDArray[np.intp],
        at: float,
        brought: int,
        accepted: float,
        records: Records | None,
        name: str,
    ) -> bool:
        """The same where one content is all that every frame brings, if it is newer than what all rows had.

        Args:
            rows: Whose, each once, at least one.
            at: When they were written.
            brought: The slot of the content.
            accepted: When that was accepted; NaN if that is not known.
            records: The ledger's of these rows; None if no acknowledgements will come.
            name: The field in them that acknowledgements will call frames by.

        Returns:
            False if some had a newer one; nothing was taken in then.
        """
        self._make_room(rows)
        if np.count_nonzero(self._newest.take(rows) < brought) < len(rows):
            return False
        self._newest[rows] = brought
        if not isnan(accepted):
            self._to_frame.add_alike(at - accepted, len(rows))
        if records is not None:
            free = (records["inflight"] == 1) | (self._timed.take(rows) == 0)
            rows = rows[free]
            self._timed[rows] = records[name][free]
            self._sent_at[rows] = at
            self._accepted_at[rows] = accepted
        return True

    def _make_room(self, rows: NDArray[np.intp]) -> None:
        size = int(rows.max()) + 1
        if size > len(self._mark):
            more = max(len(self._mark), size - len(self._mark))
            for name in ("_newest", "_timed", "_sent_at", "_accepted_at", "_mark"):
                setattr(self, name, np.pad(getattr(self, name), (0, more)))

    def _first_of_each_row(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        order = np.arange(len(rows), dtype=np.int32)
        self._mark[rows[::-1]] = order[::-1]  # of equal rows, what is assigned last stays
        first: NDArray[np.bool_] = self._mark.take(rows) == order
        return first

    # ---- Many, of distinct rows

    def _take_sent(self, sent: Sent) -> None:
        if not len(sent):
            return
        rows, at, name, newest, accepted, alone = sent.columns()
        accepted = np.where(newest > self._newest.take(rows), accepted, nan)
        self._newest[rows] = newest
        _count(self._to_frame, accepted, at)
        free = (name > 0) & (alone | (self._timed.take(rows) == 0))
        count = np.count_nonzero(free)
        if count < len(rows):
            rows, at, name, accepted = rows[free], at[free], name[free], accepted[free]
        if count:
            self._timed[rows] = name
            self._sent_at[rows] = at
            self._accepted_at[rows] = accepted

    def _take_acks(self, acks: Acks) -> None:
        if not len(acks):
            return
        rows, at, name = acks.columns()
        timed = self._timed.take(rows)
        ours = timed <= name if self._all_before else timed == name
        ours |= np.isnan(at)
        ours &= timed > 0
        if np.count_nonzero(ours) < len(rows):
            rows, at = rows[ours], at[ours]
        self._timed[rows] = 0
        _count(self._device, self._sent_at.take(rows), at)
        _count(self._to_ack, self._accepted_at.take(rows), at)

    # ---- Few

    def _work_off_singly(self, order: NDArray[np.bool_], sent: Sent, acks: Acks) -> None:
        frames = zip(*(column.tolist() for column in sent.columns()), strict=True)
        answers = zip(*(column.tolist() for column in acks.columns()), strict=True)
        for is_sent in order.tolist():
            if is_sent:
                self._take_frame(*next(frames))
            else:
                self._take_ack(*next(answers))

    def _take_frame(
        self,
        row: int,
        at: float,
        name: int,
        newest: int,
        accepted: float,
        alone: bool,
    ) -> None:
        if newest <= self._newest.item(row):
            accepted = nan
        self._newest[row] = newest
        _count_one(self._to_frame, accepted, at)
        if name and (alone or not self._timed.item(row)):
            self._timed[row], self._sent_at[row], self._accepted_at[row] = name, at, accepted

    def _take_ack(self, row: int, at: float, name: int) -> None:
        timed = self._timed.item(row)
        if timed and (timed == name or (self._all_before and timed < name) or isnan(at)):
            self._timed[row] = 0
            _count_one(self._device, self._sent_at.item(row), at)
            _count_one(self._to_ack, self._accepted_at.item(row), at)


def _in_order(
    order: NDArray[np.bool_], ones: NDArray[np.intp], others: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Both, as `order` takes the next of one or the other."""
    if not len(others):
        return ones
    if not len(ones):
        return others
    both = np.empty(len(order), np.intp)
    both[order], both[~order] = ones, others
    return both


def _count(histogram: Histogram, since: NDArray[np.float64], at: NDArray[np.float64]) -> None:
    """Counts the times passed between these moments; NaN is none."""
    passed = at - since
    known = passed == passed  # noqa: PLR0124 (NaN does not equal itself)
    count = np.count_nonzero(known)
    if count:
        histogram.add_many(passed if count == len(passed) else passed[known])


def _count_one(histogram: Histogram, since: float, at: float) -> None:
    passed = at - since
    if not isnan(passed):
        histogram.add(passed)
