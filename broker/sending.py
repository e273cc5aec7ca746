"""The last step of the data path: changed rows to frames on sockets, and PUBACKs back to the ledgers."""

from __future__ import annotations

import asyncio
from itertools import starmap
from operator import call, itemgetter
from time import monotonic, time
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from broker.figures.timing import ItemTimes
from broker.item_forms import ItemForms
from broker.overload.held_back import first_difference, urgent_changes, with_urgent
from broker.receipts.counts import Receipts
from broker.roster import publish_header
from devices import slots
from devices.packets import as_duplicate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from broker.counters import Counters
    from broker.lane.connection import Connection
    from broker.overload.allowances import Allowances
    from broker.roster import Live, Shelf
    from devices.inflight import Unacknowledged
    from devices.ledger import Batch
    from devices.ledger_rows import Rows, Windows
    from feedgen.engine import Engine

_T = TypeVar("_T")


class Tap(Protocol):
    """Who looks at the frames of single devices while they pass."""

    def wrote(self, shelf: int, batch: Batch) -> None:
        """These frames were written."""

    def repeated(self, live: Live, frame: Unacknowledged) -> None:
        """A frame was written once more, with DUP."""

    def acknowledged(self, shelf: int, rows: Rows, packet_ids: NDArray[np.uint16]) -> None:
        """These rows acknowledge the frames of these packet identifiers, one each."""

    def confirmed(self, shelf: int, rows: Rows, seqs: NDArray[np.int64]) -> None:
        """These rows say that they have applied everything up to these frames of their epochs."""


