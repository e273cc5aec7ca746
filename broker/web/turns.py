"""Who is answered when: all requests together have a share of the event loop's time, and no more.

The loop is that of devices and publishers. Without a bound, a few clients that ask again and again would be
an overload that the server meets by making feeds plainer.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

SHARE = 0.25
"""Of the loop's time, what answering may take."""

AT_ONCE = 0.25
"""Seconds of answering that nobody waits for: a page with all its files, by far."""


class Turns:
    """Lets requests in one after the other, as fast as the share allows."""

    def __init__(self) -> None:
        self._queue = asyncio.Lock()
        self._free_at = float("-inf")

    async def answer(self, answering: Callable[[], Awaitable[None]]) -> None:
        """Waits for its turn, and answers.

        Only the time counts in which it keeps the loop busy, not that in which it waits itself.
        """
        loop = asyncio.get_running_loop()
        async with self._queue:
            await asyncio.sleep(max(self._free_at - AT_ONCE / SHARE - loop.time(), 0.0))
        busy = Busy(answering())
        try:
            await busy
        finally:
            # A stream that goes on for days kept the loop busy for seconds, a little at a time.
            took = min(busy.seconds, AT_ONCE)
            self._free_at = max(self._free_at, loop.time()) + took / SHARE


class Busy:
    """Awaits something, and adds up the seconds in which that keeps the loop busy.

    Args:
        awaited: What.

    Attributes:
        seconds: Until now.
    """

    def __init__(self, awaited: Awaitable[None]) -> None:
        self.seconds = 0.0
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        """Does what it would do, one step between two waits after the other."""
        steps: Any = self._awaited.__await__()
        step, value = steps.send, None
        while True:
            began = perf_counter()
            try:
                waits_for = step(value)
            except StopIteration:
                return
            finally:
                self.seconds += perf_counter() - began
            try:
                step, value = steps.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001 - it is for what is awaited: a cancellation above all
                step, value = steps.throw, error
