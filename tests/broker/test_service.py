"""From PUBLISH to frame: what devices see of items, and what the server makes of their messages."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from devices.frames import (
    Delta,
    Event,
    Feedback,
    HelloOptions,
    Kind,
    Move,
    Profile,
    Put,
    Remove,
    encode_up,
)
from devices.packets import Puback, Publish, Pubrec, Pubrel, encode
from devices.replica import Replica
from tests.broker.support import Served, follow, item, packed

Serve = Callable[..., Awaitable[Served]]


# ---- Items become frames


async def test_an_item_is_one_put_of_a_few_bytes(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a1", "Flood warning until 9 pm", 3))
    publish = await device.publish()
    assert publish.qos == 1
    frame = device.replica.receive(publish.payload)
    assert frame == "applied"
    assert device.shown == ["Flood warning until 9 pm"]
    assert len(publish.payload) <= 20 + len("Flood warning until 9 pm")


async def test_an_item_reaches_every_follower_and_nobody_else(served: Served) -> None:
    kitchen, hall = await served.subscribed("kitchen"), await served.subscribed("hall")
    await hall.tell(follow("sports/#", unfollow=["#"]))
    await served.publish(item("a", "rain"), channel="weather/ca")
    await served.publish(item("b", "goal"), channel="sports/football")
    await kitchen.shows("goal", "rain")
    await hall.shows("goal")


async def test_an_update_replaces_the_item_in_its_place(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "first", 2), item("b", "second", 1))
    await device.shows("first", "second")
    n = device.number("first")
    await served.publish(item("a", "corrected", 2))
    delta = await device.delta()
    assert [type(op) for op in delta.ops] == [Put]
    assert device.shown == ["corrected", "second"]
    assert device.number("corrected") == n


async def test_identical_content_changes_nothing(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "same"))
    await device.shows("same")
    seq = device.replica.seq
    await served.publish(item("a", "same"), item("a", "same"), item("b", "next"))
    delta = await device.delta()
    assert delta.seq == seq + 1
    assert device.shown == ["next", "same"]
    assert served.count("items", "unchanged") == 2


async def test_a_lower_revision_is_a_redelivery(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "two", rev=2), item("a", "one", rev=1), item("b", "next"))
    await device.shows("next", "two")
    assert served.count("items", "stale") == 1


async def test_a_retraction_removes_the_item_from_every_feed(served: Served) -> None:
    devices = [await served.subscribed(name) for name in ("kitchen", "hall")]
    await served.publish(item("a", "wrong"), item("b", "right"))
    for device in devices:
        await device.shows("right", "wrong")
    await served.publish({"id": "a", "retract": True})
    for device in devices:
        delta = await device.delta()
        assert delta.ops == (Remove(1),)
    late = await served.subscribed("late")
    assert late.shown == ["right"]


async def test_a_retracted_item_does_not_come_back_by_a_redelivery(served: Served) -> None:
    device = await served.subscribed("kitchen")
    wrong = json.dumps(item("a", "wrong")).encode()
    peer = await served.connect("publisher")
    await peer.publish("items/news", wrong)
    await peer.publish("items/news", b'{"id": "a", "retract": true}')
    await peer.publish("items/news", wrong, dup=True)
    await peer.publish("items/news", json.dumps(item("b", "right")).encode())
    await device.shows("right")
    await peer.publish("items/news", wrong)
    await device.shows("wrong", "right")


async def test_only_the_newest_of_a_collapse_key_stays(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "0:0", collapse="match"), item("x", "other"))
    await served.publish(item("b", "1:0", collapse="match"), item("c", "2:0", collapse="match"))
    await device.shows("2:0", "other")
    await served.publish({"id": "c", "retract": True})
    await device.shows("1:0", "other")


async def test_where_reaches_only_devices_whose_attributes_match(served: Served) -> None:
    north, south = await served.subscribed("north"), await served.subscribed("south")
    await north.tell(Profile(attrs={"region": "north", "model": 3}))
    await south.tell(Profile(attrs={"region": "south"}))
    await served.publish(
        item("a", "snow", where={"region": "north"}),
        item("b", "for 3 and 4", where={"region": ["north", "south"], "model": [3, 4]}),
        item("c", "all"),
    )
    await north.shows("all", "for 3 and 4", "snow")
    await south.shows("all")


async def test_a_device_that_moves_gets_what_holds_there(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "snow", where={"region": "north"}), item("b", "all"))
    await device.shows("all")
    await device.tell(Profile(attrs={"region": "north"}))
    await device.shows("all", "snow")
    await device.tell(Profile(attrs={"region": "south"}))
    await device.shows("all")


async def test_following_and_unfollowing_change_the_window_at_once(served: Served) -> None:
    await served.publish(item("a", "rain"), channel="weather/ca")
    await served.publish(item("b", "goal"), channel="sports")
    device = await served.subscribed("kitchen")
    assert device.shown == ["goal", "rain"]
    await device.tell(follow("weather/+", unfollow=["#"]))
    await device.shows("rain")
    await device.tell(follow("sports"))
    await device.shows("goal", "rain")
    await device.tell(follow(unfollow=["weather/+", "nothing/like/this"]))
    await device.shows("goal")


async def test_a_device_follows_only_what_is_permitted(serve: Serve) -> None:
    served = await serve(feed__permitted=["public/#"], feed__default_follow=["public/#"])
    device = await served.subscribed("kitchen")
    await device.tell(follow("secret/#", "public/more"))
    assert served.count("dropped", "profile_not_permitted") == 1
    await served.publish(item("a", "hidden"), channel="secret/x")
    await served.publish(item("b", "seen"), channel="public/x")
    await device.shows("seen")


async def test_a_window_holds_its_best_and_the_next_best_come_back(served: Served) -> None:
    """Sixteen urgent items that last a second push the day's items out of a window of eight."""
    daily = [item(f"d{i}", f"day {i}") for i in range(8)]
    await served.publish(*daily)
    device = await served.subscribed("kitchen")
    mine = list(device.shown)
    await served.publish(*(item(f"u{i}", f"urgent {i}", 3, ttl=1) for i in range(16)))
    while not all(str(shown).startswith("urgent") for shown in device.shown):
        await device.frame()
    assert len(device.shown) == 8
    await device.shows(*mine)
    assert served.count("items", "expired") == 16


