"""The learned ranking, the one object that others hold: feedback in, keys out.

To the engine it is a `Scoring`. Whoever owns it reports feedback as it comes (`heard`), lets it take a
turn about once a second (`turn`), and acts on what that says: items whose term moved, whether another
rung serves, what there is to log. Nothing here has a clock, and all that is drawn depends on the seed,
the item and the device alone.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from feedgen.ranking.balance import Balance
from feedgen.ranking.comparing import worth_both_ways
from feedgen.ranking.heads import NAMES, Learners, Served
from feedgen.ranking.ladder import Rung
from feedgen.ranking.learning import Learning, Turn
from feedgen.ranking.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from feedgen.items import Record
    from feedgen.ranking.settings import RankingSettings
    from feedgen.windows import Held, Rows

__all__ = ["Ranking", "Turn"]

_BALANCE_EVERY = 60.0
_REPORTED = 50


class Ranking(Serving):
    """Serves what it learns.

    Args:
        settings: of everything in it.
        shelves: how many the engine has.

    Attributes:
        learning: what becomes of feedback.
    """

    def __init__(self, settings: RankingSettings, *, shelves: int) -> None:
        self._learners = Learners(settings)
        super().__init__(settings, shelves=shelves, live=Served.of(self._learners, settings))
        self.learning = Learning(settings, self, self._learners)
        self._learned = 0
        self._refresh_at = 0.0
        self._balance_at = 0.0

    def heard(
        self,
        kind: str,
        record: Record | None,
        n: int,
        value: float,
        at: float,
        now: float,
        shelf: int,
        row: int,
    ) -> None:
        """Take note of what somebody did with an item; see `Learning.heard`."""
        self.learning.heard(kind, record, n, value, at, now, self.people.reporter(shelf, row))

    def turn(self, now: float) -> Turn:
        """Predict what was shown, learn what became known, and see to what serves."""
        self._now = max(now, self._now)
        turn = Turn()
        if self.snapshot is None and self.rung is Rung.SNAPSHOT:
            turn.events += self.ladder.lose(Rung.SNAPSHOT, now)
        self.learning.take_in(now, turn)
        self._learned += turn.learned
        if now >= self._balance_at:
            self._balance_at = now + _BALANCE_EVERY
            self._balance(now)
            # Not earlier: a publisher's new items would stand below its old ones, which still have the boost
            # of before.
            self._corrections.clear()
            turn.all_terms = True
        if self._learned and now >= self._refresh_at:
            self._refresh_at = now + self.settings.refresh
            self._take_over(now)
            turn.reterm, self.learning.moved = self.learning.moved, set()
        if turn.events:
            self.forget_computed()
            turn.all_terms = True
        return turn

    def compare(
        self, held: Held, records: Mapping[int, Record], shelf: int, rows: Rows, now: float
    ) -> None:
        """Note what the correction of exposure costs, by a sample of windows as they stand.

        Args:
            held: the windows of `rows`.
            records: the items in them; those that are missing count as empty places.
            shelf: of the rows.
            rows: a sample; a handful each minute is enough.
            now: Unix seconds.
        """
        found = worth_both_ways(self, held, records, shelf, rows, now)
        if found is not None:
            self.publishers.compared(*found)
            self.channels.compared(*found)

    def _take_over(self, now: float) -> None:
        """Serve what was learned by now."""
        self.live = Served.of(self._learners, self.settings)
        self._learned = 0
        self.version += 1
        self.forget_computed()
        if self.ladder.snapshot_due(now):
            self.snapshot = self.live
            self.ladder.copied(Rung.LIVE, Rung.SNAPSHOT, now)

    def _balance(self, now: float) -> None:
        """Tell the balances what was eligible since the last time, and let them move.

        An item goes on to merit exposure as long as it lives, less and less as its key falls behind
        younger ones. Counted once, at its publication, it would merit nothing of what is shown hours
        later. What was eligible weighs as much as what was shown: the nights count for little.
        """
        groups, merit = self.eligible(now)
        if merit.any():
            merit = merit / merit.sum()
            for balance, numbers in zip((self.publishers, self.channels), groups.T, strict=True):
                balance.offered(numbers, merit * balance.fresh)
        self.publishers.step(now)
        self.channels.step(now)

    # ---- Reading

    def status(self) -> dict[str, Any]:
        """Return how the ranking does, as JSON."""
        ladder, learning = self.ladder, self.learning
        return {
            "rung": ladder.serving.name.lower(),
            "pinned": None if ladder.pinned is None else ladder.pinned.name.lower(),
            "version": self.version,
            "learned": self._learners.models[0].learned,
            "pending": learning.labels.pending,
            "rate": self._learners.models[0].rate.now,
            "trust_in_model": self._learners.models[0].hedge.share,
            "rungs": {rung.name.lower(): ladder.numbers(rung) for rung in Rung},
            "cohorts": {name: each.as_dict() for name, each in learning.monitor.report().items()},
            "shift": {name: asdict(each) for name, each in learning.shifts.report().items()},
            "publishers": self._shares(self.publishers),
            "channels": self._shares(self.channels),
            "lift": asdict(learning.lift.read()),
            "dropped": {**learning.labels.dropped, "unlearned": learning.unlearned},
        }

    def _shares(self, balance: Balance) -> dict[str, Any]:
        rows = [
            {
                "name": self.items.names.get(share.group, "others"),
                **asdict(share),
                "ratio": share.ratio if share.merit else None,
            }
            for share in balance.report()[:_REPORTED]
            if share.impressions
        ]
        return {"cost": balance.cost(), "shares": rows}

    # ---- State

    def served_state(self, moved: Iterable[int], *, all_moved: bool) -> dict[str, Any]:
        """Return what others need to serve as this does, but for the snapshot; see `following`.

        It may be read in another thread: what goes on changing is copied, and tables never change.

        Args:
            moved: items that were learned about since the time before.
            all_moved: whether any item may have moved.
        """
        return {
            "version": self.version,
            "live": self.live.state(),
            "popularity": self.popularity.state(),
            "publishers": self.publishers.state(),
            "channels": self.channels.state(),
            "ladder": self.ladder.state(),
            "moved": np.array(sorted(moved), np.int64),
            "all_moved": all_moved,
            "report": self.status(),
        }

    def state(self) -> dict[str, Any]:
        """Return what a restart goes on from; impressions that wait for their outcome are not in it."""
        return {
            "version": self.version,
            "models": {
                name: model.state()
                for name, model in zip(NAMES, self._learners.models, strict=True)
            },
            "publishers": self.publishers.state(),
            "channels": self.channels.state(),
            "monitor": self.learning.monitor.state(),
            "ladder": self.ladder.state(),
            "shifts": self.learning.shifts.state(),
            "lift": self.learning.lift.state(),
            "popularity": self.popularity.state(),
            "names": self.items.names,
            "snapshot": None if self.snapshot is None else self.snapshot.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: it is damaged or of another version; begin anew.
        """
        try:
            for name, model in zip(NAMES, self._learners.models, strict=True):
                model.restore(state["models"][name])
            self.version = int(state["version"]) + 1
            self.publishers = Balance.from_state(self.settings.publishers, state["publishers"])
            self.channels = Balance.from_state(self.settings.channels, state["channels"])
            self.learning.monitor.restore(state["monitor"])
            self.ladder.restore(state["ladder"])
            self.learning.shifts.restore(state["shifts"])
            self.learning.lift.restore(state["lift"])
            self.popularity.restore(state["popularity"])
            self.items.restore(state["names"])
            snapshot = state["snapshot"]
            self.snapshot = snapshot and Served.from_state(snapshot, self.settings)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"the stored ranking is damaged: {error!r}") from error
        self.live = Served.of(self._learners, self.settings)
        if not self.live.sound:
            raise ValueError("the stored ranking is damaged: what it learned are no numbers")
        self.forget_computed()
