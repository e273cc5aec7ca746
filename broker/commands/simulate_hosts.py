"""The servers of a simulation: one of its own, several nodes, or what is there already."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.commands.fault_nodes import NodeFleet
from broker.commands.fault_process import ServerProcess, device_states, stored_bars, windows_of
from broker.control import SOCKET_NAME, ControlClient, ControlError
from feedgen.store.sqlite_file import FILE
from simulator.access import OPEN
from simulator.faults.server import ServerFault
from simulator.scenario.host import Counts, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from simulator.access import Access
    from simulator.facts import Window
    from simulator.faults.server import Address, DeviceState
    from simulator.scenario.host import Process

_TICKS = os.sysconf("SC_CLK_TCK")
_LOSSES = ("rejected", "dropped", "closed")
"""Groups of counters that say what was not carried out."""

NODE_SETTINGS: dict[str, Any] = {
    "store.wait_replicas": 1,
    "store.wait_timeout": 0.5,
    "store.timeout": 1.0,
    "cluster.drain_seconds": 5.0,
}
"""Of nodes over a Redis Cluster, where the scenario does not say otherwise."""


def counts_of(status: Mapping[str, Any]) -> Counts:
    """What matters to a simulation of what `fleetfeed status` shows."""
    counters = status["counters"]
    drops = {
        f"{reason} ({group})": number
        for group in _LOSSES
        for reason, number in counters.get(group, {}).items()
        if number
    }
    items = counters["items"]
    return Counts(drops, items.get("new", 0) + items.get("update", 0))


def usage_of(processes: Iterable[int | None]) -> Usage | None:
    """What these processes take together, from the kernel; None if none of them runs."""
    cpu, memory, found = 0.0, 0, False
    for pid in processes:
        with contextlib.suppress(OSError, TypeError):  # it has ended
            fields = Path(f"/proc/{int(pid or 0)}/stat").read_text().rpartition(")")[2].split()
            cpu += (int(fields[11]) + int(fields[12])) / _TICKS  # utime, stime: proc(5)
            memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
            found = True
    return Usage(cpu, memory) if found else None


class OneServer(ServerProcess):
    """A server of the simulation's own; see `simulator.scenario.host.Host`, which this is.

    Args:
        directory: For everything of this server; made here.
        chosen: Settings by dotted name.
    """

    words = "one fleetfeed server on this machine"
    access = OPEN
    asked = True
    outside = False

    def __init__(self, directory: Path, chosen: Mapping[str, Any]) -> None:
        super().__init__(directory, chosen)
        self.processes: Sequence[Process] = (self,)

    @property
    def addresses(self) -> Sequence[Address]:
        """Host and port."""
        return (self.address,)

    async def barred(self) -> AbstractSet[tuple[str, int]]:
        """What is kept out of which feed, as stored."""
        return stored_bars(self._data)

    async def counts(self) -> Counts:
        """What it has counted."""
        return counts_of(await self.status())

    def usage(self) -> Usage | None:
        """What it takes."""
        return usage_of([self.pid])


class SeveralNodes(NodeFleet):
    """Nodes over a Redis Cluster of the simulation's own; see `simulator.scenario.host.Host`, which this is.

    Args:
        directory: For everything; made here.
        nodes: How many.
        chosen: Settings of all nodes, by dotted name.
    """

    access = OPEN
    asked = True
    outside = False

    def __init__(self, directory: Path, nodes: int, chosen: Mapping[str, Any]) -> None:
        super().__init__(directory, nodes, {**NODE_SETTINGS, **chosen})
        self.words = (
            f"{nodes} fleetfeed nodes over a Redis Cluster of three masters, on this machine"
        )
        self.processes: Sequence[Process] = self.nodes

    @property
    def addresses(self) -> Sequence[Address]:
        """One for each node."""
        return [node.address for node in self.nodes]

    async def counts(self) -> Counts:
        """What all nodes together have counted."""
        each = [counts_of(await node.status()) for node in self.nodes if node.running]
        drops: Counter[str] = Counter()
        for one in each:
            drops.update(one.drops)
        return Counts(drops, sum(one.accepted for one in each))

    def usage(self) -> Usage | None:
        """What all nodes together take; Redis is not counted."""
        return usage_of(node.pid for node in self.nodes)


class Running:
    """What is there already: a server of ours, or a gateway beside an outside broker; see `Host`, which this is.

    Args:
        address: Host and port that devices connect to.
        outside: Whether a gateway does it.
        data: Data directory of the server or the gateway, if it is on this machine and may be asked.
        access: How clients come in.
    """

    def __init__(
        self, address: Address, *, outside: bool, data: Path | None, access: Access = OPEN
    ) -> None:
        beside = "the broker" if outside else "the server"
        self.words = f"{beside} at {address[0]}:{address[1]}" + (
            ", with a gateway" if outside else ""
        )
        self.addresses: Sequence[Address] = (address,)
        self.access = access
        self.processes: Sequence[Process] = ()
        self.outside = outside
        self.asked = data is not None
        self._data = data
        self._control = ControlClient((data or Path()) / SOCKET_NAME)

    async def start(self) -> None:
        """Nothing is to be started; who can be asked has to answer.

        Raises:
            ServerFault: It does not.
        """
        if self.asked:
            await self._ask("status")

    async def close(self) -> None:
        """It goes on."""

    async def windows(self, devices: Sequence[str]) -> Mapping[str, Window | None]:
        """What each device should show."""
        return windows_of(await self._ask("windows", devices=list(devices)))

    async def states(self, devices: Sequence[str]) -> Mapping[str, DeviceState | None]:
        """What it knows of devices."""
        return await asyncio.to_thread(device_states, self._control, devices)

    async def barred(self) -> AbstractSet[tuple[str, int]]:
        """What is kept out of which feed, where the data directory has the store."""
        assert self._data is not None
        return stored_bars(self._data) if (self._data / FILE).exists() else frozenset()

    async def counts(self) -> Counts:
        """What it has counted."""
        return counts_of(await self._ask("status"))

    def usage(self) -> Usage | None:
        """Nobody started it, so nobody knows which process it is."""
        return None

    def complaints(self) -> list[str]:
        """Its log is its operator's."""
        return []

    async def _ask(self, do: str, **args: Any) -> Any:
        try:
            return await asyncio.to_thread(self._control.call, do, **args)
        except ControlError as error:
            raise ServerFault(f"the server does not answer: {error}") from error
