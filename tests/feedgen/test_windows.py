from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.windows import EMPTY, Windows

WIDTH = 16


@dataclass
class Order:
    published: np.ndarray
    tie: np.ndarray

    def rank(self, index: int, key: int) -> tuple[int, int, int]:
        return key, int(self.published[index]), int(self.tie[index])


ORDER = Order(np.arange(200) // 7, np.arange(200) * 37 % 200)
"""Items 1 to 199; seven share a publication time each."""


def held(windows: Windows, row: int) -> list[tuple[int, int]]:
    """Return (item, key) of a row, best first."""
    count = int(windows.held[row])
    assert (windows.ids[row, count:] == 0).all()
    assert (windows.keys[row, count:] == EMPTY).all()
    return [
        (int(index), int(key))
        for index, key in zip(windows.ids[row, :count], windows.keys[row, :count], strict=True)
    ]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def some_windows(rows: int, visible: int = 2) -> Windows:
    windows = Windows(WIDTH, rows)
    windows.visible[:] = visible
    return windows


def insert(windows: Windows, row: int, index: int, key: int) -> bool:
    """Offer one item to one row; return whether the visible part changed."""
    if not windows.admissible(ints(row), ints(index), ints(key), ORDER)[0]:
        return False
    return bool(windows.insert(ints(row), ints(index), ints(key), ORDER).size)


class Row:
    """What a row must hold: all it was offered, sorted, cut off."""

    def __init__(self) -> None:
        self.items: list[tuple[int, int]] = []

    def offer(self, index: int, key: int) -> None:
        self.items.append((index, key))
        self.items.sort(key=lambda item: ORDER.rank(*item), reverse=True)
        del self.items[WIDTH:]


def test_an_item_stands_before_all_with_lower_keys():
    windows = some_windows(1)
    for index, key in ((1, 10), (2, 30), (3, 20)):
        insert(windows, 0, index, key)
    assert held(windows, 0) == [(2, 30), (3, 20), (1, 10)]


def test_at_equal_keys_the_later_published_comes_first_and_then_the_higher_hash():
    windows = some_windows(1)
    for index in (8, 1, 2, 9):
        insert(windows, 0, index, 5)
    expected = sorted((1, 2, 8, 9), key=lambda index: ORDER.rank(index, 5), reverse=True)
    assert [index for index, _ in held(windows, 0)] == expected


def test_only_changes_among_the_visible_are_told():
    windows = some_windows(1, visible=2)
    told = [insert(windows, 0, index, key) for index, key in ((1, 10), (2, 20), (3, 5), (4, 15))]
    assert told == [True, True, False, True]


def test_a_full_row_refuses_what_is_worse_than_its_last_item():
    windows = some_windows(1)
    for index in range(1, WIDTH + 1):
        insert(windows, 0, index, 100 + index)
    before = held(windows, 0)
    assert not windows.admissible(ints(0), ints(50), ints(100), ORDER)[0]
    insert(windows, 0, 51, 102)
    assert held(windows, 0) == sorted([*before, (51, 102)], key=lambda i: ORDER.rank(*i))[:0:-1]


def test_a_row_that_was_full_does_not_trust_what_is_below_its_bar():
    windows = some_windows(1)
    for index in range(1, WIDTH + 1):
        insert(windows, 0, index, 100 + index)
    out = np.zeros((1, WIDTH), np.bool_)
    out[0, 3:] = True
    windows.take_out(ints(0), out)
    assert windows.bar[0] == 101
    assert not windows.admissible(ints(0), ints(50), ints(100), ORDER)[0]
    assert windows.admissible(ints(0), ints(50), ints(102), ORDER)[0]


def test_a_row_is_starved_if_it_holds_too_few_and_was_full_before():
    windows = some_windows(3, visible=2)
    for row, count in ((0, WIDTH), (1, WIDTH), (2, 3)):
        for index in range(1, count + 1):
            insert(windows, row, index, 100 + index)
    out = np.zeros((3, WIDTH), np.bool_)
    out[0, 1:] = True
    out[1, 2:] = True
    out[2, :2] = True
    windows.take_out(ints(0, 1, 2), out)
    assert windows.starved(ints(0, 1, 2)).tolist() == [0]


def test_taking_out_closes_the_gaps_and_tells_of_visible_ones():
    windows = some_windows(3, visible=2)
    for row in range(3):
        for index in range(1, 6):
            insert(windows, row, index, index)
    out = np.zeros((3, WIDTH), np.bool_)
    out[0, [0, 2, 4]] = True
    out[1, 3] = True
    assert windows.take_out(ints(0, 1, 2), out).tolist() == [0]
    assert held(windows, 0) == [(4, 4), (2, 2)]
    assert held(windows, 1) == [(5, 5), (4, 4), (3, 3), (1, 1)]
    assert held(windows, 2) == [(5, 5), (4, 4), (3, 3), (2, 2), (1, 1)]


def test_growing_keeps_what_rows_hold():
    windows = some_windows(1)
    insert(windows, 0, 1, 10)
    windows.grow(5)
    insert(windows, 4, 2, 20)
    assert [held(windows, row) for row in range(5)] == [[(1, 10)], [], [], [], [(2, 20)]]


@pytest.mark.parametrize("width", [16, 32, 64, 128])
def test_every_width_holds_as_many_items_as_it_says(width):
    windows = Windows(width, 1)
    windows.visible[0] = width // 2
    for index in range(1, width + 10):
        insert(windows, 0, index, index)
    assert [key for _, key in held(windows, 0)] == list(range(width + 9, 9, -1))


def test_rebasing_lowers_keys_and_bars_and_keeps_what_is_empty():
    windows = some_windows(2)
    for index in range(1, WIDTH + 1):
        insert(windows, 0, index, index)
    insert(windows, 1, 1, EMPTY + 5)
    windows.rebase(10)
    assert [key for _, key in held(windows, 0)] == [key - 10 for key in range(WIDTH, 0, -1)]
    assert windows.bar.tolist() == [-9, EMPTY]
    assert held(windows, 1) == [(1, EMPTY + 1)]


offers = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 199), st.integers(0, 6)),
    unique_by=lambda offer: offer[:2],
    max_size=120,
)


