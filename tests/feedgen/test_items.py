from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feedgen.items import (
    MAX_DEPTH,
    MAX_ITEM,
    BadRecord,
    InvalidItem,
    Item,
    ItemError,
    Record,
    decode_item,
    digest,
    pack_record,
    unpack_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CHANNEL = "alerts/weather/ca"
ITEM_KEYS = [
    *("id", "payload", "brief", "priority", "ttl"),
    *("rev", "tags", "collapse", "where", "retract"),
]

text = st.text(max_size=16)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
nested = st.recursive(
    st.none() | st.booleans() | int64 | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
value = text | int64
# What JSON and msgpack can both say.
maps = st.fixed_dictionaries(
    {"payload": text | st.dictionaries(text, nested, max_size=3)},
    optional={
        "id": st.text(min_size=1, max_size=16),
        "brief": text,
        "priority": st.integers(0, 3),
        "ttl": st.integers(1, 30 * 86_400),
        "rev": int64,
        "tags": st.lists(text, max_size=16),
        "collapse": text,
        "where": st.dictionaries(text, value | st.lists(value, min_size=1, max_size=4), max_size=8),
        "retract": st.booleans(),
    },
)
items = st.builds(lambda sent: decode_item(CHANNEL, msgpack.packb(sent)), maps)


def from_json(sent: object) -> Item:
    return decode_item(CHANNEL, json.dumps(sent).encode())


def from_msgpack(sent: object) -> Item:
    return decode_item(CHANNEL, msgpack.packb(sent))


def refusal(payload: bytes, channel: str = CHANNEL) -> ItemError:
    with pytest.raises(InvalidItem) as caught:
        decode_item(channel, payload)
    assert len(caught.value.detail) < 200
    return caught.value.reason


def nested_maps(levels: int) -> dict[str, object]:
    inner: dict[str, object] = {}
    for _ in range(levels - 1):
        inner = {"a": inner}
    return inner


def test_all_keys_arrive_in_the_item() -> None:
    sent = {
        "id": "storm-7",
        "payload": "Storm from the west",
        "brief": b"storm",
        "priority": 3,
        "ttl": 3_600,
        "rev": 12,
        "tags": ["wind", "coast"],
        "collapse": "weather",
        "where": {"region": ["qc", "on", "qc"], "model": 3},
    }
    assert from_msgpack(sent) == Item(
        channel=CHANNEL,
        id="storm-7",
        payload="Storm from the west",
        brief=b"storm",
        priority=3,
        ttl=3_600,
        rev=12,
        tags=("wind", "coast"),
        collapse="weather",
        where=(("model", (3,)), ("region", ("on", "qc"))),
    )


def test_absent_keys_have_the_defaults_of_the_protocol() -> None:
    item = from_json({"id": "x", "payload": "y"})
    assert item == Item(CHANNEL, "x", "y")
    assert (item.priority, item.ttl, item.rev, item.retract) == (1, 86_400, None, False)


def test_an_item_is_a_value() -> None:
    with pytest.raises(FrozenInstanceError):
        from_json({"payload": "y"}).ttl = 1  # type: ignore[misc]


@settings(deadline=None)
@given(maps)
@example({"payload": {"a": 1.0, "b": [None, True, {"c": -1}]}})
def test_json_and_msgpack_of_the_same_item_decode_equal(sent: dict[str, Any]) -> None:
    assert from_json(sent) == from_msgpack(sent)


def test_a_map_payload_travels_as_its_msgpack() -> None:
    payload = {"t": 21.5, "unit": "C"}
    assert from_json({"payload": payload}).payload == msgpack.packb(payload)


@pytest.mark.parametrize(
    "payload", [b"plain", b" {}", b"[1]", b"\x90", b"\xff\xfe", b"\0", b"\x7f"]
)
def test_anything_but_a_map_is_an_opaque_payload_with_all_defaults(payload: bytes) -> None:
    item = decode_item(CHANNEL, payload)
    assert item == Item(CHANNEL, item.id, payload, opaque=True)


@pytest.mark.parametrize("marker", [b"{", b"\x80", b"\x8f", b"\xde", b"\xdf"])
def test_what_begins_like_a_map_must_be_one(marker: bytes) -> None:
    assert refusal(marker + b"\xc1") in (ItemError.BAD_JSON, ItemError.BAD_MSGPACK)


def test_a_missing_id_is_a_hash_of_channel_and_payload() -> None:
    item = from_json({"payload": "y", "tags": ["t"]})
    assert len(item.id) == 32
    assert from_json({"payload": "y", "ttl": 5}).id == item.id
    assert from_json({"payload": "z"}).id != item.id
    assert from_msgpack({"payload": b"y"}).id != item.id
    assert decode_item("alerts/weather", b'{"payload": "y"}').id != item.id


def test_an_opaque_payload_has_the_same_id_whenever_it_is_sent() -> None:
    assert decode_item(CHANNEL, b"plain") == decode_item(CHANNEL, b"plain")
    assert decode_item(CHANNEL, b"plain").id != decode_item("other", b"plain").id


def test_a_retraction_needs_no_payload_and_keeps_none() -> None:
    expected = Item(CHANNEL, "x", "", retract=True)
    assert from_json({"id": "x", "retract": True}) == expected
    assert from_json({"id": "x", "retract": True, "payload": "p", "brief": "b"}) == expected


def test_an_item_without_id_is_retracted_by_its_payload() -> None:
    published = from_json({"payload": "y"})
    retraction = from_json({"payload": "y", "retract": True})
    assert (retraction.id, retraction.retract) == (published.id, True)


def test_retract_false_is_an_item_like_any_other() -> None:
    assert from_json({"payload": "y", "retract": False}) == from_json({"payload": "y"})
    assert refusal(b'{"id": "x", "retract": false}') == ItemError.MISSING_PAYLOAD


@pytest.mark.parametrize(
    ("reason", "payload"),
    [
        (ItemError.MISSING_PAYLOAD, b""),
        (ItemError.MISSING_PAYLOAD, b"{}"),
        (ItemError.MISSING_PAYLOAD, b"\x80"),
        (ItemError.MISSING_ID, b'{"retract": true}'),
        (ItemError.BAD_JSON, b'{"payload": "y"'),
        (ItemError.BAD_JSON, b'{"payload": "y"} {}'),
        (ItemError.BAD_JSON, b'{"payload": "\xff"}'),
        (ItemError.BAD_JSON, b'{"payload": {"a": NaN}}'),
        (ItemError.BAD_JSON, b'{"payload": "y", "ttl": -Infinity}'),
        (ItemError.BAD_JSON, '{"payload": "y"}'.encode("utf-16-le")),
        (ItemError.DUPLICATE_KEY, b'{"payload": "y", "payload": "y"}'),
        (ItemError.DUPLICATE_KEY, b'{"payload": {"a": 1, "a": 1}}'),
        (ItemError.DUPLICATE_KEY, b"\x82\xa1a\x01\xa1a\x01"),
        (ItemError.UNKNOWN_KEY, b'{"payload": "y", "prio": 1}'),
        (ItemError.UNKNOWN_KEY, b'{"payload": "y", "' + b"k" * 9_000 + b'": 1}'),
        (ItemError.UNKNOWN_KEY, b"\x81\xc4\x07payload\xa1y"),
        (ItemError.BAD_TYPE, b'{"payload": null}'),
        (ItemError.BAD_TYPE, b'{"payload": 7}'),
        (ItemError.BAD_TYPE, b'{"payload": ["y"]}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "id": 7}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "brief": {}}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "priority": true}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "priority": 1.0}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "ttl": "60"}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "rev": 3.0}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "tags": "t"}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "tags": [1]}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "collapse": 1}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "where": [["a", 1]]}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "where": {"a": true}}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "where": {"a": [1.5]}}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "where": {"a": {"b": 1}}}'),
        (ItemError.BAD_TYPE, b'{"payload": "y", "retract": 1}'),
        (ItemError.BAD_TYPE, b"\x82\xa7payload\xa1y\xa5where\x82\xa1a\x01\xc4\x01a\x01"),
        (ItemError.BAD_VALUE, b'{"payload": "y", "id": ""}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "priority": 4}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "priority": -1}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "ttl": 0}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "ttl": 2592001}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "rev": 9223372036854775808}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "rev": ' + b"9" * 60_000 + b"}"),
        (ItemError.BAD_VALUE, b'{"payload": {"a": 18446744073709551616}}'),
        (ItemError.BAD_VALUE, b'{"payload": {"a": 1e999}}'),
        (ItemError.BAD_VALUE, b"\x81\xa7payload\x81\xa1a\xca\x7f\x80\x00\x00"),
        (ItemError.BAD_VALUE, b'{"payload": "\\ud800"}'),
        (ItemError.BAD_VALUE, b'{"payload": {"a": ["\\udfff"]}}'),
        (ItemError.BAD_VALUE, b'{"payload": {"\\ud800": 1}}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "collapse": "\\ud800"}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "where": {"\\ud800": 1}}'),
        (ItemError.BAD_VALUE, b'{"payload": "y", "where": {"a": []}}'),
        (ItemError.BAD_MSGPACK, b"\x81\xa7payload"),
        (ItemError.BAD_MSGPACK, b"\x81\xa7payload\xa1y\x00"),
        (ItemError.BAD_MSGPACK, b"\x81\xa7payload\xa1\xff"),
        (ItemError.BAD_MSGPACK, b"\x81\x07\xa1y"),
        (ItemError.BAD_MSGPACK, b"\x81\xa7payload\x81\x90\x01"),
        (ItemError.BAD_MSGPACK, b"\x81\xa7payload\xd4\x05\x00"),
        (ItemError.BAD_MSGPACK, b"\x81\xa7payload\xc7\x00\x05"),
        (ItemError.BAD_MSGPACK, b"\x81\xa7payload\xd6\xff\x00\x00\x00\x00"),
        (ItemError.BAD_MSGPACK, b"\x81\xa7payload\x81\xa1a\xdf\xff\xff\xff\xff"),
        (ItemError.TOO_DEEP, b'{"payload": ' + b'{"a":' * 10_000),
        (ItemError.TOO_DEEP, b'{"tags": ' + b"[" * 60_000),
        (ItemError.TOO_DEEP, b"\x81\xa7payload" + b"\x91" * 60_000),
    ],
)
def test_an_item_that_breaks_a_rule_is_refused_with_the_reason(
    reason: ItemError, payload: bytes
) -> None:
    assert refusal(payload) == reason


@pytest.mark.parametrize("channel", ["", "a/#", "+", "a\0b", "\ud800"])
def test_an_item_on_what_is_no_topic_name_is_refused(channel: str) -> None:
    assert refusal(b"plain", channel) == ItemError.BAD_CHANNEL


@pytest.mark.parametrize("encode", [from_json, from_msgpack])
def test_every_bound_is_inclusive(encode: Callable[[object], Item]) -> None:
    at_bound = {
        "payload": nested_maps(MAX_DEPTH),
        "id": "é" * 32,
        "ttl": 30 * 86_400,
        "rev": -(1 << 63),
        "tags": ["t" * 64] * 16,
        "where": {f"a{number}": list(range(64)) for number in range(8)},
    }
    assert encode(at_bound).id == "é" * 32
    beyond = {
        "payload": nested_maps(MAX_DEPTH + 1),
        "id": "é" * 32 + "e",
        "ttl": 30 * 86_400 + 1,
        "rev": -(1 << 63) - 1,
        "tags": ["t"] * 17,
        "where": {f"a{number}": 1 for number in range(9)},
    }
    if encode is from_msgpack:
        beyond["rev"] = 1 << 63  # what msgpack itself cannot say needs no rule
    also_beyond = {"tags": ["t" * 65], "where": {"a": list(range(65))}}
    for key, wrong in [*beyond.items(), *also_beyond.items()]:
        with pytest.raises(InvalidItem) as caught:
            encode(at_bound | {key: wrong})
        assert caught.value.reason in (ItemError.BAD_VALUE, ItemError.TOO_DEEP)


def test_an_item_is_at_most_64_kib() -> None:
    assert decode_item(CHANNEL, b"x" * MAX_ITEM).payload == b"x" * MAX_ITEM
    assert refusal(b"x" * (MAX_ITEM + 1)) == ItemError.TOO_LARGE


def test_a_map_payload_that_grows_past_64_kib_in_msgpack_is_too_large() -> None:
    sent = b'{"payload": {"a": [' + b",".join([b"1e9"] * 10_000) + b"]}}"
    assert len(sent) < MAX_ITEM
    assert refusal(sent) == ItemError.TOO_LARGE


@settings(deadline=None)
@given(st.binary(max_size=64))
@example(b"\x81\xa7payload\xdd\xff\xff\xff\xff")
def test_any_bytes_are_an_item_or_refused(payload: bytes) -> None:
    try:
        item = decode_item(CHANNEL, payload)
    except InvalidItem as error:
        assert error.reason in ItemError  # noqa: PT017 -- both ends are right
    else:
        assert unpack_record(pack_record(record_of(item))).item == item


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | text
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(text | st.binary(max_size=4), inner)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys([*ITEM_KEYS, "other"], anything),
    )
)
def test_any_values_under_the_known_keys_are_an_item_or_refused(sent: dict[str, Any]) -> None:
    try:
        item = from_msgpack(sent)
    except InvalidItem as error:
        assert error.reason in ItemError  # noqa: PT017 -- both ends are right
    else:
        assert unpack_record(pack_record(record_of(item))).item == item


