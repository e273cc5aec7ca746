"""The ops of `Store`, and everything that a store holds, for who opens it alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from feedgen.items import BadRecord
from feedgen.store.base import (
    Dismiss,
    DropDevice,
    DropItems,
    Loaded,
    Op,
    PutDevice,
    PutItem,
    StoreError,
)
from feedgen.store.redis import scripts
from feedgen.store.redis.checks import check
from feedgen.store.redis.items import unpack_value
from feedgen.store.redis.link import ReplyError, ask, first_error
from feedgen.store.redis.members import living
from feedgen.store.redis.session import nothing

if TYPE_CHECKING:
    from feedgen.items import Record
    from feedgen.store.redis.devices import Devices
    from feedgen.store.redis.items import Items
    from feedgen.store.redis.keys import ItemKeys
    from feedgen.store.redis.link import Command
    from feedgen.store.redis.session import Session

FORM = 1
"""Of the keys and values; raised when a release of today could not read them."""
COUNT = 256
"""Keys that are read at a time."""

_Place = tuple["ItemKeys", str]


class Ops:
    """Carries out ops one by one.

    Where items are and who dismissed them is known of what was loaded and put here; nodes, which do not
    drop items, know nothing of it.
    """

    def __init__(self, session: Session, items: Items, devices: Devices) -> None:
        self._session = session
        self._items = items
        self._devices = devices
        self._places: dict[int, _Place] = {}
        self._dismissers: defaultdict[int, set[str]] = defaultdict(set)

    def load(self, loaded: Loaded) -> None:
        """Know what is there."""
        self._places = {record.n: self._place(record) for record in loaded.records}
        for device, n in loaded.dismissed:
            self._dismissers[n].add(device)

    def apply(self, op: Op) -> list[asyncio.Future[Any]]:
        """Begin; it is done when all futures are."""
        match op:
            case PutItem(record):
                self._places[record.n] = self._place(record)
                return [self._reserve(record.n), self._items.put_always(record)]
            case DropItems(ns):
                return [future for n in ns for future in self._drop_item(n)]
            case PutDevice(device, blob):
                return [self._devices.put(device, blob, version=None, token=None)]
            case DropDevice(device):
                return [self._devices.put(device, None, version=None, token=None)]
            case Dismiss(device, n):
                self._dismissers[n].add(device)
                return [self._devices.dismiss(device, n)]

    def _place(self, record: Record) -> _Place:
        return self._session.keys.item(record.item.channel, record.item.id)

    def _reserve(self, n: int) -> asyncio.Future[None]:
        """Never give this number to anybody."""
        keys = self._session.keys
        command = scripts.RESERVE_NUMBER.call([f"{keys.once}number"], n)
        return self._session.ask(keys.slot, command, nothing)

    def _drop_item(self, n: int) -> list[asyncio.Future[None]]:
        forgiven = [self._devices.forgive(device, n) for device in self._dismissers.pop(n, ())]
        if n not in self._places:
            return forgiven
        keys, digest = self._places.pop(n)
        command = scripts.DROP_ITEM.call([keys.pointer(digest), keys.record(n), keys.live], n)
        return [*forgiven, self._session.ask(keys.slot, command, nothing)]


async def begin(session: Session) -> tuple[bytes, bool]:
    """Make the store if there is none; returns its key, and whether the last run alone was clean.

    Raises:
        StoreError: A newer release or other partitions made it.
    """
    settings, keys = session.settings, session.keys
    partitions = settings.item_partitions, settings.device_partitions
    command = scripts.BEGIN.call([_facts(session)], FORM, *partitions, session.draw_key())
    form, items, devices, key, clean = await session.ask(keys.slot, command, list)
    if int(form) > FORM:
        raise StoreError(
            f"A newer version wrote this store (form {int(form)}, this one knows {FORM}): install that"
            " version again, or choose another prefix."
        )
    if (int(items), int(devices)) != partitions:
        raise StoreError(
            f"This store was made with {int(items)} partitions of items and {int(devices)} of devices:"
            " say so in the settings, or choose another prefix."
        )
    return key, clean == b"1"


def mark(session: Session, clean: bool) -> asyncio.Future[None]:
    """Remember whether a run alone has ended well."""
    return session.ask(session.keys.slot, ("HSET", _facts(session), "clean", int(clean)), nothing)


async def open_alone(session: Session) -> tuple[Loaded, str]:
    """Check and read the store, and mark it unclean; returns also what its durability is.

    Raises:
        StoreError: It cannot be used, or nodes use it.
    """
    durability = await check(session.topology, session.address, session.settings)
    try:
        key, clean = await begin(session)
        if alive := await living(session):
            raise StoreError(f"Nodes use this store ({', '.join(alive)}): stop them first.")
        records = await _records(session)
        devices = await _profiles(session)
        dismissed = await _dismissed(session, {record.n for record in records})
        last = await session.ask(session.keys.slot, ("GET", f"{session.keys.once}number"), int_or_0)
        await mark(session, clean=False)
    finally:
        await session.pipelines.close()
    next_n = max([last, *(record.n for record in records)]) + 1
    return Loaded(records, devices, dismissed, next_n, clean, key), durability


def int_or_0(reply: bytes | None) -> int:
    """A number that may not be there."""
    return int(reply or 0)


async def _records(session: Session) -> list[Record]:
    records = []
    for keys in session.keys.items:
        numbers = await session.ask(keys.slot, ("ZRANGE", keys.live, 0, -1), list, writes=False)
        for start in range(0, len(numbers), COUNT):
            names = [keys.record(n.decode()) for n in numbers[start : start + COUNT]]
            values = await session.ask(keys.slot, ("MGET", *names), list, writes=False)
            try:
                records += [unpack_value(value)[1] for value in values if value is not None]
            except BadRecord as error:
                raise StoreError(f"The store holds an item that cannot be read: {error}") from error
    return sorted(records, key=lambda record: record.n)


async def _profiles(session: Session) -> list[tuple[str, bytes]]:
    asked = []
    for keys in session.keys.devices:
        names = await session.ask(keys.slot, ("ZRANGE", keys.all, 0, -1), list, writes=False)
        for name in (each.decode() for each in names):
            command = ("HGET", keys.device(name), "blob")
            asked.append((name, session.ask(keys.slot, command, _same, writes=False)))
    return sorted([(name, await blob) for name, blob in asked])


async def _dismissed(session: Session, live: set[int]) -> list[tuple[str, int]]:
    """All dismissals; those of items that are gone are removed."""
    begins = [(keys, keys.dismissed("")) for keys in session.keys.devices]
    names = {name for server in session.topology.masters for name in await _scan(session, server)}
    found = []
    for keys, start in begins:
        for name in sorted(name for name in names if name.startswith(start)):
            device = name.removeprefix(start)
            numbers = await session.ask(keys.slot, ("ZRANGE", name, 0, -1), list, writes=False)
            for n in map(int, numbers):
                if n in live:
                    found.append((device, n))
                else:
                    await session.ask(keys.slot, ("ZREM", name, n), nothing)
    return sorted(found)


async def _scan(session: Session, server: tuple[str, int]) -> set[str]:
    """The names of all dismissals on one server."""
    pattern = session.keys.devices[0].dismissed("*").replace("{d0}", "{d*}")
    names: set[str] = set()
    cursor = b"0"
    while True:
        command: Command = ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        replies = await ask(server, session.address, session.settings, command)
        try:
            first_error(replies)
        except ReplyError as error:
            raise StoreError(f"Redis refused a command ({error}).") from error
        cursor, found = replies[0]
        names.update(name.decode() for name in found)
        if cursor == b"0":
            return names


def _facts(session: Session) -> str:
    return f"{session.keys.once}facts"


def _same(reply: Any) -> Any:
    return reply
