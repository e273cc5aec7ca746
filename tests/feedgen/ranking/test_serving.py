"""What the engine gets from a ranking that learned: terms, personal parts, and who gets none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.engine import SHELVES
from feedgen.ranking.explore import inverse_normal
from feedgen.ranking.heads import Served
from feedgen.ranking.ladder import Rung
from feedgen.ranking.ranking import Ranking
from feedgen.ranking.serving import draws
from feedgen.ranking.value import Settings as ValueSettings
from feedgen.store import state_file
from tests.feedgen.ranking_cases import (
    CHANNELS,
    SETTINGS,
    START,
    Fleet,
    pinned,
    record,
)

if TYPE_CHECKING:
    from pathlib import Path

    from feedgen.items import Record

DAY = 86_400.0


def crowd(count: int, first: int = 1, spread: float = 60.0) -> list[Record]:
    """Items of all channels, one a minute, some of high priority."""
    return [
        record(first + n, START + spread * n, CHANNELS[n % 3], priority=2 if n % 17 == 0 else 1)
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def taught() -> Fleet:
    fleet = Fleet(16)
    fleet.teach(30)
    return fleet


def successor(taught: Fleet, **options: Any) -> Ranking:
    """Return a ranking that goes on with what another one learned."""
    ranking = Ranking(replace(SETTINGS, **options), shelves=len(SHELVES))
    ranking.restore(taught.ranking.state())
    ranking.turn(taught.now)
    return ranking


def test_a_liked_channel_stands_above_a_newer_disliked_one(taught: Fleet) -> None:
    fleet = Fleet(8, ranking=successor(taught))
    fleet.now = taught.now
    fleet.publish(record(1, fleet.now, "good"), record(2, fleet.now + 60, "bad"))
    for name in fleet.names:
        assert fleet.window(name) == [1, 2]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_windows_after_any_life_are_those_of_an_engine_that_was_just_started(
    taught: Fleet, data: st.DataObject
) -> None:
    """Without exploration, and with fewer items than are retrieved, nothing depends on the past."""
    fleet = Fleet(10, ranking=successor(taught))
    fleet.now = START  # the hour stays the same: it is a feature
    n = 0
    moves = ("publish", "publish", "feedback", "turn", "refresh", "refresh_all", "update", "reseat")
    for move in data.draw(st.lists(st.sampled_from(moves), min_size=5, max_size=25)):
        name = data.draw(st.sampled_from(fleet.names))
        if move == "publish":
            made = crowd(data.draw(st.integers(1, 12)), n + 1, spread=20.0)
            n += len(made)
            fleet.publish(*made)
        elif move == "update" and n:
            which = data.draw(st.integers(1, n))
            tags = (data.draw(st.sampled_from(("t0", "t1", "t9"))),)
            old = fleet.live[which]
            item = replace(old.item, tags=tags)
            fleet.publish(replace(old, item=item, version=old.version + 1))
        elif move == "feedback":
            for seen in fleet.window(name):
                fleet.hear("shown", seen, name)
                if data.draw(st.booleans()):
                    fleet.hear("opened", seen, name)
        elif move == "turn":
            fleet.follow(fleet.turn(30.0))
        elif move == "refresh":
            fleet.engine.refresh(fleet.seats[name])
        elif move == "refresh_all":
            fleet.engine.refresh_all()
        elif move == "reseat":
            fleet.engine.unseat(fleet.seats[name])
            fleet.seat(name)
    fleet.rank_anew()
    anew = Fleet(10, ranking=Ranking(SETTINGS, shelves=len(SHELVES)))
    # The same tables and balances, not what was learned since they were taken over.
    anew.ranking.live, anew.ranking.items.names = fleet.ranking.live, fleet.ranking.items.names
    anew.ranking.publishers = fleet.ranking.publishers
    anew.ranking.channels = fleet.ranking.channels
    anew.ranking.popularity = fleet.ranking.popularity
    anew.ranking.people.fields = fleet.ranking.people.fields
    anew.ranking.ladder.chosen = fleet.ranking.ladder.chosen
    anew.ranking.snapshot = fleet.ranking.snapshot
    anew.now = fleet.now
    for name in anew.names:
        anew.engine.unseat(anew.seats[name])
        anew.seat(name)
    anew.publish(*fleet.live.values())
    for name in fleet.names:
        held, expected = fleet.held(name), anew.held(name)
        assert held.keys() == expected.keys()
        for seen, key in held.items():  # sums of float32 in another order
            assert abs(key - expected[seen]) <= 5


@pytest.mark.parametrize("rung", Rung)
@pytest.mark.parametrize("tau", [6 * 3600.0, 7 * DAY])
def test_devices_that_are_held_out_see_exactly_what_is_newest_whatever_serves(
    taught: Fleet, rung: Rung, tau: float
) -> None:
    """Also where far more is live than is retrieved for others, and at once by offers."""
    options: dict[str, Any] = {
        "holdout": 0.5,
        "explore": 2.0,
        "value": ValueSettings(tau=tau),
        "publishers": replace(SETTINGS.publishers, boost=2.0),
    }
    ranking = successor(taught, **options)
    fleet = Fleet(16, replace(SETTINGS, **options), ranking)
    held_out = [name for name, seat in fleet.seats.items() if ranking.people.holdout(*seat).item()]
    assert 2 <= len(held_out) < 16
    ranking.snapshot = ranking.live
    ranking.ladder.copied(Rung.LIVE, Rung.SNAPSHOT, fleet.now)
    ranking.ladder.pin(rung, fleet.now)
    assert ranking.rung is rung
    made = crowd(500)
    for each in made[::7]:
        ranking.popularity._counts[each.n] = [400, 4 if each.n % 2 else 390, 0]
    fleet.now = START + 500 * 60
    for start in range(0, 500, 100):
        fleet.publish(*made[start : start + 100])
    for name in held_out:
        assert fleet.window(name) == fleet.newest(name)
    pinned(fleet, rung)
    for name in held_out:
        assert fleet.window(name) == fleet.newest(name)
        keys = fleet.by_time(name)
        assert fleet.held(name) == {n: keys[n] for n in fleet.held(name)}
    others = [fleet.window(name) != fleet.newest(name) for name in fleet.names]
    assert any(others) == (rung is not Rung.NEWEST)


def test_the_same_calls_give_the_same_windows() -> None:
    options = replace(SETTINGS, explore=1.0, holdout=0.1, seed=5)
    windows = []
    for _ in range(2):
        fleet = Fleet(8, options)
        fleet.teach(5)
        fleet.publish(*crowd(40))
        windows.append([fleet.held(name) for name in fleet.names])
    assert windows[0] == windows[1]


def test_items_are_admitted_as_often_as_the_log_says(taught: Fleet) -> None:
    """Over many seeds: full windows with the same bar, and items on both sides of it."""
    logged, taken = defaultdict(list), defaultdict(list)
    tables = [head.tables for head in taught.ranking.live.heads]
    for seed in range(200):
        options = replace(SETTINGS, explore=3.0, seed=seed)
        ranking = Ranking(options, shelves=len(SHELVES))
        ranking.live = Served(tables, options)
        fleet = Fleet(6, options, ranking)
        fleet.publish(*[record(n, START - 3 * DAY) for n in range(1, 33)])
        windows = [shelf.windows for shelf in fleet.engine._state.shelves]
        for n in range(100, 106):
            for seat in fleet.seats.values():
                windows[seat.shelf].bar[seat.row] = 100 * 3600 * 4
            fleet.engine.take_decisions()
            fleet.publish(record(n, START + 3600.0 * (n - 99), CHANNELS[n % 3]))
            admitted = {
                device: p
                for noted in fleet.engine.take_decisions()
                if noted.n == n
                for device, p in zip(noted.device.tolist(), noted.propensity.tolist(), strict=True)
            }
            for name, seat in fleet.seats.items():
                device = ranking.people.device(*seat)
                taken[name, n].append(device in admitted)
                if device in admitted:
                    logged[name, n].append(admitted[device])
    in_doubt = 0
    for context, happened in taken.items():
        p = logged[context][0] if logged[context] else 0.0
        assert logged[context] == pytest.approx([p] * len(logged[context]), abs=1e-3)
        # Of 36 pairs none is 4.5 standard errors away by chance.
        error = 4.5 * np.sqrt(max(p * (1 - p), 0.005) / len(happened))
        assert abs(np.mean(happened) - p) < error
        in_doubt += 0.05 < p < 0.95
    assert in_doubt >= 12


def test_draws_are_never_so_high_or_low_that_no_key_can_hold_their_samples() -> None:
    tokens = np.array([0, 1, 1 << 40, 1 << 63, (1 << 64) - 1], np.uint64)
    uniform = draws(tokens)
    assert ((uniform > 0) & (uniform < 1)).all()
    assert np.isfinite(inverse_normal(uniform)).all()


@pytest.mark.parametrize("fields", [(), tuple(f"f{n}" for n in range(8))])
def test_no_fields_and_eight_are_served_alike_for_few_devices_and_for_many(
    fields: tuple[str, ...],
) -> None:
    ranking = Ranking(replace(SETTINGS, fields=fields, explore=1.0), shelves=1)
    for row in range(600):
        ranking.seat(0, row, f"d{row}", dict.fromkeys(fields, f"v{row % 7}") | {"tz": "+2"})
    shown = record(1)
    for row in range(100):
        ranking.heard("shown", shown, 1, 0, START, START, 0, row)
        if row % 3:
            ranking.heard("opened", shown, 1, 0, START, START, 0, row)
    ranking.turn(START)
    ranking.turn(START + 30)
    rows = np.arange(600, dtype=np.int32)
    term = ranking.term(shown)
    many = ranking.scores(shown, term, 0, rows, START + 30)
    few = ranking.scores(shown, term, 0, rows[:50], START + 30)
    assert many is not None
    assert few is not None
    assert np.ptp(few.mean) > 0
    np.testing.assert_allclose(many.mean[:50], few.mean, atol=2)
    np.testing.assert_allclose(many.sd[:50], few.sd, atol=2)
    np.testing.assert_array_equal(many.uniform[:50], few.uniform)


def test_a_bound_of_one_leaves_time_alone() -> None:
    fleet = Fleet(8, replace(SETTINGS, bound=1.0))
    fleet.teach(5)
    fleet.publish(*crowd(30))
    pinned(fleet, None)
    for name in fleet.names:
        assert list(fleet.held(name))[:8] == fleet.newest(name)[:8]


def test_where_everything_is_dismissed_and_nothing_opened_all_items_are_worth_the_same() -> None:
    fleet = Fleet(8)
    for n in range(1, 60):
        fleet.live[n] = record(n)
        for name in fleet.names:
            fleet.hear("dismissed", n, name)
    fleet.turn()
    fleet.turn(30)
    terms = {fleet.ranking.term(record(n)) for n in range(1, 60)}
    assert all(np.isfinite(term) and abs(term) <= fleet.ranking.bound for term in terms)


def test_a_new_content_is_served_by_its_own_tags(taught: Fleet) -> None:
    """What was computed for the content before is not taken for it."""
    ranking = successor(taught)
    for row in range(600):
        ranking.seat(0, row, f"d{row}", {"class": "tv"})
    rows = np.arange(600, dtype=np.int32)
    old, new = record(7, tags=("t1",)), record(7, channel="bad", tags=("t3",), version=1)
    ranking.scores(old, ranking.term(old), 0, rows, START)
    term = ranking.term(new)
    many, few = (ranking.scores(new, term, 0, some, START) for some in (rows, rows[:9]))
    assert many is not None
    assert few is not None
    np.testing.assert_allclose(many.mean[:9], few.mean, atol=2)
    assert term != ranking.term(old)


def test_what_is_computed_for_items_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that are taken back are not told to be over, and a fleet may have many of them."""
    monkeypatch.setattr("feedgen.ranking.serving._TERMS", 100)
    ranking = Ranking(SETTINGS, shelves=1)
    for row in range(600):
        ranking.seat(0, row, f"d{row}", {})
    rows = np.arange(600, dtype=np.int32)
    for n in range(1, 300):
        ranking.scores(record(n), ranking.term(record(n)), 0, rows, START)
    assert len(ranking._terms) <= 100
    assert len(ranking._parts) <= 64


