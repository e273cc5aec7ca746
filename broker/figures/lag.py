"""How late the event loop is: a timer says when it should have fired, and when it did."""

from __future__ import annotations

import asyncio
from time import monotonic

from broker.figures.histogram import Histogram

_EVERY = 0.1


class LoopLag:
    """Measures the running loop ten times a second.

    Attributes:
        lags: What was measured.
    """

    def __init__(self) -> None:
        self.lags = Histogram()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begins; needs a running loop."""
        # Not by the loop's own clock: that of uvloop knows whole milliseconds only.
        self._due = monotonic() + _EVERY
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._fire)

    def _fire(self) -> None:
        self.lags.add(max(monotonic() - self._due, 0.0))
        self.start()

    def stop(self) -> None:
        """Ends."""
        if self._timer is not None:
            self._timer.cancel()
