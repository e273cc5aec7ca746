from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings

from simulator.report import compare, page
from simulator.report.difference import Judgement, differences
from simulator.results import Result
from tests.simulator.report.arbitrary import results
from tests.simulator.report.believable import a_failed_run, a_run
from tests.simulator.report.pages import sound

EMPTY = Result("nothing", "", 1, 0.0, 0.0, 0, "", "")


def slower(times):
    return a_run(1, slower=times)


@cache
def slow_after_fast():
    return sound(compare(a_run(1), slower(1.6)))


def test_a_slower_run_is_worse_and_the_table_says_by_how_much():
    found = slow_after_fast()
    assert "B is better in 0 and worse in" in found.said
    assert 'class="verdict bad"' in found.html
    table = found.said[found.said.index("What differs by more than noise") :]
    row = table[table.index("tram displays publisher to window, half 51 ms") :][:120]
    assert "+6" in row
    assert "worse" in row


def test_a_faster_run_is_better():
    found = sound(
        compare(*(replace(run, series=(), truth=None) for run in (slower(1.6), a_run(1))))
    )
    assert "and worse in 0 of" in found.said
    assert 'class="verdict good"' in found.html


def test_a_run_beside_itself_differs_in_nothing():
    run = a_run(classes=2)
    found = sound(compare(run, run))
    assert "none differs by more than noise." in found.said
    assert "Same scenario, seed, devices, server, version and machine." in found.said


def test_what_is_not_the_same_run_twice_is_said_before_any_figure():
    a = a_run(1, classes=2)
    found = sound(compare(a, replace(a, seed=9, devices=500, scenario="city-alert")))
    assert "seed: 1 against 9" in found.said
    assert "scenario: reconnect-storm against city-alert" in found.said
    assert found.said.index("seed: 1") < found.said.index("What differs")


def test_a_run_that_fails_where_the_other_did_not_is_bad_whatever_its_figures():
    found = sound(compare(a_run(2), a_failed_run(2)))
    assert "B fails where A did not." in found.said
    assert 'class="verdict bad"' in found.html
    assert "B: Failed: G2 and p99_latency." in found.said


def test_both_runs_are_drawn_in_the_same_pictures_and_told_apart_without_colour():
    found = slow_after_fast()
    assert len(found.pictures) == 6
    assert found.html.count("stroke-dasharray") > 10
    assert "A: as shown" in found.drawn
    assert "B: as shown" in found.drawn


def test_assumptions_and_both_command_lines_stand_on_the_page():
    found = sound(compare(a_run(1, classes=1), a_run(2, classes=1)))
    assert "no time below 25% is marked" in found.said.replace("\N{NO-BREAK SPACE}", "")
    assert "Two runs cannot show how much a third would differ." in found.said
    for seed in (1, 2):
        assert f"--seed {seed}" in found.said


@pytest.mark.parametrize(
    "pair", [(EMPTY, EMPTY), (EMPTY, a_run(classes=2)), (a_run(classes=2), EMPTY)]
)
def test_runs_with_nothing_in_common_are_still_a_page(pair):
    found = sound(compare(*pair))
    assert "Nothing was measured in both runs." in found.said


def test_a_class_without_values_in_one_run_is_drawn_for_the_other():
    a = a_run(1, classes=2)
    silent = replace(
        a.classes[0],
        latency=EMPTY_VALUES,
        convergence=EMPTY_VALUES,
        down=0,
        up=0,
        device_seconds=0.0,
    )
    found = sound(compare(replace(a, classes=(silent, a.classes[1])), a))
    assert "tram displays" in found.drawn


EMPTY_VALUES = type(a_run(classes=1).classes[0].latency)()


@settings(max_examples=200, deadline=None)
@given(results(), results())
def test_any_two_runs_can_be_told_apart(a, b):
    for each in differences(a, b):
        assert not each.ratio.low > each.ratio.value
        assert not each.ratio.value > each.ratio.high
        assert each.judgement is Judgement.UNKNOWN or each.where in {c.name for c in a.classes} | {
            ""
        }


@settings(max_examples=8, deadline=None)
@given(results(), results())
def test_any_two_runs_have_pages_that_stand_for_themselves(a, b):
    sound(page(a))
    sound(compare(a, b))
