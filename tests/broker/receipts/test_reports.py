"""What an operator is told of an item, while it is live, after its end, and after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broker.control import ControlError
from broker.receipts import reports
from devices.frames import Event, Feedback, HelloOptions, Kind, Profile
from devices.packets import Puback
from tests.broker.support import Device, Served, ServerProcess, eventually, follow, item

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A census at an item's end is taken, however busy this machine is."""
    monkeypatch.setattr(reports, "_ALLOWANCE", 5.0)


async def shown(served: Served, item_id: str, **channel: str) -> dict[str, Any]:
    await served.at_rest()
    answer: dict[str, Any] = await served.command("item.show", id=item_id, **channel)
    return answer


async def counts(served: Served, item_id: str) -> tuple[int, int]:
    """Frames with an item that were written, and acknowledged."""
    found = (await shown(served, item_id))["counts"]
    return found["delivered"], found["acknowledged"]


# ---- Counts


async def test_a_frame_is_delivered_when_it_is_written_and_acknowledged_when_the_device_says_so(
    served: Served,
) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "rain"))
    publish = await device.publish()
    assert await counts(served, "a") == (1, 0)
    await device.acknowledge(publish)
    await device.peer.ping()
    assert await counts(served, "a") == (1, 1)
    device.peer.send(Puback(publish.packet_id))
    await device.peer.ping()
    assert await counts(served, "a") == (1, 1)


async def test_of_a_snapshot_each_item_counts(served: Served) -> None:
    await served.publish(item("a", "rain"), item("b", "snow"))
    device = await served.device("kitchen")
    await device.subscribe()
    await device.snapshot()
    await device.peer.ping()
    for name in "ab":
        assert await counts(served, name) == (1, 1)


async def test_a_frame_that_is_sent_again_counts_once(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "rain"))
    await device.publish()
    await device.peer.drop()
    await served.counted("frames", "sent", 2)
    again = await served.device("kitchen", device.replica, clean=False)
    publish = await again.publish()
    assert publish.dup
    await again.acknowledge(publish)
    await again.peer.ping()
    assert await counts(served, "a") == (1, 1)


async def test_at_qos_0_nothing_is_acknowledged_and_what_was_written_counts_as_held(
    served: Served,
) -> None:
    device = await served.subscribed("kitchen", qos=0)
    await served.publish(item("a", "rain"))
    await device.publish()
    found = await shown(served, "a")
    assert found["counts"] | {"delivered": 1, "acknowledged": 0} == found["counts"]
    assert found["census"]["held"] == 1


async def test_what_people_do_counts_once_for_each_device(served: Served) -> None:
    kitchen, hall = [await served.subscribed(name) for name in ("kitchen", "hall")]
    await served.publish(item("a", "rain"))
    for device in (kitchen, hall):
        await device.shows("rain")
        n = device.number("rain")
        seen = Event(n, Kind.SHOWN, 0)
        await device.tell(Feedback((seen, seen)))
    await kitchen.tell(Feedback((Event(n, Kind.OPENED), Event(n, Kind.DWELL, 5))))
    await hall.tell(Feedback((Event(n, Kind.DISMISSED),)))
    found = await shown(served, "a")
    assert found["counts"] == {
        "delivered": 2, "acknowledged": 2, "shown": 2, "opened": 1, "dismissed": 1,
    }  # fmt: skip
    assert found["census"]["dropped"] == {"dismissed": 1}
    assert found["census"]["admitted"] == 2


# ---- The census


async def a_fleet(served: Served) -> Device:
    """Devices of two regions, one that shows one item, one that takes short ones, one that follows else."""
    for name, region in (("west1", "west"), ("west2", "west"), ("east", "east"), ("aside", "west")):
        device = await served.subscribed(name)
        await device.tell(Profile(attrs={"region": region}))
        if name == "aside":
            await device.tell(follow("sports", unfollow=["#"]))
    for name, options in (("one", {"k": 1}), ("small", {"budget": 96})):
        device = await served.device(name)
        device.hello(HelloOptions(**options))
        await device.tell(Profile(attrs={"region": "west"}))
        await device.subscribe()
    return device


