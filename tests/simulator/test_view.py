"""The picture of the demo, whatever happens in it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from devices.frames import Delta, FeedItem, Put, Snapshot
from simulator.fleet import DeviceSpec
from simulator.tally import Tally
from simulator.view import Outcome, Scene, Shown, count, line, picture, summary

if TYPE_CHECKING:
    from rich.console import RenderableType

LONG = "Tsunami Warning · Coastal areas between and including Unimak Pass and a lot of other places"


def tally() -> Tally:
    counted = Tally(connects=200, feedback=3)
    items = tuple(FeedItem(n, 0, n % 4, f"text {n}") for n in range(1, 9))
    counted.applied(Snapshot(1, 1, 8, items), 250, 1)
    delta = Delta(1, 2, (Put(0, items[0]),))
    counted.applied(delta, 60, 1)
    counted.sample_whole(delta, Snapshot(1, 2, 8, items), 60)
    counted.latency.add(0.002)
    return counted


def scene(**changes: Any) -> Scene:
    window = [FeedItem(n, 0, n % 4, LONG if n % 2 else b"\xff\x00") for n in range(1, 20)]
    specs = [
        DeviceSpec("wall-001", ("#",), 16, 1_024),
        DeviceSpec("la-001", ("quakes/ci",), 6, 256),
        DeviceSpec("long-" * 12, tuple(f"alerts/a-long-channel/{n}" for n in range(9)), 64, 65_536),
        DeviceSpec("default"),
    ]
    moment = Scene(
        elapsed=42.0,
        seconds=60.0,
        doing="a real week",
        stream_time=1_517_500_000.0,
        devices=20_000,
        published={0: 1_410, 1: 212, 2: 80, 3: 5},
        waiting=0,
        total=1_714,
        items_rate=31.4,
        frames_rates=[0.0, 10.0, 99_999.0],
        tally=tally(),
        shown=[Shown(spec, window, frozenset({1})) for spec in specs],
    )
    return replace(moment, **changes)


def lines_of(renderable: RenderableType, width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(renderable)
    return console.export_text().splitlines()


BEGINNING = {
    "published": {},
    "frames_rates": [],
    "tally": Tally(),
    "elapsed": 0.0,
    "shown": [Shown(DeviceSpec("one"), (), frozenset())] * 4,
}


@pytest.mark.parametrize(
    "changes",
    [{}, BEGINNING, {"elapsed": 99.0, "waiting": 12, "total": 10**7, "items_rate": 1e6}],
    ids=["crowded", "beginning", "huge"],
)
def test_the_picture_fits_100_by_30(changes: dict[str, Any]) -> None:
    lines = lines_of(picture(scene(**changes)))
    assert len(lines) <= 29  # one row stays for the cursor
    assert max(len(row) for row in lines) <= 100


@pytest.mark.parametrize(
    ("width", "height", "windows"), [(80, 24, 2), (200, 60, 4), (100, 28, 2), (60, 12, 0)]
)
def test_the_picture_fits_the_terminal(width: int, height: int, windows: int) -> None:
    lines = lines_of(picture(scene(), width, height), width)
    assert len(lines) < max(height, 14)
    assert max(len(row) for row in lines) <= min(width, 100)
    assert "\n".join(lines).count(" more ─╯") == windows


def test_the_picture_shows_what_matters() -> None:
    text = "\n".join(lines_of(picture(scene())))
    for part in (
        "20 000 devices",
        "1 707  of 1 714",
        "1 snapshots, 1 deltas",
        "put 1",
        "a delta 60 B",
        "2.0 ms",
        "la-001  follows quakes/ci",
        "13 more",
        "1 ● Tsunami Warning",
        "18 s left",
        "Thu 01 Feb 2018  15:46 UTC",
        "▁▁█",
    ):
        assert part in text


def test_a_line_says_the_same_in_short() -> None:
    assert line(scene()) == (
        "  42 s  1 707 items in, 2 frames out (1 snapshots, 1 deltas), 60 B a delta, "
        "p50 2.0 ms, p99 2.0 ms"
    )


def test_thousands_stand_apart() -> None:
    assert [count(number) for number in (7, 1_714, 12_345_678)] == ["7", "1 714", "12 345 678"]


def outcome(**changes: Any) -> Outcome:
    good = Outcome(
        seconds=60.0,
        devices=2,
        items=10,
        acknowledged=10,
        unequal={},
        items_held=16,
        tally=tally(),
    )
    return replace(good, **changes)


def test_a_good_outcome_has_no_faults_and_says_so() -> None:
    assert outcome().faults == []
    assert "✓ all 2 windows equal the server's" in "\n".join(lines_of(summary(outcome())))
    assert outcome().as_json()["ok"] is True


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"unequal": {"a": ([(1, "x")], [])}}, "1 of 2 windows differ from the server's"),
        ({"items_held": 0}, "no device holds anything"),
        ({"acknowledged": 7}, "3 items were never acknowledged"),
        ({"tally": Tally(foreign=4)}, "4 frames reached a device that they were not for"),
        ({"tally": Tally(oversize=5)}, "5 frames were longer than the device's budget"),
    ],
)
def test_every_fault_is_named(changes: dict[str, Any], fault: str) -> None:
    found = outcome(**changes)
    assert fault in found.faults[0]
    assert f"✗ {fault}" in "\n".join(lines_of(summary(found)))
    assert found.as_json()["ok"] is False


def test_unequal_windows_are_shown_by_their_numbers() -> None:
    unequal = {"kitchen": ([(3, "c"), (1, "a")], [(3, "c"), (2, "b")]), "hall": ([], [(1, "a")])}
    text = "\n".join(lines_of(summary(outcome(unequal=unequal))))
    assert "kitchen holds   3 1" in text
    assert "kitchen should  3 2" in text
    assert "hall holds   nothing" in text


def test_the_json_has_the_figures() -> None:
    figures = outcome().as_json()
    assert figures["latency_ms"] == {
        "p50": pytest.approx(2, rel=0.06),
        "p99": pytest.approx(2, rel=0.06),
    }
    assert (figures["frames"], figures["windows_equal"], figures["bytes_per_delta"]) == (2, 2, 60)
