"""What real streams look like as items: USGS earthquakes, CAP and NWS alerts, JSON lines.

Every reader is a pure function from a document to publications in the order of the document. The rules of
an item (its keys, their bounds) are those of the device feed protocol; they are checked here once more for
files that people write themselves, as MQTT 3.1.1 gives a server no way to refuse a publish.
"""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

from devices.packets import valid_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LOW, NORMAL, HIGH, URGENT = range(4)

HOUR = 3_600
DAY = 24 * HOUR
LONGEST_TTL = 30 * DAY

ITEM_KEYS = frozenset(
    "id payload brief priority ttl rev tags collapse where retract".split()  # noqa: SIM905 - reads as the protocol's table
)

_BRIEF = 32
"""Bytes that fit every device: the protocol refuses frame budgets that leave fewer."""

_TEXT = 96
"""Bytes of a payload: what fits the default budget of 256 with room for a second item."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One item as its source sent it.

    Attributes:
        at: When, in Unix seconds (or seconds from the start of a file that has no dates).
        channel: The channel, without `items/`.
        item: The keys of the item as the protocol names them.
    """

    at: float
    channel: str
    item: Mapping[str, Any]


class SourceError(Exception):
    """A stream that cannot be read.

    Attributes:
        where: The file, and the line or entry in it, as a person would write them: `week.jsonl:12`.
        detail: What is wrong there.
    """

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(f"{where}: {detail}")
        self.where = where
        self.detail = detail


# USGS: https://earthquake.usgs.gov/earthquakes/feed/v1.0/geojson.php

