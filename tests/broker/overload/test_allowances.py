"""Budgets and quiet hours of devices, by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.config_overload import BudgetSettings
from broker.overload.allowances import Allowances

K = 8


def allowances(rows: int = 3, attrs: dict[str, str] | None = None, **budgets: Any) -> Allowances:
    made = Allowances(BudgetSettings(**budgets), size=2)
    for row in range(rows):
        made.seat(row, f"device-{row}", attrs or {}, 0.0)
    return made


def rows_of(*rows: int) -> Any:
    return np.array(rows, np.int32)


def passes(state: Allowances, row: int, rank: int, now: float = 0.0) -> bool:
    k = np.array([K], np.uint8)
    return bool(state.passes(rows_of(row), np.array([rank]), k, now)[0])


def spend(state: Allowances, row: int, frames: int, octets: int = 100, now: float = 0.0) -> None:
    for _ in range(frames):
        state.spend(rows_of(row), np.array([octets]), now)


def test_without_budgets_and_quiet_hours_there_is_nothing_to_look_at() -> None:
    assert not allowances().active
    assert allowances(device_frames=10).active
    assert allowances(attrs={"quiet": "22-7"}).active
    assert not allowances(attrs={"quiet": "22-7"}, quiet_hours=False).active


def test_a_device_that_has_spent_its_budget_waits_until_some_of_it_is_back() -> None:
    state = allowances(device_frames=20)
    assert passes(state, 0, rank=0)
    spend(state, 0, frames=10)
    assert not passes(state, 0, rank=0)
    assert passes(state, 1, rank=0)
    assert list(state.due(359.0)) == []  # a frame comes back in 360 s
    assert (state.put_off, state.describe(0, 0.0)["waiting"]) == (1, True)
    assert list(state.due(361.0)) == [0]
    assert not state.describe(0, 361.0)["waiting"]


def test_what_a_device_asks_for_and_what_changes_nothing_does_not_wait() -> None:
    state = allowances(device_frames=20)
    spend(state, 0, frames=10)
    asked = np.array([True])
    assert state.passes(rows_of(0), np.array([0]), np.array([K], np.uint8), 0.0, asked).all()
    assert passes(state, 0, rank=K)
    assert (state.put_off, state.waiting.any()) == (0, False)


def test_the_less_is_left_the_better_a_change_must_rank() -> None:
    state = allowances(device_frames=40)
    lowest = []
    for _ in range(20):
        lowest.append(max((rank for rank in range(K) if passes(state, 0, rank)), default=-1))
        spend(state, 0, frames=1)
    assert lowest == sorted(lowest, reverse=True)
    assert (lowest[0], lowest[10], lowest[-1]) == (K - 1, K - 1, 0)


def test_bytes_count_as_well_as_frames() -> None:
    state = allowances(device_frames=1000, device_bytes=1000)
    spend(state, 0, frames=1, octets=600)
    assert not passes(state, 0, rank=0)


def test_a_debt_is_never_more_than_what_can_be_spent_at_once() -> None:
    state = allowances(device_frames=20)
    spend(state, 0, frames=1000)
    assert list(state.due(3600.0)) == []
    passes(state, 0, rank=0, now=3600.0)
    assert list(state.due(2 * 3600.0)) == [0]


def test_in_quiet_hours_nothing_passes_and_afterwards_what_waited_is_due() -> None:
    state = allowances(rows=1, attrs={"quiet": "0-1"})
    assert not passes(state, 0, rank=0)
    assert list(state.due(3599.0)) == []
    assert list(state.due(3600.0)) == [0]
    assert passes(state, 0, rank=0, now=3600.0)


def test_a_device_may_change_its_quiet_hours() -> None:
    state = allowances(rows=1, attrs={"quiet": "0-1"})
    state.change(0, {"quiet": "5-6"}, 0.0)
    assert passes(state, 0, rank=0)
    state.change(0, {}, 0.0)
    assert not state.active


def test_a_device_takes_its_budget_along_when_its_row_is_given_back() -> None:
    state = allowances(rows=1, device_frames=20)
    spend(state, 0, frames=10)
    state.unseat(0, "device-0")
    state.seat(0, "another", {}, 1.0)
    assert passes(state, 0, rank=0, now=1.0)
    state.seat(5, "device-0", {}, 1.0)
    assert not passes(state, 5, rank=0, now=1.0)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 900), st.integers(0, K - 1)), max_size=100), st.integers(2, 40)
)
def test_in_any_hour_a_device_gets_no_more_frames_than_its_budget(
    steps: list[tuple[float, int]], limit: int
) -> None:
    state, now, sent = allowances(rows=1, device_frames=limit), 0.0, []
    for wait, rank in steps:
        now += wait
        if passes(state, 0, rank, now):
            spend(state, 0, frames=1, now=now)
            sent.append(now)
    for end in sent:
        assert sum(end - 3600 < at <= end for at in sent) <= limit


def test_of_another_budget_the_same_share_is_left() -> None:
    state = allowances(device_frames=20, device_bytes=1_000)
    spend(state, 0, frames=4, octets=25)  # of 10 and 500
    assert state.describe(0, 0.0)["left"] == 0.6
    assert not state.adopt(BudgetSettings(device_frames=200, device_bytes=1_000), 0.0)
    assert state.describe(0, 0.0)["left"] == 0.6
    spend(state, 0, frames=20, octets=0)
    assert state.describe(0, 0.0)["left"] == 0.4
    assert state.describe(1, 0.0)["left"] == 1.0


def test_frames_and_bytes_that_are_left_are_told_apart() -> None:
    state = allowances(device_frames=20, device_bytes=1_000)
    spend(state, 0, frames=3, octets=200)
    found = state.describe(0, 0.0)
    assert found["frames"] == {"left": 7, "at_once": 10, "an_hour": 20}
    assert found["bytes"] == {"left": -100, "at_once": 500, "an_hour": 1_000}
    assert found["left"] == -0.2  # the scarcer one decides
    later = state.describe(0, 1_800.0)
    assert (later["frames"]["left"], later["bytes"]["left"]) == (10, 150)


def test_what_has_no_limit_has_nothing_left_to_tell() -> None:
    found = allowances(device_bytes=1_000).describe(0, 0.0)
    assert found["frames"] is None
    assert found["bytes"] == {"left": 500, "at_once": 500, "an_hour": 1_000}


def test_a_budget_that_there_was_not_before_is_whole() -> None:
    state = allowances()
    spend(state, 0, frames=100)
    state.adopt(BudgetSettings(device_frames=20), 10.0)
    assert state.describe(0, 10.0)["left"] == 1.0


def test_who_waited_for_a_budget_that_is_no_more_waits_no_longer() -> None:
    state = allowances(device_frames=20)
    spend(state, 0, frames=10)
    assert not passes(state, 0, rank=0)
    state.adopt(BudgetSettings(), 0.0)
    assert state.active
    assert list(state.due(0.0)) == [0]
    assert not state.active


def test_a_device_that_parted_comes_back_to_its_share_of_the_other_budget() -> None:
    state = allowances(device_frames=20)
    spend(state, 0, frames=5)
    state.unseat(0, "device-0")
    state.adopt(BudgetSettings(device_frames=40), 0.0)
    state.seat(0, "device-0", {}, 0.0)
    assert state.describe(0, 0.0)["left"] == 0.5


def test_whether_quiet_hours_count_is_told_for_each_row_to_look_again() -> None:
    state = allowances(quiet_hours=True)
    assert state.adopt(BudgetSettings(quiet_hours=False), 0.0)
    assert not state.adopt(BudgetSettings(quiet_hours=False), 0.0)
