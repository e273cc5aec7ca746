"""What a fault cost those who had no part in it: how long they went without what they are there for. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from simulator.bounds import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Absence:
    """What a round cost healthy clients; seconds.

    Attributes:
        failovers: For each device that was at what failed, from the fault until the device showed something that
            was published after it.
        without_items: The longest time that a device showed nothing new, while something new was
            published all the time.
        without_accept: The longest time until an item was acknowledged.
        without_connection: The longest time from a lost connection to the next one that was accepted.
    """

    failovers: tuple[float, ...] = ()
    without_items: float = 0.0
    without_accept: float = 0.0
    without_connection: float = 0.0


class Attendance:
    """Collects what healthy clients see in one round. Times are of one monotonic clock.

    Args:
        devices: Their names.
        now: When the round begins.
    """

    def __init__(self, devices: Iterable[str], now: float) -> None:
        self._shown: dict[str, list[tuple[float, float]]] = {device: [] for device in devices}
        self._struck: dict[str, float] = {}
        self._began = now
        self.without_accept = 0.0
        self.without_connection = 0.0

    def shown(self, device: str, published: float, now: float) -> None:
        """A device shows an item."""
        self._shown[device].append((published, now))

    def struck(self, devices: Iterable[str], now: float) -> None:
        """What these devices are connected to fails; the first time counts."""
        for device in devices:
            self._struck.setdefault(device, now)

    def end(self, now: float) -> Absence:
        """What it came to by now."""
        return Absence(
            tuple(
                min((seen for sent, seen in self._shown[device] if sent >= at), default=now) - at
                for device, at in self._struck.items()
            ),
            max((self._longest(times, now) for times in self._shown.values()), default=0.0),
            self.without_accept,
            self.without_connection,
        )

    def _longest(self, shown: list[tuple[float, float]], now: float) -> float:
        times = [self._began, *sorted(seen for _, seen in shown), now]
        return max(later - earlier for earlier, later in pairwise(times))


@dataclass(slots=True)
class Absences:
    """What all rounds cost, by the fault that each was about."""

    of: defaultdict[str, list[Absence]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, absence: Absence) -> None:
        """One round more."""
        self.of[kind].append(absence)

    def table(self) -> Mapping[str, Mapping[str, float | int | None]]:
        """By kind: how many rounds, failover median and p99, and the longest of everything."""
        return {kind: _figures(found) for kind, found in sorted(self.of.items())}


def _figures(found: list[Absence]) -> dict[str, float | int | None]:
    failovers = [each for one in found for each in one.failovers]
    return {
        "rounds": len(found),
        "failovers": len(failovers),
        "failover_p50_s": _rounded(quantile(failovers, 0.5)),
        "failover_p99_s": _rounded(quantile(failovers, 0.99)),
        "without_items_s": _rounded(max(one.without_items for one in found)),
        "without_accept_s": _rounded(max(one.without_accept for one in found)),
        "without_connection_s": _rounded(max(one.without_connection for one in found)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
