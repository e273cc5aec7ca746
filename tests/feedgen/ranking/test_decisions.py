from __future__ import annotations

import dataclasses

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.decisions import (
    MAX_ROWS,
    Admissions,
    BadDecision,
    Outcomes,
    decode,
    encode,
    payloads,
    select,
    without,
)
from tests.feedgen.decision_cases import admissions, bits, outcomes, records


def payload_of(record):
    """What the one frame of a record holds."""
    ((_, payload),) = payloads(encode(record))
    return payload


@given(records())
def test_a_record_comes_back_as_it_was_in_every_bit(record):
    assert bits(decode(payload_of(record))) == bits(record)


@given(st.lists(records(), max_size=4))
def test_frames_behind_one_another_are_told_apart(several):
    frames = [encode(record) for record in several]
    found = list(payloads(b"".join(frames)))
    ends = np.cumsum([len(frame) for frame in frames]).tolist()
    assert [end for end, _ in found] == ends
    assert [bits(decode(payload)) for _, payload in found] == [bits(record) for record in several]


def test_a_row_of_exploration_takes_28_bytes_and_one_without_20():
    rng = np.random.default_rng(1)
    devices = rng.integers(0, 2**64, 1000, dtype=np.uint64).tolist()
    plain = admissions(
        *devices, mean=rng.normal(size=1000), key=range(1000), bar=rng.permutation(1000)
    )
    explored = dataclasses.replace(
        plain,
        sd=rng.random(1000).astype(np.float32),
        propensity=rng.random(1000).astype(np.float32),
    )
    assert len(encode(plain)) < 20.5 * 1000
    assert len(encode(explored)) < 28.5 * 1000


@pytest.mark.parametrize("record", [admissions(1, 2), outcomes(1, 2)])
def test_a_tail_that_is_cut_anywhere_does_not_hide_what_is_before_it(record):
    first, second = encode(admissions(7)), encode(record)
    for length in range(len(second)):
        assert [end for end, _ in payloads(first + second[:length])] == [len(first)]


def test_a_tail_with_any_byte_changed_does_not_hide_what_is_before_it():
    first, second = encode(admissions(7)), encode(outcomes(1, 2))
    for place in range(len(second)):
        changed = bytearray(second)
        changed[place] ^= 0x10
        assert [end for end, _ in payloads(first + changed)] == [len(first)]


@pytest.mark.parametrize("tail", [b"\0" * 8, b"\0" * 4096, b"\xff" * 4096])
def test_a_tail_of_blank_blocks_is_no_record(tail):
    first = encode(admissions(7))
    assert [end for end, _ in payloads(first + tail)] == [len(first)]


def test_fields_and_columns_of_a_later_version_are_passed_over():
    fields = msgpack.unpackb(payload_of(admissions(1, 2)))
    fields["region"] = "north"
    fields["columns"]["slate"] = ["<u2", b"\1\0\2\0"]
    assert bits(decode(msgpack.packb(fields))) == bits(admissions(1, 2))


def test_a_kind_of_a_later_version_is_no_error():
    fields = msgpack.unpackb(payload_of(admissions(1, 2)))
    assert decode(msgpack.packb({**fields, "kind": "regrets"})) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": 3}, "without a kind"),
        ({"rows": -1}, "without rows"),
        ({"rows": True}, "without rows"),
        ({"rows": 2**40}, "without rows"),
        ({"rows": 3}, "16 bytes for 3 rows"),
        ({"columns": []}, "without rows and columns"),
        ({"columns": {}}, "device is missing"),
        ({"t": 5}, "t is int, must be float"),
        ({"n": None}, "n is NoneType, must be int"),
        ({"model": True}, "model is bool, must be int"),
    ],
)
def test_a_map_that_is_no_record_is_refused_with_what_is_wrong(change, said):
    fields = msgpack.unpackb(payload_of(admissions(1, 2)))
    with pytest.raises(BadDecision, match=said):
        decode(msgpack.packb({**fields, **change}))


