"""An hourly budget: half of it at once, the other half over the hour.

A token bucket of depth d that is refilled at rate r lets d + 3600 r through in the worst hour. With
d = 3600 r = limit / 2 that is the limit, for every sixty minutes whenever they begin; a bucket as deep as
the limit would let through twice as much in its first hour.
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR = 3600.0


def depth(limit: float) -> float:
    """What can be spent at once."""
    return limit / 2


def refill(limit: float) -> float:
    """What comes back in a second."""
    return limit / 2 / HOUR


@dataclass(slots=True)
class Hourly:
    """One budget.

    Attributes:
        limit: For an hour; 0 = none.
        left: What can be spent; below 0 by what was sent before it was known to be too much.
        at: When that was true.
    """

    limit: float
    left: float
    at: float

    @classmethod
    def full(cls, limit: float, now: float) -> Hourly:
        """A budget of which nothing was spent."""
        return cls(limit, depth(limit), now)

    def change(self, limit: float, now: float) -> None:
        """There is another limit from now on: of what can be spent, the same share is left."""
        self._refill(now)
        share = self.left / depth(self.limit) if self.limit else 1.0
        self.limit, self.left = limit, share * depth(limit)

    def spend(self, amount: float, now: float) -> None:
        """Takes this much; the debt is never more than what can be spent at once."""
        if self.limit:
            self._refill(now)
            self.left = max(self.left - amount, -depth(self.limit))

    def open(self, now: float, least: float = 0.0) -> bool:
        """Whether anything may be spent, or at least so much."""
        if not self.limit:
            return True
        self._refill(now)
        return self.left > 0 and self.left >= least

    def _refill(self, now: float) -> None:
        self.left = min(self.left + (now - self.at) * refill(self.limit), depth(self.limit))
        self.at = now
