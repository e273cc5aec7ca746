"""What the fault suite reads in a fleet's Redis, past the nodes, and what windows follow from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from devices.frames import payload_capacity
from devices.profile import Profile
from feedgen.channels import matches, specificity
from feedgen.item_columns import name_hash, smallest_bytes
from feedgen.ranking.value import TICKS_PER_SECOND, Baseline, Settings
from feedgen.store.redis.address import parse
from feedgen.store.redis.items import unpack_value
from feedgen.store.redis.session import Session
from simulator.faults.server import ServerFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence
    from typing import TypeVar

    from feedgen.items import Record
    from feedgen.store.redis.settings import RedisSettings

    _T = TypeVar("_T")

PATIENCE = 20.0
"""Seconds until Redis must have answered."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What Redis knows of a device.

    Attributes:
        profile: None if there is none.
        holder: The node that holds it, "" for none.
        barred: Numbers of the items that must never return to it.
    """

    profile: Profile | None
    holder: str
    barred: frozenset[int]


class StoreWitness:
    """Reads what nodes stored.

    Args:
        url: Of the Redis.
        settings: The same as the nodes'.
    """

    def __init__(self, url: str, settings: RedisSettings) -> None:
        self._session = Session(parse(url), settings, "", None)

    async def close(self) -> None:
        """Let go of Redis."""
        await self._session.pipelines.close()

    async def devices(self, names: Sequence[str]) -> dict[str, Stored]:
        """What is stored of devices.

        Raises:
            ServerFault: Redis does not answer.
        """
        found = await self._all(self._device(name) for name in names)
        return dict(zip(names, found, strict=True))

    async def records(self) -> list[Record]:
        """All items of which Redis says that they are live.

        Raises:
            ServerFault: Redis does not answer.
        """
        found = await self._all(self._partition(place) for place in range(len(self._items)))
        return [record for records in found for record in records]

    @property
    def _items(self) -> list[Any]:
        return self._session.keys.items

    async def _device(self, name: str) -> Stored:
        keys = self._session.keys.device(name)
        (blob, holder), barred = await asyncio.gather(
            self._ask(keys.slot, "HMGET", keys.device(name), "blob", "holder"),
            self._ask(keys.slot, "ZRANGE", keys.dismissed(name), 0, -1),
        )
        return Stored(
            None if blob is None else Profile.unpack(name, blob),
            (holder or b"").decode(),
            frozenset(map(int, barred)),
        )

    async def _partition(self, place: int) -> list[Record]:
        keys = self._items[place]
        numbers = await self._ask(keys.slot, "ZRANGE", keys.live, 0, -1)
        if not numbers:
            return []
        names = [keys.record(n.decode()) for n in numbers]
        values = await self._ask(keys.slot, "MGET", *names)
        return [unpack_value(value)[1] for value in values if value is not None]

    def _ask(self, slot: int, *command: str | int) -> Awaitable[Any]:
        return self._session.ask(slot, command, lambda reply: reply, writes=False)

    async def _all(self, questions: Iterable[Awaitable[_T]]) -> list[_T]:
        try:
            async with asyncio.timeout(PATIENCE):
                if not self._session.topology.masters:
                    await self._session.topology.refresh()
                return await asyncio.gather(*questions)
        except (TimeoutError, OSError) as error:
            raise ServerFault(f"Redis does not answer the suite: {error}") from error


class _Place(NamedTuple):
    """By which items are ordered: the key, the time of publication, the hash of the name."""

    key: int
    published_ms: int
    tie: int


def sorted_window(
    stored: Stored, records: Iterable[Record], settings: Settings, now: float
) -> list[int]:
    """The item numbers that a device's window must have: all live items, sorted.

    It shares no code with the engine but the ticks of the baseline.
    """
    profile = stored.profile
    if profile is None:
        return []
    baseline = Baseline(settings)
    capacity = payload_capacity(profile.budget, profile.device)
    places: dict[int, _Place] = {}
    contests: dict[str, tuple[int, int, int]] = {}
    for record in records:
        level = _level(profile, record)
        if level is None or record.retracted or record.expires <= now:
            continue
        item, n = record.item, record.n
        tie = name_hash(item)
        if item.collapse is not None:
            known = contests.get(item.collapse, (0, 0, 0))
            contests[item.collapse] = max(known, (record.published_ms, tie, n))
        if smallest_bytes(item) <= capacity and n not in stored.barred:
            key = (
                record.published_ms * TICKS_PER_SECOND // 1000
                + baseline.by_priority[item.priority]
                + baseline.by_level[min(level, settings.levels)]
            )
            places[n] = _Place(key, record.published_ms, tie)
    lost = {
        record.n
        for record in records
        if record.item.collapse in contests and contests[record.item.collapse][2] != record.n
    }
    ordered = sorted(places.keys() - lost, key=lambda n: places[n], reverse=True)
    return ordered[: profile.k]


def _level(profile: Profile, record: Record) -> int | None:
    """Literal levels of the best filter by which a device may see an item; None if it may not."""
    attributes = profile.effective_attrs()
    item = record.item
    if any(attributes.get(name) not in values for name, values in item.where):
        return None
    levels = [specificity(one) for one in profile.follow if matches(one, item.channel)]
    return max(levels, default=None)
