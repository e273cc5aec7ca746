"""What the suite needs of a server process. Whoever starts processes implements it; the suite sees only this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from simulator.bounds import Memory
    from simulator.facts import Window


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


class ServerUnderTest(Protocol):
    """One `fleetfeed serve` on one data directory; killed and started again, always at the same address."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; known after the first start."""

    async def start(self) -> None:
        """Starts it, and returns when it listens.

        Raises:
            ServerFault: It does not.
        """

    async def kill(self) -> None:
        """SIGKILL, and waits for the end."""

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

    def barred(self) -> AbstractSet[tuple[str, int]]:
        """Device and number of every item that its store keeps out of a feed: dismissed, or poison."""

    def memory(self) -> Memory:
        """What it takes now."""

    def complaints(self) -> list[str]:
        """Tracebacks and errors in its log since the last call."""

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


CLOCK_LAG = 2.0
"""Seconds until a server sees that its clock was set."""
