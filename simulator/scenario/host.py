"""What a run needs of the server under it. Whoever starts servers, or knows one that runs, implements it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from simulator.access import Access
    from simulator.facts import Window
    from simulator.faults.server import Address, DeviceState


@dataclass(frozen=True, slots=True)
class Usage:
    """What server processes take.

    Attributes:
        cpu: Seconds of CPU that they have used since they were started, all together.
        memory: Bytes of resident memory, all together.
    """

    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What a server has counted since it was started.

    Attributes:
        drops: What it did not carry out, by reason.
        accepted: Contents of items that were new to it.
    """

    drops: Mapping[str, int] = field(default_factory=dict)
    accepted: int = 0


class Process(Protocol):
    """A server process that may be ended and started again, always at the same address."""

    async def start(self) -> None:
        """Starts it, and returns when it listens. Raises `ServerFault`."""

    async def stop(self) -> None:
        """SIGTERM, and waits for the end. Raises `ServerFault`."""

    async def kill(self) -> None:
        """SIGKILL, and waits for the end."""


class Host(Protocol):
    """What devices and publishers connect to, whoever runs it.

    Everything that asks the server raises `ServerFault` if it does not answer, and may be called only if `asked`.
    """

    @property
    def words(self) -> str:
        """What it is, for people."""

    @property
    def addresses(self) -> Sequence[Address]:
        """Where it listens: one for each node; known when it was started."""

    @property
    def access(self) -> Access:
        """How clients come in."""

    @property
    def processes(self) -> Sequence[Process]:
        """What may be ended and started again; nothing of a server that is not ours."""

    @property
    def asked(self) -> bool:
        """Whether it can be asked what each device should show."""

    @property
    def outside(self) -> bool:
        """Whether a gateway does it beside an outside broker, by the rules for that (protocol)."""

    async def start(self) -> None:
        """Starts it. Raises `ServerFault`."""

    async def close(self) -> None:
        """Ends what was started, whatever state it is in."""

    async def windows(self, devices: Sequence[str]) -> Mapping[str, Window | None]:
        """What each device should show; None for one that the server does not know."""

    async def states(self, devices: Sequence[str]) -> Mapping[str, DeviceState | None]:
        """What the server knows of devices."""

    async def barred(self) -> AbstractSet[tuple[str, int]]:
        """Device and number of every item that is kept out of a feed: dismissed, or poison."""

    async def counts(self) -> Counts:
        """What the server has counted since its start."""

    def usage(self) -> Usage | None:
        """What it takes now; None where that cannot be told."""

    def complaints(self) -> list[str]:
        """Tracebacks and errors in its log since the last call."""
