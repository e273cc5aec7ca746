"""The tap: frames of devices that somebody looks at, and of no others."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from broker.web.pages.frames_seen import KEPT, FramesSeen
from devices.frames import Hello, HelloOptions, delta_bytes, move_bytes, remove_bytes
from devices.ledger import Batch
from devices.packets import Publish
from devices.replica import Replica
from tests.broker.support import Device, Served, eventually, follow, item

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from broker.web.pages.frames_seen import Look


@pytest.fixture
def seen(served: Served) -> FramesSeen:
    """What could be the tap of a server."""
    return FramesSeen(served.server.service)


def said(change: dict[str, Any]) -> tuple[Any, ...]:
    """A change in short: what, from where, to where, and the item's text."""
    payload = change["payload"]
    return change["op"], change["from"], change["to"], payload and payload["text"]


def changes(look: Look, at: int = -1) -> list[tuple[Any, ...]]:
    """Those of the newest frame, or another one."""
    return [said(change) for change in look.since(0)[at]["changes"]]


async def gathered(look: Look, count: int) -> None:
    await eventually(lambda: len(look.frames), lambda found: found == count)


async def test_nothing_is_gathered_while_nobody_looks(served: Served, seen: FramesSeen) -> None:
    sending = served.server.service.sending
    assert sending.tap is None

    first, second = seen.begin("kitchen"), seen.begin("lobby")
    assert sending.tap is seen
    seen.end(first)
    assert sending.tap is seen
    seen.end(second)
    assert sending.tap is None


async def test_a_frame_is_told_with_what_it_puts_and_how_large_it_was(
    served: Served, seen: FramesSeen
) -> None:
    device = await served.subscribed("kitchen")
    look = seen.begin("kitchen")
    await served.publish(item("a", "fog on the coast", 2))
    publish = await device.publish()

    (frame,) = look.since(0)
    epoch, seq = (device.replica.position[0], device.replica.position[1] + 1)
    assert (frame["kind"], frame["epoch"], frame["seq"], frame["base"]) == (
        "delta",
        epoch,
        seq,
        None,
    )
    # What stands before the payload of a PUBLISH of QoS 1: fixed header, topic name, packet identifier.
    before = 2 + (2 + len(publish.topic)) + 2
    assert (frame["qos"], frame["bytes"]) == (1, before + len(publish.payload))
    assert changes(look) == [("put", None, 1, "fog on the coast")]
    assert frame["changes"][0]["priority"] == 2


async def test_an_acknowledgement_is_told_of_its_frame(served: Served, seen: FramesSeen) -> None:
    device = await served.subscribed("kitchen")
    look = seen.begin("kitchen")
    await served.publish(item("a", "one"), item("b", "two"))
    first, second = await device.publish(), await device.publish()
    assert [frame["acked_at"] for frame in look.since(0)] == [None, None]

    before = look.changed
    await device.acknowledge(second)
    await eventually(lambda: look.since(before))
    old, new = look.since(0)
    assert old["acked_at"] is None
    assert new["acked_at"] >= new["at"]

    await device.acknowledge(first)
    await eventually(lambda: all(frame["acked_at"] for frame in look.since(0)))


async def test_removals_and_moves_name_their_items(served: Served, seen: FramesSeen) -> None:
    device = await served.subscribed("kitchen")
    look = seen.begin("kitchen")
    await served.publish(item("a", "one"), item("b", "two"), item("c", "three"))
    await device.shows("three", "two", "one")

    await served.publish({"id": "b", "retract": True})
    await device.shows("three", "one")
    assert changes(look) == [("remove", 2, None, "two")]

    await served.publish(item("a", "one, again", 2))
    await device.shows("one, again", "three")
    assert changes(look) == [("put", 2, 1, "one, again")]


class Noting(FramesSeen):
    """A tap that can be told of frames that nobody sent."""

    last: Batch

    def wrote(self, shelf: int, batch: Batch) -> None:
        self.last = batch
        super().wrote(shelf, batch)

    def imagine(self, frame: bytes) -> None:
        """As the last frame, but this one."""
        super().wrote(0, replace(self.last, qos=0, tails=[frame], whole=False))


