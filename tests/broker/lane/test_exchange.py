"""Ordinary MQTT on every topic that is not the feed's, over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from devices.packets import (
    Connack,
    Connect,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsubscribe,
    Will,
    encode,
)
from devices.registry import hash_secret
from tests.broker.support import Peer, Served, ServerProcess, Target, eventually, follow, item

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture(params=["asyncio", "uvloop"])
async def either(
    request: pytest.FixtureRequest, serve: Serve, process: Callable[..., ServerProcess]
) -> AsyncIterator[Target]:
    """A server on each event loop; uvloop's writes wait for the end of a turn."""
    if request.param == "asyncio":
        yield await serve()
    else:
        yield process()


async def expect_message(peer: Peer, topic: str, payload: bytes) -> Publish:
    publish = await peer.expect(Publish)
    assert (publish.topic, publish.payload) == (topic, payload)
    if publish.qos == 1:
        peer.send(Puback(publish.packet_id))
    return publish


async def receive_once(peer: Peer, topic: str, payload: bytes) -> None:
    """A message of QoS 2, with its whole handshake."""
    publish = await expect_message(peer, topic, payload)
    assert publish.qos == 2
    peer.send(Pubrec(publish.packet_id))
    assert await peer.expect(Pubrel) == Pubrel(publish.packet_id)
    peer.send(encode(Pubcomp(publish.packet_id)))


# ---- Messages


@pytest.mark.parametrize("qos", [0, 1])
async def test_ordinary_clients_speak_with_each_other(either: Target, qos: int) -> None:
    listener = await either.connect("listener")
    assert await listener.subscribe(("home/+/light", qos)) == (qos,)
    speaker = await either.connect("speaker")
    for number in range(5):
        await speaker.publish("home/hall/light", b"on %d" % number, qos)
        publish = await expect_message(listener, "home/hall/light", b"on %d" % number)
        assert publish.qos == qos


async def test_qos_2_passes_in_both_directions(served: Served) -> None:
    listener = await served.connect("listener")
    assert await listener.subscribe(("home", 2)) == (2,)
    speaker = await served.connect("speaker")
    speaker.send(Publish("home", b"once", 2, 7), Publish("home", b"once", 2, 7, dup=True))
    assert [await speaker.expect(Pubrec) for _ in range(2)] == [Pubrec(7)] * 2
    speaker.send(Pubrel(7))
    assert await speaker.expect(Pubcomp) == Pubcomp(7)
    await receive_once(listener, "home", b"once")
    await listener.ping()


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
async def test_a_message_comes_at_the_lower_of_both_qos(
    served: Served, published: int, granted: int
) -> None:
    listener, speaker = await served.connect("listener"), await served.connect("speaker")
    await listener.subscribe(("home", granted))
    speaker.send(Publish("home", b"x", published, 1 if published else 0))
    assert (await expect_message(listener, "home", b"x")).qos == min(published, granted)


async def test_overlapping_subscriptions_give_one_copy_at_the_highest_qos(served: Served) -> None:
    listener, speaker = await served.connect("listener"), await served.connect("speaker")
    await listener.subscribe(("home/#", 0), ("home/+", 1), ("#", 0))
    await speaker.publish("home/x", b"1")
    assert (await expect_message(listener, "home/x", b"1")).qos == 1
    await listener.ping()


async def test_unsubscribing_ends_it(served: Served) -> None:
    listener, speaker = await served.connect("listener"), await served.connect("speaker")
    await listener.subscribe(("home", 0), ("end", 0))
    await listener.unsubscribe("home", "never/subscribed")
    await speaker.publish("home", b"unheard")
    await speaker.publish("end", b"heard")
    await expect_message(listener, "end", b"heard")


