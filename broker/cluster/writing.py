"""Profiles on their way to a store that other nodes write to, too.

Of one profile one write is under way at a time; what is changed meanwhile goes with the next. A write
names the version that it was made from. If there is another one by then, what both changed is merged, and
written again. It takes the place of `broker.profiles.Profiles`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Protocol

from broker.cluster.entries import Entry, Waiter, tell, unpacked, why_to_end
from devices.profile import Profile, merge
from feedgen.store.base import StoreError
from feedgen.store.shared import Conflict, Fenced

if TYPE_CHECKING:
    from collections.abc import Callable

    from devices.registry import Registry
    from feedgen.store.shared import Answer, SharedStore


class Resident(Protocol):
    """Who serves devices here, with what they are sent and who is connected."""

    def came(self, device: str, dismissed: tuple[int, ...]) -> None:
        """A device is held from now on; these items must never return to it."""

    def leaves(self, profile: Profile) -> None:
        """A device is let go: its position goes into its profile, and nothing of it stays."""

    def left(self, device: str) -> None:
        """Another node has it, or it is gone: its connections end, and nothing of it is kept."""

    def wanted(self, device: str) -> None:
        """Another node wants a device that is used here: its connections end."""

    def changed(self, profile: Profile, reason: str) -> None:
        """A profile was changed elsewhere.

        With a reason the connections and sessions end that were let in on what it was.
        """

    def removed(self, device: str) -> None:
        """The operator has removed a device."""


class Writing(ABC):
    """Writes profiles, and merges what others wrote.

    Args:
        store: What all nodes share.
        registry: Where the profiles are, for those who only read or change them.

    Attributes:
        resident: Who serves devices here.
        wake: Called when there is something to flush.
    """

    def __init__(self, store: SharedStore, registry: Registry) -> None:
        self.resident: Resident = None  # type: ignore[assignment] # joined by whoever serves
        self.wake: Callable[[], None] = lambda: None
        self._store = store
        self._registry = registry
        self._entries: dict[str, Entry] = {}
        self._unsaved: dict[str, Entry] = {}
        self._loop = asyncio.get_running_loop()

    @abstractmethod
    def holds(self, device: str) -> bool:
        """Whether this node holds a device, as far as it knows."""

    @abstractmethod
    def lose(self, device: str) -> None:
        """Another node has the device, or nobody: it is gone from here."""

    @abstractmethod
    def _forget(self, entry: Entry) -> None:
        """Nothing of it is here any more."""

    @abstractmethod
    def _after_write(self, entry: Entry) -> None:
        """A write has succeeded."""

    @property
    def waiting(self) -> bool:
        """Whether there is something to flush."""
        return bool(self._unsaved)

    def save(self, profile: Profile, then: Callable[[], None] | None = None) -> None:
        """Stores a profile with the next flush; `then` is called when it is durable, if it ever is."""
        entry = self._of(profile)
        if then is not None:
            entry.waiting.append(Waiter(then))
        self._unsaved_soon(entry)

    def settled(self, device: str) -> bool:
        """Whether nothing of a profile is on its way: writes of several profiles are in no order."""
        entry = self._entries.get(device)
        return entry is None or not (entry.is_unsaved or entry.is_writing)

    async def write(self, profile: Profile, notice: str = "") -> None:
        """Stores what the operator changed, and tells all nodes; see `ProfileKeeper.write`.

        Raises:
            StoreError: It was added elsewhere at the same time, or the store has closed.
        """
        entry = self._of(profile)
        written: asyncio.Future[None] = self._loop.create_future()
        entry.waiting.append(Waiter(lambda: _resolve(written), partial(_fail, written)))
        # The operator's changes are told to all: without a notice only other holders would be.
        entry.notice = notice or entry.notice or "changed"
        if notice and not self.holds(profile.device):
            profile.session = None  # it has ended, wherever it would go on
        self._unsaved_soon(entry)
        await written

    def drop(self, device: str) -> None:
        """Has the store forget a device with the next flush, and everything that it dismissed."""
        entry = self._entries.get(device)
        if entry is not None:
            entry.is_dropped = True
            self._unsaved_soon(entry)

    def flush(self) -> None:
        """Hands the store all profiles that wait and of which no write is under way."""
        for entry in [e for e in self._unsaved.values() if not e.is_writing]:
            self._write(entry)

    def _of(self, profile: Profile) -> Entry:
        entry = self._entries.get(profile.device)
        if entry is None:  # made here, by somebody who never looked it up
            entry = self._entries[profile.device] = Entry(profile.device)
        if not entry.is_leaving:
            entry.profile = profile
        return entry

    def _unsaved_soon(self, entry: Entry) -> None:
        entry.is_unsaved = True
        self._unsaved[entry.device] = entry
        self.wake()

    def _write(self, entry: Entry) -> None:
        self._unsaved.pop(entry.device, None)
        entry.is_unsaved, entry.is_writing = False, True
        profile, dropped = entry.profile, entry.is_dropped
        # One that cannot be read here, of a newer release, or that came meanwhile stays as it is.
        kept = entry.base if profile is None else profile.pack()
        blob = None if dropped else kept
        waiting, entry.waiting = entry.waiting, []
        notice, entry.notice = entry.notice, None
        future = self._store.put_device(
            entry.device,
            blob,
            version=entry.version,
            token=entry.token,
            release=entry.is_leaving,
            notice=notice or "",
        )
        future.add_done_callback(partial(self._written, entry, blob, waiting, notice))

    def _written(
        self,
        entry: Entry,
        blob: bytes | None,
        waiting: list[Waiter],
        notice: str | None,
        future: asyncio.Future[Answer],
    ) -> None:
        entry.is_writing = False
        if future.cancelled() or future.exception() is not None:
            # The store has closed: nobody is told, so nobody relies on it.
            tell(waiting, StoreError("the store was closed before this was written"))
            self._forget(entry)
            return
        answer = future.result()
        if isinstance(answer, Fenced):
            tell(waiting, StoreError(f"another node has just taken over {entry.device}: try again"))
            self.lose(entry.device)
        elif isinstance(answer, Conflict):
            self._conflict(entry, answer, waiting, notice)
        else:
            entry.version, entry.base, entry.is_known = answer.version, blob, True
            for waiter in waiting:
                waiter.then()
            if blob is None and not entry.is_leaving:
                entry.is_dropped = False
                entry.token = None  # with the device its claim went
            self._after_write(entry)

    def _conflict(
        self, entry: Entry, found: Conflict, waiting: list[Waiter], notice: str | None
    ) -> None:
        """Somebody else was first: what both changed is merged, and written again."""
        created, mine = entry.version == 0, entry.profile
        dropped = entry.is_dropped
        theirs = None if found.blob is None else unpacked(entry.device, found.blob)
        if dropped or mine is None:
            entry.version, entry.base = found.version, found.blob
        elif theirs is None:
            tell(waiting, StoreError(f"{entry.device} was removed at another node"))
            self.lose(entry.device)
            return
        elif created and notice is not None:
            # The operator has added it here and elsewhere at once; only one of them did.
            tell(waiting, StoreError(f"device {entry.device} exists already"))
            mine.become(theirs)
            entry.version, entry.base = found.version, found.blob
            # Where registration is open somebody may be in here under that name, and has proven nothing.
            self.resident.changed(mine, why_to_end(Profile(entry.device), theirs))
            self._after_write(entry)
            return
        else:
            self._merge(entry, found.version, found.blob, theirs)
        entry.waiting = waiting + entry.waiting
        entry.notice = notice if entry.notice is None else entry.notice
        self._write(entry)

    def _merge(self, entry: Entry, version: int, blob: bytes | None, theirs: Profile) -> None:
        """Takes in a version that another node wrote; what was changed here stays changed."""
        mine = entry.profile or self._registry.get(entry.device)
        base = None if entry.base is None else unpacked(entry.device, entry.base)
        entry.version, entry.base = version, blob
        if mine is None:
            self._registry.restore(theirs)
            return
        reason = why_to_end(base or Profile(entry.device), theirs)
        mine.become(merge(base or Profile(entry.device), mine, theirs))
        if not entry.is_leaving:
            self.resident.changed(mine, reason)
        elif reason:
            mine.session = None


def _resolve(written: asyncio.Future[None]) -> None:
    if not written.done():
        written.set_result(None)


def _fail(written: asyncio.Future[None], error: StoreError) -> None:
    if not written.done():
        written.set_exception(error)
