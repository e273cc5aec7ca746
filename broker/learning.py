"""The loop around the learned ranking: feedback in, turns, windows ranked anew, saving.

Everything runs on the event loop, in bounded pieces: `turn` about once a second, `work` while the
service has time left. Only files are written in threads.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from broker import ranking_state
from devices.frames import Kind
from feedgen.ranking.rungs import Reason
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from broker.counters import Counters
    from broker.decisions import Decisions
    from broker.roster import Live, Roster
    from devices.frames import Event as Heard
    from feedgen.engine import Engine
    from feedgen.items import Record
    from feedgen.ranking.ladder import Event, Rung
    from feedgen.ranking.ranking import Ranking

logger = logging.getLogger(__name__)

SAVE_EVERY = 300.0
"""Seconds; what a kill of the process loses is what was learned since."""

_AT_ONCE = 64
"""Items whose terms are computed together: a few milliseconds."""

_REFRESHED = 100
"""Devices whose own windows are ranked anew in one turn, as they opened or dismissed something."""

_COMPARE_EVERY = 20.0
_COMPARED = 16
"""Rows of each shelf whose windows are compared with and without the correction of exposure."""

_ASKED = frozenset({Reason.PINNED, Reason.UNPINNED})
_STIRRED = frozenset({Kind.OPENED, Kind.DISMISSED})


class LearningLoop:
    """Runs the learned ranking of one server.

    Args:
        ranking: what learns; the engine's scoring.
        engine: where the windows are.
        roster: devices with a row.
        decisions: where decisions are logged.
        counters: what happens is counted here.
        data: the data directory.
        live_items: numbers of the live items.
        wake: called when there is work.
    """

    def __init__(
        self,
        *,
        ranking: Ranking,
        engine: Engine,
        roster: Roster,
        decisions: Decisions,
        counters: Counters,
        data: Path,
        live_items: Callable[[], Iterable[int]],
        wake: Callable[[], None],
    ) -> None:
        self.ranking = ranking
        self.decisions = decisions
        self._engine = engine
        self._roster = roster
        self._counters = counters
        self._data = data
        self._live_items = live_items
        self._wake = wake
        self._terms: dict[int, None] = {}
        self._all_anew = False
        self._more = False
        self._stirred: dict[str, None] = {}
        self._refreshing: dict[str, None] = {}
        self._save_at = 0.0
        self._compare_at = 0.0
        self._random = Random(0)  # noqa: S311 - which rows are sampled is no secret
        self._saving: asyncio.Task[None] | None = None
        self._save_lock = asyncio.Lock()
        self._save_fails = False

    # ---- What happens

    def prepare(self, records: Sequence[Record]) -> None:
        """Items are about to be published; together their terms cost far less than one by one."""
        self.ranking.prepare([record for record in records if not record.retracted])

    def heard(self, live: Live, event: Heard, now: float) -> None:
        """Somebody did something with an item, which counts.

        What happened too long ago to be learned the ranking drops, and counts.
        """
        value = event.value if event.value is not None else -1 if event.kind is Kind.SHOWN else 0
        self.ranking.heard(
            event.kind.name.lower(),
            self._engine.item(event.n),
            event.n,
            value,
            now - (event.age or 0),
            now,
            live.seat.shelf,
            live.seat.row,
        )
        if event.kind in _STIRRED:
            self._stirred[live.profile.device] = None

    def forget_items(self, ns: Iterable[int]) -> None:
        """Items are over."""
        self.ranking.forget_items(ns)

    async def erase(self, device: str, now: float) -> None:
        """A device, which has no row any more, is to be forgotten.

        Raises:
            StoreError: the decision log cannot be written.
        """
        self._stirred.pop(device, None)
        self.note_decisions()
        await self.decisions.erase(device, now)

    # ---- Turns

    def turn(self, now: float) -> None:
        """What is to be done about once a second."""
        version = self.ranking.version
        turn = self.ranking.turn(now)
        self._more = turn.more
        self._counters.ranking["learned"] += turn.learned
        if turn.outcomes is not None:
            self.decisions.became(turn.outcomes)
        self.note_decisions()
        self._follow(turn.events)
        self._terms.update(dict.fromkeys(self._live_items() if turn.all_terms else turn.reterm))
        if self.ranking.version != version:
            self._refreshing |= self._stirred
            self._stirred = {}
        self._refresh_some()
        if now >= self._compare_at:
            self._compare_at = now + _COMPARE_EVERY
            self._compare(now)
        if not self._save_at:
            self._save_at = now + SAVE_EVERY
        elif now >= self._save_at and (self._saving is None or self._saving.done()):
            self._save_at = now + SAVE_EVERY
            self._saving = asyncio.create_task(self.save())
        if self.waiting:
            self._wake()

    def pin(self, rung: Rung | None, now: float) -> None:
        """Hold a rung, or with None leave the choice to the evidence again."""
        events = self.ranking.ladder.pin(rung, now)
        if events:
            self.ranking.forget_computed()
            self._follow(events)
            self._terms.update(dict.fromkeys(self._live_items()))
        self._wake()

    def _follow(self, events: Iterable[Event]) -> None:
        """Another rung serves: say so, and rank everything by it."""
        for event in events:
            fell = event.to > event.from_
            self._counters.ranking["fell" if fell else "climbed"] += 1
            logger.log(
                # What the operator asked for is no alarm.
                logging.WARNING if fell and event.reason not in _ASKED else logging.INFO,
                "the ranking %s from %s to %s: %s (%s)",
                "falls" if fell else "climbs",
                event.from_.name.lower(),
                event.to.name.lower(),
                event.reason.replace("_", " "),
                ", ".join(f"{name} {number:.4g}" for name, number in event.numbers.items()),
            )
            self._all_anew = True

    def _refresh_some(self) -> None:
        """Devices that showed what they like see what was learned from it."""
        for device in list(islice(self._refreshing, _REFRESHED)):
            del self._refreshing[device]
            live = self._roster.get(device)
            if live is not None:
                self._engine.refresh(live.seat)
                self._counters.ranking["refreshed"] += 1

    def _compare(self, now: float) -> None:
        """Measure what fairness costs by a few windows; without it fairness would have no budget."""
        for index, shelf in enumerate(self._roster.shelves):
            if not shelf.lives:
                continue
            drawn = {self._random.randrange(len(shelf.lives)) for _ in range(_COMPARED)}
            rows = np.array([row for row in drawn if shelf.lives[row] is not None], np.int32)
            if rows.size:
                held = self._engine.held(index, rows)
                found = ((n, self._engine.item(n)) for n in np.unique(held.numbers).tolist())
                records = {n: record for n, record in found if record is not None}
                self.ranking.compare(held, records, index, rows, now)

    # ---- Work

    @property
    def waiting(self) -> bool:
        """Whether there is something for `work`."""
        return bool(self._terms) or self._all_anew or self._more

    def work(self, now: float) -> None:
        """Take another turn, or compute the terms of some items and give them to the engine."""
        if self._more:
            self.turn(now)
            return
        ns = list(islice(self._terms, _AT_ONCE))
        found = (self._engine.item(n) for n in ns)
        self.prepare([record for record in found if record is not None])
        for n in ns:
            del self._terms[n]
        if not self._all_anew:
            self._engine.reterm(ns)
        elif not self._terms:
            # All at once, and with terms that are all computed: the engine asks for each.
            self._all_anew = False
            self._engine.refresh_all()

    def note_decisions(self) -> None:
        """Send what the engine decided on its way to the log."""
        self.decisions.admitted(self._engine.take_decisions())

    # ---- Life

    async def save(self) -> None:
        """Write what was learned to its file; a failure is counted, and logged when they begin."""
        async with self._save_lock:
            try:
                await asyncio.to_thread(ranking_state.save, self.ranking.state(), self._data)
            except StoreError as error:
                self._counters.ranking["save_failed"] += 1
                if not self._save_fails:
                    logger.warning("what was learned is not saved: %s", error)
                self._save_fails = True
            else:
                self._counters.ranking["saved"] += 1
                self._save_fails = False

    async def stop(self) -> None:
        """Write what is not written."""
        self.note_decisions()
        await self.save()

    # ---- Reading

    @property
    def dropped(self) -> dict[str, int]:
        """What was not carried out, by reason."""
        learning = self.ranking.learning
        labels = {f"feedback_{why}": count for why, count in learning.labels.dropped.items()}
        return {**labels, "outcome_of_forgotten_item": learning.unlearned, **self.decisions.dropped}

    def status(self) -> dict[str, Any]:
        """How the ranking does, as JSON."""
        return {
            "model": "learned",
            **self.ranking.status(),
            "holdout": self.ranking.settings.holdout,
            "decisions_fault": self.decisions.fault,
        }
