"""All that a trainer goes on from, kept in the shared store in parts.

In one piece it would hold up whatever else goes to and from the store, for a tenth of a second and at
both ends. There are two sets of parts: one is written while the other holds, and which one holds is
published last. So a trainer that dies in between leaves a whole state behind.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feedgen.store.shared import SharedStore

STATE = "ranking.state"
"""The published value that says which parts hold; the parts have names that begin like it."""
PART = 1 << 22
"""Bytes; a few milliseconds of a loop."""

_HEAD = struct.Struct("<BIQI")
"""Set, parts, bytes, and their CRC-32."""
_SETS = 2
_TRIES = 3


class KeptState:
    """Reads and writes the state, for one trainer.

    Args:
        store: what the nodes share.
    """

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self._holds = 0

    async def read(self) -> bytes | None:
        """What was written last; None if nothing ever was, or not all of it is there.

        Raises:
            StoreError: the store was closed.
        """
        for _ in range(_TRIES):
            published = await self._store.latest(STATE, 0)
            if published is None or len(published[1]) != _HEAD.size:
                return None
            self._holds, count, length, checksum = _HEAD.unpack(published[1])
            blob = b"".join([await self._part(place) for place in range(count)])
            if len(blob) == length and zlib.crc32(blob) == checksum:
                return blob
            # Whoever trained before may not know yet that its time is over, and be writing.
        return None

    async def write(self, blob: bytes, token: int) -> bool:
        """Put a state in the place of the last one; False where a higher token was seen.

        Raises:
            StoreError: the store was closed.
        """
        free = (self._holds + 1) % _SETS
        parts = [blob[start : start + PART] for start in range(0, len(blob), PART)]
        for place, part in enumerate(parts):
            if not await self._store.publish(_name(free, place), part, token):
                return False
        head = _HEAD.pack(free, len(parts), len(blob), zlib.crc32(blob))
        if not await self._store.publish(STATE, head, token):
            return False
        self._holds = free
        return True

    async def _part(self, place: int) -> bytes:
        published = await self._store.latest(_name(self._holds, place), 0)
        return b"" if published is None else published[1]


def _name(which: int, place: int) -> str:
    return f"{STATE}.{which}.{place}"
