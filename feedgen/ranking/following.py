"""A ranking that learns nothing itself: it serves what somebody else has learned.

`Ranking.served_state` is what a trainer gives away; `packed` makes bytes of it, `Adopted.read` makes of
these bytes what a `Following` takes over in one assignment. Both of the latter are for a thread.
The last good snapshot changes once an hour at most, and goes its own way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feedgen.ranking.balance import Balance
from feedgen.ranking.blobs import pack, restored, thinned, unpack
from feedgen.ranking.comparing import worth_both_ways
from feedgen.ranking.heads import Learners, Served
from feedgen.ranking.ladder import Ladder
from feedgen.ranking.popularity import Popularity
from feedgen.ranking.rungs import Event, Reason
from feedgen.ranking.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from feedgen.items import Record
    from feedgen.ranking.ladder import Rung
    from feedgen.ranking.settings import RankingSettings
    from feedgen.windows import Held, Rows

_SERVED = "served"
_SNAPSHOT = "snapshot"
_VERSION = 1
"""Of both layouts."""
_THINNED = ("weights", "precision", "rates")


def packed(state: Mapping[str, Any]) -> bytes:
    """Return what `Ranking.served_state` gave away as bytes."""
    return pack(_SERVED, _VERSION, {**state, "live": _thin(state["live"])})


def packed_snapshot(snapshot: Served) -> bytes:
    """Return heads as bytes."""
    return pack(_SNAPSHOT, _VERSION, {"heads": _thin(snapshot.state())})


def read_snapshot(blob: bytes, settings: RankingSettings) -> Served:
    """Return the heads that `packed_snapshot` made bytes of.

    Raises:
        ValueError: it did not make these, or of heads that do not fit the settings.
    """
    try:
        return _served(unpack(blob, _SNAPSHOT, _VERSION)["heads"], settings)
    except (KeyError, TypeError) as error:
        raise ValueError(f"a snapshot that is none: {error!r}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Adopted:
    """What a trainer gave away, ready to serve.

    Attributes:
        version: of what serves.
        live: the heads.
        popularity: counts of items.
        publishers: balance of exposure.
        channels: likewise.
        ladder: the state of the trainer's.
        moved: items that were learned about since the version given away before.
        all_moved: whether any item may have moved.
        report: how the trainer's ranking does, as JSON.
    """

    version: int
    live: Served
    popularity: Popularity
    publishers: Balance
    channels: Balance
    ladder: dict[str, Any]
    moved: frozenset[int]
    all_moved: bool
    report: dict[str, Any]

    @classmethod
    def read(cls, blob: bytes, settings: RankingSettings) -> Self:
        """Return what `packed` made bytes of.

        Raises:
            ValueError: it did not make these, or the heads do not fit the settings.
        """
        state = unpack(blob, _SERVED, _VERSION)
        try:
            popularity = Popularity(settings.value)
            popularity.restore(state["popularity"])
            Ladder(settings.ladder).restore(state["ladder"])  # refuses here what would fail later
            return cls(
                version=int(state["version"]),
                live=_served(state["live"], settings),
                popularity=popularity,
                publishers=Balance.from_state(settings.publishers, state["publishers"]),
                channels=Balance.from_state(settings.channels, state["channels"]),
                ladder=state["ladder"],
                moved=frozenset(state["moved"].tolist()),
                all_moved=bool(state["all_moved"]),
                report=dict(state["report"]),
            )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"a ranking that is none: {error!r}") from error


class Following(Serving):
    """Serves what others learn.

    Args:
        settings: those of the trainer, of which only `explore`, `holdout` and the limits may differ.
        shelves: how many the engine has.

    Attributes:
        report: how the trainer's ranking did when it gave away what serves here; empty before.
    """

    def __init__(self, settings: RankingSettings, *, shelves: int) -> None:
        nothing = Served.of(Learners(settings), settings)
        super().__init__(settings, shelves=shelves, live=nothing)
        self.report: dict[str, Any] = {}
        self._compared = (0.0, 0.0)

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._now = max(now, self._now)

    def adopt(self, adopted: Adopted, now: float) -> list[Event]:
        """Serve what a trainer gave away; returns the change of the rung, if there is one.

        What an operator pinned here and what the load of this server demands stays as it is.
        """
        before, pinned = self.rung, self.ladder.pinned
        self.version = adopted.version
        self.live = adopted.live
        self.popularity = adopted.popularity
        self.publishers, self.channels = adopted.publishers, adopted.channels
        self.ladder.restore(adopted.ladder)
        self.ladder.pinned = pinned
        self.report = adopted.report
        self.forget_computed()
        return self._change(before, Reason.FOLLOWS, now)

    def adopt_snapshot(self, snapshot: Served) -> None:
        """Have this ready for the rung that serves it."""
        self.snapshot = snapshot
        self.forget_computed()

    def pin(self, rung: Rung | None, now: float) -> list[Event]:
        """Hold a rung, or with None follow the trainer again; returns the change, if there is one."""
        before, self.ladder.pinned = self.rung, rung
        return self._change(before, Reason.UNPINNED if rung is None else Reason.PINNED, now)

    def _change(self, before: Rung, reason: Reason, now: float) -> list[Event]:
        if self.rung is before:
            return []
        self.forget_computed()
        return [Event(now, before, self.rung, reason, self.ladder.numbers(self.rung))]

    def compare(
        self, held: Held, records: Mapping[int, Record], shelf: int, rows: Rows, now: float
    ) -> None:
        """Note what the correction of exposure costs; see `worth_both_ways`."""
        found = worth_both_ways(self, held, records, shelf, rows, now)
        if found is not None:
            self._compared = self._compared[0] + found[0], self._compared[1] + found[1]

    def take_compared(self) -> tuple[float, float]:
        """Return what was noted since the last time, for the trainer."""
        compared, self._compared = self._compared, (0.0, 0.0)
        return compared

    def status(self) -> dict[str, Any]:
        """Return how the ranking does, as JSON: as the trainer knows it, but for what serves here."""
        pinned = self.ladder.pinned
        return {
            **self.report,
            "rung": self.rung.name.lower(),
            "pinned": None if pinned is None else pinned.name.lower(),
            "version": self.version,
        }


def _thin(heads: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**head, **{name: thinned(head[name]) for name in _THINNED}} for head in heads]


def _served(heads: Sequence[Mapping[str, Any]], settings: RankingSettings) -> Served:
    """Return heads as they were before `_thin`.

    Raises:
        ValueError: they do not fit the settings, or hold what are no numbers.
    """
    whole = [{**head, **{name: restored(head[name]) for name in _THINNED}} for head in heads]
    if len(whole) != 3 or any(len(h[name]) != 1 << h["bits"] for h in whole for name in _THINNED):
        raise ValueError("heads of another shape")
    served = Served.from_state(whole, settings)
    if not served.sound:
        raise ValueError("what was learned are no numbers")
    return served
