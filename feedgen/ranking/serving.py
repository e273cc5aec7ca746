"""The ranking as the engine sees it: terms of items, and personal parts of keys.

What serves is what the ladder says: the live model, its last good snapshot, popularity, or nothing but
the time of publication. Devices that are held out get the last always. All that is drawn depends on
the seed, the item and the device alone.
"""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feedgen.ranking.balance import Balance
from feedgen.ranking.explain import Explanation, explain
from feedgen.ranking.features import Column, Impressions
from feedgen.ranking.heads import Served, Valued
from feedgen.ranking.known import KnownItems, group
from feedgen.ranking.ladder import Ladder, Rung
from feedgen.ranking.popularity import Popularity
from feedgen.ranking.rows import People
from feedgen.ranking.scorer import Before, context_columns, item_columns
from feedgen.ranking.scoring import Scores
from feedgen.ranking.tokens import mixed, paired, token
from feedgen.ranking.value import TICKS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from feedgen.attributes import Value
    from feedgen.items import Record
    from feedgen.ranking.scorer import Parts
    from feedgen.ranking.settings import RankingSettings
    from feedgen.ranking.tokens import Tokens
    from feedgen.windows import Rows

_FEW = 512
"""Devices up to which an item's features are laid out for each, and not told apart by what they vary
with, which costs more for one item and less for each further device."""
_NEW = 60.0
"""Seconds after its publication in which an item is offered for the first time."""
_PAIRS = 1 << 14
"""Pairs of device and item whose features are laid out at a time."""
_DRAWN_BITS = 23
_SUMMED = 64
"""Items whose sums are kept, for the next chunk of an offer; each may take hundreds of KiB."""
_MERITS = 1 << 13
"""Items that merit exposure, the youngest: those before have faded, and each is looked at every minute."""
_TERMS = 1 << 17
"""Items whose terms are kept."""


class Merit(NamedTuple):
    """What an item was worth as it was offered.

    Attributes:
        opened: predicted openings by all that it was offered to.
        published: Unix seconds.
        term: its term at that time, without correction.
    """

    opened: float
    published: float
    term: int