@pytest.mark.parametrize(
    "spec", [None, ["<u8"], ["<f8", b"12345678"], ["O", b"x"], ["<u8", "text"]]
)
def test_a_column_of_another_type_is_refused(spec):
    fields = msgpack.unpackb(payload_of(admissions(1, 2)))
    fields["columns"]["device"] = spec
    with pytest.raises(BadDecision, match="device"):
        decode(msgpack.packb(fields))


@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_refused(data):
    for reading in (decode, lambda payload: without(payload, 1)):
        with pytest.raises(BadDecision):
            reading(data)


@settings(max_examples=200)
@given(record=records(), place=st.integers(0), byte=st.integers(0, 255))
def test_a_record_with_a_byte_changed_is_a_record_or_refused(record, place, byte):
    payload = bytearray(payload_of(record))
    payload[place % len(payload)] = byte
    for reading in (decode, lambda each: without(each, 1)):
        try:
            reading(bytes(payload))
        except BadDecision:
            continue


def test_columns_that_are_not_as_long_as_the_others_are_refused():
    wrong = dataclasses.replace(admissions(1, 2), sd=np.zeros(3, np.float32))
    with pytest.raises(BadDecision, match=r"sd has shape \(3,\), must be \(2,\)"):
        encode(wrong)


def test_more_rows_than_anybody_will_read_are_refused():
    ones = np.broadcast_to(np.uint64(1), (MAX_ROWS + 1,))
    with pytest.raises(BadDecision, match="16777217 rows"):
        encode(dataclasses.replace(admissions(1), device=ones))


def test_a_column_whose_type_would_lose_something_is_refused():
    with pytest.raises(BadDecision, match="key is float64"):
        encode(dataclasses.replace(admissions(1), key=np.array([1.5])))


def test_a_column_of_a_narrower_type_is_widened():
    narrow = dataclasses.replace(admissions(1), key=np.array([7], np.int16))
    found = decode(payload_of(narrow))
    assert isinstance(found, Admissions)
    assert found.key.dtype == np.int32
    assert found.key.tolist() == [7]


@given(record=records(devices=st.integers(1, 3)))
def test_a_record_without_a_device_is_all_rows_of_the_others(record):
    frame, removed = without(payload_of(record), 2)
    others = select(record, record.device != 2)
    assert removed == len(record) - len(others)
    if removed and not len(others):
        assert frame == b""
    else:
        ((end, payload),) = payloads(frame)
        assert end == len(frame)
        assert bits(decode(payload)) == bits(others)


def test_a_device_is_taken_out_of_what_a_later_version_wrote():
    fields = msgpack.unpackb(payload_of(outcomes(1, 2, 3)))
    fields |= {"kind": "regrets", "region": "north"}
    fields["columns"]["regret"] = ["<f2", np.array([0.1, 0.2, 0.3], "<f2").tobytes()]
    frame, removed = without(msgpack.packb(fields), 2)
    ((_, payload),) = payloads(frame)
    left = msgpack.unpackb(payload)
    assert removed == 1
    assert (left["kind"], left["region"], left["rows"]) == ("regrets", "north", 2)
    assert left["columns"]["regret"] == ["<f2", np.array([0.1, 0.3], "<f2").tobytes()]


def test_what_is_of_no_device_stays_as_it_is():
    payload = msgpack.packb({"kind": "note", "rows": 0, "columns": {}})
    frame, removed = without(payload, 1)
    assert ([each for _, each in payloads(frame)], removed) == ([payload], 0)


def test_some_rows_of_a_record_are_a_record():
    part = select(outcomes(1, 2, 3, n=[4, 5, 6]), np.array([True, False, True]))
    assert isinstance(part, Outcomes)
    assert part.n.tolist() == [4, 6]
    assert len(part) == 2