@settings(deadline=None)
@given(items, st.data())
def test_damaged_items_are_items_or_refused(item: Item, data: st.DataObject) -> None:
    sent = {"id": item.id, "payload": item.payload, "where": {k: list(v) for k, v in item.where}}
    good = bytearray(msgpack.packb(sent))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for damaged in (bytes(good), bytes(good[:cut])):
        try:
            decode_item(CHANNEL, damaged)
        except InvalidItem as error:
            assert error.reason in ItemError  # noqa: PT017 -- both ends are right


@settings(deadline=None)
@given(items, items, int64)
def test_the_digest_is_the_content_without_rev(item: Item, other: Item, rev: int) -> None:
    assert len(digest(item)) == 16
    assert digest(replace(item, rev=rev)) == digest(item)
    assert (digest(item) == digest(other)) == (replace(item, rev=None) == replace(other, rev=None))


@pytest.mark.parametrize(
    "change",
    [
        {"channel": "c"},
        {"id": "j"},
        {"payload": b"p"},
        {"brief": ""},
        {"priority": 2},
        {"ttl": 1},
        {"tags": ("",)},
        {"collapse": ""},
        {"where": (("a", (1,)),)},
        {"retract": True},
        {"opaque": True},
    ],
)
def test_every_other_field_changes_the_digest(change: dict[str, Any]) -> None:
    item = Item("a", "i", "p")
    assert digest(replace(item, **change)) != digest(item)


