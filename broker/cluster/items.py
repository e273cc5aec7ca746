"""Accepting items of which other nodes may hear at the same moment.

The catalog decides here, at once, by what this node knows; the store takes the decision only if that is
still what there is. Else it says what is, and the same packet is decided anew. So all nodes end with the
same items, and the rules stand in `catalog` alone. Each round that is lost means that another node has
made progress, so a packet is not decided for ever.

A packet may wait here for long, on the wrong side of a network that broke, and its publisher send it again
to another node, and newer ones after it. So what is decided anew counts as what it was when it came: if it
was accepted elsewhere since, it is a repetition, and if much newer content was, it is over. Its publisher
has no acknowledgement of it, so all of that could as well have come after it. (By the time of the new
decision it would be the newest, and bring old content back.)

Packets of one channel and id that wait for the store stand in a *chain*: each was decided by what the one
before it would make. If one turns out to be void, so are all behind it.

While the store is away, items of QoS 0 nevertheless flow: they are *given* to the feeds of this node and
stored when it is back. One that loses by then is taken back. Until then it is not what any other node
could hold under its number: an update has a version of its own (`_PROVISIONAL`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from feedgen.catalog import Outcome
from feedgen.store.shared import OutOfNumbers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from broker.acceptance import Keeper
    from broker.counters import Counters
    from feedgen.catalog import Catalog
    from feedgen.items import Item, Record
    from feedgen.store.shared import SharedStore

Key: TypeAlias = tuple[str, str]
"""Channel and id of an item."""

_RESERVE = 256
"""Item numbers below which publishers are read no further: a read may have brought as many packets."""

_SKEW_MS = 1_000
"""What may lie between the clocks of two nodes: what was accepted elsewhere is surely newer than a packet
that came here so much earlier."""

_PROVISIONAL = 1 << 15
"""Flips the version of an update that is shown before it is stored; such versions are 32 768 updates off."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A packet on its way.

    Attributes:
        came_ms: When it came, Unix milliseconds.
        record: What it would make; None if nothing, by what the packets before it would make.
        over: What the catalog held before.
        changes: Whether feeds change by the record.
        given: What this node's feeds were given of it before it was stored.
    """

    item: Item
    dup: bool
    publisher: str
    qos: int
    done: Callable[[], None]
    came_ms: int
    record: Record | None = None
    over: Record | None = None
    changes: bool = False
    given: Record | None = None


@dataclass(slots=True, eq=False)
class _Chain:
    """Packets of one channel and id, in order.

    Attributes:
        waiting: Those that are not settled.
        stored: What the store answered to one that is void; all still waiting are void with it.
        is_void: Whether there was such an answer.
        on_their_way: Futures of the store that have not answered.
        heard: What another node accepted meanwhile, the last of it.
    """

    waiting: deque[_Pending] = field(default_factory=deque)
    stored: Record | None = None
    is_void: bool = False
    on_their_way: int = 0
    heard: Record | None = None


class SharedItems:
    """Accepts items at one of several nodes.

    Args:
        catalog: What this node knows of items; its numbers are the store's.
        store: Where they go.
        counters: Outcomes are counted here, `items_lost` races with other nodes among them.
        keeper: Who is told of them.
        stood_still: Whether this process stood still a moment ago, see `pulse`.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: SharedStore,
        counters: Counters,
        keeper: Keeper,
        stood_still: Callable[[], bool] = lambda: False,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._counted = counters.items
        self._keeper = keeper
        self._stood_still = stood_still
        self._chains: dict[Key, _Chain] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Packets that are not settled."""
        return self._waiting

    @property
    def congested(self) -> bool:
        """Whether the numbers for new items run out."""
        return self._store.numbers_left < _RESERVE

    def accept(
        self, item: Item, *, dup: bool, publisher: str, qos: int, done: Callable[[], None]
    ) -> bool:
        """See `Items.accept`: False while the store is away and all its numbers are given out.

        And right after this process stood still, as the packet may be from before that.
        """
        if self._stood_still():
            self._counted["after_standstill"] += 1
            return False
        key = item.channel, item.id
        chain = self._chains.get(key)
        pending = _Pending(item, dup, publisher, qos, done, self._keeper.now_ms())
        try:
            outcome = self._decide(pending)
        except OutOfNumbers:
            return False
        self._counted[outcome.value] += 1
        if pending.record is None and chain is None:
            self._keeper.barrier(done)  # what it repeats is stored; its publisher's order stays
            return True
        if chain is None:
            chain = self._chains[key] = _Chain()
        self._waiting += 1
        chain.waiting.append(pending)
        if not chain.is_void:
            self._send(chain, pending)
        return True

    def accepted(self, records: Iterable[Record]) -> None:
        """Other nodes accepted these."""
        for record in records:
            chain = self._chains.get((record.item.channel, record.item.id))
            if chain is not None:
                chain.heard = record
            else:
                self._adopt(record)

    def drop(self, over: Sequence[Record]) -> None:
        """The store drops by itself what is over."""

    def tick(self) -> None:
        """While the store is away, best-effort items flow without it."""
        for chain in list(self._chains.values()):
            self._go_on(chain)  # it may have wanted a number
        if self._store.up:
            return
        for chain in self._chains.values():
            for pending in chain.waiting:
                if pending.qos == 0 and pending.changes and pending.given is None:
                    self._give(pending)

    # ---- One packet

    def _decide(self, pending: _Pending) -> Outcome:
        """What a packet is by what is known now.

        Raises:
            OutOfNumbers: It is new, and there is no number for it.
        """
        item, now_ms = pending.item, self._keeper.now_ms()
        held = self._catalog.find(item.channel, item.id)
        accepted = self._catalog.accept(item, now_ms, pending.dup, pending.publisher)
        pending.over = held
        pending.record = accepted.record
        pending.changes = accepted.record is not None and accepted.outcome is not Outcome.UNCHANGED
        return accepted.outcome

    def _send(self, chain: _Chain, pending: _Pending) -> None:
        """Offers the store what a packet makes; one that makes nothing waits for those before it."""
        if pending.record is None:
            return
        chain.on_their_way += 1
        future = self._store.put_item(pending.record, pending.over)
        future.add_done_callback(partial(self._answered, chain, pending))

    def _give(self, pending: _Pending) -> None:
        record = pending.record
        assert record is not None
        if pending.over is not None and pending.over.n == record.n:
            record = replace(record, version=record.version ^ _PROVISIONAL)
        pending.given = record
        self._counted["given_before_stored"] += 1
        self._keeper.durable(record)

    # ---- Answers of the store

    def _answered(
        self, chain: _Chain, pending: _Pending, future: asyncio.Future[Record | None]
    ) -> None:
        if future.cancelled() or future.exception() is not None:
            return  # the store has closed: nobody is told, so nobody relies on it
        chain.on_their_way -= 1
        stored = future.result()
        if stored is not None:
            # What those behind it were answered is no news: the last answer is the latest.
            chain.stored, chain.is_void = stored, True
        elif not chain.is_void:
            self._settle(chain, pending)
        self._go_on(chain)
        if not chain.waiting:
            self._end(pending.item, chain)
        self._keeper.relieved()

    def _go_on(self, chain: _Chain) -> None:
        """Begins anew once nothing is on its way that would answer for what is void."""
        if chain.is_void and not chain.on_their_way and self._store.numbers_left:
            self._begin_anew(chain)

    def _settle(self, chain: _Chain, last: _Pending | None) -> None:
        """All up to this one hold, and with it those behind that make nothing."""
        waiting = chain.waiting
        while waiting and (waiting[0].record is None or waiting[0] is last):
            pending = waiting.popleft()
            record = pending.record
            if record is not None and pending.changes and pending.given is not record:
                self._keeper.durable(record)
            self._waiting -= 1
            pending.done()

    def _begin_anew(self, chain: _Chain) -> None:
        """Decides all that wait once more, by what is stored."""
        void = [pending for pending in chain.waiting if pending.record is not None]
        stored, chain.stored, chain.is_void = chain.stored, None, False
        assert void[0].record is not None
        self._counted["decided_anew"] += len(chain.waiting)
        self._catalog.correct(void[0].record, stored)
        if stored is not None:
            self._keeper.durable(stored)
        given = {p.given.n: p.given for p in void if p.given is not None}
        for last in given.values():
            if stored is None or last.n != stored.n:
                self._take_back(last)
        again, chain.waiting = chain.waiting, deque()
        for pending in again:
            pending.given = None
            self._decide_anew(pending, stored)
            chain.waiting.append(pending)
            self._send(chain, pending)
        self._settle(chain, None)

    def _decide_anew(self, pending: _Pending, stored: Record | None) -> None:
        """See the module: what came before what is stored is at most a repetition of it, or over."""
        newer_by = 0 if stored is None else stored.published_ms - pending.came_ms
        if newer_by > _SKEW_MS and pending.item.rev is None:
            self._counted["overtaken"] += 1
            pending.record, pending.over, pending.changes = None, None, False
            return
        pending.dup |= newer_by > 0
        self._decide(pending)

    def _take_back(self, given: Record) -> None:
        """An item that feeds were given is no item: another node's stands under its id."""
        version = (given.version + 1) % (1 << 16)
        self._keeper.durable(replace(given, version=version, retracted=True))

    def _end(self, item: Item, chain: _Chain) -> None:
        """Nothing of this id is on its way any more."""
        self._chains.pop((item.channel, item.id), None)
        if chain.heard is not None:
            self._adopt(chain.heard)

    def _adopt(self, record: Record) -> None:
        if self._catalog.adopt(record):
            self._counted["from_other_nodes"] += 1
            self._keeper.durable(record)
        else:
            self._restore(record)

    def _restore(self, stored: Record) -> None:
        """Offers the store a later version than it has: it may have lost what it had acknowledged.

        Mostly it has it, as word of an earlier one came late; then it says so and nothing changes.
        """
        held = self._catalog.find(stored.item.channel, stored.item.id)
        if held is None or held.n != stored.n or held.version == stored.version:
            return

        def answered(future: asyncio.Future[Record | None]) -> None:
            if future.cancelled() or future.exception() is not None:
                return
            if (another := future.result()) is not None:
                self.accepted((another,))

        self._counted["offered_again"] += 1
        self._store.put_item(held, stored).add_done_callback(answered)
