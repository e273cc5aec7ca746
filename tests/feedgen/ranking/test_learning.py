"""Feedback as it comes, from devices as they are: late, twice, too much, of things long gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feedgen.ranking.ladder import Rung
from feedgen.ranking.rows import MAX_VALUES
from tests.feedgen.model_cases import assert_same
from tests.feedgen.ranking_cases import SETTINGS, START, WINDOW, Fleet, limited, record


def known(fleet: Fleet) -> dict[str, Any]:
    """Return all that a ranking has learned."""
    state = fleet.ranking.state()
    return {name: state[name] for name in ("models", "publishers", "popularity", "lift")}


def evening(fleet: Fleet, *, times: int = 1) -> None:
    """Let devices see, open and dismiss some items, and say so a number of times."""
    fleet.live = {n: record(n) for n in range(1, 9)}
    fleet.turn()
    for n in fleet.live:
        for place, name in enumerate(fleet.names):
            for _ in range(times):
                fleet.hear("shown", n, name, place)
                if (n + place) % 3 == 0:
                    fleet.hear("opened", n, name)
                    fleet.hear("dwell", n, name, 20.0)
                elif (n + place) % 5 == 0:
                    fleet.hear("dismissed", n, name)
    fleet.turn()
    for _ in range(3):
        fleet.turn(2 * WINDOW)


def test_feedback_that_is_repeated_changes_nothing() -> None:
    once, thrice = Fleet(6), Fleet(6)
    evening(once)
    evening(thrice, times=3)
    assert once.ranking.status()["learned"] == 48
    assert_same(known(once), known(thrice))
    evening_again = known(thrice)
    for n in thrice.live:
        for place, name in enumerate(thrice.names):
            thrice.hear("shown", n, name, place, age=2 * WINDOW * 3)
    thrice.turn(2 * WINDOW)
    assert_same(evening_again["popularity"], known(thrice)["popularity"])
    assert thrice.ranking.status()["learned"] == 48


def test_a_device_that_says_too_much_does_not_stop_the_others() -> None:
    """A turn in which all outcomes are beyond the rates of their devices teaches nothing."""
    fleet = Fleet(3, limited(per_hour=1e-3, burst=3))
    fleet.live = {n: record(n) for n in range(1, 100)}
    for n in range(1, 4):
        fleet.hear("shown", n, "d0")
    fleet.turn()
    fleet.turn(2 * WINDOW)
    before = known(fleet)
    for n in range(4, 100):
        fleet.hear("shown", n, "d0")
        fleet.hear("opened", n, "d0")
    fleet.turn()
    assert fleet.turn(2 * WINDOW).outcomes is not None, "the log has them all the same"
    for name in ("models", "popularity", "lift"):
        assert_same(before[name], known(fleet)[name])
    assert fleet.ranking.learning.labels.dropped["limited"] == 96
    fleet.hear("shown", 50, "d1")
    fleet.turn()
    fleet.turn(2 * WINDOW)
    assert fleet.ranking.learning.lift.read().ranked > 3


def test_one_device_cannot_make_a_good_model_fall() -> None:
    """It may say what it likes: beyond its rate it judges nothing."""
    fleet = Fleet(8, replace(limited(per_hour=60.0), start=Rung.LIVE))
    fleet.teach(20)
    assert fleet.ranking.rung is Rung.LIVE
    events = []
    for turn in range(20):
        for n in range(1, 500):
            fleet.live[n] = record(1000 * (turn + 1) + n, fleet.now, "bad")
            fleet.hear("shown", n, "d0")
            fleet.hear("opened", n, "d0")
        fleet.turn()
        events += fleet.turn(2 * WINDOW).events
    assert not [event for event in events if event.to > event.from_]


def test_feedback_for_items_that_are_over_or_never_were_is_counted_and_else_nothing() -> None:
    fleet = Fleet(4)
    fleet.live = {1: record(1)}
    fleet.hear("shown", 1, "d0")
    fleet.turn()
    fleet.ranking.forget_items([1])
    fleet.live = {}
    fleet.hear("opened", 1, "d0")
    fleet.hear("shown", 1, "d1")
    fleet.hear("shown", 999, "d0")
    fleet.hear("opened", 998, "d2")
    fleet.turn()
    turn = fleet.turn(2 * WINDOW)
    assert turn.learned == 2, "what was shown before it was over still teaches"
    assert fleet.ranking.status()["dropped"]["unlearned"] == 2


def test_items_forgotten_between_a_report_and_the_turn_teach_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A publisher may publish any number of items that live for a second."""
    monkeypatch.setattr("feedgen.ranking.known._ITEMS", 64)
    fleet = Fleet(4)
    fleet.live = {1: record(1), 500: record(500)}
    fleet.hear("shown", 1, "d0")
    for n in range(2, 200):
        fleet.ranking.items.of(record(n))
    fleet.hear("shown", 500, "d0")
    fleet.turn()
    fleet.ranking.items.of(record(1))  # it is met again: there is no prediction of it all the same
    turn = fleet.turn(2 * WINDOW)
    assert turn.learned == 1
    assert turn.outcomes is not None
    assert np.isfinite(turn.outcomes.p).all()
    assert fleet.ranking.rung is Rung.LIVE
    assert fleet.ranking.status()["dropped"]["unlearned"] == 1


