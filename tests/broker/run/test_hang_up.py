"""SIGHUP before the server is ready: it ends nothing, and is not forgotten."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.run import hang_up
from broker.run.supervisor import Supervisor
from feedgen.store.memory import MemoryStore
from tests.broker.support import CLEAN_ENVIRONMENT, PATIENCE, ROOT, eventually


class Reloads:
    """Counts how often the configuration is looked at."""

    def __init__(self) -> None:
        self.times = 0

    def reload(self) -> Reloads:
        self.times += 1
        return self

    problems = ()


@pytest.fixture(autouse=True)
def own_signal() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def ready() -> Reloads:
    reloads = Reloads()
    Supervisor({}, MemoryStore(), reloads).ready()  # type: ignore[arg-type] # all that it asks for
    return reloads


async def test_a_signal_that_comes_early_is_carried_out_once_it_is_ready() -> None:
    hang_up.remember()
    os.kill(os.getpid(), signal.SIGHUP)
    assert ready().times == 1


async def test_without_a_signal_nothing_is_reloaded() -> None:
    hang_up.remember()
    assert ready().times == 0


def waiting_gateway(url: str, data: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "broker", "gateway", "--data", str(data)],
            stderr=out,
            cwd=ROOT,
            env=CLEAN_ENVIRONMENT | {"FLEETFEED_BROKER": url},
        )


async def test_a_gateway_that_waits_for_its_broker_outlives_the_signal(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url, log = f"mqtt://127.0.0.1:{nobody.getsockname()[1]}", tmp_path / "log"
        gateway = waiting_gateway(url, tmp_path / "data", log)
        try:
            await eventually(log.read_text, within=30.0)  # that the broker is not there
            gateway.send_signal(signal.SIGHUP)
            gateway.terminate()  # which is heard after it
            assert gateway.wait(PATIENCE) == 0, log.read_text()
        finally:
            gateway.kill()
            gateway.wait()
