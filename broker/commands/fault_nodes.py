"""What `fleetfeed faults --nodes` does: nodes over a Redis Cluster, of which anything may die or be cut off."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Any

from broker.commands.fault_process import ServerProcess
from broker.commands.fault_redis import DURABILITY, RedisCluster, program
from broker.commands.fault_server import keeper, run_here, settings
from broker.commands.fault_store import StoreWitness, sorted_window
from feedgen.ranking.value import Settings
from feedgen.store.redis.settings import RedisSettings
from simulator.facts import Finding
from simulator.faults.plan import Kind, draw_for_nodes
from simulator.faults.site import NodeSite
from simulator.faults.suite import Suite
from simulator.proxy import Proxy
from simulator.toxics import Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from simulator.bounds import Memory
    from simulator.facts import Window
    from simulator.faults.server import DeviceState

__all__ = ["DURABILITY", "run"]

WAIT_REPLICAS = 1
_FIRST_HOST = 2
"""Node i reaches Redis by way of 127.0.0.(2 + i)."""
_DRAIN = 0.5
_GROWTH = 2**20
"""Bytes that a round may leave behind: a node lives for a few rounds, and its memory still settles."""


def run(
    *,
    nodes: int,
    rounds: int,
    seed: int,
    devices: int,
    only: Kind | None,
    keep: Path | None,
    as_json: bool,
    redis: str = "always",
    wait: int = WAIT_REPLICAS,
) -> int:
    """Run the suite for several nodes and return its exit code.

    Args:
        nodes: How many.
        rounds: How many.
        seed: Of the first round.
        devices: Faulty ones.
        only: The one kind of fault that is wanted.
        keep: Where to keep what broke a promise.
        as_json: Print one JSON object.
        redis: How Redis keeps what it was told, a key of `fault_redis.DURABILITY`.
        wait: Replicas that must have a write before it is acknowledged.

    Raises:
        Failure: There is no redis-server here, or SIGTERM came.
    """
    program()

    def suite(directory: Path) -> Suite:
        def site(of: int) -> NodeSite:
            fleet = NodeFleet(directory / f"seed-{of}", nodes, node_settings(of, wait), redis)
            return NodeSite(fleet, of)

        return Suite(
            rounds,
            seed,
            devices,
            draw=lambda of: draw_for_nodes(of, only),
            site=site,
            missing={},
            keep=keeper(keep),
            options=f"--nodes {nodes} ",
            growth=_GROWTH,
        )

    return run_here(suite, as_json=as_json)


def node_settings(seed: int, wait: int) -> dict[str, Any]:
    """The settings of all nodes of a season."""
    rng = Random(f"{seed}/node settings")  # noqa: S311 - no secret
    return {
        **settings(seed),
        "store.wait_replicas": wait,
        "store.wait_timeout": 0.5,
        "store.timeout": 1.0,
        "cluster.handover_wait": rng.choice((0.3, 1.0)),
        "cluster.drain_seconds": _DRAIN,
        # So that everybody can say what stands where: there age and priority decide alone.
        "ranking.model": "newest",
    }


class Node(ServerProcess):
    """One node, and its own way to every Redis server; see `simulator.faults.server.NodeUnderTest`.

    Args:
        directory: For everything of this node; made here.
        place: Among the nodes.
        redis: What it shares with the others.
        chosen: Settings by dotted name.
    """

    def __init__(
        self, directory: Path, place: int, redis: RedisCluster, chosen: Mapping[str, Any]
    ) -> None:
        host = f"127.0.0.{_FIRST_HOST + place}"
        super().__init__(directory, {**chosen, "store.url": redis.url(host)})
        self.name = ""
        self._place = place
        self._starts = 0
        self.ways = [
            Proxy(("127.0.0.1", server.port), place, listen=(host, server.port))
            for server in redis.servers
        ]

    async def start(self) -> None:
        """Start it under a new name: the last one is taken until its lease is over."""
        self._starts += 1
        self.name = f"node-{self._place + 1}.{self._starts}"
        self._environment["FLEETFEED_CLUSTER__NODE"] = self.name
        await super().start()

    @contextlib.contextmanager
    def freeze(self) -> Iterator[None]:
        """Let the process stand still."""
        process = self._process
        assert process is not None, "it is not running"
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """Let nothing pass to Redis or back, on any connection old or new."""
        added = [
            (way, way.add(Timeout(0), stream))
            for way in self.ways
            for stream in ("upstream", "downstream")
        ]
        try:
            yield
        finally:
            for way, toxic in added:
                way.remove(toxic)


class NodeFleet:
    """Nodes and their Redis Cluster; see `simulator.faults.server.FleetUnderTest`, which this is.

    Args:
        directory: For everything; made here.
        nodes: How many.
        chosen: Settings of all nodes, by dotted name.
        durability: How Redis keeps what it was told.
    """

    def __init__(
        self, directory: Path, nodes: int, chosen: Mapping[str, Any], durability: str = "always"
    ) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.redis = RedisCluster(directory / "redis", durability)
        self.nodes = [
            Node(directory / f"node-{place + 1}", place, self.redis, chosen)
            for place in range(nodes)
        ]
        self._witness = StoreWitness(self.redis.url(), RedisSettings())
        self._open = AsyncExitStack()
        self._asked: tuple[str, ...] = ()

    async def start(self) -> None:
        """Start Redis, the ways to it, and the nodes."""
        await self.redis.start()
        for node in self.nodes:
            for way in node.ways:
                await self._open.enter_async_context(way)
        await asyncio.gather(*(node.start() for node in self.nodes))

    async def stop(self) -> None:
        """SIGTERM to all nodes."""
        await asyncio.gather(*(node.stop() for node in self.nodes if node.running))

    async def close(self) -> None:
        """End all of it, whatever state it is in."""
        await asyncio.gather(*(node.close() for node in self.nodes))
        await self._witness.close()
        await self._open.aclose()
        await self.redis.close()

    async def windows(self, devices: Sequence[str]) -> Mapping[str, Window | None]:
        """What each device should show: what the node says that holds it, by the word of Redis."""
        self._asked = tuple(devices)
        stored = await self._witness.devices(devices)
        found: dict[str, Window | None] = dict.fromkeys(devices)
        for node in self.nodes:
            held = [name for name in devices if stored[name].holder == node.name]
            if held:
                found |= await node.windows(held)
        return found

    async def states(self, devices: Sequence[str]) -> Mapping[str, DeviceState | None]:
        """What any node knows of devices, as long as the holder answers."""
        stored = await self._witness.devices(devices)
        found: dict[str, DeviceState | None] = dict.fromkeys(devices)
        for place, node in enumerate(self.nodes):
            # Of those that nobody holds every node may be asked.
            held = [
                name
                for name in devices
                if stored[name].holder == node.name or not (stored[name].holder or place)
            ]
            if held:
                found |= await node.states(held)
        return found

    async def barred(self) -> AbstractSet[tuple[str, int]]:
        """What is kept out of the feeds of the devices last asked about, as stored."""
        stored = await self._witness.devices(self._asked)
        return {(name, n) for name, one in stored.items() for n in one.barred}

    async def heard(self) -> int:
        """How much all nodes together took as new."""
        return sum([await node.heard() for node in self.nodes])

    async def misplaced(self, windows: Mapping[str, Window | None]) -> list[Finding]:
        """Windows that are not what sorting all items in Redis gives."""
        records = await self._witness.records()
        stored = await self._witness.devices(tuple(windows))
        now = time.time()
        found = []
        for device, window in windows.items():
            expected = sorted_window(stored[device], records, Settings(), now)
            shown = [n for n, _ in window or ()]
            if shown != expected:
                sentence = f"the window of {device} is not what sorting all items gives"
                evidence = (f"window {shown}", f"sorted {expected}")
                found.append(Finding("feed", sentence, evidence))
        return found

    def memory(self) -> Memory:
        """Of the node that takes most."""
        return max((node.memory() for node in self.nodes), key=lambda memory: memory.now)

    def complaints(self) -> list[str]:
        """What any node complains of."""
        return [f"{node.name}\n{text}" for node in self.nodes for text in node.complaints()]

    def keep(self, place: Path) -> None:
        """Copy everything to where it survives."""
        for node in self.nodes:
            node.keep(place / node.directory.name)
        shutil.copytree(self._directory / "redis", place / "redis", dirs_exist_ok=True)
