"""What is drawn for a round."""

from __future__ import annotations

from random import Random

import pytest

from simulator.faults.plan import (
    AT_ONE_SERVER,
    MEANING,
    Kind,
    draw,
    toxic_of,
)

EVERY = AT_ONE_SERVER
TOXICS = (
    Kind.LATENCY,
    Kind.BANDWIDTH,
    Kind.SLOW_CLOSE,
    Kind.TIMEOUT,
    Kind.RESET_PEER,
    Kind.SLICER,
    Kind.LIMIT_DATA,
)


def test_a_seed_always_draws_the_same_round() -> None:
    assert [draw(seed, EVERY) for seed in range(50)] == [draw(seed, EVERY) for seed in range(50)]
    plan = draw(7, EVERY)
    assert plan.rng("a").random() == plan.rng("a").random() != plan.rng("b").random()


@pytest.mark.parametrize("first", [0, 1, 1_000, 123_457])
def test_fifty_rounds_have_every_kind_and_half_of_them_kill(first: int) -> None:
    plans = [draw(seed, EVERY) for seed in range(first, first + 50)]
    assert {kind for plan in plans for kind in plan.kinds} == set(EVERY)
    assert sum(plan.kinds[0] is Kind.KILL for plan in plans) == 25


def test_faults_happen_while_clients_are_busy() -> None:
    for seed in range(200):
        plan = draw(seed, EVERY)
        assert 0 < plan.strike < plan.seconds < 1.5
        assert 0 < plan.lasts < 1


def test_what_cannot_be_had_is_not_drawn() -> None:
    available = [kind for kind in EVERY if kind is not Kind.CLOCK]
    assert not any(Kind.CLOCK in draw(seed, available).kinds for seed in range(300))


def test_one_kind_alone_can_be_asked_for() -> None:
    assert {draw(seed, EVERY, only=Kind.SLICER).kinds for seed in range(40)} == {(Kind.SLICER,)}


def test_where_the_server_itself_fails_nobody_is_expected_to_be_well() -> None:
    assert draw(0, EVERY, only=Kind.KILL).outage
    assert draw(0, EVERY, only=Kind.DISK_FULL).outage
    assert not draw(0, EVERY, only=Kind.SLICER).outage


def test_every_kind_is_explained() -> None:
    assert set(MEANING) == set(Kind)


@pytest.mark.parametrize("kind", Kind)
def test_toxics_are_those_of_toxiproxy(kind: Kind) -> None:
    drawn = [toxic_of(kind, Random(seed)) for seed in range(30)]
    if kind not in TOXICS:
        assert drawn == [None] * 30
        return
    names = {type(one[0]).__name__ for one in drawn if one}
    assert {name.lower() for name in names} == {kind.value.replace("_", "")}
    assert {one[1] for one in drawn if one} == {"upstream", "downstream"}
