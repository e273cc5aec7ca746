"""`fleetfeed ranking` and `fleetfeed explain`, as an operator sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broker.cli import app
from broker.commands import explain, ranking
from broker.commands.shell import Failure
from tests.broker.support import ServerProcess, item

RUNNER = CliRunner()

LIFT = {
    "ranked": 9000.0,
    "held_out": 100.0,
    "ranked_rate": 0.4,
    "held_out_rate": 0.36,
    "lift": 0.12,
    "low": 0.03,
    "high": 0.21,
}
READING = {
    "events": 1_234,
    "normalised_entropy": 0.8123,
    "calibration": 1.01,
    "status": "alarm",
    "alarms": ["drift_down"],
}
SHARE = {
    "name": "weather\x1b[2J",
    "exposure": 0.25,
    "merit": 0.2,
    "ratio": None,
    "correction": -0.031,
    "impressions": 4_321,
}
STATUS: dict[str, Any] = {
    "model": "learned",
    "rung": "popularity",
    "pinned": None,
    "version": 12,
    "learned": 56_789,
    "pending": 3,
    "rate": 0.0512,
    "rungs": {
        "live": {"normalised_entropy": 0.9, "calibration": 1.3, "lead_over_prior": 4.2},
        "popularity": {},
    },
    "cohorts": {"all": READING},
    "shift": {
        "score": {"index": 0.31, "level": "shifted"},
        "rank": {"index": None, "level": "unknown"},
    },
    "publishers": {"cost": 0.012, "shares": [SHARE] * 12},
    "channels": {"cost": None, "shares": []},
    "lift": LIFT,
    "holdout": 0.01,
    "decisions_fault": None,
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command against a server that answers this."""

    def run(answer: dict[str, Any], *words: str) -> Result:
        def ask(_data: object, _config: object, _do: str, **_args: object) -> Any:
            return answer

        monkeypatch.setattr(ranking, "ask", ask)
        monkeypatch.setattr(explain, "ask", ask)
        return RUNNER.invoke(app, list(words), env={"COLUMNS": "100"})

    return run


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "ranked devices open 12 % more than those on newest first (95 %: 3 % to 21 %)",
        ),
        (
            {"lift": -0.5, "low": -0.7, "high": 0.1},
            "ranked devices open 50 % less than those on newest first (95 %: -70 % to 10 %)",
        ),
        (
            {"lift": None, "low": None, "high": None},
            "too few openings to tell: 9 000 impressions of ranked devices, 100 of those on newest first",
        ),
    ],
)
def test_what_the_ranking_is_worth_is_one_plain_sentence(changes, sentence):
    assert ranking.lift_sentence({**STATUS, "lift": {**LIFT, **changes}}) == sentence


def test_without_devices_on_newest_first_nobody_can_tell_what_it_is_worth():
    assert "ranking.holdout is 0" in ranking.lift_sentence({**STATUS, "holdout": 0.0})


def test_the_status_says_what_ranks_and_what_is_wrong(told):
    lines = [
        " ".join(line.split()) for line in told(STATUS, "ranking", "status").stdout.split("\n")
    ]
    assert lines[0] == "ranked by popularity, as the evidence speaks for it"
    assert lines[1] == "model version 12, of 56 789 outcomes; 3 impressions wait for theirs"
    assert "live 0.900 1.300 +4.2" in lines
    assert "* popularity - - -" in lines
    assert "all 1 234 0.812 1.010 drift down" in lines
    assert "score 0.310 shifted" in lines
    assert not any(line.startswith("rank ") for line in lines)  # unknown yet
    title = "Exposure against merit, publishers; the correction costs 1.2 % of openings"
    assert f"{title}; 2 more with --json:" in lines
    assert r"weather\x1b[2J 25.0 % 20.0 % - -0.03 4 321" in lines
    assert not any("channels" in line for line in lines)


def test_a_log_that_cannot_be_written_is_said_loudly(told):
    done = told({**STATUS, "decisions_fault": "The disk is full."}, "ranking", "status")
    assert "NOT LOGGED: The disk is full." in done.stdout


