"""What `fleetfeed simulate` does: a server of its own or one that runs, a run against it, and the reports."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
import signal
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from rich.console import Console

from broker.commands.ending import end_at
from broker.commands.shell import Code, Failure
from broker.commands.simulate_hosts import OneServer, Running, SeveralNodes
from broker.commands.simulate_knock import knock
from broker.commands.simulate_target import import_table, see_secrets
from broker.config_layers import resolve
from simulator.report import page, to_json
from simulator.scenario.classes import TooFew, specs
from simulator.scenario.loading import ScenarioError, load
from simulator.scenario.outcome import Options
from simulator.scenario.run import Run
from simulator.scenario.screen import screen, summary
from simulator.sources import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.commands.simulate_target import Target
    from simulator.fleet import DeviceSpec
    from simulator.results import Result
    from simulator.scenario.host import Host
    from simulator.scenario.model import Scenario

_FILES = 256
"""Open files of the process beside the connections of devices."""
TOLD: dict[str, Any] = {"topics.enabled": True, "topics.sys_interval": 1}
"""Settings of a server of the simulation's own, unless the scenario says otherwise: it tells its load each second."""
_FORWARDED = 3
"""Sockets per device where a balancer stands before several nodes."""


def run(
    name: str,
    *,
    devices: int | None,
    seconds: float | None,
    seed: int | None,
    target: Target | None,
    html: Path | None,
    as_json: Path | None,
) -> int:
    """Run a scenario, write its reports, and return the exit code.

    Raises:
        Failure: The scenario is wrong, this machine cannot run it, or the target lets nobody in.
    """
    scenario = _loaded(name)
    head = scenario.scenario
    count, seed = devices or head.devices, head.seed if seed is None else seed
    notes: list[str] = []
    console = Console(highlight=False)
    if target is not None:
        notes += _notes_on(target, _devices(scenario, count, seed), name, console)
    options = Options(
        count,
        seed,
        seconds,
        version("fleetfeed"),
        _command(name, count, seed, seconds, target),
        _machine(),
        notes,
    )
    with tempfile.TemporaryDirectory(prefix="fleetfeed-simulate-") as directory:
        host = _host(Path(directory), scenario, target, notes)
        _room_for(count * (_FORWARDED if scenario.server.nodes > 1 else 1))
        with screen(console) as show:
            result = _run(_made(scenario, host, options, show))
    console.print(summary(result))
    html = html or Path(f"{head.name}.html")
    as_json = as_json or Path(f"{head.name}.json")
    _write(html, page(result))
    _write(as_json, to_json(result))
    console.print(f"report: {html}, figures: {as_json}", soft_wrap=True)
    return 0 if result.ok and result.complete else 1


def table(name: str, *, devices: int | None, seed: int | None) -> str:
    """The devices of a scenario as `fleetfeed device import` takes them.

    Raises:
        Failure: The scenario is wrong, or has devices that no such table can hold.
    """
    scenario = _loaded(name)
    head = scenario.scenario
    count = devices or head.devices
    return import_table(_devices(scenario, count, head.seed if seed is None else seed))


def _devices(scenario: Scenario, count: int, seed: int) -> list[DeviceSpec]:
    try:
        return specs(scenario, count, seed)
    except TooFew as error:
        raise Failure(str(error), Code.INVALID) from None


def _notes_on(
    target: Target, devices: list[DeviceSpec], scenario: str, console: Console
) -> list[str]:
    """What a reader must know of the logins; everything that would keep clients out is found before they come.

    Raises:
        Failure: Devices have no credentials, or the target lets a client not in.
    """
    notes = []
    if said := see_secrets(target, devices, scenario):
        console.print(f"note: {said}", soft_wrap=True, markup=False)
        notes.append(said)
    if target.access.tls is not None:
        notes.append(
            "Connections are encrypted. Bytes of TLS are counted as for two certificates of P-256 (2.5 KB for each "
            "connection) and 22 bytes for each record; larger certificates cost more than these figures say."
        )
    uvloop.run(knock(target, devices))
    return notes


def _loaded(name: str) -> Scenario:
    try:
        scenario = load(name)
    except ScenarioError as error:
        raise Failure("\nfleetfeed: ".join(error.problems), Code.INVALID) from None
    problems = resolve(None, {}, flat(scenario.server.settings)).problems
    if problems:
        raise Failure(f"{name}: [server.settings]: {problems[0]}", Code.INVALID)
    return scenario


def flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by dotted name."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found


def _host(
    directory: Path,
    scenario: Scenario,
    target: Target | None,
    notes: list[str],
) -> Host:
    settings = TOLD | flat(scenario.server.settings)
    if target is not None:
        where = (target.address.host, target.address.port)
        return Running(where, outside=target.gateway, data=target.data, access=target.access)
    nodes = scenario.server.nodes
    if nodes > 1 and shutil.which("redis-server") is None:
        notes.append(
            f"redis-server is not on the PATH, so one server stood in for {nodes} nodes (Debian: redis-server)."
        )
        nodes = 1
    if nodes > 1:
        return SeveralNodes(directory / "nodes", nodes, settings)
    return OneServer(directory / "server", settings)


def _made(scenario: Scenario, host: Host, options: Options, show: Any) -> Run:
    try:
        return Run(scenario, host, options, show)
    except (SourceError, TooFew) as error:
        raise Failure(str(error), Code.INVALID) from None


def _run(run: Run) -> Result:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_signal(run))


async def _until_signal(run: Run) -> Result:
    end_at(signal.SIGINT, signal.SIGTERM)
    return await run.run()


def _room_for(sockets: int) -> None:
    """Let this process and the server, which inherits it, open as many files as they will need.

    Raises:
        Failure: The system does not let them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + _FILES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failure(
            f"{wanted} open files are needed and {hard} are allowed: raise the limit (ulimit -Hn), "
            "or give fewer --devices"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror or error}") from error


def _command(
    name: str, devices: int, seed: int, seconds: float | None, target: Target | None
) -> str:
    more = "" if seconds is None else f" --seconds {seconds:g}"
    more += "" if target is None else f" {target.options}"
    return f"fleetfeed simulate {name} --devices {devices} --seed {seed}{more}"


def _machine() -> str:
    """Where it runs, in words."""
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )
