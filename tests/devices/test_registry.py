from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import frames
from devices.profile import NO_RIGHTS, Profile, Rights, shared_rights
from devices.registry import (
    Changed,
    Match,
    Refusal,
    Registry,
    check_secret,
    covers,
    hash_secret,
    new_secret,
    promote,
)

KEY = bytes(range(32))


def registry(**options) -> Registry:
    return Registry(**{"open_mode": True, "default_follow": ("#",)} | options)


# Who is there.


def test_in_open_mode_an_unknown_device_is_enrolled_with_the_default_follow_set():
    devices = registry(default_follow=("alerts/#", "news"))
    profile = devices.enroll("kitchen")
    assert profile == Profile("kitchen", ("alerts/#", "news"))
    assert devices.get("kitchen") is profile
    assert devices.enroll("kitchen") is profile
    assert len(devices) == 1


def test_a_closed_registry_enrolls_only_whom_it_knows():
    devices = registry(open_mode=False)
    assert devices.enroll("kitchen") is None
    added = devices.add("kitchen")
    assert devices.enroll("kitchen") is added
    assert [profile.device for profile in devices] == ["kitchen"]


@pytest.mark.parametrize("name", ["", "a/b", "a" * 65, "#"])
def test_a_name_that_is_no_device_id_is_never_enrolled(name):
    devices = registry()
    assert devices.enroll(name) is None
    assert len(devices) == 0


def test_an_added_device_is_marked_as_the_operators():
    rights = Rights(publish=("news/#",))
    added = registry().add(
        "kitchen",
        follow=["news"],
        operator_attrs={"region": "eu"},
        rights=rights,
        secret_hash=b"h",
        password="$argon2id$...",
    )
    assert added == Profile(
        "kitchen",
        ("news",),
        operator_attrs={"region": "eu"},
        rights=rights,
        secret_hash=b"h",
        password="$argon2id$...",
        operator=True,
    )
    assert added.rights is shared_rights(rights)


def test_an_operator_may_let_a_device_follow_nothing_or_what_devices_may_not_choose():
    devices = registry(permitted=("public/#",))
    assert devices.add("a", follow=()).follow == ()
    assert devices.add("b", follow=("internal/#",)).follow == ("internal/#",)
    assert devices.add("c").follow == ("#",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "a/b"},
        {"device": "there"},
        {"follow": ("a/#/b",)},
        {"follow": ("a/b/c/d/e/f/g/h/i",)},
        {"follow": ("é" * 65,)},
        {"follow": ("a",) * 33},
        {"operator_attrs": {"region": "x" * 65}},
        {"operator_attrs": {"": "x"}},
        {"operator_attrs": {f"a{i}": i for i in range(17)}},
        {"rights": Rights(publish=("a/#/b",))},
        {"rights": Rights(publish=("a",) * 33)},
        {"rights": Rights(follow=("a/b/c/d/e/f/g/h/i",))},
        {"rights": Rights(read=("a+",))},
        {"rights": Rights(write=("",))},
        {"rights": Rights(write=("a",) * 33)},
        {"rights": Rights(read=("$SYS/#",))},
    ],
)
def test_what_cannot_be_added_is_refused_whole(wrong):
    devices = registry()
    devices.add("there")
    with pytest.raises(ValueError, match=r"not a|exists already|at most|would give nothing"):
        devices.add(**{"device": "new"} | wrong)
    assert len(devices) == 1


def test_a_registry_is_not_made_of_bad_filters():
    with pytest.raises(ValueError, match="not a topic filter"):
        registry(default_follow=("a/#/b",))
    with pytest.raises(ValueError, match="not a topic filter"):
        registry(permitted=("a+",))


def test_a_removed_device_is_forgotten():
    devices = registry()
    profile = devices.enroll("kitchen")
    assert devices.remove("kitchen") is profile
    assert devices.get("kitchen") is None
    assert devices.remove("kitchen") is None


