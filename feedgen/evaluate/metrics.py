"""How good probabilities are, as orders and as numbers.

A metric is *prepared* once for predictions and labels (sorted, binned, compared) and then valued for
many *draws* of the devices at a time: see `bootstrap.Draws`. Most metrics are ratios of sums over
events, so a draw costs a matrix product; only AUC goes through the events again.

| name | meaning | range, best |
|---|---|---|
| auc | probability that a random opened event is above a random other one; ties count half | 0..1, 1 |
| ne | normalised entropy: log-loss over the entropy of the judged events' own rate (He et al., ADKDD 2014); 1 = no better than knowing the rate | 0.., 0 |
| log_loss | mean of -log of the probability given to what happened, nats | 0.., 0 |
| ece | expected calibration error: 15 bins of equal numbers of events by p; mean of their abs(rate - mean p) by events | 0..1, 0 |
| ndcg@10 | of each list: openings discounted by log2(rank + 1), over the best possible (Järvelin and Kekäläinen, TOIS 2002); tied events count by the mean over their random orders | 0..1, 1 |
| list_auc | the AUC within each list | 0..1, 1 |

List metrics are plain means over lists, long and short alike: NDCG of those with an opened event and
at least two events, list AUC of those with both labels. What cannot be said (a log in which nothing
was opened has no AUC) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from feedgen.evaluate.bootstrap import Codes, Draws
from feedgen.evaluate.ranker import Floats

if TYPE_CHECKING:
    from feedgen.evaluate.ranker import Labels

Prepared: TypeAlias = Callable[[Draws], Floats]
"""Draws -> the metric's value in each, [draws]."""

BINS = 15
CUT = 10
_TINY = 1e-15
"""Log-loss holds p this far from 0 and 1: one wrong certainty must not be infinite."""


def auc(y: Labels, p: Floats, _lists: Codes | None = None) -> Prepared:
    """Prepare the area under the ROC curve, by ranks (Hanley and McNeil, Radiology 1982)."""
    opened, others = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    others = others[np.argsort(p[others])]
    first = np.searchsorted(p[others], p[opened], side="left")
    last = np.searchsorted(p[others], p[opened], side="right")

    def value(weights: Floats) -> float:
        w = weights[opened]
        below = np.concatenate([[0.0], np.cumsum(weights[others])])
        pairs = w.sum() * below[-1]
        return float(w @ (below[first] + below[last]) / 2 / pairs) if pairs else np.nan

    return lambda draws: np.array([value(weights) for weights in draws.weights()])


def log_loss(y: Labels, p: Floats, _lists: Codes | None = None) -> Prepared:
    """Prepare the mean logarithmic loss, in nats."""
    losses = logarithmic_losses(y, p)
    return lambda draws: ratio(draws.sums(losses), draws.sums(np.ones(len(p))))


def normalised_entropy(y: Labels, p: Floats, _lists: Codes | None = None) -> Prepared:
    """Prepare log-loss over the entropy of the rate; each draw has its own rate."""
    loss, rate = log_loss(y, p), _mean_label(y)

    def values(draws: Draws) -> Floats:
        r = rate(draws)
        with np.errstate(divide="ignore", invalid="ignore"):  # a rate of 0 or 1 has no entropy
            entropy = -(r * np.log(r) + (1 - r) * np.log1p(-r))
        return ratio(loss(draws), entropy)

    return values


def calibration_error(y: Labels, p: Floats, _lists: Codes | None = None) -> Prepared:
    """Prepare the expected calibration error; the bins are those of all events."""
    bins = equal_mass(p, BINS)

    def values(draws: Draws) -> Floats:
        gaps = draws.sums_by(y - p, bins, BINS)
        return ratio(np.abs(gaps).sum(axis=1), draws.sums(np.ones(len(p))))

    return values


def ndcg(y: Labels, p: Floats, lists: Codes) -> Prepared:
    """Prepare NDCG@10, the mean over lists."""
    places = Places(p, lists)
    opened = y[places.order].astype(np.float64)
    discount = np.where(places.rank < CUT, 1 / np.log2(places.rank + 2), 0.0)
    gained = places.totals(opened * places.mean_of_ties(discount))
    positives = places.totals(opened).astype(np.int64)
    best = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(CUT) + 2))])
    each = ratio(gained, best[np.minimum(positives, CUT)])
    return _over_lists(each, (positives > 0) & (places.size > 1), lists)


