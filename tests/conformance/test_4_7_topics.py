"""MQTT 3.1.1, sections 4.7 and 4.8: topics and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.packets import Publish, Subscribe, encode
from tests.broker.support import ServerProcess, Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    Serve,
    field,
    packet,
    send,
)
from tests.mqtt_cases import MALFORMED, Malformed

# ---- 4.7 Topics


@pytest.mark.parametrize("suffix", ["+", "#", "/+/x", "/x#"])
async def test_mqtt_4_7_1_1_topic_names_have_no_wildcards(part: Part, suffix: str) -> None:
    peer, _ = await part.connect()
    peer.send(packet(0x32, field(part.topic + suffix), b"\0\1x"))
    await peer.expect_closed()


@pytest.mark.parametrize("name", ["#/a", "a/#/b", "a#", "a/b#", "##", "#a"])
async def test_mqtt_4_7_1_2_a_multi_level_wildcard_elsewhere_closes_the_connection(
    server: Target, name: str
) -> None:
    peer = await server.connect("filters")
    peer.send(packet(0x82, b"\0\1", field(name), b"\0"))
    await peer.expect_closed()


@pytest.mark.parametrize("name", ["a+", "+a", "a/+b", "++", "+#", "a/b+/c"])
async def test_mqtt_4_7_1_3_a_single_level_wildcard_beside_others_closes_the_connection(
    server: Target, name: str
) -> None:
    peer = await server.connect("filters")
    peer.send(packet(0x82, b"\0\1", field(name), b"\0"))
    await peer.expect_closed()


MATCHES = {
    "a/#": {"a", "a/", "a/b", "a/b/c"},
    "a/+": {"a/", "a/b"},
    "a/+/c": {"a/b/c"},
    "+/b": {"a/b", "/b"},
    "+/+": {"a/", "a/b", "/b"},
    "/+": {"/b"},
    "+": {"a"},
    "a/b": {"a/b"},
    "#": {"a", "a/", "a/b", "a/b/c", "/b"},
}


"""What of five topics a filter matches; all stand below a root."""


@pytest.mark.parametrize("name", MATCHES)
@pytest.mark.parametrize("when", ["live", "retained"])
async def test_mqtt_4_7_1_3_filters_match_as_the_standard_says(
    others: OtherPart, name: str, when: str
) -> None:
    root = others.below("")
    topics = ["a", "a/", "a/b", "a/b/c", "/b"]
    peer, _ = await others.connect()
    publisher = await others.server.connect("")
    retain = when == "retained"
    if not retain:
        await peer.subscribe((root + name, 0))
    for topic in topics:
        await send(publisher, Publish(root + topic, topic.encode(), 1, 7, retain=retain))
    if retain:
        await peer.subscribe((root + name, 0))
    await peer.subscribe((others.topic, 0))
    await others.publish("fence")
    heard = set()
    while (publish := await peer.expect(Publish)).payload != b"fence":
        heard.add(publish.topic.removeprefix(root))
    # The fence's own topic lies below the root as well: `a/…` of this table never matches it.
    assert heard == MATCHES[name]


@pytest.mark.parametrize("name", ["#", "+/x", "+/#", "+/+"])
async def test_mqtt_4_7_2_1_wildcards_at_the_front_match_no_dollar_topic(
    others: OtherPart, name: str
) -> None:
    peer, _ = await others.connect()
    await peer.subscribe((name, 0))
    while True:  # on a server that others use, let what is retained pass
        try:
            await peer.read(within=0.2)
        except TimeoutError:
            break
    publisher = await others.server.connect("")
    await publisher.publish("$hidden/x", b"hidden")
    await peer.ping()


async def test_mqtt_4_7_2_1_wildcards_at_the_front_do_not_match_sys(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", TOPICS__SYS_INTERVAL="1").start()
    try:
        wide = await server.connect("wide")
        await wide.subscribe(("#", 0), ("+/broker/#", 0), ("+/+/+", 0))
        operator = await server.connect("operator")
        assert await operator.subscribe(("$SYS/#", 0)) == (0,)
        assert (await operator.expect(Publish)).topic.startswith("$SYS/")
        await wide.ping()
    finally:
        await server.drop_peers()
        server.close()


@pytest.mark.parametrize(
    "data",
    [packet(0x30, field(""), b"x"), packet(0x82, b"\0\1", field(""), b"\0"), b"\xa2\4\0\1\0\0"],
    ids=["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"],
)
async def test_mqtt_4_7_3_1_an_empty_topic_or_filter_closes_the_connection(
    server: Target, data: bytes
) -> None:
    peer = await server.connect("empty")
    peer.send(data)
    await peer.expect_closed()


async def test_mqtt_4_7_3_1_a_single_slash_is_long_enough(others: OtherPart) -> None:
    peer, _ = await others.connect()
    assert await peer.subscribe(("/", 1)) == (1,)
    publisher = await others.server.connect("")
    await publisher.publish("/", f"slash {others.number}".encode())
    assert (await others.receive(peer, f"slash {others.number}")).topic == "/"


@pytest.mark.parametrize("first", [0x30, 0x82, 0xA2], ids=["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"])
async def test_mqtt_4_7_3_2_u_0000_in_a_topic_or_filter_closes_the_connection(
    part: Part, first: int
) -> None:
    peer, _ = await part.connect()
    text = field(part.topic + "\0")
    peer.send(packet(first, text) if first == 0x30 else packet(first, b"\0\1", text, b"\0"))
    await peer.expect_closed()


async def test_mqtt_4_7_3_3_a_topic_may_have_65535_bytes(others: OtherPart) -> None:
    topic = others.below("x" * (65_535 - len(others.below(""))))
    peer, _ = await others.connect()
    assert await peer.subscribe((others.below("+"), 1)) == (1,)
    publisher = await others.server.connect("")
    await publisher.publish(topic, b"heard")
    assert (await others.receive(peer, "heard")).topic == topic


async def test_mqtt_4_7_3_3_a_channel_may_fill_the_topic(feed: FeedPart) -> None:
    peer = await feed.subscriber()
    publisher = await feed.server.connect("")
    topic = "items/" + "x" * (65_535 - len("items/"))
    await publisher.publish(topic, feed.payload("heard"))
    await feed.receive(peer, "heard")


async def test_mqtt_4_7_3_3_more_than_128_levels_are_refused(serve: Serve) -> None:
    """A limit of ours: each level costs a step of every match."""
    served = await serve()
    peer = await served.connect("deep")
    await peer.publish("/" * 127, b"x")
    assert served.count("dropped", "publish_not_permitted") == 0
    await peer.publish("/" * 128, b"x")
    assert served.count("dropped", "publish_not_permitted") == 1
    await peer.ping()


async def test_mqtt_4_7_3_3_filters_of_more_than_32_levels_or_1024_bytes_are_refused(
    serve: Serve,
) -> None:
    """A limit of ours: a subscription takes memory for as long as its session lasts."""
    served = await serve()
    peer = await served.connect("deep")
    allowed = ("/" * 31, "+/" * 31 + "#", "x" * 1_024)
    refused = ("/" * 32, "+/" * 32 + "#", "x" * 1_025)
    assert await peer.subscribe(*((each, 1) for each in allowed)) == (1, 1, 1)
    assert await peer.subscribe(*((each, 1) for each in refused)) == (0x80, 0x80, 0x80)
    await peer.ping()


@pytest.mark.parametrize(
    "other",
    [
        "Hall",
        "hall/",
        "/hall",
        "hall ",
        " hall",
        "hall//",
        "h\u00e4ll",
        "ha\u0308ll",
        "ha%6Cl",
        ".",
    ],
)
async def test_mqtt_4_7_3_4_topics_are_compared_by_their_characters_alone(
    others: OtherPart, other: str
) -> None:
    peer, _ = await others.connect()
    await peer.subscribe((others.below("hall"), 0), (others.below("ha\u0308l\u0308l"), 0))
    publisher = await others.server.connect("")
    await publisher.publish(others.below(other), b"elsewhere")
    await publisher.publish(others.below("hall"), b"here")
    assert (await others.receive(peer, "here")).topic == others.below("hall")
    await peer.subscribe((others.below(other), 0))
    await publisher.publish(others.below(other), b"exactly")
    assert (await others.receive(peer, "exactly")).topic == others.below(other)


async def test_mqtt_4_7_3_4_channels_are_compared_by_their_characters_alone(
    feed: FeedPart,
) -> None:
    peer = await feed.subscriber()
    await peer.publish(
        f"u/{feed.name()}", b"\x92\x03\x82\xa6follow\x91\xa4hall\xa8unfollow\x91\xa1#"
    )
    publisher = await feed.server.connect("")
    for channel in ("Hall", "hall/", "/hall", "hall ", "ha%6Cl"):
        await publisher.publish(f"items/{channel}", feed.payload("elsewhere"))
    await publisher.publish("items/hall", feed.payload("here"))
    assert b"elsewhere" not in (await feed.receive(peer, "here")).payload


# ---- 4.8 Errors

BROKEN = [case for case in MALFORMED if case.role == "server" and not case.opening]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
async def test_mqtt_4_8_0_1_a_broken_packet_closes_its_own_connection_alone(
    server: Target, case: Malformed
) -> None:
    peer, neighbour = await server.connect("broken"), await server.connect("neighbour")
    peer.send(case.data)
    await peer.expect_closed()
    await neighbour.ping()


async def test_mqtt_4_8_0_1_nothing_behind_a_broken_packet_is_processed(part: Part) -> None:
    peer = await part.subscriber()
    broken = await part.server.connect(part.name("broken"))
    broken.send(b"\xc0\1\0" + encode(part.message("unwanted")) + encode(Subscribe(1, (("a", 0),))))
    await broken.expect_closed()
    await part.expect_nothing(peer)


async def test_mqtt_4_8_0_2_a_client_that_asks_for_more_than_there_is_room_for_is_closed(
    part: Part,
) -> None:
    """QoS 2 packet ids that it never releases are the server's to remember, up to a bound."""
    peer, _ = await part.connect()
    payload = part.payload("the same")
    for at in range(1, 4098, 512):
        ids = range(at, min(at + 512, 4098))
        peer.send(*(Publish(part.topic, payload, 2, packet_id) for packet_id in ids))
    await peer.expect_end()
