"""A census: where an item stands with each device that follows its channel, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from devices import slots
from feedgen.standing import Absent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from devices.ledger import Ledger
    from devices.ledger_rows import Rows
    from feedgen.standing import Part
    from feedgen.windows import Mask

_ABSENT = {reason: reason.name.lower() for reason in Absent}
_NOT_FOR_IT = ("where", "dismissed", "oversize")


@dataclass(slots=True)
class Census:
    """The followers of an item's channel, each in one of these but for the last three.

    Attributes:
        where: Not those that it is for: their attributes do not match.
        dismissed: They dismissed it, or it was barred from them.
        oversize: It does not fit their frames.
        collapsed: Another item of its collapse key stands in its place.
        pending: Their windows are about to be built anew.
        evicted: They were sent it, and better items have pushed it out since.
        outranked: They were not sent it: what they hold is better.
        reserve: Likewise, and it comes up when something better leaves.
        seen: It stands in what they are to show.
        sent: Of those, they were sent its present content.
        held: Of those, they are known to have it.
        left: They were sent it, and it stands there no more: whoever evicted or dismissed it, and
            others as far as they are remembered.
    """

    where: int = 0
    dismissed: int = 0
    oversize: int = 0
    collapsed: int = 0
    pending: int = 0
    evicted: int = 0
    outranked: int = 0
    reserve: int = 0
    seen: int = 0
    sent: int = 0
    held: int = 0
    left: int = 0

    @property
    def eligible(self) -> int:
        """Devices that may show it: their attributes match, it fits, and they did not dismiss it."""
        places = self.collapsed, self.pending, self.evicted, self.outranked, self.reserve, self.seen
        return sum(places)

    @property
    def followers(self) -> int:
        """Devices with a row that follow its channel."""
        return self.eligible + self.where + self.dismissed + self.oversize

    @property
    def admitted(self) -> int:
        """Devices whose window took it, now or before, as far as the ledgers remember."""
        return self.seen + self.left

    def add(self, part: Part, ledger: Ledger, n: int) -> None:
        """Counts some more followers.

        Args:
            part: Where the item stands with them.
            ledger: What they hold.
            n: The item.
        """
        places, rows = part.places, part.rows
        codes = np.bincount(-places[places < 0], minlength=len(Absent) + 1)
        for reason, name in _ABSENT.items():
            setattr(self, name, getattr(self, name) + int(codes[-reason]))
        seen = rows[places >= 0]
        self.seen += len(seen)
        self.sent += int(holds(ledger, seen, n).sum())
        self.held += int(holds(ledger, seen, n, confirmed=True).sum())
        absent = places < 0
        left = places[absent][was_sent(ledger, rows[absent], n)]
        self.left += len(left)
        for reason in (Absent.OUTRANKED, Absent.RESERVE):
            evicted = int((left == reason).sum())
            self.evicted += evicted
            name = _ABSENT[reason]
            setattr(self, name, getattr(self, name) - evicted)

    def as_dict(self, ended: str = "") -> dict[str, Any]:
        """As JSON; with why the item ended, for those whom it did not reach in time."""
        dropped = {
            name: getattr(self, name)
            for name in (*_NOT_FOR_IT, "collapsed", "outranked", "evicted")
        }
        if ended:
            dropped["outranked"] += self.reserve + self.pending
            dropped[ended] = self.seen - self.sent
        found = {
            "followers": self.followers,
            "eligible": self.eligible,
            "admitted": self.admitted,
            "sent": self.sent + self.left,
            "seen": self.seen,
            "held": self.held,
            "dropped": {reason: count for reason, count in dropped.items() if count},
        }
        return found if ended else {**found, "reserve": self.reserve, "pending": self.pending}


def holds(ledger: Ledger, rows: Rows, n: int, *, confirmed: bool = False) -> Mask:
    """Which devices have an item: once all that was sent has arrived, or by what they confirmed.

    At QoS 0 what was written counts as confirmed, as it does for the ledger.
    """
    head = ledger.head[rows].astype(np.int64)
    if confirmed:
        head -= ledger.inflight[rows]
    at = rows.astype(np.int64) * ledger.ring + head % ledger.ring
    found: Mask = (slots.number(ledger.held[at]) == n).any(axis=1)
    return found & ~ledger.fresh[rows]


def was_sent(ledger: Ledger, rows: Rows, n: int) -> Mask:
    """Which devices were sent an item, among the last that each was sent (`RECENT_WINDOWS`)."""
    recent: NDArray[np.uint32] = ledger.recent.reshape(ledger.size, ledger.recent_length)
    found: Mask = (recent[rows] == n).any(axis=1)
    return found
