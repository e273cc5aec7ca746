"""Windows of which only the urgent part is sent; and rows whose changes are gathered."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from broker.overload.held_back import first_difference, urgent_changes, with_urgent
from devices import slots

K = 4


def slot(n: int, priority: int = 1, version: int = 0) -> int:
    return slots.pack(n, version, priority)


def matrix(*windows: list[int]) -> np.ndarray:
    return np.array([[*window, *[0] * (K - len(window))] for window in windows], np.int64)


def test_the_first_difference_is_the_best_rank_that_changes() -> None:
    a, b, c = slot(1), slot(2), slot(3)
    tip = matrix([a, b], [a, b], [a, b], [])
    target = matrix([a, b], [a, c, b], [b], [a])
    assert first_difference(tip, target).tolist() == [K, 1, 0, 0]


def test_an_urgent_item_is_noticed_if_the_device_does_not_hold_it() -> None:
    a, urgent, newer = slot(1), slot(2, 3), slot(2, 3, 1)
    tip = matrix([a], [urgent, a], [urgent, a])
    target = matrix([urgent, a], [urgent, a], [newer, a])
    assert urgent_changes(tip, target).tolist() == [True, False, True]


def test_urgent_items_are_put_in_and_everything_else_stays() -> None:
    a, b, c, new, urgent = slot(1), slot(2), slot(3), slot(4), slot(5, 3)
    goal = with_urgent([a, b, c], [urgent, new, a], K, lambda _: True)
    assert goal == [urgent, a, b, c]
    assert with_urgent([a, b, c], [urgent, new, a], 3, lambda _: True) == [urgent, a, b]


def test_what_has_ended_goes_and_what_cannot_be_encoded_any_more_is_replaced() -> None:
    old, newer, over, urgent = slot(1), slot(1, version=1), slot(2), slot(5, 3)
    assert with_urgent([old, over], [urgent, newer], K, {newer, urgent}.__contains__) == [
        urgent,
        newer,
    ]


windows = st.lists(
    st.builds(slot, st.integers(1, 9), st.integers(0, 3), st.integers(0, 2)),
    max_size=K,
    unique_by=slots.number,
)


@given(windows, windows, st.sets(st.integers(1, 9)))
def test_a_window_with_urgent_items_alone_is_a_window(
    tip: list[int], target: list[int], unknown: set[int]
) -> None:
    goal = with_urgent(tip, target, K, lambda s: s in target or slots.number(s) not in unknown)
    assert len(goal) <= K
    assert len({slots.number(s) for s in goal}) == len(goal)
    urgent = [s for s in target if slots.priority(s) == 3]
    assert [s for s in goal if s in urgent] == urgent
    assert set(goal) <= {*tip, *target}
