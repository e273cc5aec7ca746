"""Feedback in, learned heads out: what the ranking does between two turns and in one.

What devices report goes to `labels`, with what was true when the item was shown kept in `evidence`.
When an outcome is known the heads learn it, and every rung is judged by what it had predicted then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.ranking.cohorts import OTHER, Cohorts, assign
from feedgen.ranking.decisions import Outcomes
from feedgen.ranking.evidence import Evidence
from feedgen.ranking.features import Column, Impressions
from feedgen.ranking.labels import NO_REF, Labels
from feedgen.ranking.ladder import Event, Rung
from feedgen.ranking.lift import LiftMeter
from feedgen.ranking.limits import clipped_weights
from feedgen.ranking.monitor import Monitor
from feedgen.ranking.scorer import item_columns, moment_columns
from feedgen.ranking.shift import Shifts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feedgen.items import Record
    from feedgen.ranking.heads import Learners
    from feedgen.ranking.labels import Labelled
    from feedgen.ranking.rows import Person
    from feedgen.ranking.serving import Serving
    from feedgen.ranking.settings import RankingSettings

_UNKNOWN = -1
"""The number of an item that was forgotten before anything was predicted of it."""
_FRESH = 2000
"""Impressions that the rungs predict in one turn: some ten milliseconds."""
_LATE = 3600.0
"""Seconds between an event and its arrival from which its device counts as sleepy."""


@dataclass(slots=True)
class Turn:
    """What a turn brought about.

    Attributes:
        reterm: items whose term may have moved.
        all_terms: whether those of all items may have.
        events: changes of the rung that serves.
        outcomes: what became known, for the decision log.
        learned: outcomes learned.
        more: whether another turn has something to do at once: each is bounded.
    """

    reterm: set[int] = field(default_factory=set)
    all_terms: bool = False
    events: list[Event] = field(default_factory=list)
    outcomes: Outcomes | None = None
    learned: int = 0
    more: bool = False


class Learning:
    """See the module.

    Args:
        settings: of the ranking.
        serving: what was shown, and what predicted it.
        learners: the heads.

    Attributes:
        labels: impressions whose outcome is not known yet.
        monitor: how well the live model predicts.
        shifts: whether scores or features moved.
        lift: against devices on newest first.
        unlearned: outcomes of items that are forgotten.
        moved: items that were learned about since they were last taken.
    """

    def __init__(self, settings: RankingSettings, serving: Serving, learners: Learners) -> None:
        self.labels = Labels(settings.labels)
        self.monitor = Monitor(settings.monitor, Cohorts())
        self.shifts = Shifts()
        self.lift = LiftMeter()
        self.unlearned = 0
        self.moved: set[int] = set()
        self._settings = settings
        self._serving = serving
        self._learners = learners
        self._evidence = Evidence(len(settings.fields))
        self._fresh: list[int] = []
        self._class = settings.fields.index("class") if "class" in settings.fields else None

    def heard(
        self,
        kind: str,
        record: Record | None,
        n: int,
        value: float,
        at: float,
        now: float,
        who: Person,
        scale: float = 1.0,
    ) -> None:
        """Take note of what somebody did with an item.

        Args:
            kind: `shown`, `opened`, `dismissed` or `dwell`.
            record: the item, None if it is over.
            n: its number.
            value: the rank for `shown` (-1 unknown), seconds for `dwell`, else nothing.
            at: Unix seconds at which it happened, not after `now`.
            now: Unix seconds.
            who: did it.
            scale: whole number, impressions that this one stands for where only a sample of all is
                heard of; that of its first event counts.
        """
        device = who.device
        if record is not None:
            self._serving.items.of(record)
        ref = NO_REF
        if n in self._serving.items and self.labels.wants_ref(device, n):
            ref = self._remember(n, at, now, who, scale)
            self._evidence.rank[ref] = min(int(value), 127) if kind == "shown" else -1
        labels = self.labels
        if kind == "shown":
            taken = labels.shown(device, n, int(value), at, ref, scale)
        elif kind == "dwell":
            taken = labels.dwell(device, n, value, at, ref, scale)
        else:
            told = labels.opened if kind == "opened" else labels.dismissed
            taken = told(device, n, at, ref, scale)
        if ref != NO_REF:
            if taken:
                self._fresh.append(ref)
            else:
                self._evidence.release(np.array([ref]))

    def _remember(self, n: int, at: float, now: float, who: Person, scale: float) -> int:
        evidence = self._evidence
        ref = evidence.take()
        evidence.device[ref] = who.device
        evidence.n[ref] = n
        evidence.at[ref] = at
        evidence.heard[ref] = now - at
        evidence.codes[ref] = who.codes
        evidence.zone[ref] = who.zone
        evidence.held_out[ref] = who.held_out
        evidence.scale[ref] = scale
        return ref

    def take_in(self, now: float, turn: Turn) -> None:
        """Let the rungs predict what was heard of, and learn what became known."""
        self._predict_fresh()
        labelled = self.labels.close(now, self._settings.batch)
        if len(labelled):
            self._learn_and_judge(labelled, turn, now)
        self._evidence.release(labelled.released)
        turn.more = bool(self._fresh) or len(labelled) >= self._settings.batch

    def _predict_fresh(self) -> None:
        """Let each rung predict the impressions that were heard of since the last turn."""
        if not self._fresh:
            return
        refs = np.array(self._fresh[:_FRESH], np.int64)
        del self._fresh[:_FRESH]
        evidence, serving = self._evidence, self._serving
        known = np.array([n in serving.items for n in evidence.n[refs].tolist()])
        evidence.n[refs[~known]] = _UNKNOWN
        refs = refs[known]
        if not refs.size:
            return
        ns = evidence.n[refs].tolist()
        # Each where it stood: outcomes at the eighth place say nothing against what is expected of
        # the first.
        shown = self._impressions(refs, evidence.rank[refs])
        evidence.seen[refs] = self._learners.seen(evidence.device[refs])
        predicted = evidence.predicted
        predicted[refs, Rung.LIVE] = serving.live.each(shown).opened
        if serving.snapshot is not None:
            predicted[refs, Rung.SNAPSHOT] = serving.snapshot.each(shown).opened
        rate = self._learners.models[0].rate.now
        predicted[refs, Rung.POPULARITY] = serving.popularity.rates(ns, rate)
        ranked = np.flatnonzero(~evidence.held_out[refs])
        known_items = [serving.items[ns[place]] for place in ranked.tolist()]
        scale = evidence.scale[refs[ranked]]
        for balance, groups in (
            (serving.publishers, [each.publisher for each in known_items]),
            (serving.channels, [each.channel for each in known_items]),
        ):
            balance.exposed(np.array(groups, np.int64), scale=scale)

    def _impressions(self, refs: NDArray[np.int64], ranks: NDArray[np.int8]) -> Impressions:
        """Return remembered impressions as columns."""
        evidence = self._evidence
        known = [self._serving.items[n].tokens for n in evidence.n[refs].tolist()]
        of_item, item_fields = item_columns(
            np.array([each.item for each in known], np.uint64),
            np.array([each.fields for each in known], np.uint64),
        )
        zones = self._serving.people.zones.values
        return Impressions(
            (Column("device", evidence.device[refs]),),
            of_item,
            self._serving.device_fields(evidence.codes[refs]),
            item_fields,
            moment_columns(zones, evidence.zone[refs], evidence.at[refs], ranks),
        )

    def _learn_and_judge(self, labelled: Labelled, turn: Turn, now: float) -> None:
        """Learn outcomes, and judge the rungs by them."""
        evidence = self._evidence
        usable = np.flatnonzero(labelled.ref != NO_REF)
        items = self._serving.items
        known = [n in items for n in evidence.n[labelled.ref[usable]].tolist()]
        usable = usable[np.array(known, np.bool_)]
        self.unlearned += len(labelled) - len(usable)
        if not usable.size:
            return
        refs = labelled.ref[usable]
        self._learn(labelled, usable, refs, now)
        first = ~labelled.correction[usable]
        refs, rows = refs[first], usable[first]
        if not rows.size:
            return
        opened = labelled.opened[rows]
        predicted = evidence.predicted[refs]
        # What is beyond a device's rate teaches nothing, and neither does it judge.
        counted = np.flatnonzero(labelled.weight[rows])
        if counted.size:
            self._judge(labelled, rows[counted], refs[counted], turn, now)
        turn.learned = len(rows)
        turn.outcomes = Outcomes(
            t=now,
            model=self._serving.version,
            device=labelled.device[rows],
            n=labelled.n[rows],
            shown=labelled.shown_at[rows],
            rank=labelled.rank[rows],
            p=predicted[:, Rung.LIVE],
            opened=opened,
            dismissed=labelled.dismissed[rows],
            dwell=labelled.dwell[rows],
        )

    def _learn(
        self, labelled: Labelled, usable: NDArray[np.intp], refs: NDArray[np.int64], now: float
    ) -> None:
        settings = self._settings
        weight = clipped_weights(
            labelled.device[usable],
            settings.labels.max_share,
            labelled.weight[usable],
            settings.labels.free_share,
        ).astype(np.float64)
        told = np.flatnonzero(weight)
        if not told.size:
            return
        again = told[labelled.correction[usable[told]]]
        # What is taken back comes first: a correction changes a label, it does not add one.
        order = np.concatenate((again, told))
        sign = np.concatenate((-np.ones(len(again)), np.ones(len(told))))
        rows = usable[order]
        was = sign < 0
        opened = np.where(was, labelled.was_opened[rows], labelled.opened[rows])
        dismissed = np.where(was, labelled.was_dismissed[rows], labelled.dismissed[rows])
        dwell = np.where(was, labelled.was_dwell[rows], labelled.dwell[rows])
        weights = sign * weight[order]
        labels = opened, dismissed, dwell >= settings.worth.dwell_seconds
        self._learners.learn(
            self._impressions(refs[order], labelled.rank[rows]),
            [each.astype(np.float64) for each in labels],
            [weights, weights, np.where(dwell >= 0, weights, 0.0)],
            now,
        )
        self.moved.update(labelled.n[usable].tolist())

    def _judge(
        self,
        labelled: Labelled,
        rows: NDArray[np.intp],
        refs: NDArray[np.int64],
        turn: Turn,
        now: float,
    ) -> None:
        """Judge what predicted outcomes, and count them."""
        evidence, serving = self._evidence, self._serving
        opened, rank, scale = labelled.opened[rows], labelled.rank[rows], evidence.scale[refs]
        serving.popularity.count(
            labelled.n[rows].tolist(),
            opened,
            labelled.dismissed[rows],
            evidence.predicted[refs, Rung.POPULARITY],
            scale,
        )
        self.lift.observe(labelled.device[rows], evidence.held_out[refs], opened, now, scale)
        weight = scale.astype(np.float64)
        weight /= weight.mean()
        predicted = evidence.predicted[refs]
        rungs = {Rung.LIVE: predicted[:, Rung.LIVE], Rung.POPULARITY: predicted[:, Rung.POPULARITY]}
        if serving.snapshot is not None:
            # What was predicted before the first snapshot: it is a copy of what predicted then.
            snapshot = predicted[:, Rung.SNAPSHOT]
            rungs[Rung.SNAPSHOT] = np.where(np.isnan(snapshot), rungs[Rung.LIVE], snapshot)
        turn.events += serving.ladder.observe(opened, rungs, now, weight)
        cohort = assign(
            evidence.seen[refs], evidence.heard[refs], self._classes(refs), sleepy_after=_LATE
        )
        self.monitor.observe(predicted[:, Rung.LIVE], opened, cohort, now, weight)
        watched: dict[str, NDArray[Any]] = {"score": predicted[:, Rung.LIVE], "rank": rank}
        for at, codes in enumerate(serving.people.fields):
            watched[codes.name] = evidence.codes[refs, at]
        channels = [serving.items[n].channel for n in evidence.n[refs].tolist()]
        watched["item.channel"] = np.array(channels)
        self.shifts.observe(watched)

    def _classes(self, refs: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the cohorts of device classes."""
        if self._class is None:
            return np.full(len(refs), OTHER, np.int8)
        names = self._serving.people.fields[self._class].values
        numbers = [OTHER, *map(self.monitor.cohorts.number, names)]
        classes = np.array(numbers, np.int8)
        return np.asarray(classes[self._evidence.codes[refs, self._class]])
