"""One timer for all links of a process.

A heap of alarms and a single timer of the event loop: ten thousand devices whose links are empty cost nothing, and
one that waits for bytes costs an entry in a list.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from math import inf
from typing import Final, Protocol

_TICK: Final = 0.001
"""Seconds by which the timer is late on purpose, so that what is due together is done together; never early."""


class Sleeper(Protocol):
    """Who wants to be woken.

    Attributes:
        alarm: When that is; infinity = not at all. `Clockwork` alone sets it.
    """

    alarm: float

    def wake(self, now: float) -> None:
        """The time has come; whoever wants another alarm asks for it."""

    def drop(self) -> None:
        """The clockwork has stopped, so the time will not come."""


class Clockwork:
    """Wakes sleepers, each at most once per request.

    Used on one event loop only.

    Args:
        speed: How many times as fast as this clock the devices' schedules run. Links do not: what a real server
            sends is not in a hurry.
    """

    __slots__ = ("_asked", "_heap", "_loop", "_stopped", "_timer", "_timer_at", "speed")

    def __init__(self, speed: float = 1.0) -> None:
        if not 0 < speed < inf:
            raise ValueError(f"the speed of a clockwork is {speed}, but must be more than 0")
        self.speed = speed
        self._heap: list[tuple[float, int, Sleeper]] = []
        self._asked = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._stopped = False

    def time(self) -> float:
        """Seconds of the event loop's clock."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def ask(self, sleeper: Sleeper, at: float) -> None:
        """Wakes `sleeper` at a time, or sooner if it asked for that before."""
        if self._stopped:
            sleeper.drop()
            return
        if at >= sleeper.alarm:
            return
        sleeper.alarm = at
        self._asked += 1  # orders what is due at the same moment, and spares comparing sleepers
        heappush(self._heap, (at, self._asked, sleeper))
        self._arm()

    def stop(self) -> None:
        """Wakes nobody any more: connections that linger on links, although their devices have closed them, end."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        heap, self._heap = self._heap, []
        for _, _, sleeper in heap:
            sleeper.drop()

    def _arm(self) -> None:
        if not self._heap or self._heap[0][0] >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.time()
        assert self._loop is not None
        self._timer_at = self._heap[0][0]
        self._timer = self._loop.call_at(self._timer_at + _TICK, self._ring)

    def _ring(self) -> None:
        assert self._loop is not None
        self._timer, self._timer_at = None, inf
        now = self._loop.time()
        # What is asked for meanwhile waits for the next ring: other callbacks of the loop want their turn.
        for _ in range(len(self._heap)):
            if not self._heap or self._heap[0][0] > now:
                break
            at, _, sleeper = heappop(self._heap)
            if sleeper.alarm != at:
                continue  # asked for something sooner since
            sleeper.alarm = inf
            try:
                sleeper.wake(now)
            except Exception as error:  # noqa: BLE001 - as the loop does: one device's fault is not the others'
                self._loop.call_exception_handler(
                    {"message": "a device on a link failed", "exception": error}
                )
        self._arm()
