"""Nodes as processes over a real Redis, and what befalls them: killed, cut off, Redis gone and back."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from devices.packets import Connect, Puback, Publish
from devices.replica import Replica
from simulator.proxy import Proxy
from simulator.toxics import Timeout
from tests.broker.support import CLEAN_ENVIRONMENT, ROOT, ServerProcess, item
from tests.redis_servers import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.redis_servers import RedisServer


@pytest.fixture
async def start(tmp_path: Path, redis: RedisServer) -> AsyncIterator[Callable[..., ServerProcess]]:
    """Start nodes of one fleet; each log must be without faults in the end."""
    prefix = f"test-{secrets.token_hex(4)}:"
    started: list[ServerProcess] = []

    def node(url: str = redis.url, **settings: Any) -> ServerProcess:
        name = f"node{len(started) + 1}"
        settings = {
            "store.url": url,
            "store.prefix": prefix,
            "store.timeout": 1.0,
            "cluster.node": name,
            "cluster.drain_seconds": 0.2,
            **settings,
        }
        process = ServerProcess(tmp_path / name, **settings)
        started.append(process)
        return process.start()

    yield node
    for process in started:
        await process.drop_peers()
        process.close()


async def told(status: Callable[[], Any], expected: Callable[[Any], bool]) -> None:
    """Wait until the status of a process, asked in a thread, is as expected."""
    deadline = asyncio.get_running_loop().time() + 20
    while not expected(found := await asyncio.to_thread(status)):
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.05)


async def acquainted(*nodes: ServerProcess) -> None:
    """Wait until the nodes know each other."""
    for node in nodes:
        await told(node.status, lambda status: len(status["cluster"]["members"]) == len(nodes))


async def test_a_killed_node_loses_nothing_that_was_acknowledged(
    start: Callable[..., ServerProcess],
) -> None:
    here, there = start(), start()
    await acquainted(here, there)
    device = await here.subscribed("kitchen", clean=False)
    epoch = device.replica.position[0]
    peer = await here.connect("")
    for number in range(200):
        payload = json.dumps(item(f"{number:03}", f"item {number:03}")).encode()
        peer.send(Publish("items/news", payload, 1, number + 1))
    acknowledged = 0
    while acknowledged < 100:
        acknowledged = (await peer.expect(Puback)).packet_id
    here.kill()
    await told(there.status, lambda status: status["items"] >= acknowledged)
    again = await there.device("kitchen", device.replica, clean=False)
    assert not again.session_present
    again.hello()
    await again.subscribe()
    assert (await again.snapshot()).epoch == epoch + 1
    assert len(again.shown) == 8
    assert min(again.shown) >= f"item {acknowledged - 8:03}"


async def test_a_node_that_ends_in_order_hands_its_devices_over(
    start: Callable[..., ServerProcess],
) -> None:
    here, there = start(), start()
    await acquainted(here, there)
    await here.publish(item("a", "one"))
    device = await here.subscribed("kitchen", clean=False)
    await asyncio.to_thread(here.stop)
    await there.publish(item("b", "two"))
    again = await there.device("kitchen", device.replica, clean=False)
    assert again.session_present
    again.hello()
    await again.delta()
    assert again.shown == ["two", "one"]


async def test_a_redis_that_was_killed_and_started_again_has_everything_acknowledged(
    tmp_path: Path, start: Callable[..., ServerProcess]
) -> None:
    with redis_server(tmp_path / "redis") as redis:
        here, there = start(redis.url), start(redis.url)
        await acquainted(here, there)
        device = await there.subscribed("kitchen")
        peer = await here.connect("")
        await peer.publish("items/news", json.dumps(item("a", "one")).encode())
        await device.shows("one")
        redis.kill()
        peer.send(Publish("items/news", json.dumps(item("b", "two")).encode(), 1, 9))
        await told(there.status, lambda status: not status["store"]["up"])
        newcomer = await there.peer()
        assert (await newcomer.greet(Connect("cellar"))).code == 3
        await device.peer.ping()
        redis.start()
        assert (await peer.expect(Puback)).packet_id == 9
        await device.shows("two", "one")
        await told(there.status, lambda status: status["store"]["up"])
        other = await here.subscribed("cellar")
        assert other.shown == ["two", "one"]
        for node in (here, there):
            await node.drop_peers()
            await asyncio.to_thread(node.stop)


async def test_a_node_cut_off_from_redis_serves_on_and_is_fenced_when_it_is_back(
    start: Callable[..., ServerProcess], redis: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(("127.0.0.1", redis.port), seed=1))
        here = await asyncio.to_thread(start, f"redis://127.0.0.1:{proxy.address[1]}")
        there = start()
        await acquainted(here, there)
        await there.publish(item("a", "one"))
        stays, moves = await here.subscribed("cellar"), await here.subscribed("kitchen")
        publisher = await here.connect("")
        proxy.add(Timeout(0), "upstream")
        proxy.add(Timeout(0), "downstream")
        await told(here.status, lambda status: not status["store"]["up"])
        await publisher.publish("items/news", json.dumps(item("b", "two")).encode(), qos=0)
        await stays.shows("two", "one")
        again = await there.device("kitchen", Replica())
        await again.subscribe()
        assert (await again.snapshot()).epoch > moves.replica.position[0]
        proxy.clear()
        proxy.cut()  # what was on its way is lost
        await moves.peer.expect_end()
        await again.shows("two", "one")
        await stays.peer.ping()
        status = await asyncio.to_thread(here.status)
        assert status["counters"]["closed"]["taken_over"] == 1
        await here.drop_peers()
        await asyncio.to_thread(here.stop)


async def test_a_store_that_is_not_there_is_an_error_at_the_start(
    tmp_path: Path,
) -> None:
    process = ServerProcess(tmp_path / "node", **{"store.url": "redis://:secret@127.0.0.1:1"})
    with pytest.raises(AssertionError, match=r"fleetfeed: .*127\.0\.0\.1:1") as raised:
        process.start()
    assert "secret" not in str(raised.value)


async def test_the_first_signal_drains_and_the_second_ends_it(
    start: Callable[..., ServerProcess],
) -> None:
    here = start(**{"cluster.drain_seconds": 60.0})
    devices = [await here.subscribed(f"d{i}") for i in range(50)]
    process = here._process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    await told(here.status, lambda status: status["connections"] < len(devices))
    assert process.poll() is None
    await asyncio.to_thread(here.stop)
    for device in devices:
        await device.peer.expect_end()


# ---- The command line


def fleetfeed(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *words],
        capture_output=True,
        cwd=ROOT,
        env={**CLEAN_ENVIRONMENT, "COLUMNS": "200", **variables},
        text=True,
        timeout=60,
        check=False,
    )


async def test_commands_reach_the_fleet_by_any_node(start: Callable[..., ServerProcess]) -> None:
    here, there = start(opened=False), start(opened=False)
    await acquainted(here, there)

    async def run(node: ServerProcess, *words: str) -> str:
        done = await asyncio.to_thread(fleetfeed, *words, "--data", str(node.data))
        assert done.returncode == 0, done.stderr
        return done.stdout

    await run(here, "device", "add", "kitchen")
    assert "kitchen" in await run(there, "device", "list")
    status = await run(there, "status")
    assert "node2, beside node1; holds 0 devices" in status
    await run(there, "device", "erase", "kitchen")
    assert "kitchen" not in await run(here, "device", "list")


def test_what_is_shared_is_not_changed_without_a_server(tmp_path: Path) -> None:
    done = fleetfeed(
        *("device", "add", "kitchen", "--data", str(tmp_path)),
        FLEETFEED_STORE__URL="redis://user:secret@127.0.0.1:1",
    )
    assert done.returncode == 3
    assert done.stderr.startswith("fleetfeed: no server runs on ")
    assert "secret" not in done.stderr + done.stdout


def test_a_wrong_address_of_the_store_is_named_without_its_password() -> None:
    for url in ("redis+sentinel://u:secret@h:1", "http://u:secret@h:1", "redis://u:secret@h:x"):
        done = fleetfeed("check-config", FLEETFEED_STORE__URL=url)
        assert done.returncode == 2, url
        assert "store.url" in done.stderr
        assert "secret" not in done.stderr + done.stdout
