"""Emptying a server before it stops: its clients go elsewhere a few at a time, not all at once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.lane.listener import Lane

logger = logging.getLogger(__name__)

_STEP = 0.05
"""Seconds between two batches."""


async def drain(lane: Lane, seconds: float, hurry: asyncio.Event) -> None:
    """Closes the ports, and every connection in batches spread over `seconds`.

    What each client held is let go while the next ones are still served. Who connects to another node
    meanwhile meets one that takes in a trickle, not a flood.

    Args:
        lane: Whose connections they are.
        seconds: How long it may take.
        hurry: Ends the patience: the rest is left to whoever stops the server.
    """
    lane.close_ports()
    waiting = lane.clients()
    if not waiting:
        return
    logger.info("draining %d connections over %g s", len(waiting), seconds)
    loop = asyncio.get_running_loop()
    began, closed = loop.time(), 0
    while closed < len(waiting) and not hurry.is_set():
        part = (loop.time() - began + _STEP) / seconds if seconds else 1.0
        due = min(len(waiting), round(part * len(waiting)))
        for connection in waiting[closed:due]:
            connection.close("drained", keep_will=False)
        closed = max(closed, due)
        try:
            async with asyncio.timeout(_STEP):
                await hurry.wait()
        except TimeoutError:
            continue
