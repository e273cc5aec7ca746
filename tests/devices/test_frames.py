from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.frames import (
    MAX_K,
    MAX_UINT,
    MAX_UP,
    MIN_PAYLOAD,
    Ack,
    BadFrame,
    BadUp,
    Bye,
    Delta,
    Event,
    Feedback,
    FeedItem,
    Frame,
    Hello,
    HelloOptions,
    Kind,
    Move,
    Profile,
    Put,
    Remove,
    Snapshot,
    Up,
    array_head,
    decode_frame,
    decode_up,
    delta_bytes,
    encode_frame,
    encode_up,
    item_bytes,
    longest_overhead,
    payload_capacity,
    put_bytes,
    snapshot_bytes,
    uint_bytes,
)
from devices.packets import Publish, encode
from tests.wire_cases import BAD_FRAMES, BAD_UPS, FRAMES, UPS, Invalid, Valid

uints = st.integers(0, MAX_UINT)
positive = st.integers(1, MAX_UINT)
items = st.builds(
    FeedItem, positive, uints, st.integers(0, 3), st.text(max_size=40) | st.binary(max_size=40)
)
ops = st.one_of(
    st.builds(Put, uints, items), st.builds(Remove, uints), st.builds(Move, uints, uints)
)
snapshots = st.builds(
    Snapshot,
    positive,
    uints,
    st.integers(20, MAX_K),
    st.lists(items, max_size=20, unique_by=lambda item: item.n).map(tuple),
)


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    seq = draw(positive)
    base = draw(st.none() | st.integers(0, max(0, seq - 2)))
    return Delta(
        draw(positive),
        seq,
        draw(st.lists(ops, max_size=20).map(tuple)),
        None if base == seq - 1 else base,
    )


optional = st.none() | uints
names = st.text("abcdef", min_size=1, max_size=8)
ups: st.SearchStrategy[Up] = st.one_of(
    st.builds(
        Hello,
        uints,
        uints,
        st.none()
        | st.builds(
            HelloOptions,
            st.none() | st.integers(1, 64),
            st.none() | st.integers(96, 65_536),
            st.none() | st.integers(0, 2),
            st.none() | st.text(max_size=16),
            optional,
            st.none() | st.booleans(),
        ),
    ),
    st.builds(Ack, uints, uints),
    st.builds(
        Feedback,
        st.lists(
            st.builds(Event, positive, st.sampled_from(Kind), optional, optional), max_size=50
        ).map(tuple),
    ),
    st.builds(
        Profile,
        st.lists(names, max_size=32).map(tuple),
        st.lists(names, max_size=32).map(tuple),
        st.dictionaries(names, names | uints, max_size=16),
    ),
    st.builds(Bye, uints),
)


@pytest.mark.parametrize("case", FRAMES, ids=str)
def test_every_named_frame_decodes_to_its_meaning(case: Valid[Frame | None]) -> None:
    assert decode_frame(case.data) == case.value


@pytest.mark.parametrize("case", [case for case in FRAMES if case.canonical], ids=str)
def test_every_canonical_frame_is_encoded_to_just_these_bytes(case: Valid[Frame]) -> None:
    assert encode_frame(case.value) == case.data


@pytest.mark.parametrize("case", BAD_FRAMES, ids=str)
def test_what_is_no_frame_is_refused(case: Invalid) -> None:
    with pytest.raises(BadFrame):
        decode_frame(case.data)


@pytest.mark.parametrize("case", UPS, ids=str)
def test_every_named_up_message_decodes_to_its_meaning(case: Valid[Up]) -> None:
    assert decode_up(case.data) == case.value


@pytest.mark.parametrize("case", [case for case in UPS if case.canonical], ids=str)
def test_every_canonical_up_message_is_encoded_to_just_these_bytes(case: Valid[Up]) -> None:
    assert encode_up(case.value) == case.data


