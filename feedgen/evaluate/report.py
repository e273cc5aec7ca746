"""What an evaluation found: metrics with intervals, next to baselines, and a verdict. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.evaluate import offpolicy
from feedgen.evaluate.bootstrap import RESAMPLES, Draws, Interval, interval
from feedgen.evaluate.metrics import HIGHER_IS_BETTER, METRICS, RANGES
from feedgen.evaluate.offpolicy import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from feedgen.evaluate.bootstrap import Codes
    from feedgen.evaluate.progressive import Run
    from feedgen.evaluate.ranker import Floats, Labels


AT_PUBLISH, REKEYED = "at publish", "re-keyed"
"""Names of the first ranker with the terms that items had when they appeared, and kept up to date."""

_MUCH_SPLIT = 0.05


@dataclass(frozen=True, slots=True)
class Report:
    """What came out of a log.

    Attributes:
        events: judged.
        rate: share of them that were opened.
        devices: of them.
        lists: of them.
        split: share of these that stretch over several batches; see `caution`.
        names: of the rankers, the one in question first.
        metrics: by metric and ranker.
        lead: by metric and other ranker, how much better the first one is, from the same draws
            (paired); positive is better also where a lower metric is.
    """

    events: int
    rate: float
    devices: int
    lists: int
    split: float
    names: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Interval]]
    lead: Mapping[str, Mapping[str, Interval]]

    def verdict(self, baselines: Sequence[str]) -> str:
        """Say in a sentence whether the first ranker beats the baselines beyond the intervals."""
        first = self.names[0]
        others = [name for name in baselines if name != first]
        if not self.events:
            return "There are no events to judge by."
        if not others or all(np.isnan(self.lead["ne"][name].low) for name in others):
            return "No verdict: it takes intervals, so resamples, and a log with both labels."
        against = " and ".join(others)
        lead = self.lead
        won = [m for m in METRICS if all(lead[m][name].low > 0 for name in others)]
        worse = [(m, name) for m in METRICS for name in others if lead[m][name].high < 0]
        lost = list(dict.fromkeys(m for m, _ in worse))
        losers = " and ".join(name for name in others if name in {name for _, name in worse})
        if len(won) == len(METRICS):
            return f"{first} beats {against} in every metric, beyond the intervals."
        if not won and not lost:
            return f"No metric sets {first} apart from {against} beyond the intervals."
        parts = [f"is better than {against} in {_listed(won)}"] if won else []
        parts += [f"is worse than {losers} in {_listed(lost)}"] if lost else []
        rest = "; the rest is undecided" if len(won) + len(lost) < len(METRICS) else ""
        return f"{first} {' and '.join(parts)}, beyond the intervals{rest}."

    def caution(self) -> str | None:
        """Say when list metrics are not to be trusted; None if they are.

        Where a ranker learns half of a list before it predicts the other half, its own labels push
        against it: of a list with as many opened as not, what follows a run of opened ones is rather
        not opened. Even the rate of all events has a list AUC below 1/2 then.
        """
        if not self.split > _MUCH_SPLIT:
            return None
        return (
            f"{self.split:.0%} of the lists stretch over several batches, which lowers NDCG and list "
            "AUC of what learns fast: judge lists by whole ones, as with --batch day."
        )

    def rekeying(self) -> str | None:
        """Say what scoring an item once costs and what re-keying regains; None if that was not run."""
        if AT_PUBLISH not in self.names:
            return None
        lost, left = (self.lead["auc"][name] for name in (AT_PUBLISH, REKEYED))
        if np.isnan(lost.value):
            return None
        if lost.value <= 0:
            return "Scoring items once, at publication, costs no AUC here."
        return (
            f"Scoring items once, at publication, costs {lost.value:.4f} of AUC; "
            f"re-keying regains {1 - left.value / lost.value:.0%} of that."
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "events": self.events,
            "rate": _number(self.rate),
            "devices": self.devices,
            "lists": self.lists,
            "split_lists": _number(self.split),
            "metrics": _table(self.metrics),
            "lead": _table(self.lead),
        }


def report(run: Run, *, resamples: int = RESAMPLES, seed: int = 0) -> Report:
    """Judge a run, without its warm-up; the first of its rankers is the one in question.

    Args:
        run: of at least one ranker.
        resamples: for the intervals; 0 none.
        seed: of the resamples.
    """
    judged = slice(run.judged, None)
    y, lists, devices = run.y[judged], run.list[judged], run.device[judged]
    lists = np.unique(lists, return_inverse=True)[1].astype(np.int32)  # those of the warm-up go
    draws = Draws.of(devices, resamples, seed)
    names = tuple(run.predictions)
    metrics: dict[str, dict[str, Interval]] = {}
    lead: dict[str, dict[str, Interval]] = {}
    for metric in METRICS:
        values = {
            name: _valued(metric, y, run.predictions[name][judged], lists, draws) for name in names
        }
        metrics[metric] = {
            name: interval(value, drawn, RANGES[metric]) for name, (value, drawn) in values.items()
        }
        sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
        value, drawn = values[names[0]]
        lead[metric] = {
            name: interval(sign * (value - other), sign * (drawn - others))
            for name, (other, others) in values.items()
            if name != names[0]
        }
    return Report(
        events=len(y),
        rate=float(y.mean()) if len(y) else float("nan"),
        devices=len(np.unique(devices)),
        lists=int(lists.max()) + 1 if len(lists) else 0,
        split=_split(lists, run.batch[judged]),
        names=names,
        metrics=metrics,
        lead=lead,
    )


@dataclass(frozen=True, slots=True)
class Policies:
    """What target policies are worth, from propensities.

    Attributes:
        logged: openings per item that the log shows.
        estimates: by policy; "logged" is the log itself, which must give `logged` again.
        without: events that had no propensity and were left out.
    """

    logged: float
    estimates: Mapping[str, Estimate]
    without: int

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "logged": _number(self.logged),
            "without_propensity": self.without,
            "policies": {name: _estimate(each) for name, each in self.estimates.items()},
        }


def policies(run: Run, *, resamples: int = RESAMPLES, seed: int = 0) -> Policies:
    """Estimate what is opened per item shown if each ranker showed its better half of every list.

    Judged are events with a propensity behind the warm-up. The model of the doubly robust estimate
    is what the first ranker predicted of each event before its label was known.
    """
    usable = np.isfinite(run.propensity)
    usable[: run.judged] = False
    y, propensity = run.y[usable].astype(np.float64), run.propensity[usable]
    model = next(iter(run.predictions.values()))[usable]
    targets = {"logged": propensity}
    targets |= {
        name: offpolicy.top_half(p[usable], run.list[usable], propensity)
        for name, p in run.predictions.items()
    }
    logged = float(y.mean()) if len(y) else float("nan")
    return Policies(
        logged=logged,
        estimates={
            name: offpolicy.estimate(
                *(y, propensity, target),
                offpolicy.model_of(model, propensity, target),
                clusters=run.device[usable],
                # Wider than the rate itself: between nothing and twice as much, anything may be.
                decisive=logged,
                resamples=resamples,
                seed=seed,
            )
            for name, target in targets.items()
        },
        without=len(run) - run.judged - int(usable.sum()),
    )


def _split(lists: Codes, batches: Codes) -> float:
    """Return the share of lists whose events were predicted in more than one batch."""
    if not len(lists):
        return 0.0
    first = np.full(int(lists.max()) + 1, np.iinfo(np.int32).max)
    last = np.full(len(first), -1)
    np.minimum.at(first, lists, batches)
    np.maximum.at(last, lists, batches)
    return float(np.mean(first != last))


def _valued(metric: str, y: Labels, p: Floats, lists: Codes, draws: Draws) -> tuple[float, Floats]:
    """Return a metric from all events, and [draws] from resamples."""
    prepared = METRICS[metric](y, p, lists)
    return float(prepared(Draws.once(len(y)))[0]), prepared(draws)


def _listed(names: Sequence[str]) -> str:
    words = [shown(name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def shown(metric: str) -> str:
    """Return how people write a metric."""
    return {"list_auc": "list AUC", "log_loss": "log-loss"}.get(metric, metric.upper())


def _table(table: Mapping[str, Mapping[str, Interval]]) -> dict[str, Any]:
    return {
        row: {name: _interval(cell) for name, cell in cells.items()} for row, cells in table.items()
    }


def _interval(found: Interval) -> dict[str, float | None]:
    return {
        "value": _number(found.value),
        "low": _number(found.low),
        "high": _number(found.high),
    }


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "ips": _interval(found.ips),
        "snips": _interval(found.snips),
        "dr": None if found.dr is None else _interval(found.dr),
        "ess": found.ess,
        "events": found.events,
        "too_few": found.too_few,
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if np.isfinite(value) else None
