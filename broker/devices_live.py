"""Devices that have a row: connected ones, and those that were until recently."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devices.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.lane.connection import Connection
    from devices.profile import Profile
    from feedgen.engine import Seat


@dataclass(slots=True, eq=False)
class Live:
    """One device with a row.

    Attributes:
        profile: Who it is.
        seat: Its row in the engine and, by the same number, in its shelf's ledger.
        topic: The length-prefixed topic name of its frames, as it stands in a PUBLISH.
        connection: Its connection, if it has one.
        qos: The QoS of its subscription, None without one.
        position: The position to answer: (0, 0) is "I hold nothing"; None when nothing is asked.
        said_hello: Whether a hello came on this connection.
        proven: Whether everything that was ever sent in the current epoch is known. A server that
            was killed cannot prove it, and begins a new epoch before the next frame.
        saving: Whether a new epoch is on its way to the store.
        answered_at: When a hello was last answered.
        due: When a resumed session that stays silent counts as holding nothing; 0 if not waiting.
        away_since: When its connection ended.
        c: The number of its connection that its hello named.
    """

    profile: Profile
    seat: Seat
    topic: bytes
    connection: Connection | None = None
    qos: int | None = None
    position: tuple[int, int] | None = None
    said_hello: bool = False
    proven: bool = False
    saving: bool = False
    answered_at: float = float("-inf")
    due: float = 0.0
    away_since: float = 0.0
    c: int | None = None


@dataclass(slots=True, eq=False)
class Shelf:
    """The devices of one window class: their ledger and what is needed to write to them.

    Attributes:
        ledger: What the devices hold.
        lives: By row.
        sends: By row, what sends a packet at once and says how much of it went (`Connection.sender`).
        topics: By row, the length-prefixed topic name.
        acks: PUBACKs to work off, as row << 16 | packet id.
        stalled: Devices that have not acknowledged for long.
    """

    ledger: Ledger
    lives: list[Live | None] = field(default_factory=list)
    sends: list[Callable[[bytes], int]] = field(default_factory=list)
    topics: list[bytes] = field(default_factory=list)
    acks: list[int] = field(default_factory=list)
    stalled: int = 0

    def put(self, row: int, live: Live) -> None:
        """A device takes a row."""
        while len(self.lives) <= row:
            self.lives.append(None)
            self.sends.append(nowhere)
            self.topics.append(b"")
        self.lives[row] = live
        self.topics[row] = live.topic
        self.sends[row] = nowhere

    def forget_acks(self, row: int) -> None:
        """Drops PUBACKs that were not worked off."""
        self.acks[:] = [ack for ack in self.acks if ack >> 16 != row]

    def drop(self, row: int) -> None:
        """A device leaves its row."""
        self.lives[row] = None
        self.sends[row] = nowhere
        self.topics[row] = b""


def nowhere(data: bytes) -> int:
    """Where a device without a connection is sent to; never called, as its row is not ready."""
    return len(data)
