"""Streams of events to browsers (HTML, section 9.2, server-sent events), each of a bounded cost.

An `Audience` is all who watch one thing; what is told to it was encoded once. A viewer that does not take
what it is told is dropped, not waited for: its browser comes back by itself, and sees what is true then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

from broker.control import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from starlette.types import Receive, Scope, Send

HEARTBEAT = 15.0
"""Seconds of silence after which a viewer is sent a comment: proxies cut what is silent."""


def encode(value: Any, event: str = "") -> bytes:
    """One event: a JSON value, and the name that its listeners know it by."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + dumps(value) + b"\n\n"


class Viewer:
    """One who watches.

    Args:
        room: Events that may wait for it.
    """

    __slots__ = ("_room", "_something", "_waiting", "over")

    def __init__(self, room: int) -> None:
        self.over = False
        self._room = room
        self._waiting: deque[bytes] = deque()
        self._something = asyncio.Event()

    def tell(self, data: bytes) -> None:
        """Sends it an event; it is over for one that has no room left."""
        if len(self._waiting) >= self._room:
            self.end()
        elif not self.over:
            self._waiting.append(data)
            self._something.set()

    def finish(self) -> None:
        """What waits is sent, and nothing more."""
        self.over = True
        self._something.set()

    def end(self) -> None:
        """Nothing more is sent."""
        self._waiting.clear()
        self.finish()

    async def next(self) -> bytes:
        """What waits, or a comment after a while without; b"" when it is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT):
                await self._something.wait()
        data = b"".join(self._waiting)
        self._waiting.clear()
        if self.over:
            return data
        self._something.clear()
        return data or b": still here\n\n"


class Audience:
    """All who watch one thing.

    Args:
        limit: How many there may be.
        room: Events that may wait for one of them.
        on_change: Called when somebody came or left.
    """

    def __init__(
        self, limit: int = 32, room: int = 4, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._limit = limit
        self._room = room
        self._viewers: set[Viewer] = set()
        self._on_change = on_change

    def __len__(self) -> int:
        return len(self._viewers)

    def __iter__(self) -> Iterator[Viewer]:
        return iter(self._viewers)

    def tell(self, data: bytes) -> None:
        """Sends everybody an event, as `encode` made it."""
        for viewer in self._viewers:
            viewer.tell(data)

    def join(self, first: bytes = b"") -> EventStream:
        """The answer to one more who wants to watch.

        Args:
            first: What it is sent at once.

        Raises:
            HTTPException: There are too many already.
        """
        if len(self._viewers) >= self._limit:
            raise HTTPException(
                503, f"{self._limit} are watching already: close some of these pages"
            )
        viewer = Viewer(self._room)
        if first:
            viewer.tell(first)
        return EventStream(self, viewer)

    def enter(self, viewer: Viewer) -> None:
        """It watches from now on."""
        self._viewers.add(viewer)
        self._on_change()

    def leave(self, viewer: Viewer) -> None:
        """It does not any more."""
        self._viewers.discard(viewer)
        self._on_change()


class EventStream(Response):
    """The events of one viewer, until one of both sides ends it."""

    media_type = "text/event-stream"

    def __init__(self, audience: Audience, viewer: Viewer) -> None:
        self._audience = audience
        self._viewer = viewer
        self.status_code = 200
        self.background = None
        # The second keeps proxies from collecting events until they have a block.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends events as they come (ASGI)."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope["method"] == "HEAD":  # its answer has no body, so it would have no end
            await send(start)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        viewer = self._viewer
        watching = asyncio.create_task(_until_gone(receive, viewer))
        self._audience.enter(viewer)
        try:
            await send(start)
            while data := await viewer.next():
                # The port closes a connection that takes nothing for long, which ends this, too.
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._audience.leave(viewer)
            viewer.end()
            watching.cancel()


async def _until_gone(receive: Receive, viewer: Viewer) -> None:
    """Ends it for a viewer whose connection is lost: without, only the next event would tell."""
    while (await receive())["type"] != "http.disconnect":
        pass
    viewer.end()
