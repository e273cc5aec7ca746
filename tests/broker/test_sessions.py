"""Positions and sessions: what a device is sent when it comes, comes back, or changes its mind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from devices.frames import Delta, Hello, HelloOptions, Snapshot, decode_frame
from devices.packets import Connect, Disconnect, Puback, Publish, Pubrec, Pubrel
from devices.replica import Received, Replica
from tests.broker.support import Device, Served, eventually, item

Serve = Callable[..., Awaitable[Served]]


async def next_item(served: Served, device: Device, seq: int) -> Delta:
    """Publish one more item; its delta must be the frame after `seq`, so that nothing came between."""
    await served.publish(item("next", f"after {seq}"))
    delta = await device.delta()
    assert (delta.seq, delta.base) == (seq + 1, None)
    return delta


# ---- The answer to a position


async def test_subscribe_alone_is_answered_with_a_snapshot(served: Served) -> None:
    await served.publish(item("a", "one"), item("b", "two"))
    device = await served.device("kitchen")
    await device.subscribe()
    snapshot = await device.snapshot()
    assert (snapshot.seq, snapshot.k) == (1, 8)
    assert device.shown == ["two", "one"]


async def test_a_new_device_gets_an_empty_snapshot(served: Served) -> None:
    device = await served.subscribed("kitchen")
    assert device.replica.position[0] > 0
    assert device.shown == []


async def test_a_current_device_is_sent_nothing(served: Served) -> None:
    await served.publish(item("a", "one"))
    device = await served.subscribed("kitchen")
    await device.peer.leave()
    again = await served.device("kitchen", device.replica)
    again.hello()
    await again.subscribe()
    await served.at_rest()
    await next_item(served, again, device.replica.seq)


async def test_hello_and_subscribe_in_one_piece_are_one_question(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await device.peer.leave()
    await served.publish(item("a", "missed"))
    again = await served.device("kitchen", device.replica)
    again.hello()
    await again.subscribe()
    await again.delta()
    assert again.shown == ["missed"]
    await next_item(served, again, again.replica.seq)


async def test_a_known_older_position_gets_a_delta_from_there(served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "held"))
    await device.shows("held")
    old = Replica.from_state(device.replica.state())
    for number in range(3):
        await served.publish(item(f"later {number}", f"later {number}"))
        await device.frame()
    await device.peer.leave()
    again = await served.device("kitchen", old)
    again.hello()
    await again.subscribe()
    delta = await again.delta()
    assert delta.base == delta.seq - 4
    assert again.shown == device.shown


async def test_an_unknown_position_gets_a_snapshot(served: Served) -> None:
    device = await served.subscribed("kitchen")
    for number in range(8):
        await served.publish(item(str(number), f"item {number}"))
        await device.frame()
    epoch, seq = device.replica.position
    await device.peer.leave()
    forgotten = await served.device("kitchen", Replica(epoch=epoch, seq=1))
    forgotten.hello()
    await forgotten.subscribe()
    snapshot = await forgotten.snapshot()
    assert (snapshot.epoch, snapshot.seq) == (epoch, seq + 1)
    await forgotten.shows(*device.shown)


async def test_a_position_of_an_older_epoch_gets_a_snapshot(served: Served) -> None:
    device = await served.subscribed("kitchen")
    epoch, seq = device.replica.position
    await device.peer.leave()
    old = await served.device("kitchen", Replica(epoch=epoch - 1, seq=99))
    old.hello()
    await old.subscribe()
    snapshot = await old.snapshot()
    assert (snapshot.epoch, snapshot.seq) == (epoch, seq + 1)


async def test_a_device_ahead_of_the_server_starts_a_new_epoch(served: Served) -> None:
    device = await served.subscribed("kitchen")
    epoch, seq = device.replica.position
    await device.peer.leave()
    ahead = await served.device("kitchen", Replica(epoch=epoch + 5, seq=seq))
    ahead.hello()
    await ahead.subscribe()
    snapshot = await ahead.snapshot()
    assert (snapshot.epoch, snapshot.seq) == (epoch + 6, 1)


async def test_the_first_epoch_of_a_device_with_a_past_is_above_its_own(served: Served) -> None:
    device = await served.device("kitchen", Replica(epoch=7, seq=7))
    device.hello()
    await device.subscribe()
    assert (await device.snapshot()).epoch == 8


async def test_a_hello_on_a_subscribed_session_is_answered_at_once(served: Served) -> None:
    await served.publish(item("a", "one"))
    device = await served.subscribed("kitchen")
    device.say(Hello(0, 0))
    await device.snapshot()
    assert device.shown == ["one"]


async def test_a_hello_for_what_is_under_way_is_not_answered_again(served: Served) -> None:
    await served.publish(item("a", "one"))
    device = await served.device("kitchen")
    await device.subscribe()
    await device.snapshot(ack=False)
    device.say(Hello(0, 0))
    await eventually(lambda: served.count("up", "hello") == 1)
    await served.at_rest()
    await next_item(served, device, 1)


async def test_a_hello_acknowledges_everything_up_to_its_position(served: Served) -> None:
    device = await served.subscribed("kitchen")
    for number in range(4):
        await served.publish(item(str(number), f"item {number}"))
        await device.frame(ack=False)
    device.hello()
    for number in range(4, 8):
        await served.publish(item(str(number), f"item {number}"))
        await device.frame(ack=False)


async def test_hellos_are_rate_limited(serve: Serve) -> None:
    served = await serve(feed__hello_interval=0.3)
    loop = served.server.lane._loop
    await served.publish(item("a", "one"))
    device = await served.subscribed("kitchen")
    start = loop.time()
    device.say(Hello(0, 0))
    await device.snapshot()
    for _ in range(20):
        device.say(Hello(0, 0))
    await device.snapshot()
    assert loop.time() - start >= 0.29
    await device.peer.ping()
    assert served.count("up", "hello_deferred") > 0


# ---- What a hello may change


@pytest.mark.parametrize("k", [1, 5, 16, 64])
async def test_another_window_length_comes_with_a_snapshot(served: Served, k: int) -> None:
    """From 8 to 5 on the same shelf, to 16 and 64 on others."""
    items = [item(f"i{number}", f"item {number}") for number in range(20)]
    await served.publish(*items)
    device = await served.subscribed("kitchen")
    await device.shows(*(f"item {number}" for number in range(19, 11, -1)))
    device.say(Hello(*device.replica.position, HelloOptions(k=k)))
    snapshot = await device.snapshot()
    assert snapshot.k == k
    await device.shows(*(f"item {number}" for number in range(19, max(19 - k, -1), -1)))
    await served.publish(item("new", "new"))
    await device.delta()
    assert device.shown[0] == "new"
    assert len(device.shown) == min(k, 21)


async def test_window_lengths_are_kept_between_connections(served: Served) -> None:
    device = await served.device("kitchen", Replica(k=16))
    device.hello(HelloOptions(k=16))
    await device.subscribe()
    await device.snapshot()
    await device.peer.leave()
    again = await served.subscribed("kitchen")
    assert again.replica.k == 16


async def test_several_changes_of_length_on_one_connection_end_at_the_last(served: Served) -> None:
    await served.publish(*(item(str(number), f"item {number}") for number in range(20)))
    device = await served.device("kitchen")
    device.say(Hello(0, 0, HelloOptions(k=40)))
    await device.subscribe()
    for k in (3, 64, 8, 17):
        device.say(Hello(0, 0, HelloOptions(k=k)))
    while device.replica.k != 17 or len(device.shown) < 17:
        publish = await device.publish()
        assert device.replica.receive(publish.payload) is Received.APPLIED
        await device.acknowledge(publish)


# ---- Sessions


async def test_a_clean_session_begins_anew(served: Served) -> None:
    await served.publish(item("a", "one"))
    device = await served.device("kitchen")
    await device.subscribe()
    await device.snapshot(ack=False)
    await device.peer.leave()
    again = await served.device("kitchen")
    assert not again.session_present
    await served.at_rest()
    await again.peer.ping()  # not subscribed, so nothing comes
    await again.subscribe()
    await again.snapshot()


async def test_a_persistent_session_gets_unacknowledged_frames_again_and_then_the_difference(
    served: Served,
) -> None:
    device = await served.subscribed("kitchen", clean=False)
    unacknowledged = []
    for number in range(3):
        await served.publish(item(str(number), f"item {number}"))
        unacknowledged.append(await device.publish())
    # The second alone arrives and is acknowledged, out of order.
    device.peer.send(Puback(unacknowledged[1].packet_id))
    await device.peer.ping()
    await served.at_rest()
    await device.peer.drop()
    await served.publish({"id": "0", "retract": True}, item("3", "item 3"))
    again = await served.device("kitchen", Replica(epoch=0), clean=False)
    assert again.session_present
    for before in (unacknowledged[0], unacknowledged[2]):
        publish = await again.publish()
        assert publish.dup
        assert (publish.packet_id, publish.payload) == (before.packet_id, before.payload)
        assert publish.qos == before.qos == 1
        await again.acknowledge(publish)
    again.replica = device.replica
    for before in unacknowledged:
        again.replica.receive(before.payload)
    again.hello()
    delta = await again.delta()
    assert delta.base is None
    assert again.shown == ["item 3", "item 2", "item 1"]


async def test_frames_acknowledged_before_a_hello_is_answered_are_not_taken_for_lost(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hello was said before they arrived; the feed is again what the device had then."""
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "kept"))
    await device.shows("kept")
    await served.publish(item("b", "short-lived"))
    await device.publish()
    await device.peer.drop()
    await served.publish({"id": "b", "retract": True})
    again = await served.device("kitchen", device.replica, clean=False)
    with monkeypatch.context() as busy:
        busy.setattr(type(served.server.service.engine), "filled", lambda *_: False)
        again.hello()
        await again.frame()  # of before, with DUP
        await again.peer.ping()
        await eventually(lambda: not served.server.service.sending.waiting)
    assert again.shown == ["short-lived", "kept"]
    await again.delta()
    assert again.shown == ["kept"]


