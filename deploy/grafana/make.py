"""Writes fleetfeed.json, the dashboard for Grafana, beside itself: `python deploy/grafana/make.py`.

A dashboard edited by hand is thousands of lines that nobody reads in a diff. Here is what one would say about
it: rows of panels, each with its queries, its unit and a sentence on how to read it.
"""  # noqa: INP001 - a script beside what it writes, no package

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

Json = dict[str, Any]

FILE = Path(__file__).with_name("fleetfeed.json")

_WIDTH = 24
_DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
_HERE = 'job="fleetfeed", instance=~"$instance"'

_GREEN, _YELLOW, _ORANGE, _RED = "green", "yellow", "orange", "red"
_CALM = ((None, "text"),)

_RUNGS = {
    0: ("learned", _GREEN),
    1: ("former version", _YELLOW),
    2: ("popularity", _ORANGE),
    3: ("newest first", _ORANGE),
}
_LEVELS = {
    0: ("normal", _GREEN),
    1: ("coalescing", _YELLOW),
    2: ("plain", _YELLOW),
    3: ("topic only", _ORANGE),
    4: ("holding", _RED),
    5: ("choking", _RED),
}
_YES_NO = {1: ("yes", _GREEN), 0: ("no", _RED)}

Words = dict[int, tuple[str, str]]
Steps = Sequence[tuple[float | None, str]]


@dataclass(frozen=True)
class Query:
    """One line, or several, of a panel.

    Attributes:
        expr: PromQL; `{here}` stands for the labels that are selected.
        legend: What a line is called.
    """

    expr: str
    legend: str = ""

    @property
    def text(self) -> str:
        """PromQL as Grafana has it."""
        return self.expr.replace("{here}", f"{{{_HERE}}}").replace("{here,", f"{{{_HERE}, ")


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: What it shows.
        help: How to read it.
        queries: What it is made of.
        unit: Grafana's name of the unit.
        kind: Grafana's name of the picture.
        width: Of 24.
        height: In Grafana's lines.
        words: Values that are words, with their colours.
        steps: Where the colour changes; for pictures of one number.
        stacked: Whether lines are laid upon each other.
        least: Lower end of the scale.
        most: Upper end.
    """

    title: str
    help: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    words: Words = field(default_factory=dict)
    steps: Steps = _CALM
    stacked: bool = False
    least: float | None = 0
    most: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels on one subject."""

    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = False


def _stat(title: str, text: str, expr: str, unit: str = "short", **how: Any) -> Panel:
    return Panel(title, text, (Query(expr),), unit, "stat", how.pop("width", 3), 4, **how)


def _rate(name: str, label: str = "", selector: str = "") -> Query:
    """How fast a counter grows, by the values of its label."""
    chosen = f"{{here, {selector}}}" if selector else "{here}"
    by = f" by ({label})" if label else ""
    legend = f"{{{{{label}}}}}" if label else ""
    return Query(f"sum{by} (rate({name}{chosen}[$__rate_interval]))", legend)


def _quantile(name: str, share: float, legend: str) -> Query:
    inner = f"sum by (le) (rate({name}_bucket{{here}}[$__rate_interval]))"
    return Query(f"histogram_quantile({share}, {inner})", legend)


def _latency(title: str, text: str, name: str, **how: Any) -> Panel:
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    return Panel(title, text, tuple(_quantile(name, *each) for each in shares), "s", **how)


