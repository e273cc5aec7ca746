from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.difference import MoveOp, PutOp, RemoveOp, SlotOp, apply, difference
from devices.slots import number, pack


def window(*numbers: int) -> list[int]:
    return [pack(n, 0, 1) for n in numbers]


def changed(n: int) -> int:
    return pack(n, 1, 1)


def slots(numbers: list[int]) -> st.SearchStrategy[list[int]]:
    """Windows of these items, each with old or new content."""
    return st.tuples(*(st.sampled_from((pack(n, 0, 1), pack(n, 1, 1))) for n in numbers)).map(list)


@st.composite
def two_windows(draw: st.DrawFn, longest: int = 16) -> tuple[list[int], list[int], int]:
    k = draw(st.integers(1, longest))
    windows = st.lists(st.integers(1, k + 6), max_size=k, unique=True).flatmap(slots)
    return draw(windows), draw(windows), k


@given(two_windows())
@settings(max_examples=400, deadline=None)
def test_applying_the_difference_gives_the_new_window(
    windows: tuple[list[int], list[int], int],
) -> None:
    old, new, k = windows
    assert apply(old, difference(old, new, k), k) == new


@given(two_windows(64))
@settings(max_examples=60, deadline=None)
def test_applying_the_difference_gives_the_new_window_of_any_length(
    windows: tuple[list[int], list[int], int],
) -> None:
    old, new, k = windows
    assert apply(old, difference(old, new, k), k) == new


@given(two_windows())
@settings(max_examples=300, deadline=None)
def test_any_number_of_the_first_ops_leaves_a_valid_window(
    windows: tuple[list[int], list[int], int],
) -> None:
    old, new, k = windows
    held = list(old)
    for op in difference(old, new, k):
        ranks = len(held)
        if isinstance(op, PutOp):
            assert 0 <= op.rank <= ranks
        elif isinstance(op, RemoveOp):
            assert 0 <= op.rank < ranks
        else:
            assert 0 <= op.source < ranks
            assert 0 <= op.target < ranks
        held = apply(held, [op], k)
        assert len(held) <= k
        assert len({number(slot) for slot in held}) == len(held)


@given(two_windows())
@settings(max_examples=300, deadline=None)
def test_no_item_is_put_twice_nor_one_that_is_held_with_this_content(
    windows: tuple[list[int], list[int], int],
) -> None:
    old, new, k = windows
    put = [op.slot for op in difference(old, new, k) if isinstance(op, PutOp)]
    assert sorted(put) == sorted(set(new) - set(old))


@given(two_windows())
@settings(max_examples=300, deadline=None)
def test_as_many_items_move_as_a_longest_increasing_subsequence_leaves_over(
    windows: tuple[list[int], list[int], int],
) -> None:
    old, new, k = windows
    ranks = [old.index(slot) for slot in new if slot in old]
    lows: list[int] = []
    for rank in ranks:
        at = bisect.bisect_left(lows, rank)
        lows[at : at + 1] = [rank]
    moves = [op for op in difference(old, new, k) if isinstance(op, MoveOp)]
    assert len(moves) == len(ranks) - len(lows)


@given(two_windows())
@settings(max_examples=200, deadline=None)
def test_moves_come_first_and_puts_go_from_the_best_rank_to_the_worst(
    windows: tuple[list[int], list[int], int],
) -> None:
    old, new, k = windows
    ops = difference(old, new, k)
    kinds = [op.kind for op in ops]
    assert "move" not in kinds[kinds.count("move") :]
    entering = [new.index(op.slot) for op in ops if isinstance(op, PutOp) and op.slot not in old]
    fresh = [rank for rank in entering if number(new[rank]) not in {number(slot) for slot in old}]
    assert fresh == sorted(fresh)


def fewest_ops(old: Sequence[int], new: Sequence[int], k: int) -> int:
    """By trying everything."""
    wanted = tuple(new)
    steps = {tuple(old): 0}
    queue = deque(steps)
    while True:
        held = queue.popleft()
        if held == wanted:
            return steps[held]
        ranks = range(len(held))
        ops: list[SlotOp] = [RemoveOp("remove", rank) for rank in ranks]
        ops += [MoveOp("move", *pair) for pair in itertools.product(ranks, ranks)]
        ops += [
            PutOp("put", rank, slot)
            for slot in new
            if slot not in held
            for rank in range(len(held) + 1)
        ]
        for op in ops:
            after = tuple(apply(held, [op], k))
            if after not in steps:
                steps[after] = steps[held] + 1
                queue.append(after)


