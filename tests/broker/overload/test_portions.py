"""Portions: small at once after one that took too long, larger by and by while there is more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.overload.portions import AIM, Portion

LEAST, MOST = 64, 2_048


def test_one_that_took_too_long_makes_the_next_as_much_smaller() -> None:
    portion = Portion(LEAST, MOST)
    portion.took(4 * AIM, more=True)
    assert portion.rows == MOST // 4
    portion.took(1000 * AIM, more=False)
    assert portion.rows == LEAST


def test_short_ones_make_the_next_larger_only_if_they_left_something() -> None:
    portion = Portion(LEAST, MOST)
    portion.took(1.0, more=True)
    portion.took(AIM / 10, more=False)
    assert portion.rows == LEAST
    seen = []
    for _ in range(8):
        portion.took(AIM / 10, more=True)
        seen.append(portion.rows)
    assert seen == [128, 256, 512, 1024, 2048, 2048, 2048, 2048]


def test_one_that_took_about_the_time_it_should_changes_nothing() -> None:
    portion = Portion(LEAST, MOST)
    portion.took(4 * AIM, more=True)
    for about in (0.6, 1.0, 1.9):
        portion.took(about * AIM, more=True)
    assert portion.rows == MOST // 4


@given(st.floats(1e-7, 1e-3))
def test_whatever_a_row_costs_portions_come_to_take_about_as_long_as_they_should(
    cost: float,
) -> None:
    portion, took = Portion(LEAST, MOST), 0.0
    for _ in range(12):
        took = portion.rows * cost
        portion.took(took, more=True)
    assert took <= AIM * 2.01 or portion.rows == LEAST
    assert took >= AIM / 4 or portion.rows == MOST or cost * LEAST > AIM / 4
