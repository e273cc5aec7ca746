"""What the charts show: the last minutes of a server, kept by it, so that a new viewer sees them at once.

Of every reading a point is kept, and what changed between two readings that people want to know of. Rates
are those between two points. Quantiles are of the last `SPAN` seconds: of a single second with three
frames in it they would say nothing, and over the last minute, as `$SYS` has them, they would hide a spike.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from broker.overload.levels import Level
from broker.web.pages.words import FAMILIES, LEVELS, RUNGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.figures.histogram import Distribution
    from broker.figures.reading import Reading

KEPT = 600.0
"""Seconds that points are kept."""

SPAN = 10.0
"""Seconds that quantiles and the rates in words are of."""

MODEL_EVERY, MODEL_POINTS = 10.0, 720
"""Seconds between two points of the model, and how many are kept: two hours."""

_DROPS_EVERY, _DROPS_SPAN = 5.0, 60.0
_EVENTS = 60
_PER = {"frame": "fleetfeed_publish_to_frame_seconds", "ack": "fleetfeed_publish_to_ack_seconds"}
_QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Point:
    """A moment in the charts. None where nothing was measured.

    Attributes:
        at: Unix seconds.
        frames: Frames sent, a second; the next three likewise.
        acks: Frames acknowledged.
        items: Items received.
        drops: What was dropped and should not have been.
        frame_p50: Seconds from accepting an item to its frame, of half of them; likewise the next five.
        frame_p95: Of 95 in a hundred.
        frame_p99: Of 99 in a hundred.
        ack_p50: To the device's acknowledgement.
        ack_p95: Likewise.
        ack_p99: Likewise.
        cpu: Share of one core.
        rss: Bytes of memory.
        level: Of overload.
        devices: Those that are subscribed.
    """

    at: float
    frames: float
    acks: float
    items: float
    drops: float
    frame_p50: float | None
    frame_p95: float | None
    frame_p99: float | None
    ack_p50: float | None
    ack_p95: float | None
    ack_p99: float | None
    cpu: float
    rss: float
    level: int
    devices: int


@dataclass(frozen=True, slots=True)
class ModelPoint:
    """How the model was at one moment. None while that is unknown.

    Attributes:
        at: Unix seconds.
        calibration: Outcomes over what was predicted.
        entropy: Loss over that of always saying the rate.
        drift: How near the alarm is, 0 to 1.
        rung: What ranks, 0 the best.
    """

    at: float
    calibration: float | None
    entropy: float | None
    drift: float | None
    rung: int


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that people want to know of.

    Attributes:
        at: Unix seconds.
        grade: `ok`, `warn` or `bad`.
        words: What happened.
    """

    at: float
    grade: str
    words: str


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """What later readings are compared with."""

    at: float
    totals: Mapping[str, Distribution]


