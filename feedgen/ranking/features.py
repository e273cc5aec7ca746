"""Which features an impression has: one list of them, read by training and by serving.

An impression is a device that is shown an item at a time. What is known of it stands in columns: the
device and its fields, the item and its fields, the context. `features` turns columns into features:
each is a token per impression and belongs to a group, whose members share a prior and a trust (see
`model`), and to a family, whose members share the weight of their smoothed rate (see `counters`).

A column is dense (a token for each impression), the same for all impressions (one token), or coded
(few different tokens, and which of them each impression has). Logs are read as dense columns; one item
before a hundred thousand devices has one token per item field, codes for device fields and hours, and
is dense in the device alone. A cross of two columns is coded wherever both are, so most features are
looked up a handful of times instead of once per device.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedgen.ranking.tokens import cross, places

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from feedgen.ranking.tokens import Tokens

POSITION = "context.rank"
"""The column of the place at which an item was shown. It is a feature by itself and not crossed: people
look at the top first whoever they are, and serving holds it constant."""
MAX_FIELDS = 8
"""Columns of one kind that are used; crosses grow with their product."""


class Group(IntEnum):
    """What a feature is made of."""

    DEVICE = 0
    ITEM = 1
    TRAIT = 2
    """A device field."""
    KIND = 3
    """An item field."""
    TIME = 4
    """A context field."""
    TASTE = 5
    """Device x item field."""
    HABIT = 6
    """Device x context."""
    SEGMENT = 7
    """Device field x item field."""
    MOMENT = 8
    """Item field x context."""
    REACH = 9
    """Device field x item."""


GROUPS = len(Group)


class Block(NamedTuple):
    """Features of one group: all columns of a kind, or all pairs of columns of two kinds.

    Attributes:
        group: what they are made of.
        one: the kind, an attribute of `Impressions`.
        other: the kind that it is crossed with.
        counted: whether their rate is a feature too.
    """

    group: Group
    one: str
    other: str | None = None
    counted: bool = True


BLOCKS = (
    Block(Group.DEVICE, "device"),
    Block(Group.ITEM, "item"),
    Block(Group.TRAIT, "device_fields"),
    Block(Group.KIND, "item_fields"),
    Block(Group.TIME, "context"),
    Block(Group.TASTE, "device", "item_fields"),
    Block(Group.HABIT, "device", "context", counted=False),
    Block(Group.SEGMENT, "device_fields", "item_fields"),
    Block(Group.MOMENT, "item_fields", "context"),
    Block(Group.REACH, "device_fields", "item", counted=False),
)
"""All features, in their order."""

SLIM = tuple(block for block in BLOCKS if block.group not in {Group.TASTE, Group.HABIT})
"""Without the crosses of the device itself, the only ones that cost a look-up per device."""


class Column(NamedTuple):
    """One thing known of impressions.

    Attributes:
        name: of the field; two columns of one name are two values of the same field.
        tokens: uint64: one per impression; a single one for all; or, with codes, the different ones.
            0 where the impression has no such field.
        codes: int [impressions], place in `tokens`; None for a column that is not coded.
    """

    name: str
    tokens: Tokens
    codes: NDArray[np.intp] | None = None

    @property
    def dense(self) -> bool:
        """Whether there is a token for each impression."""
        return self.codes is None and len(self.tokens) > 1

    def spread(self) -> Tokens:
        """Return one token per impression, or a single one."""
        return self.tokens if self.codes is None else self.tokens[self.codes]


@dataclass(frozen=True, slots=True, eq=False)
class Impressions:
    """Columns of impressions.

    Attributes:
        device: one column, its id.
        item: one column, its id.
        device_fields: at most `MAX_FIELDS`.
        item_fields: at most `MAX_FIELDS`.
        context: at most `MAX_FIELDS`.
        num: float64 [impressions or 1, numbers], nan where there is none.
    """

    device: tuple[Column]
    item: tuple[Column]
    device_fields: tuple[Column, ...] = ()
    item_fields: tuple[Column, ...] = ()
    context: tuple[Column, ...] = ()
    num: NDArray[np.float64] | None = None

    def of(self, kind: str) -> tuple[Column, ...]:
        """Return the columns of a kind."""
        columns: tuple[Column, ...] = getattr(self, kind)
        return columns

    def crossed(self, kind: str) -> tuple[Column, ...]:
        """Return the columns of a kind that others are crossed with."""
        return tuple(column for column in self.of(kind) if column.name != POSITION)

    def __len__(self) -> int:
        lengths = {
            len(column.tokens if column.codes is None else column.codes)
            for kind in _KINDS
            for column in self.of(kind)
        }
        if len(lengths - {1}) > 1:
            raise ValueError(f"columns of impressions differ in length: {sorted(lengths)}")
        return max(lengths)


_KINDS = ("device", "item", "device_fields", "item_fields", "context")


class Feature(NamedTuple):
    """One feature of all impressions.

    Attributes:
        group: what it is made of.
        family: whose members share the weight of their rate; None if it is not counted.
        operands: the column, or the two columns of a cross.
    """

    group: Group
    family: str | None
    operands: tuple[Column, ...]

    def column(self) -> Column:
        """Return its tokens."""
        if len(self.operands) == 1:
            return self.operands[0]
        one, other = self.operands
        if one.dense or other.dense or (one.codes is not None and other.codes is not None):
            first, second, codes = one.spread(), other.spread(), None
        else:
            first, second = one.tokens, other.tokens
            codes = one.codes if one.codes is not None else other.codes
        return Column(f"{one.name} x {other.name}", pairs(first, second), codes)


def pairs(first: Tokens, second: Tokens) -> Tokens:
    """Return the tokens of pairs, 0 where one of the two is absent; shapes broadcast."""
    tokens = cross(first, second)
    if not (first.all() and second.all()):
        tokens = np.where((first == 0) | (second == 0), np.uint64(0), tokens)
    return tokens


def features(impressions: Impressions, blocks: Sequence[Block] = BLOCKS) -> Iterator[Feature]:
    """Yield the features of impressions, one by one."""
    for block in blocks:
        ones = impressions.of(block.one)
        others = [()] if block.other is None else [(c,) for c in impressions.crossed(block.other)]
        for one in ones:
            for other in others:
                operands = (one, *other)
                name = " x ".join(column.name for column in operands)
                yield Feature(block.group, name if block.counted else None, operands)


def stacked(impressions: Impressions, blocks: Sequence[Block] = BLOCKS) -> Tokens:
    """Return the tokens of all features, in the order of `features`: uint64 [features, n].

    The crosses of two kinds are made at once: sixty calls for a hundred impressions would be all
    that learning and ranking a few of them costs.

    Raises:
        ValueError: columns differ in length.
    """
    length = len(impressions)
    kinds: dict[str, Tokens] = {}
    for kind in _KINDS:
        columns = impressions.of(kind)
        kinds[kind] = np.empty((len(columns), length), np.uint64)
        for place, column in enumerate(columns):
            kinds[kind][place] = column.spread()
    parts: list[Tokens] = []
    for block in blocks:
        if block.other is None:
            parts.append(kinds[block.one])
        else:
            of_other = enumerate(impressions.of(block.other))
            others = [place for place, column in of_other if column.name != POSITION]
            crossed = pairs(kinds[block.one][:, None], kinds[block.other][None, others])
            parts.append(crossed.reshape(crossed.shape[0] * crossed.shape[1], length))
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What is the same for all impressions with the same columns.

    Attributes:
        groups: int [features].
        members: float64 [features, groups], 1 where a feature is of a group.
        counted: int [counted features], their places among the features.
        families: the family of each counted feature.
    """

    groups: NDArray[np.intp]
    members: NDArray[np.float64]
    counted: NDArray[np.intp]
    families: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Impressions as places in tables.

    Attributes:
        layout: of the features.
        places: int64 [impressions, features].
        present: float64 [impressions, features], 0 where an impression lacks a field; None if none
            lacks any.
        num: float64 [impressions, numbers], nan where there is none.
    """

    layout: Layout
    places: NDArray[np.int64]
    present: NDArray[np.float64] | None
    num: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.places)

    def part(self, start: int, end: int) -> Encoded:
        """Return the impressions from `start` to before `end`."""
        return self.rows(slice(start, end))

    def rows(self, rows: slice | NDArray[np.intp]) -> Encoded:
        """Return some of the impressions."""
        present = None if self.present is None else self.present[rows]
        return Encoded(self.layout, self.places[rows], present, self.num[rows])


def encode(impressions: Impressions, bits: int, blocks: Sequence[Block] = BLOCKS) -> Encoded:
    """Return impressions as places in tables of 2^bits entries.

    Raises:
        ValueError: columns differ in length.
    """
    tokens = stacked(impressions, blocks)
    present = None if tokens.all() else (tokens.T != 0).astype(np.float64)
    num = np.empty((tokens.shape[1], 0)) if impressions.num is None else impressions.num
    at = np.ascontiguousarray(places(tokens, bits).T)
    return Encoded(layout(impressions, blocks), at, present, num)


def layout(impressions: Impressions, blocks: Sequence[Block] = BLOCKS) -> Layout:
    """Return what is the same for all impressions with the same columns."""
    names = tuple(tuple(column.name for column in impressions.of(kind)) for kind in _KINDS)
    return _layout(names, tuple(blocks))


@lru_cache(maxsize=64)
def _layout(names: tuple[tuple[str, ...], ...], blocks: tuple[Block, ...]) -> Layout:
    nothing = np.zeros(1, np.uint64)
    columns = [tuple(Column(name, nothing) for name in kind) for kind in names]
    found = list(features(Impressions(*columns), blocks))  # type: ignore[arg-type] # one each, or any number
    groups = np.array([feature.group for feature in found], np.intp)
    families = [feature.family for feature in found]
    return Layout(
        groups,
        np.eye(GROUPS)[groups],
        np.array([place for place, name in enumerate(families) if name is not None], np.intp),
        tuple(name for name in families if name is not None),
    )
