"""When devices sleep, wake and start: pure arithmetic, no clock.

Simulated seconds pass `speed` times as fast as real ones. Links are real sockets and are not sped up, which is why a
device may not always go to sleep as early as its schedule says (see `Sleep.over`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

QUIET = 1.0
"""Real seconds without a packet after which a device that wants to sleep takes its work for done."""

PATIENCE = 30.0
"""Real seconds after which it sleeps in any case."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """A duty cycle: awake for `awake` seconds out of each `period`. Simulated seconds since the fleet's start.

    Attributes:
        period: From one waking to the next.
        awake: How long a device stays awake, connecting included.
        offset: When it wakes for the first time; it sleeps until then.

    Raises:
        ValueError: `awake` is not within the period, or `offset` is negative.
    """

    period: float
    awake: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.awake <= self.period:
            raise ValueError(f"awake for {self.awake:g} s of a period of {self.period:g} s")
        if self.offset < 0:
            raise ValueError(f"an offset of {self.offset:g} s")

    def awake_at(self, elapsed: float) -> bool:
        """Whether the schedule says that a device is awake."""
        return elapsed >= self.offset and (elapsed - self.offset) % self.period < self.awake

    def woke(self, elapsed: float) -> float:
        """When it woke last, or will wake first."""
        return self.offset + max(floor((elapsed - self.offset) / self.period), 0) * self.period

    def wakes(self, elapsed: float) -> float:
        """When it wakes next, later than `elapsed`."""
        if elapsed < self.offset:
            return self.offset
        return self.woke(elapsed) + self.period

    def over(self, awake: float, real: float, quiet: float) -> bool:
        """Whether a device that is awake may sleep now.

        Its time has to be over. Where simulated time is fast, that may be before its link has brought anything: then it
        waits until nothing came for `QUIET` seconds, but never longer than `awake` or `PATIENCE` real seconds.

        Args:
            awake: Simulated seconds since it woke.
            real: Real seconds since it woke.
            quiet: Real seconds since it heard something, 0 while it is not subscribed.
        """
        done = quiet >= QUIET or real >= min(self.awake, PATIENCE)
        return awake >= self.awake and done


def ramp(count: int, over: float, rng: Random) -> list[float]:
    """When each of `count` devices starts, seconds from now in order of the devices.

    Evenly spread over `over` seconds, in random order and with jitter: one device in each of `count` equal parts
    (stratified sampling), as independent draws would leave gaps and heaps that are nobody's intention.
    """
    if over <= 0:
        return [0.0] * count
    times = [(place + rng.random()) * over / count for place in range(count)]
    rng.shuffle(times)
    return times
