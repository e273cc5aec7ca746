from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking import drift
from feedgen.ranking.cohorts import Cohorts
from feedgen.ranking.drift import Drift
from feedgen.ranking.monitor import ALL, Alarm, Monitor, Settings, Status

BETAS = {0.02: (0.4, 19.6), 0.1: (0.5, 4.5), 0.3: (1.5, 3.5), 0.5: (2.0, 2.0), 0.8: (4.0, 1.0)}


def stream(seed, n, mean=0.5, factor=1.0):
    """Predictions, and outcomes whose true rate is a multiple of them."""
    rng = np.random.default_rng(seed)
    p = rng.beta(*BETAS[mean], n)
    return p, rng.random(n) < factor * p


def feed(monitor, p, y, cohort=None, batch=1000):
    cohort = np.zeros(len(p), np.int8) if cohort is None else cohort
    for start in range(0, len(p), batch):
        cut = slice(start, start + batch)
        monitor.observe(p[cut], y[cut], cohort[cut], float(start))
    return monitor


def whole(p, y, **options):
    return feed(Monitor(Settings(**options)), p, y).report()[ALL]


@pytest.mark.parametrize("mean", BETAS)
def test_a_model_that_is_right_is_never_alarmed_about(mean):
    for seed in range(20):
        monitor, (p, y) = Monitor(), stream(seed, 20_000, mean)
        cohort = np.random.default_rng(seed).integers(0, 3, len(p)).astype(np.int8)
        for start in range(0, len(p), 500):
            cut = slice(start, start + 500)
            monitor.observe(p[cut], y[cut], cohort[cut], 0.0)
            assert not any(reading.alarms for reading in monitor.report().values())


def test_readings_of_a_model_that_is_right_say_so():
    reading = whole(*stream(1, 20_000))
    assert reading.status is Status.HEALTHY
    assert reading.normalised_entropy == pytest.approx(0.8, abs=0.05)
    assert reading.calibration == pytest.approx(1.0, abs=0.05)
    assert abs(reading.z) < 3.0
    assert reading.rate == pytest.approx(0.5, abs=0.03)
    assert reading.events == 20_000
    assert reading.weight == pytest.approx(5000, rel=0.03)