@pytest.mark.parametrize("case", BAD_UPS, ids=str)
def test_what_is_no_up_message_is_refused_for_its_reason(case: Invalid) -> None:
    with pytest.raises(BadUp) as refused:
        decode_up(case.data)
    assert refused.value.reason == case.reason


def test_the_names_of_the_wire_cases_are_unique() -> None:
    for table in (FRAMES, BAD_FRAMES, UPS, BAD_UPS):
        assert len({str(case) for case in table}) == len(table)


@given(snapshots | deltas())
@settings(max_examples=150, deadline=None)
def test_a_frame_survives_the_wire(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(ups)
@settings(max_examples=200, deadline=None)
def test_an_up_message_survives_the_wire(message: Up) -> None:
    assert decode_up(encode_up(message)) == message


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(("follow", "unfollow", "attrs", "a/#", "#/a"))
    | st.binary(max_size=4)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=9)),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.integers(0, 7) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)
arrays = st.builds(
    lambda kind, rest: [kind, *rest], st.integers(0, 5), st.lists(values, max_size=5)
)
mutants = st.builds(
    lambda data, at, byte: data[: at % len(data)] + byte + data[at % len(data) + 1 :],
    st.sampled_from([*(case.data for case in FRAMES), *(case.data for case in UPS)]),
    st.integers(0, 100),
    st.binary(max_size=2),
)
hostile = st.binary(max_size=60) | values.map(msgpack.packb) | arrays.map(msgpack.packb) | mutants


@given(hostile)
@settings(max_examples=300, deadline=None)
def test_whatever_the_bytes_decode_frame_returns_a_frame_or_raises_bad_frame(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except BadFrame:
        return
    if frame is not None:
        assert decode_frame(encode_frame(frame)) == frame


@given(hostile)
@settings(max_examples=300, deadline=None)
def test_whatever_the_bytes_decode_up_returns_a_message_or_raises_bad_up(data: bytes) -> None:
    try:
        message = decode_up(data)
    except BadUp:
        return
    assert decode_up(encode_up(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x91" * 2_000 + b"\x00", id="2000 arrays deep"),
        pytest.param(b"\x81\x91" * 600 + b"\x00" * 700, id="arrays as keys"),
        pytest.param(b"\xdc\xff\xff" * 600, id="arrays that promise 65535 elements each"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="a map that promises 2**32 pairs"),
        pytest.param(bytes.fromhex("9300c70cffffffffff7fffffffffffffff"), id="a timestamp out of range"),
        pytest.param(bytes.fromhex("9300c703ff000000"), id="a timestamp of three bytes"),
        pytest.param(bytes.fromhex("9500d6ff00000000010890"), id="a timestamp for an epoch"),
    ],
)  # fmt: skip
def test_hostile_msgpack_is_refused_like_any_other(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_frame(data)
    with pytest.raises(BadUp):
        decode_up(data)


@given(uints)
def test_an_integer_has_the_shortest_msgpack_form(value: int) -> None:
    assert uint_bytes(value) == msgpack.packb(value)


@pytest.mark.parametrize("value", [0, 127, 128, 255, 256, 65_535, 65_536, MAX_UINT])
def test_an_integer_at_an_edge_has_the_shortest_msgpack_form(value: int) -> None:
    assert uint_bytes(value) == msgpack.packb(value)


@pytest.mark.parametrize("value", [-1, -(2**40), MAX_UINT + 1, 2**64])
def test_an_integer_that_is_no_uint32_is_not_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="unsigned"):
        uint_bytes(value)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 64, 65_535])
def test_an_array_head_announces_its_length(length: int) -> None:
    assert msgpack.unpackb(array_head(length) + b"\x00" * length) == [0] * length


def test_an_up_message_that_the_server_would_refuse_for_its_size_is_not_encoded() -> None:
    longest = Feedback(
        (
            *(Event(MAX_UINT, Kind.DWELL, MAX_UINT, MAX_UINT),) * 119,
            *(Event(1, Kind.SHOWN),) * 5,
            Event(256, Kind.SHOWN),
        )
    )
    assert len(encode_up(longest)) == MAX_UP
    assert decode_up(encode_up(longest)) == longest
    with pytest.raises(ValueError, match="2048"):
        encode_up(Feedback((*longest.events, Event(1, Kind.SHOWN))))


