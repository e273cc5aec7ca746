"""What the suite needs of a server process. Whoever starts processes implements it; the suite sees only this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager
    from pathlib import Path

    from simulator.bounds import Memory
    from simulator.facts import Finding, Window

Address: TypeAlias = tuple[str, int]
"""Host and port."""


class ServerFault(Exception):  # noqa: N818 - said of the server
    """The server did not start, did not stop in order, or does not answer."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What a server says of a device.

    Attributes:
        k: Window length.
        budget: Frame budget.
        follow: Its filters.
        attributes: What it is.
        details: Everything else, as evidence.
    """

    k: int
    budget: int
    follow: tuple[str, ...]
    attributes: Mapping[str, object]
    details: Mapping[str, Any]


class UnderTest(Protocol):
    """What devices and publishers connect to: one server, or several nodes as one."""

    async def start(self) -> None:
        """Starts it, and returns when it listens.

        Raises:
            ServerFault: It does not.
        """

    async def stop(self) -> None:
        """SIGTERM, and waits for the end.

        Raises:
            ServerFault: It did not end in order, or not in time.
        """

    async def close(self) -> None:
        """Ends it if it runs, whatever state it is in."""

    async def windows(self, devices: Sequence[str]) -> Mapping[str, Window | None]:
        """What each device should show; None for one that the server does not know.

        Raises:
            ServerFault: It does not answer.
        """

    async def states(self, devices: Sequence[str]) -> Mapping[str, DeviceState | None]:
        """What it knows of devices.

        Raises:
            ServerFault: It does not answer.
        """

    async def barred(self) -> AbstractSet[tuple[str, int]]:
        """Device and number of every item that its store keeps out of a feed: dismissed, or poison."""

    async def heard(self) -> int:
        """How much it took as new since its start: contents of items and events, but not what takes items back.

        Raises:
            ServerFault: It does not answer.
        """

    async def misplaced(self, windows: Mapping[str, Window | None]) -> list[Finding]:
        """Windows that are not what sorting all live items anew would give, where that can be told."""

    def memory(self) -> Memory:
        """What it takes now; of several processes the one that takes most."""

    def complaints(self) -> list[str]:
        """Tracebacks and errors in its log since the last call."""

    def keep(self, place: Path) -> None:
        """Copies its data and its log to where they survive."""


class ServerUnderTest(UnderTest, Protocol):
    """One `fleetfeed serve` on one data directory; killed and started again, always at the same address."""

    @property
    def address(self) -> Address:
        """Host and port; known after the first start."""

    async def kill(self) -> None:
        """SIGKILL, and waits for the end."""

    def fill_disk(self) -> AbstractContextManager[None]:
        """While entered, it cannot write to any file."""

    def lock_store(self) -> AbstractContextManager[None]:
        """While entered, another program holds its database's write lock."""

    @property
    def fakes_clock(self) -> bool:
        """Whether its wall clock can be set."""

    def fake_clock(self, wanted: bool) -> None:
        """The next processes have a wall clock that can be set, at first a true one; or not."""

    def set_clock(self, offset: float) -> None:
        """Its wall clock is `offset` seconds ahead of the truth; it notices within `CLOCK_LAG`."""


class NodeUnderTest(Protocol):
    """One node of several."""

    @property
    def address(self) -> Address:
        """Host and port, always the same."""

    async def start(self) -> None:
        """As of `UnderTest`; what it has to find in the store it has when it listens."""

    async def stop(self) -> None:
        """SIGTERM: it lets its clients go elsewhere, a few at a time, and ends."""

    async def kill(self) -> None:
        """SIGKILL, and waits for the end."""

    def freeze(self) -> AbstractContextManager[None]:
        """While entered, the process stands still."""

    def cut_off(self) -> AbstractContextManager[None]:
        """While entered, nothing passes between it and any Redis server, and nobody is told."""


class RedisUnderTest(Protocol):
    """A Redis Cluster. Its masters are named by place; who is at a place changes with a failover."""

    @property
    def places(self) -> int:
        """How many masters there are."""

    async def kill(self, place: int) -> None:
        """SIGKILL of a master."""

    async def kill_all(self) -> None:
        """SIGKILL of every server."""

    async def start_again(self) -> None:
        """Starts what was killed."""

    async def fail_over(self, place: int) -> None:
        """A replica takes its master's place in order, while that one lives."""

    async def promoted(self, place: int) -> None:
        """Returns when the replica of a killed master has taken its place.

        Raises:
            ServerFault: It does not in time.
        """

    async def well(self) -> None:
        """Returns when all slots are served and every master has its replica.

        Raises:
            ServerFault: That takes too long.
        """


class FleetUnderTest(UnderTest, Protocol):
    """Nodes, and the Redis that they share."""

    @property
    def nodes(self) -> Sequence[NodeUnderTest]:
        """All of them, running or not."""

    @property
    def redis(self) -> RedisUnderTest:
        """What they share."""


CLOCK_LAG = 2.0
"""Seconds until a server sees that its clock was set."""

NODE_LEASE = 5.0
"""Seconds without word of a node until the others count it as dead."""
