"""How a run looks: a picture on a terminal, lines in a pipe, the verdict at the end."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from simulator.load import Load
from simulator.results import Broken, Check, Result, Span
from simulator.scenario.samples import Moving
from simulator.scenario.screen import Scene, line, picture, screen, summary

PHASES = (Span("calm", 0, 10), Span("storm", 10, 30))
MOVING = Moving(12.0, 1_500, 400, 90, 10, 2_345, 812.4, 0.25)


def scene(**more: Any) -> Scene:
    whole = {
        "scenario": "try", "server": "one server", "devices": 2_000, "phases": PHASES, "seconds": 30.0,
        "doing": "", "faults": ("outage: all",), "moving": MOVING,
    }  # fmt: skip
    return Scene(**(whole | more))


def printed(renderable: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_says_phase_devices_items_frames_latency_and_faults() -> None:
    assert line(scene()) == (
        "  12 s  storm: 1 500 connected + 400 asleep + 90 dark + 10 off, 2 345 items, 812 frames/s, "
        "p99 250 ms, outage: all"
    )


def test_before_the_first_sample_a_line_says_what_is_done() -> None:
    assert line(scene(doing="starting a server", moving=None)) == "   0 s  starting a server"


def test_the_picture_has_the_phases_as_a_bar_and_fits_any_terminal() -> None:
    text = printed(picture(scene(), 100))
    assert " calm " in text
    assert " storm " in text
    assert "12 of 30 s" in text
    assert "1 500 connected + 400 asleep" in text
    assert "⚡ outage: all" in text
    for width in (40, 60, 100, 200):
        lines = printed(picture(scene(), width), width).splitlines()
        assert max(map(len, lines)) <= min(width, 100)


def test_a_pipe_gets_a_line_every_few_seconds_and_one_for_each_change() -> None:
    console = Console(file=io.StringIO(), width=200)
    with screen(console) as show:
        for place in range(20):
            show(scene(moving=Moving(place / 2, 1, 0, 0, 0, 0, 0.0, None), faults=()))
        show(scene(doing="rest", moving=MOVING))
    assert isinstance(console.file, io.StringIO)
    found = console.file.getvalue().splitlines()
    assert [text.split(":")[0].split("  ")[-1] for text in found] == ["calm", "calm", "rest"]


def result(**more: Any) -> Result:
    whole: dict[str, Any] = {
        "scenario": "try", "about": "", "seed": 7, "started": 0.0, "seconds": 30.0, "devices": 2_000,
        "server": "one", "version": "1", "checks": (Check("G1", "all there", ok=True), Check("G5", "unseen", None)),
    }  # fmt: skip
    return Result(**(whole | more))


def test_the_verdict_says_what_held_and_what_could_not_be_looked_at() -> None:
    text = printed(summary(result(notes=("Judged on a sample.",))))
    assert "✓  G1  all there" in text
    assert "every promise was kept; 1 could not be looked at" in text
    assert "! Judged on a sample." in text


def test_a_broken_promise_stands_with_its_evidence() -> None:
    checks = (Check("G2", "one diverged", ok=False),)
    found = (Broken("G2", "bulb-1 does not show its feed", ("shows a", "feed b")),)
    text = printed(summary(result(checks=checks, broken=found)))
    assert "✗ not kept: G2" in text
    assert "✗ G2: bulb-1 does not show its feed" in text
    assert "feed b" in text


def test_an_interrupted_run_proves_nothing() -> None:
    assert "proves nothing" in printed(summary(result(complete=False)))


def test_what_the_server_gives_up_is_shown_as_long_as_it_does() -> None:
    loaded = replace(MOVING, load=Load(4, items=1_234, publishers=1))
    assert "level 4: holding, 1 234 items held, 1 publisher held" in line(scene(moving=loaded))
    assert "level 4: holding" in printed(picture(scene(moving=loaded), 100))
    for easy in (MOVING, replace(MOVING, load=Load(0, lag=9.0))):
        assert "level" not in line(scene(moving=easy))
