from __future__ import annotations

import itertools
import select
import socket
from dataclasses import FrozenInstanceError
from typing import get_args

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from devices.packets import (
    DISCONNECT,
    MAX_LEVELS,
    PINGREQ,
    PINGRESP,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    MalformedPacket,
    Packet,
    PacketError,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Role,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
    as_duplicate,
    encode,
    puback,
    pubcomp,
    publish_head,
    pubrec,
    pubrel,
    remaining_length,
    string_field,
    topic_field,
    valid_filter,
    valid_topic,
)
from tests.mqtt_cases import MALFORMED, OPENING, VALID, Malformed, Valid

ROLES: tuple[Role, ...] = get_args(Role)
AMPLE = 300_000

moderately = settings(max_examples=150, deadline=None)

# --- packets, as hypothesis draws them ---

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
levels = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#/"), max_size=5)
topics = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)
filters = st.builds(
    lambda parents, last: "/".join([*parents, last]),
    st.lists(levels | st.just("+"), max_size=4),
    levels | st.sampled_from("+#"),
).filter(bool)
packet_ids = st.integers(1, 65_535)
qualities = st.integers(0, 2)
payloads = st.binary(max_size=40) | st.sampled_from([bytes(127), bytes(128), bytes(16_384)])

publishes = st.builds(Publish, topic=topics, payload=payloads, retain=st.booleans()) | st.builds(
    Publish, topics, payloads, st.integers(1, 2), packet_ids, st.booleans(), st.booleans()
)
wills = st.builds(Will, topics, st.binary(max_size=9), qualities, st.booleans())
connects = st.builds(
    lambda login, **fields: Connect(username=login[0], password=login[1], **fields),
    st.just((None, None)) | st.tuples(texts, st.none() | st.binary(max_size=9)),
    client_id=texts,
    clean_session=st.booleans(),
    keep_alive=st.integers(0, 65_535),
    will=st.none() | wills,
)
acknowledgements = st.one_of(
    *(st.builds(noun, packet_ids) for noun in (Puback, Pubrec, Pubrel, Pubcomp))
)
subscribes = st.builds(
    Subscribe,
    packet_ids,
    st.lists(st.tuples(filters, qualities), min_size=1, max_size=4).map(tuple),
)
unsubscribes = st.builds(
    Unsubscribe, packet_ids, st.lists(filters, min_size=1, max_size=4).map(tuple)
)
subacks = st.builds(
    Suback,
    packet_ids,
    st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=4).map(tuple),
)
connacks = st.just(Connack(True, 0)) | st.builds(Connack, st.just(False), st.integers(0, 5))

