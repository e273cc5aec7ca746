"""The ranking of a trainer: it has no windows of its own, and learns from what nodes tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from feedgen.ranking.feedback_batches import KINDS
from feedgen.ranking.ranking import Ranking
from feedgen.ranking.sampling import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from feedgen.items import Record
    from feedgen.ranking.feedback_batches import Batch
    from feedgen.ranking.settings import RankingSettings

STALE = 300.0
"""Seconds after which what a node told of its windows counts no more: it may be gone."""

_SHOWN = KINDS.index("shown")


class Leading(Ranking):
    """Learns for all nodes.

    Args:
        settings: of the ranking.

    Attributes:
        sample: which impressions it learns from.
        skipped: events left out of the sample.
    """

    def __init__(self, settings: RankingSettings) -> None:
        super().__init__(settings, shelves=0)
        self.sample = Sample(settings.labels.window)
        self.skipped = 0
        self._told: dict[str, tuple[float, NDArray[np.int64], NDArray[np.float64]]] = {}

    def hear(self, batch: Batch, record: Callable[[int], Record | None], now: float) -> int:
        """Take in what a node tells; returns how many events were in the sample.

        Args:
            batch: of the node.
            record: returns a live item by its number, None if it is over.
            now: Unix seconds; what is said to have happened later counts as of now, as clocks differ.
        """
        if len(batch.worth):
            self._told[batch.node] = now, batch.groups, batch.worth
        if any(batch.compared):
            self.publishers.compared(*batch.compared)
            self.channels.compared(*batch.compared)
        devices = np.array([each.device for each in batch.reporters], np.uint64)[batch.who]
        labels = self.learning.labels
        scales = self.sample.scales(devices, batch.n, batch.kind == _SHOWN, labels.knows, now)
        kept = np.flatnonzero(scales)
        self.skipped += len(batch) - len(kept)
        columns = (batch.who, batch.n, batch.kind, batch.value, batch.at, batch.heard, scales)
        people = [
            self.people.stranger(each.device, each.attrs, held_out=each.held_out)
            for each in batch.reporters
        ]
        events = zip(*(column[kept].tolist() for column in columns), strict=True)
        for who, n, kind, value, at, heard, scale in events:
            at = min(at, now)  # noqa: PLW2901 - the same moment, by the clock that counts here
            arrived = max(min(heard, now), at)
            self.learning.heard(KINDS[kind], record(n), n, value, at, arrived, people[who], scale)
        return len(kept)

    def eligible(self, now: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return what live items may expect at all nodes together."""
        self._told = {node: told for node, told in self._told.items() if now - told[0] <= STALE}
        if not self._told:
            return np.zeros((0, 2), np.int64), np.zeros(0)
        _, groups, worth = zip(*self._told.values(), strict=True)
        return np.concatenate(groups), np.concatenate(worth)