async def test_expiry_is_told_only_to_devices_with_a_clock(served: Served) -> None:
    await served.publish(item("a", "soon over", ttl=3600))
    plain = await served.subscribed("plain")
    timed = await served.device("timed", Replica(clock=True))
    timed.hello(HelloOptions(clock=True))
    await timed.subscribe()
    await timed.snapshot()
    assert plain.replica.window[0].expires == 0
    record = next(iter(served.server.service.catalog))
    assert timed.replica.window[0].expires == record.expires


async def test_msgpack_and_opaque_items_are_items_too(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(packed(id="m", payload=b"\x00\xff"), b"just bytes")
    await device.shows(b"just bytes", b"\x00\xff")


async def test_a_map_travels_as_its_msgpack(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish({"id": "m", "payload": {"level": 3}})
    await device.shows(b"\x81\xa5level\x03")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "bad_json"),
        (b"\x81", "bad_msgpack"),
        (b"", "missing_payload"),
        (b'{"id": "a"}', "missing_payload"),
        (b'{"retract": true}', "missing_id"),
        (b'{"payload": "x", "colour": "red"}', "unknown_key"),
        (b'{"payload": "x", "payload": "y"}', "duplicate_key"),
        (b'{"payload": "x", "priority": 4}', "bad_value"),
        (b'{"payload": "x", "priority": 1.0}', "bad_type"),
        (b'{"payload": "x", "ttl": 0}', "bad_value"),
        (b'{"payload": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}", "too_deep"),
        (b"x" * 65_537, "too_large"),
    ],
)
async def test_an_invalid_item_is_acknowledged_counted_and_seen_by_nobody(
    served: Served, payload: bytes, reason: str
) -> None:
    device = await served.subscribed("kitchen")
    peer = await served.connect("publisher")
    await peer.publish("items/news", payload)
    peer.send(Publish("items/news", payload, 2, 77))
    assert await peer.expect(Pubrec) == Pubrec(77)
    assert (await served.command("status"))["counters"]["rejected"] == {reason: 2}
    await peer.publish("items/news", b"valid")
    await device.shows(b"valid")


