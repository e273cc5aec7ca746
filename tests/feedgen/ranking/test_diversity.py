from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.diversity import DEFAULTS, Repeat, diversify, penalties
from feedgen.windows import EMPTY

TAU = 2_160_000.0
HALVES = Repeat(0.5, 0.0)
KINDS = (Repeat(0.8, 0.2), Repeat(0.5, 0.1), Repeat(0.9, 0.5))


def row(*values: int) -> np.ndarray:
    return np.array([values], np.int32)


def specified(
    keys: list[int], groups: list[list[int]], exempt: list[bool], tau: float
) -> list[int]:
    """Order one row item by item."""
    worth = []
    for place, key in enumerate(keys):
        off = 0
        for group, repeat in zip(groups, KINDS, strict=True):
            above = group[:place].count(group[place]) if group[place] else 0
            off += round(-tau * log((1 - repeat.floor) * repeat.decay**above + repeat.floor))
        empty = key == EMPTY
        worth.append((empty, key if empty or exempt[place] else key - off))
    return sorted(range(len(keys)), key=lambda place: (worth[place][0], -worth[place][1]))


@st.composite
def windows(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Draw keys, three kinds of groups and exemptions for some rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, width = draw(st.integers(0, 70)), draw(st.sampled_from([1, 8, 16, 32, 128]))
    spread = draw(st.sampled_from([3, 10**4, 10**7, 2**31 - 1]))
    keys = -np.sort(-rng.integers(-spread, spread, (rows, width)).astype(np.int32), axis=1)
    keys[np.arange(width) >= rng.integers(0, width + 1, (rows, 1))] = EMPTY
    variety = [draw(st.sampled_from([0, 1, 4, 2**31 - 2])) for _ in KINDS]
    groups = [rng.integers(0, most + 1, (rows, width)).astype(np.int32) for most in variety]
    return keys, groups, rng.random((rows, width)) < draw(st.sampled_from([0.0, 0.1, 1.0]))


def test_an_item_that_repeats_a_publisher_stands_below_one_that_is_worth_little_less():
    keys = row(400, 300, 200, EMPTY)
    order = diversify(keys, [row(7, 7, 8, 0)], [HALVES], tau=200)
    assert order.tolist() == [[0, 2, 1, 3]]


def test_an_item_that_is_worth_much_more_keeps_its_place_although_it_repeats():
    order = diversify(row(400, 300, 100), [row(7, 7, 8)], [HALVES], tau=200)
    assert order.tolist() == [[0, 1, 2]]


def test_repetitions_of_several_kinds_add_up():
    keys, same, other = row(1000, 900, 800), row(1, 1, 2), row(1, 2, 3)
    once = diversify(keys, [same, other], [HALVES, HALVES], tau=130)
    twice = diversify(keys, [same, same], [HALVES, HALVES], tau=130)
    assert once.tolist() == [[0, 1, 2]]
    assert twice.tolist() == [[0, 2, 1]]


def test_the_same_number_in_another_kind_repeats_nothing():
    order = diversify(row(3, 2, 1), [row(1, 2, 3), row(2, 3, 1)], [HALVES, HALVES], TAU)
    assert order.tolist() == [[0, 1, 2]]


def test_items_of_no_group_do_not_repeat_each_other():
    assert diversify(row(3, 2, 1), [row(0, 0, 5)], [HALVES], TAU).tolist() == [[0, 1, 2]]


def test_an_urgent_item_never_moves_down_but_counts_for_those_below_it():
    keys, group = row(50, 40, 30, 20), row(1, 1, 1, 2)
    urgent = np.array([[True, True, False, False]])
    assert diversify(keys, [group], [HALVES], 100, urgent).tolist() == [[0, 1, 3, 2]]
    assert diversify(keys, [group], [HALVES], 100).tolist() == [[0, 3, 1, 2]]


def test_penalties_stop_at_the_floor():
    half_left = penalties(Repeat(0.5, 0.5), 100.0, 128)
    assert half_left[0] == 0
    assert half_left[1] == round(100 * log(1 / 0.75))
    assert half_left[-1] == round(100 * log(2))
    assert (np.diff(half_left) >= 0).all()


def test_a_factor_of_nothing_puts_repetitions_last_whatever_their_keys():
    keys = row(2**31 - 1, 2**31 - 2, EMPTY + 1, EMPTY)
    order = diversify(keys, [row(1, 1, 2, 0)], [Repeat(0.0, 0.0)], TAU)
    assert order.tolist() == [[0, 2, 1, 3]]


def test_the_defaults_move_a_publisher_by_hours_not_days():
    hours = [penalties(repeat, TAU, 128) / 360_000 for repeat in DEFAULTS]
    assert 1 < hours[1][1] < 2
    assert all(each[-1] < 8 for each in hours)


@given(windows())
@settings(max_examples=150, deadline=None)
def test_the_order_equals_the_specification_row_by_row(drawn):
    keys, groups, exempt = drawn
    order = diversify(keys, groups, KINDS, TAU, exempt)
    assert order.shape == keys.shape
    assert order.dtype == np.int64
    for at in range(len(keys)):
        each = [group[at].tolist() for group in groups]
        assert order[at].tolist() == specified(keys[at].tolist(), each, exempt[at].tolist(), TAU)


@given(windows())
@settings(max_examples=60, deadline=None)
def test_the_order_is_a_permutation_and_empty_places_stay_last(drawn):
    keys, groups, exempt = drawn
    order = diversify(keys, groups, DEFAULTS[:3], TAU, exempt)
    assert (np.sort(order, axis=1) == np.arange(keys.shape[1])).all()
    empty = np.take_along_axis(keys, order, axis=1) == EMPTY
    assert (empty == (keys == EMPTY)).all()


@given(windows())
@settings(max_examples=60, deadline=None)
def test_urgent_items_never_move_down(drawn):
    keys, groups, exempt = drawn
    ranks = np.argsort(diversify(keys, groups, KINDS, TAU, exempt), axis=1)
    assert (ranks <= np.arange(keys.shape[1]))[exempt & (keys != EMPTY)].all()


@given(windows())
@settings(max_examples=60, deadline=None)
def test_nothing_moves_where_repetition_does_not_matter(drawn):
    keys, groups, _ = drawn
    order = diversify(keys, groups, [Repeat(1.0, 0.0), Repeat(0.2, 1.0), Repeat(1.0, 1.0)], TAU)
    assert (order == np.arange(keys.shape[1])).all()


@given(windows())
@settings(max_examples=60, deadline=None)
def test_nothing_moves_where_nothing_repeats(drawn):
    keys, _, _ = drawn
    different = np.broadcast_to(np.arange(keys.shape[1], dtype=np.int32), keys.shape)
    order = diversify(keys, [different, different[:, ::-1], different], KINDS, TAU)
    assert (order == np.arange(keys.shape[1])).all()


def test_many_rows_are_ordered_like_each_one_by_itself():
    rng = np.random.default_rng(3)
    keys = -np.sort(-rng.integers(0, 10**7, (5000, 16)).astype(np.int32), axis=1)
    group = rng.integers(0, 40, (5000, 16)).astype(np.int32)
    group[::3] = np.arange(16)  # these repeat nothing
    together = diversify(keys, [group], [HALVES], TAU)
    alone = [diversify(keys[[at]], [group[[at]]], [HALVES], TAU)[0] for at in range(0, 5000, 97)]
    assert (together[::97] == alone).all()


def test_windows_wider_than_any_shelf_are_refused():
    keys = np.zeros((1, 129), np.int32)
    with pytest.raises(ValueError, match="129 places wide"):
        diversify(keys, [], [], TAU)


def test_kinds_without_settings_are_refused():
    with pytest.raises(ValueError, match="zip"):
        diversify(row(1), [row(1), row(1)], [HALVES], TAU)
