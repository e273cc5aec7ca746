"""Servers for the tests of this directory."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker.support import Served, ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Start a server on the test's event loop; settings by dotted name with `__` for the dot."""
    async with AsyncExitStack() as stack:
        started = 0

        async def start(*, amqtt: bool = False, **settings: Any) -> Served:
            nonlocal started
            started += 1
            dotted = {name.replace("__", "."): value for name, value in settings.items()}
            served = Served(tmp_path / f"data{started}", dotted, amqtt=amqtt)
            await served.start()
            stack.push_async_callback(served.stop)
            stack.push_async_callback(served.drop_peers)
            return served

        yield start


@pytest.fixture
async def served(serve: Callable[..., Awaitable[Served]]) -> Served:
    """A server with the default settings."""
    return await serve()


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Callable[..., ServerProcess]]:
    """Start `fleetfeed serve` as a process; its log must be without faults in the end."""
    started: list[ServerProcess] = []

    def start(**settings: Any) -> ServerProcess:
        server = ServerProcess(tmp_path / f"data{len(started)}", **settings)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        await server.drop_peers()
        server.close()
