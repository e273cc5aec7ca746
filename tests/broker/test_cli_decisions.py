"""`fleetfeed decisions` as its user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from feedgen.ranking.tokens import device_token
from feedgen.store.decision_log import DecisionLog
from tests.feedgen.decision_cases import NOON, admissions, outcomes

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("FLEETFEED_")}
KITCHEN, HALL = device_token("kitchen"), device_token("hall")


@pytest.fixture
def fleetfeed(tmp_path):
    """Run `fleetfeed decisions` with arguments in an empty directory."""

    def run(*args):
        return subprocess.run(
            [sys.executable, "-m", "broker", "decisions", *map(str, args)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**CLEAN, "COLUMNS": "200"},
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def directory(tmp_path):
    """Where the log of two devices is, that its writer still has."""
    with DecisionLog(tmp_path / "log") as log:
        log.append([
            admissions(KITCHEN, HALL, t=NOON, n=17, propensity=[1.0, 0.42], sd=[0.0, 3000.0], mean=6000.0, key=18_400, model=3),
            admissions(HALL, t=NOON + 60, n=18, bar=-(2**31), how=1, rung=2),
            outcomes(KITCHEN, t=NOON + 90, n=17, shown=NOON + 30, rank=2, p=0.125, opened=True, dwell=4.5),
            outcomes(HALL, t=NOON + 95, n=17, shown=float("inf"), rank=-1, dismissed=True, p=float("nan")),
        ])  # fmt: skip
        yield tmp_path / "log"


def lines(done):
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_row_is_a_line_that_a_person_can_read(fleetfeed, directory):
    done = fleetfeed(directory)
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["time", "(UTC)", "item", "device", "what"]
    said = [" ".join(row.split()) for row in rows]
    kitchen, hall = f"{KITCHEN:016x}", f"{HALL:016x}"
    assert said == [
        f"2027-01-15 08:00:00 17 {kitchen} admitted, certain; worth +1.0 min, 3.0 min over the bar; offered, model 3, rung 0",
        f"2027-01-15 08:00:00 17 {hall} admitted, probability 0.42; worth +1.0 ± 0.5 min, 3.0 min over the bar; offered, model 3, rung 0",
        f"2027-01-15 08:01:00 18 {hall} admitted, certain; worth +0.0 min, nothing to beat; window built, model 0, rung 2",
        f"2027-01-15 08:01:30 17 {kitchen} opened for 4.5 s; shown 2027-01-15 08:00:30 at rank 3; predicted 0.125, model 0",
        f"2027-01-15 08:01:35 17 {hall} dismissed; shown ?; predicted nan, model 0",
    ]


def test_one_device_is_shown_by_the_name_that_was_asked_for(fleetfeed, directory):
    rows = lines(fleetfeed(directory, "--device", "kitchen", "--json"))
    assert [(row["kind"], row["device"], row["n"]) for row in rows] == [
        ("admission", "kitchen", 17),
        ("outcome", "kitchen", 17),
    ]
    assert rows[0]["propensity"] == 1.0
    assert rows[1]["opened"] is True


def test_numbers_that_are_none_are_null_in_json(fleetfeed, directory):
    last = lines(fleetfeed(directory, "--json"))[-1]
    assert (last["shown"], last["p"], last["rank"]) == (None, None, -1)
    assert last["device"] == f"{HALL:016x}"


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
def test_the_limit_keeps_the_latest_rows_in_their_order(fleetfeed, directory, limit):
    rows = lines(fleetfeed(directory, "--json", "--limit", limit))
    assert rows == lines(fleetfeed(directory, "--json"))[-limit:]


def test_a_moment_may_be_a_time_or_an_age(fleetfeed, tmp_path, directory):
    with DecisionLog(tmp_path / "recent") as recent:
        recent.append([admissions(1, t=time.time() - age, n=age) for age in (7200, 1800)])
    assert [row["n"] for row in lines(fleetfeed("recent", "--json", "--since", "1h"))] == [1800]
    assert [row["n"] for row in lines(fleetfeed("recent", "--json", "--since", "1.5d"))] == [
        7200,
        1800,
    ]
    assert len(lines(fleetfeed(directory, "--json", "--since", "2027-01-15T08:01"))) == 3
    assert len(lines(fleetfeed(directory, "--json", "--since", "2027-01-15T09:01:31+01:00"))) == 1


def test_a_log_with_nothing_in_it_says_so(fleetfeed, directory):
    done = fleetfeed(directory, "--device", "cellar")
    assert (done.returncode, done.stdout) == (0, "Nothing is logged.\n")
    assert fleetfeed(directory, "--device", "cellar", "--json").stdout == ""


def test_what_could_not_be_read_is_said_beside_the_rows(fleetfeed, directory):
    path = directory / "decisions-00000001.log"
    path.write_bytes(path.read_bytes()[:-1])
    done = fleetfeed(directory, "--json")
    assert len(done.stdout.splitlines()) == 4
    assert "not all could be read" in done.stderr
    assert "bytes torn" in done.stderr


def test_a_directory_that_is_none_is_one_sentence(fleetfeed):
    done = fleetfeed("nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == "fleetfeed: nothing is no directory: name the one that the decision log is in.\n"
    )


def test_a_moment_that_is_none_is_wrong_usage(fleetfeed, directory):
    done = fleetfeed(directory, "--since", "yesterday")
    assert done.returncode == 2
    assert "an age like" in done.stderr
