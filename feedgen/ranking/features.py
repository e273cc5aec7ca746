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
        device: its id as tokens.
        item: its id as tokens.
        device_fields: at most `MAX_FIELDS`.
        item_fields: at most `MAX_FIELDS`.
        context: at most `MAX_FIELDS`.
        num: float64 [impressions or 1, numbers], nan where there is none.
    """

    device: Column
    item: Column
    device_fields: tuple[Column, ...] = ()
    item_fields: tuple[Column, ...] = ()
    context: tuple[Column, ...] = ()
    num: NDArray[np.float64] | None = None


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


@dataclass(frozen=True, slots=True)
class Crosses:
    """Which pairs are features.

    Attributes:
        device: pairs with the device itself, the only ones that cost a look-up per device.
    """

    device: bool = True


ALL = Crosses()
SLIM = Crosses(device=False)


def features(impressions: Impressions, crosses: Crosses = ALL) -> Iterator[Feature]:
    """Yield the features of impressions, always in the same order for the same columns."""
    device, item = impressions.device, impressions.item
    of_device, of_item, context = (
        impressions.device_fields,
        impressions.item_fields,
        impressions.context,
    )
    yield Feature(Group.DEVICE, "device", (device,))
    yield Feature(Group.ITEM, "item", (item,))
    for group, columns in (
        (Group.TRAIT, of_device),
        (Group.KIND, of_item),
        (Group.TIME, context),
    ):
        for column in columns:
            yield Feature(group, column.name, (column,))
    if crosses.device:
        yield from _crosses(Group.TASTE, (device,), of_item)
        yield from _crosses(Group.HABIT, (device,), context, counted=False)
    yield from _crosses(Group.SEGMENT, of_device, of_item)
    yield from _crosses(Group.MOMENT, of_item, context)
    yield from _crosses(Group.REACH, of_device, (item,), counted=False)


def _crosses(
    group: Group, ones: Sequence[Column], others: Sequence[Column], *, counted: bool = True
) -> Iterator[Feature]:
    for one in ones:
        for other in others:
            yield Feature(group, f"{one.name} x {other.name}" if counted else None, (one, other))


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
        present = None if self.present is None else self.present[start:end]
        return Encoded(self.layout, self.places[start:end], present, self.num[start:end])


def encode(impressions: Impressions, bits: int, crosses: Crosses = ALL) -> Encoded:
    """Return impressions as places in tables of 2^bits entries.

    Raises:
        ValueError: columns differ in length.
    """
    found = list(features(impressions, crosses))
    dense = [feature.column().spread() for feature in found]
    length = max(len(each) for each in dense)
    if any(len(each) not in {1, length} for each in dense):
        raise ValueError("columns of impressions differ in length")
    tokens = np.empty((length, len(dense)), np.uint64)
    for place, each in enumerate(dense):
        tokens[:, place] = each
    present = None
    if not tokens.all():
        present = (tokens != 0).astype(np.float64)
    num = np.empty((length, 0)) if impressions.num is None else impressions.num
    layout = _layout(tuple((feature.group, feature.family) for feature in found))
    return Encoded(layout, places(tokens, bits), present, num)


@lru_cache(maxsize=64)
def _layout(kinds: Sequence[tuple[Group, str | None]]) -> Layout:
    groups = np.array([group for group, _ in kinds], np.intp)
    counted = [place for place, (_, family) in enumerate(kinds) if family is not None]
    return Layout(
        groups,
        np.eye(GROUPS)[groups],
        np.array(counted, np.intp),
        tuple(family for _, family in kinds if family is not None),
    )
