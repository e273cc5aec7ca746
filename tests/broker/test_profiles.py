"""Profiles on their way to the store."""

from __future__ import annotations

import asyncio

from broker.profiles import Profiles
from devices.profile import Profile
from devices.registry import Registry
from feedgen.items import Record, decode_item, digest
from feedgen.store.base import Dismiss, PutItem
from feedgen.store.memory import MemoryStore


class Desk:
    """Profiles, and a store that has a device, kitchen, which has dismissed an item."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registry = Registry(open_mode=True, default_follow=())
        self.profiles = Profiles(self.registry, self.store, lambda: None)

    async def furnish(self) -> Profile:
        self.store.open()
        kitchen = self.registry.add("kitchen", follow=("old",))
        self.profiles.save(kitchen)
        self.profiles.flush()
        item = decode_item("news", b"one")
        record = Record(1, 1, item, published_ms=0, expires=2**31, digest=digest(item))
        await self.store.submit((PutItem(record), Dismiss("kitchen", 1)))
        return kitchen

    async def kept(self) -> tuple[dict[str, tuple[str, ...]], list[tuple[str, int]]]:
        """What each device follows and what it has dismissed, as the next start finds it."""
        self.profiles.flush()
        await self.store.close(clean=True)
        loaded = self.store.open()
        follow = {name: Profile.unpack(name, blob).follow for name, blob in loaded.devices}
        return follow, loaded.dismissed


async def test_a_saved_profile_is_stored_once_and_whoever_waits_is_told() -> None:
    desk = Desk()
    kitchen = await desk.furnish()
    first, second = asyncio.Event(), asyncio.Event()
    for then in (first.set, second.set):
        desk.profiles.save(kitchen, then)
    kitchen.follow = ("new",)  # it is stored as it is when it goes
    desk.profiles.flush()
    assert not first.is_set()
    await asyncio.wait_for(asyncio.gather(first.wait(), second.wait()), 5)
    assert await desk.kept() == ({"kitchen": ("new",)}, [("kitchen", 1)])


async def test_a_dropped_device_is_forgotten_with_what_it_dismissed() -> None:
    desk = Desk()
    await desk.furnish()
    desk.registry.remove("kitchen")
    desk.profiles.drop("kitchen")
    assert desk.profiles.waiting
    assert await desk.kept() == ({}, [])


async def test_a_device_of_the_same_id_inherits_nothing_from_a_dropped_one() -> None:
    desk = Desk()
    gone = await desk.furnish()
    desk.profiles.save(gone)
    desk.registry.remove("kitchen")
    desk.profiles.drop("kitchen")
    desk.profiles.save(desk.registry.add("kitchen", follow=("new",)))
    desk.profiles.save(gone)  # by somebody who has not heard of it yet
    assert await desk.kept() == ({"kitchen": ("new",)}, [])


async def test_a_drop_ends_with_its_flush() -> None:
    desk = Desk()
    await desk.furnish()
    desk.registry.remove("kitchen")
    desk.profiles.drop("kitchen")
    desk.profiles.flush()
    desk.profiles.save(desk.registry.add("kitchen"))
    desk.profiles.flush()
    await desk.store.submit((Dismiss("kitchen", 1),))
    desk.profiles.save(desk.registry.get("kitchen"))
    assert (await desk.kept())[1] == [("kitchen", 1)]