def list_auc(y: Labels, p: Floats, lists: Codes) -> Prepared:
    """Prepare the AUC within lists, the mean over lists."""
    places = Places(p, lists)
    opened = y[places.order].astype(np.float64)
    from_below = places.size[places.of] - places.mean_of_ties(places.rank)
    positives = places.totals(opened)
    pairs = positives * (places.size - positives)
    each = ratio(places.totals(opened * from_below) - positives * (positives + 1) / 2, pairs)
    return _over_lists(each, pairs > 0, lists)


METRICS: Mapping[str, Callable[[Labels, Floats, Codes], Prepared]] = MappingProxyType(
    {
        "auc": auc,
        "ne": normalised_entropy,
        "log_loss": log_loss,
        "ece": calibration_error,
        "ndcg@10": ndcg,
        "list_auc": list_auc,
    }
)
"""In the order in which they are reported."""

HIGHER_IS_BETTER = frozenset({"auc", "ndcg@10", "list_auc"})

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {name: (0.0, np.inf if name in {"ne", "log_loss"} else 1.0) for name in METRICS}
)


def measure(y: Labels, p: Floats, lists: Codes) -> dict[str, float]:
    """Return all metrics by name.

    Args:
        y: [events], 0 or 1.
        p: [events], probabilities.
        lists: [events], the number of each event's list, from 0.
    """
    once = Draws.once(len(y))
    return {name: float(prepare(y, p, lists)(once)[0]) for name, prepare in METRICS.items()}


def logarithmic_losses(y: Labels, p: Floats) -> Floats:
    """Return each event's loss [events], nats."""
    held = np.clip(p, _TINY, 1 - _TINY)
    return np.asarray(-np.where(y == 1, np.log(held), np.log1p(-held)))


def equal_mass(p: Floats, bins: int) -> NDArray[np.int64]:
    """Return the bin [events] of each p, so that bins hold equal numbers; equal p share a bin."""
    if not len(p):
        return np.zeros(0, np.int64)
    edges = np.sort(p)[np.arange(1, bins) * len(p) // bins]
    return np.searchsorted(edges, p, side="right").astype(np.int64)


class Places:
    """Events sorted within their lists, best first, and their ties.

    Attributes:
        order: [events], indices of events, list by list.
        of: [events] in that order, the list.
        rank: [events] in that order, from 0 in each list.
        size: [lists], events.
    """

    __slots__ = ("_tie", "of", "order", "rank", "size")

    def __init__(self, p: Floats, lists: Codes) -> None:
        self.order = np.lexsort((-p, lists))
        self.of = lists[self.order]
        self.size = np.bincount(lists)
        self.rank = np.arange(len(p)) - (np.cumsum(self.size) - self.size)[self.of]
        falls = np.diff(p[self.order], prepend=np.nan) != 0
        self._tie = np.cumsum(falls | (self.rank == 0)) - 1

    def totals(self, values: Floats) -> Floats:
        """Return the sum [lists] of values [events in order] of each list."""
        return np.bincount(self.of, values, len(self.size)).astype(np.float64)

    def mean_of_ties(self, values: Floats | NDArray[np.int64]) -> Floats:
        """Return values [events in order], each replaced by the mean over its ties."""
        return np.asarray((np.bincount(self._tie, values) / np.bincount(self._tie))[self._tie])


def _over_lists(each: Floats, judged: NDArray[np.bool_], lists: Codes) -> Prepared:
    """Prepare a mean over lists; a list of several devices weighs the mean of its events."""
    share = np.where(judged, 1 / np.maximum(np.bincount(lists), 1), 0.0)[lists]
    worth = share * np.where(judged, each, 0.0)[lists]
    return lambda draws: ratio(draws.sums(worth), draws.sums(share))


def _mean_label(y: Labels) -> Prepared:
    return lambda draws: ratio(draws.sums(y.astype(np.float64)), draws.sums(np.ones(len(y))))


def ratio(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN where the whole is nothing."""
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))