async def test_a_census_tells_apart_who_has_an_item_and_why_others_do_not(served: Served) -> None:
    await a_fleet(served)
    await served.publish(
        item("a", "x" * 120, where={"region": "west"}), item("b", "news", 2), channel="news"
    )
    census = (await shown(served, "a"))["census"]
    assert census == {
        "followers": 5,
        "eligible": 3,
        "admitted": 3,
        "sent": 3,
        "seen": 2,
        "held": 0,  # nobody has acknowledged anything
        "dropped": {"where": 1, "oversize": 1, "evicted": 1},
        "reserve": 0,
        "pending": 0,
    }


async def test_a_device_that_never_had_an_item_was_not_evicted_from_it(served: Served) -> None:
    await served.publish(
        *(item(str(n), f"item {n}", 2) for n in range(4)), item("late", "minor", 0)
    )
    device = await served.device("kitchen")
    device.hello(HelloOptions(k=2))
    await device.subscribe()
    await device.snapshot()
    census = (await shown(served, "late"))["census"]
    assert (census["eligible"], census["admitted"], census["reserve"]) == (1, 0, 1)
    assert census["dropped"] == {}


async def test_a_device_that_is_away_is_a_follower_that_was_not_sent_it(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await device.peer.drop()
    await eventually(lambda: served.server.service.roster.get("kitchen").connection is None)  # type: ignore[union-attr]
    await served.publish(item("a", "rain", ttl=86_400))
    census = (await shown(served, "a"))["census"]
    assert (census["admitted"], census["seen"], census["sent"]) == (1, 1, 0)
    await served.publish({"id": "a", "retract": True})
    found = await shown(served, "a")
    assert found["state"] == "retracted"
    assert found["census"]["dropped"] == {"retracted": 1}


async def test_an_item_that_expired_says_who_had_it(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "rain", ttl=1))
    await device.shows("rain")
    await device.shows()
    found = await shown(served, "a")
    assert (found["state"], found["census"]["held"]) == ("expired", 1)
    assert found["ended"] >= found["expires"]
    assert "reserve" not in found["census"]
    await device.peer.ping()
    assert await counts(served, "a") == (1, 1)


async def test_items_that_end_by_the_thousand_do_without_a_census(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_ALLOWANCE", 0.0)
    await eventually(lambda: served.server.service.receipts._left, lambda left: left == 0.0)
    await served.publish(item("a", "rain"))
    await served.publish({"id": "a", "retract": True})
    found = await shown(served, "a")
    assert (found["state"], found["census"]) == ("retracted", None)


async def test_of_an_item_with_many_followers_the_census_of_just_before_its_end_stays(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "rain", ttl=4))
    await device.shows("rain")
    await device.peer.ping()
    receipts = served.server.service.receipts
    await eventually(lambda: receipts._surveyed)
    monkeypatch.setattr(reports, "_ALLOWANCE", 0.0)
    await device.shows()
    found = await shown(served, "a")
    assert (found["state"], found["census"]["eligible"]) == ("expired", 1)
    assert not receipts._surveyed


