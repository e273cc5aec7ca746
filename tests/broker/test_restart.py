"""What survives the end of the server: SIGTERM keeps positions, kill -9 keeps all that was acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from devices.frames import Event, Feedback, Hello, HelloOptions, Kind
from devices.packets import Connect, Puback, Publish
from devices.replica import Replica
from tests.broker.support import ServerProcess, eventually, follow, item

Start = Callable[..., ServerProcess]


async def test_500_items_acknowledged_before_kill_9_are_all_there(process: Start) -> None:
    server = process()
    devices = [await server.subscribed(f"d{number}") for number in range(10)]
    for number, device in enumerate(devices):
        await device.tell(follow(f"c/{number}", unfollow=["#"]))
    publisher = await server.connect("publisher")
    burst = [
        Publish(f"items/c/{n % 10}", json.dumps(item(str(n), f"item {n}")).encode(), 1, n + 1)
        for n in range(500)
    ]
    publisher.send(*burst)
    for n in range(500):
        assert await publisher.expect(Puback) == Puback(n + 1)
    await publisher.drop()
    server.kill()
    server.start()
    assert server.status()["items"] == 500
    held = set()
    for number in range(10):
        device = await server.device(f"d{number}", Replica(k=64))
        device.hello(HelloOptions(k=64))
        await device.subscribe()
        while len(device.shown) < 50:
            await device.frame()
        held |= set(device.shown)
    assert held == {f"item {n}" for n in range(500)}


async def test_kill_9_starts_a_new_epoch_one_above_the_last(process: Start) -> None:
    server = process()
    await server.publish(item("a", "one"))
    device = await server.subscribed("kitchen")
    epoch, _ = device.replica.position
    server.kill()
    server.start()
    again = await server.device("kitchen", device.replica)
    again.hello()
    await again.subscribe()
    snapshot = await again.snapshot()
    assert (snapshot.epoch, snapshot.seq) == (epoch + 1, 1)
    assert again.shown == ["one"]
    server.kill()
    server.start()
    # The second time it says nothing of its position: the server knows the epoch.
    forgetful = await server.device("kitchen")
    await forgetful.subscribe()
    assert (await forgetful.snapshot()).epoch == epoch + 2


async def test_sigterm_keeps_positions_sessions_and_what_is_unacknowledged(
    process: Start,
) -> None:
    server = process()
    device = await server.subscribed("kitchen", clean=False)
    await server.publish(item("a", "one"))
    first = await device.publish()
    device.replica.receive(first.payload)
    epoch, seq = device.replica.position
    server.stop()
    server.start()
    again = await server.device("kitchen", device.replica, clean=False)
    assert again.session_present
    publish = await again.publish()
    assert (publish.packet_id, publish.payload, publish.dup) == (
        first.packet_id,
        first.payload,
        True,
    )
    again.hello()
    await server.publish(item("b", "two"))
    delta = await again.delta()
    assert (delta.epoch, delta.seq, delta.base) == (epoch, seq + 1, None)


async def test_after_kill_9_a_subscription_is_kept_but_the_session_is_new(process: Start) -> None:
    server = process(FEED__HELLO_WAIT="0.1")
    device = await server.subscribed("kitchen", clean=False)
    epoch, _ = device.replica.position
    await server.publish(item("a", "one"))
    await device.publish()
    await eventually(lambda: server.command("device.show", device="kitchen")["epoch"] == epoch)
    server.kill()
    server.start()
    peer = await server.peer()
    connack = await peer.greet(Connect("kitchen", clean_session=False))
    assert (connack.session_present, connack.code) == (False, 0)
    # It never subscribes again, and is served nevertheless.
    publish = await peer.expect(Publish)
    assert not publish.dup
    replica = Replica()
    assert replica.receive(publish.payload) == "applied"
    assert replica.epoch == epoch + 1
    assert [each.payload for each in replica.window] == ["one"]


async def test_profiles_dismissals_and_retractions_survive_kill_9(process: Start) -> None:
    server = process()
    device = await server.subscribed("kitchen")
    await device.tell(follow("sports/#", unfollow=["#"]))
    await server.publish(item("a", "dismissed"), item("b", "kept"), channel="sports/x")
    await device.shows("kept", "dismissed")
    await device.tell(Feedback((Event(device.number("dismissed"), Kind.DISMISSED),)))
    await device.shows("kept")
    await server.publish(item("c", "retracted"), {"id": "c", "retract": True}, channel="sports/x")
    await server.publish(item("d", "elsewhere"), channel="weather")
    server.kill()
    server.start()
    again = await server.subscribed("kitchen")
    assert again.shown == ["kept"]
    # The tombstone knows a redelivery.
    peer = await server.connect("publisher")
    retracted = json.dumps(item("c", "retracted")).encode()
    await peer.publish("items/sports/x", retracted, dup=True)
    assert server.count("items", "unchanged") == 1


async def test_a_device_that_stayed_away_over_a_kill_never_meets_an_old_position_again(
    process: Start,
) -> None:
    """Clean stop, progress, kill -9, a run without the device, clean stop: what was kept at the first
    stop is no position any more.
    """
    server = process()
    device = await server.subscribed("kitchen")
    server.stop()
    server.start()
    device = await server.device("kitchen", device.replica)
    device.hello()
    await device.subscribe()
    await server.publish(item("a", "one"))
    await device.shows("one")
    position = device.replica.position
    server.kill()
    server.start()
    server.stop()
    server.start()
    again = await server.device("kitchen")
    await again.subscribe()
    snapshot = await again.snapshot()
    assert (snapshot.epoch, snapshot.seq) > position


async def test_publishers_get_no_puback_for_what_a_kill_interrupts(process: Start) -> None:
    """Whatever was acknowledged by the time of the kill is there afterwards."""
    server = process()
    publisher = await server.connect("publisher")
    acknowledged = 0

    async def count() -> None:
        nonlocal acknowledged
        while isinstance(await publisher.read(), Puback):
            acknowledged += 1

    counting = asyncio.create_task(count())
    for n in range(2000):
        publisher.send(Publish("items/x", json.dumps(item(str(n), "x")).encode(), 1, n + 1))
    await eventually(lambda: acknowledged >= 100)
    server.kill()
    await counting
    server.start()
    assert server.status()["items"] >= acknowledged


async def test_a_failed_start_does_not_cost_anyone_a_position(process: Start) -> None:
    """The port was taken: nothing was sent, so every position holds."""
    server = process()
    device = await server.subscribed("kitchen")
    server.stop()
    taken = await asyncio.start_server(lambda _r, _w: None, *server.address)
    with pytest.raises(AssertionError, match="another program listens"):
        server.start()
    taken.close()
    await taken.wait_closed()
    server.start()
    again = await server.device("kitchen", device.replica)
    again.say(Hello(*device.replica.position))
    await again.subscribe()
    await server.publish(item("a", "one"))
    assert (await again.delta()).epoch == device.replica.epoch


async def test_items_expire_while_no_server_runs(process: Start) -> None:
    server = process()
    await server.publish(item("a", "short", ttl=1), item("b", "long"))
    server.kill()
    await asyncio.sleep(1.1)  # the clock itself is the condition
    server.start()
    device = await server.subscribed("kitchen")
    await device.shows("long")