def test_a_restored_profile_stands_as_it_was_stored():
    devices = registry(open_mode=False)
    profile = Profile("kitchen", epoch=7)
    devices.restore(profile)
    assert devices.enroll("kitchen") is profile


# What a device follows and says about itself.


def profile_update(devices: Registry, profile: Profile, **update) -> Changed:
    return devices.apply_profile(profile, frames.Profile(**update))


def test_following_adds_and_unfollowing_takes_away():
    devices = registry()
    profile = devices.enroll("a")
    changed = profile_update(devices, profile, follow=("news", "alerts/+"), unfollow=("#",))
    assert profile.follow == ("news", "alerts/+")
    assert changed == Changed(follow=True)


def test_unfollowing_comes_first_so_that_one_message_may_do_both():
    devices = registry()
    profile = devices.enroll("a")
    changed = profile_update(devices, profile, follow=("#",), unfollow=("#",))
    assert profile.follow == ("#",)
    assert not changed


def test_unfollowing_matches_exactly():
    devices = registry(default_follow=("alerts/#", "alerts/+"))
    profile = devices.enroll("a")
    assert not profile_update(devices, profile, unfollow=("#", "alerts/ca", "alerts"))
    assert profile_update(devices, profile, unfollow=("alerts/+",))
    assert profile.follow == ("alerts/#",)


def test_a_filter_outside_the_permitted_channels_is_refused_and_the_others_stand():
    devices = registry(default_follow=(), permitted=("public/#", "news"))
    profile = devices.enroll("a")
    changed = profile_update(devices, profile, follow=("#", "public/+/x", "internal", "news"))
    assert profile.follow == ("public/+/x", "news")
    assert changed.follow
    assert changed.refused == (Refusal.NOT_PERMITTED, Refusal.NOT_PERMITTED)


def test_a_filter_that_the_operator_gave_is_kept_though_it_is_not_permitted():
    devices = registry(permitted=("public/#",))
    profile = devices.add("a", follow=("internal",))
    assert not profile_update(devices, profile, follow=("internal",)).refused
    assert profile.follow == ("internal",)


def test_an_operator_may_replace_what_a_device_follows_with_anything_valid():
    devices = registry(permitted=("public/#",))
    profile = devices.enroll("a")
    assert devices.set_follow(profile, ["internal", "x/+"]) == Changed(follow=True)
    assert profile.follow == ("internal", "x/+")
    assert not devices.set_follow(profile, ("internal", "x/+"))


def test_an_operators_bad_filter_changes_nothing():
    devices = registry()
    profile = devices.enroll("a")
    for wrong in (["news", "a/#/b"], ["a"] * 33):
        with pytest.raises(ValueError, match=r"not a topic filter|at most"):
            devices.set_follow(profile, wrong)
    assert profile.follow == ("#",)


def test_a_device_with_filters_of_its_own_may_follow_what_these_cover_and_nothing_else():
    devices = registry(default_follow=(), permitted=("public/#",))
    own = devices.add("a", follow=(), rights=Rights(follow=("internal/#",)))
    none = devices.add("b", follow=(), rights=Rights(follow=()))
    for profile, followed in ((own, ("internal/x",)), (none, ())):
        changed = profile_update(devices, profile, follow=("public/x", "internal/x"))
        assert profile.follow == followed
        assert Refusal.NOT_PERMITTED in changed.refused


def test_rights_are_replaced_whole_and_shared():
    devices = registry()
    one, two = devices.enroll("one"), devices.enroll("two")
    for profile in (one, two):
        devices.set_rights(profile, Rights(read=("home/" * 20 + "#",), operator=True))
    assert one.rights is two.rights
    devices.set_rights(one, Rights())
    assert one.rights is NO_RIGHTS
    assert two.rights.operator


