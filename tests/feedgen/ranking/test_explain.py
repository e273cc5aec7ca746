"""Why an item has its rank: parts that add up to what served."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest

from feedgen.ranking.ladder import Rung
from tests.feedgen.ranking_cases import CHANNELS, SETTINGS, Fleet, pinned, record


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    fleet = Fleet(9, replace(SETTINGS, explore=0.5))
    fleet.teach(30)
    fleet.publish(*(record(n, fleet.now + n, CHANNELS[n % 3]) for n in range(1, 25)))
    return fleet


def test_parts_add_up_to_the_probability_that_served(fleet: Fleet) -> None:
    served = fleet.ranking.served
    assert served is not None
    tables = served.heads[0].tables
    for name in fleet.names:
        records = list(fleet.live.values())
        for each in fleet.ranking.explain(*fleet.seats[name], records, fleet.now):
            logit = sum(added for _, added in each.parts)
            learned = tables.share / (1 + exp(-logit))
            # Dozens of parts are too small to be told.
            assert each.probability == pytest.approx(
                learned + (1 - tables.share) * tables.rate, abs=0.02
            )
            sizes = [abs(added) for _, added in each.parts]
            assert sizes == sorted(sizes, reverse=True)


def test_what_speaks_for_an_item_is_named(fleet: Fleet) -> None:
    (found,) = fleet.ranking.explain(*fleet.seats["d1"], [record(3)], fleet.now)
    parts = dict(found.parts)
    bad = dict(
        fleet.ranking.explain(*fleet.seats["d1"], [record(5, channel="bad")], fleet.now)[0].parts
    )
    assert parts["channel good"] > 0 > bad["channel bad"]
    assert "average of all" in parts
    assert "this device x channel good" in parts
    assert not [name for name in parts if name.startswith(("item.", "device.", "context."))]


def test_keys_are_what_the_explanation_says(fleet: Fleet) -> None:
    plain = Fleet(9)
    plain.ranking.live = fleet.ranking.live.__class__(
        [head.tables for head in fleet.ranking.live.heads], SETTINGS
    )
    plain.now = fleet.now
    plain.publish(*fleet.live.values())
    for name in ("d1", "d2", "d3"):
        seat = plain.seats[name]
        records = list(plain.live.values())
        bonus = plain.engine._state.baseline.by_level[0]
        offset = plain.engine._state.baseline.by_priority[1]
        landmark = plain.engine._landmark
        held = plain.held(name)
        for each, shown in zip(
            plain.ranking.explain(*seat, records, plain.now), records, strict=True
        ):
            if shown.n in held:
                ticks = held[shown.n] - bonus - offset
                ticks -= (shown.published_ms - 1000 * landmark) // 10
                assert abs(ticks - each.term - each.personal) <= 3


def test_a_device_that_is_held_out_is_told_so() -> None:
    fleet = Fleet(3, replace(SETTINGS, holdout=1.0))
    fleet.teach(5)
    (found,) = fleet.ranking.explain(*fleet.seats["d0"], [record(1, fleet.now)], fleet.now)
    assert found.held_out
    assert found.probability is None
    assert found.personal == -found.term
    assert found.parts == ()


@pytest.mark.parametrize("rung", [Rung.POPULARITY, Rung.NEWEST])
def test_where_no_model_serves_there_is_no_probability(fleet: Fleet, rung: Rung) -> None:
    pinned(fleet, rung)
    found = fleet.ranking.explain(*fleet.seats["d0"], list(fleet.live.values()), fleet.now)
    pinned(fleet, None)
    assert {(each.probability, each.personal, each.parts) for each in found} == {(None, 0, ())}


def test_asking_why_changes_nothing(fleet: Fleet) -> None:
    fleet.ranking.merit.clear()
    for name in fleet.names:
        fleet.ranking.explain(*fleet.seats[name], list(fleet.live.values()), fleet.now)
    assert not fleet.ranking.merit