ROWS = (
    Row("At a glance", (
        _stat("Servers that answer", "Of those that Prometheus knows.",
              "sum(up{here})", steps=((None, _RED), (1, _GREEN))),
        _stat("Devices subscribed", "They get frames.",
              'sum(fleetfeed_devices{here, state="subscribed"})'),
        _stat("Stalled", "Connected and subscribed, with frames that they have not acknowledged for long.",
              'sum(fleetfeed_devices{here, state="stalled"})', steps=((None, _GREEN), (1, _YELLOW))),
        _stat("Frames per second", "Sent to devices.",
              'sum(rate(fleetfeed_frames_total{here, event="sent"}[$__rate_interval]))', "ops"),
        _stat("Publish to acknowledgement, p95", "From the acceptance of an item to a device's word that it has it.",
              "histogram_quantile(0.95, sum by (le) (rate(fleetfeed_publish_to_ack_seconds_bucket{here}[$__rate_interval])))", "s"),
        _stat("Overload", "The highest level of all servers.", "max(fleetfeed_overload_level{here})",
              words=_LEVELS),
        _stat("Store", "Whether the last attempt to commit succeeded, at every server.",
              "min(fleetfeed_store_up{here})", words={1: ("up", _GREEN), 0: ("down", _RED)}),
        _stat("Ranking by", "What ranks, at the server where it is worst.", "max(fleetfeed_ranking_rung{here})",
              words=_RUNGS),
    )),
    Row("Devices", (
        Panel("Devices", "Silent ones are connected and not subscribed; where registration is open, every client with an id "
              "that a device may have counts as one.",
              (Query("sum by (state) (fleetfeed_devices{here})", "{{state}}"),), width=12),
        Panel("Comings and goings", "Sockets opened, clients let in, and connections that another of the same client ended.",
              (_rate("fleetfeed_mqtt_connections_total", "event"),), "ops", width=6),
        Panel("Closed by the server", "By reason; docs/security.md says what they mean.",
              (_rate("fleetfeed_closed_total", "reason"),), "ops", width=6),
        Panel("What devices say", "Hellos are positions; many at once are devices that came back or saw a gap.",
              (_rate("fleetfeed_up_messages_total", "kind"),), "ops"),
        Panel("Devices with something to be sent", "Behind: owed a frame, mostly as several are in flight. Waiting: for their "
              "budget or the end of quiet hours.",
              (Query("sum(fleetfeed_frames_behind{here})", "behind"), Query("sum(fleetfeed_devices_waiting{here})", "waiting"),
               Query("sum(fleetfeed_frames_inflight{here})", "frames in flight"))),
        _latency("Frame to acknowledgement", "What devices and their links take.", "fleetfeed_device_ack_seconds"),
    )),
    Row("Delivery", (
        Panel("Items", "By what they were; refused ones are not valid.",
              (_rate("fleetfeed_items_total", "outcome"),
               Query("sum(rate(fleetfeed_items_rejected_total{here}[$__rate_interval]))", "refused")), "ops"),
        Panel("Frames", "Snapshots are those among the sent that carry a whole window.",
              (_rate("fleetfeed_frames_total", "event"),), "ops"),
        Panel("Bytes of frames", "With MQTT around them.", (_rate("fleetfeed_frame_bytes_total"),), "Bps"),
        _latency("Acceptance to frame", "Of items that are new to a device which was there when they came.",
                 "fleetfeed_publish_to_frame_seconds"),
        _latency("Acceptance to acknowledgement", "The whole way, devices and their links included.",
                 "fleetfeed_publish_to_ack_seconds"),
        Panel("Acceptance to frame, all of it", "How many items took how long.",
              (Query("sum by (le) (increase(fleetfeed_publish_to_frame_seconds_bucket{here}[$__rate_interval]))", "{{le}}"),),
              "s", "heatmap", least=None),
        Panel("Dropped", "Whatever was not carried out, by reason.", (_rate("fleetfeed_dropped_total", "reason"),), "ops", width=12),
        Panel("Kept from devices", "Frames given up, items that fit no form of a device's budget, items that expired.",
              (_rate("fleetfeed_frames_dropped_total", "reason"),
               Query("sum(rate(fleetfeed_items_oversize_total{here}[$__rate_interval]))", "oversize"),
               Query('sum(rate(fleetfeed_items_total{here, outcome="expired"}[$__rate_interval]))', "expired")), "ops", width=12),
    )),
    Row("Overload", (
        Panel("Level", "Each gives up a little more of what matters least; docs/operations.md has the table.",
              (Query("fleetfeed_overload_level{here}", "{{instance}}"),), kind="state-timeline", width=24, height=5,
              words=_LEVELS),
        Panel("How late", "What the level is made of.",
              (Query("max by (cause) (fleetfeed_overload_delay_seconds{here})", "{{cause}}"),), "s"),
        Panel("Waiting on purpose", "Items for better times, publishers that are not read, clients that are not let in yet.",
              (Query("sum by (what) (fleetfeed_overload_held{here})", "{{what}}"),)),
        Panel("Memory of what waits", "Items on their way with what clients do not read, and items held.",
              (Query("sum(fleetfeed_overload_waiting_bytes{here})", "on their way, unread"),
               Query("sum(fleetfeed_overload_held_bytes{here})", "held")), "bytes"),
        Panel("Turned away", "Clients told to come back later, and how often publishers were stopped.",
              (Query("sum(rate(fleetfeed_overload_connects_refused_total{here}[$__rate_interval]))", "clients"),
               Query("sum by (reason) (rate(fleetfeed_overload_publishers_stopped_total{here}[$__rate_interval]))",
                     "publishers: {{reason}}")), "ops"),
        Panel("Never reached a window", "Held items that expired, or that newer content overtook.",
              (_rate("fleetfeed_overload_items_total", "outcome"),), "ops"),
        Panel("Items on their way", "To the store or the engine, and what the engine has to do.",
              (Query("sum(fleetfeed_items_waiting{here})", "items"),
               Query("sum by (what) (fleetfeed_engine_pending{here})", "engine: {{what}}"))),
    )),
    Row("Engine and store", (
        _latency("Event loop", "How late a timer is; everything waits for it.", "fleetfeed_loop_lag_seconds"),
        _latency("Commit", "From the arrival of an item to its being durable.", "fleetfeed_commit_seconds"),
        _latency("One piece of the engine", "Between two of them the loop has its turn.", "fleetfeed_engine_chunk_seconds"),
        Panel("Live items", "Not expired, and not retracted.", (Query("max(fleetfeed_items_live{here})", "items"),)),
        Panel("Windows built anew, items ranked anew", "The former when devices come, the latter as values move.",
              (Query("sum(rate(fleetfeed_engine_rows_rebuilt_total{here}[$__rate_interval]))", "windows"),
               Query("sum(rate(fleetfeed_engine_items_rekeyed_total{here}[$__rate_interval]))", "items")), "ops"),
        Panel("The store", "Changes on their way there, and attempts that failed.",
              (Query("sum(fleetfeed_store_pending{here})", "pending"),
               Query("sum(increase(fleetfeed_store_errors_total{here}[$__rate_interval]))", "failed"))),
    )),
    Row("Ranking", (
        Panel("What ranks", "It falls when something simpler is better, and climbs back by itself.",
              (Query("fleetfeed_ranking_rung{here}", "{{instance}}"),), kind="state-timeline", width=24, height=5, words=_RUNGS),
        Panel("Calibration", "Openings over what was predicted, by kind of device. 1 is right; below 0.8 and above 1.25 is an alarm.",
              (Query("avg by (cohort) (fleetfeed_ranking_calibration{here})", "{{cohort}}"),), least=None),
        Panel("Normalised entropy", "Below 1 the predictions know something; lower is better.",
              (Query("avg by (cohort) (fleetfeed_ranking_normalised_entropy{here})", "{{cohort}}"),), least=None),
        Panel("Drift", "How near the alarm is.",
              (Query("max by (cohort) (fleetfeed_ranking_drift{here})", "{{cohort}}"),), "percentunit", most=1),
        Panel("Features that moved", "Population stability index: above 0.1 something goes on, above 0.25 the values are others.",
              (Query("max by (feature) (fleetfeed_ranking_shift{here})", "{{feature}}"),)),
        Panel("Lift", "Openings of devices that are ranked for over those held out, less 1, with its interval of 95 %.",
              (Query("avg by (bound) (fleetfeed_ranking_lift{here})", "{{bound}}"),), "percentunit", least=None),
        Panel("Feedback and learning", "Events heard, and outcomes learned from.",
              (Query("sum(rate(fleetfeed_feedback_total{here}[$__rate_interval]))", "events"),
               Query('sum by (event) (rate(fleetfeed_ranking_total{here, event=~"learned|refreshed"}[$__rate_interval]))', "{{event}}")), "ops"),
        Panel("Exposure over merit", "By publisher: 1 is fair.",
              (Query("avg by (publisher) (fleetfeed_publisher_exposure{here}) / avg by (publisher) (fleetfeed_publisher_merit{here} > 0)",
                     "{{publisher}}"),), width=8),
        Panel("Exposure", "Shares of what was shown lately.",
              (Query("avg by (publisher) (fleetfeed_publisher_exposure{here})", "{{publisher}}"),), "percentunit", stacked=True, most=1),
        Panel("What fairness costs", "Share of expected openings; 2 % is the budget. And what publishers' items get for it.",
              (Query("avg by (balance) (fleetfeed_exposure_cost{here})", "cost: {{balance}}"),
               Query("avg by (publisher) (fleetfeed_publisher_correction{here})", "{{publisher}}")), least=None),
    )),
    Row("Process and MQTT", (
        Panel("CPU", "Cores. The data path uses one.",
              (Query("rate(fleetfeed_process_cpu_seconds_total{here}[$__rate_interval])", "{{instance}}"),)),
        Panel("Memory", "Resident.", (Query("fleetfeed_process_rss_bytes{here}", "{{instance}}"),), "bytes"),
        Panel("Open files", "Of those allowed; each connection is one.",
              (Query("fleetfeed_process_open_files{here} / fleetfeed_process_max_files{here}", "{{instance}}"),), "percentunit"),
        Panel("MQTT bytes", "Frames included.", (_rate("fleetfeed_mqtt_bytes_total", "direction"),), "Bps"),
        Panel("MQTT packets", "Frames included.", (_rate("fleetfeed_mqtt_packets_total", "direction"),), "ops"),
        Panel("Other topics", "Messages dropped, by reason, and what clients do not read.",
              (_rate("fleetfeed_mqtt_publishes_dropped_total", "reason"),
               Query("sum(fleetfeed_mqtt_unread_bytes{here})", "unread bytes")), "short"),
    )),
    Row("Several servers", (
        Panel("Servers alive", "As each of them sees it: lines that part are servers that are cut off.",
              (Query("fleetfeed_cluster_members{here}", "{{instance}}"),), width=6),
        Panel("Devices held", "By server.", (Query("fleetfeed_cluster_devices{here}", "{{instance}}"),), width=6, stacked=True),
        Panel("Devices on the move", "Unclean ones came from servers that had not let go of them.",
              (_rate("fleetfeed_cluster_handovers_total", "event"),), "ops", width=6),
        Panel("What ranks is so old", "Since the trainer published it; and who trains.",
              (Query("fleetfeed_ranking_age_seconds{here}", "{{instance}}"),
               Query("fleetfeed_cluster_trainer{here}", "{{instance}} trains")), "s", width=6),
    ), collapsed=True),
    Row("Beside another broker", (
        Panel("Connections to the broker", "Items and ups are there at the gateway that reads.",
              (Query("fleetfeed_uplink_up{here}", "{{instance}} {{link}}"),), kind="state-timeline", width=12, words=_YES_NO),
        Panel("Not acknowledged by the broker", "Packets, and their bytes.",
              (Query("fleetfeed_uplink_unacknowledged{here}", "{{instance}} packets"),
               Query("fleetfeed_uplink_waiting_bytes{here}", "{{instance}} bytes")), width=6),
        Panel("Items left to the broker", "1 while the gateway reads none, as it is behind.",
              (Query("fleetfeed_uplink_items_paused{here}", "{{instance}}"),), width=6, most=1),
    ), collapsed=True),
)  # fmt: skip
"""The whole dashboard."""


