"""One item before many devices: logits, variances and values, with the features of training.

The features come from `features.features`, told apart by what they vary with: what is the same for
every device is added up once per item, what varies with a device field or the time zone once per value
of it, and only what concerns the device itself is looked up per device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from feedgen.ranking.features import (
    BLOCKS,
    POSITION,
    Block,
    Column,
    Feature,
    Impressions,
    Layout,
    features,
    layout,
    stacked,
)
from feedgen.ranking.rows import local_hour
from feedgen.ranking.tokens import mixed, paired, places, token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from feedgen.items import Record
    from feedgen.ranking.rows import People
    from feedgen.ranking.tables import Tables
    from feedgen.ranking.tokens import Tokens

    Floats = NDArray[np.float32]

MAX_TAGS = 3
"""Tags of an item that are features; publishers put the telling ones first."""
_BLOCK = 8192
"""Devices whose own features are laid out at a time: what fits the second cache."""
RANKS = 16
"""Ranks that are told apart in training; what stands lower is as rarely looked at as the last."""
SHOWN_FIRST = "0"
"""The rank that serving assumes for every item, so that position explains no difference."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemTokens:
    """What is known of an item, as tokens.

    Attributes:
        item: the item itself.
        fields: channel, its first level, publisher, and `MAX_TAGS` tags; 0 where there is none.
    """

    item: int
    fields: tuple[int, ...]


FIELDS = ("item.channel", "item.topic", "item.publisher") + ("item.tag",) * MAX_TAGS


def item_tokens(record: Record) -> ItemTokens:
    """Return an item as tokens."""
    item = record.item
    topic = item.channel.partition("/")[0]
    tags = [token("item.tag", tag) for tag in item.tags[:MAX_TAGS]]
    return ItemTokens(
        token("item", str(record.n)),
        (
            token("item.channel", item.channel),
            token("item.topic", topic) if topic != item.channel else 0,
            token("item.publisher", record.publisher) if record.publisher else 0,
            *tags,
            *[0] * (MAX_TAGS - len(tags)),
        ),
    )


def item_columns(item: Tokens, fields: Tokens) -> tuple[tuple[Column], tuple[Column, ...]]:
    """Return the columns of items and of their fields: of uint64 [n] and uint64 [n, fields]."""
    columns = [Column(name, fields[:, place]) for place, name in enumerate(FIELDS)]
    return (Column("item", item),), tuple(columns)


