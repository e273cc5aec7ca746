from __future__ import annotations

import numpy as np
import pytest

from feedgen.evaluate.baselines import Popularity, Prior
from feedgen.evaluate.bootstrap import Draws
from feedgen.evaluate.curves import calibration, cohorts, course, roc, window
from feedgen.evaluate.metrics import measure
from feedgen.evaluate.progressive import run


@pytest.fixture
def judged(world):
    return run(world(3000), {"popularity": Popularity(), "prior": Prior()})


def test_calibrated_predictions_have_their_rates_within_the_intervals():
    rng = np.random.default_rng(0)
    p = rng.random(15_000)
    y = (rng.random(15_000) < p).astype(np.int8)
    bins = calibration(y, p, Draws.of(rng.integers(500, size=15_000).astype(np.int32), 200, 0))
    assert [each.events for each in bins] == [1000] * 15
    assert sum(each.rate.low <= each.p <= each.rate.high for each in bins) >= 12


def test_a_constant_prediction_is_one_bin():
    (only,) = calibration(np.array([1, 0, 0, 0], np.int8), np.full(4, 0.3), Draws.once(4))
    assert (only.p, only.rate.value, only.events) == (pytest.approx(0.3), 0.25, 4)


def test_the_area_under_the_roc_curve_is_the_auc(judged):
    p = judged.predictions["popularity"]
    others, opened = roc(judged.y, p)
    assert (others[0], opened[0], others[-1], opened[-1]) == (0, 0, 1, 1)
    area = float(np.trapezoid(opened, others))
    assert area == pytest.approx(measure(judged.y, p, judged.list)["auc"], abs=2e-3)
    assert len(others) < 500


def test_a_course_shows_that_a_ranker_learns(judged):
    found = course(judged, "popularity")
    assert window(judged) == 500
    assert len(found.t) == len(found.ne) == len(found.auc)
    assert found.t[-1] == judged.t[-1]
    assert found.ne[-1] < found.ne[0] - 0.05
    assert np.allclose(course(judged, "prior").ne, 1, atol=0.05)


def test_a_log_shorter_than_a_window_has_a_course_of_one_point(world):
    short = run(world(30), {"prior": Prior()})
    assert len(course(short, "prior").t) == 1


def test_cohorts_are_new_and_known_sleepy_and_regular_devices_and_their_classes(judged):
    found = {each.name: each for each in cohorts(judged, ("popularity",), 20, 0)}
    sizes = {name: each.events for name, each in found.items()}
    assert sizes["all"] == 2400
    assert sizes["known devices"] + sizes.get("new devices (under 20 events)", 0) == 2400
    assert sizes["class tram"] + sizes["class kiosk"] == 2400
    assert found["class tram"].metrics["popularity"]["auc"].width > 0


def test_a_cohort_too_small_to_say_anything_about_is_left_out(judged):
    assert "sleepy (silent for a day)" not in {
        each.name for each in cohorts(judged, ("popularity",), 0, 0)
    }
