from __future__ import annotations

import json

import numpy as np
import pytest

from feedgen.ranking.shadow import Rung, Settings, Shadow

LIVE, SNAPSHOT, POPULARITY, NEWEST = Rung


def events(seed, n):
    """True rates, and what happened."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2.0, 4.0, n)
    return p, rng.random(n) < p


def taken(y, predictions, t=0.0, **options):
    shadow = Shadow(Settings(**options))
    shadow.take(y, predictions, t)
    return shadow


def test_the_better_rung_leads():
    p, y = events(1, 3000)
    shadow = taken(y, {LIVE: p, SNAPSHOT: np.full(3000, p.mean()), POPULARITY: 1 - p})
    shadow.close()
    assert shadow.loss(LIVE) < shadow.loss(SNAPSHOT) < shadow.loss(POPULARITY)
    assert shadow.lead(LIVE, SNAPSHOT) > 5
    assert shadow.lead(POPULARITY, LIVE) == -shadow.lead(LIVE, POPULARITY)
    assert shadow.entropy(LIVE) < 1.0 < shadow.entropy(POPULARITY)


def test_the_lead_is_the_paired_z():
    p, y = events(2, 1000)
    q = np.full(1000, 0.3)
    shadow = taken(y, {LIVE: p, SNAPSHOT: q, POPULARITY: q})
    shadow.close()
    difference = np.log(np.where(y, p, 1 - p)) - np.log(np.where(y, q, 1 - q))
    expected = difference.sum() / np.sqrt((difference**2).sum())
    assert shadow.lead(LIVE, SNAPSHOT) == pytest.approx(expected)


def test_older_windows_count_less_in_the_lead_and_in_its_error():
    p, y = events(2, 1000)
    q = np.full(1000, 0.3)
    shadow = Shadow(Settings(fade=0.5))
    for half in (slice(0, 500), slice(500, 1000)):
        shadow.take(y[half], {LIVE: p[half], SNAPSHOT: q[half]}, 0.0)
        shadow.close()
    difference = np.log(np.where(y, p, 1 - p)) - np.log(np.where(y, q, 1 - q))
    difference[:500] *= 0.5
    expected = difference.sum() / np.sqrt((difference**2).sum())
    assert shadow.lead(LIVE, SNAPSHOT) == pytest.approx(expected)


def test_weights_make_good_what_a_sample_left_out():
    p, y = events(3, 20_000)
    whole = taken(y, {LIVE: p, SNAPSHOT: np.full(len(p), 0.3)})
    # Of what was not opened only a quarter was kept.
    kept = y | (np.random.default_rng(3).random(len(y)) < 0.25)
    weight = np.where(y[kept], 1.0, 4.0)
    weight /= weight.mean()
    said = {LIVE: p[kept], SNAPSHOT: np.full(kept.sum(), 0.3)}
    weighted, plain = Shadow(), taken(y[kept], said)
    weighted.take(y[kept], said, 0.0, weight)
    for shadow in (whole, weighted, plain):
        shadow.close()
    assert weighted.calibration(LIVE) == pytest.approx(whole.calibration(LIVE), rel=0.03)
    assert plain.calibration(LIVE) > 1.3 * whole.calibration(LIVE)
    assert weighted.entropy(LIVE) == pytest.approx(whole.entropy(LIVE), rel=0.02)
    # There is as much evidence as there are events, and not as much as they stand for.
    assert 0 < weighted.lead(LIVE, SNAPSHOT) < whole.lead(LIVE, SNAPSHOT)


def test_weights_that_are_all_the_same_change_nothing():
    p, y = events(4, 3000)
    one, other = taken(y, {LIVE: p}), Shadow()
    other.take(y, {LIVE: p}, 0.0, np.ones(len(y)))
    assert one.state() == other.state()


def test_nobody_leads_before_both_outcomes_were_seen_often_enough():
    y = np.zeros(1000, bool)
    predictions = {LIVE: np.full(1000, 0.01), SNAPSHOT: np.full(1000, 0.001)}
    shadow = taken(y, predictions)
    shadow.close()
    assert shadow.lead(SNAPSHOT, LIVE) == 0.0
    y[:20] = True
    shadow = taken(y, predictions)
    shadow.close()
    assert shadow.lead(LIVE, SNAPSHOT) > 2


def test_equal_rungs_have_no_lead():
    p, y = events(3, 1000)
    shadow = taken(y, {LIVE: p, SNAPSHOT: p.copy(), POPULARITY: p})
    shadow.close()
    assert shadow.lead(LIVE, SNAPSHOT) == 0.0


def test_the_lead_of_equals_is_standard_normal():
    leads = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = rng.random(500) < 0.3
        noise = 0.3 + rng.normal(0.0, 0.03, (2, 500))
        shadow = taken(y, {LIVE: noise[0], SNAPSHOT: noise[1], POPULARITY: noise[0]})
        shadow.close()
        leads.append(shadow.lead(LIVE, SNAPSHOT))
    assert np.mean(leads) == pytest.approx(0.0, abs=0.2)
    assert np.std(leads) == pytest.approx(1.0, abs=0.15)


def test_before_the_first_window_nothing_is_known():
    shadow = Shadow()
    assert np.isnan(shadow.loss(LIVE))
    assert np.isnan(shadow.entropy(LIVE))
    assert np.isnan(shadow.calibration(LIVE))
    assert shadow.lead(LIVE, NEWEST) == 0.0


def test_a_window_ends_after_its_events_and_its_seconds():
    shadow = Shadow(Settings(window=100, seconds=60.0))
    p, y = events(4, 100)
    assert shadow.room(0.0) == 100
    shadow.take(y, {LIVE: p}, 0.0)
    assert not shadow.full(59.0)
    assert shadow.room(59.0) is None
    assert shadow.full(60.0)
    assert shadow.close().events == 100


def test_a_finished_window_is_judged_alone():
    p, y = events(5, 2000)
    shadow = taken(y, {LIVE: p, SNAPSHOT: p / 2, POPULARITY: p})
    first = shadow.close()
    assert first.calibration[LIVE] == pytest.approx(y.sum() / p.sum())
    assert first.calibration[SNAPSHOT] == pytest.approx(2 * y.sum() / p.sum())
    assert first.z[SNAPSHOT] > 4
    shadow.take(y, {LIVE: p / 2, SNAPSHOT: p, POPULARITY: p}, 0.0)
    assert shadow.close().calibration[SNAPSHOT] == pytest.approx(y.sum() / p.sum())


def test_a_rung_without_predictions_counts_as_the_prior_and_is_marked():
    p, y = events(6, 500)
    shadow = taken(y, {LIVE: p, POPULARITY: np.full(500, np.nan)})
    window = shadow.close()
    assert window.available == (True, False, False, True)
    assert shadow.entropy(SNAPSHOT) == shadow.entropy(POPULARITY) == 1.0


def test_missing_names_the_rungs_that_cannot_rank():
    shadow = Shadow()
    half, broken = np.full(3, 0.5), np.array([0.5, np.nan, 0.5])
    assert shadow.missing(3, {LIVE: broken, POPULARITY: half}) == [LIVE, SNAPSHOT]
    with pytest.raises(ValueError, match="2 predictions by LIVE for 3 outcomes"):
        shadow.missing(3, {LIVE: half[:2]})


def test_the_prior_is_the_running_rate_unless_it_is_given():
    y = np.random.default_rng(7).random(20_000) < 0.4
    shadow = Shadow()
    for start in range(0, 20_000, 100):
        shadow.take(y[start : start + 100], {}, 0.0)
    assert shadow.rate == pytest.approx(0.4, abs=0.03)
    shadow.close()
    assert shadow.loss(NEWEST) == pytest.approx(0.673, abs=0.01)
    given = taken(y, {NEWEST: np.full(20_000, 0.2)})
    given.close()
    assert given.loss(NEWEST) > 0.72


def test_old_windows_fade():
    p, y = events(8, 1000)
    shadow = taken(y, {LIVE: 1 - p, SNAPSHOT: p, POPULARITY: p})
    shadow.close()
    assert shadow.lead(LIVE, SNAPSHOT) < -4
    for seed in range(20):
        p, y = events(seed, 1000)
        shadow.take(y, {LIVE: p, SNAPSHOT: 1 - p, POPULARITY: p}, 0.0)
        shadow.close()
    assert shadow.lead(LIVE, SNAPSHOT) > 4


def test_a_copy_has_the_evidence_of_the_original():
    p, y = events(9, 2000)
    shadow = taken(y, {LIVE: p, SNAPSHOT: 1 - p, POPULARITY: np.full(2000, 0.3)})
    shadow.close()
    shadow.copy(LIVE, SNAPSHOT)
    assert shadow.lead(LIVE, SNAPSHOT) == 0.0
    assert shadow.lead(SNAPSHOT, POPULARITY) == shadow.lead(LIVE, POPULARITY) > 4
    assert shadow.drift_level(SNAPSHOT) == shadow.drift_level(LIVE)


def test_it_continues_from_its_state():
    p, y = events(10, 3000)
    first = taken(y[:1000], {LIVE: p[:1000]})
    first.close()
    first.take(y[1000:1700], {LIVE: p[1000:1700]}, 5.0)
    second = Shadow()
    second.restore(json.loads(json.dumps(first.state())))
    for shadow in (first, second):
        shadow.take(y[1700:], {LIVE: p[1700:], SNAPSHOT: p[1700:]}, 70.0)
    assert second.close() == first.close()
    assert second.state() == first.state()
