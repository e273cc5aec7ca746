"""Packets in words, and in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.frames import (
    Ack,
    Bye,
    Delta,
    Event,
    Feedback,
    FeedItem,
    Hello,
    HelloOptions,
    Kind,
    Move,
    Profile,
    Put,
    Remove,
    Snapshot,
    encode_frame,
    encode_up,
)
from devices.packets import (
    Connack,
    Connect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsubscribe,
    Will,
)
from simulator.device_check.exchange import MAX_NOTED, Exchange, Noted, describe, diagram

ITEM = FeedItem(7, 0, 1, "rain")
SNAPSHOT = encode_frame(Snapshot(5, 10, 8, (ITEM,)))
DELTA = encode_frame(Delta(5, 12, (Put(0, ITEM), Remove(1), Move(2, 0)), 10))


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (Connect("oven", clean_session=False, keep_alive=30), "CONNECT 'oven', persistent session, keep-alive 30 s"),
        (
            Connect("oven", username="oven", password=b"hush", will=Will("u/oven", encode_up(Bye(3)), 1)),
            "CONNECT 'oven', clean session, keep-alive 0 s, user 'oven', a password, will at QoS 1 on u/oven: bye 3",
        ),
        (Connack(session_present=True, code=0), "CONNACK accepted, session present 1"),
        (Connack(session_present=False, code=3), "CONNACK refused with code 3, session present 0"),
        (Subscribe(2, (("f/oven", 1),)), "SUBSCRIBE 2: f/oven at QoS 1"),
        (Suback(2, (1, 0x80)), "SUBACK 2: 0x01 0x80"),
        (Unsubscribe(3, ("f/oven",)), "UNSUBSCRIBE 3: f/oven"),
        (Puback(9), "PUBACK 9"),
        (Pingreq(), "PINGREQ"),
        (Publish("f/oven", SNAPSHOT, 1, 4, dup=True), "PUBLISH 4 DUP QoS 1 on f/oven: snapshot 5.10, k 8, [#7]"),
        (Publish("f/oven", DELTA, retain=True), "PUBLISH RETAIN QoS 0 on f/oven: delta 5.10 → 5.12: put #7 at 0, remove 1, move 2 to 0"),
        (Publish("u/oven", encode_up(Hello(5, 10, HelloOptions(k=4, clock=True)))), "PUBLISH QoS 0 on u/oven: hello at 5.10, k 4, clock True"),
        (Publish("u/oven", encode_up(Ack(5, 10))), "PUBLISH QoS 0 on u/oven: ack 5.10"),
        (Publish("u/oven", encode_up(Feedback((Event(7, Kind.OPENED),)))), "PUBLISH QoS 0 on u/oven: feedback opened 7"),
        (Publish("u/oven", b"\xc1\x02"), "PUBLISH QoS 0 on u/oven: 2 bytes c1 02"),
    ],
)  # fmt: skip
def test_a_packet_in_words(packet: Packet, words: str) -> None:
    assert describe(packet) == words


def test_a_profile_in_words_says_what_it_changes() -> None:
    assert "alerts/#" in describe(Publish("u/oven", encode_up(Profile(follow=("alerts/#",)))))


@given(st.binary(max_size=80))
def test_any_payload_can_be_described(payload: bytes) -> None:
    assert describe(Publish("f/oven", payload)).isprintable()


def test_the_diagram_has_the_device_on_the_left_and_bytes_on_demand() -> None:
    noted = [
        Noted(0.0, "", "the device opens a connection"),
        Noted(0.25, "device", "PUBACK 9", b"\x40\x02\x00\x09"),
        Noted(1.5, "server", "PINGRESP", b"\xd0\x00"),
    ]
    assert diagram(noted) == [
        "   0.000  ·                  the device opens a connection",
        "   0.250  device ──▶         PUBACK 9",
        "   1.500         ◀── server  PINGRESP",
    ]
    assert [line.strip() for line in diagram(noted[1:2], with_bytes=True)][1] == "40 02 00 09"


def test_a_case_keeps_so_many_packets_and_says_how_many_it_did_not() -> None:
    exchange = Exchange()
    exchange.begin(100.0)
    for i in range(MAX_NOTED + 5):
        exchange.note(100.0 + i, "device", "PINGREQ")
    taken = exchange.taken()
    assert len(taken) == MAX_NOTED + 1
    assert taken[1].at == 1.0
    assert taken[-1].text == "and 5 more, not kept"


def test_an_introduction_is_recalled_at_times_before_the_case() -> None:
    exchange = Exchange()
    exchange.begin(100.0)
    exchange.note(101.0, "device", "CONNECT")
    exchange.remember()
    exchange.recall()
    assert [noted.at for noted in exchange.taken()] == [1.0]  # it happened here: not twice
    exchange.begin(110.0)
    exchange.note(110.5, "device", "PINGREQ")
    exchange.recall()
    assert [(noted.at, noted.text) for noted in exchange.taken()] == [
        (-9.0, "CONNECT"),
        (0.5, "PINGREQ"),
    ]
