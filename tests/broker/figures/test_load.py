"""Load averages, as Mosquitto makes them."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.figures.load import WINDOWS, LoadAverage


def test_a_steady_rate_is_told_in_events_per_minute() -> None:
    load = LoadAverage(0.0)
    for second in range(10, 20_000, 10):
        averages = load.update(second, 2.0 * second)
    assert averages == pytest.approx((120.0,) * len(WINDOWS), rel=1e-6)


def test_one_step_is_the_formula_of_mosquitto() -> None:
    load = LoadAverage(100.0, 50.0)
    found = load.update(110.0, 80.0)
    rate = 30 * 60 / 10
    assert found == pytest.approx([rate - exp(-10 / window) * rate for _, window in WINDOWS])


@given(st.lists(st.floats(0.5, 100), min_size=1, max_size=20))
def test_steps_of_any_length_fade_alike(steps: list[float]) -> None:
    """Without events, it does not matter how often somebody looked."""
    often, once = LoadAverage(0.0), LoadAverage(0.0)
    often.update(1.0, 600.0)
    once.update(1.0, 600.0)
    now = 1.0
    for step in steps:
        now += step
        averages = often.update(now, 600.0)
    assert averages == pytest.approx(once.update(now, 600.0))


def test_a_second_look_at_the_same_moment_changes_nothing() -> None:
    load = LoadAverage(0.0)
    first = load.update(1.0, 10.0)
    assert load.update(1.0, 20.0) == first
