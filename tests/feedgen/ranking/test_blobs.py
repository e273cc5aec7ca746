"""What was learned as compressed bytes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking import blobs
from feedgen.ranking.blobs import pack, restored, thinned, unpack
from tests.feedgen.model_cases import assert_same

STATE = {"numbers": np.arange(500.0), "names": ["a", "ü"], "nothing": None, "map": {"x": 1}}
BLOB = pack("thing", 3, STATE)


def test_a_state_comes_back_as_it_was():
    assert_same(unpack(BLOB, "thing", 3), STATE)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
def test_a_changed_byte_is_found_out(place, change):
    damaged = bytearray(BLOB)
    damaged[place] ^= change
    try:
        found = unpack(bytes(damaged), "thing", 3)
    except ValueError:
        return
    # A few bits of zlib's head mean nothing to a reader.
    assert_same(found, STATE)


@given(st.integers(0, len(BLOB) - 1))
def test_what_is_cut_short_is_refused(length):
    with pytest.raises(ValueError, match=r"cut short|damaged"):
        unpack(BLOB[:length], "thing", 3)


@pytest.mark.parametrize(("kind", "version"), [("thing", 2), ("other", 3)])
def test_the_state_of_something_else_is_refused(kind, version):
    with pytest.raises(ValueError, match="'thing' of version 3"):
        unpack(BLOB, kind, version)


def test_what_is_no_map_is_refused():
    with pytest.raises(ValueError, match="not 'thing'"):
        unpack(pack("thing", 3, [1]), "thing", 3)
    with pytest.raises(ValueError, match="does not say"):
        unpack(zlib.compress(b"\x01"), "thing", 3)


def test_a_small_blob_that_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(blobs, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="too long"):
        unpack(pack("thing", 3, {"zeros": bytes(10_000)}), "thing", 3)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), max_size=50))
def test_thinned_numbers_are_within_a_thousandth_and_keep_zeros_and_signs(numbers):
    given_ = np.array(numbers, np.float32)
    found = restored(thinned(given_))
    assert found.dtype == np.float32
    normal = np.abs(given_) > np.finfo(np.float32).tiny
    np.testing.assert_allclose(found[normal], given_[normal], rtol=2.0**-11)
    np.testing.assert_allclose(found, given_, rtol=2.0**-11, atol=1e-40)
    assert (found[given_ == 0] == 0).all()


def test_thinning_halves_what_full_tables_take():
    full = np.random.default_rng(0).normal(0, 0.3, 1 << 16).astype(np.float32)
    whole, thin = (len(pack("x", 1, {"a": each})) for each in (full, thinned(full)))
    assert thin < 0.55 * whole


@pytest.mark.parametrize(
    "planes", [np.zeros((3, 5), np.uint8), np.zeros(4, np.uint8), np.zeros((4, 5), np.int8)]
)
def test_what_are_no_planes_is_refused(planes):
    with pytest.raises(ValueError, match="planes"):
        restored(planes)
