"""The verdict: what holds, what does not, and what could not be looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from simulator.facts import Finding
from simulator.results import Check, ClassResult, Distribution, Truth
from simulator.scenario.model import ClassBounds, Expect
from simulator.scenario.verdict import Facts, broken, expectations, guarantees

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD = Facts(
    asked=True,
    devices=100,
    judged=50,
    frames=9_000,
    converged=[0.1] * 99 + [0.9],
    sent=40,
    acknowledged=40,
    echoes=(5, 0),
    peak=100 * 2**20,
)


def spread(*values: float) -> Distribution:
    """A distribution in which each value is a bucket."""
    ordered = tuple(sorted(values))
    return Distribution(ordered, (1,) * len(ordered), len(ordered), sum(ordered), ordered[-1])


QUICK = ClassResult("quick", 75, "none", latency=spread(0.1, 0.2, 0.3))
SLOW = ClassResult("slow", 25, "none", latency=spread(5.0, 6.0))


def verdict(facts: Facts, classes: Sequence[ClassResult] = (QUICK,)) -> dict[str, Check]:
    return {check.name: check for check in guarantees(facts, classes)}


def expected(expect: Expect, facts: Facts = GOOD) -> dict[str, Check]:
    whole = replace(QUICK, name="all")
    return {check.name: check for check in expectations(expect, facts, [QUICK, SLOW], whole)}


def test_all_is_well_where_nothing_was_found() -> None:
    checks = verdict(GOOD)
    assert [*checks] == ["G1", "G2", "G3", "G4", "G5", "G6", "wire"]
    assert all(check.ok for check in checks.values())
    assert "100 of 100 devices show their feed, p99 900 ms, the last 900 ms" in checks["G2"].text


@pytest.mark.parametrize("promise", ["G1", "G3", "G4", "G5", "G6", "wire"])
def test_a_finding_breaks_its_own_promise_alone(promise: str) -> None:
    checks = verdict(replace(GOOD, findings=[Finding(promise, "it broke")]))
    assert [name for name, check in checks.items() if not check.ok] == [promise]


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("G1", replace(GOOD, acknowledged=39)),
        ("G2", replace(GOOD, diverged=1)),
        ("G4", replace(GOOD, echoes=(5, 1))),
        ("G5", replace(GOOD, peak=2**30)),
        ("G6", replace(GOOD, foreign=1)),
        ("wire", replace(GOOD, oversize=1)),
    ],
)
def test_a_figure_that_is_wrong_breaks_its_promise(name: str, facts: Facts) -> None:
    assert [each for each, check in verdict(facts).items() if not check.ok] == [name]


def test_findings_of_other_kinds_have_lines_of_their_own() -> None:
    checks = verdict(replace(GOOD, findings=[Finding("server", "it did not start")] * 2))
    assert checks["server"] == Check("server", "2 findings, see below", ok=False)


def test_what_cannot_be_asked_is_said_to_be_unknown_and_not_to_be_kept() -> None:
    checks = verdict(replace(GOOD, asked=False, peak=0))
    assert [name for name, check in checks.items() if check.ok is None] == ["G1", "G2", "G3", "G5"]
    assert "cannot be asked" in checks["G2"].text
    lost = verdict(replace(GOOD, asked=False, acknowledged=1))
    assert lost["G1"].ok is False


def test_who_was_not_there_in_the_end_is_named() -> None:
    checks = verdict(replace(GOOD, away={"asleep": 0, "dark": 7}))
    assert checks["G2"].text.endswith("; not there: 7 dark")
    assert checks["G2"].ok


def test_a_healthy_class_beside_a_sick_one_has_a_bound() -> None:
    beside = replace(GOOD, sick=frozenset({"slow"}), near=frozenset({"quick", "slow"}))
    checks = verdict(beside, (QUICK, SLOW))
    assert checks["G6"].ok
    assert "healthy class quick is 300 ms beside slow" in checks["G6"].text
    assert not verdict(replace(beside, sick=frozenset({"quick"})), (QUICK, SLOW))["G6"].ok
    far = replace(beside, sick=frozenset({"quick"}), near=frozenset({"quick"}))
    assert verdict(far, (QUICK, SLOW))["G6"].ok  # it is its link that is slow


def test_nobody_is_healthy_while_the_server_itself_is_away() -> None:
    both = frozenset({"quick", "slow"})
    struck = replace(GOOD, sick=frozenset({"quick"}), near=both, struck=True)
    assert verdict(struck, (QUICK, SLOW))["G6"].ok


def test_more_devices_and_items_may_take_more_memory_but_no_backlog() -> None:
    assert replace(GOOD, devices=2_000).memory_bound < 260 * 2**20
    assert replace(GOOD, processes=2).memory_bound == 2 * GOOD.memory_bound


def test_expectations_of_the_file_are_lines_of_the_verdict() -> None:
    bounds = {"slow": ClassBounds(p99_latency=1.0)}
    checks = expected(Expect(p50_latency=0.2, converged_within=0.5, **{"class": bounds}))
    assert {name: check.ok for name, check in checks.items()} == {
        "p50_latency": True,
        "slow: p99_latency": False,
        "converged_within": False,
    }
    assert checks["slow: p99_latency"].text == "6.0 s (2 arrivals), at most 1 s"


def test_what_was_not_measured_is_unknown() -> None:
    checks = expected(Expect(urgent_p99=1, wake_up_p99=1, acknowledged_within=1))
    assert {check.ok for check in checks.values()} == {None}
    measured = replace(GOOD, urgent=spread(0.5), puback=spread(2.0))
    checks = expected(Expect(urgent_p99=1, acknowledged_within=1), measured)
    assert {name: check.ok for name, check in checks.items()} == {
        "urgent_p99": True,
        "acknowledged_within": False,
    }


def test_energy_and_bytes_are_judged_per_device_and_day() -> None:
    gauge = ClassResult("gauge", 2, "nbiot-nb1", down=3_000, up=1_000, joules=50.0, device_seconds=43_200.0)  # fmt: skip
    bounds = {"gauge": ClassBounds(joules_per_day=90, bytes_per_day=8_000)}
    found = expectations(Expect(**{"class": bounds}), GOOD, [gauge], gauge)
    assert [(check.text, check.ok) for check in found] == [
        ("100 J per device and day, at most 90 J", False),
        ("8 000 bytes per device and day, at most 8000", True),
    ]


def test_windows_are_compared_with_newest_first_at_the_end_of_the_run() -> None:
    learned = Truth((1, 2, 3), (0.1, 0.2, 0.9), (1, 1, 1), (0.5, 0.5, 0.5))
    good = expected(Expect(better_than_newest=True), replace(GOOD, truth=learned))
    assert good["better_than_newest"].ok
    worse = replace(learned, shown=(0.9, 0.2, 0.1))
    bad = expected(Expect(better_than_newest=True), replace(GOOD, truth=worse))
    assert not bad["better_than_newest"].ok
    assert expected(Expect(better_than_newest=True))["better_than_newest"].ok is None


def test_batteries_and_poison_are_counted() -> None:
    checks = expected(
        Expect(exhausted=0.5, poison_at_least=3), replace(GOOD, batteries=4, poison=2)
    )
    assert {name: check.ok for name, check in checks.items()} == {
        "exhausted": True,
        "poison_at_least": False,
    }


def test_of_many_findings_the_first_are_shown_and_the_rest_counted() -> None:
    many = broken([Finding("G1", f"item {place}") for place in range(50)], most=10)
    assert len(many) == 11
    assert many[-1].sentence == "and 40 further findings like it"
    assert len(broken([Finding("G1", "one")])) == 1
