"""What trouble did to those whom it did not concern."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from simulator.results import Distribution, Series, Span
from simulator.scenario.aftermath import UNTOLD, Aftermath, aftermath, judged, notes
from simulator.scenario.model import Expect

AT = tuple(float(second) for second in range(12))
STORM = (Span("outage: all", 3.0, 5.0),)


def times(p99: float, count: int = 100) -> Distribution:
    """So many arrivals, of which 99 of 100 took no longer than this."""
    return Distribution((p99,), (count,), count, p99 * count, p99)


def series(**values: tuple[float, ...]) -> list[Series]:
    silent = dict.fromkeys(("items_held", "clients_held", "publishers_held"), (0.0,) * 12)
    told = silent | values if "overload_level" in values else values
    names = {"connects_s": "connects/s"}
    return [Series(names.get(name, name.replace("_", " ")), row) for name, row in told.items()]


LEVELS = (0.0, 0.0, 0.0, 2.0, 4.0, 4.0, 3.0, 1.0, 0.0, 0.0, 0.0, 0.0)
CONNECTED = (7.0, 8.0, 8.0, 0.0, 0.0, 1.0, 5.0, 8.0, 8.0, 8.0, 8.0, 8.0)
WHOLE = aftermath(
    STORM,
    "before",
    {"before": times(0.1), "storm": times(0.3), "after": times(0.2)},
    AT,
    series(
        overload_level=LEVELS,
        clients_held=(0.0,) * 5 + (6.0, 3.0) + (0.0,) * 5,
        connected=CONNECTED,
        connects_s=(9.0, 1.0, 0.0, 0.0, 0.0, 1.0, 4.0, 3.0, 0.0, 0.0, 0.0, 0.0),
    ),
    2,
)
BACK = (
    "8 devices are back 2.0 s after the last fault, at most 5 s; up to 4 connections in a second, "
    "6 waited at most, 2 were told to come back later"
)
EXPECT = Expect(urgent_ratio=4, recovered_within=5, back_within=5)


def said(expect: Expect, found: Aftermath) -> dict[str, tuple[bool | None, str]]:
    return {check.name: (check.ok, check.text) for check in judged(expect, found)}


def test_a_storm_that_was_weathered_is_told_with_its_figures() -> None:
    assert said(EXPECT, WHOLE) == {
        "urgent_ratio": (
            True,
            "p99 100 ms in 'before', at worst 300 ms in 'storm': 3.0 times as long, at most 4 times",
        ),
        "recovered_within": (
            True,
            "level 4 (holding) at most, 6 clients held; nothing given up 3.0 s after the last fault, at most 5 s",
        ),
        "back_within": (True, BACK),
    }
    assert [*notes(EXPECT, WHOLE)] == []


@pytest.mark.parametrize("name", ["urgent_ratio", "recovered_within", "back_within"])
def test_a_bound_that_is_tighter_than_what_was_seen_is_broken(name: str) -> None:
    (check,) = judged(Expect.model_validate({name: 1.5}), WHOLE)
    assert check.ok is False


def test_phases_before_the_one_that_is_compared_with_do_not_count() -> None:
    joining = {"joining": times(9.0), **WHOLE.urgent}
    assert said(EXPECT, replace(WHOLE, urgent=joining)) == said(EXPECT, WHOLE)


@pytest.mark.parametrize(
    "urgent",
    [
        {},
        {"before": times(0.1)},
        {"before": times(0.1, count=3), "storm": times(0.3)},
        {"before": times(0.1), "storm": times(0.3, count=3)},
    ],
)
def test_few_urgent_items_say_nothing(urgent: dict[str, Distribution]) -> None:
    ok, text = said(EXPECT, replace(WHOLE, urgent=urgent))["urgent_ratio"]
    assert ok is None
    assert "50 urgent arrivals are needed" in text


def test_of_a_server_that_tells_nothing_only_what_devices_saw_is_judged() -> None:
    silent = aftermath(STORM, "before", {}, AT, series(connected=CONNECTED), 0)
    found = said(EXPECT, silent)
    assert found["recovered_within"] == (None, UNTOLD)
    assert found["back_within"][0] is True
    assert "waited" not in found["back_within"][1]
    assert [*notes(EXPECT, silent)] == [
        "The server tells nothing of its load under $SYS: what it gave up, and when, is not known."
    ]


def test_a_server_that_never_comes_back_to_level_0_has_not_recovered() -> None:
    levels = (*LEVELS[:8], 1.0, 1.0, 0.0, 0.0)
    ok, text = said(EXPECT, aftermath(STORM, None, {}, AT, series(overload_level=levels), 0))[
        "recovered_within"
    ]
    assert (ok, text) == (
        False,
        "level 4 (holding) at most; not at level 0 within the 6 s that were left",
    )


def test_what_is_still_held_is_given_up_at_level_0_too() -> None:
    held = (0.0,) * 4 + (1.0,) * 5 + (0.0,) * 3
    found = aftermath(STORM, None, {}, AT, series(overload_level=(0.0,) * 12, items_held=held), 0)
    assert found.recovered is None
    assert "1 item held" in said(EXPECT, found)["recovered_within"][1]


def test_a_server_that_was_killed_says_nothing_for_a_while() -> None:
    levels = (*LEVELS[:3], nan, nan, nan, *LEVELS[6:])
    found = aftermath(STORM, None, {}, AT, series(overload_level=levels, items_held=levels), 0)
    assert (found.told, found.highest, found.held["items"], found.recovered) == (True, 3, 3, 3.0)


def test_devices_that_stay_away_are_missed() -> None:
    found = aftermath(STORM, None, {}, AT, series(connected=(*CONNECTED[:6], *(7.0,) * 6)), 0)
    assert said(EXPECT, found)["back_within"] == (
        False,
        "fewer than 8 devices were connected 6 s after the last fault",
    )


def test_where_nothing_goes_wrong_there_is_nothing_to_look_at() -> None:
    found = aftermath((), None, {}, AT, series(overload_level=LEVELS, connected=CONNECTED), 0)
    assert [ok for ok, _ in said(EXPECT, found).values()] == [None, None, None]


def test_a_run_that_never_was_too_much_says_so() -> None:
    calm = aftermath(STORM, None, {}, AT, series(overload_level=(0.0,) * 12), 0)
    (note,) = notes(EXPECT, calm)
    assert "never overloaded" in note
    assert [*notes(Expect(), calm)] == []
    waited = aftermath(
        STORM, None, {}, AT, series(overload_level=(0.0,) * 12, clients_held=(0.0, 9.0) * 6), 0
    )
    assert [*notes(EXPECT, waited)] == []