async def test_a_device_that_lost_its_latest_window_is_told_though_its_feed_is_the_older_one(
    served: Served,
) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "kept"))
    await device.shows("kept")
    old = Replica.from_state(device.replica.state())
    await served.publish(item("b", "short-lived"))
    await device.frame()
    await served.publish({"id": "b", "retract": True})
    await device.frame()
    await device.peer.leave()
    again = await served.device("kitchen", old)
    again.hello()
    await again.subscribe()
    delta = await again.delta()
    assert (delta.base, delta.ops) == (delta.seq - 3, ())
    assert again.shown == ["kept"]
    await next_item(served, again, again.replica.seq)


async def test_frames_are_sent_again_with_their_subscription_alone(serve: Serve) -> None:
    served = await serve(feed__hello_wait=0.1)
    await served.publish(item("a", "one"))
    device = await served.device("kitchen", clean=False)
    await device.subscribe()
    first = await device.publish()
    await device.peer.drop()
    again = await served.device("kitchen", clean=False)
    publish = await again.publish()
    assert publish.dup
    assert publish.payload == first.payload


async def test_a_resumed_session_that_says_nothing_gets_a_snapshot(serve: Serve) -> None:
    served = await serve(feed__hello_wait=0.1)
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "one"))
    await device.shows("one")
    await device.peer.leave()
    again = await served.device("kitchen", clean=False)
    assert again.session_present
    snapshot = await again.snapshot()
    assert snapshot.seq == device.replica.seq + 1
    assert again.shown == ["one"]


