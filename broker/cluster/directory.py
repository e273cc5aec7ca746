"""Which devices this node holds, and profiles that other nodes change, too.

Every profile that is needed here, of a connected client or for a command of the operator, has an
*entry* for as long as somebody *uses* it. An entry knows what was last seen in the store, so that a change
made here and one made elsewhere can be told apart and merged. A device that is served here is *held*: its
entry has the token of a claim, which fences whoever held it before. When nobody uses an entry any more,
what is held is let go, with one last write that keeps the position for the next holder.

Nothing here knows connections: a `Resident` does. `writing` is how profiles go to the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from broker.cluster.entries import Elsewhere, Entry, tell, unpacked
from broker.cluster.writing import Writing
from feedgen.store.base import StoreError
from feedgen.store.shared import Claim

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devices.registry import Registry
    from feedgen.store.shared import Found, Late, SharedStore

logger = logging.getLogger(__name__)

_LOOKS = 20
"""Questions to the store, one after the other, when exactly another node has claimed a device."""

_LOOK_AT_ONCE = 1_000
"""Profiles that one question to the store is about."""


class Directory(Writing):
    """The profiles that this node needs, and the devices that it holds.

    Args:
        store: What all nodes share.
        registry: Where the profiles are, for those who only read or change them.
        node: This node's name.
        wait: Seconds that the present holder of a device has to let go.

    Attributes:
        moves: Devices `claimed`, how many of them `unclean` as the holder before had not let go, those
            that were `released`, and those that were `lost` to another node or removed.
    """

    def __init__(self, store: SharedStore, registry: Registry, *, node: str, wait: float) -> None:
        super().__init__(store, registry)
        self.moves: Counter[str] = Counter()
        self._node = node
        self._wait = wait
        self._is_closed = False
        self._one_left: asyncio.Future[None] = self._loop.create_future()
        self._unused: dict[str, Entry] = {}

    # ---- Reading

    @property
    def held(self) -> int:
        """Devices that this node holds."""
        return sum(entry.token is not None for entry in self._entries.values())

    def holds(self, device: str) -> bool:
        """Whether this node holds a device, as far as it knows."""
        entry = self._entries.get(device)
        return entry is not None and entry.token is not None and not entry.is_leaving

    def version(self, device: str) -> int:
        """Of a profile that is used; it changes with whatever changes in the store."""
        entry = self._entries.get(device)
        return 0 if entry is None else entry.version

    # ---- Use

    def use(self, device: str) -> None:
        """Somebody needs this profile, and says `leave` later."""
        entry = self._entries.get(device)
        if entry is None:
            entry = self._entries[device] = Entry(device)
        entry.users += 1
        self._unused.pop(device, None)

    def leave(self, device: str) -> None:
        """The reverse of `use`; what nobody uses in the next turn of the loop is let go."""
        entry = self._entries.get(device)
        if entry is None:
            return
        entry.users -= 1
        if not entry.users:
            self._review_soon(entry)

    async def look_up(self, devices: Iterable[str]) -> None:
        """Has profiles that are used in the registry, if there are any; they stay as the store has them.

        Raises:
            StoreError: The store has closed.
        """
        devices = tuple(dict.fromkeys(devices))
        leaving = [self._entries[device].ended for device in devices]
        if ended := [each for each in leaving if each is not None]:
            await asyncio.wait(ended)
        entries = [self._entries[device] for device in devices]
        unknown = [e for e in entries if not e.is_known and e.looking is None]
        for first in range(0, len(unknown), _LOOK_AT_ONCE):
            self._ask(unknown[first : first + _LOOK_AT_ONCE])
        if looking := {e.looking for e in entries if e.looking is not None}:
            await asyncio.wait(looking)
        if not all(entry.is_known for entry in entries):
            raise StoreError("the store was closed, or has a profile that cannot be read")

    def _ask(self, entries: list[Entry]) -> None:
        """Reads profiles that are not known yet."""
        looking = self._loop.create_future()
        for entry in entries:
            entry.looking = looking

        def looked_up(future: asyncio.Future[dict[str, Found]]) -> None:
            answered = not future.cancelled() and future.exception() is None
            for entry in entries:
                entry.looking = None
                is_here = self._entries.get(entry.device) is entry and not entry.is_known
                if answered and is_here:
                    found = future.result()[entry.device]
                    self._take(entry, found.version, found.blob)
                    if entry.is_outdated:
                        entry.is_outdated = False
                        self._look((entry.device,))
            looking.set_result(None)

        self._store.fetch([e.device for e in entries]).add_done_callback(looked_up)

    def _take(self, entry: Entry, version: int, blob: bytes | None) -> None:
        """What the store has, where nothing was changed here."""
        entry.version, entry.base = version, blob
        profile = None if blob is None else unpacked(entry.device, blob)
        entry.is_known = blob is None or profile is not None
        if profile is None:
            return
        known = self._registry.get(entry.device)
        if known is None:
            self._registry.restore(profile)
        else:
            known.become(profile)

    # ---- Claims

    async def claim(self, device: str, came: float = inf) -> None:
        """Holds a device that is used and looked up.

        If the one before did not let go of it, its position does not hold: it has none.

        Args:
            device: Which.
            came: When its client came, monotonic seconds; a client may have given up since, and gone to another
                node. Not given where nobody has waited.

        Raises:
            Elsewhere: It is held by the node that its client went to after it had come here.
            StoreError: The store has closed, or another node has taken it meanwhile.
        """
        entry = self._entries[device]
        if entry.token is None or not await self._is_still_held(entry, entry.token):
            entry = self._entries[device]
            if entry.claiming is None:
                entry.claiming = self._loop.create_future()
                future = self._store.claim(device, self._wait, max(0.0, monotonic() - came))
                future.add_done_callback(partial(self._claimed, entry))
            await asyncio.shield(entry.claiming)
        if not await self._came_since(entry, came):
            raise Elsewhere(f"{device} has gone to another node meanwhile")
        if not (self.holds(device) and entry.is_known):
            raise StoreError(f"the store was closed, or another node was quicker to claim {device}")

    async def _is_still_held(self, entry: Entry, token: int) -> bool:
        """Whether the store agrees that this node holds a device.

        Its client is here anew, perhaps after it was at another node of which nothing was heard: word of it may
        have been lost, or be late. Then what is known here of its position is over.

        Raises:
            StoreError: The store has closed, or what is being written here will be refused.
        """
        held = await self._store.still_held(entry.device, token)
        if self._entries.get(entry.device) is not entry or entry.token is None:
            return False
        if held is not None or entry.token != token:
            return True
        if entry.is_writing:
            raise StoreError(f"another node has just taken over {entry.device}: try again")
        self.lose(entry.device)
        return False

    async def _came_since(self, entry: Entry, came: float) -> bool:
        """Whether a client came here after the device was last claimed elsewhere.

        The store's clock says how long ago that was when it was asked, and this node's when the answer was here:
        however long the answer took it may have been later. A client that comes from another node in that time
        would be sent away, so the store is asked again, for an answer that takes less. An answer that was on its
        way for long, as where the store was away, says the same each time.

        Raises:
            StoreError: The store has closed.
        """
        for _ in range(_LOOKS):
            token = entry.token
            if came >= entry.elsewhere or token is None or entry.ago == inf:
                break
            asked = monotonic()
            since = await self._store.still_held(entry.device, token)
            if (
                since is None
                or self._entries.get(entry.device) is not entry
                or entry.token != token
            ):
                break
            entry.elsewhere = min(entry.elsewhere, monotonic() - since - entry.ago)
            if came < asked - since - entry.ago:
                break  # however little the next answer takes
        return came >= entry.elsewhere

    def _claimed(self, entry: Entry, future: asyncio.Future[Claim | Late]) -> None:
        claiming, entry.claiming = entry.claiming, None
        claim = None if future.cancelled() or future.exception() else future.result()
        if claim is not None:
            entry.ago = claim.ago
            if claim.ago < inf:
                entry.elsewhere = monotonic() - claim.ago
        if isinstance(claim, Claim):
            entry.token = claim.token
            self.moves["claimed"] += 1
            self.moves["unclean"] += not claim.clean
            if not entry.is_unsaved and not entry.is_writing:
                self._take(entry, claim.version, claim.blob)
            profile = self._registry.get(entry.device)
            if profile is not None and not claim.clean:
                profile.session, profile.kept_at = None, ""
            self.resident.came(entry.device, claim.dismissed)
            if entry.is_outdated and not entry.is_writing:
                entry.is_outdated = False
                self._look((entry.device,))
            if not entry.users:
                self._review_soon(entry)
        if claiming is not None and not claiming.done():
            claiming.set_result(None)

    # ---- Letting go

    def _review_soon(self, entry: Entry) -> None:
        if not self._unused:
            self._loop.call_soon(self._review)
        self._unused[entry.device] = entry

    def _review(self) -> None:
        unused, self._unused = self._unused, {}
        for entry in unused.values():
            if self._entries.get(entry.device) is entry and not entry.users:
                self._let_go(entry)

    def _let_go(self, entry: Entry) -> None:
        """What nobody uses, and nothing is to be written of, goes; busy entries come here again."""
        if entry.is_busy or entry.is_leaving or self._is_closed:
            return
        profile = self._registry.get(entry.device)
        if entry.token is None:
            self._forget(entry)
            return
        entry.is_leaving, entry.profile = True, profile
        entry.ended = self._loop.create_future()
        if profile is not None:
            self.resident.leaves(profile)
        self._registry.remove(entry.device)
        self._write(entry)

    def _forget(self, entry: Entry) -> None:
        """Nothing of it is here any more."""
        self._registry.remove(entry.device)
        self._unsaved.pop(entry.device, None)
        users = entry.users
        del self._entries[entry.device]
        if users:  # they came while it was leaving: what they need is looked up anew
            self._entries[entry.device] = Entry(entry.device, users=users)
        for future in (entry.ended, self._one_left):
            if future is not None and not future.done():
                future.set_result(None)

    def _after_write(self, entry: Entry) -> None:
        outdated, entry.is_outdated = entry.is_outdated, False
        if entry.is_leaving:
            self.moves["released"] += 1
            self._forget(entry)
            return
        if outdated:
            self._look((entry.device,))
        if entry.is_unsaved:
            self.wake()
        elif not entry.users:
            self._review_soon(entry)

    async def all_left(self) -> None:
        """Waits until no device is held any more; whoever used them is about to end."""
        while any(e.token is not None or e.is_leaving for e in self._entries.values()):
            self._one_left = self._loop.create_future()
            await self._one_left

    def close(self) -> None:
        """The store is about to close: nothing is let go any more."""
        self._is_closed = True

    # ---- What others did

    def changed(self, device: str) -> None:
        """Another node has written a profile, or removed it."""
        entry = self._entries.get(device)
        if entry is None or entry.is_leaving:
            return  # whoever needs it will read it, or merge it
        if entry.looking is not None:
            entry.is_outdated = True  # what is on its way may have been read before
        elif entry.is_known:
            self._look((device,))

    def taken(self, device: str) -> None:
        """Another node has claimed a device, or wants to."""
        entry = self._entries.get(device)
        if entry is not None and not entry.is_leaving:
            if entry.token is not None:
                self.resident.wanted(device)
            if not entry.users:
                self._review_soon(entry)

    def missed(self) -> None:
        """Others may have done anything: looks at all there is."""
        devices = [e.device for e in self._entries.values() if e.is_known and not e.is_leaving]
        for first in range(0, len(devices), _LOOK_AT_ONCE):
            self._look(devices[first : first + _LOOK_AT_ONCE])

    def _look(self, devices: Iterable[str]) -> None:
        def looked(future: asyncio.Future[dict[str, Found]]) -> None:
            if future.cancelled() or future.exception() is not None:
                return
            for device, found in future.result().items():
                entry = self._entries.get(device)
                if entry is not None and not entry.is_leaving:
                    self._compare(entry, found)

        self._store.fetch(tuple(devices)).add_done_callback(looked)

    def _compare(self, entry: Entry, found: Found) -> None:
        """What is in the store now, against what was last seen there."""
        if entry.is_writing or entry.is_adding or entry.claiming is not None:
            entry.is_outdated = True  # its answer tells whether this is news
        elif found.blob is None and entry.base is not None:
            self.resident.removed(entry.device)
            self.lose(entry.device)
        elif entry.token is not None and found.holder != self._node:
            self.lose(entry.device)
        elif found.blob is not None and found.version > entry.version:
            theirs = unpacked(entry.device, found.blob)
            if theirs is not None:
                self._merge(entry, found.version, found.blob, theirs)

    def lose(self, device: str) -> None:
        """Another node has the device, or nobody: it is gone from here."""
        entry = self._entries.get(device)
        if entry is None:
            return
        logger.info("%s is held by another node, or removed: its connection here ends", device)
        self.moves["lost"] += entry.token is not None
        tell(entry.waiting, StoreError(f"{device} is held by another node"))
        entry.waiting, entry.token = [], None
        if not entry.is_leaving:
            self.resident.left(device)
        self._forget(entry)
