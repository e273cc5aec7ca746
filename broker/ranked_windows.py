"""Windows ranked by what was learned: what every server with such a ranking does, whoever learns.

Everything runs on the event loop, in bounded pieces: `turn` about once a second, `work` while the
service has time left. `learning.LearningLoop` learns as well, alone; `cluster.trainer.NodeLearning`
follows what one of several servers learns.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.frames import Kind
from feedgen.ranking.rungs import Reason, Rung

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from broker.counters import Counters
    from broker.decisions import Decisions
    from broker.roster import Live, Roster
    from devices.frames import Event as Heard
    from feedgen.engine import Engine
    from feedgen.items import Record
    from feedgen.ranking.following import Following
    from feedgen.ranking.ladder import Event
    from feedgen.ranking.ranking import Ranking

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Items whose terms are computed together: a few milliseconds."""

_REFRESHED = 100
"""Devices whose own windows are ranked anew in one turn, as they opened or dismissed something."""

_COMPARE_EVERY = 20.0
_COMPARED = 16
"""Rows of each shelf whose windows are compared with and without the correction of exposure."""

_ASKED = frozenset({Reason.PINNED, Reason.UNPINNED, Reason.FOLLOWS})
"""What the operator asked for is no alarm; what the trainer found is one there."""
_STIRRED = frozenset({Kind.OPENED, Kind.DISMISSED})


def value_of(event: Heard) -> int:
    """The number that an event means: a rank, -1 if unknown, seconds of dwell, or nothing."""
    if event.value is not None:
        return event.value
    return -1 if event.kind is Kind.SHOWN else 0


def log_switch(event: Event) -> None:
    """Say that another rung serves, and why."""
    alarm = event.to > event.from_ and event.reason not in _ASKED
    logger.log(
        logging.WARNING if alarm else logging.INFO,
        "the ranking %s from %s to %s: %s (%s)",
        "falls" if event.to > event.from_ else "climbs",
        event.from_.name.lower(),
        event.to.name.lower(),
        event.reason.replace("_", " "),
        ", ".join(f"{name} {number:.4g}" for name, number in event.numbers.items()),
    )


class RankedWindows(ABC):
    """Keeps the windows of one server ranked by what serves.

    Args:
        ranking: what serves; the engine's scoring.
        engine: where the windows are.
        roster: devices with a row.
        decisions: where decisions are logged.
        counters: what happens is counted here.
        live_items: numbers of the live items.
        wake: called when there is work.
    """

    def __init__(
        self,
        *,
        ranking: Ranking | Following,
        engine: Engine,
        roster: Roster,
        decisions: Decisions,
        counters: Counters,
        live_items: Callable[[], Iterable[int]],
        wake: Callable[[], None],
    ) -> None:
        self.ranking = ranking
        self.decisions = decisions
        self._engine = engine
        self._roster = roster
        self._counters = counters
        self._live_items = live_items
        self._wake = wake
        self._terms: dict[int, None] = {}
        self._all_anew = False
        self._stirred: dict[str, None] = {}
        self._refreshing: dict[str, None] = {}
        self._compare_at = 0.0
        self._random = Random(0)  # noqa: S311 - which rows are sampled is no secret

    # ---- What others learn of it

    @abstractmethod
    def heard(self, live: Live, event: Heard, now: float) -> None:
        """Somebody did something with an item, which counts."""

    @abstractmethod
    def turn(self, now: float) -> None:
        """What is to be done about once a second."""

    @abstractmethod
    def pin(self, rung: Rung | None, now: float) -> None:
        """Hold a rung, or with None leave the choice to the evidence again."""

    @abstractmethod
    async def save(self) -> None:
        """Keep what must survive this process."""

    @abstractmethod
    async def stop(self) -> None:
        """Keep what is not kept, and end."""

    @property
    @abstractmethod
    def dropped(self) -> dict[str, int]:
        """What was not carried out, by reason."""

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """How the ranking does, as JSON."""

    # ---- What happens

    def prepare(self, records: Sequence[Record]) -> None:
        """Items are about to be published; together their terms cost far less than one by one."""
        self.ranking.prepare([record for record in records if not record.retracted])

    def _stir(self, live: Live, event: Heard) -> None:
        """Note whose window is ranked anew once something was learned."""
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

    def _rank_all(self) -> None:
        """Compute the terms of all live items anew."""
        self._terms.update(dict.fromkeys(self._live_items()))

    def _follow(self, events: Iterable[Event]) -> None:
        """Another rung serves: say so, and rank everything by it."""
        for event in events:
            self._counters.ranking["fell" if event.to > event.from_ else "climbed"] += 1
            log_switch(event)
            self._all_anew = True

    def lighten(self, *, diverse: bool, personal: bool, now: float) -> None:
        """Under overload, do without exploration, or rank items the same for all devices; or again not."""
        self.ranking.explore(allowed=diverse)
        events = self.ranking.ladder.at_least(Rung.LIVE if personal else Rung.POPULARITY, now)
        if events:
            self.ranking.forget_computed()
            self._follow(events)
            self._rank_all()
            self._wake()

    def _learned_anew(self) -> None:
        """Another version serves: those who showed what they like are to see it."""
        self._refreshing |= self._stirred
        self._stirred = {}

    def _look_around(self, now: float) -> None:
        """Refresh some windows, and at times compare some."""
        self._refresh_some()
        if now >= self._compare_at:
            self._compare_at = now + _COMPARE_EVERY
            self._compare(now)

    def _refresh_some(self) -> None:
        """Devices that showed what they like see what was learned from it."""
        if self.ranking.rung > Rung.SNAPSHOT:
            return  # items rank the same for all devices: nobody sees what was learned of one
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
        return bool(self._terms) or self._all_anew

    def work(self, now: float) -> None:  # noqa: ARG002 - those who learn as well want to know
        """Compute the terms of some items and give them to the engine."""
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
