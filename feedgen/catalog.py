"""What an arriving item is: new, an update, a retraction, or nothing that changes anything.

The catalog knows every live item and every tombstone by number and by (channel, id). It decides in
memory, at once; the caller makes the returned record durable before it acknowledges the packet.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from feedgen.items import Record, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from feedgen.items import Item

MAX_N = (1 << 32) - 1
EARLIER = 20
"""How many contents of an id, besides the present one, are remembered against redeliveries.

As many as paho-mqtt keeps in flight by default. A publisher that reconnects sends its last packets
again in order (MQTT 3.1.1, 4.6); should more different contents than these be of one id, all of
them count as updates and end at the same last one: a flicker, not a wrong state. Contents of one
id that also repeat within so many are ambiguous by nature; `rev` is for their publishers.
"""

_VERSIONS = 1 << 16


class Outcome(StrEnum):
    """What an accepted packet meant."""

    NEW = "new"
    UPDATE = "update"
    RETRACT = "retract"
    UNCHANGED = "unchanged"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The catalog's decision.

    Attributes:
        outcome: `new`, `update` and `retract` change feeds; `unchanged` and `stale` do not.
        record: what must be stored, None if nothing. Always set for an outcome that changes feeds.
            `unchanged` has one only if identical content came with a higher `rev`, which must
            survive a restart.
    """

    outcome: Outcome
    record: Record | None


