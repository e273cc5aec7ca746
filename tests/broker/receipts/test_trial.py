"""What a dry run says, and that nothing is left of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.control import ControlError
from broker.receipts.trial import foreseen
from devices.frames import HelloOptions, Profile
from feedgen.catalog import Catalog
from feedgen.items import Item
from tests.broker.support import Served, item

Serve = Callable[..., Awaitable[Served]]


async def tried(served: Served, channel: str = "news", samples: int = 5, **fields: Any) -> Any:
    await served.at_rest()
    packet = msgpack.packb({"id": "new", "payload": "rain", **fields})
    return await served.command("item.trial", channel=channel, packet=packet, samples=samples)


ITEMS = st.builds(
    Item,
    st.just("news"),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["rain", "snow"]),
    rev=st.sampled_from([None, 1, 2]),
    ttl=st.sampled_from([1, 1000]),
    retract=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ITEMS, min_size=1, max_size=12))
def test_the_outcome_is_the_one_that_the_catalog_decides(items: list[Item]) -> None:
    catalog = Catalog()
    for now, each in enumerate(items):
        foretold = foreseen(catalog.find(each.channel, each.id), each, 800 * now)
        assert foretold is catalog.accept(each, 800 * now, dup=False).outcome


async def test_the_audience_is_counted_by_what_keeps_devices_out_of_it(served: Served) -> None:
    for name, region, budget in (("a", "west", 256), ("b", "east", 256), ("c", "west", 96)):
        device = await served.device(name)
        device.hello(HelloOptions(budget=budget))
        await device.tell(Profile(attrs={"region": region}))
        await device.subscribe()
    found = await tried(served, where={"region": "west"}, payload="x" * 120)
    assert found["outcome"] == "new"
    assert found["devices"] == {
        "following": 3, "where": 1, "dismissed": 0, "oversize": 1, "eligible": 1, "connected": 1,
        "shorter_form": 0,
    }  # fmt: skip
    found = await tried(served, payload="x" * 120, brief="x")
    assert found["devices"] | {"eligible": 3, "shorter_form": 1} == found["devices"]


async def test_samples_are_spread_from_the_best_place_to_the_worst(served: Served) -> None:
    rivals = {"a": 0, "b": 1, "c": 2, "d": 3}
    for name, above in rivals.items():
        device = await served.subscribed(name)
        await device.tell(Profile(follow=(f"own/{name}", "news"), unfollow=("#",)))
        better = [item(str(n), f"{name} {n}", 3) for n in range(above)]
        await served.publish(*better, channel=f"own/{name}")
    found = await tried(served, samples=3)
    assert [(each["device"], each["place"]) for each in found["samples"]] == [
        ("a", 1), ("b", 2), ("d", 4),
    ]  # fmt: skip
    assert found["places"] | {"seen": 4, "first": 1, "median": 2} == found["places"]
    assert (await tried(served, samples=0))["samples"] == []


async def test_a_sample_that_would_not_show_the_item_says_why(served: Served) -> None:
    device = await served.device("kitchen")
    device.hello(HelloOptions(k=1))
    await device.subscribe()
    await device.snapshot()
    await device.peer.leave()
    await served.publish(*(item(str(n), f"item {n}", 2) for n in range(3)))
    found = await tried(served, priority=0)
    assert found["samples"] == [
        {"device": "kitchen", "place": None, "why_not": "reserve", "k": 1, "connected": False}
    ]
    assert found["places"] | {"seen": 0, "median": None, "reserve": 1} == found["places"]


async def test_devices_that_were_not_here_for_long_are_counted_by_their_profiles(
    served: Served,
) -> None:
    for name, attrs, channels in (
        ("a", {"region": "west"}, ["news"]),
        ("b", {"region": "east"}, ["news"]),
        ("c", {"region": "west"}, ["sports"]),
    ):
        await served.command("device.add", device=name, attrs=attrs, follow=channels)
    await served.command("device.add", device="gone", attrs={"region": "west"}, follow=["news"])
    await served.command("device.revoke", device="gone")
    found = await tried(served, where={"region": "west"})
    assert found["away"] == {"following": 2, "eligible": 1}
    assert found["devices"]["following"] == 0


async def test_an_update_is_tried_without_what_it_replaces(served: Served) -> None:
    await served.subscribed("kitchen")
    await served.publish(item("new", "rain", 3), item("b", "snow", 2))
    found = await tried(served, payload="hail", priority=1)
    assert found["outcome"] == "update"
    assert [each["place"] for each in found["samples"]] == [2]
    assert (await tried(served, priority=3))["outcome"] == "unchanged"


async def test_a_retraction_is_tried_on_those_who_would_lose_the_item(served: Served) -> None:
    await served.subscribed("kitchen")
    await served.publish(item("new", "rain"))
    packet = msgpack.packb({"id": "new", "retract": True})
    found = await served.command("item.trial", channel="news", packet=packet, samples=1)
    assert (found["outcome"], found["places"]["seen"]) == ("retract", 1)


@pytest.mark.parametrize("ttl", [60, 86_400])
async def test_a_trial_says_what_there_is_under_the_id(served: Served, ttl: int) -> None:
    retraction = msgpack.packb({"id": "new", "retract": True, "ttl": ttl})

    async def held() -> str | None:
        found = await served.command("item.trial", channel="news", packet=retraction, samples=0)
        return found["held"]  # type: ignore[no-any-return]

    assert await held() is None
    await served.publish(item("new", "rain"))
    assert await held() == "live"
    await served.publish({"id": "new", "retract": True})
    assert await held() == "retracted"


async def test_devices_without_budget_or_in_quiet_hours_are_held_back_from_all_but_the_urgent(
    served: Served,
) -> None:
    device = await served.subscribed("kitchen")
    await device.tell(Profile(attrs={"quiet": "00:00-23:59", "tz": "UTC"}))
    assert (await tried(served))["places"]["held_back"] == 1
    assert (await tried(served, priority=3))["places"]["held_back"] == 0


@pytest.mark.parametrize("model", ["popularity", "learned"])
async def test_a_trial_leaves_no_trace(serve: Serve, model: str) -> None:
    served = await serve(ranking__model=model)
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "rain"))
    await device.shows("rain")
    await device.peer.ping()
    await served.at_rest()
    service = served.server.service

    def everything() -> tuple[object, ...]:
        status = service.status()
        receipts = [
            (each, service.receipts.receipts.counts(each.n)) for each in service.receipts.receipts
        ]
        return status["items"], status["store"], status["engine"], status["counters"], (
            service.catalog.next_n, service.engine.size, receipts, served.window("kitchen"),
        )  # fmt: skip

    before = everything()
    for number in range(20):
        await tried(served, channel=f"new/{number}", id=str(number))
        await tried(served, id=str(number), collapse=str(number))
        await tried(served, id="a", payload=str(number))
    assert everything() == before
    await served.publish(item("b", "snow"))
    await device.shows("snow", "rain")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"packet": "text"}, "'packet' must be the bytes of an item"),
        ({"packet": b"{}"}, "the server would refuse this item"),
        ({"packet": b"x", "samples": -1}, "'samples' must be a whole number from 0 to"),
        ({"packet": b"x", "samples": True}, "'samples' must be a whole number from 0 to"),
        ({"packet": b"x", "channel": "a/#"}, "the server would refuse this item"),
    ],
)
async def test_what_cannot_be_tried_is_refused(
    served: Served, args: dict[str, Any], said: str
) -> None:
    with pytest.raises(ControlError, match=said):
        await served.command("item.trial", **{"channel": "news", **args})