def test_time_zones_that_are_none_are_no_values() -> None:
    """Each zone costs time in every window that is built: a device must not make up more."""
    fleet = Fleet(4)
    for number in range(200):
        name = f"d{100 + number}"
        fleet.seat(name, {"tz": f"Mars/Base{number}"})
        fleet.seat(f"d{400 + number}", {"tz": str(10**number)})
    assert len(fleet.ranking.people.zones.values) < 10


def test_a_clock_that_is_decades_ahead_all_at_once_does_no_harm(taught: Fleet) -> None:
    """A board without a battery starts in 1970, until the network tells it the time."""
    fleet = Fleet(8, ranking=successor(taught))
    fleet.publish(*crowd(10))
    fleet.now += 60 * 365 * DAY
    fleet.turn()
    fleet.work()
    later = [record(100 + n, fleet.now + 60 * n) for n in range(4)]
    fleet.publish(*later)
    fleet.engine.step(fleet.now)
    fleet.work()
    for name in fleet.names:
        keys = list(fleet.held(name).values())
        assert set(fleet.window(name)[:4]) == {100, 101, 102, 103}
        assert all(one >= other for one, other in pairwise(keys))


def test_what_each_rung_serves_survives_a_restart(taught: Fleet, tmp_path: Path) -> None:
    for rung in Rung:
        before = Fleet(8, ranking=successor(taught))
        before.ranking.snapshot = before.ranking.live
        before.ranking.ladder.copied(Rung.LIVE, Rung.SNAPSHOT, before.now)
        before.ranking.ladder.pin(rung, before.now)
        state_file.save(tmp_path / "state", "ranking", 1, before.ranking.state())
        ranking = Ranking(SETTINGS, shelves=len(SHELVES))
        state = state_file.load(tmp_path / "state", "ranking", 1)
        assert state is not None
        ranking.restore(state)
        ranking.turn(before.now)
        assert ranking.rung is rung
        after = Fleet(8, ranking=ranking)
        made = crowd(60)
        before.publish(*made)
        after.publish(*made)
        for name in before.names:
            assert before.held(name) == after.held(name)
