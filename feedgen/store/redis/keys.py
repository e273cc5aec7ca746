"""The names of all keys.

    {i3}:4711        a record, by number            {d17}:d:kitchen   a device, a hash
    {i3}:k:<hash>    an id's pointer to a number    {d17}:x:kitchen   what it dismissed
    {i3}:live        numbers by expiry              {d17}:all         ids of stored profiles
    {i3}:new         the stream of numbers          {d17}:h:<node>    what a node holds
    {i3}:count       entries of that stream         {d17}:count       tokens and versions
    {m}:…            what there is once

after the prefix. What is in braces (a *hash tag*, Redis Cluster specification) decides alone on which
server a key is, so that every script touches one server only.
"""

from __future__ import annotations

from binascii import crc32
from dataclasses import dataclass
from hashlib import blake2b

from redis.crc import key_slot

from feedgen.store.redis.settings import RedisSettings


@dataclass(frozen=True, slots=True)
class ItemKeys:
    """The keys of one partition of items."""

    slot: int
    base: str
    live: str
    stream: str
    count: str

    def pointer(self, digest: str) -> str:
        """Of an id, by the hash of channel and id."""
        return f"{self.base}k:{digest}"

    def record(self, n: int | str) -> str:
        """Of an item, by its number."""
        return f"{self.base}{n}"


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """The keys of one partition of devices."""

    slot: int
    base: str
    all: str
    count: str
    held: str

    def device(self, device: str) -> str:
        """Its profile and who holds it.

        Ids have no prefix of their own but "d:", as a device may be called like another key.
        """
        return f"{self.base}d:{device}"

    def dismissed(self, device: str) -> str:
        """What it dismissed."""
        return f"{self.base}x:{device}"

    def held_by(self, node: str) -> str:
        """The devices that a node holds."""
        return f"{self.held}{node}"


class Keys:
    """All keys of a store."""

    def __init__(self, settings: RedisSettings) -> None:
        prefix = settings.prefix
        self.items = [_items(f"{prefix}{{i{p}}}:") for p in range(settings.item_partitions)]
        self.devices = [_devices(f"{prefix}{{d{p}}}:") for p in range(settings.device_partitions)]
        self.once = f"{prefix}{{m}}:"
        self.slot = slot_of(self.once)

    def item(self, channel: str, item_id: str) -> tuple[ItemKeys, str]:
        """The partition of an id, and the hash that it is known by there."""
        content = f"{len(channel)}:{channel}{item_id}".encode()
        digest = blake2b(content, digest_size=16).hexdigest()
        return self.items[int(digest[:8], 16) % len(self.items)], digest

    def device(self, device: str) -> DeviceKeys:
        """The partition of a device."""
        return self.devices[crc32(device.encode()) % len(self.devices)]


def slot_of(key: str) -> int:
    """The hash slot of a key in a Redis Cluster."""
    slot: int = key_slot(key.encode())
    return slot


def _items(base: str) -> ItemKeys:
    return ItemKeys(slot_of(base), base, f"{base}live", f"{base}new", f"{base}count")


def _devices(base: str) -> DeviceKeys:
    return DeviceKeys(slot_of(base), base, f"{base}all", f"{base}count", f"{base}h:")