def test_the_order_of_where_does_not_change_the_digest() -> None:
    one = from_json({"payload": "y", "where": {"a": [1, "b"], "c": "d"}})
    other = from_json({"payload": "y", "where": {"c": ["d"], "a": ["b", 1, 1]}})
    assert digest(one) == digest(other)


def record_of(item: Item) -> Record:
    return Record(7, 65_535, item, 1_790_000_000_123, 1_790_086_401, digest(item), item.retract)


@settings(deadline=None)
@given(items, st.integers(1, (1 << 32) - 1), st.lists(st.binary(min_size=16, max_size=16)), text)
def test_a_record_comes_back_from_its_bytes(
    item: Item, n: int, earlier: list[bytes], publisher: str
) -> None:
    record = replace(record_of(item), n=n, earlier=tuple(earlier), publisher=publisher)
    assert unpack_record(pack_record(record)) == record


def test_a_record_of_the_release_before_publishers_is_read_as_nobodys() -> None:
    older = bytes.fromhex(
        "dc0014010703cf000001a0c4506c7bce6ab13dd9c410a3eb2c251f09796615745511b77eae9cc291c4100000"
        "0000000000000000000000000000aa6e6577732f6c6f63616ca161c403006869a573686f727402cd02580591"
        "a174a36b65799192a6726567696f6e9201a26575c2c2"
    )
    where = (("region", (1, "eu")),)
    item = Item("news/local", "a", b"\x00hi", "short", 2, 600, 5, ("t",), "key", where)
    hashed = digest(item)
    record = Record(7, 3, item, 1_790_000_000_123, 1_790_000_601, hashed, earlier=(bytes(16),))
    assert unpack_record(older) == record
    assert unpack_record(pack_record(unpack_record(older))) == record


