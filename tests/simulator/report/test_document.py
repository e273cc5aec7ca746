from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.report import BadReport, from_json, to_json
from simulator.results import (
    ClassResult,
    Distribution,
    Result,
    Series,
)
from tests.simulator.report.arbitrary import results
from tests.simulator.report.believable import a_failed_run, a_run


@settings(max_examples=60, deadline=None)
@given(results())
def test_what_was_written_is_read_back(result):
    assert from_json(to_json(result)) == result


def test_a_whole_run_is_read_back():
    for run in (a_run(), a_failed_run(), a_run(classes=0, people=False)):
        assert from_json(to_json(run)) == run


def test_the_text_is_json_as_the_standard_has_it_with_a_line_for_each_attribute():
    text = to_json(a_run())
    whole = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert len(text.splitlines()) == len(whole) + 2


def test_scripts_find_the_verdict_and_the_quantiles_worked_out():
    run = a_failed_run()
    whole = json.loads(to_json(run))
    assert whole["ok"] is False
    assert whole["classes"][0]["latency"]["p99"] == run.classes[0].latency.quantile(0.99)
    assert json.loads(to_json(Result("", "", 1, 0, 0, 0, "", "")))["ok"] is True


def test_what_is_derived_is_never_believed():
    text = to_json(a_failed_run()).replace('"ok": false', '"ok": true')
    assert from_json(text).ok is False


def test_what_is_not_known_stays_unknown_and_what_is_open_open():
    run = Result(
        *("a", "", 1, 0.0, 0.0, 0, "", ""),
        at=(1.0, 2.0),
        series=(Series("server CPU", (math.nan, 0.5)),),
        classes=(ClassResult("c", 1, "", latency=Distribution((1.0, math.inf), (1, 1), 2, 3, 2)),),
    )
    again = from_json(to_json(run))
    assert math.isnan(again.series[0].values[0])
    assert again.series[0].values[1] == 0.5
    assert again.classes[0].latency.bounds == (1.0, math.inf)


def changed(path, value):
    """The JSON of a run with one value replaced; DELETE takes it out."""
    whole = json.loads(to_json(a_run(classes=1)))
    place = whole
    for step in path[:-1]:
        place = place[step]
    if value is DELETE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(whole)


DELETE = object()
LATENCY = ("classes", 0, "latency")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("seed",), "7", "seed is text where a whole number belongs."),
        (("seed",), True, "seed is true or false where a whole number belongs."),
        (("seconds",), "long", "seconds is text where a number belongs."),
        (("seconds",), True, "seconds is true or false where a number belongs."),
        (("seconds",), 10**400, "seconds is too large: 0 to 1e+15 is possible."),
        (("seconds",), 1e300, "seconds is too large"),
        (("devices",), -1, "devices is negative: 0 to 1e+15 is possible."),
        (("seconds",), None, "seconds is null where a number belongs."),
        (("seconds",), "inf", "seconds is text where a number belongs."),
        (("at", 0), None, "at[0] is null where a number belongs."),
        (("started",), 253_402_300_800, "started is after the year 9999."),
        (("classes",), {}, "classes is an object where a list belongs."),
        (("classes", 0), [], "classes[0] is a list where an object belongs."),
        (("classes", 0, "counts", "hellos"), 1.5, "classes[0].counts.hellos is a number where a whole number belongs."),
        (("truth", "shows"), None, "truth.shows is null where a whole number belongs."),
        (("checks", 0, "ok"), "yes", "checks[0].ok is text where true or false belongs."),
        (("scenario",), DELETE, "scenario is missing."),
        (("classes", 0, "devices"), DELETE, "classes[0].devices is missing."),
        (("colour",), 1, "colour is not known: another version of fleetfeed wrote this."),
        ((*LATENCY, "p42"), 1, "classes[0].latency.p42 is not known: another version of fleetfeed wrote this."),
        (("series", 0, "values"), [1], "series[0].values has 1 values where 61 belong."),
        (("truth", "best"), [], "truth.best has 0 values where 13 belong."),
        ((*LATENCY, "counts"), [1], "classes[0].latency.counts has 1 values where"),
        ((*LATENCY, "count"), 1, "classes[0].latency.counts are more than count says."),
        (("form",), 2, "This result has form 2 and this version of fleetfeed reads form 1"),
        (("form",), DELETE, 'This is no result of a simulation: an object with "form" is expected.'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(path, value, sentence):
    with pytest.raises(BadReport) as caught:
        from_json(changed(path, value))
    assert str(caught.value).startswith(sentence)


def test_buckets_that_do_not_rise_are_refused():
    with pytest.raises(BadReport, match="bounds must rise"):
        from_json(changed(LATENCY, {"bounds": [2, 1], "counts": [1, 1], "count": 2}))


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"form": NaN}', "[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(text):
    with pytest.raises(BadReport, match="This is no JSON"):
        from_json(text)


@pytest.mark.parametrize("text", ["[]", "null", '"form"', "{}"])
def test_json_of_something_else_is_refused(text):
    with pytest.raises(BadReport, match="no result of a simulation"):
        from_json(text)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nothing_but_a_bad_report_comes_of_a_text_that_was_tampered_with(data):
    text = to_json(a_run(classes=1, people=False))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 30, len(text))))
    other = data.draw(st.text('{}[]",:0123456789.-einfntrue ', max_size=8))
    try:
        found = from_json(text[:start] + other + text[end:])
    except BadReport:
        return
    assert isinstance(found, Result)