def test_without_fading_the_readings_are_the_plain_sums():
    p, y = stream(2, 3000, 0.3)
    reading = whole(p, y, window=1e12)
    assert reading.calibration == pytest.approx(y.sum() / p.sum())
    assert reading.z == pytest.approx((y.sum() - p.sum()) / np.sqrt((p * (1 - p)).sum()))
    loss = -np.log(np.where(y, p, 1 - p)).sum()
    rate = y.mean()
    entropy = -len(y) * (rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert reading.normalised_entropy == pytest.approx(loss / entropy)


def test_z_is_standard_normal_while_the_model_is_right():
    z = [whole(*stream(seed, 3000, 0.1), window=1000.0).z for seed in range(200)]
    assert np.mean(z) == pytest.approx(0.0, abs=0.25)
    assert np.std(z) == pytest.approx(1.0, abs=0.2)


def test_weights_make_good_what_a_sample_left_out():
    p, y = stream(5, 20_000, 0.3)
    kept = y | (np.random.default_rng(5).random(len(y)) < 0.25)
    weight = np.where(y[kept], 1.0, 4.0)
    weight /= weight.mean()
    weighted, plain = Monitor(), Monitor()
    cohort = np.zeros(kept.sum(), np.int8)
    weighted.observe(p[kept], y[kept], cohort, 0.0, weight)
    plain.observe(p[kept], y[kept], cohort, 0.0)
    assert weighted.report()[ALL].calibration == pytest.approx(1.0, abs=0.06)
    assert plain.report()[ALL].calibration > 1.3
    assert abs(weighted.report()[ALL].z) < 4
    same = Monitor()
    same.observe(p[kept], y[kept], cohort, 0.0, np.ones(len(cohort)))
    assert same.report() == plain.report()


def test_too_little_data_is_unknown_and_never_an_alarm():
    p = np.full(199, 0.99)
    reading = whole(p, np.zeros(199, bool), drift=drift.Settings(warm_up=0))
    assert reading.drift is Drift.DOWN
    assert reading.status is Status.UNKNOWN
    assert reading.alarms == ()
    assert reading.normalised_entropy is reading.calibration is reading.z is None


def test_with_few_expected_outcomes_calibration_is_unknown():
    reading = whole(np.full(2000, 0.005), np.zeros(2000, bool))
    assert reading.calibration is reading.z is None
    assert reading.normalised_entropy is None  # the same outcome always: nothing to be told


def test_no_events_are_unknown():
    reading = Monitor().report()[ALL]
    assert (reading.status, reading.rate, reading.predicted) == (Status.UNKNOWN, None, None)


def test_predictions_that_know_nothing_but_say_much_are_worse_than_the_rate():
    rng = np.random.default_rng(3)
    p, y = rng.choice([0.1, 0.9], 4000), rng.random(4000) < 0.5
    reading = whole(p, y)
    assert reading.normalised_entropy > 1.0
    assert Alarm.WORSE_THAN_RATE in reading.alarms


def test_predictions_that_know_nothing_and_say_little_are_no_alarm():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        reading = whole(0.3 + rng.normal(0.0, 0.01, 5000), rng.random(5000) < 0.3)
        assert reading.normalised_entropy == pytest.approx(1.0, abs=0.01)
        assert reading.alarms == ()


def test_half_as_many_outcomes_as_predicted_are_out_of_calibration():
    reading = whole(*stream(4, 4000, 0.3, 0.5))
    assert {Alarm.MISCALIBRATED, Alarm.DRIFT_DOWN} <= set(reading.alarms)
    assert reading.status is Status.ALARM


def test_a_drop_of_20_percent_after_quiet_times_is_found_within_1000_events_in_the_median():
    delays = []
    for seed in range(41):
        monitor = feed(Monitor(), *stream(seed, 3000))
        p, y = np.full(4000, 0.5), np.random.default_rng(seed + 900).random(4000) < 0.4
        for start in range(0, len(p), 50):
            feed(monitor, p[start : start + 50], y[start : start + 50])
            if Alarm.DRIFT_DOWN in monitor.report()[ALL].alarms:
                break
        delays.append(start + 50)
    assert np.median(delays) <= 750


def test_an_error_in_one_cohort_is_found_there():
    cohorts = Cohorts(["sign", "watch"])
    p, y = stream(5, 9000)
    cohort = np.random.default_rng(5).choice([3, 4], 9000, p=[0.9, 0.1]).astype(np.int8)
    y[cohort == 4] &= np.random.default_rng(6).random((cohort == 4).sum()) < 0.5
    readings = feed(Monitor(cohorts=cohorts), p, y, cohort).report()
    assert readings["class watch"].status is Status.ALARM
    assert readings["class sign"].status is Status.HEALTHY
    assert readings["class sign"].events + readings["class watch"].events == 9000
    assert sorted(readings) == [ALL, "class sign", "class watch"]


def test_a_drop_in_one_cohort_is_found_nearly_as_soon_as_one_in_all():
    delays = []
    for seed in range(31):
        monitor, cohort = Monitor(), np.ones(3000, np.int8)
        y = np.random.default_rng(seed).random(3000) < np.repeat([0.5, 0.4], [500, 2500])
        for start in range(0, 3000, 50):
            cut = slice(start, start + 50)
            monitor.observe(np.full(50, 0.5), y[cut], cohort[cut], 0.0)
            if Alarm.DRIFT_DOWN in monitor.report()["sleepy"].alarms:
                break
        delays.append(start + 50 - 500)
    assert np.median(delays) <= 1000


def test_a_cohort_reads_as_if_it_were_alone():
    p, y = stream(7, 5000, 0.3)
    cohort = np.random.default_rng(7).integers(0, 3, 5000).astype(np.int8)
    together = feed(Monitor(), p, y, cohort).report()["sleepy"]
    mine = cohort == 1
    monitor = Monitor()
    for start in range(0, 5000, 1000):
        cut = np.flatnonzero(mine[start : start + 1000]) + start
        monitor.observe(p[cut], y[cut], cohort[cut], 0.0)
    alone = monitor.report()["sleepy"]
    assert replace(together, weight=0) == replace(alone, weight=0)
    assert together.weight == pytest.approx(alone.weight)


def test_a_cohort_without_a_name_counts_in_all():
    monitor = feed(Monitor(), *stream(8, 100), np.full(100, 77, np.int8))
    feed(monitor, *stream(8, 100), np.full(100, -1, np.int8))
    assert list(monitor.report()) == [ALL]
    assert monitor.report()[ALL].events == 200


def test_a_class_may_be_named_later():
    monitor = feed(Monitor(), *stream(9, 100))
    number = monitor.cohorts.number("sign")
    feed(monitor, *stream(9, 100), np.full(100, number, np.int8))
    assert monitor.report()["class sign"].events == 100


def test_what_is_no_probability_is_left_out_and_counted():
    p = np.array([0.5, np.nan, -0.1, 1.1, np.inf, 0.0, 1.0])
    monitor = Monitor()
    monitor.observe(p, np.ones(7, bool), np.zeros(7, np.int8), 1.0)
    assert (monitor.invalid, monitor.report()[ALL].events) == (4, 3)
    assert all(np.isfinite(monitor.state()["sums"][0]))


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2 predictions, 1 outcomes"):
        Monitor().observe(np.full(2, 0.5), np.ones(1, bool), np.zeros(2, np.int8), 0.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), batch=st.integers(10, 2500))
def test_readings_do_not_depend_on_batches(seed, batch):
    p, y = stream(seed, 2500, 0.3)
    one, other = (feed(Monitor(), p, y, batch=size).report()[ALL] for size in (2500, batch))
    for name in ("events", "drift", "drift_run"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("weight", "rate", "predicted", "normalised_entropy", "calibration", "z"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-9)
    assert one.drift_level == pytest.approx(other.drift_level, abs=1e-9)


def test_it_continues_from_its_state():
    p, y = stream(10, 4000, 0.5, 0.8)
    cohort = np.random.default_rng(10).integers(0, 4, 4000).astype(np.int8)
    first = feed(Monitor(cohorts=Cohorts(["sign"])), p[:1500], y[:1500], cohort[:1500])
    second = Monitor()
    second.restore(json.loads(json.dumps(first.state())))
    for monitor in (first, second):
        feed(monitor, p[1500:], y[1500:], cohort[1500:])
    assert second.report() == first.report()
    assert second.state() == first.state()
    assert json.loads(json.dumps(second.report()[ALL].as_dict()))["status"] == "alarm"


def test_a_state_of_another_version_is_refused():
    with pytest.raises(ValueError, match="version 0"):
        Monitor().restore({"version": 0})
