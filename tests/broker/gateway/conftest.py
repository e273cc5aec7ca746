"""Brokers that are not ours, and gateways beside them."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from feedgen.store.memory_shared import SharedMemory
from tests.broker.gateway.stage import Beside, GatewayProcess
from tests.broker.support import eventually
from tests.outside_brokers import BROKERS
from tests.redis_servers import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.outside_brokers import OutsideBroker
    from tests.redis_servers import RedisServer


@pytest.fixture(params=list(BROKERS), scope="module")
def any_broker(request: pytest.FixtureRequest) -> Iterator[OutsideBroker]:
    """Each broker in turn, shared by the tests of a module: use names of your own."""
    with BROKERS[request.param]() as broker:
        yield broker


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[OutsideBroker]:
    """A broker of the test's own, to be killed: Mosquitto, if it asks for no other."""
    with BROKERS[getattr(request, "param", "mosquitto")]() as broker:
        yield broker


@pytest.fixture
async def beside(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Beside]]]:
    """Start a gateway on the test's event loop; settings by dotted name with `__` for the dot."""
    async with AsyncExitStack() as stack:
        started = 0

        async def start(broker: OutsideBroker, **settings: Any) -> Beside:
            nonlocal started
            started += 1
            dotted = {name.replace("__", "."): value for name, value in settings.items()}
            # A session of its own at a broker that several tests share.
            dotted.setdefault("gateway.client_id", f"g{abs(hash(tmp_path)) % 10**9}-{started}")
            found = Beside(broker, tmp_path / f"data{started}", dotted)
            await found.start()
            stack.push_async_callback(found.stop)
            stack.push_async_callback(found.drop_peers)
            return found

        yield start


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Callable[..., GatewayProcess]]:
    """Start `fleetfeed gateway` as a process; its log must be without faults in the end."""
    started: list[GatewayProcess] = []

    def start(broker: OutsideBroker, **settings: Any) -> GatewayProcess:
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        gateway = GatewayProcess(broker, tmp_path / f"data{len(started)}", **dotted)
        started.append(gateway)
        return gateway.start()

    yield start
    for gateway in started:
        await gateway.drop_peers()
        gateway.close()


class Crew:
    """Gateways that share a store, beside one broker.

    Args:
        broker: The broker.
        directory: For their data.
        store: Settings of the store; none for a world in memory.
    """

    def __init__(self, broker: OutsideBroker, directory: Path, store: dict[str, Any]) -> None:
        self.world = SharedMemory()
        self.workers: list[Beside] = []
        self._broker = broker
        self._directory = directory
        self._store = store
        self._client_id = f"c{abs(hash(directory)) % 10**9}"

    async def worker(self, **settings: Any) -> Beside:
        """Start one more; settings by dotted name with `__` for the dot."""
        name = f"w{len(self.workers) + 1}"
        dotted = {
            "cluster.node": name,
            "gateway.client_id": self._client_id,
            **self._store,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        shared = None if self._store else self.world.node()
        worker = Beside(self._broker, self._directory / name, dotted, shared)
        await worker.start()
        self.workers.append(worker)
        alive = [each for each in self.workers if not each.is_stopped]
        for each in alive:
            await eventually(
                lambda each=each: len(each.worker.alive), lambda count: count == len(alive)
            )
        await eventually(lambda: any(each.gateway.ingest.up for each in alive))
        return worker

    def serving(self, device: str) -> Beside | None:
        """The worker that serves a device."""
        return next((w for w in self.workers if not w.is_stopped and w.has(device)), None)

    @property
    def ingesting(self) -> Beside:
        """The worker that takes in what comes from the broker."""
        return next(w for w in self.workers if not w.is_stopped and w.gateway.ingest.up)

    async def stop(self) -> None:
        for worker in self.workers:
            await worker.drop_peers()
            if worker.shared is not None:
                worker.shared.away = False
            await worker.stop()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that want it."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def mosquitto_broker() -> Iterator[OutsideBroker]:
    """A Mosquitto that the tests of a module share."""
    with BROKERS["mosquitto"]() as broker:
        yield broker


@pytest.fixture(params=["memory", "redis"])
async def crew(
    mosquitto_broker: OutsideBroker, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Crew]:
    """Gateways over one store."""
    store = {}
    if request.param == "redis":
        url = request.getfixturevalue("redis").url
        store = {"store.url": url, "store.prefix": f"test-{secrets.token_hex(4)}:"}
    found = Crew(mosquitto_broker, tmp_path, store)
    yield found
    await found.stop()


@pytest.fixture
async def faulty(mosquitto_broker: OutsideBroker, tmp_path: Path) -> AsyncIterator[Crew]:
    """Gateways over a store in memory, which can vanish and be cut off."""
    found = Crew(mosquitto_broker, tmp_path, {})
    yield found
    await found.stop()
