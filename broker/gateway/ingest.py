"""What comes from the broker for all workers: items, and what devices say, through one session of each.

The sessions are the broker's, kept by names that all workers know, so whoever takes over goes on where the
one before was: what that had not acknowledged comes again. Of several workers one is elected. What a device
says must stay in order, which a subscription that workers share would not keep; and what a broker has given
to one member of a shared subscription it gives to no other when that one is gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from broker.gateway.link import UplinkRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.gateway.uplink import Uplink
    from devices.packets import Publish
    from feedgen.store.shared import SharedStore

    Take = Callable[[Publish, Callable[[], None]], None]

logger = logging.getLogger(__name__)

LEASE = 5.0
"""Seconds that an election holds; it is renewed five times as often."""

_EVERY = LEASE / 5
_AT_ONCE = 0.01


class Taking:
    """Takes what one uplink brings, as `uplink.Taker`.

    Args:
        message: Takes a message.
        unlinked: Called when the connection is lost.
    """

    def __init__(self, message: Take, unlinked: Callable[[], None]) -> None:
        self.message = message
        self.unlinked = unlinked

    def linked(self) -> None:
        """Messages come."""

    def roomy(self) -> None:
        """Nothing is published there."""


class Ingest:
    """Two uplinks that bring everything, while they are wanted.

    Two, so that items can be left to the broker for a while when the store is behind, and acks not.

    Args:
        uplink: Makes one, of the last part of its name, its filter and its taker.
        prefix: What stands before all topics.
        item: Takes a message of a publisher.
        up: Takes a message of a device.
    """

    def __init__(
        self,
        uplink: Callable[[str, str, Taking], Uplink],
        prefix: str,
        item: Take,
        up: Take,
    ) -> None:
        self._uplink = uplink
        self._prefix = prefix
        self._item = item
        self._up = up
        self._paused = False
        self.lost = asyncio.Event()
        self.items: Uplink | None = None
        self.ups: Uplink | None = None

    @property
    def up(self) -> bool:
        """Whether the broker can bring everything."""
        return all(uplink is not None and uplink.up for uplink in (self.items, self.ups))

    async def start(self) -> None:
        """Connects, however long the broker is not there.

        Raises:
            UplinkRefused: It is there and refuses.
        """
        self.lost.clear()
        prefix = self._prefix
        self.ups = self._uplink("-up", f"{prefix}u/+", Taking(self._up, self.lost.set))
        self.items = self._uplink("-items", f"{prefix}items/#", Taking(self._item, self.lost.set))
        if self._paused:
            self.items.pause_reading()
        await self.ups.start()
        await self.items.start()

    async def stop(self) -> None:
        """Leaves the sessions to the broker, or to whoever takes over."""
        uplinks = [uplink for uplink in (self.items, self.ups) if uplink is not None]
        self.items = self.ups = None
        await asyncio.gather(*(uplink.stop() for uplink in uplinks))

    @property
    def paused(self) -> bool:
        """Whether items are left to the broker for now."""
        return self._paused

    def pause_items(self) -> None:
        """Reads no more items until `resume_items`."""
        self._paused = True
        if self.items is not None:
            self.items.pause_reading()

    def resume_items(self) -> None:
        """Reads on."""
        self._paused = False
        if self.items is not None:
            self.items.resume_reading()


class Election:
    """Has one of several workers ingest.

    While the store is away, whoever ingests goes on: nobody can be elected, unless the store is away from
    this worker alone. Then the one that is elected takes the sessions over, which ends our connections; we
    do not come back before we are elected again.

    Args:
        store: Where the lease is.
        ingest: What the elected one runs.
    """

    def __init__(self, store: SharedStore, ingest: Ingest) -> None:
        self._store = store
        self._ingest = ingest
        self._task: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Stands for election."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="election")

    async def stop(self) -> None:
        """Does no longer, and ingests nothing; the next one need not wait for the lease to end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        elected = self._running is not None
        await self._give_up()
        if elected and self._store.up:
            self._store.lease("ingest", _AT_ONCE)

    async def _run(self) -> None:
        renewal: asyncio.Future[int | None] | None = None
        while True:
            if renewal is None:
                renewal = self._store.lease("ingest", LEASE)
            await asyncio.wait({renewal}, timeout=_EVERY)
            elected = renewal.result() is not None if renewal.done() else None
            if renewal.done():
                renewal = None
            if elected is False or (elected is None and self._ingest.lost.is_set()):
                await self._give_up()
            elif elected and (self._running is None or self._running.done()):
                await self._give_up()
                logger.info("this worker takes in what comes from the broker")
                self._running = asyncio.get_running_loop().create_task(self._try())
            elif elected:
                self._ingest.lost.clear()
            await asyncio.sleep(_EVERY)

    async def _try(self) -> None:
        """Stays until it is ended; a refusal is told, and tried again with the next renewal."""
        try:
            await self._ingest.start()
            await asyncio.get_running_loop().create_future()
        except UplinkRefused as refused:
            logger.error("%s", refused)  # noqa: TRY400 (its text says everything)

    async def _give_up(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self._ingest.stop()