def test_bad_rights_change_nothing():
    devices = registry()
    profile = devices.enroll("a")
    devices.set_rights(profile, Rights(read=("home/#",)))
    before = profile.rights
    for wrong in (Rights(read=("a/#/b",)), Rights(publish=("a/b/c/d/e/f/g/h/i",))):
        with pytest.raises(ValueError, match="not a topic filter"):
            devices.set_rights(profile, wrong)
    assert profile.rights is before


@pytest.mark.parametrize(
    ("topic_filter", "hint"),
    [
        ("$SYS/broker/#", "operators read $SYS (--operator)"),
        ("$share/g/home/#", "nobody anything else"),
        ("site/items/#", "channels (--publish, --may-follow)"),
        ("site/items", "site/items/, site/f/, site/u/ are the feed's own"),
        ("site/f/kitchen", "feed's own"),
        ("site/u/+", "feed's own"),
    ],
)
def test_a_right_that_would_give_nothing_is_refused_with_a_hint(topic_filter, hint):
    devices = registry(prefix="site/")
    profile = devices.enroll("a")
    for rights in (Rights(read=("home/#", topic_filter)), Rights(write=(topic_filter,))):
        with pytest.raises(ValueError, match=re.escape(hint)):
            devices.set_rights(profile, rights)
    assert profile.rights is NO_RIGHTS


def test_rights_beside_the_feed_may_look_much_like_it():
    devices = registry(prefix="site/")
    rights = Rights(
        read=("#", "site/#", "site/+/kitchen", "items/#", "site/itemsx"), write=("f/a",)
    )
    devices.set_rights(devices.enroll("a"), rights)
    assert devices.get("a").rights == rights


def test_a_revision_replaces_all_that_it_names_or_nothing():
    devices = registry()
    profile = devices.add("a", follow=("x",), operator_attrs={"region": "ca"})
    rights = Rights(publish=("news",))
    devices.revise(profile, follow=None, operator_attrs={"region": "nv"}, rights=rights)
    assert (profile.follow, dict(profile.operator_attrs)) == (("x",), {"region": "nv"})
    assert profile.rights == rights
    for wrong in (
        {"follow": ("a#",)},
        {"operator_attrs": {"": "x"}},
        {"rights": Rights(read=("$SYS",))},
    ):
        other = {"follow": ("y",), "operator_attrs": {}, "rights": NO_RIGHTS}
        with pytest.raises(ValueError, match=r"not a|would give nothing"):
            devices.revise(profile, **other | wrong)
    assert (profile.follow, dict(profile.operator_attrs)) == (("x",), {"region": "nv"})
    assert profile.rights == rights
    devices.revise(profile, follow=("y",), operator_attrs={}, rights=NO_RIGHTS)
    assert (profile.follow, profile.operator_attrs, profile.rights) == (("y",), {}, NO_RIGHTS)


def test_no_device_follows_more_than_32_filters():
    devices = registry(default_follow=())
    profile = devices.enroll("a")
    assert profile_update(devices, profile, follow=tuple(f"a/{i}" for i in range(32)))
    changed = profile_update(devices, profile, follow=("b", "c", "a/0"), unfollow=("a/31",))
    assert changed.refused == (Refusal.TOO_MANY_FILTERS,)
    assert len(profile.follow) == 32
    assert profile.follow[-1] == "b"


def test_attributes_add_to_those_said_before():
    devices = registry()
    profile = devices.enroll("a")
    assert profile_update(devices, profile, attrs={"region": "eu", "floor": 1}).attrs
    assert profile_update(devices, profile, attrs={"floor": 2}) == Changed(attrs=True)
    assert not profile_update(devices, profile, attrs={"floor": 2})
    assert profile.attrs == {"region": "eu", "floor": 2}


def test_an_attribute_that_the_operator_set_stays_the_operators():
    devices = registry()
    profile = devices.add("a", operator_attrs={"region": "eu"})
    profile_update(devices, profile, attrs={"region": "us", "tz": "CET"})
    assert profile.effective_attrs() == {"region": "eu", "tz": "CET"}


