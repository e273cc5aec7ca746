"""Phases, faults and paces on a clock."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.scenario.loading import parse
from simulator.scenario.model import Scenario
from simulator.scenario.timeline import Pace, pace, timeline

TEXT = """
[scenario]
name = "try"
about = "To try it."
[[class]]
name = "bulb"
[[publisher]]
name = "news"
rate = 5
[[publisher]]
name = "noise"
rate = 1
[[phase]]
name = "calm"
seconds = 10
[[phase]]
name = "busy"
seconds = 20
ramp = 4
rates = { news = 3, noise = 0 }
[[fault]]
do = "spike"
who = "news"
phase = "busy"
at = 5
seconds = 5
factor = 2
[[fault]]
do = "kill"
at = 1
seconds = 2
"""


def scenario() -> Scenario:
    return parse(TEXT, "try.toml")


def test_phases_follow_each_other_and_faults_stand_where_their_phase_is() -> None:
    line = timeline(scenario())
    assert [(span.name, span.start, span.end) for span in line.phases] == [
        ("calm", 0, 10),
        ("busy", 10, 30),
    ]
    assert [(one.title, one.at, one.end) for one in line.moments] == [
        ("kill the server", 1, 3),
        ("spike of news, 2 times", 15, 20),
    ]
    assert [(ramp.at, ramp.over) for ramp in line.ramps] == [(0, 10), (10, 4)]
    assert line.phase(9.9).name == "calm"
    assert line.phase(99).name == "busy"


def test_a_run_of_another_length_is_stretched_as_a_whole() -> None:
    line = timeline(scenario(), seconds=15)
    assert [span.end for span in line.phases] == [5, 15]
    assert [(one.at, one.end) for one in line.moments] == [(0.5, 1.5), (7.5, 10)]
    assert line.ramps[1].over == 2


def test_rates_of_phases_and_spikes_are_multiplied() -> None:
    line = timeline(scenario())
    news = pace(scenario(), line, "news")
    # 10 s of one, 5 s of three, 5 s of six, 10 s of three.
    assert news.passed(30) == pytest.approx(10 + 15 + 30 + 30)
    assert news.due(10 + 15 + 6) == pytest.approx(16)


def test_what_is_silent_to_the_end_is_never_due() -> None:
    noise = pace(scenario(), timeline(scenario()), "noise")
    assert noise.due(9.5) == 9.5
    assert noise.due(10.5) == float("inf")


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.sampled_from((0.0, 0.5, 1.0, 10.0))), min_size=1, max_size=6),
    st.lists(st.floats(0, 300), min_size=2, max_size=6),
)  # fmt: skip
def test_what_is_due_is_due_when_its_nominal_time_has_passed(
    steps: list[tuple[float, float]], times: list[float]
) -> None:
    starts, nominal, at, passed = [], [], 0.0, 0.0
    for seconds, factor in steps:
        starts.append(at)
        nominal.append(passed)
        at, passed = at + seconds, passed + seconds * factor
    found = Pace(tuple(starts), tuple(factor for _, factor in steps), tuple(nominal))
    for one, other in pairwise(sorted(times)):
        assert found.due(one) <= found.due(other)
    for time in times:
        due = found.due(time)
        if due != float("inf"):
            assert found.passed(due) == pytest.approx(time, abs=1e-6)


def test_the_phase_to_compare_with_is_the_last_one_before_anything_goes_wrong() -> None:
    text = TEXT.replace("at = 1\n", "at = 12\n").replace("news = 3, ", "")
    line = timeline(parse(text, "try.toml"))
    assert (line.before, line.busy) == ("calm", ())
    # With the server killed in the first phase there is none.
    assert timeline(scenario()).before is None


def test_a_phase_with_more_than_usual_is_trouble_too() -> None:
    text = TEXT.partition("[[fault]]")[0]
    line = timeline(parse(text, "try.toml"))
    assert line.before == "calm"
    assert [span.name for span in line.busy] == ["busy"]
    nothing = timeline(parse(text.replace("news = 3", "news = 1"), "try.toml"))
    assert (nothing.before, nothing.busy) == (None, ())
