"""MQTT 3.1.1, sections 4.1 to 4.6: sessions, delivery, order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.conformance.support import (
    FeedPart,
    OtherPart,
    Part,
    Serve,
    acknowledge,
    send,
)

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
    """On purpose: those of other topics live in memory, and CONNACK says so."""
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


async def test_mqtt_4_1_0_1_a_session_of_both_parts_is_new_after_a_restart(serve: Serve) -> None:
    """One half of it would be worse than none: its client would not subscribe again."""
    served = await serve()
    feed = FeedPart(served)
    peer = await feed.subscriber(clean=False)
    assert await peer.subscribe(("home", 1)) == (1,)
    await peer.leave()
    await served.restart()
    _, connack = await feed.connect(clean=False)
    assert not connack.session_present


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
    assert not answered.dup
    assert not unanswered.dup
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


async def test_mqtt_4_3_3_1_puback_does_not_complete_a_message_of_qos_2(
    others: OtherPart,
) -> None:
    peer = await others.subscriber(qos=2, clean=False)
    await others.publish("exactly once", 2)
    publish = await others.receive(peer, "exactly once", ack=False, qos=2)
    peer.send(Puback(publish.packet_id))
    await peer.drop()
    again, _ = await others.connect(clean=False)
    assert await others.receive(again, "exactly once") == replace(publish, dup=True)


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
    """Also when they are sent again."""
    peer = await part.subscriber(qos=2, clean=False)
    sent = []
    for number in range(4):
        await part.publish(f"message {number}", 2)
        publish = await part.receive(peer, f"message {number}", ack=False, qos=2)
        sent.append(publish.packet_id)
    order = [sent[2], sent[0], sent[3], sent[1]]
    peer.send(*map(Pubrec, order))
    for each in order:
        assert await peer.expect(Pubrel) == Pubrel(each)
    await peer.drop()
    again, _ = await part.connect(clean=False)
    for each in order:
        assert await again.expect(Pubrel) == Pubrel(each)


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
            publisher.send(
                *(
                    Publish(others.topic, b"%d %03d" % (who, each), qos, each + 1 if qos else 0)
                    for each in range(at, at + 10)
                )
            )
    heard: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for _ in range(180):
        publish = await others.receive(peer, "", qos=qos)
        sender, number = map(int, publish.payload.split())
        heard[sender].append(number)
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


async def test_mqtt_4_6_0_6_with_a_window_of_one_no_message_overtakes_another(
    serve: Serve,
) -> None:
    """Also not by being sent again, as the standard notes."""
    served = await serve(topics__max_inflight=1)
    others = OtherPart(served)
    peer = await others.subscriber(clean=False)
    for number in range(3):
        await others.publish(f"message {number}")
    await others.receive(peer, "message 0", ack=False)
    await peer.ping()  # the others wait
    await peer.drop()
    again, _ = await others.connect(clean=False)
    for number in range(3):
        assert (await others.receive(again, f"message {number}")).dup == (number == 0)


async def test_mqtt_4_6_0_5_frames_arrive_in_the_order_of_their_numbers(feed: FeedPart) -> None:
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


async def test_mqtt_4_6_0_6_what_is_worth_more_stands_first_whenever_it_was_published(
    feed: FeedPart,
) -> None:
    """On purpose: that is what a ranked feed is."""
    for text, priority in (("important", 2), ("later but less so", 0), ("in between", 1)):
        await feed.publish(text, priority)
    peer, _ = await feed.connect()
    await peer.subscribe((feed.filter("kitchen"), 1))
    snapshot = await feed.receive(peer, "important")
    order = [snapshot.payload.index(x) for x in (b"important", b"in between", b"later but less so")]
    assert order == sorted(order)


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