async def test_retained_messages_come_behind_suback_with_their_flag(served: Served) -> None:
    speaker = await served.connect("speaker")
    speaker.send(Publish("home/mode", b"away", 1, 1, retain=True))
    await speaker.expect(Puback)
    listener = await served.connect("listener")
    listener.send(Subscribe(1, (("home/#", 1), ("+/mode", 0))))
    assert await listener.expect(Suback) == Suback(1, (1, 0))
    assert await listener.expect(Publish) == Publish("home/mode", b"away", 1, 0x8000, retain=True)
    assert await listener.expect(Publish) == Publish("home/mode", b"away", retain=True)
    await speaker.publish("home/mode", b"back")
    assert not (await expect_message(listener, "home/mode", b"back")).retain


async def test_connecting_alone_shows_nothing_that_is_retained(served: Served) -> None:
    speaker = await served.connect("speaker")
    speaker.send(Publish("secret/code", b"1234", 1, 1, retain=True))
    await speaker.expect(Puback)
    for clean in (True, False):
        spy = await served.connect("spy", clean=clean)
        await spy.ping()


async def test_five_hundred_acknowledged_messages_before_disconnect_all_arrive(
    either: Target,
) -> None:
    listener = await either.connect("listener", clean=False)
    await listener.subscribe(("home", 1))
    speaker = await either.connect("speaker")
    speaker.send(*(Publish("home", b"%d" % n, 1, n + 1) for n in range(500)))
    for number in range(500):
        assert await speaker.expect(Puback) == Puback(number + 1)
    speaker.send(Disconnect())
    for number in range(500):
        await expect_message(listener, "home", b"%d" % number)


async def test_what_is_published_right_before_disconnect_arrives(either: Target) -> None:
    listener = await either.connect("listener")
    await listener.subscribe(("home", 0))
    for number in range(30):
        speaker = await either.connect("speaker")
        speaker.send(Publish("home", b"%d" % number), Disconnect())
        await expect_message(listener, "home", b"%d" % number)


async def test_large_messages_in_a_burst_reach_a_client_that_reads(either: Target) -> None:
    listener, speaker = await either.connect("listener"), await either.connect("speaker")
    await listener.subscribe(("home", 1))
    for number in range(20):
        await speaker.publish("home", b"%02d" % number + bytes(69_900))
    for number in range(20):
        publish = await listener.expect(Publish)
        assert publish.payload[:2] == b"%02d" % number
        listener.send(Puback(publish.packet_id))


async def test_everything_in_one_piece_arrives_in_order(served: Served) -> None:
    listener = await served.connect("listener")
    await listener.subscribe(("home", 0))
    speaker = await served.peer()
    speaker.send(Connect("speaker"), *(Publish("home", b"%d" % number) for number in range(20)))
    assert (await speaker.expect(Connack)).code == 0
    for number in range(20):
        await expect_message(listener, "home", b"%d" % number)


async def test_an_anonymous_client_hears_itself(served: Served) -> None:
    peer = await served.connect("")
    assert await peer.subscribe(("home", 0)) == (0,)
    await peer.publish("home", b"to myself", 0)
    await expect_message(peer, "home", b"to myself")


# ---- Sessions


async def test_a_persistent_session_keeps_what_comes_while_it_is_away(served: Served) -> None:
    listener = await served.connect("listener", clean=False)
    await listener.subscribe(("home", 1), ("zero", 0))
    await listener.leave()
    speaker = await served.connect("speaker")
    for number in range(20):
        await speaker.publish("home", b"%d" % number)
    await speaker.publish("zero", b"not kept")
    again = await served.peer()
    assert await again.greet(Connect("listener", clean_session=False)) == Connack(True, 0)
    for number in range(20):
        publish = await expect_message(again, "home", b"%d" % number)
        assert not publish.dup
        assert not publish.retain
    await again.ping()