PACKETS: dict[Role, st.SearchStrategy[Packet]] = {
    "server": st.one_of(
        publishes,
        acknowledgements,
        connects,
        subscribes,
        unsubscribes,
        st.sampled_from([Pingreq(), Disconnect()]),
    ),
    "client": st.one_of(
        publishes,
        acknowledgements,
        connacks,
        subacks,
        st.builds(Unsuback, packet_ids),
        st.just(Pingresp()),
    ),
}
conversations = st.sampled_from(ROLES).flatmap(
    lambda role: st.tuples(st.just(role), st.lists(PACKETS[role], max_size=6))
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Role, bytes]:
    """What a peer may send: anything, mostly MQTT with a few bytes damaged or cut off."""
    role, packets = draw(conversations)
    data = bytearray(b"".join(map(encode, packets)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return role, bytes(data)


@st.composite
def chunked(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` cut anywhere, empty chunks included."""
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=8).map(sorted))
    return [data[a:b] for a, b in itertools.pairwise([0, *cuts, len(data)])]


# --- reading ---


def decoder(role: Role, max_packet: int = AMPLE) -> Decoder:
    return Decoder(role=role, max_packet=max_packet)


def read(
    role: Role, *chunks: bytes, max_packet: int = AMPLE
) -> tuple[list[tuple[Packet, bytes]], PacketError | None]:
    """All that a decoder delivers of `chunks`, and the reason for which it stopped."""
    reader = decoder(role, max_packet)
    packets: list[tuple[Packet, bytes]] = []
    for chunk in chunks:
        try:
            packets += reader.feed(chunk)
        except MalformedPacket as error:
            return packets + error.packets, error.reason
    return packets, None


def each_byte(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


def before(case: Malformed) -> bytes:
    return b"" if case.opening else OPENING[case.role]


valid_cases = pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
malformed_cases = pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)


@valid_cases
def test_a_valid_case_decodes_to_its_packet_and_its_bytes(case: Valid) -> None:
    assert read(case.role, case.data) == ([(case.packet, case.data)], None)


@valid_cases
def test_a_valid_case_that_comes_byte_by_byte_decodes_the_same(case: Valid) -> None:
    assert read(case.role, *each_byte(case.data)) == ([(case.packet, case.data)], None)


@pytest.mark.parametrize(
    "case", [case for case in VALID if case.canonical], ids=lambda case: case.name
)
def test_a_packet_encodes_to_the_bytes_of_its_case(case: Valid) -> None:
    assert encode(case.packet) == case.data


@malformed_cases
def test_a_malformed_case_is_refused_for_its_reason(case: Malformed) -> None:
    assert read(case.role, before(case), case.data)[1] is case.reason


@malformed_cases
def test_a_malformed_case_that_comes_byte_by_byte_is_refused_for_the_same_reason(
    case: Malformed,
) -> None:
    assert read(case.role, *each_byte(before(case) + case.data))[1] is case.reason


@malformed_cases
def test_packets_before_a_malformed_one_are_delivered_and_none_after_it(case: Malformed) -> None:
    opening = before(case)
    packets, _ = read(case.role, opening + case.data + encode(Puback(1)))
    assert [raw for _, raw in packets] == ([opening] if opening else [])


def test_the_malformed_cases_cover_every_reason() -> None:
    assert {case.reason for case in MALFORMED} == set(PacketError)


def test_the_cases_have_names_of_their_own() -> None:
    names = [case.name for case in VALID] + [case.name for case in MALFORMED]
    assert len(names) == len(set(names))


@moderately
@given(conversations)
def test_every_packet_survives_the_round_trip(conversation: tuple[Role, list[Packet]]) -> None:
    role, packets = conversation
    wires = [encode(packet) for packet in packets]
    assert read(role, b"".join(wires)) == (list(zip(packets, wires, strict=True)), None)


@moderately
@given(streams(), st.data())
def test_any_chunking_of_any_stream_gives_the_same_packets_and_the_same_end(
    stream: tuple[Role, bytes], data: st.DataObject
) -> None:
    role, sent = stream
    limit = data.draw(st.sampled_from([4, 40, AMPLE]))
    chunks = data.draw(chunked(sent))
    assert read(role, *chunks, max_packet=limit) == read(role, sent, max_packet=limit)


@moderately
@given(st.sampled_from(ROLES), st.binary(max_size=60))
def test_arbitrary_bytes_raise_nothing_but_malformed_packet(role: Role, sent: bytes) -> None:
    packets, _ = read(role, sent)
    assert sent.startswith(b"".join(raw for _, raw in packets))


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(ROLES), st.integers(0, 255), st.binary(max_size=24), st.binary(max_size=12))
def test_nothing_is_decoded_beyond_the_remaining_length(
    role: Role, first: int, body: bytes, following: bytes
) -> None:
    packet = bytes((first, len(body))) + body
    alone, reason = read(role, packet)
    followed, later = read(role, packet + following)
    assert followed[:1] == alone
    if reason:
        assert later is reason


@moderately
@given(streams())
def test_whatever_was_decoded_encodes_to_a_packet_that_decodes_to_the_same(
    stream: tuple[Role, bytes],
) -> None:
    role, sent = stream
    for packet, _ in read(role, sent)[0]:
        assert [again for again, _ in read(role, encode(packet))[0]] == [packet]


# --- limits and memory ---


def test_a_packet_of_exactly_the_limit_passes() -> None:
    packet = encode(Publish("a", bytes(100)))
    assert read("server", packet, max_packet=len(packet)) == (
        [(Publish("a", bytes(100)), packet)],
        None,
    )


def test_a_packet_one_byte_over_the_limit_is_refused_though_it_came_whole() -> None:
    packet = encode(Publish("a", bytes(100)))
    assert read("server", packet, max_packet=len(packet) - 1) == ([], PacketError.TOO_LARGE)


def test_a_packet_over_the_limit_is_refused_at_its_fixed_header() -> None:
    header = encode(Publish("a", bytes(5000)))[:3]
    assert read("server", header[:2], max_packet=1000) == ([], None)
    assert read("server", header, max_packet=1000) == ([], PacketError.TOO_LARGE)


def test_a_packet_of_fixed_size_that_announces_more_is_refused_at_its_fixed_header() -> None:
    assert read("server", b"\x40\x7f") == ([], PacketError.TRAILING_BYTES)


def test_a_large_packet_in_small_pieces_is_looked_at_only_when_it_can_be_complete() -> None:
    class Counting(Decoder):
        looks = 0

        def _split(self, data: bytes) -> list[tuple[Packet, bytes]]:
            self.looks += 1
            return super()._split(data)

    packet = encode(Publish("a", bytes(200_000)))
    reader = Counting(role="server", max_packet=AMPLE)
    pieces = [packet[at : at + 16] for at in range(0, len(packet), 16)]
    delivered = [packets for piece in pieces if (packets := reader.feed(piece))]
    assert delivered == [[(Publish("a", bytes(200_000)), packet)]]
    assert reader.looks == 2


def test_a_chunk_that_ends_one_packet_begins_the_next() -> None:
    first, second = encode(Publish("a", b"x" * 50)), encode(Publish("b", b"y" * 50))
    reader = decoder("client")
    assert reader.feed(first[:20]) == []
    assert reader.feed(first[20:] + second[:30]) == [(Publish("a", b"x" * 50), first)]
    assert reader.feed(second[30:]) == [(Publish("b", b"y" * 50), second)]


@pytest.mark.parametrize("then", [encode(Puback(1)), encode(Pingreq()), b""], ids=repr)
def test_a_broken_stream_stays_broken(then: bytes) -> None:
    reader = decoder("server")
    with pytest.raises(MalformedPacket) as first:
        reader.feed(encode(Puback(9)) + b"\xf0\x00")
    with pytest.raises(MalformedPacket) as second:
        reader.feed(then)
    assert first.value.packets == [(Puback(9), encode(Puback(9)))]
    assert second.value.packets == []
    assert second.value.reason is first.value.reason is PacketError.UNEXPECTED_TYPE


def test_the_text_of_an_error_names_its_reason_and_the_statement() -> None:
    with pytest.raises(MalformedPacket, match=r"^bad_qos: .*\[MQTT-3\.3\.1-4\]$"):
        decoder("server").feed(b"\x36\x00")


def test_a_tls_handshake_counts_as_foreign_only_where_a_stream_begins() -> None:
    assert read("server", b"\x16")[1] is PacketError.NOT_MQTT
    assert read("server", OPENING["server"], b"\x16")[1] is PacketError.BAD_FLAGS


# --- encoding ---


@pytest.mark.parametrize(
    "packet",
    [
        Publish("", b""),
        Publish("a/+", b""),
        Publish("a/#", b""),
        Publish("a\0", b""),
        Publish("\ud800", b""),
        Publish("a" * 65_536, b""),
        Publish("/" * MAX_LEVELS, b""),
        Publish("a", b"", qos=3, packet_id=1),
        Publish("a", b"", qos=-1, packet_id=1),
        Publish("a", b"", qos=1),
        Publish("a", b"", qos=1, packet_id=65_536),
        Publish("a", b"", packet_id=1),
        Publish("a", b"", dup=True),
        Puback(0),
        Pubrec(-1),
        Pubrel(65_536),
        Pubcomp(0),
        Unsuback(0),
        Subscribe(0, (("a", 0),)),
        Subscribe(1, ()),
        Subscribe(1, (("a", 3),)),
        Subscribe(1, (("a#", 0),)),
        Unsubscribe(1, ()),
        Unsubscribe(1, ("",)),
        Suback(1, ()),
        Suback(1, (3,)),
        Connack(False, 6),
        Connack(True, 5),
        Connect("a", keep_alive=65_536),
        Connect("a", keep_alive=-1),
        Connect("a\0"),
        Connect("a", password=b"x"),
        Connect("a", username="a", password=bytes(65_536)),
        Connect("a", will=Will("#", b"")),
        Connect("a", will=Will("w", b"", qos=3)),
    ],
    ids=lambda packet: repr(packet)[:60],
)
def test_what_mqtt_cannot_carry_is_not_encoded(packet: Packet) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(packet)


@pytest.mark.parametrize(
    ("n", "length"),
    [  # the bounds of Table 2.4
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_151, b"\xff\xff\x7f"),
        (2_097_152, b"\x80\x80\x80\x01"),
        (268_435_455, b"\xff\xff\xff\x7f"),
    ],
)
def test_a_remaining_length_is_as_the_standard_tabulates_it(n: int, length: bytes) -> None:
    assert remaining_length(n) == length


@pytest.mark.parametrize("n", [-1, 268_435_456])
def test_a_remaining_length_beyond_four_bytes_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="no remaining length"):
        remaining_length(n)


@moderately
@given(publishes)
def test_a_head_and_a_shared_payload_make_the_same_packet(packet: Publish) -> None:
    head = publish_head(
        topic_field(packet.topic),
        len(packet.payload),
        packet.qos,
        packet.packet_id,
        retain=packet.retain,
    )
    whole = head + packet.payload
    assert encode(packet) == (as_duplicate(whole) if packet.dup else whole)


def test_a_packet_sent_again_differs_in_dup_alone() -> None:
    again = as_duplicate(encode(Publish("a", b"x", qos=2, packet_id=5)))
    assert again == encode(Publish("a", b"x", qos=2, packet_id=5, dup=True))
    assert as_duplicate(again) == again


def test_a_publish_of_qos_0_is_never_made_a_duplicate() -> None:
    with pytest.raises(ValueError, match="DUP at QoS 0"):
        as_duplicate(encode(Publish("a", b"x")))


@given(packet_ids)
def test_short_cuts_give_the_bytes_of_the_whole_way(packet_id: int) -> None:
    assert puback(packet_id) == encode(Puback(packet_id))
    assert pubrec(packet_id) == encode(Pubrec(packet_id))
    assert pubrel(packet_id) == encode(Pubrel(packet_id))
    assert pubcomp(packet_id) == encode(Pubcomp(packet_id))


def test_constants_are_the_packets_they_are_named_after() -> None:
    assert encode(Pingreq()) == PINGREQ
    assert encode(Pingresp()) == PINGRESP
    assert encode(Disconnect()) == DISCONNECT


def test_a_string_field_counts_bytes_and_not_characters() -> None:
    assert string_field("käse") == b"\x00\x05k\xc3\xa4se"


def test_a_string_field_holds_65535_bytes_and_no_more() -> None:
    topic = "a" * 65_535
    assert read("client", encode(Publish(topic, b"")))[0][0][0] == Publish(topic, b"")
    with pytest.raises(ValueError, match="65536 bytes"):
        string_field(topic + "a")


def test_packets_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Puback(1).packet_id = 2  # type: ignore[misc]  # the point of the test


# --- topics and filters ---


@pytest.mark.parametrize(
    "topic", ["a", "/", "a/b", "//", " ", "$SYS/x", "ä", "/" * (MAX_LEVELS - 1), "a" * 65_535]
)
def test_a_topic_name_is_valid_and_is_a_filter_too(topic: str) -> None:
    assert valid_topic(topic)
    assert valid_filter(topic)


@pytest.mark.parametrize(
    "topic", ["", "+", "#", "a/+/b", "a/#", "a+", "a\0", "\ud800", "/" * MAX_LEVELS, "ä" * 32_768]
)
def test_a_topic_name_is_not_valid(topic: str) -> None:
    assert not valid_topic(topic)


@pytest.mark.parametrize("topic_filter", ["#", "+", "+/+", "/+", "a/#", "+/a/#", "/#", "a/+/b"])
def test_a_filter_with_wildcards_is_valid(topic_filter: str) -> None:
    assert valid_filter(topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        *("", "a#", "#/a", "a/#/b", "a+", "+a", "++", "##", "a/b+/c", "+#", "\0", "\ud800"),
        *("/" * MAX_LEVELS, "+/" * MAX_LEVELS + "#", "ä" * 32_768),
    ],
    ids=lambda topic_filter: ascii(topic_filter[:20]),
)
def test_a_filter_is_not_valid(topic_filter: str) -> None:
    assert not valid_filter(topic_filter)


@moderately
@given(st.text("a+#/\0ä", max_size=6))
def test_valid_topics_and_filters_are_those_that_the_decoder_lets_pass(text: str) -> None:
    field = len(text.encode()).to_bytes(2, "big") + text.encode()
    publish = bytes((0x30, len(field))) + field
    unsubscribe = bytes((0xA2, 2 + len(field))) + b"\x00\x01" + field
    assert (read("server", publish)[1] is None) == valid_topic(text)
    assert (read("server", unsubscribe)[1] is None) == valid_filter(text)


# --- an independent witness ---


def test_a_paho_client_and_the_codec_understand_each_other() -> None:
    """One session, both ends in this thread: the server reads what paho wrote, and the reverse."""
    received: list[paho.MQTTMessage] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, "kitchen", protocol=paho.MQTTv311)
    client.username_pw_set("kitchen", "secret")
    client.will_set("u/kitchen", b"\x92\x04\x07", qos=1)
    client.on_message = lambda _client, _data, message: received.append(message)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.connect("127.0.0.1", listener.getsockname()[1], keepalive=60)
        peer, _ = listener.accept()
    with peer:
        peer.settimeout(10)
        ear = client.socket()
        assert ear is not None
        reader = decoder("server")

        def heard() -> Packet:
            packets: list[tuple[Packet, bytes]] = []
            while not packets:
                packets = reader.feed(peer.recv(65_536))
            ((packet, _),) = packets
            return packet

        def say(packet: Packet) -> None:
            peer.sendall(encode(packet))
            assert select.select([ear], [], [], 10)[0]
            assert client.loop_read() == paho.MQTT_ERR_SUCCESS

        assert heard() == Connect(
            "kitchen",
            keep_alive=60,
            username="kitchen",
            password=b"secret",
            will=Will("u/kitchen", b"\x92\x04\x07", qos=1),
        )
        say(Connack(session_present=False, code=0))
        assert client.is_connected()

        client.subscribe([("f/kitchen", 1), ("a/+/#", 2)])
        assert heard() == Subscribe(1, (("f/kitchen", 1), ("a/+/#", 2)))
        say(Suback(1, (1, 0x80)))

        sent = client.publish("u/kitchen", b"x" * 200, qos=2)
        assert heard() == Publish("u/kitchen", b"x" * 200, 2, 2)
        say(Pubrec(2))
        assert heard() == Pubrel(2)
        say(Pubcomp(2))
        assert sent.is_published()

        say(Publish("f/kitchen", b"y" * 200, 1, 77))
        assert [(m.topic, m.payload, m.qos) for m in received] == [("f/kitchen", b"y" * 200, 1)]
        assert heard() == Puback(77)

        client.unsubscribe("a/+/#")
        assert heard() == Unsubscribe(3, ("a/+/#",))
        say(Unsuback(3))
        client.disconnect()
        assert heard() == Disconnect()
