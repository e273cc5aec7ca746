"""Clients that leave the feed's topics are served by amqtt on the same port, and notice nothing."""

from __future__ import annotations

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
    Will,
    encode,
)
from tests.broker.support import Peer, Served, ServerProcess, Target, eventually, follow, item

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def both(serve: Serve) -> Served:
    """A server with amqtt around it."""
    return await serve(amqtt=True)


@pytest.fixture(params=["asyncio", "uvloop"])
async def either(
    request: pytest.FixtureRequest, serve: Serve, process: Callable[..., ServerProcess]
) -> AsyncIterator[Target]:
    """The same on both event loops; uvloop's writes wait for the end of a turn."""
    if request.param == "asyncio":
        yield await serve(amqtt=True)
    else:
        yield process(HANDOVER__SYS_INTERVAL="1")


async def expect_message(peer: Peer, topic: str, payload: bytes) -> Publish:
    publish = await peer.expect(Publish)
    assert (publish.topic, publish.payload) == (topic, payload)
    if publish.qos == 1:
        peer.send(Puback(publish.packet_id))
    return publish


@pytest.mark.parametrize("qos", [0, 1])
async def test_ordinary_clients_speak_with_each_other(either: Target, qos: int) -> None:
    listener = await either.connect("listener")
    assert await listener.subscribe(("home/+/light", qos)) == (qos,)
    speaker = await either.connect("speaker")
    for number in range(5):
        await speaker.publish("home/hall/light", b"on %d" % number, qos)
        publish = await expect_message(listener, "home/hall/light", b"on %d" % number)
        assert publish.qos == qos


async def test_qos_2_passes_in_both_directions(both: Served) -> None:
    listener = await both.connect("listener")
    assert await listener.subscribe(("home", 2)) == (2,)
    speaker = await both.connect("speaker")
    speaker.send(Publish("home", b"once", 2, 7))
    assert await speaker.expect(Pubrec) == Pubrec(7)
    speaker.send(Pubrel(7))
    assert await speaker.expect(Pubcomp) == Pubcomp(7)
    publish = await expect_message(listener, "home", b"once")
    assert publish.qos == 2
    listener.send(Pubrec(publish.packet_id))
    assert await listener.expect(Pubrel) == Pubrel(publish.packet_id)
    listener.send(b"\x70\x02" + publish.packet_id.to_bytes(2, "big"))
    await listener.ping()


async def test_connack_comes_once(both: Served) -> None:
    peer = await both.connect("listener")
    assert await peer.subscribe(("home", 0)) == (0,)
    await peer.ping()
    assert both.count("connections", "handed_over") == 1


async def test_unsubscribing_reaches_amqtt(both: Served) -> None:
    listener, speaker = await both.connect("listener"), await both.connect("speaker")
    await listener.subscribe(("home", 0), ("end", 0))
    await listener.unsubscribe("home")
    await speaker.publish("home", b"unheard")
    await speaker.publish("end", b"heard")
    await expect_message(listener, "end", b"heard")


async def test_retained_messages_of_other_topics_are_kept(both: Served) -> None:
    speaker = await both.connect("speaker")
    speaker.send(Publish("home/mode", b"away", 1, 1, retain=True))
    await speaker.expect(Puback)
    listener = await both.connect("listener")
    await listener.subscribe(("home/#", 1))
    assert (await expect_message(listener, "home/mode", b"away")).retain


async def test_an_ordinary_client_may_publish_items_as_well(either: Target) -> None:
    device = await either.subscribed("kitchen")
    peer = await either.connect("station")
    await peer.publish("home/status", b"up")
    await peer.publish("items/news", json.dumps(item("a", "from the station")).encode())
    await peer.publish("home/status", b"still up")
    await device.shows("from the station")


async def test_amqtt_never_sees_items_frames_or_up_messages(both: Served) -> None:
    spy = await both.connect("spy")
    codes = await spy.subscribe(
        ("#", 0), ("+/kitchen", 0), ("items/#", 0), ("f/kitchen", 0), ("u/+", 0), ("ok/#", 0)
    )
    # The first filter of the feed's keeps the client with the lane.
    assert codes == (0x80,) * 6
    other = await both.connect("other")
    assert await other.subscribe(("#", 0), ("+/kitchen", 0)) == (0, 0)
    device = await both.subscribed("kitchen")
    await device.tell(follow("more"))
    await both.publish(item("a", "for devices"))
    await device.shows("for devices")
    speaker = await both.connect("speaker")
    await speaker.publish("home", b"for all")
    await expect_message(other, "home", b"for all")


async def test_a_handed_over_client_is_refused_the_feed_topics_one_by_one(both: Served) -> None:
    peer = await both.connect("kitchen")
    assert await peer.subscribe(("home", 1)) == (1,)
    codes = await peer.subscribe(("f/kitchen", 1), ("away", 1), ("items/#", 0), ("u/x", 0))
    assert codes == (0x80, 1, 0x80, 0x80)
    await peer.publish("away", b"x")
    await expect_message(peer, "away", b"x")


async def test_a_subscribed_device_is_not_handed_over(both: Served) -> None:
    device = await both.subscribed("kitchen")
    assert await device.peer.subscribe(("home", 1)) == (0x80,)
    await device.peer.publish("home", b"dropped")
    assert both.count("dropped", "publish_not_permitted") == 1
    assert both.count("connections", "handed_over") == 0
    await both.publish(item("a", "served"))
    await device.shows("served")


