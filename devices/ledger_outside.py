"""The ledger beside an outside broker: only the device itself says what it holds.

The broker takes every frame off our hands at once, and what becomes of it then nobody tells us. So frames
of every QoS are unacknowledged until the device's own ack, or a hello that names them; both count for
everything before. What differs from `Ledger` by that:

- Unacknowledged frames are told by their `seq`, for an ack names one. Packet identifiers are those of
  the one connection that all devices share, so they come from its owner.
- A frame of QoS 0 may be lost on its way, and a change that is worth more than that must not hang on it:
  on top of an unconfirmed frame of QoS 0 it is sent as a snapshot.
- Frames that are unacknowledged for too long count as lost. The device stands where it last said, and is
  answered from there with a new frame (`step_back`). After some tries it counts as asleep.
- Every hello is answered: what is under way may have been lost there.

Positions that were stepped back from stay in the ring. A device whose frames arrived and whose acks were
lost may be at one of them: it sees a gap and says hello with it, or its ack comes after all, and either way
it goes on from there. So a row that was stepped back is always sent a frame, an empty delta if nothing
else: it tells whether the device is where it is thought to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices import slots
from devices.frame_plan import ItemSource, Plan
from devices.ledger import Answer, Ledger
from devices.ledger_rows import Records, Rows, Windows


class OutsideLedger(Ledger):
    """All devices of one window class, beside an outside broker; arguments as of `Ledger`.

    Attributes:
        take_ids: Gives so many packet identifiers, in the order in which they are to be used. Set by
            the owner of the connection, who lets no more rows be pushed than it has identifiers for.
    """

    take_ids: Callable[[int], NDArray[np.uint16]]
    no_change = replace(Ledger.no_change, priority=1)

    def __init__(
        self,
        columns: int,
        *,
        max_inflight: int = 4,
        qos_by_priority: Sequence[int] = (0, 1, 1, 1),
        capacity: int = 64,
    ) -> None:
        super().__init__(
            columns, max_inflight=max_inflight, qos_by_priority=qos_by_priority, capacity=capacity
        )
        self.take_ids = _no_connection

    # ---- Positions

    def answer(self, row: int, epoch: int, seq: int) -> Answer:
        """Takes a device's word for its position; (0, 0) means that it holds nothing.

        What else is in flight may have been lost, or be about to arrive; a snapshot is right either way,
        and so is the answer. A delta from where the device was would meet it elsewhere.
        """
        known = self.position(row)
        if (epoch, seq) > known:
            return Answer.AHEAD
        if epoch == known[0] and seq and not self.fresh[row]:
            for distance in range(int(self.depth[row]) + 1):
                if int(self.held_seq[self._at(row, distance)]) == seq:
                    crossed = distance > 0 and bool(self.inflight[row])
                    self._return_to(row, distance)
                    self.fresh[row] = crossed
                    return Answer.SNAPSHOT if crossed else Answer.KNOWN
        self.failures[row] = 0
        self._forget_positions(row)
        return Answer.SNAPSHOT

    def note(self, row: int, epoch: int, seq: int) -> bool:
        """Nobody can tell: what is in flight may have been lost at the broker."""
        del row, epoch, seq
        return False

    def confirm(
        self, rows: Rows, epochs: NDArray[np.int64], seqs: NDArray[np.int64], now: float
    ) -> Rows:
        """Acks of distinct rows: everything up to these positions is applied.

        One that names a frame that counted as lost brings the row there; an earlier position than the
        row is at, or another epoch, changes nothing.

        Returns the rows that have room now and whose feed differs from the tip.
        """
        state = self.state(rows)
        distance = np.arange(self.ring)
        at = rows[:, None] * self.ring + (state["head"][:, None] - distance) % self.ring
        named = (self.held_seq[at] == seqs[:, None]) & (distance <= state["depth"][:, None])
        behind_tip = named.argmax(axis=1)
        known = named.any(axis=1) & (state["epoch"] == epochs) & ~state["fresh"]
        counts = known & (behind_tip < state["inflight"])
        if self.notes_arrivals:
            passed = (distance >= behind_tip[:, None]) & (distance < state["inflight"][:, None])
            self._note_arrivals(at[passed & counts[:, None]])
        state["inflight"] = np.where(counts, behind_tip, state["inflight"])
        state["failures"][counts] = 0
        state["waiting_since"][counts] = now
        self.put_state(rows, state)
        for index in np.flatnonzero(known & ~counts).tolist():
            row = int(rows[index])
            further = int(seqs[index]) > self.acknowledged(row)[1]
            if further and not self._snapshot_in_flight(row):  # that applies wherever the device is
                self._return_to(row, int(behind_tip[index]))
                self.behind[row] = counts[index] = True
        due: Rows = rows[counts & self.behind[rows] & self.ready[rows]]
        return due

    def acknowledged(self, row: int) -> tuple[int, int]:
        """The position that the device last said, as far as anybody knows; (0, 0) for none."""
        distance = int(self.inflight[row])
        seq = int(self.held_seq[self._at(row, distance)]) if distance <= self.depth[row] else 0
        return (int(self.epoch[row]), seq) if seq and not self.fresh[row] else (0, 0)

    def step_back(self, row: int) -> None:
        """What is in flight counts as lost: the next frame starts where the device last said it is."""
        distance = int(self.inflight[row])
        if not distance:
            return
        at = self._at(row, distance)
        if distance > self.depth[row] or not self.held_seq[at]:
            self._forget_positions(row)
        elif not self.fresh[row]:
            self._return_to(row, distance)
        else:
            self.inflight[row] = 0

    def forget_inflight(self, row: int) -> None:
        """A connection has begun or ended: nothing that was in flight counts as arrived."""
        self.step_back(row)
        super().forget_inflight(row)

    def _return_to(self, row: int, distance: int) -> None:
        """The device stands this many frames before the tip, and nothing is in flight any more."""
        self.inflight[row] = self.failures[row] = 0
        if not distance:
            return
        at = self._at(row, distance)
        self.head[row] = (self.head[row] + 1) % self.ring
        self.depth[row] = min(int(self.depth[row]) + 1, self.max_inflight)
        head = self._at(row, 0)
        self.held[head] = self.held[at]
        self.held_seq[head] = self.base[row] = self.held_seq[at]

    def _forget_positions(self, row: int) -> None:
        super()._forget_positions(row)
        self.inflight[row] = 0  # it could only be acknowledged by a position that is forgotten

    # ---- Silence

    def retry(self, rows: Rows, tries: int, now: float) -> tuple[Rows, Rows]:
        """Rows that have waited too long for an ack: those to be answered again, and those asleep.

        The first have been stepped back and are to be pushed; the second have had their tries.
        """
        failures = self.failures[rows]
        asleep, again = rows[failures >= tries], rows[failures < tries]
        for row in again.tolist():
            failed = int(self.failures[row]) + 1
            self.step_back(row)
            self.failures[row] = failed
        self.waiting_since[again] = now
        return again, asleep

    # ---- Frames

    def _has_room(self, state: Records) -> NDArray[np.bool_]:
        room: NDArray[np.bool_] = state["inflight"] < self.max_inflight
        # A lower cap waits until what was sent above it is acknowledged.
        room &= (state["cap"] > 0) | (state["inflight"] == 0) | (state["last_qos"] == 0)
        return room

    def _most_inflight(self, row: int) -> int:
        del row
        return self.max_inflight

    def _may_follow(
        self, state: Records, tip: Windows, target: Windows, rank: NDArray[np.intp]
    ) -> NDArray[np.bool_] | bool:
        unconfirmed = (state["inflight"] > 0) & (state["last_qos"] == 0) & (state["cap"] > 0)
        if not unconfirmed.any():
            return True
        each = np.arange(len(state))
        priority = np.maximum(
            slots.priority(target[each, rank]),
            slots.priority(tip[each, state["k"].astype(np.intp) - 1]),
        )
        may: NDArray[np.bool_] = ~(unconfirmed & (self._policy[priority] > 0))
        return may

    def _plan(
        self,
        row: int,
        goal: tuple[int, ...],
        items: ItemSource,
        plans: dict[tuple[Any, ...], Plan | None],
    ) -> Plan | None:
        plan = super()._plan(row, goal, items, plans)
        if plan is None or plan.snapshot or not self.inflight[row] or self.last_qos[row]:
            return plan
        if not min(int(self.cap[row]), int(self._policy[plan.priority])):
            return plan
        self.fresh[row] = True
        snapshot = super()._plan(row, goal, items, plans)
        assert snapshot is not None
        surest = max((plan.priority, snapshot.priority), key=self._policy.__getitem__)
        return replace(snapshot, priority=surest)

    def _packet_ids(self, state: Records, qos: NDArray[np.int8]) -> NDArray[np.integer]:
        found: NDArray[np.integer] = state["packet_id"].copy()
        counted = qos > 0
        found[counted] = self.take_ids(int(counted.sum()))
        return found

    def _awaited(self, qos: NDArray[np.int8]) -> NDArray[np.bool_]:
        return np.ones(len(qos), np.bool_)

    def _tail(self, row: int, at: int, qos: int, frame: bytes, now: float) -> bytes:
        if not self.inflight[row]:
            self.waiting_since[row] = now
        self.inflight[row] += 1
        self.held_qos[at] = qos
        if not qos:
            return frame
        packet_id = int(self.take_ids(1)[0])
        self.packet_id[row] = packet_id
        return packet_id.to_bytes(2, "big") + frame

    # ---- Away and back

    def pack(self, row: int) -> bytes:
        """All that is worth keeping of a row; nothing in flight counts as arrived."""
        self.step_back(row)
        return super().pack(row)


def _no_connection(count: int) -> NDArray[np.uint16]:
    raise AssertionError(f"{count} packet identifiers asked for before there is a connection")