async def test_what_was_not_acknowledged_comes_again_with_its_identifier(served: Served) -> None:
    listener = await served.connect("listener", clean=False)
    await listener.subscribe(("home", 2))
    speaker = await served.connect("speaker")
    await speaker.publish("home", b"one")
    speaker.send(Publish("home", b"two", 2, 9), Pubrel(9))
    one, two = await listener.expect(Publish), await listener.expect(Publish)
    listener.send(Pubrec(two.packet_id))
    assert await listener.expect(Pubrel) == Pubrel(two.packet_id)
    await listener.drop()
    again = await served.connect("listener", clean=False)
    assert await again.expect(Publish) == Publish("home", b"one", 1, one.packet_id, dup=True)
    assert await again.expect(Pubrel) == Pubrel(two.packet_id)
    again.send(encode(Pubcomp(two.packet_id)), Puback(one.packet_id))
    await again.leave()
    third = await served.connect("listener", clean=False)
    await third.ping()


async def test_a_publisher_that_comes_back_with_pubrel_alone_has_published_once(
    served: Served,
) -> None:
    listener = await served.connect("listener")
    await listener.subscribe(("home", 2))
    speaker = await served.connect("speaker", clean=False)
    speaker.send(Publish("home", b"once", 2, 5))
    assert await speaker.expect(Pubrec) == Pubrec(5)
    await speaker.drop()
    again = await served.connect("speaker", clean=False)
    again.send(Publish("home", b"once", 2, 5, dup=True))
    assert await again.expect(Pubrec) == Pubrec(5)
    await again.drop()
    last = await served.connect("speaker", clean=False)
    last.send(Pubrel(5))
    assert await last.expect(Pubcomp) == Pubcomp(5)
    await receive_once(listener, "home", b"once")
    await listener.ping()


async def test_others_may_subscribe_meanwhile_and_nothing_acknowledged_is_lost(
    either: Target,
) -> None:
    listener, speaker = await either.connect("listener"), await either.connect("speaker")
    restless = await either.connect("restless")
    await listener.subscribe(("home/#", 1))
    speaker.send(*(Publish(f"home/{n % 7}", b"%d" % n, 1, n + 1) for n in range(300)))
    for number in range(300):
        name = f"home/+/{number}"
        restless.send(Subscribe(1, ((name, 1), ("home/3", 0))), Unsubscribe(2, (name,)))
    for number in range(300):
        assert await speaker.expect(Puback) == Puback(number + 1)
        await expect_message(listener, f"home/{number % 7}", b"%d" % number)


async def test_messages_of_several_publishers_keep_their_order(either: Target) -> None:
    listener = await either.connect("listener")
    await listener.subscribe(("home/+", 1))
    speakers = [await either.connect(f"speaker{n}") for n in range(4)]
    for number, speaker in enumerate(speakers):
        speaker.send(*(Publish(f"home/{number}", b"%d" % n, 1, n + 1) for n in range(200)))
    seen: dict[str, list[int]] = {}
    for _ in range(800):
        publish = await listener.expect(Publish)
        listener.send(Puback(publish.packet_id))
        seen.setdefault(publish.topic, []).append(int(publish.payload))
    assert list(seen.values()) == [list(range(200))] * 4


async def test_a_window_full_of_unacknowledged_messages_holds_the_others_back(serve: Serve) -> None:
    served = await serve(topics__max_inflight=3, topics__max_queued=2)
    listener, speaker = await served.connect("listener"), await served.connect("speaker")
    await listener.subscribe(("home", 1))
    for number in range(7):
        await speaker.publish("home", b"%d" % number)
    first = [await listener.expect(Publish) for _ in range(3)]
    await listener.ping()
    assert served.count("dropped", "outbox_full") == 2
    listener.send(*(Puback(publish.packet_id) for publish in first))
    for number in (3, 4):
        await expect_message(listener, "home", b"%d" % number)
    await listener.ping()


async def test_a_clean_session_forgets_everything(served: Served) -> None:
    listener = await served.connect("listener", clean=False)
    await listener.subscribe(("home", 1))
    await listener.leave()
    fresh = await served.peer()
    assert await fresh.greet(Connect("listener", clean_session=True)) == Connack(False, 0)
    speaker = await served.connect("speaker")
    await speaker.publish("home", b"unheard")
    await fresh.ping()
    await fresh.leave()
    last = await served.peer()
    assert await last.greet(Connect("listener", clean_session=False)) == Connack(False, 0)


