from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from feedgen.ranking.lift import LiftMeter, student

DAY = 86_400.0


def world(rng, *, devices=4000, holdout=0.05, lift=0.2, shown=20, alike=0.4):
    """Outcomes of devices that differ in how much they open."""
    tokens = rng.integers(0, 2**64, devices, np.uint64)
    held_out = rng.random(devices) < holdout
    rate = 0.1 * rng.gamma(1 / alike, alike, devices) * np.where(held_out, 1, 1 + lift)
    who = np.repeat(np.arange(devices), rng.poisson(shown, devices))
    rng.shuffle(who)
    return tokens[who], held_out[who], rng.random(len(who)) < np.minimum(rate[who], 1)


def read(*outcomes, now=0.0):
    meter = LiftMeter()
    meter.observe(*outcomes, now)
    return meter.read()


@pytest.mark.parametrize(
    ("devices", "holdout", "lift"),
    [(4000, 0.05, 0.2), (4000, 0.05, 0.0), (2000, 0.02, 0.5), (1000, 0.02, 0.1), (600, 0.02, 0.2)],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(devices, holdout, lift):
    rng = np.random.default_rng(0)
    held = []
    while len(held) < 200:
        found = read(*world(rng, devices=devices, holdout=holdout, lift=lift))
        if found.lift is not None:
            held.append(found.low <= lift <= found.high)
    assert np.mean(held) >= 0.92


def test_the_lift_is_that_of_the_rates():
    found = read(*world(np.random.default_rng(1)))
    assert found.lift == pytest.approx(found.ranked_rate / found.held_out_rate - 1)
    assert found.low < found.lift < found.high
    assert found.ranked > found.held_out > 0


def test_counted_in_parts_it_is_the_same():
    device, held_out, opened = world(np.random.default_rng(2))
    meter = LiftMeter()
    for part in np.array_split(np.arange(len(device)), 7):
        meter.observe(device[part], held_out[part], opened[part], 0.0)
    assert meter.read() == read(device, held_out, opened)


def test_outcomes_that_are_alike_by_device_widen_the_interval():
    def width(alike):
        found = [read(*world(np.random.default_rng(seed), alike=alike)) for seed in range(10)]
        return np.mean([each.high - each.low for each in found])

    assert width(2.0) > 1.3 * width(0.01)


def test_as_long_as_there_are_few_openings_nothing_is_said():
    device = np.arange(1000, dtype=np.uint64) << np.uint64(32)
    opened = np.ones(1000, bool)
    held_out = np.arange(1000) < 19
    found = read(device, held_out, opened)
    assert (found.lift, found.low, found.high) == (None, None, None)
    assert read(device, np.arange(1000) < 20, opened).lift is not None


def test_nobody_seen_is_nothing_to_tell():
    found = LiftMeter().read()
    assert (found.ranked, found.held_out, found.lift) == (0, 0, None)


def test_one_device_alone_has_no_interval_and_the_report_stays_json():
    device = np.repeat(np.array([1 << 40, 2 << 40], np.uint64), 100)
    found = read(device, np.arange(200) < 100, np.ones(200, bool))
    assert (found.low, found.high) == (None, None)
    json.dumps(asdict(found), allow_nan=False)


def test_what_was_counted_fades():
    rng = np.random.default_rng(3)
    meter = LiftMeter(half_life=DAY)
    meter.observe(*world(rng, lift=1.0), 0.0)
    assert meter.read().lift > 0.5
    meter.observe(*world(rng, lift=0.0), 20 * DAY)
    assert abs(meter.read().lift) < 0.2


def test_a_clock_that_goes_back_neither_fades_nor_grows_anything():
    outcomes = world(np.random.default_rng(4))
    one, other = LiftMeter(), LiftMeter()
    for meter, second in ((one, 100.0), (other, 100.0 - DAY)):
        meter.observe(*outcomes, 100.0)
        meter.observe(*outcomes, second)
    assert one.read() == other.read()


def test_a_restored_meter_goes_on():
    outcomes = world(np.random.default_rng(5))
    one, other = LiftMeter(), LiftMeter()
    one.observe(*outcomes, 5.0)
    state = one.state()
    other.restore(state)
    for meter in (one, other):
        meter.observe(*outcomes, 2 * DAY)
    assert one.read() == other.read()
    assert state["sums"].sum() < one.state()["sums"].sum()


@pytest.mark.parametrize(
    ("freedom", "expected"), [(3, 3.1824), (5, 2.5706), (20, 2.0860), (1e9, 1.96)]
)
def test_the_quantile_is_that_of_students_t(freedom, expected):
    assert student(freedom) == pytest.approx(expected, rel=0.01)
