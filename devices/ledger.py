"""The server's half of the feed protocol: what each device holds, what is in flight, what comes next.

A ledger keeps all devices of one window class in arrays (`ledger_rows`). It decides synchronously and does
no I/O: it is told the windows that devices should have and answers with the frames to send.

Per device it knows the *tip*: the window that the device has once every frame sent so far has arrived,
named by (epoch, seq). Together with the windows before it (at most `max_inflight`) the tip stands in a
ring, so that a device that resumes at any of these positions gets a difference and not a snapshot. At
most `max_inflight` frames are unacknowledged; while they are, nothing is queued: the next frame is the
net difference between tip and feed at that later moment.

Two ways lead to a frame and must agree (the tests hold them against each other): rows whose whole
change is one put are worked off together as arrays, every other row by `difference`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from devices import slots
from devices.frame_matrix import put_deltas, put_length, uint_class
from devices.frame_plan import ItemForms, ItemSource, Plan, plan_frame
from devices.frames import delta_bytes, snapshot_bytes
from devices.inflight import PACKET_IDS, InFlight
from devices.ledger_rows import Records, Rows, Windows, every
from devices.up_messages import Kind

RECENT_WINDOWS = 8
"""Feedback counts for the last `RECENT_WINDOWS` · k items sent (PROTOCOL.md, up messages)."""

_KINDS = len(Kind)
_KIND_BITS = (1 << _KINDS) - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames of one QoS, one for each of these rows, ready to stand behind a PUBLISH topic name.

    `tails` hold the packet identifier (QoS 1 and 2) and the payload, or the whole packets where the
    batch is `whole`. `puts`, `removes`, `moves` count
    the operations in the batch, `snapshots` the snapshots. `put` is the number of the item that every
    frame puts; where they differ it is 0, and `put_numbers` has the item of each put. `windows` are what
    the frames lead towards, `records` those of the rows after the push; nobody may change either.
    """

    rows: Rows
    qos: int
    tails: list[bytes]
    windows: Windows
    records: Records
    snapshots: int = 0
    puts: int = 0
    removes: int = 0
    moves: int = 0
    whole: bool = False
    put: int = 0
    put_numbers: Sequence[int] = ()


class Answer(enum.Enum):
    """What a stated position means."""

    KNOWN = "known"
    """The device is at a position that the ledger knows; the next push sends what differs, if anything."""
    SNAPSHOT = "snapshot"
    """The position is unknown: the next push sends a snapshot."""
    UNDER_WAY = "under way"
    """Frames in flight on this connection will satisfy the device."""
    AHEAD = "ahead"
    """The device is ahead of everything known here: a new epoch above its own must begin."""


