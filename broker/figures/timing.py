"""How long items are on their way: accepted, written as a frame, acknowledged by the device.

What a frame carries is not looked up: a device's window is compared by its newest slot. If that is newer than
all that the device was sent before, the frame brings it. Left out are therefore updates of older items and
items that return, and what a device is sent when it comes: it was not on its way all that time.

Acknowledgements are timed as TCP times segments (RFC 6298, section 3): one at a time for each device. Noting
all that are in flight would cost four times the memory, and say little more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from broker.figures.histogram import Histogram
from devices import slots

if TYPE_CHECKING:
    from devices.ledger_rows import Rows, Windows

_REMEMBERED = 1 << 16
"""Items whose acceptance is remembered: those accepted last, by their numbers."""


class _Rows:
    """What is noted of the rows of one shelf, in columns.

    Attributes:
        newest: The highest slot that was sent.
        coming: That of the window that is being sent.
        timed: What acknowledgements call the timed frame by, 0 if there is none.
        sent_at: When it was written.
        accepted_at: When its newest item was accepted; NaN if that is not known.
    """

    __slots__ = ("accepted_at", "coming", "newest", "sent_at", "timed")

    def __init__(self) -> None:
        self.newest: NDArray[np.int64] = np.zeros(64, np.int64)
        self.coming: NDArray[np.int64] = np.zeros(64, np.int64)
        self.timed: NDArray[np.uint32] = np.zeros(64, np.uint32)
        self.sent_at: NDArray[np.float64] = np.zeros(64)
        self.accepted_at: NDArray[np.float64] = np.zeros(64)

    def make_room(self, rows: Rows) -> None:
        """Grows, if need be, until these rows have a place."""
        size = int(rows.max()) + 1 if len(rows) else 0
        if size > len(self.newest):
            more = max(len(self.newest), size - len(self.newest))
            for name in self.__slots__:
                setattr(self, name, np.pad(getattr(self, name), (0, more)))


class ItemTimes:
    """Times items and frames of all shelves of a server.

    Args:
        shelves: How many there are.

    Attributes:
        to_frame: From the acceptance of an item to the frame that brings it to a device.
        to_ack: From there to the device's acknowledgement, the way to the frame included.
        device: From a frame to its acknowledgement.
    """

    def __init__(self, shelves: int) -> None:
        self.to_frame = Histogram()
        self.to_ack = Histogram()
        self.device = Histogram()
        self._rows = [_Rows() for _ in range(shelves)]
        self._slots: NDArray[np.int64] = np.zeros(_REMEMBERED, np.int64)
        self._accepted: NDArray[np.float64] = np.zeros(_REMEMBERED)

    def accepted(self, slot: int, at: float) -> None:
        """A content was accepted.

        Args:
            slot: It.
            at: When, on the clock of all the others here.
        """
        place = slots.number(slot) % _REMEMBERED
        self._slots[place] = slot
        self._accepted[place] = at

    def intend(self, shelf: int, rows: Rows, target: Windows, *, new: bool) -> None:
        """These windows are about to be sent, as far as their rows are due.

        Args:
            shelf: Whose.
            rows: Rows of it.
            target: Their feeds as slots; shape (rows, K).
            new: Whether the devices were there when what they lack came up.
        """
        state = self._rows[shelf]
        state.make_room(rows)
        # Along the longer axis, which costs a quarter of the other way round.
        coming = np.ascontiguousarray(target.T).max(axis=0)
        state.coming[rows] = coming
        if not new:
            state.newest[rows] = coming

    def wrote(
        self,
        shelf: int,
        rows: Rows,
        names: NDArray[Any] | None,
        alone: NDArray[np.bool_],
        now: float,
    ) -> None:
        """Frames were written, one to each of these rows.

        Args:
            shelf: Whose.
            rows: Those of `intend`, or some of them.
            names: What acknowledgements call them by, numbers above 0; None if none will come.
            alone: Where nothing else is in flight.
            now: Seconds, on a clock that does not go back.
        """
        state = self._rows[shelf]
        coming = state.coming.take(rows)
        accepted = self._accepted_at(coming)
        accepted[coming <= state.newest.take(rows)] = np.nan
        state.newest[rows] = coming
        _add_known(self.to_frame, accepted, now)
        if names is None:
            return
        free = (state.timed.take(rows) == 0) | alone
        if not free.all():
            rows, names, accepted = rows[free], names[free], accepted[free]
        state.timed[rows] = names
        state.sent_at[rows] = now
        state.accepted_at[rows] = accepted

    def _accepted_at(self, coming: NDArray[np.int64]) -> NDArray[np.float64]:
        """When these contents were accepted; NaN where that is not known (any more)."""
        places = slots.number(coming) % _REMEMBERED
        found = self._accepted.take(places)
        found[self._slots.take(places) != coming] = np.nan
        return found

    def acknowledged(
        self, shelf: int, rows: Rows, names: NDArray[Any], now: float, *, all_before: bool = False
    ) -> None:
        """Acknowledgements have come; those of other frames than the timed ones change nothing.

        Args:
            shelf: Whose.
            rows: Who acknowledged.
            names: Of the frames, as `wrote` was told them.
            now: As there.
            all_before: Whether each also acknowledges whatever has a lower name.
        """
        state = self._rows[shelf]
        state.make_room(rows)
        timed = state.timed.take(rows)
        ours = (timed > 0) & ((timed <= names) if all_before else (timed == names))
        if not ours.all():
            rows = rows[ours]
        state.timed[rows] = 0
        self.device.add_many(now - state.sent_at.take(rows))
        _add_known(self.to_ack, state.accepted_at.take(rows), now)

    def sent_again(self, shelf: int, row: int) -> None:
        """What is in flight to this row is repeated: whose acknowledgement comes then, nobody knows.

        So nothing that was repeated is timed (Karn's algorithm, RFC 6298, section 3).
        """
        timed = self._rows[shelf].timed
        if row < len(timed):
            timed[row] = 0


def _add_known(histogram: Histogram, since: NDArray[np.float64], now: float) -> None:
    """Counts the time passed since these moments; NaN is none."""
    known = ~np.isnan(since)
    if known.any():
        histogram.add_many(now - (since if known.all() else since[known]))