class Serving:
    """Terms and scores; see `Scoring`.

    Args:
        settings: of the ranking.
        shelves: how many the engine has.
        live: what serves at first.

    Attributes:
        version: of what is served; grows with every taking over of what was learned.
        people: who is in which row.
        items: what is remembered of items.
        ladder: which rung serves.
        publishers: balance of exposure over publishers.
        channels: likewise over channels.
        popularity: counts of items.
        live: the learned heads.
        snapshot: the last good ones.
        merit: of live items.
    """

    def __init__(self, settings: RankingSettings, *, shelves: int, live: Served) -> None:
        self.settings = settings
        self.version = 1
        self.people = People(shelves, settings.fields, settings.holdout, settings.seed)
        self.items = KnownItems()
        self.ladder = Ladder(settings.ladder, settings.start)
        self.publishers = Balance(settings.publishers)
        self.channels = Balance(settings.channels)
        self.popularity = Popularity(settings.value)
        self.live = live
        self.snapshot: Served | None = None
        self.merit: dict[int, Merit] = {}
        self._tau = settings.value.tau * TICKS_PER_SECOND
        self.bound = int(self._tau * log(settings.bound))
        self._seed = np.array([token("seed", str(settings.seed))], np.uint64)
        self._terms: dict[int, tuple[int, int]] = {}  # version of the content, and ticks
        self._terms_hour = 0
        self._explores = True
        self._corrections: dict[tuple[int, int], int] = {}  # as of the last balance
        self._parts: dict[tuple[int, int], tuple[Parts, ...]] = {}  # by item and version
        self._parts_of_state = (0, 0)
        self._now = 0.0

    @property
    def rung(self) -> Rung:
        """What serves."""
        return self.ladder.serving

    @property
    def served(self) -> Served | None:
        """The heads that serve; None where none do."""
        rung = self.ladder.serving
        served = self.live if rung is Rung.LIVE else None
        if rung is Rung.SNAPSHOT:
            served = self.snapshot
        return served if served is None or self._explores else served.certain()

    def explore(self, *, allowed: bool) -> None:
        """Sample by uncertainty, as the settings say, or for now do without."""
        if allowed is not self._explores:
            self._explores = allowed
            self._parts.clear()

    # ---- Who is in which row

    def seat(self, shelf: int, row: int, device: str, attrs: Mapping[str, Value]) -> None:
        """Note who is in a row."""
        self.people.seat(shelf, row, device, attrs)

    def change(self, shelf: int, row: int, attrs: Mapping[str, Value]) -> None:
        """Note that the attributes of the device in a row changed."""
        self.people.change(shelf, row, attrs)

    def unseat(self, shelf: int, row: int) -> None:
        """Note that a row is empty."""
        self.people.unseat(shelf, row)

    def tokens(self, shelf: int, rows: Rows) -> NDArray[np.uint64]:
        """Return who is in some rows."""
        return self.people.devices(shelf, rows)

    def plain(self, shelf: int, rows: Rows) -> NDArray[np.bool_] | None:
        """Return which rows show their windows by key alone; None if none do."""
        if self.ladder.serving is Rung.NEWEST:
            return np.ones(len(rows), np.bool_)
        held_out = self.people.holdout(shelf, rows)
        return held_out if held_out.any() else None

    # ---- Items

    def groups(self, record: Record) -> Sequence[int]:
        """Return channel, publisher and the first two tags as groups."""
        known = self.items.of(record)
        return [
            known.channel,
            known.publisher,
            *(group("tag", tag) for tag in record.item.tags[:2]),
        ]

    def prepare(self, records: Sequence[Record]) -> None:
        """Compute the terms of items together, before the engine asks for each."""
        served = self.served
        hour = int(self._now // 3600)
        if hour != self._terms_hour:
            self._terms_hour = hour
            self._terms.clear()
        records = [record for record in records if self._known_term(record) is None]
        if served is None or not records:
            return
        count = len(records)
        if len(self._terms) + count > _TERMS:
            self._terms.clear()
        valued = served.each(
            self._dense(
                np.zeros(count, np.uint64),
                np.zeros((count, len(self.people.fields)), np.uint16),
                np.ones(count, np.uint16),
                *self._tokens_of(records),
                self._now,
            )
        )
        for record, ticks in zip(records, valued.ticks.tolist(), strict=True):
            self._terms[record.n] = record.version, round(ticks)

    def _known_term(self, record: Record) -> int | None:
        version, ticks = self._terms.get(record.n, (-1, 0))
        return ticks if version == record.version else None

    def _tokens_of(self, records: Sequence[Record]) -> tuple[Tokens, Tokens]:
        known = [self.items.of(record).tokens for record in records]
        return (
            np.array([each.item for each in known], np.uint64),
            np.array([each.fields for each in known], np.uint64),
        )

    def term(self, record: Record) -> int:
        """Return the ticks that an item gets in every row, as of now.

        Within ± `bound`, and a number that float32 holds: so the personal part of a device that stays
        on newest first can take all of it back. What a correction is cut by here, the personal
        parts of all others make up for.
        """
        rung = self.ladder.serving
        if rung is Rung.NEWEST or (rung is Rung.SNAPSHOT and self.snapshot is None):
            return 0
        if rung is Rung.POPULARITY:
            ticks = self.popularity.ticks(record.n, self.live.rate)
        else:
            self.prepare([record])
            ticks = self._known_term(record) or 0
        ticks += self.correction(record)
        return int(np.float32(min(max(ticks, -self.bound), self.bound)))

    def worth(self, n: int, now: float) -> float:
        """Return the openings that a live item may expect now: by what was learned of it, and faded."""
        merit = self.merit[n]
        _, ticks = self._terms.get(n, (0, merit.term))
        gained = (ticks - merit.term) / self._tau
        return merit.opened * exp(
            gained - max(now - merit.published, 0.0) / self.settings.value.tau
        )

    def correction(self, record: Record) -> int:
        """Return the ticks that balance exposure."""
        known = self.items.of(record)
        groups = known.publisher, known.channel
        ticks = self._corrections.get(groups)
        if ticks is None:
            by_publisher = self.publishers.correction(np.array([known.publisher]))[0]
            by_channel = self.channels.correction(np.array([known.channel]))[0]
            ticks = round(self._tau * float(by_publisher + by_channel))
            self._corrections[groups] = ticks
        return ticks

    def forget(self, n: int) -> None:
        """Drop what is computed for an item that is over."""
        self._terms.pop(n, None)

    def forget_items(self, ns: Iterable[int]) -> None:
        """Note that items are over; what they are is kept for outcomes that are still to come."""
        for n in ns:
            self.forget(n)
            self.merit.pop(n, None)

    def eligible(self, now: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return what live items may expect: publisher and channel, int64 [m, 2], and openings, [m]."""
        known = [(self.items[n], self.worth(n, now)) for n in self.merit if n in self.items]
        groups = [(each.publisher, each.channel) for each, _ in known]
        worth = np.array([worth for _, worth in known], np.float64)
        return np.array(groups, np.int64).reshape(-1, 2), worth

    def forget_computed(self) -> None:
        """Drop what is computed, as something else serves now."""
        self._terms.clear()
        self._parts.clear()
        self._corrections.clear()

    # ---- Scores

    def scores(
        self, record: Record, term: int, shelf: int, rows: Rows, now: float
    ) -> Scores | None:
        """Return the personal parts of one item for some rows; see `Scoring`."""
        self._now = now
        served = self.served
        if served is None:
            return self._held_back(np.array([term]), shelf, rows, one=True)
        valued = self._valued(served, record, shelf, rows, now)
        self._offer(record, valued.opened, now)
        return self._column(valued, record, term, shelf, rows)

    def _valued(self, served: Served, record: Record, shelf: int, rows: Rows, now: float) -> Valued:
        """Return what one item is worth to some rows."""
        if len(rows) <= _FEW:
            return served.each(self.impressions([record], shelf, rows, now))
        people = self.people
        before = Before(people.devices(shelf, rows), people.axes(shelf, rows))
        return served.before(self._parts_of(served, record, now), before)

    def _column(self, valued: Valued, record: Record, term: int, shelf: int, rows: Rows) -> Scores:
        return self._as_scores(
            valued,
            np.full(1, term - self.correction(record)),
            np.array([record.n], np.uint64),
            None if valued.sd is None else self.people.devices(shelf, rows),
            self.people.holdout(shelf, rows),
            np.array([term]),
        )

    def table(
        self, records: Sequence[Record], terms: Sequence[int], shelf: int, rows: Rows, now: float
    ) -> Scores | None:
        """Return the personal parts of several items for some rows; see `Scoring`."""
        self._now = now
        served = self.served
        if served is None:
            return self._held_back(np.array(terms), shelf, rows)
        if len(rows) > _FEW:
            return _side_by_side(
                [
                    self._column(
                        self._valued(served, record, shelf, rows, now), record, term, shelf, rows
                    )
                    for record, term in zip(records, terms, strict=True)
                ]
            )
        shared = np.array(terms) - [self.correction(record) for record in records]
        numbers = np.array([record.n for record in records], np.uint64)
        parts = []
        at_once = max(1, _PAIRS // len(records))
        for start in range(0, len(rows), at_once):
            block = rows[start : start + at_once]
            valued = served.each(self.impressions(records, shelf, block, now))
            shape = len(block), len(records)
            valued = Valued(
                valued.ticks.reshape(shape),
                None if valued.sd is None else valued.sd.reshape(shape),
                valued.opened.reshape(shape),
            )
            device = self.people.devices(shelf, block)[:, None]
            held_out = self.people.holdout(shelf, block)[:, None]
            parts.append(
                self._as_scores(valued, shared, numbers, device, held_out, np.array(terms))
            )
        if len(parts) == 1:
            return parts[0]
        stacked = (
            None if columns[0] is None else np.concatenate(columns)
            for columns in zip(*parts, strict=True)
        )
        return Scores(*stacked)  # type: ignore[arg-type] # the first is never None

    def _as_scores(
        self,
        valued: Valued,
        shared: NDArray[np.int64],
        numbers: Tokens,
        device: Tokens | None,
        held_out: NDArray[np.bool_],
        terms: NDArray[np.int64],
    ) -> Scores:
        """Return values as what they add to keys that hold terms already."""
        mean = valued.ticks
        mean -= shared.astype(np.float32)
        np.clip(mean, -self.bound, self.bound, out=mean)
        back = held_out.any()
        if back:
            mean = np.where(held_out, -terms.astype(np.float32), mean)
        if valued.sd is None or device is None:
            return Scores(mean)
        sd = np.where(held_out, np.float32(0), valued.sd) if back else valued.sd
        return Scores(mean, sd, draws(paired(mixed(device ^ self._seed), numbers)))

    def trial(self, record: Record, shelf: int, rows: Rows, now: float) -> NDArray[np.float32]:
        """Return the ticks that an item would get in some rows; see `Scoring`."""
        # All that is remembered on the way stands aside: a cache that knows an item is a trace of it.
        kept = self.items, self._terms, self._parts, self._corrections
        then = self._now, self._terms_hour, self._parts_of_state
        self.items, self._terms, self._parts = KnownItems(), {}, {}
        self._corrections = dict(self._corrections)
        try:
            self._now = max(now, self._now)
            term = self.term(record)
            scores = self.table([record], [term], shelf, rows, now)
        finally:
            self.items, self._terms, self._parts, self._corrections = kept
            self._now, self._terms_hour, self._parts_of_state = then
        ticks = np.full(len(rows), term, np.float32)
        return ticks if scores is None else ticks + scores.mean[:, 0]

    def _held_back(
        self, terms: NDArray[np.int64], shelf: int, rows: Rows, *, one: bool = False
    ) -> Scores | None:
        """Return what takes the terms back for devices that stay on newest first."""
        held_out = self.people.holdout(shelf, rows)
        if not terms.any() or not held_out.any():
            return None
        mean = np.where(held_out[:, None], -terms.astype(np.float32), np.float32(0))
        return Scores(mean[:, 0] if one else mean)

    def _parts_of(self, served: Served, record: Record, now: float) -> tuple[Parts, ...]:
        # Sums by code are as long as the vocabularies were.
        state = int(now // 3600), self.people.values
        if state != self._parts_of_state:
            self._parts_of_state = state
            self._parts.clear()
        content = record.n, record.version
        parts = self._parts.get(content)
        if parts is None:
            if len(self._parts) >= _SUMMED:
                del self._parts[next(iter(self._parts))]
            parts = served.parts(self.items.of(record).tokens, self.people, now)
            self._parts[content] = parts
        return parts

    def impressions(
        self, records: Sequence[Record], shelf: int, rows: Rows, now: float
    ) -> Impressions:
        """Return every item before every row, row by row."""
        each = len(records)
        return self.pairs(
            np.tile(np.arange(each), len(rows)), records, shelf, np.repeat(rows, each), now
        )

    def pairs(
        self,
        which: NDArray[np.intp],
        records: Sequence[Record],
        shelf: int,
        rows: Rows,
        now: float,
    ) -> Impressions:
        """Return items before rows, pair by pair.

        Args:
            which: int [pairs], place of the item in `records`.
            records: the items.
            shelf: of the rows.
            rows: int32 [pairs].
            now: Unix seconds.
        """
        people = self.people
        item, fields = self._tokens_of(records)
        return self._dense(
            people.devices(shelf, rows),
            people.codes(shelf, rows),
            people.zone(shelf, rows),
            item[which],
            fields[which],
            now,
        )

    def _dense(
        self,
        device: Tokens,
        codes: NDArray[np.uint16],
        zone: NDArray[np.uint16],
        item: Tokens,
        fields: Tokens,
        now: float,
    ) -> Impressions:
        of_item, item_fields = item_columns(item, fields)
        return Impressions(
            (Column("device", device),),
            of_item,
            self.device_fields(codes),
            item_fields,
            context_columns(self.people.zones.values, now, zone.astype(np.intp)),
        )

    def device_fields(self, codes: NDArray[np.uint16]) -> tuple[Column, ...]:
        """Return uint16 [n, fields] as columns."""
        return tuple(
            Column(field.name, field.tokens, codes[:, place].astype(np.intp))
            for place, field in enumerate(self.people.fields)
        )

    def explain(
        self, shelf: int, row: int, records: Sequence[Record], now: float
    ) -> list[Explanation]:
        """Explain what some items are worth to the device in a row; see `explain.Explanation`."""
        return explain(self, shelf, row, records, now)

    def _offer(self, record: Record, opened: NDArray[np.float32], now: float) -> None:
        """Note what an item was offered to; once, and not when it is ranked anew."""
        if now - record.published_ms / 1000 < _NEW:
            term = self._known_term(record) or 0
            nothing = Merit(0.0, record.published_ms / 1000, term)
            held = self.merit.get(record.n, nothing)
            self.merit[record.n] = held._replace(opened=held.opened + float(opened.sum()))
            if len(self.merit) > _MERITS:
                del self.merit[next(iter(self.merit))]


def draws(tokens: Tokens) -> NDArray[np.float32]:
    """Return tokens as numbers in (0, 1)."""
    # Of 24 bits the highest number and a half would round to 1, whose sample is infinite.
    uniform = (tokens >> np.uint64(64 - _DRAWN_BITS)).astype(np.float32)
    uniform += np.float32(0.5)
    uniform *= np.float32(2.0**-_DRAWN_BITS)
    return uniform


def _side_by_side(columns: Sequence[Scores]) -> Scores:
    stacked = (
        None if parts[0] is None else np.stack(parts, axis=1)
        for parts in zip(*columns, strict=True)
    )
    return Scores(*stacked)  # type: ignore[arg-type] # the first is never None