async def test_what_follows_a_move_in_a_frame_is_counted_after_it(served: Served) -> None:
    device = await served.subscribed("kitchen")
    seen = Noting(served.server.service)
    look = seen.begin("kitchen")
    await served.publish(item("a", "one"), item("b", "two"), item("c", "three"))
    await device.shows("three", "two", "one")
    epoch, seq = device.replica.position

    seen.imagine(delta_bytes(epoch, seq + 1, [move_bytes(2, 0), remove_bytes(1)]))

    assert changes(look) == [("move", 3, 1, "one"), ("remove", 2, None, "three")]


async def test_a_frame_of_which_nothing_is_known_before_is_told_by_places(served: Served) -> None:
    device = await served.subscribed("kitchen")
    seen = Noting(served.server.service)
    look = seen.begin("kitchen")
    await served.publish(item("a", "one"))
    await device.frame()

    for frame in (delta_bytes(1, 9, [move_bytes(2, 0)]), b"\x91\x07", b"\xc1"):
        seen.imagine(frame)

    assert changes(look, 1) == [("move", 3, 1, None)]
    assert [frame["kind"] for frame in look.since(0)] == ["delta", "delta", "unknown", "unknown"]


async def test_an_item_that_is_over_is_still_known_by_its_text(
    served: Served, seen: FramesSeen
) -> None:
    await served.publish(item("a", "one"))
    device = await served.subscribed("kitchen")
    look = seen.begin("kitchen")

    await served.publish({"id": "a", "retract": True})
    await device.shows()

    assert changes(look) == [("remove", 1, None, "one")]


async def test_a_snapshot_is_told_as_the_window_that_it_is(
    served: Served, seen: FramesSeen
) -> None:
    await served.publish(item("a", "one"), item("b", "two"))
    look = seen.begin("kitchen")
    await served.subscribed("kitchen")

    (frame,) = look.since(0)
    assert (frame["kind"], frame["k"]) == ("snapshot", 8)
    assert changes(look) == [("put", None, 1, "two"), ("put", None, 2, "one")]


async def test_frames_of_others_are_not_gathered(served: Served, seen: FramesSeen) -> None:
    kitchen, lobby = await served.subscribed("kitchen"), await served.subscribed("lobby")
    look = seen.begin("kitchen")
    await lobby.tell(follow("sport", unfollow=["#"]))
    await served.publish(item("a", "one"), channel="sport/cup")
    await served.publish(item("b", "two"), channel="sport")

    await kitchen.shows("two", "one")
    await lobby.shows("two")

    assert [changes(look, at) for at in range(2)] == [
        [("put", None, 1, "one")],
        [("put", None, 1, "two")],
    ]
    assert len(look.frames) == 2


async def test_a_device_with_the_same_row_among_longer_windows_is_another_one(
    served: Served, seen: FramesSeen
) -> None:
    kitchen = await served.subscribed("kitchen")
    wall = await served.device("wall")
    wall.hello(HelloOptions(k=40))
    await wall.subscribe()
    await wall.frame()
    seats = [served.server.service.roster.get(name) for name in ("kitchen", "wall")]
    assert len({live.seat.row for live in seats if live}) == 1
    await kitchen.tell(follow("sport", unfollow=["#"]))
    look = seen.begin("kitchen")

    await served.publish(item("a", "one"))
    await wall.shows("one")

    assert len(look.frames) == 0


async def test_a_frame_is_found_among_those_that_were_put_together_for_many(
    served: Served, seen: FramesSeen
) -> None:
    # So many of one length that the server makes their packets whole, as one matrix.
    devices = [await served.subscribed(f"panel-{each:02d}") for each in range(70)]
    look = seen.begin("panel-41")
    await served.publish(item("a", "one"))
    publish = await devices[41].publish()

    await gathered(look, 1)
    assert changes(look) == [("put", None, 1, "one")]
    await devices[41].acknowledge(publish)
    await eventually(lambda: look.since(0)[0]["acked_at"])


async def test_what_is_in_flight_when_somebody_comes_is_there(
    served: Served, seen: FramesSeen
) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "one"))
    publish = await device.publish()

    look = seen.begin("kitchen")

    (frame,) = look.since(0)
    assert (frame["at"], frame["acked_at"], changes(look)) == (
        None,
        None,
        [("put", None, 1, "one")],
    )
    await device.acknowledge(publish)
    await eventually(lambda: look.since(0)[0]["acked_at"])