def dashboard() -> Json:
    """It, as Grafana imports it."""
    return {
        "uid": "fleetfeed",
        "title": "fleetfeed",
        "description": "Written by deploy/grafana/make.py. What to do about what it shows: docs/operations.md.",
        "tags": ["fleetfeed", "mqtt"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": [_alerts()]},
        "links": [],
        "panels": list(_panels()),
    }


def _variables() -> list[Json]:
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
        },
        {
            "name": "instance",
            "label": "Server",
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {
                "query": 'label_values(fleetfeed_uptime_seconds{job="fleetfeed"}, instance)',
                "refId": "instance",
            },
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        },
    ]


def _alerts() -> Json:
    """Alerts as marks in every picture."""
    return {
        "name": "Alerts",
        "datasource": _DATASOURCE,
        "enable": True,
        "iconColor": _RED,
        "expr": 'ALERTS{job="fleetfeed", alertstate="firing", severity!="info"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}}",
        "step": "60s",
    }


def _panels() -> Iterator[Json]:
    numbers, top = count(1), 0
    for row in ROWS:
        number = next(numbers)
        inside = list(_laid_out(row.panels, numbers, top + 1))
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": row.collapsed,
            "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
            "panels": inside if row.collapsed else [],
        }
        if not row.collapsed:
            yield from inside
            top = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in inside)
        else:
            top += 1


