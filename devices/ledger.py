"""The server's half of the feed protocol: what each device holds, what is in flight, what comes next.

A ledger keeps all devices of one window class as columns of arrays. It decides synchronously and does
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
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack
import numpy as np
from numpy.typing import NDArray

from devices import slots
from devices.difference import MoveOp, PutOp, RemoveOp, SlotOp, apply, difference
from devices.frame_matrix import put_deltas, uint_class
from devices.frames import delta_bytes, move_bytes, put_bytes, remove_bytes, snapshot_bytes

Rows = NDArray[np.int32]
Windows = NDArray[np.int64]

RECENT_WINDOWS = 8
"""Feedback counts for the last `RECENT_WINDOWS` · k items sent (PROTOCOL.md, up messages)."""

_PACKET_IDS = 0xFFFF


class ItemForms(Protocol):
    """One item's content in the encodings that devices need."""

    full_size: int
    """Bytes of the full payload's content."""

    def encoded(self, *, clock: bool, brief: bool) -> bytes:
        """The encoded item: with its expiry if the device has a clock, full or brief."""


class ItemSource(Protocol):
    """Where the ledger gets the content of a slot from."""

    def __getitem__(self, slot: int, /) -> ItemForms:
        """The content of a slot that stands in a feed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames of one QoS, one for each of these rows, ready to stand behind a PUBLISH topic name.

    `tails` hold the packet identifier (QoS 1 and 2) and the payload. `puts`, `removes`, `moves` count
    the operations in the batch, `snapshots` the snapshots.
    """

    rows: Rows
    qos: int
    tails: list[bytes]
    snapshots: int = 0
    puts: int = 0
    removes: int = 0
    moves: int = 0


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """A frame to send again with DUP: its packet identifier, QoS, and bytes behind the topic name."""

    packet_id: int
    qos: int
    tail: bytes


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """A frame without its position: what devices in the same state share."""

    snapshot: bool
    body: tuple[bytes, ...]
    tip: tuple[int, ...]
    priority: int
    put_numbers: tuple[int, ...]
    removes: int
    moves: int


