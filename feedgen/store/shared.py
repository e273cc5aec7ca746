"""What a store promises to several nodes at once: items, devices and word of changes for all of them.

A *node* is one server process. All nodes of a fleet share one store. Each item is decided once,
though two nodes may hear of it at the same time; each device is held by one node at a time; whatever
one node changes, the others are told.

- *Items.* A node decides what an item is by its own catalog, and offers the record *over* the one that
  it decided by. The store takes it only if that is still the present one; else it answers with what
  is, and the node decides anew. So the rules are written once, in `catalog`, and the store compares.
- *Devices.* Who claims a device gets a *token*, higher than every one before. Writes of its holder
  carry it and are refused once there is a higher one (a *fence*: Kleppmann, Designing Data-Intensive
  Applications, ch. 8). A holder that lets go says so, and leaves the position for the next one; of a
  holder that did not, nothing is known of what it sent.
- *Profiles* have a version. A write names the one that it was made from, and on a conflict brings back
  what is there, to be merged by those who know what a profile is.
- *Leases* elect one node for a task for a while, and fence it likewise.

`memory_shared.SharedMemory` is the readable specification; every other passes the same tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Protocol

from feedgen.store.base import Store

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from feedgen.items import Record
    from feedgen.store.base import Loaded


class OutOfNumbers(Exception):  # noqa: N818 - named like what it finds, as BadFrame is
    """The store is away and the item numbers that it had given to this node are used up."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A device, from now on held by whoever claimed it.

    Attributes:
        token: Higher than that of every claim before; the holder's writes carry it.
        version: Of the profile; 0 where none is stored.
        blob: The stored profile; None if there is none.
        clean: Whether the holder before let go of it, so that the position in `blob` holds. True also
            for a device that nobody ever held.
        dismissed: Numbers of the items that must never return to it.
        ago: Seconds, by the store's clock, since another node last claimed it; inf if none did, or if
            that is not known.
    """

    token: int
    version: int
    blob: bytes | None
    clean: bool
    dismissed: tuple[int, ...]
    ago: float = field(default=inf, compare=False)


@dataclass(frozen=True, slots=True)
class Late:
    """Nothing was claimed, as another node has claimed the device since it was wanted here.

    Attributes:
        ago: Seconds since then, by the store's clock.
    """

    ago: float


@dataclass(frozen=True, slots=True)
class Found:
    """A stored profile, as read by a node that does not claim it.

    Attributes:
        version: 0 where none is stored.
        blob: None where none is stored.
        holder: The node that holds it, "" for none.
    """

    version: int
    blob: bytes | None
    holder: str


@dataclass(frozen=True, slots=True)
class Written:
    """A profile was stored, durably, as this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A profile was not stored, as somebody else had changed it: what is there now."""

    version: int
    blob: bytes | None


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing was written, as another node has claimed the device since."""


Answer = Written | Conflict | Fenced


class Changes(Protocol):
    """Who is told what other nodes did. Called on the loop, never by what the node itself did."""

    def accepted(self, records: Sequence[Record]) -> None:
        """Items as they are now; those of one channel and id in the order in which they came to be."""

    def changed(self, device: str, notice: str) -> None:
        """A profile was written by somebody who does not hold it, or is gone; `fetch` tells.

        `notice` is what the writer said about it, "" for nothing.
        """

    def taken(self, device: str) -> None:
        """Another node has claimed a device that this one held, or asks for it to be let go."""

    def told(self, kind: str, body: bytes, node: str) -> None:
        """What another node `tell`s all."""

    def posted(self, bodies: Sequence[bytes]) -> None:
        """What was `post`ed to this node, in order."""

    def members(self, nodes: frozenset[str]) -> None:
        """The nodes that are alive, this one included, have changed."""

    def missed(self) -> None:
        """Word of changes may have been missed, or this node counted as dead: look at all that is held."""


