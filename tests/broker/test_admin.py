"""Operators' commands: on a running server through its control socket, and on data at rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.admin import Offline
from broker.config_layers import load
from broker.control import ControlError
from devices.frames import Profile
from devices.packets import Connect
from feedgen.store.base import StoreError
from tests.broker.support import Served, eventually, follow, item

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def closed(serve: Serve) -> Served:
    """A server on which only devices that an operator added are welcome."""
    return await serve(open=False)


async def refused(served: Served, packet: Connect) -> int:
    peer = await served.peer()
    connack = await peer.greet(packet)
    await peer.expect_closed()
    return connack.code


# ---- Closed registration


async def test_an_unknown_client_is_not_authorised(closed: Served) -> None:
    assert await refused(closed, Connect("kitchen")) == 5
    assert await refused(closed, Connect("kitchen", username="kitchen", password=b"guess")) == 5
    assert closed.count("dropped", "connect_refused_5") == 2


async def test_an_added_device_comes_in_with_its_secret_and_nothing_else(closed: Served) -> None:
    added = await closed.command("device.add", device="kitchen")
    secret = added["secret"].encode()
    assert len(secret) >= 32
    device = await closed.device("kitchen", username="kitchen", password=secret)
    await device.subscribe()
    await device.snapshot()
    assert await refused(closed, Connect("kitchen", username="kitchen", password=b"x")) == 4
    assert await refused(closed, Connect("kitchen")) == 5
    assert await refused(closed, Connect("hall", username="hall", password=secret)) == 5
    await device.peer.ping()


async def test_only_a_device_with_the_right_may_publish(closed: Served) -> None:
    station = await closed.command("device.add", device="station", publish=True)
    kitchen = await closed.command("device.add", device="kitchen")
    device = await closed.device("kitchen", username="kitchen", password=kitchen["secret"].encode())
    await device.subscribe()
    await device.snapshot()
    await device.peer.publish("items/news", b"not from here")
    assert closed.count("dropped", "publish_not_permitted") == 1
    peer = await closed.connect("station", username="station", password=station["secret"].encode())
    await peer.publish("items/news", b"from the station")
    await device.shows(b"from the station")


async def test_a_secret_survives_a_restart_and_is_not_kept_as_it_is(closed: Served) -> None:
    added = await closed.command("device.add", device="kitchen")
    await closed.restart()
    await closed.device("kitchen", username="kitchen", password=added["secret"].encode())
    await closed.at_rest()
    kept = b"".join(path.read_bytes() for path in closed.data.iterdir() if path.is_file())
    assert added["secret"].encode() not in kept


async def test_a_removed_device_is_disconnected_and_unknown(closed: Served) -> None:
    added = await closed.command("device.add", device="kitchen")
    credentials: dict[str, Any] = {"username": "kitchen", "password": added["secret"].encode()}
    device = await closed.device("kitchen", **credentials)
    await device.subscribe()
    await device.snapshot()
    await closed.command("device.remove", device="kitchen")
    await device.peer.expect_closed()
    assert closed.count("closed", "device_removed") == 1
    assert await refused(closed, Connect("kitchen", **credentials)) == 5
    await closed.restart()
    assert (await closed.command("device.list"))["devices"] == []


# ---- Devices


async def test_an_operators_follow_set_takes_effect_at_once(served: Served) -> None:
    await served.publish(item("a", "rain"), channel="weather")
    await served.publish(item("b", "goal"), channel="sports")
    device = await served.subscribed("kitchen")
    changed = await served.command(
        "device.follow", device="kitchen", follow=["weather"], unfollow=["#"]
    )
    assert changed["follow"] == ["weather"]
    await device.shows("rain")


async def test_an_operators_attributes_win_over_the_devices_own(served: Served) -> None:
    await served.command("device.add", device="kitchen", secret=False, attrs={"region": "north"})
    device = await served.subscribed("kitchen")
    await device.tell(Profile(attrs={"region": "south", "floor": 2}))
    await served.publish(
        item("n", "snow", where={"region": "north", "floor": 2}),
        item("s", "sun", where={"region": "south"}),
    )
    await device.shows("snow")
    described = await served.command("device.show", device="kitchen")
    assert described["attributes"] == {"region": "north", "floor": 2}


async def test_what_is_shown_of_a_device_is_what_it_has(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await device.tell(follow("news"))
    await served.publish(item("a", "one"))
    await device.shows("one")
    await served.at_rest()
    described = await served.command("device.show", device="kitchen")
    epoch, seq = device.replica.position
    expected = {
        "device": "kitchen",
        "follow": ["#", "news"],
        "has_secret": False,
        "added_by": "itself",
        "persistent_subscription_qos": 1,
        "connected": True,
        "subscribed": True,
        "position": [epoch, seq],
        "unacknowledged": 0,
        "up_to_date": True,
        "window": [[device.number("one"), "one"]],
    }
    assert described | expected == described
    assert not {"secret", "secret_hash"} & described.keys()


async def test_a_device_without_a_row_has_no_window(served: Served) -> None:
    await served.command("device.add", device="kitchen")
    described = await served.command("device.show", device="kitchen")
    assert described["window"] is None
    assert not described["connected"]
    assert await served.command("windows", devices=["kitchen", "nobody"]) == {
        "kitchen": None,
        "nobody": None,
    }


async def test_windows_are_told_as_they_are_sent(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(b"\xff bytes", item("a", "long " * 100, brief="short"))
    await device.shows("short", b"\xff bytes")
    (window,) = (await served.command("windows", devices=["kitchen"])).values()
    assert [payload for _, payload in window] == ["short", b"\xff bytes"]


async def test_device_ids_come_in_pages(served: Served) -> None:
    for name in ("c", "a", "d", "b"):
        await served.command("device.add", device=name, secret=False)
    first = await served.command("device.list", limit=3)
    assert first == {"devices": ["a", "b", "c"], "more": True}
    rest = await served.command("device.list", after="c")
    assert rest == {"devices": ["d"], "more": False}


async def test_status_counts_what_happens(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"), b"{")
    await device.shows("one")
    await eventually(lambda: served.server.lane.connections, lambda found: found == 1)
    await served.at_rest()
    status = await served.command("status")
    assert (status["host"], status["port"]) == served.address
    assert status["connections"] == 1
    assert status["items"] == 1
    assert status["devices"]["total"] == status["devices"]["subscribed"] == 1
    assert status["store"] == {"up": True, "pending": 0}
    assert status["counters"]["rejected"] == {"bad_json": 1}
    assert status["counters"]["frames"]["sent"] == 2


# ---- Refusals


@pytest.mark.parametrize(
    ("do", "args", "words"),
    [
        ("device.show", {"device": "nobody"}, "no device 'nobody'"),
        ("device.follow", {"device": "nobody", "follow": ["a"]}, "no device"),
        ("device.remove", {"device": "nobody"}, "no device"),
        ("device.add", {}, "'device' is missing"),
        ("device.add", {"device": 7}, "'device' is missing"),
        ("device.add", {"device": "a b"}, "not a device id"),
        ("device.add", {"device": "kitchen"}, "exists already"),
        ("device.add", {"device": "new", "follow": ["a#"]}, "not a topic filter"),
        ("device.add", {"device": "new", "follow": "abc"}, "'follow' must be a list"),
        ("device.add", {"device": "new", "attrs": ["a"]}, "'attrs' must be an object"),
        ("device.add", {"device": "new", "attrs": {"a": 1.5}}, "'attrs' must be an object"),
        ("device.add", {"device": "new", "attrs": {"a": "x" * 65}}, "not an attribute"),
        ("device.follow", {"device": "kitchen", "follow": [1]}, "'follow' must be a list"),
        ("device.follow", {"device": "kitchen", "unfollow": "#"}, "'unfollow' must be a list"),
        ("device.follow", {"device": "kitchen", "follow": ["+a"]}, "not a topic filter"),
        ("device.list", {"limit": "many"}, "'limit' must be"),
        ("windows", {"devices": "kitchen"}, "'devices' must be a list"),
        ("windows", {"devices": [["kitchen"]]}, "'devices' must be a list"),
        ("windows", {"devices": ["x"] * 2001}, "at most 2000"),
        ("explode", {}, "no command 'explode'"),
    ],
)
async def test_a_command_that_is_refused_says_why_and_changes_nothing(
    served: Served, do: str, args: dict[str, Any], words: str
) -> None:
    await served.command("device.add", device="kitchen", secret=False)
    before = await served.command("device.show", device="kitchen")
    with pytest.raises(ControlError, match=words):
        await served.command(do, **args)
    assert await served.command("device.show", device="kitchen") == before
    assert (await served.command("device.list"))["devices"] == ["kitchen"]


# ---- Without a server


def offline(data: Path) -> Offline:
    return Offline(load(None, {}, {"data": str(data), "open": False}))


async def test_devices_are_kept_in_order_while_no_server_runs(serve: Serve) -> None:
    served = await serve(open=False)
    await served.server.stop()
    keeper = offline(served.data)
    added = await asyncio.to_thread(keeper.call, "device.add", device="kitchen")
    await asyncio.to_thread(keeper.call, "device.add", device="hall")
    await asyncio.to_thread(keeper.call, "device.remove", device="hall")
    await asyncio.to_thread(keeper.call, "device.follow", device="kitchen", follow=["news"])
    shown = await asyncio.to_thread(keeper.call, "device.show", device="kitchen")
    assert shown["follow"] == ["#", "news"]
    await served.start()
    assert (await served.command("device.list"))["devices"] == ["kitchen"]
    await served.device("kitchen", username="kitchen", password=added["secret"].encode())


async def test_keeping_devices_in_order_costs_no_positions(serve: Serve) -> None:
    served = await serve()
    device = await served.subscribed("kitchen")
    await served.server.stop()
    await asyncio.to_thread(
        offline(served.data).call, "device.follow", device="kitchen", follow=["a"]
    )
    await served.start()
    again = await served.device("kitchen", device.replica)
    again.hello()
    await again.subscribe()
    await served.publish(item("a", "one"))
    assert (await again.delta()).epoch == device.replica.epoch


async def test_live_commands_need_a_server(serve: Serve) -> None:
    served = await serve()
    await served.server.stop()
    with pytest.raises(ControlError, match="needs a running server"):
        await asyncio.to_thread(offline(served.data).call, "status")
    await served.start()
    with pytest.raises(StoreError):
        await asyncio.to_thread(offline(served.data).call, "device.list")
