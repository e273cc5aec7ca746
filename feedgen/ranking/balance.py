"""Fairness among those who publish: exposure in proportion to merit, over time and within a price.

A window shows the best few, so whoever is a little better than the rest is shown far more than a
little more often, and whoever is a little worse hardly at all: ranking concentrates exposure beyond
merit (Singh and Joachims, KDD 2018). No single window can repair this; over many it can be paid
back (Biega et al., SIGIR 2018, arXiv 1805.01788). So each group (a publisher, or a channel) has a
correction in log value, added to the keys of its items, which slowly grows while the group is shown
less than it merits. With e = log(merit share / exposure share), n impressions after the step before:

    c += rate * n / memory * e + gain * (e - e before)

*Merit share* is the group's share of the predicted value of everything that was eligible, summed
over pairs of device and item. So who publishes more, or better, deserves more; half the value per
item deserves half the exposure, where ranking alone might give none. As a sum it rewards volume: to
give none to those who publish much, feed the mean value of a group's items per device in its stead.

What keeps it bounded:

- Shares are of the last `memory` impressions, and time counts in impressions: a busy feed and a
  quiet one are corrected alike.
- The ranking answers a correction at once, its shares show so only a `memory` later. Summing up
  e alone, the first term, overshoots for that long; the second one ends it. (Together they are a
  proportional-integral controller in its incremental form, in which the cap is all that is needed
  against windup.)
- Only differences between groups matter: corrections have the mean 0, weighted by merit.
- They leak towards 0, so that none outlives its evidence, and never leave ±`cap`.
- What they cost is measured (`Balance.compared`), and where it is beyond a budget they shrink. Where
  items differ little but ranking still tells them apart, merit is nearly even and exposure is not:
  there, proportion alone cost up to a sixth of all opens in simulated feeds.
- A new group has a boost instead, until it was shown often enough for its shares to say something.
  (Each new name has one, so who may publish under many is a question for the door.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from feedgen.windows import EMPTY, Keys

Groups: TypeAlias = NDArray[np.integer[Any]]
Floats: TypeAlias = NDArray[np.floating[Any]]

OTHERS = 0
"""The group of what has none, and of those for whom there is no room. It is not corrected."""

_THRIFT = 5.0
"""How fast corrections that cost too much shrink: by this power of budget over cost within `memory`
impressions. More would overshoot, as costs are measured over as many."""

_COLUMNS = np.dtype(
    [
        ("group", np.int64),
        ("merit", np.float64),
        ("exposure", np.float64),
        ("error", np.float64),
        ("correction", np.float64),
        ("impressions", np.int64),
        ("exposed_at", np.int64),
    ]
)
"""`merit` and `exposure` fade, `impressions` do not. `error` is that of the last step. `exposed_at` is
how many impressions of all groups there had been."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How exposure is balanced.

    Attributes:
        memory: impressions; what is older counts less than 1/e in the shares.
        rate: log value by which a correction moves within `memory` impressions while the merit
            share is e times the exposure share.
        gain: log value by which it moves at once when that ratio becomes e times as high.
        cap: log value; no correction is beyond ± this.
        budget: share of expected opens that the corrections may cost, as measured. Above it all of
            them shrink and none moves; exposure then stays as far from merit as the budget asks.
        leak: seconds in which a correction that nothing renews falls to 1/e.
        doubt: above 0; impressions that every group is taken to have had, and to have merited, on top of
            its own: shares of groups with few impressions are mostly chance.
        boost: log value added to the items of a group that was never shown; falls with each
            impression. So no key moves by more than `cap + boost`.
        newcomer: at least 1; impressions after which a group has no boost any more, and a correction.
        groups: how many are told apart.
    """

    memory: float = 8000.0
    rate: float = 2.0
    gain: float = 1.0
    cap: float = 0.5
    budget: float = 0.02
    leak: float = 7 * 86400.0
    doubt: float = 5.0
    boost: float = 0.5
    newcomer: int = 100
    groups: int = 4096


@dataclass(frozen=True, slots=True)
class Share:
    """One group's part of the feed, over the last `memory` impressions.

    Attributes:
        group: its number; `OTHERS` for all that are not told apart.
        exposure: its share of what was shown, 0 to 1.
        merit: its share of the predicted value of what was eligible, 0 to 1.
        correction: log value that its items get now, boost included.
        impressions: how often it was shown since it is told apart.
    """

    group: int
    exposure: float
    merit: float
    correction: float
    impressions: int

    @property
    def ratio(self) -> float:
        """Exposure over merit: 1 is fair; infinite for what was shown without merit."""
        return self.exposure / self.merit if self.merit else inf


class Balance:
    """Exposure against merit of one kind of groups; use one for publishers and one for channels."""

    __slots__ = ("_evidence", "_fresh", "_now", "_rows", "_settings", "_shown", "_values")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rows: NDArray[np.void] = np.zeros(1, _COLUMNS)
        """Sorted by group; the first is `OTHERS`."""
        self._shown = 0
        """Impressions ever."""
        self._fresh = 0
        """Impressions since the last step."""
        self._evidence = 0.0
        """Impressions, fading."""
        self._values = np.zeros(2)
        """Expected opens with corrections and without, of what was compared; fading."""
        self._now: float | None = None

    def offered(self, groups: Groups, merit: Floats) -> None:
        """Note what was eligible; all of it or a fair sample.

        Args:
            groups: int [m], whose item it was, for pairs of device and item; may repeat.
            merit: [m], the predicted value of each, before any correction; or of many pairs in sum.

        Raises:
            ValueError: a group is negative, or a merit negative or not finite.
        """
        self._add("merit", groups, merit)

    def exposed(
        self,
        groups: Groups,
        weight: Floats | None = None,
        scale: NDArray[np.float32] | None = None,
    ) -> None:
        """Note what was shown.

        Args:
            groups: int [m], whose item it was, one for each impression.
            weight: [m], how much attention the place gets; None for the same everywhere.
            scale: float32 [m], whole numbers: impressions that each stands for; None: 1 each.

        Raises:
            ValueError: a group is negative, or a weight negative or not finite.
        """
        each = np.ones(len(groups)) if scale is None else scale.astype(np.float64)
        at = self._add("exposure", groups, each if weight is None else weight * each)
        counted = np.bincount(at, each, len(self._rows))
        self._rows["impressions"] += counted.astype(np.int64)
        shown = int(each.sum())
        self._shown += shown
        self._fresh += shown
        self._evidence += shown
        self._rows["exposed_at"][at] = self._shown

    def compared(self, corrected: float, uncorrected: float) -> None:
        """Note what one or more windows are worth as they are, and what they would be worth.

        `both_ways` computes the two from windows as they stand. A sample is enough, such as the
        windows of a hundredth of the devices once an hour.

        Args:
            corrected: expected opens of what is visible.
            uncorrected: expected opens of what would be, without any correction.
        """
        self._values += (corrected, uncorrected)

    @property
    def fresh(self) -> int:
        """Impressions since the last step."""
        return self._fresh

    def step(self, now: float) -> None:
        """Move the corrections by what came in since the last step.

        Args:
            now: Unix seconds; when it goes back nothing leaks.
        """
        settings, rows = self._settings, self._rows
        elapsed = 0.0 if self._now is None else max(now - self._now, 0.0)
        rows["correction"] *= exp(-elapsed / settings.leak)
        if self._fresh:
            self._correct()
        kept = exp(-self._fresh / settings.memory)
        rows["merit"] *= kept
        rows["exposure"] *= kept
        self._values *= kept
        self._evidence *= kept
        self._fresh = 0
        self._now = now

    def correction(self, groups: Groups) -> NDArray[np.float32]:
        """Return float32 [m], the log value that items of these groups get on top of their own.

        A group of which nothing is known yet gets the whole boost, as long as there is room to
        tell it apart.
        """
        at, known = self._find(groups)
        room = len(self._rows) <= self._settings.groups
        unknown = self._settings.boost if room else 0.0
        return np.where(known, self._corrections()[at], unknown).astype(np.float32)

    def cost(self) -> float | None:
        """Return the share of expected opens given up for the corrections, 0 to 1.

        None as long as nothing was compared. Chance can make it negative.
        """
        corrected, uncorrected = self._values.tolist()
        return 1 - corrected / uncorrected if uncorrected > 0 else None

    def report(self) -> list[Share]:
        """Return the groups, those with the most merit first."""
        rows = self._rows
        order = np.argsort(-rows["merit"], kind="stable")
        columns = (
            rows["group"],
            _shares(rows["exposure"]),
            _shares(rows["merit"]),
            self._corrections(),
            rows["impressions"],
        )
        return [
            Share(*row) for row in zip(*(column[order].tolist() for column in columns), strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """Return all that there is to keep, as numbers and lists of numbers."""
        return {
            "columns": {name: self._rows[name].tolist() for name in _COLUMNS.names or ()},
            "shown": self._shown,
            "fresh": self._fresh,
            "evidence": self._evidence,
            "values": self._values.tolist(),
            "now": self._now,
        }

    @classmethod
    def from_state(cls, settings: Settings, state: Mapping[str, Any]) -> Balance:
        """Return the balance that `state` was taken from.

        Where `settings` tell fewer groups apart than are in it, those shown least recently become
        others.

        Raises:
            ValueError: the state is damaged; start with a new balance.
        """
        self = cls(settings)
        try:
            columns = state["columns"]
            self._rows = np.zeros(len(columns["group"]), _COLUMNS)
            for name in _COLUMNS.names or ():
                self._rows[name] = columns[name]
            self._shown, self._fresh = int(state["shown"]), int(state["fresh"])
            self._evidence = float(state["evidence"])
            self._values[:] = state["values"]
            self._now = None if state["now"] is None else float(state["now"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the stored balance of exposure is damaged: {error!r}") from error
        group = self._rows["group"]
        if not (group[:1] == OTHERS).all() or (np.diff(group) <= 0).any() or not len(group):
            raise ValueError("the stored balance of exposure is damaged: its groups are not sorted")
        self._merge(self._least_recent(len(group) - 1 - settings.groups))
        return self

    def _correct(self) -> None:
        settings, rows = self._settings, self._rows
        if not rows["merit"].any():
            return  # nothing was scored: against nothing everybody would be shown too much
        ruled = (rows["group"] != OTHERS) & (rows["impressions"] >= settings.newcomer)
        merit = _shares(rows["merit"])
        due = merit * self._evidence + settings.doubt
        had = _shares(rows["exposure"]) * self._evidence + settings.doubt
        error = np.log(due / had)
        progress = min(self._fresh / settings.memory, 1.0)
        cost = self.cost()
        if cost is not None and cost > settings.budget:
            moved = rows["correction"] * (settings.budget / cost) ** (_THRIFT * progress)
        else:
            moved = rows["correction"] + settings.rate * progress * error
            moved += settings.gain * (error - rows["error"])
        rows["error"] = error
        weight = merit * ruled
        if weight.any():
            moved -= weight @ moved / weight.sum()
        moved = np.clip(moved, -settings.cap, settings.cap)
        rows["correction"] = np.where(ruled, moved, rows["correction"])

    def _corrections(self) -> NDArray[np.float64]:
        unproven = 1 - self._rows["impressions"] / self._settings.newcomer
        boost = self._settings.boost * np.maximum(unproven, 0.0)
        boost[0] = 0.0
        return np.asarray(self._rows["correction"] + boost)

    def _add(self, column: str, groups: Groups, weights: Floats) -> NDArray[np.intp]:
        """Add weights to a column; return the place of each group."""
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"the {column} of a group must be finite and not negative")
        at, known = self._find(groups)
        if not known.all():
            self._tell_apart(np.unique(groups[~known]))
            at, _ = self._find(groups)
        self._rows[column] += np.bincount(at, weights, minlength=len(self._rows))
        return at

    def _find(self, groups: Groups) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the place of each group, that of the others if it is not known, and if it is."""
        if (groups < 0).any():
            raise ValueError("groups are numbered from 0")
        column = self._rows["group"]
        at = np.searchsorted(column, groups)
        at[at == len(column)] = 0
        known = column[at] == groups
        at[~known] = 0
        return at, known

    def _tell_apart(self, groups: Groups) -> None:
        """Give new groups a place of their own, as far as there is room."""
        room = self._settings.groups - (len(self._rows) - 1)
        if room < len(groups):
            # Only who was not shown for long makes room, else many groups would chase each other
            # out, and be new and boosted each time they come back.
            idle = self._least_recent(len(groups) - room)
            idle = idle[self._rows["exposed_at"][idle] < self._shown - self._settings.memory]
            self._merge(idle)
            room += len(idle)
        new = np.zeros(min(room, len(groups)), _COLUMNS)
        new["group"] = groups[: len(new)]
        new["exposed_at"] = self._shown
        rows = np.concatenate((self._rows, new))
        self._rows = rows[np.argsort(rows["group"])]

    def _least_recent(self, count: int) -> NDArray[np.intp]:
        """Return the places of up to `count` groups, those shown longest ago; never the others."""
        by_age = np.argsort(self._rows["exposed_at"][1:], kind="stable") + 1
        return by_age[: max(count, 0)]

    def _merge(self, places: NDArray[np.intp]) -> None:
        """Count groups among the others from now on."""
        for column in ("merit", "exposure", "impressions"):
            self._rows[column][0] += self._rows[column][places].sum()
        self._rows = np.delete(self._rows, places)


def both_ways(
    keys: Keys, ticks: NDArray[np.integer[Any]], values: Floats, weights: Floats
) -> tuple[float, float]:
    """Tell what windows are worth as they are, and with their corrections taken off.

    What stands below the last place of a window is not known here: groups that were lowered out of
    it are missed. A window that is as long again as its visible part misses few.

    Args:
        keys: int32 [rows, width], corrected, falling in each row, `EMPTY` after the last.
        ticks: int [rows, width], the correction within each key.
        values: [rows, width], the predicted value of each item, finite.
        weights: [width] or [rows, width], the attention each place gets; 0 where it is not visible.

    Returns:
        The two sums, for `Balance.compared`.
    """
    held = keys != EMPTY
    values = np.where(held, values, 0.0)
    rising = np.where(held, ticks - keys.astype(np.int64), np.iinfo(np.int64).max)
    order = np.argsort(rising, axis=1, kind="stable")
    without = np.take_along_axis(values, order, axis=1)
    return float((values * weights).sum()), float((without * weights).sum())


def _shares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    total = sums.sum()
    return sums / total if total > 0 else np.zeros_like(sums)
