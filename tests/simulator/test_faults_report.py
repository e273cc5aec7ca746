"""What the fault suite shows, whatever happens in it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from simulator.bounds import Memory
from simulator.facts import Finding
from simulator.faults.availability import Absence
from simulator.faults.plan import AT_ONE_SERVER, Kind, draw
from simulator.faults.report import Outcome, line, picture, summary
from simulator.faults.season import Round

if TYPE_CHECKING:
    from rich.console import RenderableType

LOST = Finding("G1", "device-1 was never offered an item", tuple(f"line {n}" for n in range(100)))
DIVERGED = Finding("G2", "device-2 does not show its feed")


def outcome(rounds: int = 2) -> Outcome:
    return Outcome(seed=40, rounds=rounds, devices=31, missing={})


def result(seed: int, *findings: Finding) -> Round:
    return Round(draw(seed, AT_ONE_SERVER), findings, (0.01, 0.2), (0.003,), Memory(50 << 20, 70 << 20), 1.8, Absence())  # fmt: skip


def drawn(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(what)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_all_is_well_once_every_round_was_done_and_nothing_was_found() -> None:
    tested = outcome()
    assert not tested.ok
    tested.add(result(40))
    assert not tested.ok
    tested.add(result(41))
    assert tested.ok
    assert (tested.done, len(tested.settled), tested.peak) == (2, 4, 70 << 20)
    assert "every promise was kept" in drawn(summary(tested))


def test_a_finding_is_shown_with_its_evidence_and_the_seed_that_does_it_again() -> None:
    tested = outcome()
    tested.add(result(40))
    tested.add(result(41, LOST, DIVERGED))
    assert not tested.ok
    assert (tested.lost, tested.diverged) == (1, 1)
    text = drawn(summary(tested))
    assert "broken: G1 1 times, G2 1 times" in text
    assert "line 0" in text
    assert "line 99" not in text  # JSON has it
    assert "fleetfeed faults --seed 41 --rounds 1" in text
    assert "--seed 40 --rounds 2" in text
    assert "all but 1 equal the server's" in text


def test_what_faults_cost_healthy_clients_is_shown_where_there_is_something_to_tell() -> None:
    tested = outcome()
    tested.add(result(40))
    assert "seconds without" not in drawn(summary(tested))
    tested.add(replace(result(41), absence=Absence((0.25, 1.5), 2.0, 0.75, 0.5)))
    text = drawn(summary(tested))
    assert "seconds without" in text
    assert all(figure in text for figure in ("1.5", "0.75", "0.5"))
    kinds = {plan.kinds[0].value for plan in (draw(40, AT_ONE_SERVER), draw(41, AT_ONE_SERVER))}
    assert set(tested.as_json()["absences"]) == kinds  # type: ignore[call-overload]


def test_a_finding_that_belongs_to_no_round_is_shown_too() -> None:
    tested = outcome(rounds=0)
    tested.findings.append((None, Finding("G5", "memory grows")))
    assert not tested.ok
    assert "memory grows" in drawn(summary(tested))


def test_a_kind_that_could_not_be_had_is_named() -> None:
    tested = Outcome(1, 0, 31, {Kind.CLOCK: "there is no library"})
    assert "clock was left out: there is no library" in drawn(summary(tested))


def test_json_has_everything_and_all_the_evidence() -> None:
    tested = outcome()
    tested.add(result(40, LOST))
    tested.acknowledged, tested.frames, tested.seconds = 5_000, 70_000, 12.34
    read = json.loads(json.dumps(tested.as_json()))
    assert (read["ok"], read["rounds"], read["items_lost"], read["seconds"]) == (False, 1, 1, 12.3)
    assert read["faults"] == {kind.value: 1 for kind in draw(40, tuple(Kind)).kinds}
    assert read["convergence_s"] == {"p50": 0.2, "p99": 0.2, "max": 0.2}
    assert len(read["findings"][0]["evidence"]) == 100
    assert read["findings"][0]["seed"] == 40


def test_a_run_that_did_nothing_yet_can_be_shown() -> None:
    assert "none yet" in drawn(summary(outcome()))
    assert outcome().as_json()["convergence_s"] == {"p50": None, "p99": None, "max": None}


@pytest.mark.parametrize("seed", range(36))
def test_the_picture_says_what_goes_wrong_and_fits(seed: int) -> None:
    tested = outcome(rounds=50)
    tested.add(result(40))
    plan = draw(seed, AT_ONE_SERVER)
    text = drawn(picture(tested, plan))
    assert f"seed {seed}" in text
    assert "round 2 of 50" in text
    assert max(len(row) for row in text.splitlines()) <= 100
    assert len(text.splitlines()) < 25


def test_the_picture_before_the_first_round() -> None:
    assert "starting a server" in drawn(picture(outcome(), None))


def test_a_line_for_each_round() -> None:
    tested, good, bad = outcome(), result(40), result(41, LOST)
    tested.add(good)
    assert line(tested, good).split()[:4] == ["1/2", "seed", "40", "+".join(good.plan.kinds)]
    assert line(tested, good).endswith("converged in 0.20 s, ok")
    assert line(tested, bad).endswith("1 findings")
