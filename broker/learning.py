"""The loop around the learned ranking: feedback in, turns, windows ranked anew, saving.

Everything runs on the event loop, in bounded pieces: `turn` about once a second, `work` while the
service has time left. Only files are written in threads.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from broker import ranking_state
from broker.ranked_windows import RankedWindows, value_of
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from broker.roster import Live
    from devices.frames import Event as Heard
    from feedgen.ranking.ladder import Rung
    from feedgen.ranking.ranking import Ranking

logger = logging.getLogger(__name__)

SAVE_EVERY = 300.0
"""Seconds; what a kill of the process loses is what was learned since."""


class LearningLoop(RankedWindows):
    """Runs the learned ranking of one server that is alone.

    Args:
        ranking: what learns; the engine's scoring.
        data: the data directory.
        others: see `RankedWindows`.
    """

    ranking: Ranking

    def __init__(self, *, ranking: Ranking, data: Path, **others: Any) -> None:
        super().__init__(ranking=ranking, **others)
        self._data = data
        self._more = False
        self._save_at = 0.0
        self._saving: asyncio.Task[None] | None = None
        self._save_lock = asyncio.Lock()
        self._save_fails = False

    def heard(self, live: Live, event: Heard, now: float) -> None:
        """Somebody did something with an item, which counts.

        What happened too long ago to be learned the ranking drops, and counts.
        """
        self.ranking.heard(
            event.kind.name.lower(),
            self._engine.item(event.n),
            event.n,
            value_of(event),
            now - (event.age or 0),
            now,
            live.seat.shelf,
            live.seat.row,
        )
        self._stir(live, event)

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
            self._learned_anew()
        self._look_around(now)
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
            self._rank_all()
        self._wake()

    @property
    def waiting(self) -> bool:
        """Whether there is something for `work`."""
        return super().waiting or self._more

    def work(self, now: float) -> None:
        """Take another turn, or compute the terms of some items and give them to the engine."""
        if self._more:
            self.turn(now)
        else:
            super().work(now)

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
