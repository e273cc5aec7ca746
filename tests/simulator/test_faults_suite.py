"""The fault suite against real servers, and against one that lies."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from rich.console import Console

from broker.commands import fault_server
from broker.commands.fault_server import FaultServer, settings
from broker.commands.shell import Failure
from feedgen.store.sqlite_file import FILE
from simulator.checker import Checker
from simulator.facts import Content, Key, ServerClock
from simulator.faults.plan import Kind, draw
from simulator.faults.publishers import FaultyPublisher, Item
from simulator.faults.server import ServerFault
from simulator.faults.site import ServerSite
from simulator.faults.suite import Suite, run_suite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.simulator.conftest import Until

LIBRARY = fault_server._faketime()
PATIENCE = 10.0

needs_faketime = pytest.mark.skipif(
    LIBRARY is None and not os.environ.get("CI"), reason="libfaketime is not installed"
)


# The whole suite


def test_a_few_rounds_keep_every_promise(capfd: pytest.CaptureFixture[str]) -> None:
    code = fault_server.run(rounds=3, seed=16, devices=8, only=None, keep=None, as_json=True)
    said = json.loads(capfd.readouterr().out)
    assert (code, said["ok"], said["findings"]) == (0, True, [])
    assert said["rounds"] == 3
    assert said["faults"]["kill"] == 2
    assert said["items_acknowledged"] > 100
    assert said["devices_converged"] == 3 * 9
    assert said["frames"] > 100
    assert said["memory_peak_mib"] > 10


class Forgetful(FaultServer):
    """A server that loses acknowledged items when it is killed."""

    async def kill(self) -> None:
        await super().kill()
        with closing(sqlite3.connect(self._data / FILE)) as store, store:
            store.execute("DELETE FROM items")


class Forgiving(FaultServer):
    """A server that says that every window has one item less than it has."""

    async def windows(self, devices: Any) -> Any:
        found = await super().windows(devices)
        return {device: window and window[:-1] for device, window in found.items()}


@pytest.mark.parametrize(
    ("liar", "broken", "promises"),
    [
        # What it forgot is new to it when it is repeated, which breaks G4 as well.
        (Forgetful, {"G1", "G3"}, {"G1", "G3", "G4"}),
        (Forgiving, {"G2"}, {"G1", "G2", "G3"}),
    ],
)
async def test_a_server_that_breaks_a_promise_is_found_out(
    liar: type[FaultServer],
    broken: set[str],
    promises: set[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simulator.faults.rest.PATIENCE", 1.0)
    kept = []
    suite = Suite(
        rounds=1,
        seed=3,
        devices=6,
        draw=lambda seed: draw(seed, (), Kind.KILL),
        site=lambda seed: ServerSite(liar(tmp_path / f"{seed}", settings(seed), None), seed),
        missing={Kind.CLOCK: "not needed"},
        keep=lambda _, seed: kept.append(seed),
    )
    code = await run_suite(suite, json_output=True, console=Console())
    said = json.loads(capfd.readouterr().out)
    assert code == 1
    found = {finding["promise"] for finding in said["findings"]}
    assert found & broken
    assert found <= promises
    assert {finding["seed"] for finding in said["findings"]} == {3}
    assert kept == [3]


def test_a_fault_that_cannot_be_had_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_server, "_LIBFAKETIME", ())
    with pytest.raises(Failure, match="libfaketime is missing"):
        fault_server.run(rounds=1, seed=1, devices=2, only=Kind.CLOCK, keep=None, as_json=True)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(Failure, match="libfaketime is missing"):
        fault_server.run(rounds=1, seed=1, devices=2, only=None, keep=None, as_json=True)


# The server process


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[FaultServer]:
    running = FaultServer(tmp_path / "server", settings(1), LIBRARY)
    await running.start()
    yield running
    await running.close()


async def publisher(server: FaultServer) -> FaultyPublisher:
    made = FaultyPublisher("pub", Random(1), Checker(ServerClock()), lambda: server.address)
    assert await made.connect()
    return made


def item(text: str, ttl: int = 600) -> Item:
    return Item(Content(Key("a", text), text, ttl=ttl))


async def items(server: FaultServer) -> int:
    status = await asyncio.to_thread(server._control.call, "status")
    return int(status["items"])


async def test_what_is_wrong_with_a_server_that_does_not_start_is_said(tmp_path: Path) -> None:
    other = FaultServer(tmp_path / "server", {"limits.max_packet": 1}, None)
    with pytest.raises(ServerFault, match=r"limits\.max_packet"):
        await other.start()


async def until_count(server: FaultServer, count: int) -> None:
    """Wait until the server has so many items, in memory at least."""
    async with asyncio.timeout(PATIENCE):
        while await items(server) != count:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)


async def test_a_killed_server_does_not_answer_and_is_back_at_the_same_address(
    server: FaultServer,
) -> None:
    address = server.address
    await server.kill()
    with pytest.raises(ServerFault, match="does not answer"):
        await server.windows(["a"])
    with pytest.raises(ServerFault, match="does not say"):
        await server.states(["a"])
    await server.start()
    assert server.address == address
    assert await server.windows(["a"]) == {"a": None}
    assert await server.states(["a"]) == {"a": None}
    await server.stop()
    assert server.complaints() == []


@pytest.mark.parametrize("trouble", ["fill_disk", "lock_store"])
async def test_nothing_is_acknowledged_that_cannot_be_stored(
    server: FaultServer, until: Until, trouble: str
) -> None:
    sender = await publisher(server)
    with getattr(server, trouble)():
        sender.publish(item("x"), qos=1)
        with pytest.raises(TimeoutError):
            await until(lambda: sender.acknowledged, seconds=0.5)
        assert await items(server) == 1  # it answers, and has it in memory
    await until(lambda: sender.acknowledged == 1, seconds=PATIENCE)
    with getattr(server, trouble)():
        sender.publish(item("never stored"), qos=1)
        await until_count(server, 2)
        await server.kill()
    sender.die()
    await server.start()
    assert await items(server) == 1


@needs_faketime
async def test_the_clock_of_a_server_can_be_set(server: FaultServer, until: Until) -> None:
    assert not server.fakes_clock
    await server.stop()
    server.fake_clock(True)
    await server.start()
    sender = await publisher(server)
    sender.publish(item("x", ttl=3_000), qos=1)
    await until(lambda: sender.acknowledged == 1)
    sender.drop()
    assert await items(server) == 1
    server.set_clock(3_600.0)
    await until_count(server, 0)  # an hour later it is over
    await server.stop()
    server.fake_clock(False)
    await server.start()


async def test_a_witness_sees_memory_errors_and_what_is_kept_out_and_can_keep_all_of_it(
    server: FaultServer, tmp_path: Path
) -> None:
    memory = server.memory()
    assert 10 << 20 < memory.now <= memory.peak < 1 << 30
    server._words += ["one", "two ERROR three", "four"]
    (complaint,) = server.complaints()
    assert complaint.splitlines()[-3:] == ["one", "two ERROR three", "four"]
    assert server.complaints() == []
    await server.stop()
    with closing(sqlite3.connect(server._data / FILE)) as store, store:
        store.execute("INSERT INTO dismissed (n, device) VALUES (7, 'kitchen')")
    assert await server.barred() == {("kitchen", 7)}
    server.keep(tmp_path / "kept" / "seed-1")
    kept = {path.name for path in (tmp_path / "kept" / "seed-1").rglob("*")}
    assert {FILE, "server.log"} <= kept
