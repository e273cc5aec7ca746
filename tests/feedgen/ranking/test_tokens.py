from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgen.ranking.tokens import cross, device_token, mixed, paired, places, token

TEXT = st.text(st.characters(), max_size=8)  # surrogates included
TOKENS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5).map(
    lambda values: np.array(values, np.uint64)
)


def test_a_token_is_the_same_on_every_machine_so_that_stored_state_stays_true():
    assert token("item.channel", "news") == 0xCBE4AD742EE8017C
    assert device_token("tv-1") == int.from_bytes(
        blake2b(b"tv-1", digest_size=8).digest(), "little"
    )
    pair = cross(np.array([1, 2**63], np.uint64), np.array([2, 2**64 - 1], np.uint64))
    assert pair.tolist() == [1995974884467168589, 16065033235169949503]
    assert places(np.array([1, 2**64 - 1], np.uint64), 18).tolist() == [162013, 100130]


@given(TEXT, TEXT, TEXT, TEXT)
def test_two_fields_have_one_token_only_if_name_and_value_are_the_same(name, value, other, its):
    assert (token(name, value) == token(other, its)) == ((name, value) == (other, its))


def test_where_a_name_ends_and_a_value_begins_counts():
    assert token("ab", "c") != token("a", "bc")
    assert token("", "1:a") != token("1", ":a")


@pytest.mark.parametrize("text", ["", "\ud800", "\x00", "日本", "a" * 100_000])
def test_any_string_has_a_token(text):
    for number in (token(text, text), device_token(text)):
        assert 0 < number < 2**64


@given(TOKENS, TOKENS)
def test_a_cross_is_its_two_steps_and_broadcasts(one, other):
    whole = cross(one[:, None], other[None])
    assert whole.shape == (len(one), len(other))
    assert (whole == paired(mixed(one)[:, None], other[None])).all()
    assert whole[0, 0] == cross(one[:1], other[:1])[0]


def test_a_cross_leaves_its_operands_as_they_are():
    one, other = np.array([3, 4], np.uint64), np.array([5, 6], np.uint64)
    cross(one, other)
    places(one, 18)
    assert (one.tolist(), other.tolist()) == ([3, 4], [5, 6])


def test_the_order_of_a_cross_counts_and_pairs_rarely_meet():
    tokens = np.array([token("device", str(n)) for n in range(500)], np.uint64)
    crossed = cross(tokens[:, None], tokens[None])
    assert len(np.unique(crossed)) == crossed.size


@pytest.mark.parametrize("bits", [1, 10, 18])
def test_places_lie_within_the_table(bits):
    tokens = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    found = places(tokens, bits)
    assert ((found >= 0) & (found < 1 << bits)).all()
    assert found.dtype == np.int64


@pytest.mark.parametrize("crossed", [False, True])
def test_places_are_as_even_as_chance(crossed):
    tokens = np.array([token("item", str(n)) for n in range(300)], np.uint64)
    if crossed:
        tokens = cross(tokens[:, None], tokens[None]).ravel()[:50_000]
    bits = 8 if crossed else 4
    counts = np.bincount(places(tokens, bits), minlength=1 << bits)
    mean = len(tokens) / (1 << bits)
    surplus = ((counts - mean) ** 2).sum() / mean - (1 << bits)
    assert abs(surplus) < 5 * np.sqrt(2 * (1 << bits))
