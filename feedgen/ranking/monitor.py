"""Is the model right? Normalised entropy, calibration and drift, over all events and per cohort.

Every event comes with the probability that was predicted for it and what happened. The readings
are over windows that fade exponentially, counted in events:

- *Normalised entropy* (He et al., ADKDD 2014): log-loss over that of always saying the window's
  rate. Below 1 the predictions carry information; above 1 the model does harm.
- *Calibration*: Σy / Σp. 1.25 means 25 % more outcomes than predicted.
- *z*: Σw(y - p) / √Σw²p(1-p), about standard normal while the model is right.
- *Drift*: the CUSUM of `drift`, which finds changes too small or too fresh for the windows.

A reading needs enough data; with less it is unknown, never an alarm. An alarm needs more than
chance: windows are looked at all the time, so the usual 1.96 would cry wolf every day.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedgen.ranking import drift
from feedgen.ranking.cohorts import Cohorts
from feedgen.ranking.drift import Cusum, Drift

ALL = "all"
"""The name of the reading over all events."""

CERTAIN = 1e-6
"""Predictions are held this far from 0 and 1: one event costs at most 13.8 nats."""

PIECE = 1024
"""Events that are taken in at a time."""

VERSION = 1
"""Of the state."""

_W, _Y, _P, _VAR, _LOSS, _WORSE, _W2_VAR, _W2_WORSE = range(8)
_SUMS = 8


class Status(StrEnum):
    """What a reading comes to."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    ALARM = "alarm"