@settings(max_examples=100, deadline=None)
@given(offers)
def test_rows_hold_the_best_of_what_they_were_offered(offers):
    windows = some_windows(5)
    expected = [Row() for _ in range(5)]
    for row, index, key in offers:
        insert(windows, row, index, key)
        expected[row].offer(index, key)
    assert [held(windows, row) for row in range(5)] == [row.items for row in expected]


@settings(max_examples=100, deadline=None)
@given(offers, offers)
def test_merging_many_items_is_inserting_one_after_the_other(earlier, later):
    held_before = {offer[:2] for offer in earlier}
    later = [offer for offer in later if offer[:2] not in held_before]
    later.sort(key=lambda offer: ORDER.rank(offer[1], 0), reverse=True)
    one_by_one, merged = some_windows(5), some_windows(5)
    for row, index, key in earlier:
        insert(one_by_one, row, index, key)
        insert(merged, row, index, key)
    told = {row for row, index, key in later if insert(one_by_one, row, index, key)}
    rows, ids, keys = (
        (ints(*column) for column in zip(*later, strict=True)) if later else [ints()] * 3
    )
    fits = merged.admissible(rows, ids, keys, ORDER)
    if fits.any():
        changed = merged.merge(rows[fits], ids[fits], keys[fits], ORDER)
        assert len(set(changed.tolist())) == len(changed)
        assert set(changed.tolist()) == told
    for name in ("ids", "keys", "held", "bar"):
        assert (getattr(one_by_one, name) == getattr(merged, name)).all(), name