def test_against_every_other_way_the_difference_of_two_small_windows_is_nearly_always_shortest() -> (
    None
):
    numbers = [tuple(window(*ns)) for ns in itertools.permutations((1, 2, 3, 4), 3)]
    shorter = [*numbers, *(tuple(window(*ns)) for ns in itertools.permutations((1, 2, 5), 2))]
    old = window(1, 2, 3)
    longer = [len(difference(old, new, 3)) - fewest_ops(old, new, 3) for new in shorter]
    assert max(longer) <= 1
    assert sum(longer) <= len(longer) // 10


@pytest.mark.parametrize("rank", range(8))
def test_an_item_entering_a_full_window_is_one_put(rank: int) -> None:
    old = window(*range(1, 9))
    new = [*old[:rank], *window(99), *old[rank:-1]]
    assert difference(old, new, 8) == [("put", rank, pack(99, 0, 1))]


@pytest.mark.parametrize("rank", range(4))
def test_an_item_entering_a_window_with_room_is_one_put(rank: int) -> None:
    old = window(1, 2, 3)
    new = [*old[:rank], *window(99), *old[rank:]]
    assert difference(old, new, 8) == [("put", rank, pack(99, 0, 1))]


@pytest.mark.parametrize("rank", range(8))
def test_an_item_leaving_is_one_remove(rank: int) -> None:
    old = window(*range(1, 9))
    assert difference(old, old[:rank] + old[rank + 1 :], 8) == [("remove", rank)]


@pytest.mark.parametrize("rank", range(8))
def test_an_item_of_new_content_is_one_put_at_its_place(rank: int) -> None:
    old = window(*range(1, 9))
    new = list(old)
    new[rank] = changed(rank + 1)
    assert difference(old, new, 8) == [("put", rank, changed(rank + 1))]


@pytest.mark.parametrize(
    ("source", "target"), [(s, t) for s in range(5) for t in range(5) if s != t]
)
def test_an_item_changing_place_is_one_move(source: int, target: int) -> None:
    old = window(1, 2, 3, 4, 5)
    new = list(old)
    new.insert(target, new.pop(source))
    (op,) = difference(old, new, 5)
    assert op.kind == "move"


def test_an_item_of_new_content_that_changes_place_is_one_put() -> None:
    old = window(1, 2, 3)
    assert difference(old, [*window(2, 3), changed(1)], 3) == [("put", 2, changed(1))]
    assert difference(old, [changed(3), *window(1, 2)], 3) == [("put", 0, changed(3))]


def test_the_last_item_becoming_the_first_of_a_full_window_is_a_move_not_an_entry() -> None:
    assert difference(window(1, 2, 3), window(3, 1, 2), 3) == [("move", 2, 0)]


def test_an_item_leaving_with_one_from_the_reserve_closing_the_end_is_a_remove_and_a_put() -> None:
    ops = difference(window(1, 2, 3, 4), window(1, 3, 4, 5), 4)
    assert ops == [("remove", 1), ("put", 3, pack(5, 0, 1))]


def test_what_puts_push_off_the_end_needs_no_remove() -> None:
    ops = difference(window(1, 2, 3, 4), window(8, 9, 1, 2), 4)
    assert [op.kind for op in ops] == ["put", "put"]


def test_a_window_that_empties_is_removed_from_its_end() -> None:
    assert difference(window(1, 2, 3), [], 3) == [("remove", 2), ("remove", 1), ("remove", 0)]


def test_equal_windows_have_no_difference() -> None:
    assert difference(window(1, 2), window(1, 2), 2) == []
    assert difference([], [], 8) == []


@pytest.mark.parametrize(
    "op", [RemoveOp("remove", 2), MoveOp("move", 2, 0), MoveOp("move", 0, 2)], ids=str
)
def test_an_op_at_a_rank_that_the_window_does_not_have_is_an_error(op: SlotOp) -> None:
    with pytest.raises(IndexError):
        apply(window(1, 2), [op], 2)


def test_a_put_past_the_end_appends() -> None:
    assert apply(window(1), [PutOp("put", 7, pack(2, 0, 1))], 8) == window(1, 2)
