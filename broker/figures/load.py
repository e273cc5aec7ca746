"""Load as Mosquitto tells it: events per minute, averaged over 1, 5 and 15 minutes.

Each average decays exponentially, as the load average of Unix does: after `n` seconds with a rate of `r`,
`new = r + e^(-n / window) * (old - r)` (mosquitto, `sys_tree.c`, `calc_load`).
"""

from __future__ import annotations

from math import exp

WINDOWS = (("1min", 60.0), ("5min", 300.0), ("15min", 900.0))
"""Names of the averages, and their windows in seconds."""


class LoadAverage:
    """Averages of one counter.

    Args:
        now: Seconds on any clock that does not go back.
        total: The counter at that moment.
    """

    __slots__ = ("_at", "_total", "_values")

    def __init__(self, now: float, total: float = 0.0) -> None:
        self._at = now
        self._total = total
        self._values = [0.0] * len(WINDOWS)

    def update(self, now: float, total: float) -> tuple[float, ...]:
        """The counter stands here now; events per minute over each of `WINDOWS`."""
        passed = now - self._at
        if passed > 0:
            rate = (total - self._total) * 60.0 / passed
            self._values = [
                rate + exp(-passed / window) * (value - rate)
                for value, (_, window) in zip(self._values, WINDOWS, strict=True)
            ]
            self._at, self._total = now, total
        return tuple(self._values)
