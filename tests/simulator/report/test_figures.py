from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.report.figures import (
    Verdict,
    counts,
    mean,
    merged,
    observed,
    of_best,
    per_day,
    reached,
    verdict,
)
from simulator.results import Broken, Check, ClassResult, Distribution, Result, Truth
from tests.simulator.report.believable import a_failed_run, a_run, distribution

VALUES = st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=60)


def test_a_run_passes_fails_or_leaves_it_open():
    run = a_run(classes=1)
    assert verdict(run) is Verdict.PASSED
    assert verdict(a_failed_run()) is Verdict.FAILED
    assert verdict(replace(run, broken=(Broken("wire", "a frame of 300 bytes"),))) is Verdict.FAILED
    assert verdict(replace(run, checks=(Check("G5", "", None),))) is Verdict.UNSURE
    assert verdict(replace(run, checks=())) is Verdict.UNSURE
    assert verdict(replace(run, complete=False)) is Verdict.UNSURE


def test_a_day_of_a_device_is_what_all_took_over_their_time():
    found = ClassResult(
        *("meters", 10, "nbiot-nb1"),
        down=1000,
        up=500,
        messages_down=20,
        messages_up=10,
        packets_down=30,
        packets_up=50,
        joules=43.2,
        device_seconds=10 * 60.0,
    )
    day = per_day(found)
    assert day.down == pytest.approx(144_000)
    assert day.bytes == pytest.approx(216_000)
    assert day.messages == pytest.approx(30 * 144)
    assert day.segments == pytest.approx(80 * 144)
    assert day.joules == pytest.approx(6220.8)
    assert day.battery_days == pytest.approx(10_800 / 6220.8)
    assert observed(found) == 60


def test_where_nothing_was_measured_nothing_is_said():
    day = per_day(ClassResult("none", 0, ""))
    assert math.isnan(day.bytes)
    assert math.isnan(day.joules)
    assert math.isnan(day.battery_days)
    assert math.isnan(observed(ClassResult("none", 0, "")))
    assert math.isnan(mean([]))


def test_energy_that_was_not_measured_is_not_nothing():
    assert math.isnan(per_day(ClassResult("wired", 1, "none", down=5, device_seconds=9)).joules)


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES, st.floats(0.01, 0.99))
def test_distributions_put_together_are_the_distribution_of_all_values(some, more, q):
    together = merged([distribution(some), Distribution(), distribution(more)])
    whole = distribution([*some, *more])
    assert together.count == whole.count
    assert together.total == pytest.approx(whole.total)
    assert together.quantile(q) == pytest.approx(whole.quantile(q))


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_the_distribution_function_rises_to_the_largest_value(values):
    found = distribution(values)
    x, y = reached(found)
    assert x == sorted(x)
    assert y == sorted(y)
    assert x[-1] == max(values)
    assert 0 < y[0] <= y[-1] == found.count / (found.count + 1)
    for value, share in zip(x[:-1], y[:-1], strict=True):
        at_most = np.mean(np.array(values) <= value * (1 + 1e-9))
        assert share <= at_most + 1e-9


def test_values_beyond_the_buckets_end_at_the_largest():
    x, y = reached(Distribution((1.0,), (3,), 4, 10.0, 7.0))
    assert (x, y) == ([1.0, 7.0], [0.75, 0.8])
    assert reached(Distribution()) == ([], [])


def test_a_share_of_the_best_leaves_out_what_is_not_known():
    nan = math.nan
    truth = Truth((1, 2, 3), shown=(1, nan, 2), best=(2, 9, 4), newest=(nan, nan, nan))
    assert of_best(truth.shown, truth) == pytest.approx(0.5)
    assert math.isnan(of_best(truth.newest, truth))
    assert math.isnan(of_best((0,), Truth((1,), (0,), (0,), (0,))))


def test_counts_that_are_nought_everywhere_are_left_out():
    first = ClassResult("a", 1, "", counts={"puts": 3, "stale": 0})
    second = ClassResult("b", 1, "", counts={"losses": 1, "stale": 0})
    assert counts((first, second)) == ["puts", "losses"]


def test_an_empty_result_has_figures_too():
    run = Result("", "", 1, 0, 0, 0, "", "")
    assert verdict(run) is Verdict.UNSURE
    assert merged([]).quantile(0.5) is None
    assert counts(run.classes) == []
