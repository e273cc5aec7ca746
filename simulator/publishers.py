"""Where the items of a run come from: the streams in the package, files of the user, and when each is due."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simulator.sources import (
    DAY,
    LONGEST_TTL,
    Publication,
    SourceError,
    read_cap,
    read_earthquakes,
    read_lines,
    read_nws,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

__all__ = [
    "Due",
    "Publication",
    "Schedule",
    "SourceError",
    "alerts",
    "earthquakes",
    "replay_file",
    "week",
]


def earthquakes() -> list[Publication]:
    """Every earthquake that the USGS listed from 2018-01-31 to 2018-02-07, oldest first."""
    return _ordered(_read(_STREAMS / "usgs_earthquakes_week_2018.geojson.gz"))


def alerts() -> list[Publication]:
    """Real weather, fire, earthquake and tsunami alerts from 2010 to 2019, oldest first."""
    found = [_read(entry) for entry in (_STREAMS / "alerts").iterdir() if _is_stream(entry.name)]
    return _ordered(publication for part in found for publication in part)


def week() -> list[Publication]:
    """The week of earthquakes with the alerts spread evenly over it.

    The alerts are years apart and some were over within the hour; here each is news for two days at least.
    """
    quakes, warnings = earthquakes(), alerts()
    start, span = quakes[0].at, quakes[-1].at - quakes[0].at
    moved = [
        replace(
            warning,
            at=start + span * (place + 0.5) / len(warnings),
            item={**warning.item, "ttl": max(warning.item["ttl"], 2 * DAY)},
        )
        for place, warning in enumerate(warnings)
    ]
    return _ordered([*quakes, *moved])


def replay_file(path: str | Path) -> list[Publication]:
    """Reads a stream from a file, oldest item first; the content decides the format.

    JSON lines (`{"channel": …, "at": seconds, …keys of the item}`), GeoJSON of the USGS or the National Weather
    Service, or one CAP message; each may be packed with gzip (`.gz`).

    Raises:
        SourceError: The file cannot be opened or is none of these; file and line are named.
    """
    file = Path(path)
    publications = _read(file)
    if not publications:
        raise SourceError(file.name, "there is no item in it")
    return _ordered(publications)


class Due(NamedTuple):
    """One item of a schedule: `offset` seconds after its start, `item` is to be sent to `channel`."""

    offset: float
    channel: str
    item: Mapping[str, Any]


class Schedule:
    """Publications on the clock of a run: `speed` seconds of the stream pass in one second.

    Lifetimes are on the stream's clock too: what was news for a day still lives for a day of the stream, and
    at least one second (the shortest ttl that the protocol knows).

    Attributes:
        start: When the stream began, in its own time.
        speed: Seconds of the stream per second of the run.
    """

    def __init__(self, publications: Iterable[Publication], *, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"a stream cannot run at speed {speed}")
        self._publications = _ordered(publications)
        self.start = self._publications[0].at if self._publications else 0.0
        self.speed = speed

    @classmethod
    def over(cls, publications: Sequence[Publication], seconds: float) -> Schedule:
        """All publications, the last of them due after `seconds`."""
        times = [publication.at for publication in publications] or [0.0]
        return cls(publications, speed=max((max(times) - min(times)) / seconds, 1e-9))

    @property
    def seconds(self) -> float:
        """The offset of the last item."""
        return (self._publications[-1].at - self.start) / self.speed if self._publications else 0.0

    def stream_time(self, offset: float) -> float:
        """The stream's own time when the run is `offset` seconds old."""
        return self.start + offset * self.speed

    def __len__(self) -> int:
        return len(self._publications)

    def __iter__(self) -> Iterator[Due]:
        for publication in self._publications:
            item = dict(publication.item)
            if "ttl" in item:
                item["ttl"] = min(max(round(item["ttl"] / self.speed), 1), LONGEST_TTL)
            yield Due((publication.at - self.start) / self.speed, publication.channel, item)


_STREAMS = files("simulator.streams")


def _is_stream(name: str) -> bool:
    return name.endswith((".cap", ".json"))


def _ordered(publications: Iterable[Publication]) -> list[Publication]:
    return sorted(publications, key=lambda publication: publication.at)


def _read(file: Traversable) -> list[Publication]:
    text = _text(file)
    head = text.lstrip()[:4_096]
    if head.startswith("<"):
        return read_cap(text, file.name)
    if '"FeatureCollection"' in head:
        return _read_features(text, file.name)
    return read_lines(text, file.name)


def _text(file: Traversable) -> str:
    try:
        data = file.read_bytes()
        if file.name.endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SourceError(f"{file.name}:{line}", "not UTF-8 text") from None
    except (EOFError, zlib.error) as error:
        raise SourceError(file.name, f"damaged gzip data ({error})") from None
    except OSError as error:  # gzip's own error is one too
        raise SourceError(file.name, error.strerror or str(error)) from None


def _read_features(text: str, name: str) -> list[Publication]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceError(f"{name}:{error.lineno}", f"no JSON: {error.msg}") from None
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list):
        raise SourceError(name, "a GeoJSON object has a list of `features`")
    alerting = any(_is_alert(feature) for feature in features)
    return read_nws(document, name) if alerting else read_earthquakes(document, name)


def _is_alert(feature: object) -> bool:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    return isinstance(properties, dict) and "messageType" in properties
