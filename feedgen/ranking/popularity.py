"""Popularity: what is fallen back to when the model is wrong. One rate per item, smoothed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.ranking.value import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from feedgen.ranking.value import Settings

_ITEMS = 1 << 17
"""Items counted; beyond, those first heard of longest ago are forgotten."""
_PRIOR = 20.0
"""Impressions at the rate of all that an item starts with when it is predicted."""
_MEMORY = 2000.0
"""Outcomes after which one counts 1/e in the level."""
_LEVEL_PRIOR = 20.0
"""Openings, expected and had, that the level starts with."""


class Popularity:
    """Counts per item.

    Args:
        settings: of the ticks that popularity is worth.
    """

    __slots__ = ("_baseline", "_counts", "_expected", "_opened")

    def __init__(self, settings: Settings) -> None:
        self._baseline = Baseline(settings)
        self._counts: dict[int, list[int]] = {}
        # Of all items lately: openings, and as many as their rates had promised. Items fade, and
        # people lose interest in everything at once; neither is known to the rate of one item.
        self._opened = self._expected = 0.0

    @property
    def level(self) -> float:
        """Openings of late over those that the rates of the items had promised."""
        return (self._opened + _LEVEL_PRIOR) / (self._expected + _LEVEL_PRIOR)

    def count(
        self,
        ns: Sequence[int],
        opened: NDArray[np.bool_],
        dismissed: NDArray[np.bool_],
        predicted: NDArray[np.float32],
        scale: NDArray[np.float32] | None = None,
    ) -> None:
        """Count outcomes.

        Args:
            ns: items, one an outcome; may repeat.
            opened: bool [n].
            dismissed: bool [n].
            predicted: float32 [n], what `rates` had said of them.
            scale: float32 [n], whole numbers: outcomes that each stands for; None: 1 each.
        """
        each = np.ones(len(opened), np.float32) if scale is None else scale
        kept = float(np.exp(-float(each.sum()) / _MEMORY))
        promised = float(np.nansum(predicted * each)) / self.level
        self._opened = self._opened * kept + float((opened * each).sum())
        self._expected = self._expected * kept + promised
        for n, was_opened, was_dismissed, stands_for in zip(
            ns, opened.tolist(), dismissed.tolist(), each.astype(np.int64).tolist(), strict=True
        ):
            counts = self._counts.setdefault(n, [0, 0, 0])
            counts[0] += stands_for
            counts[1] += was_opened * stands_for
            counts[2] += was_dismissed * stands_for
        if len(self._counts) > _ITEMS:
            for n in list(islice(self._counts, _ITEMS // 8)):
                del self._counts[n]

    def ticks(self, n: int, rate: float) -> int:
        """Return what popularity adds to the key of an item, against the rate of all."""
        counts = self._counts.get(n)
        return 0 if counts is None else self._baseline.popularity(*counts, rate=rate)

    def rates(self, ns: Sequence[int], rate: float) -> NDArray[np.float32]:
        """Return the probability that items are opened, given that of all."""
        nothing = [0, 0, 0]
        counts = np.array([self._counts.get(n, nothing) for n in ns], np.float64).reshape(-1, 3)
        smoothed = (counts[:, 1] + _PRIOR * rate) / (counts[:, 0] + _PRIOR)
        return np.minimum(self.level * smoothed, 1.0).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {
            "n": np.array(list(self._counts), np.int64),
            "counts": np.array(list(self._counts.values()), np.int64).reshape(-1, 3),
            "level": np.array((self._opened, self._expected)),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        counts = np.asarray(state["counts"]).tolist()
        self._counts = dict(zip(np.asarray(state["n"]).tolist(), counts, strict=True))
        self._opened, self._expected = np.asarray(state["level"], np.float64).tolist()
