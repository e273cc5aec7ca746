"""Payloads as people read them."""

from __future__ import annotations

import json

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from broker.web.pages.payloads import readable


def test_text_is_shown_as_it_is() -> None:
    assert readable("fog on the coast") == {
        "text": "fog on the coast",
        "form": "text",
        "bytes": 16,
        "cut": False,
    }


def test_bytes_that_are_text_are_shown_as_text() -> None:
    assert readable("Grüße".encode()) == {"text": "Grüße", "form": "text", "bytes": 7, "cut": False}


def test_a_map_is_shown_as_json_and_bytes_in_it_as_hex() -> None:
    payload = msgpack.packb({"title": "fog", "icon": b"\xff\x00"})

    shown = readable(payload)

    assert shown["form"] == "map"
    assert json.loads(shown["text"]) == {"title": "fog", "icon": "ff 00"}


def test_other_bytes_are_shown_as_hex() -> None:
    assert readable(b"\xff\xd8\xff") == {
        "text": "ff d8 ff",
        "form": "bytes",
        "bytes": 3,
        "cut": False,
    }


def test_a_map_may_have_any_names() -> None:
    assert readable(msgpack.packb({1: {b"\xff": [2]}}))["text"] == '{"1": {"ff": [2]}}'


def test_numbers_that_happen_to_be_valid_text_are_shown_as_hex() -> None:
    assert readable(b"\x01\x02A")["text"] == "01 02 41"


def test_what_is_nested_too_deep_to_be_read_is_shown_as_hex() -> None:
    assert readable(b"\x81\xa1a" * 900 + b"\x80")["form"] == "bytes"


def test_what_is_long_is_cut_and_said_to_be() -> None:
    shown = readable("x" * 5_000, most=100)

    assert (len(shown["text"]), shown["bytes"], shown["cut"]) == (100, 5_000, True)


MAPS = st.recursive(
    st.none() | st.integers(0, 9) | st.binary(max_size=4) | st.floats(),
    lambda inner: (
        st.dictionaries(st.text(max_size=4) | st.binary(max_size=4) | st.integers(0, 9), inner)
        | st.lists(inner)
    ),
    max_leaves=8,
)


@given(
    st.one_of(
        st.text(),
        st.binary(),
        st.binary().map(lambda data: b"\x81" + data),
        st.dictionaries(st.text(max_size=3), MAPS).map(msgpack.packb),
    )
)
def test_whatever_a_publisher_sends_has_a_form_in_json(payload: str | bytes) -> None:
    shown = readable(payload, most=50)

    assert json.loads(json.dumps(shown)) == shown
    assert len(shown["text"]) <= 50
