"""Gathered rows: each once, in turns, and none for ever."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from broker.overload.coalescing import Gathered


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.lists(st.integers(0, 300), max_size=20))),
    st.integers(1, 9),
)
def test_gathered_rows_come_out_once_and_all_of_them(
    added: list[tuple[int, list[int]]], most: int
) -> None:
    gathered, taken = Gathered(2), []
    for shelf, numbers in added:
        gathered.add(shelf, rows(*numbers), 0.0)
    while gathered:
        for shelf, some in gathered.take(most, 1.0):
            assert 0 < len(some) <= most
            taken += [(shelf, row) for row in some.tolist()]
    assert sorted(taken) == sorted({(shelf, row) for shelf, some in added for row in some})


def test_while_low_rows_change_all_the_time_high_ones_have_their_turn() -> None:
    gathered = Gathered(1)
    gathered.add(0, rows(500), 0.0)
    taken: list[int] = []
    for turn in range(60):
        gathered.add(0, rows(*range(100)), turn)
        taken += [row for _, some in gathered.take(10, turn) for row in some.tolist()]
    assert 500 in taken[:110]
    assert all(taken.count(row) >= 5 for row in range(100))


def test_it_is_known_since_when_the_oldest_waits() -> None:
    gathered = Gathered(1)
    assert gathered.since is None
    gathered.add(0, rows(1, 2, 3), 5.0)
    gathered.add(0, rows(4), 6.0)
    list(gathered.take(2, 7.0))
    assert gathered.since == 5.0
    gathered.add(0, rows(1), 8.0)
    list(gathered.take(2, 9.0))
    assert gathered.since == 5.0
    list(gathered.take(2, 10.0))
    assert gathered.since is None


def test_what_comes_without_end_waits_for_a_round_and_not_since_the_beginning() -> None:
    gathered = Gathered(1)
    for turn in range(100):
        gathered.add(0, rows(*range(30)), turn)
        list(gathered.take(10, turn))
        assert gathered.since is not None
        assert turn - gathered.since <= 3


def test_rounds_of_one_shelf_do_not_hide_how_long_another_waits() -> None:
    gathered = Gathered(2)
    gathered.add(1, rows(*range(100)), 0.0)
    for turn in range(8):
        gathered.add(0, rows(1), turn)
        list(gathered.take(10, turn))
        assert gathered.since == 0.0
