"""Have the scores or features moved? The population stability index, against a reference period.

    PSI = Σ over bins of (share now - share then) · ln(share now / share then)

The rule of thumb of credit scoring, where the index comes from: below 0.1 nothing has happened,
above 0.25 the population is another one (Siddiqi, Credit Risk Scorecards, 2006). It needs no
outcomes, so it speaks before they arrive; but it tells that something is different, not that it is
worse. So it warns, and never moves the ladder.

Chance alone makes an index of about (bins - 1)·(1/then + 1/now). The readings wait until that is
below a fifth of the first limit. A feature with a rhythm, the hour for one, shifts every day: give
it a window of whole days, or leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
"""Of the state."""


class Level(StrEnum):
    """What an index comes to."""

    UNKNOWN = "unknown"
    STABLE = "stable"
    MOVING = "moving"
    SHIFTED = "shifted"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the two periods are compared.

    Attributes:
        reference: events of the reference period, the first ones.
        window: events after which one counts 1/e in the present.
        bins: of numbers, by quantiles of the reference period; ten are the custom.
        codes: bins of codes, the most frequent ones of the reference period.
        moving: index from which something is going on.
        shifted: index from which the population is another one.
        features: how many are watched; further ones are not, and counted.
    """

    reference: int = 5000
    window: float = 5000.0
    bins: int = 10
    codes: int = 30
    moving: float = 0.1
    shifted: float = 0.25
    features: int = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """How far one feature has moved.

    Attributes:
        index: PSI; None while unknown.
        level: what it comes to.
        events: since the reference period, fading.
    """

    index: float | None
    level: Level
    events: float


def stability_index(then: NDArray[np.floating], now: NDArray[np.floating]) -> float:
    """Return the PSI of counts per bin; half an event is added to each, so that none is empty."""
    expected = (then + 0.5) / (then.sum() + 0.5 * len(then))
    actual = (now + 0.5) / (now.sum() + 0.5 * len(now))
    return float(((actual - expected) * np.log(actual / expected)).sum())


class Shifts:
    """Watches the score and features by name.

    Attributes:
        unwatched: columns left out because there were `Settings.features` others before them.
    """

    __slots__ = ("_columns", "_settings", "unwatched")

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._columns: dict[str, _Column] = {}
        self.unwatched = 0

    def observe(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Take in events.

        Args:
            columns: by name; floats are numbers, NaN means that there is none; integers are codes.
        """
        for name, values in columns.items():
            column = self._columns.get(name)
            if column is None:
                if len(self._columns) >= self._settings.features:
                    self.unwatched += 1
                    continue
                column = self._columns[name] = _Column(self._settings)
            column.add(np.asarray(values))

    def report(self) -> dict[str, Reading]:
        """Return the readings by name."""
        return {name: column.reading() for name, column in self._columns.items()}

    def rebase(self) -> None:
        """Begin a new reference period: what is there now is how it should be."""
        self._columns.clear()

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs, as JSON."""
        columns = {name: column.state() for name, column in self._columns.items()}
        return {"version": VERSION, "unwatched": self.unwatched, "columns": columns}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            ValueError: The state is of another version. Start anew: a new reference period begins.
        """
        if state["version"] != VERSION:
            raise ValueError(f"shift state of version {state['version']}, not {VERSION}")
        self.unwatched = int(state["unwatched"])
        self._columns = {}
        for name, saved in state["columns"].items():
            self._columns[name] = column = _Column(self._settings)
            column.restore(saved)


class _Column:
    """One feature: the reference period as it comes in, then two histograms.

    Numbers fall between `_edges`, codes on them; the last bin is for what is none of it.
    """

    __slots__ = ("_edges", "_is_code", "_now", "_pending", "_settings", "_then")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_code = False
        self._pending: NDArray[Any] = np.empty(0)
        self._edges: NDArray[Any] | None = None
        self._then = self._now = np.empty(0)

    def add(self, values: NDArray[Any]) -> None:
        if self._edges is None:
            values = self._refer(values)
        if len(values):
            # All of a batch weigh the same: a window is thousands of events, a batch is not.
            self._now *= np.exp(-len(values) / self._settings.window)
            self._now += self._count(values)

    def _refer(self, values: NDArray[Any]) -> NDArray[Any]:
        """Take what the reference period still lacks, and return the rest."""
        if not len(self._pending):
            self._is_code = values.dtype.kind in "biu"
        lacking = self._settings.reference - len(self._pending)
        kind = np.int64 if self._is_code else np.float64
        self._pending = np.concatenate((self._pending, values[:lacking])).astype(kind)
        if len(self._pending) == self._settings.reference:
            self._edges = self._bins(self._pending)
            self._then = self._count(self._pending)
            self._now = np.zeros(len(self._then))
            self._pending = np.empty(0)
        return values[lacking:]

    def _bins(self, values: NDArray[Any]) -> NDArray[Any]:
        if self._is_code:
            codes, counts = np.unique(values, return_counts=True)
            frequent = np.argsort(-counts, kind="stable")[: self._settings.codes]
            return np.sort(codes[frequent])
        values = values[np.isfinite(values)]
        if not len(values):
            return values
        # Equal quantiles of a feature with few values would be bins that nothing falls into.
        shares = np.arange(1, self._settings.bins) / self._settings.bins
        return np.unique(np.quantile(values, shares))

    def _count(self, values: NDArray[Any]) -> NDArray[np.float64]:
        edges = self._edges
        assert edges is not None
        bins = len(edges) + (1 if self._is_code else 2)
        if self._is_code:
            place = np.minimum(np.searchsorted(edges, values), len(edges) - 1)
            place = np.where(edges[place] == values, place, bins - 1)
        else:
            place = np.searchsorted(edges, values, side="right")
            place = np.where(np.isfinite(values), place, bins - 1)
        return np.bincount(place, minlength=bins).astype(np.float64)

    def reading(self) -> Reading:
        settings, events = self._settings, float(self._now.sum())
        if not events:
            return Reading(None, Level.UNKNOWN, 0.0)
        by_chance = (len(self._then) - 1) * (1 / self._then.sum() + 1 / events)
        if by_chance > settings.moving / 5:
            return Reading(None, Level.UNKNOWN, events)
        index = stability_index(self._then, self._now)
        level = Level.SHIFTED if index > settings.shifted else Level.MOVING
        return Reading(index, level if index > settings.moving else Level.STABLE, events)

    def state(self) -> dict[str, Any]:
        return {
            "is_code": self._is_code,
            "pending": self._pending.tolist(),
            "edges": None if self._edges is None else self._edges.tolist(),
            "then": self._then.tolist(),
            "now": self._now.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._is_code = bool(state["is_code"])
        kind = np.int64 if self._is_code else np.float64
        self._pending = np.array(state["pending"], kind)
        self._edges = None if state["edges"] is None else np.array(state["edges"], kind)
        self._then = np.array(state["then"], np.float64)
        self._now = np.array(state["now"], np.float64)
