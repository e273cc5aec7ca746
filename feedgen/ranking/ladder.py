"""Which ranking serves: the learned one as long as it is right, else the next best that is.

    live model → last good snapshot → popularity → newest first

The rung that serves *falls* when its predictions are worse than the prior's, worse than those of a
lower rung, out of calibration for some windows, drifting for some, or missing. It goes to the best
lower rung without such a fault. A higher rung *wins back* its place in the shadow: it must have been
better than the one that serves, beyond noise, and without any fault for a number of events and of
seconds. Each fall soon after another doubles both (as a circuit breaker backs off), so that under
noise the switches get rarer instead of going on for ever: there are at most as many climbs as
the waits fit into the time, and at most three falls for each.

Limits are those of the field: normalised entropy against one (He et al., ADKDD 2014), calibration
between 0.8 and 1.25, drift by CUSUM (Page 1954). The rest are choices, each written at its setting.

Popularity knows neither the place where an item stood nor how it fades, so its level is often off, for
all items alike; what it is there for is their order. So it is held against what it predicts only that
it is worse than the prior, not that it is out of calibration or drifts.

The newest-first rung has no predictions of its own. It stands for the prior, the running rate,
and is never wrong: there is nothing below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedgen.ranking import shadow
from feedgen.ranking.rungs import Event, Reason, Rung, Standing
from feedgen.ranking.shadow import Shadow, Window

__all__ = ["Event", "Ladder", "Reason", "Rung", "Settings", "Standing"]

VERSION = 1
"""Of the state."""


@dataclass(frozen=True, slots=True)
class Settings:
    """When to fall and when to climb.

    Attributes:
        fall_z: standard errors of the paired difference of losses from which a rung is worse. The
            test is repeated at every window, where 3 errs once in a thousand.
        margin: normalised entropy by which a lower rung that is not the prior must be better, and
            by which the lower of two rungs is preferred. Less is not worth a switch.
        low: calibration below this is a fault, if it is no chance.
        high: likewise above.
        calibration_z: standard errors of Σ(y - p) that are no chance.
        information: Σp(1-p) of a window below which its calibration is not judged; with 9 three
            standard errors are twice what was predicted. Rarer outcomes are left to the drift alarm.
        patience: windows in a row that miscalibration or drift must last.
        climb_z: standard errors by which a higher rung must be better than the one that serves.
        climb_events: that it must have been without fault for, and since the last switch.
        climb_seconds: likewise.
        backoff: doublings of these two at most.
        forgive: seconds without a fall after which the next counts as the first.
        snapshot_every: seconds between two snapshots at least.
        snapshot_after: seconds that the live model must have been without fault before one.
        snapshot_drift: level of its drift statistic above which it is not saved: at half the
            threshold something may have begun that the alarm does not know yet.
        shadow: how evidence is gathered.
    """

    fall_z: float = 4.0
    margin: float = 0.005
    low: float = 0.8
    high: float = 1.25
    calibration_z: float = 3.0
    information: float = 9.0
    patience: int = 2
    climb_z: float = 2.0
    climb_events: int = 3000
    climb_seconds: float = 900.0
    backoff: int = 6
    forgive: float = 86400.0
    snapshot_every: float = 3600.0
    snapshot_after: float = 900.0
    snapshot_drift: float = 0.5
    shadow: shadow.Settings = field(default_factory=shadow.Settings)


class Ladder:
    """Decides which rung serves, from what happened to events that every rung had predicted.

    Attributes:
        chosen: the rung that the evidence speaks for; goes on being chosen while another is forced.
        pinned: the rung that an operator holds, if any; serves unless it is unavailable.
        floor: no better rung than this serves, whatever is chosen or pinned: an overloaded server
            cannot afford it. What is above the floor need not be predicted.
        falls: in a row, as far as they are not forgiven.
        standings: of the rungs, by number.
    """

    __slots__ = (
        "_cold",
        "_settings",
        "_shadow",
        "_snapshot",
        "_switched",
        "_switched_events",
        "chosen",
        "falls",
        "floor",
        "pinned",
        "standings",
    )

    def __init__(self, settings: Settings | None = None, start: Rung = Rung.LIVE) -> None:
        self._settings = settings or Settings()
        self._shadow = Shadow(self._settings.shadow)
        self._cold = True
        self._snapshot: float | None = None
        self._switched: float | None = None
        self._switched_events = 0  # in windows since then
        self.chosen = start
        self.pinned: Rung | None = None
        self.floor = Rung.LIVE
        self.falls = 0
        self.standings = [Standing() for _ in Rung]

    @property
    def serving(self) -> Rung:
        """The rung to rank by."""
        wanted = self.chosen
        if self.pinned is not None and self.standings[self.pinned].fault is not Reason.UNAVAILABLE:
            wanted = self.pinned
        return max(wanted, self.floor)

    def observe(
        self,
        y: NDArray[np.bool_],
        predictions: Mapping[Rung, NDArray[np.floating]],
        t: float,
        weight: NDArray[np.float64] | None = None,
    ) -> list[Event]:
        """Take in events whose outcome is known, and decide.

        Args:
            y: what happened, [n].
            predictions: of each rung for these events, float [n], made before any learned of
                them. A rung that has none, or NaN, is unavailable. `NEWEST` may be left out: then
                it is the running rate.
            t: Unix seconds, no earlier than before.
            weight: float64 [n] of mean 1, how much each counts against the others where a sample did not
                take all alike; None: all the same. There is as much evidence as there are events.

        Returns:
            The changes of `serving`, in order; mostly none.

        Raises:
            ValueError: A rung predicted another number of events. The caller is at fault.
        """
        if not len(y):
            return []
        chosen = self.chosen
        events = self._miss(self._shadow.missing(len(y), predictions), t)
        if self.chosen is not chosen:
            self._switched_events -= len(y)  # these, too, were before it
        start = 0
        while start < len(y):
            room = self._shadow.room(t)
            end = len(y) if room is None else min(start + room, len(y))
            cut = slice(start, end)
            said = {rung: p[cut] for rung, p in predictions.items()}
            self._shadow.take(y[cut], said, t, None if weight is None else weight[cut])
            start = end
            if self._shadow.full(t):
                events += self._close(t)
        return events

    def pin(self, rung: Rung | None, t: float) -> list[Event]:
        """Hold a rung, or with None leave the choice to the evidence again."""
        before, self.pinned = self.serving, rung
        return self._switch(before, Reason.UNPINNED if rung is None else Reason.PINNED, t)

    def at_least(self, rung: Rung, t: float) -> list[Event]:
        """Let no better rung serve than this one; `LIVE` lifts the limit."""
        if rung == self.floor:
            return []
        reason = Reason.OVERLOAD if rung > self.floor else Reason.RELIEVED
        before, self.floor = self.serving, rung
        self._shadow.drop()  # what was excused from predicting is not to be judged by it
        return self._switch(before, reason, t)

    def lose(self, rung: Rung, t: float) -> list[Event]:
        """Note that nothing stands on a rung: it is unavailable until something is copied there."""
        return self._miss([rung], t)

    def snapshot_due(self, now: float) -> bool:
        """Whether the live model is good, and long enough since the last snapshot.

        Who saves it calls `copied(Rung.LIVE, Rung.SNAPSHOT, now)` afterwards, and predicts by it
        as that rung from then on.
        """
        settings, live = self._settings, self.standings[Rung.LIVE]
        if self._snapshot is not None and now - self._snapshot < settings.snapshot_every:
            return False
        if self.chosen is not Rung.LIVE or not live.well or live.well_since is None:
            return False
        proven = now - live.well_since >= settings.snapshot_after
        return proven and self._shadow.drift_level(Rung.LIVE) <= settings.snapshot_drift

    def copied(self, source: Rung, target: Rung, now: float) -> None:
        """Note that the model of one rung now stands on another too: its evidence goes with it."""
        self._shadow.copy(source, target)
        self.standings[target] = replace(self.standings[source])
        if source is Rung.LIVE and target is Rung.SNAPSHOT:
            self._snapshot = now

    def numbers(self, rung: Rung) -> dict[str, float]:
        """Return what is known of a rung: normalised entropy, calibration and so on; JSON."""
        known = {
            "normalised_entropy": self._shadow.entropy(rung),
            "calibration": self._shadow.calibration(rung),
            "drift_level": self._shadow.drift_level(rung),
            "lead_over_prior": self._shadow.lead(rung, Rung.NEWEST),
        }
        return {name: number for name, number in known.items() if isfinite(number)}

    def _miss(self, rungs: list[Rung], t: float) -> list[Event]:
        """Fall at once from a rung that predicts nothing: there is nothing to rank by."""
        before = self.serving
        for rung in rungs:
            if rung >= self.floor:
                self.standings[rung] = Standing(Reason.UNAVAILABLE)
        if self.standings[self.chosen].fault is Reason.UNAVAILABLE:
            self._fall(t)
        return self._switch(before, Reason.UNAVAILABLE, t)

    def _close(self, t: float) -> list[Event]:
        """End a window and decide. The first is not judged: in it a new model learns where it is."""
        if self._cold:
            self._cold = False
            self._shadow.drop()
            return []
        window, before = self._shadow.close(), self.serving
        self._switched_events += window.events
        for rung in _JUDGED:
            self._judge(rung, window, t)
        reason = self.standings[self.chosen].fault or self._outranked()
        if reason is not None:
            self._fall(t)
        else:
            reason = Reason.WON_SHADOW
            self._climb(window, t)
        if self.serving is self.pinned:  # it was unavailable until now
            reason = Reason.PINNED
        return self._switch(before, reason, t)

    def _judge(self, rung: Rung, window: Window, t: float) -> None:
        settings, standing = self._settings, self.standings[rung]
        if not window.available[rung]:
            if rung >= self.floor:
                self.standings[rung] = Standing(Reason.UNAVAILABLE)
            return
        inside = settings.low <= window.calibration[rung] <= settings.high
        enough = window.variance[rung] >= settings.information
        off = enough and not inside and abs(window.z[rung]) >= settings.calibration_z
        learned = rung is not Rung.POPULARITY
        standing.uncalibrated = standing.uncalibrated + 1 if off and learned else 0
        drifting = window.drifting[rung] and learned
        standing.drifting = standing.drifting + 1 if drifting else 0
        standing.fault = self._fault(rung)
        if not standing.well:
            standing.well_events, standing.well_since = 0, None
            return
        standing.well_events += window.events
        if standing.well_since is None:
            standing.well_since = t

    def _fault(self, rung: Rung) -> Reason | None:
        settings, standing = self._settings, self.standings[rung]
        if self._shadow.lead(Rung.NEWEST, rung) >= settings.fall_z:
            return Reason.WORSE_THAN_PRIOR
        if standing.uncalibrated >= settings.patience:
            return Reason.MISCALIBRATED
        if standing.drifting >= settings.patience:
            return Reason.DRIFT
        return None

    def _outranked(self) -> Reason | None:
        """Whether a lower rung, the prior apart, is plainly better than the chosen one."""
        settings, entropy = self._settings, self._shadow.entropy
        for lower in _JUDGED[self.chosen + 1 :]:
            better = self._shadow.lead(lower, self.chosen) >= settings.fall_z
            worth_it = entropy(self.chosen) - entropy(lower) >= settings.margin
            if better and worth_it and self.standings[lower].fault is None:
                return Reason.WORSE_THAN_LOWER
        return None

    def _fall(self, t: float) -> None:
        if self._switched is not None and t - self._switched >= self._settings.forgive:
            self.falls = 0
        self.falls += 1
        lower = [rung for rung in Rung if rung > self.chosen and not self.standings[rung].fault]
        self._choose(self._best(lower), t)

    def _climb(self, window: Window, t: float) -> None:
        settings = self._settings
        wait = 2 ** min(max(self.falls - 1, 0), settings.backoff)
        events, seconds = settings.climb_events * wait, settings.climb_seconds * wait
        if self._switched is not None and t - self._switched < seconds:
            return
        if self._switched_events < events:
            return

        def won(rung: Rung) -> bool:
            standing = self.standings[rung]
            return (
                standing.well
                and window.available[rung]
                and standing.well_since is not None
                and standing.well_events >= events
                and t - standing.well_since >= seconds
                and self._shadow.lead(rung, self.chosen) >= settings.climb_z
            )

        winners = [rung for rung in _JUDGED if rung < self.chosen and won(rung)]
        if winners:
            self._choose(self._best(winners), t)

    def _best(self, rungs: list[Rung]) -> Rung:
        """Return the rung with the least loss, or one above it that is about as good."""
        best, *others = rungs
        for rung in others:
            # NaN, before the first window, is no reason to go further down.
            if self._shadow.entropy(best) - self._shadow.entropy(rung) > self._settings.margin:
                best = rung
        return best

    def _choose(self, rung: Rung, t: float) -> None:
        self.chosen, self._switched = rung, t
        # Those of the window at hand were before it, and will be counted when it ends.
        self._switched_events = -self._shadow.events

    def _switch(self, before: Rung, reason: Reason, t: float) -> list[Event]:
        """Return the event of a switch, if what serves has changed."""
        if self.serving == before:
            return []
        numbers = {f"{name}_from": number for name, number in self.numbers(before).items()}
        numbers |= {f"{name}_to": number for name, number in self.numbers(self.serving).items()}
        numbers["lead"] = self._shadow.lead(self.serving, before)
        return [Event(t, before, self.serving, reason, numbers)]

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs, as JSON."""
        return {
            "version": VERSION,
            "chosen": int(self.chosen),
            "pinned": None if self.pinned is None else int(self.pinned),
            "cold": self._cold,
            "falls": self.falls,
            "switched": self._switched,
            "switched_events": self._switched_events,
            "snapshot": self._snapshot,
            "standings": [asdict(standing) for standing in self.standings],
            "shadow": self._shadow.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned; the floor is today's load's, and stays as it is.

        Raises:
            ValueError: The state is of another version. Start anew.
        """
        if state["version"] != VERSION:
            raise ValueError(f"ladder state of version {state['version']}, not {VERSION}")
        self.chosen = Rung(state["chosen"])
        self.pinned = None if state["pinned"] is None else Rung(state["pinned"])
        self._cold = bool(state["cold"])
        self.falls = int(state["falls"])
        self._switched = state["switched"]
        self._switched_events = int(state["switched_events"])
        self._snapshot = state["snapshot"]
        self.standings = [
            Standing(**{**saved, "fault": saved["fault"] and Reason(saved["fault"])})
            for saved in state["standings"]
        ]
        self._shadow.restore(state["shadow"])


_JUDGED = (Rung.LIVE, Rung.SNAPSHOT, Rung.POPULARITY)
"""Rungs that can be wrong."""