@pytest.mark.parametrize("clean", [True, False])
async def test_a_hundred_rapid_reconnects_leave_one_live_connection(
    either: Target, clean: bool
) -> None:
    peers = [await either.connect("listener", clean=clean) for _ in range(100)]
    for old in peers[:-1]:
        await old.expect_closed()
    new = peers[-1]
    assert await new.subscribe(("home", 1)) == (1,)
    speaker = await either.connect("speaker")
    await speaker.publish("home", b"to the last one")
    await expect_message(new, "home", b"to the last one")
    await new.ping()


async def test_a_session_nobody_comes_back_to_expires(serve: Serve) -> None:
    served = await serve(limits__session_expiry=60)
    peer = await served.connect("listener", clean=False)
    await peer.subscribe(("home", 1))
    await peer.leave()
    ((_, session),) = served.server.lane.sessions.items()
    session.ended_at -= 61
    await served.counted("dropped", "session_expired")
    again = await served.peer()
    assert await again.greet(Connect("listener", clean_session=False)) == Connack(False, 0)


async def test_a_persistent_feed_expires_with_its_session(serve: Serve) -> None:
    served = await serve(limits__session_expiry=60)
    device = await served.subscribed("kitchen", clean=False)
    await device.peer.leave()
    ((_, session),) = served.server.lane.sessions.items()
    session.ended_at -= 61
    await served.counted("dropped", "session_expired")
    again = await served.device("kitchen", device.replica, clean=False)
    assert not again.session_present
    await served.publish(item("a", "for nobody yet"))
    await again.peer.ping()


async def test_the_oldest_of_too_many_sessions_goes_first(serve: Serve) -> None:
    served = await serve(limits__max_sessions=2)
    for name in ("first", "second", "third"):
        peer = await served.connect(name, clean=False)
        await peer.leave()
    await served.counted("dropped", "too_many_sessions")
    present = {}
    for name in ("third", "second", "first"):
        peer = await served.peer()
        present[name] = (await peer.greet(Connect(name, clean_session=False))).session_present
    assert present == {"third": True, "second": True, "first": False}


