"""What a run sees of its fleet: every frame of a sample of devices goes to the judge, urgent items are timed.

Judging costs tens of microseconds for each frame, and at rest it looks at each device and each live item. So it judges
a fixed sample, drawn once; that every device shows its feed (G2), and that none gets what is another's (G6), is looked at
for all.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from devices.frames import BadFrame, decode_frame
from simulator.checker import URGENT, Checker, items_of
from simulator.tally import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from devices.replica import Received
    from simulator.facts import Content, Finding


class _Awaited(NamedTuple):
    """An urgent item on its way: when it was sent, who has not got it yet, and where its times go."""

    sent: float
    there: set[str]
    times: Histogram


class Sight:
    """An observer of a fleet; see the module and `simulator.fleet.Observer`.

    Args:
        checker: Who judges.
        sample: Devices that are judged.

    Attributes:
        there: Says which of them are connected now.
        dialled: Says when the present connection of one of them was begun (`time.perf_counter`).
        phase: Says the name of the present phase.
        urgent: Seconds from publishing an urgent item to the window of a judged device that was connected then, by the
            phase in which it was published.
    """

    def __init__(self, checker: Checker, sample: Collection[str]) -> None:
        self.there: Callable[[], set[str]] = set
        self.dialled: Callable[[str], float] = _always
        self.phase: Callable[[], str] = str
        self.urgent: dict[str, Histogram] = {}
        self._fresh = Histogram()
        self._checker = checker
        self._sample = frozenset(sample)
        self._waiting: dict[str | bytes, _Awaited] = {}

    def published(self, content: Content) -> None:
        """An item goes out now."""
        if content.priority == URGENT and not content.retract:
            times = self.urgent.setdefault(self.phase(), Histogram())
            awaited = _Awaited(time.perf_counter(), self.there(), times)
            for text in {content.payload, content.brief or content.payload}:
                self._waiting[text] = awaited

    def all_urgent(self) -> Histogram:
        """The times of all phases."""
        found = Histogram()
        for times in self.urgent.values():
            found.merge(times)
        return found

    def take_urgent(self) -> Histogram:
        """The times of those that arrived since the last call."""
        found, self._fresh = self._fresh, Histogram()
        return found

    # ---- What the fleet calls

    def frame(
        self,
        device: str,
        topic: str,
        data: bytes,
        received: Received | None,
        *,
        late: bool = False,
    ) -> None:
        """A device received a PUBLISH."""
        if device not in self._sample:
            return
        self._checker.frame(device, topic, data, received, late=late)
        if self._waiting:
            self._time(device, data)

    def dismissed(self, device: str, n: int) -> None:
        """A device has sent that an item was dismissed."""
        if device in self._sample:
            self._checker.dismissed(device, n)

    def profile(
        self, device: str, follow: Sequence[str], attributes: Mapping[str, object]
    ) -> Callable[[], None]:
        """A device says all that it follows and is."""
        if device in self._sample:
            return self._checker.profile(device, follow, attributes)
        return _nothing

    def report(self, finding: Finding) -> None:
        """Something that a device could judge alone."""
        self._checker.report(finding)

    def _time(self, device: str, data: bytes) -> None:
        try:
            frame = decode_frame(data)
        except BadFrame:  # the judge has found it
            return
        for item in items_of(frame) if frame is not None else ():
            awaited = self._waiting.get(item.payload)
            if awaited is not None and device in awaited.there:
                awaited.there.discard(device)
                if self.dialled(device) > awaited.sent:
                    continue  # it was lost on the way, with the connection: that is in the wake-up
                took = time.perf_counter() - awaited.sent
                awaited.times.add(took)
                self._fresh.add(took)


def _always(device: str) -> float:  # noqa: ARG001 - of a device
    """The connection was there from the beginning."""
    return 0.0


def _nothing() -> None:
    """An acknowledgement that nobody waits for."""
