"""The dashboard: what the program says, panels that lie side by side, and queries that find something."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # stubs for one call are not worth a dependency

from broker.overload.levels import Level
from tests.deploy.prometheus import check_expressions
from tests.deploy.promql import faults

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy/grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "fleetfeed.json").read_text())

_COLOURS = {"green", "yellow", "orange", "red", "text"}
_VARIABLES = {"instance": ".+", "__rate_interval": "1m"}


def maker() -> ModuleType:
    """The program that writes the dashboard."""
    spec = importlib.util.spec_from_file_location("make_dashboard", GRAFANA / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def pictures() -> list[dict[str, Any]]:
    """Every panel that is no heading, those inside collapsed rows too."""
    found = []
    for panel in DASHBOARD["panels"]:
        found += panel["panels"] if panel["type"] == "row" else [panel]
    return found


def filled_in(expr: str) -> str:
    """A query as Grafana sends it, with everything selected."""
    for name, value in _VARIABLES.items():
        expr = expr.replace(f"${name}", value)
    return expr


TARGETS = [(panel, target) for panel in pictures() for target in panel["targets"]]
every_query = pytest.mark.parametrize(
    ("panel", "target"), TARGETS, ids=[f"{p['id']}{t['refId']}" for p, t in TARGETS]
)


def test_the_file_is_what_the_program_writes() -> None:
    assert (GRAFANA / "fleetfeed.json").read_text() == maker().written()


@every_query
def test_a_query_asks_for_metrics_labels_and_values_that_exist(
    panel: dict[str, Any], target: dict[str, Any]
) -> None:
    assert list(faults(target["expr"], target["legendFormat"])) == []
    assert 'instance=~"$instance"' in target["expr"], panel["title"]


def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    expressions = [filled_in(target["expr"]) for _, target in TARGETS]
    expressions += [each["expr"] for each in DASHBOARD["annotations"]["list"]]
    check_expressions(expressions, tmp_path)


def test_no_two_panels_overlap_and_none_stands_out() -> None:
    for shown in ([p for p in DASHBOARD["panels"] if p["type"] != "row"], DASHBOARD["panels"]):
        taken: set[tuple[int, int]] = set()
        for place in (panel["gridPos"] for panel in shown):
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not taken & cells
            taken |= cells


def test_every_panel_has_a_number_a_title_and_a_sentence_on_how_to_read_it() -> None:
    panels = pictures()
    numbers = [panel["id"] for panel in (*DASHBOARD["panels"], *panels)]
    assert len({*numbers}) == len({id(p) for p in (*DASHBOARD["panels"], *panels)})
    titles = [panel["title"] for panel in panels]
    assert len({*titles}) == len(titles)
    assert all(panel["description"].endswith(".") for panel in panels)
    for panel in panels:
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted({*letters})


def test_colours_are_those_of_a_status_and_words_those_of_the_server() -> None:
    text = json.dumps(DASHBOARD["panels"])
    assert {*re.findall(r'"color": "([^"]+)"', text)} <= _COLOURS
    levels = next(p for p in pictures() if p["title"] == "Level")
    words = levels["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert [words[str(int(level))]["text"] for level in Level] == [
        level.name.lower().replace("_", " ") for level in Level
    ]


def test_grafana_finds_the_dashboard_and_its_data() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provider.yml").read_text())["providers"]
    grafana = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["grafana"]
    mounts = dict(mount.split(":")[:2] for mount in grafana["volumes"])
    assert Path(mounts["./grafana/fleetfeed.json"]).parent == Path(provider["options"]["path"])
    provisioned = "/etc/grafana/provisioning"
    assert mounts["./grafana/provider.yml"].startswith(f"{provisioned}/dashboards/")
    assert mounts["./grafana/datasource.yml"].startswith(f"{provisioned}/datasources/")
    source = next(each for each in DASHBOARD["templating"]["list"] if each["type"] == "datasource")
    (datasource,) = yaml.safe_load((GRAFANA / "datasource.yml").read_text())["datasources"]
    assert source["query"] == datasource["type"]
