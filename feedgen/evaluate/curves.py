"""What the plots show, as numbers: calibration, ROC, quality as the log goes on, quality per cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feedgen.evaluate.bootstrap import Draws, Interval, interval
from feedgen.evaluate.metrics import BINS, METRICS, auc, equal_mass, normalised_entropy
from feedgen.evaluate.progressive import NEW, SLEEPY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from feedgen.evaluate.bootstrap import Codes
    from feedgen.evaluate.metrics import Prepared
    from feedgen.evaluate.progressive import Run
    from feedgen.evaluate.ranker import Floats, Labels

_ROC_POINTS = 400
_CURVE_POINTS = 80
_LEAST_WINDOW = 500
_LEAST_COHORT = 100
_MOST_KINDS = 8


class Bin(NamedTuple):
    """Events that were predicted about the same.

    Attributes:
        p: mean prediction.
        rate: share of them that were opened.
        events: how many.
    """

    p: float
    rate: Interval
    events: int


def calibration(y: Labels, p: Floats, draws: Draws) -> list[Bin]:
    """Return up to `metrics.BINS` bins of equal numbers of events, by p.

    Args:
        y: [events].
        p: [events].
        draws: of the events' devices.
    """
    bins, ones = equal_mass(p, BINS), np.ones(len(p))
    once = Draws.once(len(p))
    opened, count = once.sums_by(y * ones, bins, BINS)[0], once.sums_by(ones, bins, BINS)[0]
    total = once.sums_by(p, bins, BINS)[0]
    with np.errstate(invalid="ignore"):  # a bin that a draw does not have
        drawn = draws.sums_by(y * ones, bins, BINS) / draws.sums_by(ones, bins, BINS)
    return [
        Bin(
            p=float(total[i] / count[i]),
            rate=interval(float(opened[i] / count[i]), drawn[:, i], (0.0, 1.0)),
            events=int(count[i]),
        )
        for i in np.flatnonzero(count)
    ]


def roc(y: Labels, p: Floats) -> tuple[Floats, Floats]:
    """Return (share of the others above, share of the opened above) for falling thresholds.

    Points are at most a few hundred, at the ends of ties; both shares run from 0 to 1.
    """
    order = np.argsort(-p, kind="stable")
    ends = np.flatnonzero(np.diff(p[order], append=-np.inf) != 0)
    opened = np.cumsum(y[order], dtype=np.float64)[ends]
    others = ends + 1 - opened
    chosen = np.unique(np.linspace(0, len(ends) - 1, _ROC_POINTS).astype(np.int64))
    shares = [
        np.concatenate([[0.0], each[chosen] / max(each[-1], 1.0)]) for each in (others, opened)
    ]
    return shares[0], shares[1]


class Course(NamedTuple):
    """Quality as the log goes on, in overlapping windows of equal numbers of events.

    Attributes:
        t: Unix seconds at the windows' ends.
        ne: normalised entropy in each, NaN where only one label occurs.
        auc: likewise.
    """

    t: Floats
    ne: Floats
    auc: Floats


def window(run: Run) -> int:
    """Return how many events a window of a run's course has."""
    return min(max(_LEAST_WINDOW, len(run) // 20), len(run))


def course(run: Run, name: str) -> Course:
    """Return the course of a ranker, warm-up included: that is where it learns most."""
    size = window(run)
    ends = np.unique(np.linspace(size, len(run), _CURVE_POINTS).astype(np.int64))
    p, once = run.predictions[name], Draws.once(size)

    def values(metric: Callable[[Labels, Floats], Prepared]) -> Floats:
        return np.array(
            [metric(run.y[end - size : end], p[end - size : end])(once)[0] for end in ends]
        )

    return Course(run.t[ends - 1], values(normalised_entropy), values(auc))


class Cohort(NamedTuple):
    """Some of the judged events.

    Attributes:
        name: which.
        events: how many.
        metrics: by ranker and metric (`auc`, `ne`).
    """

    name: str
    events: int
    metrics: dict[str, dict[str, Interval]]


def cohorts(run: Run, names: tuple[str, ...], resamples: int, seed: int) -> list[Cohort]:
    """Return the cohorts that are large enough to say something about, all events first."""
    found = []
    for label, chosen in _memberships(run):
        y, devices = run.y[chosen], run.device[chosen]
        if len(y) < _LEAST_COHORT or not 0 < y.mean() < 1:
            continue
        draws = Draws.of(devices, resamples, seed)
        metrics = {
            name: {
                metric: _interval(metric, y, run.predictions[name][chosen], draws)
                for metric in ("auc", "ne")
            }
            for name in names
        }
        found.append(Cohort(label, len(y), metrics))
    return found


def _memberships(run: Run) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    judged = np.arange(len(run)) >= run.judged
    yield "all", judged
    yield f"new devices (under {NEW} events)", judged & (run.seen < NEW)
    yield "known devices", judged & (run.seen >= NEW)
    yield "sleepy (silent for a day)", judged & (run.asleep > SLEEPY) & (run.seen > 0)
    yield "regular", judged & (run.asleep <= SLEEPY)
    sizes = np.bincount(run.kind[judged & (run.kind >= 0)], minlength=len(run.kinds))
    for kind in np.argsort(-sizes, kind="stable")[:_MOST_KINDS]:
        yield f"class {run.kinds[kind]}", judged & (run.kind == kind)


def _interval(metric: str, y: Labels, p: Floats, draws: Draws) -> Interval:
    no_lists: Codes = np.zeros(len(y), np.int32)
    prepared = METRICS[metric](y, p, no_lists)
    return interval(float(prepared(Draws.once(len(y)))[0]), prepared(draws))
