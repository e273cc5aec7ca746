"""What each client may do, as pure decisions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.access.identity import Identity
from broker.access.rules import MAX_FILTER_BYTES, MAX_FILTER_LEVELS, MAX_LEVELS, Rules, Topic
from devices.packets import valid_filter, valid_topic
from devices.profile import EVERYTHING, NO_RIGHTS, Rights, valid_device_id
from feedgen.channels import matches

ALL = Rights(publish=EVERYTHING, read=EVERYTHING, write=EVERYTHING, operator=True)
KITCHEN = Identity("kitchen", "kitchen", "kitchen", ALL)
POWERLESS = replace(KITCHEN, rights=NO_RIGHTS)


def rules(*, prefix: str = "", refused: tuple[str, ...] = (), others: bool = True) -> Rules:
    return Rules(prefix=prefix, refused=refused, others=others)


def allowed(**rights) -> Identity:
    return replace(KITCHEN, rights=Rights(**rights))


# The feed's own topics.


@pytest.mark.parametrize("prefix", ["", "site/1/"])
@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("items/news", Topic.ITEM),
        ("items/", Topic.ITEM),
        ("items/$x", Topic.ITEM),
        ("u/kitchen", Topic.UP),
        ("u/hall", Topic.FORBIDDEN),
        ("u/", Topic.FORBIDDEN),
        ("u", Topic.FORBIDDEN),
        ("u/kitchen/x", Topic.FORBIDDEN),
        ("f/kitchen", Topic.FORBIDDEN),
        ("f/hall", Topic.FORBIDDEN),
        ("itemsx/news", Topic.OTHER),
        ("home/f/kitchen", Topic.OTHER),
        ("x", Topic.OTHER),
    ],
)
def test_what_publishing_to_a_topic_means(prefix: str, topic: str, kind: Topic) -> None:
    assert rules(prefix=prefix).publish(KITCHEN, prefix + topic) is kind


@pytest.mark.parametrize(
    ("topic_filter", "kind"),
    [
        ("f/kitchen", Topic.FRAMES),
        ("f/kitchen/#", Topic.FORBIDDEN),
        ("f/hall", Topic.FORBIDDEN),
        ("f/+", Topic.FORBIDDEN),
        ("f/#", Topic.FORBIDDEN),
        ("f", Topic.FORBIDDEN),
        ("u/kitchen", Topic.FORBIDDEN),
        ("items/#", Topic.FORBIDDEN),
        ("#", Topic.OTHER),  # the exchange carries nothing of the feed
        ("+/kitchen", Topic.OTHER),
        ("home/#", Topic.OTHER),
    ],
)
@pytest.mark.parametrize("prefix", ["", "site/1/"])
def test_what_subscribing_to_a_filter_means(prefix: str, topic_filter: str, kind: Topic) -> None:
    assert rules(prefix=prefix).subscribe(KITCHEN, prefix + topic_filter) is kind


def test_without_the_prefix_a_topic_is_not_the_feeds() -> None:
    assert rules(prefix="site/").publish(KITCHEN, "items/news") is Topic.OTHER
    assert rules(prefix="site/").subscribe(KITCHEN, "f/kitchen") is Topic.OTHER


def test_a_device_needs_no_rights_for_its_own_feed() -> None:
    assert rules(others=False).publish(POWERLESS, "u/kitchen") is Topic.UP
    assert rules(others=False).subscribe(POWERLESS, "f/kitchen") is Topic.FRAMES


def test_a_client_without_a_device_has_no_feed() -> None:
    identity = replace(KITCHEN, device=None)
    assert rules().publish(identity, "u/kitchen") is Topic.FORBIDDEN
    assert rules().subscribe(identity, "f/kitchen") is Topic.FORBIDDEN


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("items/alerts/ca", Topic.ITEM),
        ("items/alerts", Topic.ITEM),
        ("items/news/local", Topic.ITEM),
        ("items/news", Topic.FORBIDDEN),
        ("items/other", Topic.FORBIDDEN),
        ("items/", Topic.FORBIDDEN),
    ],
)
def test_items_need_the_right_to_their_channel(topic: str, kind: Topic) -> None:
    identity = allowed(publish=("alerts/#", "news/+"), write=EVERYTHING)
    assert rules().publish(identity, topic) is kind
    assert rules().publish(POWERLESS, topic) is Topic.FORBIDDEN


@pytest.mark.parametrize(
    "name", ["f/kitchen", "f/#", "f/+", "f", "u/x", "u", "items", "items/#", "items/a/b"]
)
def test_filters_within_the_feed_are_known(name: str) -> None:
    assert rules().is_feed_filter(name)
    assert rules(prefix="site/").is_feed_filter(f"site/{name}")


@pytest.mark.parametrize("name", ["#", "+/kitchen", "$SYS/#", "fx", "home/items", "+/+"])
def test_filters_elsewhere_are_not_the_feeds(name: str) -> None:
    assert not rules().is_feed_filter(name)


# Other topics.


def test_reading_and_writing_are_rights_of_their_own() -> None:
    identity = allowed(read=("home/#",), write=("home/kitchen/+",))
    assert rules().subscribe(identity, "home/+/light") is Topic.OTHER
    assert rules().subscribe(identity, "#") is Topic.FORBIDDEN
    assert rules().publish(identity, "home/kitchen/light") is Topic.OTHER
    assert rules().publish(identity, "home/hall/light") is Topic.FORBIDDEN


def test_several_filters_together_may_cover_one() -> None:
    identity = allowed(read=("home", "home/+/#"))
    assert rules().subscribe(identity, "home/#") is Topic.OTHER


def test_with_other_topics_turned_off_there_are_none() -> None:
    closed = rules(others=False)
    assert closed.publish(KITCHEN, "home/x") is Topic.FORBIDDEN
    assert closed.subscribe(KITCHEN, "#") is Topic.FORBIDDEN
    assert closed.subscribe(KITCHEN, "$SYS/#") is Topic.FORBIDDEN
    assert closed.publish(KITCHEN, "items/news") is Topic.ITEM


def test_refused_topics_are_closed_to_everybody() -> None:
    closing = rules(refused=("secret/#", "$SYS/broker/log/#"))
    for name in ("secret", "secret/a"):
        assert closing.publish(KITCHEN, name) is Topic.FORBIDDEN
        assert closing.is_refused(name)
    assert closing.subscribe(KITCHEN, "secret/+/x") is Topic.FORBIDDEN
    assert closing.subscribe(KITCHEN, "$SYS/broker/log/#") is Topic.FORBIDDEN
    assert closing.subscribe(KITCHEN, "$SYS/#") is Topic.OTHER
    assert closing.subscribe(KITCHEN, "#") is Topic.OTHER
    assert not closing.is_refused("#")


def test_the_servers_own_topics_are_read_by_operators_and_written_by_nobody() -> None:
    everyone = allowed(read=("#", "$SYS/#", "$share/#"), write=("#", "$SYS/#"))
    for prefix in ("", "site/"):
        one = rules(prefix=prefix)
        for name in ("$SYS", "$SYS/#", "$SYS/broker/+/x"):
            assert one.subscribe(KITCHEN, name) is Topic.OTHER
            assert one.subscribe(everyone, name) is Topic.FORBIDDEN
        for name in ("$SYSX", "$share/g/x", "$", "$SYSTEM/x"):
            assert one.subscribe(KITCHEN, name) is Topic.FORBIDDEN
            assert one.subscribe(everyone, name) is Topic.FORBIDDEN
        assert one.publish(KITCHEN, "$SYS/x") is Topic.FORBIDDEN
        assert one.publish(everyone, "$SYS/x") is Topic.FORBIDDEN


def test_a_topic_of_very_many_levels_is_nobodys() -> None:
    deepest = "/".join("a" * MAX_LEVELS)
    assert rules().publish(KITCHEN, deepest) is Topic.OTHER
    for deeper in (deepest + "/a", "/" * 65_000):
        assert rules().publish(KITCHEN, deeper) is Topic.FORBIDDEN
        assert rules().publish(KITCHEN, f"items/{deeper}") is Topic.FORBIDDEN


def test_a_filter_of_many_levels_or_bytes_is_nobodys_but_a_feed_is_its_devices():
    deepest = "/".join("a" * MAX_FILTER_LEVELS)
    longest = "ü" * (MAX_FILTER_BYTES // 2)
    for text in (deepest, longest):
        assert rules().subscribe(KITCHEN, text) is Topic.OTHER
    for text in (deepest + "/a", deepest + "/#", longest + "a", "$SYS/" + longest, "+/" * 40 + "#"):
        assert rules().subscribe(KITCHEN, text) is Topic.FORBIDDEN
    far = "x/" * MAX_FILTER_LEVELS
    assert rules(prefix=far).subscribe(KITCHEN, f"{far}f/kitchen") is Topic.FRAMES


# Names that look like patterns (CVE-2017-7650 and its kin).

# Wildcards, separators, and what a regular expression or a format string would take for its own.
AWKWARD = st.text("#+/$*?.^|()[]{}\\%c-:_u fk\n", max_size=12) | st.sampled_from(
    [
        "#",
        "+",
        "+/#",
        "kitchen/#",
        "../kitchen",
        "kitchen\nhall",
        "%u",
        "%c",
        ".*",
        "{user}",
        "[a-z]+",
    ]
)
PREFIXES = st.sampled_from(["", "site/", "a/b/"])


def identities(client_id: str, user: str) -> Identity:
    """As the door makes them: only a valid id, which the user name equals, is a device's."""
    device = client_id if client_id == (user or client_id) and valid_device_id(client_id) else None
    return Identity(client_id, user, device, ALL)