async def test_a_resumed_session_with_a_hello_is_not_asked_to_subscribe(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await device.peer.leave()
    await served.publish(item("a", "missed"))
    again = await served.device("kitchen", device.replica, clean=False)
    again.hello()
    await again.delta()
    assert again.shown == ["missed"]


async def test_unsubscribing_ends_the_feed_of_a_persistent_session(serve: Serve) -> None:
    served = await serve(feed__hello_wait=0.1)
    device = await served.subscribed("kitchen", clean=False)
    await device.peer.unsubscribe("f/kitchen")
    await served.publish(item("a", "unseen"))
    await served.at_rest()
    await device.peer.ping()
    await device.peer.leave()
    again = await served.device("kitchen", clean=False)
    assert served.server.service.roster._lives["kitchen"].due == 0
    await again.peer.ping()


async def test_a_clean_connection_ends_a_persistent_subscription(serve: Serve) -> None:
    served = await serve(feed__hello_wait=0.1)
    device = await served.subscribed("kitchen", clean=False)
    await device.peer.leave()
    clean = await served.device("kitchen")
    await clean.peer.leave()
    again = await served.device("kitchen", clean=False)
    assert not again.session_present
    assert served.server.registry.get("kitchen").subscribed is None  # type: ignore[union-attr]


async def test_a_taken_over_session_goes_on_where_it_was(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "one"))
    await device.publish()
    again = await served.device("kitchen", device.replica, clean=False)
    assert again.session_present
    publish = await again.publish()
    assert publish.dup
    again.replica.receive(publish.payload)
    await again.acknowledge(publish)
    again.hello()
    await served.at_rest()
    await next_item(served, again, again.replica.seq)
    await device.peer.expect_closed()


