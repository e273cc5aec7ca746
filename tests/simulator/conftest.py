"""A tiny feed to connect to, and waiting without sleeping."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import pytest
import pytest_asyncio

from tests.simulator.tiny_feed import TinyFeed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Until(Protocol):
    async def __call__(self, condition: Callable[[], object], seconds: float = 5.0) -> None: ...


@pytest_asyncio.fixture
async def feed() -> AsyncIterator[TinyFeed]:
    """A tiny feed on a free port of 127.0.0.1."""
    server = await TinyFeed().start()
    yield server
    await server.stop()


@pytest.fixture
def until() -> Until:
    """Waits for a condition, turn by turn of the loop; a test that waits for nothing fails."""

    async def wait(condition: Callable[[], object], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)

    return wait
