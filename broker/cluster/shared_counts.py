"""Popularity that all nodes count together, where nothing is learned.

Each node counts what its own devices do at once, and tells the others once a second: sums by item, as
few bytes as there are items of which anything was heard. What is told while the store fails is lost:
the counts of nodes then differ by it, as they do for a node that joined later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.counters import Counters
    from feedgen.engine import Engine
    from feedgen.store.shared import SharedStore

COUNTS = "counts"
"""Kind of what is told."""

_EVERY = 1.0
_ROWS = 4096
"""Items told at once: 128 KiB."""
_KINDS = ("shown", "opened", "dismissed")


class SharedCounts:
    """Counts of items at one of several nodes.

    Args:
        engine: ranks by the counts.
        store: what the nodes share, joined.
        counters: what is dropped is counted here.
        wake: called when the engine has items to rank anew.
    """

    def __init__(
        self, engine: Engine, store: SharedStore, counters: Counters, wake: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._store = store
        self._counters = counters
        self._wake = wake
        self._sums: dict[int, list[int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def feedback(self, n: int, *, shown: int = 0, opened: int = 0, dismissed: int = 0) -> None:
        """Count what a device of this node did; see `Engine.feedback`."""
        self._engine.feedback(n, shown=shown, opened=opened, dismissed=dismissed)
        sums = self._sums.setdefault(n, [0, 0, 0])
        for place, more in enumerate((shown, opened, dismissed)):
            sums[place] += more
        if len(self._sums) >= _ROWS:
            self.tell()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self.tell)

    def tell(self) -> None:
        """Tell the other nodes what was counted here since the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._sums:
            return
        rows = np.array([(n, *sums) for n, sums in self._sums.items()], "<i8")
        self._sums = {}
        try:
            self._store.tell(COUNTS, rows.tobytes())
        except StoreError:  # it is closed, and this server ends
            self._counters.dropped["counts_after_the_end"] += len(rows)

    def told(self, kind: str, body: bytes) -> None:
        """Another node tells what it counted; what cannot be read is dropped and counted."""
        if kind != COUNTS:
            return
        width = 8 * (1 + len(_KINDS))
        rows = np.frombuffer(body[: len(body) // width * width], "<i8").reshape(-1, 1 + len(_KINDS))
        if len(body) % width or (rows < 0).any():
            self._counters.dropped["counts_unreadable"] += 1
            return
        for n, *sums in rows.tolist():
            self._engine.feedback(n, **dict(zip(_KINDS, sums, strict=True)))
        if self._engine.busy:
            self._wake()
