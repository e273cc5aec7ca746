"""MQTT 3.1.1, section 3.1.2.5: wills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from devices.packets import (
    Connack,
    Connect,
    Will,
)
from tests.broker.support import Peer, Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    Serve,
    connect_packet,
    field,
)

# ---- 3.1.2.5 Will


async def drop(peer: Peer) -> None:
    await peer.drop()


async def break_the_protocol(peer: Peer) -> None:
    peer.send(b"\xf0\0")
    await peer.expect_closed()


async def connect_again(peer: Peer) -> None:
    peer.send(Connect("whoever"))
    await peer.expect_closed()


@pytest.mark.parametrize("end", [drop, break_the_protocol, connect_again])
async def test_mqtt_3_1_2_8_a_will_is_published_when_the_connection_ends_without_disconnect(
    part: Part, end: Callable[[Peer], Awaitable[None]]
) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone"))
    await end(leaver)
    await part.receive(peer, "gone")


async def test_mqtt_3_1_2_8_a_will_is_published_when_its_client_is_taken_over(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone"))
    await part.server.connect(part.name("leaver"))
    await leaver.expect_closed()
    await part.receive(peer, "gone")


async def test_mqtt_3_1_2_8_a_will_is_not_published_while_its_client_is_connected(
    part: Part,
) -> None:
    peer = await part.subscriber()
    await part.server.connect(part.name("leaver"), will=part.will("unwanted"))
    await part.expect_nothing(peer)


async def test_mqtt_3_1_2_8_the_will_of_a_refused_client_is_not_published(part: Part) -> None:
    peer = await part.subscriber()
    refused = await part.server.peer()
    refused.send(Connect("", False, 60, will=part.will("unwanted")))
    assert (await refused.expect(Connack)).code == 2
    await refused.expect_closed()
    await part.expect_nothing(peer)


async def test_mqtt_3_1_2_8_a_will_that_is_not_permitted_refuses_the_connection(
    feed: FeedPart,
) -> None:
    """Authorised at CONNECT as a publish would be, so that it cannot fail when it is due."""
    peer = await feed.server.peer()
    peer.send(Connect(feed.name(), will=Will("f/other", b"forged")))
    assert await peer.expect(Connack) == Connack(False, 5)
    await peer.expect_closed()


@pytest.mark.parametrize("kind", [FeedPart, OtherPart])
async def test_mqtt_3_1_2_8_a_server_that_stops_in_order_publishes_no_will(
    serve: Serve, kind: type[Part]
) -> None:
    """On purpose: the client did not fail, and comes back with its will."""
    served = await serve()
    part = kind(served)
    leaver = await served.connect("leaver", will=part.will("unwanted", retain=True))
    await served.restart()
    await leaver.expect_closed()
    await part.expect_nothing(await part.subscriber())


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_3_1_2_9_a_will_has_the_qos_that_was_asked_for(part: Part, qos: int) -> None:
    peer = await part.subscriber(qos=2)
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone", qos))
    await leaver.drop()
    await part.receive(peer, "gone", qos=qos)


@pytest.mark.parametrize("fields", [[], [field("home")]], ids=["nothing", "the topic alone"])
async def test_mqtt_3_1_2_9_a_will_flag_without_a_will_closes_the_connection(
    server: Target, fields: list[bytes]
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), *fields, flags=0x06))
    await peer.expect_closed()


@pytest.mark.parametrize("first", ["dropped", "disconnected"])
async def test_mqtt_3_1_2_10_a_will_is_gone_once_published_or_discarded(
    part: Part, first: str
) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), clean=False, will=part.will("gone"))
    if first == "dropped":
        await leaver.drop()
        await part.receive(peer, "gone")
    else:
        await leaver.leave()
    again = await part.server.connect(part.name("leaver"), clean=False)
    await again.drop()
    await part.expect_nothing(peer, "gone")


@pytest.mark.parametrize("flags", [0x0A, 0x12, 0x22, 0x3A], ids=hex)
async def test_mqtt_3_1_2_11_will_qos_or_retain_without_a_will_closes_the_connection(
    server: Target, flags: int
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=flags))
    await peer.expect_closed()


async def test_mqtt_3_1_2_11_a_will_without_its_flag_closes_the_connection(server: Target) -> None:
    peer = await server.peer()
    peer.send(connect_packet(field("kitchen"), field("home"), field("gone"), flags=0x02))
    await peer.expect_closed()


async def test_mqtt_3_1_2_12_without_a_will_nothing_is_published(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("unwanted"))
    await leaver.leave()
    leaver = await part.server.connect(part.name("leaver"))
    await leaver.drop()
    await part.expect_nothing(peer)


@pytest.mark.parametrize("flags", [0x0A, 0x12, 0x1A], ids=hex)
async def test_mqtt_3_1_2_13_will_qos_without_a_will_closes_the_connection(
    server: Target, flags: int
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=flags))
    await peer.expect_closed()


async def test_mqtt_3_1_2_14_will_qos_3_closes_the_connection(part: Part) -> None:
    peer = await part.server.peer()
    peer.send(connect_packet(field("kitchen"), field(part.topic), field("gone"), flags=0x1E))
    await peer.expect_closed()


async def test_mqtt_3_1_2_15_will_retain_without_a_will_closes_the_connection(
    server: Target,
) -> None:
    peer = await server.peer()
    peer.send(connect_packet(flags=0x22))
    await peer.expect_closed()


async def test_mqtt_3_1_2_16_a_will_without_retain_is_not_retained(part: Part) -> None:
    peer = await part.subscriber()
    leaver = await part.server.connect(part.name("leaver"), will=part.will("gone"))
    await leaver.drop()
    assert not (await part.receive(peer, "gone")).retain
    later, _ = await part.connect("later")
    await later.subscribe((part.filter("later"), 1))
    if isinstance(part, FeedPart):
        assert not (await part.receive(later, "gone")).retain
    else:
        await part.expect_nothing(later, "gone")


async def test_mqtt_3_1_2_17_a_will_with_retain_is_retained(others: OtherPart) -> None:
    peer = await others.subscriber()
    will = others.will("gone", retain=True)
    leaver = await others.server.connect(others.name("leaver"), will=will)
    await leaver.drop()
    assert not (await others.receive(peer, "gone")).retain
    later, _ = await others.connect("later")
    await later.subscribe((others.topic, 1))
    assert (await others.receive(later, "gone")).retain


async def test_mqtt_3_1_2_17_a_will_with_retain_is_an_item_like_others(feed: FeedPart) -> None:
    """On purpose: nothing on the feed's topics is retained, an item is kept anyway."""
    peer = await feed.subscriber()
    leaver = await feed.server.connect(feed.name("leaver"), will=feed.will("gone", retain=True))
    await leaver.drop()
    assert not (await feed.receive(peer, "gone")).retain
