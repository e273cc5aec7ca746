"""The alerts ask for what exists, fire when they should, and every one has its part in the runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # stubs for one call are not worth a dependency

from broker.overload.levels import Level
from broker.web.health import Situation, judge
from tests.deploy.prometheus import program
from tests.deploy.promql import faults, labels_of, selectors

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/alerts.yml"
TESTS = ROOT / "deploy/alerts_test.yml"
RUNBOOK = ROOT / "docs/operations.md"

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
TRIED = yaml.safe_load(TESTS.read_text())["tests"]

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def sections() -> dict[str, str]:
    """The parts of the runbook on alerts, by their headings."""
    _, *found = re.split(r"^### (\w+)\n", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


@every_rule
def test_an_alert_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    assert list(faults(rule["expr"])) == []


@every_rule
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    said = rule["annotations"]
    assert said.keys() == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert said["description"].endswith(".")
    known = {"job", "instance"}.union(*(labels_of(name) for name, _ in selectors(rule["expr"])))
    assert set(re.findall(r"\$labels\.(\w+)", str(said))) <= known


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    found = sections()
    assert [rule["alert"] for rule in RULES] == [*found]
    assert all(len(text.split()) > 15 for text in found.values())


def test_what_the_runbook_names_exists() -> None:
    for name in re.findall(r"`(fleetfeed_\w+)`", RUNBOOK.read_text()):
        assert list(faults(name)) == [], name


def test_the_runbook_has_every_reason_why_a_server_is_not_ready() -> None:
    worst = Situation(
        stopping=True,
        store_up=False,
        member=False,
        uplink_up=False,
        loop_lag=1e9,
        oldest_item=1e9,
    )
    page = RUNBOOK.read_text()
    (part,) = re.findall(r"^## Health\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    told = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    assert told == [each.reason for each in judge(worst)]


def test_the_runbook_calls_levels_by_their_names() -> None:
    page = RUNBOOK.read_text()
    for level in Level:
        name = f" `{level.name.lower()}`" if level else ""
        assert f"\n| {int(level)}{name} |" in page


def test_every_alert_is_seen_to_fire() -> None:
    first, *others = TRIED
    assert "promql_expr_test" in first  # the server that is well
    assert [each["name"] for each in others] == [rule["alert"] for rule in RULES]
    for each in others:
        quiet, firing = each["promql_expr_test"]
        assert f'alertname="{each["name"]}"' in quiet["expr"] == firing["expr"]
        assert quiet["exp_samples"] == []
        assert len(firing["exp_samples"]) == 1


def test_the_server_that_is_well_has_everything_that_alerts_ask_for() -> None:
    given = {each["series"].partition("{")[0] for each in TRIED[0]["input_series"]}
    asked = {name for rule in RULES for name, _ in selectors(rule["expr"])}
    assert asked == given


def test_the_series_that_alerts_are_tried_on_exist() -> None:
    for each in TRIED:
        for series in each["input_series"]:
            name, matchers = selectors(series["series"])[0]
            assert list(faults(series["series"])) == []
            assert {label for label, _, _ in matchers} <= labels_of(name) | {"job", "instance"}


def test_prometheus_takes_the_rules_and_they_fire_as_they_should() -> None:
    program("promtool")
    made = subprocess.run(
        ["make", "--silent", "rules"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert f"{len(RULES)} rules found" in made.stdout
    assert "prometheus.yml is valid" in made.stdout
    assert made.stdout.endswith("SUCCESS\n\n")


@pytest.mark.parametrize(
    ("expr", "fault"),
    [
        ("fleetfeed_nothing > 0", "there is no fleetfeed_nothing"),
        ('fleetfeed_devices{state="lost"} > 0', "no state 'lost'"),
        ('fleetfeed_devices{what="total"} > 0', "no label what"),
        ("sum by (reason) (fleetfeed_devices) > 0", "no"),
        ("fleetfeed_commit_seconds > 1", "is a histogram"),
        ("fleetfeed_uptime_seconds_bucket > 1", "there is no fleetfeed_uptime_seconds_bucket"),
    ],
)
def test_what_does_not_exist_is_found(expr: str, fault: str) -> None:
    (found,) = faults(expr)
    assert fault in found or "label reason" in found
