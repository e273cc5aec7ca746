"""What a node knows of one profile, of which other nodes may change the stored one at any time."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from devices.profile import BadProfile, Profile
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiter:
    """Who waits for a write.

    Attributes:
        then: Called when it is durable.
        fails: Called if it will never be.
    """

    then: Callable[[], None]
    fails: Callable[[StoreError], None] | None = None


class Elsewhere(StoreError):  # noqa: N818 - said of a client
    """Another node has claimed the device after whoever wants it had come here."""


@dataclass(slots=True, eq=False)
class Entry:
    """One profile.

    Attributes:
        device: Whose it is.
        version: What was last seen in the store; 0 for nothing.
        base: The bytes of that version.
        token: Of the claim; None if the device is not held.
        users: How many use it.
        is_known: Whether the store was asked, and what it has can be read.
        is_dropped: Whether it is to be removed from the store.
        is_leaving: Whether it is being let go.
        is_writing: Whether a write is under way.
        is_unsaved: Whether there is something to write.
        notice: What all nodes are told with the next write; None if it is not the operator's.
        is_outdated: Whether another node wrote while a write was under way, or about to be.
        profile: What is written.
        waiting: Called when what is unsaved is durable.
        looking: Resolves when the store has said what there is.
        claiming: Resolves when a claim that is under way was answered.
        ended: Resolves when the device was let go.
        ago: Seconds by which another node had claimed the device before this one did; inf if that is not known.
        elsewhere: When that was at the latest, as far as this node knows: monotonic seconds of this process.
    """

    device: str
    version: int = 0
    base: bytes | None = None
    token: int | None = None
    users: int = 0
    is_known: bool = False
    is_dropped: bool = False
    is_leaving: bool = False
    is_writing: bool = False
    is_unsaved: bool = False
    is_outdated: bool = False
    notice: str | None = None
    profile: Profile | None = None
    waiting: list[Waiter] = field(default_factory=list)
    looking: asyncio.Future[None] | None = None
    claiming: asyncio.Future[None] | None = None
    ended: asyncio.Future[None] | None = None
    ago: float = inf
    elsewhere: float = -inf

    @property
    def is_adding(self) -> bool:
        """Whether the operator has added it here and the store does not know yet."""
        return self.is_unsaved and self.version == 0 and self.notice is not None

    @property
    def is_busy(self) -> bool:
        """Whether something is under way that has to end before it can be let go."""
        return self.is_writing or self.is_unsaved or self.claiming is not None


def why_to_end(base: Profile, theirs: Profile) -> str:
    """Why connections end that were let in on what a profile was before; "" if they may stay."""
    if theirs.revoked and not base.revoked:
        return "revoked"
    if theirs.rights != base.rights:
        return "rights_changed"
    if theirs.password != base.password:
        return "password_changed"
    if theirs.secret_hash not in {base.secret_hash, base.next_hash} or (
        theirs.secret_hash is None and base.secret_hash is not None
    ):
        return "secret_rotated"
    return ""


def unpacked(device: str, blob: bytes) -> Profile | None:
    """A stored profile; None, and a line in the log, if it cannot be read."""
    try:
        return Profile.unpack(device, blob)
    except BadProfile as error:
        logger.warning("a stored profile cannot be read: %s", error)
        return None


def tell(waiting: Iterable[Waiter], error: StoreError) -> None:
    """A write will never be."""
    for waiter in waiting:
        if waiter.fails is not None:
            waiter.fails(error)
