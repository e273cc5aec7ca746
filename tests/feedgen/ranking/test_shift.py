from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedgen.ranking.shift import Level, Settings, Shifts, stability_index


def watched(*batches, **options):
    """A watch on one feature, `x`, after batches of its values."""
    shifts = Shifts(Settings(**options))
    for values in batches:
        for part in np.array_split(values, max(len(values) // 500, 1)):
            shifts.observe({"x": part})
    return shifts


def normal(seed, n, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1.0, n)


counts = st.lists(st.integers(0, 500), min_size=6, max_size=6).map(np.array)


@given(then=counts, now=counts)
def test_the_index_is_never_negative_and_symmetric(then, now):
    index = stability_index(then, now)
    assert index >= 0.0
    assert index == pytest.approx(stability_index(now, then))


def test_the_index_of_equal_shares_is_zero():
    assert stability_index(np.array([50.0, 150.0]), np.array([50.0, 150.0])) == 0.0


def test_the_index_is_the_textbook_one():
    then, now = np.array([5000.0, 5000.0]), np.array([3000.0, 7000.0])
    expected = (0.3 - 0.5) * np.log(0.3 / 0.5) + (0.7 - 0.5) * np.log(0.7 / 0.5)
    assert stability_index(then, now) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("seed", range(10))
def test_the_same_population_is_stable(seed):
    reading = watched(normal(seed, 20_000)).report()["x"]
    assert reading.level is Level.STABLE
    assert reading.index < 0.02


def test_a_moved_mean_is_moving_and_then_shifted():
    before = normal(1, 8000)
    assert watched(before, normal(2, 25_000, 0.4)).report()["x"].level is Level.MOVING
    assert watched(before, normal(2, 25_000, 0.8)).report()["x"].level is Level.SHIFTED


def test_nothing_is_said_before_there_is_enough():
    reading = watched(normal(1, 3000)).report()["x"]
    assert (reading.index, reading.level, reading.events) == (None, Level.UNKNOWN, 0.0)
    reading = watched(normal(1, 5000), normal(2, 300, 9.0)).report()["x"]
    assert (reading.index, reading.level) == (None, Level.UNKNOWN)
    assert reading.events > 0


def test_numbers_that_go_missing_are_a_shift():
    values = normal(4, 8000)
    lost = np.where(values > 1.3, np.nan, values)
    assert watched(normal(1, 8000), lost).report()["x"].level is Level.SHIFTED


def test_a_feature_of_one_value_or_of_none_is_watched():
    for constant in (np.zeros(8000), np.full(8000, np.nan)):
        assert watched(constant, constant).report()["x"].level is Level.STABLE
        assert watched(constant, constant + 1.0, normal(1, 8000)).report()["x"].index is not None


def test_codes_are_counted_one_by_one():
    rng = np.random.default_rng(5)
    before, same = rng.integers(0, 8, 6000), rng.integers(0, 8, 10_000)
    assert watched(before, same).report()["x"].level is Level.STABLE
    swapped = np.where(same == 3, 4, same)
    assert watched(before, swapped).report()["x"].level is Level.SHIFTED


def test_a_code_that_was_never_seen_is_a_shift():
    before = np.random.default_rng(6).integers(0, 8, 6000)
    rng = np.random.default_rng(7)
    fresh = np.where(rng.random(9000) < 0.1, 99, rng.integers(0, 8, 9000))
    assert watched(before, fresh).report()["x"].level is Level.SHIFTED


def test_rare_codes_share_a_bin():
    values = np.random.default_rng(8).integers(0, 1000, 30_000)
    assert watched(values, codes=20).report()["x"].level is Level.STABLE
    assert len(watched(values, codes=20).state()["columns"]["x"]["then"]) == 21


def test_the_present_forgets():
    shifts = watched(normal(1, 5000), normal(2, 10_000, 2.0))
    assert shifts.report()["x"].level is Level.SHIFTED
    shifts.observe({"x": normal(3, 10_000)})
    for seed in range(20):
        shifts.observe({"x": normal(seed, 2000)})
    assert shifts.report()["x"].level is Level.STABLE


def test_a_new_reference_makes_the_present_normal():
    shifts = watched(normal(1, 5000), normal(2, 10_000, 2.0))
    shifts.rebase()
    shifts.observe({"x": normal(3, 5000, 2.0)})
    shifts.observe({"x": normal(4, 5000, 2.0)})
    assert shifts.report()["x"].level is Level.STABLE


def test_features_beyond_the_limit_are_counted():
    shifts = Shifts(Settings(features=2))
    for _ in range(3):
        shifts.observe({name: np.zeros(4) for name in "abc"})
    assert (sorted(shifts.report()), shifts.unwatched) == (["a", "b"], 3)


@pytest.mark.parametrize("known", [100, 5200, 9000])
def test_it_continues_from_its_state(known):
    codes = np.random.default_rng(1).integers(0, 5, 9000)
    first = Shifts()
    first.observe({"x": normal(1, known), "code": codes[:known]})
    second = Shifts()
    second.restore(json.loads(json.dumps(first.state())))
    for shifts in (first, second):
        shifts.observe({"x": normal(2, 9000, 0.5), "code": codes})
    assert second.report() == first.report()
    assert second.state() == first.state()


def test_a_state_of_another_version_is_refused():
    with pytest.raises(ValueError, match="version 0"):
        Shifts().restore({"version": 0})
