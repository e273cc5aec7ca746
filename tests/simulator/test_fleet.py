"""A fleet against a tiny feed: what devices say, what they hold, what is counted."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from devices.frames import Delta, FeedItem, Kind, Move, Put, Remove, Snapshot
from simulator.connection import KEEP_ALIVE
from simulator.fleet import DeviceSpec, Fleet, FleetError

if TYPE_CHECKING:
    from tests.simulator.conftest import Until
    from tests.simulator.tiny_feed import TinyFeed


def fleet_for(feed: TinyFeed, *specs: DeviceSpec) -> Fleet:
    return Fleet(specs, host="127.0.0.1", port=feed.port)


def payloads(fleet: Fleet, device: str) -> list[str | bytes]:
    return [payload for _, payload in fleet.windows()[device]]


async def test_a_device_follows_what_its_spec_says_and_no_longer_everything(feed: TinyFeed) -> None:
    spec = DeviceSpec("la-1", follow=("quakes/ci", "alerts/#"), k=5, budget=128, max_qos=0)
    async with fleet_for(feed, spec) as fleet:
        await fleet.start()
        held = feed.held("la-1")
        assert held.follow == ["quakes/ci", "alerts/#"]
        options = held.hellos[0].options
        assert options is not None
        assert (options.k, options.budget, options.max_qos) == (5, 128, 0)


async def test_a_device_without_follow_set_keeps_the_servers_default(feed: TinyFeed) -> None:
    async with fleet_for(feed, DeviceSpec("any")) as fleet:
        await fleet.start()
        assert feed.held("any").follow == ["#"]


async def test_published_items_reach_exactly_the_devices_that_follow_them(
    feed: TinyFeed, until: Until
) -> None:
    north, south = DeviceSpec("north", follow=("n/#",)), DeviceSpec("south", follow=("s/+",))
    async with fleet_for(feed, north, south) as fleet:
        await fleet.start()
        feed.publish("n/a", "first")
        feed.publish("s/b", "second")
        feed.publish("n/c", "third")
        await until(lambda: fleet.tally.deltas == 3)
        assert payloads(fleet, "north") == ["third", "first"]
        assert payloads(fleet, "south") == ["second"]
        assert fleet.windows() == await feed.window(["north", "south"])


async def test_every_frame_is_acknowledged(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        for number in range(20):
            feed.publish("news", f"item {number}")
        await until(lambda: feed.held("one").pubacks == 21)  # the snapshot too
        assert fleet.tally.acknowledged == 21


async def test_operations_and_bytes_are_counted(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        feed.publish("news", "a")
        feed.publish("news", "b")
        feed.change("one", Move(0, 1))
        feed.change("one", Remove(0), Remove(0))
        await until(lambda: fleet.tally.deltas == 4)
        tally = fleet.tally
        assert (tally.snapshots, tally.puts, tally.moves, tally.removes) == (1, 2, 1, 2)
        assert tally.frames == 5
        assert 4 * 10 < tally.delta_bytes < tally.bytes < 5 * 40


async def test_after_a_gap_a_device_says_hello_once_and_holds_the_window_again(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.snapshots == 1)
        feed.mute = True
        feed.publish("news", "lost")
        feed.mute = False
        feed.publish("news", "found")
        feed.publish("news", "more")
        await until(lambda: fleet.tally.snapshots == 2)
        assert payloads(fleet, "one") == ["more", "found", "lost"]
        assert len(feed.held("one").hellos) == 2
        assert fleet.tally.ignored["gap"] >= 1


async def test_a_lost_connection_comes_back_and_resumes_where_it_was(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one", follow=("news",))) as fleet:
        await fleet.start()
        feed.publish("news", "before")
        await until(lambda: fleet.tally.deltas == 1)
        feed.kick("one")
        await until(lambda: feed.held("one").session is None)
        feed.publish("news", "meanwhile")
        await until(lambda: payloads(fleet, "one") == ["meanwhile", "before"])
        assert feed.held("one").connects == 2
        assert (feed.held("one").hellos[1].epoch, feed.held("one").hellos[1].seq) == (1, 2)
        assert fleet.tally.losses == 1


async def test_a_fleet_that_is_refused_says_so_at_once(feed: TinyFeed) -> None:
    feed.refuse = 5
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        with pytest.raises(FleetError, match="one: not authorised"):
            await fleet.start()


async def test_a_fleet_without_a_server_says_how_many_are_missing(feed: TinyFeed) -> None:
    await feed.stop()
    fleet = Fleet([DeviceSpec("one"), DeviceSpec("two")], host="127.0.0.1", port=1)
    async with fleet:
        with pytest.raises(FleetError, match="2 of 2 devices are not subscribed"):
            await fleet.start(within=0.05)
    await feed.start()


async def test_frames_for_others_and_frames_above_the_budget_are_counted_as_faults(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one", budget=96)) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.snapshots == 1)
        item = FeedItem(9, 0, 1, "x" * 100)
        feed.send("one", Delta(1, 2, (Put(0, item),)), topic="f/two")
        feed.send("one", Delta(1, 2, (Put(0, item),)))
        await until(lambda: fleet.tally.deltas == 1)
        assert (fleet.tally.foreign, fleet.tally.oversize) == (1, 1)


async def test_an_item_that_is_published_is_timed_at_every_device(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one"), DeviceSpec("two")) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.snapshots == 2)
        fleet.published("fresh")
        feed.publish("news", "fresh")
        await until(lambda: fleet.tally.deltas == 2)
        assert fleet.tally.latency.count == 2
        assert 0 < (fleet.tally.latency.quantile(0.99) or 0) < 5.0


async def test_an_old_item_that_moves_up_is_not_timed(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, DeviceSpec("one", k=2)) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.snapshots == 1)
        fleet.published("waiting")
        feed.change("one", Put(0, FeedItem(1, 0, 3, "a")), Put(1, FeedItem(2, 0, 3, "b")))
        feed.change("one", Remove(1), Put(1, FeedItem(3, 0, 1, "waiting")))
        await until(lambda: fleet.tally.deltas == 2)
        assert fleet.tally.latency.count == 0


async def test_people_send_feedback_on_items_that_the_device_shows(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        feed.publish("news", "a")
        await until(lambda: fleet.tally.deltas == 1)
        fleet.devices["one"].react(random.Random(3))
        await until(lambda: feed.held("one").feedback)
        event = feed.held("one").feedback[0].events[0]
        assert (event.n, event.kind, event.value) == (1, Kind.SHOWN, 0)


async def test_a_silent_device_pings_and_gives_up_on_a_silent_server(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        device = fleet.devices["one"]
        now = asyncio.get_running_loop().time()
        device.tick(now + KEEP_ALIVE / 4)
        device.tick(now + KEEP_ALIVE / 2 + 1)
        await until(lambda: feed.held("one").pings == 1)
        device.tick(now + 2 * KEEP_ALIVE)
        await until(lambda: fleet.tally.losses == 1)


async def test_backoff_doubles_up_to_half_a_minute(feed: TinyFeed) -> None:
    device = fleet_for(feed, DeviceSpec("one")).devices["one"]
    delays = [device.backoff(random.Random(1)) for _ in range(9)]
    assert delays == sorted(delays)
    assert 0.25 <= delays[0] <= 0.5
    assert 15 <= delays[-1] <= 30


async def test_a_whole_window_in_place_of_a_delta_is_sampled(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        for number in range(16):
            feed.publish("news", f"a text of some length {number:2}")
        await until(lambda: fleet.tally.deltas == 16)
        whole, delta = fleet.tally.whole_window, fleet.tally.delta_bytes / 16
        assert whole is not None
        assert whole > 5 * delta


async def test_a_hundred_devices_hold_what_the_feed_says(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, *(DeviceSpec(f"d{n}") for n in range(100))) as fleet:
        await fleet.start()
        item = FeedItem(1, 0, 1, "same")
        for device in fleet.devices:
            held = feed.held(device)
            held.seq, held.window = held.seq + 1, (item,)
            feed.send(device, Snapshot(1, held.seq, 8, (item,)))
        await until(lambda: all(window for window in fleet.windows().values()))
        assert fleet.subscribed == 100
        assert fleet.windows() == await feed.window([*fleet.devices])
