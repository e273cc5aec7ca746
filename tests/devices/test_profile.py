from __future__ import annotations

from dataclasses import fields, replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.profile import (
    BadProfile,
    Profile,
    shared_attrs,
    shared_follow,
    valid_device_id,
)

NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
ATTRS = st.dictionaries(NAMES, NAMES | st.integers(0, 2**32 - 1), max_size=4)
PROFILES = st.builds(
    Profile,
    device=st.just("kitchen"),
    follow=st.lists(NAMES, max_size=3).map(tuple),
    attrs=ATTRS,
    operator_attrs=ATTRS,
    k=st.integers(1, 64),
    budget=st.integers(96, 65_536),
    max_qos=st.integers(0, 2),
    agent=NAMES,
    clock=st.booleans(),
    epoch=st.integers(0, 2**32 - 1),
    secret_hash=st.none() | st.binary(min_size=32, max_size=32),
    publish=st.booleans(),
    subscribed=st.none() | st.integers(0, 2),
    session=st.none() | st.binary(max_size=16),
    operator=st.booleans(),
)


@pytest.mark.parametrize("text", ["a", "kitchen-2", "AA:bb:00", "x_.:-9", "a" * 64])
def test_device_ids_are_topic_levels_of_plain_characters(text):
    assert valid_device_id(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "a/b", "a+", "#", "a b", "é", "a\n", "a\0", "$a"])
def test_anything_else_is_no_device_id(text):
    assert not valid_device_id(text)


@given(PROFILES)
def test_a_packed_profile_comes_back_whole(profile: Profile):
    assert Profile.unpack(profile.device, profile.pack()) == profile


def test_every_field_but_the_id_is_packed():
    assert len(msgpack.unpackb(Profile("a").pack())) == len(fields(Profile))  # the form for the id


@given(st.binary(max_size=40))
def test_bytes_that_are_no_profile_are_called_bad_and_nothing_else(data: bytes):
    with pytest.raises(BadProfile, match="kitchen"):
        Profile.unpack("kitchen", data)


@given(PROFILES, st.integers(min_value=1))
def test_a_profile_cut_short_is_bad(profile: Profile, cut: int):
    data = profile.pack()
    with pytest.raises(BadProfile, match="kitchen"):
        Profile.unpack("kitchen", data[: -1 - cut % len(data)])


def test_a_profile_with_a_field_less_is_bad():
    array = msgpack.unpackb(Profile("a").pack())
    with pytest.raises(BadProfile):
        Profile.unpack("a", msgpack.packb(array[:-1]))


def test_a_profile_of_a_newer_form_is_refused_by_its_number():
    array = msgpack.unpackb(Profile("a").pack())
    with pytest.raises(BadProfile, match="form 99"):
        Profile.unpack("a", msgpack.packb([99, *array[1:]]))


def test_the_operators_attributes_win():
    profile = Profile(
        "a",
        attrs=shared_attrs({"region": "eu", "tz": "CET"}),
        operator_attrs=shared_attrs({"region": "us"}),
    )
    assert profile.effective_attrs() == {"region": "us", "tz": "CET"}


def test_either_kind_of_attributes_stands_alone_too():
    attrs = shared_attrs({"region": "eu"})
    assert Profile("a").effective_attrs() == {}
    assert Profile("a", attrs=attrs).effective_attrs() == attrs
    assert Profile("a", operator_attrs=attrs).effective_attrs() == attrs


def test_profiles_that_are_alike_share_their_filters_and_attributes():
    stored = Profile(
        "a", ("alerts/#", "news"), {"b": 1, "a": "x"}, {"region": "eu"}, agent="fw 2"
    ).pack()
    one, two = Profile.unpack("a", stored), Profile.unpack("b", stored)
    assert one.follow is two.follow
    assert one.attrs is two.attrs
    assert one.operator_attrs is two.operator_attrs
    assert one.agent is two.agent
    assert shared_attrs({"a": "x", "b": 1}) is one.attrs


def test_sharing_never_takes_a_number_for_a_string():
    assert shared_attrs({"a": 1}) != shared_attrs({"a": "1"})
    assert shared_follow(("a", "b")) != shared_follow(("b", "a"))


def test_shared_attributes_cannot_be_changed_through_one_profile():
    with pytest.raises(TypeError):
        shared_attrs({"a": 1})["a"] = 2
    with pytest.raises(TypeError):
        Profile("a").attrs["a"] = 2


def test_a_copy_with_another_value_leaves_the_original():
    profile = Profile("a")
    assert replace(profile, k=16).k == 16
    assert profile.k == 8
