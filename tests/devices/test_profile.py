from __future__ import annotations

from dataclasses import fields, replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.profile import (
    EVERYTHING,
    NO_RIGHTS,
    BadProfile,
    Profile,
    Rights,
    merge,
    shared_attrs,
    shared_follow,
    shared_rights,
    valid_device_id,
)

NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
ATTRS = st.dictionaries(NAMES, NAMES | st.integers(0, 2**32 - 1), max_size=4)
FILTERS = st.lists(NAMES, max_size=3).map(tuple)
RIGHTS = st.builds(
    Rights,
    publish=FILTERS,
    read=FILTERS,
    write=FILTERS,
    follow=st.none() | FILTERS,
    operator=st.booleans(),
)
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
    rights=st.just(NO_RIGHTS) | RIGHTS,
    subscribed=st.none() | st.integers(0, 2),
    session=st.none() | st.binary(max_size=16),
    operator=st.booleans(),
    next_hash=st.none() | st.binary(min_size=32, max_size=32),
    password=st.none() | NAMES,
    revoked=st.booleans(),
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


FORM_1 = (
    1,
    ["news"],
    {"a": 1},
    {"b": "x"},
    9,
    300,
    2,
    "fw",
    True,
    7,
    b"h" * 32,
    True,
    1,
    b"s",
    True,
)
"""A profile as version 0.1 stored it."""


@pytest.mark.parametrize(
    ("publish", "rights"), [(True, Rights(publish=("#",))), (False, NO_RIGHTS)]
)
def test_what_version_0_1_stored_is_read_still(publish: bool, rights: Rights):
    stored = msgpack.packb((*FORM_1[:11], publish, *FORM_1[12:]))
    profile = Profile.unpack("kitchen", stored)
    assert profile == Profile(
        "kitchen",
        ("news",),
        {"a": 1},
        {"b": "x"},
        k=9,
        budget=300,
        max_qos=2,
        agent="fw",
        clock=True,
        epoch=7,
        secret_hash=b"h" * 32,
        rights=rights,
        subscribed=1,
        session=b"s",
        operator=True,
    )
    assert Profile.unpack("kitchen", profile.pack()) == profile


def test_a_profile_with_as_many_fields_as_another_form_has_is_bad():
    array = msgpack.unpackb(Profile("a").pack())
    for wrong in ([1, *array[1:]], [2, *FORM_1[1:]]):
        with pytest.raises(BadProfile):
            Profile.unpack("a", msgpack.packb(wrong))


@pytest.mark.parametrize(
    "rights", [7, "all", [], [[]], [["a"], [], [], None], [[1], [], [], [], 0]]
)
def test_rights_that_are_none_make_a_profile_bad(rights: object):
    array = msgpack.unpackb(Profile("a").pack())
    array[11] = rights
    with pytest.raises(BadProfile):
        Profile.unpack("a", msgpack.packb(array))


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


def test_profiles_that_may_do_the_same_share_their_rights():
    rights = Rights(publish=EVERYTHING, follow=("a", "b"))
    stored = Profile("a", rights=rights).pack()
    one, two = Profile.unpack("a", stored), Profile.unpack("b", stored)
    assert one.rights is two.rights
    assert shared_rights(rights) is one.rights
    assert one.rights.publish is shared_follow(("#",))


def test_no_rights_are_one_object_and_take_a_byte():
    assert shared_rights(Rights()) is NO_RIGHTS
    assert Profile.unpack("a", Profile("a", rights=Rights()).pack()).rights is NO_RIGHTS
    assert Profile("a").rights is NO_RIGHTS
    assert len(Profile("a").pack()) < 30


def test_following_nothing_is_not_the_same_as_following_what_all_may():
    assert shared_rights(Rights(follow=())).follow == ()
    assert shared_rights(Rights()).follow is None


def test_a_profile_shows_nothing_of_what_proves_it():
    shown = repr(Profile("a", secret_hash=b"one", next_hash=b"two", password="three"))
    assert not any(text in shown for text in ("one'", "two'", "three"))


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


# Two servers


@given(PROFILES, PROFILES)
def test_a_profile_that_was_changed_elsewhere_alone_is_taken_over(base, theirs):
    merged = merge(base, replace(base), theirs)
    assert merged == replace(theirs, epoch=max(base.epoch, theirs.epoch))


@given(PROFILES, PROFILES)
def test_a_profile_that_was_changed_here_alone_stays(base, mine):
    assert merge(base, mine, replace(base)) == replace(mine, epoch=max(base.epoch, mine.epoch))


def test_changes_of_different_fields_are_both_kept():
    base = Profile("kitchen", follow=("a",), attrs={"x": 1}, epoch=3)
    merged = merge(base, replace(base, follow=("b",)), replace(base, attrs={"x": 2}, epoch=4))
    assert merged == Profile("kitchen", follow=("b",), attrs={"x": 2}, epoch=4)


def test_where_both_changed_one_field_what_was_changed_here_stands():
    base = Profile("kitchen", k=8)
    assert merge(base, replace(base, k=4), replace(base, k=16)).k == 4


@given(PROFILES, PROFILES)
def test_a_profile_becomes_another_in_every_field(profile, other):
    profile.become(other)
    assert profile == other


def test_a_profile_of_the_release_before_is_read():
    form_2 = msgpack.unpackb(Profile("kitchen", seen=7).pack())
    form_2[0] = 2
    assert Profile.unpack("kitchen", msgpack.packb(form_2[:19])) == Profile("kitchen", seen=7)
