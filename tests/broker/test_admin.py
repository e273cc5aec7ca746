"""Operators' commands: on a running server through its control socket, and on data at rest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.admin import handlers
from broker.admin.offline import Offline
from broker.config_layers import load
from broker.control import ControlError
from devices.frames import Event, Feedback, Kind, Profile
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


async def added(served: Served, name: str) -> bytes:
    """Add a device and return its secret."""
    return (await served.command("device.add", device=name))["secret"].encode()


async def let_in(served: Served, secret: bytes) -> bool:
    """Whether the server takes `secret` for that of the device kitchen."""
    peer = await served.peer()
    packet = Connect("kitchen", username="kitchen", password=secret)
    return (await peer.greet(packet)).code == 0


def on_disk(data: Path) -> bytes:
    return b"".join(path.read_bytes() for path in data.iterdir() if path.is_file())


# ---- Closed registration


async def test_an_unknown_client_is_refused_in_the_words_of_a_wrong_secret(closed: Served) -> None:
    await closed.command("device.add", device="hall")
    assert await refused(closed, Connect("kitchen")) == 5
    for name in ("kitchen", "hall"):
        packet = Connect(name, username=name, password=b"guess")
        assert await refused(closed, packet) == 4
    assert closed.count("dropped", "connect_refused_no_credentials") == 1
    assert closed.count("dropped", "connect_refused_bad_credentials") == 2


async def test_an_added_device_comes_in_with_its_secret_and_nothing_else(closed: Served) -> None:
    added = await closed.command("device.add", device="kitchen")
    secret = added["secret"].encode()
    assert len(secret) >= 32
    device = await closed.device("kitchen", username="kitchen", password=secret)
    await device.subscribe()
    await device.snapshot()
    assert await refused(closed, Connect("kitchen", username="kitchen", password=b"x")) == 4
    assert await refused(closed, Connect("kitchen")) == 5
    assert await refused(closed, Connect("hall", username="hall", password=secret)) == 4
    await device.peer.ping()


async def test_a_device_publishes_on_the_channels_that_it_was_given(closed: Served) -> None:
    station = await closed.command("device.add", device="station", publish=["news/#"])
    kitchen = await closed.command("device.add", device="kitchen")
    device = await closed.device("kitchen", username="kitchen", password=kitchen["secret"].encode())
    await device.subscribe()
    await device.snapshot()
    await device.peer.publish("items/news", b"not from here")
    assert closed.count("dropped", "publish_not_permitted") == 1
    peer = await closed.connect("station", username="station", password=station["secret"].encode())
    await peer.publish("items/alerts", b"not its channel")
    assert closed.count("dropped", "publish_not_permitted") == 2
    await peer.publish("items/news", b"from the station")
    await device.shows(b"from the station")


async def test_a_secret_survives_a_restart_and_is_not_kept_as_it_is(closed: Served) -> None:
    added = await closed.command("device.add", device="kitchen")
    await closed.restart()
    await closed.device("kitchen", username="kitchen", password=added["secret"].encode())
    await closed.at_rest()
    kept = b"".join(path.read_bytes() for path in closed.data.iterdir() if path.is_file())
    assert added["secret"].encode() not in kept


# ---- Rotation, revocation, erasure


async def test_a_rotated_secret_leaves_the_old_one_valid_until_it_is_used(closed: Served) -> None:
    old = await added(closed, "kitchen")
    rotated = await closed.command("device.rotate", device="kitchen")
    assert rotated["old_secret_valid"] is True
    new = rotated["secret"].encode()
    assert await let_in(closed, old)
    assert await let_in(closed, new)
    assert not await let_in(closed, old)
    await closed.restart()
    assert not await let_in(closed, old)
    assert await let_in(closed, new)


async def test_the_first_secret_of_a_device_has_no_old_one_beside_it(closed: Served) -> None:
    await closed.command("device.add", device="kitchen", secret=False)
    rotated = await closed.command("device.rotate", device="kitchen")
    assert rotated["old_secret_valid"] is False
    assert await let_in(closed, rotated["secret"].encode())


OWN = "k9fQ2vX7mB4tR8wZ1nL6pD"


@pytest.mark.parametrize(
    ("do", "args", "reason"),
    [
        ("device.rotate", {"device": "kitchen"}, "secret_rotated"),
        ("user.password", {"user": "kitchen"}, "password_changed"),
        (
            "device.import",
            {"rows": [{"device": "kitchen", "secret": OWN, "publish": ["x"]}], "update": True},
            "secret_rotated",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whoever_is_in_without_proof_must_go_when_there_is_a_first_secret(
    served: Served, do: str, args: dict[str, Any], reason: str
) -> None:
    device = await served.subscribed("kitchen", clean=False)
    other = await served.subscribed("hall")
    await served.command(do, **args)
    await device.peer.expect_end()
    assert served.count("closed", reason) == 1
    assert await refused(served, Connect("kitchen", clean_session=False)) == 5
    await other.peer.ping()


@pytest.mark.parametrize(
    ("do", "args"),
    [
        ("device.add", {"device": "desk"}),
        ("user.add", {"user": "desk", "publish": ["news"]}),
        ("device.import", {"rows": [{"device": "desk", "secret": OWN}]}),
    ],
    ids=["device.add", "user.add", "device.import"],
)
async def test_whoever_is_in_under_a_name_that_is_added_with_a_secret_must_go(
    served: Served, do: str, args: dict[str, Any]
) -> None:
    peer = await served.connect("desk")  # has a name, and never asked for a feed
    await served.command(do, **args)
    await peer.expect_closed()
    assert served.count("closed", "secret_rotated") == 1


async def test_a_name_that_is_added_without_a_secret_stays_whose_it_is(served: Served) -> None:
    peer = await served.connect("desk")
    await served.command("device.add", device="desk", secret=False)
    await served.command("device.import", rows=[{"device": "desk", "attrs": {"x": 1}}], update=True)
    await peer.ping()


async def test_a_table_that_takes_a_secret_away_ends_what_it_let_in(closed: Served) -> None:
    secret = await added(closed, "kitchen")
    peer = await closed.connect("kitchen", username="kitchen", password=secret)
    row = {"device": "kitchen", "secret": None}
    await closed.command("device.import", rows=[row], update=True)
    await peer.expect_closed()
    assert closed.count("closed", "secret_rotated") == 1
    assert not await let_in(closed, secret)


async def test_a_rotation_that_cannot_wait_ends_the_old_secret_and_the_connection(
    closed: Served,
) -> None:
    old = await added(closed, "kitchen")
    peer = await closed.connect("kitchen", username="kitchen", password=old)
    await closed.command("device.rotate", device="kitchen")
    await peer.ping()
    rotated = await closed.command("device.rotate", device="kitchen", now=True)
    assert rotated["old_secret_valid"] is False
    await peer.expect_closed()
    assert closed.count("closed", "secret_rotated") == 1
    assert not await let_in(closed, old)
    assert await let_in(closed, rotated["secret"].encode())
    described = await closed.command("device.show", device="kitchen")
    assert described["credentials"] == ["secret"]


async def test_a_revoked_device_is_disconnected_at_once_and_refused_until_restored(
    closed: Served,
) -> None:
    secret = await added(closed, "kitchen")
    device = await closed.device("kitchen", username="kitchen", password=secret)
    await device.subscribe()
    await device.snapshot()
    await closed.command("device.revoke", device="kitchen")
    await device.peer.expect_closed()
    assert closed.count("closed", "revoked") == 1
    credentials = Connect("kitchen", username="kitchen", password=secret)
    assert await refused(closed, credentials) == 5
    await closed.restart()
    assert await refused(closed, credentials) == 5
    assert (await closed.command("device.show", device="kitchen"))["revoked"] is True
    await closed.command("device.restore", device="kitchen")
    assert await let_in(closed, secret)


async def test_a_device_is_revoked_where_everybody_may_come_too(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.command("device.revoke", device="kitchen")
    await device.peer.expect_closed()
    assert await refused(served, Connect("kitchen")) == 5


@pytest.mark.parametrize("command", ["device.erase", "device.remove"])
async def test_an_erased_device_is_disconnected_and_unknown(closed: Served, command: str) -> None:
    secret = await added(closed, "kitchen")
    device = await closed.device("kitchen", username="kitchen", password=secret)
    await device.subscribe()
    await device.snapshot()
    erased = await closed.command(command, device="kitchen")
    assert {"profile", "secret", "feed position", "dismissals"} <= set(erased["removed"])
    await device.peer.expect_closed()
    assert closed.count("closed", "device_removed") == 1
    credentials = Connect("kitchen", username="kitchen", password=secret)
    assert await refused(closed, credentials) in {4, 5}
    await closed.restart()
    assert (await closed.command("device.list"))["devices"] == []


async def test_a_device_that_is_added_in_the_moment_of_its_erasure_is_a_new_one(
    served: Served,
) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.shows("one")
    await device.tell(Feedback((Event(device.number("one"), Kind.DISMISSED),)))
    await device.shows()
    commands = handlers(served.server, b"")
    kitchen = {"device": "kitchen", "secret": False}
    # Each runs until it waits for the store: both in one turn of the loop, and so in one commit.
    await asyncio.gather(commands["device.erase"](kitchen), commands["device.add"](kitchen))
    await device.peer.expect_end()
    await served.restart()
    again = await served.subscribed("kitchen")
    await again.shows("one")


async def test_of_an_erased_device_no_byte_is_left_on_disk(served: Served) -> None:
    """With the server running: neither the database nor its log may still have it."""
    await served.command("device.add", device="zebra-7", secret=False, attrs={"owner": "Quagga"})
    device = await served.subscribed("zebra-7")
    await served.publish(item("a", "one"))
    await device.shows("one")
    await device.tell(Feedback((Event(device.number("one"), Kind.DISMISSED),)))
    await served.at_rest()
    assert b"zebra-7" in on_disk(served.data)
    assert b"Quagga" in on_disk(served.data)
    await served.command("device.erase", device="zebra-7")
    assert b"zebra-7" not in on_disk(served.data)
    assert b"Quagga" not in on_disk(served.data)


async def test_a_device_is_erased_while_no_server_runs(serve: Serve) -> None:
    served = await serve()
    await served.command("device.add", device="zebra-7", secret=False)
    await served.server.stop()
    assert b"zebra-7" in on_disk(served.data)
    await at_rest(served.data, "device.erase", device="zebra-7")
    assert b"zebra-7" not in on_disk(served.data)
    await served.start()


async def test_nobody_is_shown_what_proves_who_a_device_is(closed: Served) -> None:
    await closed.command("device.add", device="kitchen", publish=["news"], may_follow=["a/#"])
    await closed.command("device.rotate", device="kitchen")
    described = await closed.command("device.show", device="kitchen")
    assert described["credentials"] == ["secret", "next secret"]
    assert described["rights"] == {"publish": ["news"], "may_follow": ["a/#"]}
    profile = closed.server.registry.get("kitchen")
    assert profile is not None
    for kept in (profile.secret_hash, profile.next_hash):
        assert repr(kept) not in repr(described)
    assert not {"secret", "secret_hash", "next_hash", "password"} & described.keys()


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
        "credentials": [],
        "rights": {},
        "revoked": False,
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
    host, port = served.address
    assert status["listening"] == [{"host": host, "port": port}]
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
        ("device.erase", {"device": "nobody"}, "no device"),
        ("device.rotate", {"device": "nobody"}, "no device"),
        ("device.revoke", {"device": "nobody"}, "no device"),
        ("device.restore", {}, "'device' is missing"),
        ("device.rotate", {"device": "kitchen", "now": "false"}, "'now' must be true or false"),
        ("device.add", {}, "'device' is missing"),
        ("device.add", {"device": 7}, "'device' is missing"),
        ("device.add", {"device": "a b"}, "not a device id"),
        ("device.add", {"device": "kitchen"}, "exists already"),
        ("device.add", {"device": "new", "follow": ["a#"]}, "not a topic filter"),
        ("device.add", {"device": "new", "follow": "abc"}, "'follow' must be a list"),
        ("device.add", {"device": "new", "publish": True}, "'publish' must be a list"),
        ("device.add", {"device": "new", "publish": ["a#"]}, "not a topic filter"),
        ("device.add", {"device": "new", "may_follow": ["+a"]}, "not a topic filter"),
        ("device.add", {"device": "new", "secret": 0}, "'secret' must be true or false"),
        ("device.add", {"device": "new", "attrs": ["a"]}, "'attrs' must be an object"),
        ("device.add", {"device": "new", "attrs": {"a": 1.5}}, "'attrs' must be an object"),
        ("device.add", {"device": "new", "attrs": {"a": "x" * 65}}, "not an attribute"),
        ("device.follow", {"device": "kitchen", "follow": [1]}, "'follow' must be a list"),
        ("device.follow", {"device": "kitchen", "unfollow": "#"}, "'unfollow' must be a list"),
        ("device.follow", {"device": "kitchen", "follow": ["+a"]}, "not a topic filter"),
        ("device.list", {"limit": "many"}, "'limit' must be"),
        ("device.list", {"limit": True}, "'limit' must be"),
        ("device.known", {"devices": ["x"] * 10_001}, "at most 10000"),
        ("device.import", {"rows": "kitchen"}, "'rows' must be a list"),
        ("device.import", {"rows": ["kitchen"]}, "'rows' must be a list"),
        ("device.import", {"rows": [{"device": f"d{n}"} for n in range(1_001)]}, "at most 1000"),
        ("device.import", {"rows": [{"device": "kitchen"}]}, "'kitchen': it exists already"),
        ("device.import", {"rows": [{"device": "a b"}]}, "not a device id"),
        ("device.import", {"rows": [{"device": "new", "secret": "short"}]}, "'new': a secret is"),
        ("device.import", {"rows": [{"device": "new", "secret": 7}]}, "'secret' is missing"),
        ("device.import", {"rows": [{"device": "new", "attrs": 7}]}, "'attrs' must be"),
        (
            "device.import",
            {"update": True, "rows": [{"device": "kitchen", "attrs": {"a": 1}, "follow": ["a#"]}]},
            "not a topic filter",
        ),
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


# ---- Many devices at once


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"device": "not an id"}, "device 'not an id': not a device id"),
        ({"follow": ["#"]}, "'device' is missing"),
    ],
)
async def test_rows_before_a_wrong_one_hold_and_none_after_it(
    served: Served, wrong: dict[str, Any], words: str
) -> None:
    rows = [{"device": "a"}, {"device": "b"}, wrong, {"device": "c"}]
    with pytest.raises(ControlError, match=words):
        await served.command("device.import", rows=rows)
    assert (await served.command("device.list"))["devices"] == ["a", "b"]
    await served.restart()
    assert (await served.command("device.list"))["devices"] == ["a", "b"]


async def test_a_row_changes_what_it_names_and_nothing_else(served: Served) -> None:
    await served.command(
        "device.add",
        device="kitchen",
        follow=["a"],
        publish=["b"],
        may_follow=["c"],
        attrs={"region": "north", "floor": 1},
    )
    await served.command("user.rights", user="kitchen", publish=["b"], read=["x/#"])
    row = {"device": "kitchen", "attrs": {"region": None, "room": 7}}
    done = await served.command("device.import", rows=[row], update=True)
    assert done == {"added": 0, "changed": 1}
    described = await served.command("device.show", device="kitchen")
    assert described["follow"] == ["a"]
    assert described["attributes"] == {"floor": 1, "room": 7}
    assert described["rights"] == {"publish": ["b"], "read": ["x/#"], "may_follow": ["c"]}
    assert described["credentials"] == ["secret"]


async def test_a_feed_follows_what_a_table_says(served: Served) -> None:
    await served.publish(item("a", "rain"), channel="weather")
    await served.publish(item("b", "goal"), channel="sports")
    device = await served.subscribed("kitchen")
    row = {"device": "kitchen", "follow": ["weather"]}
    await served.command("device.import", rows=[row], update=True)
    await device.shows("rain")


async def test_a_feed_follows_what_a_table_says_also_where_rights_change_with_it(
    served: Served,
) -> None:
    await served.publish(item("a", "rain"), channel="weather")
    await served.publish(item("b", "goal"), channel="sports")
    device = await served.subscribed("kitchen")
    row = {"device": "kitchen", "follow": ["weather"], "publish": ["x"]}
    await served.command("device.import", rows=[row], update=True)
    await device.peer.expect_end()
    assert served.count("closed", "rights_changed") == 1
    again = await served.subscribed("kitchen")
    await again.shows("rain")


# ---- Without a server


def call_offline(data: Path, do: str, **args: Any) -> Any:
    with Offline(load(None, {}, {"data": str(data), "open": False})) as offline:
        return offline.call(do, **args)


async def at_rest(data: Path, do: str, **args: Any) -> Any:
    """A command on a data directory, which has an event loop of its own."""
    return await asyncio.to_thread(call_offline, data, do, **args)


async def test_devices_are_kept_in_order_while_no_server_runs(serve: Serve) -> None:
    served = await serve(open=False)
    await served.server.stop()
    secret = (await at_rest(served.data, "device.add", device="kitchen"))["secret"]
    await at_rest(served.data, "device.add", device="hall")
    await at_rest(served.data, "device.remove", device="hall")
    await at_rest(served.data, "device.follow", device="kitchen", follow=["news"])
    shown = await at_rest(served.data, "device.show", device="kitchen")
    assert shown["follow"] == ["#", "news"]
    rotated = await at_rest(served.data, "device.rotate", device="kitchen")
    await served.start()
    assert (await served.command("device.list"))["devices"] == ["kitchen"]
    assert await let_in(served, secret.encode())
    assert await let_in(served, rotated["secret"].encode())
    assert not await let_in(served, secret.encode())


async def test_a_device_is_revoked_while_no_server_runs(serve: Serve) -> None:
    served = await serve(open=False)
    secret = await added(served, "kitchen")
    await served.server.stop()
    await at_rest(served.data, "device.revoke", device="kitchen")
    await served.start()
    assert not await let_in(served, secret)


async def test_keeping_devices_in_order_costs_no_positions(serve: Serve) -> None:
    served = await serve()
    device = await served.subscribed("kitchen")
    await served.server.stop()
    await at_rest(served.data, "device.follow", device="kitchen", follow=["a"])
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
        await at_rest(served.data, "status")
    await served.start()
    with pytest.raises(StoreError):
        await at_rest(served.data, "device.list")
