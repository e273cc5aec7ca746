"""A gateway beside real brokers: what devices see, whatever fails in between."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from broker.overload.delays import Delays
from broker.overload.levels import Level
from devices.frames import Bye, Delta, Feedback, HelloOptions, Kind, Snapshot, encode_up
from devices.packets import Publish
from devices.replica import Replica
from devices.up_messages import Event
from tests.broker.gateway.stage import AtBroker
from tests.broker.support import eventually, follow, item

if TYPE_CHECKING:
    from tests.broker.gateway.stage import Beside, GatewayProcess
    from tests.outside_brokers import OutsideBroker

Start = Callable[..., Awaitable["Beside"]]


async def test_a_device_gets_a_snapshot_for_its_hello_and_then_what_changes(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    await gateway.publish(item("a", "first"))
    await gateway.counted("items", "new")
    device = await gateway.arrive("d1")
    assert isinstance(await device.frame(), Snapshot)
    assert device.shown == ["first"]
    await gateway.publish(item("b", "second"))
    assert isinstance(await device.frame(), Delta)
    assert device.shown == ["second", "first"]
    await gateway.publish({"id": "a", "retract": True})
    await device.shows("second")


async def test_frames_are_unacknowledged_until_the_device_itself_says_so(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker, feed__max_inflight=2)
    device = await gateway.arrive("d2")
    await device.frame(ack=False)
    for number in range(5):
        await gateway.publish(item(f"i{number}", f"text {number}"))
    await gateway.counted("items", "new", 5)
    await device.frame(ack=False)
    await gateway.unacknowledged("d2", 2)  # the broker has acknowledged both, which says nothing
    device.say(device.replica.ack())
    await device.shows("text 4", "text 3", "text 2", "text 1", "text 0")
    await gateway.unacknowledged("d2", 0)


async def test_what_a_device_follows_and_does_reaches_the_feed(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    device = await gateway.arrive("d3")
    await device.tell(follow("alerts/#", unfollow=["#"]))
    await gateway.counted("up", "profile")
    await gateway.publish(item("n", "news"))
    await gateway.publish(item("x", "storm"), item("y", "flood"), channel="alerts/weather")
    await device.shows("flood", "storm")
    await device.tell(Feedback((Event(device.number("storm"), Kind.DISMISSED),)))
    await device.shows("flood")


async def test_a_device_that_has_not_said_what_it_can_take_is_sent_nothing_until_it_does(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    long = "l" * 150  # fits the budget that holds where none was ever said, and not this device's
    await gateway.publish(item("a", long), item("b", "short"))
    device = await gateway.arrive("d40", greet=False)
    await device.tell(follow("news"))
    await gateway.counted("up", "profile")
    await eventually(lambda: gateway.window("d40"), lambda shown: shown == ["short", long])
    assert gateway.gateway.presence.connections == 0
    await device.say_hello(HelloOptions(budget=128))
    await device.shows("short")
    assert gateway.count("frames", "sent") == 1


async def test_a_device_that_vanishes_is_away_by_its_will_and_resumes_by_its_hello(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    await gateway.publish(item("a", "first"))
    await gateway.counted("items", "new")
    device = await gateway.arrive("d4")
    await device.shows("first")
    await gateway.unacknowledged("d4", 0)
    await device.peer.drop()
    await gateway.counted("up", "bye")
    assert gateway.gateway.presence.connections == 0
    await gateway.publish(item("b", "meanwhile"))
    await gateway.counted("items", "new", 2)
    back = await gateway.arrive("d4", device.replica)
    assert isinstance(await back.frame(), Delta)
    assert back.shown == ["meanwhile", "first"]


async def test_a_bye_of_an_earlier_connection_is_late_and_ignored(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    device = await gateway.arrive("d5")
    await device.frame()
    await device.tell(Bye(device.c - 1))
    await gateway.counted("dropped", "late_bye")
    await gateway.publish(item("a", "still here"))
    await device.shows("still here")


async def test_a_hello_or_ack_or_profile_that_comes_again_changes_nothing(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    await gateway.publish(item("a", "first"))
    await gateway.counted("items", "new")
    device = await gateway.arrive("d6")
    await device.shows("first")
    hello = device.replica.hello(device.c)
    for message in (hello, device.replica.ack(), encode_up(follow("more/#"))) * 2:
        await device.tell(message)
    await gateway.counted("up", "profile", 2)
    await gateway.publish(item("b", "second"))
    await device.shows("second", "first")
    await gateway.unacknowledged("d6", 0)


async def test_retained_messages_of_the_broker_are_no_items(
    any_broker: OutsideBroker, beside: Start
) -> None:
    publisher = await (await beside(any_broker)).client("publisher")
    publisher.send(Publish("items/news", b"old news", 0, retain=True))
    await publisher.ping()
    late = await beside(any_broker)
    await late.counted("dropped", "retained")
    assert late.count("items", "received") == 0
    publisher.send(Publish("items/news", b"", 0, retain=True))  # nothing stays for other tests


async def test_a_device_that_does_not_acknowledge_is_answered_anew_and_then_sleeps_until_it_speaks(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker, gateway__ack_limit=0.2)
    await gateway.publish(item("a", "first"))
    await gateway.counted("items", "new")
    device = await gateway.arrive("d7")
    positions = {(await device.frame(ack=False)).seq for _ in range(4)}
    assert len(positions) == 4  # each a new frame, never a number twice
    await gateway.counted("closed", "asleep")
    assert gateway.count("frames", "answered_again") == 3
    await gateway.publish(item("b", "second"))
    await gateway.counted("items", "new", 2)
    device.say(device.replica.ack())
    await device.shows("second", "first")


async def test_lost_acks_cost_no_more_than_another_hello(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker, gateway__ack_limit=0.3)
    device = await gateway.arrive("d8")
    await device.frame()
    await gateway.unacknowledged("d8", 0)
    await gateway.publish(item("a", "first"))
    await device.frame(ack=False)  # lost
    await gateway.counted("frames", "answered_again")
    await gateway.publish(item("b", "second"))
    await device.shows("second", "first")


async def test_a_window_of_another_length_and_budget_is_answered_by_a_snapshot(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    await gateway.publish(*(item(f"i{n}", f"text {n}") for n in range(12)))
    await gateway.counted("items", "new", 12)
    device = await gateway.arrive("d9", options=HelloOptions(k=2))
    await device.shows("text 11", "text 10")
    await device.say_hello(HelloOptions(k=10, budget=1000))
    await device.shows(*(f"text {n}" for n in range(11, 1, -1)))


async def test_after_a_clean_stop_devices_go_on_without_noticing(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    device = await gateway.arrive("d10")
    await device.frame()
    await gateway.unacknowledged("d10", 0)
    await gateway.stop()
    await gateway.publish(item("a", "while it was away"))
    await gateway.start()
    epoch = device.replica.epoch
    await device.shows("while it was away")
    assert device.replica.epoch == epoch


async def test_a_killed_gateway_gets_what_was_published_meanwhile_and_begins_a_new_epoch(
    broker: OutsideBroker, process: Callable[..., GatewayProcess]
) -> None:
    gateway = process(broker)
    await gateway.publish(item("a", "before"))
    device = await gateway.arrive("d1")
    await device.shows("before")
    epoch = device.replica.epoch
    gateway.kill()
    await gateway.publish(item("b", "meanwhile"))
    gateway.start()
    await device.shows("meanwhile", "before")
    assert device.replica.epoch == epoch + 1


async def test_a_hello_that_was_said_while_the_gateway_was_away_is_answered_when_it_is_back(
    broker: OutsideBroker, process: Callable[..., GatewayProcess]
) -> None:
    gateway = process(broker)
    await gateway.publish(item("a", "first"))
    await eventually(lambda: gateway.count("items", "new"))
    gateway.stop()
    device = await gateway.arrive("d1")
    gateway.start()
    await device.shows("first")


async def test_the_gateway_outlives_its_broker(broker: OutsideBroker, beside: Start) -> None:
    gateway = await beside(broker)
    await gateway.publish(item("a", "first"))
    device = await gateway.arrive("d1")
    await device.shows("first")
    broker.kill()
    await eventually(lambda: not gateway.gateway.frames.up)
    broker.start()
    await eventually(lambda: gateway.gateway.frames.up and gateway.gateway.ingest.up)
    back = await gateway.arrive("d1", device.replica)
    await gateway.publish(item("b", "second"))
    await back.shows("second", "first")


async def test_a_revoked_device_is_heard_no_more(any_broker: OutsideBroker, beside: Start) -> None:
    gateway = await beside(any_broker)
    device = await gateway.arrive("d11")
    await device.frame()
    profile = gateway.gateway.registry.get("d11")
    assert profile is not None
    profile.revoked = True
    await gateway.gateway.service.ended(profile, "revoked")
    await device.say_hello()
    await gateway.counted("dropped", "revoked")
    await gateway.publish(item("a", "not for it"))
    await gateway.counted("items", "new")
    assert gateway.gateway.presence.connections == 0


async def test_the_counts_are_retained_messages(any_broker: OutsideBroker, beside: Start) -> None:
    gateway = await beside(any_broker, gateway__sys_interval=1, gateway__instance="west")
    await gateway.publish(item("a", "first"))
    await gateway.counted("items", "new")
    operator = await gateway.client("operator")
    await operator.subscribe(("feed/sys/west/#", 0))
    found: dict[str, bytes] = {}
    while found.get("items/received") != b"1":
        publish = await operator.expect(Publish)
        found[publish.topic.removeprefix("feed/sys/west/")] = publish.payload
    assert found["up"] == b"1"
    assert not any(topic.startswith("load/bytes") for topic in found)  # the broker's own to tell


async def test_items_are_timed_until_their_devices_say_that_they_have_them(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    device = await gateway.arrive("d14")
    await device.frame()
    await gateway.publish(item("a", "first"))
    await device.shows("first")
    times = gateway.gateway.service.sending.times
    await eventually(lambda: times.to_ack.read().count, lambda count: count == 1)
    assert times.to_frame.read().count == 1
    assert 0 < times.to_frame.read().sum <= times.to_ack.read().sum + 0.002  # of milliseconds


@pytest.mark.parametrize("payload", [b"", b"\x91\x09", b"no msgpack", b"\x93\x01\x01"])
async def test_what_is_no_up_message_is_counted_and_harms_nobody(
    any_broker: OutsideBroker, beside: Start, payload: bytes
) -> None:
    gateway = await beside(any_broker)
    device = await gateway.arrive("d12")
    await device.frame()
    await device.tell(payload)
    await eventually(
        lambda: sum(
            count
            for reason, count in gateway.gateway.counters.dropped.items()
            if reason.startswith("up_")
        )
    )
    await gateway.publish(item("a", "fine"))
    await device.shows("fine")


async def test_a_device_whose_replica_is_from_a_backup_is_brought_up_to_date(
    any_broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(any_broker)
    await gateway.publish(item("a", "first"))
    await gateway.counted("items", "new")
    device = await gateway.arrive("d13")
    await device.shows("first")
    old = Replica.from_state(device.replica.state())
    await gateway.publish(item("b", "second"))
    await device.shows("second", "first")
    await device.leave()
    back = await gateway.arrive("d13", old)
    await back.shows("second", "first")


async def test_items_that_were_left_to_the_broker_are_taken_though_the_store_has_nothing_to_tell(
    broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(broker)
    gateway.gateway.ingest.pause_items()
    await AtBroker.publish(gateway, item("a", "first"))
    await gateway.counted("items", "new")


async def test_publishers_over_their_budget_together_are_left_to_the_broker_for_a_while(
    broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(broker, budgets__publisher_items=4)
    service = gateway.gateway.service
    await AtBroker.publish(gateway, *(item(f"a{n}", f"text {n}") for n in range(3)))
    await gateway.counted("items", "new", 3)
    assert gateway.gateway.ingest.paused
    await AtBroker.publish(gateway, item("b", "later"))
    assert service.status()["overload"]["publishers_over_budget"] == ["all publishers"]
    assert gateway.count("items", "received") == 3
    service.overload.senders._senders[("", "all publishers")].items.at -= 3_600.0
    await gateway.counted("items", "new", 4)


async def test_at_level_5_items_are_left_to_the_broker_for_a_while_unless_all_are_urgent(
    broker: OutsideBroker, beside: Start
) -> None:
    gateway = await beside(broker, overload__calm=600.0, overload__samples=1)
    service = gateway.gateway.service
    for _ in range(Level.CHOKING):
        verdict = service.overload.observe(Delays(oldest_item=1e9), time.monotonic())
        service.load_changed(verdict)
    await gateway.publish(*(item(f"u{n}", f"fire {n}", priority=3) for n in range(20)))
    assert not gateway.gateway.ingest.paused
    await AtBroker.publish(gateway, *(item(f"a{n}", f"text {n}", priority=2) for n in range(60)))
    await eventually(lambda: service.overload.senders.stops["overload"])
    await gateway.counted("items", "new", 80)  # all the same, a little later