async def test_after_a_restart_that_lost_it_a_session_is_not_present(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    assert await device.peer.subscribe(("home", 1)) == (1,)
    other = await served.subscribed("porch", clean=False)
    await served.drop_peers()
    await served.restart()
    kitchen = await served.device("kitchen", device.replica, clean=False)
    assert not kitchen.session_present, "its subscription to home is lost"
    porch = await served.device("porch", other.replica, clean=False)
    assert porch.session_present, "a feed alone is kept"


# ---- Beside the feed


async def test_an_ordinary_client_may_publish_items_as_well(either: Target) -> None:
    device = await either.subscribed("kitchen")
    peer = await either.connect("station")
    await peer.publish("home/status", b"up")
    await peer.publish("items/news", json.dumps(item("a", "from the station")).encode())
    await device.shows("from the station")


async def test_a_device_has_its_feed_and_other_topics_on_one_connection(either: Target) -> None:
    device = await either.subscribed("kitchen", clean=False)
    assert await device.peer.subscribe(("home", 1)) == (1,)
    speaker = await either.connect("speaker")
    await speaker.publish("home", b"hello")
    await expect_message(device.peer, "home", b"hello")
    await either.publish(item("a", "served"))
    publish = await device.publish()
    assert publish.packet_id < 0x8000
    await speaker.publish("home", b"unacknowledged")
    held = await device.peer.expect(Publish)
    await device.peer.drop()
    again = await either.device("kitchen", device.replica, clean=False)
    assert await again.peer.expect(Publish) == Publish(
        "f/kitchen", publish.payload, 1, publish.packet_id, dup=True
    )
    assert await again.peer.expect(Publish) == Publish(
        "home", b"unacknowledged", 1, held.packet_id, dup=True
    )


async def test_wildcards_never_reach_into_the_feed(served: Served) -> None:
    spy = await served.connect("spy")
    codes = await spy.subscribe(
        *((name, 0) for name in ("items/#", "f/kitchen", "u/+", "f", "u", "items", "f/#"))
    )
    assert set(codes) == {0x80}
    assert await spy.subscribe(("#", 0), ("+/kitchen", 0), ("+/+", 0)) == (0, 0, 0)
    device = await served.subscribed("kitchen")
    await device.tell(follow("more"))
    await served.publish(item("a", "for devices"))
    await device.shows("for devices")
    speaker = await served.connect("speaker")
    await speaker.publish("home", b"for all")
    await expect_message(spy, "home", b"for all")


async def test_nobody_publishes_below_a_dollar_sign(served: Served) -> None:
    listener, speaker = await served.connect("listener"), await served.connect("speaker")
    assert await listener.subscribe(("$SYS/broker/fake", 0), ("#", 0)) == (0, 0)
    speaker.send(Publish("$SYS/broker/fake", b"x", 1, 1, retain=True))
    await speaker.expect(Puback)
    await speaker.publish("home", b"later ones still arrive")
    await expect_message(listener, "home", b"later ones still arrive")
    assert served.count("dropped", "publish_not_permitted") == 1
    late = await served.connect("late")
    assert await late.subscribe(("$SYS/broker/fake", 0), ("$SYS/fake/#", 0)) == (0, 0)
    await late.ping()


async def test_a_switch_turns_other_topics_off(serve: Serve) -> None:
    served = await serve(topics__enabled=False)
    peer = await served.connect("listener")
    assert await peer.subscribe(("home", 0), ("$SYS/#", 0)) == (0x80, 0x80)
    await peer.publish("home", b"dropped")
    assert served.count("dropped", "publish_not_permitted") == 1
    refused = await served.peer()
    will = Will("home", b"gone")
    assert await refused.greet(Connect("other", True, 60, None, None, will)) == Connack(False, 5)
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "the feed goes on"))
    await device.shows("the feed goes on")


async def test_topics_that_the_operator_closed_are_closed(serve: Serve) -> None:
    served = await serve(topics__refused=["private/#"])
    peer = await served.connect("listener")
    assert await peer.subscribe(("private/x", 0), ("private/#", 0), ("#", 0)) == (0x80, 0x80, 0)
    await peer.publish("private/x", b"dropped")
    await peer.ping()


# ---- Wills


async def test_a_will_is_published_when_its_client_is_lost(served: Served) -> None:
    listener = await served.connect("listener")
    await listener.subscribe(("wills/+", 1))
    sensor = await served.connect("sensor", will=Will("wills/sensor", b"gone", 1, retain=True))
    await sensor.ping()
    await sensor.drop()
    assert (await expect_message(listener, "wills/sensor", b"gone")).qos == 1
    late = await served.connect("late")
    await late.subscribe(("wills/+", 1))
    assert (await expect_message(late, "wills/sensor", b"gone")).retain


async def test_disconnect_discards_a_will(served: Served) -> None:
    listener = await served.connect("listener")
    await listener.subscribe(("wills/+", 0))
    sensor = await served.connect("sensor", will=Will("wills/sensor", b"gone"))
    await sensor.leave()
    speaker = await served.connect("speaker")
    await speaker.publish("wills/speaker", b"no will before this")
    await expect_message(listener, "wills/speaker", b"no will before this")


@pytest.mark.parametrize("topic", ["f/sensor", "u/other", "$SYS/broker/fake", "items"])
async def test_a_will_where_its_owner_may_not_publish_keeps_it_out(
    served: Served, topic: str
) -> None:
    peer = await served.peer()
    will = Will(topic, b"x")
    assert await peer.greet(Connect("sensor", True, 60, None, None, will)) == Connack(False, 5)
    await peer.expect_closed()


# ---- Bounds


