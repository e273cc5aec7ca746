"""Devices behind links: what their modems count, holes of coverage, other networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.fleet import DeviceSpec, Fleet
from simulator.links.profiles import PROFILES, custom

if TYPE_CHECKING:
    from tests.simulator.conftest import Until
    from tests.simulator.tiny_feed import TinyFeed

NONE = PROFILES["none"]
SLOW = custom(NONE, name="slow", latency=0.1)


def fleet_for(feed: TinyFeed, *specs: DeviceSpec) -> Fleet:
    return Fleet(specs, host="127.0.0.1", port=feed.port)


def shown(fleet: Fleet, device: str) -> list[str | bytes]:
    return [item.payload for item in fleet.devices[device].window]


async def test_a_link_counts_what_a_modem_would_and_a_bare_socket_only_mqtt(
    feed: TinyFeed, until: Until
) -> None:
    specs = DeviceSpec("bare", kind="bare"), DeviceSpec("modem", kind="modem", link=NONE)
    async with fleet_for(feed, *specs) as fleet:
        await fleet.start()
        feed.publish("news", "x")
        await until(lambda: fleet.tally.deltas == 2)
        used = fleet.usage()
        bare, modem = used["bare"], used["modem"]
        assert (bare.packets_down, bare.packets_up, bare.joules) == (0, 0, 0.0)
        assert bare.down == fleet.tallies["bare"].octets_down
        assert modem.packets_down > 3
        # At least 40 bytes of TCP and IP for every segment.
        assert modem.down >= fleet.tallies["modem"].octets_down + 40 * modem.packets_down
        sample = fleet.sample()
        assert sample.down >= bare.down + modem.down


async def test_latency_of_the_link_is_in_every_time_that_is_measured(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one", link=SLOW)) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.snapshots == 1)
        fleet.published("x")
        feed.publish("news", "x")
        await until(lambda: fleet.tally.latency.count == 1)
        assert fleet.tally.latency.largest >= 0.1
        # Two round trips: TCP, then CONNECT and CONNACK; a third for SUBSCRIBE.
        assert fleet.tally.wake_up.largest >= 0.6


async def test_a_device_in_a_hole_is_not_expected_and_has_its_window_after_it(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("in", link=NONE), DeviceSpec("out", link=NONE)) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.snapshots == 2)
        fleet.hole(["in"], 0.5)
        assert fleet.expected_awake() == {"out"}
        feed.publish("news", "x")
        await until(lambda: shown(fleet, "out") == ["x"])
        assert shown(fleet, "in") == []
        await until(lambda: shown(fleet, "in") == ["x"])
        assert fleet.expected_awake() == {"in", "out"}
        assert fleet.tally.losses == 0


async def test_a_device_moves_into_another_network(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, DeviceSpec("one", link=NONE)) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.snapshots == 1)
        fleet.relink(["one"], SLOW)
        fleet.published("x")
        feed.publish("news", "x")
        await until(lambda: fleet.tally.latency.count == 1)
        assert fleet.tally.latency.largest >= 0.1


async def test_a_reset_on_the_link_ends_the_connection_and_the_device_comes_back(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one", link=NONE)) as fleet:
        await fleet.start()
        fleet.reset(["one"])
        await until(lambda: feed.held("one").connects == 2)
        assert fleet.tally.losses == 1


async def test_devices_on_every_profile_get_their_windows(feed: TinyFeed, until: Until) -> None:
    specs = [
        DeviceSpec(name, kind=name, link=custom(profile, reset_per_hour=0.0, hole_per_hour=0.0))
        for name, profile in PROFILES.items()
        if profile.latency < 0.5
    ]
    async with fleet_for(feed, *specs) as fleet:
        await fleet.start(within=20.0)
        feed.publish("news", "x")
        await until(lambda: all(shown(fleet, spec.device) == ["x"] for spec in specs), 20.0)
        joules = {name: used.joules for name, used in fleet.usage().items()}
        assert joules["2g-gprs"] > joules["wifi"] > joules["none"] == 0.0