async def test_an_item_on_no_channel_is_refused(served: Served) -> None:
    peer = await served.connect("publisher")
    await peer.publish("items/", b"x")
    assert served.server.counters.rejected == {"bad_channel": 1}


# ---- Sizes


async def test_no_packet_is_longer_than_the_budget(served: Served) -> None:
    long = "x" * 96
    names = [item(f"{i}", f"{i} {long}") for i in range(8)]
    await served.publish(*names)
    device = await served.device("kitchen")
    await device.subscribe()
    lengths = []
    for _ in range(8):
        publish = await device.publish()
        lengths.append(len(encode(publish)))
        device.replica.receive(publish.payload)
        await device.acknowledge(publish)
        if len(device.shown) == 8:
            break
    assert device.shown == [f"{7 - i} {long}" for i in range(8)]
    assert max(lengths) <= 256
    assert len(lengths) > 1


async def test_a_device_with_the_least_budget_gets_briefs_and_what_fits(served: Served) -> None:
    await served.publish(
        item("a", "a long story " * 10, brief="short"),
        item("b", "tiny"),
        item("c", "too long for the kitchen " * 4),
    )
    device = await served.device("kitchen", Replica(budget=96))
    device.hello(HelloOptions(budget=96))
    await device.subscribe()
    while device.shown != ["tiny", "short"]:
        publish = await device.publish()
        assert len(encode(publish)) <= 96
        assert device.replica.receive(publish.payload) == "applied"
        await device.acknowledge(publish)
    assert served.window("kitchen") == ["tiny", "short"]


async def test_another_budget_is_answered_with_a_snapshot_that_fits_it(served: Served) -> None:
    await served.publish(item("a", "a story of some length " * 4, brief="short"))
    device = await served.subscribed("kitchen")
    assert device.shown == ["a story of some length " * 4]
    device.hello(HelloOptions(budget=96))
    await device.snapshot()
    await device.shows("short")


async def test_an_item_as_long_as_a_packet_may_be_reaches_a_large_budget(served: Served) -> None:
    device = await served.device("kitchen", Replica(budget=65_536))
    device.hello(HelloOptions(budget=65_536))
    await device.subscribe()
    await device.snapshot()
    large = "x" * 65_000
    await served.publish(item("a", large))
    await device.shows(large)


# ---- QoS of frames


async def test_the_highest_priority_in_a_frame_chooses_its_qos(serve: Serve) -> None:
    served = await serve(feed__qos_by_priority=[0, 1, 1, 2])
    device = await served.device("kitchen", Replica(max_qos=2))
    device.hello(HelloOptions(max_qos=2))
    await device.subscribe(2)
    await device.snapshot()
    for priority, qos in enumerate((0, 1, 1, 2)):
        await served.publish(item(str(priority), f"priority {priority}", priority))
        publish = await device.publish()
        assert publish.qos == qos
        device.replica.receive(publish.payload)
        await device.acknowledge(publish)
    await device.peer.ping()
    assert device.shown == [f"priority {3 - i}" for i in range(4)]


