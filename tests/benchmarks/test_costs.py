"""The unit costs are measured completely and written without losing others; the simulation counts right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from broker.plan_costs import load, parse

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

sys.path.insert(0, str(BENCHMARKS))

import costs  # noqa: E402 - the scripts' folder is no package
import fanout  # noqa: E402
from cost_server import Measured  # noqa: E402

COSTS = load()


def run(script: str, *options: str) -> dict[str, Any]:
    """Run a benchmark with few devices and return its JSON."""
    command = [sys.executable, str(BENCHMARKS / script), "--json", "--quick", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


# Costs


def test_a_part_replaces_its_own_entries_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    costs.write(path, "store", [Measured("a", 1.23456, "ms", "x"), Measured("b", 1, "ms", "x")])
    costs.write(path, "items", [Measured("c", 3, "bytes", "y")])
    costs.write(path, "store", [Measured("a", 9, "ms", "z")])
    held = json.loads(path.read_text())
    assert list(held["costs"]) == ["c", "a"]  # in the order of the parts
    entry = held["costs"]["a"]
    assert (entry["value"], entry["how"]) == (9, "z")
    assert entry["command"] == "python benchmarks/costs.py --only store"
    assert held["machine"]["python"]


def test_figures_are_rounded_to_what_they_are_worth(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    costs.write(path, "store", [Measured("a", 123_456.789, "bytes", "x")])
    assert json.loads(path.read_text())["costs"]["a"]["value"] == 123_500


def test_a_cost_that_noise_hides_is_none(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    costs.write(
        path, "items", [Measured("item_bytes", -12.5, "bytes", "two readings of one process")]
    )
    assert json.loads(path.read_text())["costs"]["item_bytes"]["value"] == 0


def test_the_data_file_has_every_part_and_knows_no_other() -> None:
    commands = {entry.command for entry in COSTS.entries.values()}
    assert commands == {f"python benchmarks/costs.py --only {part}" for part in costs.PARTS}


def test_an_unknown_part_is_wrong_usage() -> None:
    command = [sys.executable, str(BENCHMARKS / "costs.py"), "--only", "wishes"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "there is no part wishes" in done.stderr


@pytest.mark.slow
def test_every_part_measures_what_the_data_file_has(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    # The others are benchmarks with smoke tests of their own.
    parts = ["items", "connections", "sends", "store", "redis"]
    run("costs.py", "--only", ",".join(parts), "--devices", "40", "--out", str(path))
    measured = json.loads(path.read_text())["costs"]
    wanted = {
        name: entry.unit
        for name, entry in COSTS.entries.items()
        if entry.command.rpartition(" ")[2] in parts and "_to_" not in name
    }
    assert {name: entry["unit"] for name, entry in measured.items() if "_to_" not in name} == wanted
    # Few devices have few sizes of audiences, but each curve begins with none and ends with all.
    assert {"item_qos0_to_0", "item_qos0_to_40", "item_qos1_to_0", "item_qos1_to_40"} <= set(measured)  # fmt: skip


# Simulation


def test_every_frame_of_an_item_is_written_once_and_in_order() -> None:
    for audience in (0, 1, 100, fanout.STEP, fanout.STEP + 1, 3 * fanout.STEP):
        after, whole = fanout.Fanout(COSTS, 1, 1).pushes(audience)
        assert len(after) == audience
        assert (np.diff(after) > 0).all()
        assert (after <= whole * 1.0001).all()
        assert whole == COSTS.item(1, audience)


def test_an_item_is_nowhere_before_it_is_stored() -> None:
    alone = fanout.Fanout(COSTS, 1, 1, seed=1)
    assert alone.arrivals(1000).shape == (1, 1000)
    median = np.median(alone.arrivals(10_000))
    assert median == pytest.approx(COSTS["commit_p50"], rel=0.05)
    several = fanout.Fanout(COSTS, 1, 8, seed=1).arrivals(10_000)
    assert several.shape == (8, 10_000)
    assert np.quantile(several, 0.99) == pytest.approx(COSTS["redis_tail_p99"], rel=0.2)


def test_more_nodes_bring_an_item_to_all_sooner() -> None:
    last = [np.max(fanout.Fanout(COSTS, 1, n).one_item(64_000)) for n in (1, 4, 16)]
    assert last[0] > 2 * last[1] > 4 * last[2]


def test_a_stream_waits_longer_the_busier_a_node_is() -> None:
    busy = COSTS.item(1, 1000)
    medians = [
        np.median(fanout.Fanout(COSTS, 1, 1).stream(share / busy, 1000, 200 * busy / share))
        for share in (0.05, 0.5, 0.9)
    ]
    assert medians[0] < medians[1] < medians[2]


@pytest.mark.slow
def test_the_simulation_is_drawn_and_held_against_a_real_server(tmp_path: Path) -> None:
    out = tmp_path / "fanout.svg"
    report = run("fanout.py", "--check", "--audience", "500", "--out", str(out))
    cases = [row["case"] for row in report["rows"]]
    assert sum(case.startswith("one item") for case in cases) == len(fanout.NODES)
    assert cases[-2:] == ["simulated, 1 node, 400 devices, QoS 0", "real server, 1 node, 400 devices, QoS 0"]  # fmt: skip
    for row in report["rows"]:
        assert 0 < row["p1_ms"] <= row["p50_ms"] <= row["p99_ms"]
    assert ET.parse(out).getroot()[1].get("id") == "card"


def test_costs_that_are_written_can_be_planned_with(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    for part in costs.PARTS:
        found = [
            Measured(name, entry.value, entry.unit, entry.how)
            for name, entry in COSTS.entries.items()
            if entry.command.endswith(f" {part}")
        ]
        costs.write(path, part, found)
    assert parse(path.read_text()).entries.keys() == COSTS.entries.keys()
