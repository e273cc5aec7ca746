"""The servers that the standard is held against, and the part of it that a test is about.

With `CONFORMANCE_TARGET=127.0.0.1:1883` in the environment the tests run against what listens there
instead. Those that are about the feed, or need a server with settings of their own, are left out then.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker.support import Served, Target
from tests.conformance.support import FEED_SETTINGS, External, FeedPart, OtherPart, Part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

TARGET = os.environ.get("CONFORMANCE_TARGET")
PARTS = [OtherPart] if TARGET else [FeedPart, OtherPart]
OURS = {"serve", "feed"}
"""Fixtures that only a server of ours can give."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if TARGET is None:
        return
    ours = [each for each in items if OURS & set(getattr(each, "fixturenames", ()))]
    config.hook.pytest_deselected(items=ours)
    items[:] = [each for each in items if each not in ours]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Target]:
    """A server with nothing in it, or the one that was named."""
    if TARGET is not None:
        external = External(TARGET)
        yield external
        await external.drop_peers()
        return
    served = await Served(tmp_path / "data", FEED_SETTINGS).start()
    yield served
    await served.drop_peers()
    await served.stop()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Start a server of ours with settings by dotted name, `__` for the dot."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Served:
            dotted = {name.replace("__", "."): value for name, value in settings.items()}
            served = await Served(tmp_path / "own", FEED_SETTINGS | dotted).start()
            stack.push_async_callback(served.stop)
            stack.push_async_callback(served.drop_peers)
            return served

        yield start


@pytest.fixture(params=PARTS, ids=lambda part: part.__name__.removesuffix("Part").lower())
def part(request: pytest.FixtureRequest, server: Target) -> Part:
    """Each part of the server in turn."""
    made: Part = request.param(server)
    return made


@pytest.fixture
def feed(server: Target) -> FeedPart:
    """The feed alone."""
    return FeedPart(server)


@pytest.fixture
def others(server: Target) -> OtherPart:
    """All other topics alone."""
    return OtherPart(server)
