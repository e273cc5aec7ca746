"""What a store is: durable items, devices and dismissals behind one queue of changes.

The engine and the registry live in memory; a store is what survives the process. It is read once, by
`open`, and from then on only written: callers `submit` changes and wait for the future before they
acknowledge anything to anybody. `memory.MemoryStore` is the readable specification, and every other
store passes the same tests.

Profiles and packed sessions are opaque bytes here, because a store must not know the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from feedgen.items import Record


class StoreError(Exception):
    """The store cannot do what was asked; the message says whose fault it is and what to do."""


def call_if_durable(then: Callable[[], None], future: asyncio.Future[None]) -> None:
    """As a callback of the future of `Store.submit`: calls `then` if it was not in vain."""
    if not future.cancelled() and future.exception() is None:
        then()


@dataclass(frozen=True, slots=True)
class PutItem:
    """Keep `record`, in place of any earlier one with the same `n`."""

    record: Record


@dataclass(frozen=True, slots=True)
class DropItems:
    """Forget the items `ns` and every dismissal of them; numbers that are not stored are ignored."""

    ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PutDevice:
    """Keep `blob` for `device`, in place of any earlier one."""

    device: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class DropDevice:
    """Forget `device` and everything it dismissed."""

    device: str


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Item `n` must never return to the window of `device`, which need not be stored itself."""

    device: str
    n: int


Op = PutItem | DropItems | PutDevice | DropDevice | Dismiss


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a store held when it was opened.

    Attributes:
        records: Items by rising `n`.
        devices: Device id and blob, by device id.
        dismissed: Device id and item number; dismissals whose item is gone are swept by `open`.
        next_n: Greater than every `n` that was ever stored, also after those items were dropped.
        clean: Whether the last run ended with `close(clean=True)`; True for a new store.
        key: 32 random bytes drawn when the store was made, for keyed hashes.
    """

    records: list[Record]
    devices: list[tuple[str, bytes]]
    dismissed: list[tuple[str, int]]
    next_n: int
    clean: bool
    key: bytes = field(repr=False)


class Store(Protocol):
    """Durable state with group commit. Not thread-safe: call it from the thread of the event loop."""

    @property
    def up(self) -> bool:
        """Whether the last attempt to commit succeeded."""

    @property
    def fault(self) -> str | None:
        """Why commits fail at the moment, as a sentence for an operator; None while `up`."""

    @property
    def pending(self) -> int:
        """Submissions not yet resolved. The store never refuses one: whoever submits watches this."""

    @property
    def errors(self) -> int:
        """Failed attempts to commit since `open`."""

    def open(self) -> Loaded:
        """Create, migrate or read the store, and mark it unclean, durably, before returning.

        Raises:
            StoreError: It cannot be used: in use by another process, unreadable, damaged, made by
                a newer version, or on a disk that cannot be written.
        """

    def submit(
        self,
        ops: Sequence[Op],
        *,
        first: bool = False,
        then: Callable[[], None] | None = None,
    ) -> asyncio.Future[None]:
        """Queue `ops`, to be applied in order and all or none, and return at once.

        The future resolves when they are durable; futures resolve in the order of submission, but
        those that go `first` may overtake others. So `submit(())` resolves when everything submitted
        before is durable. What goes first must be of no concern to anything that waits: a new item, say.
        Cancelling the future does not undo the ops. While commits fail it stays open, and it fails with `StoreError` only
        if the store is closed before they succeed, or if these very ops cannot be encoded.

        `then` is called when they are durable, before any callback of the future, and where the store can in
        the very step in which it knows: a callback takes another turn of the loop, which is long under load.
        Whoever gives it need not look at the future.

        Needs a running event loop, always the same one.

        Raises:
            StoreError: The store is not open.
        """

    async def close(self, clean: bool) -> None:
        """Commit what is pending, remember whether the stop was `clean`, and let go.

        If commits fail, one last attempt is made. Closing a store that is not open does nothing.

        Raises:
            StoreError: What was pending, or the clean mark, could not be written.
        """
