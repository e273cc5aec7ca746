"""One look at a server: all figures at the same moment, made once for everybody who wants them.

A look costs the same however many devices there are, but for a few sums over the columns of the ledgers. It
is taken at most once a second: who asks again sooner gets the same one, so that `$SYS`, Prometheus and a page
never tell different numbers, and cost no more together than one of them alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from typing import TYPE_CHECKING

from broker.figures import process
from broker.figures.catalog import FIGURES, Kind
from broker.figures.histogram import NOTHING, Distribution
from broker.figures.lag import LoopLag
from broker.figures.load import LoadAverage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.lane.exchange import Exchange
    from broker.lane.listener import Lane
    from broker.service import Service

    Numbers = dict[str, dict[str, float]]
    Distributions = Mapping[str, Distribution]

FRESH = 1.0
"""Seconds for which a look is good enough for everybody."""

RECENT = 60.0
"""Seconds that count as recent, at least: what quantiles are of."""
_KEPT_EVERY = 10.0

_DROPPED_FRAMES = ("poison",)
_DROPPED_MESSAGES = ("outbox_full", "qos_0_away", "session_ended")


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
    """

    def __init__(
        self,
        service: Service,
        lane: Lane | None = None,
        exchange: Exchange | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.lag = LoopLag()
        self._service = service
        self._lane = lane
        self._exchange = exchange
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
        numbers: Numbers = {
            "fleetfeed_uptime_seconds": {"": now - self._began},
            **_process(),
            **self._devices(),
            **self._items(),
            **self._frames(),
            **self._engine(),
            **self._store(),
            **self._ranking(),
            **self._overload(now),
            **self._dropped(),
        }
        if self._lane is not None and self._exchange is not None:
            numbers |= self._mqtt(self._lane, self._exchange)
        for name, values in numbers.items():
            figure = FIGURES[name]
            if figure.kind is Kind.COUNTER:
                numbers[name] = dict.fromkeys(figure.values, 0.0) | values
        return numbers

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

    # ---- Where numbers come from

    def _devices(self) -> Numbers:
        service = self._service
        shelves = service.roster.shelves
        subscribed = sum(int(shelf.ledger.attached.sum()) for shelf in shelves)
        lane = self._lane
        connected = service.lane.connections if lane is None else lane.traffic.devices
        return {
            "fleetfeed_devices": {
                "total": len(service.registry),
                "connected": connected,
                "subscribed": subscribed,
                "silent": max(connected - subscribed, 0),
                "stalled": sum(shelf.stalled for shelf in shelves),
            },
            "fleetfeed_devices_waiting": {
                "": sum(int(each.allowances.waiting.sum()) for each in shelves if each.allowances)
            },
            "fleetfeed_device_rows": {"": len(service.roster)},
        }

    def _items(self) -> Numbers:
        service = self._service
        counts = service.counters
        return {
            "fleetfeed_items_total": {**counts.items},
            "fleetfeed_items_rejected_total": {**counts.rejected},
            "fleetfeed_items_live": {"": len(service.catalog)},
            "fleetfeed_items_waiting": {"": service.items_waiting},
            "fleetfeed_up_messages_total": _without(counts.up, "events_counted", "hello_deferred"),
            "fleetfeed_feedback_total": {"": counts.up["events_counted"]},
        }

    def _frames(self) -> Numbers:
        frames = self._service.counters.frames
        ledgers = [shelf.ledger for shelf in self._service.roster.shelves]
        return {
            "fleetfeed_frames_total": _only(frames, "sent", "acked", "resent", "snapshots"),
            "fleetfeed_frame_bytes_total": {"": frames["bytes"]},
            "fleetfeed_frame_operations_total": _only(frames, "puts", "removes", "moves"),
            "fleetfeed_frames_inflight": {
                "": sum(int(ledger.inflight.sum(dtype=int)) for ledger in ledgers)
            },
            "fleetfeed_frames_behind": {
                "": sum(int((ledger.behind & ledger.attached).sum()) for ledger in ledgers)
            },
        }

    def _engine(self) -> Numbers:
        counts, sizes = self._service.engine.counters, self._service.engine.size
        return {
            "fleetfeed_items_oversize_total": {"": counts["oversize"]},
            "fleetfeed_engine_rows_rebuilt_total": {"": counts["rebuilt"]},
            "fleetfeed_engine_items_rekeyed_total": {"": counts["rekeyed"]},
            "fleetfeed_engine_pending": {
                "jobs": sizes.jobs,
                "rows": sizes.pending,
                "rekeys": sizes.rekeys,
            },
        }

    def _store(self) -> Numbers:
        store, counters = self._service.store, self._service.counters
        return {
            "fleetfeed_store_up": {"": int(store.up)},
            "fleetfeed_store_errors_total": {"": store.errors},
            "fleetfeed_store_pending": {"": store.pending},
            "fleetfeed_errors_total": {
                "store": store.errors,
                "accept_failed": counters.dropped["accept_failed"],
                "ranking_save_failed": counters.ranking["save_failed"],
            },
        }

    def _ranking(self) -> Numbers:
        learning = self._service.learning
        if learning is None:
            return {}
        return {
            "fleetfeed_ranking_rung": {"": int(learning.ranking.rung)},
            "fleetfeed_ranking_version": {"": learning.ranking.version},
            "fleetfeed_ranking_total": {**self._service.counters.ranking},
        }

    def _overload(self, now: float) -> Numbers:
        state = self._service.overload.state(now)
        stopped = len(state.publishers_over_budget) + len(state.publishers_choked)
        return {
            "fleetfeed_overload_level": {"": state.level},
            "fleetfeed_overload_level_seconds": {"": state.seconds},
            "fleetfeed_overload_rises_total": {"": state.rises},
            "fleetfeed_overload_delay_seconds": {
                "loop_lag": state.delays.loop_lag,
                "oldest_item": state.delays.oldest_item,
            },
            "fleetfeed_overload_waiting_bytes": {"": state.delays.bytes_waiting},
            "fleetfeed_overload_held": {
                "items": state.items_held,
                "publishers": stopped,
                "connects": state.connects_waiting,
            },
            "fleetfeed_overload_held_bytes": {"": state.bytes_held},
            "fleetfeed_overload_items_total": {
                "expired": state.held_expired,
                "superseded": state.superseded,
            },
            "fleetfeed_overload_publishers_stopped_total": {**state.publishers_stopped},
            "fleetfeed_overload_connects_refused_total": {"": state.connects_refused},
        }

    def _dropped(self) -> Numbers:
        counters, learning = self._service.counters, self._service.learning
        return {
            "fleetfeed_dropped_total": {
                **counters.dropped,
                **({} if learning is None else learning.dropped),
            },
            "fleetfeed_closed_total": {**counters.closed},
            "fleetfeed_frames_dropped_total": _only(counters.dropped, *_DROPPED_FRAMES),
        }

    def _mqtt(self, lane: Lane, exchange: Exchange) -> Numbers:
        traffic, counters = lane.traffic, self._service.counters
        frames, frame_bytes = counters.frames["sent"], counters.frames["bytes"]
        away = len(lane.sessions) - traffic.clients
        subscribed = sum(int(shelf.ledger.attached.sum()) for shelf in self._service.roster.shelves)
        return {
            "fleetfeed_mqtt_bytes_total": {
                "received": traffic.bytes_received + 4 * traffic.pubacks,
                "sent": traffic.bytes_sent + frame_bytes,
            },
            "fleetfeed_mqtt_packets_total": {
                "received": traffic.packets_received + traffic.pubacks,
                "sent": traffic.packets_sent + frames,
            },
            "fleetfeed_mqtt_publishes_total": {
                "received": traffic.publishes_received,
                "sent": traffic.publishes_sent + frames,
            },
            "fleetfeed_mqtt_publish_bytes_total": {
                "received": traffic.publish_bytes_received,
                "sent": traffic.publish_bytes_sent + frame_bytes,
            },
            "fleetfeed_mqtt_publishes_dropped_total": _only(counters.dropped, *_DROPPED_MESSAGES),
            "fleetfeed_mqtt_connections_total": {**counters.connections},
            "fleetfeed_mqtt_sockets": {"": lane.connections},
            "fleetfeed_mqtt_clients": {
                "connected": traffic.clients,
                "disconnected": max(away, 0),
                "total": traffic.clients + max(away, 0),
            },
            "fleetfeed_mqtt_clients_max": {"": traffic.most_clients},
            "fleetfeed_mqtt_sessions_expired_total": {"": counters.dropped["session_expired"]},
            "fleetfeed_mqtt_subscriptions": {"": exchange.subscriptions + subscribed},
            "fleetfeed_mqtt_shared_subscriptions": {"": 0},
            "fleetfeed_mqtt_retained_messages": {"": exchange.retained_messages},
            "fleetfeed_mqtt_retained_bytes": {"": exchange.retained_bytes},
        }


def _process() -> Numbers:
    seen = process.look()
    return {
        "fleetfeed_process_rss_bytes": {"": seen.rss},
        "fleetfeed_process_rss_max_bytes": {"": seen.max_rss},
        "fleetfeed_process_cpu_seconds_total": {"": seen.cpu},
        "fleetfeed_process_open_files": {"": seen.files},
        "fleetfeed_process_max_files": {"": seen.max_files},
    }


def _only(counts: Mapping[str, int], *names: str) -> dict[str, float]:
    return {name: counts.get(name, 0) for name in names}


def _without(counts: Mapping[str, int], *names: str) -> dict[str, float]:
    return {name: count for name, count in counts.items() if name not in names}