def test_an_item_is_encoded_once_and_shared_by_snapshot_and_delta() -> None:
    item = FeedItem(70_000, 1_800_000_000, 3, "storm")
    shared = item_bytes(item.n, item.expires, item.priority, item.payload)
    assert decode_frame(snapshot_bytes(7, 1, 8, [shared])) == Snapshot(7, 1, 8, (item,))
    assert decode_frame(delta_bytes(7, 2, [put_bytes(3, shared)])) == Delta(7, 2, (Put(3, item),))


def packet_overhead(topic: str, frame: Frame, payload: bytes) -> int:
    packet = Publish(topic, encode_frame(frame), qos=1, packet_id=65_535)
    return len(encode(packet)) - len(payload)


@pytest.mark.parametrize("size", [0, 200, 300, 65_000])
def test_no_packet_of_one_put_has_more_overhead_than_the_longest(size: int) -> None:
    payload = b"x" * size
    item = FeedItem(MAX_UINT, MAX_UINT, 3, payload)
    longest = longest_overhead(len("f/kitchen"))
    put = Delta(MAX_UINT, MAX_UINT, (Put(63, item),), 0xFFFF_FFF0)
    assert packet_overhead("f/kitchen", put, payload) <= longest
    snapshot = Snapshot(MAX_UINT, MAX_UINT, 64, (item,))
    assert packet_overhead("f/kitchen", snapshot, payload) <= longest


def test_the_longest_overhead_is_reached_by_a_delta_with_everything_at_its_longest() -> None:
    payload = b"x" * 65_000
    put = Delta(
        MAX_UINT, MAX_UINT, (Put(63, FeedItem(MAX_UINT, MAX_UINT, 3, payload)),), 0xFFFF_FFF0
    )
    assert packet_overhead("f/kitchen", put, payload) == longest_overhead(len("f/kitchen"))


@given(
    st.integers(96, 65_536), st.text("abc", min_size=1, max_size=64), st.sampled_from(("", "p/"))
)
@settings(max_examples=60, deadline=None)
def test_a_payload_that_fills_the_capacity_keeps_the_budget(
    budget: int, device: str, prefix: str
) -> None:
    capacity = payload_capacity(budget, device, prefix)
    payload = b"x" * max(0, capacity)
    put = Delta(
        MAX_UINT, MAX_UINT, (Put(63, FeedItem(MAX_UINT, MAX_UINT, 3, payload)),), 0xFFFF_FFF0
    )
    packet = Publish(f"{prefix}f/{device}", encode_frame(put), qos=1, packet_id=1)
    assert capacity < 0 or len(encode(packet)) <= budget


def test_the_least_budget_leaves_a_short_named_device_enough_and_a_long_named_one_too_little() -> (
    None
):
    assert payload_capacity(96, "kitchen") >= MIN_PAYLOAD
    assert payload_capacity(96, "k" * 64) < MIN_PAYLOAD


@pytest.mark.parametrize(
    ("n", "expires", "seq", "bound"),
    [
        pytest.param(0xFFFF, 0, 127, 20, id="small n, no clock, one-byte seq"),
        pytest.param(0xFFFF, 1_800_000_000, 127, 20, id="small n, a clock, one-byte seq"),
        pytest.param(MAX_UINT, 1_800_000_000, MAX_UINT, 25, id="everything long but the epoch"),
    ],
)
def test_a_put_costs_no_more_over_its_payload_than_the_design_allows(
    n: int, expires: int, seq: int, bound: int
) -> None:
    payload = "x" * 128
    frame = encode_frame(Delta(127, seq, (Put(63, FeedItem(n, expires, 3, payload)),)))
    assert len(frame) - len(payload) <= bound
