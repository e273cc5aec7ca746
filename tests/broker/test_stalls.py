"""Devices that do not acknowledge: counted, and after a while closed, so that they reconnect and resume."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from devices.packets import Puback
from tests.broker.support import Device, Served, eventually, item

Serve = Callable[..., Awaitable[Served]]

AFTER, CLOSE = 100.0, 200.0
"""Settings far beyond the time that a test takes: only `pass_time` reaches them."""


async def stalling(serve: Serve) -> Served:
    return await serve(feed__stall_after=AFTER, feed__stall_close=CLOSE, feed__hello_wait=0.1)


def pass_time(served: Served, seconds: float) -> None:
    """What waits for an acknowledgement has waited so much longer; the server looks at it."""
    service = served.server.service
    for shelf in service.roster.shelves:
        shelf.ledger.waiting_since -= seconds
    service._watch(served.server.lane._loop.time())


def stalled(served: Served) -> int:
    return int(served.server.service.status()["devices"]["stalled"])


async def with_a_frame_in_flight(served: Served, name: str) -> Device:
    """A persistent device that keeps its first PUBACK to itself."""
    await served.publish(item("a", "one"))
    device = await served.device(name, clean=False)
    await device.subscribe()
    await device.frame(ack=False)
    return device


async def test_a_device_counts_as_stalled_until_it_acknowledges(serve: Serve) -> None:
    served = await stalling(serve)
    await served.publish(item("a", "one"))
    device = await served.device("kitchen")
    await device.subscribe()
    publish = await device.publish()
    pass_time(served, AFTER - 1)
    assert stalled(served) == 0
    pass_time(served, 2)
    assert stalled(served) == 1
    await device.acknowledge(publish)
    await device.peer.ping()
    await served.at_rest()
    pass_time(served, 0)
    assert (stalled(served), served.count("closed", "stalled")) == (0, 0)


async def test_a_stalled_device_is_closed_and_resumes_where_it_was(serve: Serve) -> None:
    served = await stalling(serve)
    device = await with_a_frame_in_flight(served, "kitchen")
    pass_time(served, CLOSE + 1)
    await device.peer.expect_closed()
    assert served.count("closed", "stalled") == 1
    again = await served.device("kitchen", device.replica, clean=False)
    assert again.session_present
    publish = await again.publish()
    assert publish.dup
    again.hello()
    await again.acknowledge(publish)
    await served.publish(item("b", "two"))
    await again.shows("two", "one")


async def test_every_acknowledgement_gives_the_next_frame_its_full_time(serve: Serve) -> None:
    """Slow is not stalled: a device may take nearly the limit for each of its frames."""
    served = await stalling(serve)
    await served.publish(item("a", "one"))
    device = await served.device("kitchen")
    await device.subscribe()
    frames = [await device.publish()]
    for number in range(3):
        await served.publish(item(str(number), f"item {number}"))
        frames.append(await device.publish())
    for frame in frames:
        pass_time(served, CLOSE - 1)
        acked = served.count("frames", "acked")
        device.peer.send(Puback(frame.packet_id))
        await served.counted("frames", "acked", acked + 1)
    pass_time(served, CLOSE + 1)
    assert served.count("closed", "stalled") == 0


async def test_a_device_at_qos_0_never_stalls(serve: Serve) -> None:
    served = await stalling(serve)
    await served.publish(item("a", "one"))
    device = await served.device("kitchen")
    await device.subscribe(0)
    await device.frame()
    pass_time(served, 10 * CLOSE)
    assert (stalled(served), served.count("closed", "stalled")) == (0, 0)
    await device.peer.ping()


async def test_a_device_that_is_away_does_not_count_as_stalled(serve: Serve) -> None:
    served = await stalling(serve)
    device = await with_a_frame_in_flight(served, "kitchen")
    await device.peer.drop()
    live = served.server.service.roster.get("kitchen")
    assert live is not None
    await eventually(lambda: live.connection is None)
    pass_time(served, 10 * CLOSE)
    assert (stalled(served), served.count("closed", "stalled")) == (0, 0)


async def test_a_frame_that_stalls_every_connection_is_poison_in_the_end(serve: Serve) -> None:
    """The device does not die of it: it hangs, and the server closes it each time."""
    served = await stalling(serve)
    device = await with_a_frame_in_flight(served, "kitchen")
    for _ in range(6):
        pass_time(served, CLOSE + 1)
        await device.peer.expect_end()
        device = await served.device("kitchen", clean=False)
        if not device.session_present:
            break
        await device.publish()
        device.hello()
        await device.peer.ping()
        await served.at_rest()
    assert not device.session_present
    await device.snapshot()
    assert device.shown == []
    assert served.count("dropped", "poison") == 1
    assert served.count("closed", "stalled") == 6
