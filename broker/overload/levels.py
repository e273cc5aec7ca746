"""Six levels of overload, what each gives up, and when they change.

The level rises by one at each look that calls for more as all of the last few did: one late timer is no
overload, and one slow commit, which is seen by every look until it ends, must not give up everything. It falls
one by one, too, and only after a while of calm, because what a level gave up is what made it calm; nor does one
late timer break that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

STEP = 1.35
"""How many times as high each level begins as the one before it."""

_CALM = 0.5
"""Share of a level's beginning that counts as calm."""


class Level(IntEnum):
    """How much is given up; each level also gives up what those before it do."""

    NORMAL = 0
    COALESCING = 1
    """Larger batches; changes of one device that come close together become one frame."""
    PLAIN = 2
    """No diversity within windows, no exploration."""
    TOPIC_ONLY = 3
    """Items rank the same for every device."""
    HOLDING = 4
    """Items of low and normal priority wait; they go on as far as the engine has time, the best first."""
    CHOKING = 5
    """Publishers that send most are not read."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What the data path does at a level.

    Attributes:
        batch: Items that one turn of work gives to the engine.
        coalesce: Seconds that changes may wait for others of the same device; urgent ones never do.
        diverse: Whether windows are diverse and new items are tried out.
        personal: Whether items are ranked for each device.
        admit: The lowest priority that goes to the engine at once.
        choke: Whether some publishers are not read.
    """

    batch: int
    coalesce: float
    diverse: bool = True
    personal: bool = True
    admit: int = 0
    choke: bool = False


EFFECTS = (
    Effects(batch=500, coalesce=0.0),
    Effects(batch=1000, coalesce=0.02),
    Effects(batch=1000, coalesce=0.1, diverse=False),
    Effects(batch=1000, coalesce=0.25, diverse=False, personal=False),
    Effects(batch=1000, coalesce=0.5, diverse=False, personal=False, admit=2),
    Effects(batch=1000, coalesce=1.0, diverse=False, personal=False, admit=2, choke=True),
)
"""By level."""


def begins(level: int) -> float:
    """The pressure at which a level begins; 0 for `NORMAL`."""
    return STEP ** (level - 1) if level else 0.0


def level_at(pressure: float) -> Level:
    """The level that one look calls for."""
    return max(level for level in Level if pressure >= begins(level))


class Levels:
    """The present level.

    Args:
        samples: Looks in a row that must call for more.
        calm: Seconds of calm after which it falls by one.
        now: Seconds on any clock that does not go back; likewise below.

    Attributes:
        level: The present one.
        since: When it began.
    """

    __slots__ = ("_calm", "_calm_since", "_looks", "_pressure", "level", "since")

    def __init__(self, *, samples: int, calm: float, now: float) -> None:
        self.level = Level.NORMAL
        self.since = now
        self._calm = calm
        self._looks: deque[Level] = deque(maxlen=samples)
        self._calm_since: float | None = None
        self._pressure = 0.0  # of the look before

    @property
    def effects(self) -> Effects:
        """What the present level does."""
        return EFFECTS[self.level]

    def adopt(self, *, samples: int, calm: float) -> None:
        """Goes by other settings from now on."""
        self._looks = deque(self._looks, maxlen=samples)
        self._calm = calm

    def end(self, now: float) -> bool:
        """Gives up nothing any more; whether the level has changed by it."""
        self._looks.clear()
        return self.level is not Level.NORMAL and self._go_to(Level.NORMAL, now)

    def observe(self, pressure: float, now: float) -> bool:
        """Takes one look; whether the level has changed by it."""
        self._looks.append(level_at(pressure))
        lasting, self._pressure = min(pressure, self._pressure), pressure
        if len(self._looks) == self._looks.maxlen and min(self._looks) > self.level:
            return self._go_to(Level(self.level + 1), now)
        if not self.level or lasting >= _CALM * begins(self.level):
            self._calm_since = None
            return False
        if self._calm_since is None:
            self._calm_since = now
        return now - self._calm_since >= self._calm and self._go_to(Level(self.level - 1), now)

    def _go_to(self, level: Level, now: float) -> bool:
        self.level, self.since = level, now
        self._calm_since = None
        return True