class Sending:
    """Frames out, acknowledgements in, for all shelves.

    Args:
        shelves: The devices.
        engine: Their feeds.
        counters: Frames are counted here.

    Attributes:
        tap: Who looks at frames while they pass; None, as nearly always, if nobody does.
    """

    def __init__(self, shelves: Sequence[Shelf], engine: Engine, counters: Counters) -> None:
        self.forms = ItemForms()
        self.tap: Tap | None = None
        self.receipts = Receipts()
        for shelf in shelves:
            shelf.ledger.notes_arrivals = True
        self.clock: Callable[[], float] = time
        # What sends rows on that an acknowledgement made room for; an overloaded service lets them wait.
        self.push_on: Callable[[int, Rows], None] = self.push
        self._shelves = shelves
        self._engine = engine
        self._frames = counters.frames
        self.times = ItemTimes(len(shelves))
        self._loop = asyncio.get_running_loop()
        self._acks_scheduled = False

    @property
    def waiting(self) -> bool:
        """Whether PUBACKs wait to be worked off."""
        return self._acks_scheduled

    def push(self, shelf_index: int, rows: Rows, *, new: bool = True) -> None:
        """Sends these rows what brings them towards their feeds.

        `new` says whether the devices were there when what they lack came up, so that it is timed.
        """
        shelf = self._shelves[shelf_index]
        ready = shelf.ledger.ready[rows]
        if not ready.all():
            rows = np.concatenate((rows[ready], self._put_off(shelf, rows[~ready])))
        if not len(rows):
            return
        self._deliver(shelf_index, rows, new=new)

    def _deliver(self, shelf_index: int, rows: Rows, *, new: bool) -> None:
        """Sends rows that are ready what they may have of what they lack."""
        shelf = self._shelves[shelf_index]
        target = self._engine.slots(shelf_index, rows)
        allowances, cut = shelf.allowances, None
        if allowances is not None and allowances.concerns(rows):
            rows, target, cut = self._within_budget(shelf, allowances, rows, target)
        if not new:
            self.times.met(shelf_index, rows, target, shelf.ledger.state(rows))
        for batch in shelf.ledger.push(rows, target, self.forms, self._loop.time()):
            self._write(shelf, batch)
            if self.tap is not None:
                self.tap.wrote(shelf_index, batch)
            self.times.wrote(shelf_index, batch, monotonic())
            if allowances is not None and allowances.limited:
                self._spend(shelf, allowances, batch)
        if cut is not None:
            shelf.ledger.behind[cut] = True

    def _within_budget(
        self, shelf: Shelf, allowances: Allowances, rows: Rows, target: Windows
    ) -> tuple[Rows, Windows, Rows]:
        """Which rows may be sent what they lack now, and of the others which get urgent items alone.

        Returns:
            Rows and their windows, and those whose windows lack what has to wait.
        """
        ledger = shelf.ledger
        state = ledger.state(rows)
        tip = ledger.held.take(rows * ledger.ring + state["head"], axis=0)
        # Who asked has no position, or another one than the tip's.
        asked = state["fresh"] | (state["base"] != state["seq"])
        rank = first_difference(tip, target)
        passed = allowances.passes(rows, rank, state["k"], self.clock(), asked)
        if passed.all():
            return rows, target, rows[:0]
        ledger.behind[rows[~passed]] = True
        cut = np.flatnonzero(~passed & urgent_changes(tip, target))
        for at in cut.tolist():
            goal = with_urgent(
                tip[at].tolist(), target[at].tolist(), int(state["k"][at]), self.forms.__contains__
            )
            target[at] = goal + [slots.EMPTY] * (ledger.columns - len(goal))
        passed[cut] = True
        return rows[passed], target[passed], rows[cut]

    def _spend(self, shelf: Shelf, allowances: Allowances, batch: Batch) -> None:
        octets = np.fromiter(map(len, batch.tails), np.int64, len(batch.tails))
        if not batch.whole:
            octets += shelf.topic_lengths[batch.rows] + _SHORT_HEADER
        allowances.spend(batch.rows, octets, self.clock())

    def urgent(self, shelf_index: int, rows: Rows) -> NDArray[np.bool_]:
        """Which of these rows lack an urgent item."""
        ledger = self._shelves[shelf_index].ledger
        tip = ledger.held.take(rows * ledger.ring + ledger.head[rows], axis=0)
        return urgent_changes(tip, self._engine.slots(shelf_index, rows))

    def _put_off(self, shelf: Shelf, rows: Rows) -> Rows:
        """Notes that these rows, which are not ready, are behind; those that have become ready now.

        For a device whose frames are sent again one at a time, the next of them may be due; it is
        ready when there is none.
        """
        ledger = shelf.ledger
        ledger.behind[rows] = True
        alone = rows[ledger.alone[rows]]
        for row in alone.tolist():
            live = shelf.lives[row]
            connection = None if live is None else live.connection
            if live is None or connection is None or connection.closed_for is not None:
                continue
            frame = ledger.resend_next(row)
            if frame is not None:
                self._send_again(live, connection, frame)
        return alone[ledger.ready[alone]]

    def _write(self, shelf: Shelf, batch: Batch) -> None:
        """Sends frames: fixed header, topic, tail."""
        rows = batch.rows.tolist()
        sends = _pick(rows, shelf.sends)
        blocked = shelf.ledger.blocked.take(batch.rows)
        if blocked.any():
            sends = self._behind_what_waits(shelf, rows, sends, blocked)
        packets = batch.tails if batch.whole else framed(batch, _pick(rows, shelf.topics))
        size = len(packets) * len(packets[0]) if batch.whole else sum(map(len, packets))
        sent: list[int] = []
        waiting = zip(sends, packets, strict=True)
        while len(sent) < len(packets):
            try:
                sent.extend(starmap(call, waiting))
            except OSError:
                sent.append(0)  # no room, or the connection is about to be lost
        if sum(sent) != size:
            self._write_rest(shelf, rows, packets, sent)
        self._count(batch, size)

    def _count(self, batch: Batch, size: int) -> None:
        frames = self._frames
        frames["sent"] += len(batch.tails)
        frames["bytes"] += size
        frames["snapshots"] += batch.snapshots
        frames["puts"] += batch.puts
        frames["removes"] += batch.removes
        frames["moves"] += batch.moves
        if batch.put:
            self.receipts.delivered(batch.put, batch.puts)
        elif batch.put_numbers:
            self.receipts.delivered_each(batch.put_numbers)

    def _behind_what_waits(
        self,
        shelf: Shelf,
        rows: list[int],
        sends: Sequence[Callable[[bytes], int]],
        blocked: NDArray[np.bool_],
    ) -> Sequence[Callable[[bytes], int]]:
        """Frames whose predecessors in the same push did not go out whole follow through the transport."""
        sends = list(sends)
        for at in np.flatnonzero(blocked).tolist():
            live = shelf.lives[rows[at]]
            if live is not None and live.connection is not None:
                sends[at] = live.connection.send_by_transport
        return sends

    def _write_rest(
        self, shelf: Shelf, rows: list[int], packets: list[bytes], sent: list[int]
    ) -> None:
        """Leaves what a socket did not take to its transport, which pauses the connection."""
        for row, packet, count in zip(rows, packets, sent, strict=True):
            live = shelf.lives[row]
            if count < len(packet) and live is not None and live.connection is not None:
                live.connection.transport.write(packet[count:])

    def push_row(self, live: Live) -> None:
        """Sends one device what brings it towards its feed."""
        self.push(live.seat.shelf, np.array([live.seat.row], np.int32), new=False)

    def resend(self, live: Live, connection: Connection) -> None:
        """Sends again what is unacknowledged (MQTT 3.1.1, 4.4): all, or the oldest alone."""
        ledger = self._shelves[live.seat.shelf].ledger
        self.times.sent_again(live.seat.shelf, live.seat.row)
        for frame in ledger.resume(live.seat.row):
            self._send_again(live, connection, frame)

    def _send_again(self, live: Live, connection: Connection, frame: Unacknowledged) -> None:
        """Sends a frame with DUP and its old packet id, unless PUBREC has come and PUBREL is due."""
        assert connection.session is not None
        if frame.packet_id in connection.session.releasing:
            return
        header = publish_header(frame.qos, len(live.topic) + len(frame.tail))
        connection.write(as_duplicate(header + live.topic + frame.tail))
        self._frames["resent"] += 1
        if self.tap is not None:
            self.tap.repeated(live, frame)

    def schedule_acks(self) -> None:
        """PUBACKs are about to stand in a shelf's queue."""
        if not self._acks_scheduled:
            self._acks_scheduled = True
            self._loop.call_soon(self.take_acks)

    def take_acks(self) -> None:
        """Works off the PUBACKs that have come."""
        self._acks_scheduled = False
        for index, shelf in enumerate(self._shelves):
            if not shelf.acks:
                continue
            acks = np.array(shelf.acks, np.int64)
            shelf.acks.clear()
            self._frames["acked"] += len(acks)
            rows, packet_ids = (acks >> 16).astype(np.int32), (acks & 0xFFFF).astype(np.uint16)
            self.times.acknowledged(index, rows, packet_ids, monotonic())
            if self.tap is not None:
                self.tap.acknowledged(index, rows, packet_ids)
            due = shelf.ledger.acknowledge(rows, packet_ids, self._loop.time())
            self.receipts.acknowledged(shelf.ledger.take_arrivals())
            if len(due):
                self.push_on(index, due)

    def released(self, connection: Connection, packet_id: int) -> None:
        """A QoS 2 frame is complete (PUBCOMP): from here on as a PUBACK."""
        if connection.ack_queue is not None:
            self.schedule_acks()
            connection.ack_queue.append(connection.row_key | packet_id)


def framed(batch: Batch, topics: Sequence[bytes]) -> list[bytes]:
    """The packets of a batch that has only what follows their topic names."""
    heads = _HEADERS[batch.qos]
    return [
        (
            heads[size]
            if (size := len(topic) + len(tail)) < _HEADER_TABLE
            else publish_header(batch.qos, size)
        )
        + topic
        + tail
        for topic, tail in zip(topics, batch.tails, strict=True)
    ]


def _pick(rows: list[int], column: list[_T]) -> Sequence[_T]:
    """The entries of these rows."""
    return itemgetter(*rows)(column) if len(rows) > 1 else [column[rows[0]]]


_SHORT_HEADER = 2
"""Bytes of the fixed header of most packets."""

_HEADER_TABLE = 16_384
_HEADERS = [[publish_header(qos, length) for length in range(_HEADER_TABLE)] for qos in range(3)]