_QUAKE_TTL = {URGENT: 3 * DAY, HIGH: 2 * DAY, NORMAL: DAY, LOW: DAY // 2}
_STATES = {"CA": "California", "MX": "Mexico"}


def read_earthquakes(document: Mapping[str, Any], name: str) -> list[Publication]:
    """Reads a USGS GeoJSON summary: one item per event on `quakes/<network>`.

    A network is the seismic network that is the authority for the event: `ci` Southern California, `ak`
    Alaska, `us` the world. The magnitude decides the priority and how long the event is news.

    Raises:
        SourceError: A feature lacks what makes it an earthquake; the feature's number is named.
    """
    return [
        _entry(_earthquake, feature, f"{name}: feature {number}")
        for number, feature in enumerate(document["features"], start=1)
    ]


def _earthquake(feature: Mapping[str, Any]) -> Publication:
    facts = feature["properties"]
    magnitude = facts["mag"]
    size = "M ?" if magnitude is None else f"M {magnitude:.1f}"
    place = re.sub(r"^(\d+)\s?km\b", r"\1 km", facts["place"] or "place unknown")
    region = place.rsplit(", ", 1)[-1]
    region = _STATES.get(region, region)
    kind = facts.get("type", "earthquake")
    priority = _magnitude_priority(magnitude)
    item = {
        "id": feature["id"],
        "payload": _fit(f"{size}{'' if kind == 'earthquake' else f' {kind}'} · {place}", _TEXT),
        "brief": _fit(f"{size} {region}", _BRIEF),
        "priority": priority,
        "ttl": _QUAKE_TTL[priority],
        "rev": facts.get("updated", facts["time"]) // 1_000,
        "tags": [_slug(kind), _slug(region)] + ["tsunami"] * bool(facts.get("tsunami")),
    }
    return Publication(facts["time"] / 1_000, f"quakes/{facts['net']}", item)


def _magnitude_priority(magnitude: float | None) -> int:
    if magnitude is None or magnitude < 2.5:
        return LOW
    if magnitude < 4.5:
        return NORMAL
    return HIGH if magnitude < 6 else URGENT


# CAP: http://docs.oasis-open.org/emergency/cap/v1.2/CAP-v1.2-os.html; NWS: https://www.weather.gov/documentation/services-web-api

_SEVERITY = {"Extreme": URGENT, "Severe": HIGH, "Moderate": NORMAL, "Minor": LOW}
_CATEGORY = {"Met": "weather"}
# The first two digits of a Canadian location code (Standard Geographical Classification, 2011).
_PROVINCES = {
    "10": "nl", "11": "pe", "12": "ns", "13": "nb", "24": "qc", "35": "on", "46": "mb",
    "47": "sk", "48": "ab", "59": "bc", "60": "yt", "61": "nt", "62": "nu",
}  # fmt: skip
# The event of a U.S. message: office, phenomenon, significance, number (NWS Directive 10-1703).
_VTEC = re.compile(r"/[OTEX]\.[A-Z]{3}\.([A-Z]{4}\.[A-Z]{2}\.[A-Z]\.\d{4})\.")


@dataclass(frozen=True, slots=True)
class _Alert:
    """What a CAP message and an NWS feature have in common."""

    identifier: str
    references: Sequence[str]
    kind: str
    sent: str
    expires: str | None
    category: str
    event: str
    severity: str
    urgency: str
    area: str
    geocodes: Sequence[tuple[str, str]]
    parameters: Sequence[str]


def read_cap(text: str, name: str) -> list[Publication]:
    """Reads one CAP 1.1 or 1.2 message: an item on `alerts/<category>/<region>`.

    The first `info` block counts (others repeat it in other languages). Severity becomes the priority, `expires` the
    ttl; messages about the same event share a collapse key, so that a window shows only the newest. A
    `Cancel` retracts the messages that it names.

    Raises:
        SourceError: No XML (with the line), or no CAP message.
    """
    if "<!DOCTYPE" in text:
        raise SourceError(name, "a CAP message has no document type declaration")
    try:
        alert = ET.fromstring(text.encode())  # noqa: S314 - no DOCTYPE, so no entities to expand
    except ET.ParseError as error:
        raise SourceError(f"{name}:{error.position[0]}", f"no well-formed XML ({error})") from None
    if alert.tag.rpartition("}")[2] != "alert":
        raise SourceError(name, f"the root is <{alert.tag}>, not a CAP <alert>")
    return _entry(_cap_alert, alert, name)


def _cap_alert(alert: ET.Element) -> list[Publication]:
    info = alert.find("{*}info")
    if info is None:
        raise KeyError("info")
    references = (alert.findtext("{*}references") or "").split()
    areas = info.findall("{*}area")
    return _alert_items(
        _Alert(
            identifier=_text(alert, "identifier"),
            references=[reference.split(",")[1] for reference in references],
            kind=_text(alert, "msgType"),
            sent=_text(alert, "sent"),
            expires=info.findtext("{*}expires"),
            category=_text(info, "category"),
            event=_text(info, "event"),
            severity=_text(info, "severity"),
            urgency=_text(info, "urgency"),
            area="; ".join(_text(area, "areaDesc") for area in areas),
            geocodes=[pair for area in areas for pair in _pairs(area, "geocode")],
            parameters=[value for _, value in _pairs(info, "parameter")],
        )
    )


def _text(element: ET.Element, tag: str) -> str:
    text = element.findtext(f"{{*}}{tag}")
    if not text:
        raise KeyError(tag)
    return text.strip()


def _pairs(element: ET.Element, tag: str) -> Iterator[tuple[str, str]]:
    for pair in element.iterfind(f"{{*}}{tag}"):
        yield pair.findtext("{*}valueName") or "", pair.findtext("{*}value") or ""


def read_nws(document: Mapping[str, Any], name: str) -> list[Publication]:
    """Reads active alerts of the U.S. National Weather Service (GeoJSON), by the rules of `read_cap`.

    Raises:
        SourceError: A feature lacks what makes it an alert; the feature's number is named.
    """
    return [
        publication
        for number, feature in enumerate(document["features"], start=1)
        for publication in _entry(_nws_alert, feature, f"{name}: feature {number}")
    ]


def _nws_alert(feature: Mapping[str, Any]) -> list[Publication]:
    facts = feature["properties"]
    return _alert_items(
        _Alert(
            identifier=facts["id"],
            references=[
                reference["identifier"]
                for reference in sorted(facts["references"], key=lambda one: str(one["sent"]))
            ],
            kind=facts["messageType"],
            sent=facts["sent"],
            expires=facts["expires"],
            category=facts["category"],
            event=facts["event"],
            severity=facts["severity"],
            urgency=facts["urgency"],
            area=facts["areaDesc"],
            geocodes=[(key, code) for key, codes in facts["geocode"].items() for code in codes],
            parameters=[value for values in facts["parameters"].values() for value in values],
        )
    )


def _alert_items(alert: _Alert) -> list[Publication]:
    sent = datetime.fromisoformat(alert.sent).timestamp()
    category = _CATEGORY.get(alert.category, alert.category.lower())
    region = _region(alert.geocodes)
    channel = f"alerts/{category}/{region}"
    if alert.kind == "Cancel":
        return [
            Publication(sent, channel, {"id": _key(reference), "retract": True})
            for reference in alert.references
        ]
    event = alert.event[:1].upper() + alert.event[1:]
    ttl = datetime.fromisoformat(alert.expires).timestamp() - sent if alert.expires else DAY
    item = {
        "id": _key(alert.identifier),
        "payload": _fit(f"{event} · {alert.area.partition(';')[0]}", _TEXT),
        "brief": _fit(event, _BRIEF),
        "priority": _SEVERITY.get(alert.severity, NORMAL),
        "ttl": min(max(int(ttl), 1), LONGEST_TTL),
        "tags": [_slug(alert.event), _slug(alert.severity), _slug(alert.urgency)],
        "collapse": _collapse(alert),
    }
    return [Publication(sent, channel, item)]


def _collapse(alert: _Alert) -> str:
    """The event that an alert is about: its VTEC number, else the first message of its chain."""
    for parameter in alert.parameters:
        if event := _VTEC.search(parameter):
            return event[1]
    return _key(alert.references[0] if alert.references else alert.identifier)


def _region(geocodes: Iterable[tuple[str, str]]) -> str:
    """The ISO 3166-2 code, in small letters, that most geocodes lie in; `world` without any."""
    regions: Counter[str] = Counter()
    for kind, code in geocodes:
        if kind == "UGC":
            regions[f"us-{code[:2].lower()}"] += 1
        elif "CAP-CP:Location" in kind and code[:2] in _PROVINCES:
            regions[f"ca-{_PROVINCES[code[:2]]}"] += 1
        elif re.fullmatch(r"[A-Z]{2}-[A-Z0-9]{1,3}", code):
            regions[code.lower()] += 1
    return regions.most_common(1)[0][0] if regions else "world"


# JSON lines


def read_lines(text: str, name: str) -> list[Publication]:
    """Reads JSON lines: `{"channel": …, "at": seconds, …keys of the item}`; empty lines are skipped.

    A line without `at` comes one second after the line before.

    Raises:
        SourceError: The first line that is no item, with its number and what is wrong.
    """
    publications: list[Publication] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        last = publications[-1].at + 1 if publications else 0.0
        try:
            publications.append(_line(line, last))
        except ValueError as error:
            raise SourceError(f"{name}:{number}", str(error)) from None
    return publications


def _line(line: str, default_at: float) -> Publication:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(item, dict):
        raise ValueError('a line is an object: {"channel": "news/local", "payload": "…"}')  # noqa: TRY004 - the file's fault, not the caller's
    channel = item.pop("channel", None)
    if not isinstance(channel, str) or not valid_topic(f"items/{channel}") or not channel:
        raise ValueError("`channel` must be a topic without wildcards, such as news/local")
    at = item.pop("at", default_at)
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) or at < 0:
        raise ValueError("`at` must be seconds, 0 or more")
    check_item(item)
    return Publication(float(at), channel, item)


