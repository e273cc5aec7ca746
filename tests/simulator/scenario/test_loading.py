"""Scenario files: what they give, and how they are refused: file, line, table, key, what is allowed, the nearest name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simulator.scenario import model, tables
from simulator.scenario.loading import ScenarioError, load, parse, shipped

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
[scenario]
name = "try"
about = "To try it."

[[class]]
name = "bulb"
k = 8
sleep = { period = "4h", awake = "90s" }

[[class]]
name = "panel"

[[publisher]]
name = "news"
rate = 5

[[phase]]
name = "calm"
seconds = 10

[[phase]]
name = "storm"
seconds = 20
rates = { news = 3 }

[[fault]]
do = "outage"
phase = "storm"
at = 2
who = "bulb"

[expect.class.bulb]
p99_latency = 2
"""


def refusal(old: str, new: str) -> str:
    """What is said of the file with something in it replaced."""
    assert old in GOOD
    with pytest.raises(ScenarioError) as refused:
        parse(GOOD.replace(old, new), "try.toml")
    return refused.value.problems[0]


def test_a_file_becomes_a_scenario() -> None:
    scenario = parse(GOOD, "try.toml")
    bulb = scenario.classes[0]
    assert bulb.sleep is not None
    assert (bulb.sleep.period, bulb.sleep.awake) == (14_400, 90)
    assert scenario.faults[0].names == ("bulb",)
    assert scenario.expect.classes["bulb"].p99_latency == 2
    assert scenario.scenario.devices == 2_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "k = 8",
            "k = 80",
            "try.toml, line 7: [[class]] 'bulb' `k` = 80 must be a whole number from 1 to 64",
        ),
        ("k = 8", "kk = 8", "try.toml, line 7: [[class]] 'bulb' has no key `kk` (did you mean 'k'?); it has"),
        ("k = 8", 'k = "many"', "line 7: [[class]] 'bulb' `k` = 'many' must be a whole number"),
        ("k = 8", 'link = "2g"', "line 7: [[class]] 'bulb' `link`: there is no link profile '2g'"),
        ("k = 8", "link = { base = 'wifi', lossy = 1 }", "a link profile has no 'lossy'; did you mean 'loss'?"),
        ("k = 8", 'follow = ["a+"]', "`follow`: 'a+' is no filter over channels"),
        ("period", "perod", "line 8: [[class]] 'bulb' has no key `perod` (did you mean 'period'?)"),
        ('"90s"', '"5h"', "line 8: [[class]] 'bulb' `sleep`: awake (18000 s) must be shorter than period"),
        ('"4h"', '"4 hours"', "line 8: [[class]] 'bulb' `sleep.period` = '4 hours' must be a number from 1"),
        ('"outage"', '"outrage"', "line 27: [[fault]] 1 `do` = 'outrage' (did you mean 'outage'?); allowed: kill,"),
        ("news = 3", "newz = 3", "there is no publisher 'newz' (did you mean 'news'?); there are news"),
        ('who = "bulb"', 'who = "bulbs"', "fault 1 (outage): there is no class 'bulbs' (did you mean 'bulb'?)"),
        ('phase = "storm"', 'phase = "stom"', "there is no phase 'stom' (did you mean 'storm'?)"),
        ("expect.class.bulb", "expect.class.bulp", "there is no class 'bulp' (did you mean 'bulb'?)"),
        ("p99_latency", "p9_latency", "line 33: [expect] has no key `p9_latency` (did you mean 'p99_latency'?)"),
        ("[[publisher]]", "[[publishr]]", "there is no table [publishr] (did you mean 'publisher'?)"),
        ("rate = 5", "brief = true", "[[publisher]] 'news': a publisher needs a `stream`, or a `rate`"),
        ('name = "panel"', 'name = "bulb"', "two classes are called 'bulb'"),
        ('do = "outage"', 'do = "relink"', "`relink` needs it"),
        ('about = "To try it."', "", "try.toml, line 1: [scenario] needs `about`"),
        ("[scenario]", "[scenario", "try.toml: no valid TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_what_is_allowed(
    old: str, new: str, said: str
) -> None:
    assert said in refusal(old, new)


def test_every_fault_of_a_file_is_said_at_once() -> None:
    with pytest.raises(ScenarioError) as refused:
        parse(GOOD.replace("k = 8", "k = 0").replace("rate = 5", "rate = -1"), "try.toml")
    assert len(refused.value.problems) == 2


def test_a_class_with_people_needs_items_that_they_feel_something_about() -> None:
    assert "nobody knows what they feel" in refusal("k = 8", "people = true")


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'city-alert'"):
        load("city-alerts")


def test_a_file_that_is_not_there_or_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"missing\.toml cannot be read: No such file"):
        load(str(tmp_path / "missing.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="is not UTF-8 text"):
        load(str(tmp_path / "binary.toml"))


def test_eight_scenarios_come_along_and_each_is_valid_and_short() -> None:
    names = shipped()
    assert len(names) == 8
    for name, about in names.items():
        scenario = load(name)
        assert scenario.scenario.name == name
        assert len(about) > 40
        assert sum(phase.seconds for phase in scenario.phases) <= 110


def test_every_key_says_what_it_means() -> None:
    every = (
        model.Head, model.Server, tables.SleepSchedule, tables.DeviceClass, tables.Publisher,
        model.Phase, model.Fault, model.ClassBounds, model.Expect,
    )  # fmt: skip
    for table in every:
        for name, info in table.model_fields.items():
            assert info.description, f"{table.__name__}.{name}"
