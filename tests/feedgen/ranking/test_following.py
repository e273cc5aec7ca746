"""A ranking that serves what another one has learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feedgen.engine import SHELVES
from feedgen.ranking import blobs
from feedgen.ranking.following import Adopted, Following, packed, packed_snapshot, read_snapshot
from feedgen.ranking.ladder import Rung
from feedgen.ranking.model import ModelSettings
from feedgen.ranking.rungs import Reason
from tests.feedgen.ranking_cases import SETTINGS, START, Fleet, record


def taught(settings: Any = SETTINGS) -> Fleet:
    """A fleet whose ranking has learned what devices like."""
    fleet = Fleet(12, settings)
    fleet.publish(
        *(record(n, START + n, channel) for n, channel in enumerate(["good", "bad"] * 4, 1))
    )
    fleet.teach(30)
    fleet.turn(SETTINGS.refresh)
    return fleet


def given(fleet: Fleet, moved: Any = (), *, all_moved: bool = False) -> bytes:
    return packed(fleet.ranking.served_state(moved, all_moved=all_moved))


def followers(fleet: Fleet, settings: Any = None) -> Fleet:
    """The same devices and items at another server."""
    settings = settings or fleet.settings
    other = Fleet(12, settings, Following(settings, shelves=len(SHELVES)))
    other.now = fleet.now
    other.ranking.tick(fleet.now)
    other.publish(*fleet.live.values())
    return other


def adopt(other: Fleet, blob: bytes) -> list[Any]:
    return other.ranking.adopt(Adopted.read(blob, other.settings), other.now)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return taught()


def test_what_was_learned_ranks_windows_elsewhere_as_it_does_here(fleet: Fleet) -> None:
    other = followers(fleet)
    before = {name: other.window(name) for name in other.names}
    adopt(other, given(fleet))
    fleet.rank_anew()
    other.rank_anew()
    assert {name: other.window(name) for name in other.names} != before
    for name in fleet.names:
        assert other.window(name) == fleet.window(name)
        items = list(fleet.live.values())
        here, there = (
            each.ranking.explain(*each.seats[name], items, fleet.now) for each in (fleet, other)
        )
        for one, same in zip(here, there, strict=True):
            assert same.probability == pytest.approx(one.probability, rel=2e-3)


def test_a_version_is_taken_over_with_all_that_belongs_to_it(fleet: Fleet) -> None:
    other = followers(fleet)
    adopted = Adopted.read(given(fleet, {3, 5}), fleet.settings)
    assert (adopted.moved, adopted.all_moved) == ({3, 5}, False)
    assert Adopted.read(given(fleet, all_moved=True), fleet.settings).all_moved
    other.ranking.adopt(adopted, other.now)
    ranking, origin = other.ranking, fleet.ranking
    assert ranking.version == origin.version
    assert ranking.popularity.ticks(10**6, 0.3) == origin.popularity.ticks(10**6, 0.3) != 0
    for item in fleet.live.values():
        assert ranking.correction(item) == origin.correction(item)
    assert ranking.status()["learned"] == origin.status()["learned"]


def test_nothing_computed_for_the_version_before_is_served(fleet: Fleet) -> None:
    other = followers(fleet)
    item = fleet.live[2]
    assert other.ranking.term(item) == other.ranking.correction(item), "nothing is known"
    adopt(other, given(fleet))
    assert other.ranking.term(item) == pytest.approx(fleet.ranking.term(item), rel=0.01, abs=50)
    assert other.ranking.term(item) != 0


def test_another_rung_is_followed_and_said_once(fleet: Fleet) -> None:
    other = followers(fleet)
    assert adopt(other, given(fleet)) == []
    origin = taught()
    origin.ranking.ladder.chosen = Rung.POPULARITY
    (event,) = adopt(other, given(origin))
    assert (event.from_, event.to, event.reason) == (Rung.LIVE, Rung.POPULARITY, Reason.FOLLOWS)
    assert adopt(other, given(origin)) == []


def test_what_is_pinned_here_and_what_the_load_demands_stays(fleet: Fleet) -> None:
    other = followers(fleet)
    (event,) = other.ranking.pin(Rung.NEWEST, other.now)
    assert event.reason is Reason.PINNED
    assert adopt(other, given(fleet)) == []
    assert other.ranking.rung is Rung.NEWEST
    assert other.ranking.status()["pinned"] == "newest"
    other.ranking.ladder.at_least(Rung.POPULARITY, other.now)
    (event,) = other.ranking.pin(None, other.now)
    assert event.to is Rung.POPULARITY
    adopt(other, given(fleet))
    assert other.ranking.rung is Rung.POPULARITY


def test_the_snapshot_goes_its_own_way(fleet: Fleet) -> None:
    other = followers(fleet)
    other.ranking.adopt_snapshot(read_snapshot(packed_snapshot(fleet.ranking.live), fleet.settings))
    other.ranking.pin(Rung.SNAPSHOT, other.now)
    items, seat = list(fleet.live.values()), fleet.seats["d1"]
    here, there = (each.ranking.explain(*seat, items, fleet.now) for each in (fleet, other))
    for one, same in zip(here, there, strict=True):
        assert same.probability == pytest.approx(one.probability, rel=2e-3)


def test_devices_that_are_held_out_are_the_same_everywhere() -> None:
    settings = replace(SETTINGS, holdout=0.5, seed=9)
    fleet = taught(settings)
    other = followers(fleet)
    adopt(other, given(fleet))
    for each in (fleet, other):
        each.rank_anew()
    plain = [name for name in fleet.names if fleet.window(name) == fleet.newest(name)]
    held = [name for name in fleet.names if other.window(name) == other.newest(name)]
    assert plain == held
    assert 0 < len(held) < 12


def test_what_windows_cost_is_noted_for_the_trainer(fleet: Fleet) -> None:
    other = followers(fleet)
    adopt(other, given(fleet))
    other.rank_anew()
    shelf, row = other.seats["d0"]
    rows = np.array([row], np.int32)
    other.ranking.compare(other.engine.held(shelf, rows), other.live, shelf, rows, other.now)
    corrected, uncorrected = other.ranking.take_compared()
    assert corrected > 0
    assert uncorrected > 0
    assert other.ranking.take_compared() == (0.0, 0.0)


# ---- What is refused


def test_heads_of_another_size_are_refused(fleet: Fleet) -> None:
    others = replace(SETTINGS, model=ModelSettings(bits=10))
    with pytest.raises(ValueError, match=r"2\^12"):
        Adopted.read(given(fleet), others)
    with pytest.raises(ValueError, match=r"2\^12"):
        read_snapshot(packed_snapshot(fleet.ranking.live), others)


@pytest.mark.parametrize(
    "part", ["live", "popularity", "publishers", "channels", "ladder", "moved", "report", "version"]
)
@pytest.mark.parametrize("instead", [None, [], {}, "x"])
def test_a_ranking_with_a_damaged_part_is_refused(fleet: Fleet, part: str, instead: Any) -> None:
    state = blobs.unpack(given(fleet), "served", 1)
    if (part, instead) in (("report", {}), ("report", [])):
        return  # nothing to report
    with pytest.raises(ValueError, match=r"."):
        Adopted.read(blobs.pack("served", 1, {**state, part: instead}), SETTINGS)


def test_heads_of_what_are_no_numbers_are_refused(fleet: Fleet) -> None:
    state = fleet.ranking.served_state((), all_moved=False)
    bad = np.full_like(state["live"][0]["weights"], np.nan)
    state["live"][0] = {**state["live"][0], "weights": bad}
    with pytest.raises(ValueError, match="no numbers"):
        Adopted.read(packed(state), SETTINGS)


def test_a_snapshot_that_is_none_is_refused() -> None:
    for heads in (None, [], [1, 2, 3]):
        with pytest.raises(ValueError, match=r"."):
            read_snapshot(blobs.pack("snapshot", 1, {"heads": heads}), SETTINGS)
