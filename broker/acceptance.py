"""How an item comes to hold: named by the catalog, made durable by the store, then acknowledged.

`Acceptance` is that of a server which shares its store with nobody. `cluster.items` is the other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from feedgen.catalog import Outcome
from feedgen.items import URGENT
from feedgen.store.base import DropItems, PutItem

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from broker.counters import Counters
    from feedgen.catalog import Catalog
    from feedgen.items import Item, Record
    from feedgen.store.base import Store


class Keeper(Protocol):
    """What an acceptance asks of the service."""

    def durable(self, record: Record) -> None:
        """A record holds from now on: feeds change by it."""

    def barrier(self, done: Callable[[], None]) -> None:
        """Calls `done` when everything taken so far is durable."""

    def relieved(self) -> None:
        """The store has worked something off."""

    def now_ms(self) -> int:
        """Unix milliseconds, never less than before."""


class Items(Protocol):
    """What the service asks of an acceptance."""

    @property
    def waiting(self) -> int:
        """Items that are on their way to the store."""

    @property
    def congested(self) -> bool:
        """Whether it can hardly take more."""

    def accept(
        self, item: Item, *, dup: bool, publisher: str, qos: int, done: Callable[[], None]
    ) -> bool:
        """Takes a valid item; `done` is called when it is durable.

        Returns: False if it cannot be taken now: the store is away and its numbers are used up, or this
            process stood still a moment ago. Nothing has changed then, and `done` is not called.
        """

    def drop(self, over: Sequence[Record]) -> None:
        """These are over, and have left the catalog."""

    def tick(self) -> None:
        """Some time has passed."""


class Acceptance:
    """Accepts items for one server alone.

    Args:
        catalog: What is known of items.
        store: Where they go.
        counters: Outcomes are counted here.
        keeper: Who is told of them.
    """

    def __init__(
        self, *, catalog: Catalog, store: Store, counters: Counters, keeper: Keeper
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._counted = counters.items
        self._keeper = keeper

    @property
    def waiting(self) -> int:
        """Everything that is on its way to the store."""
        return self._store.pending

    @property
    def congested(self) -> bool:
        """Never by itself: `waiting` is what there is to look at."""
        return False

    def accept(
        self,
        item: Item,
        *,
        dup: bool,
        publisher: str,
        qos: int,  # noqa: ARG002 (all wait for the same commit)
        done: Callable[[], None],
    ) -> bool:
        """See `Items.accept`; always True."""
        accepted = self._catalog.accept(item, self._keeper.now_ms(), dup, publisher)
        self._counted[accepted.outcome.value] += 1
        record = accepted.record
        if record is None:
            self._keeper.barrier(done)
            return True
        changes = accepted.outcome is not Outcome.UNCHANGED
        # Nothing that waits is about an item that is new, so it may overtake.
        first = item.priority == URGENT and accepted.outcome is Outcome.NEW

        def durable() -> None:
            if changes:
                self._keeper.durable(record)
            done()
            self._keeper.relieved()

        self._store.submit((PutItem(record),), first=first, then=durable)
        return True

    def drop(self, over: Sequence[Record]) -> None:
        """They leave the store, too."""
        ops = (DropItems(tuple(record.n for record in over)),)
        self._store.submit(ops).add_done_callback(failed)

    def tick(self) -> None:
        """Time changes nothing here."""


def failed(future: asyncio.Future[Any]) -> bool:
    """Whether a submission came to nothing, as happens only when the store closes."""
    return future.cancelled() or future.exception() is not None
