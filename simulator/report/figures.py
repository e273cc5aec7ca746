"""What is shown of a run and stands in no field of its `Result`: shares, means per device and day, the verdict. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from math import isfinite, nan
from statistics import fmean
from typing import TYPE_CHECKING

from simulator.links.energy import battery_days
from simulator.results import Distribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.results import ClassResult, Result, Truth

DAY = 86_400.0


class Verdict(Enum):
    """What a run proves."""

    PASSED = "good"
    UNSURE = "unsure"
    FAILED = "bad"


def verdict(result: Result) -> Verdict:
    """Return what a run proves: a run that was interrupted, or that nobody could look into, nothing good."""
    if not result.ok:
        return Verdict.FAILED
    seen = result.complete and result.checks and all(check.ok for check in result.checks)
    return Verdict.PASSED if seen else Verdict.UNSURE


@dataclass(frozen=True, slots=True)
class Day:
    """What one device of a class needs in a day, as the run went on; NaN where nothing was measured.

    Attributes:
        down, up: Bytes over the air.
        messages: MQTT PUBLISH packets, both ways.
        segments: TCP segments, both ways.
        joules: Energy of the radio.
    """

    down: float
    up: float
    messages: float
    segments: float
    joules: float

    @property
    def bytes(self) -> float:
        """Bytes over the air, both ways."""
        return self.down + self.up

    @property
    def battery_days(self) -> float:
        """How long two AA cells last, for the radio alone; NaN where no energy was measured."""
        return battery_days(self.joules) if self.joules > 0 else nan


def per_day(found: ClassResult) -> Day:
    """Return what a device of a class needs in a day."""

    def each(total: float) -> float:
        return total / found.device_seconds * DAY if found.device_seconds > 0 else nan

    return Day(
        down=each(found.down),
        up=each(found.up),
        messages=each(found.messages_down + found.messages_up),
        segments=each(found.packets_down + found.packets_up),
        joules=each(found.joules) if found.joules > 0 else nan,
    )


def observed(found: ClassResult) -> float:
    """Return the simulated seconds that a device of a class was watched, on average; NaN without devices."""
    return found.device_seconds / found.devices if found.devices else nan


def merged(many: Iterable[Distribution]) -> Distribution:
    """Return all values of several distributions as one; their buckets need not be the same."""
    parts = [one for one in many if one.count]
    buckets: dict[float, int] = {}
    for one in parts:
        for bound, count in zip(one.bounds, one.counts, strict=True):
            buckets[bound] = buckets.get(bound, 0) + count
    bounds = tuple(sorted(buckets))
    return Distribution(
        bounds=bounds,
        counts=tuple(buckets[bound] for bound in bounds),
        count=sum(one.count for one in parts),
        total=sum(one.total for one in parts),
        largest=max((one.largest for one in parts), default=0.0),
    )


def reached(found: Distribution) -> tuple[list[float], list[float]]:
    """Return values and the share of all that does not exceed each: the distribution function.

    The last share is count / (count + 1) and not 1, the mean place of the largest of so many, so that it has a
    place on an axis of nines.
    """
    last = found.count / (found.count + 1)
    sums = accumulate(found.counts)
    points = [
        (min(bound, found.largest), min(so_far / found.count, last))
        for bound, count, so_far in zip(found.bounds, found.counts, sums, strict=True)
        if count
    ]
    if found.count and (not points or points[-1][0] < found.largest):
        points.append((found.largest, last))
    return [value for value, _ in points], [share for _, share in points]


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are known; NaN without any."""
    known = [value for value in values if isfinite(value)]
    return fmean(known) if known else nan


def of_best(values: Sequence[float], truth: Truth) -> float:
    """Return how much of what the best windows would have given came of these, over all samples; NaN if unknown."""
    known = [
        (value, best)
        for value, best in zip(values, truth.best, strict=True)
        if isfinite(value) and isfinite(best)
    ]
    best = sum(best for _, best in known)
    return sum(value for value, _ in known) / best if best > 0 else nan


def counts(classes: Sequence[ClassResult]) -> list[str]:
    """Return the names of everything that any class counted, those that were 0 everywhere left out."""
    names = dict.fromkeys(name for each in classes for name in each.counts)
    return [name for name in names if any(each.counts.get(name) for each in classes)]