async def test_a_client_that_does_not_read_has_bounded_mail_and_disturbs_nobody(
    serve: Serve,
) -> None:
    served = await serve(topics__max_queued=50)
    stuck = await served.connect("stuck")
    reader, speaker = await served.connect("reader"), await served.connect("speaker")
    await stuck.subscribe(("home", 1), ("zero", 0))
    await reader.subscribe(("home", 1))
    stuck.pause_reading()
    for number in range(300):
        await speaker.publish("home", b"%03d" % number + bytes(60_000))
        await speaker.publish("zero", bytes(60_000), 0)
        assert (await expect_message(reader, "home", b"%03d" % number + bytes(60_000))).qos == 1
    assert served.count("dropped", "outbox_full") > 200
    session = served.server.lane.sessions["", "stuck"]
    assert session.outbox is not None
    assert session.outbox.bytes < 2_000_000
    assert session.connection is not None
    assert session.connection.transport.get_write_buffer_size() < 65_536 + 70_000
    stuck.resume_reading()
    await expect_message(stuck, "home", b"000" + bytes(60_000))


async def test_subscriptions_of_one_client_are_bounded(serve: Serve) -> None:
    served = await serve(topics__max_subscriptions=3)
    peer = await served.connect("greedy")
    codes = await peer.subscribe(*((f"home/{number}", 0) for number in range(5)))
    assert codes == (0, 0, 0, 0x80, 0x80)
    assert await peer.subscribe(("home/0", 1)) == (1,), "one that is there may change"
    await peer.unsubscribe("home/1")
    assert await peer.subscribe(("home/9", 0)) == (0,)


async def test_a_topic_of_too_many_levels_reaches_nobody(served: Served) -> None:
    peer = await served.connect("deep")
    slashes = "/" * 150
    assert await peer.subscribe((slashes, 0), ("#", 0)) == (0x80, 0)
    await peer.publish(slashes, b"x")
    await peer.ping()
    assert served.count("dropped", "publish_not_permitted") == 1


async def test_a_session_that_ended_leaves_no_filter_behind(served: Served) -> None:
    for _ in range(3):
        peer = await served.connect("passer-by")
        await peer.subscribe(*((f"home/{number}/+", 0) for number in range(50)))
        await peer.leave()
    await eventually(lambda: len(served.server.exchange._filters), lambda count: count == 0)
    assert not served.server.lane.sessions


async def test_keep_alive_holds_for_every_client(served: Served) -> None:
    peer = await served.connect("listener", keep_alive=1)
    await peer.subscribe(("home", 0))
    started = asyncio.get_running_loop().time()
    await peer.expect_closed()
    assert 1.4 < asyncio.get_running_loop().time() - started < 4
    assert served.count("closed", "keep_alive") == 1


# ---- What a review found


async def test_a_filter_repeated_in_one_packet_is_answered_once(served: Served) -> None:
    speaker = await served.connect("speaker")
    for number in range(300):
        speaker.send(Publish(f"home/{number}", b"x", 0, retain=True))
    await speaker.ping()
    greedy = await served.connect("greedy")
    greedy.send(Subscribe(1, (("#", 0),) * 10_000))
    suback = await greedy.expect(Suback)
    assert len(suback.codes) == 10_000
    assert suback.codes[511:513] == (0, 0x80)
    for _ in range(300):
        assert (await greedy.expect(Publish)).retain
    await greedy.ping()


async def test_all_that_is_retained_arrives_though_it_is_more_than_may_wait(serve: Serve) -> None:
    served = await serve(topics__max_queued=10, topics__max_inflight=3)
    speaker = await served.connect("speaker")
    for number in range(700):
        speaker.send(Publish(f"home/{number}", b"x", 1, number + 1, retain=True))
        await speaker.expect(Puback)
    reader = await served.connect("reader", clean=False)
    assert await reader.subscribe(("home/+", 1)) == (1,)
    seen = set()
    for number in range(700):
        publish = await reader.expect(Publish)
        reader.send(Puback(publish.packet_id))
        if number == 300:  # the rest comes after a break
            await reader.drop()
            reader = await served.connect("reader", clean=False)
        seen.add(publish.topic)
    session = served.server.lane.sessions["", "reader"]
    while len(seen) < 700:
        publish = await reader.expect(Publish)
        reader.send(Puback(publish.packet_id))
        seen.add(publish.topic)
    assert not session.answers