async def test_a_handed_over_device_may_still_say_what_it_follows(either: Target) -> None:
    """And its acknowledgements go to amqtt, not to the feed."""
    peer = await either.connect("kitchen")
    await peer.subscribe(("home", 1))
    await peer.publish("u/kitchen", b"\x92\x03\x81\xa6follow\x91\xa4more")
    speaker = await either.connect("speaker")
    for number in range(30):
        await speaker.publish("home", b"x" * 1000 + b"%d" % number)
    for number in range(30):
        await expect_message(peer, "home", b"x" * 1000 + b"%d" % number)
    await peer.ping()


async def test_a_handed_over_client_lives_as_long_as_it_pings(both: Served) -> None:
    loop = both.server.lane._loop
    peer = await both.connect("listener", keep_alive=1)
    await peer.subscribe(("home", 0))
    until = loop.time() + 2.6
    while loop.time() < until:
        await peer.ping()
        with pytest.raises(TimeoutError):
            await peer.read(within=0.4)
    speaker = await both.connect("speaker")
    await speaker.publish("home", b"still there?")
    await expect_message(peer, "home", b"still there?")


async def test_a_large_message_and_a_burst_of_them_reach_a_client_that_reads(
    either: Target,
) -> None:
    listener = await either.connect("listener")
    await listener.subscribe(("home", 0))
    speaker = await either.connect("speaker")
    for number in range(20):
        await speaker.publish("home", b"%02d" % number + bytes(69_900), 0)
    for number in range(20):
        publish = await listener.expect(Publish)
        assert publish.payload[:2] == b"%02d" % number


async def test_a_handed_over_client_that_does_not_read_is_cut_off(both: Served) -> None:
    stuck = await both.connect("stuck")
    await stuck.subscribe(("home", 0))
    stuck.pause_reading()
    speaker = await both.connect("speaker")
    for _ in range(400):
        await speaker.publish("home", bytes(65_000))
        if both.count("closed", "write_buffer_full"):
            break
    await both.counted("closed", "write_buffer_full")
    await speaker.ping()


async def test_a_will_on_another_topic_is_amqtts(both: Served) -> None:
    listener = await both.connect("listener")
    await listener.subscribe(("wills/+", 0))
    sensor = await both.connect("sensor", will=Will("wills/sensor", b"gone"))
    await sensor.ping()
    await sensor.drop()
    await expect_message(listener, "wills/sensor", b"gone")


async def test_what_is_published_right_before_disconnect_arrives(either: Target) -> None:
    listener = await either.connect("listener")
    await listener.subscribe(("home", 0))
    for number in range(30):
        speaker = await either.connect("speaker")
        speaker.send(Publish("home", b"%d" % number), Disconnect())
        await expect_message(listener, "home", b"%d" % number)


async def test_disconnect_discards_a_will_on_another_topic_too(both: Served) -> None:
    listener = await both.connect("listener")
    await listener.subscribe(("wills/+", 0))
    sensor = await both.connect("sensor", will=Will("wills/sensor", b"gone"))
    await sensor.leave()
    speaker = await both.connect("speaker")
    await speaker.publish("wills/speaker", b"no will before this")
    await expect_message(listener, "wills/speaker", b"no will before this")


async def test_a_persistent_session_of_amqtt_is_found_again(both: Served) -> None:
    peer = await both.connect("listener", clean=False)
    await peer.subscribe(("home", 1))
    await peer.leave()
    speaker = await both.connect("speaker")
    await speaker.publish("home", b"while it was away")
    again = await both.peer()
    connack = await again.greet(Connect("listener", clean_session=False))
    assert connack == Connack(True, 0)
    publish = await again.expect(Publish)
    assert (publish.topic, publish.payload) == ("home", b"while it was away")


async def test_a_handed_over_client_can_be_taken_over(both: Served) -> None:
    old = await both.connect("listener")
    await old.subscribe(("home", 0))
    new = await both.connect("listener")
    await old.expect_closed()
    assert await new.subscribe(("home", 0)) == (0,)
    speaker = await both.connect("speaker")
    await speaker.publish("home", b"to the new one")
    await expect_message(new, "home", b"to the new one")


async def test_admissions_are_not_kept_for_ever(both: Served) -> None:
    for number in range(5):
        peer = await both.connect(f"passer-by-{number}")
        await peer.subscribe(("home", 0))
        await peer.leave()
    assert both._broker is not None
    plugin = both._broker.plugins_manager.get_plugin("FeedPlugin")
    await eventually(lambda: not plugin._amqtt._admitted)


async def test_a_malformed_packet_ends_a_handed_over_connection_too(both: Served) -> None:
    peer = await both.connect("listener")
    await peer.subscribe(("home", 0))
    peer.send(b"\x30\x03\x00\x01#")
    await peer.expect_closed()
    assert both.count("closed", "malformed_bad_topic") == 1


async def test_without_hand_over_other_topics_are_refused(served: Served) -> None:
    peer = await served.connect("listener")
    assert await peer.subscribe(("home", 0)) == (0x80,)
    await peer.publish("home", b"dropped")
    assert served.count("dropped", "publish_not_permitted") == 1


async def test_an_anonymous_client_is_handed_over_with_the_id_it_was_given(both: Served) -> None:
    peer = await both.connect("")
    assert await peer.subscribe(("home", 0)) == (0,)
    await peer.publish("home", b"to myself", 0)
    await expect_message(peer, "home", b"to myself")


async def test_everything_in_one_piece_arrives_in_order(both: Served) -> None:
    listener = await both.connect("listener")
    await listener.subscribe(("home", 0))
    speaker = await both.peer()
    packets = [encode(Publish("home", b"%d" % number)) for number in range(20)]
    speaker.send(Connect("speaker"), *packets)
    assert (await speaker.expect(Connack)).code == 0
    for number in range(20):
        await expect_message(listener, "home", b"%d" % number)
