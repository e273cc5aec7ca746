"""How a population changes: who is concerned, from when on, and how far the change has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

DAY = 86_400.0
_STEPS = 32
"""A gradual change goes on in this many steps: interests are computed anew at each."""


class Kind(StrEnum):
    """The shapes that the literature on drift tells apart (Gama et al., ACM Computing Surveys 2014), and a drop."""

    SUDDEN = "sudden"
    """Interests are other ones from one moment to the next."""
    GRADUAL = "gradual"
    """Interests turn into others little by little."""
    RECURRING = "recurring"
    """Other interests for half of each period, the old ones for the other half."""
    DROP = "drop"
    """Interests stay, but everything is opened less."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One change.

    Attributes:
        kind: Its shape.
        share: Of all people, who is concerned: 0 to 1.
        at: Unix seconds; nothing is different before.
        until: Unix seconds; everything is as it was from then on.
        over: Seconds that a gradual change takes; the period of a recurring one.
        by: Share of opens that a drop takes away: 0 to 1.
    """

    kind: Kind
    share: float
    at: float
    until: float = inf
    over: float = DAY
    by: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.by <= 1:
            raise ValueError(f"share {self.share} and by {self.by} of a drift are shares: 0 to 1")
        if not self.over > 0 or not self.until > self.at:
            raise ValueError(
                f"a drift takes time: over {self.over}, from {self.at} until {self.until}"
            )

    def extent(self, now: float) -> float:
        """Returns how far the change has come: 0 not at all, 1 entirely."""
        if not self.at <= now < self.until:
            return 0.0
        passed = (now - self.at) / self.over
        match self.kind:
            case Kind.GRADUAL:
                return min(int(passed * _STEPS) / _STEPS, 1.0)
            case Kind.RECURRING:
                return 1.0 if passed % 1.0 < 0.5 else 0.0
            case Kind.SUDDEN | Kind.DROP:
                return 1.0