def _laid_out(panels: Sequence[Panel], numbers: Iterator[int], top: int) -> Iterator[Json]:
    """Panels from left to right, and in the next line where one does not fit."""
    x, y, highest = 0, top, 0
    for panel in panels:
        if x + panel.width > _WIDTH:
            x, y, highest = 0, y + highest, 0
        place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        yield _picture(panel, next(numbers)) | {"gridPos": place}
        x, highest = x + panel.width, max(highest, panel.height)


def _picture(panel: Panel, number: int) -> Json:
    heatmap = panel.kind == "heatmap"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": _DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _DATASOURCE,
                "expr": query.text,
                "legendFormat": query.legend or "__auto",
                "range": True,
                **({"format": "heatmap"} if heatmap else {}),
            }
            for place, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _defaults(panel: Panel) -> Json:
    steps = [{"value": value, "color": colour} for value, colour in panel.steps]
    found: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.words:
        found["mappings"] = [_mapping(panel.words)]
    if panel.kind == "timeseries":
        found["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 40 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
        found |= {} if panel.least is None else {"min": panel.least}
        found |= {} if panel.most is None else {"max": panel.most}
    return found


def _mapping(words: Words) -> Json:
    named = {
        str(value): {"index": index, "text": text, "color": colour}
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return {"type": "value", "options": named}


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none" if panel.words else "area",
            "textMode": "value",
        }
    if panel.kind == "state-timeline":
        return {"mergeValues": True, "showValue": "auto", "legend": {"showLegend": False}}
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "yAxis": {"unit": panel.unit},
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
            "cellGap": 1,
            "tooltip": {"mode": "single"},
        }
    return {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def written() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
