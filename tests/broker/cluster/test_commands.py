"""What the operator says to one node holds at all of them, within a second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from broker.access.credentials import UNAVAILABLE
from broker.control import ControlError
from devices.packets import Connack, Connect
from tests.broker.support import eventually, follow, item

if TYPE_CHECKING:
    from tests.broker.cluster.conftest import FaultyFleet, Fleet, NodeServed

CLOSED: dict[str, Any] = {"open": False}


async def code(node: NodeServed, name: str, secret: str | None) -> int:
    """What CONNACK says to a device with this secret."""
    peer = await node.peer()
    password = None if secret is None else secret.encode()
    connack = await peer.greet(Connect(name, True, 60, None if secret is None else name, password))
    assert isinstance(connack, Connack)
    await peer.drop()
    if connack.code == UNAVAILABLE:
        print(node.server.counters.as_dict())  # noqa: T201 - why, should a test fail by it
    return connack.code


async def test_a_device_that_was_added_at_one_node_comes_in_at_another(fleet: Fleet) -> None:
    here, there = await fleet.pair(**CLOSED)
    assert await code(there, "kitchen", "wrong") == 4
    secret = (await here.command("device.add", device="kitchen"))["secret"]
    assert await code(there, "kitchen", secret) == 0
    assert await code(there, "kitchen", "wrong") == 4
    assert await code(here, "kitchen", secret) == 0


async def test_a_revoked_device_is_disconnected_at_once_wherever_it_is(fleet: Fleet) -> None:
    here, there = await fleet.pair(**CLOSED)
    secret = (await here.command("device.add", device="kitchen"))["secret"]
    device = await there.device("kitchen", username="kitchen", password=secret.encode())
    await device.subscribe()
    await device.frame()
    await here.command("device.revoke", device="kitchen")
    await device.peer.expect_end()
    assert there.count("closed", "revoked") == 1
    assert await code(there, "kitchen", secret) == 5
    await there.command("device.restore", device="kitchen")
    assert await code(here, "kitchen", secret) == 0


async def test_a_secret_that_was_rotated_elsewhere_ends_the_old_one_at_its_first_use(
    fleet: Fleet,
) -> None:
    here, there = await fleet.pair(**CLOSED)
    old = (await here.command("device.add", device="kitchen"))["secret"]
    device = await there.device("kitchen", username="kitchen", password=old.encode())
    new = (await here.command("device.rotate", device="kitchen"))["secret"]
    await device.peer.ping()  # it stays as long as the new one was not used
    assert await code(there, "kitchen", old) == 0
    assert await code(here, "kitchen", new) == 0
    await fleet.free("kitchen")
    assert await code(there, "kitchen", old) == 4
    assert await code(there, "kitchen", new) == 0


async def test_a_secret_that_ends_now_ends_the_connection_elsewhere(fleet: Fleet) -> None:
    here, there = await fleet.pair(**CLOSED)
    old = (await here.command("device.add", device="kitchen"))["secret"]
    device = await there.device("kitchen", username="kitchen", password=old.encode())
    await here.command("device.rotate", device="kitchen", now=True)
    await device.peer.expect_end()
    assert there.count("closed", "secret_rotated") == 1


async def test_a_session_that_the_operator_ended_while_nobody_held_it_is_not_present(
    fleet: Fleet,
) -> None:
    here, there = await fleet.pair()
    device = await here.subscribed("kitchen", clean=False)
    await device.peer.drop()
    await fleet.free("kitchen")
    await there.command("device.revoke", device="kitchen")
    await there.command("device.restore", device="kitchen")
    again = await here.device("kitchen", device.replica, clean=False)
    assert not again.session_present


async def test_the_operators_filters_and_the_devices_own_attributes_are_merged(
    fleet: Fleet,
) -> None:
    from devices.frames import Profile  # noqa: PLC0415

    here, there = await fleet.pair()
    await here.publish(item("a", "goal"), channel="sports")
    device = await there.subscribed("kitchen")
    assert device.shown == ["goal"]
    told = device.tell(Profile(attrs={"region": "ca"}))
    commanded = here.command("device.follow", device="kitchen", follow=["news"], unfollow=["#"])
    await asyncio.gather(told, commanded)
    await device.shows()
    await here.publish({**item("b", "rain"), "where": {"region": "ca"}})
    await device.shows("rain")
    shown = await here.command("device.show", device="kitchen")
    assert shown["follow"] == ["news"]
    assert shown["attributes"] == {"region": "ca"}
    assert shown["held_by"] == "node2"


async def test_what_a_device_follows_is_seen_at_the_next_node(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    device = await here.subscribed("kitchen")
    await device.tell(follow("sports/#", unfollow=("#",)))
    shown = await there.command("device.show", device="kitchen")
    assert shown["follow"] == ["sports/#"]
    assert shown["held_by"] == "node1"


async def test_rights_of_a_user_change_at_every_node_where_he_is(fleet: Fleet) -> None:
    here, there = await fleet.pair(**CLOSED)
    added = await here.command("user.add", user="desk", publish=["news"])
    password = added["secret"].encode()
    first = await here.connect("desk-1", username="desk", password=password)
    second = await there.connect("desk-2", username="desk", password=password)
    await second.publish("items/news", b'{"id": "a", "payload": "one"}')
    await eventually(lambda: len(here.server.service.catalog))
    await there.command("user.rights", user="desk", publish=["sports"])
    await first.expect_end()
    await second.expect_end()
    assert (await here.command("user.list"))["users"][0]["rights"] == {"publish": ["sports"]}


async def test_a_device_that_is_erased_is_gone_from_every_node(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    device = await there.subscribed("kitchen")
    await here.command("device.erase", device="kitchen")
    await device.peer.expect_end()
    assert there.count("closed", "device_removed") == 1
    assert (await there.command("device.list"))["devices"] == []
    await eventually(lambda: not there.holds("kitchen"))
    with pytest.raises(ControlError, match="no device 'kitchen'"):
        await there.command("device.show", device="kitchen")
    again = await there.subscribed("kitchen")
    assert again.shown == []


async def test_one_device_added_at_two_nodes_at_once_is_added_by_one(fleet: Fleet) -> None:
    here, there = await fleet.pair(**CLOSED)
    answers = await asyncio.gather(
        *(node.command("device.add", device="kitchen") for node in (here, there)),
        return_exceptions=True,
    )
    refused = [each for each in answers if isinstance(each, ControlError)]
    (added,) = [each for each in answers if isinstance(each, dict)]
    assert len(refused) == 1
    assert "exists already" in str(refused[0])
    assert await code(here, "kitchen", added["secret"]) == 0
    assert await code(there, "kitchen", added["secret"]) == 0


async def test_lists_have_all_of_the_fleet_in_order_and_in_pages(fleet: Fleet) -> None:
    here, there = await fleet.pair(**CLOSED)
    for name in ("c", "a", "b"):
        await here.command("device.add", device=name)
    await there.command("user.add", user="desk", publish=["#"])
    page = await there.command("device.list", limit=2)
    assert page == {"devices": ["a", "b"], "more": True}
    assert await here.command("device.list", after="b") == {"devices": ["c", "desk"], "more": False}
    assert [user["user"] for user in (await here.command("user.list"))["users"]] == ["desk"]


async def test_an_import_changes_devices_of_other_nodes(fleet: Fleet) -> None:
    here, there = await fleet.pair()
    device = await there.subscribed("kitchen")
    rows = [{"device": "kitchen", "follow": ["sports/#"]}, {"device": "new", "follow": ["news"]}]
    result = await here.command("device.import", rows=rows, update=True)
    assert result == {"added": 1, "changed": 1}
    await there.publish(item("a", "news"))
    await there.publish(item("b", "goal"), channel="sports")
    await device.shows("goal")


async def test_a_command_says_so_when_the_store_is_away(
    faulty: FaultyFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.cluster.commands._PATIENCE", 0.05)
    here = await faulty.node()
    here.cut_off()
    with pytest.raises(ControlError, match="the store does not answer"):
        await here.command("device.add", device="kitchen")


async def test_the_status_shows_the_node_among_the_others(fleet: Fleet) -> None:
    here, _ = await fleet.pair()
    await here.subscribed("kitchen")
    status = await here.command("status")
    assert status["cluster"]["node"] == "node1"
    assert status["cluster"]["members"] == ["node1", "node2"]
    assert status["cluster"]["held"] == 1
    assert status["store"]["up"] is True