def test_a_schema_limits_the_names_but_not_the_reserved_ones():
    devices = registry(schema=frozenset({"region"}))
    profile = devices.enroll("a")
    changed = profile_update(
        devices, profile, attrs={"region": "eu", "owner": "me", "quiet": "22-7"}
    )
    assert profile.attrs == {"region": "eu", "quiet": "22-7"}
    assert changed == Changed(attrs=True, refused=(Refusal.NOT_IN_SCHEMA,))


def test_no_device_has_more_than_16_attributes_of_its_own():
    devices = registry()
    profile = devices.enroll("a")
    profile_update(devices, profile, attrs={f"a{i:02}": i for i in range(16)})
    changed = profile_update(devices, profile, attrs={"b": 1, "a00": 99})
    assert changed == Changed(attrs=True, refused=(Refusal.TOO_MANY_ATTRS,))
    assert len(profile.attrs) == 16
    assert profile.attrs["a00"] == 99


def test_two_devices_never_change_each_other():
    devices = registry()
    one, two = devices.enroll("one"), devices.enroll("two")
    profile_update(devices, one, follow=("news",), attrs={"region": "eu"})
    assert two == Profile("two", ("#",))


# What a hello says.


def test_a_hello_sets_what_it_names_and_leaves_the_rest():
    devices = registry()
    profile = devices.enroll("a")
    options = frames.HelloOptions(k=16, budget=512, max_qos=0, agent="fw 2", c=7, clock=True)
    changed = devices.apply_hello(profile, options)
    assert changed == Changed(k=True, budget=True, qos=True, agent=True, clock=True)
    assert profile == Profile("a", ("#",), k=16, budget=512, max_qos=0, agent="fw 2", clock=True)
    assert devices.apply_hello(profile, frames.HelloOptions(k=4)) == Changed(k=True)
    assert (profile.k, profile.budget) == (4, 512)


def test_a_hello_that_says_nothing_new_changes_nothing():
    devices = registry()
    profile = devices.enroll("a")
    assert not devices.apply_hello(profile, frames.HelloOptions())
    same = frames.HelloOptions(k=8, budget=256, max_qos=1, agent="", clock=False)
    assert not devices.apply_hello(profile, same)


def test_a_budget_without_room_for_a_payload_is_refused_alone():
    devices = registry()
    profile = devices.enroll("a" * 64)
    changed = devices.apply_hello(profile, frames.HelloOptions(budget=96, k=2))
    assert changed == Changed(k=True, refused=(Refusal.BUDGET_TOO_SMALL,))
    assert (profile.k, profile.budget) == (2, 256)


def test_the_least_budget_leaves_exactly_the_least_payload_and_a_prefix_takes_its_part():
    least = 96 + frames.MIN_PAYLOAD - frames.payload_capacity(96, "kitchen")
    for prefix, refused in (("", ()), ("x", (Refusal.BUDGET_TOO_SMALL,))):
        devices = registry(prefix=prefix)
        profile = devices.enroll("kitchen")
        changed = devices.apply_hello(profile, frames.HelloOptions(budget=least))
        assert changed.refused == refused


def test_a_change_is_worth_storing_exactly_if_it_changed_something():
    assert not Changed()
    assert not Changed(refused=(Refusal.NOT_PERMITTED,))
    flags = ("follow", "attrs", "k", "budget", "qos", "agent", "clock")
    assert all(Changed(**{flag: True}) for flag in flags)


# What is permitted.


@pytest.mark.parametrize(
    ("permitted", "topic_filter"),
    [
        (["#"], "#"),
        (["#"], "a/+/#"),
        (["+/#"], "#"),
        (["a/#"], "a"),
        (["a/#"], "a/#"),
        (["a/#"], "a/+/b/#"),
        (["a/+"], "a/b"),
        (["a/+"], "a/+"),
        (["a", "a/+/#"], "a/#"),
        (["a", "a/+", "a/+/+/#"], "a/#"),
        (["$sys/#"], "$sys/+"),
        (["x", "a//b"], "a//b"),
    ],
)
def test_a_filter_is_covered_if_all_it_matches_is_permitted(permitted, topic_filter):
    assert covers(permitted, topic_filter)


