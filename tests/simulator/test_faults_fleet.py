"""The fault suite against real nodes over a real Redis Cluster, and against what it must find out."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from rich.console import Console

from broker.commands import fault_losses
from broker.commands.fault_losses import FAULTS, SETTINGS, Losses, Setting
from broker.commands.fault_nodes import NodeFleet, node_settings
from simulator.faults.plan import Kind, draw_for_nodes
from simulator.faults.site import NodeSite
from simulator.faults.suite import Suite, run_suite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

    from simulator.facts import Finding, Window


class Confused(NodeFleet):
    """Nodes that show the items of a window in another order than all that is stored gives."""

    async def misplaced(self, windows: Mapping[str, Window | None]) -> list[Finding]:
        turned = {device: shown and shown[::-1] for device, shown in windows.items()}
        return await super().misplaced(turned)


def suite(tmp_path: Path, fleet: type[NodeFleet], kept: list[int], *kinds: Kind) -> Suite:
    def site(seed: int) -> NodeSite:
        return NodeSite(fleet(tmp_path / f"{seed}", 2, node_settings(seed, 1)), seed)

    return Suite(
        rounds=len(kinds),
        seed=1,
        devices=6,
        draw=lambda seed: draw_for_nodes(seed, kinds[seed - 1]),
        site=site,
        missing={},
        keep=lambda _, seed: kept.append(seed),
    )


async def test_nodes_keep_every_promise_when_one_is_killed_and_two_speak_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept: list[int] = []
    kinds = (Kind.RACE, Kind.KILL)
    code = await run_suite(
        suite(tmp_path, NodeFleet, kept, *kinds), json_output=True, console=Console()
    )
    said = json.loads(capfd.readouterr().out)
    assert (code, said["findings"], kept) == (0, [], [])
    assert said["items_acknowledged"] > 100
    assert said["devices_converged"] == 2 * (6 + 4)
    assert said["absences"]["kill"]["failovers"] >= 1


async def test_windows_that_sorting_all_items_does_not_give_are_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.faults.rest.PATIENCE", 4.0)
    kept: list[int] = []
    code = await run_suite(
        suite(tmp_path, Confused, kept, Kind.RACE), json_output=True, console=Console()
    )
    said = json.loads(capfd.readouterr().out)
    assert (code, kept) == (1, [1])
    assert {finding["promise"] for finding in said["findings"]} == {"feed"}
    assert "not what sorting all items gives" in said["findings"][0]["sentence"]


def test_a_redis_that_keeps_nothing_is_found_to_lose_what_it_acknowledged(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fault_losses, "SETTINGS", (SETTINGS[0], Setting("none", 0)))
    monkeypatch.setattr(fault_losses, "FAULTS", ("restart",))
    assert fault_losses.run(kills=1, as_json=True) == 0
    durable, careless = json.loads(capfd.readouterr().out)
    assert (durable["redis"], durable["wait"], durable["fault"]) == ("always", 1, "restart")
    assert durable["acknowledged"] > 50
    assert durable["lost"] == 0
    assert careless["lost"] > 0


def test_losses_are_told_for_every_setting_and_fault() -> None:
    found = {(setting, fault): Losses() for setting in SETTINGS for fault in FAULTS}
    found[SETTINGS[0], "restart"].add(1_200, 0)
    found[SETTINGS[0], "restart"].add(1_000, 3)
    assert len(found) == 12
    console = Console(file=io.StringIO(), width=100)
    console.print(fault_losses._table(found))
    assert "2,200" in console.file.getvalue()  # type: ignore[attr-defined]
