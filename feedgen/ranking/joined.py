"""Outcomes beside the decisions that led to them, as off-policy estimates want them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feedgen.ranking.decisions import Admissions, Outcomes, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Shown items in the order in which their outcomes were logged; all columns are as long.

    Attributes:
        device: uint64, `tokens.device_token` of the device.
        n: int64, the item.
        shown: float64, Unix seconds.
        rank: int8, place in the window from 0; -1 unknown.
        p: float32, predicted probability of being opened.
        opened: bool.
        dismissed: bool.
        dwell: float32, seconds; -1 unknown.
        propensity: float32, of the admission; NaN where the log has none, so nothing can be said
            of how probable it was: leave such rows out of estimates, and say how many they were.
        mean: float32, ticks that the ranking added at admission; NaN likewise.
        sd: float32, their standard deviation; NaN likewise.
        model: int64, version that admitted; -1 where the log has no admission.
    """

    device: NDArray[np.uint64]
    n: NDArray[np.int64]
    shown: NDArray[np.float64]
    rank: NDArray[np.int8]
    p: NDArray[np.float32]
    opened: NDArray[np.bool_]
    dismissed: NDArray[np.bool_]
    dwell: NDArray[np.float32]
    propensity: NDArray[np.float32]
    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    model: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.device)


def join(outcomes: Sequence[Outcomes], admissions: Iterable[Admissions]) -> Joined:
    """Return every outcome with the last admission of its device and item until it was shown.

    Args:
        outcomes: those of interest.
        admissions: all, in any order; read once, and only what an outcome may need is kept.
    """
    shown: dict[str, Any] = {
        name: _column(outcomes, name, dtype) for name, dtype in Outcomes.COLUMNS.items()
    }
    taken = _Taken(shown["device"], shown["n"], admissions)
    last = taken.last(shown["device"], shown["n"], shown["shown"])
    return Joined(
        **shown,
        propensity=_picked(taken.columns["propensity"], last, np.nan),
        mean=_picked(taken.columns["mean"], last, np.nan),
        sd=_picked(taken.columns["sd"], last, np.nan),
        model=_picked(taken.columns["model"], last, -1),
    )


class _Taken:
    """The admissions of devices and items that have outcomes, as columns."""

    def __init__(
        self, device: NDArray[Any], n: NDArray[Any], admissions: Iterable[Admissions]
    ) -> None:
        devices, items = np.unique(device), set(np.unique(n).tolist())
        kept = [
            select(record, _among(record.device, devices))
            for record in admissions
            if record.n in items
        ]
        self.columns: dict[str, NDArray[Any]] = {
            name: _column(kept, name, Admissions.COLUMNS[name])
            for name in ("device", "propensity", "mean", "sd")
        }
        lengths = [len(record) for record in kept]
        for name, dtype in (("t", np.float64), ("n", np.int64), ("model", np.int64)):
            each = np.array([getattr(record, name) for record in kept], dtype)
            self.columns[name] = np.repeat(each, lengths)

    def last(self, device: NDArray[Any], n: NDArray[Any], shown: NDArray[Any]) -> NDArray[np.int64]:
        """Return the index of the last admission for each outcome; -1 if there is none."""
        own = len(self.columns["t"])
        devices = np.concatenate((self.columns["device"], device))
        ns = np.concatenate((self.columns["n"], n))
        times = np.concatenate((self.columns["t"], shown))
        # One sort of both: before an outcome stands the admission that it belongs to, if any. The
        # sort is stable and admissions are first, so what happened at the same time is in order.
        order = np.lexsort((times, ns, devices))
        at = np.where(order < own, np.arange(len(order)), -1)
        before = np.maximum.accumulate(at)
        candidate = order[np.maximum(before, 0)]
        fits = (before >= 0) & (devices[candidate] == devices[order]) & (ns[candidate] == ns[order])
        last = np.full(len(order), -1, np.int64)
        last[order] = np.where(fits, candidate, -1)
        return last[own:]


def _among(values: NDArray[Any], known: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values are known, known ones sorted: `np.isin` would sort them for each record."""
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[at] == values)


def _picked(column: NDArray[Any], at: NDArray[np.int64], otherwise: float) -> NDArray[Any]:
    """Return elements of a column, and `otherwise` where the place is negative."""
    picked = np.full(len(at), otherwise, column.dtype)
    picked[at >= 0] = column[at[at >= 0]]
    return picked


def _column(
    records: Sequence[Admissions] | Sequence[Outcomes], name: str, dtype: str
) -> NDArray[Any]:
    """Return a column of all records behind one another, in the byte order of this machine."""
    native = np.dtype(dtype).newbyteorder("=")
    return np.concatenate([np.empty(0, native), *(getattr(each, name) for each in records)])
