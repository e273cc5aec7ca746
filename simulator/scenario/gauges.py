"""What servers say of their load, as any MQTT client hears it: a subscription to `$SYS/broker/feed/overload/#`.

No question is asked and no socket of the server's is known: what stands in a report is what an operator would have
seen. A server that tells nothing (of another make, or with `$SYS` off) leaves nothing to draw, and the report says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from devices.packets import Connect, Publish, Subscribe, encode
from simulator.access import OPEN
from simulator.connection import Client, aside
from simulator.load import LEVELS, Load

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from devices.packets import Packet
    from simulator.access import Access
    from simulator.faults.server import Address

_RETRY = 0.5
"""Seconds between two attempts to connect, or two looks whether somebody has to ping."""
_OURS = "$SYS/broker/feed/overload/"
_GATEWAYS = "feed/sys/+/overload/"
"""Where a gateway tells the same, by the name of each (protocol, *Topics*)."""
_LONGEST = 32
"""Characters of a number."""

_LEAVES: dict[str, Callable[[Load, float], Load]] = {
    "level": lambda load, value: replace(load, level=min(int(value), len(LEVELS) - 1)),
    "loop_lag_ms": lambda load, value: replace(load, lag=value / 1_000),
    "oldest_item_ms": lambda load, value: replace(load, oldest=value / 1_000),
    "held/items": lambda load, value: replace(load, items=int(value)),
    "held/connects": lambda load, value: replace(load, clients=int(value)),
    "held/publishers": lambda load, value: replace(load, publishers=int(value)),
}
"""Below `overload/`; what else stands there is not looked at."""
_REFUSED = "refused/connects"


class _Gauge(Client):
    """One connection to one server.

    Attributes:
        now: What it said last; None as long as it has not said a level on this connection.
        highest: The highest level that it said since somebody took it.
        refused: Connections that it told to come back later, over all of its starts.
    """

    __slots__ = ("_above", "_counted", "_load", "highest", "now", "refused")

    def __init__(self, number: int, access: Access, *, outside: bool) -> None:
        connect = Connect(aside(f"gauge-{number}"), clean_session=True, keep_alive=30)
        super().__init__(access.signed(connect))
        self._above = _GATEWAYS if outside else _OURS
        self._load = Load(0)
        self.now: Load | None = None
        self.highest = 0
        self.refused = 0
        self._counted = 0

    def connected(self) -> None:
        """Asks for everything that there is, and what will come."""
        self.send(encode(Subscribe(self.next_packet_id(), ((f"{self._above}#", 0),))))

    def received(self, packet: Packet, size: int) -> None:  # noqa: ARG002 - a hook's signature
        """A leaf was told."""
        if not isinstance(packet, Publish):
            return
        leaf = _below(packet.topic, self._above)
        value = _number(packet.payload)
        if value is None:
            return
        if leaf == _REFUSED:
            self._count(int(value))
        elif leaf in _LEAVES:
            self._take(leaf, value)

    def _count(self, refused: int) -> None:
        """The server counts from its start: fewer than before are all of a new start."""
        self.refused += refused - self._counted if refused >= self._counted else refused
        self._counted = refused

    def _take(self, leaf: str, value: float) -> None:
        self._load = _LEAVES[leaf](self._load, value)
        if leaf == "level":
            self.highest = max(self.highest, self._load.level)
        if leaf == "level" or self.now is not None:
            self.now = self._load

    def lost(self, why: Exception) -> None:  # noqa: ARG002 - likewise
        """What a server that is away would say nobody knows."""
        self._load, self.now, self.highest = Load(0), None, 0


class Gauges:
    """Listens to all servers of a run.

    Args:
        addresses: Where each listens.
        outside: Whether it is an outside broker with a gateway beside it.
        access: How clients come in there.

    Attributes:
        heard: Whether any of them ever said its level.
    """

    def __init__(
        self, addresses: Sequence[Address], *, outside: bool, access: Access = OPEN
    ) -> None:
        self.heard = False
        self._addresses = addresses
        self._tls = access.tls
        self._each = [_Gauge(place, access, outside=outside) for place in range(len(addresses))]

    async def stay(self) -> None:
        """Listens until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for gauge, address in zip(self._each, self._addresses, strict=True):
                tasks.create_task(_keep(gauge, address, self._tls))

    @property
    def refused(self) -> int:
        """Connections that servers told to come back later."""
        return sum(gauge.refused for gauge in self._each)

    def take(self) -> Load | None:
        """What they say now, with the highest level since the last call; None while none of them says anything."""
        found = []
        for gauge in self._each:
            if gauge.now is not None:
                found.append(replace(gauge.now, level=max(gauge.highest, gauge.now.level)))
                gauge.highest = 0
        self.heard = self.heard or bool(found)
        return reduce(or_, found) if found else None


async def _keep(gauge: _Gauge, address: Address, tls: ssl.SSLContext | None) -> None:
    try:
        while True:
            if gauge.open:
                gauge.keep_alive(asyncio.get_running_loop().time())
            else:
                with contextlib.suppress(OSError):  # the server is away, or refuses; next time
                    await gauge.open_connection(*address, tls=tls)
            await asyncio.sleep(_RETRY)
    finally:
        gauge.close()


def _below(topic: str, above: str) -> str:
    """What stands behind the levels of `above`, of which `+` is any."""
    levels = above.rstrip("/").count("/") + 1
    return "/".join(topic.split("/")[levels:])


def _number(text: bytes) -> float | None:
    """A plain decimal; None for anything else: what a foreign broker tells there is not ours to judge."""
    if len(text) > _LONGEST or not text.replace(b".", b"", 1).isdigit():
        return None
    return float(text)
