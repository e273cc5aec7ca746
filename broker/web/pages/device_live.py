"""What is told to those who look at a device: how it does, its window and why, its frames.

All who look at one device are told the same, and it is worked out once for them; for a device that nobody
looks at nothing is.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.exceptions import HTTPException

from broker.control import ControlError
from broker.explanations import explaining
from broker.web.pages.device_facts import facts
from broker.web.pages.frames_seen import FramesSeen
from broker.web.pages.payloads import readable
from broker.web.streams import Audience, EventStream, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.web.pages.frames_seen import Look
    from broker.web.subject import Subject

logger = logging.getLogger(__name__)

MOST_DEVICES = 32
"""Devices that can be looked at, at one time."""

MOST_VIEWERS = 8
"""Of one device."""

_ROOM = 16
"""Events that may wait for a viewer."""

_LINGERS = 60.0
"""Seconds that frames are gathered after the last viewer left: who reloads the page finds them again."""

_TOGETHER = 0.1
"""Seconds between two events: what happens meanwhile is told at once."""

_SHARE = 0.05
"""Of the time, what explaining may take: a long window that changes often is explained less often."""

_NO_ROW = b"-"
"""In the place of a window, of a device that has none here."""

_WINDOW_EVERY = 15.0
"""Seconds after which an unchanged window is explained again: scores are learned on."""


async def window(subject: Subject, device: str) -> dict[str, Any] | None:
    """A device's window, each item with why it has its rank; None if it has none now.

    As `explain` answers, with payloads in a form for people. Other than there, the loop has its turn
    between any two items: what a model has learned takes a while to explain, and nobody may wait for it.
    """
    service = subject.service
    live, learning = service.roster.get(device), service.learning
    shown = dict(service.window(device) or ())
    if live is None:
        return None
    ranking = None if learning is None else learning.ranking
    items = []
    for item in explaining(live, service.engine, ranking, service.now()):
        record = service.engine.item(item["n"])
        if record is not None:
            item |= {
                "id": record.item.id,
                "priority": record.item.priority,
                "expires": record.expires,
                "payload": readable(shown.get(record.n, record.item.payload)),
            }
            items.append(item)
        await asyncio.sleep(0)
        if not service.roster.holds(live):
            return None
    return {"device": device, **_ranked_by(subject), "items": items}


def _ranked_by(subject: Subject) -> dict[str, Any]:
    learning = subject.service.learning
    if learning is None:
        return {"model": subject.config.ranking.model}
    ranking = learning.ranking
    return {"model": "learned", "rung": ranking.rung.name.lower(), "version": ranking.version}


class Shown:
    """One device that is looked at.

    Args:
        subject: Where.
        seen: What gathers frames.
        device: Which.
        on_end: Called when nobody looks at it any more, and has not for a while.
    """

    def __init__(
        self, subject: Subject, seen: FramesSeen, device: str, on_end: Callable[[Shown], None]
    ) -> None:
        self.device = device
        self.audience = Audience(MOST_VIEWERS, _ROOM, self._came_or_left)
        self._subject = subject
        self._seen = seen
        self._on_end = on_end
        self._look: Look = seen.begin(device)
        self._told: int | None = None
        self._window: bytes | None = None
        self._window_at = self._window_due = float("-inf")
        self._teller: asyncio.Task[None] | None = None
        self._ends: asyncio.TimerHandle | None = None
        self._linger()

    def end(self) -> None:
        """It is looked at no more."""
        if self._teller is not None:
            self._teller.cancel()
        if self._ends is not None:
            self._ends.cancel()
        for viewer in self.audience:
            viewer.end()
        self._seen.end(self._look)
        self._on_end(self)

    def _linger(self) -> None:
        self._ends = asyncio.get_running_loop().call_later(_LINGERS, self.end)

    def _came_or_left(self) -> None:
        if not len(self.audience):
            if self._teller is not None:
                self._teller.cancel()
                self._teller = None
            if self._ends is None:
                self._linger()
            return
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None
        # Whoever came has seen nothing yet; the others are told twice, which changes nothing for them.
        self._told = self._window = None
        self._window_due = float("-inf")
        self._look.wake.set()
        if self._teller is None:
            self._teller = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        """Tells what happens when it happens, and how the device does once in a while."""
        try:
            while True:
                refresh = self._subject.config.http.refresh
                self._look.wake.clear()
                self.audience.tell(await self._news())
                await asyncio.sleep(_TOGETHER)
                with suppress(TimeoutError):
                    async with asyncio.timeout(refresh):
                        await self._look.wake.wait()
        except ControlError as error:  # the device was removed
            self.audience.tell(encode({"error": str(error)}, "gone"))
        except Exception:
            logger.exception("the page of %s failed", self.device)
        self._teller = None  # who comes after this begins anew
        for viewer in self.audience:
            viewer.finish()

    async def _news(self) -> bytes:
        """What viewers have not been told yet, encoded."""
        news = [encode(await facts(self._subject, self.device), "state")]
        loop = asyncio.get_running_loop()
        began, slots = loop.time(), self._slots()
        changed = slots != self._window and began >= self._window_due
        if changed or began >= self._window_at + _WINDOW_EVERY:
            self._window, self._window_at = slots, began
            explained = await window(self._subject, self.device)
            if explained is None and slots != _NO_ROW:
                self._window = None  # it changed rows meanwhile
            news.append(encode(explained, "window"))
            self._window_due = began + (loop.time() - began) / _SHARE
        since, self._told = self._told, self._look.changed
        if since != self._told:
            news.append(encode({"frames": self._look.since(since or 0)}, "frames"))
        return b"".join(news)

    def _slots(self) -> bytes:
        """What tells one window from another."""
        service = self._subject.service
        live = service.roster.get(self.device)
        if live is None:
            return _NO_ROW
        rows = np.array([live.seat.row], np.int32)
        return bytes(service.engine.slots(live.seat.shelf, rows).tobytes())


class Devices:
    """All devices that are looked at.

    Args:
        subject: Where.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._seen = FramesSeen(subject.service)
        self._shown: dict[str, Shown] = {}

    def __len__(self) -> int:
        """How many there are, with those that somebody looked at until just now."""
        return len(self._shown)

    def end(self) -> None:
        """Nothing is looked at any more."""
        for shown in list(self._shown.values()):
            shown.end()

    def join(self, device: str) -> EventStream:
        """The answer to one more who wants to look at a device.

        Raises:
            ControlError: There is no such device.
            HTTPException: Too many look already.
        """
        if self._subject.registry.get(device) is None:
            raise ControlError(f"there is no device {device!r}; 'fleetfeed device list' shows all")
        shown = self._shown.get(device)
        if shown is None:
            self._make_room()
            shown = self._shown[device] = Shown(self._subject, self._seen, device, self._over)
        return shown.audience.join()

    def frames(self, device: str) -> list[dict[str, Any]]:
        """The last frames of a device, as far as somebody looks at it."""
        return self._seen.frames(device)

    def _make_room(self) -> None:
        if len(self._shown) < MOST_DEVICES:
            return
        idle = next((each for each in self._shown.values() if not len(each.audience)), None)
        if idle is None:
            raise HTTPException(
                503, f"{MOST_DEVICES} devices are looked at already: close some of these pages"
            )
        idle.end()

    def _over(self, shown: Shown) -> None:
        self._shown.pop(shown.device, None)