async def test_a_census_of_before_an_update_says_nothing_of_what_came_after(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.publish(item("a", "rain", ttl=4))
    receipts = served.server.service.receipts
    await eventually(lambda: receipts._surveyed)
    monkeypatch.setattr(reports, "_ALLOWANCE", 0.0)
    await eventually(lambda: receipts._left == 0.0)
    await served.publish(item("a", "snow", ttl=4), {"id": "a", "retract": True})
    assert (await shown(served, "a"))["census"] is None


async def test_an_item_that_is_updated_all_the_time_waits_for_one_census_only(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_ALLOWANCE", 0.0)  # none is ever taken
    receipts = served.server.service.receipts
    await served.publish(item("a", "0", ttl=4), item("b", "rain", ttl=4))
    await eventually(lambda: len(receipts._surveys) == 2)
    for version in range(1, 4):
        await served.publish(item("a", str(version), ttl=4))
        receipts.tick(served.server.service.now())
        assert [each.n for each in receipts._surveys.values()] == [2, 1]


async def test_an_item_that_ends_while_it_is_looked_at_is_reported_as_it_ended(
    served: Served,
) -> None:
    await served.subscribed("kitchen")
    await served.publish(item("a", "rain"))
    reports_of = served.server.service.receipts
    [receipt] = reports_of.receipts.named("a")
    looking = asyncio.create_task(reports_of.report(receipt))
    await asyncio.sleep(0)
    reports_of.receipts.close(receipt.n, "expired", 5.0, {"seen": 3})
    found = await looking
    assert (found["state"], found["ended"], found["census"]) == ("expired", 5.0, {"seen": 3})


async def test_an_item_that_comes_back_after_its_retraction_is_live_again(served: Served) -> None:
    await served.publish(item("a", "rain"), {"id": "a", "retract": True}, item("a", "snow"))
    found = await shown(served, "a")
    assert (found["state"], found["ended"], found["version"]) == ("live", None, 2)


# ---- Which item


async def test_an_id_on_several_channels_needs_the_channel(served: Served) -> None:
    await served.publish(item("a", "rain"))
    await served.publish(item("a", "goal"), channel="sports")
    with pytest.raises(ControlError, match=r"on sports, news: say which with --channel"):
        await served.command("item.show", id="a")
    assert (await shown(served, "a", channel="sports"))["channel"] == "sports"


async def test_an_unknown_id_is_said_to_be_unknown(served: Served) -> None:
    with pytest.raises(ControlError, match="nothing is known of an item 'a' on 'news'"):
        await served.command("item.show", id="a", channel="news")
    with pytest.raises(ControlError, match="'id' is missing"):
        await served.command("item.show")


# ---- Restarts


async def test_counts_go_on_after_a_restart(serve: Serve) -> None:
    served = await serve()
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "rain"), item("b", "snow"), {"id": "b", "retract": True})
    await device.shows("rain")
    since = (await shown(served, "a"))["counted_since"]
    await device.peer.leave()
    await served.restart()
    again = await served.device("kitchen", device.replica, clean=False)
    again.hello()
    await again.tell(Feedback((Event(device.number("rain"), Kind.OPENED),)))
    found = await shown(served, "a")
    assert found["counted_since"] == since
    assert found["counts"]["delivered"] == 1
    assert found["counts"]["opened"] == 1
    assert found["census"]["held"] == 1, "the position was packed with the device"
    assert (await shown(served, "b"))["state"] == "retracted"


async def test_counts_of_before_the_last_saving_survive_a_kill(
    process: Callable[..., ServerProcess],
) -> None:
    server = process()
    device = await server.subscribed("kitchen")
    await server.publish(item("a", "rain"))
    await device.shows("rain")
    await device.peer.ping()
    server.stop()
    server.start()
    server.kill()
    server.start()
    found = server.command("item.show", id="a")
    assert found["counts"]["delivered"] == found["counts"]["acknowledged"] == 1


async def test_a_damaged_file_is_set_aside_and_the_server_starts(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    await served.publish(item("a", "rain"))
    await served.stop()
    (served.data / reports.FILE).write_bytes(b"not what it was")
    with caplog.at_level(logging.WARNING):
        await served.start()
    assert "receipts begin anew" in caplog.text
    assert (served.data / f"{reports.FILE}.damaged").exists()
    found = await shown(served, "a")
    assert (found["state"], found["counts"]["delivered"]) == ("live", 0)


async def test_receipts_are_saved_while_the_server_runs(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "SAVE_EVERY", 0.0)
    await served.publish(item("a", "rain"))
    await eventually((served.data / reports.FILE).exists)


async def test_receipts_that_cannot_be_saved_are_said_to_be_and_harm_nothing_else(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    receipts = served.server.service.receipts
    (served.data / f"{reports.FILE}.tmp").mkdir()
    for _ in range(2):
        await receipts._save()
    assert caplog.text.count("receipts are not saved") == 1
    (served.data / f"{reports.FILE}.tmp").rmdir()