async def test_a_qos_2_frame_that_was_received_is_not_sent_again_but_released_again(
    serve: Serve,
) -> None:
    served = await serve(feed__qos_by_priority=[2, 2, 2, 2])
    device = await served.device("kitchen", Replica(max_qos=2), clean=False)
    device.hello(HelloOptions(max_qos=2))
    await device.subscribe(2)
    first = await device.publish()
    device.replica.receive(first.payload)
    device.peer.send(Pubrec(first.packet_id))
    assert await device.peer.expect(Pubrel) == Pubrel(first.packet_id)
    await served.publish(item("a", "one"))
    second = await device.publish()
    await device.peer.drop()
    peer = await served.peer()
    assert (await peer.greet(Connect("kitchen", clean_session=False))).session_present
    assert await peer.expect(Pubrel) == Pubrel(first.packet_id)
    again = await peer.expect(Publish)
    assert (again.packet_id, again.dup) == (second.packet_id, True)
    peer.send(b"\x70\x02" + first.packet_id.to_bytes(2, "big"))
    await peer.ping()


async def test_frames_sent_again_are_exempt_from_a_budget_lowered_since(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "x" * 180, brief="short"))
    await device.publish()
    await device.peer.drop()
    again = await served.device("kitchen", device.replica, clean=False)
    again.hello(HelloOptions(budget=96))
    publish = await again.publish()
    assert publish.dup
    again.replica.receive(publish.payload)
    await again.acknowledge(publish)
    await again.shows("short")


async def test_a_device_that_was_away_for_long_resumes_where_it_was(serve: Serve) -> None:
    """Its row is given up meanwhile, its position is not."""
    served = await serve(feed__away_after=60)
    await served.publish(item("a", "held"))
    device = await served.subscribed("kitchen")
    await device.peer.leave()
    lives = served.server.service.roster._lives
    await eventually(lambda: lives["kitchen"].connection is None)
    lives["kitchen"].away_since -= 60
    await eventually(lambda: "kitchen" not in lives)
    await served.publish(item("b", "missed"))
    again = await served.device("kitchen", device.replica)
    again.hello()
    await again.subscribe()
    frame = await again.delta()
    assert frame.base is None
    assert again.shown == ["missed", "held"]


async def test_restarting_in_order_keeps_positions_and_sessions(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "one"))
    first = await device.publish()
    device.replica.receive(first.payload)
    await served.restart()
    again = await served.device("kitchen", device.replica, clean=False)
    assert again.session_present
    publish = await again.publish()
    assert (publish.dup, publish.packet_id) == (True, first.packet_id)
    again.hello()
    await served.at_rest()
    epoch = device.replica.epoch
    delta = await next_item(served, again, again.replica.seq)
    assert delta.epoch == epoch


async def test_the_same_position_never_names_two_windows(served: Served) -> None:
    """Every frame of a device's life, over all its connections, by its position."""
    seen: dict[tuple[int, int], bytes] = {}
    for turn in range(4):
        device = await served.device("kitchen", Replica(k=8 if turn % 2 else 16))
        if turn:
            device.hello(HelloOptions(k=device.replica.k))
        await device.subscribe()
        for number in range(3):
            await served.publish(item(f"{turn} {number}", f"item {turn} {number}"))
        while not (device.shown and device.shown[0] == f"item {turn} 2"):
            publish = await device.publish()
            frame = decode_frame(publish.payload)
            assert isinstance(frame, Snapshot | Delta)
            assert seen.setdefault((frame.epoch, frame.seq), publish.payload) == publish.payload
            device.replica.receive(publish.payload)
            await device.acknowledge(publish)
        if turn == 2:
            await served.restart()
        else:
            await device.peer.leave()


# ---- Corners where connections, acknowledgements and positions meet


async def test_subscribing_after_an_answered_hello_costs_no_snapshot(served: Served) -> None:
    """A client library sends both in pieces of their own; the session was subscribed already."""
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "one"))
    await device.shows("one")
    await device.peer.leave()
    again = await served.device("kitchen", device.replica, clean=False)
    again.hello()
    await eventually(lambda: served.count("up", "hello") == 1)
    await served.at_rest()
    await again.subscribe()
    await served.at_rest()
    await next_item(served, again, device.replica.seq)