async def test_a_qos_2_frame_is_complete_with_pubcomp(serve: Serve) -> None:
    served = await serve(feed__qos_by_priority=[2, 2, 2, 2], feed__max_inflight=1)
    device = await served.device("kitchen", Replica(max_qos=2))
    device.hello(HelloOptions(max_qos=2))
    await device.subscribe(2)
    first = await device.publish()
    assert first.qos == 2
    device.replica.receive(first.payload)
    await served.publish(item("a", "waits"))
    device.peer.send(Pubrec(first.packet_id))
    assert await device.peer.expect(Pubrel) == Pubrel(first.packet_id)
    await served.at_rest()
    await device.peer.ping()  # nothing yet: PUBCOMP is missing
    device.peer.send(b"\x70\x02" + first.packet_id.to_bytes(2, "big"))
    await device.shows("waits")


@pytest.mark.parametrize(("subscribed", "maximum", "qos"), [(0, 1, 0), (1, 0, 0), (2, 1, 1)])
async def test_subscription_and_device_can_only_lower_the_qos(
    served: Served, subscribed: int, maximum: int, qos: int
) -> None:
    device = await served.device("kitchen", Replica(max_qos=maximum))
    device.hello(HelloOptions(max_qos=maximum))
    await device.subscribe(subscribed)
    assert (await device.publish()).qos in {0, qos}
    await served.publish(item("a", "urgent", 3))
    assert (await device.publish()).qos == qos


# ---- Feedback


async def test_a_dismissed_item_leaves_and_never_returns(served: Served) -> None:
    device = await served.subscribed("kitchen")
    other = await served.subscribed("hall")
    await served.publish(item("a", "boring"), item("b", "good"))
    await device.shows("good", "boring")
    await device.tell(Feedback((Event(device.number("boring"), Kind.DISMISSED),)))
    delta = await device.delta()
    assert delta.ops == (Remove(1),)
    await served.publish(item("a", "boring, but corrected"))
    await other.shows("good", "boring, but corrected")
    assert served.window("kitchen") == ["good"]
    await device.peer.leave()
    again = await served.subscribed("kitchen")
    assert again.shown == ["good"]
    await served.restart()
    after = await served.subscribed("kitchen")
    assert after.shown == ["good"]


async def test_feedback_counts_once_and_only_for_what_was_sent(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "seen"))
    await device.shows("seen")
    n = device.number("seen")
    opened = Feedback((Event(n, Kind.OPENED), Event(n, Kind.SHOWN, 0), Event(n + 1, Kind.OPENED)))
    await device.tell(opened)
    await device.tell(opened)
    assert served.count("dropped", "feedback_unknown_item") == 2
    assert served.count("dropped", "feedback_repeated") == 2
    assert served.count("up", "feedback") == 2


async def test_a_device_cannot_dismiss_for_another(served: Served) -> None:
    kitchen, hall = await served.subscribed("kitchen"), await served.subscribed("hall")
    await hall.tell(follow("other", unfollow=["#"]))
    await served.publish(item("a", "mine"))
    await kitchen.shows("mine")
    await hall.tell(Feedback((Event(kitchen.number("mine"), Kind.DISMISSED),)))
    assert served.count("dropped", "feedback_unknown_item") == 1
    assert served.window("kitchen") == ["mine"]


# ---- Slow and silent devices


async def test_a_device_that_does_not_acknowledge_gets_the_net_difference_later(
    served: Served,
) -> None:
    device = await served.subscribed("kitchen")
    unacknowledged: list[Publish] = []
    for number in range(4):
        await served.publish(item(str(number), f"item {number}"))
        unacknowledged.append(await device.publish())
        device.replica.receive(unacknowledged[-1].payload)
    for number in range(4, 30):
        await served.publish(item("changing", f"version {number}"))
    await served.at_rest()
    await device.peer.ping()  # nothing comes beyond what may be in flight
    described = await served.command("device.show", device="kitchen")
    assert (described["unacknowledged"], described["up_to_date"]) == (4, False)
    device.peer.send(*(Puback(each.packet_id) for each in unacknowledged))
    frame = await device.frame()
    assert isinstance(frame, Delta)
    assert device.shown == ["version 29", "item 3", "item 2", "item 1", "item 0"]
    await device.peer.ping()


