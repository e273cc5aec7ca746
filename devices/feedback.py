"""Feedback of one device that is collected until it is sent, in as few messages as it takes."""

from __future__ import annotations

from dataclasses import replace

from devices.frames import Event, Feedback, Kind

_MOST = 512
"""Events kept while there is no connection; the oldest go first."""
_PER_MESSAGE = 120
"""Events that fit an up message of 2 KiB even if each has its longest form of 17 bytes."""


class PendingFeedback:
    """Events that wait to be sent; one per item and kind, as the server counts no more.

    Of several dwells the longest counts, of other events the first.
    """

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: dict[tuple[int, Kind], tuple[Event, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, event: Event, now: float) -> None:
        """Keep `event`, which happened at `now` (seconds of the caller's clock)."""
        key = event.n, event.kind
        held = self._events.get(key)
        if held is not None:
            longer = event.kind is Kind.DWELL and (event.value or 0) > (held[0].value or 0)
            if not longer:
                return
        self._events[key] = event, now
        if len(self._events) > _MOST:
            del self._events[next(iter(self._events))]

    def take(self, now: float) -> list[Feedback]:
        """All that is kept, with its age at `now`, as messages that the server takes."""
        events = [
            replace(event, age=int(now - since)) if now - since >= 1 else event
            for event, since in self._events.values()
        ]
        self._events.clear()
        return [
            Feedback(tuple(events[start : start + _PER_MESSAGE]))
            for start in range(0, len(events), _PER_MESSAGE)
        ]