class SharedStore(Store, Protocol):
    """One node's hold on a store that it shares. Call it from the thread of its event loop.

    `Store.open` opens it alone, with everything in it, for tools and tests. Nodes `join`.

    While the store is away, nothing that was submitted is lost: futures stay open, and what they wait
    for is tried again until it succeeds or the store is closed (then they fail with `StoreError`).
    What is repeated because its answer was lost happens once.
    """

    @property
    def numbers_left(self) -> int:
        """Item numbers that can be taken without asking the store."""

    async def join(self, node: str, changes: Changes) -> Loaded:
        """Becomes a node, and reads every live item; `devices` and `dismissed` are empty.

        Nothing is missed between what this returns and what `changes` is told. A node of the same
        name that is still alive is an error.

        Raises:
            StoreError: The store cannot be used; the message says why and what to do.
        """

    # ---- Items

    def number(self) -> int:
        """An item number that no node was ever given before.

        Raises:
            OutOfNumbers: None is left; `numbers_left` tells before.
        """

    def put_item(self, record: Record, over: Record | None) -> asyncio.Future[Record | None]:
        """Stores a record durably and tells the others, if `over` is what is stored of its id.

        Several may be under way for one id, each over the one before. A stored record whose time
        is over counts as none. Where nothing is stored, it is stored whatever it is over.

        Returns: None once it is durable; or what is stored instead, and then nothing has changed.
        """

    # ---- Devices

    def fetch(self, devices: Sequence[str]) -> asyncio.Future[dict[str, Found]]:
        """Reads profiles, without claiming them."""

    def claim(
        self, device: str, wait: float = 0.0, waited: float = 0.0
    ) -> asyncio.Future[Claim | Late]:
        """Makes this node the holder of a device, known or not.

        Where another node that is alive holds it, that one is told (`Changes.taken`), and has `wait`
        seconds to let go before its token is passed by.

        A device is where it last asked to be. What asked here `waited` seconds ago does not take it from
        a node that has claimed it since. This is looked at when the claim reaches the store; a claim that
        was held up on its way there may still be granted, and `Claim.ago` tells.
        """

    def still_held(self, device: str, token: int) -> asyncio.Future[float | None]:
        """Whether a claim of this node still stands; if so it counts as made now for who claims next.

        Returns: seconds, by the store's clock, since it was made, or fewer where that clock went back; None if it
        does not stand any more.
        """

    def put_device(
        self,
        device: str,
        blob: bytes | None,
        *,
        version: int,
        token: int | None,
        release: bool = False,
        notice: str = "",
    ) -> asyncio.Future[Answer]:
        """Stores a profile over the `version` that it was made from.

        Removing one also ends the hold on it: its holder's next write is `Fenced`. Removing what is not
        there is done already.

        Args:
            device: Its id.
            blob: The profile; None removes it and all that is kept of the device.
            version: That the profile was made from, 0 if there was none.
            token: The holder's; None for an operator, whose writes are told to all (`Changes.changed`).
            release: Lets go of the device with the same step; needs a token.
            notice: Told to all beside the device.
        """

    def devices(self, after: str, limit: int) -> asyncio.Future[list[str]]:
        """Ids of stored profiles above `after`, in order, at most `limit`."""

    def held_by(self, node: str) -> asyncio.Future[list[str]]:
        """The devices that a node, alive or not, has claimed and not let go."""

    # ---- Word among nodes

    def tell(self, kind: str, body: bytes) -> None:
        """Tells all other nodes something small, once; may be lost when the store fails."""

    def post(self, node: str, bodies: Sequence[bytes]) -> asyncio.Future[None]:
        """Leaves messages for one node, in order; the future resolves when they are durable.

        What is left for a node that is not there is kept for a bounded time and number.
        """

    def lease(self, name: str, seconds: float) -> asyncio.Future[int | None]:
        """Takes or renews the lease of a task; the lease's token, None if another node has it.

        The token of a lease stays while it is renewed, and is higher after every change.
        """

    # ---- Learning

    def feedback(self, body: bytes) -> None:
        """Adds to what the trainer reads; bounded, the oldest unread goes first, and is counted."""

    def read_feedback(self, count: int) -> asyncio.Future[list[bytes]]:
        """Takes up to `count` bodies, in order, off what the trainer reads; each is given out once."""

    @property
    def feedback_waiting(self) -> int:
        """Bodies that wait for the trainer, as last seen by `read_feedback`."""

    @property
    def feedback_dropped(self) -> int:
        """Bodies of all nodes that went unread since the store was made, as last seen here."""

    def publish(self, name: str, blob: bytes, token: int) -> asyncio.Future[bool]:
        """Puts a large value (what was learned) in the place of an earlier one of this name.

        Returns: Whether it was; False where a higher token was seen.
        """

    def latest(self, name: str, above: int) -> asyncio.Future[tuple[int, bytes] | None]:
        """A published value and its number, which rises; None if there is none above `above`."""