async def test_a_device_that_stops_reading_holds_up_nobody_and_converges_later(
    serve: Serve,
) -> None:
    served = await serve(feed__max_inflight=8, limits__write_buffer=4096)
    replica = Replica(budget=65_536, max_qos=0)
    stuck = await served.device("stuck", replica)
    stuck.hello(HelloOptions(budget=65_536, max_qos=0))
    await stuck.subscribe(0)
    await stuck.frame()
    fine = await served.device("fine", Replica(budget=65_536))
    fine.hello(HelloOptions(budget=65_536))
    await fine.subscribe()
    await fine.frame()
    stuck.peer.pause_reading()
    ledger = served.server.service.roster.shelves[0].ledger
    row = served.server.service.roster._lives["stuck"].seat.row
    count = 0
    # Until socket and buffer are full; each content is new, so nothing can be left out.
    while not ledger.blocked[row]:
        count += 1
        assert count < 500
        await served.publish(item("big", f"{count} " + "x" * 60_000))
        await fine.shows(f"{count} " + "x" * 60_000)
    sent = served.count("frames", "sent")
    await served.publish(item("big", "the end"))
    await fine.shows("the end")
    assert served.count("frames", "sent") == sent + 1
    stuck.peer.resume_reading()
    await stuck.shows("the end")


async def test_a_device_that_never_acknowledges_is_closed(serve: Serve) -> None:
    served = await serve(feed__stall_after=1, feed__stall_close=2)
    await served.publish(item("a", "wants an acknowledgement"))
    device = await served.device("kitchen")
    await device.subscribe()
    await device.publish()
    service = served.server.service
    service.roster.shelves[0].ledger.waiting_since[service.roster._lives["kitchen"].seat.row] -= 2
    await device.peer.expect_closed()
    assert served.count("closed", "stalled") == 1


# ---- Malformed up messages


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "bad_msgpack"),
        (b"\xc1", "bad_msgpack"),
        (b"\x80", "not_an_array"),
        (b"\x91\x09", "unknown_type"),
        (b"\x93\x00\x01\xff", "bad_value"),
        (b"\x93\x00\x00\x00\x00", "trailing_bytes"),
        (b"\x92\x02\x91\x92\x01\x09", "bad_value"),
        (b"\x92\x03\x81\xa6follow\x91\xa2a#", "bad_filter"),
        (b"x" * 2049, "too_large"),
    ],
)
async def test_a_malformed_up_message_is_dropped_and_counted(
    served: Served, payload: bytes, reason: str
) -> None:
    device = await served.subscribed("kitchen")
    await device.tell(payload)
    dropped = served.server.counters.dropped
    assert dropped.total() == 1, dropped
    assert dropped[f"up_{reason}"] == 1, dropped
    await served.publish(item("a", "still served"))
    await device.shows("still served")


async def test_a_bye_changes_nothing_here(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await device.tell(b"\x92\x04\x07")
    await served.publish(item("a", "served until it goes"))
    await device.shows("served until it goes")


async def test_the_prefix_stands_before_all_topics(serve: Serve) -> None:
    served = await serve(feed__prefix="site1/")
    peer = await served.connect("kitchen")
    assert await peer.subscribe(("site1/f/kitchen", 1)) == (1,)
    first = await peer.expect(Publish)
    assert first.topic == "site1/f/kitchen"
    await peer.publish("site1/u/kitchen", encode_up(follow("a")))
    await peer.publish("site1/items/a", b"x")
    assert (await peer.expect(Publish)).payload.endswith(b"x")


async def test_moves_travel_when_an_update_changes_only_the_rank(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "a"), item("b", "b"), item("c", "c"))
    await device.shows("c", "b", "a")
    n = device.number("a")
    await served.publish(item("a", "a", 3))
    delta = await device.delta()
    assert device.shown == ["a", "c", "b"]
    assert device.number("a") == n
    assert not any(isinstance(op, Move) for op in delta.ops)  # its priority is part of the item
