"""One look at a server: all figures at the same moment, made once for everybody who wants them.

A look costs the same however many devices there are, but for a few sums over the columns of the ledgers, and
at one of several servers over the devices that it holds. It is taken at most once a second: who asks again
sooner gets the same one, so that `$SYS`, Prometheus and a page never tell different numbers, and cost no more
together than one of them alone. What is looked at is in `numbers`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from typing import TYPE_CHECKING

from broker.figures.catalog import FIGURES
from broker.figures.histogram import NOTHING, Distribution
from broker.figures.lag import LoopLag
from broker.figures.load import LoadAverage
from broker.figures.numbers import gathered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.cluster.node import Node
    from broker.figures.numbers import Numbers
    from broker.figures.surroundings import Links
    from broker.lane.exchange import Exchange
    from broker.lane.listener import Lane
    from broker.service import Service

    Distributions = Mapping[str, Distribution]

FRESH = 1.0
"""Seconds for which a look is good enough for everybody."""

RECENT = 60.0
"""Seconds that count as recent, at least: what quantiles are of."""
_KEPT_EVERY = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was seen at one moment. Figures that a server does not have are not in it.

    Attributes:
        at: Seconds on the monotonic clock.
        version: fleetfeed's.
        numbers: Counters and gauges: by name, then by the value of the label, "" without one.
        totals: Histograms by name, since the start.
        recent: The same of about the last minute.
        loads: Events per minute, averaged over each of `load.WINDOWS`: by name and value of the label
            ("" = all together), of those figures that have such leaves.
    """

    at: float
    version: str
    numbers: Mapping[str, Mapping[str, float]]
    totals: Distributions
    recent: Distributions
    loads: Mapping[tuple[str, str], tuple[float, ...]]

    def number(self, name: str, of: str = "") -> float:
        """A counter or gauge; all values of its label together if none is named."""
        values = self.numbers[name]
        return values.get(of, 0) if of else sum(values.values())


def release() -> str:
    """The version of fleetfeed that runs."""
    try:
        return version("fleetfeed")
    except PackageNotFoundError:
        return "unknown"


class Figures:
    """Takes looks at one server.

    Args:
        service: The data path.
        lane: The connections; None where devices are connected to another broker.
        exchange: The other topics; None likewise.
        clock: Seconds, monotonic.
        node: The server among others; None if it is alone.
        links: The connections to another broker, where devices are connected to that.
    """

    def __init__(
        self,
        service: Service,
        lane: Lane | None = None,
        exchange: Exchange | None = None,
        clock: Callable[[], float] = monotonic,
        *,
        node: Node | None = None,
        links: Links | None = None,
    ) -> None:
        self.lag = LoopLag()
        self._service = service
        self._lane = lane
        self._exchange = exchange
        self._node = node
        self._links = links
        self._clock = clock
        self._began = clock()
        self._version = release()
        self._last: Reading | None = None
        self._former: deque[tuple[float, Distributions]] = deque()
        self._loads = {
            (figure.name, leaf.of): LoadAverage(self._began)
            for figure in FIGURES.values()
            for leaf in figure.leaves
            if leaf.per_minute
        }

    def start(self) -> None:
        """Begins to measure the loop."""
        self.lag.start()

    def stop(self) -> None:
        """Ends that."""
        self.lag.stop()

    def read(self) -> Reading:
        """The last look if it is fresh, else a new one."""
        now = self._clock()
        if self._last is None or now - self._last.at >= FRESH:
            self._last = self._look(now)
        return self._last

    # ---- A look

    def _look(self, now: float) -> Reading:
        numbers = self._numbers(now)
        totals = self._totals()
        found = Reading(now, self._version, numbers, totals, self._recent(now, totals), loads := {})
        for (name, of), load in self._loads.items():
            if name in numbers:
                loads[name, of] = load.update(now, found.number(name, of))
        return found

    def _numbers(self, now: float) -> Numbers:
        return gathered(
            self._service,
            self._lane,
            self._exchange,
            self._node,
            self._links,
            now=now,
            uptime=now - self._began,
        )

    def _totals(self) -> Distributions:
        service = self._service
        times = service.sending.times
        return {
            "fleetfeed_publish_to_frame_seconds": times.to_frame.read(),
            "fleetfeed_publish_to_ack_seconds": times.to_ack.read(),
            "fleetfeed_device_ack_seconds": times.device.read(),
            "fleetfeed_commit_seconds": service.commits.read(),
            "fleetfeed_engine_chunk_seconds": service.chunks.read(),
            "fleetfeed_loop_lag_seconds": self.lag.lags.read(),
        }

    def _recent(self, now: float, totals: Distributions) -> Distributions:
        """What came since the youngest of those looks that are old enough, or since the start."""
        former = self._former
        while len(former) > 1 and now - former[1][0] >= RECENT:
            former.popleft()
        before: Distributions = {}
        if former and now - former[0][0] >= RECENT:
            before = former[0][1]
        if not former or now - former[-1][0] >= _KEPT_EVERY:
            former.append((now, totals))
        return {name: each.since(before.get(name, NOTHING)) for name, each in totals.items()}