async def test_a_device_that_comes_back_has_its_full_time_to_acknowledge(serve: Serve) -> None:
    served = await serve(feed__stall_after=1, feed__stall_close=2)
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "one"))
    await device.publish()
    await device.peer.drop()
    live = served.server.service.roster.get("kitchen")
    assert live is not None
    await eventually(lambda: live.connection is None)
    ledger = served.server.service.roster.ledger(live)
    ledger.waiting_since[live.seat.row] -= 3600
    again = await served.device("kitchen", device.replica, clean=False)
    publish = await again.publish()
    again.hello()
    await served.at_rest()
    served.server.service._watch(served.server.lane._loop.time())
    assert served.count("closed", "stalled") == 0
    again.replica.receive(publish.payload)
    await again.acknowledge(publish)
    await again.peer.ping()


async def test_an_acknowledgement_right_before_disconnect_counts(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "one"))
    publish = await device.publish()
    device.replica.receive(publish.payload)
    device.peer.send(Puback(publish.packet_id), Disconnect())
    await device.peer.expect_end()
    again = await served.device("kitchen", device.replica, clean=False)
    again.hello()
    await served.at_rest()
    delta = await next_item(served, again, again.replica.seq)
    assert delta.base is None
    assert served.count("frames", "resent") == 0


async def test_a_lower_subscription_while_frames_are_in_flight_loses_none_of_them(
    serve: Serve,
) -> None:
    served = await serve(feed__hello_wait=0.1)
    device = await served.subscribed("kitchen", clean=False)
    await served.publish(item("a", "one"))
    first = await device.publish()
    await device.subscribe(0)
    await served.publish(item("b", "two"))
    await served.at_rest()
    await device.peer.drop()
    again = await served.device("kitchen", device.replica, clean=False)
    resent = await again.publish()
    assert (resent.dup, resent.packet_id, resent.payload) == (True, first.packet_id, first.payload)
    again.replica.receive(resent.payload)
    await again.acknowledge(resent)
    again.hello()
    await served.publish(item("c", "three"))
    await again.shows("three", "two", "one")


async def test_a_hello_with_too_small_a_budget_is_refused_and_counted(served: Served) -> None:
    long = "a-device-with-the-longest-id-that-there-may-be-in-this-protocol"
    device = await served.device(long)
    device.say(Hello(0, 0, HelloOptions(budget=96)))
    await device.subscribe()
    await device.snapshot()
    assert served.count("dropped", "hello_budget_too_small") == 1
    assert served.server.registry.get(long).budget == 256  # type: ignore[union-attr]


async def test_what_a_full_socket_takes_in_part_stays_in_order(served: Served) -> None:
    """The socket takes a part of the first frame and, when it has drained, all of the next."""
    await served.publish(*(item(str(n), f"{n} " + "x" * 150) for n in range(8)))
    device = await served.device("kitchen")
    device.say(Hello(0, 0))
    await eventually(lambda: served.server.service.roster.get("kitchen"))
    live = served.server.service.roster.get("kitchen")
    assert live is not None
    shelf = served.server.service.roster.shelves[live.seat.shelf]
    send = shelf.sends[live.seat.row]
    calls = 0

    def nearly_full(packet: bytes) -> int:
        nonlocal calls
        calls += 1
        return send(packet[:5] if calls == 1 else packet)

    shelf.sends[live.seat.row] = nearly_full
    await device.subscribe()
    await device.shows(*(f"{n} " + "x" * 150 for n in range(7, -1, -1)))


async def test_a_device_that_is_ahead_and_changes_its_length_gets_a_new_epoch(
    served: Served,
) -> None:
    """A snapshot in the epoch of the server would be stale to it, for ever."""
    await served.publish(item("a", "one"))
    device = await served.subscribed("kitchen")
    epoch = device.replica.epoch
    for ahead, k in (((epoch + 1000, 5), 3), ((epoch + 1001, 900), 20)):
        await device.peer.drop()
        replica = Replica(k)
        replica.epoch, replica.seq = ahead
        device = await served.device("kitchen", replica)
        device.hello(HelloOptions(k=k))
        await device.subscribe()
        snapshot = await device.snapshot()
        assert snapshot.epoch == ahead[0] + 1
        assert snapshot.k == k
