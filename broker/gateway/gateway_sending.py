"""Frames through the one connection that all devices share, and the devices' own acks back.

That connection is a queue in front of everybody, so nothing may wait in it for long: while it is full, rows
are only marked as behind, as rows of a full socket are in an embedded server, and what they lack is
computed when there is room.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from broker.figures.timing import ItemTimes
from broker.sending import Sending, framed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.counters import Counters
    from broker.gateway.uplink import Uplink
    from broker.roster import Live, Shelf
    from devices.ledger import Batch
    from devices.ledger_outside import OutsideLedger
    from devices.ledger_rows import Rows
    from feedgen.engine import Engine


class GatewaySending(Sending):
    """`Sending` over an uplink; arguments as there. `through` names the uplink."""

    def __init__(self, shelves: Sequence[Shelf], engine: Engine, counters: Counters) -> None:
        super().__init__(shelves, engine, counters)
        # What devices confirm is the position that a frame leads to.
        self.times = ItemTimes(len(shelves), positions=True)
        self._uplink: Uplink | None = None
        self._confirmed: dict[Live, tuple[int, int]] = {}

    def through(self, uplink: Uplink) -> None:
        """From now on, frames go here."""
        self._uplink = uplink
        for shelf in self._shelves:
            _ledger(shelf).take_ids = uplink.window.take

    # ---- Out

    def push(self, shelf_index: int, rows: Rows, *, new: bool = True) -> None:
        """Sends these rows what brings them towards their feeds, as far as the connection has room."""
        shelf, uplink = self._shelves[shelf_index], self._uplink
        ledger = shelf.ledger
        ready = ledger.ready[rows]
        if not ready.all():
            ledger.behind[rows[~ready]] = True
            rows = rows[ready]
        while len(rows):
            # A row may need as many identifiers as it may have frames in flight.
            count = 0 if uplink is None else uplink.room // ledger.max_inflight
            if not count:
                ledger.behind[rows] = True
                if uplink is not None:
                    uplink.starve()
                return
            some, rows = rows[:count], rows[count:]
            self._deliver(shelf_index, some, new=new)

    def catch_up(self) -> None:
        """There is room again: whoever is behind and may be sent something gets it."""
        for index, shelf in enumerate(self._shelves):
            ledger = shelf.ledger
            due = ledger.behind & ledger.ready & (ledger.inflight < ledger.max_inflight)
            self.push(index, np.flatnonzero(due).astype(np.int32))

    def _write(self, shelf: Shelf, batch: Batch) -> None:
        assert self._uplink is not None
        packets, ids = batch.tails, None
        if not batch.whole:
            packets = framed(batch, [shelf.topics[row] for row in batch.rows.tolist()])
        if batch.qos and batch.whole:
            ids = shelf.ledger.packet_id.take(batch.rows)  # one frame for each row, and it is this
        elif batch.qos:
            ids = np.array([int.from_bytes(tail[:2], "big") for tail in batch.tails], np.uint16)
        self._count(batch, self._uplink.publish(packets, ids))

    # ---- Back

    def confirmed(self, live: Live, epoch: int, seq: int) -> None:
        """A device says that it has applied everything up to here."""
        position = (epoch, seq)
        self._confirmed[live] = max(position, self._confirmed.get(live, position))
        self.schedule_acks()

    def take_acks(self) -> None:
        """Works off the acks that have come."""
        self._acks_scheduled = False
        if not self._confirmed:
            return
        confirmed, self._confirmed = self._confirmed, {}
        found: list[tuple[list[int], list[int], list[int]]] = [([], [], []) for _ in self._shelves]
        for live, (epoch, seq) in confirmed.items():
            if self._shelves[live.seat.shelf].lives[live.seat.row] is live:
                for column, value in zip(
                    found[live.seat.shelf], (live.seat.row, epoch, seq), strict=True
                ):
                    column.append(value)
        for index, (rows, epochs, seqs) in enumerate(found):
            if rows:
                self._frames["acked"] += len(rows)
                found_rows, found_seqs = np.array(rows, np.int32), np.array(seqs, np.int64)
                self.times.acknowledged(index, found_rows, found_seqs, monotonic())
                if self.tap is not None:
                    self.tap.confirmed(index, found_rows, found_seqs)
                due = _ledger(self._shelves[index]).confirm(
                    found_rows, np.array(epochs, np.int64), found_seqs, self._loop.time()
                )
                self.receipts.acknowledged(self._shelves[index].ledger.take_arrivals())
                if len(due):
                    self.push_on(index, due)


def _ledger(shelf: Shelf) -> OutsideLedger:
    return shelf.ledger  # type: ignore[return-value] # as the service was told
