"""How long items took to one device: its share of latency, wake-up and freshness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices.frames import Put, Remove, Snapshot
from simulator.checker import items_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devices.frames import Delta, FeedItem, Frame
    from simulator.tally import Arrivals, Tally


class Timing:
    """Times the frames of one device. All times are real seconds of one clock.

    Attributes:
        dialled: When the present connection was begun.
        newest: When the newest item in the window was published; 0 if that is not known of any.
    """

    __slots__ = ("_highest", "_removed_at", "_waking", "dialled", "newest")

    def __init__(self) -> None:
        self.dialled = 0.0
        self.newest = 0.0
        self._highest = 0  # the highest item number seen
        self._removed_at = 0.0  # when an item last left the window by an op of its own
        self._waking = False

    def dial(self, now: float) -> None:
        """A connection is begun."""
        self.dialled = now
        self._waking = True

    def applied(
        self,
        frame: Frame,
        window: Iterable[FeedItem],
        now: float,
        arrivals: Arrivals,
        tally: Tally,
    ) -> None:
        """A frame has made the window what it is."""
        if self._waking:
            self._waking = False
            if self._was_missed(frame, arrivals):
                tally.wake_up.add(now - self.dialled)
        if isinstance(frame, Snapshot):
            self._removed_at = now
            self._highest = max((item.n for item in frame.items), default=self._highest)
        else:
            self._delta(frame, len([*window]) - 1, now, arrivals, tally)
        known = (arrivals.published(item.payload) for item in window)
        self.newest = max((at for at in known if at is not None), default=0.0)

    def _was_missed(self, frame: Frame, arrivals: Arrivals) -> bool:
        """Whether the first frame of a connection is the answer to its hello, and not just the next news."""
        if isinstance(frame, Snapshot):
            return True
        published = (arrivals.published(item.payload) for item in items_of(frame))
        return any(at is None or at < self.dialled for at in published)

    def _delta(self, delta: Delta, last: int, now: float, arrivals: Arrivals, tally: Tally) -> None:
        """Times the items that a delta brings because they were published.

        Not those that were published long ago and move up because something left: an older number than one seen before,
        or the last place of a window, by an item that is older than the last removal. Nor what was published while
        there was no connection: that is in `wake_up`.
        """
        highest = self._highest
        for op in delta.ops:
            if isinstance(op, Remove):
                self._removed_at = now
            elif isinstance(op, Put) and op.item.n > highest:
                self._highest = max(self._highest, op.item.n)
                published = arrivals.published(op.item.payload)
                if published is None or published < self.dialled:
                    continue
                if op.rank < last or published >= self._removed_at:
                    tally.latency.add(now - published)
