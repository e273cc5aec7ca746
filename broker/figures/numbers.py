"""Where the numbers come from: counters and gauges of one server, as they are at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.figures import process
from broker.figures.catalog import FIGURES, Kind
from broker.figures.ranking import health
from broker.figures.surroundings import cluster, uplinks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.cluster.node import Node
    from broker.figures.surroundings import Links
    from broker.lane.exchange import Exchange
    from broker.lane.listener import Lane
    from broker.service import Service

    Numbers = dict[str, dict[str, float]]

_DROPPED_FRAMES = ("poison",)
_DROPPED_MESSAGES = ("outbox_full", "qos_0_away", "session_ended")


def gathered(
    service: Service,
    lane: Lane | None,
    exchange: Exchange | None,
    node: Node | None,
    links: Links | None,
    *,
    now: float,
    uptime: float,
) -> Numbers:
    """All counters and gauges that a server has, by name and value of the label.

    Args:
        service: The data path; the others are those of `Figures`.
        lane: The connections.
        exchange: The other topics.
        node: The server among others.
        links: The connections to another broker.
        now: Seconds, monotonic.
        uptime: Seconds since the start.
    """
    numbers: Numbers = {
        "fleetfeed_uptime_seconds": {"": uptime},
        **_process(),
        **_devices(service, lane),
        **_items(service),
        **_frames(service),
        **_engine(service),
        **_store(service),
        **_ranking(service, uptime),
        **_overload(service, now),
        **_dropped(service),
    }
    if lane is not None and exchange is not None:
        numbers |= _mqtt(service, lane, exchange)
    if node is not None:
        numbers |= cluster(node, service.learning)
    if links is not None:
        numbers |= uplinks(links)
    for name, values in numbers.items():
        figure = FIGURES[name]
        if figure.kind is Kind.COUNTER:
            numbers[name] = dict.fromkeys(figure.values, 0.0) | values
    return numbers


def _devices(service: Service, lane: Lane | None) -> Numbers:
    shelves = service.roster.shelves
    subscribed = sum(int(shelf.ledger.attached.sum()) for shelf in shelves)
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


def _items(service: Service) -> Numbers:
    counts = service.counters
    return {
        "fleetfeed_items_total": {**counts.items},
        "fleetfeed_items_rejected_total": {**counts.rejected},
        "fleetfeed_items_live": {"": len(service.catalog)},
        "fleetfeed_items_waiting": {"": service.items_waiting},
        "fleetfeed_up_messages_total": _without(counts.up, "events_counted", "hello_deferred"),
        "fleetfeed_feedback_total": {"": counts.up["events_counted"]},
    }


def _frames(service: Service) -> Numbers:
    frames = service.counters.frames
    ledgers = [shelf.ledger for shelf in service.roster.shelves]
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


def _engine(service: Service) -> Numbers:
    counts, sizes = service.engine.counters, service.engine.size
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


def _store(service: Service) -> Numbers:
    store, counters = service.store, service.counters
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


def _ranking(service: Service, uptime: float) -> Numbers:
    learning = service.learning
    if learning is None:
        return {}
    return {
        "fleetfeed_ranking_rung": {"": int(learning.ranking.rung)},
        "fleetfeed_ranking_version": {"": learning.ranking.version},
        "fleetfeed_ranking_total": {**service.counters.ranking},
        **health(learning.status(), uptime),
    }


def _overload(service: Service, now: float) -> Numbers:
    state = service.overload.state(now)
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


def _dropped(service: Service) -> Numbers:
    counters, learning = service.counters, service.learning
    return {
        "fleetfeed_dropped_total": {
            **counters.dropped,
            **({} if learning is None else learning.dropped),
        },
        "fleetfeed_closed_total": {**counters.closed},
        "fleetfeed_frames_dropped_total": _only(counters.dropped, *_DROPPED_FRAMES),
    }


def _mqtt(service: Service, lane: Lane, exchange: Exchange) -> Numbers:
    traffic, counters = lane.traffic, service.counters
    frames, frame_bytes = counters.frames["sent"], counters.frames["bytes"]
    away = len(lane.sessions) - traffic.clients
    subscribed = sum(int(shelf.ledger.attached.sum()) for shelf in service.roster.shelves)
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
        "fleetfeed_mqtt_unread_bytes": {"": lane.bytes_waiting},
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
