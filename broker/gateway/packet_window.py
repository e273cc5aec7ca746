"""What we have published at QoS 1 and the broker has not acknowledged, for all devices together.

One connection has 65 535 packet identifiers; the last is left to SUBSCRIBE. They are used in a ring, so that what is
unacknowledged lies between the oldest and the next. Everything is done for many at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from devices.packets import as_duplicate

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKET_IDS = 65_534

_BLOCK = 64

Ids = NDArray[np.uint16]


class PacketWindow:
    """Packet identifiers in use, with the packets to send again after a reconnect.

    Attributes:
        waiting: Bytes of the packets that are unacknowledged.
    """

    __slots__ = ("_next", "_packets", "_sizes", "_used", "waiting")

    def __init__(self) -> None:
        self._next = 0  # index of the next identifier, which is one more
        self._used = 0  # identifiers from the oldest unacknowledged to the next
        self._packets: NDArray[np.object_] = np.full(PACKET_IDS, None, object)
        self._sizes: NDArray[np.int64] = np.zeros(PACKET_IDS, np.int64)
        self.waiting = 0

    @property
    def free(self) -> int:
        """Identifiers that can be taken."""
        return PACKET_IDS - self._used

    @property
    def unacknowledged(self) -> int:
        """Packets that the broker has not acknowledged."""
        return int(np.count_nonzero(self._sizes))

    def take(self, count: int) -> Ids:
        """So many identifiers, in the order in which their packets will be sent.

        Raises:
            ValueError: So many are not free: the caller has not looked.
        """
        if count > self.free:
            raise ValueError(f"{count} packet identifiers asked for, {self.free} free")
        found = (self._next + np.arange(count)) % PACKET_IDS
        self._next = (self._next + count) % PACKET_IDS
        self._used += count
        self._sizes[found] = 1  # taken, and not to be passed over until acknowledged
        self.waiting += count
        return (found + 1).astype(np.uint16)

    def sent(self, ids: Ids, packets: Sequence[bytes]) -> None:
        """Keeps the packets that carry these identifiers."""
        at = ids.astype(np.intp) - 1
        sizes = np.fromiter(map(len, packets), np.int64, len(packets))
        self._packets[at] = packets
        self.waiting += int(sizes.sum() - self._sizes[at].sum())
        self._sizes[at] = sizes

    def acknowledge(self, ids: Ids) -> int:
        """PUBACKs; how many of them were of packets that waited. Unknown ones change nothing."""
        at = ids[ids != 0].astype(np.intp) - 1
        known = at[self._sizes[at] > 0]
        if len(known) > 1:
            known = np.unique(known)
        self.waiting -= int(self._sizes[known].sum())
        self._sizes[known] = 0
        self._packets[known] = None
        self._move_on(max(len(known), _BLOCK))
        return len(known)

    def _move_on(self, block: int) -> None:
        """Frees the oldest identifiers that are acknowledged, looking at so many at a time.

        Brokers acknowledge in order, so what is free is mostly what was just acknowledged.
        """
        while self._used:
            waiting = self._sizes[self._span(block)] > 0
            if waiting.any():
                self._used -= int(waiting.argmax())
                return
            self._used -= len(waiting)

    def again(self) -> list[bytes]:
        """All that is unacknowledged, oldest first, with DUP (MQTT 3.1.1, 4.4)."""
        packets = self._packets[self._span()].tolist()
        return [as_duplicate(packet) for packet in packets if packet is not None]

    def forget(self) -> None:
        """The broker knows nothing of the session: nothing will be acknowledged any more."""
        span = self._span()
        self._sizes[span] = 0
        self._packets[span] = None
        self._used = self.waiting = 0

    def _span(self, most: int = PACKET_IDS) -> NDArray[np.intp]:
        """Where the identifiers in use stand, from the oldest unacknowledged on."""
        return (self._next - self._used + np.arange(min(self._used, most))) % PACKET_IDS
