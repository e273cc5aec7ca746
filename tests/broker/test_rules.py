"""Who may connect and what each may do, as pure decisions."""

from __future__ import annotations

import pytest

from broker.lane.rules import (
    BAD_CREDENTIALS,
    NOT_AUTHORIZED,
    Identity,
    Rules,
    Topic,
)
from devices.packets import Connect
from devices.registry import Registry, hash_secret

KEY = b"k" * 32


def rules(*, opened: bool, prefix: str = "") -> Rules:
    """With three devices: kitchen and station have the secret 'open sesame', hall has none."""
    registry = Registry(open_mode=opened, default_follow=("#",))
    for name, publish in (("kitchen", False), ("station", True)):
        registry.add(name, secret_hash=hash_secret("open sesame", name, KEY), publish=publish)
    registry.add("hall")
    return Rules(registry, key=KEY, open_mode=opened, prefix=prefix)


def connect(client_id: str, name: str | None = None, password: str | None = None) -> Connect:
    return Connect(
        client_id, username=name, password=None if password is None else password.encode()
    )


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    ("packet", "verdict"),
    [
        (connect("kitchen", "kitchen", "open sesame"), Identity("kitchen", "kitchen", False)),
        (connect("station", "station", "open sesame"), Identity("station", "station", True)),
        (connect("kitchen", "kitchen", "wrong"), BAD_CREDENTIALS),
        (connect("kitchen", "kitchen", ""), BAD_CREDENTIALS),
        (connect("kitchen", "kitchen"), NOT_AUTHORIZED),
        (connect("kitchen"), NOT_AUTHORIZED),
        # Another's secret, id or both.
        (connect("kitchen", "station", "open sesame"), NOT_AUTHORIZED),
        (connect("hall", "kitchen", "wrong"), BAD_CREDENTIALS),
        (connect("kitchen", "nobody", "open sesame"), NOT_AUTHORIZED),
        # A client id of its own choice is welcome with a valid secret, but has no feed.
        (connect("phone", "kitchen", "open sesame"), Identity("phone", None, False)),
    ],
    ids=str,
)
def test_a_secret_is_needed_wherever_there_is_one(
    packet: Connect, verdict: Identity | int, opened: bool
) -> None:
    found = rules(opened=opened).identify(packet)
    if opened and isinstance(verdict, Identity):
        verdict = Identity(verdict.client_id, verdict.device, may_publish=True)
    assert found == verdict


@pytest.mark.parametrize(
    "packet",
    [connect("new"), connect("hall"), connect("new", "new", "guess"), connect("")],
    ids=str,
)
def test_with_closed_registration_nobody_comes_in_without_a_secret(packet: Connect) -> None:
    assert rules(opened=False).identify(packet) == NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("packet", "device"),
    [
        (connect("new"), "new"),
        (connect("hall"), "hall"),
        (connect("new", "new", "anything"), "new"),
        (connect("new", "other"), None),
        (connect("#"), None),
        (connect("+"), None),
        (connect("a/b"), None),
        (connect(""), None),
        (connect("x" * 64), "x" * 64),
        (connect("x" * 65), None),
    ],
    ids=str,
)
def test_with_open_registration_a_device_is_what_its_client_id_says(
    packet: Connect, device: str | None
) -> None:
    found = rules(opened=True).identify(packet)
    assert isinstance(found, Identity)
    assert found.device == device


@pytest.mark.parametrize("prefix", ["", "site/1/"])
@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("items/news", Topic.ITEM),
        ("items/", Topic.ITEM),
        ("u/kitchen", Topic.UP),
        ("u/hall", Topic.FORBIDDEN),
        ("u/", Topic.FORBIDDEN),
        ("u/kitchen/x", Topic.FORBIDDEN),
        ("f/kitchen", Topic.FORBIDDEN),
        ("f/hall", Topic.FORBIDDEN),
        ("itemsx/news", Topic.FOREIGN),
        ("home/f/kitchen", Topic.FOREIGN),
        ("x", Topic.FOREIGN),
    ],
)
def test_what_publishing_to_a_topic_means(prefix: str, topic: str, kind: Topic) -> None:
    identity = Identity("kitchen", "kitchen", may_publish=True)
    assert rules(opened=True, prefix=prefix).topic(identity, prefix + topic) is kind


def test_dollar_topics_are_nobodys() -> None:
    identity = Identity("kitchen", "kitchen", may_publish=True)
    for prefix in ("", "site/"):
        assert rules(opened=True, prefix=prefix).topic(identity, "$SYS/x") is Topic.FORBIDDEN


def test_without_the_prefix_a_topic_is_not_the_feeds() -> None:
    identity = Identity("kitchen", "kitchen", may_publish=True)
    assert rules(opened=True, prefix="site/").topic(identity, "items/news") is Topic.FOREIGN


def test_items_need_the_right_to_publish() -> None:
    identity = Identity("kitchen", "kitchen", may_publish=False)
    assert rules(opened=False).topic(identity, "items/news") is Topic.FORBIDDEN
    assert rules(opened=False).topic(identity, "u/kitchen") is Topic.UP


def test_a_client_without_a_device_has_no_up_topic() -> None:
    identity = Identity("kitchen", None, may_publish=True)
    assert rules(opened=True).topic(identity, "u/kitchen") is Topic.FORBIDDEN
    assert not rules(opened=True).is_own_feed(identity, "f/kitchen")


@pytest.mark.parametrize(
    "name", ["f/kitchen", "f/#", "f/+", "f", "u/x", "u", "items", "items/#", "items/a/b"]
)
def test_filters_within_the_feed_are_known(name: str) -> None:
    assert rules(opened=True).is_feed_filter(name)
    assert rules(opened=True, prefix="site/").is_feed_filter(f"site/{name}")


@pytest.mark.parametrize("name", ["#", "+/kitchen", "$SYS/#", "fx", "home/items", "+/+"])
def test_filters_elsewhere_are_not_the_feeds(name: str) -> None:
    assert not rules(opened=True).is_feed_filter(name)


def test_a_device_owns_exactly_one_filter() -> None:
    identity = Identity("kitchen", "kitchen", may_publish=True)
    one = rules(opened=True)
    owned = [
        n
        for n in ("f/kitchen", "f/kitchen/#", "f/hall", "f/+", "#")
        if one.is_own_feed(identity, n)
    ]
    assert owned == ["f/kitchen"]
