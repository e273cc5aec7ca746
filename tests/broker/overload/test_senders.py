"""Publishers: budgets by the hour, and a fair cap at level 5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.overload import senders as module
from broker.overload.hourly import HOUR, Hourly
from broker.overload.senders import Senders, fair_cap

ANNA, BEN = ("anna", ""), ("", "sensor-7")


def senders(publisher_items: int = 0, publisher_bytes: int = 0) -> Senders:
    return Senders(publisher_items, publisher_bytes)


def test_without_budgets_everybody_is_read_on() -> None:
    state = senders()
    assert all(state.took(ANNA, 10**6, at / 1000) for at in range(1000))
    assert state.look(1.0, choke=False, late=True) == []


def test_half_of_a_budget_can_be_spent_at_once_and_the_other_half_comes_back() -> None:
    state = senders(publisher_items=20)
    reads = [state.took(ANNA, 1, 0.0) for _ in range(10)]
    assert reads == [True] * 9 + [False]
    assert state.stopped("budget") == ["anna"]
    assert state.took(BEN, 1, 0.0)
    assert state.look(359.0, choke=False, late=False) == []  # an item comes back in 360 s
    assert state.look(361.0, choke=False, late=False) == [ANNA]
    assert state.reads(ANNA)
    assert (state.stops, state.stopped("budget")) == ({"budget": 1, "overload": 0}, [])


def test_bytes_have_a_budget_too() -> None:
    state = senders(publisher_bytes=2000)
    assert state.took(BEN, 900, 0.0)
    assert not state.took(BEN, 900, 0.0)
    assert state.stopped("budget") == ["sensor-7"]
    assert state.look(2900.0, choke=False, late=False) == []  # 800 over, at 1000 an hour
    assert state.look(2950.0, choke=False, late=False) == [BEN]


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0, 30)), max_size=80), st.integers(2, 100))
def test_in_any_hour_no_more_than_the_budget_is_let_through(
    steps: list[tuple[float, float]], limit: int
) -> None:
    budget, now, spent = Hourly.full(limit, 0.0), 0.0, []
    for wait, amount in steps:
        now += wait
        if budget.open(now):
            budget.spend(amount, now)
            spent.append((now, amount))
    most = max((amount for _, amount in spent), default=0)
    for end, _ in spent:
        within = sum(amount for at, amount in spent if end - HOUR < at <= end)
        assert within <= limit + most + 1e-6  # the last one is known to be too much only afterwards


def test_at_level_five_who_sends_most_is_not_read_and_who_sends_little_is() -> None:
    state = senders()
    state.look(0.0, choke=True, late=True)
    for _ in range(500):
        state.took(ANNA, 1, 0.0)
    assert state.took(BEN, 1, 0.0)
    assert not state.reads(ANNA)
    assert state.stopped("overload") == ["anna"]


def test_who_is_not_read_is_read_again_once_the_recent_rate_has_fallen() -> None:
    state = senders()
    state.look(0.0, choke=True, late=True)
    for _ in range(500):
        state.took(ANNA, 1, 0.0)
    found = [state.look(at / 10, choke=True, late=False) for at in range(1, 200)]
    assert [ANNA] in found
    assert found.index([ANNA]) > 5


def test_all_are_read_again_when_the_level_falls() -> None:
    state = senders()
    state.look(0.0, choke=True, late=True)
    for source in (ANNA, BEN):
        for _ in range(500):
            state.took(source, 1, 0.0)
    assert set(state.look(0.1, choke=False, late=False)) == {ANNA, BEN}
    assert state.cap is None


def test_who_sends_urgent_items_alone_is_known_for_it() -> None:
    state = senders()
    state.took(ANNA, 1, 0.0, urgent=True)
    assert state.urgent_alone(ANNA)
    state.took(ANNA, 1, 0.0)
    state.took(ANNA, 1, 0.1, urgent=True)
    assert not state.urgent_alone(ANNA)
    state.took(ANNA, 1, 5.0, urgent=True)
    assert state.urgent_alone(ANNA)
    assert not state.urgent_alone(BEN)


def test_urgent_items_do_not_count() -> None:
    state = senders()
    state.look(0.0, choke=True, late=True)
    assert all(state.took(ANNA, 1, 0.0, urgent=True) for _ in range(5000))


def test_the_cap_falls_while_the_server_is_late_and_rises_while_it_is_not() -> None:
    state = senders()
    for at in range(1000):
        state.took(ANNA, 1, at / 1000)
    caps = []
    for late in (True, True, True, False, False):
        state.look(1.0, choke=True, late=late)
        caps.append(state.cap or 0.0)
    assert caps[0] > caps[1] > caps[2] < caps[3] < caps[4]


def test_publishers_that_are_told_apart_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    state = senders(publisher_items=2)
    assert not state.took(ANNA, 1, 0.0)
    for n in range(10):
        state.took(("", f"client-{n}"), 1, 0.0)
    assert len(state._senders) == 3
    assert state.reads(ANNA)
    assert ANNA in state.look(0.0, choke=False, late=False)  # its connections are read again


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.floats(0.1, 5000))
def test_a_fair_cap_lets_through_as_much_as_may_be_and_touches_the_modest_last(
    rates: list[float], total: float
) -> None:
    cap = fair_cap(rates, total)
    assert sum(min(rate, cap) for rate in rates) == pytest.approx(min(total, sum(rates)))


def test_of_another_budget_the_same_share_is_left() -> None:
    budget = Hourly.full(20, 0.0)
    budget.spend(4, 0.0)
    budget.change(200, 0.0)
    assert (budget.limit, budget.left) == (200, 60.0)
    budget.change(0, 0.0)
    assert budget.open(0.0)
    budget.change(10, 0.0)
    assert budget.left == 5.0


def test_who_was_stopped_for_a_budget_is_read_again_when_it_is_raised_enough_or_gone() -> None:
    state = senders(publisher_items=20)
    for _ in range(10):
        state.took(ANNA, 1, 0.0)
    assert not state.reads(ANNA)
    state.adopt(1_000, 0, 0.0)  # nothing of it is left either
    assert state.look(0.0, choke=False, late=False) == []
    state.adopt(0, 0, 0.0)
    assert state.look(0.0, choke=False, late=False) == [ANNA]
    assert state.took(BEN, 1, 0.0)
