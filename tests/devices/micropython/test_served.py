"""The MicroPython client against our server, beside Mosquitto, and the example program."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devices.frames import payload_capacity
from tests.broker.gateway.stage import GatewayProcess
from tests.broker.support import ServerProcess, eventually, item
from tests.devices.micropython.support import CLIENT, Client, command, environment
from tests.outside_brokers import mosquitto

Start = Callable[..., ServerProcess]

both = pytest.mark.parametrize("robust", [False, True], ids=["simple", "robust"])


async def shows(device: Client, *payloads: str) -> None:
    await asyncio.to_thread(device.shows, *payloads)


@both
async def test_the_window_follows_what_is_published(process: Start, robust: bool) -> None:
    server = process()
    with Client(server.address[1], robust=robust) as device:
        await server.publish(item("a", "one"), item("b", "two"))
        await shows(device, "two", "one")
        await server.publish(item("a", "one again"))
        await server.publish({"id": "b", "retract": True})
        await shows(device, "one again")
        assert device.errors == []


async def test_of_more_than_k_items_it_holds_the_best(process: Start) -> None:
    server = process()
    await server.publish(*(item(f"i{number}", f"item {number}") for number in range(12)))
    with Client(server.address[1], feed={"k": 5}) as device:
        await shows(device, *(f"item {number}" for number in (11, 10, 9, 8, 7)))


async def test_the_longest_payload_that_its_budget_admits_arrives(process: Start) -> None:
    server = process()
    longest = "x" * payload_capacity(256, "kitchen")
    with Client(server.address[1]) as device:
        await server.publish(item("a", longest))
        await shows(device, longest)
        await server.publish(item("b", f"{longest}x"), item("c", "short"))
        await shows(device, "short", longest)
        assert device.errors == []


async def test_a_dismissed_item_leaves_the_window_for_good(process: Start) -> None:
    server = process()
    with Client(server.address[1]) as device:
        await server.publish(item("a", "one"), item("b", "two"))
        await shows(device, "two", "one")
        device.do("feedback", device.number("two"), 2)
        await shows(device, "one")
        await server.publish(item("b", "two once more"), item("c", "three"))
        await shows(device, "three", "one")


async def test_it_follows_what_its_profile_asks_for(process: Start) -> None:
    server = process()
    with Client(server.address[1]) as device:
        await server.publish(item("a", "one"), channel="news")
        await shows(device, "one")
        device.do("profile", {"unfollow": ["#"], "follow": ["alerts/+/ca"]})
        await shows(device)
        await server.publish(item("b", "two"), channel="news")
        await server.publish(item("c", "three"), channel="alerts/fire/ca")
        await shows(device, "three")


@both
async def test_it_comes_back_to_a_server_that_was_killed(process: Start, robust: bool) -> None:
    server = process()
    with Client(server.address[1], robust=robust) as device:
        await server.publish(item("a", "one"))
        await shows(device, "one")
        server.kill()
        server.start()
        await server.publish(item("b", "two"))
        await shows(device, "two", "one")
        assert device.errors != []


async def test_after_a_power_loss_it_is_brought_from_where_it_was(
    process: Start, tmp_path: Path
) -> None:
    server = process()
    feed = {"path": str(tmp_path / "feed")}
    with Client(server.address[1], feed=feed) as device:
        await server.publish(item("a", "one"), item("b", "two"))
        await shows(device, "two", "one")
        device.kill()
    await server.publish(item("c", "three"))
    with Client(server.address[1], feed=feed) as device:
        await shows(device, "two", "one")
        await shows(device, "three", "two", "one")


async def test_killed_in_the_middle_of_frames_it_converges(process: Start, tmp_path: Path) -> None:
    server = process()
    feed = {"path": str(tmp_path / "feed")}
    names = [f"item {number}" for number in range(18)]
    for start in range(0, 18, 3):
        with Client(server.address[1], feed=feed) as device:
            held = await asyncio.to_thread(device.hear, "window")
            assert [payload for _, payload in held] == sorted(
                (payload for _, payload in held), key=names.index, reverse=True
            )
            several = [item(name, name) for name in names[start : start + 3]]
            publishing = asyncio.create_task(server.publish(*several))
            await asyncio.to_thread(device.hear, "window")
            device.kill()
            await publishing
    with Client(server.address[1], feed=feed) as device:
        await shows(device, *reversed(names[-8:]))
        assert device.errors == []


async def test_with_little_heap_it_holds_a_full_window_and_sends_feedback(process: Start) -> None:
    server = process()
    texts = [f"{number:02}".ljust(payload_capacity(256, "kitchen"), "x") for number in range(20)]
    with Client(server.address[1], heap=56) as device:
        for number, text in enumerate(texts):
            await server.publish(item(f"i{number}", text))
        await shows(device, *reversed(texts[-8:]))
        for number, _ in device.window:
            device.do("feedback", number, 1)
        await eventually(lambda: server.count("up", "events_counted"), lambda count: count == 8)
        assert device.errors == []


@pytest.mark.mosquitto
async def test_beside_mosquitto_it_acknowledges_and_says_bye(tmp_path: Path) -> None:
    with mosquitto() as broker:
        gateway = GatewayProcess(broker, tmp_path / "data").start()
        user, password = broker.login("d1")
        feed: dict[str, Any] = {"outside": True, "path": str(tmp_path / "feed")}
        who = {"device": "d1", "user": user, "password": password, "feed": feed}
        with Client(broker.port, **who) as device:
            await gateway.publish(item("a", "one"))
            await shows(device, "one")
            device.kill()  # its will says bye
            await gateway.publish(item("b", "two"))
        with Client(broker.port, **who) as device:
            await shows(device, "one")
            await shows(device, "two", "one")
            await gateway.publish(item("c", "three"))
            await shows(device, "three", "two", "one")
            device.do("bye")
            assert device.wait() == 0
            assert device.errors == []
        await gateway.drop_peers()
        gateway.close()


async def test_the_example_prints_every_window(process: Start, tmp_path: Path) -> None:
    server = process()
    await server.publish(item("a", "one"), item("b", "two"))
    arguments = "127.0.0.1", str(server.address[1]), "kitchen", str(tmp_path / "feed")
    example = await asyncio.create_subprocess_exec(
        *command(CLIENT / "main.py", *arguments), stdout=subprocess.PIPE, env=environment()
    )
    assert example.stdout is not None
    try:
        line = json.loads(await example.stdout.readline())
        assert [payload for _, payload in line] == ["two", "one"]
    finally:
        example.kill()
        await example.communicate()
