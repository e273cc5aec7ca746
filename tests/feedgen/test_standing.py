"""Where an item stands with its followers, and where one would: held against the windows themselves."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen import standing
from feedgen.engine import Engine, Seat
from feedgen.items import Item, Record
from feedgen.ranking.ranking import Ranking
from feedgen.standing import Absent, Part
from tests.feedgen.ranking_cases import Fleet
from tests.feedgen.ranking_cases import record as ranked_record

T0 = 1_700_000_000

CHANNELS = st.sampled_from(["a", "a/b", "c"])
FILTERS = st.lists(st.sampled_from(["#", "a/#", "a/b", "c", "+"]), min_size=1, unique=True)


def record(n: int, channel: str = "a", at: int = 0, **options: Any) -> Record:
    version = options.pop("version", 0)
    item = Item(channel, f"item-{n}", options.pop("payload", "payload"), **options)
    return Record(n, version, item, (T0 + at) * 1000, T0 + 86_400, b"")


def publish(engine: Engine, *records: Record) -> None:
    engine.publish(records, [each.n << 8 | each.version for each in records])


def settle(engine: Engine, now: float = T0) -> None:
    while engine.busy:
        engine.step(now)


def places(parts: Iterator[Part]) -> dict[Seat, int]:
    found: dict[Seat, int] = {}
    for part in parts:
        for row, place in zip(part.rows.tolist(), part.places.tolist(), strict=True):
            assert Seat(part.shelf, row) not in found, "a follower is counted once"
            found[Seat(part.shelf, row)] = place
    return found


@pytest.fixture
def engine() -> Engine:
    return Engine(landmark=T0)


def test_whoever_does_not_see_an_item_is_told_apart_by_the_reason(engine: Engine) -> None:
    common: dict[str, Any] = {"follow": ("a",), "k": 8, "capacity": 200}
    west, east = {"region": "west"}, {"region": "east"}
    sees = engine.seat(attrs=west, **common)
    elsewhere = engine.seat(attrs=east, **common)
    tired = engine.seat(attrs=west, **common)
    small = engine.seat(attrs=west, **{**common, "capacity": 5})
    aside = engine.seat(attrs=west, **{**common, "follow": ("c",)})
    publish(engine, record(1, where=(("region", ("west",)),)))
    settle(engine)
    engine.dismiss(tired, 1)
    settle(engine)
    assert places(engine.standing(1)) == {
        sees: 0,
        elsewhere: Absent.WHERE,
        tired: Absent.DISMISSED,
        small: Absent.OVERSIZE,
    }
    assert aside not in places(engine.standing(1))


def test_what_is_pushed_down_is_in_the_reserve_and_then_outranked(engine: Engine) -> None:
    seat = engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    for n in range(1, 18):
        publish(engine, record(n, at=n))
        settle(engine)
    assert places(engine.standing(17)) == {seat: 0}
    assert places(engine.standing(10)) == {seat: 7}
    assert places(engine.standing(9)) == {seat: Absent.RESERVE}
    assert places(engine.standing(1)) == {seat: Absent.OUTRANKED}


def test_of_a_collapse_key_the_older_item_is_collapsed_where_the_newer_one_is_followed(
    engine: Engine,
) -> None:
    both = engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    one = engine.seat(follow=("a",), attrs={}, k=8, capacity=200)
    publish(engine, record(1, "a", collapse="door"), record(2, "c", at=1, collapse="door"))
    settle(engine)
    assert places(engine.standing(1)) == {both: Absent.COLLAPSED, one: 0}
    assert places(engine.standing(2)) == {both: 0}


def test_a_new_device_waits_until_its_window_is_built(engine: Engine) -> None:
    publish(engine, record(1))
    settle(engine)
    seat = engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    assert places(engine.standing(1)) == {seat: Absent.PENDING}
    settle(engine)
    assert places(engine.standing(1)) == {seat: 0}


def test_an_item_is_on_its_way_until_every_window_was_offered_it(engine: Engine) -> None:
    engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    settle(engine)
    publish(engine, record(1), record(2, collapse="key"))
    assert engine.offering(1)
    assert engine.offering(2)
    settle(engine)
    assert not engine.offering(1)
    assert not engine.offering(2)
    assert not engine.offering(3)


def test_what_is_over_stands_nowhere_and_a_census_of_it_ends(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "_CELLS", 16)
    for _ in range(3):
        engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    publish(engine, record(1))
    settle(engine)
    parts = engine.standing(1)
    assert len(next(parts).rows) == 1, "a piece is as small as it was told to be"
    engine.expire(T0 + 86_400)
    assert list(parts) == []
    assert list(engine.standing(1)) == []


def test_until_an_update_has_come_the_content_before_counts(engine: Engine) -> None:
    seat = engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    publish(engine, record(1))
    settle(engine)
    publish(engine, record(1, version=1, payload="other"))
    assert places(engine.standing(1)) == {seat: 0}
    settle(engine)
    assert places(engine.standing(1)) == {seat: 0}


# ---- Trials

WHERE = st.sampled_from([(), (("region", ("west",)),), (("region", ("east", "west")),)])
ITEMS = st.builds(
    dict,
    channel=CHANNELS,
    priority=st.integers(0, 3),
    where=WHERE,
    collapse=st.sampled_from([None, None, "key"]),
    payload=st.sampled_from(["short", "a longer payload"]),
)
DEVICES = st.lists(
    st.tuples(
        FILTERS, st.sampled_from(["west", "east"]), st.sampled_from([3, 8, 16]), st.booleans()
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(DEVICES, st.lists(ITEMS, max_size=30), ITEMS, st.booleans())
def test_a_trial_says_where_the_item_stands_once_it_is_published(
    devices: list[Any], before: list[dict[str, Any]], tried: dict[str, Any], update: bool
) -> None:
    engine = Engine(landmark=T0)
    for follow, region, k, roomy in devices:
        engine.seat(follow=follow, attrs={"region": region}, k=k, capacity=100 if roomy else 8)
    for n, options in enumerate(before, 1):
        publish(engine, record(n, at=n, **options))
    settle(engine)
    # An update has the number and the channel of what it replaces.
    n = len(before) if update and before else 0
    channel = before[-1]["channel"] if n else tried["channel"]
    item = {**tried, "channel": channel}
    foretold = places(engine.trial(record(n, at=100, version=1, **item), T0 + 100))
    number = n or len(before) + 1
    publish(engine, record(number, at=100, version=1, **item))
    settle(engine)
    assert foretold == places(engine.standing(number))


def test_what_an_update_replaces_stands_in_nobodys_way(engine: Engine) -> None:
    seat = engine.seat(follow=("#",), attrs={}, k=8, capacity=200)
    publish(engine, record(1, priority=3), record(2, priority=2))
    settle(engine)
    assert places(engine.trial(record(1, at=5, version=1), T0 + 5)) == {seat: 1}


def test_a_trial_leaves_no_trace_in_engine_or_ranking() -> None:
    fleet = Fleet(devices=6)
    fleet.publish(*(ranked_record(n) for n in range(1, 12)))
    fleet.turn(1.0)
    ranking = fleet.ranking
    assert isinstance(ranking, Ranking)

    def everything() -> tuple[Any, ...]:
        known = ranking.items._items, ranking.items.names, ranking._terms, ranking._corrections
        caches = ranking._terms_hour, ranking._parts_of_state, sorted(ranking._parts), ranking.merit
        windows = [fleet.engine.window(seat) for seat in fleet.seats.values()]
        state = (ranking.state(), fleet.engine.size, fleet.engine.counters, ranking._now)
        return pickle.dumps((known, caches, state)), windows

    before = everything()
    tried = ranked_record(0, fleet.now + 7200, "never/heard", id="new", publisher="nobody")
    found = places(fleet.engine.trial(tried, fleet.now + 7200))
    assert len(found) > 0
    assert everything() == before


def test_with_a_ranking_that_learned_a_trial_tells_the_places_by_what_was_learned() -> None:
    seen: dict[str, int] = {}
    for channel in ("good", "bad"):
        fleet = Fleet(devices=12)
        fleet.teach(30)
        before = [ranked_record(n, fleet.now + n, ("bad", "good")[n % 2]) for n in range(1, 17)]
        fleet.publish(*before)
        fleet.now += 20
        options: dict[str, Any] = {"id": "x", "publisher": "p1", "tags": ("t1",)}
        tried = ranked_record(0, fleet.now, channel, **options)
        foretold = places(fleet.engine.trial(tried, fleet.now))
        fleet.publish(ranked_record(1000, fleet.now, channel, **options))
        assert foretold == {seat: place_by_key(fleet.engine, seat, 1000) for seat in foretold}
        seen[channel] = sum(place >= 0 for place in foretold.values())
    assert seen["good"] > seen["bad"]


def place_by_key(engine: Engine, seat: Seat, n: int) -> int:
    """Where an item's key alone puts it in a window."""
    held = engine.held(seat.shelf, np.array([seat.row], np.int32))
    numbers = held.numbers[0].tolist()
    if n not in numbers:
        return Absent.OUTRANKED
    place: int = numbers.index(n)
    return place if place < int(held.visible[0]) else Absent.RESERVE