async def test_a_frame_that_is_sent_again_is_the_same_frame(
    served: Served, seen: FramesSeen
) -> None:
    replica = Replica()
    device = await served.subscribed("kitchen", replica, clean=False)
    look = seen.begin("kitchen")
    await served.publish(item("a", "one"))
    await device.publish()
    await device.peer.drop()

    device = await served.device("kitchen", replica, clean=False)
    again = await device.peer.expect(Publish)
    assert again.dup

    (frame,) = look.since(0)
    assert frame["again"] == 1


async def test_a_word_for_a_position_acknowledges_all_up_to_it(
    served: Served, seen: FramesSeen
) -> None:
    """As devices beside an outside broker confirm frames."""
    device = await served.subscribed("kitchen")
    look = seen.begin("kitchen")
    await served.publish(item("a", "one"), item("b", "two"), item("c", "three"))
    for _ in range(3):
        await device.publish()
    live = served.server.service.roster.get("kitchen")
    assert live is not None
    second = look.since(0)[1]["seq"]

    seen.confirmed(live.seat.shelf, np.array([live.seat.row], np.int32), np.array([second]))

    assert [frame["acked_at"] is not None for frame in look.since(0)] == [True, True, False]


async def test_a_device_that_moves_to_longer_windows_is_still_seen(
    served: Served, seen: FramesSeen
) -> None:
    device = await served.subscribed("kitchen")
    look = seen.begin("kitchen")
    await served.publish(item("a", "one"))
    await device.shows("one")

    device.say(Hello(*device.replica.position, HelloOptions(k=40)))
    snapshot = await device.snapshot()

    assert snapshot.k == 40
    assert look.since(0)[-1]["k"] == 40
    await eventually(lambda: look.since(0)[-1]["acked_at"])


async def test_no_more_than_the_last_frames_are_kept(served: Served, seen: FramesSeen) -> None:
    device = await served.subscribed("kitchen")
    look = seen.begin("kitchen")
    for each in range(KEPT + 5):
        await served.publish(item("a", f"content {each}"))
        await device.shows(f"content {each}")

    assert len(look.frames) == KEPT
    assert changes(look, 0) == [("put", 1, 1, "content 5")]
    assert [frame["id"] for frame in look.since(0)] == list(range(6, KEPT + 6))


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_follows_what_is_told_knows_what_the_device_shows(
    served: Served, seen: FramesSeen, seed: int
) -> None:
    draw = random.Random(seed)
    device = await served.device("kitchen")
    device.hello(HelloOptions(k=5))
    await device.subscribe()
    await device.frame()
    look = seen.begin("kitchen")
    for _ in range(12):
        ids = [f"i{draw.randrange(9)}" for _ in range(draw.randint(1, 4))]
        await served.publish(
            *(
                {"id": each, "retract": True}
                if draw.random() < 0.3
                else item(each, f"{each} {draw.random()}", draw.randrange(4))
                for each in ids
            )
        )
        await served.at_rest()
        await device.shows(*served.window("kitchen"))

    assert followed(look) == [item.n for item in device.replica.window]


def followed(look: Look) -> list[int]:
    """The window that the told changes lead to, in the way of somebody who reads them."""
    window: list[int] = []
    for frame in look.since(0):
        if frame["kind"] == "snapshot":
            window = []
        for change in frame["changes"]:
            if change["from"] is not None:
                assert window.pop(change["from"] - 1) == change["n"]
            if change["op"] != "remove":
                window.insert(change["to"] - 1, change["n"])
        del window[5:]
    return window


async def test_without_a_look_a_push_costs_one_truth_test(
    serve: Callable[..., Awaitable[Served]],
) -> None:
    """Whatever would be called without a tap would fail here."""
    served = await serve()
    device: Device = await served.subscribed("kitchen")
    seen = FramesSeen(served.server.service)
    look = seen.begin("kitchen")
    seen.end(look)

    await served.publish(item("a", "one"))
    await device.shows("one")

    assert look.changed == 0