class Ledger:
    """All devices of one window class.

    Args:
        columns: The longest window of the class, K.
        max_inflight: Unacknowledged frames allowed per device.
        qos_by_priority: The policy's QoS for items of priority 0 to 3.
        capacity: Rows allotted at first; columns grow by doubling.
    """

    def __init__(
        self,
        columns: int,
        *,
        max_inflight: int = 4,
        qos_by_priority: Sequence[int] = (0, 1, 1, 1),
        capacity: int = 64,
    ) -> None:
        self.columns = columns
        self.max_inflight = max_inflight
        self._ring = max_inflight + 1
        self._policy = np.asarray(qos_by_priority, np.int8)
        self._recent_length = RECENT_WINDOWS * columns
        self.size = 0
        self._allot(capacity)

    def _allot(self, size: int) -> None:
        """Makes or lengthens every column."""

        def column(name: str, dtype: Any, width: int = 1) -> None:
            old = getattr(self, name, None)
            new = np.zeros(size * width, dtype)
            if old is not None:
                new[: len(old)] = old
            setattr(self, name, new)

        # Position: the tip's (epoch, seq), and the seq that the device is at before the next frame.
        column("epoch", np.uint32)
        column("seq", np.uint32)
        column("base", np.uint32)
        column("fresh", np.bool_)  # the next frame must be a snapshot
        # The ring of windows: `head` is the tip, `depth` older ones are valid behind it.
        column("head", np.uint8)
        column("depth", np.uint8)
        column("_ring_seq", np.uint32, self._ring)
        column("_ring_qos", np.int8, self._ring)
        column("_ring_slots", np.int64, self._ring * self.columns)
        self._held = self._ring_slots.reshape(size * self._ring, self.columns)
        column("_ring_tails", object, self._ring)
        # MQTT delivery: unacknowledged frames are the `inflight` newest of the ring, with consecutive
        # packet identifiers up to `packet_id`; bit i of `early` says that the i-th oldest of them was
        # acknowledged out of order.
        column("inflight", np.uint8)
        column("early", np.uint8)
        column("packet_id", np.uint16)
        column("waiting_since", np.float64)
        # What the device can take.
        column("k", np.uint8)
        column("cap", np.int8)
        column("frame_max", np.int32)
        column("payload_max", np.int32)
        column("clock", np.bool_)
        column("keep", np.bool_)  # a persistent session: unacknowledged frames are kept to resend
        # Whether frames may be sent now, and whether the feed is known to differ from the tip.
        column("attached", np.bool_)
        column("blocked", np.bool_)
        column("ready", np.bool_)
        column("behind", np.bool_)
        column("snapshot_seq", np.uint32)  # of the last snapshot sent on this connection, 0 if none
        # The last items sent, for feedback: number, and a bit for each kind that counted already.
        column("_recent", np.uint32, self._recent_length)
        column("_counted", np.uint8, self._recent_length)
        column("_recent_at", np.uint16)
        column("_mark", np.int32)
        self.size = size

    # Typed for readers: the columns that `_allot` makes.
    epoch: NDArray[np.uint32]
    seq: NDArray[np.uint32]
    base: NDArray[np.uint32]
    fresh: NDArray[np.bool_]
    head: NDArray[np.uint8]
    depth: NDArray[np.uint8]
    _ring_seq: NDArray[np.uint32]
    _ring_qos: NDArray[np.int8]
    _ring_slots: NDArray[np.int64]
    _ring_tails: NDArray[np.object_]
    inflight: NDArray[np.uint8]
    early: NDArray[np.uint8]
    packet_id: NDArray[np.uint16]
    waiting_since: NDArray[np.float64]
    k: NDArray[np.uint8]
    cap: NDArray[np.int8]
    frame_max: NDArray[np.int32]
    payload_max: NDArray[np.int32]
    clock: NDArray[np.bool_]
    keep: NDArray[np.bool_]
    attached: NDArray[np.bool_]
    blocked: NDArray[np.bool_]
    ready: NDArray[np.bool_]
    behind: NDArray[np.bool_]
    snapshot_seq: NDArray[np.uint32]
    _recent: NDArray[np.uint32]
    _counted: NDArray[np.uint8]
    _recent_at: NDArray[np.uint16]
    _mark: NDArray[np.int32]

    # ---- A device takes, changes and leaves a row

    def open(self, row: int) -> None:
        """A device of which nothing is known takes this row."""
        if row >= self.size:
            self._allot(max(row + 1, 2 * self.size))
        for column in (
            self.epoch, self.seq, self.base, self.head, self.depth, self.inflight, self.early,
            self.packet_id, self.waiting_since, self.attached, self.blocked, self.ready,
            self.behind, self.snapshot_seq, self.keep, self._recent_at,
        ):  # fmt: skip
            column[row] = 0
        self.fresh[row] = True
        self.cap[row] = 0
        first = row * self._ring
        self._held[first : first + self._ring] = 0
        self._ring_seq[first : first + self._ring] = 0
        self._ring_tails[first : first + self._ring] = None
        first = row * self._recent_length
        self._recent[first : first + self._recent_length] = 0
        self._counted[first : first + self._recent_length] = 0

    def fit(self, row: int, *, k: int, frame_max: int, payload_max: int, clock: bool) -> None:
        """What the device of this row can take.

        Args:
            row: The row.
            k: Its window length, at most the class's.
            frame_max: Bytes of a frame (the PUBLISH payload) that its budget leaves.
            payload_max: Bytes of an item's payload that always fit; longer ones travel as `brief`.
            clock: Whether it wants to know when items expire.
        """
        changed_k = int(self.k[row]) != k
        self.k[row] = k
        self.frame_max[row] = frame_max
        self.payload_max[row] = payload_max
        self.clock[row] = clock
        if changed_k:
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
        self._ring_seq[self._at(row, 0)] = 0

    # ---- Connections

    def attach(self, row: int, cap: int) -> None:
        """The device is connected, subscribed with this QoS cap, and its position is settled."""
        self.cap[row] = cap
        self.attached[row] = True
        self.ready[row] = not self.blocked[row]

    def detach(self, row: int) -> None:
        """The device is not to be sent anything: unsubscribed, or its position is unsettled."""
        self.attached[row] = self.ready[row] = False

    def block(self, row: int, *, blocked: bool) -> None:
        """The connection's buffer is full, or has room again."""
        self.blocked[row] = blocked
        self.ready[row] = self.attached[row] and not blocked

    def disconnect(self, row: int) -> None:
        """The connection is gone. What a persistent session has in flight stays to be sent again."""
        self.detach(row)
        self.blocked[row] = False
        if not self.keep[row]:
            self.forget_inflight(row)

    def forget_inflight(self, row: int) -> None:
        """The MQTT session ended: nothing of it will be sent again or acknowledged."""
        self.inflight[row] = self.early[row] = 0
        first = row * self._ring
        self._ring_tails[first : first + self._ring] = None

    def unacknowledged(self, row: int) -> list[Unacknowledged]:
        """What a resumed session must be sent again, oldest first (MQTT 3.1.1, 4.4)."""
        count = int(self.inflight[row])
        found = []
        for distance in range(count - 1, -1, -1):
            if self.early[row] >> (count - 1 - distance) & 1:
                continue
            at = self._at(row, distance)
            tail = self._ring_tails[at]
            if tail is not None:
                packet_id = self._packet_id_back(int(self.packet_id[row]), distance)
                found.append(Unacknowledged(packet_id, int(self._ring_qos[at]), tail))
        return found

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
                if int(self._ring_seq[self._at(row, distance)]) == seq:
                    return self._stand_at(row, distance)
        if self._snapshot_in_flight(row):
            return Answer.UNDER_WAY
        self.fresh[row] = True
        return Answer.SNAPSHOT

    def _stand_at(self, row: int, distance: int) -> Answer:
        """The device is this many frames behind the tip."""
        inflight = int(self.inflight[row])
        if distance <= inflight:
            self.early[row] >>= inflight - distance
            self.inflight[row] = distance
            return Answer.UNDER_WAY if distance else Answer.KNOWN
        # It went back: what lies between is lost, and the next delta names its base.
        at, head = self._at(row, distance), self._at(row, 0)
        self._held[head] = self._held[at]
        self._ring_seq[head] = self.base[row] = self._ring_seq[at]
        self.depth[row] = 0
        return Answer.KNOWN

    def _snapshot_in_flight(self, row: int) -> bool:
        sent = int(self.snapshot_seq[row])
        return 0 < int(self.seq[row]) - int(self.inflight[row]) + 1 <= sent

    def position(self, row: int) -> tuple[int, int]:
        """(epoch, seq) of the tip."""
        return int(self.epoch[row]), int(self.seq[row])

    def tip(self, row: int) -> list[int]:
        """The slots of the window that the device has once all that was sent has arrived."""
        return [slot for slot in self._held[self._at(row, 0)].tolist() if slot]

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
        ready = self.ready[rows]
        if not ready.all():
            self.behind[rows[~ready]] = True
            rows, target = rows[ready], target[ready]
        if not len(rows):
            return []
        inflight = self.inflight[rows]
        tip = self._held.take(rows * self._ring + self.head[rows], axis=0)
        same = tip == target
        fresh = self.fresh[rows]
        changed = ~same.all(axis=1) | fresh
        self.behind[rows] = changed
        full = inflight >= self.max_inflight
        open_rows = changed & ~full
        if not open_rows.any():
            return []
        single, rank = self._single_puts(rows, tip, target, same)
        single &= open_rows & ~fresh & (self.base[rows] == self.seq[rows])
        batches: list[Batch] = []
        if single.any():
            if single.all():
                batches += self._push_puts(rows, target, rank, items, now)
            else:
                batches += self._push_puts(rows[single], target[single], rank[single], items, now)
        others = np.flatnonzero(open_rows & ~single)
        if len(others):
            batches += self._push_others(rows[others], target[others], items, now)
        return batches

    def _single_puts(
        self, rows: Rows, tip: Windows, target: Windows, same: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Which rows differ by exactly one put, and its rank (meaningless for the others).

        From the first difference on, such a target is the tip moved one place back.
        """
        rank = same.argmin(axis=1)
        column = np.arange(1, self.columns)
        moved = target[:, 1:] == tip[:, :-1]
        moved |= column <= rank[:, None]
        k = self.k[rows]
        if int(k.min()) != self.columns:
            moved |= column >= k[:, None]
        new = target[np.arange(len(rows)), rank]
        return moved.all(axis=1) & (new != slots.EMPTY), rank

    def _push_puts(
        self,
        rows: Rows,
        target: Windows,
        rank: NDArray[np.intp],
        items: ItemSource,
        now: float,
    ) -> list[Batch]:
        """One put for each row, in batches that share item, form, QoS and lengths."""
        new = target[np.arange(len(rows)), rank]
        if (new == new[0]).all():
            return self._push_put(rows, target, rank, int(new[0]), items, now)
        order = np.argsort(new, kind="stable")
        bounds = np.flatnonzero(np.diff(new[order])) + 1
        batches: list[Batch] = []
        for part in np.split(order, bounds):
            slot = int(new[part[0]])
            batches += self._push_put(rows[part], target[part], rank[part], slot, items, now)
        return batches

    def _push_put(
        self,
        rows: Rows,
        target: Windows,
        rank: NDArray[np.intp],
        slot: int,
        items: ItemSource,
        now: float,
    ) -> list[Batch]:
        """One put of one item for each row."""
        forms = items[slot]
        qos = self._qos(rows, slots.priority(slot))
        brief = self.payload_max[rows] < forms.full_size
        kind = (
            (uint_class(self.epoch[rows]) << 6)
            | (uint_class(self.seq[rows] + np.uint32(1)) << 4)
            | (qos << 2)
            | (self.clock[rows].view(np.int8) << 1)
            | brief.view(np.int8)
        )
        if (kind == kind[0]).all():
            return [self._push_alike(rows, target, rank, slot, forms, int(kind[0]), now)]
        batches = []
        for value in np.flatnonzero(np.bincount(kind.view(np.uint8))):
            part = np.flatnonzero(kind.view(np.uint8) == value)
            batches.append(
                self._push_alike(rows[part], target[part], rank[part], slot, forms, int(value), now)
            )
        return batches

    def _push_alike(
        self,
        rows: Rows,
        target: Windows,
        rank: NDArray[np.intp],
        slot: int,
        forms: ItemForms,
        kind: int,
        now: float,
    ) -> Batch:
        """One put of one item in one form, in frames of one length."""
        qos = kind >> 2 & 3
        item = forms.encoded(clock=bool(kind & 2), brief=bool(kind & 1))
        head = (self.head[rows] + 1) % self._ring
        at = rows * self._ring + head
        seq = self.seq[rows] + np.uint32(1)
        self.head[rows] = head
        self._held[at] = target
        self._ring_seq[at] = seq
        self.seq[rows] = self.base[rows] = seq
        self.depth[rows] = np.minimum(self.depth[rows] + 1, self.max_inflight)
        self.behind[rows] = False
        packet_id = None
        if qos:
            packet_id = self.packet_id[rows] % _PACKET_IDS + 1
            self.packet_id[rows] = packet_id
            inflight = self.inflight[rows]
            self.inflight[rows] = inflight + 1
            self._ring_qos[at] = qos
            if inflight.any():
                rows_first = rows[inflight == 0]
                self.waiting_since[rows_first] = now
            else:
                self.waiting_since[rows] = now
        recent_at = self._recent_at[rows]
        recent = rows.astype(np.int64) * self._recent_length + recent_at
        self._recent[recent] = slots.number(slot)
        self._counted[recent] = 0
        self._recent_at[rows] = (recent_at + 1) % (RECENT_WINDOWS * self.k[rows].astype(np.uint16))
        tails = put_deltas(self.epoch[rows], seq, rank, item, packet_id)
        if qos:
            kept = self.keep[rows]
            if kept.all():
                self._ring_tails[at] = tails
            elif kept.any():
                for index in np.flatnonzero(kept):
                    self._ring_tails[at[index]] = tails[index]
        return Batch(rows, qos, tails, puts=len(rows))

    def _qos(self, rows: Rows, priority: int) -> NDArray[np.int8]:
        """The QoS of the next frame of each row (PROTOCOL.md, delivery).

        The lowest of the subscription, the device's maximum and the policy; but never below what is
        unacknowledged, lest a frame overtake the assurance of the one before it.
        """
        policy = self._policy[priority]
        waiting = self.inflight[rows] > 0
        if waiting.any():
            last = self._ring_qos[rows * self._ring + self.head[rows]]
            wanted = np.where(waiting, np.maximum(last, policy), policy)
        else:
            wanted = np.full(len(rows), policy, np.int8)
        lowest: NDArray[np.int8] = np.minimum(self.cap[rows], wanted)
        return lowest

    def _push_others(
        self, rows: Rows, target: Windows, items: ItemSource, now: float
    ) -> list[Batch]:
        """The general way: snapshots, several operations, several frames."""
        plans: dict[tuple[Any, ...], _Plan | None] = {}
        by_qos: dict[int, tuple[list[int], list[bytes], list[int]]] = {}
        for row, feed in zip(rows.tolist(), target, strict=True):
            goal = tuple(slot for slot in feed.tolist() if slot)
            while self.inflight[row] < self.max_inflight:
                plan = self._plan(row, goal, items, plans)
                if plan is None:
                    self.behind[row] = False
                    break
                qos, tail = self._send(row, plan, now)
                sent_rows, tails, counts = by_qos.setdefault(qos, ([], [], [0, 0, 0, 0]))
                sent_rows.append(row)
                tails.append(tail)
                counts[0] += plan.snapshot
                counts[1] += len(plan.put_numbers)
                counts[2] += plan.removes
                counts[3] += plan.moves
        return [
            Batch(np.array(sent_rows, np.int32), qos, tails, *counts)
            # A row's QoS never falls while frames are unacknowledged: ascending order keeps its frames in order.
            for qos, (sent_rows, tails, counts) in sorted(by_qos.items())
        ]

    def _plan(
        self,
        row: int,
        goal: tuple[int, ...],
        items: ItemSource,
        plans: dict[tuple[Any, ...], _Plan | None],
    ) -> _Plan | None:
        """The next frame of a row, shared with the rows that are in the same state."""
        fresh = bool(self.fresh[row])
        tip = () if fresh else tuple(self.tip(row))
        state = (
            fresh, tip, goal, int(self.k[row]), int(self.frame_max[row]),
            int(self.payload_max[row]), bool(self.clock[row]),
        )  # fmt: skip
        if state not in plans:
            plans[state] = _plan(*state, items)
        return plans[state]

    def _send(self, row: int, plan: _Plan, now: float) -> tuple[int, bytes]:
        """Books a frame as sent; returns its QoS and what stands behind its topic name."""
        qos = int(self._qos(np.array([row], np.int32), plan.priority)[0])
        seq = int(self.seq[row]) + 1
        epoch = int(self.epoch[row])
        if plan.snapshot:
            frame = snapshot_bytes(epoch, seq, int(self.k[row]), plan.body)
            self.snapshot_seq[row] = seq
            self.fresh[row] = False
        else:
            base = int(self.base[row])
            frame = delta_bytes(epoch, seq, plan.body, None if base == seq - 1 else base)
        self.head[row] = (self.head[row] + 1) % self._ring
        at = self._at(row, 0)
        held = self._held[at]
        held[: len(plan.tip)] = plan.tip
        held[len(plan.tip) :] = 0
        self._ring_seq[at] = self.seq[row] = self.base[row] = seq
        self.depth[row] = min(int(self.depth[row]) + 1, self.max_inflight)
        for number in plan.put_numbers:
            self._remember(row, number)
        if not qos:
            return qos, frame
        packet_id = int(self.packet_id[row]) % _PACKET_IDS + 1
        self.packet_id[row] = packet_id
        if not self.inflight[row]:
            self.waiting_since[row] = now
        self.inflight[row] += 1
        self._ring_qos[at] = qos
        tail = packet_id.to_bytes(2, "big") + frame
        if self.keep[row]:
            self._ring_tails[at] = tail
        return qos, tail

    # ---- Acknowledgements

    def acknowledge(self, rows: Rows, packet_ids: NDArray[np.uint16], now: float) -> Rows:
        """PUBACKs or PUBCOMPs, in the order of their arrival; unknown identifiers change nothing.

        Returns the rows that have room now and whose feed differs from the tip.
        """
        order = np.arange(len(rows), dtype=np.int32)
        self._mark[rows] = order
        if not (self._mark[rows] == order).all():
            for row, packet_id in zip(rows.tolist(), packet_ids.tolist(), strict=True):
                self._acknowledge_one(row, packet_id)
            rows = np.unique(rows)
        else:
            inflight = self.inflight[rows]
            back = (self.packet_id[rows].astype(np.int32) - packet_ids) % _PACKET_IDS
            plain = (back + 1 == inflight) & (self.early[rows] == 0)
            if plain.all():
                self.inflight[rows] = inflight - 1
            else:
                self.inflight[rows[plain]] = inflight[plain] - 1
                for index in np.flatnonzero(~plain).tolist():
                    self._acknowledge_one(int(rows[index]), int(packet_ids[index]))
        self.waiting_since[rows] = now
        return rows[self.behind[rows] & self.ready[rows]]

    def _acknowledge_one(self, row: int, packet_id: int) -> None:
        inflight = int(self.inflight[row])
        back = (int(self.packet_id[row]) - packet_id) % _PACKET_IDS
        if back >= inflight:
            return
        early = int(self.early[row]) | 1 << (inflight - 1 - back)
        while early & 1:
            early >>= 1
            inflight -= 1
        self.early[row] = early
        self.inflight[row] = inflight

    def stalled(self, rows: Rows, before: float) -> Rows:
        """Which of these rows have waited for an acknowledgement since before that time."""
        return rows[(self.inflight[rows] > 0) & (self.waiting_since[rows] < before)]

    # ---- Feedback

    def count_feedback(self, row: int, number: int, kind: int) -> bool | None:
        """Whether feedback of this kind counts: True the first time, False again, None if never sent."""
        first = row * self._recent_length
        recent = self._recent[first : first + self._recent_length]
        places = np.flatnonzero(recent == number) + first
        if not number or not len(places):
            return None
        bit = 1 << kind
        if (self._counted[places] & bit).any():
            return False
        self._counted[places] |= bit
        return True

    def _remember(self, row: int, number: int) -> None:
        at = int(self._recent_at[row])
        place = row * self._recent_length + at
        self._recent[place] = number
        self._counted[place] = 0
        self._recent_at[row] = (at + 1) % (RECENT_WINDOWS * int(self.k[row]))

    # ---- Away and back

    def pack(self, row: int) -> bytes:
        """All that is worth keeping of a row while its device is away, in a few dozen bytes."""
        depth = int(self.depth[row])
        ring = []
        for distance in range(depth, -1, -1):
            at = self._at(row, distance)
            window = [slot for slot in self._held[at].tolist() if slot]
            ring.append([int(self._ring_seq[at]), window])
        first = row * self._recent_length
        recent = self._recent[first : first + self._recent_length]
        used = np.flatnonzero(recent)
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
                recent[used].tolist(),
                self._counted[first + used].tolist(),
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
        ring = ring[-self._ring :]
        resend = resend[-self.max_inflight :]
        self.head[row] = len(ring) - 1
        self.depth[row] = len(ring) - 1
        first = row * self._ring
        for index, (ring_seq, window) in enumerate(ring):
            self._ring_seq[first + index] = ring_seq
            fitting = window[: self.columns]
            self._held[first + index, : len(fitting)] = fitting
        self._unpack_inflight(row, packet_id, resend)
        count = min(len(recent), RECENT_WINDOWS * int(self.k[row]))
        first = row * self._recent_length
        self._recent[first : first + count] = recent[len(recent) - count :]
        self._counted[first : first + count] = counted[len(counted) - count :]
        self._recent_at[row] = count % (RECENT_WINDOWS * int(self.k[row]))

    def _unpack_inflight(self, row: int, packet_id: int, resend: Iterable[Sequence[Any]]) -> None:
        """Frames acknowledged out of order are gaps between the identifiers to resend."""
        self.packet_id[row] = packet_id
        backs = {(packet_id - entry[0]) % _PACKET_IDS: entry for entry in resend}
        inflight = max(backs, default=-1) + 1
        self.inflight[row] = inflight
        early = 0
        for back in range(inflight):
            at = self._at(row, back)
            if back in backs:
                self._ring_qos[at], self._ring_tails[at] = backs[back][1], backs[back][2]
            else:
                early |= 1 << (inflight - 1 - back)
        self.early[row] = early

    def _at(self, row: int, distance: int) -> int:
        """Where in the rings the window `distance` frames before the tip stands."""
        return row * self._ring + (int(self.head[row]) - distance) % self._ring

    @staticmethod
    def _packet_id_back(packet_id: int, distance: int) -> int:
        return (packet_id - 1 - distance) % _PACKET_IDS + 1


def _plan(
    fresh: bool,
    tip: tuple[int, ...],
    goal: tuple[int, ...],
    k: int,
    frame_max: int,
    payload_max: int,
    clock: bool,
    items: ItemSource,
) -> _Plan | None:
    """The next frame from `tip` towards `goal`: the smaller of delta and snapshot, within the budget."""

    def encoded(slot: int) -> bytes:
        forms = items[slot]
        return forms.encoded(clock=clock, brief=payload_max < forms.full_size)

    if fresh:
        return _snapshot(goal, frame_max, encoded)
    ops = difference(tip, goal, k)
    if not ops:
        return None
    delta = _delta(tip, ops, k, frame_max, encoded)
    if delta is not None and len(ops) == 1:
        return delta
    snapshot = _snapshot(goal, frame_max, encoded)
    if snapshot.tip != goal:
        return delta
    if delta is None or delta.tip != goal or _size(snapshot) < _size(delta):
        return snapshot
    return delta


# The longest heads: array, type, 5-byte epoch and seq, then k or a 5-byte base, and the inner array's
# head. An item that fits once always fits, however the numbers grow.
_SNAPSHOT_HEAD = 1 + 1 + 5 + 5 + 1 + 3
_DELTA_HEAD = 1 + 1 + 5 + 5 + 3 + 5


def _size(plan: _Plan) -> int:
    return sum(map(len, plan.body))


def _snapshot(goal: tuple[int, ...], frame_max: int, encoded: Callable[[int], bytes]) -> _Plan:
    """The best items of the goal that fit one frame."""
    body = []
    room = frame_max - _SNAPSHOT_HEAD
    for slot in goal:
        item = encoded(slot)
        room -= len(item)
        if room < 0:
            break
        body.append(item)
    tip = goal[: len(body)]
    return _Plan(
        snapshot=True,
        body=tuple(body),
        tip=tip,
        priority=max(map(slots.priority, tip), default=0),
        put_numbers=tuple(map(slots.number, tip)),
        removes=0,
        moves=0,
    )


def _delta(
    tip: tuple[int, ...],
    ops: Sequence[SlotOp],
    k: int,
    frame_max: int,
    encoded: Callable[[int], bytes],
) -> _Plan | None:
    """The first of the ops, as many as fit one frame; None if not even one does."""
    body: list[bytes] = []
    room = frame_max - _DELTA_HEAD
    for op in ops:
        match op:
            case PutOp():
                encoded_op = put_bytes(op.rank, encoded(op.slot))
            case RemoveOp():
                encoded_op = remove_bytes(op.rank)
            case MoveOp():
                encoded_op = move_bytes(op.source, op.target)
        room -= len(encoded_op)
        if room < 0:
            break
        body.append(encoded_op)
    if not body:
        return None
    sent = ops[: len(body)]
    after = tuple(apply(tip, sent, k))
    put = [op.slot for op in sent if isinstance(op, PutOp)]
    gone = {slots.number(slot): slot for slot in tip}
    for slot in after:
        gone.pop(slots.number(slot), None)
    return _Plan(
        snapshot=False,
        body=tuple(body),
        tip=after,
        priority=max(map(slots.priority, (*put, *gone.values())), default=0),
        put_numbers=tuple(map(slots.number, put)),
        removes=sum(isinstance(op, RemoveOp) for op in sent),
        moves=sum(isinstance(op, MoveOp) for op in sent),
    )
