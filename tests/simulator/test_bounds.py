"""Memory that must not grow, and neighbours that must not delay."""

from __future__ import annotations

import pytest

from simulator.bounds import ENOUGH, Memory, healthy_delayed, memory_grows, quantile, slope

MIB = 2**20


def samples(*values: float) -> list[Memory]:
    return [Memory(int(value * MIB), int(value * MIB) + MIB) for value in values]


def promises(found: list[object]) -> list[str]:
    return [finding.promise for finding in found]  # type: ignore[attr-defined]


def test_the_slope_ignores_outliers() -> None:
    assert slope([10, 12, 14, 900, 18, 20]) == 2
    assert slope([5.0, 5.0, 5.0]) == 0
    assert slope([1.0]) == 0


def test_a_server_that_keeps_something_of_every_round_is_found() -> None:
    growing = samples(*(60 + 0.5 * place + (place % 2) for place in range(ENOUGH)))
    found = memory_grows(growing, most=500 * MIB, per_round=MIB // 4, devices=10)
    assert promises(found) == ["G5"]
    assert "512 KiB" in str(found[0])
    assert "51.2 KiB for each of 10 devices" in str(found[0])


def test_a_server_whose_memory_only_swings_is_not() -> None:
    swinging = samples(*(60 + 5 * (place % 2) for place in range(40)))
    assert memory_grows(swinging, most=500 * MIB, per_round=MIB // 4, devices=10) == []


def test_a_server_that_warms_up_is_not() -> None:
    warming = samples(*(60 + min(place, 8) for place in range(ENOUGH)))
    assert memory_grows(warming, most=500 * MIB, per_round=MIB // 4, devices=10) == []


def test_a_few_samples_are_no_trend() -> None:
    growing = samples(*range(60, 60 + ENOUGH - 1))
    assert memory_grows(growing, most=500 * MIB, per_round=MIB // 4, devices=10) == []


def test_a_peak_above_the_bound_is_found_at_once() -> None:
    found = memory_grows(samples(10, 90, 10), most=80 * MIB, per_round=MIB, devices=10)
    assert promises(found) == ["G5"]
    assert "91 MiB" in str(found[0])


def test_a_healthy_device_that_waits_is_found() -> None:
    assert healthy_delayed([0.01] * 200, most=1.0) == []
    assert healthy_delayed([], most=1.0) == []
    assert healthy_delayed([0.01] * 200 + [9.0], most=1.0) == []
    assert promises(healthy_delayed([0.01] * 97 + [3.0] * 3, most=1.0)) == ["G6"]


@pytest.mark.parametrize(("q", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_quantiles(q: float, value: int) -> None:
    assert quantile(range(1, 101), q) == value
    assert quantile([], q) is None