def moments(zones: Sequence[str], now: float) -> list[tuple[str, str]]:
    """Return hour and weekday, as context values, in each of some time zones."""
    hour = int(now // 3600)
    local = [local_hour(zone, hour) for zone in zones]
    return [(str(hours), str(weekday)) for hours, weekday in local]


def context_columns(
    zones: Sequence[str], now: float, codes: NDArray[np.intp] | None
) -> tuple[Column, ...]:
    """Return the columns of hour, weekday and rank as serving has them."""
    hours, days, rank = _moment_tokens(tuple(zones), int(now // 3600))
    return (
        Column("context.hour", hours, codes),
        Column("context.weekday", days, codes),
        Column(POSITION, rank),
    )


@lru_cache(maxsize=8)
def _moment_tokens(zones: tuple[str, ...], hour: int) -> tuple[Tokens, Tokens, Tokens]:
    """Return the tokens of hour and weekday by number of the zone, and that of the rank."""
    local = moments(zones, hour * 3600.0)
    hours = np.array([0, *(token("context.hour", h) for h, _ in local)], np.uint64)
    days = np.array([0, *(token("context.weekday", d) for _, d in local)], np.uint64)
    return hours, days, np.array([token(POSITION, SHOWN_FIRST)], np.uint64)


def moment_columns(
    zones: Sequence[str],
    zone: NDArray[np.uint16],
    at: NDArray[np.float64],
    rank: NDArray[np.int8],
) -> tuple[Column, ...]:
    """Return the columns of hour, weekday and rank as training has them.

    Args:
        zones: names of time zones, by number less 1.
        zone: the number of the zone of each impression.
        at: Unix seconds.
        rank: from 0; -1 unknown, which is taken as serving takes it.
    """
    when = (at // 3600).astype(np.int64) * (len(zones) + 1) + zone
    distinct, codes = np.unique(when, return_inverse=True)
    hours, days = np.zeros((2, len(distinct)), np.uint64)
    for place, each in enumerate(distinct.tolist()):
        hour, number = divmod(each, len(zones) + 1)
        if number:
            local = local_hour(zones[number - 1], hour)
            hours[place] = token("context.hour", str(local[0]))
            days[place] = token("context.weekday", str(local[1]))
    ranks = np.array([token(POSITION, str(n)) for n in range(RANKS)], np.uint64)
    return (
        Column("context.hour", hours, codes),
        Column("context.weekday", days, codes),
        Column(POSITION, ranks, np.clip(rank, 0, RANKS - 1).astype(np.intp)),
    )


class Parts(NamedTuple):
    """What an item's features add up to in one head, told apart by what they vary with.

    Attributes:
        scalar: logit and variance of what is the same for every device.
        coded: per axis, logit and variance by code: the device fields, then the time zone.
        others: what the device is crossed with: columns that are the same for all, or vary with
            the time zone.
        groups: of the device's own features, then of its crosses with `others`.
        slopes: of their families.
    """

    scalar: tuple[float, float]
    coded: list[tuple[Floats, Floats | None] | None]
    others: tuple[Column, ...]
    groups: NDArray[np.intp]
    slopes: Floats


class Before(NamedTuple):
    """Devices that an item stands before.

    Attributes:
        device: uint64 [n].
        codes: one array of codes [n] per axis: the device fields, then the time zone.
    """

    device: Tokens
    codes: tuple[NDArray[np.intp], ...]


class Laid(NamedTuple):
    """Impressions as places in tables, for all heads.

    Attributes:
        at: int64 [features, n].
        absent: bool [features, n], where an impression lacks a field; None if none lacks any.
        layout: of the features.
    """

    at: NDArray[np.int64]
    absent: NDArray[np.bool_] | None
    layout: Layout


def lay_out(impressions: Impressions, bits: int) -> Laid:
    """Return impressions as places in tables of 2^bits entries."""
    tokens = stacked(impressions)
    absent = None if tokens.all() else tokens == 0
    return Laid(places(tokens, bits), absent, layout(impressions))


class Stack(NamedTuple):
    """Features that vary with the same, as places in tables.

    Attributes:
        features: what they are.
        at: int64 [features, values].
        absent: bool [features, values], where there is no such field; None if there always is.
    """

    features: list[Feature]
    at: NDArray[np.int64]
    absent: NDArray[np.bool_] | None

    @classmethod
    def of(cls, found: list[tuple[Feature, Tokens]], bits: int) -> Stack:
        """Return features of which the tokens are known."""
        tokens = np.stack([tokens for _, tokens in found])
        absent = None if tokens.all() else tokens == 0
        return cls([feature for feature, _ in found], places(tokens, bits), absent)


class Apart(NamedTuple):
    """An item's features, told apart by what they vary with; the same for all heads.

    Attributes:
        scalars: the same for every device.
        coded: per axis: the device fields, then the time zone; None where nothing varies with it.
        own: of the device itself.
    """

    scalars: Stack
    coded: list[Stack | None]
    own: list[Feature]


def told_apart(item: ItemTokens, people: People, now: float, bits: int) -> Apart:
    """Return an item's features before any device."""
    axes = [np.empty(0, np.intp) for _ in (*people.fields, people.zones)]
    of_item, item_fields = item_columns(
        np.array([item.item], np.uint64), np.array([item.fields], np.uint64)
    )
    every = Impressions(
        (Column("device", np.zeros(2, np.uint64)),),
        of_item,
        item_fields=item_fields,
        device_fields=tuple(
            Column(codes.name, codes.tokens, axis)
            for codes, axis in zip(people.fields, axes, strict=False)
        ),
        context=context_columns(people.zones.values, now, axes[-1]),
    )
    scalars: list[tuple[Feature, Tokens]] = []
    coded: list[list[tuple[Feature, Tokens]]] = [[] for _ in axes]
    own: list[Feature] = []
    for feature in features(every):
        if feature.operands[0].name == "device":
            # A cross with a field that the item lacks is absent for every device.
            if len(feature.operands) == 1 or feature.operands[1].tokens.any():
                own.append(feature)
            continue
        if not all(operand.tokens.any() for operand in feature.operands):
            continue
        column = feature.column()
        if column.codes is None:
            scalars.append((feature, column.tokens))
        else:
            axis = next(n for n, each in enumerate(axes) if each is column.codes)
            coded[axis].append((feature, column.tokens))
    return Apart(
        Stack.of(scalars, bits), [Stack.of(each, bits) if each else None for each in coded], own
    )


class Head:
    """One head's tables, and what items come to under them.

    Args:
        tables: what the head has learned.
        blocks: its features.
    """

    __slots__ = ("_groups", "_own", "blocks", "tables")

    def __init__(self, tables: Tables, blocks: Sequence[Block] = BLOCKS) -> None:
        self.tables = tables
        self.blocks = blocks
        self._groups = frozenset(block.group for block in blocks)
        self._own: dict[int, tuple[Layout, NDArray[np.intp], NDArray[np.intp], Floats]] = {}

    # ---- Few impressions

    def each(self, laid: Laid, *, sampled: bool) -> tuple[Floats, Floats | None]:
        """Return the logits of impressions, and their variances if wanted.

        Args:
            laid: all features of the impressions; those of other blocks are left out.
            sampled: whether the variances are wanted.
        """
        own = self._own.get(id(laid.layout))
        if own is None:
            own = self._own[id(laid.layout)] = self._own_of(laid)
        _, which, groups, slopes = own  # the layout, held so that its id stays its own
        at, absent = laid.at, laid.absent
        if len(which) < len(at):
            at, absent = at[which], None if absent is None else absent[which]
        z, variance = self.tables.add_at(at, absent, groups, slopes, sampled=sampled)
        z += np.float32(self.tables.offset)
        return z, variance

    def _own_of(self, laid: Laid) -> tuple[Layout, NDArray[np.intp], NDArray[np.intp], Floats]:
        known = laid.layout
        families: list[str | None] = [None] * len(known.groups)
        for place, family in zip(known.counted.tolist(), known.families, strict=True):
            families[place] = family
        slopes = self.tables.slopes_of(families)
        which = np.flatnonzero(np.isin(known.groups, [block.group for block in self.blocks]))
        return known, which, known.groups[which], slopes[which]

    # ---- One item before many devices

    def parts(self, apart: Apart, *, sampled: bool) -> Parts:
        """Return what an item's features add up to, for any device.

        Args:
            apart: all features of the item; those of other blocks are left out.
            sampled: whether variances are wanted.
        """
        z, variance = self._sum(apart.scalars, sampled=sampled)
        own = [feature for feature in apart.own if feature.group in self._groups]
        return Parts(
            (self.tables.offset + float(z[0]), 0.0 if variance is None else float(variance[0])),
            [self._sum(each, sampled=sampled) if each else None for each in apart.coded],
            tuple(feature.operands[1] for feature in own[1:]),
            np.array([feature.group for feature in own], np.intp),
            self.tables.slopes_of([feature.family for feature in own]),
        )

    def _sum(self, found: Stack, *, sampled: bool) -> tuple[Floats, Floats | None]:
        at, absent, kept = found.at, found.absent, found.features
        which = [place for place, feature in enumerate(kept) if feature.group in self._groups]
        if len(which) < len(kept):
            kept = [kept[place] for place in which]
            at, absent = at[which], None if absent is None else absent[which]
        groups = np.array([feature.group for feature in kept], np.intp)
        slopes = self.tables.slopes_of([feature.family for feature in kept])
        return self.tables.add_at(at, absent, groups, slopes, sampled=sampled)

    def before(
        self, parts: Parts, before: Before, *, sampled: bool
    ) -> tuple[Floats, Floats | None]:
        """Return the logits of an item before devices, and their variances if wanted."""
        z = np.full(len(before.device), parts.scalar[0], np.float32)
        variance = np.full(len(z), parts.scalar[1], np.float32) if sampled else None
        for sums, codes in zip(parts.coded, before.codes, strict=True):
            if sums is not None:
                z += sums[0].take(codes, mode="wrap")
                if variance is not None and sums[1] is not None:
                    variance += sums[1].take(codes, mode="wrap")
        # Without crosses there is one look-up per device, and nothing to lay out.
        step = _BLOCK if parts.others else max(len(z), 1)
        for start in range(0, len(z), step):
            block = slice(start, start + step)
            more, spread = self._devices(parts, before, block, sampled=sampled)
            z[block] += more
            if variance is not None and spread is not None:
                variance[block] += spread
        return z, variance

    def _devices(
        self, parts: Parts, before: Before, block: slice, *, sampled: bool
    ) -> tuple[Floats, Floats | None]:
        """Return what the features of the devices themselves add."""
        device = before.device[block]
        tokens = np.empty((1 + len(parts.others), len(device)), np.uint64)
        tokens[0] = device
        first = mixed(device) if parts.others else device
        for place, other in enumerate(parts.others, 1):
            varied = (
                other.tokens if other.codes is None else other.tokens.take(before.codes[-1][block])
            )
            tokens[place] = paired(first, varied)
        return self.tables.add(tokens, parts.groups, parts.slopes, sampled=sampled)
