"""Every figure that operators see, once: what it is called, what it counts, and where it stands under `$SYS`.

Names follow Prometheus (base units, `_total` for counters). A figure with labels is one number for each of
their values; its leaves pick one of those, or add up all. Leaves of ours are `[a-z0-9_/]`, plain non-negative
decimals and no device ids, because the usual exporters read nothing else; those of Mosquitto have exactly the
names of its `sys_tree.c`, so that dashboards made for it show us.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.figures.load import WINDOWS
from feedgen.items import ItemError


class Kind(StrEnum):
    """What kind of number a figure is."""

    COUNTER = "counter"
    """Only grows, from 0 at the start of the process."""
    GAUGE = "gauge"
    """Is what it is at the moment."""
    HISTOGRAM = "histogram"
    """A distribution of durations."""


class Root(StrEnum):
    """Where leaves stand."""

    FEED = "$SYS/broker/feed/"
    MOSQUITTO = "$SYS/broker/"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One topic, or with `per_minute` three, made of a figure.

    Attributes:
        path: Behind the root.
        of: The value of the figure's label; "" adds all up.
        root: Whose it is.
        quantile: Of a histogram, over the last minute.
        scale: What the number is multiplied by.
        per_minute: Not the number, but how fast it grows, averaged over 1, 5 and 15 minutes.
        whole: Fractions are left out.
    """

    path: str
    of: str = ""
    root: Root = Root.FEED
    quantile: float | None = None
    scale: float = 1.0
    per_minute: bool = False
    whole: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that it has."""
        if not self.per_minute:
            return (self.path,)
        return tuple(f"{self.path}/{name}" for name, _ in WINDOWS)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing.

    Attributes:
        name: Its name, with its unit.
        kind: What kind of number it is.
        help: What it counts, in one line.
        label: What its numbers are told apart by; "" if it is only one.
        values: Those values of the label that are there from the start. Others come as they happen.
        leaves: Its topics.
    """

    name: str
    kind: Kind
    help: str
    label: str = ""
    values: tuple[str, ...] = ()
    leaves: tuple[Leaf, ...] = ()


def _mosquitto(path: str, of: str = "", *, per_minute: bool = False, whole: bool = False) -> Leaf:
    return Leaf(path, of, Root.MOSQUITTO, per_minute=per_minute, whole=whole)


def _quantiles(path: str, *shares: int) -> tuple[Leaf, ...]:
    return tuple(Leaf(f"{path}/p{each}_ms", quantile=each / 100, scale=1000.0) for each in shares)


_DIRECTIONS = ("received", "sent")

FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        # ---- The process
        Figure("fleetfeed_uptime_seconds", Kind.GAUGE, "Seconds since the start.", "", (), (
            Leaf("uptime", whole=True), _mosquitto("uptime", whole=True),
        )),
        Figure("fleetfeed_process_rss_bytes", Kind.GAUGE, "Memory that the process has.", "", (), (
            Leaf("process/rss_bytes"), _mosquitto("heap/current"),
        )),
        Figure("fleetfeed_process_rss_max_bytes", Kind.GAUGE, "The most memory that it had.", "", (), (
            _mosquitto("heap/maximum"),
        )),
        Figure("fleetfeed_process_cpu_seconds_total", Kind.COUNTER, "CPU time of all its threads.", "", (), (
            Leaf("process/cpu_seconds"),
        )),
        Figure("fleetfeed_process_open_files", Kind.GAUGE, "Open files and sockets.", "", (), (
            Leaf("process/open_files"),
        )),
        Figure("fleetfeed_process_max_files", Kind.GAUGE, "Open files and sockets that are allowed."),
        # ---- Devices
        Figure(
            "fleetfeed_devices", Kind.GAUGE,
            "Devices: known in total, connected (where registration is open, every client with an id that a device "
            "may have), subscribed to their frames; silent are connected and not subscribed; stalled leave frames "
            "unacknowledged.",
            "state", ("total", "connected", "subscribed", "silent", "stalled"),
            tuple(Leaf(f"devices/{each}", each) for each in ("total", "connected", "subscribed", "silent", "stalled")),
        ),
        Figure("fleetfeed_devices_waiting", Kind.GAUGE, "Devices whose changes wait for their budget, or for the end of quiet hours.", "", (), (
            Leaf("devices/waiting"),
        )),
        Figure("fleetfeed_device_rows", Kind.GAUGE, "Devices that have a window in memory."),
        # ---- Items
        Figure(
            "fleetfeed_items_total", Kind.COUNTER, "Items by what they were.",
            "outcome", ("received", "new", "update", "retract", "unchanged", "stale", "expired"),
            (
                Leaf("items/received", "received"), Leaf("items/expired", "expired"),
                Leaf("load/items/received", "received", per_minute=True),
            ),
        ),
        Figure("fleetfeed_items_rejected_total", Kind.COUNTER, "Items that were refused.", "reason", tuple(each.value for each in ItemError), (Leaf("items/rejected"),)),
        Figure("fleetfeed_items_live", Kind.GAUGE, "Items that are not over.", "", (), (Leaf("items/stored"),)),
        Figure("fleetfeed_items_waiting", Kind.GAUGE, "Items on their way to the store or the engine.", "", (), (Leaf("queue/items"),)),
        # ---- Frames
        Figure(
            "fleetfeed_frames_total", Kind.COUNTER,
            "Frames: sent, acknowledged, sent again after a reconnect, and how many of those sent were "
            "snapshots.",
            "event", ("sent", "acked", "resent", "snapshots"),
            (
                Leaf("frames/sent", "sent"), Leaf("frames/acked", "acked"), Leaf("frames/resent", "resent"),
                Leaf("load/frames/sent", "sent", per_minute=True),
            ),
        ),
        Figure("fleetfeed_frame_bytes_total", Kind.COUNTER, "Bytes of the frames sent, MQTT included.", "", (), (Leaf("bytes/sent"),)),
        Figure("fleetfeed_frame_operations_total", Kind.COUNTER, "What stood in frames.", "operation", ("puts", "removes", "moves")),
        Figure("fleetfeed_frames_inflight", Kind.GAUGE, "Frames that are not acknowledged.", "", (), (Leaf("frames/inflight"),)),
        Figure("fleetfeed_frames_behind", Kind.GAUGE, "Devices that are owed a frame."),
        Figure(
            "fleetfeed_frames_dropped_total", Kind.COUNTER, "Frames that were given up.", "reason", ("poison",),
            (Leaf("frames/dropped"), Leaf("load/frames/dropped", per_minute=True)),
        ),
        Figure(
            "fleetfeed_items_oversize_total", Kind.COUNTER,
            "Times that an item was kept from a device as no form of it fits the device's budget.",
            "", (), (Leaf("frames/oversize"),),
        ),
        # ---- Time
        Figure(
            "fleetfeed_publish_to_frame_seconds", Kind.HISTOGRAM, "From the acceptance of an item to the frame that brings it.",
            "", (), _quantiles("latency/push", 50, 95, 99),
        ),
        Figure(
            "fleetfeed_publish_to_ack_seconds", Kind.HISTOGRAM, "From the acceptance of an item to the device's acknowledgement.",
            "", (), _quantiles("latency/ack", 50, 95, 99),
        ),
        Figure(
            "fleetfeed_device_ack_seconds", Kind.HISTOGRAM, "From a frame to the device's acknowledgement.",
            "", (), _quantiles("latency/device", 95),
        ),
        Figure(
            "fleetfeed_commit_seconds", Kind.HISTOGRAM, "From the arrival of an item to its being durable.",
            "", (), _quantiles("latency/commit", 95, 99),
        ),
        Figure("fleetfeed_engine_chunk_seconds", Kind.HISTOGRAM, "One piece of the engine's work on windows.", "", (), (
            Leaf("rank/p95_us", quantile=0.95, scale=1e6),
        )),
        Figure(
            "fleetfeed_loop_lag_seconds", Kind.HISTOGRAM, "How late a timer of the event loop is.",
            "", (), _quantiles("latency/loop", 99),
        ),
        # ---- The store
        Figure("fleetfeed_store_up", Kind.GAUGE, "Whether the last attempt to commit succeeded.", "", (), (Leaf("store/up"),)),
        Figure("fleetfeed_store_errors_total", Kind.COUNTER, "Attempts to commit that failed.", "", (), (Leaf("store/errors"),)),
        Figure("fleetfeed_store_pending", Kind.GAUGE, "Changes on their way to the store.", "", (), (Leaf("store/pending"),)),
        # ---- What went wrong
        Figure(
            "fleetfeed_errors_total", Kind.COUNTER, "What failed on our side.",
            "kind", ("store", "accept_failed", "ranking_save_failed"), (Leaf("errors/total"),),
        ),
        Figure(
            "fleetfeed_dropped_total", Kind.COUNTER, "What was not carried out, by reason.", "reason",
            # Those that alerts ask for: a counter that begins with its first event has not grown by it.
            ("connect_refused_bad_credentials", "connect_refused_login_limited", "decisions_disk"),
        ),
        Figure("fleetfeed_closed_total", Kind.COUNTER, "Connections that the server closed.", "reason"),
        Figure("fleetfeed_up_messages_total", Kind.COUNTER, "Messages of devices.", "kind", ("hello", "feedback", "profile", "bye")),
        Figure("fleetfeed_engine_rows_rebuilt_total", Kind.COUNTER, "Windows that were built anew."),
        Figure("fleetfeed_engine_items_rekeyed_total", Kind.COUNTER, "Items that were ranked anew as their value moved."),
        Figure("fleetfeed_engine_pending", Kind.GAUGE, "What the engine has to do.", "what", ("jobs", "rows", "rekeys")),
        # ---- The ranking
        Figure(
            "fleetfeed_ranking_rung", Kind.GAUGE, "What ranks: 0 what is learned, 1 a former version, 2 popularity, 3 newest first.",
            "", (), (Leaf("ranking/rung"),),
        ),
        Figure("fleetfeed_ranking_version", Kind.GAUGE, "Versions of the model so far.", "", (), (Leaf("ranking/version"),)),
        Figure(
            "fleetfeed_ranking_total", Kind.COUNTER, "What the ranking did.", "event",
            ("learned", "refreshed", "fell", "climbed", "saved", "save_failed"),
            (
                Leaf("ranking/learned", "learned"), Leaf("ranking/refreshed", "refreshed"),
                Leaf("ranking/fell", "fell"), Leaf("ranking/climbed", "climbed"),
            ),
        ),
        Figure(
            "fleetfeed_feedback_total", Kind.COUNTER, "Events of feedback that were heard for the first time.",
            "", (), (Leaf("ranking/feedback"),),
        ),
        Figure("fleetfeed_ranking_pinned", Kind.GAUGE, "Whether an operator holds what ranks.", "", (), (Leaf("ranking/pinned"),)),
        Figure(
            "fleetfeed_ranking_calibration", Kind.GAUGE,
            "Outcomes over what was predicted, lately, by kind of device: 1 is right. There once enough is known.",
            "cohort", ("all",), (Leaf("ranking/calibration", "all"),),
        ),
        Figure(
            "fleetfeed_ranking_normalised_entropy", Kind.GAUGE,
            "Loss of the predictions over that of always saying the rate, by kind of device: from 1 on they know nothing.",
            "cohort", ("all",), (Leaf("ranking/normalised_entropy", "all"),),
        ),
        Figure(
            "fleetfeed_ranking_drift", Kind.GAUGE, "How near the alarm of drift is, by kind of device: 1 is alarm.",
            "cohort", ("all",), (Leaf("ranking/drift", "all"),),
        ),
        Figure(
            "fleetfeed_ranking_alarms", Kind.GAUGE, "Kinds of devices, all together being one, with an alarm of the model.",
            "alarm", ("worse_than_rate", "miscalibrated", "drift_up", "drift_down"), (Leaf("ranking/alarms"),),
        ),
        Figure(
            "fleetfeed_ranking_features", Kind.GAUGE, "Features that are watched, by how far their values have moved.",
            "shift", ("unknown", "stable", "moving", "shifted"), (Leaf("ranking/shifted", "shifted"),),
        ),
        Figure("fleetfeed_ranking_shift", Kind.GAUGE, "How far the values of a feature have moved: the population stability index.", "feature"),
        Figure(
            "fleetfeed_ranking_opening_rate", Kind.GAUGE, "Openings per impression: of devices that are ranked for, and of those held out.",
            "devices", ("ranked", "held_out"),
        ),
        Figure(
            "fleetfeed_ranking_lift", Kind.GAUGE,
            "The former over the latter, less 1, and the ends of its interval of 95 %. There once enough is known.",
            "bound", ("estimate", "low", "high"),
        ),
        Figure("fleetfeed_ranking_age_seconds", Kind.GAUGE, "Since the trainer of several servers published what ranks here.", "", (), (
            Leaf("ranking/age", whole=True),
        )),
        Figure("fleetfeed_publisher_exposure", Kind.GAUGE, "Share of what was shown lately; of those publishers with the most merit.", "publisher"),
        Figure("fleetfeed_publisher_merit", Kind.GAUGE, "Share of the predicted value of what could have been shown.", "publisher"),
        Figure("fleetfeed_publisher_correction", Kind.GAUGE, "Log value that the publisher's items get on top of their own.", "publisher"),
        Figure(
            "fleetfeed_exposure_cost", Kind.GAUGE,
            "Share of expected openings that these corrections cost. There once it was measured.",
            "balance", ("publishers", "channels"),
        ),
        # ---- Several servers
        Figure("fleetfeed_cluster_members", Kind.GAUGE, "Servers that are alive and share the store, this one included.", "", (), (
            Leaf("cluster/members"),
        )),
        Figure("fleetfeed_cluster_devices", Kind.GAUGE, "Devices that this server holds.", "", (), (Leaf("cluster/held"),)),
        Figure(
            "fleetfeed_cluster_handovers_total", Kind.COUNTER,
            "Devices that came to this server, how many of them without the server before having let go, that were let go, "
            "and that were lost to another.",
            "event", ("claimed", "unclean", "released", "lost"),
            tuple(Leaf(f"cluster/{each}", each) for each in ("claimed", "unclean", "released", "lost")),
        ),
        Figure("fleetfeed_cluster_trainer", Kind.GAUGE, "Whether this server trains the ranking for all.", "", (), (Leaf("cluster/trainer"),)),
        # ---- Beside another broker
        Figure(
            "fleetfeed_uplink_up", Kind.GAUGE, "Whether a connection to the broker stands; those that bring something are there where it is read.",
            "link", ("frames", "items", "ups"),
        ),
        Figure("fleetfeed_uplink_unacknowledged", Kind.GAUGE, "Packets that the broker has not acknowledged.", "", (), (
            Leaf("uplink/unacknowledged"),
        )),
        Figure("fleetfeed_uplink_waiting_bytes", Kind.GAUGE, "Bytes of these packets.", "", (), (Leaf("uplink/bytes"),)),
        Figure("fleetfeed_uplink_items_paused", Kind.GAUGE, "Whether items are left to the broker for now.", "", (), (Leaf("uplink/items_paused"),)),
        # ---- Overload
        Figure("fleetfeed_overload_level", Kind.GAUGE, "How much is given up: 0 nothing, 5 the most.", "", (), (
            Leaf("overload/level"),
        )),
        Figure("fleetfeed_overload_level_seconds", Kind.GAUGE, "Seconds since the level changed.", "", (), (
            Leaf("overload/seconds", whole=True),
        )),
        Figure("fleetfeed_overload_rises_total", Kind.COUNTER, "Times that the level rose.", "", (), (
            Leaf("overload/rises"),
        )),
        Figure(
            "fleetfeed_overload_delay_seconds", Kind.GAUGE,
            "How late the server is, of which the level is made: its event loop, and the oldest item on its way.",
            "cause", ("loop_lag", "oldest_item"),
            (
                Leaf("overload/loop_lag_ms", "loop_lag", scale=1000.0),
                Leaf("overload/oldest_item_ms", "oldest_item", scale=1000.0),
            ),
        ),
        Figure("fleetfeed_overload_waiting_bytes", Kind.GAUGE, "Bytes of items on their way, and of what clients do not read.", "", (), (
            Leaf("overload/waiting_bytes"),
        )),
        Figure(
            "fleetfeed_overload_held", Kind.GAUGE,
            "What waits: items for better times, publishers that are not read, clients that are not let in yet.",
            "what", ("items", "publishers", "connects"),
            tuple(Leaf(f"overload/held/{each}", each) for each in ("items", "publishers", "connects")),
        ),
        Figure("fleetfeed_overload_held_bytes", Kind.GAUGE, "Payload bytes of the items that wait for better times."),
        Figure(
            "fleetfeed_overload_items_total", Kind.COUNTER,
            "Items that never reached a window: they expired while they were held, or a newer content overtook them.",
            "outcome", ("expired", "superseded"),
        ),
        Figure("fleetfeed_overload_publishers_stopped_total", Kind.COUNTER, "Times that a publisher was not read on.", "reason", ("budget", "overload"), (
            Leaf("overload/stopped/budget", "budget"), Leaf("overload/stopped/overload", "overload"),
        )),
        Figure("fleetfeed_overload_connects_refused_total", Kind.COUNTER, "Clients that were told to come back later.", "", (), (
            Leaf("overload/refused/connects"),
        )),
        # ---- MQTT, as Mosquitto counts it
        Figure(
            "fleetfeed_mqtt_bytes_total", Kind.COUNTER, "Bytes of MQTT, frames included.", "direction", _DIRECTIONS,
            tuple(
                _mosquitto(path, each, per_minute=rate)
                for each in _DIRECTIONS
                for path, rate in ((f"bytes/{each}", False), (f"load/bytes/{each}", True))
            ),
        ),
        Figure(
            "fleetfeed_mqtt_packets_total", Kind.COUNTER, "MQTT packets, frames included.", "direction", _DIRECTIONS,
            tuple(
                _mosquitto(path, each, per_minute=rate)
                for each in _DIRECTIONS
                for path, rate in ((f"messages/{each}", False), (f"load/messages/{each}", True))
            ),
        ),
        Figure(
            "fleetfeed_mqtt_publishes_total", Kind.COUNTER, "PUBLISH packets, frames included.", "direction", _DIRECTIONS,
            tuple(
                _mosquitto(path, each, per_minute=rate)
                for each in _DIRECTIONS
                for path, rate in ((f"publish/messages/{each}", False), (f"load/publish/{each}", True))
            ),
        ),
        Figure(
            "fleetfeed_mqtt_publish_bytes_total", Kind.COUNTER, "Bytes of these packets.", "direction", _DIRECTIONS,
            tuple(_mosquitto(f"publish/bytes/{each}", each) for each in _DIRECTIONS),
        ),
        Figure(
            "fleetfeed_mqtt_publishes_dropped_total", Kind.COUNTER, "Messages on other topics than the feed's that were dropped.",
            "reason", ("outbox_full", "qos_0_away", "session_ended"),
            (
                Leaf("queue/evicted", "outbox_full"), _mosquitto("publish/messages/dropped"),
                _mosquitto("load/publish/dropped", per_minute=True),
            ),
        ),
        Figure("fleetfeed_mqtt_connections_total", Kind.COUNTER, "Sockets opened, and clients let in.", "event", ("opened", "connected", "taken_over"), (
            _mosquitto("load/sockets", "opened", per_minute=True),
            _mosquitto("load/connections", "connected", per_minute=True),
        )),
        Figure("fleetfeed_mqtt_sockets", Kind.GAUGE, "Open sockets of clients.", "", (), (_mosquitto("connections/socket/count"),)),
        Figure("fleetfeed_mqtt_unread_bytes", Kind.GAUGE, "Bytes that clients do not read.", "", (), (_mosquitto("packet/out/bytes"),)),
        Figure("fleetfeed_mqtt_clients", Kind.GAUGE, "Clients: connected, those with a session but no connection, and both.", "state", ("connected", "disconnected", "total"), (
            _mosquitto("clients/connected", "connected"), _mosquitto("clients/disconnected", "disconnected"),
            _mosquitto("clients/total", "total"), _mosquitto("clients/active", "connected"),
            _mosquitto("clients/inactive", "disconnected"),
        )),
        Figure("fleetfeed_mqtt_clients_max", Kind.GAUGE, "The most clients that were connected at a time.", "", (), (_mosquitto("clients/maximum"),)),
        Figure("fleetfeed_mqtt_sessions_expired_total", Kind.COUNTER, "Sessions that nobody came back to.", "", (), (_mosquitto("clients/expired"),)),
        Figure("fleetfeed_mqtt_subscriptions", Kind.GAUGE, "Subscriptions, those to frames included.", "", (), (_mosquitto("subscriptions/count"),)),
        Figure("fleetfeed_mqtt_shared_subscriptions", Kind.GAUGE, "Always 0: there are none.", "", (), (_mosquitto("shared_subscriptions/count"),)),
        Figure("fleetfeed_mqtt_retained_messages", Kind.GAUGE, "Retained messages, those of $SYS included.", "", (), (
            _mosquitto("retained messages/count"), _mosquitto("store/messages/count"), _mosquitto("messages/stored"),
        )),
        Figure("fleetfeed_mqtt_retained_bytes", Kind.GAUGE, "Bytes of the retained messages.", "", (), (_mosquitto("store/messages/bytes"),)),
    )
}  # fmt: skip
"""All figures by name."""
