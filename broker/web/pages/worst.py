"""Which devices do worst: those that leave frames unacknowledged, do not read, or wait for their budget.

Looked at by columns. A feed that changes makes every device owe an acknowledgement for a moment, so only
who has owed one for long is of interest, and only of a few of those it is counted what they lack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from broker.roster import Shelf
    from devices.ledger_rows import Rows, Windows
    from feedgen.engine import Engine

MOST = 20
"""Devices that are named."""

_LATE = 1.0
"""Seconds without an acknowledgement from which a device is of interest."""

_LOOKED_AT = 128
"""Rows of each shelf whose windows are compared: what the others lack is not known."""


@dataclass(frozen=True, slots=True)
class Worst:
    """A device that does badly.

    Attributes:
        device: Its id.
        state: `stalled`, `full` (it does not read what it is sent), `late`, `quiet` or `budget` (its
            changes wait for the end of its quiet hours, or for its budget).
        seconds: Since when it owes an acknowledgement; 0 if it owes none.
        unacknowledged: Frames.
        lacks: Items of its feed that it was not sent.
    """

    device: str
    state: str
    seconds: float
    unacknowledged: int
    lacks: int


def worst(
    shelves: Sequence[Shelf], engine: Engine, now: float, stall_after: float, most: int = MOST
) -> list[Worst]:
    """The devices that do worst, the very worst first.

    Args:
        shelves: All devices with a row.
        engine: Their feeds.
        now: Seconds on the clock of the event loop, which is that of the ledgers.
        stall_after: Seconds without an acknowledgement from which a device counts as stalled.
        most: How many are wanted.
    """
    found = [
        each
        for index, shelf in enumerate(shelves)
        for each in _of_shelf(index, shelf, engine, now, stall_after)
    ]
    found.sort(key=lambda each: (_ORDER[each.state], -each.seconds, -each.lacks, each.device))
    return found[:most]


_ORDER = {"stalled": 0, "full": 1, "late": 2, "budget": 3, "quiet": 4}


def _of_shelf(
    index: int, shelf: Shelf, engine: Engine, now: float, stall_after: float
) -> list[Worst]:
    ledger, used = shelf.ledger, len(shelf.lives)
    connected = ledger.attached[:used]
    owes = ledger.inflight[:used] > 0
    seconds = np.where(owes, np.maximum(now - ledger.waiting_since[:used], 0.0), 0.0)
    full = ledger.blocked[:used]
    waits = quiet = np.zeros(used, np.bool_)
    if shelf.allowances is not None and shelf.allowances.active:
        # These columns grow when a row is used, and may be shorter than the ledger's.
        waits, quiet = _fit(shelf.allowances.waiting, used), _fit(shelf.allowances.quiet, used)
    rows = np.flatnonzero(connected & ((seconds >= _LATE) | full | waits)).astype(np.int32)
    if not len(rows):
        return []
    order = np.lexsort((-seconds[rows], ~full[rows], seconds[rows] < stall_after))
    rows = rows[order[:_LOOKED_AT]]
    lacks = _lacks(_tips(shelf, rows), engine.slots(index, rows))
    states = np.select(
        [seconds[rows] >= stall_after, full[rows], seconds[rows] >= _LATE, quiet[rows]],
        ["stalled", "full", "late", "quiet"],
        "budget",
    )
    return [
        Worst(
            live.profile.device,
            str(state),
            round(float(seconds[row]), 1),
            int(ledger.inflight[row]),
            lack,
        )
        for row, state, lack in zip(rows.tolist(), states, lacks.tolist(), strict=True)
        if (live := shelf.lives[row]) is not None
    ]


def _tips(shelf: Shelf, rows: Rows) -> Windows:
    ledger = shelf.ledger
    tips: Windows = ledger.held[rows.astype(np.int64) * ledger.ring + ledger.head[rows]]
    return tips


def _lacks(tips: Windows, feeds: Windows) -> NDArray[np.int64]:
    """How many contents of each feed are not in the window that was sent: int [rows]."""
    there = (feeds[:, :, None] == tips[:, None, :]).any(axis=2)
    lacks: NDArray[np.int64] = (~there & (feeds != 0)).sum(axis=1)
    return lacks


def _fit(column: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    return column[:size] if len(column) >= size else np.pad(column, (0, size - len(column)))
