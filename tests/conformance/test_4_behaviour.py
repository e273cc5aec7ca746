"""MQTT 3.1.1, chapter 4: sessions, delivery, order, topics, errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from devices.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel, Subscribe, encode
from tests.broker.support import Served, Target
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    acknowledge,
    field,
    packet,
    send,
)
from tests.mqtt_cases import MALFORMED, Malformed

Serve = Callable[..., Awaitable[Served]]


# ---- 4.1 Session state


async def test_mqtt_4_1_0_1_a_session_keeps_all_of_its_state_between_connections(
    part: Part,
) -> None:
    """The subscription, and messages in each state: sent, received, still to be sent."""
    peer = await part.subscriber(qos=2, clean=False)
    await part.publish("published", 1)
    published = await part.receive(peer, "published", ack=False, qos=1)
    await part.publish("received", 2)
    received = await part.receive(peer, "received", ack=False, qos=2)
    peer.send(Pubrec(received.packet_id))
    assert await peer.expect(Pubrel) == Pubrel(received.packet_id)
    await peer.drop()
    await part.publish("missed", 1)
    again, connack = await part.connect(clean=False)
    assert connack.session_present
    found = [await again.read() for _ in range(2)]
    assert replace(published, dup=True) in found
    assert Pubrel(received.packet_id) in found
    again.send(Puback(published.packet_id), Pubcomp(received.packet_id))
    await part.receive(again, "missed")


async def test_mqtt_4_1_0_1_messages_and_sessions_end_with_the_server(serve: Serve) -> None:
    """On purpose: they live in memory, and CONNACK says so."""
    served = await serve()
    others = OtherPart(served)
    await others.publish("retained", retain=True)
    peer, _ = await others.connect(clean=False)
    await peer.subscribe((others.topic, 1))
    await others.receive(peer, "retained")
    await served.restart()
    again, connack = await others.connect(clean=False)
    assert not connack.session_present
    await again.subscribe((others.topic, 1))
    await others.expect_nothing(again, "retained")


async def test_mqtt_4_1_0_1_frames_under_way_outlive_a_server_that_stops_in_order(
    serve: Serve,
) -> None:
    served = await serve()
    feed = FeedPart(served)
    peer = await feed.subscriber(clean=False)
    await feed.publish("under way")
    first = await feed.receive(peer, "under way", ack=False)
    await served.restart()
    again, connack = await feed.connect(clean=False)
    assert connack.session_present
    assert await feed.receive(again, "under way") == replace(first, dup=True)


async def test_mqtt_4_1_0_2_a_session_lasts_as_long_as_its_connection(part: Part) -> None:
    peer = await part.subscriber(qos=2)
    await part.publish("early", 2)
    early = await part.receive(peer, "early", ack=False, qos=2)
    for number in range(30):
        other = await part.subscriber(f"other{number}")
        await other.drop()
    await acknowledge(peer, early)
    await part.publish("late", 2)
    await part.receive(peer, "late", qos=2)


# ---- 4.3.1 QoS 0


async def test_mqtt_4_3_1_1_qos_0_is_sent_once_without_dup(part: Part) -> None:
    peer = await part.subscriber(qos=0, clean=False)
    await part.publish("at most once", 2)
    publish = await part.receive(peer, "at most once", qos=0)
    assert (publish.dup, publish.packet_id) == (False, 0)
    await part.expect_nothing(peer, "at most once")


# ---- 4.3.2 QoS 1


async def test_mqtt_4_3_2_1_qos_1_is_unacknowledged_until_puback(part: Part) -> None:
    peer = await part.subscriber(clean=False)
    await part.publish("answered")
    answered = await part.receive(peer, "answered", ack=False, qos=1)
    await part.publish("unanswered")
    unanswered = await part.receive(peer, "unanswered", ack=False, qos=1)
    assert not (answered.dup or unanswered.dup)
    peer.send(Puback(answered.packet_id))
    await peer.ping()  # nothing is sent again while the connection lasts
    await peer.drop()
    again, _ = await part.connect(clean=False)
    assert await part.receive(again, "unanswered") == replace(unanswered, dup=True)


async def test_mqtt_4_3_2_1_a_packet_id_is_not_used_for_two_messages_at_once(part: Part) -> None:
    peer = await part.subscriber()
    await part.publish("held")
    held = await part.receive(peer, "held", ack=False)
    for number in range(part.ahead):
        await part.publish(f"message {number}")
        publish = await part.receive(peer, f"message {number}")
        assert publish.packet_id != held.packet_id


@pytest.mark.parametrize("dup", [False, True])
async def test_mqtt_4_3_2_2_after_puback_the_same_packet_id_is_a_new_message(
    part: Part, dup: bool
) -> None:
    peer = await part.subscriber()
    publisher = await part.server.connect("")
    for text in ("first", "second"):
        await send(publisher, replace(part.message(text), packet_id=7, dup=dup))
        await part.receive(peer, text)


# ---- 4.3.3 QoS 2


async def test_mqtt_4_3_3_1_qos_2_goes_through_its_four_steps(part: Part) -> None:
    peer = await part.subscriber(qos=2, clean=False)
    await part.publish("exactly once", 2)
    publish = await part.receive(peer, "exactly once", ack=False, qos=2)
    assert not publish.dup
    for _ in range(2):  # a PUBREC that comes again is answered again
        peer.send(Pubrec(publish.packet_id))
        assert await peer.expect(Pubrel) == Pubrel(publish.packet_id)
    peer.send(Pubcomp(publish.packet_id))
    await peer.ping()
    await peer.drop()
    again, _ = await part.connect(clean=False)
    await again.ping() if isinstance(part, OtherPart) else await part.settle(again)
    await part.expect_nothing(again, "exactly once", 2)


async def test_mqtt_4_3_3_1_after_pubrec_the_message_is_never_sent_again(part: Part) -> None:
    peer = await part.subscriber(qos=2, clean=False)
    await part.publish("received", 2)
    publish = await part.receive(peer, "received", ack=False, qos=2)
    peer.send(Pubrec(publish.packet_id))
    assert await peer.expect(Pubrel) == Pubrel(publish.packet_id)
    for _ in range(2):
        await peer.drop()
        peer, _ = await part.connect(clean=False)
        assert await peer.expect(Pubrel) == Pubrel(publish.packet_id)
    peer.send(Pubcomp(publish.packet_id))
    await peer.ping()


async def test_mqtt_4_3_3_2_a_message_counts_once_however_often_it_comes(part: Part) -> None:
    peer = await part.subscriber()
    publisher = await part.server.connect("")
    message = part.message("exactly once", 2)
    for dup in (False, True, True):
        publisher.send(replace(message, dup=dup))
        assert await publisher.expect(Pubrec) == Pubrec(message.packet_id)
    for _ in range(2):
        publisher.send(Pubrel(message.packet_id))
        assert await publisher.expect(Pubcomp) == Pubcomp(message.packet_id)
    await part.receive(peer, "exactly once")
    await part.expect_nothing(peer, "exactly once")


async def test_mqtt_4_3_3_2_a_message_counts_once_over_several_connections(part: Part) -> None:
    peer = await part.subscriber()
    message = part.message("exactly once", 2)
    for dup in (False, True):
        publisher = await part.server.connect(part.name("publisher"), clean=False)
        publisher.send(replace(message, dup=dup))
        assert await publisher.expect(Pubrec) == Pubrec(message.packet_id)
        await publisher.drop()
    publisher = await part.server.connect(part.name("publisher"), clean=False)
    publisher.send(Pubrel(message.packet_id))
    assert await publisher.expect(Pubcomp) == Pubcomp(message.packet_id)
    await part.receive(peer, "exactly once")
    await part.expect_nothing(peer, "exactly once")


async def test_mqtt_4_3_3_2_after_pubcomp_the_same_packet_id_is_a_new_message(part: Part) -> None:
    peer = await part.subscriber()
    publisher = await part.server.connect("")
    for text in ("first", "second"):
        await send(publisher, replace(part.message(text, 1), qos=2, packet_id=7))
        await part.receive(peer, text)


async def test_mqtt_4_3_3_2_pubrel_of_an_unknown_message_is_answered(part: Part) -> None:
    peer, _ = await part.connect()
    peer.send(Pubrel(9))
    assert await peer.expect(Pubcomp) == Pubcomp(9)


# ---- 4.4 Sending again


async def test_mqtt_4_4_0_1_everything_unacknowledged_is_sent_again_and_nothing_else(
    part: Part,
) -> None:
    peer = await part.subscriber(qos=2, clean=False)
    sent = {}
    for text, qos in (("done", 1), ("open", 1), ("half", 2), ("whole", 2)):
        await part.publish(text, qos)
        sent[text] = await part.receive(peer, text, ack=text in {"done", "whole"})
    peer.send(Pubrec(sent["half"].packet_id))
    assert await peer.expect(Pubrel) == Pubrel(sent["half"].packet_id)
    await peer.drop()
    again, _ = await part.connect(clean=False)
    found = [await again.read() for _ in range(2)]
    assert replace(sent["open"], dup=True) in found
    assert Pubrel(sent["half"].packet_id) in found


async def test_mqtt_4_4_0_1_nothing_is_sent_again_while_the_connection_lasts(part: Part) -> None:
    peer = await part.subscriber(qos=1)
    await part.publish("open")
    await part.receive(peer, "open", ack=False)
    with pytest.raises(TimeoutError):
        await peer.read(within=0.5)


# ---- 4.5 Ownership


async def test_mqtt_4_5_0_1_a_message_reaches_every_session_that_it_matches(part: Part) -> None:
    present = [await part.subscriber(f"present{number}") for number in range(3)]
    away = await part.subscriber("away", clean=False)
    await away.leave()
    await part.publish("for all")
    for peer in present:
        await part.receive(peer, "for all")
    away, _ = await part.connect("away", clean=False)
    await part.receive(away, "for all")


async def test_mqtt_4_5_0_1_an_acknowledged_message_stands_in_every_session(
    others: OtherPart,
) -> None:
    """Its publisher has PUBACK, and leaves: all of them arrive."""
    peer = await others.subscriber()
    publisher = await others.server.connect("")
    publisher.send(*(Publish(others.topic, b"%03d" % n, 1, n + 1) for n in range(200)))
    for number in range(200):
        assert await publisher.expect(Puback) == Puback(number + 1)
    await publisher.leave()
    for number in range(200):
        await others.receive(peer, f"{number:03}")


# ---- 4.6 Order


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_4_6_0_1_messages_are_sent_again_in_their_order(part: Part, qos: int) -> None:
    peer = await part.subscriber(qos=qos, clean=False)
    for number in range(4):
        await part.publish(f"message {number}", qos)
        await part.receive(peer, f"message {number}", ack=False, qos=qos)
    await peer.drop()
    again, _ = await part.connect(clean=False)
    for number in range(4):
        assert (await part.receive(again, f"message {number}", ack=False, qos=qos)).dup


@pytest.mark.parametrize(("qos", "kind"), [(1, Puback), (2, Pubrec)])
async def test_mqtt_4_6_0_2_messages_are_acknowledged_in_their_order(
    part: Part, qos: int, kind: type[Puback | Pubrec]
) -> None:
    peer, _ = await part.connect()
    messages = [part.message(f"message {number}", qos) for number in range(50)]
    peer.send(*messages)
    for message in messages:
        assert await peer.expect(kind) == kind(message.packet_id)


@pytest.mark.parametrize("first", ["items/news", "home/hall"])
async def test_mqtt_4_6_0_2_acknowledgements_keep_their_order_across_both_parts(
    feed: FeedPart, others: OtherPart, first: str
) -> None:
    """An item waits for the disk, another message does not: it waits for the item."""
    peer, _ = await feed.connect()
    parts = [feed, others] if first == "items/news" else [others, feed]
    messages = [
        replace(parts[number % 2].message(f"message {number}"), packet_id=number + 1)
        for number in range(40)
    ]
    peer.send(*messages)
    for message in messages:
        assert await peer.expect(Puback) == Puback(message.packet_id)


async def test_mqtt_4_6_0_3_pubrecs_come_in_the_order_of_their_messages(part: Part) -> None:
    peer, _ = await part.connect()
    messages = [part.message(f"message {number}", 2) for number in range(50)]
    peer.send(*messages, *messages[:3])
    for message in (*messages, *messages[:3]):
        assert await peer.expect(Pubrec) == Pubrec(message.packet_id)


async def test_mqtt_4_6_0_4_pubrels_come_in_the_order_of_the_pubrecs(part: Part) -> None:
    peer = await part.subscriber(qos=2)
    sent = []
    for number in range(4):
        await part.publish(f"message {number}", 2)
        publish = await part.receive(peer, f"message {number}", ack=False, qos=2)
        sent.append(publish.packet_id)
    peer.send(*(Pubrec(each) for each in (sent[2], sent[0], sent[3], sent[1])))
    for each in (sent[2], sent[0], sent[3], sent[1]):
        assert await peer.expect(Pubrel) == Pubrel(each)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_mqtt_4_6_0_5_messages_of_a_topic_arrive_in_their_order(
    others: OtherPart, qos: int
) -> None:
    peer = await others.subscriber(qos=qos)
    publisher = await others.server.connect("")
    messages = [others.message(f"message {number:03}", qos) for number in range(200)]
    for message in messages:
        await send(publisher, message)
    for number in range(200):
        await others.receive(peer, f"message {number:03}", qos=qos)


@pytest.mark.parametrize("qos", [0, 1])
async def test_mqtt_4_6_0_6_messages_of_each_publisher_arrive_in_their_order(
    others: OtherPart, qos: int
) -> None:
    peer = await others.subscriber(qos=qos)
    publishers = [await others.server.connect("") for _ in range(3)]
    for at in range(0, 60, 10):
        for who, publisher in enumerate(publishers):
            texts = (b"%d %03d" % (who, number) for number in range(at, at + 10))
            ids = range(at + 1, at + 11)
            publisher.send(
                *(
                    Publish(others.topic, text, qos, packet_id if qos else 0)
                    for text, packet_id in zip(texts, ids, strict=True)
                )
            )
    heard: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for _ in range(180):
        publish = await others.receive(peer, "", qos=qos)
        who, number = publish.payload.split()
        heard[int(who)].append(int(number))
    assert all(each == list(range(60)) for each in heard.values())


async def test_mqtt_4_6_0_6_what_waited_and_what_is_new_arrive_in_their_order(
    others: OtherPart,
) -> None:
    peer = await others.subscriber(clean=False)
    await peer.leave()
    for number in range(60):  # more than may be unacknowledged at once
        await others.publish(f"message {number:02}")
    again, _ = await others.connect(clean=False)
    for number in range(60, 70):
        await others.publish(f"message {number:02}")
    for number in range(70):
        await others.receive(again, f"message {number:02}")


async def test_mqtt_4_6_0_6_frames_arrive_in_the_order_of_their_numbers(feed: FeedPart) -> None:
    """On purpose a feed shows the best item first, in whatever order items were published."""
    peer = await feed.subscriber()
    publisher = await feed.server.connect("")
    for number in range(40):
        await send(publisher, feed.message(f"message {number}"))
    await send(publisher, feed.message("fence", 2))
    seen: list[int] = []
    heard = b""
    while b"fence" not in heard:
        publish = await feed.receive(peer, "")
        heard = publish.payload
        seen.append(number_of(publish))
    assert seen == sorted(set(seen))


def number_of(frame: Publish) -> int:
    """The `seq` of a delta, whose `epoch` stands before it."""
    data = frame.payload
    wide = {0xCC: 1, 0xCD: 2, 0xCE: 4}
    at = 2
    values = []
    for _ in range(2):
        size = wide.get(data[at], 0)
        values.append(int.from_bytes(data[at + 1 : at + 1 + size], "big") if size else data[at])
        at += 1 + size
    return values[1]


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
    assert await peer.subscribe((topic, 1)) == (1,)
    publisher = await others.server.connect("")
    await publisher.publish(topic, b"heard")
    assert (await others.receive(peer, "heard")).topic == topic


@pytest.mark.parametrize(
    "other",
    ["Hall", "hall/", "/hall", "hall ", " hall", "hall//", "h\u00e4ll", "ha\u0308ll", "ha%6Cl", "."],
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

