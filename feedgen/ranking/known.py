"""What is remembered of items: tokens for features, and groups for balance and repetition."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from feedgen.ranking.scorer import item_tokens
from feedgen.ranking.tokens import token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feedgen.items import Record
    from feedgen.ranking.scorer import ItemTokens

_ITEMS = 1 << 17
"""Items remembered; outcomes of those that were new longest ago teach nothing any more."""
_NAMES = 1 << 14
"""Names of groups remembered, for people to read; the others are told by their number."""


class Known(NamedTuple):
    """One item.

    Attributes:
        tokens: for features.
        publisher: group of who published it.
        channel: group of its channel.
        version: of the content that this is true of.
    """

    tokens: ItemTokens
    publisher: int
    channel: int
    version: int


class KnownItems:
    """The items that the ranking met."""

    __slots__ = ("_items", "names")

    def __init__(self) -> None:
        self._items: dict[int, Known] = {}
        self.names: dict[int, str] = {}
        """Of publishers and channels, by group."""

    def __contains__(self, n: int) -> bool:
        return n in self._items

    def __getitem__(self, n: int) -> Known:
        return self._items[n]

    def of(self, record: Record) -> Known:
        """Return what is known of an item."""
        held = self._items.get(record.n)
        if held is not None and held.version == record.version:
            return held
        channel = record.item.channel
        # Without a name, whoever owns a branch of channels is taken for one publisher.
        publisher = record.publisher or channel.partition("/")[0]
        known = Known(
            item_tokens(record),
            self._group("publisher", publisher),
            self._group("channel", channel),
            record.version,
        )
        self._items[record.n] = known
        if len(self._items) > _ITEMS:
            for n in list(islice(self._items, _ITEMS // 8)):
                del self._items[n]
        return known

    def _group(self, kind: str, name: str) -> int:
        number = group(kind, name)
        # Last are those that publish now: who takes a new name each time makes nobody else nameless.
        self.names.pop(number, None)
        self.names[number] = name
        if len(self.names) > _NAMES:
            del self.names[next(iter(self.names))]
        return number

    def restore(self, names: Mapping[int, str]) -> None:
        """Take over the names of an earlier run."""
        self.names = {int(number): str(name) for number, name in names.items()}


def group(kind: str, name: str) -> int:
    """Return the number of a group: positive, int32, the same in every run."""
    return token(kind, name) >> 33 | 1