def test_records_of_one_publisher_share_its_name() -> None:
    record = replace(record_of(Item("a", "i", "p")), publisher="news-desk")
    first, second = (unpack_record(pack_record(record)) for _ in range(2))
    assert first.publisher is second.publisher


@pytest.mark.parametrize(
    "data",
    [b"", b"\x01", b"\x90", b"\x91\x01", b"\x91\x02", b"\xc1", b"plain", b"\x91\xa1x"],
)
def test_bytes_that_are_no_record_are_refused(data: bytes) -> None:
    with pytest.raises(BadRecord):
        unpack_record(data)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_but_bad_record(data: bytes) -> None:
    with pytest.raises(BadRecord):
        unpack_record(data)


def test_a_publisher_that_is_no_text_is_refused() -> None:
    fields = msgpack.unpackb(pack_record(record_of(Item("a", "i", "p"))))
    with pytest.raises(BadRecord):
        unpack_record(msgpack.packb([fields[0], 7, *fields[2:]]))


def test_a_record_of_a_newer_release_is_named_as_such() -> None:
    newer = [3, *msgpack.unpackb(pack_record(record_of(Item("a", "i", "p"))))[1:], "more"]
    with pytest.raises(BadRecord, match="format 3"):
        unpack_record(msgpack.packb(newer))