class History:
    """The last minutes of one server.

    Args:
        clock: Unix seconds.

    Attributes:
        points: For the charts, oldest first.
        model: Likewise, of the model.
        events: What happened, oldest first.
        last: The reading that was taken last.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.points: deque[Point] = deque()
        self.model: deque[ModelPoint] = deque(maxlen=MODEL_POINTS)
        self.events: deque[Happening] = deque(maxlen=_EVENTS)
        self.last: Reading | None = None
        self._clock = clock
        self._move: tuple[int, bool, Happening | None] = (0, False, None)
        self._spans: deque[_Kept] = deque()
        self._dropped: deque[tuple[float, Mapping[tuple[str, str], float]]] = deque()

    def take(self, reading: Reading) -> bool:
        """Keeps what a reading says; whether it is another one than the last."""
        before, self.last = self.last, reading
        if reading is before:
            return False
        now = self._clock()
        counts = dropped(reading)
        if before is not None and reading.at > before.at:
            self._compare(before, reading, now)
            self._note(before, reading, now)
        self._spans.append(_Kept(reading.at, reading.totals))
        while len(self._spans) > 1 and reading.at - self._spans[1].at >= SPAN:
            self._spans.popleft()
        if not self._dropped or reading.at - self._dropped[-1][0] >= _DROPS_EVERY:
            self._dropped.append((reading.at, counts))
        while len(self._dropped) > 1 and reading.at - self._dropped[1][0] >= _DROPS_SPAN:
            self._dropped.popleft()
        self._look_at_model(reading, now)
        return True

    # ---- What is asked

    def columns(self) -> dict[str, list[float | None]]:
        """The points as columns by name, which is how they are drawn."""
        return _columns(Point, self.points)

    def model_columns(self) -> dict[str, list[float | None]]:
        """Likewise those of the model."""
        return _columns(ModelPoint, self.model)

    def happened(self) -> list[dict[str, Any]]:
        """What happened, newest first."""
        return [asdict(each) for each in reversed(self.events)]

    def rate(self, name: str) -> float:
        """The mean of a column of the points over the last `SPAN` seconds; 0 before there is any."""
        if not self.points:
            return 0.0
        newest = self.points[-1].at
        values = []
        for point in reversed(self.points):
            if newest - point.at >= SPAN:
                break
            values.append(float(getattr(point, name)))
        return sum(values) / len(values)

    def drops(self) -> list[dict[str, Any]]:
        """Whatever was dropped since the start: in words, how many, and how many in the last minute."""
        if self.last is None:
            return []
        since = self._dropped[0][1]
        found = []
        for family in FAMILIES:
            for reason, total in sorted(family.counts(self.last.numbers).items()):
                if total:
                    found.append(
                        {
                            "what": family.title,
                            "reason": reason or family.figure.removeprefix("fleetfeed_"),
                            "words": family.of(reason),
                            "fault": family.fault(reason),
                            "total": int(total),
                            "minute": int(total - since.get((family.figure, reason), 0)),
                        }
                    )
        return sorted(found, key=lambda each: (not each["fault"], -each["minute"], -each["total"]))

    # ---- Between two readings

    def _compare(self, before: Reading, reading: Reading, now: float) -> None:
        passed = reading.at - before.at

        def rate(name: str, of: str) -> float:
            grown = number(reading, name, of) - number(before, name, of)
            return round(max(grown, 0.0) / passed, 3)

        at = round(now, 2)
        _forget_from(self.points, at)
        self.points.append(
            Point(
                at=at,
                frames=rate("fleetfeed_frames_total", "sent"),
                acks=rate("fleetfeed_frames_total", "acked"),
                items=rate("fleetfeed_items_total", "received"),
                drops=round(max(_faults(reading) - _faults(before), 0.0) / passed, 3),
                **self._quantiles(reading),
                cpu=rate("fleetfeed_process_cpu_seconds_total", ""),
                rss=number(reading, "fleetfeed_process_rss_bytes"),
                level=int(number(reading, "fleetfeed_overload_level")),
                devices=int(number(reading, "fleetfeed_devices", "subscribed")),
            )
        )
        while now - self.points[0].at > KEPT:
            self.points.popleft()

    def _quantiles(self, reading: Reading) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for key, name in _PER.items():
            since = reading.totals[name].since(self._spans[0].totals[name])
            known = since.count > 0
            for share in _QUANTILES:
                quantile = round(since.quantile(share), 6) if known else None
                found[f"{key}_p{share * 100:g}"] = quantile
        return found

    def _note(self, before: Reading, reading: Reading, now: float) -> None:
        """What changed that people want to know of."""

        def change(name: str) -> tuple[int, int]:
            return int(number(before, name)), int(number(reading, name))

        was, level = change("fleetfeed_overload_level")
        rises = change("fleetfeed_overload_rises_total")
        if level != was:
            self._moved(now, was, level)
        elif rises[1] > rises[0]:
            self._add(now, "warn", f"Overload rose for a moment, and is back at level {level}.")
        if "fleetfeed_ranking_rung" in reading.numbers:
            was, rung = change("fleetfeed_ranking_rung")
            if rung != was:
                verb, grade = ("fell", "bad") if rung > was else ("climbed", "ok")
                self._add(now, grade, f"The ranking {verb} from {RUNGS[was]} to {RUNGS[rung]}.")
        if change("fleetfeed_store_up") == (1, 0):
            self._add(
                now, "bad", "The store is away: publishers get no acknowledgement until it is back."
            )
        elif change("fleetfeed_store_up") == (0, 1):
            self._add(now, "ok", "The store is back.")
        if "fleetfeed_uplink_up" in reading.numbers:
            there_was, there = (
                number(each, "fleetfeed_uplink_up", "frames") for each in (before, reading)
            )
            if there < there_was:
                self._add(
                    now, "bad", "The broker is away: no frame reaches a device until it is back."
                )
            elif there > there_was:
                self._add(now, "ok", "The broker is back.")
        refused = change("fleetfeed_overload_connects_refused_total")
        if refused[1] > refused[0]:
            self._add(
                now, "warn", f"{refused[1] - refused[0]} clients were told to come back later."
            )

    def _moved(self, now: float, was: int, level: int) -> None:
        """The level is another one: all steps in one direction, one after the other, are told as one."""
        began, rising, last = self._move
        if self.events and self.events[-1] is last and rising == (level > was):
            self.events.pop()
            was = began
        verb = "rose" if level > was else "fell"
        grade = "ok" if not level else "bad" if level > was and level >= Level.HOLDING else "warn"
        self._add(now, grade, f"Overload {verb} from level {was} to {level}: {LEVELS[level]}.")
        self._move = was, level > was, self.events[-1]

    def _add(self, now: float, grade: str, words: str) -> None:
        self.events.append(Happening(round(now, 2), grade, words))

    def _look_at_model(self, reading: Reading, now: float) -> None:
        if "fleetfeed_ranking_rung" not in reading.numbers:
            return
        _forget_from(self.model, round(now, 2))
        if self.model and now - self.model[-1].at < MODEL_EVERY:
            return
        known = {
            key: reading.numbers.get(f"fleetfeed_ranking_{name}", {}).get("all")
            for key, name in (
                ("calibration", "calibration"),
                ("entropy", "normalised_entropy"),
                ("drift", "drift"),
            )
        }
        rung = int(number(reading, "fleetfeed_ranking_rung"))
        self.model.append(ModelPoint(at=round(now, 2), rung=rung, **known))


def _forget_from(points: deque[Any], at: float) -> None:
    """Forgets points from then on: the clock was set back, and charts need times that grow."""
    while points and points[-1].at >= at:
        points.pop()


def number(reading: Reading, name: str, of: str = "") -> float:
    """A figure of a reading, all values of its label together if none is named; 0 if it is not there."""
    return reading.number(name, of) if name in reading.numbers else 0.0


def dropped(reading: Reading) -> dict[tuple[str, str], float]:
    """All counts of drops by figure and reason."""
    return {
        (family.figure, reason): count
        for family in FAMILIES
        for reason, count in family.counts(reading.numbers).items()
    }


def _faults(reading: Reading) -> float:
    return sum(
        count
        for family in FAMILIES
        for reason, count in family.counts(reading.numbers).items()
        if family.fault(reason)
    )


def _columns(of: type, points: deque[Any]) -> dict[str, list[float | None]]:
    return {each.name: [getattr(point, each.name) for point in points] for each in fields(of)}