class Alarm(StrEnum):
    """What is wrong."""

    WORSE_THAN_RATE = "worse_than_rate"
    MISCALIBRATED = "miscalibrated"
    DRIFT_UP = "drift_up"
    DRIFT_DOWN = "drift_down"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is watched, and when it is an alarm.

    Attributes:
        window: events after which one counts 1/e in the fading sums.
        minimum: events (faded) below which nothing is known.
        information: Σp(1-p) below which calibration is unknown, and whether the rate is better: with
            25 the ratio's standard deviation is a fifth at small rates, the width of the band below.
        low: calibration below this is an alarm, if it is no chance.
        high: likewise above.
        z: standard errors that are no chance. A fading window looked at all the time exceeds 4
            about once in a hundred stretches of 20 000 events.
        drift: of the CUSUM over all events. Cohorts have a threshold higher by the logarithm of how
            many there may be, so that all of them together cry wolf as seldom as it.
    """

    window: float = 5000.0
    minimum: float = 200.0
    information: float = 25.0
    low: float = 0.8
    high: float = 1.25
    z: float = 4.0
    drift: drift.Settings = field(default_factory=drift.Settings)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the predictions of one cohort do.

    Attributes:
        events: taken in since the start.
        weight: of them in the fading window.
        rate: outcomes per event in the window; None if there is no event in it.
        predicted: the same as predicted.
        normalised_entropy: None while unknown, as the next two, or if only one outcome occurs.
        calibration: Σy / Σp.
        z: of y - p.
        drift: direction of the drift alarm.
        drift_level: how near it is, 0 to 1.
        drift_run: events since the change began, if there is one.
        status: unknown, healthy or alarm.
        alarms: why, in fixed order.
    """

    events: int
    weight: float
    rate: float | None
    predicted: float | None
    normalised_entropy: float | None
    calibration: float | None
    z: float | None
    drift: Drift
    drift_level: float
    drift_run: int
    status: Status
    alarms: tuple[Alarm, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the reading as JSON."""
        return asdict(self)


def log_loss(p: NDArray[np.float64], y: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the loss of each prediction in nats; p must be inside (0, 1)."""
    said: NDArray[np.float64] = np.log(np.where(y, p, 1.0 - p))
    return np.negative(said, out=said)


class Monitor:
    """Watches one head's predictions.

    Attributes:
        cohorts: names of the cohorts that events may be in; may grow.
        invalid: events left out because their prediction was no probability.
        last: Unix seconds of the last events; None before any.
    """

    # Row 0 of the sums is for all events, row 1 + c for cohort c.
    __slots__ = (
        "_cusums",
        "_events",
        "_settings",
        "_sums",
        "_weights",
        "cohorts",
        "invalid",
        "last",
    )

    def __init__(self, settings: Settings | None = None, cohorts: Cohorts | None = None) -> None:
        self._settings = settings or Settings()
        self.cohorts = cohorts or Cohorts()
        self.invalid = 0
        self.last: float | None = None
        rows = 1 + self.cohorts.limit
        self._sums = np.zeros((rows, _SUMS))
        self._events = np.zeros(rows, np.int64)
        threshold, warm_up = self._settings.drift.threshold, self._settings.drift.warm_up
        apart = threshold + log(self.cohorts.limit)
        self._cusums = [Cusum(apart if row else threshold, warm_up) for row in range(rows)]
        # Of the last PIECE events, as seen from the last one.
        self._weights: NDArray[np.float64] = np.exp(
            -np.arange(PIECE - 1, -1, -1.0) / self._settings.window
        )

    def observe(
        self,
        p: NDArray[np.floating],
        y: NDArray[np.bool_],
        cohort: NDArray[np.int8],
        t: float,
        weight: NDArray[np.float64] | None = None,
    ) -> None:
        """Take in events whose outcome is known.

        Args:
            p: predicted probability, [n]. What is none, NaN for one, is left out and counted.
            y: what happened, [n].
            cohort: number of the cohort, [n]; what `cohorts` has no name for counts in all only.
            t: Unix seconds.
            weight: float64 [n] of mean 1, as in `Ladder.observe`; None: all the same.

        Raises:
            ValueError: The arrays differ in length. The caller is at fault.
        """
        if not len(p) == len(y) == len(cohort):
            raise ValueError(f"{len(p)} predictions, {len(y)} outcomes, {len(cohort)} cohorts")
        self.last = t
        each = np.ones(len(p)) if weight is None else weight
        right = (p >= 0.0) & (p <= 1.0)
        if not right.all():
            p, y, cohort, each = p[right], y[right], cohort[right], each[right]
            self.invalid += int(len(right) - len(p))
        for start in range(0, len(p), PIECE):
            cut = slice(start, start + PIECE)
            self._take(np.asarray(p[cut], np.float64), y[cut], cohort[cut], each[cut])

    def _take(
        self,
        p: NDArray[np.float64],
        y: NDArray[np.bool_],
        cohort: NDArray[np.int8],
        each: NDArray[np.float64],
    ) -> None:
        """Add up to PIECE events to the sums of all and to those of their cohorts.

        Every event stands in two segments, that of all and that of its cohort, so that all sums
        of all cohorts come out of one pass.
        """
        segments, starts, lengths, members = self._segments(cohort)
        p = np.clip(p, CERTAIN, 1.0 - CERTAIN)
        ends = np.repeat(starts + lengths, lengths)
        weight = self._weights[np.arange(PIECE, PIECE + len(members)) - ends] * each[members]
        kept = np.exp(-lengths / self._settings.window)
        rate = np.repeat(self._rates(segments, kept, starts, weight, y[members]), lengths)
        terms = _terms(p[members], y[members], rate, weight)
        self._sums[segments, :_W2_VAR] *= kept[:, None]
        self._sums[segments, _W2_VAR:] *= (kept * kept)[:, None]
        self._sums[segments] += np.add.reduceat(terms, starts, axis=1).T
        self._events[segments] += lengths
        steps = drift.increments(p, y, self._settings.drift.shift).take(members, axis=1)
        for row, start, end in zip(segments, starts, starts + lengths, strict=True):
            self._cusums[row].add(steps[:, start:end])

    def _segments(self, cohort: NDArray[np.int8]) -> tuple[NDArray[np.intp], ...]:
        """Return the rows that have events, where they start, how many, and which they are."""
        known = np.flatnonzero((cohort >= 0) & (cohort < len(self.cohorts.names)))
        codes = cohort[known]
        counts = np.bincount(codes, minlength=self.cohorts.limit)
        lengths = np.concatenate(([len(cohort)], counts))
        segments = np.flatnonzero(lengths)
        lengths = lengths[segments]
        members = np.concatenate((np.arange(len(cohort)), known[np.argsort(codes, kind="stable")]))
        return segments, np.cumsum(lengths) - lengths, lengths, members

    def _rates(
        self,
        rows: NDArray[np.intp],
        kept: NDArray[np.float64],
        starts: NDArray[np.intp],
        weight: NDArray[np.float64],
        y: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Return the rate of each row with the new events in it.

        That they are in it is worth about a nat per window to the rate, and spares one to start from.
        """
        outcomes = self._sums[rows, _Y] * kept + np.add.reduceat(weight * y, starts)
        events = self._sums[rows, _W] * kept + np.add.reduceat(weight, starts)
        rates: NDArray[np.float64] = (outcomes + 0.5) / (events + 1.0)
        return rates

    def report(self) -> dict[str, Reading]:
        """Return the readings by name: `ALL`, then every cohort that had events."""
        return {
            name: self._reading(row)
            for row, name in enumerate((ALL, *self.cohorts.names))
            if not row or self._events[row]
        }

    def _reading(self, row: int) -> Reading:
        settings, cusum = self._settings, self._cusums[row]
        weight, y, p, var, loss, worse, w2_var, w2_worse = self._sums[row].tolist()
        enough = weight >= settings.minimum
        alarms: list[Alarm] = []
        entropy = calibration = z = None
        if enough:
            entropy = _normalised_entropy(loss, y, weight)
        if enough and var >= settings.information:
            if worse > settings.z * sqrt(w2_worse):
                alarms.append(Alarm.WORSE_THAN_RATE)
            calibration, z = y / p, (y - p) / sqrt(w2_var)
            inside = settings.low <= calibration <= settings.high
            if not inside and abs(z) >= settings.z:
                alarms.append(Alarm.MISCALIBRATED)
        if enough and cusum.drift is not Drift.NONE:
            alarms.append(Alarm.DRIFT_UP if cusum.drift is Drift.UP else Alarm.DRIFT_DOWN)
        return Reading(
            events=int(self._events[row]),
            weight=weight,
            rate=y / weight if weight else None,
            predicted=p / weight if weight else None,
            normalised_entropy=entropy,
            calibration=calibration,
            z=z,
            drift=cusum.drift,
            drift_level=cusum.level,
            drift_run=cusum.run,
            status=Status.ALARM if alarms else Status.HEALTHY if enough else Status.UNKNOWN,
            alarms=tuple(alarms),
        )

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs, as JSON."""
        used = range(1 + len(self.cohorts.names))
        return {
            "version": VERSION,
            "cohorts": list(self.cohorts.names),
            "invalid": self.invalid,
            "last": self.last,
            "events": self._events[: len(used)].tolist(),
            "sums": self._sums[: len(used)].tolist(),
            "cusums": [self._cusums[row].state() for row in used],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            ValueError: The state is of another version, or of more cohorts than there may be. Start
                anew, nothing else is lost.
        """
        if state["version"] != VERSION:
            raise ValueError(f"monitor state of version {state['version']}, not {VERSION}")
        self.cohorts.restore(state["cohorts"])
        self.invalid = int(state["invalid"])
        self.last = state["last"]
        used = 1 + len(self.cohorts.names)
        self._events[:used] = state["events"]
        self._sums[:used] = state["sums"]
        for cusum, saved in zip(self._cusums, state["cusums"], strict=False):
            cusum.restore(saved)


def _normalised_entropy(loss: float, y: float, weight: float) -> float | None:
    """Return the loss over that of always saying the rate; None if there is only one outcome."""
    if not 0.0 < y < weight:
        return None
    background = -(y * log(y / weight) + (weight - y) * log(1.0 - y / weight))
    return loss / background


def _terms(
    p: NDArray[np.float64],
    y: NDArray[np.bool_],
    rate: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what each event adds to each sum, [_SUMS, n]."""
    loss = log_loss(p, y)
    worse = loss - log_loss(rate, y)
    terms = np.empty((_SUMS, len(p)))
    terms[_W] = 1.0
    terms[_Y] = y
    terms[_P] = p
    terms[_VAR] = p * (1.0 - p)
    terms[_LOSS] = loss
    terms[_WORSE] = worse
    terms[:_W2_VAR] *= weight
    np.multiply(terms[_VAR], weight, out=terms[_W2_VAR])
    np.multiply(terms[_WORSE], terms[_WORSE], out=terms[_W2_WORSE])
    return terms