@settings(max_examples=400, deadline=None)
@given(AWKWARD, AWKWARD, PREFIXES, AWKWARD | st.just("kitchen"), st.sampled_from(["f/", "u/"]))
def test_no_name_of_a_client_opens_anothers_topics(
    client_id: str, user: str, prefix: str, level: str, kind: str
) -> None:
    identity = identities(client_id, user)
    own = identity.device
    one = rules(prefix=prefix)
    for topic in (f"{prefix}{kind}{level}", f"{prefix}{kind}kitchen"):
        published = one.publish(identity, topic)
        assert published in (Topic.UP, Topic.FORBIDDEN)
        assert (published is Topic.UP) == (own is not None and topic == f"{prefix}u/{own}")
        subscribed = one.subscribe(identity, topic)
        assert subscribed in (Topic.FRAMES, Topic.FORBIDDEN)
        assert (subscribed is Topic.FRAMES) == (own is not None and topic == f"{prefix}f/{own}")


LEVELS = st.sampled_from(["a", "b", "f", "u", "items", "kitchen", "$SYS", "", "+", "#", ".*"])
TEXTS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join)
GRANTS = st.lists(TEXTS.filter(valid_filter), max_size=3).map(tuple)


@settings(max_examples=400, deadline=None)
@given(GRANTS, TEXTS, TEXTS, PREFIXES)
def test_what_is_granted_reaches_no_further_than_its_filters(
    granted: tuple[str, ...], text: str, topic: str, prefix: str
) -> None:
    assume(valid_filter(text) and valid_topic(topic))
    one = rules(prefix=prefix)
    identity = allowed(publish=granted, read=granted, write=granted)
    reachable = any(matches(each, topic) for each in granted)
    if one.publish(identity, topic) is Topic.OTHER:
        assert reachable
        assert not topic.startswith("$")
    if one.subscribe(identity, text) is Topic.OTHER and matches(text, topic):
        assert reachable
        assert not topic.startswith("$")
