from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from simulator.report.difference import (
    Estimate,
    Judgement,
    _batches,
    _events,
    _order,
    _ratio,
    _student,
    differences,
    unlike,
)
from simulator.results import ClassResult, Result, Series, Truth
from tests.simulator.report.believable import a_run, distribution

Z = 1.959964


def a_result(latencies, *, devices=400, items=400, **how):
    found = ClassResult("trams", devices, "wifi", latency=distribution(latencies), **how)
    return Result("s", "", 1, 0, 60, devices, "", "", classes=(found,), items={"published": items})


def judged(a, b):
    return {(each.where, each.what): each.judgement for each in differences(a, b)}


def test_a_run_does_not_differ_from_itself():
    run = a_run(classes=3)
    assert {each.judgement for each in differences(run, run)} == {Judgement.SAME}


def test_other_draws_of_the_same_world_are_within_noise():
    rng = np.random.default_rng(5)
    for _ in range(40):
        a, b = (a_result(0.1 * rng.lognormal(0, 0.5, 4000)) for _ in "ab")
        assert set(judged(a, b).values()) == {Judgement.SAME}


def test_what_takes_half_as_long_again_is_worse_and_the_other_way_round_better():
    rng = np.random.default_rng(5)
    fast, slow = (a_result(typical * rng.lognormal(0, 0.5, 4000)) for typical in (0.1, 0.15))
    assert judged(fast, slow)["trams", "publisher to window, half"] is Judgement.WORSE
    assert judged(slow, fast)["trams", "publisher to window, half"] is Judgement.BETTER


def test_many_values_of_few_items_prove_little():
    rng = np.random.default_rng(5)
    values = [typical * rng.lognormal(0, 0.5, 4000) for typical in (0.1, 0.15)]
    few = [a_result(each, items=8) for each in values]
    assert set(judged(*few).values()) == {Judgement.SAME}


def test_the_figures_of_a_class_that_only_one_run_has_are_not_judged():
    rng = np.random.default_rng(5)
    a = a_result(rng.lognormal(0, 0.5, 900))
    found = judged(a, replace(a, classes=()))
    assert set(found.values()) == {Judgement.UNKNOWN}
    assert found == judged(replace(a, classes=()), a)


def test_small_differences_are_none_however_sure_they_are():
    rng = np.random.default_rng(5)
    values = rng.lognormal(0, 0.01, 40_000)
    a, b = (a_result(values * by, devices=10**6, items=10**6) for by in (1, 1.2))
    assert set(judged(a, b).values()) == {Judgement.SAME}
    a, b = (a_result([], counts={"losses": n}, devices=10**9) for n in (10**9, 103 * 10**7))
    assert set(judged(a, b).values()) == {Judgement.SAME}
    b = a_result([], counts={"losses": 110 * 10**7}, devices=10**9)
    assert set(judged(a, b).values()) == {Judgement.WORSE}


def test_people_who_are_shown_better_windows_are_better_off():
    at = tuple(range(64))
    best = (1.0,) * 64
    low, high = (tuple(share + 0.02 * math.sin(7 * t) for t in at) for share in (0.6, 0.8))
    a, b = (replace(a_result([]), truth=Truth(at, shown, best, low)) for shown in (low, high))
    found = judged(a, b)
    assert found["", "windows as shown, share of the best possible"] is Judgement.BETTER
    assert found["", "newest first, share of the best possible"] is Judgement.SAME


def test_losses_that_appear_are_worse_and_counts_without_a_better_only_different():
    a = a_result([], counts={"losses": 0, "puts": 1000, "hellos": 0})
    b = a_result([], counts={"losses": 90, "puts": 3000, "hellos": 1})
    found = judged(a, b)
    assert found["trams", "losses"] is Judgement.WORSE
    assert found["trams", "puts"] is Judgement.DIFFERENT
    assert found["trams", "hellos"] is Judgement.SAME  # one event may be chance
    assert judged(b, a)["trams", "losses"] is Judgement.BETTER


def test_a_server_that_works_harder_is_worse_and_one_that_was_not_seen_unknown():
    at = tuple(float(t) for t in range(40))
    wave = tuple(0.5 + 0.05 * math.sin(t) for t in at)
    a = replace(a_result([]), at=at, series=(Series("server CPU", wave),))
    b = replace(a, series=(Series("server CPU", tuple(3 * value for value in wave)),))
    blind = replace(a, series=(Series("server CPU", (math.nan,) * 40),))
    what = ("", "server: processor cores busy, mean")
    assert judged(a, b)[what] is Judgement.WORSE
    assert judged(a, blind)[what] is Judgement.UNKNOWN


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_the_interval_of_a_quantile_holds_the_true_one_as_often_as_it_says(q):
    rng = np.random.default_rng(11)
    true = math.exp(0.5 * {0.5: 0.0, 0.9: 1.281552}[q])
    rounds, held = 400, 0
    for _ in range(rounds):
        found = _order(distribution(rng.lognormal(0, 0.5, 200)), q, 200)(Z)
        held += found.low <= true <= found.high
    assert held / rounds > 0.93


def test_beyond_the_outermost_value_an_interval_is_open():
    found = _order(distribution([1.0] * 20), 0.99, 20)(Z)
    assert found.high == math.inf
    assert _order(distribution([1.0] * 4), 0.5, 4)(Z).low == 0


def test_the_interval_of_a_mean_over_time_holds_the_true_one_as_often_as_it_says():
    rng = np.random.default_rng(3)
    held = sum(
        (found := _batches((10 + rng.normal(0, 1, 80)).tolist())(Z)).low <= 10 <= found.high
        for _ in range(400)
    )
    assert 0.93 < held / 400 < 0.97


def test_students_t_is_that_of_the_tables():
    assert _student(1.959964, 7) == pytest.approx(2.365, abs=0.01)
    assert _student(2.575829, 7) == pytest.approx(3.499, abs=0.05)


def test_no_event_leaves_some_credible():
    assert _events(0, 100)(Z).high == pytest.approx(3.69, abs=0.01)  # -ln 0.025


def test_the_ratio_of_two_intervals_is_narrower_than_that_of_their_ends():
    a, b = Estimate(10, 8, 12.5), Estimate(20, 16, 25)
    found = _ratio(a, b)
    assert found.value == pytest.approx(2)
    assert b.low / a.high < found.low < 2 < found.high < b.high / a.low
    assert found.high == pytest.approx(2 * math.exp(math.sqrt(2) * math.log(1.25)))


def test_in_what_two_runs_were_not_the_same_is_said():
    a = a_run(1, classes=2)
    assert unlike(a, a) == []
    b = replace(a, seed=2, seconds=2 * a.seconds, classes=a.classes[:1], machine="a phone")
    said = unlike(a, b)
    assert "seed: 1 against 2" in said
    assert "machine: 2 cores of an AMD EPYC, Linux 6.1, Python 3.11 against a phone" in said
    assert "class kiosks is in A alone" in said
    assert any(line.startswith("length:") for line in said)
