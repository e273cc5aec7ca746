"""Whether this process stood still: was stopped, swapped out, or carried to another machine.

What lies in the buffers of its connections then may be old: whoever sent it has meanwhile gone to another node,
sent it again there, and newer things after it. Nothing in a packet tells. So for a while after a standstill a node
takes no items: it closes the connection that one comes on, without an acknowledgement, and a publisher
that is still there comes back and sends it again. It lets nobody in either, as a CONNECT of then would take a
device away from the node that serves it now. What devices say that were here before needs no such care: if
they have moved, this node's claim is over, and the store refuses what they said here.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BEAT = 0.25

STANDSTILL = 1.5
"""Seconds without a beat that count. Publishers who give up a connection sooner number their items."""

WARY = 1.0
"""Seconds that it takes at most to read what lay in buffers."""


class Pulse:
    """Beats on the event loop from its making to `stop`.

    Args:
        clock: Monotonic seconds that go on while the process stands still; not the loop's, which may be
            older than the standstill for some callbacks.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._wary_until = float("-inf")
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(_BEAT, self._beat)

    def stood_still(self) -> bool:
        """Whether the process stood still, just now or a moment ago."""
        now = self._clock()
        if now - self._last > STANDSTILL:
            self._wary_until = now + WARY
            self._last = now
        return now < self._wary_until

    def stop(self) -> None:
        """No beat follows."""
        self._next.cancel()

    def _beat(self) -> None:
        self.stood_still()
        self._last = self._clock()
        self._next = self._loop.call_later(_BEAT, self._beat)
