"""Connections are made a few at a time: a fleet that starts must not look like an attack."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from simulator.fleet.device import Device


class Dialler:
    """Makes connections, at most `at_once` at a time, in the order in which they were asked for.

    Each device waits at most once, so the queue is never longer than the fleet.

    Args:
        at_once: Connections being made at a time.
        connect: Makes one; what it raises has reached the device already.
    """

    __slots__ = ("_at_once", "_connect", "_tasks", "_waiting")

    def __init__(self, at_once: int, connect: Callable[[Device], Awaitable[None]]) -> None:
        self._at_once = at_once
        self._connect = connect
        self._waiting: deque[Device] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(self, device: Device) -> None:
        """Connects a device as soon as it is its turn; nothing happens if it is connected, or waits already."""
        if device.open or device.dialling:
            return
        device.dialling = True
        self._waiting.append(device)
        if len(self._tasks) < self._at_once:
            # A task per place, not per device: ten thousand coroutines would take more memory than the devices.
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Nobody is connected any more."""
        self._waiting.clear()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            device = self._waiting.popleft()
            try:
                await self._connect(device)
            except OSError:
                pass  # `Device.lost` was told
            finally:
                device.dialling = False
