"""A fleet at Mosquitto, with a real gateway beside it, and at our own lane."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from devices.frames import Bye, decode_up
from devices.packets import Connect
from simulator.checker import Checker
from simulator.facts import Content, Key, ServerClock
from simulator.fleet import DeviceSpec, Fleet
from simulator.fleet.outside import OwedAcks, with_will
from tests.broker.gateway.stage import Beside
from tests.broker.support import Served, eventually
from tests.outside_brokers import mosquitto

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAMES = ("d0", "d1", "d2", "d3")


@pytest_asyncio.fixture
async def beside(tmp_path: Path) -> AsyncIterator[Beside]:
    """Mosquitto with a gateway that is too patient to find out by itself who is away."""
    with mosquitto() as broker:
        gateway = Beside(broker, tmp_path / "data", {})
        await gateway.start()
        try:
            yield gateway
        finally:
            await gateway.drop_peers()
            await gateway.stop()


def fleet_at(beside: Beside) -> Fleet:
    specs = [
        DeviceSpec(name, follow=("news",), credentials=beside.broker.login(name)) for name in NAMES
    ]
    return Fleet(specs, host=beside.broker.host, port=beside.broker.port, outside=True)


def shown(fleet: Fleet) -> list[list[str | bytes]]:
    return [[payload for _, payload in window] for window in fleet.windows().values()]


@pytest.mark.mosquitto
async def test_beside_an_outside_broker_devices_hold_what_the_gateway_says(beside: Beside) -> None:
    async with fleet_at(beside) as fleet:
        await fleet.start()
        await beside.publish({"payload": "a"}, {"payload": "b"})
        await eventually(lambda: shown(fleet), ([["b", "a"]] * 4).__eq__)
        assert [beside.window(name) for name in NAMES] == [["b", "a"]] * 4
        # Acknowledged by the devices themselves, so nothing is sent again.
        for name in NAMES:
            await beside.unacknowledged(name, 0)
        assert fleet.tally.ignored["stale"] == 0


@pytest.mark.mosquitto
async def test_a_device_that_leaves_in_order_says_bye_and_one_that_is_cut_has_its_will_say_it(
    beside: Beside,
) -> None:
    async with fleet_at(beside) as fleet:
        await fleet.start()
        await eventually(lambda: all(map(beside.has, NAMES)))
        await fleet.drop(["d0"], clean=True)
        await fleet.drop(["d1"], clean=False)
        await eventually(
            lambda: [beside.has(name) for name in NAMES], [False, False, True, True].__eq__
        )
        await fleet.bring(["d0", "d1"])
        await eventually(lambda: all(map(beside.has, NAMES)))


async def test_at_our_lane_a_fleet_tells_its_attributes_and_holds_what_the_server_says(
    tmp_path: Path,
) -> None:
    served = await Served(tmp_path / "data", {}).start()
    try:
        specs = [
            DeviceSpec("east", attrs={"region": "east"}, clean=True),
            DeviceSpec("west", follow=("#",), attrs={"region": "west"}, clock=True),
        ]
        host, port = served.address
        async with Fleet(specs, host=host, port=port) as fleet:
            await fleet.start()
            await served.publish({"payload": "for the east", "where": {"region": "east"}})
            await served.publish({"payload": "for all"})
            await eventually(
                lambda: shown(fleet), [["for all", "for the east"], ["for all"]].__eq__
            )
            east, west = (fleet.devices[name].window[0] for name in ("east", "west"))
            assert east.expires == 0 < west.expires
    finally:
        await served.drop_peers()
        await served.stop()


async def test_all_topics_may_stand_behind_a_prefix(tmp_path: Path) -> None:
    served = await Served(tmp_path / "data", {"feed.prefix": "acme/"}).start()
    judge = Checker(ServerClock())
    try:
        host, port = served.address
        specs = [DeviceSpec("one", follow=("#",))]
        async with Fleet(specs, host=host, port=port, prefix="acme/", observer=judge) as fleet:
            await fleet.start()
            judge.sent(Content(Key("news", "a"), "a"), time.time())
            peer = await served.connect("", clean=True)
            await peer.publish("acme/items/news", b'{"payload": "a"}')
            await eventually(lambda: shown(fleet), [["a"]].__eq__)
            assert judge.take() == []
    finally:
        await served.drop_peers()
        await served.stop()


async def test_where_frames_go_out_at_qos_2_a_device_completes_them(tmp_path: Path) -> None:
    settings = {"feed.qos_by_priority": (2, 2, 2, 2)}
    served = await Served(tmp_path / "data", settings).start()
    try:
        host, port = served.address
        async with Fleet([DeviceSpec("one", max_qos=2)], host=host, port=port) as fleet:
            await fleet.start()
            # More than may be in flight: each has to be completed before the next.
            for number in range(12):
                await served.publish({"payload": f"item {number}"})
            await eventually(lambda: shown(fleet)[0], lambda window: window[0] == "item 11")
            assert fleet.tally.acknowledged == fleet.tally.frames
            assert fleet.tally.losses == 0
    finally:
        await served.drop_peers()
        await served.stop()


def test_the_will_says_bye_with_the_number_of_its_connection() -> None:
    connect = with_will(Connect("one", False, 60), "u/one", 77)
    assert connect.will is not None
    assert (connect.will.topic, decode_up(connect.will.payload)) == ("u/one", Bye(77))
    assert (connect.will.qos, connect.will.retain) == (1, False)


class Owing:
    def __init__(self, name: str) -> None:
        self.client_id = name
        self.acks = 0

    def acknowledge(self) -> None:
        self.acks += 1


def test_whoever_owes_acks_says_one_for_all_of_them() -> None:
    owed, one, other = OwedAcks(), Owing("one"), Owing("other")
    for _ in range(3):
        owed.owe(one)
    owed.settle()
    owed.settle()
    assert (one.acks, other.acks) == (1, 0)
