"""How long items are on their way: accepted, written as a frame, acknowledged by the device.

What a frame carries is not looked up: a device's window is compared by its newest slot. If that is newer than
all that the device was sent before, the frame brings it. Left out are therefore updates of older items and
items that return, and what a device is sent when it comes: it was not on its way all that time.

Acknowledgements are timed as TCP times segments (RFC 6298, section 3): one at a time for each device. Noting
all that are in flight would cost four times the memory, and say little more.

Most pushes are for a few rows, and arrays of a few rows cost as much as those of hundreds. So what happens is
only noted, and worked off when it is much, or when somebody asks. Where it is much already, most often one
new item for very many, nothing is gained by that: each row stands there once, and no order has to be found.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from broker.figures.histogram import Histogram
from broker.figures.timed_rows import NO_ACKS, NO_FRAMES, Acks, Sent, TimedRows
from devices import slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devices.ledger import Batch
    from devices.ledger_rows import Records, Rows, Windows

TOGETHER = 1024
"""Events that do not wait any longer to be worked off together."""

_MANY = 256
"""Frames of one batch that are worked off at once."""

_REMEMBERED = 1 << 16
"""Items whose acceptance is remembered: those accepted last, by their numbers; a power of two."""


_SentNote = tuple["Rows", float, bool, "Windows", "Records"]
_AcksNote = tuple["Rows", float, NDArray[np.integer]]


class _Notes:
    """What happened on one shelf and is not worked off yet.

    Attributes:
        counts: In their order, the rows of each note: above 0 of one of `sent`, below 0 of one of `acks`.
        sent: Rows, when, whether acknowledgements will come, windows, records.
        acks: Rows, when, names.
    """

    __slots__ = ("acks", "counts", "sent")

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.sent: list[_SentNote] = []
        self.acks: list[_AcksNote] = []

    def clear(self) -> None:
        """All of it is worked off."""
        for notes in (self.counts, self.sent, self.acks):
            notes.clear()


class ItemTimes:
    """Times items and frames of all shelves of a server.

    Args:
        shelves: How many there are.
        positions: Whether devices acknowledge the position that a frame leads to, and with it whatever was
            sent before. Otherwise packet identifiers, and frames of QoS 0 not at all.
        together: Events that may wait to be worked off together.
    """

    def __init__(self, shelves: int, *, positions: bool = False, together: int = TOGETHER) -> None:
        self._positions = positions
        self._name = "seq" if positions else "packet_id"
        self._together = together
        self._to_frame, self._to_ack, self._device = Histogram(), Histogram(), Histogram()
        counted = self._to_frame, self._to_ack, self._device
        self._rows = [TimedRows(*counted, all_before=positions) for _ in range(shelves)]
        self._notes = [_Notes() for _ in range(shelves)]
        self._waiting = 0
        self._slots: NDArray[np.int64] = np.zeros(_REMEMBERED, np.int64)
        self._accepted: NDArray[np.float64] = np.zeros(_REMEMBERED)
        # Acceptances that others have taken the place of since anything was worked off.
        self._replaced: dict[int, float] = {}

    @property
    def to_frame(self) -> Histogram:
        """From the acceptance of an item to the frame that brings it to a device."""
        self._work_off()
        return self._to_frame

    @property
    def to_ack(self) -> Histogram:
        """From there to the device's acknowledgement, the way to the frame included."""
        self._work_off()
        return self._to_ack

    @property
    def device(self) -> Histogram:
        """From a frame to its acknowledgement."""
        self._work_off()
        return self._device

    # ---- What happens; moments are seconds, on one clock that does not go back

    def accepted(self, slot: int, at: float) -> None:
        """A content was accepted, which happens to no slot twice."""
        place = slots.number(slot) % _REMEMBERED
        if self._waiting:
            # A frame that waits may have brought what stood there.
            self._replaced[int(self._slots[place])] = float(self._accepted[place])
            if len(self._replaced) >= self._together:
                self._work_off()
        self._slots[place] = slot
        self._accepted[place] = at

    def met(self, shelf: int, rows: Rows, windows: Windows, records: Records) -> None:
        """Devices have come, and what they lack for these windows came up before.

        Args:
            shelf: Theirs.
            rows: Distinct rows of it.
            windows: Their feeds as slots; shape (rows, K).
            records: The ledger's of these rows.
        """
        notes, count = self._notes[shelf], len(rows)
        if count:
            notes.sent.append((rows, nan, False, windows, records))
            notes.counts.append(count)
            self._wait(count)

    def wrote(self, shelf: int, batch: Batch, now: float) -> None:
        """Frames were written; a batch has at least one."""
        notes, rows, count = self._notes[shelf], batch.rows, len(batch.rows)
        awaited = self._positions or batch.qos > 0
        if count >= _MANY:
            self._take_many(shelf, batch, now, awaited=awaited)
            return
        notes.sent.append((rows, now, awaited, batch.windows, batch.records))
        notes.counts.append(count)
        self._wait(count)

    def acknowledged(self, shelf: int, rows: Rows, names: NDArray[np.integer], now: float) -> None:
        """Acknowledgements have come; those of other frames than the timed ones change nothing.

        Args:
            shelf: Whose.
            rows: Who acknowledged.
            names: Packet identifiers, or the `seq` of positions.
            now: When.
        """
        notes, count = self._notes[shelf], len(rows)
        if count:
            notes.acks.append((rows, now, names))
            notes.counts.append(-count)
            self._wait(count)

    def sent_again(self, shelf: int, row: int) -> None:
        """What is in flight to this row is repeated: whose acknowledgement comes then, nobody knows.

        So nothing that was repeated is timed (Karn's algorithm, RFC 6298, section 3).
        """
        rows = np.array([row], np.int32)
        self.acknowledged(shelf, rows, rows, nan)

    # ---- Working it off

    def _take_many(self, shelf: int, batch: Batch, now: float, *, awaited: bool) -> None:
        """Takes in the frames of a batch, of distinct rows as it is, after what waits of their shelf."""
        if self._notes[shelf].counts:
            self._work_off()
        timed = self._rows[shelf]
        if batch.put:
            brought = next(s for s in batch.windows[0].tolist() if slots.number(s) == batch.put)
            records = batch.records if awaited else None
            if timed.take_alike(
                *(batch.rows.astype(np.intp), now, brought, self._accepted_one(brought)),
                *(records, self._name),
            ):
                return
        timed.take_sent(self._sent([(batch.rows, now, awaited, batch.windows, batch.records)]))

    def _wait(self, count: int) -> None:
        """So many events more are to be worked off, which is done if it is worth while."""
        self._waiting += count
        if self._waiting >= self._together:
            self._work_off()

    def _work_off(self) -> None:
        if not self._waiting:
            return
        for rows, notes in zip(self._rows, self._notes, strict=True):
            if notes.counts:
                counts = np.array(notes.counts)
                order = np.repeat(counts > 0, np.abs(counts))
                rows.work_off(order, self._sent(notes.sent), _acks(notes.acks))
                notes.clear()
        self._waiting = 0
        self._replaced.clear()

    def _sent(self, notes: list[_SentNote]) -> Sent:
        if not notes:
            return NO_FRAMES
        rows, moments, awaited, windows, records = zip(*notes, strict=True)
        lengths = [len(each) for each in rows]
        record = _joined_bytes(records)
        newest = _newest(_joined_bytes(windows))
        name = record[self._name]
        if not all(awaited):
            name = np.where(np.repeat(awaited, lengths), name, 0)
        return Sent(
            # Numpy makes indices of another type anew each time that they are used.
            row=_joined(rows).astype(np.intp),
            at=np.repeat(moments, lengths),
            name=name,
            newest=newest,
            accepted=self._accepted_at(newest),
            alone=record["inflight"] == 1,
        )

    def _accepted_at(self, contents: NDArray[np.int64]) -> NDArray[np.float64]:
        """When these contents were accepted; NaN where that is not known (any more)."""
        places = slots.number(contents) & (_REMEMBERED - 1)  # a fifth of the cost of %
        found = self._accepted.take(places)
        missing = self._slots.take(places) != contents
        if np.count_nonzero(missing):
            found[missing] = nan
        if self._replaced:
            for at in np.flatnonzero(missing).tolist():
                found[at] = self._replaced.get(int(contents[at]), nan)
        return found

    def _accepted_one(self, content: int) -> float:
        """The same for one content; scalars cost a fifth of arrays of one."""
        place = slots.number(content) % _REMEMBERED
        if self._slots.item(place) == content:
            return self._accepted.item(place)
        return self._replaced.get(content, nan)


def _newest(windows: Windows) -> NDArray[np.int64]:
    """The newest slot of each; along the longer axis, which costs a quarter of the other way round."""
    newest: NDArray[np.int64] = np.ascontiguousarray(windows.T).max(axis=0)
    return newest


def _joined(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _joined_bytes(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The same of contiguous columns of one type: of hundreds a fifth of the cost, of records a thousandth."""
    first = columns[0]
    if len(columns) == 1:
        return first
    joined = b"".join(columns)  # type: ignore[arg-type] # arrays are buffers
    return np.frombuffer(joined, first.dtype).reshape(-1, *first.shape[1:])


def _acks(notes: list[_AcksNote]) -> Acks:
    if not notes:
        return NO_ACKS
    rows, moments, names = zip(*notes, strict=True)
    lengths = [len(each) for each in rows]
    return Acks(_joined(rows).astype(np.intp), np.repeat(moments, lengths), _joined(names))
