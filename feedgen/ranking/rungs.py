"""The rungs of the ladder, what is held against them, and why another one serves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Rung(IntEnum):
    """What may serve, best first."""

    LIVE = 0
    SNAPSHOT = 1
    POPULARITY = 2
    NEWEST = 3


class Reason(StrEnum):
    """Why another rung serves."""

    WORSE_THAN_PRIOR = "worse_than_prior"
    WORSE_THAN_LOWER = "worse_than_lower"
    MISCALIBRATED = "miscalibrated"
    DRIFT = "drift"
    UNAVAILABLE = "unavailable"
    WON_SHADOW = "won_shadow"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    OVERLOAD = "overload"
    RELIEVED = "relieved"
    FOLLOWS = "follows_the_trainer"


@dataclass(frozen=True, slots=True)
class Event:
    """Another rung serves.

    Attributes:
        t: Unix seconds.
        from_: what served.
        to: what serves.
        reason: why.
        numbers: what it was decided on; JSON.
    """

    t: float
    from_: Rung
    to: Rung
    reason: Reason
    numbers: dict[str, float]


@dataclass(slots=True)
class Standing:
    """What is held against a rung, and since when nothing was.

    Attributes:
        fault: why it may not serve.
        uncalibrated: windows in a row, up to the last, that were out of calibration.
        drifting: likewise with the drift alarm on.
        well_events: events since anything was held against it.
        well_since: Unix seconds of the end of the first window after that.
    """

    fault: Reason | None = None
    uncalibrated: int = 0
    drifting: int = 0
    well_events: int = 0
    well_since: float | None = None

    @property
    def well(self) -> bool:
        """Whether nothing at all speaks against the rung; a fault needs more to come about."""
        return self.fault is None and not self.uncalibrated and not self.drifting
