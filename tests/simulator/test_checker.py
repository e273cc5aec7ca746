"""The judge: for every promise a history that breaks it, and one beside it that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from devices.frames import Delta, FeedItem, Put, Snapshot, encode_frame
from devices.replica import Received
from simulator.checker import Checker, unchanged
from simulator.facts import Content, DeviceAtRest, Key, ServerClock

if TYPE_CHECKING:
    from simulator.facts import Finding, Publication

NOW = 1_000_000.0
"""When everything is at rest; items are published a minute before."""


class World:
    """What happened, told to a checker."""

    def __init__(self) -> None:
        self.clock = ServerClock()
        self.checker = Checker(self.clock)
        self.numbers: dict[str, int] = {}
        self.barred: set[tuple[str, int]] = set()

    def publish(
        self, text: str, *, id_: str | None = None, channel: str = "news", sent: float = -60.0,
        acknowledged: bool = True, **fields: Any,
    ) -> Publication:  # fmt: skip
        content = Content(Key(channel, id_ or text), text, **{"ttl": 600, **fields})
        publication = self.checker.sent(content, NOW + sent)
        if acknowledged:
            self.checker.acknowledged(publication, NOW + sent + 0.01)
        return publication

    def retract(self, id_: str, **fields: Any) -> Publication:
        return self.publish("", id_=id_, retract=True, **fields)

    def device(self, *shown: str, **fields: Any) -> DeviceAtRest:
        """A device that shows these texts, as it should."""
        window = tuple((self.number(text), text) for text in shown)
        device = DeviceAtRest(
            device="kitchen", k=8, capacity=100, follow=("#",), attributes={}, shown=window, feed=window,
        )  # fmt: skip
        return replace(device, **fields)

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers) + 1)

    def judge(self, *devices: DeviceAtRest, now: float = NOW) -> list[str]:
        found = self.checker.judge(devices, now, self.barred)
        return sorted(finding.promise for finding in [*found, *self.checker.take()])

    def frame(
        self, frame: Snapshot | Delta, received: Received = Received.APPLIED, **how: Any
    ) -> None:
        self.checker.frame("kitchen", "f/kitchen", encode_frame(frame), received, **how)

    def snapshot(self, epoch: int, seq: int, *texts: str) -> Snapshot:
        items = tuple(FeedItem(self.number(text), 0, 1, text) for text in texts)
        return Snapshot(epoch, seq, 8, items)

    def taken(self) -> list[str]:
        return [finding.promise for finding in self.checker.take()]


@pytest.fixture
def world() -> World:
    return World()


def test_a_history_in_which_all_is_well_has_no_findings(world: World) -> None:
    world.publish("a")
    world.publish("b", priority=3)
    world.publish("b2", id_="b")
    world.publish("gone")
    world.retract("gone")
    device = world.device("b2", "a")
    assert world.judge(device) == []
    assert world.checker.diverged([device]) == []


# What was acknowledged is offered (G1)


def test_an_acknowledged_item_that_no_feed_has_is_a_loss(world: World) -> None:
    world.publish("a")
    world.publish("b")
    assert world.judge(world.device("a")) == ["G1"]


def test_an_item_without_acknowledgement_may_be_there_or_not(world: World) -> None:
    world.publish("a", acknowledged=False)
    assert world.judge(world.device()) == []
    assert world.judge(world.device("a")) == []


def test_an_acknowledged_update_that_is_not_shown_is_a_loss(world: World) -> None:
    world.publish("old", id_="a")
    world.publish("new", id_="a")
    assert world.judge(world.device("old")) == ["G1"]
    assert world.judge(world.device("new")) == []


def test_either_content_may_be_shown_while_the_update_is_not_acknowledged(world: World) -> None:
    world.publish("old", id_="a")
    world.publish("new", id_="a", acknowledged=False)
    assert world.judge(world.device("old")) == []
    assert world.judge(world.device("new")) == []
    # But the item as such is certain neither way.
    assert world.judge(world.device()) == []


def test_an_item_that_was_surely_retracted_is_not_shown(world: World) -> None:
    world.publish("a")
    world.retract("a")
    assert world.judge(world.device("a")) == ["G1"]
    assert world.judge(world.device()) == []


def test_an_item_that_is_over_is_not_shown(world: World) -> None:
    world.publish("a", ttl=10)
    assert world.judge(world.device("a")) == ["G1"]
    assert world.judge(world.device()) == []


def test_at_its_very_end_an_item_may_be_shown_or_not(world: World) -> None:
    world.publish("a", ttl=60)
    assert world.judge(world.device("a")) == []
    assert world.judge(world.device()) == []


def test_while_nobody_knows_the_time_nobody_knows_what_is_over(world: World) -> None:
    world.publish("a", ttl=600)
    world.clock.step(3_600.0, NOW - 1)
    assert world.judge(world.device("a")) == []
    assert world.judge(world.device()) == []
    assert world.judge(world.device("a"), now=NOW + 10) == ["G1"]


def test_an_item_that_was_over_once_does_not_return_with_the_old_time(world: World) -> None:
    world.publish("a", ttl=600)
    world.clock.step(3_600.0, NOW - 30)
    world.clock.step(0.0, NOW - 10)
    world.clock.restart(NOW - 5)
    assert world.judge(world.device()) == []


@pytest.mark.parametrize(
    "device",
    [
        {"follow": ("weather/#",)},
        {"attributes": {"region": "s"}},
        {"attributes": {"region": "n"}, "capacity": 3},
    ],
    ids=["does not follow", "is not asked for", "has no room"],
)
def test_what_is_not_for_a_device_is_not_missed_there(world: World, device: dict[str, Any]) -> None:
    world.publish("long text", where={"region": ("n",)})
    assert world.judge(world.device(**device)) == []
    assert world.judge(world.device(attributes={"region": "n"})) == ["G1"]


def test_a_full_window_may_lack_what_is_worse(world: World) -> None:
    for text in ("a", "b", "c"):
        world.publish(text)
    assert world.judge(world.device("a", "b", k=2)) == []
    assert world.judge(world.device("a", "b", k=3)) == ["G1"]


def test_nothing_stands_in_for_an_urgent_item(world: World) -> None:
    world.publish("urgent", priority=3)
    world.publish("a", priority=2)
    world.publish("b", priority=3)
    assert world.judge(world.device("b", "a", k=2)) == ["G1"]
    assert world.judge(world.device("b", k=1)) == []


def test_what_a_device_dismissed_is_not_missed(world: World) -> None:
    world.publish("a")
    world.frame(world.snapshot(1, 1, "a"))
    world.checker.dismissed("kitchen", world.number("a"))
    assert world.judge(world.device()) == []


def test_poison_is_not_missed_but_counted(world: World) -> None:
    world.publish("a")
    world.frame(world.snapshot(1, 1, "a"))
    assert world.judge(world.device()) == ["G3"]
    world.barred = {("kitchen", world.number("a"))}
    assert world.judge(world.device()) == []
    assert world.checker.poisoned(world.barred) == 1
    world.checker.dismissed("kitchen", world.number("a"))
    assert world.checker.poisoned(world.barred) == 0


def test_poison_of_which_no_device_ever_heard_excuses_what_nobody_knows(world: World) -> None:
    world.publish("a")
    world.publish("known")
    world.frame(world.snapshot(1, 1, "known"))
    world.barred = {("kitchen", 77)}
    assert world.judge(world.device("known")) == []
    assert world.judge(world.device()) == ["G3"]


def test_an_older_item_of_a_collapse_key_is_not_missed(world: World) -> None:
    world.publish("old", collapse="k", sent=-60)
    world.publish("new", collapse="k", sent=-50)
    assert world.judge(world.device("new")) == []
    assert world.judge(world.device("old")) == ["G1"]


def test_an_older_item_returns_where_the_newer_one_is_not_for_the_device(world: World) -> None:
    world.publish("old", collapse="k", sent=-60)
    world.publish("new", collapse="k", sent=-50, where={"region": ("n",)})
    assert world.judge(world.device()) == ["G1"]
    assert world.judge(world.device("old")) == []


def test_a_profile_that_was_acknowledged_is_not_forgotten(world: World) -> None:
    world.checker.profile("kitchen", ["a"], {"region": "n"})()
    as_told = {"follow": ("a",), "attributes": {"region": "n", "class": "wall"}}
    assert world.judge(world.device(**as_told)) == []
    assert world.judge(world.device(follow=("#",), attributes={"region": "n"})) == ["G1"]
    assert world.judge(world.device(follow=("a",), attributes={})) == ["G1"]
    world.checker.profile("kitchen", ["c"], {})()
    assert world.judge(world.device(**as_told)) == ["G1"]
    world.checker.profile("kitchen", ["a"], {"region": "n"})()
    world.checker.profile("kitchen", ["b"], {})
    assert world.judge(world.device(follow=("b",))) == []
    assert world.judge(world.device(**as_told)) == []


# Devices show their feeds (G2)


def test_a_device_that_shows_another_window_has_diverged(world: World) -> None:
    world.publish("a")
    device = world.device("a")
    for shown in ((), ((1, "b"),), ((2, "a"),)):
        found = world.checker.diverged([replace(device, shown=shown, evidence=("last words",))])
        assert [finding.promise for finding in found] == ["G2"]
        assert "last words" in str(found[0])


def test_a_device_that_the_server_does_not_know_is_found(world: World) -> None:
    assert world.judge(world.device(feed=None)) == ["G2"]


# Nothing that stood in a window vanishes (G3)


def test_what_a_device_once_held_is_a_silent_loss(world: World) -> None:
    world.publish("a")
    world.frame(world.snapshot(1, 1, "a"))
    assert world.judge(world.device()) == ["G3"]


def test_what_a_feed_once_had_is_a_silent_loss(world: World) -> None:
    world.publish("a")
    world.judge(world.device("a"))
    world.checker.settle([world.device("a")], NOW)
    assert world.judge(world.device()) == ["G3"]


# Duplicates change nothing, positions are unique (G4)


def test_a_position_is_never_used_for_two_frames(world: World) -> None:
    world.publish("a")
    world.publish("b")
    world.frame(world.snapshot(1, 1, "a"))
    world.frame(world.snapshot(1, 1, "a"), Received.STALE)
    assert world.taken() == []
    world.frame(world.snapshot(1, 1, "b"), Received.STALE)
    assert world.taken() == ["G4"]


def test_epochs_only_grow(world: World) -> None:
    world.frame(world.snapshot(5, 1))
    world.frame(world.snapshot(4, 9), Received.STALE, late=True)
    assert world.taken() == []
    world.frame(world.snapshot(4, 10), Received.STALE)
    assert world.taken() == ["G4"]


def test_a_number_names_one_item_for_ever(world: World) -> None:
    world.publish("a")
    world.publish("a2", id_="a")
    world.publish("b")
    world.frame(Snapshot(1, 1, 8, (FeedItem(7, 0, 1, "a"),)))
    world.frame(Delta(1, 2, (Put(0, FeedItem(7, 0, 1, "a2")),)))
    assert world.taken() == []
    world.frame(Delta(1, 3, (Put(0, FeedItem(7, 0, 1, "b")),)))
    assert world.taken() == ["G4"]


def test_what_was_dismissed_with_effect_never_returns(world: World) -> None:
    world.publish("a")
    world.publish("b")
    world.frame(world.snapshot(1, 1, "a", "b"))
    world.checker.dismissed("kitchen", world.number("a"))
    world.checker.settle([world.device("b")], NOW)
    assert world.judge(world.device("b")) == []
    assert world.judge(world.device("b", "a")) == ["G4"]


def test_a_dismissal_that_may_not_have_arrived_proves_nothing(world: World) -> None:
    world.publish("a")
    world.publish("b")
    world.frame(world.snapshot(1, 1, "a", "b"))
    world.checker.dismissed("kitchen", world.number("a"))
    world.checker.settle([world.device("b", k=1)], NOW)  # full: it may be away for another reason
    assert world.judge(world.device("b", "a")) == []


def test_duplicates_that_change_a_feed_are_found(world: World) -> None:
    for text in ("a", "b", "c"):
        world.publish(text)
    before = [world.device("a", "b")]

    def found(*after: str, ending: str = "") -> list[Finding]:
        return unchanged(before, [world.device(*after)], lambda n: n == world.number(ending))

    assert found("a", "b") == []
    assert found("b", "a")
    assert found("a")
    assert found("a", "b", "c")
    # What ended may make room for another.
    assert found("b", "c", ending="a") == []
    assert found("c", "b", ending="a") == []
    assert found("c", ending="a")


def test_contents_to_repeat_are_those_that_stay_what_they_are(world: World) -> None:
    world.publish("a")
    world.publish("short", ttl=63)
    world.publish("unsure", acknowledged=False)
    world.retract("tomb")
    texts = [content.payload for content in world.checker.current(NOW, margin=5.0)]
    assert texts == ["a", ""]
    world.frame(world.snapshot(1, 1, "a", "short"))
    assert not world.checker.may_end(world.number("a"), NOW, 5.0)
    assert world.checker.may_end(world.number("short"), NOW, 5.0)
    assert world.checker.may_end(99, NOW, 5.0)


# Nobody sees what is another's (G6)


def test_a_frame_of_another_device_is_found(world: World) -> None:
    data = encode_frame(world.snapshot(1, 1))
    world.checker.frame("kitchen", "f/hall", data, Received.APPLIED)
    assert world.taken() == ["G6"]


# What a feed may show, and what travels


def test_what_nobody_published_is_found(world: World) -> None:
    assert world.judge(world.device("invented")) == ["feed"]
    world.frame(world.snapshot(1, 1, "invented"))
    assert world.taken() == ["feed"]


@pytest.mark.parametrize(
    "device",
    [
        {"follow": ("weather/#",)},
        {"attributes": {"region": "s"}},
        {"k": 0},
        {"capacity": 5},
    ],
    ids=["another channel", "another region", "too many", "too long"],
)
def test_what_must_not_be_shown_is_found(world: World, device: dict[str, Any]) -> None:
    world.publish("long text", brief="brief", where={"region": ("n",)})
    assert world.judge(world.device("long text", attributes={"region": "n"})) == []
    shown = world.device("long text", **{"attributes": {"region": "n"}, **device})
    assert "feed" in world.judge(shown)


def test_the_short_form_is_for_those_who_have_no_room_for_the_long_one(world: World) -> None:
    world.publish("long text", brief="brief")
    assert world.judge(world.device("brief", capacity=5)) == []
    assert world.judge(world.device("brief", capacity=50)) == ["feed"]


def test_two_items_of_one_collapse_key_are_found(world: World) -> None:
    world.publish("old", collapse="k")
    world.publish("new", collapse="k")
    assert world.judge(world.device("new", "old")) == ["feed"]


def test_what_is_no_frame_or_cannot_be_applied_is_found(world: World) -> None:
    world.checker.frame("kitchen", "f/kitchen", b"\xc1", Received.BAD)
    world.checker.frame("kitchen", "f/kitchen", b"\x93\x07\x01\x01", Received.UNKNOWN)
    world.frame(Delta(1, 2, ()), Received.IMPOSSIBLE)
    assert world.taken() == ["wire", "wire", "wire"]
    assert world.taken() == []
