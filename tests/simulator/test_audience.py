"""People in front of devices: what they look at, what they do, what their windows are worth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.frames import Event, FeedItem, Kind
from simulator import audience as module
from simulator.audience import Audience
from simulator.fleet import DeviceSpec, Fleet
from simulator.offerings import Items, Market, Stream
from simulator.people import People, Settings
from simulator.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.simulator.conftest import Until
    from tests.simulator.tiny_feed import TinyFeed

MARKET = Market(channels=4, tags=6, publishers=3)
STREAM = Stream(1, MARKET)
HOUR = 3600.0
START = 10 * 24 * HOUR
EAGER = Settings(looks=2_000.0, busy=0.0, base=1.0)
"""They look every minute, and like nearly everything."""


@dataclass
class Screen:
    """A device that shows what a test wants."""

    spec: DeviceSpec = field(default_factory=lambda: DeviceSpec("d"))
    window: Sequence[FeedItem] = ()
    lit: bool = True
    said: list[tuple[float, Event]] = field(default_factory=list)

    def say_feedback(self, events: Sequence[Event], at: float) -> None:
        self.said += [(at, event) for event in events]


def window(texts: Iterable[str]) -> list[FeedItem]:
    return [FeedItem(1_000 + int(text), 0, 1, text) for text in texts]


def audience_of(size: int, given: Settings = EAGER, *, items: int = 8, seed: int = 1) -> Audience:
    """People who may find items `0`, `1`, … on their devices."""
    made = Audience(People(seed, size, MARKET, given), STREAM, start=START)
    for number in range(items):
        made.publish(number, str(number), at=float(number))
    return made


def screens(size: int, texts: Iterable[str], **more: object) -> dict[int, Screen]:
    shown = window(texts)
    return {person: Screen(window=shown, **more) for person in range(size)}  # type: ignore[arg-type]


def run(audience: Audience, viewers: dict[int, Screen], seconds: float, step: float = 60.0) -> None:
    for at in np.arange(step, seconds + step, step).tolist():
        audience.tick(at, step, viewers)


def kinds(viewers: dict[int, Screen]) -> dict[Kind, int]:
    events = [event for screen in viewers.values() for _, event in screen.said]
    return {kind: sum(event.kind is kind for event in events) for kind in Kind}


# ---- What people do


def test_people_see_open_dismiss_and_read_what_their_devices_show() -> None:
    audience, viewers = audience_of(300), screens(300, "01234567")
    run(audience, viewers, 2 * HOUR)
    found, truth = kinds(viewers), audience.truth()
    assert found[Kind.SHOWN] > found[Kind.OPENED] > found[Kind.DISMISSED] > 0
    assert found[Kind.DWELL] > 0.9 * found[Kind.OPENED]
    assert (truth.shows, truth.opens, truth.dismissals) == tuple(
        found[kind] for kind in (Kind.SHOWN, Kind.OPENED, Kind.DISMISSED)
    )


def test_everything_is_said_once_of_an_item_and_in_the_order_in_which_it_happens() -> None:
    audience, viewers = audience_of(50), screens(50, "01234567")
    run(audience, viewers, 6 * HOUR)
    for screen in viewers.values():
        said = [(event.n, event.kind) for _, event in screen.said]
        assert len(said) == len({*said})
        assert [at for at, _ in screen.said] == sorted(at for at, _ in screen.said)
        for n in {n for n, _ in said}:
            order = [kind for number, kind in said if number == n]
            assert order in (
                [Kind.SHOWN], [Kind.SHOWN, Kind.DISMISSED],
                [Kind.SHOWN, Kind.OPENED, Kind.DWELL], [Kind.SHOWN, Kind.OPENED],
            )  # fmt: skip


def test_what_is_shown_says_its_rank_and_what_is_read_its_seconds() -> None:
    audience, viewers = audience_of(100), screens(100, "76543210")
    run(audience, viewers, HOUR)
    events = [event for screen in viewers.values() for _, event in screen.said]
    assert all(event.value == 1_007 - event.n for event in events if event.kind is Kind.SHOWN)
    dwell = [event.value for event in events if event.kind is Kind.DWELL]
    assert 2 < np.median(np.array(dwell)) < 200


def test_what_was_said_does_not_depend_on_who_else_looks() -> None:
    alone, together = screens(1, "01234567"), screens(200, "01234567")
    run(audience_of(200), alone, 2 * HOUR)
    run(audience_of(200), together, 2 * HOUR)
    assert alone[0].said
    assert alone[0].said == together[0].said


def test_nobody_looks_at_a_device_that_is_off_or_at_what_nobody_published() -> None:
    audience = audience_of(100)
    off, strange = screens(100, "01234567", lit=False), screens(100, ["99"])
    run(audience, off, HOUR)
    run(audience, strange, 3 * HOUR)
    assert not any(screen.said for viewers in (off, strange) for screen in viewers.values())


def test_people_look_at_the_hours_of_their_days() -> None:
    # Looks of one population over a day, seen by the first exposure of a new item every hour.
    lazy = replace(EAGER, looks=6.0)
    viewers = screens(2_000, "0")
    audience = audience_of(2_000, lazy, items=1)
    run(audience, viewers, 4 * HOUR)
    shown = kinds(viewers)[Kind.SHOWN]
    assert 0.2 * 2_000 < shown < 0.9 * 2_000  # a look every four hours


def test_acts_under_way_have_a_bound_and_what_does_not_fit_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_UNDER_WAY", 20)
    audience, viewers = audience_of(300), screens(300, "01234567")
    audience.tick(60.0, 60.0, viewers)
    assert audience.lost > 0
    run(audience, viewers, HOUR)
    assert sum(kinds(viewers).values()) > 20


def test_an_audience_that_is_late_makes_up_for_little() -> None:
    audience, viewers = audience_of(100), screens(100, "01234567")
    audience.tick(100 * 60.0, 60.0, viewers)
    late = kinds(viewers)[Kind.SHOWN]
    assert late > 0
    # Not stuck in the past: the next minute is the next minute.
    audience.tick(101 * 60.0, 60.0, viewers)
    assert all(at >= 0.0 for screen in viewers.values() for at, _ in screen.said)


# ---- What windows are worth


def worth(audience: Audience, viewers: dict[int, Screen], elapsed: float = 60.0) -> list[float]:
    audience.sample(elapsed, elapsed, viewers)
    truth = audience.truth()
    return [truth.shown[-1], truth.best[-1], truth.newest[-1]]


@given(st.lists(st.sampled_from("01234567"), unique=True), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_no_window_is_worth_more_than_the_best_one(texts: list[str], seed: int) -> None:
    audience = audience_of(40, Settings(), seed=seed)
    shown, best, newest = worth(audience, screens(40, texts))
    assert 0 <= shown <= best + 1e-9
    assert 0 < newest <= best + 1e-9


def test_the_newest_window_is_worth_what_newest_first_says() -> None:
    shown, best, newest = worth(audience_of(40, Settings()), screens(40, "76543210"))
    assert shown == pytest.approx(newest)
    assert shown < best


def test_a_window_made_for_its_person_is_worth_as_much_as_the_best() -> None:
    audience, people = audience_of(40, Settings()), People(1, 40, MARKET, Settings())
    items = replace(STREAM.items(np.arange(8)), published=START + np.arange(8.0))
    order = people.oracle(np.arange(40), items, START + 60.0, 8)
    viewers = {who: Screen(window=window(map(str, order[who].tolist()))) for who in range(40)}
    shown, best, newest = worth(audience, viewers)
    assert shown == pytest.approx(best)
    assert newest < best


def test_what_was_opened_is_worth_nothing_more() -> None:
    audience, viewers = audience_of(60), screens(60, "01234567")
    before = worth(audience, viewers)
    run(audience, viewers, 6 * HOUR)
    after = worth(audience, viewers, 6 * HOUR)
    assert all(later < 0.5 * sooner for sooner, later in zip(before, after, strict=True))


def test_only_what_a_device_follows_counts_as_possible() -> None:
    audience = Audience(People(1, 10, MARKET), STREAM, start=START)
    for number in range(8):
        audience.publish(number, str(number), at=0.0, channel="a" if number % 2 else "b")
    nothing = [Screen(DeviceSpec("d", follow=("c",))) for _ in range(10)]
    half = [Screen(DeviceSpec("d", follow=("a",))) for _ in range(10)]
    everything = [Screen(DeviceSpec("d")) for _ in range(10)]
    values = [worth(audience, dict(enumerate(each)))[1] for each in (nothing, half, everything)]
    assert values[0] == 0.0
    assert 0.0 < values[1] < values[2]


def test_a_short_window_is_compared_with_short_ones() -> None:
    audience = audience_of(10, Settings())
    short = [Screen(DeviceSpec("d", k=2)) for _ in range(10)]
    long = [Screen(DeviceSpec("d", k=8)) for _ in range(10)]
    assert worth(audience, dict(enumerate(short)))[1] < worth(audience, dict(enumerate(long)))[1]


def test_windows_of_different_lengths_each_count_by_their_own() -> None:
    short, long = Screen(DeviceSpec("d", k=2)), Screen(DeviceSpec("d", k=8))
    people = [0, 1]
    apart = [
        worth(audience_of(2), {person: screen})
        for person, screen in zip(people, (short, long), strict=True)
    ]
    together = worth(audience_of(2), {0: short, 1: long})
    assert together == pytest.approx(np.mean(apart, axis=0).tolist())


def test_items_that_are_over_are_no_longer_possible() -> None:
    audience = Audience(People(1, 10, MARKET), STREAM, start=START)
    audience.publish(1, "1", at=0.0, ttl=100.0)
    viewers = screens(10, "1")
    assert worth(audience, viewers, 50.0)[1] > 0
    assert worth(audience, viewers, 101.0)[1] == 0


def test_without_samples_there_is_no_truth_but_the_counts() -> None:
    truth = audience_of(1).truth()
    assert (truth.at, truth.shown, truth.shows) == ((), (), 0)


# ---- The shelf


def one(number: int) -> Items:
    return STREAM.items(np.array([number]))


def test_the_oldest_item_makes_room_for_the_newest() -> None:
    shelf = Shelf(2)
    for number in range(3):
        shelf.put(one(number), (str(number), f"brief {number}"), "news", float(number), 100.0)
    assert [shelf.place(text) for text in ("0", "brief 0", "1", "2", "brief 2")] == [
        None, None, 1, 0, 0,
    ]  # fmt: skip
    assert shelf.items(np.array([0, 1])).number.tolist() == [2, 1]
    assert shelf.items(np.array([0, 1])).published.tolist() == [2.0, 1.0]
    assert shelf.live(101.5).tolist() == [0]


def test_a_text_that_was_taken_over_by_a_newer_item_stays_with_that() -> None:
    shelf = Shelf(2)
    for number in range(3):
        shelf.put(one(number), ("same" if number < 2 else "other",), "news", 0.0, 100.0)
    assert shelf.place("same") == 1


def test_a_place_that_is_used_again_is_new_to_everybody() -> None:
    audience = Audience(People(1, 50, MARKET, EAGER), STREAM, start=START, places=1)
    viewers = screens(50, "0")
    audience.publish(0, "0", at=0.0)
    run(audience, viewers, HOUR)
    audience.publish(1, "1", at=HOUR)
    later = screens(50, "1")
    for at in np.arange(HOUR + 60, 2 * HOUR, 60.0).tolist():
        audience.tick(at, 60.0, later)
    assert kinds(later)[Kind.SHOWN] > 0


# ---- In front of a fleet


async def test_what_people_do_reaches_the_feed(feed: TinyFeed, until: Until) -> None:
    audience = audience_of(20, replace(EAGER, looks=50_000.0))
    specs = [DeviceSpec(f"d{n}", person=n) for n in range(20)]
    async with Fleet(
        specs, host="127.0.0.1", port=feed.port, audience=audience, speed=600.0
    ) as fleet:
        await fleet.start()
        for number in range(8):
            feed.publish("news", str(number))
        await until(lambda: all(len(held) == 8 for held in fleet.windows().values()))
        await until(lambda: {event.kind for event in heard(feed)} >= {Kind.SHOWN, Kind.OPENED})
        audience.sample(1.0, fleet.elapsed, fleet.viewers)
        assert {event.n for event in heard(feed)} <= {*range(1, 9)}
        assert len(audience.truth().shown) == 1


def heard(feed: TinyFeed) -> list[Event]:
    messages = [message for held in feed.devices.values() for message in held.feedback]
    return [event for message in messages for event in message.events]
