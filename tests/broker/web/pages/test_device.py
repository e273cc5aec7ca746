"""The page of a device: what it says of how it does, over HTTP and on the stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from broker.control import ControlError
from broker.web.pages import device_live
from broker.web.pages.device_facts import facts, standing
from broker.web.pages.device_live import MOST_DEVICES, MOST_VIEWERS, Devices, window
from devices.frames import Profile
from tests.broker.support import Served, eventually, item
from tests.broker.web.pages.support import client_of, events, subject_of, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SETTINGS = {"http__bind": "127.0.0.1:0", "http__refresh": 0.2}


@pytest.fixture
async def site(serve: Callable[..., Awaitable[Served]]) -> Served:
    """A server with a page that looks often."""
    return await serve(**SETTINGS)


async def standing_of(served: Served, device: str) -> tuple[str, str]:
    found = (await facts(subject_of(served), device))["standing"]
    return found["tone"], found["words"]


# ---- How it does


async def test_a_device_that_has_all_is_up_to_date(site: Served) -> None:
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "one"))
    await device.shows("one")
    await eventually(lambda: site.count("frames", "acked"), lambda acked: acked == 1)

    found = await facts(subject_of(site), "kitchen")

    assert found["standing"] == {"tone": "ok", "words": "Up to date: it has all that its feed has."}
    assert found["position"] == list(device.replica.position)
    assert (found["feed"]["inflight"], found["feed"]["behind"]) == (0, False)
    assert found["budget"] == 256  # bytes of a packet


async def test_a_frame_under_way_and_one_for_long_are_told_apart(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    site = await serve(feed__stall_after=1)
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "one"))
    await device.publish()

    assert (await standing_of(site, "kitchen"))[1] == "In touch: 1 frame under way."
    found = await facts(subject_of(site), "kitchen")
    found["feed"]["waiting_for"] = 12.0
    assert standing(found) == ("bad", "Stalled: 1 frame not acknowledged for 12 s.")
    found["feed"]["stall_after"] = 60.0
    assert standing(found) == ("warn", "Slow: 1 frame not acknowledged for 12 s.")


async def test_a_device_that_left_is_away(site: Served) -> None:
    device = await site.subscribed("kitchen")
    await device.peer.leave()

    assert (await standing_of(site, "kitchen"))[0] == "idle"
    assert (await facts(subject_of(site), "kitchen"))["feed"]["away_for"] >= 0


async def test_a_client_that_has_not_subscribed_is_told_to(site: Served) -> None:
    device = await site.device("kitchen")
    await device.tell(Profile())

    assert await standing_of(site, "kitchen") == (
        "warn",
        "Connected, but not subscribed to its frames: its client has to subscribe.",
    )


async def test_a_device_that_never_came_has_no_window(site: Served) -> None:
    await site.command("device.add", device="lobby")

    found = await facts(subject_of(site), "lobby")

    assert found["feed"] is None
    assert found["standing"]["words"].startswith("Not here")
    assert await window(subject_of(site), "lobby") is None


async def test_a_revoked_device_says_how_to_let_it_in_again(site: Served) -> None:
    await site.subscribed("kitchen")
    await site.command("device.revoke", device="kitchen")

    assert (await standing_of(site, "kitchen"))[1].startswith("Revoked")


async def test_a_device_of_another_node_is_looked_for_there(site: Served) -> None:
    await site.command("device.add", device="lobby")
    found = await facts(subject_of(site), "lobby")

    assert standing({**found, "held_by": "b"}) == ("idle", "Node b serves it: look there.")


async def test_quiet_hours_and_budgets_say_why_changes_wait(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    site = await serve(budgets__device_frames=1000)
    device = await site.subscribed("kitchen")
    await device.tell(Profile(attrs={"quiet": "0-23:59"}))
    await site.publish(item("a", "one"))
    await site.at_rest()

    found = await facts(subject_of(site), "kitchen")

    assert found["quiet"] == {"begin": 0, "end": 1439, "zone": "UTC"}
    frames = found["feed"]["allowance"]["frames"]
    assert frames == {"left": 499, "at_once": 500, "an_hour": 1000}  # hello was answered
    assert found["feed"]["allowance"]["bytes"] is None
    allowance = {"waiting": True, "quiet": True}
    assert standing({**found, "feed": {**found["feed"], "allowance": allowance}}) == (
        "idle",
        "Changes wait: it is quiet there. Urgent items pass.",
    )
    allowance["quiet"] = False
    assert (
        "its budget is used up"
        in standing({**found, "feed": {**found["feed"], "allowance": allowance}})[1]
    )


async def test_every_item_of_the_window_says_why_it_stands_there(site: Served) -> None:
    await site.publish(item("a", "one"), item("b", "two", 3))
    await site.subscribed("kitchen")

    found = await window(subject_of(site), "kitchen")

    assert found is not None
    first, second = found["items"]
    assert (first["payload"]["text"], first["id"], first["priority"]) == ("two", "b", 3)
    assert (second["payload"]["text"], second["place"]) == ("one", 2)
    assert first["key"]["priority"] > second["key"]["priority"] == 0


async def test_the_loop_has_its_turn_between_any_two_items_that_are_explained(
    site: Served,
) -> None:
    await site.publish(*(item(f"i{each}", f"text {each}") for each in range(8)))
    await site.subscribed("kitchen")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    began = turns
    found = await window(subject_of(site), "kitchen")
    task.cancel()

    assert found is not None
    assert turns - began >= len(found["items"]) == 8


async def test_a_device_that_is_removed_while_it_is_explained_has_no_window(site: Served) -> None:
    await site.publish(*(item(f"i{each}", f"text {each}") for each in range(8)))
    await site.subscribed("kitchen")
    roster = site.server.service.roster
    explaining = asyncio.create_task(window(subject_of(site), "kitchen"))
    await asyncio.sleep(0)
    live = roster.get("kitchen")
    assert live is not None
    roster.unseat(live)

    assert await explaining is None


# ---- Over HTTP


async def test_one_answer_has_all_that_the_page_begins_with(site: Served) -> None:
    await site.publish(item("a", "one"))
    await site.subscribed("kitchen")
    async with client_of(site) as client:
        found = (await client.get("/api/v1/device/kitchen")).json()

    assert found["device"]["device"] == "kitchen"
    assert [each["id"] for each in found["window"]["items"]] == ["a"]
    assert found["frames"] == []


async def test_a_device_that_is_not_there_is_refused_in_a_sentence(site: Served) -> None:
    async with client_of(site) as client:
        answer = await client.get("/api/v1/device/nobody")
        listening = await client.get("/events/device/nobody")

    assert answer.status_code == listening.status_code == 400
    assert answer.json()["error"].startswith("there is no device 'nobody'")


async def test_devices_are_found_by_a_part_of_their_ids(site: Served) -> None:
    for name in ("Kitchen-2", "kitchen-1", "lobby"):
        await site.command("device.add", device=name)
    async with client_of(site) as client:
        some = (await client.get("/api/v1/devices", params={"search": "KITCH"})).json()
        none = (await client.get("/api/v1/devices", params={"search": "garden"})).json()
        every = (await client.get("/api/v1/devices")).json()

    assert some == {"devices": ["Kitchen-2", "kitchen-1"], "more": False}
    assert none == {"devices": [], "more": False}
    assert len(every["devices"]) == 3


async def test_the_page_itself_is_there_for_any_device(site: Served) -> None:
    async with client_of(site) as client:
        for path in ("/device", "/device/kitchen"):
            page = await client.get(path)
            assert (page.status_code, page.headers["content-type"]) == (
                200,
                "text/html; charset=utf-8",
            )


# ---- On the stream


async def test_a_viewer_is_told_everything_and_then_what_changes(site: Served) -> None:
    device = await site.subscribed("kitchen")
    async with client_of(site) as client:
        stream = events(client, "/events/device/kitchen")
        state = await told(stream, "state")
        assert state["position"] == list(device.replica.position)
        assert (await told(stream, "window"))["items"] == []
        assert (await told(stream, "frames"))["frames"] == []

        await site.publish(item("a", "fog"))
        publish = await device.publish()
        new = await told(stream, "frames")
        assert [each["payload"]["text"] for each in new["frames"][0]["changes"]] == ["fog"]

        await device.acknowledge(publish)
        again = await told(stream, "frames")
        assert again["frames"][0]["id"] == new["frames"][0]["id"]
        assert again["frames"][0]["acked_at"] is not None


async def test_a_window_is_told_again_when_it_is_another_one(site: Served) -> None:
    await site.subscribed("kitchen")
    async with client_of(site) as client:
        stream = events(client, "/events/device/kitchen")
        assert (await told(stream, "window"))["items"] == []
        await site.publish(item("a", "one"))
        assert [each["id"] for each in (await told(stream, "window"))["items"]] == ["a"]


async def test_a_window_that_takes_long_to_explain_is_explained_less_often(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_live, "_SHARE", 1e-9)
    device = await site.subscribed("kitchen")
    async with client_of(site) as client:
        stream = events(client, "/events/device/kitchen")
        assert (await told(stream, "frames"))["frames"] == []
        await site.publish(item("a", "one"))
        await device.frame()
        names = [name async for name in first(stream, 6)]

    # Its frames are told all the same.
    assert "frames" in names
    assert "window" not in names


async def first(stream: AsyncIterator[tuple[str, Any]], count: int) -> AsyncIterator[str]:
    """Names of the next events."""
    for _ in range(count):
        yield (await anext(stream))[0]


async def test_all_who_look_at_a_device_are_told_the_same(site: Served) -> None:
    device = await site.subscribed("kitchen")
    async with client_of(site) as client:
        first = events(client, "/events/device/kitchen")
        await told(first, "frames")
        await site.publish(item("a", "one"))
        await device.frame()
        second = events(client, "/events/device/kitchen")

        for stream in (first, second):
            await told(stream, "frames", lambda found: [f["acked_at"] for f in found["frames"]])


async def test_a_device_that_is_removed_is_told_to_be_gone(site: Served) -> None:
    await site.subscribed("kitchen")
    async with client_of(site) as client:
        stream = events(client, "/events/device/kitchen")
        await told(stream, "state")
        await site.command("device.remove", device="kitchen")

        assert "there is no device" in (await told(stream, "gone"))["error"]
        assert [event async for event in stream] == []  # and the stream is over


async def test_a_device_that_comes_back_after_it_was_removed_is_told_of_again(site: Served) -> None:
    await site.subscribed("kitchen")
    async with client_of(site) as client:
        stream = events(client, "/events/device/kitchen")
        await told(stream, "state")
        await site.command("device.remove", device="kitchen")
        await told(stream, "gone")
        await site.subscribed("kitchen")

        again = events(client, "/events/device/kitchen")
        assert (await told(again, "state"))["connected"]
        assert (await told(again, "window"))["items"] == []


async def test_after_the_last_viewer_frames_are_gathered_for_a_while_and_then_no_more(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_live, "_LINGERS", 0.05)
    await site.subscribed("kitchen")
    sending = site.server.service.sending
    async with client_of(site) as client:
        stream = events(client, "/events/device/kitchen")
        await told(stream, "state")
        assert sending.tap is not None
        await stream.aclose()  # type: ignore[attr-defined] # a generator has it

    await eventually(lambda: sending.tap is None)


async def test_a_page_that_is_loaded_again_finds_the_frames_that_it_had(site: Served) -> None:
    device = await site.subscribed("kitchen")
    async with client_of(site) as client:
        stream = events(client, "/events/device/kitchen")
        await told(stream, "frames")
        await site.publish(item("a", "one"))
        await device.shows("one")
        await told(stream, "frames")
        await stream.aclose()  # type: ignore[attr-defined] # as above

        found = (await client.get("/api/v1/device/kitchen")).json()
    assert len(found["frames"]) == 1


async def test_only_so_many_look_at_one_device(site: Served) -> None:
    await site.subscribed("kitchen")
    async with client_of(site) as client:
        streams = [events(client, "/events/device/kitchen") for _ in range(MOST_VIEWERS)]
        for stream in streams:
            await told(stream, "state")

        assert (await client.get("/events/device/kitchen")).status_code == 503


async def test_only_so_many_devices_are_looked_at_and_idle_ones_make_room(site: Served) -> None:
    for each in range(MOST_DEVICES + 1):
        await site.command("device.add", device=f"d{each:02d}")
    devices = Devices(subject_of(site))
    for each in range(MOST_DEVICES + 1):
        devices.join(f"d{each:02d}")  # nobody listens to any of them yet

    with pytest.raises(ControlError, match="there is no device"):
        devices.join("nobody")
    assert len(devices) == MOST_DEVICES
    devices.end()
    assert site.server.service.sending.tap is None


def test_the_words_for_a_device_that_is_held_up_name_the_cause() -> None:
    feed: dict[str, Any] = {
        **dict.fromkeys(("alone", "blocked", "behind"), False),
        "inflight": 0,
        "waiting_for": None,
        "stall_after": 60.0,
        "allowance": None,
    }
    found = {"revoked": False, "connected": True, "subscribed": True}

    def words(**more: Any) -> tuple[str, str]:
        return standing({**found, "feed": {**feed, **more}})

    assert words(alone=True)[1].startswith("Several connections failed")
    assert words(blocked=True)[1].startswith("It does not read")
    assert words(behind=True, inflight=2) == (
        "ok",
        "Catching up: 2 frames under way, more to come.",
    )