class Catalog:
    """All items that are not over, tombstones included.

    Where several nodes accept items, each decides by its own catalog; `adopt` and `correct` take in
    what the others decided.

    Args:
        next_n: the number of the next new item; `load` raises it above all that are loaded.
        number: gives the numbers of new items, where this catalog is not the only one that needs any.
    """

    __slots__ = ("_deadlines", "_number", "_numbers", "_records", "next_n")

    def __init__(self, next_n: int = 1, number: Callable[[], int] | None = None) -> None:
        self.next_n = next_n
        self._number = number or self._count
        self._records: dict[int, Record] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        # A heap of `expires << 32 | n`. An update leaves its older deadline in place; deadlines
        # that are no longer true are skipped when they come up and swept when they outweigh.
        self._deadlines: list[int] = []

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def load(self, records: Iterable[Record]) -> None:
        """Take over what a store kept, in any order; numbers go on above the highest."""
        for record in records:
            self._records[record.n] = record
            key = record.item.channel, record.item.id
            # An item that was over but not yet expired may stand beside its successor.
            self._numbers[key] = max(record.n, self._numbers.get(key, 0))
            self.next_n = max(self.next_n, record.n + 1)
        self._sweep()

    def get(self, n: int) -> Record | None:
        """Return the record with number `n`, None if there is none (any more)."""
        return self._records.get(n)

    def find(self, channel: str, item_id: str) -> Record | None:
        """Return the record last accepted under this id, tombstones included."""
        n = self._numbers.get((channel, item_id))
        return None if n is None else self._records[n]

    def accept(self, item: Item, now_ms: int, dup: bool, publisher: str = "") -> Accepted:
        """Decide what a valid item is, and remember it.

        New content is its publisher's, also where it updates an item of somebody else. Content that
        is there already stays whose it was, whatever its `rev`: sending it again takes nothing over.

        Args:
            item: as decoded.
            now_ms: Unix milliseconds, the time of acceptance.
            dup: the packet had the DUP flag.
            publisher: the authenticated user that sent it, "" if nobody vouched for one.

        Raises:
            OverflowError: all 2**32 - 1 item numbers were given out.

        What `number` raises comes through; nothing was changed then.
        """
        held = self.find(item.channel, item.id)
        content = digest(item)
        publisher = sys.intern(publisher)  # held by every record of the publisher
        if held is None or held.expires * 1000 <= now_ms:
            return self._accept_new(item, content, now_ms, publisher)
        known_rev = held.item.rev
        if item.rev is not None and known_rev is not None and item.rev <= known_rev:
            return _STALE
        if content == held.digest:
            return self._accept_rev(held, item.rev)
        if dup and item.rev is None and content in held.earlier:
            return _UNCHANGED
        return self._accept_update(held, item, content, now_ms, publisher)

    def expire(self, now: float) -> list[Record]:
        """Drop and return what is over at `now` (Unix seconds), tombstones too, earliest first."""
        over: list[Record] = []
        while self._deadlines and self._deadlines[0] >> 32 <= now:
            deadline = heappop(self._deadlines)
            record = self._records.get(deadline & MAX_N)
            if record is not None and record.expires == deadline >> 32:
                over.append(record)
                self._drop(record)
        return over

    # ---- What other nodes accepted

    def adopt(self, record: Record) -> bool:
        """Take in what another node accepted, if it is newer than what is here.

        Of one number the later version is newer, counted in a circle (RFC 1982), and of one version
        the one with the higher `rev`; of two numbers under one id the one that is over later, as an
        id gets another number only after the end of the item before. Two contents of one version
        there are only where the store has lost the one that is here: the other one stands.

        Returns: whether feeds change.
        """
        held = self.find(record.item.channel, record.item.id)
        if held is None:
            self._put(record)
            return True
        if held.n != record.n:
            newer = record.expires > held.expires
        elif held.version != record.version:
            newer = (record.version - held.version) % _VERSIONS < _VERSIONS // 2
        elif record.digest != held.digest:
            newer = True
        else:
            if (record.item.rev or 0) > (held.item.rev or 0):
                self._records[held.n] = record
            return False
        if newer:
            self._put(record)
        return newer

    def correct(self, void: Record, stored: Record | None) -> None:
        """Forget a record that was accepted here and never came to be, for the one that is stored.

        Args:
            void: what `accept` returned, or an earlier one of the same id.
            stored: what is stored under that id; None if nothing is.
        """
        held = self.find(void.item.channel, void.item.id)
        if held is not None:
            self._drop(held)
        if stored is not None:
            self._put(stored)

    def _put(self, record: Record) -> None:
        self._numbers[record.item.channel, record.item.id] = record.n
        self._keep(record)

    # ---- Decisions

    def _count(self) -> int:
        n = self.next_n
        if n > MAX_N:
            raise OverflowError("all item numbers of this store were given out")
        self.next_n = n + 1
        return n

    def _accept_new(self, item: Item, content: bytes, now_ms: int, publisher: str) -> Accepted:
        record = Record(
            n=self._number(),
            version=0,
            item=item,
            published_ms=now_ms,
            expires=_deadline(item, now_ms),
            digest=content,
            retracted=item.retract,
            publisher=publisher,
        )
        self._numbers[item.channel, item.id] = record.n
        return self._keep(record)

    def _accept_update(
        self, held: Record, item: Item, content: bytes, now_ms: int, publisher: str
    ) -> Accepted:
        if item.rev is None and held.item.rev is not None:
            item = replace(item, rev=held.item.rev)
        record = Record(
            n=held.n,
            version=(held.version + 1) % _VERSIONS,
            item=item,
            published_ms=now_ms,
            expires=_deadline(item, now_ms),
            digest=content,
            retracted=item.retract,
            earlier=_remembered(held, content),
            publisher=publisher,
        )
        return self._keep(record, Outcome.UPDATE)

    def _accept_rev(self, held: Record, rev: int | None) -> Accepted:
        if rev is None:
            return _UNCHANGED
        record = replace(held, item=replace(held.item, rev=rev))
        self._records[held.n] = record
        return Accepted(Outcome.UNCHANGED, record)

    def _keep(self, record: Record, outcome: Outcome = Outcome.NEW) -> Accepted:
        self._records[record.n] = record
        heappush(self._deadlines, record.expires << 32 | record.n)
        if len(self._deadlines) > 2 * len(self._records) + 1024:
            self._sweep()
        return Accepted(Outcome.RETRACT if record.retracted else outcome, record)

    def _drop(self, record: Record) -> None:
        del self._records[record.n]
        key = record.item.channel, record.item.id
        if self._numbers.get(key) == record.n:
            del self._numbers[key]

    def _sweep(self) -> None:
        self._deadlines = [r.expires << 32 | r.n for r in self._records.values()]
        heapify(self._deadlines)


_STALE = Accepted(Outcome.STALE, None)
_UNCHANGED = Accepted(Outcome.UNCHANGED, None)


def _deadline(item: Item, now_ms: int) -> int:
    """Return Unix seconds, rounded up so that an item never has less than its ttl."""
    return -(-now_ms // 1000) + item.ttl


def _remembered(held: Record, content: bytes) -> tuple[bytes, ...]:
    others = (earlier for earlier in held.earlier if earlier not in (content, held.digest))
    return (*others, held.digest)[-EARLIER:]