class Ledger(InFlight):
    """All devices of one window class.

    Args:
        columns: The longest window of the class, K.
        max_inflight: Unacknowledged frames allowed per device.
        qos_by_priority: The policy's QoS for items of priority 0 to 3.
        capacity: Rows allotted at first; more are allotted by doubling.
    """

    no_change = Plan(False, (), (), 0, (), 0, 0)
    """An empty delta; at QoS 0 by most policies, for what is sent on one connection is lost only with it."""

    def __init__(
        self,
        columns: int,
        *,
        max_inflight: int = 4,
        qos_by_priority: Sequence[int] = (0, 1, 1, 1),
        capacity: int = 64,
    ) -> None:
        super().__init__(columns, max_inflight + 1, RECENT_WINDOWS * columns, capacity)
        self.max_inflight = max_inflight
        self._policy = np.asarray(qos_by_priority, np.int8)
        # What makes, for rows, a QoS and the bytes behind the topic name, a matrix of the bytes before
        # them; or None where that is not worth while. Set by whoever knows the topics.
        self.leads: Callable[[Rows, int, int], NDArray[np.uint8] | None] | None = None
        # For each rank the columns up to it, for each k the columns from it on.
        column = np.arange(columns)
        self._up_to = column <= column[:, None]
        self._from = column >= np.arange(columns + 1)[:, None]
        # Feedback that counted already, by row: item number to a bit for each kind and, above these,
        # the seconds of the longest dwell.
        self._counted: dict[int, dict[int, int]] = {}

    # ---- A device takes, changes and leaves a row

    def open(self, row: int) -> None:
        """A device of which nothing is known takes this row."""
        if row >= self.size:
            self.grow(max(row + 1, 2 * self.size))
        self.clear(row)
        self._counted.pop(row, None)
        self.fresh[row] = True

    def fit(self, row: int, *, k: int, frame_max: int, payload_max: int, clock: bool) -> None:
        """What the device of this row can take.

        Args:
            row: The row.
            k: Its window length, at most the class's.
            frame_max: Bytes of a frame (the PUBLISH payload) that its budget leaves.
            payload_max: Bytes of an item's payload that always fit; longer ones travel as `brief`.
            clock: Whether it wants to know when items expire.
        """
        # A payload sent in its brief form, or in full, is not known from its slot.
        changed = (int(self.k[row]), int(self.payload_max[row])) != (k, payload_max)
        self.k[row] = k
        self.frame_max[row] = frame_max
        self.payload_max[row] = payload_max
        self.clock[row] = clock
        if changed:
            self._forget_positions(row)

    def begin_epoch(self, row: int, epoch: int) -> None:
        """Starts a new epoch: nothing sent before counts, the next frame is a snapshot."""
        self.epoch[row] = epoch
        self.seq[row] = self.base[row] = self.snapshot_seq[row] = 0
        self._forget_positions(row)

    def _forget_positions(self, row: int) -> None:
        """No difference may start at anything sent before."""
        self.fresh[row] = True
        self.depth[row] = 0
        self.held_seq[self._at(row, 0)] = 0

    # ---- Connections

    def attach(self, row: int, cap: int) -> None:
        """The device is connected, subscribed with this QoS cap, and its position is settled."""
        self.cap[row] = cap
        self.attached[row] = True
        self._update_ready(row)

    def detach(self, row: int) -> None:
        """The device is not to be sent anything: unsubscribed, or its position is unsettled."""
        self.attached[row] = self.ready[row] = False

    def block(self, row: int, *, blocked: bool) -> None:
        """The connection's buffer is full, or has room again."""
        self.blocked[row] = blocked
        self._update_ready(row)

    def disconnect(self, row: int) -> None:
        """The connection is gone. What a persistent session has in flight stays to be sent again."""
        self.detach(row)
        self.blocked[row] = False
        if not self.keep[row]:
            self.forget_inflight(row)

    # ---- Positions

    def answer(self, row: int, epoch: int, seq: int) -> Answer:
        """Takes a device's word for its position; (0, 0) means that it holds nothing.

        A position in flight acknowledges everything up to it. Returns what follows from it; unless the
        answer is `UNDER_WAY` or `AHEAD`, the caller pushes the row next.
        """
        known = (int(self.epoch[row]), int(self.seq[row]))
        if (epoch, seq) > known:
            return Answer.AHEAD
        if epoch == known[0] and seq and not self.fresh[row]:
            for distance in range(int(self.depth[row]) + 1):
                if int(self.held_seq[self._at(row, distance)]) == seq:
                    return self._stand_at(row, distance)
        if self._snapshot_in_flight(row):
            return Answer.UNDER_WAY
        self.fresh[row] = True
        return Answer.SNAPSHOT

    def _stand_at(self, row: int, distance: int) -> Answer:
        """The device is this many frames behind the tip."""
        if self._arrives(row, distance):
            return Answer.UNDER_WAY if distance else Answer.KNOWN
        # It went back: what lies between is lost, and the next delta names its base. It is sent even if
        # the feed is what the device had there: what seems lost may be about to arrive, and then only a
        # frame that does not fit tells both sides.
        at, head = self._at(row, distance), self._at(row, 0)
        self.held[head] = self.held[at]
        self.held_seq[head] = self.base[row] = self.held_seq[at]
        self.depth[row] = 0
        return Answer.KNOWN

    def note(self, row: int, epoch: int, seq: int) -> bool:
        """Takes a device's word for its position before there is time to answer it.

        Once frames in flight are acknowledged, the same word would mean that they were lost: so this is
        asked when the word comes.

        Returns whether what is in flight brings the device to the tip. Then there is nothing to answer.
        """
        known = self.position(row)
        if (epoch, seq) > known or self.fresh[row]:
            return False
        if epoch == known[0] and seq:
            for distance in range(int(self.depth[row]) + 1):
                if int(self.held_seq[self._at(row, distance)]) == seq:
                    return self._arrives(row, distance)
        return self._snapshot_in_flight(row)

    def _arrives(self, row: int, distance: int) -> bool:
        """Whether a device this many frames behind the tip gets them all; it has what came before."""
        inflight = int(self.inflight[row])
        if distance > inflight or int(self.early[row]) >> (inflight - distance):
            return False
        self._acknowledge_before(row, distance)
        return True

    def _snapshot_in_flight(self, row: int) -> bool:
        sent = int(self.snapshot_seq[row])
        return 0 < int(self.seq[row]) - int(self.inflight[row]) + 1 <= sent

    def position(self, row: int) -> tuple[int, int]:
        """(epoch, seq) of the tip."""
        return int(self.epoch[row]), int(self.seq[row])

    def tip(self, row: int) -> list[int]:
        """The slots of the window that the device has once all that was sent has arrived."""
        return [slot for slot in self.held[self._at(row, 0)].tolist() if slot]

    # ---- Frames

    def push(self, rows: Rows, target: Windows, items: ItemSource, now: float) -> list[Batch]:
        """The frames that bring these rows towards their feeds, as far as there is room for.

        Args:
            rows: Distinct rows.
            target: Their feeds as slots, best first, padded with 0; shape (rows, K).
            items: The content of the slots.
            now: The time, in seconds on any clock that does not go back.

        Rows that could not be served fully are marked as behind and are due again when a frame is
        acknowledged or the connection has room.
        """
        state = self.state(rows)
        ready = state["ready"]
        if not every(ready):
            self.behind[rows[~ready]] = True
            rows, target = rows[ready], target[ready]
            state = self.state(rows)
        if not len(rows):
            return []
        tip = self.held.take(rows * self.ring + state["head"], axis=0)
        same = tip == target
        fresh = state["fresh"]
        changed = self._changed(state, same)
        due = changed & self._has_room(state)
        single, rank = self._single_puts(state["k"], tip, target, same)
        single &= due & ~fresh & (state["base"] == state["seq"])
        single &= self._may_follow(state, tip, target, rank)
        if every(single):
            return self._push_puts(rows, state, target, rank, items, now)
        self.behind[rows] = changed
        batches: list[Batch] = []
        if single.any():
            batches += self._push_puts(
                rows[single], self.state(rows[single]), target[single], rank[single], items, now
            )
        others = np.flatnonzero(due & ~single)
        if len(others):
            batches += self._push_others(rows[others], target[others], items, now)
        return batches

    def _changed(self, state: Records, same: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of these rows need a frame; `same` says where tip and feed agree."""
        changed: NDArray[np.bool_] = ~_all(same) | state["fresh"] | (state["base"] != state["seq"])
        return changed

    def _has_room(self, state: Records) -> NDArray[np.bool_]:
        """Which of these rows may be sent another frame."""
        room: NDArray[np.bool_] = state["inflight"] < self.max_inflight
        # A lower cap waits until what was sent above it is acknowledged.
        room &= (state["cap"] > 0) | (state["inflight"] == 0)
        return room

    def _may_follow(
        self,
        state: Records,  # noqa: ARG002 (of `outside`, which overrides this)
        tip: Windows,  # noqa: ARG002 (likewise)
        target: Windows,  # noqa: ARG002 (likewise)
        rank: NDArray[np.intp],  # noqa: ARG002 (likewise)
    ) -> NDArray[np.bool_] | bool:
        """Which of these rows may be sent the put at `rank` of `target` as a delta on top of the tip."""
        return True

    def _single_puts(
        self, k: NDArray[np.uint8], tip: Windows, target: Windows, same: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Which rows differ by exactly one put, and its rank (meaningless for the others).

        From the first difference on, such a target is the tip moved one place back.
        """
        rank = same.argmin(axis=1)
        moved = np.empty_like(same)
        np.equal(target[:, 1:], tip[:, :-1], out=moved[:, 1:])
        moved |= self._up_to.take(rank, axis=0)
        if int(k.min()) != self.columns:
            moved |= self._from.take(k, axis=0)
        new = target.ravel().take(np.arange(0, target.size, self.columns) + rank)
        last = tip.ravel().take(np.arange(0, tip.size, self.columns) + k - 1)
        return _all(moved) & (new != slots.EMPTY) & (new != last), rank

    def _push_puts(
        self,
        rows: Rows,
        state: Records,
        target: Windows,
        rank: NDArray[np.intp],
        items: ItemSource,
        now: float,
    ) -> list[Batch]:
        """One put for each row, in batches that share item, form, QoS and lengths.

        `state` has the records of the rows; it is changed and put back.
        """
        new = target.ravel().take(np.arange(0, target.size, self.columns) + rank)
        if every(new == new[0]):
            return self._push_put(rows, state, target, rank, int(new[0]), items, now)
        order = np.argsort(new, kind="stable")
        bounds = np.flatnonzero(np.diff(new[order])) + 1
        batches: list[Batch] = []
        for part in np.split(order, bounds):
            slot = int(new[part[0]])
            batches += self._push_put(
                rows[part], self.state(rows[part]), target[part], rank[part], slot, items, now
            )
        return batches

    def _push_put(
        self,
        rows: Rows,
        state: Records,
        target: Windows,
        rank: NDArray[np.intp],
        slot: int,
        items: ItemSource,
        now: float,
    ) -> list[Batch]:
        """One put of one item for each row: booked for all together, encoded by length and form."""
        qos = self._qos(state, self._priority_of_put(rows, state, slot))
        state["seq"] += 1
        state["base"] = state["seq"]
        state["head"] = (state["head"] + 1) % self.ring
        state["depth"] = np.minimum(state["depth"] + 1, self.max_inflight)
        state["behind"] = False
        state["last_qos"] = qos
        state["packet_id"] = self._packet_ids(state, qos)
        state["waiting_since"][state["inflight"] == 0] = now
        state["inflight"] += self._awaited(qos)
        # Of indices of another type numpy makes these each time, which for a few rows is most of the cost.
        at = (rows * self.ring + state["head"]).astype(np.intp)
        self.put_windows(at, target)
        self.held_seq[at] = state["seq"]
        self.held_qos[at] = qos
        if self.notes_arrivals:
            self.carried[at] = slots.number(slot)
        recent = rows.astype(np.int64) * self.recent_length + state["recent_at"]
        np.put(self.recent, recent, slots.number(slot))
        state["recent_at"] = (state["recent_at"] + 1) % (RECENT_WINDOWS * state["k"].astype("u2"))
        self.put_state(rows, state)
        return self._encode_puts(
            rows, state, target, rank, at, qos, items[slot], slots.number(slot)
        )

    def _packet_ids(self, state: Records, qos: NDArray[np.int8]) -> NDArray[np.integer]:
        """The packet identifiers of the next frames of these rows; at QoS 0 that of the last stays."""
        last = state["packet_id"]
        found: NDArray[np.integer] = np.where(qos > 0, last % PACKET_IDS + 1, last)
        return found

    def _awaited(self, qos: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Which of these frames are acknowledged."""
        return qos > 0

    def _encode_puts(
        self,
        rows: Rows,
        state: Records,
        target: Windows,
        rank: NDArray[np.intp],
        at: NDArray[np.intp],
        qos: NDArray[np.int8],
        forms: ItemForms,
        number: int,
    ) -> list[Batch]:
        """The frames of booked puts, those of one length, form and QoS together."""
        kind = (
            (uint_class(state["epoch"]) << 6)
            | (uint_class(state["seq"]) << 4)
            | (qos << 2)
            | (state["clock"].view(np.int8) << 1)
            | (state["payload_max"] < forms.full_size)
        ).astype(np.uint8)
        first = int(kind[0])
        if every(kind == first):
            return [self._encode_alike(rows, state, target, rank, at, forms, number, first)]
        batches = []
        for value in np.flatnonzero(np.bincount(kind)).tolist():
            part = np.flatnonzero(kind == value)
            batches.append(
                self._encode_alike(
                    *(rows[part], state[part], target[part], rank[part], at[part]),
                    *(forms, number, value),
                )
            )
        return batches

    def _encode_alike(
        self,
        rows: Rows,
        state: Records,
        target: Windows,
        rank: NDArray[np.intp],
        at: NDArray[np.intp],
        forms: ItemForms,
        number: int,
        kind: int,
    ) -> Batch:
        """Frames of one length."""
        qos = kind >> 2 & 3
        item = forms.encoded(clock=bool(kind & 2), brief=bool(kind & 1))
        packet_id = state["packet_id"] if qos else None
        length = put_length(kind >> 6, kind >> 4 & 3, len(item), packet_id=bool(qos))
        lead = self.leads(rows, qos, length) if self.leads is not None else None
        frames = put_deltas(state["epoch"], state["seq"], rank, item, packet_id, lead)
        if qos:
            for index in np.flatnonzero(state["keep"]).tolist():
                self.tails[at[index]] = frames[index][-length:]
        whole = lead is not None
        return Batch(rows, qos, frames, target, state, puts=len(rows), whole=whole, put=number)

    def _priority_of_put(self, rows: Rows, state: Records, slot: int) -> NDArray[np.intp]:
        """The highest priority in a put for each row: of what is put, and of what it pushes out."""
        last = (rows * self.ring + state["head"]).astype(np.intp) * self.columns + state["k"] - 1
        pushed_out = slots.priority(self.held.ravel().take(last)).astype(np.intp)
        highest: NDArray[np.intp] = np.maximum(pushed_out, slots.priority(slot))
        return highest

    def _qos(self, state: Records, priority: int | NDArray[np.intp]) -> NDArray[np.int8]:
        """The QoS of the next frame of each row (PROTOCOL.md, delivery).

        The lowest of the subscription, the device's maximum and the policy; but never below what is
        unacknowledged, lest a frame overtake the assurance of the one before it.
        """
        policy = self._policy[priority]
        wanted = np.where(state["inflight"] > 0, np.maximum(state["last_qos"], policy), policy)
        lowest: NDArray[np.int8] = np.minimum(state["cap"], wanted)
        return lowest

    def _push_others(
        self, rows: Rows, target: Windows, items: ItemSource, now: float
    ) -> list[Batch]:
        """The general way: snapshots, several operations, several frames."""
        plans: dict[tuple[Any, ...], Plan | None] = {}
        # Each row at most once in a batch: what a socket does not take must be known before the next.
        found: dict[tuple[int, int], tuple[list[int], list[bytes], list[int], list[int]]] = {}
        for place, (row, feed) in enumerate(zip(rows.tolist(), target.tolist(), strict=True)):
            goal = tuple(slot for slot in feed if slot)
            turn = -1
            while self.inflight[row] < self._most_inflight(row):
                turn += 1
                plan = self._plan(row, goal, items, plans)
                if plan is None:
                    self.behind[row] = False
                    break
                qos, tail = self._send(row, plan, now)
                places, tails, put_numbers, counts = found.setdefault(
                    (turn, qos), ([], [], [], [0, 0, 0, 0])
                )
                places.append(place)
                tails.append(tail)
                put_numbers += plan.put_numbers
                counts[0] += plan.snapshot
                counts[1] += len(plan.put_numbers)
                counts[2] += plan.removes
                counts[3] += plan.moves
        return [
            Batch(
                rows[places],
                qos,
                tails,
                target[places],
                self.state(rows[places]),
                snapshots=counts[0],
                puts=counts[1],
                removes=counts[2],
                moves=counts[3],
                put_numbers=put_numbers,
            )
            for (_, qos), (places, tails, put_numbers, counts) in sorted(found.items())
        ]

    def _most_inflight(self, row: int) -> int:
        """How many frames of this row may be unacknowledged: with a cap of 0, what was sent above it."""
        return self.max_inflight if self.cap[row] else 1

    def _plan(
        self,
        row: int,
        goal: tuple[int, ...],
        items: ItemSource,
        plans: dict[tuple[Any, ...], Plan | None],
    ) -> Plan | None:
        """The next frame of a row, shared with the rows that are in the same state."""
        fresh = bool(self.fresh[row])
        tip = () if fresh else tuple(self.tip(row))
        state = (
            fresh, tip, goal, int(self.k[row]), int(self.frame_max[row]),
            int(self.payload_max[row]), bool(self.clock[row]),
        )  # fmt: skip
        if state not in plans:
            plans[state] = plan_frame(*state, items)
        plan = plans[state]
        if plan is None and self.base[row] != self.seq[row]:
            return replace(self.no_change, tip=tip)
        return plan

    def _send(self, row: int, plan: Plan, now: float) -> tuple[int, bytes]:
        """Books a frame as sent; returns its QoS and what stands behind its topic name."""
        qos = int(self._qos(self.state(np.array([row])), plan.priority)[0])
        seq = int(self.seq[row]) + 1
        epoch = int(self.epoch[row])
        if plan.snapshot:
            frame = snapshot_bytes(epoch, seq, int(self.k[row]), plan.body)
            self.snapshot_seq[row] = seq
            self.fresh[row] = False
        else:
            base = int(self.base[row])
            frame = delta_bytes(epoch, seq, plan.body, None if base == seq - 1 else base)
        self.head[row] = (self.head[row] + 1) % self.ring
        self.last_qos[row] = qos
        at = self._at(row, 0)
        self.held[at, : len(plan.tip)] = plan.tip
        self.held[at, len(plan.tip) :] = 0
        self.held_seq[at] = self.seq[row] = self.base[row] = seq
        self.depth[row] = min(int(self.depth[row]) + 1, self.max_inflight)
        alone = len(plan.put_numbers) == 1 and not plan.snapshot
        self.carried[at] = plan.put_numbers[0] if alone else 0
        for number in plan.put_numbers:
            self._remember(row, number)
        return qos, self._tail(row, at, qos, frame, now)

    def _tail(self, row: int, at: int, qos: int, frame: bytes, now: float) -> bytes:
        """Books a frame as in flight if it is acknowledged; what stands behind its topic name."""
        if not qos:
            return frame
        packet_id = int(self.packet_id[row]) % PACKET_IDS + 1
        self.packet_id[row] = packet_id
        if not self.inflight[row]:
            self.waiting_since[row] = now
        self.inflight[row] += 1
        self.held_qos[at] = qos
        tail = packet_id.to_bytes(2, "big") + frame
        if self.keep[row]:
            self.tails[at] = tail
        return tail

    # ---- Feedback

    def count_feedback(self, row: int, number: int, kind: int, value: int = 0) -> bool | None:
        """Whether an event of feedback counts, which is then remembered.

        Args:
            row: The row of the device.
            number: The item's.
            kind: What happened, one of `Kind`.
            value: Seconds of a dwell, 0 to 2**32 - 1; of other kinds it does not matter.

        Returns:
            True the first time, and for a dwell longer than all before; False for what was counted
            already; None if the item is not among the last that were sent to the device.
        """
        if not number or not (self._recent_of(row) == number).any():
            return None
        counted = self._counted.setdefault(row, {})
        if len(counted) > self.recent_length:
            kept = set(self._recent_of(row).tolist())
            for old in [n for n in counted if n not in kept]:
                del counted[old]
        before = counted.get(number, 0)
        after = before | 1 << kind
        if kind == Kind.DWELL and value > before >> _KINDS:
            after = value << _KINDS | after & _KIND_BITS
        counted[number] = after
        return after != before

    def _recent_of(self, row: int) -> NDArray[np.uint32]:
        first = row * self.recent_length
        return self.recent[first : first + RECENT_WINDOWS * int(self.k[row])]

    def _remember(self, row: int, number: int) -> None:
        at = int(self.recent_at[row])
        self.recent[row * self.recent_length + at] = number
        self.recent_at[row] = (at + 1) % (RECENT_WINDOWS * int(self.k[row]))

    # ---- Away and back

    def pack(self, row: int) -> bytes:
        """All that is worth keeping of a row while its device is away, in a few dozen bytes."""
        depth = int(self.depth[row])
        ring = []
        for distance in range(depth, -1, -1):
            at = self._at(row, distance)
            window = [slot for slot in self.held[at].tolist() if slot]
            ring.append([int(self.held_seq[at]), window])
        recent = np.roll(self._recent_of(row), -int(self.recent_at[row]))
        recent_list = recent[recent > 0].tolist()
        counted = self._counted.get(row, {})
        packed: bytes = msgpack.packb(
            [
                int(self.epoch[row]),
                int(self.seq[row]),
                int(self.base[row]),
                int(self.k[row]),
                bool(self.fresh[row]),
                ring,
                int(self.packet_id[row]),
                [[u.packet_id, u.qos, u.tail] for u in self.unacknowledged(row)],
                recent_list,
                [counted.get(number, 0) for number in recent_list],
            ]
        )
        return packed

    def unpack(self, row: int, packed: bytes) -> None:
        """Puts a packed row back; the row has been opened and fitted.

        A window length other than at packing asks for a snapshot.
        """
        epoch, seq, base, k, fresh, ring, packet_id, resend, recent, counted = msgpack.unpackb(
            packed
        )
        self.epoch[row], self.seq[row], self.base[row] = epoch, seq, base
        self.fresh[row] = fresh or k != int(self.k[row])
        ring = ring[-self.ring :]
        resend = resend[-self.max_inflight :]
        self.head[row] = len(ring) - 1
        self.depth[row] = len(ring) - 1
        first = row * self.ring
        for index, (ring_seq, window) in enumerate(ring):
            self.held_seq[first + index] = ring_seq
            fitting = window[: self.columns]
            self.held[first + index, : len(fitting)] = fitting
        self._unpack_inflight(row, packet_id, resend)
        if k != int(self.k[row]):
            self._forget_positions(row)
        for number, bits in zip(recent, counted, strict=True):
            self._remember(row, number)
            if bits:
                self._counted.setdefault(row, {})[number] = bits

    def _unpack_inflight(self, row: int, packet_id: int, resend: Iterable[Sequence[Any]]) -> None:
        """Frames acknowledged out of order are gaps between the identifiers to resend."""
        if packet_id > PACKET_IDS:
            packet_id, resend = 0, ()  # of a version that had all identifiers: a hello settles it
        self.packet_id[row] = packet_id
        backs = {(packet_id - entry[0]) % PACKET_IDS: entry for entry in resend}
        inflight = max(backs, default=-1) + 1
        self.inflight[row] = inflight
        self.last_qos[row] = max((entry[1] for entry in resend), default=0)
        early = 0
        for back in range(inflight):
            at = self._at(row, back)
            if back in backs:
                self.held_qos[at], self.tails[at] = backs[back][1], backs[back][2]
            else:
                early |= 1 << (inflight - 1 - back)
        self.early[row] = early


def _all(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether all columns are true, eight at a time: K is a multiple of eight."""
    eights = np.ascontiguousarray(mask).view(np.uint64) == 0x0101_0101_0101_0101
    every: NDArray[np.bool_] = eights[:, 0] if eights.shape[1] == 1 else eights.all(axis=1)
    return every