def test_a_device_that_moves_to_another_row_is_still_itself() -> None:
    """And who gets its row is not taken for it."""
    fleet = Fleet(6, replace(SETTINGS, holdout=0.5))
    people = fleet.ranking.people
    held_out = {name: people.holdout(*seat).item() for name, seat in fleet.seats.items()}
    one = next(name for name in fleet.names if held_out[name])
    other = next(name for name in fleet.names if not held_out[name])
    fleet.live = {1: record(1), 2: record(2)}
    fleet.hear("shown", 1, one)
    seat, device = fleet.seats[one], people.device(*fleet.seats[one])
    fleet.engine.unseat(fleet.seats[other])
    fleet.engine.unseat(seat)
    assert people.device(*seat) == 0
    fleet.seat(other)
    fleet.seat(one)
    fleet.hear("opened", 1, one)
    fleet.hear("shown", 2, other)
    fleet.turn()
    outcomes = fleet.turn(2 * WINDOW).outcomes
    assert outcomes is not None
    by_item = dict(zip(outcomes.n.tolist(), outcomes.device.tolist(), strict=True))
    assert by_item == {1: device, 2: people.device(*fleet.seats[other])}
    lift = fleet.ranking.learning.lift.read()
    assert (lift.ranked, lift.held_out) == (1, 1)
    assert lift.held_out_rate == 1


def test_a_device_with_ever_new_attributes_has_bounded_values() -> None:
    fleet = Fleet(2)
    for value in range(5000):
        fleet.engine.change(fleet.seats["d0"], attrs={"class": f"c{value}"})
    assert len(fleet.ranking.people.fields[0].tokens) <= MAX_VALUES + 1
    fleet.live = {1: record(1)}
    fleet.hear("shown", 1, "d0")
    fleet.turn()
    assert fleet.turn(2 * WINDOW).learned == 1


def test_what_was_predicted_before_the_first_snapshot_does_not_take_it_away() -> None:
    fleet = Fleet(4)
    fleet.live = {1: record(1)}
    fleet.hear("shown", 1, "d0")
    fleet.turn()
    ranking = fleet.ranking
    ranking.snapshot = ranking.live
    ranking.ladder.copied(Rung.LIVE, Rung.SNAPSHOT, fleet.now)
    fleet.turn(2 * WINDOW)
    assert ranking.ladder.standings[Rung.SNAPSHOT].fault is None


def test_memory_is_bounded_by_the_settings_however_much_is_said() -> None:
    settings = limited(max_pending=50, max_told=50)
    fleet = Fleet(4, settings)
    for turn in range(30):
        for n in range(40):
            number = 100 * turn + n
            fleet.live[number] = record(number)
            for name in fleet.names:
                fleet.hear("shown", number, name)
        fleet.turn(1.0)
    learning = fleet.ranking.learning
    assert learning.labels.pending + learning.labels.told <= 150
    assert len(learning._evidence) <= 150
    assert not learning._fresh


def test_nothing_is_learned_twice_when_a_label_is_corrected() -> None:
    """Feedback that comes after the outcome takes back what was learned and learns the other."""
    late, early = Fleet(3), Fleet(3)
    for fleet in (late, early):
        fleet.live = {1: record(1)}
        fleet.turn()
        fleet.hear("shown", 1, "d0")
    early.hear("opened", 1, "d0")
    for fleet in (late, early):
        fleet.turn()
        fleet.turn(2 * WINDOW)
    late.hear("opened", 1, "d0", age=2 * WINDOW)
    late.turn(0.0)
    rates = [fleet.ranking.status()["rate"] for fleet in (late, early)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-3)
    assert late.now > START
