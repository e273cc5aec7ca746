"""What a device of the suite is made of: what it can do, what it remembers, what it does wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devices.replica import Replica

if TYPE_CHECKING:
    from devices.frames import FeedItem

DEFAULT_BUDGET = 256
"""The frame budget of a device that never said hello."""


@dataclass(slots=True)
class Tally:
    """What all devices counted.

    Attributes:
        frames: PUBLISHes on feeds.
        resent: Those with DUP.
        hellos: Hellos sent.
        connects: CONNACKs.
    """

    frames: int = 0
    resent: int = 0
    hellos: int = 0
    connects: int = 0


@dataclass(slots=True)
class Habits:
    """What a device does wrong in this round; shares between 0 and 1.

    Attributes:
        takeover: Leaves the old connection open when it makes a new one.
        forget: Has lost its memory when it connects.
        withhold: Does not acknowledge a frame.
    """

    takeover: float = 0.3
    forget: float = 0.08
    withhold: float = 0.0


@dataclass(frozen=True, slots=True)
class Firmware:
    """What a device can do, and how it connects.

    Attributes:
        k, budget, max_qos, clock: As in its hello.
        qos: Of its subscription.
        persistent: Whether its session outlives its connections.
    """

    k: int = 8
    budget: int = DEFAULT_BUDGET
    max_qos: int = 1
    clock: bool = False
    qos: int = 1
    persistent: bool = True

    def replica(self, flash: Flash) -> Replica:
        """A replica at what the flash remembers."""
        replica = Replica(
            self.k, self.budget, self.max_qos, "", self.clock, flash.epoch, flash.seq, flash.window
        )
        replica.k = flash.k
        return replica


@dataclass(frozen=True, slots=True)
class Flash:
    """What a device remembers over a power cut."""

    epoch: int = 0
    seq: int = 0
    k: int = 8
    window: tuple[FeedItem, ...] = field(default_factory=tuple)
