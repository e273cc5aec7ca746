"""What the ranking decides, on its way to the decision log, and out of it again when a device is erased.

Nothing depends on the log: where it cannot be written, what would be in it is dropped and counted, and
the feed goes on.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from feedgen.ranking.decisions import select
from feedgen.ranking.tokens import device_token
from feedgen.store.base import StoreError
from feedgen.store.decision_log import DecisionLog, erase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from feedgen.ranking.decisions import Admissions, Outcomes

logger = logging.getLogger(__name__)

DIRECTORY = "decisions"
"""Of the log, in the data directory."""

_ERASED = 10_000
"""Erased devices of which is remembered that what they did before must not be written any more."""


class Decisions:
    """The decision log of a running server.

    Args:
        directory: of the log.
        max_bytes: of all its files.
        wanted: whether anything is written; erasing works nevertheless.
    """

    def __init__(self, directory: Path, max_bytes: int, *, wanted: bool) -> None:
        self._directory = directory
        self._log = DecisionLog(directory, max_bytes) if wanted else None
        self._opened = False
        self._erased: dict[int, float] = {}

    def open(self) -> None:
        """Take the directory; without it the server goes on, and drops what it would write."""
        if self._log is None:
            return
        try:
            self._log.open()
        except StoreError as error:
            logger.warning("%s Until the server starts again, decisions are not logged.", error)
        else:
            self._opened = True

    async def close(self) -> None:
        """Write what waits, and let go."""
        if self._log is None:
            return
        self._opened = False
        try:
            await asyncio.to_thread(self._log.close)
        except StoreError as error:
            logger.warning("%s What was decided last may be missing from the log.", error)

    def admitted(self, admissions: Iterable[Admissions]) -> None:
        """Log which rows took which items."""
        if self._log is not None:
            for record in admissions:
                self._log.offer(record)

    def became(self, outcomes: Outcomes) -> None:
        """Log what came of items that were shown, but for devices that were erased since."""
        if self._log is None:
            return
        if self._erased:
            devices = np.array(list(self._erased), np.uint64)
            gone = np.isin(outcomes.device, devices)
            for row in np.flatnonzero(gone).tolist():
                # Under the same name another device may have come since.
                gone[row] = outcomes.shown[row] <= self._erased[int(outcomes.device[row])]
            outcomes = select(outcomes, ~gone)
        self._log.offer(outcomes)

    async def erase(self, device: str, now: float) -> None:
        """Remove all that is written of a device, which must have no row any more.

        Args:
            device: its id.
            now: Unix seconds; outcomes of what it was shown until then are not written later.

        Raises:
            StoreError: the disk fails; erasing is finished when the server starts the next time.
        """
        token = device_token(device)
        self._erased.pop(token, None)
        self._erased[token] = now
        for oldest in list(islice(self._erased, max(0, len(self._erased) - _ERASED))):
            del self._erased[oldest]
        if self._log is not None and self._opened:
            await asyncio.to_thread(self._log.erase, token)
        else:
            await asyncio.to_thread(erase, self._directory, token)

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that are not in the log, by reason."""
        log = self._log
        return {} if log is None else {f"decisions_{why}": n for why, n in log.dropped.items()}

    @property
    def fault(self) -> str | None:
        """Why nothing can be written at the moment; None if all is well."""
        return None if self._log is None else self._log.fault