@pytest.mark.parametrize(
    ("permitted", "topic_filter"),
    [
        ([], "a"),
        (["a"], "#"),
        (["a/+"], "a/#"),
        (["a/+/#"], "a/#"),
        (["a/b", "a/c"], "a/+"),
        (["a", "a/+", "a/+/+/+/#"], "a/#"),
        (["+"], "#"),
        (["a/#"], "+/b"),
        (["#"], "$sys"),
        (["+/x"], "$sys/x"),
        (["+/#"], "$sys/#"),
    ],
)
def test_a_filter_is_not_covered_if_it_can_match_anything_else(permitted, topic_filter):
    assert not covers(permitted, topic_filter)


LEVELS = ("a", "b", "$", "z")  # "z" stands for all that no filter names
CHANNELS = [levels for count in range(1, 6) for levels in itertools.product(LEVELS, repeat=count)]
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(st.sampled_from(["a", "b", "$", "+"]), min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
) | st.just("#")


def mqtt_matches(levels: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """MQTT 3.1.1, 4.7, by recursion from the left."""
    if not levels:
        return not names
    if levels[0] == "#":
        return True
    return bool(names) and levels[0] in ("+", names[0]) and mqtt_matches(levels[1:], names[1:])


def matched(topic_filter: str) -> set[tuple[str, ...]]:
    levels = tuple(topic_filter.split("/"))
    hidden = levels[0] in ("+", "#")
    return {
        names
        for names in CHANNELS
        if mqtt_matches(levels, names) and not (hidden and names[0] == "$")
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(FILTERS, max_size=3), FILTERS)
def test_covering_is_containment_of_the_channels_matched(permitted, topic_filter):
    reachable = set().union(*map(matched, permitted))
    assert covers(permitted, topic_filter) == (matched(topic_filter) <= reachable)


# Who may speak for a device.


def test_secrets_are_long_and_never_the_same():
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(first) == 32


def test_only_the_right_secret_of_the_right_device_under_the_right_key_passes():
    secret = new_secret()
    profile = Profile("kitchen", secret_hash=hash_secret(secret, "kitchen", KEY))
    assert check_secret(secret, profile, KEY) is Match.CURRENT
    assert check_secret(secret.encode(), profile, KEY) is Match.CURRENT
    assert check_secret(secret + "x", profile, KEY) is None
    assert check_secret("", profile, KEY) is None
    assert check_secret(secret, profile, bytes(32)) is None
    cellar = Profile("cellar", secret_hash=profile.secret_hash, next_hash=profile.secret_hash)
    assert check_secret(secret, cellar, KEY) is None


def test_a_device_without_a_secret_is_let_in_by_none():
    assert check_secret("", Profile("kitchen"), KEY) is None


def test_a_secret_that_follows_is_known_as_that_until_it_is_promoted():
    old, new = (hash_secret(text, "kitchen", KEY) for text in ("old", "new"))
    profile = Profile("kitchen", secret_hash=old, next_hash=new)
    assert check_secret("old", profile, KEY) is Match.CURRENT
    assert check_secret("new", profile, KEY) is Match.NEXT
    assert check_secret("new", Profile("kitchen", next_hash=new), KEY) is Match.NEXT
    promote(profile)
    assert check_secret("old", profile, KEY) is None
    assert check_secret("new", profile, KEY) is Match.CURRENT
    assert profile == Profile("kitchen", secret_hash=new)


def test_a_stored_hash_shows_nothing_of_the_secret():
    assert b"hunter2" not in hash_secret("hunter2", "kitchen", KEY)
    assert len(hash_secret("hunter2", "kitchen", KEY)) == 32
