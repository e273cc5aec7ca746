"""What happens to devices: sleep, empty batteries, slow readers, lost power, items that crash them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from devices.frames import Event, Kind, Snapshot, encode_frame
from devices.packets import Publish, encode
from devices.replica import Received
from simulator.audience import Audience
from simulator.checker import Checker
from simulator.facts import Content, Key, ServerClock
from simulator.fleet import Device, DeviceSpec, Fleet, FleetError, Sleep, State
from simulator.fleet import fleet as fleet_module
from simulator.fleet.dialling import Dialler
from simulator.fleet.schedule import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from simulator.facts import Finding
    from tests.simulator.conftest import Until
    from tests.simulator.tiny_feed import TinyFeed

HOUR = 3600.0


def fleet_for(feed: TinyFeed, *specs: DeviceSpec, **more: object) -> Fleet:
    return Fleet(specs, host="127.0.0.1", port=feed.port, **more)  # type: ignore[arg-type]


def shown(fleet: Fleet, device: str) -> list[str | bytes]:
    return [item.payload for item in fleet.devices[device].window]


def now() -> float:
    return asyncio.get_running_loop().time()


# ---- Sleep


async def test_a_device_sleeps_by_its_schedule_and_comes_back_for_what_it_missed(
    feed: TinyFeed, until: Until
) -> None:
    sleeper = DeviceSpec("sleeper", sleep=Sleep(period=HOUR, awake=10.0))
    async with fleet_for(feed, sleeper, DeviceSpec("waker"), speed=HOUR / 2) as fleet:
        await fleet.start()
        device = fleet.devices["sleeper"]
        assert fleet.expected_awake() == {"sleeper", "waker"}
        await until(lambda: fleet.elapsed > 10.0)
        device.tick(now() + QUIET)
        assert device.state is State.ASLEEP
        assert fleet.expected_awake() == {"waker"}
        await until(lambda: feed.held("sleeper").session is None)
        feed.publish("news", "meanwhile")
        await until(lambda: shown(fleet, "sleeper") == ["meanwhile"])
        assert feed.held("sleeper").connects == 2
        assert (fleet.tally.sleeps, fleet.tally.losses) == (1, 0)


async def test_a_fleet_does_not_wait_for_those_that_sleep_at_first(feed: TinyFeed) -> None:
    late = Sleep(HOUR, 60.0, offset=HOUR)
    async with fleet_for(feed, DeviceSpec("one"), DeviceSpec("late", sleep=late)) as fleet:
        await fleet.start(within=5.0)
        sample = fleet.sample()
        assert (sample.connected, sample.asleep) == (1, 1)
        assert feed.held("late").connects == 0


async def test_whoever_sleeps_by_schedule_is_not_woken_when_all_are_brought(feed: TinyFeed) -> None:
    late = Sleep(HOUR, 60.0, offset=HOUR)
    async with fleet_for(feed, DeviceSpec("one"), DeviceSpec("late", sleep=late)) as fleet:
        await fleet.start()
        await fleet.bring(["one", "late"])
        assert fleet.expected_awake() == {"one"}


async def test_all_sleepers_can_be_roused_for_good(feed: TinyFeed) -> None:
    sleep = Sleep(HOUR, 1.0, offset=HOUR)
    specs = [DeviceSpec(f"d{n}", sleep=sleep) for n in range(3)]
    async with fleet_for(feed, *specs, speed=100.0) as fleet:
        await fleet.start(within=5.0)
        await fleet.rouse()
        await fleet.ready(within=5.0)
        for device in fleet.devices.values():
            device.tick(now() + 10 * QUIET)
        assert fleet.expected_awake() == {"d0", "d1", "d2"}


# ---- Batteries


async def test_a_device_goes_dark_for_good_when_its_messages_are_used_up(
    feed: TinyFeed, until: Until
) -> None:
    # A hello and a snapshot at the start; then one frame after another.
    async with fleet_for(feed, DeviceSpec("old", messages=5), DeviceSpec("new")) as fleet:
        await fleet.start()
        for number in range(9):
            feed.publish("news", f"item {number}")
        await until(lambda: fleet.tally.exhausted and len(shown(fleet, "new")) == 8)
        await until(lambda: feed.held("old").session is None)
        assert shown(fleet, "old") == ["item 2", "item 1", "item 0"]
        assert fleet.expected_awake() == {"new"}
        await fleet.bring(["old"])
        assert fleet.devices["old"].state is State.DARK
        assert fleet.sample().dark == 1
        assert fleet.tally.losses == 0


# ---- Slow readers


async def test_a_device_that_does_not_read_takes_no_frames_and_delays_nobody(
    feed: TinyFeed, until: Until
) -> None:
    stuck = DeviceSpec("stuck", kind="stuck", reads=False)
    async with fleet_for(feed, stuck, DeviceSpec("well", kind="well")) as fleet:
        await fleet.start()
        for number in range(20):
            feed.publish("news", f"item {number}")
        await until(lambda: fleet.tallies["well"].deltas == 20)
        # The snapshot may have come in one read with SUBACK.
        assert fleet.tallies["stuck"].messages_down <= 1
        assert fleet.expected_awake() == {"well"}


async def test_a_device_that_will_not_read_is_not_expected_even_before_it_stops() -> None:
    fleet = Fleet([DeviceSpec("stuck", reads=False)], host="127.0.0.1", port=1)
    device = fleet.devices["stuck"]
    device.bring()
    assert device.state is State.UP
    assert not device.expected
    await fleet.stop()


async def test_a_device_that_does_not_read_still_pings_and_does_not_blame_the_server(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("stuck", reads=False, keep_alive=10)) as fleet:
        await fleet.start()
        device, begun = fleet.devices["stuck"], now()
        for second in range(0, 40, 4):
            device.tick(begun + second)
        await until(lambda: feed.held("stuck").pings >= 3)
        assert device.open


async def test_a_slow_device_takes_its_time_before_each_read(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, DeviceSpec("slow", stall=0.3)) as fleet:
        await fleet.start()
        fleet.published("fresh")
        feed.publish("news", "fresh")
        await until(lambda: "fresh" in shown(fleet, "slow"))
        assert (fleet.tally.latency.largest or fleet.tally.wake_up.largest) >= 0.3
        feed.publish("news", "next")
        await until(lambda: feed.held("slow").pubacks == 3)
        assert shown(fleet, "slow") == ["next", "fresh"]


async def test_a_stalled_device_reads_on_when_its_time_is_over(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.snapshots == 1)
        fleet.stall(["one"], 60.0)
        assert fleet.expected_awake() == set()
        feed.publish("news", "waiting")
        device = fleet.devices["one"]
        device.tick(now() + 30.0)
        assert device.stalled
        device.tick(now() + 61.0)
        await until(lambda: shown(fleet, "one") == ["waiting"])
        assert fleet.expected_awake() == {"one"}


# ---- Power, and who is there at all


@pytest.mark.parametrize(("lose_flash", "position"), [(False, (1, 2)), (True, (0, 0))])
async def test_a_dropped_device_stays_away_until_it_is_brought_and_says_what_it_remembers(
    feed: TinyFeed, until: Until, lose_flash: bool, position: tuple[int, int]
) -> None:
    async with fleet_for(feed, DeviceSpec("one"), DeviceSpec("two")) as fleet:
        await fleet.start()
        feed.publish("news", "a")
        await until(lambda: fleet.tally.deltas == 2)
        await fleet.drop(["one"], clean=False, lose_flash=lose_flash)
        assert (fleet.subscribed, fleet.expected_awake()) == (1, {"two"})
        assert bool(shown(fleet, "one")) is not lose_flash
        assert fleet.sample().off == 1
        await fleet.bring(["one"])
        await fleet.ready(within=5.0)
        hello = feed.held("one").hellos[-1]
        assert (hello.epoch, hello.seq) == position
        await until(lambda: shown(fleet, "one") == ["a"])
        assert fleet.tally.losses == 0


async def test_a_device_that_is_dropped_while_it_connects_says_nothing_more(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, *(DeviceSpec(f"d{n}") for n in range(3))) as fleet:
        starting = asyncio.ensure_future(fleet.start())
        for _ in range(2):  # the fleet, then its dialler: nothing can be connected yet
            await asyncio.sleep(0)
        assert all(device.dialling for device in fleet.devices.values())
        await fleet.drop([*fleet.devices], clean=True)
        await starting
        await until(lambda: not any(device.dialling for device in fleet.devices.values()))
        assert not any(feed.held(name).hellos for name in fleet.devices)
        assert (fleet.subscribed, fleet.tally.losses) == (0, 0)


async def test_devices_that_are_dropped_in_order_say_disconnect(feed: TinyFeed) -> None:
    async with fleet_for(feed, *(DeviceSpec(f"d{n}") for n in range(30))) as fleet:
        await fleet.start()
        await fleet.drop([*fleet.devices], clean=True)
        assert (fleet.subscribed, fleet.tally.losses) == (0, 0)


async def test_only_some_devices_may_be_started_and_the_rest_be_brought(feed: TinyFeed) -> None:
    async with fleet_for(feed, *(DeviceSpec(f"d{n}") for n in range(6))) as fleet:
        await fleet.start(names=["d0", "d1"])
        assert fleet.expected_awake() == {"d0", "d1"}
        await fleet.bring([*fleet.devices], over=0.05)
        await fleet.ready(within=5.0)
        assert fleet.subscribed == 6


async def test_a_ramp_spreads_the_first_connections(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, *(DeviceSpec(f"d{n}") for n in range(10))) as fleet:
        begun = time.monotonic()
        starting = asyncio.ensure_future(fleet.start(over=1.0))
        await until(lambda: fleet.subscribed >= 2)
        assert fleet.subscribed < 10
        await starting
        assert time.monotonic() - begun >= 0.9


async def test_a_reset_connection_comes_back(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        fleet.reset(["one"])
        await until(lambda: feed.held("one").connects == 2)
        assert fleet.tally.losses == 1


async def test_a_device_that_is_not_there_is_named(feed: TinyFeed) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        with pytest.raises(FleetError, match="there is no device 'two'"):
            await fleet.bring(["two"])
        with pytest.raises(FleetError, match="one has no link"):
            fleet.hole(["one"], 1.0)


async def test_a_fleet_that_stops_cuts_what_a_server_does_not_read(
    feed: TinyFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_CLOSING", 0.05)
    fleet = fleet_for(feed, DeviceSpec("one"))
    await fleet.start()
    session, device = feed.held("one").session, fleet.devices["one"]
    assert session is not None
    session.transport.pause_reading()
    device.send(bytes(20_000_000))
    await fleet.stop()
    await asyncio.sleep(0)
    assert not device.open


async def test_a_fleet_that_stops_while_it_connects_leaves_nothing_behind(feed: TinyFeed) -> None:
    fleet = fleet_for(feed, *(DeviceSpec(f"d{n}") for n in range(300)))
    starting = asyncio.ensure_future(fleet.start(over=0.2))
    await asyncio.sleep(0.05)
    await fleet.stop()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, others


async def test_connections_are_made_a_few_at_a_time_and_each_once(until: Until) -> None:
    begun: list[str] = []
    go_on = asyncio.Event()

    async def connect(device: Device) -> None:
        begun.append(device.client_id)
        await go_on.wait()
        raise ConnectionRefusedError

    dialler = Dialler(2, connect)
    fleet = Fleet([DeviceSpec(f"d{n}") for n in range(5)], host="127.0.0.1", port=1)
    for device in [*fleet.devices.values()] * 2:
        dialler.dial(device)
    await asyncio.sleep(0)
    assert begun == ["d0", "d1"]
    go_on.set()
    await until(lambda: not any(device.dialling for device in fleet.devices.values()))
    assert begun == ["d0", "d1", "d2", "d3", "d4"]
    await dialler.stop()


# ---- Poison


async def test_a_poisonous_item_crashes_a_device_before_it_confirms_and_spares_others(
    feed: TinyFeed, until: Until
) -> None:
    weak = DeviceSpec("weak", kind="weak")
    async with fleet_for(feed, weak, DeviceSpec("strong", kind="strong")) as fleet:
        await fleet.start()
        await until(lambda: feed.held("weak").pubacks == 1)
        fleet.poisonous("bad", names=["weak"])
        feed.publish("news", "bad")
        await until(lambda: fleet.tallies["weak"].crashes >= 2)  # it comes again as a snapshot
        assert shown(fleet, "weak") == []
        assert feed.held("weak").pubacks == 1
        await until(lambda: shown(fleet, "strong") == ["bad"])
        assert fleet.tallies["strong"].crashes == 0


# ---- Hellos


async def test_a_gap_before_the_answer_to_a_hello_waits_and_is_then_asked_about(
    feed: TinyFeed, until: Until
) -> None:
    feed.mute = True  # the hello of the connection is not answered
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        feed.publish("news", "lost")
        feed.mute = False
        feed.publish("news", "found")
        await until(lambda: fleet.tally.ignored["gap"] == 1)
        device = fleet.devices["one"]
        device.tick(now() + 29.0)
        assert fleet.tally.hellos == 0
        device.tick(now() + 46.0)
        await until(lambda: shown(fleet, "one") == ["found", "lost"])
        assert (fleet.tally.hellos, len(feed.held("one").hellos)) == (1, 2)


# ---- Quality of service 2


async def test_a_frame_at_qos_2_is_confirmed_in_two_steps(feed: TinyFeed, until: Until) -> None:
    async with fleet_for(feed, DeviceSpec("one", max_qos=2)) as fleet:
        await fleet.start()
        await until(lambda: feed.held("one").pubacks == 1)
        session = feed.held("one").session
        assert session is not None
        heard: list[bytes] = []
        session.take = lambda packet: heard.append(encode(packet))  # type: ignore[assignment,arg-type]
        frame = encode_frame(Snapshot(1, 5, 8, ()))
        session.transport.write(encode(Publish("f/one", frame, 2, 7)))
        await until(lambda: heard == [b"\x50\x02\x00\x07"])
        session.decoder = type(session.decoder)(role="server", max_packet=1 << 20)
        session.transport.write(b"\x62\x02\x00\x07")
        await until(lambda: heard[1:] == [b"\x70\x02\x00\x07"])
        assert fleet.tally.snapshots == 2


# ---- Witnesses


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, str, Received | None, bool]] = []
        self.dismissals: list[tuple[str, int]] = []
        self.profiles: dict[str, bool] = {}
        self.findings: list[Finding] = []

    def frame(
        self, device: str, topic: str, data: bytes, received: Received | None, *, late: bool = False
    ) -> None:
        del data
        self.frames.append((device, topic, received, late))

    def dismissed(self, device: str, n: int) -> None:
        self.dismissals.append((device, n))

    def profile(
        self, device: str, follow: Sequence[str], attributes: Mapping[str, object]
    ) -> Callable[[], None]:
        del follow, attributes
        self.profiles[device] = False
        return lambda: self.profiles.update({device: True})

    def report(self, finding: Finding) -> None:
        self.findings.append(finding)


async def test_an_observer_is_told_of_frames_profiles_and_dismissals(
    feed: TinyFeed, until: Until
) -> None:
    seen = Recorder()
    spec = DeviceSpec("one", follow=("news",), budget=96)
    async with fleet_for(feed, spec, observer=seen) as fleet:
        await fleet.start()
        assert seen.profiles == {"one": True}
        await until(lambda: seen.frames == [("one", "f/one", Received.APPLIED, False)])
        feed.send("one", Snapshot(1, 9, 8, ()), topic="f/two")
        fleet.devices["one"].say_feedback([Event(3, Kind.SHOWN, 0), Event(3, Kind.DISMISSED)], 0.0)
        await until(lambda: len(seen.frames) == 2 and feed.held("one").feedback)
        assert seen.frames[1] == ("one", "f/two", None, False)
        assert seen.dismissals == [("one", 3)]
        feed.publish("news", "x" * 100, brief="y" * 90)
        await until(lambda: seen.findings)
        assert "one got" in seen.findings[0].sentence


async def test_the_judge_of_the_guarantees_is_an_observer(feed: TinyFeed, until: Until) -> None:
    judge = Checker(ServerClock())
    async with fleet_for(feed, DeviceSpec("one"), observer=judge) as fleet:
        await fleet.start()
        judge.sent(Content(Key("news", "a"), "known"), time.time())
        feed.publish("news", "known")
        feed.publish("news", "unknown")
        await until(lambda: fleet.tally.deltas == 2)
        assert [finding.sentence for finding in judge.take()] == [
            "one shows item 2, which nobody published"
        ]


# ---- Feedback


async def test_feedback_waits_for_a_connection_and_then_says_how_old_it_is(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one"), speed=2.0) as fleet:
        await fleet.start()
        device = fleet.devices["one"]
        await fleet.drop(["one"], clean=True)
        device.say_feedback([Event(1, Kind.OPENED)], fleet.elapsed - 20.0)
        device.say_feedback([Event(n, Kind.SHOWN, 0) for n in range(1, 71)], fleet.elapsed)
        assert fleet.tally.feedback_lost == 7
        await fleet.bring(["one"])
        await until(lambda: sum(len(one.events) for one in feed.held("one").feedback) == 64)
        first = feed.held("one").feedback[0].events[0]
        # Twenty seconds of people are ten of the server.
        assert (first.kind, first.age) == (Kind.OPENED, 10)
        assert fleet.tally.feedback == 64


async def test_a_fault_on_the_clock_is_raised_when_the_fleet_stops(feed: TinyFeed) -> None:
    class Absent(Audience):
        def __init__(self) -> None:
            pass

        def tick(self, *_: object) -> None:
            raise ValueError("nobody is there")

    fleet = fleet_for(feed, DeviceSpec("one"), audience=Absent())
    await fleet.start()
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="nobody is there"):
        await fleet.stop()


# ---- Counting


async def test_counts_are_kept_by_class_and_added_up(feed: TinyFeed, until: Until) -> None:
    specs = [DeviceSpec("a1", kind="a"), DeviceSpec("a2", kind="a"), DeviceSpec("b1", kind="b")]
    async with fleet_for(feed, *specs, speed=60.0) as fleet:
        await fleet.start()
        feed.publish("news", "x")
        await until(lambda: fleet.tally.deltas == 3)
        assert (fleet.tallies["a"].deltas, fleet.tallies["b"].deltas) == (2, 1)
        since = fleet.elapsed
        used = fleet.usage()
        until_ = fleet.elapsed
        assert (used["a"].devices, used["b"].devices) == (2, 1)
        assert used["a"].down > used["b"].down > 0
        assert used["a"].device_seconds == pytest.approx(2 * used["b"].device_seconds)
        assert 2 * since <= used["a"].device_seconds <= 2 * until_


async def test_a_sample_counts_since_the_last_one_and_knows_how_fresh_windows_are(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one", kind="a"), DeviceSpec("two", kind="b")) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.frames == 2)
        first = fleet.sample()
        assert (first.connected, first.frames, first.newest) == (2, 2, {})
        fleet.published("x")
        feed.publish("news", "x")
        await until(lambda: fleet.tally.frames == 4)
        second = fleet.sample()
        assert second.frames == 2
        assert 0 < second.down < first.down + second.down
        assert second.newest.keys() == {"a", "b"}
        assert 0 < second.newest["a"] < 5.0
        assert fleet.tallies["a"].freshness.count == 1


async def test_waking_up_is_timed_only_if_something_was_missed(
    feed: TinyFeed, until: Until
) -> None:
    async with fleet_for(feed, DeviceSpec("one")) as fleet:
        await fleet.start()
        await until(lambda: fleet.tally.wake_up.count == 1)  # the first snapshot
        fleet.reset(["one"])
        await until(lambda: feed.held("one").connects == 2)
        await fleet.ready(within=5.0)
        fleet.published("news")
        feed.publish("news", "news")
        await until(lambda: fleet.tally.latency.count == 1)
        assert fleet.tally.wake_up.count == 1
        feed.mute = True
        fleet.published("missed")
        feed.publish("news", "missed")
        feed.mute = False
        fleet.reset(["one"])
        await until(lambda: "missed" in shown(fleet, "one"))
        assert (fleet.tally.wake_up.count, fleet.tally.latency.count) == (2, 1)
