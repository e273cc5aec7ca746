"""Corners where sessions, rows, items and the store meet: who is known, joined, kept or forgotten."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broker.control import ControlError
from devices.frames import Event, Feedback, Hello, HelloOptions, Kind, Snapshot, encode_up
from devices.packets import Will
from tests.broker.support import Served, eventually, follow, item

Serve = Callable[..., Awaitable[Served]]


async def test_a_removed_device_finds_no_session_when_it_comes_back(served: Served) -> None:
    await served.subscribed("kitchen", clean=False)
    await served.command("device.remove", device="kitchen")
    again = await served.device("kitchen", clean=False)
    assert not again.session_present
    await again.subscribe()
    await again.snapshot()


async def test_a_new_session_ends_the_old_one_also_when_amqtt_serves_it(serve: Serve) -> None:
    served = await serve(amqtt=True)
    device = await served.subscribed("kitchen", clean=False)
    await device.peer.leave()
    elsewhere = await served.device("kitchen", clean=True, will=Will("homes/kitchen", b"gone"))
    await elsewhere.peer.leave()
    again = await served.device("kitchen", clean=False)
    assert not again.session_present


async def test_a_hello_in_a_will_is_nobodys_position(served: Served) -> None:
    hello = encode_up(Hello(7, 7))
    kitchen = await served.connect("kitchen", will=Will("u/kitchen", hello))
    await kitchen.ping()
    await kitchen.drop()
    await served.counted("dropped", "hello_without_frames")


async def test_a_repeated_profile_is_acknowledged_after_the_first_is_durable(
    served: Served,
) -> None:
    """The second changes nothing, and must not be acknowledged any sooner for that."""
    device = await served.device("kitchen")
    order: list[str] = []
    submit = served.server.store.submit

    def watched(ops: Any) -> Any:
        future = submit(ops)
        future.add_done_callback(lambda _: order.append("ops" if ops else "barrier"))
        return future

    served.server.store.submit = watched  # type: ignore[method-assign]
    await device.tell(follow("news/#", unfollow=["#"]))
    await device.tell(follow("news/#", unfollow=["#"]))
    assert order[0] == "ops"


async def test_what_expired_while_the_server_was_down_is_sent_to_nobody(serve: Serve) -> None:
    served = await serve()
    await served.publish(item("a", "short", ttl=1), item("b", "long"))
    expires = next(r.expires for r in served.server.service.catalog if r.item.id == "a")
    await served.stop()
    await eventually(lambda: time.time() >= expires)
    await served.start()
    device = await served.subscribed("kitchen")
    assert device.shown == ["long"]


async def test_dismissing_what_is_over_keeps_nothing(served: Served) -> None:
    await served.publish(item("a", "one"))
    device = await served.subscribed("kitchen")
    number = device.number("one")
    await served.publish(item("a", "", retract=True))
    await device.shows()
    await device.tell(Feedback((Event(number, Kind.DISMISSED),)))
    assert not served.server.service.roster._dismissers


async def test_a_changed_budget_brings_the_full_payload_in_place_of_the_brief(
    served: Served,
) -> None:
    await served.publish(item("a", "x" * 400, brief="short"))
    device = await served.subscribed("kitchen")
    assert device.shown == ["short"]
    device.hello(HelloOptions(budget=1000))
    assert isinstance(await device.frame(), Snapshot)
    assert device.shown == ["x" * 400]


@pytest.mark.parametrize("value", [-1, 1 << 32, 10**30, 1.5, True])
async def test_an_attribute_that_no_store_could_keep_is_refused(
    served: Served, value: float
) -> None:
    with pytest.raises(ControlError, match="whole number"):
        await served.command("device.add", device="oven", attrs={"size": value})
    assert served.server.registry.get("oven") is None