def check_item(item: Mapping[str, Any]) -> None:
    """Checks what people get wrong in an item; a server checks the rest.

    Raises:
        ValueError: One sentence on the first fault.
    """
    if unknown := sorted(item.keys() - ITEM_KEYS):
        raise ValueError(f"`{unknown[0]}` is no key of an item ({', '.join(sorted(ITEM_KEYS))})")
    if "payload" not in item and item.get("retract") is not True:
        raise ValueError("`payload` is missing")
    if not isinstance(item.get("payload", ""), str | dict):
        raise ValueError("`payload` must be a string or an object")  # noqa: TRY004 - the file's fault, not the caller's
    identifier = item.get("id", "-")
    if not isinstance(identifier, str) or not 1 <= len(identifier.encode()) <= 64:
        raise ValueError("`id` must be a string of 1 to 64 bytes")
    _check_range(item, "priority", LOW, URGENT)
    _check_range(item, "ttl", 1, LONGEST_TTL)


def _check_range(item: Mapping[str, Any], key: str, low: int, high: int) -> None:
    value = item.get(key, low)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"`{key}` must be a whole number from {low} to {high}")


# Shared

_Entry = TypeVar("_Entry")
_Read = TypeVar("_Read")


def _entry(read: Callable[[_Entry], _Read], entry: _Entry, where: str) -> _Read:
    """Reads one entry of a document and says where it was when it lacks something."""
    try:
        return read(entry)
    except KeyError as error:
        raise SourceError(where, f"`{error.args[0]}` is missing") from None
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise SourceError(where, f"not of the expected form ({error})") from None


def _key(identifier: str) -> str:
    """An identifier as an item's id: itself, or its hash where it is longer than an id may be."""
    encoded = identifier.encode()
    return identifier if len(encoded) <= 64 else blake2b(encoded, digest_size=16).hexdigest()


def _fit(text: str, limit: int) -> str:
    """The text in at most `limit` bytes, cut between words."""
    if len(text.encode()) <= limit:
        return text
    cut = text.encode()[: limit - len("…".encode())].decode(errors="ignore")
    return (cut.rpartition(" ")[0] or cut).rstrip(" ·,(") + "…"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
