"""Receipts of the items of one server, as its service keeps them and an operator reads them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from broker.receipts import counts
from broker.receipts.census import Census
from feedgen.store import state_file
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from broker.receipts.counts import Receipt, Receipts
    from broker.roster import Shelf
    from feedgen.engine import Engine
    from feedgen.items import Record
    from feedgen.standing import Part

logger = logging.getLogger(__name__)

FILE = "receipts.state"
"""In the data directory."""

SAVE_EVERY = 60.0
"""Seconds; what a kill of the process loses is what was counted since."""

_KIND = "receipts"
_VERSION = 1
_ALLOWANCE = 0.003
"""Seconds for the last censuses of items, in one turn of the timer: items may end by the thousand."""
_AHEAD = 5.0
"""Seconds before an item expires when a census begins that may take many turns of the timer."""


@dataclass(frozen=True, slots=True)
class _Survey:
    """A census that is going on."""

    n: int
    parts: Iterator[Part]
    census: Census


class ItemReports:
    """Opens, closes, keeps and reads receipts; the sending counts in them.

    What is in them after a kill of the process is what was there at the last saving. Counts are those of
    this server: at a node, of the devices that it held.

    Args:
        receipts: What the sending counts in.
        engine: Where windows are.
        shelves: What devices hold.
        data: The data directory.
    """

    def __init__(
        self, receipts: Receipts, engine: Engine, shelves: Sequence[Shelf], data: Path
    ) -> None:
        self.receipts = receipts
        self._engine = engine
        self._shelves = shelves
        self._path = data / FILE
        self._left = _ALLOWANCE
        # By item, in the order of their turns: what is updated all the time waits once, not each time.
        self._surveys: OrderedDict[int, _Survey] = OrderedDict()
        self._surveyed: dict[int, Census] = {}
        self._save_at = 0.0
        self._saving: asyncio.Task[None] | None = None
        self._save_fails = False

    # ---- Items come and go

    def accepted(self, records: Iterable[Record], now: float) -> None:
        """These hold, and are about to reach the engine."""
        for record in records:
            if not record.retracted:
                self.receipts.open(record, now)
                if (
                    record.expires <= now
                ):  # it has waited for long, and nobody tells again that it is over
                    self._close(record.n, "expired", now)
            elif self._live(record.n):
                self._close(record.n, "retracted", now)
            self._surveyed.pop(record.n, None)

    def over(self, records: Iterable[Record], now: float) -> None:
        """These have expired, and are about to leave the engine."""
        for record in records:
            if not record.retracted:
                self._close(record.n, "expired", now)

    def heard(self, n: int, event: str) -> None:
        """A device reports something of an item, for the first time."""
        self.receipts.heard(n, event)

    def _close(self, n: int, why: str, now: float) -> None:
        """Ends a receipt with a last census: of this moment if there is time, else of just before."""
        began = time.perf_counter()
        survey = _Survey(n, self._engine.standing(n), Census())
        whole = self._go_on(survey, began + self._left)
        self._left -= time.perf_counter() - began
        census = survey.census if whole else self._surveyed.get(n)
        self._surveyed.pop(n, None)
        self.receipts.close(n, why, now, None if census is None else census.as_dict(why))

    def _go_on(self, survey: _Survey, until: float) -> bool:
        """Goes on with a census as long as there is time; whether it is complete."""
        while time.perf_counter() < until:
            part = next(survey.parts, None)
            if part is None:
                return True
            survey.census.add(part, self._shelves[part.shelf].ledger, survey.n)
        return False

    def _look_ahead(self, now: float) -> None:
        """Takes censuses of items that are about to expire, as far as there is time.

        Those of many followers take longer than the loop may be kept waiting, so that at the end itself
        it would be too late to begin.
        """
        for n in self.receipts.take_due(now + _AHEAD):
            self._surveys.pop(n, None)
            self._surveys[n] = _Survey(n, self._engine.standing(n), Census())
        until = time.perf_counter() + _ALLOWANCE
        while self._surveys and self._go_on(next(iter(self._surveys.values())), until):
            _, survey = self._surveys.popitem(last=False)
            # What ended meanwhile was looked at in part, and what was updated has time.
            if self._live(survey.n, before=now + _AHEAD):
                self._surveyed[survey.n] = survey.census

    def _live(self, n: int, before: float = inf) -> bool:
        """Whether an item is remembered, and live, and expires before that time."""
        receipt = self.receipts[n]
        return receipt is not None and not receipt.ended and receipt.expires < before

    # ---- Reading

    async def report(self, receipt: Receipt) -> dict[str, Any]:
        """An item's receipt as JSON, with a census of this moment if it is live.

        The loop has its turn between any two pieces of the census.
        """
        n, census = receipt.n, Census()
        for part in self._engine.standing(n):
            census.add(part, self._shelves[part.shelf].ledger, n)
            await asyncio.sleep(0)
        receipt = self.receipts[n] or receipt  # meanwhile it may have ended
        ended = receipt.ended
        return {
            "id": receipt.id,
            "channel": receipt.channel,
            "n": n,
            "version": receipt.version,
            "priority": receipt.priority,
            "published": receipt.published_ms / 1000,
            "expires": receipt.expires,
            "state": ended or ("offering" if self._engine.offering(n) else "live"),
            "ended": receipt.ended_at or None,
            "counted_since": receipt.since,
            "counts": self.receipts.counts(n),
            "census": receipt.census if ended else census.as_dict(),
        }

    # ---- Life

    def load(self) -> None:
        """Goes on from what was saved; a file that cannot be used is set aside, and said to be.

        Raises:
            StoreError: The disk fails, or does not let us read; what is there may be good.
        """
        try:
            state = state_file.load(self._path, _KIND, _VERSION)
            if state is not None:
                self.receipts.restore(state)
        except (state_file.StateError, ValueError) as error:
            aside = state_file.set_aside(self._path)
            logger.warning("receipts begin anew, what was counted is now in %s: %s", aside, error)

    def tick(self, now: float) -> None:
        """Some time has passed: there is time for censuses again, and perhaps it is time to save."""
        self._left = _ALLOWANCE
        self._look_ahead(now)
        if not self._save_at:
            self._save_at = now + SAVE_EVERY
        elif now >= self._save_at and (self._saving is None or self._saving.done()):
            self._save_at = now + SAVE_EVERY
            self._saving = asyncio.get_running_loop().create_task(self._save())

    async def stop(self) -> None:
        """Saves what was counted."""
        if self._saving is not None:
            await self._saving
        await self._save()

    async def _save(self) -> None:
        """Writes the file; a failure is logged when they begin, and harms nothing else."""
        receipts, columns = self.receipts.all()

        def write() -> None:
            state_file.save(self._path, _KIND, _VERSION, counts.state(receipts, columns))

        try:
            await asyncio.to_thread(write)
        except StoreError as error:
            if not self._save_fails:
                logger.warning("receipts are not saved: %s", error)
            self._save_fails = True
        else:
            self._save_fails = False
