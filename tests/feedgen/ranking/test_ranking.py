"""The learned ranking as a whole: what serves when, what it keeps, and what it says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from feedgen.engine import SHELVES
from feedgen.ranking.ladder import Reason, Rung
from feedgen.ranking.model import ModelSettings
from feedgen.ranking.ranking import Ranking
from feedgen.store import state_file
from tests.feedgen.model_cases import assert_same
from tests.feedgen.ranking_cases import (
    CHANNELS,
    SETTINGS,
    START,
    WINDOW,
    Fleet,
    pinned,
    record,
    rows_of,
)

if TYPE_CHECKING:
    from pathlib import Path

ENOUGH = 60
"""Rounds after which a model is known to be good, and a wrong one to be wrong."""


def quick(**options: float) -> Fleet:
    """Return a fleet whose ranking makes up its mind in minutes."""
    ladder = replace(SETTINGS.ladder, climb_events=200, climb_seconds=10.0, snapshot_after=10.0)
    return Fleet(40, replace(SETTINGS, ladder=replace(ladder, **options)))


def served(fleet: Fleet, at: float) -> list[float | None]:
    """Return the probabilities that new items of all channels are opened, as they serve."""
    records = [record(n, at, channel) for n, channel in enumerate(CHANNELS, 1)]
    found = fleet.ranking.explain(*fleet.seats["d1"], records, at)
    return [each.probability for each in found]


def stored(ranking: Ranking, path: Path) -> dict:
    """Return a state as it comes back from its file."""
    state_file.save(path, "ranking", 1, ranking.state())
    state = state_file.load(path, "ranking", 1)
    assert state is not None
    return state


def test_a_model_that_is_made_wrong_falls_and_comes_back_when_it_is_right_again() -> None:
    fleet = quick(snapshot_every=10.0)
    assert not fleet.teach(ENOUGH)
    assert fleet.ranking.snapshot is not None
    events = fleet.teach(ENOUGH, seed=1, inverted=True)
    falls = [event for event in events if event.to > event.from_]
    assert falls
    assert falls[0].from_ is Rung.LIVE
    assert falls[0].numbers["calibration_from"] > 0
    for seed in range(2, 8):
        events += fleet.teach(ENOUGH, seed=seed)
        if fleet.ranking.rung is Rung.LIVE:
            break
    assert fleet.ranking.rung is Rung.LIVE
    assert events[-1].reason is Reason.WON_SHADOW


def test_a_snapshot_serves_what_was_learned_when_it_was_taken() -> None:
    fleet = quick()
    fleet.teach(ENOUGH)
    ranking = fleet.ranking
    frozen = ranking.snapshot = ranking.live
    ranking.ladder.copied(Rung.LIVE, Rung.SNAPSHOT, fleet.now)
    pinned(fleet, Rung.SNAPSHOT)
    liked = served(fleet, START)
    ranking.ladder._snapshot = fleet.now + 1e9  # none is due any more
    fleet.teach(10, seed=3, inverted=True)
    assert ranking.live is not frozen
    assert ranking.served is frozen
    assert served(fleet, START) == liked
    pinned(fleet, Rung.LIVE)
    assert served(fleet, START) != liked


@pytest.mark.parametrize("rung", [Rung.LIVE, Rung.SNAPSHOT, Rung.POPULARITY, Rung.NEWEST])
def test_a_ranking_goes_on_where_it_was_stopped(rung: Rung, tmp_path: Path) -> None:
    fleet = quick(snapshot_every=10.0)
    fleet.teach(ENOUGH)
    ranking = fleet.ranking
    ranking.ladder.chosen = rung
    again = Ranking(fleet.settings, shelves=len(SHELVES))
    again.restore(stored(ranking, tmp_path / "state"))
    turn = again.turn(fleet.now)
    assert not turn.events
    assert again.rung is rung
    assert again.version > ranking.version
    before, after = ranking.state(), again.state()
    for name in ("models", "publishers", "popularity", "lift", "names"):
        assert_same(before[name], after[name])
    for one, other in zip(before["snapshot"], after["snapshot"], strict=True):
        assert_same(one, other)
    # Both serve the same: what is learned is taken over by a restart at the latest.
    ranking._take_over(fleet.now)
    ranking.forget_computed()
    some = [record(n, fleet.now, CHANNELS[n % 3]) for n in range(1, 10)]
    assert [ranking.term(each) for each in some] == [again.term(each) for each in some]


def test_without_the_snapshot_that_should_serve_the_next_rung_does(tmp_path: Path) -> None:
    fleet = quick()
    fleet.teach(ENOUGH)
    fleet.ranking.ladder.chosen = Rung.SNAPSHOT
    fleet.ranking.snapshot = None
    again = Ranking(fleet.settings, shelves=len(SHELVES))
    again.restore(stored(fleet.ranking, tmp_path / "state"))
    assert again.term(record(1)) == 0, "until the first turn: newest first"
    event = again.turn(fleet.now).events[0]
    assert (event.from_, event.reason) == (Rung.SNAPSHOT, Reason.UNAVAILABLE)
    assert again.rung in (Rung.POPULARITY, Rung.NEWEST)
    again.ladder.pin(Rung.SNAPSHOT, fleet.now)
    again.turn(fleet.now)
    assert again.rung is not Rung.SNAPSHOT, "what is not there cannot be held"


def test_a_state_of_other_weights_is_refused_and_other_fields_are_learned_anew(
    tmp_path: Path,
) -> None:
    fleet = quick(snapshot_every=10.0)
    fleet.teach(ENOUGH)
    state = stored(fleet.ranking, tmp_path / "state")
    larger = Ranking(replace(SETTINGS, model=ModelSettings(bits=13)), shelves=1)
    with pytest.raises(ValueError, match=r"2\^12"):
        larger.restore(state)
    other = Fleet(8, replace(SETTINGS, fields=("colour", "size")))
    other.ranking.restore(state)
    other.now = fleet.now
    other.teach(3, seed=9)
    other.publish(record(1, other.now, "bad"), record(2, other.now - 60, "good"))
    assert other.window("d1") == [2, 1], "channels are known whatever the devices are"


@pytest.mark.parametrize("damage", ["missing", "foreign", "not numbers"])
def test_a_damaged_state_is_refused(damage: str, tmp_path: Path) -> None:
    fleet = Fleet(4)
    fleet.teach(3)
    state = stored(fleet.ranking, tmp_path / "state")
    if damage == "missing":
        del state["ladder"]
    elif damage == "foreign":
        state["popularity"] = 7
    else:
        state["models"]["open"]["table"]["mean"][3] = np.nan
    with pytest.raises(ValueError, match="damaged"):
        Ranking(SETTINGS, shelves=1).restore(state)


@pytest.mark.parametrize("holdout", [0.0, 1.0])
def test_nobody_or_everybody_may_be_held_out(holdout: float) -> None:
    fleet = Fleet(8, replace(SETTINGS, holdout=holdout))
    fleet.teach(5)
    fleet.publish(*(record(n, fleet.now + n, CHANNELS[n % 3]) for n in range(1, 20)))
    assert fleet.ranking.learning.lift.read().lift is None
    for name in fleet.names:
        if holdout:
            assert fleet.window(name) == fleet.newest(name)
    json.dumps(fleet.ranking.status(), allow_nan=False)


def test_the_status_is_json_whatever_is_known() -> None:
    fleet = Fleet(4)
    json.dumps(fleet.ranking.status(), allow_nan=False)
    fleet.live = {1: record(1)}
    fleet.hear("shown", 1, "d0")
    fleet.turn()
    said = json.loads(json.dumps(fleet.ranking.status(), allow_nan=False))
    assert said["publishers"]["shares"][0]["ratio"] is None, "shown, but nothing was merited yet"
    fleet.turn(2 * WINDOW)
    fleet.teach(5)
    json.dumps(fleet.ranking.status(), allow_nan=False)


def test_a_ranking_that_learns_through_a_jump_of_a_year_goes_on() -> None:
    fleet = Fleet(8)
    fleet.teach(10)
    fleet.now += 365 * 86_400.0
    fleet.teach(10, seed=1)
    version = fleet.ranking.version
    fleet.teach(10, seed=2)
    assert fleet.ranking.version > version
    good, bad = (record(n, fleet.now, channel) for n, channel in ((1, "good"), (2, "bad")))
    assert fleet.ranking.term(good) > fleet.ranking.term(bad)


def test_the_cost_of_corrections_is_known_by_windows_as_they_stand() -> None:
    fleet = quick()
    fleet.teach(ENOUGH)
    fleet.publish(*(record(n, fleet.now, CHANNELS[n % 3]) for n in range(1, 30)))
    shelf = fleet.seats["d1"].shelf
    rows = rows_of(fleet, fleet.names, shelf)
    held = fleet.engine.held(shelf, rows)
    fleet.ranking.compare(held, fleet.live, shelf, rows, fleet.now)
    cost = fleet.ranking.publishers.cost()
    assert cost is not None
    assert cost < 0.5
    fleet.ranking.compare(held, {}, shelf, rows, fleet.now)
    assert fleet.ranking.publishers.cost() == cost, "nothing known, nothing compared"


def test_of_one_publisher_what_is_newer_stands_above_also_while_it_becomes_known() -> None:
    """Its boost falls for all its items at one moment, not for those alone that come later."""
    ranking = Ranking(SETTINGS, shelves=len(SHELVES))
    ranking.turn(START)
    boosts = []
    for n in range(1, 5):
        new = record(n, START + n, publisher="press")
        boosts.append(ranking.correction(new))
        ranking.publishers.exposed(np.full(40, ranking.items.of(new).publisher))
        ranking.turn(START + n)
    assert boosts[0] > 0
    assert boosts == boosts[:1] * 4
    late = record(5, START + 61, publisher="press")
    assert ranking.turn(START + 61).all_terms, "older items get what new ones have"
    assert ranking.correction(late) < boosts[0]
