"""Nodes for the tests of this directory: real servers on one event loop, over one store.

`fleet` is over memory and over a real Redis. `faulty` is over memory alone, where a node can be cut off
from the store and killed without ending the test's own process; real faults are in `test_processes.py`.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal

import pytest

from broker.cluster.node import Node
from broker.config_layers import load
from broker.server import Server
from feedgen.store.memory_node import MemoryNode
from feedgen.store.memory_shared import SharedMemory
from feedgen.store.redis import RedisSettings, RedisStore
from tests.broker.support import Served, eventually
from tests.redis_servers import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path
    from typing import Self

    from feedgen.store.shared import SharedStore
    from tests.redis_servers import RedisServer


class NodeServed(Served):
    """One node.

    Args:
        data: Its data directory.
        settings: By dotted name.
        store: Its hold on what the nodes share.
    """

    def __init__(self, data: Path, settings: dict[str, Any], store: SharedStore) -> None:
        super().__init__(data, settings)
        self._hold = store

    async def start(self) -> Self:
        settings = {
            "bind": "127.0.0.1:0",
            "loop": "asyncio",
            "open": True,
            "ranking.model": "popularity",
            **self._settings,
        }
        config = load(None, {}, {**settings, "data": str(self.data)})
        self.server = Server(config, self._hold)
        await self.server.start()
        self.address = self.server.address
        return self

    async def publish_other(self, topic: str, payload: bytes) -> None:
        """A message on a topic that is not the feed's."""
        peer = await self.connect("", clean=True)
        await peer.publish(topic, payload)
        await peer.leave()

    @property
    def node(self) -> Node:
        assert self.server.node is not None
        return self.server.node

    def holds(self, device: str) -> bool:
        """Whether this node thinks that it holds a device."""
        return self.node.directory.holds(device)

    # ---- Faults, in memory

    @property
    def store(self) -> MemoryNode:
        """Its hold on a world in memory."""
        assert isinstance(self._hold, MemoryNode)
        return self._hold

    def cut_off(self) -> None:
        """The store is out of reach for this node."""
        self.store.away = True

    def cut_off_when(self, step: Literal["look_up", "claim"]) -> Callable[[], bool]:
        """The store gets out of reach just before it is asked for this; whether it was asked."""
        directory, asked = self.node.directory, False
        taken = getattr(directory, step)

        async def then_away(*args: Any) -> None:
            nonlocal asked
            asked = True
            setattr(directory, step, taken)
            self.cut_off()
            await taken(*args)

        setattr(directory, step, then_away)
        return lambda: asked

    def reconnect(self) -> None:
        self.store.away = False

    async def kill(self) -> None:
        """As SIGKILL would: nothing is said to anybody, and nothing more happens here."""
        server = self.server
        self.node.directory.close()
        server.service._stopping = True  # else it would end in order
        self.store.kill()
        await server._control.stop()
        await server.lane.stop()
        server.door.close()


class Fleet(ABC):
    """Nodes over one store.

    Attributes:
        nodes: Those that were started.
    """

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.nodes: list[NodeServed] = []
        self._directory = directory
        self._stack = stack

    @abstractmethod
    def new(self, data: Path, settings: dict[str, Any]) -> NodeServed:
        """A node that was not started."""

    async def node(self, **settings: Any) -> NodeServed:
        """Start a node; settings by dotted name with `__` for the dot."""
        name = f"node{len(self.nodes) + 1}"
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        served = self.new(self._directory / name, {"cluster.node": name, **dotted})
        await served.start()
        self.nodes.append(served)
        self._stack.push_async_callback(self._stop, served)
        self._stack.push_async_callback(served.drop_peers)
        return served

    async def pair(self, **settings: Any) -> tuple[NodeServed, NodeServed]:
        """Two nodes that know each other."""
        pair = await self.node(**settings), await self.node(**settings)
        for each in pair:
            await eventually(lambda each=each: len(each.node.alive), lambda count: count == 2)
        return pair

    async def holder(self, device: str) -> str:
        """Who holds a device, as the store has it."""
        return await self.nodes[-1].node.holder(device)

    async def free(self, device: str) -> None:
        """Wait until nobody holds a device."""
        while await self.holder(device):
            pass

    async def _stop(self, served: NodeServed) -> None:
        await served.stop()


class FaultyFleet(Fleet):
    """Nodes over a store in memory; `world` is what they share."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        super().__init__(directory, stack)
        self.world = SharedMemory()

    def new(self, data: Path, settings: dict[str, Any]) -> NodeServed:
        return NodeServed(data, settings, self.world.node())

    async def _stop(self, served: NodeServed) -> None:
        served.reconnect()
        if served.store.name in self.world.nodes:
            await served.stop()


class RedisFleet(Fleet):
    """Nodes over a real Redis, under a prefix of their own, which get to know each other quickly."""

    def __init__(self, directory: Path, stack: AsyncExitStack, url: str, **settings: Any) -> None:
        super().__init__(directory, stack)
        self._url = url
        self._chosen = RedisSettings(prefix=f"test-{secrets.token_hex(4)}:", lease=2.0, **settings)

    def new(self, data: Path, settings: dict[str, Any]) -> NodeServed:
        return NodeServed(data, settings, RedisStore(self._url, self._chosen))


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis that forces every write to the disk."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    """Nodes over one store."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield FaultyFleet(tmp_path, stack)
        else:
            yield RedisFleet(tmp_path, stack, request.getfixturevalue("redis").url)


@pytest.fixture
async def faulty(tmp_path: Path) -> AsyncIterator[FaultyFleet]:
    """Nodes that can be cut off and killed."""
    async with AsyncExitStack() as stack:
        yield FaultyFleet(tmp_path, stack)
