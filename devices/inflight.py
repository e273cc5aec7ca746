"""Frames in flight: sent at QoS 1 or 2, not yet acknowledged, and sent again after a reconnect.

The unacknowledged frames of a device have consecutive packet identifiers, so a count and the newest
identifier name them all. A persistent session gets them again, as they were, when it resumes (MQTT
3.1.1, 4.4).

A device that dies of a frame would be killed by it again on every connection. So the ledger counts the
connections in a row that ended without any acknowledgement while a frame that they had been sent again
was still unacknowledged. From `ALONE_AFTER` of them on frames are sent again one at a time, the next
when the last is acknowledged, and nothing else beside them: whoever fails then has failed at one frame
known by name. What follows from that is decided elsewhere (`broker.positions`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import slots
from devices.frames import Delta, Put, decode_frame
from devices.ledger_rows import LedgerRows, Rows, every

PACKET_IDS = 0x7FFF
"""Frames have the packet identifiers from 1 to here; those above belong to other messages."""

ALONE_AFTER = 2
"""Failed connections in a row after which frames are sent again one at a time."""

_MOST_FAILURES = 255


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """A frame to send again with DUP: its packet identifier, QoS, and bytes behind the topic name."""

    packet_id: int
    qos: int
    tail: bytes


class InFlight(LedgerRows):
    """The unacknowledged frames of all rows.

    Attributes:
        notes_arrivals: Whether the items in acknowledged frames are noted, for `take_arrivals`. Set
            by whoever takes them, before the first frame.
    """

    def __init__(self, columns: int, ring: int, recent: int, size: int) -> None:
        super().__init__(columns, ring, recent, size)
        self.notes_arrivals = False
        self._arrived: list[NDArray[np.integer]] = []
        # The place of the ring for each distance from its first, backwards as well.
        self._place = np.arange(ring)

    # ---- What is sent again

    def unacknowledged(self, row: int) -> list[Unacknowledged]:
        """What a resumed session must be sent again, oldest first (MQTT 3.1.1, 4.4)."""
        count = int(self.inflight[row])
        found = []
        for distance in range(count - 1, -1, -1):
            if self.early[row] >> (count - 1 - distance) & 1:
                continue
            at = self._at(row, distance)
            tail = self.tails[at]
            if tail is not None:
                packet_id = (int(self.packet_id[row]) - 1 - distance) % PACKET_IDS + 1
                found.append(Unacknowledged(packet_id, int(self.held_qos[at]), tail))
        return found

    def resume(self, row: int) -> list[Unacknowledged]:
        """A persistent session is back: what it is to be sent again now, oldest first.

        Only the oldest after too many failures; then `resend_next` has the others.
        """
        frames = self.unacknowledged(row)
        self.alone[row] = bool(frames) and int(self.failures[row]) >= ALONE_AFTER
        self._update_ready(row)
        if self.alone[row]:
            self.behind[row] = True
            del frames[1:]
        self.resent[row] = frames[-1].packet_id if frames else 0
        return frames

    def resend_next(self, row: int) -> Unacknowledged | None:
        """The next frame of a row whose frames are sent again one at a time.

        None while the last is unacknowledged, and when none is left: then the row is as any other.
        """
        frames = self.unacknowledged(row)
        if not frames:
            self.alone[row] = False
            self._update_ready(row)
            return None
        oldest = frames[0]
        if oldest.packet_id == int(self.resent[row]):
            return None
        self.resent[row] = oldest.packet_id
        return oldest

    def fail(self, row: int) -> int:
        """The connection ends by what may be the fault of a frame; failures in a row, with this one.

        It is none if nothing was sent again, or all that was has been acknowledged.
        """
        inflight, resent = int(self.inflight[row]), int(self.resent[row])
        sent_since = (int(self.packet_id[row]) - resent) % PACKET_IDS
        if inflight and resent and sent_since < inflight:
            self.failures[row] = min(int(self.failures[row]) + 1, _MOST_FAILURES)
        return int(self.failures[row])

    def oldest_puts(self, row: int) -> tuple[int, ...]:
        """Numbers of the items that the oldest unacknowledged frame puts.

        They are read from the frame itself: to remember them of every frame would cost all devices
        memory for the sake of very few.
        """
        for frame in self.unacknowledged(row)[:1]:
            sent = decode_frame(frame.tail[2:])
            if isinstance(sent, Delta):
                return tuple(op.item.n for op in sent.ops if isinstance(op, Put))
            return tuple(item.n for item in sent.items) if sent is not None else ()
        return ()

    # ---- Acknowledgements

    def acknowledge(self, rows: Rows, packet_ids: NDArray[np.uint16], now: float) -> Rows:
        """PUBACKs or PUBCOMPs, in the order of their arrival; unknown identifiers change nothing.

        Returns the rows that have room now and whose feed differs from the tip, or that have more to
        be sent again.
        """
        known = packet_ids - np.uint16(1) < PACKET_IDS
        if not every(known):
            rows, packet_ids = rows[known], packet_ids[known]
        order = np.arange(len(rows), dtype=np.int32)
        self.mark[rows] = order
        if not every(self.mark[rows] == order):
            for row, packet_id in zip(rows.tolist(), packet_ids.tolist(), strict=True):
                self._acknowledge_one(row, packet_id)
            rows = np.unique(rows)
        else:
            state = self.state(rows)
            back = (state["packet_id"].astype(np.int32) - packet_ids) % PACKET_IDS
            plain = (back + 1 == state["inflight"]) & (state["early"] == 0)
            state["inflight"] -= plain
            state["failures"] *= ~plain
            state["waiting_since"] = now
            self.put_state(rows, state)
            in_order = every(plain)
            if self.notes_arrivals and in_order:
                self._note_arrivals(rows * self.ring + self._place.take(state["head"] - back))
            elif self.notes_arrivals:
                place = self._place.take((state["head"] - back)[plain])
                self._note_arrivals(rows[plain] * self.ring + place)
            if in_order:
                due: Rows = rows[state["behind"] & (state["ready"] | state["alone"])]
                return due
            for index in np.flatnonzero(~plain).tolist():
                self._acknowledge_one(int(rows[index]), int(packet_ids[index]))
        self.waiting_since[rows] = now
        return rows[self.behind[rows] & (self.ready[rows] | self.alone[rows])]

    def _acknowledge_one(self, row: int, packet_id: int) -> None:
        inflight = int(self.inflight[row])
        back = (int(self.packet_id[row]) - packet_id) % PACKET_IDS
        if back >= inflight:
            return
        arrived = 1 << (inflight - 1 - back)
        early = int(self.early[row])
        if self.notes_arrivals and not early & arrived:
            self._note_arrivals(np.array([self._at(row, back)]))
        early |= arrived
        while early & 1:
            early >>= 1
            inflight -= 1
        self.early[row] = early
        self.inflight[row] = inflight
        self.failures[row] = 0

    def _acknowledge_before(self, row: int, distance: int) -> None:
        """Everything up to this many frames before the tip has arrived, as the device itself says."""
        inflight = int(self.inflight[row])
        passed = inflight - distance
        if passed > 0:
            if self.notes_arrivals:
                early = int(self.early[row])
                new = [b for b in range(distance, inflight) if not early >> (inflight - 1 - b) & 1]
                self._note_arrivals(np.array([self._at(row, back) for back in new], np.int64))
            self.early[row] >>= passed
            self.inflight[row] = distance
            self.failures[row] = 0

    # ---- What arrived

    def take_arrivals(self) -> NDArray[np.integer]:
        """The items that were put by frames acknowledged since the last call, once for each frame."""
        arrived, self._arrived = self._arrived, []
        if len(arrived) == 1:
            return arrived[0]
        return np.concatenate(arrived) if arrived else np.zeros(0, np.uint32)

    def _note_arrivals(self, at: NDArray[np.integer]) -> None:
        """The frames that led to the windows at these places of the rings were acknowledged."""
        numbers = self.carried.take(at)
        if not every(numbers):
            unsaid = numbers == 0
            self._arrived.append(self._put_by(at[unsaid]))
            numbers = numbers[~unsaid]
        self._arrived.append(numbers)

    def _put_by(self, at: NDArray[np.integer]) -> NDArray[np.integer]:
        """The items that frames put, by the windows that they led to and those before."""
        row, place = np.divmod(at, self.ring)
        before = self.held[row * self.ring + (place - 1) % self.ring]
        before[self.held_seq[at] == self.snapshot_seq[row]] = slots.EMPTY
        after = self.held[at]
        put = after != slots.EMPTY
        for column in range(self.columns):
            put &= after != before[:, column : column + 1]
        numbers: NDArray[np.integer] = slots.number(after[put])
        return numbers

    def stalled(self, rows: Rows, before: float) -> Rows:
        """Which of these rows have waited for an acknowledgement since before that time."""
        return rows[(self.inflight[rows] > 0) & (self.waiting_since[rows] < before)]

    def forget_inflight(self, row: int) -> None:
        """The MQTT session ended: nothing of it will be sent again or acknowledged."""
        self.inflight[row] = self.early[row] = self.failures[row] = self.resent[row] = 0
        self.alone[row] = False
        first = row * self.ring
        self.tails[first : first + self.ring] = None

    # ---- Rows

    def resending(self, row: int) -> tuple[int, int, bool]:
        """What a connection has to take along when its device changes rows; see `go_on_resending`."""
        return int(self.failures[row]), int(self.resent[row]), bool(self.alone[row])

    def go_on_resending(self, row: int, state: tuple[int, int, bool]) -> None:
        """The device has this row now, its frames in flight and the connection that it had before."""
        if self.inflight[row]:
            self.failures[row], self.resent[row], self.alone[row] = state
            self._update_ready(row)

    def _update_ready(self, row: int) -> None:
        """Frames may be sent: attached, not blocked, and nothing is sent again one at a time."""
        self.ready[row] = self.attached[row] and not (self.blocked[row] or self.alone[row])

    def _at(self, row: int, distance: int) -> int:
        """Where in the rings the window `distance` frames before the tip stands."""
        return row * self.ring + (int(self.head[row]) - distance) % self.ring