async def test_what_the_operator_ends_is_not_present_afterwards(served: Served) -> None:
    device = await served.subscribed("kitchen", clean=False)
    assert await device.peer.subscribe(("home", 1)) == (1,)
    profile = served.server.registry.get("kitchen")
    assert profile is not None
    await served.server.service.ended(profile, "rights_changed")
    await device.peer.expect_closed()
    assert served.count("closed", "rights_changed") == 1
    again = await served.device("kitchen", device.replica, clean=False)
    assert not again.session_present
    await served.publish(item("a", "the feed goes on without a subscription"))
    await again.shows("the feed goes on without a subscription")


async def test_an_unproven_session_that_expires_leaves_the_proven_device_alone(
    serve: Serve,
) -> None:
    served = await serve(limits__session_expiry=60)
    first = await served.subscribed("kitchen", clean=False)
    await first.peer.leave()
    old = served.server.lane.sessions["", "kitchen"]
    key = served.server.door._key
    profile = served.server.registry.get("kitchen")
    assert profile is not None
    profile.secret_hash = hash_secret("secret", "kitchen", key)
    device = await served.device("kitchen", clean=False, username="kitchen", password=b"secret")
    await device.subscribe()
    await device.frame()
    old.ended_at -= 61
    await served.publish(item("a", "still served"))
    await device.shows("still served")
    assert list(served.server.lane.sessions) == [("kitchen", "kitchen")]


async def test_a_session_with_an_unreleased_message_is_not_present_after_a_restart(
    served: Served,
) -> None:
    device = await served.subscribed("kitchen", clean=False)
    device.peer.send(Publish("home", b"once", 2, 77))
    assert await device.peer.expect(Pubrec) == Pubrec(77)
    await served.drop_peers()
    await served.restart()
    again = await served.device("kitchen", device.replica, clean=False)
    assert not again.session_present


async def test_a_position_of_before_a_restart_expires_too(serve: Serve) -> None:
    served = await serve(limits__session_expiry=1)
    device = await served.subscribed("kitchen", clean=False)
    await served.drop_peers()
    await served.restart()
    profile = served.server.registry.get("kitchen")
    assert profile is not None
    profile.seen -= 3
    again = await served.device("kitchen", device.replica, clean=False)
    assert not again.session_present
    assert profile.subscribed is None


async def test_a_stall_of_the_server_is_nobodys_silence(served: Served) -> None:
    peer = await served.connect("listener", keep_alive=2)
    lane = served.server.lane
    lane._ticked_at -= 30  # as if the loop had stood still for so long
    await eventually(lambda: lane.tick, lambda tick, seen=lane.tick: tick > seen + 0.3)
    await peer.ping()


async def test_a_disconnect_discards_the_will_whatever_is_still_owed(serve: Serve) -> None:
    served = await serve(limits__write_buffer=4096)
    watcher = await served.connect("watcher")
    await watcher.subscribe(("wills/#", 0))
    leaver = await served.connect("leaver", will=Will("wills/leaver", b"gone"))
    connection = served.server.lane.sessions["", "leaver"].connection
    assert connection is not None
    connection.writing_paused = True  # as when it reads nothing
    leaver.send(*(Publish("items/x", b"x", 1, n + 1) for n in range(2000)), Disconnect())
    await leaver.expect_end()
    await eventually(lambda: served.server.lane.connections, lambda count: count == 1)
    speaker = await served.connect("speaker")
    await speaker.publish("wills/none", b"no will before this")
    first = await watcher.expect(Publish)
    assert first.topic in {"wills/none", "wills/leaver"}
    if served.count("closed", "write_buffer_full") == 0:
        assert first.topic == "wills/none"
