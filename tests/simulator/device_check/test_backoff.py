"""Pauses between tries are told apart by how they go on."""

from __future__ import annotations

from itertools import accumulate, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.device_check.backoff import Shape, shape

BASES = st.floats(0.5, 10.0)
COUNTS = st.integers(4, 8)
NOISE = 0.05


def noisy(pauses: list[float], errors: list[float]) -> list[float]:
    return [pause + error for pause, error in zip(pauses, errors, strict=False)]


ERRORS = st.lists(st.floats(-NOISE / 2, NOISE / 2), min_size=8, max_size=8)


@pytest.mark.parametrize("pauses", [[], [1.0], [1.0, 2.0]])
def test_few_pauses_say_nothing(pauses: list[float]) -> None:
    assert shape(pauses) is Shape.FEW


@settings(max_examples=50)
@given(base=BASES, count=COUNTS, errors=ERRORS)
def test_the_same_pause_each_time_is_constant(base: float, count: int, errors: list[float]) -> None:
    assert shape(noisy([base] * count, errors)) is Shape.CONSTANT


@settings(max_examples=50)
@given(base=BASES, count=COUNTS, errors=ERRORS)
def test_one_more_second_each_time_is_linear(base: float, count: int, errors: list[float]) -> None:
    pauses = [base * i for i in range(1, count + 1)]
    assert shape(noisy(pauses, errors)) is Shape.LINEAR


@settings(max_examples=50)
@given(base=BASES, factor=st.floats(1.6, 3.0), count=COUNTS, errors=ERRORS)
def test_doubling_without_a_draw_is_exponential(
    base: float, factor: float, count: int, errors: list[float]
) -> None:
    pauses = list(accumulate(repeat(factor, count - 1), lambda a, b: a * b, initial=base))
    assert shape(noisy(pauses, [error * 0.2 for error in errors])) is Shape.EXPONENTIAL


def test_a_longest_pause_does_not_hide_that_there_is_no_jitter() -> None:
    assert shape([1.0, 2.0, 4.0, 4.0, 4.0]) is Shape.EXPONENTIAL


@pytest.mark.parametrize("pauses", [[0.2, 5.0, 5.1, 5.0], [9.0, 1.0, 1.0, 1.02]])
def test_the_first_pause_may_differ_from_constant_ones(pauses: list[float]) -> None:
    assert shape(pauses) is Shape.CONSTANT


@pytest.mark.parametrize("pauses", [[0.3, 0.2, 0.25, 0.15, 0.3, 0.18], [8.0, 3.0, 6.0, 5.0]])
def test_draws_from_one_range_do_not_grow(pauses: list[float]) -> None:
    assert shape(pauses, 0.01) is Shape.LEVEL


@pytest.mark.parametrize(
    "pauses", [[1.6, 3.5, 5.0, 8.3], [1.2, 2.7, 7.3], [1.3, 3.4, 6.4], [0.4, 1.9, 0.8, 7.0]]
)
def test_growing_and_random_is_as_it_should_be(pauses: list[float]) -> None:
    assert shape(pauses) is Shape.JITTERED


@settings(max_examples=100)
@given(st.lists(st.floats(0.0, 1e6), max_size=10))
def test_any_pauses_have_a_shape(pauses: list[float]) -> None:
    assert shape(pauses) in Shape