def test_what_is_pinned_and_cannot_serve_is_said(told):
    done = told({**STATUS, "pinned": "snapshot"}, "ranking", "status")
    assert "popularity, though snapshot is pinned" in " ".join(done.stdout.split())
    done = told({"pinned": "snapshot", "rung": "popularity"}, "ranking", "pin", "snapshot")
    assert done.stdout == "pinned snapshot, which cannot serve now: popularity ranks\n"


def test_a_server_that_does_not_learn_has_nothing_to_tell(told):
    done = told({"model": "newest"}, "ranking", "status")
    assert done.stdout == "Nothing is learned: ranking.model is 'newest'.\n"


def entry(**changes: Any) -> dict[str, Any]:
    key = dict.fromkeys(
        ("priority", "filter", "everybody", "fairness", "device", "exploration"), 0.0
    )
    return {
        "n": 7,
        "channel": "weather/ca",
        "payload": "Flood\nwarning",
        "place": 1,
        "place_by_key": 1,
        "published": 0.0,
        "probability": None,
        "parts": [],
        **changes,
        "key": {**key, **changes.get("key", {})},
    }


def explained(*items: dict[str, Any], held_out: bool = False) -> dict[str, Any]:
    return {
        "device": "kitchen",
        "model": "learned",
        "rung": "live",
        "version": 3,
        "held_out": held_out,
        "items": list(items),
    }


def test_an_item_is_explained_by_its_key_its_chances_and_its_neighbours(told, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 7_322.0)
    key = {"everybody": 3_600.0, "device": -600.0, "exploration": 30.0}
    parts = [["channel weather/ca", 1.25], ["this device x tag rain", -0.5], ["position", 0.1]]
    answer = explained(
        entry(key=key, probability=0.625, parts=parts, place=3),
        entry(place=2, place_by_key=3),
    )
    done = told(answer, "explain", "kitchen", "--parts", "2")
    lines = [line.strip() for line in done.stdout.split("\n") if line.strip()]
    assert lines == [
        "kitchen is ranked by the live model, version 3.",
        r"3  Flood\nwarning",
        "#7 on weather/ca, published 2 h 2 min ago, counts as 50 min 30 s newer",
        "+1 h for everybody, -10 min for this device, +30 s for trying out",
        "opened with 62.5 %: channel weather/ca +1.25, this device x tag rain -0.50",
        "2 lower than its key says, as what stands above it is much alike",
        r"2  Flood\nwarning",
        "#7 on weather/ca, published 2 h 2 min ago",
        "1 higher than its key says, as others repeat what stands above them",
    ]


def test_a_device_of_the_holdout_is_told_apart(told):
    done = told(explained(held_out=True), "explain", "kitchen")
    assert "kitchen stays on newest first" in done.stdout


def test_an_empty_feed_is_said_to_be_empty(told):
    assert "its feed is empty" in told(explained(), "explain", "kitchen").stdout


async def test_the_commands_work_on_a_running_server(process: Callable[..., ServerProcess]) -> None:
    server = process(ranking__model="learned", ranking__holdout=0.0)
    device = await server.subscribed("kitchen")
    await server.publish(item("a", "Flood warning"), channel="weather")
    await device.shows("Flood warning")

    def run(*words: str) -> Result:
        return RUNNER.invoke(app, [*words, "--data", str(server.data)])

    assert "popularity, as the evidence speaks for it" in " ".join(
        run("ranking", "status").stdout.split()
    )
    assert run("ranking", "pin", "live").stdout.startswith("pinned live: the live model ranks")
    assert json.loads(run("ranking", "status", "--json").stdout)["pinned"] == "live"
    assert "Flood warning" in run("explain", "kitchen").stdout
    assert json.loads(run("explain", "kitchen", "--json").stdout)["rung"] == "live"
    refused = run("ranking", "pin", "best")
    assert isinstance(refused.exception, Failure)
    assert "is no rung: live, snapshot, popularity, newest, or none" in str(refused.exception)
    unknown = run("explain", "cellar")
    assert "there is no device 'cellar'" in str(unknown.exception)
