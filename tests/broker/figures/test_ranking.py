"""What is told of a learned ranking, at every stage of knowing."""

from __future__ import annotations

from math import isfinite
from typing import Any

import pytest

from broker.figures.catalog import FIGURES
from broker.figures.ranking import health
from feedgen.ranking.following import Following
from feedgen.ranking.monitor import Alarm
from feedgen.ranking.settings import RankingSettings
from feedgen.ranking.shift import Level
from tests.feedgen.ranking_cases import Fleet


@pytest.fixture(scope="module")
def taught() -> dict[str, Any]:
    """The status of a ranking that has learned for a while."""
    fleet = Fleet(20)
    fleet.teach(40)
    return fleet.ranking.status()


def test_every_number_belongs_to_a_figure_and_to_a_value_that_it_names(
    taught: dict[str, Any],
) -> None:
    numbers = health(taught, 7.0)
    for name, values in numbers.items():
        figure = FIGURES[name]
        open_ended = figure.label in {"cohort", "feature", "publisher"}
        assert open_ended or {*values} <= {*(figure.values or ("",))}
        assert all(isfinite(each) for each in values.values())


def test_a_ranking_that_has_learned_tells_its_calibration_and_its_exposure(
    taught: dict[str, Any],
) -> None:
    numbers = health(taught, 7.0)
    assert 0.5 < numbers["fleetfeed_ranking_calibration"]["all"] < 2
    assert numbers["fleetfeed_ranking_normalised_entropy"]["all"] < 1
    assert "class watch" in numbers["fleetfeed_ranking_drift"]
    assert {*numbers["fleetfeed_publisher_exposure"]} == {"p0", "p1", "p2"}
    assert sum(numbers["fleetfeed_publisher_exposure"].values()) == pytest.approx(1)
    watched = numbers["fleetfeed_ranking_features"]
    assert sum(watched.values()) == len(taught["shift"]) > 0
    assert numbers["fleetfeed_ranking_opening_rate"]["ranked"] > 0


def test_what_is_not_known_yet_has_no_number() -> None:
    numbers = health(Fleet(4).ranking.status(), 7.0)
    assert numbers["fleetfeed_ranking_calibration"] == {}
    assert numbers["fleetfeed_ranking_lift"] == {}
    assert numbers["fleetfeed_exposure_cost"] == {}
    assert numbers["fleetfeed_publisher_merit"] == {}
    assert numbers["fleetfeed_ranking_opening_rate"] == {}
    assert sum(numbers["fleetfeed_ranking_alarms"].values()) == 0


def test_alarms_are_counted_by_kind_over_all_devices_and_each_kind_of_them(
    taught: dict[str, Any],
) -> None:
    cohorts = {name: {**each, "alarms": ()} for name, each in taught["cohorts"].items()}
    cohorts["all"]["alarms"] = ("miscalibrated", "drift_down")
    cohorts["class watch"]["alarms"] = ("miscalibrated",)
    alarms = health({**taught, "cohorts": cohorts}, 7.0)["fleetfeed_ranking_alarms"]
    assert alarms == {"worse_than_rate": 0, "miscalibrated": 2, "drift_up": 0, "drift_down": 1}


def test_every_alarm_and_every_level_has_its_number() -> None:
    assert {*FIGURES["fleetfeed_ranking_alarms"].values} == {*Alarm}
    assert {*FIGURES["fleetfeed_ranking_features"].values} == {*Level}


def test_publishers_whose_names_are_forgotten_are_one(taught: dict[str, Any]) -> None:
    shares = [{**each, "name": "others"} for each in taught["publishers"]["shares"]]
    numbers = health({**taught, "publishers": {"cost": 0.01, "shares": shares}}, 7.0)
    assert numbers["fleetfeed_publisher_exposure"] == {"others": pytest.approx(1)}
    assert numbers["fleetfeed_exposure_cost"]["publishers"] == 0.01


def test_who_follows_and_has_heard_nothing_is_as_old_as_its_process() -> None:
    following = Following(RankingSettings(), shelves=1)
    status = {**following.status(), "trainer": {"here": False, "age": None}}
    numbers = health(status, 7.0)
    assert numbers["fleetfeed_ranking_age_seconds"] == {"": 7.0}
    assert numbers["fleetfeed_ranking_calibration"] == {}
    status["trainer"]["age"] = 3.0
    assert health(status, 7.0)["fleetfeed_ranking_age_seconds"] == {"": 3.0}


def test_a_server_alone_follows_nobody(taught: dict[str, Any]) -> None:
    assert "fleetfeed_ranking_age_seconds" not in health(taught, 7.0)
