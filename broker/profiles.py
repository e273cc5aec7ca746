"""Profiles on their way to the store: all that changed in one turn of work go together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from feedgen.store.base import DropDevice, PutDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from devices.profile import Profile
    from devices.registry import Registry
    from feedgen.store.base import Op, Store


class ProfileKeeper(Protocol):
    """What the rest of a server asks of whoever stores its profiles."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to flush."""

    def save(self, profile: Profile, then: Callable[[], None] | None = None) -> None:
        """Stores a profile with the next flush; `then` is called when it is durable."""

    def settled(self, device: str) -> bool:
        """Whether everything that was saved of a profile is durable, or will be with the next flush."""

    async def write(self, profile: Profile, notice: str = "") -> None:
        """Stores what the operator changed; returns when it is durable.

        Args:
            profile: Changed, or dropped.
            notice: Why its connections end at every server, "" if they stay.

        Raises:
            StoreError: It was added elsewhere at the same time.
        """

    def drop(self, device: str) -> None:
        """Has the store forget a device with the next flush, and everything that it dismissed."""

    def flush(self) -> None:
        """Hands the store all profiles that wait."""


class Profiles:
    """Stores profiles, and says when they are durable.

    Args:
        registry: Where the profiles are; one that is not there any more is dropped from the store.
        store: Where they go.
        wake: Called when there is something to flush.
    """

    def __init__(self, registry: Registry, store: Store, wake: Callable[[], None]) -> None:
        self._registry = registry
        self._store = store
        self._wake = wake
        self._unsaved: dict[str, list[Callable[[], None]]] = {}
        self._dropped: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether there is something to flush."""
        return bool(self._unsaved)

    def save(self, profile: Profile, then: Callable[[], None] | None = None) -> None:
        """Stores a profile with the next flush; `then` is called when it is durable."""
        waiting = self._unsaved.setdefault(profile.device, [])
        if then is not None:
            waiting.append(then)
        self._wake()

    def settled(self, device: str) -> bool:  # noqa: ARG002 (commits are in order here)
        """Always True: what was saved stands before any barrier."""
        return True

    async def write(
        self,
        profile: Profile,
        notice: str = "",  # noqa: ARG002 (there is no other server)
    ) -> None:
        """Stores what the operator changed; see `ProfileKeeper.write`."""
        durable = asyncio.Event()
        self.save(profile, durable.set)
        await durable.wait()

    def drop(self, device: str) -> None:
        """Has the store forget a device with the next flush, and everything that it dismissed.

        A profile that is saved under the same id afterwards is a new device's: it is stored as well,
        and inherits nothing.
        """
        self._dropped.add(device)
        self._unsaved.setdefault(device, [])
        self._wake()

    def flush(self) -> None:
        """Hands the store all profiles that wait."""
        unsaved, self._unsaved = self._unsaved, {}
        dropped, self._dropped = self._dropped, set()
        ops: list[Op] = []
        for device in unsaved:
            profile = self._registry.get(device)
            if profile is None or device in dropped:
                ops.append(DropDevice(device))
            if profile is not None:
                ops.append(PutDevice(device, profile.pack()))

        def durable(future: asyncio.Future[None]) -> None:
            if future.cancelled() or future.exception() is not None:
                return  # the store has closed: nobody is told, so nobody relies on it
            for waiting in unsaved.values():
                for then in waiting:
                    then()

        self._store.submit(ops).add_done_callback(durable)
